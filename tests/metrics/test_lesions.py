"""Lesions against hand counts, brute force and independent libraries."""

from fractions import Fraction

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from lnqtools.choices import METRICS
from lnqtools.components.diameters import diameters_mm
from lnqtools.components.labeling import find_components
from lnqtools.components.matching import component_overlaps, find_lesions
from lnqtools.components.rows import column_name
from lnqtools.components.sizes import STRATA, strata
from lnqtools.errors import LnqError
from lnqtools.metrics.lesions import (
    detection_table,
    finding,
    lesion_table,
    overlap_by_diameter,
    pool_detection,
    summarize_detection,
)
from lnqtools.metrics.masks import evaluate

ISOTROPIC = (1.0, 1.0, 1.0)
SPACING = (3.0, 0.93, 0.93)

seeds = st.integers(0, 2**32 - 1)
connectivities = st.sampled_from([6, 18, 26])
any_iou = st.sampled_from([0, 1e-9, 0.1, 0.25, 0.5, 0.7, 1])


def random_pair(seed, shape=(4, 7, 8)):
    """Return masks of many components that overlap in part."""
    random = np.random.default_rng(seed)
    density = random.choice([0.05, 0.15, 0.3])
    reference = random.random(shape) < density
    prediction = reference ^ (random.random(shape) < density * random.choice([0.2, 0.5, 1]))
    return prediction.astype(np.uint8), reference.astype(np.uint8)


def masks(shape, prediction=(), reference=()):
    """Return a prediction and a reference made of boxes."""
    pair = np.zeros((2, *shape), np.uint8)
    for mask, boxes in zip(pair, (prediction, reference), strict=True):
        for box in boxes:
            mask[box] = 1
    return pair[0], pair[1]


def row_of(length, prediction, reference):
    """Return masks of one row of voxels that holds runs (start, stop)."""
    boxes = ([np.s_[0, 0, a:b] for a, b in runs] for runs in (prediction, reference))
    return masks((1, 1, length), *boxes)


def cube(side, *corner):
    """Return the box of a cube; its ellipsoid diameter is sqrt(20 * (side² - 1) / 12) voxels."""
    return tuple(slice(c, c + side) for c in corner)


def counted_overlaps(prediction, reference, connectivity=6):
    """Return IoU and voxels of each (reference, prediction) pair, counted voxel by voxel."""
    true, predicted = (
        cc3d.connected_components(mask, connectivity=connectivity)
        for mask in (reference, prediction)
    )
    found = {}
    for a in range(1, int(true.max()) + 1):
        for b in range(1, int(predicted.max()) + 1):
            common = int(np.sum((true == a) & (predicted == b)))
            if common:
                union = int(np.sum((true == a) | (predicted == b)))
                first = [np.flatnonzero(m == n)[0] for m, n in ((true, a), (predicted, b))]
                found[tuple(first)] = Fraction(common, union), common
    return found


def partner_pairs(lesions, least_iou=0.0):
    """Return the first voxels of partners, (reference, prediction), with their IoU."""
    first = [
        [side.components.voxels_of(k + 1)[0] for k in range(side.components.count)]
        for side in lesions
    ]
    return {
        (first[0][k], first[1][partner - 1]): iou
        for k, (partner, iou) in enumerate(
            zip(lesions.reference.partners, lesions.reference.ious, strict=True)
        )
        if partner and iou >= least_iou
    }


# --- overlaps -----------------------------------------------------------------------------------


@given(seeds, connectivities)
@settings(max_examples=40, deadline=None)
def test_overlaps_are_those_of_two_label_maps(seed, connectivity):
    prediction, reference = random_pair(seed, (5, 9, 12))
    first = find_components(reference, ISOTROPIC, connectivity)
    second = find_components(prediction, ISOTROPIC, connectivity)
    labels = np.stack([first.label_map().ravel(), second.label_map().ravel()], axis=1)
    pairs, counts = np.unique(labels[labels.all(axis=1)], axis=0, return_counts=True)
    found = component_overlaps(first, second)
    np.testing.assert_array_equal(np.stack(found[:2], axis=1), pairs.reshape(-1, 2))
    np.testing.assert_array_equal(found.voxels, counts)
    np.testing.assert_array_equal(
        find_lesions(prediction, reference, ISOTROPIC, connectivity).reference.overlap_voxels,
        first.overlap_voxels(prediction),
    )


