"""lnq-metrics: the tables of agreement."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label
from scipy.spatial.distance import cdist

from tests.cli.helpers import columns_of, numbers, rows_of, usage_error, where
from tests.conftest import BIN, affine, run, save, succeed

SHAPE = (6, 7, 8)
SPACING = (1.0, 2.0, 3.0)  # x, y, z
MATRIX = affine(SPACING, (10, 20, 30))
OVERLAP = ("dice", "iou", "precision", "recall")
DISTANCES = ("assd_mm", "masd_mm", "hd_mm", "hd95_mm", "hd95_pooled_mm")
VOLUMES = ("volume_prediction_ml", "volume_reference_ml", "volume_error_ml")
COUNTS = ("components_prediction", "components_reference")
COLUMNS = ["case", "status", *OVERLAP, *DISTANCES, "nsd_1mm", "nsd_2mm", *VOLUMES, *COUNTS]


def mask(*parts) -> np.ndarray:
    """Return a mask of boxes."""
    made = np.zeros(SHAPE, np.uint8)
    for part in parts:
        made[part] = 1
    return made


CUBE = np.s_[2:4, 2:4, 2:4]
BESIDE = np.s_[2:4, 2:4, 3:5]
"""A voxel further along x."""


@pytest.fixture
def folders(tmp_path: Path):
    """Return a function that writes pairs of masks and returns the tool's arguments."""

    def write(**pairs: tuple[np.ndarray | None, np.ndarray | None]) -> list:
        for name, pair in pairs.items():
            for folder, array in zip(("prediction", "reference"), pair, strict=True):
                if array is not None:
                    save(tmp_path / folder / f"{name}.nii.gz", array, MATRIX)
        predictions = [tmp_path / "prediction" / f"{name}.nii.gz" for name in pairs]
        return [
            *(path for path in predictions if path.exists()),
            *("--reference", tmp_path / "reference"),
        ]

    return write


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


# A row a case


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
        assert list(expected) == COLUMNS[2:]


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
        *("metric", "mean", "sd", "median", "min", "max", "n", "n_undefined")
    ]
    summary = {row.pop("metric"): row for row in rows_of(result.out)}
    assert list(summary) == COLUMNS[2:]
    for name, line in summary.items():
        values = [row[name] for row in rows if row[name] is not None]
        expected = [
            *(np.mean(values), np.std(values, ddof=1), np.median(values), min(values), max(values)),
            *(len(values), 5 - len(values)),
        ]
        assert numbers(line, *line) == pytest.approx(expected, rel=1e-8), name
    assert [summary[name]["n_undefined"] for name in ("dice", "hd95_mm", VOLUMES[0])] == list("120")


def test_a_summary_of_one_case_has_no_spread(folders):
    arguments = folders(case=(mask(CUBE), mask()))
    lines = rows_of(succeed("lnq-metrics", *arguments, "--summary", "--format", "csv").out, "csv")
    summary = {line.pop("metric"): list(line.values()) for line in lines}
    assert summary["dice"] == ["0", "", "0", "0", "0", "1", "0"]
    assert summary["assd_mm"] == ["", "", "", "", "", "0", "1"]


# Lesions


