"""lnq-threshold: sweeps of the threshold and the filter, as a table and as a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lnqtools.metrics.sweep import CASE_COLUMNS, COLUMNS
from tests.cli.cohort import NAMES, make_cohort
from tests.cli.helpers import (
    QUIETLY_BY_SIGPIPE,
    TURNED,
    columns_of,
    end_without_reader,
    numbers,
    rows_of,
    usage_error,
)
from tests.conftest import affine, load, matrix_of, run, save, succeed
from tests.suite import extra

SHAPE = (12, 12, 12)
CORE = np.s_[2:6, 2:6, 2:6]
"""A node of 4 × 4 × 4 voxels; the ellipsoid is 5 mm."""
SPECK = np.s_[9:11, 9:11, 9:11]
"""A false positive of 2 × 2 × 2; the ellipsoid is 2.2 mm."""


def volume(*parts, rest=0, dtype=np.float32) -> np.ndarray:
    """Return an array of boxes with values."""
    made = np.full(SHAPE, rest, dtype)
    for part, value in parts:
        made[part] = value
    return made


NODE = volume((CORE, 1), dtype=np.uint8)
SURE = volume((CORE, 0.8), (SPECK, 0.6), rest=0.1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with two maps and their references."""
    save(tmp_path / "prob" / "a.nii.gz", SURE)
    save(tmp_path / "truth" / "a.nii.gz", NODE)
    save(tmp_path / "prob" / "b.nii.gz", volume((CORE, 0.3), rest=0.1))
    save(tmp_path / "truth" / "b.nii.gz", NODE)
    return tmp_path


POINTS = ["--thresholds", "0.2,0.5,0.7", "--min-diameters", "0,3"]
ONE = ["prob/a.nii.gz", "--reference", "truth"]
BOTH = ["prob/a.nii.gz", "prob/b.nii.gz", "--reference", "truth", *POINTS]


def test_the_table(place):
    """Dice of a: 128 / (72 + 64) with the speck; of b: 1 at .2, 0 above."""
    out = succeed("lnq-threshold", *BOTH, cwd=place).out
    assert columns_of(out) == list(COLUMNS)
    rows = rows_of(out)
    names = ("threshold", "min_diameter_mm", "n", "dice", "n_precision", "lesions_fp", "best")
    speck = round((128 / 136 + 1) / 2, 10)
    assert [numbers(row, *names) for row in rows] == [
        [0.2, 0, 2, speck, 2, 1, 0],
        [0.2, 3, 2, 1, 2, 0, 1],
        [0.5, 0, 2, round(64 / 136, 10), 1, 1, 0],
        [0.5, 3, 2, 0.5, 1, 0, 0],
        [0.7, 0, 2, 0.5, 1, 0, 0],
        [0.7, 3, 2, 0.5, 1, 0, 0],
    ]
    names = ("recall", "lesion_sensitivity", "volume_prediction_ml", "volume_reference_ml")
    assert numbers(rows[2], *names) == [0.5, 0.5, 0.036, 0.064]


def test_the_best_point_alone(place):
    (best,) = rows_of(succeed("lnq-threshold", *BOTH, "--best", cwd=place).out)
    assert numbers(best, "threshold", "min_diameter_mm", "dice", "best") == [0.2, 3, 1, 1]
    (best,) = rows_of(
        succeed("lnq-threshold", *ONE, *POINTS, "--best", "--format", "jsonl", cwd=place).out,
        "jsonl",
    )
    assert [best["threshold"], best["min_diameter_mm"], best["best"]] == [0.5, 3.0, True]