def test_runs_that_only_touch_do_not_overlap():
    """Neither end to end within a row, nor over the end of a row."""
    within = row_of(6, [(0, 3)], [(3, 6)])
    over_the_end = masks((1, 2, 4), [np.s_[0, 0, 2:]], [np.s_[0, 1, :2]])
    for prediction, reference in (within, over_the_end):
        first, second = (find_components(m, ISOTROPIC) for m in (reference, prediction))
        assert (first.count, second.count) == (1, 1)
        assert [part.size for part in component_overlaps(first, second)] == [0, 0, 0]


def test_what_cannot_be_compared_is_said():
    mask = np.ones((3, 4, 5), np.uint8)
    with pytest.raises(LnqError, match=r"differ in size: \(3, 4, 5\) and \(3, 4, 4\)"):
        find_lesions(mask[:, :, 1:], mask, ISOTROPIC)
    with pytest.raises(LnqError, match="above 0 mm"):
        find_lesions(mask, mask, (1, -1, 1))
    with pytest.raises(LnqError, match="three axes"):
        find_lesions(mask[0], mask[0], ISOTROPIC)
    with pytest.raises(LnqError, match="connectivity 4"):
        find_lesions(mask, mask, ISOTROPIC, 4)
    with pytest.raises(LnqError, match="diameter 'short' is not one of"):
        detection_table(find_lesions(mask, mask, ISOTROPIC), "short")
    for iou in (-0.1, 1.1, float("nan")):
        with pytest.raises(LnqError, match=r"an IoU lies between 0 and 1"):
            detection_table(find_lesions(mask, mask, ISOTROPIC), least_iou=iou)
    for width in (0, -1, float("nan")):
        with pytest.raises(LnqError, match="wider than 0 mm"):
            overlap_by_diameter([], width)


# --- partners -----------------------------------------------------------------------------------


def test_the_pair_of_the_best_iou_are_partners_though_two_others_sum_to_more():
    # the first reference shares 11 of its 40 voxels with the first prediction and 28 with the
    # second, which also covers the second reference
    prediction, reference = row_of(52, [(0, 11), (12, 52)], [(0, 40), (41, 52)])
    ious = np.array([[11 / 40, 28 / 52], [0, 11 / 40]])
    of_largest_sum = linear_sum_assignment(-ious)[1].tolist()
    assert of_largest_sum == [0, 1]
    found = find_lesions(prediction, reference, ISOTROPIC)
    assert found.reference.partners.tolist() == [2, 0]
    assert found.prediction.partners.tolist() == [0, 1]
    assert found.reference.ious.tolist() == [28 / 52, 0]
    assert found.prediction.ious.tolist() == [0, 28 / 52]


def test_of_equal_ious_the_one_with_more_voxels_wins_and_then_the_lower_number():
    # 1 of 1 and 4 voxels, 2 of 6 and 4: both IoUs are 1/4
    larger = find_lesions(*row_of(8, [(0, 1), (2, 8)], [(0, 4)]), ISOTROPIC)
    assert larger.reference.partners.tolist() == [2]
    assert larger.reference.ious.tolist() == [0.25]
    twins = find_lesions(*row_of(5, [(0, 2), (3, 5)], [(0, 5)]), ISOTROPIC)
    assert twins.reference.partners.tolist() == [1]
    assert twins.prediction.partners.tolist() == [1, 0]
    turned = find_lesions(*row_of(5, [(0, 5)], [(0, 2), (3, 5)]), ISOTROPIC)
    assert turned.reference.partners.tolist() == [1, 0]


