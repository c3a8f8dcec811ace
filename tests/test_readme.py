"""Every command of the README runs as it stands there, in the order it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, load, save, shell, succeed

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
SCRIPTS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"`(find [^`]+)`", README)


def arrange_cohort(folder: Path) -> None:
    """Lay out phantoms as the README supposes: case1 … case5 to train on, the rest to judge on."""
    succeed("lnq-phantom", "-n", 8, "--profile", "easy", "-O", folder / "made", "-q")
    names = sorted(path.name for path in (folder / "made" / "ct").iterdir())
    annotations = ["weak", "weak", "full", "full", "tumour"]
    for number, (name, annotation) in enumerate(zip(names[:5], annotations, strict=True), 1):
        kind = "truth" if annotation == "full" else "weak"
        for source, target in (("ct", "ct"), ("anatomy", "anatomy"), (kind, annotation)):
            (folder / target).mkdir(exist_ok=True)
            shutil.copy(folder / "made" / source / name, folder / target / f"case{number}.nii.gz")
    for use, some in (("test", names[5:7]), ("validation", names[7:])):
        for kind in ("ct", "truth"):
            (folder / use / kind).mkdir(parents=True)
            for name in some:
                shutil.copy(folder / "made" / kind / name, folder / use / kind / name)
    shutil.rmtree(folder / "made")


def test_no_command_is_left_out():
    assert len(BLOCKS) == 3
    assert len(INLINE) == 1
    tools = {line.split("`")[1] for line in README.splitlines() if line.startswith("| `lnq-")}
    used = set(re.findall(r"lnq-[a-z-]+", "\n".join(BLOCKS))) | {"lnq-phantom", "lnq-anatomy"}
    assert used >= tools


QUICK = (
    *("--recipe", "smoke", "--epochs", 2, "--iterations", 100, "--patch", "32,32,16"),
    *("--set", "spacing_mm=5,5,5", "--set", "node_share=1"),
)
"""A recipe for a network that finds nodes after half a minute on a fifth of the voxels."""


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    arrange_cohort(tmp_path)
    recipe, steps, cluster = BLOCKS
    assert recipe.startswith("recipe=paper ")
    (tmp_path / "quick.toml").write_text(succeed("lnq-train", "--show-recipe", *QUICK).out)
    quick = "recipe=quick.toml\nexport OMP_NUM_THREADS=1\n" + recipe.partition("\n")[2]
    done = shell(quick, tmp_path, forked=True)
    assert done.status == 0, done.err
    labels = {path.name: load(path) for path in (tmp_path / "labels").iterdir()}
    assert sorted(labels) == [f"case{n}.nii.gz" for n in range(1, 6)]
    assert {int(v) for v in labels["case1.nii.gz"].flat} == {0, 1, 2}
    assert {int(v) for v in labels["case3.nii.gz"].flat} == {0, 1}
    assert {int(v) for v in labels["case5.nii.gz"].flat} == {0, 2}
    assert (tmp_path / "model" / "plans.json").is_file()
    summary = [line.split("\t") for line in done.lines if "\t" in line]
    assert summary[0][0] == "metric"
    dice = next(row for row in summary if row[0] == "dice")
    assert dice[6:8] == ["2", "0"]
    assert float(dice[1]) > 0.3

    done = shell("set -e\n" + steps, tmp_path, forked=True)
    assert done.status == 0, done.err
    cropped, back = load(tmp_path / "case1-lungs.nii.gz"), load(tmp_path / "case1-back.nii.gz")
    original = load(tmp_path / "ct" / "case1.nii.gz")
    assert back.shape == original.shape
    inside = back != -1024
    assert (back[inside] == original[inside]).all()
    assert inside.sum() >= 0.99 * (cropped != -1024).sum()

    for picture in ("curve.png", "scores.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    for report, count in (("report", 2), ("labels-report", 5)):
        assert (tmp_path / report / "index.html").read_text().count("<tr data-name=") == count
    for command in (cluster, INLINE[0]):
        done = shell(command, tmp_path, forked=True)
        assert done.status == 0, done.err
    assert sorted(done.lines) == [f"predicted/case{n}.nii.gz" for n in range(1, 6)]


def test_the_script_runs(tmp_path):
    truth = np.zeros((6, 9, 9), np.uint8)
    truth[1:4, 1:4, 1:4] = truth[3:5, 6:8, 5:8] = 1
    predicted = truth.copy()
    predicted[4:] = 0  # one of the two slices of the second node is left
    save(tmp_path / "test" / "truth" / "case6.nii.gz", truth)
    save(tmp_path / "predicted" / "case6.nii.gz", predicted)
    (script,) = SCRIPTS
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    dice, diameters = done.stdout.splitlines()
    assert float(dice) == pytest.approx(2 * 33 / (39 + 33))
    assert len(diameters.strip("[]").split()) == 2
    assert np.unique(load(tmp_path / "numbered.nii.gz")).tolist() == [0, 1, 2]
