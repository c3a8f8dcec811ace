"""lnq-train: its inputs, refusals, resumption, and the folder that it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from lnqtools.files.atomic import temporary_suffix
from lnqtools.files.sums import sha256_of
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
    assert usage_error("lnq-train", *both) == "-T and --images exclude each other"
    for option, value in (("--epochs", "0"), ("--spacing", "0"), ("--lr", "nan"), ("--folds", 1)):
        assert option in usage_error("lnq-train", *empty, option, value)
    assert "is not a regular expression" in usage_error("lnq-train", *empty, "--group-regex", "(")
    assert "fold must be" in usage_error("lnq-train", *empty, "--fold", "some")
    assert "exclude" in usage_error("lnq-train", *empty, "-f", "-s")


def test_cohorts_that_do_not_fit_are_usage_errors(tmp_path):
    def error(*cohorts):
        given = [word for cohort in cohorts for word in ("--cohort", cohort)]
        return usage_error("lnq-train", *given, "-m", "model")

    for text in ("a", "a:b", "a::c", "a:b:c:1:2"):
        assert f"--cohort {text}: it is NAME:IMAGES:LABELS" in error(text)
    for weight in ("0", "-1", "nan", "inf", "much"):
        assert "a weight is a number above 0" in error(f"a:b:c:{weight}")
    assert "two cohorts are called a" in error("a:b:c", "a:d:e")
    assert "--cohort a: b: no such directory" in error("a:b:c")
    folders = ["--images", tmp_path, "--labels", tmp_path, "--cohort", "a:b:c", "-m", "m"]
    assert usage_error("lnq-train", *folders) == "--cohort and --images exclude each other"
    listed = ["-T", "x", "--cohort", "a:b:c", "-m", "m"]
    assert usage_error("lnq-train", *listed) == "-T and --cohort exclude each other"


def test_a_fifo_among_the_images_is_named_and_not_waited_for(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    first = min((tmp_path / "data" / "ct").iterdir())
    first.unlink()
    os.mkfifo(first)
    data = ("--images", tmp_path / "data" / "ct", "--labels", tmp_path / "data" / "label")
    done = run("lnq-train", *data, *QUICK, "-m", tmp_path / "model")
    assert done.status == 1
    assert done.err.startswith(f"lnq-train: {first}: is a pipe: ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_the_recipe_is_shown_as_a_file_that_makes_it_again(tmp_path):
    import tomllib

    shown = succeed(
        "lnq-train", "--show-recipe", "--recipe", "challenge", "--set", "patch=96,80,64"
    )
    content = tomllib.loads(shown.out)
    assert content["patch"] == [96, 80, 64]
    assert (content["epochs"], content["learning_rate"], content["fold"]) == (2000, 1e-3, "all")
    assert "spacing_mm" not in content
    (tmp_path / "mine.toml").write_text(shown.out)
    again = succeed("lnq-train", "--show-recipe", "--recipe", tmp_path / "mine.toml")
    assert again.lines[1:] == shown.lines[1:]
    options = ["--lr", "0.5", "--patch", "96,80,64", "--epochs", "3", "--set", "epochs=7"]
    changed = tomllib.loads(succeed("lnq-train", "--show-recipe", *options).out)
    assert (changed["learning_rate"], changed["patch"]) == (0.5, [96, 80, 64])
    assert changed["epochs"] == 3  # an option of its own counts more
    longer = ["--recipe", "smoke", "--set", "warmup=900", "--epochs", "9", "--set", "mirror=y,x"]
    others = tomllib.loads(succeed("lnq-train", "--show-recipe", *longer).out)
    assert (others["warmup"], others["epochs"], others["mirror"]) == (900, 9, ["x", "y"])
    for arguments, message in (
        (["--recipe", "papr"], "no recipe 'papr'"),
        (["--set", "epoch=3"], "did you mean epochs"),
        (["--set", "full_share=2"], "from 0 to 1"),
        (["--recipe", "smoke", "--epochs", "1", "--set", "warmup=101"], "must be at most 100, the"),
        (["--set", "alpha=0.2"], "alpha is of the loss tversky_ce, and the loss is dice_ce"),
    ):
        assert message in usage_error("lnq-train", "--show-recipe", *arguments)


def test_a_splits_file_must_be_one(tmp_path):
    (tmp_path / "splits.json").write_text('{"train": []}')
    arguments = ["--images", "x", "--labels", "y", "-m", "m", "--splits"]
    wrong = usage_error("lnq-train", *arguments, tmp_path / "splits.json")
    assert "is not a splits_final.json" in wrong
    missing = usage_error("lnq-train", *arguments, tmp_path / "none")
    assert "No such file" in missing


@pytest.fixture(scope="module")
def cohorts(folder) -> list[str]:
    """Return the options for a fully annotated and a weak cohort of three cases each."""
    for number in range(6):
        name = f"case {number}.nii.gz"
        kind = "weak" if number % 2 else "full"
        for sub, source in (("ct", "ct"), ("label", "label" if number % 2 else "truth")):
            (folder / kind / sub).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / source / name, folder / kind / sub / name)
    return [
        *("--cohort", f"full:{folder}/full/ct:{folder}/full/label:3"),
        *("--cohort", f"weak:{folder}/weak/ct:{folder}/weak/label"),
    ]


@pytest.mark.slow
def test_cohorts_are_trained_and_cross_validated(cohorts, tmp_path):
    model = tmp_path / "m"
    command = ["lnq-train", *cohorts, *QUICK, "--epochs", "1", "--set", "full_share=0.5"]
    command += ["--folds", "2", "--validate", "-m", model, "-s"]
    first = succeed(*command)
    header, full, weak = [
        line.removeprefix("lnq-train: ").split() for line in first.err.splitlines()[:3]
    ]
    assert header[:5] == ["cohort", "weight", "cases", "cases_full", "patches_percent"]
    assert full[:4] == ["full", "3", "3", "3"]
    assert weak[:4] == ["weak", "1", "3", "0"]
    # Half of each batch is full; of the other half 3 × 3 parts in 3 × 3 + 3 × 1.
    assert float(full[4]) == pytest.approx(100 * (0.5 + 0.5 * 9 / 12), abs=0.1)
    assert first.out == f"{model}\n"
    begins = r"lnq-train: trains on 3 cases and validates on 3, on \S+ with [\d.]+ GiB of memory; "
    assert re.search(begins + re.escape(f"{model}/fold_0/training.tsv has a line"), first.err)
    of_batch = r"^lnq-train: epoch 1 of 1, batch 2 of 3, 0:\d\d:\d\d left$"
    assert re.search(of_batch, first.err, re.MULTILINE)
    sums = json.loads((model / "lnq-train.json").read_text())["sha256"]
    assert {name: sha256_of(model / name) for name in sums} == sums
    assert {"plans.json", "cross-validation.tsv", "fold_0/checkpoint_final.pth"} <= sums.keys()
    assert sum(name.startswith("fold_0/validation/") for name in sums) == 3
    assert "fold 0, annotated voxels only: mean Dice" in first.err
    predicted = {p: p.stat().st_mtime_ns for p in (model / "fold_0" / "validation").iterdir()}

    succeed(*command, "--fold", "1")
    splits = json.loads((model / "splits_final.json").read_text())
    rows = rows_of((model / "cross-validation.tsv").read_text())
    assert [row["case"] for row in rows] == splits[0]["val"] + splits[1]["val"]
    assert [row["fold"] for row in rows] == ["0"] * 3 + ["1"] * 3
    root = Path(cohorts[1].split(":")[1]).parent.parent
    for row in rows:
        path = model / f"fold_{row['fold']}" / "validation" / f"{row['case']}.nii.gz"
        mask = load(path) != 0
        label = load(root / row["cohort"] / "label" / f"{row['case']}.nii.gz")
        known = label != 2
        both = np.count_nonzero(mask & (label == 1))
        size = np.count_nonzero(mask & known) + np.count_nonzero(label == 1)
        assert float(row["dice_annotated"]) == pytest.approx(2 * both / size)
        assert float(row["annotated_percent"]) == pytest.approx(100 * known.mean())
    assert {row["annotated_percent"] for row in rows if row["cohort"] == "full"} == {"100"}

    lost = next(iter(predicted))
    lost.unlink()
    again = succeed(*command)
    assert "is trained already" in again.err
    now = {p: p.stat().st_mtime_ns for p in (model / "fold_0" / "validation").iterdir()}
    assert [p for p in predicted if now[p] != predicted[p]] == [lost]

    refused = run(*command, "--fold", "all")
    assert refused.status == 1
    assert "fold all has no validation cases" in refused.err


@pytest.mark.slow
def test_an_added_case_leaves_the_folds_as_they_were(folder, tmp_path):
    def splits_of(model):
        folds = json.loads((model / "splits_final.json").read_text())
        return {name: k for k, fold in enumerate(folds) for name in fold["val"]}

    for kind in ("ct", "label"):
        (tmp_path / kind).mkdir()
        for path in sorted((folder / kind).iterdir())[:5]:
            shutil.copy(path, tmp_path / kind / path.name)
    arguments = ["--images", tmp_path / "ct", "--labels", tmp_path / "label", *QUICK]
    arguments += ["--epochs", "1"]
    succeed("lnq-train", *arguments, "-m", tmp_path / "five")
    for kind in ("ct", "label"):
        shutil.copy(folder / kind / "case 5.nii.gz", tmp_path / kind / "a new one.nii.gz")
    splits = tmp_path / "five" / "splits_final.json"
    succeed("lnq-train", *arguments, "--splits", splits, "-m", tmp_path / "six")
    before, after = splits_of(tmp_path / "five"), splits_of(tmp_path / "six")
    assert {name: fold for name, fold in after.items() if name in before} == before
    assert set(after) - set(before) == {"a new one"}
    by_patient = run(
        "lnq-train", *arguments, "--group-regex", "^(case|a)", "-m", tmp_path / "grouped"
    )
    assert by_patient.status == 1
    assert "2 patients are fewer than 5 folds" in by_patient.err
    assert not (tmp_path / "grouped").exists()


@pytest.mark.slow
def test_what_cannot_be_trained_together_is_refused(cohorts, folder, tmp_path):
    def refused(*arguments):
        result = run("lnq-train", *arguments, *QUICK, "-m", tmp_path / "m")
        assert result.status == 1
        assert not (tmp_path / "m").exists()
        return result.err

    twice = ["--cohort", f"again:{folder}/weak/ct:{folder}/weak/label"]
    assert refused(*cohorts, *twice).count("another case is called case") == 6
    weak = ["--cohort", f"weak:{folder}/weak/ct:{folder}/weak/label", "--folds", "2"]
    assert "no case that fold 0 trains on is fully annotated" in refused(
        *weak, "--set", "full_share=0.5"
    )
    assert "3 cases are fewer than 5 folds" in refused(*weak[:2])


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
    # As if it had been killed while it wrote: half a checkpoint of a process that is gone.
    half = f".checkpoint_latest.pth{temporary_suffix(process.pid)}"
    (model / "fold_all" / half).write_bytes(latest.read_bytes()[:1000])

    again = succeed(*command)
    assert not list((model / "fold_all").glob(".*"))
    assert again.lines == [str(model)]
    curve = rows_of((model / "fold_all" / "training.tsv").read_text())
    assert [int(row["epoch"]) for row in curve] == [1, 2, 3, 4]
    assert (model / "fold_all" / "checkpoint_final.pth").is_file()
    assert (model / "fold_all" / "training.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((model / "lnq-train.json").read_text())
    assert record["made_with"]["recipe"]["epochs"] == 4
    assert [run["command"] for run in record["runs"]] == [[*map(str, command)]] * 2
    assert not (model / ".preprocessed").exists()

    kept = succeed(*command)
    assert "is trained already" in kept.err
    refused = run(*command[:-1])
    assert refused.status == 1
    assert refused.err.endswith(
        "has been trained: use another -m for another model, which may start from its weights "
        f"(--init {model}); -s keeps it or goes on; -f trains it anew and loses what is there\n"
    )
    changed = run(*command, "--lr", "0.001")
    assert changed.status == 1
    assert "learning_rate 0.03 there, 0.001 now" in changed.err


@pytest.mark.slow
def test_ctrl_c_says_that_it_goes_on_from_a_checkpoint_and_not_where_there_is_nothing(
    folder, tmp_path
):
    command = ["lnq-train", "--images", folder / "ct", "--labels", folder / "label", *QUICK]
    command += ["--epochs", "400", "--iterations", "1", "--fold", "all", "-m", tmp_path / "m"]

    def interrupted(reached, *options) -> str:
        process = subprocess.Popen(
            [str(BIN / "lnq-train"), *map(str, command[1:]), *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        while not reached.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == -signal.SIGINT
        return said.rpartition("cases  ")[2].partition("\n")[2]  # below the table of cohorts

    latest = tmp_path / "m" / "fold_all" / "checkpoint_latest.pth"
    goes_on = "lnq-train: interrupted: -s goes on from the last checkpoint\n"
    assert interrupted(latest).endswith(goes_on)
    assert interrupted(latest, "-s", "-q") == ""


def test_what_a_training_leaves_to_go_on_from(tmp_path):
    from lnqtools.files.json_files import write_json
    from lnqtools.nnunet.model_state import PREPARED, left_to_go_on_from
    from lnqtools.nnunet.prepare import PLANS, dataset_folder

    def left(fold="0", **options):
        return left_to_go_on_from(tmp_path, fold, **options)

    assert left() is None
    planned = dataset_folder(tmp_path / PREPARED)
    write_json(planned / "cohorts.json", {})
    assert left() is None
    write_json(planned / f"{PLANS}.json", {})
    assert left() == "the prepared cases"
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_best.pth").touch()
    assert (left(), left("1")) == ("the last checkpoint", "the prepared cases")
    assert left(anew=True) == "the last checkpoint"
    (tmp_path / "fold_0" / "checkpoint_final.pth").touch()
    assert (left(), left(anew=True)) == ("the last checkpoint", None)


@pytest.fixture
def nodes_alone(folder, tmp_path) -> list[str]:
    """Return the options for four cases of which nothing but drawn nodes is known."""
    for number in range(4):
        name = f"case {number}.nii.gz"
        label = np.where(load(folder / "label" / name) == 1, 1, 2).astype(np.uint8)
        save(tmp_path / "label" / name, label, affine((1.0, 1.0, 1.5)))
        (tmp_path / "ct").mkdir(exist_ok=True)
        shutil.copy(folder / "ct" / name, tmp_path / "ct" / name)
    return ["--images", tmp_path / "ct", "--labels", tmp_path / "label", "-m", tmp_path / "m"]


@pytest.mark.slow
def test_labels_without_background_are_refused_unless_asked_for(nodes_alone, tmp_path):
    command = ["lnq-train", *nodes_alone, *QUICK, "--epochs", "1", "--folds", "2"]
    refused = run(*command)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == (
        "lnq-train: no voxel of a case that fold 0 trains on is labeled background: the network "
        "would learn to call everything lymph node; give the labels background (lnq-pseudolabel "
        "--anatomy, lnq-weaklabel --strategy coat), or add completely annotated cases; "
        "--allow-no-background trains all the same\n"
    )
    assert not (tmp_path / "m").exists()
    allowed = succeed(*command, "--allow-no-background")
    assert "warning: cohort cases: only 0.0% of its annotated voxels are background" in allowed.err
    # The cases are prepared by now, and another fold is judged by what it trains on.
    command[-2:] = ["--folds", "2", "--fold", "1"]
    assert "that fold 1 trains on is labeled background" in run(*command).err


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["laptop", "resenc"])
def test_a_recipe_that_comes_along_trains_on_weak_labels_alone(folder, tmp_path, recipe):
    command = ["lnq-train", "--images", folder / "ct", "--labels", folder / "label"]
    command += ["--recipe", recipe, "--patch", "16", "--set", "features=4,8", "--epochs", "1"]
    command += ["--iterations", "2", "--set", "validation_iterations=1", "--threads", "1"]
    command += ["--set", "convolutions=1", "--device", "cpu", "-m", tmp_path / "m"]
    done = succeed(*command)
    assert done.err.startswith(
        f"lnq-train: warning: full_share 0.5 of the recipe {recipe} has no effect: no case that "
        "fold 0 trains on is fully annotated\n"
    )
    assert (tmp_path / "m" / "fold_0" / "checkpoint_final.pth").is_file()
    asked = run(*command, "--set", "full_share=0.5", "-f")
    assert asked.status == 1
    assert "full_share is 0.5, but no case that fold 0 trains on is fully annotated" in asked.err


@pytest.mark.slow
def test_killed_while_cases_are_preprocessed_it_goes_on(folder, tmp_path):
    model = tmp_path / "m"
    command = ["lnq-train", "--images", folder / "ct", "--labels", folder / "label", *QUICK]
    command += ["--epochs", "1", "-m", model, "-s"]
    process = subprocess.Popen([str(BIN / command[0]), *map(str, command[1:])])
    while not any((model / ".preprocessed").rglob("*.pkl")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (model / "fold_0" / "checkpoint_final.pth").exists()
    assert "no checkpoint to resume from" in run(*command[:-1], "--resume").err
    assert succeed(*command).lines == [str(model)]
    curve = rows_of((model / "fold_0" / "training.tsv").read_text())
    assert [row["epoch"] for row in curve] == ["1"]
    assert not (model / ".preprocessed").exists()


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
