"""Every command of the README runs as it stands there, in the order it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, load, save, shell, succeed

DOCS = {path.name: path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")


def blocks(page: str, language: str = "sh") -> list[str]:
    """Return the commands of a page, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS[page], flags=re.DOTALL | re.MULTILINE)


INLINE = re.findall(r"`(find [^`]+)`", DOCS["cluster.md"])


def anchors(text: str) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DOCS)
def test_links_lead_somewhere(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for path, anchor in LINK.findall(DOCS[page]):
        target = folder / path if path else folder / page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target.read_text()), path + anchor


def test_the_first_screen_is_short():
    assert len(DOCS["README.md"].splitlines()) <= 120


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
    counts = {page: len(blocks(page)) for page in DOCS if blocks(page)}
    assert counts == {"README.md": 2, "guide.md": 2, "cluster.md": 1}
    assert len(INLINE) == 1
    rows = [line for line in DOCS["README.md"].splitlines() if line.startswith("| `lnq-")]
    tools = {line.split("`")[1] for line in rows}
    used = re.findall(r"lnq-[a-z-]+", "\n".join(text for page in counts for text in blocks(page)))
    assert {*used, "lnq-phantom", "lnq-anatomy", "lnq-dicom", "lnq-model"} >= tools


QUICK = (
    *("--recipe", "smoke", "--epochs", 2, "--iterations", 100, "--patch", "32,32,16"),
    *("--set", "spacing_mm=5,5,5", "--set", "node_share=1"),
)
"""A recipe for a network that finds nodes after half a minute on a fifth of the voxels."""


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    arrange_cohort(tmp_path)
    recipe, steps = blocks("guide.md")
    (cluster,) = blocks("cluster.md")
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


@pytest.mark.slow
def test_the_first_screen_trains_and_predicts(tmp_path):
    """On a folder of one's own, whose cases are called as hospitals call them."""
    succeed("lnq-phantom", "-n", 3, "--profile", "easy", "-O", tmp_path / "made", "-q")
    made = tmp_path / "made"
    cts, annotations = (sorted((made / kind).iterdir()) for kind in ("ct", "weak"))
    for folder in ("ct", "weak"):
        (tmp_path / folder).mkdir()
    for number, (ct, annotation) in enumerate(zip(cts[:2], annotations, strict=False), 1):
        shutil.copy(ct, tmp_path / "ct" / f"P {number:02}.nii.gz")
        shutil.copy(annotation, tmp_path / "weak" / f"P {number:02}.nii.gz")
    (tmp_path / "quick.toml").write_text(
        succeed("lnq-train", "--show-recipe", *QUICK, "--set", "fold=all").out
    )
    predict, train = blocks("README.md")
    assert train.count(" --recipe paper ") == 1
    quick = "set -e\nexport OMP_NUM_THREADS=1\n" + train.replace("paper", "quick.toml")
    done = shell(quick, tmp_path, forked=True)
    assert done.status == 0, done.err
    values = {path.name: np.unique(load(path)).tolist() for path in (tmp_path / "labels").iterdir()}
    assert values == {"P 01.nii.gz": [0, 1, 2], "P 02.nii.gz": [0, 1, 2]}
    shutil.copy(cts[2], tmp_path / "ct" / "LUNG1-003.nii.gz")
    done = shell("set -e\n" + predict, tmp_path, forked=True)
    assert done.status == 0, done.err
    assert len(list((tmp_path / "predicted").glob("*.nii.gz"))) == 3
    assert (tmp_path / "report" / "index.html").read_text().count("<tr data-name=") == 3
    commands = [line for line in train.splitlines() if line]
    assert len(commands) <= 8
    assert len([line for line in predict.splitlines() if line]) <= 3


def test_the_script_runs(tmp_path):
    truth = np.zeros((6, 9, 9), np.uint8)
    truth[1:4, 1:4, 1:4] = truth[3:5, 6:8, 5:8] = 1
    predicted = truth.copy()
    predicted[4:] = 0  # one of the two slices of the second node is left
    save(tmp_path / "test" / "truth" / "case6.nii.gz", truth)
    save(tmp_path / "predicted" / "case6.nii.gz", predicted)
    (script,) = blocks("python.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    dice, diameters = done.stdout.splitlines()
    assert float(dice) == pytest.approx(2 * 33 / (39 + 33))
    assert len(diameters.strip("[]").split()) == 2
    assert np.unique(load(tmp_path / "numbered.nii.gz")).tolist() == [0, 1, 2]