def test_the_score_decides(place):
    """One large and one small node; at .7 the large one alone, at .3 a hair around both."""
    large, small = np.s_[1:7, 1:7, 1:7], np.s_[9:11, 9:11, 9:11]
    save(place / "truth" / "c.nii.gz", volume((large, 1), (small, 1), dtype=np.uint8))
    hair = np.s_[1:8, 1:8, 1:8]
    save(place / "prob" / "c.nii.gz", volume((hair, 0.4), (small, 0.4), (large, 0.8)))
    arguments = ["prob/c.nii.gz", "--reference", "truth", "--thresholds", "0.3,0.7"]

    def best(*options) -> float:
        out = succeed("lnq-threshold", *arguments, "--best", *options, "-q", cwd=place).out
        return float(rows_of(out)[0]["threshold"])

    assert best() == 0.7  # Dice 432 / 440 against 448 / 575
    assert best("--score", "lesion-f1") == 0.3  # 1 against 2/3
    assert best("--score", "lesion-f1", "--hit", 0.7) == 0.7  # 216 / 343 is not a hit
    assert best("--score", "dice-pooled") == 0.7


def test_a_row_a_case(place):
    out = succeed("lnq-threshold", *BOTH, "--cases", cwd=place).out
    assert columns_of(out) == list(CASE_COLUMNS)
    rows = rows_of(out)
    assert [row["case"] for row in rows] == ["a"] * 6 + ["b"] * 6
    names = ("dice", "precision", "recall", "lesions_tp", "lesions_fn", "lesions_fp")
    assert numbers(rows[0], *names) == [round(128 / 136, 10), round(64 / 72, 10), 1, 1, 0, 1]
    assert [rows[-1][name] for name in names] == ["0", "", "0", "0", "1", "0"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("0.5", [0.5]),
        ("0.7,0.2,0.7", [0.2, 0.7]),
        ("0.1:0.3:0.1", [0.1, 0.2, 0.3]),
        ("0.1:0.35:0.1", [0.1, 0.2, 0.3]),
        ("0.5:0.5:0.1", [0.5]),
        ("0.05:0.95:0.05", [k / 20 for k in range(1, 20)]),
        ("0.001:0.999:0.001", [k / 1000 for k in range(1, 1000)]),
    ],
)
def test_values_are_listed_or_stepped(values, expected, place):
    out = succeed("lnq-threshold", *ONE, "--thresholds", values, "--min-diameters", 0, cwd=place)
    assert [float(row["threshold"]) for row in rows_of(out.out)] == expected


def test_without_options_the_points_are_those_of_the_page(place):
    rows = rows_of(succeed("lnq-threshold", *ONE, cwd=place).out)
    assert len(rows) == 19 * 4
    assert {row["min_diameter_mm"] for row in rows} == {"0", "5", "7.5", "9.5"}


# Against the tools whose options it finds


def test_a_point_is_what_the_other_tools_make_of_it(phantoms, tmp_path):
    rng = np.random.default_rng(0)
    truth = sorted((phantoms / "truth").iterdir())
    for path in truth:
        node, noise = load(path) > 0, gaussian_filter(rng.standard_normal(load(path).shape), 2)
        logits = 11 * gaussian_filter(node.astype(float), 1) - 4.5 + noise / noise.std()
        probability = (1 / (1 + np.exp(-logits))).astype(np.float32)
        save(tmp_path / "prob" / path.name, probability, matrix_of(path))
    points = ["--thresholds", "0.3,0.6", "--min-diameters", "0,6", "--connectivity", 26]
    how = ["--metric", "recist", "--hit", 0.3]
    maps = sorted((tmp_path / "prob").iterdir())
    reference = ["--reference", phantoms / "truth"]
    result = succeed("lnq-threshold", *maps, *reference, *points, *how, "-q", "-j", 2)
    for row in rows_of(result.out):
        at = f"{row['threshold']}-{row['min_diameter_mm']}"
        for path in maps:
            above = load(path) > np.float32(row["threshold"])
            save(tmp_path / at / path.name, above.astype(np.uint8), matrix_of(path))
        filtering = ["--min", row["min_diameter_mm"], *how[:2], *points[4:]]
        kept = tmp_path / f"kept-{at}"
        succeed("lnq-filter-diameter", *(tmp_path / at).iterdir(), *filtering, "-O", kept)
        measured = rows_of(succeed("lnq-metrics", *kept.iterdir(), *reference, "--summary").out)
        means = {line["metric"]: float(line["mean"]) for line in measured if line["mean"]}
        for name in ("dice", "precision", "recall", "volume_prediction_ml"):
            assert float(row[name]) == pytest.approx(means[name], rel=1e-8)
        detection = ["--detection", "--summary", *how[2:], *points[4:]]
        lesions = rows_of(succeed("lnq-metrics", *kept.iterdir(), *reference, *detection).out)
        pooled = {line["metric"]: line["pooled"] for line in lesions if line["stratum"] == "all"}
        for name in ("tp", "fn", "fp"):
            assert row[f"lesions_{name}"] == pooled[name]
        for name in ("sensitivity", "precision", "f1"):
            assert row[f"lesion_{name}"] == pooled[name]


