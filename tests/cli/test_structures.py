"""TotalSegmentator's own output, a folder per case with a file per structure, as a companion."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lnqtools.anatomy.maps import LOBES
from tests.cli.helpers import boxes, rows_of
from tests.conftest import affine, load, run, save, succeed

SHAPE = (10, 12, 20)
MATRIX = affine((2.0, 2.0, 3.0))
AORTA = np.s_[2:8, 4:6, 9:11]
CASES = ("case1", "case2")


def lobes() -> dict[str, np.ndarray]:
    """Return masks of five lobes: the box around them is z 2..8, y 3..9, x 2..18."""
    parts = [np.s_[z : z + 3, 3:9, 2:8] for z in (2, 5)]
    parts += [np.s_[z : z + 2, 3:9, 12:18] for z in (2, 4, 6)]
    return {name: boxes(SHAPE, part) for name, part in zip(LOBES, parts, strict=True)}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with ct, labels, and the structures of two cases below ts."""
    structures = {**lobes(), "aorta": boxes(SHAPE, AORTA), "spleen": boxes(SHAPE)}
    for case in CASES:
        save(tmp_path / "ct" / f"{case}.nii.gz", np.full(SHAPE, -50, np.int16), MATRIX)
        label = np.full(SHAPE, 2, np.uint8)
        label[5, 5, 9] = 1
        save(tmp_path / "labels" / f"{case}.nii.gz", label, MATRIX)
        for name, mask in structures.items():
            save(tmp_path / "ts" / case / f"{name}.nii.gz", mask, MATRIX)
        (tmp_path / "ts" / case / "statistics.json").write_text("{}")
    return tmp_path


def boxes_of(folder: Path, *arguments) -> list[list[int]]:
    table = folder / "boxes.tsv"
    succeed("lnq-crop", *arguments, "-q", "-O", "out", "-f", "--boxes", table, cwd=folder)
    sides = [f"{axis}_{end}" for axis in "zyx" for end in ("start", "stop")]
    return [[int(row[side]) for side in sides] for row in rows_of(table.read_text())]


def test_the_lungs_of_each_case_are_in_the_folder_of_its_name(folder):
    found = boxes_of(folder, "ct", "--lungs", "ts")
    assert found == [[2, 8, 3, 9, 2, 18]] * 2
    lower = boxes(SHAPE, np.s_[7:9, 3:9, 2:8])
    save(folder / "ts" / "case2" / "lung_lower_lobe_left.nii.gz", lower, MATRIX)
    assert boxes_of(folder, "ct", "--lungs", "ts") == [[2, 8, 3, 9, 2, 18], [2, 9, 3, 9, 2, 18]]


def test_the_folder_of_one_case_is_named_itself(folder):
    assert boxes_of(folder, "ct/case1.nii.gz", "--lungs", "ts/case1") == [[2, 8, 3, 9, 2, 18]]


def test_a_case_folder_as_of_totalsegmentators_data_set(folder):
    """That is s0011/ct.nii.gz beside s0011/segmentations."""
    for case in CASES:
        (folder / "data" / case).mkdir(parents=True)
        shutil.move(folder / "ct" / f"{case}.nii.gz", folder / "data" / case / "ct.nii.gz")
        shutil.move(folder / "ts" / case, folder / "data" / case / "segmentations")
    pattern = ("--case-pattern", r"([^/]+)/(ct|segmentations/)")
    cts = [f"data/{case}/ct.nii.gz" for case in CASES]
    assert boxes_of(folder, *cts, "--lungs", "data", *pattern) == [[2, 8, 3, 9, 2, 18]] * 2
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "case1.nii.gz",
        "case2.nii.gz",
    ]


