"""lnq-metrics --lesions, --by-diameter and --detection."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lnqtools.components.sizes import STRATA
from tests.cli.helpers import (
    TURNED,
    boxes,
    columns_of,
    numbers,
    rows_of,
    usage_error,
    where,
    write_pairs,
)
from tests.conftest import affine, run, succeed

SHAPE = (24, 24, 24)
SPACING = (1.0, 2.0, 3.0)  # x, y, z
MATRIX = affine(SPACING, (10, 20, 30))
DIAMETERS = [
    f"diameter_{metric}_mm"
    for metric in (
        *("ellipsoid", "ellipsoid_corrected", "recist", "recist_caliper", "inscribed"),
        *("feret_min", "sphere"),
    )
]
LONGEST = ["long_axis_mm", "long_axis_slice", "max_diameter_mm"]
CENTROID = ["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]
COUNTS = ["components_reference", "components_prediction", "tp", "fn", "fp", "partners_elsewhere"]
RATES = ["sensitivity", "precision", "f1", "pq", "sq", "rq"]
LOST = ["fn_volume_ml", "fp_volume_ml"]
NOTHING = np.zeros(SHAPE, np.uint8)


def mask(*parts) -> np.ndarray:
    return boxes(SHAPE, *parts)


CUBE = np.s_[2:4, 2:4, 2:4]
MISSED = np.s_[0, 0, 5:8]
INVENTED = np.s_[5, 6, 7]
LARGE = np.s_[10:16, 5:13, 5:17]
"""12 × 16 × 18 mm."""
MOST_OF_LARGE = np.s_[10:16, 5:13, 5:14]
"""9 mm wide; IoU 3/4 with it."""


@pytest.fixture
def pairs(tmp_path: Path):
    """Return a function that writes (prediction, reference) and returns the arguments."""
    return partial(write_pairs, tmp_path, MATRIX)


@pytest.fixture
def cohort(pairs) -> list:
    """Return the arguments for a case with lesions of all fates, an easy and an empty one."""
    return pairs(
        hard=(mask(np.s_[2:4, 2:4, 3:5], INVENTED, MOST_OF_LARGE), mask(CUBE, MISSED, LARGE)),
        easy=(mask(CUBE), mask(CUBE)),
        nothing=(NOTHING, NOTHING),
    )


# --lesions


def test_lesions_of_both_masks_with_what_the_other_covers(cohort, tmp_path):
    result = succeed("lnq-metrics", *cohort, "--lesions")
    assert columns_of(result.out) == [
        *("case", "side", "id", "voxels", "volume_mm3", *DIAMETERS, *LONGEST, *CENTROID),
        *("overlap_voxels", "overlap", "hit", "hit_iou_0.1", "hit_iou_0.5", "partner", "iou"),
    ]
    rows = rows_of(result.out)
    told = ("case", "side", "id", "voxels", "volume_mm3", "overlap_voxels", "overlap", "hit")
    told += ("hit_iou_0.1", "hit_iou_0.5", "partner", "iou")
    third = "0.3333333333"  # 4 of 12 voxels
    assert [" ".join(row[name] or "-" for name in told) for row in rows] == [
        "hard reference 1 3 18 0 0 0 0 0 - -",
        f"hard reference 2 8 48 4 0.5 1 1 0 1 {third}",
        "hard reference 3 576 3456 432 0.75 1 1 1 3 0.75",
        f"hard prediction 1 8 48 4 0.5 1 1 0 2 {third}",
        "hard prediction 2 1 6 0 0 0 0 0 - -",
        "hard prediction 3 432 2592 432 1 1 1 1 3 0.75",
        "easy reference 1 8 48 8 1 1 1 1 1 1",
        "easy prediction 1 8 48 8 1 1 1 1 1 1",
    ]
    source = tmp_path / "reference" / "hard.nii.gz"
    middles = [(0, 0, 6), (2.5, 2.5, 2.5), (12.5, 8.5, 10.5), (2.5, 2.5, 3.5), (5, 6, 7)]
    for row, middle in zip(rows, middles, strict=False):
        assert numbers(row, *CENTROID) == pytest.approx(where(source, middle))
    # The cube of 2 voxels measures 2 × 4 × 6 mm.
    assert numbers(rows[1], "diameter_feret_min_mm", "diameter_sphere_mm") == pytest.approx(
        [2, (6 * 48 / np.pi) ** (1 / 3)]
    )


def test_without_lesions_the_table_has_only_names(pairs):
    result = succeed("lnq-metrics", *pairs(nothing=(NOTHING, NOTHING)), "--lesions")
    assert columns_of(result.out)[:3] == ["case", "side", "id"]
    assert rows_of(result.out) == []


def test_connectivity_joins_lesions(pairs):
    touching = mask(CUBE, np.s_[4:6, 4:6, 4:6])
    arguments = [*pairs(case=(touching, touching)), "--lesions", "--connectivity"]
    for connectivity, sizes in ((6, ["8", "8"]), (18, ["8", "8"]), (26, ["16"])):
        rows = rows_of(succeed("lnq-metrics", *arguments, connectivity).out)
        assert [row["voxels"] for row in rows] == sizes * 2


def test_the_axial_slice_is_that_of_the_header(tmp_path):
    """Two axes of the array turned: a rod along its z lies in the plane, along the world's y."""
    rod = mask(np.s_[2:8, 2, 2])
    found = {}
    for name, matrix in (("upright", MATRIX), ("turned", TURNED)):
        arguments = write_pairs(tmp_path / name, matrix, **{name: (rod, rod)})
        rows = rows_of(succeed("lnq-metrics", *arguments, "--lesions").out)
        found[name] = float(rows[0]["diameter_recist_mm"])
    # one voxel of 1 × 2 mm: across its diagonal 4 / √5; the whole rod of 18 × 1.5 mm turned
    assert found["upright"] == pytest.approx(4 / 5**0.5)
    assert found["turned"] == pytest.approx(2 * 18 * 1.5 / np.hypot(18, 1.5), rel=1e-4)