def test_axial_slices_are_those_of_the_patient(tmp_path):
    """The array's y runs to the feet; across it the node is 4 × 3 mm by 8 × 1.5 mm."""
    node = np.zeros((12, 12, 12), np.uint8)
    node[2:6, 2:6, 2:10] = 1
    save(tmp_path / "truth" / "n.nii.gz", node, TURNED)
    save(tmp_path / "prob" / "n.nii.gz", node * np.float32(0.9), TURNED)
    options = ["--metric", "recist-caliper", "--thresholds", "0.5", "--min-diameters", "12,12.1"]
    arguments = [tmp_path / "prob" / "n.nii.gz", "--reference", tmp_path / "truth"]
    rows = rows_of(succeed("lnq-threshold", *arguments, *options).out)
    assert [row["lesions_tp"] for row in rows] == ["1", "0"]


def test_flat_components_go_as_the_filter_is_told(tmp_path):
    flat = np.zeros((3, 12, 12), np.float32)
    flat[1, 2:8, 2:8] = 0.9
    save(tmp_path / "prob" / "n.nii.gz", flat)
    save(tmp_path / "truth" / "n.nii.gz", (flat > 0).astype(np.uint8))
    arguments = [tmp_path / "prob" / "n.nii.gz", "--reference", tmp_path / "truth"]
    points = ["--thresholds", "0.5", "--min-diameters", "0,4,9"]
    expected = {"drop": ["1", "0", "0"], "keep": ["1", "1", "1"], "recist": ["1", "1", "0"]}
    for word, found in expected.items():
        rows = rows_of(succeed("lnq-threshold", *arguments, *points, "--degenerate", word).out)
        assert [row["lesions_tp"] for row in rows] == found


# Training labels as references


def test_unknown_voxels_count_in_no_score(place):
    """The label knows the node and what lies beside it; the speck is in the unknown."""
    succeed("lnq-weaklabel", "truth/a.nii.gz", "--strategy", "coat", "-O", "labels", cwd=place)
    arguments = ["prob/a.nii.gz", "--reference", "labels", "--min-diameters", 0]
    low, high = rows_of(
        succeed("lnq-threshold", *arguments, "--thresholds", "0.05,0.5", cwd=place).out
    )
    names = ("dice", "lesions_tp", "lesions_fp", "n_unknown")
    assert numbers(high, *names) == [1, 1, 0, 1]
    coat = 6 * 16  # the six faces of the node
    assert numbers(low, "precision") == [round(64 / (64 + coat), 10)]
    (row,) = rows_of(
        succeed("lnq-threshold", *arguments, "--thresholds", 0.5, "--cases", cwd=place).out
    )
    assert row["voxels_unknown"] == str(12**3 - 64 - coat)