def test_structures_of_the_folder_become_background(folder):
    done = succeed("lnq-pseudolabel", "labels", "--anatomy", "ts", "-O", "out", cwd=folder)
    assert done.lines == [f"out/{case}.nii.gz" for case in CASES]
    expected = np.full(SHAPE, 2, np.uint8)
    expected[sum(lobes().values()) + boxes(SHAPE, AORTA) != 0] = 0
    expected[5, 5, 9] = 1
    np.testing.assert_array_equal(load(folder / "out" / "case2.nii.gz"), expected)
    kept = succeed("lnq-pseudolabel", "labels", "--anatomy", "ts", "-O", "out", "-s", cwd=folder)
    assert kept.lines == done.lines
    save(folder / "ts" / "case2" / "spleen.nii.gz", boxes(SHAPE, np.s_[0, 0, 0]), MATRIX)
    changed = run("lnq-pseudolabel", "labels", "--anatomy", "ts", "-O", "out", "-s", cwd=folder)
    assert changed.status == 1
    assert changed.err == (
        "lnq-pseudolabel: labels/case2.nii.gz: out/case2.nii.gz exists and was made from another "
        "--anatomy ts/case2; -f replaces it\n"
    )


def test_chosen_structures_and_a_hull_come_from_the_folder(folder):
    options = ("--anatomy", "ts", "--structures", "aorta", "-O", "out")
    succeed("lnq-pseudolabel", "labels", *options, cwd=folder)
    assert (load(folder / "out" / "case1.nii.gz") == 0).sum() == 24 - 1  # the node stays
    hull = ("--outside", "hull", "--lungs", "ts", "--margin-mm", "0", "--ends-mm", "0")
    succeed("lnq-pseudolabel", "labels", *hull, "-O", "hull", cwd=folder)
    inside = boxes(SHAPE, np.s_[2:8, 3:9, 2:18])
    np.testing.assert_array_equal(load(folder / "hull" / "case1.nii.gz") == 0, inside == 0)


def test_vessels_of_a_folder(folder):
    for case in CASES:
        vessel = boxes(SHAPE, np.s_[0, 0, :3])
        save(folder / "ts" / case / "lung_vessels.nii.gz", vessel, MATRIX)
    options = ("--anatomy", "ts", "--structures", "aorta", "--vessels", "ts", "-O", "out")
    succeed("lnq-pseudolabel", "labels", *options, cwd=folder)
    assert (load(folder / "out" / "case1.nii.gz") == 0).sum() == 24 - 1 + 3


def test_what_is_wrong_with_a_folder_is_told(folder):
    (folder / "ts" / "case2" / f"{LOBES[0]}.nii.gz").unlink()
    (folder / "ts" / "case3").mkdir()
    save(folder / "ct" / "case3.nii.gz", np.full(SHAPE, -50, np.int16), MATRIX)
    result = run("lnq-crop", "ct", "--lungs", "ts", "-q", "-O", "out", cwd=folder)
    assert (result.status, result.lines) == (1, ["out/case1.nii.gz"])
    assert result.err.splitlines() == [
        f"lnq-crop: ct/case2.nii.gz: ts/case2: is a folder without {LOBES[0]}, of the five lobes "
        "of the lungs",
        "lnq-crop: ct/case3.nii.gz: has no companion named case3 in --lungs ts, which has no image "
        "of its own; --case-pattern searches its folders",
    ]


def test_a_map_and_a_folder_of_one_case_are_ambiguous(folder):
    shutil.copy(folder / "ts" / "case1" / "aorta.nii.gz", folder / "ts" / "case1.nii.gz")
    result = run("lnq-crop", "ct/case1.nii.gz", "--lungs", "ts", "-O", "out", cwd=folder)
    assert result.err == (
        "lnq-crop: ct/case1.nii.gz: has more than one companion in --lungs ts: case1.nii.gz and "
        "case1\n"
    )


def test_other_companions_are_no_folders(folder):
    result = run("lnq-crop", "--label", "labels", "--like", "ts", "-O", "out", cwd=folder)
    assert result.status == 1
    assert "has no companion named case1 in --like ts, which has no image of its own" in result.err
