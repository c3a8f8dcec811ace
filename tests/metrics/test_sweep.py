"""Sweeps against hand counts and against the tools' own functions, point by point."""

import xml.etree.ElementTree as ET
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnqtools.choices import SCORES
from lnqtools.components.labeling import find_components, keep
from lnqtools.components.matching import find_lesions
from lnqtools.components.sizes import large_enough
from lnqtools.errors import LnqError
from lnqtools.figures.sweep import PANELS, sweep_picture
from lnqtools.metrics.lesions import detection_table
from lnqtools.metrics.masks import overlap
from lnqtools.metrics.sweep import (
    CASE_COLUMNS,
    COLUMNS,
    best_point,
    case_rows,
    sweep_case,
    sweep_rows,
)
from tests.grids import make_grid, sliced_across

ISOTROPIC = (1.0, 1.0, 1.0)
SPACING = (3.0, 0.93, 0.93)
THRESHOLDS = (0.1, 0.25, 0.5, 0.7, 0.9)
DIAMETERS = (0.0, 2.0, 4.0, 8.0)

seeds = st.integers(0, 2**32 - 1)
connectivities = st.sampled_from([6, 18, 26])
hits = st.sampled_from([0, 0.1, 0.25, 0.5, 0.8])
metrics = st.sampled_from(["ellipsoid", "ellipsoid-corrected", "recist", "sphere"])
flats = st.sampled_from(["drop", "keep", "recist"])