def test_a_2_that_nobody_called_unknown_is_warned_of(place):
    save(place / "truth" / "a.nii.gz", volume((CORE, 1), (SPECK, 2), dtype=np.uint8))
    result = succeed("lnq-threshold", *ONE, *POINTS, cwd=place)
    assert result.err.splitlines()[1:] == [
        "lnq-threshold: prob/a.nii.gz: warning: 8 voxels of its reference are 2, which is taken "
        "for unknown: they count in no score (of numbered nodes: --instances, --values)"
    ]
    label = ["lnq-weaklabel", "truth/b.nii.gz", "--strategy", "mask", "-o", "truth/c.nii.gz"]
    succeed(*label, cwd=place)
    os.link(place / "prob" / "a.nii.gz", place / "prob" / "c.nii.gz")
    arguments = ["prob/c.nii.gz", "--reference", "truth", "--thresholds", "0.3,0.5,0.6"]
    assert "taken for unknown" not in succeed("lnq-threshold", *arguments, cwd=place).err


# The picture


@pytest.mark.parametrize(
    ("name", "begin"), [("c.png", b"\x89PNG"), ("c.SVG", b"<?xml"), ("c.pdf", b"%PDF")]
)
def test_the_picture_is_drawn_in_the_form_of_its_name(name, begin, place):
    pytest.importorskip("matplotlib")
    result = succeed("lnq-threshold", *BOTH, "--best", "--plot", name, cwd=place)
    assert len(rows_of(result.out)) == 1
    picture = (place / name).read_bytes()
    assert picture.startswith(begin)
    refused = run("lnq-threshold", *BOTH, "--plot", name, cwd=place)
    assert (refused.status, refused.out) == (2, "")
    assert f"{name} exists; -f replaces it" in refused.err
    (place / name).write_text("older")
    succeed("lnq-threshold", *BOTH, "--plot", name, "-f", "-j", 2, cwd=place)
    assert (place / name).read_bytes() == picture


def test_without_matplotlib_it_says_what_to_install(place):
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: (\n"
        "    None if name == 'matplotlib' else find(name, *rest))\n"
        "from lnqtools.cli.threshold import main\n"
        f"main({[*BOTH, '--plot', 'c.png']!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=place, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "lnq-threshold: matplotlib is not installed; pip install '.[plot]' in the checkout of "
        "lnqtools brings it\n"
    )
    assert extra("plot")[0].startswith("matplotlib")


# Trouble


def test_what_cannot_be_swept_does_not_stop_the_rest(place):
    save(place / "prob" / "logits.nii.gz", SURE * 20 - 10)
    save(place / "prob" / "mask.nii.gz", NODE)
    save(place / "prob" / "nan.nii.gz", np.where(SURE > 0.5, SURE, np.float32(np.nan)))
    save(place / "prob" / "alone.nii.gz", SURE)
    save(place / "prob" / "shifted.nii.gz", SURE, affine(origin=(0.6, 0, 0)))
    save(place / "prob" / "numbered.nii.gz", SURE)
    for name in ("logits", "mask", "nan", "shifted"):
        save(place / "truth" / f"{name}.nii.gz", NODE)
    save(place / "truth" / "numbered.nii.gz", NODE * 3)
    names = ("logits", "mask", "nan", "alone", "shifted", "numbered", "nowhere")
    maps = [f"prob/{name}.nii.gz" for name in names]
    result = run("lnq-threshold", *maps, *BOTH, "--plot", "curve.svg", "-q", cwd=place)
    assert result.status == 1
    assert {row["n"] for row in rows_of(result.out)} == {"2"}
    assert (place / "curve.svg").exists()
    said = dict(
        line.removeprefix("lnq-threshold: prob/").split(".nii.gz: ", 1)
        for line in result.err.splitlines()
    )
    assert list(said) == list(names)
    assert said["logits"].startswith("holds values from -8 to 6; probabilities lie between 0 and")
    assert said["mask"].startswith("holds whole numbers, as a mask does")
    assert said["nan"].endswith("voxels are NaN or infinite")
    assert said["alone"] == "has no companion named alone in --reference truth"
    assert said["shifted"].startswith(
        "does not lie on the grid of --reference truth/shifted.nii.gz"
    )
    assert said["numbered"] == (
        "truth/numbered.nii.gz: holds the value 3; a reference holds 0 background, 1 node and "
        "perhaps 2 unknown (numbered nodes: --instances keeps them apart, --values picks)"
    )
    assert said["nowhere"].startswith("cannot be read")


