"""--instances, --values, and the warning of masks of many values, in every tool that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnqtools.figures import cases as drawing
from lnqtools.figures import slices
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume
from tests.cli.helpers import numbers, rows_of, usage_error
from tests.conftest import affine, load, run, save, succeed
from tests.report_data import marks_of, view_of

SHAPE = (16, 20, 24)
FIRST = np.s_[2:6, 4:8, 4:8]
"""A cube of 4 voxels of 1 mm: an ellipsoid of 5 mm."""
SECOND = np.s_[2:8, 4:10, 8:14]
"""One of 6 voxels, which shares a face with it: sqrt(20 · 35 / 12) = 7.64 mm."""
PIECE = np.s_[12:14, 15:17, 18:20]
"""8 voxels far away."""
MANY = (
    "holds the values 1, 2 and 7: taken as one mask; --instances keeps numbered nodes apart, "
    "--values picks"
)


def nodes(first: int = 7, second: int = 2, piece: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[FIRST], mask[SECOND], mask[PIECE] = first, second, piece
    return mask


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of one case, and work there: nodes numbered, and as 1; a prediction, a CT."""
    monkeypatch.chdir(tmp_path)
    ct = np.random.default_rng(0).normal(0, 60, SHAPE).astype(np.int16)
    predicted = np.zeros(SHAPE, np.uint8)
    predicted[SECOND] = 1
    probability = np.where(predicted, 0.9, 0.1).astype(np.float32)
    images = {
        **{"numbered": nodes(), "plain": nodes(1, 1, 1), "predicted": predicted, "ct": ct},
        "probability": probability,
        "same": nodes(),
        "same plain": nodes(1, 1, 1),  # a mask is never its own reference
    }
    for kind, array in images.items():
        save(Path(kind) / "a.nii.gz", array)
    return tmp_path


# lnq-filter-diameter


def test_the_filter_lists_each_number(place):
    result = succeed("lnq-filter-diameter", "numbered/a.nii.gz", "--list", "--instances")
    assert result.err == ""
    rows = rows_of(result.out)
    assert [(row["id"], row["voxels"]) for row in rows] == [("1", "8"), ("2", "216"), ("7", "64")]
    diameters = [numbers(row, "diameter_ellipsoid_mm")[0] for row in rows]
    assert diameters[1:] == pytest.approx([(20 * 35 / 12) ** 0.5, 5])
    assert rows[2]["x_start"], rows[2]["x_stop"] == ("4", "8")


def test_without_a_word_they_are_one_with_a_warning(place):
    result = succeed("lnq-filter-diameter", "numbered/a.nii.gz", "--list")
    assert result.err == f"lnq-filter-diameter: numbered/a.nii.gz: warning: {MANY}\n"
    assert [row["voxels"] for row in rows_of(result.out)] == ["280", "8"]
    quiet = succeed("lnq-filter-diameter", "numbered/a.nii.gz", "--list", "-q")
    assert (quiet.out, quiet.err) == (result.out, "")


def test_nodes_that_stay_keep_their_numbers(place):
    options = ("--instances", "--min", 4.9)
    succeed("lnq-filter-diameter", "numbered/a.nii.gz", *options, "-o", "out.nii")
    np.testing.assert_array_equal(load("out.nii"), nodes(7, 2, 0))
    succeed("lnq-filter-diameter", "numbered/a.nii.gz", "--min", 6, "--instances", "-o", "two.nii")
    np.testing.assert_array_equal(load("two.nii"), nodes(0, 2, 0))
    assert load("two.nii").dtype == np.uint8