def test_lesions_of_both_masks_with_what_the_other_covers(folders, tmp_path):
    reference = mask(CUBE, np.s_[0, 0, 5:8])  # the second one is missed
    prediction = mask(np.s_[2:4, 2:4, 3:5], np.s_[5, 6, 7])  # half of the first; one invented
    arguments = folders(case=(prediction, reference), nothing=(mask(), mask()))
    result = succeed("lnq-metrics", *arguments, "--lesions")
    rows = rows_of(result.out)
    metrics = ("ellipsoid", "ellipsoid_corrected", "recist", "recist_caliper", "inscribed")
    metrics += ("feret_min", "sphere")
    centroid = ["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]
    assert columns_of(result.out) == [
        *("case", "side", "id", "voxels", "volume_mm3"),
        *(f"diameter_{metric}_mm" for metric in metrics),
        *centroid,
        *("overlap_voxels", "overlap", "hit"),
    ]
    told = ("case", "side", "id", "voxels", "volume_mm3", "overlap_voxels", "overlap", "hit")
    assert [[row[name] for name in told] for row in rows] == [
        ["case", "reference", "1", "3", "18", "0", "0", "0"],
        ["case", "reference", "2", "8", "48", "4", "0.5", "1"],
        ["case", "prediction", "1", "8", "48", "4", "0.5", "1"],
        ["case", "prediction", "2", "1", "6", "0", "0", "0"],
    ]
    source = tmp_path / "reference" / "case.nii.gz"
    for row, middle in zip(rows, [(0, 0, 6), (2.5,) * 3, (2.5, 2.5, 3.5), (5, 6, 7)], strict=True):
        assert numbers(row, *centroid) == pytest.approx(where(source, middle))
    # The cube of 2 voxels measures 2 × 4 × 6 mm.
    assert numbers(rows[1], "diameter_feret_min_mm", "diameter_sphere_mm") == pytest.approx(
        [2, (6 * 48 / np.pi) ** (1 / 3)]
    )


def test_without_lesions_the_table_has_only_names(folders):
    result = succeed("lnq-metrics", *folders(nothing=(mask(), mask())), "--lesions")
    assert columns_of(result.out)[:3] == ["case", "side", "id"]
    assert rows_of(result.out) == []


# Files


def test_the_table_in_a_file_is_replaced_by_force_only(folders, tmp_path):
    arguments = folders(case=(mask(CUBE), mask(CUBE)))
    table = tmp_path / "table"
    table.write_text("precious")
    result = run("lnq-metrics", *arguments, "-o", table)
    assert result.status == 2
    assert f"{table} exists; -f replaces it" in result.err
    assert table.read_text() == "precious"
    assert succeed("lnq-metrics", *arguments, "-o", table, "-f", "--format", "csv").out == ""
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
        f"lnq-metrics: warning: unpredicted in --reference {reference} has no prediction",
        f"lnq-metrics: {prediction}/unknown.nii.gz: has no companion named unknown in "
        f"--reference {reference}",
    ]
    assert [row["case"] for row in rows_of(result.out)] == ["both"]
    assert "warning" not in run("lnq-metrics", *arguments, "-q").err


def test_two_jobs_give_the_same_table(folders):
    pairs = {f"case{seed}": random_masks(seed) for seed in range(5)}
    arguments = folders(**pairs, alone=(mask(), None))
    one, two = (run("lnq-metrics", *arguments, "-j", jobs) for jobs in (1, 2))
    assert one == two
    assert len(rows_of(one.out)) == 5


# Refusals


def test_a_pair_on_two_grids_is_refused(folders, tmp_path):
    arguments = folders(case=(mask(CUBE), mask(CUBE)), shifted=(mask(CUBE), mask(CUBE)))
    place = tmp_path / "reference" / "shifted.nii.gz"
    save(place, mask(CUBE), affine(SPACING, (10, 20, 33)))
    result = run("lnq-metrics", *arguments)
    assert result.status == 1
    assert result.err == (
        f"lnq-metrics: {tmp_path}/prediction/shifted.nii.gz: does not lie on the grid of "
        f"--reference {place}: their voxels lie up to 3 mm apart\n"
    )
    assert [row["case"] for row in rows_of(result.out)] == ["case"]


def test_a_training_label_is_no_mask(folders, tmp_path):
    folders(case=(mask(CUBE), mask(CUBE)))
    source, unknown = tmp_path / "reference" / "case.nii.gz", tmp_path / "unknown.nii.gz"
    succeed("lnq-weaklabel", source, "--strategy", "mask", "-o", unknown)
    result = run("lnq-metrics", source, "--reference", unknown)
    assert result.status == 1
    assert f"{source}: --reference {unknown}: is a training label with unknown" in result.err
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
        (("--reference", "r", "--lesions", "--summary"), "--lesions and --summary exclude"),
        (("--reference", "r", "--tolerance", -1), "-1.0 is not in the range x>=0"),
        (("--reference", "r", "--tolerance", "nan"), "'nan' is not a finite number"),
        (("--reference", "r", "--edge", "shut"), "'shut' is not one of 'surface', 'open'"),
        (("--reference", "r", "-o", "table.nii.gz"), "table.nii.gz is an image"),
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
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [BIN / "lnq-metrics", *paths, "--reference", tmp_path / "r"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")
