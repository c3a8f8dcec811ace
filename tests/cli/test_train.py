"""lnq-train: its inputs, refusals, resumption, and the folder that it leaves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import rows_of, usage_error
from tests.conftest import BIN, affine, load, run, save, succeed
from tests.nnunet_data import write_bright_nodes

pytest.importorskip("nnunetv2")
QUICK = ("--recipe", "smoke", "--patch", "16", "--iterations", "3", "--threads", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder of six bright-node cases with unknown voxels."""
    folder = tmp_path_factory.mktemp("with space")
    write_bright_nodes(folder, 6)
    return folder


def test_inputs_that_do_not_fit_are_usage_errors(tmp_path):
    assert "name the cases" in usage_error("lnq-train", "-m", "model")
    (tmp_path / "empty").mkdir()
    empty = ["--images", tmp_path / "empty", "--labels", tmp_path / "empty", "-m", "model"]
    assert "no input" in usage_error("lnq-train", *empty)
    assert "no such directory" in usage_error(
        "lnq-train", "--images", "x", "--labels", "y", "-m", "model"
    )
    assert "-m" in usage_error("lnq-train", "--images", "x", "--labels", "y")
    both = ["--images", "x", "--labels", "y", "-T", "list", "-m", "model"]
    assert "do not fit" in usage_error("lnq-train", *both)
    for option, value in (("--epochs", "0"), ("--fold", "7"), ("--spacing", "0"), ("--lr", "nan")):
        assert option in usage_error("lnq-train", *empty, option, value)
    assert "exclude" in usage_error("lnq-train", *empty, "-f", "-s")


@pytest.mark.slow
def test_every_bad_pair_is_named_before_anything_is_made(tmp_path):
    image = np.full((8, 9, 10), -100, np.int16)
    good = np.zeros(image.shape, np.uint8)
    good[2:4, 2:4, 2:4] = 1
    three = np.where(good, 3, 0).astype(np.uint8)
    for name, label, matrix in (
        ("good", good, None),
        ("three", three, None),
        ("shifted", good, affine(origin=(5.0, 0.0, 0.0))),
    ):
        save(tmp_path / "ct" / f"{name}.nii.gz", image)
        save(tmp_path / "label" / f"{name}.nii.gz", label, matrix)
    arguments = ["--images", tmp_path / "ct", "--labels", tmp_path / "label"]
    result = run("lnq-train", *arguments, "-m", tmp_path / "model", *QUICK)
    assert result.status == 1
    assert result.out == ""
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert any("three.nii.gz" in line and "3" in line for line in lines)
    assert any("shifted.nii.gz" in line and "5 mm apart" in line for line in lines)
    assert not (tmp_path / "model").exists()

    save(tmp_path / "ct" / "alone.nii.gz", image)
    result = run("lnq-train", *arguments, "-m", tmp_path / "model", *QUICK)
    assert result.status == 1
    assert "alone.nii.gz: has no companion named alone" in result.err


@pytest.mark.slow
def test_killed_outright_the_same_command_goes_on_to_the_last_epoch(folder):
    model = folder / "model"
    command = ["lnq-train", "--images", folder / "ct", "--labels", folder / "label", *QUICK]
    command += ["--epochs", "4", "--fold", "all", "-m", model, "-s"]
    process = subprocess.Popen(
        [str(BIN / command[0]), *map(str, command[1:])], stdout=subprocess.PIPE
    )
    latest = model / "fold_all" / "checkpoint_latest.pth"
    while not latest.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (model / "fold_all" / "checkpoint_final.pth").exists()

    again = succeed(*command)
    assert again.lines == [str(model)]
    curve = rows_of((model / "fold_all" / "training.tsv").read_text())
    assert [int(row["epoch"]) for row in curve] == [1, 2, 3, 4]
    assert (model / "fold_all" / "checkpoint_final.pth").is_file()
    assert (model / "fold_all" / "training.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((model / "lnq-train.json").read_text())
    assert record["made_with"]["recipe"]["epochs"] == 4
    assert record["command"][0] == "lnq-train"
    assert not (model / ".preprocessed").exists()

    kept = succeed(*command)
    assert "is trained already" in kept.err
    refused = run(*command[:-1])
    assert refused.status == 1
    assert "-f trains it anew" in refused.err
    changed = run(*command, "--lr", "0.001")
    assert changed.status == 1
    assert "learning_rate 0.03 there, 0.001 now" in changed.err


@pytest.mark.slow
def test_pairs_from_a_list_and_resume_without_a_checkpoint(folder, tmp_path):
    images = sorted((folder / "ct").iterdir())
    listing = b"".join(
        bytes(path) + b"\0" for image in images for path in (image, folder / "label" / image.name)
    )
    arguments = ["-0", "-T", "-", *QUICK, "--epochs", "1", "--fold", "all", "-m", tmp_path / "m"]
    result = run("lnq-train", *arguments, "--resume", stdin=listing)
    assert result.status == 1
    assert "no checkpoint to resume from" in result.err
    result = succeed("lnq-train", *arguments, stdin=listing)
    assert result.out == f"{tmp_path}/m\0"
    odd = run("lnq-train", *arguments, stdin=listing.rpartition(b"\0")[0].rpartition(b"\0")[0])
    assert odd.status == 2
    assert "a path is missing" in odd.err

    source = tmp_path / "case.nii.gz"
    shutil.copy(images[0], source)
    succeed("lnq-infer", source, "-m", tmp_path / "m", "--no-crop", "-o", tmp_path / "mask.nii.gz")
    assert load(tmp_path / "mask.nii.gz").shape == load(source).shape