def test_chosen_values_are_one_mask_of_1(place):
    result = succeed(
        *("lnq-filter-diameter", "numbered/a.nii.gz", "--values", "1,7", "--min", 0),
        *("-o", "out.nii"),
    )
    assert result.err == ""
    np.testing.assert_array_equal(load("out.nii"), nodes(1, 0, 1))
    ranged = ("--values", "2-7", "--instances", "--min", 0, "-o", "ranged.nii")
    succeed("lnq-filter-diameter", "numbered/a.nii.gz", *ranged)
    np.testing.assert_array_equal(load("ranged.nii"), nodes(7, 2, 0))
    none = succeed("lnq-filter-diameter", "numbered/a.nii.gz", "--values", "3", "-o", "none.nii")
    assert not load("none.nii").any()
    assert none.err.endswith("warning: holds the values 1, 2 and 7, of which --values picks none\n")


def test_numbers_beyond_a_byte_stay(place):
    save(place / "high.nii.gz", np.where(nodes(), nodes().astype(np.uint16) * 300, 0))
    succeed("lnq-filter-diameter", "high.nii.gz", "--instances", "--min", 6, "-o", "out.nii")
    np.testing.assert_array_equal(load("out.nii"), nodes(0, 2, 0).astype(int) * 300)


def test_drawn_nodes_of_a_training_label_can_be_picked(place):
    succeed("lnq-weaklabel", "plain/a.nii.gz", "--strategy", "mask", "-o", "label.nii.gz")
    assert "unknown voxels" in run("lnq-filter-diameter", "label.nii.gz", "--list").err
    picked = succeed("lnq-filter-diameter", "label.nii.gz", "--list", "--values", 1)
    assert [row["voxels"] for row in rows_of(picked.out)] == ["280", "8"]
    assert "its unknown voxels count as background" in picked.err


@pytest.mark.parametrize("value", ["0", "1,", "a", "3-1", "1-", "-2", "1-99999", "4294967296", ""])
def test_lists_of_values_that_are_none_are_usage_errors(value):
    assert "--values" in usage_error("lnq-filter-diameter", "a.nii", "--list", f"--values={value}")


def test_neighbors_have_no_part_in_numbers():
    options = ("--list", "--instances", "--connectivity", 26)
    assert "exclude" in usage_error("lnq-filter-diameter", "a.nii", *options)


# lnq-metrics


def metrics(*options) -> tuple[list[dict], str]:
    result = succeed("lnq-metrics", *options)
    return rows_of(result.out), result.err


def test_a_prediction_without_numbers_is_measured_against_numbered_nodes(place):
    """It has number 2, whole; as one mask it has 216 of 280 voxels of the cluster."""
    save(place / "predicted" / "a.nii.gz", nodes(0, 1, 1))
    pair = ("predicted/a.nii.gz", "--reference", "numbered", "--lesions")
    rows, err = metrics(*pair, "--instances")
    assert err == ""
    told = [(row["side"], row["id"], row["voxels"], row["partner"], row["iou"]) for row in rows]
    assert told == [
        ("reference", "1", "8", "2", "1"),
        ("reference", "2", "216", "1", "1"),
        ("reference", "7", "64", "", ""),
        ("prediction", "1", "216", "2", "1"),
        ("prediction", "2", "8", "1", "1"),
    ]
    rows, err = metrics(*pair)
    assert [row["voxels"] for row in rows] == ["280", "8", "216", "8"]
    assert numbers(rows[0], "iou") == pytest.approx([216 / 280])
    assert err == f"lnq-metrics: predicted/a.nii.gz: warning: numbered/a.nii.gz: {MANY}\n"


def test_two_numbered_masks_and_their_tables(place):
    pair = ("same/a.nii.gz", "--reference", "numbered")
    ((by_number,), _), ((as_one,), err) = metrics(*pair, "--instances"), metrics(*pair)
    assert err.count("holds the values") == 2
    counts = ("components_prediction", "components_reference")
    assert numbers(by_number, *counts) == [3, 3]
    assert numbers(as_one, *counts) == [2, 2]
    same = [name for name in as_one if name not in counts]
    assert [by_number[name] for name in same] == [as_one[name] for name in same]
    rows, _ = metrics(*pair, "--instances", "--detection")
    assert {row["stratum"]: row["tp"] for row in rows} == {
        **{"all": "3", "<10mm": "3", "10-15mm": "0", ">=15mm": "0", "degenerate": "0"}
    }
    bins, _ = metrics(*pair, "--instances", "--by-diameter", 5)
    assert [(row["bin"], row["n"]) for row in bins if row["side"] == "reference"] == [
        *(("0-5mm", "1"), ("5-10mm", "2"), ("degenerate", "0"))
    ]


