"""The examples: chains with real networks, and run again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull

from lnqtools.anatomy.maps import class_names
from lnqtools.nnunet.curve import COLUMNS
from tests.cli.helpers import rows_of
from tests.conftest import ROOT, load, matrix_of, save, shell, succeed


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of every image and every file of the models."""
    files = [*folder.rglob("*.nii.gz"), *folder.rglob("model/**/*.*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.slow
def test_the_demo_learns_and_does_no_work_twice(tmp_path):
    """With three of its eight epochs, which are enough to find nodes."""
    pytest.importorskip("nnunetv2")
    command = f"OMP_NUM_THREADS=1 '{ROOT / 'examples' / 'demo.sh'}' demo --epochs 3"
    done = shell(command, tmp_path, forked=True)
    assert done.status == 0, done.err
    rows = rows_of((tmp_path / "demo" / "metrics.tsv").read_text())
    assert len(rows) == 4
    assert sum(float(row["dice"]) for row in rows) / 4 > 0.5
    page = done.lines[-1]
    assert page == "demo/report/index.html"
    report = (tmp_path / page).read_bytes()
    assert [report.count(f'data-name="{row["case"]}"'.encode()) for row in rows] == [1] * 4
    assert (tmp_path / "demo" / "report" / "metrics.tsv").read_text() == (
        tmp_path / "demo" / "metrics.tsv"
    ).read_text()
    before = stamps(tmp_path / "demo")
    assert len(before) > 80
    again = shell(command, tmp_path, forked=True)
    assert again.status == 0, again.err
    assert "nothing to do" in again.err
    assert stamps(tmp_path / "demo") == before
    assert (tmp_path / page).read_bytes() == report
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.slow
def test_self_training_fills_labels_round_by_round(tmp_path):
    """One round, then two: the second begins where the first ended, and again does nothing."""
    pytest.importorskip("nnunetv2")
    script, out = ROOT / "examples" / "self-training.sh", tmp_path / "out"
    quick = "--epochs 2 --iterations 75 --patch 32,32,16 --set spacing_mm=5,5,5"
    command = f"OMP_NUM_THREADS=1 '{script}' out %d {quick}"
    assert shell(command % 1, tmp_path, forked=True).status == 0
    first = stamps(out)
    done = shell(command % 2, tmp_path, forked=True)
    assert done.status == 0, done.err
    after = stamps(out)
    assert {path: after[path] for path in first} == first
    assert len(after) > len(first)

    one, two = (rows_of((out / f"round{n}" / "labels.tsv").read_text()) for n in (1, 2))
    assert len(one) == len(two) == 6
    for untaught, taught in zip(one, two, strict=True):
        name = f"{taught['case']}.nii.gz"
        before, filled = (load(out / f"round{n}" / "labels" / name) for n in (1, 2))
        np.testing.assert_array_equal(filled[before != 2], before[before != 2])
        new = [int(((before == 2) & (filled == value)).sum()) for value in (1, 0)]
        kinds = ("voxels_teacher_foreground", "voxels_teacher_background")
        assert [int(taught[kind]) for kind in kinds] == new
        assert untaught["voxels_teacher_foreground"] == ""
        assert int(untaught["voxels_unknown"]) - sum(new) == int(taught["voxels_unknown"])
    assert sum(int(row["voxels_teacher_background"]) for row in two) > 0

    rounds = rows_of((out / "rounds.tsv").read_text())
    assert done.out == (out / "rounds.tsv").read_text()
    assert [row["round"] for row in rounds] == ["1", "2"]
    for row in rounds:
        dices = []
        for predicted in (out / f"round{row['round']}" / "predicted").iterdir():
            mask, truth = load(predicted) != 0, load(out / "test" / "truth" / predicted.name) != 0
            dices.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
        assert len(dices) == 4
        assert float(row["dice"]) == pytest.approx(np.mean(dices), abs=1e-4)
    assert int(rounds[1]["voxels_unknown"]) == sum(int(row["voxels_unknown"]) for row in two)
    assert rounds[0]["voxels_teacher_background"] == "0"

    assert shell(command % 2, tmp_path, forked=True).status == 0
    assert stamps(out) == after
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_self_training_wants_a_number_of_rounds(tmp_path):
    done = shell(f"'{ROOT / 'examples' / 'self-training.sh'}' out many", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == "ROUNDS must be a number, not many\n"
    assert list(tmp_path.iterdir()) == []


# Labels of LNQ2023's first two


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """Make a phantom of thick slices, a weak annotation of some of its nodes among its folders."""
    folder = tmp_path_factory.mktemp("teams") / "phantom"
    succeed("lnq-phantom", "-n", 1, "--seed", 3, "-O", folder)
    return folder


def image(folder: Path, kind: str) -> np.ndarray:
    """Return the array of the one image of a kind."""
    (path,) = (folder / kind).glob("*.nii.gz")
    return load(path)


def winners_label(drawn: np.ndarray, anatomy: np.ndarray, spacing) -> np.ndarray:
    """Return the winner's label, by the published rules; the hull 5 mm wide, its ends 50 mm."""
    numbers = {name: number for number, name in class_names("v2").items()}
    lobes = [
        np.isin(anatomy, [n for name, n in numbers.items() if re.match(rf"lung_.*_{side}$", name)])
        for side in ("left", "right")
    ]
    label = np.full(drawn.shape, 2, np.uint8)
    label[ndimage.binary_dilation(drawn, iterations=2)] = 0
    label[(anatomy != 0) & (anatomy != numbers["aorta"])] = 0
    slices = [np.flatnonzero(lung.any(axis=(1, 2))) for lung in lobes]
    first, last = min(map(np.min, slices)), max(map(np.max, slices))
    places = np.moveaxis(np.indices(drawn.shape[1:]), 0, -1) * spacing[1:]
    for z in range(len(label)):
        if max(first - z, z - last) * spacing[0] > 50:
            label[z] = 0
        if not first <= z <= last:
            continue
        points = np.zeros(drawn.shape[1:], bool)
        for lung, at in zip(lobes, slices, strict=True):
            near = [z] if z in at else [*at[at < z][-1:], *at[at > z][:1]]
            points |= lung[near].any(axis=0)
        edges = ConvexHull(np.argwhere(points) * spacing[1:]).equations
        beyond = places @ edges[:, :2].T + edges[:, 2]
        label[z][(beyond > 5 + 1e-6).any(axis=-1)] = 0
    label[drawn] = 1
    return label


def test_the_winners_labels_are_those_of_the_published_rules(phantom, tmp_path):
    script = ROOT / "examples" / "winner-labels.sh"
    done = shell(f"'{script}' '{phantom}/weak' '{phantom}/anatomy' out", tmp_path)
    assert done.status == 0, done.err
    (path,) = (phantom / "weak").iterdir()
    assert done.lines == [f"out/labels/{path.name}"]
    spacing = tuple(map(float, nib.load(path).header.get_zooms()[::-1]))
    expected = winners_label(load(path) != 0, image(phantom, "anatomy"), spacing)
    np.testing.assert_array_equal(load(tmp_path / done.lines[0]), expected)
    assert set(np.unique(expected)) == {0, 1, 2}
    (row,) = rows_of((tmp_path / "out" / "labels.tsv").read_text())
    assert int(row["voxels_unknown"]) == np.count_nonzero(expected == 2)
    assert int(row["voxels_region_background"]) > 0


def test_the_runner_ups_labels_are_the_annotation_and_what_the_teacher_sees(phantom, tmp_path):
    """The teacher of the test misses a tenth of the nodes' voxels, drawn ones among them."""
    drawn, truth = image(phantom, "weak") != 0, image(phantom, "truth") != 0
    rng = np.random.default_rng(0)
    seen = np.where(truth & (rng.random(truth.shape) < 0.9), 0.75, 0.05)
    seen += 0.2 * rng.random(truth.shape)
    (path,) = (phantom / "weak").iterdir()
    save(tmp_path / "seen" / path.name, seen.astype(np.float32), matrix_of(path))
    script = ROOT / "examples" / "runner-up-labels.sh"
    done = shell(f"'{script}' '{phantom}/weak' seen out", tmp_path)
    assert done.status == 0, done.err
    fused = np.where(drawn | (seen > 0.5), 1, 0)
    np.testing.assert_array_equal(load(tmp_path / "out" / "labels" / path.name), fused)
    assert np.count_nonzero(fused) > np.count_nonzero(drawn)


@pytest.mark.parametrize("team", ["winner", "runner-up"])
def test_the_teams_scripts_say_how_they_are_called(team, tmp_path):
    done = shell(f"'{ROOT / 'examples'}/{team}-labels.sh' one", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"usage: {team}-labels.sh ANNOTATIONS ")


def demo_folder(folder: Path) -> None:
    """Lay out what the figures take of the demo's folder, with half of the truth as prediction."""
    train, test = folder / "train", folder / "test"
    succeed("lnq-phantom", "-n", 1, "--seed", 1, "--profile", "easy", "-O", train)
    succeed("lnq-phantom", "-n", 3, "--seed", 2, "--profile", "easy", "-O", test)
    (name,) = [path.name for path in (train / "ct").iterdir()]
    succeed("lnq-crop", train / "ct" / name, "-O", train / "cropped")
    succeed("lnq-weaklabel", train / "weak" / name, "--strategy", "mask", "-O", train / "masked")
    like = ("--label", "--like", train / "cropped")
    succeed("lnq-crop", train / "masked" / name, *like, "-O", train / "masked-cropped")
    anatomy = ("--anatomy", train / "anatomy")
    succeed("lnq-pseudolabel", train / "masked-cropped" / name, *anatomy, "-O", train / "labels")
    weak = sorted((test / "weak").iterdir())
    for model in ("predicted", "final"):
        (folder / model).mkdir()
        for path in weak:
            shutil.copy(path, folder / model)
    table = ("-o", folder / "metrics.tsv")
    succeed("lnq-metrics", *weak, "--reference", test / "truth", *table)
    (folder / "model" / "fold_all").mkdir(parents=True)
    columns = ["epoch", *COLUMNS, "seconds"]
    lines = ["\t".join(columns), *("\t".join([str(e), *["0.5"] * 6]) for e in (1, 2, 3))]
    (folder / "model" / "fold_all" / "training.tsv").write_text("\n".join(lines) + "\n")


def test_the_figures_of_the_demo_are_drawn(tmp_path):
    pytest.importorskip("skimage")
    demo_folder(tmp_path / "a demo")
    script = ROOT / "examples" / "figures.sh"
    done = shell(f"'{script}' 'a demo' svg", tmp_path, forked=True)
    assert done.status == 0, done.err
    names = ["preprocess", "diameters", "overlap", "cases", "training", "scores", "agreement"]
    assert done.lines == [f"a demo/figures/{name}.svg" for name in names]
    for line in done.lines:
        assert (tmp_path / line).read_bytes().startswith(b"<?xml")
    refused = shell(f"'{script}' nowhere", tmp_path, forked=True)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == "nowhere: no metrics.tsv in it; examples/demo.sh makes one\n"