def case(seed, shape=(5, 9, 10), unknown=False):
    """Return a map of blobs with values on and between the thresholds, and a reference."""
    random = np.random.default_rng(seed)
    coarse = random.random([-(-side // 2) for side in shape])
    blobs = np.kron(coarse, np.ones((2, 2, 2)))[tuple(map(slice, shape))]
    steps = random.integers(2, 12)
    probability = np.round((0.7 * blobs + 0.3 * random.random(shape)) * steps) / steps
    reference = (blobs + 0.2 * random.standard_normal(shape) > random.choice([0.6, 0.8])) * 1
    if unknown:
        reference[random.random(shape) < 0.3] = 2
    return probability.astype(np.float32), reference.astype(np.uint8)


def line(*values, dtype=np.float32):
    """Return one row of voxels."""
    return np.array(values, dtype)[np.newaxis, np.newaxis]


def at(rows, threshold, least=0.0):
    """Return the row of a point."""
    (row,) = (r for r in rows if (r["threshold"], r["min_diameter_mm"]) == (threshold, least))
    return row


# By hand

P_LINE = line(0.9, 0.8, 0.2, 0.0, 0.6, 0.0, 0.4, 0.4)
R_LINE = line(1, 1, 1, 0, 0, 0, 1, 0, dtype=np.uint8)


def test_the_counts_of_one_row_of_voxels():
    """Above .3: 2 of 3, a false voxel, 1 of 1 and a voxel too many; IoU 2/3 and 1/2."""
    thresholds = (0.1, 0.3, 0.5, 0.7, 0.95)
    swept = sweep_case(P_LINE, R_LINE, (2.0, 5.0, 10.0), thresholds)
    assert swept.voxels_prediction[:, 0].tolist() == [6, 5, 3, 2, 0]
    assert swept.voxels_overlap[:, 0].tolist() == [4, 3, 2, 2, 0]
    assert swept.lesions_hit[:, 0].tolist() == [2, 2, 1, 1, 0]
    assert swept.lesions_false[:, 0].tolist() == [1, 1, 1, 0, 0]
    assert (swept.voxels_reference, swept.lesions_reference, swept.voxels_unknown) == (4, 2, 0)
    assert swept.voxel_ml == pytest.approx(0.1)

    rows = case_rows(swept, thresholds, (0.0,))
    assert [("case", *row) for row in rows] == [CASE_COLUMNS] * 5
    assert [row["dice"] for row in rows] == [8 / 10, 6 / 9, 4 / 7, 4 / 6, 0]
    assert [row["precision"] for row in rows] == [4 / 6, 3 / 5, 2 / 3, 1, None]
    assert [row["recall"] for row in rows] == [1, 3 / 4, 1 / 2, 1 / 2, 0]
    assert [row["lesions_fn"] for row in rows] == [0, 0, 1, 1, 2]
    assert [row["volume_prediction_ml"] for row in rows] == pytest.approx([0.6, 0.5, 0.3, 0.2, 0])
    assert [row["volume_reference_ml"] for row in rows] == pytest.approx([0.4] * 5)


@pytest.mark.parametrize(
    ("least_iou", "hit", "false"), [(0, 2, 1), (0.5, 2, 1), (0.51, 1, 2), (0.67, 0, 3)]
)
def test_what_makes_a_lesion_found(least_iou, hit, false):
    swept = sweep_case(P_LINE, R_LINE, ISOTROPIC, (0.3,), least_iou=least_iou)
    assert (swept.lesions_hit.item(), swept.lesions_false.item()) == (hit, false)


@pytest.mark.parametrize(
    ("least_iou", "hit", "false"),
    [(0, [1, 1], [0, 0]), (0.5, [1, 1], [1, 0]), (0.6, [0] * 2, [2, 1])],
)
def test_two_components_in_one_lesion(least_iou, hit, false):
    """One voxel and two of a lesion of four; of IoU, one partner. The filter leaves the two."""
    probability, reference = line(0.9, 0, 0.9, 0.9), line(1, 1, 1, 1, dtype=np.uint8)
    how = {"metric": "sphere", "least_iou": least_iou}
    swept = sweep_case(probability, reference, ISOTROPIC, (0.5,), (0, 1.5), **how)
    assert (swept.lesions_hit.tolist(), swept.lesions_false.tolist()) == ([hit], [false])


def test_a_probability_equal_to_the_threshold_is_not_above_it():
    """0.1 in single precision is more than 0.1 in double, and must not pass for it."""
    for dtype in (np.float32, np.float64, np.float16):
        probability = line(*THRESHOLDS, dtype=dtype)
        swept = sweep_case(probability, np.ones_like(probability, np.uint8), ISOTROPIC, THRESHOLDS)
        assert swept.voxels_prediction[:, 0].tolist() == [4, 3, 2, 1, 0]


def test_the_filter_drops_what_is_too_small():
    """Cubes of 2 and 4 voxels have ellipsoids of sqrt(5) and 5 mm; 5 mm keeps one of 5 mm."""
    probability = np.zeros((12, 12, 12), np.float32)
    probability[1:3, 1:3, 1:3] = 0.9
    probability[6:10, 6:10, 6:10] = 0.6
    reference = (probability > 0).astype(np.uint8)
    swept = sweep_case(probability, reference, ISOTROPIC, (0.5, 0.8), (0, 2.2, 2.3, 5, 5.1))
    assert swept.voxels_prediction.tolist() == [[72, 72, 64, 64, 0], [8, 8, 0, 0, 0]]
    assert swept.voxels_overlap.tolist() == swept.voxels_prediction.tolist()
    assert swept.lesions_hit.tolist() == [[2, 2, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert swept.lesions_false.tolist() == [[0] * 5] * 2


def test_a_flat_component_goes_as_the_filter_is_told():
    probability = np.zeros((3, 8, 8), np.float32)
    probability[1, 1:7, 1:7] = 0.9
    reference = np.zeros((3, 8, 8), np.uint8)

    def kept(flat, axial=0, **options):
        points = ((0.5,), (0, 4, 9))
        grid = sliced_across(axial, probability.shape)
        swept = sweep_case(probability, reference, grid, *points, flat=flat, **options)
        return swept.lesions_false[0].tolist()

    assert kept("drop") == [1, 0, 0]
    assert kept("keep") == [1, 1, 1]
    assert kept("recist") == [1, 1, 0]  # across the diagonal: 8.5 mm
    assert kept("recist", axial=1) == [1, 0, 0]  # slices of 1 × 6 voxels


# Unknown voxels


def test_unknown_voxels_count_in_no_score():
    """Of the predicted 5 + 2 voxels, 2 and 2 are unknown; the second lesion is not judged."""
    probability = line(*[0.9] * 5, 0, 0.9, 0.9, 0, 0.9)
    reference = line(1, 1, 1, 2, 2, 0, 2, 2, 0, 0, dtype=np.uint8)
    swept = sweep_case(probability, reference, ISOTROPIC, (0.5,), least_iou=1)
    assert (swept.voxels_prediction.item(), swept.voxels_overlap.item()) == (4, 3)
    assert (swept.lesions_hit.item(), swept.lesions_false.item()) == (1, 1)
    assert (swept.voxels_reference, swept.voxels_unknown) == (3, 4)


def test_the_filter_measures_components_with_their_unknown_voxels():
    probability = np.zeros((8, 8, 8), np.float32)
    probability[2:6, 2:6, 2:6] = 0.9
    reference = np.full((8, 8, 8), 2, np.uint8)
    reference[2:4, 2:4, 2:4] = 1
    swept = sweep_case(probability, reference, ISOTROPIC, (0.5,), (0, 5, 5.1))
    assert swept.voxels_prediction.tolist() == [[8, 8, 0]]
    assert swept.lesions_hit.tolist() == [[1, 1, 0]]


# Against the functions that the tools use


def point(probability, reference, threshold, least, **how):
    """Do at one point what lnq-infer, lnq-filter-diameter and lnq-metrics would."""
    least_iou, connectivity = how.pop("least_iou"), how.pop("connectivity")
    above = (probability > probability.dtype.type(threshold)).astype(np.uint8)
    found = find_components(above, SPACING, connectivity)
    prediction = keep(found, large_enough(found, least, how["metric"], how["flat"]))
    voxels = overlap(prediction, reference, SPACING)
    lesions = find_lesions(prediction, reference, SPACING, connectivity)
    return voxels, detection_table(lesions, least_iou=least_iou)[0]


@settings(max_examples=30)
@given(seeds, connectivities, hits, metrics, flats)
def test_each_point_is_what_the_tools_make(seed, connectivity, least_iou, metric, flat):
    probability, reference = case(seed)
    how = {**{"connectivity": connectivity, "least_iou": least_iou, "metric": metric, "flat": flat}}
    swept = sweep_case(probability, reference, SPACING, THRESHOLDS, DIAMETERS, **how)
    for row in case_rows(swept, THRESHOLDS, DIAMETERS):
        voxels, lesions = point(
            probability, reference, row["threshold"], row["min_diameter_mm"], **how
        )
        for name in ("dice", "precision", "recall"):
            assert row[name] == voxels[name]
        for name in ("volume_prediction_ml", "volume_reference_ml"):
            assert row[name] == pytest.approx(voxels[name])
        for name in ("tp", "fn", "fp"):
            assert row[f"lesions_{name}"] == lesions[name]
        assert row["lesions_reference"] == lesions["components_reference"]


@settings(max_examples=30)
@given(seeds)
def test_voxel_scores_are_those_of_the_known_voxels(seed):
    probability, reference = case(seed, unknown=True)
    known = reference != 2
    swept = sweep_case(probability, reference, SPACING, THRESHOLDS)
    for row in case_rows(swept, THRESHOLDS, (0.0,)):
        above = probability > np.float32(row["threshold"])
        voxels = overlap(
            above[known][np.newaxis, np.newaxis], (reference == 1)[known][None, None], SPACING
        )
        assert [row[name] for name in ("dice", "precision", "recall")] == [
            voxels[name] for name in ("dice", "precision", "recall")
        ]
    assert swept.voxels_unknown == (~known).sum()


@settings(max_examples=30)
@given(seeds, st.booleans(), metrics)
def test_a_higher_threshold_or_least_diameter_never_predicts_more(seed, unknown, metric):
    probability, reference = case(seed, unknown=unknown)
    swept = sweep_case(probability, reference, SPACING, THRESHOLDS, DIAMETERS, metric=metric)
    for counts in (swept.voxels_prediction, swept.voxels_overlap):
        assert (np.diff(counts[:, 0]) <= 0).all()
        assert (np.diff(counts, axis=1) <= 0).all()
    rows = sweep_rows([swept], THRESHOLDS, (0.0, *DIAMETERS[1:]))
    whole = [row for row in rows if row["min_diameter_mm"] == 0]
    for name in ("recall", "volume_prediction_ml"):
        values = [row[name] for row in whole if row[name] is not None]
        assert values == sorted(values, reverse=True)


# All cases


def test_the_table_of_two_cases():
    """At .5 the second case has 1 voxel predicted beside its one node voxel, at .7 none."""
    other = sweep_case(line(0.6, 0.1), line(0, 1, dtype=np.uint8), ISOTROPIC, (0.5, 0.7))
    first = sweep_case(P_LINE, R_LINE, ISOTROPIC, (0.5, 0.7))
    low, high = sweep_rows([first, other], (0.5, 0.7), (0.0,))
    assert (tuple(low), tuple(high)) == (COLUMNS, COLUMNS)
    assert low == {
        **{"threshold": 0.5, "min_diameter_mm": 0.0, "n": 2},
        **{"dice": 2 / 7, "precision": 1 / 3, "recall": 1 / 4},
        **{"n_dice": 2, "n_precision": 2, "n_recall": 2},
        "dice_pooled": 4 / 9,
        **{"volume_prediction_ml": pytest.approx(2e-3), "volume_reference_ml": 2.5e-3},
        **{"lesions_reference": 3, "lesions_tp": 1, "lesions_fn": 2, "lesions_fp": 2},
        **{"lesion_sensitivity": 1 / 3, "lesion_precision": 1 / 3, "lesion_f1": 1 / 3},
        **{"fp_per_case": 1.0, "n_unknown": 0, "best": False},
    }
    assert [high[name] for name in ("dice", "precision", "recall")] == [1 / 3, 1, 1 / 4]
    assert [high[name] for name in ("n_dice", "n_precision", "n_recall")] == [2, 1, 2]
    assert [high["lesion_precision"], high["lesion_f1"], high["fp_per_case"]] == [1, 1 / 2, 0]
    assert high["best"] is True


def test_cases_without_a_score_are_left_out_and_counted():
    empty = sweep_case(line(0.6, 0.1), line(0, 0, dtype=np.uint8), ISOTROPIC, (0.5, 0.7))
    weak = sweep_case(line(0.8, 0.8), line(1, 2, dtype=np.uint8), ISOTROPIC, (0.5, 0.7))
    low, high = sweep_rows([empty, weak], (0.5, 0.7), (0.0,))
    assert [low["dice"], low["n_dice"], low["recall"], low["n_recall"]] == [0.5, 2, 1, 1]
    assert [high["dice"], high["n_dice"], high["precision"], high["n_precision"]] == [1, 1, 1, 1]
    assert (low["n_unknown"], high["n_unknown"]) == (1, 1)
    _, nothing = sweep_rows([empty], (0.5, 0.7), (0.0,))
    undefined = [name for name, value in nothing.items() if value is None]
    assert undefined == [
        *("dice", "precision", "recall", "dice_pooled"),
        *("lesion_sensitivity", "lesion_precision", "lesion_f1"),
    ]
    assert nothing["best"] is False
    assert nothing["fp_per_case"] == 0


@settings(max_examples=30)
@given(st.lists(seeds, min_size=1, max_size=5))
def test_means_and_sums_are_those_of_the_cases(some):
    sweeps = [sweep_case(*case(seed), SPACING, THRESHOLDS, DIAMETERS) for seed in some]
    by_case = [case_rows(sweep, THRESHOLDS, DIAMETERS) for sweep in sweeps]
    for row, *of_cases in zip(sweep_rows(sweeps, THRESHOLDS, DIAMETERS), *by_case, strict=True):
        for name in ("dice", "precision", "recall"):
            values = [r[name] for r in of_cases if r[name] is not None]
            assert row[f"n_{name}"] == len(values)
            assert row[name] == (pytest.approx(np.mean(values)) if values else None)
        tp, fn, fp = (sum(r[f"lesions_{name}"] for r in of_cases) for name in ("tp", "fn", "fp"))
        assert [row["lesions_tp"], row["lesions_fn"], row["lesions_fp"]] == [tp, fn, fp]
        f1 = float(Fraction(2 * tp, 2 * tp + fp + fn)) if tp + fp + fn else None
        assert row["lesion_f1"] == f1


# The best point


def scored(**dice):
    """Return rows of points named like t40_d5."""
    rows = []
    for name, value in dice.items():
        threshold, least = name[1:].split("_d")
        point_ = {"threshold": int(threshold) / 100, "min_diameter_mm": float(least)}
        rows.append({**point_, "dice": value, "dice_pooled": None, "lesion_f1": 1 - (value or 0)})
    return rows


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        (scored(t40_d0=0.3, t60_d5=0.4, t80_d0=0.39), 1),
        (scored(t10_d0=0.5, t40_d5=0.5, t70_d0=0.5), 1),  # nearest to .5
        (scored(t60_d0=0.5, t40_d5=0.5), 1),  # as near: the lower threshold
        (scored(t40_d9=0.5, t40_d5=0.5, t40_d7=0.5), 1),  # the smaller diameter
        (scored(t50_d0=0.1 + 0.2, t90_d0=0.3, t10_d0=0.3), 0),
        (scored(t90_d0=0.3, t50_d0=0.3, t10_d0=0.1 + 0.2), 1),  # rounding makes none better
        (scored(t50_d0=None, t90_d0=0.0), 1),
        (scored(t50_d0=None), None),
    ],
)
def test_the_best_point_and_ties(rows, best):
    assert best_point(rows) == best


def test_the_score_says_which_point_is_the_best():
    rows = scored(t40_d0=0.3, t60_d5=0.4, t80_d0=0.39)
    assert best_point(rows, "lesion-f1") == 0
    assert best_point(rows, "dice-pooled") is None
    assert {score.replace("-", "_") for score in SCORES} < set(COLUMNS)
    with pytest.raises(LnqError, match="score 'recall' is not one of dice, dice-pooled"):
        best_point(rows, "recall")


# What is refused


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"probability": P_LINE * 20 - 10}, "holds values from -10 to 8; probabilities lie"),
        ({"probability": R_LINE}, "holds whole numbers, as a mask does"),
        ({"probability": P_LINE[0]}, "must have three axes"),
        ({"reference": R_LINE * 3}, "holds the value 3; a reference holds 0 background, 1 node"),
        ({"reference": R_LINE[..., 1:]}, r"map \(1, 1, 8\) and reference \(1, 1, 7\) differ"),
        ({"grid": (1, 1, 0)}, "spacing must be three lengths above 0"),
        ({"thresholds": ()}, "a sweep needs thresholds"),
        ({"thresholds": (0.5, 1.0)}, "thresholds lie from 0 to below 1"),
        ({"thresholds": (np.nan,)}, "thresholds lie from 0 to below 1"),
        ({"thresholds": (0.5, 0.5)}, "thresholds must ascend"),
        ({"min_diameters_mm": (5.0, 0.0)}, "least diameters must ascend"),
        ({"min_diameters_mm": (-1.0,)}, "least diameters lie from 0"),
        ({"least_iou": 1.5}, "an IoU lies between 0 and 1"),
        ({"metric": "width"}, "diameter 'width' is not one of"),
        ({"flat": "bend"}, "drop, keep or recist, not 'bend'"),
        ({"connectivity": 8}, "connectivity 8 is not one of"),
        ({"grid": make_grid()}, r"mask \(1, 1, 8\) and grid \(4, 5, 6\) differ in size"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(change, sentence):
    given_ = {
        **{"probability": P_LINE, "reference": R_LINE, "grid": ISOTROPIC},
        **{"thresholds": (0.5,), "metric": "recist", **change},
    }
    with pytest.raises(LnqError, match=sentence):
        sweep_case(**given_)


# The picture


@pytest.fixture(scope="module")
def table():
    pytest.importorskip("matplotlib")
    sweeps = [sweep_case(*case(seed), SPACING, THRESHOLDS, DIAMETERS) for seed in range(4)]
    return sweep_rows(sweeps, THRESHOLDS, DIAMETERS)


@pytest.mark.parametrize(
    ("form", "begin"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml")]
)
def test_the_picture_has_its_form_and_is_the_same_each_time(form, begin, table):
    picture = sweep_picture(table, form)
    assert picture.startswith(begin)
    assert picture == sweep_picture(table, form)


def drawn(rows, monkeypatch):
    """Return the figure that is drawn of some rows."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: (figures.append(figure), save(figure, *a, **k))
    )
    sweep_picture(rows)
    return figures[0]


def test_the_lines_are_the_values_of_the_table(table, monkeypatch):
    figure = drawn(table, monkeypatch)
    best = next(row for row in table if row["best"])
    assert len(figure.axes) == len(PANELS) == 6
    titles = ["Dice", "recall", "precision"]
    titles += ["lesion F1", "lesion sensitivity", "lesion precision"]
    assert [panel.get_title() for panel in figure.axes] == titles
    for panel, column in zip(figure.axes, PANELS, strict=True):
        lines = {of.get_label(): of.get_xydata().tolist() for of in panel.lines}
        for least, label in zip(DIAMETERS, ("all", "≥ 2 mm", "≥ 4 mm", "≥ 8 mm"), strict=True):
            expected = [at(table, threshold, least)[column] for threshold in THRESHOLDS]
            points = np.array(
                [[t, np.nan if v is None else v] for t, v in zip(THRESHOLDS, expected, strict=True)]
            )
            np.testing.assert_array_equal(lines[label], points)
        marked = [of.get_xydata().tolist() for of in panel.lines if of.get_marker() == "D"]
        assert marked == [[[best["threshold"], best[column]]]]
    assert figure.get_suptitle().startswith("n = 4 cases; best for them (◆): threshold ")


def test_a_table_without_a_best_point_is_drawn_without_it(monkeypatch):
    pytest.importorskip("matplotlib")
    empty = sweep_case(line(0.1, 0.1), line(0, 0, dtype=np.uint8), ISOTROPIC, (0.5, 0.7))
    figure = drawn(sweep_rows([empty], (0.5, 0.7), (0.0,)), monkeypatch)
    assert figure.get_suptitle() == "n = 1 case"
    assert [len(panel.lines) for panel in figure.axes] == [1] * 6


def test_svg_is_xml_with_a_panel_a_score(table):
    root = ET.fromstring(sweep_picture(table, "svg"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert [name for name in ids if name.startswith("axes_")] == [f"axes_{k}" for k in range(1, 7)]