def test_values_are_picked_in_both_masks(place):
    (row,), err = metrics("same/a.nii.gz", "--reference", "numbered", "--values", "2,7")
    assert (err, row["dice"], row["components_reference"]) == ("", "1", "1")
    assert numbers(row, "volume_reference_ml") == pytest.approx([0.28])
    pair = ("predicted/a.nii.gz", "--reference", "numbered", "--values", 2)
    (row,), err = metrics(*pair)
    assert row["status"] == "empty_prediction"
    assert "predicted/a.nii.gz: warning: holds the value 1, of which --values picks none" in err


def test_a_prediction_keeps_its_numbers_on_another_grid(place):
    fine = save(
        place / "fine" / "a.nii.gz", nodes().repeat(2, 2), affine((0.5, 1, 1), (0.25, 0, 0))
    )
    pair = (fine, "--reference", "numbered", "--instances", "--lesions")
    rows, _ = metrics(*pair, "--resample-prediction", "nearest")
    assert [row["id"] for row in rows if row["side"] == "prediction"] == ["1", "2", "7"]
    assert {row["iou"] for row in rows} == {"1"}


def test_a_single_number_in_pieces_is_one_node_of_a_reference_with_a_word(place):
    pair = ("same plain/a.nii.gz", "--reference", "plain", "--instances")
    (row,), err = metrics(*pair)
    assert numbers(row, "components_prediction", "components_reference") == [2, 1]
    assert err.endswith("plain/a.nii.gz: its 2 separate parts are all 1: one node by --instances\n")
    assert "exclude" in usage_error("lnq-metrics", *pair, "--preset", "medpy")


# lnq-stats


def test_data_sets_of_numbered_nodes(place):
    full = ("--set", "numbered=numbered", "--set", "plain=plain", "--full", "numbered")
    result = succeed("lnq-stats", *full, "--instances", "--table", "cases", "--enlarged-mm", 5)
    assert result.err == ""
    told = [(r["set"], r["components"], r["components_enlarged"]) for r in rows_of(result.out)]
    assert told == [("numbered", "3", "2"), ("plain", "2", "1")]
    result = succeed("lnq-stats", *full, "--table", "cases")
    assert [row["components"] for row in rows_of(result.out)] == ["2", "2"]
    assert result.err == f"lnq-stats: numbered/a.nii.gz: warning: {MANY}\n"
    picked = succeed("lnq-stats", *full, "--values", 7, "--table", "cases")
    assert [row["voxels_foreground"] for row in rows_of(picked.out)] == ["64", "288"]
    weak = succeed("lnq-stats", *full[:2], "--weak", "numbered", "--instances", "--table", "cases")
    (row,) = rows_of(weak.out)
    assert (row["components"], row["voxels_unknown"]) == ("3", str(16 * 20 * 24 - 288))


def test_a_file_in_two_sets_may_be_a_label_in_one(place):
    one = ("--set", "full=plain", "--set", "label=plain/a.nii.gz", "--full", "full")
    result = succeed("lnq-stats", *one, "--instances", "--table", "cases")
    assert [row["components"] for row in rows_of(result.out)] == ["1", "2"]
    assert result.err.count("its 2 separate parts are all 1") == 1