@given(seeds, connectivities)
@settings(max_examples=60, deadline=None)
def test_partners_are_those_of_taking_the_best_pair_again_and_again(seed, connectivity):
    prediction, reference = random_pair(seed)
    left = counted_overlaps(prediction, reference, connectivity)
    expected = {}
    while left:
        best = max(left, key=lambda pair: (*left[pair], -pair[0], -pair[1]))
        expected[best] = float(left[best][0])
        left = {p: v for p, v in left.items() if p[0] != best[0] and p[1] != best[1]}
    found = find_lesions(prediction, reference, ISOTROPIC, connectivity)
    assert partner_pairs(found) == expected


@given(seeds, connectivities, st.sampled_from([0.5, 0.6, 0.8]))
@settings(max_examples=40, deadline=None)
def test_from_one_half_on_no_other_matching_exists(seed, connectivity, least):
    """All pairs of that IoU are partners, and scipy's best assignment finds the same."""
    prediction, reference = random_pair(seed)
    overlaps = counted_overlaps(prediction, reference, connectivity)
    pairs = {pair: float(iou) for pair, (iou, _) in overlaps.items() if float(iou) >= least}
    found = find_lesions(prediction, reference, ISOTROPIC, connectivity)
    assert partner_pairs(found, least) == pairs
    numbers = [
        {first: k for k, first in enumerate(sorted({pair[side] for pair in pairs}))}
        for side in (0, 1)
    ]
    ious = np.zeros([len(number) for number in numbers])
    for (a, b), iou in pairs.items():
        ious[numbers[0][a], numbers[1][b]] = iou
    rows, columns = linear_sum_assignment(-ious)
    assert ious[rows, columns].tolist() == [pairs[pair] for pair in sorted(pairs)]


# --- the table of lesions -----------------------------------------------------------------------


def test_lesions_of_both_sides_with_their_overlaps_and_partners():
    prediction, reference = masks(
        (6, 10, 20),
        # 10 voxels, 4 of them right; invented; 15 voxels, 12 of them right
        [np.s_[1, 1:3, 3:8], np.s_[5, 5, 15:18], np.s_[4, 0:3, 10:15]],
        # 16 voxels; missed; 12 voxels, all found
        [np.s_[1:3, 1:3, 1:5], np.s_[4, 8, 0], np.s_[4, 0:3, 10:14]],
    )
    found = find_lesions(prediction, reference, (2, 1, 1))
    rows = lesion_table(found, metrics=["sphere", "inscribed"])
    assert rows[0] == {
        "side": "reference",
        "id": 1,
        "voxels": 16,
        "volume_mm3": 32.0,
        "diameter_sphere_mm": pytest.approx((6 * 32 / np.pi) ** (1 / 3)),
        "diameter_inscribed_mm": 2.0,
        "long_axis_mm": pytest.approx(20**0.5),
        "long_axis_slice": 1,
        "max_diameter_mm": pytest.approx(6.0),
        "centroid": (1.5, 1.5, 2.5),
        "overlap_voxels": 4,
        "overlap": 0.25,
        "hit": True,
        "hit_iou_0.1": True,
        "hit_iou_0.5": False,
        "partner": 1,
        "iou": 4 / 22,
    }
    told = ("side", "id", "overlap", "hit", "hit_iou_0.1", "hit_iou_0.5", "partner", "iou")
    assert [tuple(row[name] for name in told) for row in rows] == [
        ("reference", 1, 0.25, True, True, False, 1, 4 / 22),
        ("reference", 2, 1.0, True, True, True, 2, 0.8),
        ("reference", 3, 0.0, False, False, False, None, None),
        ("prediction", 1, 0.4, True, True, False, 1, 4 / 22),
        ("prediction", 2, 0.8, True, True, True, 2, 0.8),
        ("prediction", 3, 0.0, False, False, False, None, None),
    ]