# --by-diameter


def test_overlaps_by_diameter_over_all_cases(cohort):
    options = ["--by-diameter", 5, "--metric", "feret-min"]
    result = succeed("lnq-metrics", *cohort, *options)
    assert columns_of(result.out) == [
        *("side", "bin", "from_mm", "to_mm", "n", "mean", "q1", "median", "q3", "hits")
    ]
    lines = [" ".join(cell or "-" for cell in row.values()) for row in rows_of(result.out)]
    assert lines == [
        "reference 0-5mm 0 5 3 0.5 0.25 0.5 0.75 2",  # of 0, .5, 1
        "reference 5-10mm 5 10 0 - - - - 0",
        "reference 10-15mm 10 15 1 0.75 0.75 0.75 0.75 1",
        "reference degenerate - - 0 - - - - 0",
        "prediction 0-5mm 0 5 3 0.5 0.25 0.5 0.75 2",
        "prediction 5-10mm 5 10 1 1 1 1 1 1",
        "prediction 10-15mm 10 15 0 - - - - 0",
        "prediction degenerate - - 0 - - - - 0",
    ]


def test_components_without_thickness_are_counted_apart(cohort):
    """By the paper's diameter, which is the default; it gives a cube of 2 voxels √5 voxels."""
    rows = rows_of(succeed("lnq-metrics", *cohort, "--by-diameter", 2.5).out)
    counts = {
        side: {r["bin"]: r["n"] for r in rows if r["side"] == side}
        for side in ("reference", "prediction")
    }
    for by_bin in counts.values():
        assert by_bin.pop("degenerate") == "1"
        assert by_bin.pop("0-2.5mm") == "2"
        assert sum(map(int, by_bin.values())) == 1
    assert list(counts["reference"]) == list(counts["prediction"])


# --detection


def test_detection_per_case_and_size(cohort):
    result = succeed("lnq-metrics", *cohort, "--detection", "--metric", "feret-min")
    assert columns_of(result.out) == ["case", "stratum", *COUNTS, *RATES, *LOST]
    rows = rows_of(result.out)
    assert [(row["case"], row["stratum"]) for row in rows] == [
        (case, stratum) for case in ("hard", "easy", "nothing") for stratum in STRATA
    ]
    # IoU .75 and a half cube, 1/3: by IoU .5, one of three is found
    lines = [" ".join(cell or "-" for cell in list(row.values())[2:]) for row in rows]
    assert lines[:5] == [
        "3 3 1 2 2 1 0.3333333333 0.3333333333 0.3333333333 0.25 0.75 0.3333333333 0.066 0.054",
        "2 3 0 2 2 0 0 0 0 0 - 0 0.066 0.054",
        "1 0 1 0 0 1 1 1 1 0.75 0.75 1 0 0",
        "0 0 0 0 0 0 - - - - - - 0 0",
        "0 0 0 0 0 0 - - - - - - 0 0",
    ]
    assert lines[5] == "1 1 1 0 0 0 1 1 1 1 1 1 0 0"
    assert set(lines[10:]) == {"0 0 0 0 0 0 - - - - - - 0 0"}


