"""lnq-metrics: the tables of agreement."""

from __future__ import annotations

import gzip
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label
from scipy.spatial.distance import cdist

from lnqtools.metrics.masks import PRESETS
from tests.cli.helpers import (
    QUIETLY_BY_SIGPIPE,
    boxes,
    columns_of,
    end_without_reader,
    numbers,
    rows_of,
    usage_error,
    write_pairs,
)
from tests.conftest import affine, run, save, shell, succeed

SHAPE = (6, 7, 8)
SPACING = (1.0, 2.0, 3.0)  # x, y, z
MATRIX = affine(SPACING, (10, 20, 30))
OVERLAP = ("dice", "iou", "precision", "recall")
DISTANCES = ("assd_mm", "masd_mm", "hd_mm", "hd95_mm", "hd95_pooled_mm")
VOLUMES = ("volume_prediction_ml", "volume_reference_ml", "volume_error_ml")
COUNTS = ("components_prediction", "components_reference")
SURFACES = (*DISTANCES, "nsd_1mm", "nsd_2mm")
COLUMNS = ["case", "status", *OVERLAP, *SURFACES, *VOLUMES, *COUNTS, "edge"]


def mask(*parts) -> np.ndarray:
    return boxes(SHAPE, *parts)


CUBE = np.s_[2:4, 2:4, 2:4]
BESIDE = np.s_[2:4, 2:4, 3:5]
"""A voxel further along x."""


@pytest.fixture
def folders(tmp_path: Path):
    """Return a function that writes pairs of masks and returns the tool's arguments."""
    return partial(write_pairs, tmp_path, MATRIX)