def test_one_component_may_cover_two_but_has_one_partner():
    """Two nodes that the prediction joins: both are touched, one is found."""
    prediction, reference = row_of(20, [(0, 20)], [(0, 12), (13, 20)])
    rows = lesion_table(find_lesions(prediction, reference, ISOTROPIC), [])
    assert [row["hit"] for row in rows] == [True, True, True]
    assert [row["hit_iou_0.1"] for row in rows] == [True, False, True]
    assert [row["partner"] for row in rows] == [1, None, 1]
    assert rows[2]["overlap"] == 0.95


def test_an_iou_of_exactly_the_threshold_is_a_hit():
    # 1 of 10 voxels, and 3 of 6
    for run, hits in (((0, 1), (True, False)), ((0, 5), (True, True))):
        row, _ = lesion_table(find_lesions(*row_of(10, [run], [(0, 10)]), ISOTROPIC), [])
        assert (row["hit_iou_0.1"], row["hit_iou_0.5"]) == hits


def test_lesions_of_empty_masks():
    empty, one = masks((4, 4, 4), [], [np.s_[1, 1, 1]])
    assert lesion_table(find_lesions(empty, empty, ISOTROPIC)) == []
    (missed,) = lesion_table(find_lesions(empty, one, ISOTROPIC))
    assert (missed["side"], missed["overlap"], missed["hit"]) == ("reference", 0.0, False)
    (invented,) = lesion_table(find_lesions(one, empty, ISOTROPIC))
    assert (invented["side"], invented["hit"], invented["partner"]) == ("prediction", False, None)


def test_every_diameter_is_there_by_default():
    prediction, reference = masks((9, 9, 9), [cube(3, 1, 1, 1)], [cube(4, 2, 2, 2)])
    row, _ = lesion_table(find_lesions(prediction, reference, SPACING))
    assert {name for name in row if name.startswith("diameter")} == set(map(column_name, METRICS))


@given(seeds, connectivities)
@settings(max_examples=30, deadline=None)
def test_lesions_add_up_to_the_case(seed, connectivity):
    prediction, reference = random_pair(seed)
    found = find_lesions(prediction, reference, ISOTROPIC, connectivity)
    rows = lesion_table(found, ["sphere"])
    row = evaluate(prediction, reference, ISOTROPIC, connectivity=connectivity)
    both = np.count_nonzero(prediction & reference)
    for side, mask in (("prediction", prediction), ("reference", reference)):
        own = [r for r in rows if r["side"] == side]
        assert len(own) == row[f"components_{side}"]
        assert sum(r["voxels"] for r in own) == np.count_nonzero(mask)
        assert sum(r["overlap_voxels"] for r in own) == both


# --- by diameter --------------------------------------------------------------------------------


def lesion(side, diameter, overlap, metric="ellipsoid"):
    return {"side": side, column_name(metric): diameter, "overlap": overlap}


def test_overlaps_in_bins_of_diameter_by_hand():
    rows = [
        *(lesion("reference", d, v) for d, v in [(0.0, 1.0), (5.0, 0.0), (6.0, 0.2), (7.4, 1.0)]),
        *(lesion("reference", d, v) for d, v in [(7.0, 0.4), (2.4, 0.5), (0.0, 0.0), (0.0, 0.3)]),
        lesion("prediction", 10.0, 0.75),
    ]
    nothing = {"n": 0, "mean": None, "q1": None, "median": None, "q3": None, "hits": 0}
    one = {"n": 1, "mean": 0.5, "q1": 0.5, "median": 0.5, "q3": 0.5, "hits": 1}
    limits = [(0, 2.5), (2.5, 5), (5, 7.5), (7.5, 10), (10, 12.5)]
    names = [
        *({"bin": f"{a:g}-{b:g}mm", "from_mm": a, "to_mm": b} for a, b in limits),
        {"bin": "degenerate", "from_mm": None, "to_mm": None},
    ]
    # of 0, .2, .4, 1 the quartiles lie 3/4, 6/4 and 9/4 steps from the first
    four = {"n": 4, "mean": 0.4, "q1": 0.15, "median": 0.3, "q3": 0.55, "hits": 3}
    flat = {"n": 3, "mean": 1.3 / 3, "q1": 0.15, "median": 0.3, "q3": 0.65, "hits": 2}
    three_quarters = {**dict.fromkeys(("mean", "q1", "median", "q3"), 0.75), "n": 1, "hits": 1}
    by_side = {
        "reference": [one, nothing, four, nothing, nothing, flat],
        "prediction": [nothing, nothing, nothing, nothing, three_quarters, nothing],
    }
    expected = [
        {"side": side, **name, **values}
        for side, summaries in by_side.items()
        for name, values in zip(names, summaries, strict=True)
    ]
    found = overlap_by_diameter(rows)
    assert [list(row) for row in found] == [
        ["side", "bin", "from_mm", "to_mm", "n", "mean", "q1", "median", "q3", "hits"]
    ] * 12
    assert [{k: v for k, v in row.items() if v is None} for row in found] == [
        {k: v for k, v in row.items() if v is None} for row in expected
    ]
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted)


