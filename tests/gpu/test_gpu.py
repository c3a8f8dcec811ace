"""All that a GPU does: training, resuming, prediction, lack of memory, nnU-Net's commands, anatomy.

Each tool is started anew, as at a shell, and nothing here opens the GPU itself.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import BIN, load, run, succeed
from tests.gpu.conftest import Training, runs
from tests.gpu.machine import found


def rows(path: Path) -> list[dict[str, str]]:
    head, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    assert a.any()
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def agreement(ours: Path, theirs: Path) -> float:
    """Return the least Dice of the masks of two folders with the same names."""
    names = sorted(path.name for path in ours.glob("*.nii.gz"))
    assert names == sorted(path.name for path in theirs.glob("*.nii.gz"))
    return min(dice(load(ours / name), load(theirs / name)) for name in names)


def difference(ours: Path, theirs: Path) -> float:
    """Return the largest difference of the maps of two folders with the same names."""
    pairs = zip(sorted(ours.iterdir()), sorted(theirs.iterdir()), strict=True)
    return max(float(np.abs(load(a) - load(b)).max()) for a, b in pairs)


# Training


def test_a_killed_training_goes_on_to_its_end(killed, training, device, record_property):
    curve = rows(killed.model / "fold_0" / "training.tsv")
    assert [int(row["epoch"]) for row in curve] == list(range(1, training.lengths[0] + 1))
    first, second = [one for one in runs(killed.model) if one["fold"] == "0"]
    assert first["device"] == second["device"] == device
    assert (killed.model / "cohorts.tsv").read_text() == killed.cohorts
    (validated,) = killed.model.glob("fold_0/validation.tsv")
    reached = [float(row["dice_annotated"]) for row in rows(validated)]
    record_property("Dice of annotated voxels", f"{np.mean(reached):.3f}")
    assert np.mean(reached) > (0.8 if device == "cuda" else 0.3)


def test_nothing_of_a_killed_training_is_left_at_work(killed):
    assert killed.workers
    deadline = time.monotonic() + 10
    left = killed.workers
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        time.sleep(0.1)
    assert left == []


def test_compiled_and_not(model, device):
    logs = {fold: model.glob(f"fold_{fold}/training_log_*.txt") for fold in "01"}
    compiled = {
        fold: ["torch.compile" in log.read_text() for log in paths] for fold, paths in logs.items()
    }
    assert compiled == {"0": [device == "cuda"] * 2, "1": [False]}


def test_cohorts_are_those_of_the_cpu(killed, cpu_model):
    assert killed.cohorts == (cpu_model / "cohorts.tsv").read_text()


@pytest.mark.parametrize("gpus", [1, 2])
def test_by_nnunets_distributed_training(folder, device, gpus):
    if gpus > 1 and len(found()["gpus"]) < gpus:
        pytest.skip(f"takes {gpus} GPUs")
    made = Training(folder, folder / f"by {gpus}", device, lengths=(1, 4))
    command = made.command("--set", "deep_supervision=false", "--gpus", gpus)
    program = [BIN / "lnq-train"] if gpus > 1 else [sys.executable, "-m", "tests.gpu.one_gpu"]
    done = subprocess.run([*program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(made.model)]
    assert len(rows(made.model / "fold_0" / "training.tsv")) == 1
    assert (made.model / "fold_0" / "checkpoint_final.pth").is_file()
    assert runs(made.model)[0]["gpus"] == gpus


# Prediction


@pytest.mark.parametrize("what", ["one fold", "two models, one of two folds"])
def test_predictions_are_those_of_the_cpu(model, cpu_model, predict, device, what, record_property):
    options = (
        ["-m", model, "--folds", "0"] if what == "one fold" else ["-m", model, "-m", cpu_model]
    )
    there, here = (predict(*options, "--device", name) for name in (device, "cpu"))
    same, off = agreement(there[0], here[0]), difference(there[1], here[1])
    record_property("Dice", f"{same:.5f}")
    record_property("largest difference of probabilities", f"{off:.1e}")
    assert same >= 0.999
    assert off <= 5e-3


def test_in_single_precision_they_are_near_too(model, predict, on_cuda, record_property):
    options = ["-m", model, "--folds", "0", "--precision", "fp32", "--device"]
    there, here = predict(*options, "cuda"), predict(*options, "cpu")
    off = difference(there[1], here[1])
    record_property("largest difference of probabilities", f"{off:.1e}")
    assert off <= 2e-3  # of sums in half precision; fp16 took 2e-3 more where a CPU computed in it


def test_a_model_of_the_cpu_runs_there(cpu_model, predict, device, record_property):
    options = ["-m", cpu_model, "--no-mirror", "--device"]
    same = agreement(predict(*options, device)[0], predict(*options, "cpu")[0])
    record_property("Dice", f"{same:.5f}")
    assert same >= 0.999


def test_nnunets_own_command_gives_the_same_masks(model, folder, predict, device, record_property):
    ours, _ = predict("-m", model, "--folds", "0", "--device", device)
    words = ("-i", folder / "in", "-o", folder / "theirs", "-m", model, "-f", 0, "-device", device)
    program = BIN / "nnUNetv2_predict_from_modelfolder"
    subprocess.run([program, *map(str, words), "-npp", "1", "-nps", "1"], check=True)
    (folder / "ours").mkdir()
    for path in ours.iterdir():
        path.rename(folder / "ours" / path.name.replace("_0000", ""))
    same = agreement(folder / "ours", folder / "theirs")
    record_property("Dice", f"{same:.5f}")
    assert same >= 0.999


# Memory


def test_a_patch_that_does_not_fit_is_one_line_and_the_next_case_is_done(model, folder, device):
    cts = sorted((folder / "in").iterdir())
    into = folder / "short"
    words = (*cts, "-m", model, "--folds", "0", "--no-mirror", "--no-crop", "-q", "-O", into)
    program = [sys.executable, "-m", "tests.gpu.short_of_memory", *words, "--device", device]
    done = subprocess.run(list(map(str, program)), capture_output=True, text=True, check=False)
    help_too = "" if device == "cpu" else ", or use --device cpu"
    assert done.stderr.splitlines() == [
        f"lnq-infer: {cts[0]}: memory ran out ({device}): crop the image{help_too}"
    ]
    assert done.returncode == 1
    assert [Path(line).name for line in done.stdout.splitlines()] == ["case1.nii.gz"]
    assert load(into / "case1.nii.gz").any()


LIMITED = """
import torch
torch.cuda.set_per_process_memory_fraction(4e6 / torch.cuda.mem_get_info()[1])
from lnqtools.cli.train import main
main()
"""


def test_a_training_that_does_not_fit_says_what_to_lower(training, folder, on_cuda):
    command = replace(training, model=folder / "too large").command("-q")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *command[1:]], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lnq-train: the GPU's memory is too small for 2 patches of 32×")
    assert len(done.stderr.splitlines()) == 1


# Which devices there are


def test_what_is_hidden_is_not_there(model, folder, device, monkeypatch):
    ct = min((folder / "in").iterdir())
    words = (ct, "-m", model, "--folds", "0", "--no-crop", "--no-mirror", "-O", folder / "hidden")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refused = run("lnq-infer", *words, "--device", "cuda")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == (
        "lnq-infer: torch finds no device 'cuda' on this machine; use --device cpu or auto\n"
    )
    assert succeed("lnq-infer", *words, "--device", "auto").lines


def test_the_last_gpu_alone_is_the_first(model, folder, monkeypatch, on_cuda):
    ct = min((folder / "in").iterdir())
    words = (ct, "-m", model, "--folds", "0", "--no-crop", "--no-mirror", "-O", folder / "last")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", str(len(found()["gpus"]) - 1))
    assert "no device 'cuda:1'" in run("lnq-infer", *words, "--device", "cuda:1").err
    assert succeed("lnq-infer", *words, "--device", "cuda:0").lines


# TotalSegmentator

WEIGHTS = """
import sys
from pathlib import Path
from tests.totalseg_data import write_surrogate_weights
write_surrogate_weights(Path(sys.argv[1]), [297])
"""


def test_anatomy_is_that_of_the_cpu(folder, device, monkeypatch, record_property):
    place = folder / "weights"
    subprocess.run([sys.executable, "-c", WEIGHTS, place], check=True)
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(place))
    succeed("lnq-phantom", "-n", 1, "-O", folder / "phantom")
    (ct,) = (folder / "phantom" / "ct").iterdir()
    maps = []
    for name in (device, "cpu"):
        into = folder / f"anatomy {len(maps)}"
        (path,) = succeed("lnq-anatomy", ct, "--fast", "--device", name, "-O", into).lines
        maps.append(load(path))
    there, here = maps
    same = {int(label): dice(there == label, here == label) for label in np.unique(here) if label}
    record_property("Dice", ", ".join(f"{value:.4f}" for value in same.values()))
    assert len(same) == 3
    assert min(same.values()) >= 0.99  # whole HU are beyond half precision in bone