def brute_force(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compute every column anew, by all distances between all border voxels."""
    predicted, true = prediction != 0, reference != 0
    p, r, both = predicted.sum(), true.sum(), (predicted & true).sum()
    spacing = SPACING[::-1]

    def border(of: np.ndarray) -> np.ndarray:
        return np.argwhere(of & ~binary_erosion(of)) * spacing

    apart = cdist(border(predicted), border(true))
    there, back = apart.min(axis=1), apart.min(axis=0)
    pooled = np.concatenate([there, back])
    ml = np.prod(spacing) / 1000
    return {
        "dice": 2 * both / (p + r),
        "iou": both / (p + r - both),
        "precision": both / p,
        "recall": both / r,
        "assd_mm": pooled.mean(),
        "masd_mm": (there.mean() + back.mean()) / 2,
        "hd_mm": pooled.max(),
        "hd95_mm": max(np.percentile(there, 95), np.percentile(back, 95)),
        "hd95_pooled_mm": np.percentile(pooled, 95),
        "nsd_1mm": (pooled <= 1).mean(),
        "nsd_2mm": (pooled <= 2).mean(),
        "volume_prediction_ml": p * ml,
        "volume_reference_ml": r * ml,
        "volume_error_ml": (p - r) * ml,
        "components_prediction": label(predicted)[1],
        "components_reference": label(true)[1],
    }


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask, and a smaller one that shares a part of it."""
    rng = np.random.default_rng(seed)
    reference = rng.random(SHAPE) < 0.3
    return (reference & (rng.random(SHAPE) < 0.6)).astype(np.uint8), reference.astype(np.uint8)


# One row per case


def test_cubes_a_voxel_apart_by_hand(folders):
    arguments = folders(case=(mask(BESIDE), mask(CUBE)))
    result = succeed("lnq-metrics", *arguments)
    assert columns_of(result.out) == COLUMNS
    (row,) = rows_of(result.out)
    assert [row["case"], row["status"]] == ["case", "ok"]
    assert numbers(row, *OVERLAP) == pytest.approx([1 / 2, 1 / 3, 1 / 2, 1 / 2])
    # Half of each surface lies on the other, half of it 1 mm away.
    assert numbers(row, *DISTANCES) == pytest.approx([0.5, 0.5, 1, 1, 1])
    assert numbers(row, "nsd_1mm", "nsd_2mm") == [1, 1]
    assert numbers(row, *VOLUMES, *COUNTS) == pytest.approx([0.048, 0.048, 0, 1, 1])


def test_every_column_as_computed_the_long_way(folders):
    pairs = {f"case{seed}": random_masks(seed) for seed in range(3)}
    result = succeed("lnq-metrics", *folders(**pairs))
    rows = rows_of(result.out)
    assert [row["case"] for row in rows] == list(pairs)
    for row, pair in zip(rows, pairs.values(), strict=True):
        expected = brute_force(*pair)
        assert numbers(row, *expected) == pytest.approx(list(expected.values()), rel=1e-6)
        assert list(expected) == COLUMNS[2:-1]


def test_empty_masks_have_a_status_and_no_distances(folders):
    some, none = mask(CUBE), mask()
    arguments = folders(missed=(none, some), invented=(some, none), nothing=(none, none))
    missed, invented, nothing = rows_of(succeed("lnq-metrics", *arguments).out)
    blank = dict.fromkeys((*DISTANCES, "nsd_1mm", "nsd_2mm"), "")
    assert missed == {
        **{"case": "missed", "status": "empty_prediction"},
        **{"dice": "0", "iou": "0", "precision": "", "recall": "0", **blank},
        **dict(zip(VOLUMES, ("0", "0.048", "-0.048"), strict=True)),
        **dict(zip(COUNTS, ("0", "1"), strict=True)),
        "edge": "surface",
    }
    assert [invented[name] for name in ("status", *OVERLAP)] == [
        "empty_reference",
        "0",
        "0",
        "0",
        "",
    ]
    assert [nothing[name] for name in ("status", *OVERLAP)] == ["both_empty", "", "", "", ""]
    assert {name: nothing[name] for name in blank} == blank


def test_any_value_but_0_is_foreground(folders):
    arguments = folders(case=(mask(CUBE) * 2, mask(CUBE) * 7))
    (row,) = rows_of(succeed("lnq-metrics", *arguments).out)
    assert row["dice"] == "1"


def test_each_tolerance_is_a_column_and_a_tie_is_within(folders):
    above = np.s_[3:5, 2:4, 2:4]  # a slice of 3 mm further
    arguments = folders(case=(mask(above), mask(CUBE)))
    options = ["--tolerance", 3, "--tolerance", 2.99, "--tolerance", 0]
    (row,) = rows_of(succeed("lnq-metrics", *arguments, *options).out)
    assert [name for name in row if name.startswith("nsd")] == ["nsd_3mm", "nsd_2.99mm", "nsd_0mm"]
    assert numbers(row, "nsd_3mm", "nsd_2.99mm", "nsd_0mm") == [1, 0.5, 0.5]


def test_an_open_edge_is_no_surface(folders):
    """Slabs that end at the image's edge face each other with one side only."""
    arguments = folders(case=(mask(np.s_[:2]), mask(np.s_[:3])))
    (closed,) = rows_of(succeed("lnq-metrics", *arguments).out)
    (open_,) = rows_of(succeed("lnq-metrics", *arguments, "--edge", "open").out)
    assert numbers(open_, *DISTANCES) == [3, 3, 3, 3, 3]
    assert float(closed["assd_mm"]) < 2
    assert closed["dice"] == open_["dice"] == "0.8"


def test_connectivity_counts_components(folders):
    at_the_corner = mask(CUBE, np.s_[4:6, 4:6, 4:6])
    arguments = folders(case=(at_the_corner, mask(CUBE)))
    for connectivity, count in ((6, "2"), (26, "1")):
        (row,) = rows_of(succeed("lnq-metrics", *arguments, "--connectivity", connectivity).out)
        assert [row[name] for name in COUNTS] == [count, "1"]


# The summary


def test_the_summary_leaves_undefined_values_out_and_counts_them(folders):
    pairs = {f"case{seed}": random_masks(seed) for seed in range(3)} | {
        "missed": (mask(), mask(CUBE)),
        "nothing": (mask(), mask()),
    }
    arguments = folders(**pairs)
    rows = rows_of(succeed("lnq-metrics", *arguments, "--format", "jsonl").out, "jsonl")
    result = succeed("lnq-metrics", *arguments, "--summary")
    assert columns_of(result.out) == [
        *("metric", "mean", "sd", "median", "min", "max", "n", "n_undefined"),
        *("n_filled", "fill", "mean_dropped", "mean_filled"),
    ]
    summary = {row.pop("metric"): row for row in rows_of(result.out)}
    assert list(summary) == COLUMNS[2:-1]
    for name, line in summary.items():
        values = [row[name] for row in rows if row[name] is not None]
        expected = [
            *(np.mean(values), np.std(values, ddof=1), np.median(values), min(values), max(values)),
            *(len(values), 5 - len(values)),
        ]
        assert numbers(line, *list(line)[:7]) == pytest.approx(expected, rel=1e-8), name
        # Where both masks are empty nothing is filled in; the other empty one gets the worst.
        fills = [max(values) if name in DISTANCES else 0] * (len(values) == 3)
        assert int(line["n_filled"]) == len(fills)
        assert line["fill"] == (f"{fills[0]:.10g}" if fills else "")
        assert numbers(line, "mean_dropped", "mean_filled") == pytest.approx(
            [np.mean(values), np.mean(values + fills)], rel=1e-8
        )
    assert [summary[name]["n_undefined"] for name in ("dice", "hd95_mm", VOLUMES[0])] == list("120")


def test_a_summary_of_one_case_has_no_spread(folders):
    arguments = folders(case=(mask(CUBE), mask()))
    lines = rows_of(succeed("lnq-metrics", *arguments, "--summary", "--format", "csv").out, "csv")
    summary = {line.pop("metric"): list(line.values()) for line in lines}
    assert summary["dice"] == ["0", "", "0", "0", "0", "1", "0", "0", "", "0", "0"]
    assert summary["assd_mm"] == ["", "", "", "", "", "0", "1", "0", "", "", ""]


# Two voxels 3 mm apart along z; an image of 8 × 14 × 18 mm.
APART = (mask((3, 2, 2)), mask((2, 2, 2)))


@pytest.mark.parametrize(
    ("empty", "used", "fill"),
    [
        (None, [3], 3),
        ("drop", [3], 3),
        ("worst", [3, 3, 3], 3),
        ("diagonal", [3, 584**0.5, 584**0.5], 584**0.5),
        (115.27, [3, 115.27, 115.27], 115.27),
    ],
)
def test_what_stands_for_undefined_distances_in_the_summary(folders, empty, used, fill):
    arguments = folders(
        apart=APART, missed=(mask(), APART[1]), invented=(APART[0], mask()), none=(mask(), mask())
    )
    options = [] if empty is None else ["--empty", empty]
    result = succeed("lnq-metrics", *arguments, "--summary", *options)
    summary = {row["metric"]: row for row in rows_of(result.out)}
    assert "diagonal_mm" not in summary
    for name in DISTANCES:
        line = summary[name]
        assert numbers(line, "mean", "max", "fill", "mean_dropped", "mean_filled") == pytest.approx(
            [np.mean(used), max(used), fill, 3, (3 + 2 * fill) / 3], rel=1e-6
        )
        assert numbers(line, "n", "n_undefined", "n_filled") == [1, 3, 2]


# Presets


def test_presets_name_what_others_compute(folders):
    pair = (mask(CUBE, np.s_[:2, :3, :2]), mask(BESIDE, np.s_[:2, :2, :1], np.s_[5, 6, 7]))
    arguments = folders(case=pair, missed=(mask(), mask(CUBE)))
    (ours, _) = rows_of(succeed("lnq-metrics", *arguments).out)
    (opened, _) = rows_of(succeed("lnq-metrics", *arguments, "--edge", "open").out)
    expected = {
        "lnq2023": {"dice": opened["dice"], "assd_mm": opened["masd_mm"]},
        "medpy": {
            **{name: ours[name] for name in (*OVERLAP, "hd_mm")},
            "hd95_mm": ours["hd95_pooled_mm"],
            "assd_mm": ours["assd_mm"],
        },
        "monai": {
            **{name: ours[name] for name in ("dice", "iou", "hd_mm", "hd95_mm", "assd_mm")},
            **{name: ours[name] for name in ("nsd_1mm", "nsd_2mm")},
        },
    }
    assert ours["hd95_mm"] != ours["hd95_pooled_mm"]
    assert opened["masd_mm"] != ours["assd_mm"]
    assert list(expected) == list(PRESETS)
    for preset, columns in expected.items():
        case, missed = rows_of(succeed("lnq-metrics", *arguments, "--preset", preset).out)
        assert list(case)[:3] == ["case", "preset", "status"]
        assert [row.pop("preset") for row in (case, missed)] == [preset] * 2
        directed = case.pop("asd_mm", None)  # in no other table
        assert (directed is None) == (preset == "lnq2023")
        assert case == {"case": "case", "status": "ok", **columns}
        assert [missed[name] for name in ("status", "dice", "assd_mm")] == [
            *("empty_prediction", "0", "")
        ]


def test_a_preset_takes_tolerances_and_a_summary(folders):
    arguments = folders(apart=APART, missed=(mask(), APART[1]))
    options = ["--preset", "monai", "--tolerance", 3, "--tolerance", 2.5]
    (row, _) = rows_of(succeed("lnq-metrics", *arguments, *options).out)
    assert [(name, row[name]) for name in row if "nsd" in name] == [
        *(("nsd_3mm", "1"), ("nsd_2.5mm", "0"))
    ]
    options = ["--preset", "lnq2023", "--summary", "--empty", "115.27"]
    dice, assd = rows_of(succeed("lnq-metrics", *arguments, *options).out)
    assert (dice["metric"], dice["mean"], dice["n_undefined"]) == ("dice", "0", "0")
    assert (assd["metric"], assd["n"], assd["mean_dropped"]) == ("assd_mm", "1", "3")
    assert float(assd["mean"]) == float(assd["mean_filled"]) == pytest.approx((3 + 115.27) / 2)


def test_the_prediction_on_standard_input_is_not_its_reference_either(tmp_path):
    save(tmp_path / "a.nii.gz", mask(CUBE))
    for place in ("a.nii.gz", "."):
        done = shell(f"lnq-metrics - --reference {place} <a.nii.gz", tmp_path)
        assert (done.status, done.out) == (1, "")
    assert shell("lnq-metrics - --reference a.nii.gz <a.nii.gz", tmp_path).err == (
        "lnq-metrics: -: --reference a.nii.gz is the input itself: a companion is another image\n"
    )


# Files


def test_the_table_in_a_file_is_replaced_by_force_only(folders, tmp_path):
    arguments = folders(case=(mask(CUBE), mask(CUBE)))
    table = tmp_path / "table.csv"
    table.write_text("precious")
    result = run("lnq-metrics", *arguments, "-o", table)
    assert result.status == 2
    assert f"{table} exists; -f replaces it" in result.err
    assert table.read_text() == "precious"
    assert succeed("lnq-metrics", *arguments, "-o", table, "-f").out == ""
    (row,) = rows_of(table.read_text(), "csv")
    assert list(row) == COLUMNS
    assert row["dice"] == "1"


def test_json_lines_hold_numbers_and_null(folders):
    arguments = folders(case=(mask(BESIDE), mask(CUBE)), missed=(mask(), mask(CUBE)))
    case, missed = rows_of(succeed("lnq-metrics", *arguments, "--format", "jsonl").out, "jsonl")
    assert list(case) == COLUMNS
    assert [case["dice"], missed["dice"], missed["assd_mm"]] == [0.5, 0, None]
    assert case["components_reference"] == 1


def test_one_reference_may_serve_all(folders, tmp_path):
    folders(first=(mask(CUBE), mask(CUBE)), second=(mask(BESIDE), None))
    predictions = sorted((tmp_path / "prediction").iterdir())
    reference = tmp_path / "reference" / "first.nii.gz"
    result = succeed("lnq-metrics", *predictions, "--reference", reference)
    assert [row["dice"] for row in rows_of(result.out)] == ["1", "0.5"]
    assert result.err == ""


def test_what_has_no_partner_is_told(folders, tmp_path):
    arguments = folders(
        both=(mask(CUBE), mask(CUBE)), unpredicted=(None, mask()), unknown=(mask(), None)
    )
    result = run("lnq-metrics", *arguments)
    assert result.status == 1
    prediction, reference = tmp_path / "prediction", tmp_path / "reference"
    assert result.err.splitlines() == [
        f"lnq-metrics: --reference {reference} has 1 without a prediction: unpredicted; --missing "
        "drop leaves such cases out, --missing worst takes the prediction as empty",
        f"lnq-metrics: {prediction}/unknown.nii.gz: has no companion named unknown in "
        f"--reference {reference}",
    ]
    assert [row["case"] for row in rows_of(result.out)] == ["both"]
    assert run("lnq-metrics", *arguments, "-q").err == result.err  # errors are told all the same


@pytest.fixture
def unpaired(folders):
    """Return the arguments for a pair, a reference alone, an empty one, a prediction alone."""
    return folders(
        both=(mask(BESIDE), mask(CUBE)),
        alone=(None, mask(CUBE)),
        nothing=(None, mask()),
        unknown=(mask(), None),
    )


def test_a_reference_without_a_prediction_is_status_1_unless_asked(folders):
    arguments = folders(both=(mask(CUBE), mask(CUBE)), alone=(None, mask(CUBE)))
    for options, status in (((), 1), (("--missing", "drop"), 0), (("--missing", "worst"), 0)):
        assert run("lnq-metrics", *arguments, *options).status == status


def test_cases_without_a_partner_are_left_out_on_request_and_named(unpaired, tmp_path):
    result = succeed("lnq-metrics", *unpaired, "--missing", "drop")
    assert [row["case"] for row in rows_of(result.out)] == ["both"]
    assert result.err.splitlines() == [
        f"lnq-metrics: warning: --reference {tmp_path}/reference has 2 without a prediction: "
        "alone, nothing; left out",
        "lnq-metrics: warning: 1 prediction without a reference in --reference "
        f"{tmp_path}/reference: unknown; left out",
    ]
    assert succeed("lnq-metrics", *unpaired, "--missing", "drop", "-q").err == ""
    lonely = run(
        "lnq-metrics", tmp_path / "prediction/unknown.nii.gz", *unpaired[-2:], "--missing", "drop"
    )
    assert (lonely.status, lonely.out) == (1, "")
    assert lonely.err.endswith(
        f"no prediction has a reference in --reference {tmp_path}/reference\n"
    )


def test_a_missing_prediction_counts_as_an_empty_one(unpaired, tmp_path):
    result = run("lnq-metrics", *unpaired, "--missing", "worst")
    assert result.status == 1  # of a prediction without a reference nothing can be said
    assert result.err.splitlines()[0].endswith("alone, nothing; taken as empty predictions")
    assert "unknown.nii.gz: has no companion named unknown" in result.err
    rows = {row["case"]: row for row in rows_of(result.out)}
    assert list(rows) == ["both", "alone", "nothing"]
    assert [row["status"] for row in rows.values()] == ["ok", "missing_prediction", "both_empty"]
    assert numbers(rows["alone"], "dice", "recall", "volume_error_ml") == [0, 0, -0.048]
    assert (rows["alone"]["assd_mm"], rows["alone"]["precision"]) == ("", "")
    found = succeed("lnq-metrics", *unpaired[:1], *unpaired[-2:], "--missing", "worst", "--summary")
    summary = {row["metric"]: row for row in rows_of(found.out)}
    assert numbers(summary["dice"], "mean", "n", "n_undefined") == [0.25, 2, 1]
    assert numbers(summary["assd_mm"], "n", "n_filled") == [1, 1]


def test_the_lesions_of_a_missing_prediction_are_missed(unpaired):
    call = ("lnq-metrics", *unpaired[:1], *unpaired[-2:], "--missing", "worst")
    every = {
        row["metric"]: row["pooled"]
        for row in rows_of(succeed(*call, "--detection", "--summary").out)
        if row["stratum"] == "all"
    }
    assert (every["components_reference"], every["fn"], every["tp"]) == ("2", "2", "0")
    lesions = rows_of(succeed(*call, "--lesions").out)
    assert [(row["case"], row["side"], row["hit"]) for row in lesions] == [
        ("both", "reference", "1"),
        ("both", "prediction", "1"),
        ("alone", "reference", "0"),
    ]


def test_of_several_shards_one_tells_of_references_without_a_prediction(folders):
    whole = {name: (mask(CUBE), mask(CUBE)) for name in "abc"}
    arguments = folders(**whole, alone=(None, mask(CUBE)))
    parts = [
        run("lnq-metrics", *arguments, "--shard", f"{k}/2", "--missing", "worst") for k in (0, 1)
    ]
    assert [[row["case"] for row in rows_of(part.out)] for part in parts] == [
        ["a", "c", "alone"],
        ["b"],
    ]
    assert [run("lnq-metrics", *arguments, "--shard", f"{k}/2").status for k in (0, 1)] == [1, 0]


def test_a_population_sd_has_another_name(folders):
    arguments = folders(a=(mask(CUBE), mask(CUBE)), b=(mask(BESIDE), mask(CUBE)))
    for table in (("--summary",), ("--detection", "--summary")):
        lines = rows_of(succeed("lnq-metrics", *arguments, *table, "--sd", "population").out)
        assert "sd" not in lines[0]
        line = next(line for line in lines if line["metric"] in ("dice", "sq"))
        values = [1, 0.5] if line["metric"] == "dice" else [1]
        assert float(line["sd_population"]) == pytest.approx(np.std(values))
    assert "--sd is for --summary" in usage_error("lnq-metrics", *arguments, "--sd", "sample")


def test_two_jobs_give_the_same_table(folders):
    pairs = {f"case{seed}": random_masks(seed) for seed in range(5)}
    arguments = folders(**pairs, alone=(mask(), None))
    one, two = (run("lnq-metrics", *arguments, "-j", jobs) for jobs in (1, 2))
    assert one == two
    assert len(rows_of(one.out)) == 5


# Refusals


def moved(folder: Path, name: str, axis: int, voxels: float, array: np.ndarray) -> Path:
    """Write a mask whose header is moved along an axis x, y or z."""
    origin = [10.0, 20.0, 30.0]
    origin[axis] += voxels * SPACING[axis]
    return save(folder / f"{name}.nii.gz", array, affine(SPACING, origin))


def test_a_shift_of_50_mm_either_way_is_refused(folders, tmp_path):
    shifts = {
        f"{folder}_{sign}_{'xyz'[axis]}": (tmp_path / folder, axis, sign * 50 / SPACING[axis])
        for folder in ("prediction", "reference")
        for sign in (-1, 1)
        for axis in range(3)
    }
    pair = (mask(CUBE), mask(CUBE))
    arguments = folders(**dict.fromkeys(["case", *shifts], pair))
    for name, (folder, axis, voxels) in shifts.items():
        moved(folder, name, axis, voxels, mask(CUBE))
    result = run("lnq-metrics", *arguments)
    assert result.status == 1
    assert result.err.splitlines() == [
        f"lnq-metrics: {tmp_path}/prediction/{name}.nii.gz: does not lie on the grid of "
        f"--reference {tmp_path}/reference/{name}.nii.gz: their voxels lie up to 50 mm apart; "
        "if both headers are right, say --resample-prediction nearest"
        for name in shifts
    ]
    assert len(shifts) == 12
    assert [row["case"] for row in rows_of(result.out)] == ["case"]


def test_corners_may_lie_half_a_voxel_apart(folders, tmp_path):
    shifts = {
        f"case{voxels}{'xyz'[axis]}": (axis, voxels)
        for voxels in (0.009, 0.011, -0.3, 0.499, -0.501)
        for axis in range(3)
    }
    arguments = folders(**dict.fromkeys(shifts, (mask(BESIDE), mask(CUBE))))
    for name, (axis, voxels) in shifts.items():
        moved(tmp_path / "prediction", name, axis, voxels, mask(BESIDE))
    result = run("lnq-metrics", *arguments)
    assert result.status == 1
    expected = []
    for name, (axis, voxels) in shifts.items():
        said = (
            f"the grid of --reference {tmp_path}/reference/{name}.nii.gz: their voxels lie up to "
            f"{abs(voxels) * SPACING[axis]:.3g} mm apart"
        )
        about = f"lnq-metrics: {tmp_path}/prediction/{name}.nii.gz: "
        if voxels == -0.501:
            hint = "; if both headers are right, say --resample-prediction nearest"
            expected.append(f"{about}does not lie on {said}{hint}")
        elif voxels != 0.009:
            expected.append(
                f"{about}warning: is compared voxel by voxel, though not quite on {said}"
            )
    assert result.err.splitlines() == expected
    rows = rows_of(result.out)
    assert [row["case"] for row in rows] == [name for name in shifts if "-0.501" not in name]
    assert [numbers(row, "dice", "hd_mm") for row in rows] == [[0.5, 1]] * 12  # as on one grid
    quiet = run("lnq-metrics", *arguments, "-q").err
    assert quiet.splitlines() == [line for line in expected if "warning" not in line]


def test_the_far_corner_tells_of_a_spacing_that_is_off(folders, tmp_path):
    """0.4 % of 1 mm: nothing at the near corner, 4 voxels of 1000 at the far one."""
    row = np.zeros((2, 2, 1000), np.uint8)
    row[1, 1, 500] = 1
    source = save(tmp_path / "prediction" / "long.nii.gz", row, affine((1.004, 1, 1)))
    place = save(tmp_path / "reference" / "long.nii.gz", row, affine((1.0, 1, 1)))
    result = run("lnq-metrics", source, "--reference", place)
    assert result.status == 1
    assert "their spacings are 1.004 × 1 × 1 and 1 × 1 × 1 mm" in result.err


def test_single_slices_of_two_thicknesses_are_told_apart(tmp_path):
    """All centers coincide."""
    one = np.zeros((1, 4, 5), np.uint8)
    one[0, 1, 1] = 1
    source = save(tmp_path / "thick.nii.gz", one, affine((1, 1, 7)))
    place = save(tmp_path / "thin.nii.gz", one, affine((1, 1, 2)))
    result = run("lnq-metrics", place, "--reference", source)
    assert result.status == 1
    assert "their spacings are 1 × 1 × 2 and 1 × 1 × 7 mm" in result.err


def test_a_prediction_is_resampled_onto_the_references_grid(tmp_path):
    """A prediction at half the reference's spacing, with its own extent."""
    coarse, fine = np.zeros((6, 7, 8), np.uint8), np.zeros((12, 14, 10), np.uint8)
    coarse[2:4, 2:4, 1:3] = 1
    fine[4:8, 4:8, 2:6] = 1  # the same body
    fine[0, 0, 0] = 1  # no coarse voxel's center lies nearest to it
    half = affine((0.5, 1.0, 1.5), (0.25, 0.5, -0.75))
    source = save(tmp_path / "p" / "case.nii.gz", fine, half)
    place = save(tmp_path / "r" / "case.nii.gz", coarse, affine(SPACING))
    refused = run("lnq-metrics", source, "--reference", tmp_path / "r")
    assert refused.status == 1
    assert refused.out == ""
    assert "their sizes are 10 × 14 × 12 and 8 × 7 × 6 voxels" in refused.err
    options = ["--resample-prediction", "nearest"]
    result = succeed("lnq-metrics", source, "--reference", tmp_path / "r", *options)
    (row,) = rows_of(result.out)
    assert numbers(row, "dice", "hd_mm", "volume_prediction_ml") == pytest.approx([1, 0, 0.048])
    assert result.err == (
        f"lnq-metrics: {source}: warning: was resampled onto the grid of --reference {place}: "
        "their sizes are 10 × 14 × 12 and 8 × 7 × 6 voxels\n"
    )


def test_what_resampling_loses_is_counted(tmp_path):
    """The same lattice, moved by two voxels along x and turned: voxels are copied."""
    whole = np.zeros(SHAPE, np.uint8)
    whole[1:3, 1:3, :4] = 1  # 16 voxels
    source = save(tmp_path / "p.nii.gz", whole[::-1], affine((1, 2, -3), (10, 20, 45)))
    place = save(tmp_path / "r.nii.gz", whole, affine(SPACING, (8, 20, 30)))
    options = ["--reference", place, "--resample-prediction", "nearest"]
    result = succeed("lnq-metrics", source, *options)
    (row,) = rows_of(result.out)
    # x runs to the left: voxel k of the prediction lies on voxel k - 2 of the reference.
    assert numbers(row, "dice", "precision", "recall") == pytest.approx([8 / 12, 1, 0.5])
    assert "warning: 8 of its foreground voxels lie outside the reference's image" in result.err


def test_resampling_does_not_join_what_never_meets(folders, tmp_path):
    arguments = folders(case=(mask(CUBE), mask(CUBE)))
    save(tmp_path / "reference" / "case.nii.gz", mask(CUBE), affine(SPACING, (10, 20, 80)))
    result = run("lnq-metrics", *arguments, "--resample-prediction", "nearest")
    assert result.status == 1
    assert "case.nii.gz: the two images do not meet anywhere in the world" in result.err


def test_on_one_grid_nothing_is_resampled(folders):
    arguments = folders(case=(mask(BESIDE), mask(CUBE)))
    plain = succeed("lnq-metrics", *arguments)
    assert run("lnq-metrics", *arguments, "--resample-prediction", "nearest") == plain


def test_the_spacing_is_that_of_the_affine(folders, tmp_path):
    """Not of pixdim, which is the affine's in no file that was edited by hand."""
    arguments = folders(case=APART)
    for folder in ("prediction", "reference"):
        path = tmp_path / folder / "case.nii.gz"
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<3f", content, 80, 5.0, 6.0, 7.0)  # pixdim[1:4]
        struct.pack_into("<h", content, 252, 0)  # no qform, of which pixdim is a part
        path.write_bytes(gzip.compress(content))
    result = succeed("lnq-metrics", *arguments)
    (row,) = rows_of(result.out)
    assert numbers(row, "hd_mm", "volume_reference_ml") == pytest.approx([3, 0.006])


def test_a_training_label_is_no_mask(folders, tmp_path):
    folders(case=(mask(CUBE), mask(CUBE)))
    source, unknown = tmp_path / "reference" / "case.nii.gz", tmp_path / "unknown.nii.gz"
    succeed("lnq-weaklabel", source, "--strategy", "mask", "-o", unknown)
    result = run("lnq-metrics", source, "--reference", unknown)
    assert result.status == 1
    assert f"{source}: {unknown}: is a training label with unknown voxels" in result.err
    succeed("lnq-crop", "--label", unknown, "--like", source, "-o", tmp_path / "cropped.nii.gz")
    result = run("lnq-metrics", tmp_path / "cropped.nii.gz", "--reference", source)
    assert result.status == 1
    assert "cropped.nii.gz: is a training label with unknown voxels" in result.err
    result = run("lnq-metrics", unknown, "--reference", source)
    assert result.status == 1
    assert f"{unknown}: is a training label with unknown voxels" in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Missing option '--reference'"),
        (("--reference", "r", "--tolerance", -1), "-1.0 is not in the range x>=0"),
        (("--reference", "r", "--tolerance", "nan"), "'nan' is not a finite number"),
        (("--reference", "r", "--edge", "shut"), "'shut' is not one of 'surface', 'open'"),
        (("--reference", "r", "--empty", "worst"), "--empty is for --summary"),
        (("--reference", "r", "--summary", "--empty", "best"), "'best' is neither drop, worst"),
        (("--reference", "r", "--summary", "--empty", -1), "nor a number ≥ 0"),
        (("--reference", "r", "--preset", "itk"), "'itk' is not one of 'lnq2023', 'medpy'"),
        (
            ("--reference", "r", "--preset", "medpy", "--edge", "surface"),
            "--preset and --edge exclude",
        ),
        (("--reference", "r", "--preset", "medpy", "--lesions"), "--preset and --lesions exclude"),
        (
            ("--reference", "r", "--preset", "lnq2023", "--tolerance", 1),
            "--tolerance and --preset lnq2023 exclude each other",
        ),
        (("--reference", "r", "--resample-prediction", "linear"), "'linear' is not 'nearest'"),
        (("--reference", "r", "-o", "table.nii.gz"), "table.nii.gz: a table is named"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(options, sentence):
    assert sentence in usage_error("lnq-metrics", "prediction.nii.gz", *options)


def test_lists_shards_and_signals_are_those_of_the_batch_contract(tmp_path):
    names = ["a", "b c", "d\ne"]
    for name in names:
        for kind in ("p", "r"):
            save(tmp_path / kind / f"{name}.nii.gz", mask((1, 2, 3)))
    paths = [tmp_path / "p" / f"{name}.nii.gz" for name in names]
    listing = b"".join(bytes(path) + b"\0" for path in paths)
    arguments = ["-0", "-T", "-", "--reference", tmp_path / "r"]
    result = succeed("lnq-metrics", *arguments, stdin=listing)
    assert [row["case"] for row in rows_of(result.out)] == ["a", "b c", "d\\ne"]
    part = succeed("lnq-metrics", *arguments, "--shard", "1/2", stdin=listing)
    assert [row["case"] for row in rows_of(part.out)] == ["b c"]
    assert part.err == ""  # the other shards' references are no surprise
    empty = run("lnq-metrics", "-T", "-", "--reference", tmp_path / "r")
    assert empty.status == 2
    assert "the list -T - is empty" in empty.err
    twice = run("lnq-metrics", paths[0], paths[0], "--reference", tmp_path / "r")
    assert twice.status == 2
    assert "are both named a" in twice.err
    assert (
        end_without_reader("lnq-metrics", *paths, "--reference", tmp_path / "r")
        == QUIETLY_BY_SIGPIPE
    )