def test_bins_are_those_of_the_chosen_diameter_and_width():
    rows = [
        {**lesion("reference", 0.0, 1.0), **lesion("reference", 9.999999, 1.0, "recist")},
        {**lesion("prediction", 30.0, 0.0), **lesion("prediction", 3.0, 0.0, "recist")},
    ]
    found = overlap_by_diameter(rows, 5, "recist")
    # a diameter that float32 spacings leave a hair below a limit has reached it
    assert [(row["side"], row["bin"]) for row in found if row["n"]] == [
        ("reference", "10-15mm"),
        ("prediction", "0-5mm"),
    ]
    assert len(found) == 8


def test_no_lesion_leaves_the_degenerate_bins_empty():
    found = overlap_by_diameter([])
    assert [(row["side"], row["bin"], row["n"]) for row in found] == [
        ("reference", "degenerate", 0),
        ("prediction", "degenerate", 0),
    ]


# --- detection ----------------------------------------------------------------------------------


@pytest.fixture
def case():
    """Return lesions of every size, found, touched, missed and invented.

    Ellipsoid diameters: cubes of 5 measure 6.3 mm, of 8 10.2, of 12 15.4, planes 0.
    """
    prediction, reference = masks(
        (40, 40, 40),
        [
            cube(5, 0, 0, 0),
            cube(12, 10, 10, 12),  # 2 beside: IoU 10 / 14
            cube(8, 30, 30, 30),  # invented
            np.s_[0, 20:23, 20:23],  # invented plane of 9
            np.s_[0, 30, 30],  # one voxel of the reference's plane
        ],
        [
            cube(5, 0, 0, 0),
            cube(12, 10, 10, 10),
            cube(8, 30, 0, 0),  # missed
            np.s_[0, 30:34, 30:34],  # plane of 16, of which 1 is found
        ],
    )
    return find_lesions(prediction, reference, ISOTROPIC)


COLUMNS = (
    *("components_reference", "components_prediction", "tp", "fn", "fp", "partners_elsewhere"),
    *("sensitivity", "precision", "f1", "pq", "sq", "rq", "fn_volume_ml", "fp_volume_ml"),
)


def test_detection_by_hand(case):
    rows = detection_table(case)
    assert [list(row) for row in rows] == [["stratum", *COLUMNS]] * 5
    iou = 10 / 14
    expected = {
        "all": (4, 5, 2, 2, 3, 0, 0.5, 0.4, 4 / 9, (1 + iou) / 4.5, (1 + iou) / 2, 4 / 9),
        "<10mm": (1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1),
        "10-15mm": (1, 1, 0, 1, 1, 0, 0, 0, 0, 0, None, 0),
        ">=15mm": (1, 1, 1, 0, 0, 0, 1, 1, 1, iou, iou, 1),
        "degenerate": (1, 2, 0, 1, 2, 0, 0, 0, 0, 0, None, 0),
    }
    volumes = [(0.528, 0.522), (0, 0), (0.512, 0.512), (0, 0), (0.016, 0.01)]
    assert [row["stratum"] for row in rows] == list(expected) == list(STRATA)
    for row, volume in zip(rows, volumes, strict=True):
        values = dict(zip(COLUMNS, (*expected[row["stratum"]], *volume), strict=True))
        assert row == pytest.approx({"stratum": row["stratum"], **values}), row["stratum"]


