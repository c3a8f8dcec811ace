"""lnq-filter-diameter: which components stay, and the table of them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import TURNED, boxes, columns_of, numbers, rows_of, usage_error, where
from tests.conftest import affine, load, matrix_of, run, save, succeed
from tests.corpus.nifti import nifti

DIAMETERS = {
    # Of a cube of 4 voxels of 1 mm, by hand. Its centers have a variance of 15/12 along an
    # axis, its volume one of 16/12; the diagonals of its slices cross at right angles.
    "ellipsoid": (20 * 15 / 12) ** 0.5,  # 5
    "ellipsoid-corrected": (20 * 16 / 12) ** 0.5,
    "recist": 32**0.5,
    "recist-caliper": 4.0,
    "inscribed": 4.0,
    "feret-min": 4.0,
    "sphere": (6 * 64 / np.pi) ** (1 / 3),
}
COLUMNS = [
    *("case", "id", "voxels", "volume_mm3"),
    *(f"diameter_{metric.replace('-', '_')}_mm" for metric in DIAMETERS),
    *("long_axis_mm", "long_axis_slice", "max_diameter_mm"),
    *("centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
    *("x_start", "x_stop", "y_start", "y_stop", "z_start", "z_stop"),
    "kept",
]


def masks(**parts: tuple[slice, ...]) -> dict[str, np.ndarray]:
    """Return a mask (24 × 24 × 24) of each part."""
    return {name: boxes((24, 24, 24), part) for name, part in parts.items()}


CUBES = masks(
    small=np.s_[1:3, 1:3, 1:3], middle=np.s_[6:10, 6:10, 6:10], large=np.s_[12:17, 12:17, 12:17]
)
"""Cubes of 2, 4 and 5 voxels."""


def one(parts: dict[str, np.ndarray], *names: str) -> np.ndarray:
    """Return the union of some parts, of all by default."""
    return np.any([parts[name] for name in names or parts], axis=0).astype(np.uint8)


def filtered(source: Path, *options) -> np.ndarray:
    """Return the mask that the tool makes."""
    out = source.with_name("out.nii")
    succeed("lnq-filter-diameter", source, *options, "-f", "-o", out)
    assert load(out).dtype == np.uint8
    return load(out)


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    return save(tmp_path / "cubes.nii.gz", one(CUBES))


# What stays


@pytest.mark.parametrize("metric", DIAMETERS)
def test_a_component_of_just_the_least_diameter_stays(cubes, metric):
    options = [] if metric == "ellipsoid" else ["--metric", metric]
    kept = filtered(cubes, *options, "--min", f"{DIAMETERS[metric]:.9f}")
    np.testing.assert_array_equal(kept, one(CUBES, "middle", "large"))


def test_spacings_of_single_precision_do_not_settle_a_tie(tmp_path):
    """Cubes of 4 voxels of 1.9 mm have 9.5 mm, in a header a little less."""
    source = save(tmp_path / "cubes.nii.gz", one(CUBES), affine((1.9, 1.9, 1.9)))
    for options in ((), ("--min", 1, "--min-volume", 64 * 1.9**3)):
        np.testing.assert_array_equal(filtered(source, *options), one(CUBES, "middle", "large"))
    np.testing.assert_array_equal(filtered(source, "--min", 9.501), CUBES["large"])


FLAT = masks(
    wide=np.s_[2, 2:14, 2:14],
    narrow=np.s_[6:16, 20, 20:22],  # in one plane too
    thick=np.s_[18:24, 2:10, 2:10],  # 6 voxels: an ellipsoid of 7.6 mm
)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ((), ("thick",)),
        (("--degenerate", "keep"), ("wide", "narrow", "thick")),
        (("--degenerate", "recist"), ("wide", "thick")),
        (("--degenerate", "keep", "--min-volume", 21), ("wide", "thick")),
        (("--degenerate", "recist", "--min-volume", 145), ("thick",)),
        (("--metric", "recist", "--degenerate", "drop"), ("wide", "thick")),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_components_too_flat_for_the_ellipsoid(options, kept, tmp_path):
    source = save(tmp_path / "flat.nii.gz", one(FLAT))
    np.testing.assert_array_equal(filtered(source, "--min", 6, *options), one(FLAT, *kept))


def test_with_no_least_diameter_the_volume_alone_counts(tmp_path):
    source = save(tmp_path / "flat.nii.gz", one(FLAT))
    np.testing.assert_array_equal(filtered(source, "--min", 0), one(FLAT))
    by_volume = filtered(source, "--min", 0, "--min-volume", 144)
    np.testing.assert_array_equal(by_volume, one(FLAT, "wide", "thick"))


@pytest.mark.parametrize(("connectivity", "kept"), [("6", 0), ("18", 2), ("26", 4)])
def test_connectivity_says_what_is_one_component(connectivity, kept, tmp_path):
    """Two cubes that meet in an edge, two that meet in a corner: too small one by one."""
    parts = masks(
        edge=np.s_[1:4, 1:4, 1:4],
        at_edge=np.s_[1:4, 4:7, 4:7],
        corner=np.s_[12:15, 12:15, 12:15],
        at_corner=np.s_[15:18, 15:18, 15:18],
    )
    source = save(tmp_path / "touching.nii.gz", one(parts))
    options = ["--min", 1, "--min-volume", 54, "--connectivity", connectivity]
    expected = one(parts, *list(parts)[:kept]) if kept else np.zeros_like(parts["edge"])
    np.testing.assert_array_equal(filtered(source, *options), expected)


def test_numbered_nodes_that_touch_are_one_component(tmp_path):
    instances = CUBES["middle"] * 3
    instances[10:14, 6:10, 6:10] = 7
    source = save(tmp_path / "instances.nii.gz", instances)
    kept = filtered(source, "--min", 0, "--min-volume", 128)
    np.testing.assert_array_equal(kept, (instances != 0).astype(np.uint8))
    (row,) = rows_of(succeed("lnq-filter-diameter", source, "--list").out)
    assert row["voxels"] == "128"


# The table


def test_the_list_tells_everything_of_each_component(cubes):
    result = succeed("lnq-filter-diameter", cubes, "--list", "--min", 5.1)
    assert columns_of(result.out) == COLUMNS
    rows = rows_of(result.out)
    assert [row["voxels"] for row in rows] == ["8", "64", "125"]
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["kept"] for row in rows] == ["0", "0", "1"]
    assert {row["case"] for row in rows} == {"cubes"}
    middle = numbers(rows[1], "volume_mm3", *COLUMNS[4:11])
    assert middle == pytest.approx([64, *DIAMETERS.values()], rel=1e-9)
    assert rows[2]["diameter_inscribed_mm"] == "6"


def test_place_and_size_are_in_mm_of_the_world(tmp_path):
    part = masks(only=np.s_[2:6, 10:13, 1:3])["only"]
    sources = [
        save(tmp_path / "lps.nii.gz", part, affine((0.5, 2, 3), (100, -50, 7))),
        save(tmp_path / "turned.nii.gz", part, TURNED),
    ]
    lps, turned = rows_of(succeed("lnq-filter-diameter", *sources, "--list").out)
    assert [lps["case"], turned["case"]] == ["lps", "turned"]
    assert numbers(lps, "voxels", "volume_mm3") == [24, 72]
    # The middle voxel is 3.5, 11, 1.5 (z, y, x).
    assert numbers(lps, *COLUMNS[14:17]) == [100 - 1.5 * 0.5, -50 - 11 * 2, 7 + 3.5 * 3]
    assert numbers(lps, *COLUMNS[17:23]) == [1, 3, 10, 13, 2, 6]
    assert numbers(turned, *COLUMNS[14:17]) == pytest.approx(where(sources[1], (3.5, 11, 1.5)))
    assert numbers(turned, *COLUMNS[17:23]) == [1, 3, 10, 13, 2, 6]


def test_axial_slices_are_those_of_the_patient(tmp_path):
    """The array's last axis may run from feet to head; RECIST does not look at it."""
    part = masks(only=np.s_[2:6, 2:6, 2:22])["only"]
    along_x = save(tmp_path / "along_x.nii.gz", part)
    matrix = affine()[:, [2, 1, 0, 3]]  # the array's x is the world's z
    along_z = save(tmp_path / "along_z.nii.gz", part, matrix)
    rows = rows_of(succeed("lnq-filter-diameter", along_x, along_z, "--list").out)
    caliper = [float(row["diameter_recist_caliper_mm"]) for row in rows]
    recist = [float(row["diameter_recist_mm"]) for row in rows]
    assert caliper == pytest.approx([4, 4])
    # Perpendicular to the diagonal of 20 × 4 and of 4 × 4 voxels.
    assert recist == pytest.approx([2 * 20 * 4 / 416**0.5, 32**0.5])