@pytest.mark.parametrize(
    ("hit", "line"),
    [
        ("voxel", "3 3 2 1 1 1 0.6666666667 0.6666666667 0.6666666667 - - - 0.018 0.006"),
        ("0.1", "3 3 2 1 1 1 0.6666666667 0.6666666667 0.6666666667 0.3611111111 0.5416666667 "
         "0.6666666667 0.018 0.006"),
        ("0.75", "3 3 1 2 2 1 0.3333333333 0.3333333333 0.3333333333 0.25 0.75 0.3333333333 "
         "0.066 0.054"),
        ("0.76", "3 3 0 3 3 0 0 0 0 0 - 0 3.522 2.646"),
    ],
)  # fmt: skip
def test_what_makes_a_hit(cohort, hit, line):
    row = rows_of(succeed("lnq-metrics", *cohort, "--detection", "--hit", hit).out)[0]
    assert " ".join(cell or "-" for cell in list(row.values())[2:]) == line


def test_detection_over_all_cases(cohort):
    result = succeed("lnq-metrics", *cohort, "--detection", "--summary", "-j", 2)
    assert columns_of(result.out) == [
        *("stratum", "metric", "pooled", "mean", "sd", "median", "min", "max", "n", "n_undefined")
    ]
    rows = rows_of(result.out)
    names = [*COUNTS, *RATES, *LOST]
    assert [(r["stratum"], r["metric"]) for r in rows] == [(s, n) for s in STRATA for n in names]
    summary = {row["metric"]: list(row.values())[2:] for row in rows if row["stratum"] == "all"}
    assert summary["tp"][:2] == ["2", "0.6666666667"]
    # false positives per case: two in three cases
    assert summary["fp"] == ["2", "0.6666666667", "1.154700538", "0", "0", "2", "3", "0"]
    # 2 of 4 are found; over the two cases with a lesion, the mean of 1/3 and 1
    assert summary["sensitivity"][:2] == ["0.5", "0.6666666667"]
    assert summary["sensitivity"][-2:] == ["2", "1"]
    assert numbers(dict(enumerate(summary["pq"])), 0, 1) == pytest.approx([1.75 / 4, 0.625])
    assert summary["fn_volume_ml"][0] == "0.066"
    flat = {row["metric"]: row["pooled"] for row in rows if row["stratum"] == "degenerate"}
    assert [flat[name] for name in ("fn", "fp")] == ["1", "1"]


def test_a_failed_case_enters_no_summary(cohort, pairs, tmp_path):
    broken = tmp_path / "prediction" / "broken.nii.gz"
    broken.write_bytes(b"")
    for options in (["--detection", "--summary"], ["--by-diameter", 5], ["--detection"]):
        result = run("lnq-metrics", broken, *cohort, *options)
        assert result.status == 1
        assert result.out == succeed("lnq-metrics", *cohort, *options).out


# Refusals


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--lesions", "--summary"), "--lesions and --summary exclude each other"),
        (("--lesions", "--detection"), "--lesions and --detection exclude each other"),
        (("--by-diameter", 2, "--summary"), "--by-diameter and --summary exclude each other"),
        (("--by-diameter", 2, "--detection", "--summary"), "--by-diameter and --detection exclude"),
        (("--by-diameter", 0.009), "0.009 is not in the range x>=0.01"),
        (("--by-diameter", "inf"), "is not a finite number"),
        (("--hit", 0.5), "--hit is for --detection"),
        (("--lesions", "--hit", "voxel"), "--hit is for --detection"),
        (("--detection", "--hit", 0), "'0' is neither voxel nor a number above 0 to 1"),
        (("--detection", "--hit", 1.5), "is neither voxel nor a number"),
        (("--detection", "--hit", "nan"), "is neither voxel nor a number"),
        (("--detection", "--hit", "any"), "'any' is neither voxel nor a number"),
        (("--metric", "recist"), "--metric is for --by-diameter or --detection"),
        (("--lesions", "--metric", "recist"), "--metric is for --by-diameter or --detection"),
        (("--detection", "--metric", "short"), "'short' is not one of 'ellipsoid'"),
        (("--detection", "--edge", "open"), "--edge and --detection exclude each other"),
        (("--by-diameter", 2, "--tolerance", 1), "--tolerance and --by-diameter exclude each"),
        (("--detection", "--summary", "--empty", "worst"), "--empty and --detection exclude"),
        (("--preset", "medpy", "--detection"), "--preset and --detection exclude each other"),
        (("--preset", "medpy", "--by-diameter", 2), "--preset and --by-diameter exclude"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(options, sentence):
    arguments = ("prediction.nii.gz", "--reference", "reference", *options)
    assert sentence in usage_error("lnq-metrics", *arguments)
