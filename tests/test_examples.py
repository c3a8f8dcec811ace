"""The examples: chains with real networks, and run again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lnqtools.nnunet.curve import COLUMNS
from tests.cli.helpers import rows_of
from tests.conftest import ROOT, load, shell, succeed


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of every image and every file of the models."""
    files = [*folder.rglob("*.nii.gz"), *folder.rglob("model/**/*.*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.slow
def test_the_demo_learns_and_does_no_work_twice(tmp_path, forked):
    pytest.importorskip("nnunetv2")
    command = f"OMP_NUM_THREADS=1 '{ROOT / 'examples' / 'demo.sh'}' demo"
    done = shell(command, tmp_path, forked)
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
    again = shell(command, tmp_path, forked)
    assert again.status == 0, again.err
    assert "nothing to do" in again.err
    assert stamps(tmp_path / "demo") == before
    assert (tmp_path / page).read_bytes() == report
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.slow
def test_self_training_fills_labels_round_by_round(tmp_path, forked):
    """One round, then two: the second begins where the first ended, and again does nothing."""
    pytest.importorskip("nnunetv2")
    script, out = ROOT / "examples" / "self-training.sh", tmp_path / "out"
    command = f"OMP_NUM_THREADS=1 '{script}' out %d --epochs 2 --iterations 75"
    assert shell(command % 1, tmp_path, forked).status == 0
    first = stamps(out)
    done = shell(command % 2, tmp_path, forked)
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

    assert shell(command % 2, tmp_path, forked).status == 0
    assert stamps(out) == after
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_self_training_wants_a_number_of_rounds(tmp_path):
    done = shell(f"'{ROOT / 'examples' / 'self-training.sh'}' out many", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == "ROUNDS must be a number, not many\n"
    assert list(tmp_path.iterdir()) == []


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


def test_the_figures_of_the_demo_are_drawn(tmp_path, forked):
    pytest.importorskip("skimage")
    demo_folder(tmp_path / "a demo")
    script = ROOT / "examples" / "figures.sh"
    done = shell(f"'{script}' 'a demo' svg", tmp_path, forked)
    assert done.status == 0, done.err
    names = ["preprocess", "diameters", "overlap", "cases", "training", "scores", "agreement"]
    assert done.lines == [f"a demo/figures/{name}.svg" for name in names]
    for line in done.lines:
        assert (tmp_path / line).read_bytes().startswith(b"<?xml")
    refused = shell(f"'{script}' nowhere", tmp_path, forked)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == "nowhere: no metrics.tsv in it; examples/demo.sh makes one\n"