def test_one_voxel_is_a_hit_if_so_asked(case):
    all_sizes, *_, flat = detection_table(case, least_iou=0)
    told = ("tp", "fn", "fp", "sensitivity", "precision", "f1", "fn_volume_ml", "fp_volume_ml")
    assert [all_sizes[name] for name in told] == pytest.approx(
        [3, 1, 2, 0.75, 0.6, 6 / 9, 0.512, 0.521]
    )
    assert [flat[name] for name in ("tp", "fn", "fp")] == [1, 0, 1]
    assert {all_sizes[name] for name in ("pq", "sq", "rq")} == {None}


def test_two_touched_by_one_count_as_two_by_voxel_and_as_one_by_partner():
    found = find_lesions(*row_of(20, [(0, 20)], [(0, 12), (13, 20)]), ISOTROPIC)
    counts = {
        least: [detection_table(found, least_iou=least)[0][name] for name in ("tp", "fn", "fp")]
        for least in (0, 1e-9, 0.5, 0.7)
    }
    assert counts == {0: [2, 0, 0], 1e-9: [1, 1, 0], 0.5: [1, 1, 0], 0.7: [0, 2, 1]}


def test_strata_go_by_the_chosen_diameter_and_each_components_own():
    # feret-min of a cube is its side, in mm; partners of 9 and 10 mm lie in two strata
    prediction, reference = masks((20, 20, 20), [cube(9, 0, 0, 0)], [cube(10, 0, 0, 0)])
    rows = detection_table(find_lesions(prediction, reference, ISOTROPIC), "feret-min")
    counts = {row["stratum"]: [row[name] for name in COLUMNS[:6]] for row in rows}
    nothing = [0, 0, 0, 0, 0, 0]
    assert counts == {
        "all": [1, 1, 1, 0, 0, 1],
        "<10mm": [0, 1, 0, 0, 0, 0],
        "10-15mm": [1, 0, 1, 0, 0, 1],
        ">=15mm": nothing,
        "degenerate": nothing,
    }
    undefined = [name for name, value in rows[1].items() if value is None]
    assert undefined == ["sensitivity", "precision", "f1", "pq", "sq", "rq"]
    # of float32 spacings, 10 voxels of 0.99999994 mm are 10 mm
    nearly = np.full(3, np.nextafter(np.float32(1), np.float32(0)), float)
    rows = detection_table(find_lesions(prediction, reference, nearly), "feret-min")
    assert rows[2]["tp"] == 1


def test_detection_with_empty_masks():
    empty, one = masks((4, 4, 4), [], [np.s_[1:3, 1:3, 1:3]])
    told = ("tp", "fn", "fp", "sensitivity", "precision", "f1", "pq", "sq", "rq")

    def values(prediction, reference):
        row = detection_table(find_lesions(prediction, reference, ISOTROPIC))[0]
        return [row[name] for name in told]

    assert values(empty, empty) == [0, 0, 0, None, None, None, None, None, None]
    assert values(empty, one) == [0, 1, 0, 0, None, 0, 0, None, 0]
    assert values(one, empty) == [0, 0, 1, None, 0, 0, 0, None, 0]
    assert values(one, one) == [1, 0, 0, 1, 1, 1, 1, 1, 1]


