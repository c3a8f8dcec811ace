"""HU, side of the midline and distance to the carina in tables of components."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lnqtools.anatomy.maps import LOBES, class_names
from tests.cli.helpers import boxes, columns_of, rows_of, usage_error, with_names
from tests.conftest import affine, run, save, succeed

SHAPE = (12, 10, 21)
MATRIX = affine((3.0, 4.0, 5.0), (30.0, 20.0, -10.0))
"""x = 30 - 3 k: column 10, the middle between the lungs, is at 0."""
LEFT, RIGHT = np.s_[6:8, 4:6, 14:16], np.s_[2, 2, 5]
HU = ["hu_mean", "hu_sd"]
SIDE = ["midline_side", "midline_mm"]
V2 = {name: number for number, name in class_names("v2").items()}
TOOLS = pytest.mark.parametrize(
    "tool",
    [
        ["lnq-filter-diameter", "mask", "--list"],
        ["lnq-metrics", "mask", "--reference", "truth", "--lesions"],
    ],
    ids=["list", "lesions"],
)


def anatomy() -> np.ndarray:
    """Return a map of five lobes with columns 9 to 11 between them, and an airway."""
    found = np.zeros(SHAPE, np.uint8)
    for name, part in zip(
        LOBES,
        [
            *(np.s_[5:10, 2:8, 12:20], np.s_[2:5, 2:8, 12:20]),
            *(np.s_[7:10, 2:8, 1:9], np.s_[5:7, 2:8, 1:9], np.s_[2:5, 2:8, 1:9]),
        ],
        strict=True,
    ):
        found[part] = V2[name]
    found[6:, 4:6, 9:12] = found[3:6, 4:6, 7:9] = found[3:6, 4:6, 12:14] = V2["trachea"]
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with mask, truth, ct, anatomy and lungs of one case."""
    mask = boxes(SHAPE, LEFT, RIGHT)
    ct = np.full(SHAPE, -50, np.int16)
    ct[LEFT] = np.array([30, 50]).repeat(4).reshape(2, 2, 2)
    ct[RIGHT] = 7
    images = {
        "mask": mask,
        "truth": mask,
        "ct": ct,
        "lungs": np.isin(anatomy(), [10, 11, 12, 13, 14]),
    }
    for name, array in images.items():
        save(tmp_path / name / "a.nii.gz", array.astype(np.int16), MATRIX)
    with_names(save(tmp_path / "anatomy" / "a.nii.gz", anatomy(), MATRIX), class_names("v2"))
    return tmp_path


def two_rows(folder: Path, tool: list[str], *options: str) -> tuple[list[str], list[dict]]:
    """Return the columns, and the rows of the two components in the mask (not of the truth)."""
    result = succeed(*tool, *options, cwd=folder)
    assert result.err == ""
    rows = rows_of(result.out)
    return columns_of(result.out), [row for row in rows if row.get("side") != "reference"]


@TOOLS
def test_mean_and_deviation_of_hu(folder, tool):
    plain, _ = two_rows(folder, tool)
    columns, (right, left) = two_rows(folder, tool, "--ct", "ct", "--trust-hu")
    assert columns == [*plain, *HU]
    assert [float(left[name]) for name in HU] == pytest.approx([40, (800 / 7) ** 0.5])
    assert (right["hu_mean"], right["hu_sd"]) == ("7", "")


@TOOLS
def test_the_side_of_the_midline_by_lungs(folder, tool):
    plain, _ = two_rows(folder, tool)
    for place in ("lungs", "anatomy", "lungs/a.nii.gz"):
        columns, (right, left) = two_rows(folder, tool, "--lungs", place)
        assert columns == [*plain, *SIDE]
        assert [right["midline_side"], left["midline_side"]] == ["right", "left"]
        assert [float(row["midline_mm"]) for row in (right, left)] == pytest.approx([-15, 13.5])


@TOOLS
def test_the_distance_to_the_carina_by_a_map(folder, tool):
    """The carina is half way between columns 8 and 12 of slice 5: at 0, 2, 15."""
    plain, _ = two_rows(folder, tool)
    columns, rows = two_rows(folder, tool, "--anatomy", "anatomy", "--ct", "ct", "--trust-hu")
    assert columns == [*plain, *HU, *SIDE, "carina_mm"]
    centroids = [[float(row[f"centroid_{axis}_mm"]) for axis in "xyz"] for row in rows]
    assert [float(row["carina_mm"]) for row in rows] == pytest.approx(
        [np.linalg.norm(np.subtract(centroid, (0, 2, 15))) for centroid in centroids]
    )


@TOOLS
def test_a_map_of_the_whole_ct_fits_a_cropped_mask(folder, tool):
    expected = two_rows(folder, tool, "--anatomy", "anatomy", "--ct", "ct", "--trust-hu")[1]
    part = np.s_[1:10, 1:8, 3:18]
    matrix = affine((3.0, 4.0, 5.0), (30.0 - 9, 20.0 - 4, -10.0 + 5))
    for name in ("mask", "truth"):
        save(folder / name / "a.nii.gz", boxes(SHAPE, LEFT, RIGHT)[part], matrix)
    rows = two_rows(folder, tool, "--anatomy", "anatomy", "--ct", "ct", "--trust-hu")[1]
    for name in (*HU, *SIDE, "carina_mm"):
        assert [row[name] for row in rows] == [row[name] for row in expected]