def test_the_longest_diameters_are_measured_from_corner_to_corner(tmp_path):
    """Of 3 × 4 mm in its slice, and 2 slices of 6 mm; then a single voxel."""
    part = masks(only=np.s_[5:7, 4:6, 3:9])["only"]
    part[20, 20, 20] = 1
    source = save(tmp_path / "a.nii.gz", part, affine((0.5, 2, 6)))
    first, voxel = rows_of(succeed("lnq-filter-diameter", source, "--list").out)
    longest = ("long_axis_mm", "long_axis_slice", "max_diameter_mm")
    assert numbers(first, *longest) == pytest.approx([5, 5, 13])
    assert numbers(voxel, *longest) == pytest.approx([4.25**0.5, 20, (0.25 + 4 + 36) ** 0.5])
    # its perpendicular: the other two corners of 3 × 4 are 12 / 5 off the diagonal, each
    assert numbers(first, "diameter_recist_mm") == pytest.approx([24 / 5])


def test_slices_are_counted_as_the_file_stores_them(tmp_path):
    part = masks(only=np.s_[2:6, 2:6, 2:22])["only"]
    part[3, 3, 22] = 1
    downward = save(tmp_path / "down.nii.gz", part, affine() @ np.diag([1, 1, -1, 1]))
    along_x = save(tmp_path / "x.nii.gz", part, affine()[:, [2, 1, 0, 3]])
    unknown = tmp_path / "unknown.nii.gz"
    unknown.write_bytes(nifti(part, affine(), codes=(0, 0)))
    rows = rows_of(succeed("lnq-filter-diameter", downward, along_x, unknown, "--list").out)
    assert [row["long_axis_slice"] for row in rows] == ["3", "2", ""]
    assert [row["long_axis_mm"] for row in rows][2] == ""
    assert [float(row["max_diameter_mm"]) for row in rows] == pytest.approx([459**0.5] * 3)