@given(seeds, connectivities)
@settings(max_examples=40, deadline=None)
def test_panoptic_quality_is_that_of_its_definition(seed, connectivity):
    """Kirillov et al. 2019, equation 1, from pairs that were counted voxel by voxel."""
    prediction, reference = random_pair(seed)
    pairs = [
        iou
        for iou, _ in counted_overlaps(prediction, reference, connectivity).values()
        if iou >= Fraction(1, 2)
    ]
    true, predicted = (
        int(cc3d.connected_components(mask, connectivity=connectivity).max())
        for mask in (reference, prediction)
    )
    found = find_lesions(prediction, reference, ISOTROPIC, connectivity)
    row = detection_table(found)[0]
    false, missed = predicted - len(pairs), true - len(pairs)
    assert (row["tp"], row["fn"], row["fp"]) == (len(pairs), missed, false)
    if true + predicted:
        weight = len(pairs) + Fraction(false + missed, 2)
        assert row["pq"] == pytest.approx(float(sum(pairs) / weight), rel=1e-12)
        assert row["rq"] == row["f1"] == pytest.approx(float(len(pairs) / weight), rel=1e-12)
    if pairs:
        assert row["sq"] == pytest.approx(float(sum(pairs) / len(pairs)), rel=1e-12)
        assert row["pq"] == pytest.approx(row["sq"] * row["rq"], rel=1e-12)


@given(seeds, connectivities, any_iou, st.sampled_from(["ellipsoid", "sphere"]))
@settings(max_examples=60, deadline=None)
def test_counts_add_up(seed, connectivity, least, metric):
    prediction, reference = random_pair(seed)
    spacing = (4.0, 5.0, 6.0)  # so that all strata are met
    found = find_lesions(prediction, reference, spacing, connectivity)
    rows = detection_table(found, metric, least_iou=least)
    for row in rows:
        assert row["tp"] + row["fn"] == row["components_reference"]
        assert 0 <= row["fp"] <= row["components_prediction"]
    for name in (*COLUMNS[:6], "fn_volume_ml", "fp_volume_ml"):
        assert sum(row[name] for row in rows[1:]) == pytest.approx(rows[0][name])
    assert rows[0]["components_reference"] == found.reference.components.count
    turned = find_lesions(reference, prediction, spacing, connectivity)
    back = detection_table(turned, metric, least_iou=least)[0]
    if least > 0:  # one to one
        assert rows[0]["components_prediction"] == rows[0]["tp"] + rows[0]["fp"]
        sizes = [strata(diameters_mm(side.components, metric)) for side in found]
        pairs = [
            (k, partner - 1)
            for k, partner in enumerate(found.reference.partners)
            if partner and found.reference.ious[k] >= least
        ]
        for row in rows[1:]:
            true, predicted = (of[row["stratum"]] for of in sizes)
            assert row["partners_elsewhere"] == sum(true[k] and not predicted[p] for k, p in pairs)
            here = sum(predicted[p] for _, p in pairs)
            assert row["components_prediction"] == row["fp"] + here
    if least >= 0.5:
        assert (back["tp"], back["fn"], back["fp"]) == tuple(rows[0][k] for k in ("tp", "fp", "fn"))


def test_what_became_of_a_lesion_is_said_and_what_is_covered():
    prediction, reference = row_of(
        60, [(0, 10), (20, 44), (50, 53)], [(1, 10), (24, 28), (30, 33), (55, 57)]
    )
    rows = lesion_table(find_lesions(prediction, reference, ISOTROPIC), [])
    assert [finding(row, 0.5) for row in rows] == [
        "found",
        "100 % covered, IoU < 0.5",  # 4 of 24: swallowed by a larger prediction, not overlooked
        "100 % covered, no partner",
        "missed",
        "true",
        "29 % true, IoU < 0.5",
        "false",
    ]
    assert [finding(row, 0.1) for row in rows[1:3]] == [
        "found",
        "100 % covered, no partner",
    ]
    assert [finding(row, 0) for row in rows] == [
        *["found"] * 3,
        "missed",
        *["true"] * 2,
        "false",
    ]
    prediction, reference = row_of(400, [(0, 299)], [(298, 400)])
    told = [
        finding(row, 0.5)
        for row in lesion_table(find_lesions(prediction, reference, (1, 1, 1)), [])
    ]
    assert told == ["1 % covered, IoU < 0.5", "1 % true, IoU < 0.5"]  # 1 of 102 and of 299: above 0