def test_what_is_said_of_numbered_nodes_helps(place):
    save(place / "truth" / "a.nii.gz", NODE * 3)
    succeed("lnq-weaklabel", "truth/a.nii.gz", "--strategy", "full", "-O", "full", cwd=place)
    arguments = ["prob/a.nii.gz", "--reference", "full", "--thresholds", "0.5", "--best"]
    assert rows_of(succeed("lnq-threshold", *arguments, cwd=place).out)[0]["dice"] == "1"


def test_without_any_good_case_there_are_names_of_columns_alone(place):
    result = run("lnq-threshold", "nowhere.nii.gz", *ONE[1:], "--plot", "c.png", "-q", cwd=place)
    assert (result.status, columns_of(result.out)) == (1, list(COLUMNS))
    assert not (place / "c.png").exists()


def test_references_without_a_map_are_named(place):
    result = succeed("lnq-threshold", *ONE, *POINTS, cwd=place)
    assert result.err == "lnq-threshold: warning: --reference truth has 1 without a map: b\n"
    assert succeed("lnq-threshold", *ONE, *POINTS, "-q", cwd=place).err == ""
    save(place / "truth" / "c.nii.gz", NODE)
    shards = [succeed("lnq-threshold", *BOTH, "--shard", f"{k}/2", cwd=place) for k in (0, 1)]
    assert [shard.err.count("--reference truth has 1 without a map: c\n") for shard in shards] == [
        *(1, 0)
    ]


@pytest.mark.parametrize(("thresholds", "end"), [("0.2,0.1", "0.2"), ("0.7,0.75", "0.7")])
def test_a_best_threshold_at_the_end_is_warned_of(thresholds, end, place):
    arguments = [*ONE, "--thresholds", thresholds, "--min-diameters", "3"]
    assert succeed("lnq-threshold", *arguments, cwd=place).err.splitlines()[1:] == [
        f"lnq-threshold: warning: the best threshold, {end}, is at the end of those tried: try "
        "more with --thresholds"
    ]
    assert len(succeed("lnq-threshold", *arguments[:-3], 0.5, cwd=place).err.splitlines()) == 1