def test_masks_and_table_in_one_run(cubes, tmp_path):
    table = tmp_path / "table.csv"
    options = ["--min", 5.1, "--table", table, "--format", "csv"]
    result = succeed("lnq-filter-diameter", cubes, *options, "-O", tmp_path / "out")
    assert result.lines == [str(tmp_path / "out" / "cubes.nii.gz")]
    rows = rows_of(table.read_text(), "csv")
    assert [list(row) for row in rows] == [COLUMNS] * 3
    assert [row["kept"] for row in rows] == ["0", "0", "1"]
    np.testing.assert_array_equal(load(tmp_path / "out" / "cubes.nii.gz"), CUBES["large"])
    np.testing.assert_allclose(matrix_of(tmp_path / "out" / "cubes.nii.gz"), affine())


def test_an_empty_mask_stays_empty_and_its_table_has_only_names(tmp_path):
    source = save(tmp_path / "empty.nii.gz", np.zeros((5, 6, 7), np.uint8))
    table = tmp_path / "table.tsv"
    assert not filtered(source, "--table", table).any()
    assert table.read_text() == "\t".join(COLUMNS) + "\n"
    assert succeed("lnq-filter-diameter", source, "--list").out == table.read_text()


# Refusals


def test_a_training_label_with_unknown_voxels_is_refused(cubes, tmp_path):
    unknown, known = tmp_path / "unknown.nii.gz", tmp_path / "known.nii.gz"
    succeed("lnq-weaklabel", cubes, "--strategy", "coat", "-o", unknown)
    succeed("lnq-weaklabel", cubes, "--strategy", "noisy", "-o", known)
    result = run("lnq-filter-diameter", unknown, known, "--list", "--format", "jsonl")
    assert result.status == 1
    assert f"{unknown}: is a training label with unknown voxels" in result.err
    assert [row["case"] for row in rows_of(result.out, "jsonl")] == ["known"] * 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--list", "-o", "out.nii"), "--list and -o exclude each other"),
        (("--list", "-O", "out"), "--list and -O exclude each other"),
        (("--list", "--table", "table.tsv"), "--list and --table exclude each other"),
        (("--table", "-", "-o", "-"), "cannot both go to standard output"),
        (("--min", -1, "-o", "out.nii"), "-1.0 is not in the range x>=0"),
        (("--min", "nan", "-o", "out.nii"), "'nan' is not a finite number"),
        (("--metric", "widest", "-o", "out.nii"), "'widest' is not one of 'ellipsoid'"),
        (("--connectivity", 8, "-o", "out.nii"), "'8' is not one of '6', '18', '26'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(options, sentence):
    assert sentence in usage_error("lnq-filter-diameter", "mask.nii.gz", *options)