def test_labels_have_no_numbers():
    for option in (["--instances"], ["--values", "1"]):
        assert "is for --weak or --full" in usage_error("lnq-stats", "a.nii", *option)
    idle = ("--full", "a", "--instances", "--table", "voxels")
    needs = "--instances needs --table data-sets|diameters|cases"
    assert usage_error("lnq-stats", "a.nii", *idle) == needs


# lnq-threshold


def test_a_sweep_against_numbered_nodes(place):
    given = ("probability/a.nii.gz", "--reference", "numbered", "--thresholds", 0.5)
    lesions = ("lesions_reference", "lesions_tp", "lesions_fp", "n_unknown")
    point = (*given, "--min-diameters", 0)
    result = succeed("lnq-threshold", *point, "--instances")
    (row,) = rows_of(result.out)
    assert numbers(row, *lesions) == [3, 1, 0, 0]
    assert numbers(row, "dice") == pytest.approx([2 * 216 / (216 + 288)])
    (row,) = rows_of(succeed("lnq-threshold", *point, "--values", "2,7").out)
    assert numbers(row, *lesions) == [1, 1, 0, 0]
    (row,) = rows_of(succeed("lnq-threshold", *point, "--values", 2, "--instances").out)
    assert numbers(row, "lesions_reference", "dice") == [1, 1]
    refused = run("lnq-threshold", *point)
    assert (refused.status, "--instances keeps them apart" in refused.err) == (1, True)


# lnq-report


def test_the_report_shows_numbered_nodes(place):
    given = ("predicted/a.nii.gz", "--ct", "ct", "--reference", "numbered", "--whole")
    succeed("lnq-report", *given, "--instances", "-O", "r")
    pair = ("predicted/a.nii.gz", "--reference", "numbered", "--instances")
    assert Path("r/metrics.tsv").read_text() == succeed("lnq-metrics", *pair).out
    described = succeed("lnq-metrics", *pair, "--lesions", "--ct", "ct")
    assert Path("r/lesions.tsv").read_text() == described.out
    view = view_of(place / "r")
    first = [line["cells"][0][0] for line in view["lesions"]]
    assert first == ["reference 1", "reference 2", "reference 7", "prediction 1"]
    np.testing.assert_array_equal(marks_of(view)[..., 0], nodes()[::-1])
    assert "Lesions are the numbered nodes of a mask" in Path("r/index.html").read_text()
    picked = (*given, "--values", 2, "-O", "p")
    assert MANY not in succeed("lnq-report", *picked).err


def test_the_report_of_labels_shows_numbered_nodes(place):
    given = ("numbered/a.nii.gz", "--labels", "--ct", "ct", "--whole")
    succeed("lnq-report", *given, "--instances", "-O", "r")
    (row,) = rows_of(Path("r/cases.tsv").read_text())
    assert (row["components"], row["voxels_unknown"]) == ("3", "0")
    view = view_of(place / "r")
    assert [line["cells"][0][0] for line in view["lesions"]] == ["1", "2", "7"]
    marks = marks_of(view)
    np.testing.assert_array_equal(marks[..., 0], nodes(1, 1, 1)[::-1])
    np.testing.assert_array_equal(marks[..., 1], nodes()[::-1])
    succeed("lnq-report", *given, "--values", "2,7", "-O", "p")
    (row,) = rows_of(Path("p/cases.tsv").read_text())
    assert (row["components"], row["voxels_foreground"]) == ("1", "280")
    refused = run("lnq-report", *given, "-O", "n").err
    assert "holds the value 7; " in refused
    assert "; numbered nodes: --instances" in refused


# lnq-plot


def volume(array: np.ndarray) -> Volume:
    return Volume(array, Grid.from_affine(array.shape, np.diag([1.0, 1, 1, 1])))