def test_without_a_defined_score_no_point_is_the_best(place):
    save(place / "truth" / "a.nii.gz", NODE * 0)
    arguments = [*ONE, "--thresholds", "0.9", "--plot", "c.png"]
    rows = rows_of(succeed("lnq-threshold", *arguments, cwd=place).out)
    assert {(row["dice"], row["best"]) for row in rows} == {("", "0")}
    result = run("lnq-threshold", *ONE, "--thresholds", "0.9", "--best", "-q", cwd=place)
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "lnq-threshold: no point is the best: --score dice is undefined at each\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prob/a.nii.gz"], "Missing option '--reference'"),
        (["--reference", "truth"], "no input"),
        ([*ONE, "--thresholds", "0"], "0.0 is not in the range 0<x<1"),
        ([*ONE, "--thresholds", "0.5,1"], "1.0 is not in the range 0<x<1"),
        ([*ONE, "--thresholds", "0.5,nan"], "not"),
        ([*ONE, "--thresholds", "half"], "'half' is neither numbers a,b,… nor FROM:TO:STEP"),
        ([*ONE, "--thresholds", "0.1:0.9"], "'0.1:0.9' is neither numbers"),
        ([*ONE, "--thresholds", "0.1,"], "'0.1,' is neither numbers"),
        ([*ONE, "--thresholds", "0.9:0.1:0.1"], "is not FROM:TO:STEP with FROM ≤ TO and STEP > 0"),
        ([*ONE, "--thresholds", "0.1:0.9:0"], "is not FROM:TO:STEP with FROM ≤ TO and STEP > 0"),
        ([*ONE, "--thresholds", "0.1:0.9:nan"], "is not FROM:TO:STEP"),
        ([*ONE, "--thresholds", "0.1:0.9:1e-9"], "are more than 1000 values"),
        ([*ONE, "--min-diameters", "-1"], "-1.0 is not in the range x>=0"),
        ([*ONE, "--min-diameters", "0:inf:1"], "is not FROM:TO:STEP"),
        ([*ONE, "--min-diameters", "inf"], "inf is not a finite number"),
        ([*ONE, "--hit", "0"], "neither voxel nor a number above 0 to 1"),
        ([*ONE, "--score", "recall"], "'recall' is not one of 'dice'"),
        ([*ONE, "--cases", "--best"], "--cases and --best exclude each other"),
        ([*ONE, "--cases", "--score", "dice"], "--cases and --score exclude each other"),
        ([*ONE, "--cases", "--plot", "c.png"], "--cases and --plot exclude each other"),
        ([*ONE, "--plot", "c.jpg"], "--plot c.jpg: a picture is named .png, .svg or .pdf"),
        ([*ONE, "--plot", "-"], "--plot -: a picture is named"),
        ([*ONE, "--plot", "no/c.png"], "no/c.png: there is no such directory"),
        ([*ONE, "--plot", "c.png", "-o", "./c.png"], "c.png: a table is named .tsv, .csv"),
        ([*ONE, "-o", "t.nii"], "t.nii: a table is named .tsv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_a_usage_error(arguments, sentence, place, monkeypatch):
    monkeypatch.chdir(place)
    assert sentence in usage_error("lnq-threshold", *arguments)


# The batch contract


def test_lists_with_nul_and_jobs_give_the_same_table(tmp_path):
    make_cohort(tmp_path)
    paths = [tmp_path / "probability" / f"{name}.nii.gz" for name in NAMES]
    listing = b"".join(bytes(path) + b"\0" for path in paths)
    arguments = ["-0", "-T", "-", "--reference", tmp_path / "truth", "--cases"]
    one, two = (succeed("lnq-threshold", *arguments, "-j", j, stdin=listing) for j in (1, 2))
    assert one == two
    rows = rows_of(one.out)
    assert len(rows) == 3 * 19 * 4
    assert [row["case"] for row in rows[:: 19 * 4]] == ["plain", "with space", "line\\nend"]
    dice = [row["dice"] for row in rows if row["threshold"] == "0.5"]
    assert dice == ["1", "0.992248062", "0.992248062", "0"] * 3  # 2 · 64 / (64 + 65)


def test_shards_share_the_cases(place):
    parts = [
        rows_of(succeed("lnq-threshold", *BOTH, "--cases", "--shard", f"{k}/2", cwd=place).out)
        for k in range(2)
    ]
    assert [{row["case"] for row in part} for part in parts] == [{"a"}, {"b"}]


def test_standard_input_is_a_map(place):
    image = (place / "prob" / "a.nii.gz").read_bytes()
    arguments = ["-", "--reference", "truth/a.nii.gz", *POINTS, "--best"]
    (row,) = rows_of(succeed("lnq-threshold", *arguments, stdin=image, cwd=place).out)
    assert numbers(row, "threshold", "min_diameter_mm", "dice") == [0.5, 3, 1]


def test_a_table_that_exists_is_kept_unless_forced(place):
    (place / "table.csv").write_text("precious")
    arguments = [*BOTH, "-o", "table.csv", "--format", "csv"]
    refused = run("lnq-threshold", *arguments, cwd=place)
    assert (refused.status, (place / "table.csv").read_text()) == (2, "precious")
    assert succeed("lnq-threshold", *arguments, "-f", cwd=place).out == ""
    assert len(rows_of((place / "table.csv").read_text(), "csv")) == 6


def test_a_closed_pipe_ends_it_quietly(place):
    assert end_without_reader("lnq-threshold", *BOTH, "-q", cwd=place) == QUIETLY_BY_SIGPIPE