@given(seeds, any_iou)
@settings(max_examples=20, deadline=None)
def test_what_is_said_of_lesions_is_what_is_counted(seed, least):
    found = find_lesions(*random_pair(seed), ISOTROPIC)
    row = detection_table(found, least_iou=least)[0]
    told = [finding(lesion, least) for lesion in lesion_table(found, [])]
    assert told.count("found") == row["tp"]
    assert told.count("true") == row["components_prediction"] - row["fp"]
    for lesion, words in zip(lesion_table(found, []), told, strict=True):
        assert (words in ("missed", "false")) == (lesion["overlap_voxels"] == 0)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_stricter_hit_finds_no_more(seed):
    found = find_lesions(*random_pair(seed), ISOTROPIC)
    tp = [detection_table(found, least_iou=t)[0]["tp"] for t in (0, 1e-9, 0.1, 0.3, 0.5, 0.9)]
    assert tp == sorted(tp, reverse=True)


# --- detection over cases -----------------------------------------------------------------------


def test_cases_pooled_and_averaged_by_hand(case):
    empty, one = masks((4, 4, 4), [], [cube(3, 0, 0, 0)])
    cases = [case, *(find_lesions(*pair, ISOTROPIC) for pair in [(one, one), (empty, empty)])]
    rows = [
        {"case": str(number), **row}
        for number, found in enumerate(cases)
        for row in detection_table(found)
    ]
    table = summarize_detection(rows)
    assert list(dict.fromkeys(row["stratum"] for row in table)) == list(STRATA)
    summary = {row.pop("metric"): row for row in table if row["stratum"] == "all"}
    assert list(summary) == list(COLUMNS)
    names = ("pooled", "mean", "sd", "median", "min", "max", "n", "n_undefined")
    assert list(summary["tp"]) == ["stratum", *names]
    pooled = {name: row["pooled"] for name, row in summary.items()}
    iou_sum = 2 + 10 / 14
    assert pooled == pytest.approx(
        {
            **{"components_reference": 5, "components_prediction": 6, "tp": 3, "fn": 2, "fp": 3},
            "partners_elsewhere": 0,
            **{"sensitivity": 0.6, "precision": 0.5, "f1": 6 / 11},
            **{"pq": iou_sum / 5.5, "sq": iou_sum / 3, "rq": 6 / 11},
            **{"fn_volume_ml": 0.528, "fp_volume_ml": 0.522},
        }
    )
    values = [[summary[metric][name] for name in names[1:]] for metric in ("fp", "sensitivity")]
    assert values[0] == pytest.approx([1, 3**0.5, 0, 0, 3, 3, 0])  # false positives per case
    assert values[1] == pytest.approx([0.75, 0.125**0.5, 0.75, 0.5, 1, 2, 1])


def test_pooling_one_voxel_hits_leaves_panoptic_quality_undefined(case):
    pooled = pool_detection([detection_table(case, least_iou=0)[0]] * 2)
    assert (pooled["tp"], pooled["sensitivity"]) == (6, 0.75)
    assert {pooled[name] for name in ("pq", "sq", "rq")} == {None}


@given(st.lists(seeds, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_pooling_cases_is_as_one_case_of_all(many):
    pairs = [random_pair(seed) for seed in many]
    apart = [np.pad(pair, ((0, 0), (0, 1), (0, 0), (0, 0))) for pair in pairs]
    prediction, reference = np.concatenate(apart, axis=1)
    whole = detection_table(find_lesions(prediction, reference, ISOTROPIC), "sphere")
    rows = [
        row for pair in pairs for row in detection_table(find_lesions(*pair, ISOTROPIC), "sphere")
    ]
    for expected in whole:
        stratum = expected.pop("stratum")
        pooled = pool_detection(row for row in rows if row["stratum"] == stratum)
        assert pooled == pytest.approx(expected)