def test_views_go_through_the_largest_number():
    """FIRST, of 64 voxels: SECOND is cut into six of 36. As one they are fullest in SECOND."""
    split = nodes(9, 2, 0)
    split[SECOND] = np.arange(3, 9).reshape(6, 1, 1)  # a number for each of its slices
    grid = volume(split).grid
    center = slices.center_of_largest(split, grid, instances=True)
    np.testing.assert_array_equal(grid.index(center), [5, 7, 7])
    as_one = slices.center_of_largest(split, grid)
    np.testing.assert_array_equal(grid.index(as_one), [5, 7, 13])
    shown = drawing.ShownCase("", volume(split), split, split, None, instances=True)
    boxed = drawing._Boxed.of(shown)
    whole = drawing._Boxed.of(drawing.ShownCase("", volume(split), split, split))
    assert boxed.at != whole.at
    step = slices.Step("", volume(split), volume(split), instances=True)
    np.testing.assert_array_equal(np.unique(slices.on_ct(step)), [-1, 1])


def test_pictures_of_numbered_masks_are_those_of_plain_ones(place):
    pytest.importorskip("skimage")
    table = place / "t.tsv"
    table.write_text("case\tdice\na\t0.5\n")
    save(place / "apart" / "a.nii.gz", nodes(0, 2, 1))
    save(place / "joined" / "a.nii.gz", nodes(0, 1, 1))
    for name, extra in (
        ("apart", ["--instances"]),
        ("numbered", ["--values", "2,1"]),
        ("joined", []),
    ):
        row = ("--row", "", "ct/a.nii.gz", f"{name}/a.nii.gz")
        succeed("lnq-plot", "preprocess", *row, *extra, "-o", f"{name}.png", "--dpi", 60)
        case = (table, "--ct", "ct", "--prediction", "predicted", "--reference", name)
        succeed("lnq-plot", "cases", *case, *extra, "-o", f"{name}-case.png", "--dpi", 60)
    for form in ("", "-case"):
        first, *others = (
            Path(f"{n}{form}.png").read_bytes() for n in ("joined", "apart", "numbered")
        )
        assert others == [first, first]
    case = (table, "--ct", "ct", "--prediction", "predicted", "--reference", "numbered")
    warned = succeed("lnq-plot", "cases", *case, "-o", "w.png", "--dpi", 60)
    assert warned.err.count(MANY) == 1
    row = ("--row", "", "ct/a.nii.gz", "numbered/a.nii.gz")
    refused = run("lnq-plot", "preprocess", *row, "-o", "x.png").err
    assert refused.endswith(
        "holds the value 7; 0 is background, 1 node, 2 unknown (numbered nodes: --instances)\n"
    )


def test_training_labels_beside_numbered_masks_stay_labels(place):
    succeed("lnq-weaklabel", "plain/a.nii.gz", "--strategy", "coat", "-o", "label.nii.gz")
    row = ("preprocess", "--row", "", "ct/a.nii.gz", "label.nii.gz", "--dpi", 60)
    succeed("lnq-plot", *row, "-o", "a.png")
    succeed("lnq-plot", *row, "--instances", "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


# lnq-weaklabel


def test_weak_labels_of_many_values(place):
    call = ("lnq-weaklabel", "numbered/a.nii.gz", "--strategy", "full", "-f", "-o", "out.nii.gz")
    result = succeed(*call)
    assert result.err == (
        "lnq-weaklabel: numbered/a.nii.gz: warning: holds the values 1, 2 and 7: all are taken as "
        "node; --values picks\n"
    )
    np.testing.assert_array_equal(load("out.nii.gz"), nodes(1, 1, 1))
    assert succeed(*call, "--values", "1-7").err == ""
    np.testing.assert_array_equal(load("out.nii.gz"), nodes(1, 1, 1))
    for option in ("--values", "--foreground-labels"):
        assert succeed(*call, option, "7").err == ""
        np.testing.assert_array_equal(load("out.nii.gz"), nodes(1, 0, 0))
    assert succeed(*call, "--values", "none").err == ""
    assert not load("out.nii.gz").any()