def test_totalsegmentators_own_folder_is_a_map(folder):
    tool = ["lnq-filter-diameter", "mask", "--list"]
    expected = two_rows(folder, tool, "--anatomy", "anatomy")
    for name in (*LOBES, "trachea"):
        save(folder / "ts" / "a" / f"{name}.nii.gz", (anatomy() == V2[name]).astype("u1"), MATRIX)
    (folder / "ts" / "a" / "aorta.nii.gz").write_bytes(b"not read")
    assert two_rows(folder, tool, "--anatomy", "ts") == expected
    assert two_rows(folder, tool, "--lungs", "ts") == two_rows(folder, tool, "--lungs", "lungs")


@TOOLS
def test_what_a_case_lacks_is_empty_with_a_warning(folder, tool):
    one = anatomy()
    one[:, :, 9:] = 0  # one lung, and one bronchus
    with_names(save(folder / "anatomy" / "a.nii.gz", one, MATRIX), class_names("v2"))
    result = succeed(*tool, "--anatomy", "anatomy", cwd=folder)
    assert result.err.splitlines() == [
        f"{tool[0]}: mask/a.nii.gz: warning: --anatomy anatomy: {why}"
        for why in (
            "does not show two lungs: no midline",
            "its trachea does not part into two bronchi: no carina",
        )
    ]
    for row in rows_of(result.out):
        assert [row[name] for name in (*SIDE, "carina_mm")] == ["", "", ""]


@TOOLS
def test_an_empty_mask_has_the_same_columns(folder, tool):
    columns, _ = two_rows(folder, tool, "--anatomy", "anatomy", "--ct", "ct", "--trust-hu")
    for name in ("mask", "truth"):
        save(folder / name / "a.nii.gz", np.zeros(SHAPE, np.uint8), MATRIX)
    result = succeed(*tool, "--anatomy", "anatomy", "--ct", "ct", "--trust-hu", cwd=folder)
    assert (columns_of(result.out), rows_of(result.out)) == (columns, [])


@TOOLS
def test_a_missing_or_misplaced_image_fails_the_case(folder, tool):
    (folder / "none").mkdir()
    for option, place in (("--ct", "none"), ("--lungs", "none"), ("--anatomy", "none")):
        result = run(*tool, option, place, cwd=folder)
        assert result.status == 1
        assert f"has no companion named a in {option} none" in result.err
    shifted = affine((3.0, 4.0, 5.0), (32.0, 20.0, -10.0))
    save(folder / "ct" / "a.nii.gz", np.zeros(SHAPE, np.int16), shifted)
    assert (
        "ct/a.nii.gz: does not cover the image"
        in run(*tool, "--ct", "ct", "--trust-hu", cwd=folder).err
    )
    shutil.copy(folder / "lungs" / "a.nii.gz", folder / "anatomy" / "a.nii.gz")
    result = run(*tool, "--anatomy", "anatomy", cwd=folder)
    assert "does not name its structures" in result.err
    assert "say --classes v1 or v2" in result.err


def test_a_ct_that_is_not_in_hu_is_refused(folder):
    rng = np.random.default_rng(0)
    shape = (32, 32, 32)
    save(folder / "mask" / "a.nii.gz", boxes(shape, np.s_[2:4, 2:4, 2:4]), MATRIX)
    save(folder / "ct" / "a.nii.gz", rng.random(shape).astype(np.float32), MATRIX)
    result = run("lnq-filter-diameter", "mask", "--list", "--ct", "ct", cwd=folder)
    assert result.status == 1
    assert "a scaled or normalized CT, or a label; give the CT in HU, or --trust-hu" in result.err


def test_tables_beside_masks_have_the_columns_too(folder):
    table = ("--table", "t.tsv", "--min", "0", "--anatomy", "anatomy", "-O", "out")
    made = succeed("lnq-filter-diameter", "mask", *table, cwd=folder)
    assert made.lines == ["out/a.nii.gz"]
    first = (folder / "t.tsv").read_text()
    assert columns_of(first)[-3:] == [*SIDE, "carina_mm"]
    succeed("lnq-filter-diameter", "mask", *table, "-s", cwd=folder)
    assert (folder / "t.tsv").read_text() == first
    more = (*table[:-4], "--lungs", "lungs", "-O", "out", "-s")
    succeed("lnq-filter-diameter", "mask", *more, cwd=folder)  # it leaves the images as they are
    assert columns_of((folder / "t.tsv").read_text())[-2:] == SIDE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ct", "x", "-O", "o"], "--ct is for --list or --table"),
        (["--list", "--trust-hu"], "--trust-hu is for --ct"),
        (["--list", "--classes", "v2"], "--classes is for --lungs or --anatomy"),
        (["--list", "--lungs", "x", "--anatomy", "y"], "--anatomy and --lungs exclude each other"),
    ],
)
def test_options_that_would_change_nothing(options, said):
    assert said in usage_error("lnq-filter-diameter", "a.nii", *options)
    if "--list" not in options:
        reference = ("--reference", "r", *options[:2])
        assert "--ct is for --lesions" in usage_error("lnq-metrics", "a.nii", *reference)
