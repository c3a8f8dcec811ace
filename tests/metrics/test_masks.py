"""Metrics against hand counts, full distance transforms and the values of peers."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from lnqtools.errors import LnqError
from lnqtools.metrics.masks import PRESETS, described_row, evaluate, overlap, row_as
from lnqtools.metrics.pairs import MaskPair

ISOTROPIC = (1.0, 1.0, 1.0)
ANISOTROPIC = (3.0, 0.93, 0.93)

seeds = st.integers(0, 2**32 - 1)
edges = st.sampled_from(["surface", "open"])
spacings = st.sampled_from([ISOTROPIC, ANISOTROPIC, (0.7, 2.5, 1.3), (0.2, 0.3, 5.0)])


def surface_distances(prediction, reference, spacing, edge="surface"):
    return MaskPair(prediction, reference, spacing, edge=edge).surface


def by_preset(preset, prediction, reference, spacing, tolerances=(1.0, 2.0)):
    pair = MaskPair(prediction, reference, spacing, edge=PRESETS[preset].edge)
    return described_row(pair, tolerances, preset)


def smooth_mask(random, shape):
    """Lumps that reach the image edge in places, or a few scattered voxels."""
    if random.random() < 0.3:
        return random.random(shape) < random.uniform(0, 0.1)
    noise = gaussian_filter(random.normal(size=shape), random.uniform(0.5, 2.5))
    return noise > np.quantile(noise, random.uniform(0.4, 0.98))


def random_pair(seed):
    """Two masks of one random shape, related or not."""
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 22, 3))
    prediction, reference = smooth_mask(random, shape), smooth_mask(random, shape)
    if random.random() < 0.5:
        reference = prediction ^ (random.random(shape) < 0.05)
    return prediction, reference


def sphere(shape, center, radius_mm, spacing):
    """Voxels whose centers lie within a radius."""
    position = np.ogrid[tuple(slice(0, n) for n in shape)]
    squares = [((p - c) * s) ** 2 for p, c, s in zip(position, center, spacing, strict=True)]
    return sum(squares) <= radius_mm**2


def directed_by_definition(mask, other, spacing, edge):
    """Distances of border voxels by eroding and a distance transform of the whole volume."""
    beyond = edge == "open"
    border = mask & ~binary_erosion(mask, border_value=beyond)
    other_border = other & ~binary_erosion(other, border_value=beyond)
    if not border.any() or not other_border.any():
        return np.zeros(0)
    return distance_transform_edt(~other_border, sampling=spacing)[border]


# --- overlap ------------------------------------------------------------------------------------


def test_overlap_by_hand():
    prediction, reference = np.zeros((2, 3, 3, 5), np.uint8)
    prediction[1, 1, 0:4] = 1
    reference[1, 1, 2:5] = 3  # any non-zero value is foreground
    reference[2, 0, 0:3] = 3
    assert overlap(prediction, reference, (5, 4, 50)) == {
        "status": "ok",
        "dice": 4 / 10,
        "iou": 2 / 8,
        "precision": 2 / 4,
        "recall": 2 / 6,
        "volume_prediction_ml": 4.0,
        "volume_reference_ml": 6.0,
        "volume_error_ml": -2.0,
        "voxels_prediction": 4,
        "voxels_reference": 6,
        "voxels_overlap": 2,
    }


@pytest.mark.parametrize(
    ("predicted", "true", "status", "expected"),
    [
        (0, 0, "both_empty", (None, None, None, None)),
        (0, 1, "empty_prediction", (0, 0, None, 0)),
        (1, 0, "empty_reference", (0, 0, 0, None)),
        (1, 1, "ok", (1, 1, 1, 1)),
    ],
)
def test_empty_masks(predicted, true, status, expected):
    prediction, reference = np.zeros((2, 4, 4, 4), np.uint8)
    prediction[1, 1, 1], reference[1, 1, 1] = predicted, true
    row = evaluate(prediction, reference, ANISOTROPIC)
    assert row["status"] == status
    assert tuple(row[key] for key in ("dice", "iou", "precision", "recall")) == expected
    assert (row["components_prediction"], row["components_reference"]) == (predicted, true)
    distances = ("assd_mm", "masd_mm", "hd_mm", "hd95_mm", "hd95_pooled_mm")
    if status == "ok":
        assert [row[key] for key in distances] == [0] * 5
        assert (row["nsd_1mm"], row["nsd_2mm"]) == (1, 1)
    else:
        assert [row[key] for key in (*distances, "nsd_1mm", "nsd_2mm")] == [None] * 7


# --- surface distances --------------------------------------------------------------------------


def test_distances_by_hand():
    prediction, reference = np.zeros((2, 3, 4, 60), bool)
    prediction[1, 1, [3, 20]] = True
    reference[1, 1, 3] = reference[2, 1, 20] = reference[1, 1, 50] = True
    # Distances of the prediction's voxels: 0 and 2 (z). Of the reference's: 0, 2, 30 * 0.5.
    row = evaluate(prediction, reference, (2, 1, 0.5), tolerances=(0, 1.99, 2, 15))
    assert row["assd_mm"] == pytest.approx((0 + 2 + 0 + 2 + 15) / 5)
    assert row["masd_mm"] == pytest.approx(((0 + 2) / 2 + (0 + 2 + 15) / 3) / 2)
    assert row["hd_mm"] == 15
    assert row["hd95_mm"] == pytest.approx(0.9 * 15 + 0.1 * 2)  # rank 1.9 of 0, 2, 15
    assert row["hd95_pooled_mm"] == pytest.approx(0.8 * 15 + 0.2 * 2)  # rank 3.8 of 0, 0, 2, 2, 15
    assert [row[f"nsd_{t}mm"] for t in ("0", "1.99", "2", "15")] == [0.4, 0.4, 0.8, 1.0]
    near = evaluate(prediction, reference, (2, 1, 0.5), tolerances=(1.99999, 1.9999999))
    assert (near["nsd_1.99999mm"], near["nsd_1.9999999mm"]) == (0.4, 0.8)
    assert (row["components_prediction"], row["components_reference"]) == (2, 3)


def test_only_border_voxels_count():
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    smaller = np.zeros_like(cube)
    smaller[2:5, 2:5, 2:5] = True
    distances = surface_distances(cube, smaller, ISOTROPIC)
    assert distances.from_prediction.size == 5**3 - 3**3
    assert distances.from_reference.size == 3**3 - 1
    # 54 on faces at 1, 36 on edges at sqrt 2, 8 corners at sqrt 3; back: all at 1.
    values, counts = np.unique(distances.from_prediction, return_counts=True)
    assert values == pytest.approx([1, 2**0.5, 3**0.5])
    assert counts.tolist() == [54, 36, 8]
    assert np.all(distances.from_reference == 1)


def test_a_distance_at_the_tolerance_is_within():
    prediction, reference = np.zeros((2, 1, 1, 8), bool)
    prediction[0, 0, 2] = reference[0, 0, 5] = True
    distances = surface_distances(prediction, reference, (1, 1, 0.1))
    assert 3 * 0.1 > 0.3  # in binary
    assert distances.nsd(0.3) == 1
    assert distances.nsd(0.2999) == 0


def test_the_image_edge_is_a_surface_or_open():
    prediction = np.zeros((6, 6, 6), bool)
    prediction[:, :, :3] = True
    reference = np.zeros((6, 6, 6), bool)
    reference[:, :, :5] = True
    opened = surface_distances(prediction, reference, ISOTROPIC, edge="open")
    assert np.all(opened.pooled == 2)
    assert opened.pooled.size == 2 * 36
    closed = surface_distances(prediction, reference, ISOTROPIC)
    assert closed.from_prediction.size == 6 * 6 * 3 - 4 * 4 * 1
    assert closed.assd_mm() < 1


def test_an_open_mask_that_fills_the_image_has_no_surface():
    full = np.ones((3, 4, 5), bool)
    part = np.zeros_like(full)
    part[1, 1, 1] = True
    row = evaluate(full, part, ISOTROPIC, edge="open")
    assert (row["status"], row["assd_mm"], row["nsd_1mm"]) == ("ok", None, None)
    assert row["dice"] == pytest.approx(2 / 61)
    assert evaluate(full, part, ISOTROPIC)["hd_mm"] == pytest.approx(14**0.5)


@pytest.mark.parametrize("spacing", [(0.002, 0.001, 0.001), (0.001, 1000.0, 1000.0)])
def test_the_finest_voxels_take_no_more_memory_than_others(spacing):
    """The least spacing that a file may have: 2.5 mm around a voxel are billions of others."""
    first, second = np.zeros((2, 40, 40, 40), bool)
    first[20, 20, 20] = second[20, 22, 20] = second[23, 20, 20] = True
    tracemalloc.start()
    try:
        measured = surface_distances(first, second, spacing)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    least, most = sorted([2 * spacing[1], 3 * spacing[0]])
    np.testing.assert_allclose(measured.from_prediction, [least], rtol=1e-12)
    np.testing.assert_allclose(sorted(measured.from_reference), [least, most], rtol=1e-12)
    assert peak < 32 << 20


@given(seeds, spacings, edges)
@settings(max_examples=300, deadline=None)
def test_distances_agree_with_a_distance_transform_of_the_whole_volume(seed, spacing, edge):
    prediction, reference = random_pair(seed)
    measured = surface_distances(prediction, reference, spacing, edge=edge)
    there = directed_by_definition(prediction, reference, spacing, edge)
    back = directed_by_definition(reference, prediction, spacing, edge)
    np.testing.assert_allclose(measured.from_prediction, there, rtol=0, atol=1e-9)
    np.testing.assert_allclose(measured.from_reference, back, rtol=0, atol=1e-9)
    if there.size:
        pooled = np.concatenate([there, back])
        row = evaluate(prediction, reference, spacing, edge=edge)
        assert row["assd_mm"] == pytest.approx(pooled.mean(), abs=1e-9)
        assert row["masd_mm"] == pytest.approx((there.mean() + back.mean()) / 2, abs=1e-9)
        assert row["hd_mm"] == pytest.approx(pooled.max(), abs=1e-9)
        assert row["hd95_pooled_mm"] == pytest.approx(np.percentile(pooled, 95), abs=1e-9)
        larger = max(np.percentile(there, 95), np.percentile(back, 95))
        assert row["hd95_mm"] == pytest.approx(larger, abs=1e-9)
        assert row["nsd_2mm"] == np.mean(pooled <= 2 + 1e-6)


@pytest.mark.parametrize("spacing", [ISOTROPIC, ANISOTROPIC, (1.25, 0.7, 0.7)])
def test_far_and_near_surfaces_of_a_large_volume(spacing):
    # Large enough that most queries are probed and the rest goes to the tree.
    shape = (40, 90, 90)
    prediction = sphere(shape, (20, 40, 40), 9.0, spacing) | sphere(
        shape, (5, 80, 80), 3.0, spacing
    )
    reference = sphere(shape, (20, 42, 39), 10.0, spacing) | sphere(shape, (30, 5, 0), 4.0, spacing)
    for edge in ("surface", "open"):
        measured = surface_distances(prediction, reference, spacing, edge=edge)
        there = directed_by_definition(prediction, reference, spacing, edge)
        back = directed_by_definition(reference, prediction, spacing, edge)
        np.testing.assert_allclose(measured.from_prediction, there, rtol=0, atol=1e-9)
        np.testing.assert_allclose(measured.from_reference, back, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("spacing", "cut", "pooled", "masd_open"),
    [
        (ISOTROPIC, False, 4.803, 4.792),
        (ANISOTROPIC, False, 4.396, 4.359),
        (ISOTROPIC, True, 3.071, 4.792),
    ],
    ids=["Conc iso", "Conc aniso", "Border"],
)
def test_the_values_of_peers_lie_within_the_spread_of_positions(spacing, cut, pooled, masd_open):
    # MEASURED.md: spheres of 20 and 15 mm as medpy (pooled) and LNQ2023 (MASD, open edge)
    # measure them. It does not say where in the voxel the center was, and that moves the values
    # by some hundredths; so they must lie within what random positions give.
    random = np.random.default_rng(0)
    shape = [int(46 / side) + 2 for side in spacing]
    found = []
    for _ in range(40):
        center = np.array(shape) // 2 + random.uniform(-0.5, 0.5, 3)
        if cut:
            center[0] = -0.5 + random.uniform(-0.5, 0.5)
        pair = [sphere(shape, center, radius, spacing) for radius in (20, 15)]
        closed = surface_distances(*pair, spacing)
        opened = surface_distances(*pair, spacing, edge="open")
        found.append((closed.assd_mm(), opened.masd_mm()))
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    assert low[0] <= pooled <= high[0]
    assert low[1] <= masd_open <= high[1]
    assert np.all(high - low < 0.3)


def check_concentric(spacing, random):
    """Hold distances between concentric spheres against the difference of their radii.

    The center of a border voxel lies less than the longest side within its sphere, because the
    neighbor outside is no further. From any point of a sphere there is a border voxel within
    the voxel's diagonal: of the voxels that the radius crosses from half a diagonal inside to
    half a diagonal outside, the first is foreground and the last is not.
    """
    side, diagonal = max(spacing), np.linalg.norm(spacing)
    shape = [int(44 / s) + 3 for s in spacing]
    center = np.array(shape) // 2 + random.uniform(-0.5, 0.5, 3)
    pair = [sphere(shape, center, radius, spacing) for radius in (20, 14)]
    measured = surface_distances(*pair, spacing)
    low, high = 20 - 14 - side, 20 - 14 + side + diagonal
    assert low <= measured.pooled.min()
    assert measured.hd_mm() <= high
    # Averages are much nearer, and a little short: most of the surfaces' errors cancel.
    for value in (measured.assd_mm(), measured.masd_mm(), measured.asd_mm()):
        assert 6 - side / 4 <= value <= 6
    row = overlap(*pair, spacing)
    assert row["dice"] == pytest.approx(2 * 14**3 / (20**3 + 14**3), rel=0.01)
    assert row["volume_prediction_ml"] == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.01)
    assert row["volume_error_ml"] == pytest.approx(
        4 / 3 * np.pi * (20**3 - 14**3) / 1000, rel=0.015
    )


@pytest.mark.parametrize("spacing", [ISOTROPIC, ANISOTROPIC, (1.5, 0.8, 2.0)])
def test_concentric_spheres_are_apart_by_the_difference_of_their_radii(spacing):
    random = np.random.default_rng(5)
    for _ in range(20):
        check_concentric(spacing, random)


@pytest.mark.parametrize("spacing", [ISOTROPIC, ANISOTROPIC])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_sphere_is_half_the_shift_away(spacing, axis):
    # | |x - t| - R | averages t / 2 over the sphere |x| = R, for t < 2 R.
    shape = [int(50 / s) + 3 for s in spacing]
    center = np.array(shape) / 2
    shift = np.zeros(3)
    shift[axis] = 6 / spacing[axis]
    pair = [sphere(shape, center + sign * shift / 2, 20, spacing) for sign in (-1, 1)]
    measured = surface_distances(*pair, spacing)
    for value in (measured.assd_mm(), measured.masd_mm(), measured.asd_mm()):
        assert value == pytest.approx(3, abs=max(spacing) / 4)
    assert measured.hd_mm() == pytest.approx(6, abs=max(spacing))


@given(seeds, spacings)
@settings(max_examples=40, deadline=None)
def test_presets_are_our_metrics_under_other_names(seed, spacing):
    pair = random_pair(seed)
    closed = evaluate(*pair, spacing, tolerances=(0.5, 3))
    opened = evaluate(*pair, spacing, edge="open")
    surface = surface_distances(*pair, spacing)
    common = {name: closed[name] for name in ("status", "dice")}
    iou, symmetric = {"iou": closed["iou"]}, {"assd_mm": closed["assd_mm"]}
    assert by_preset("lnq2023", *pair, spacing) == {
        "preset": "lnq2023",
        **common,
        "assd_mm": opened["masd_mm"],
    }
    assert by_preset("medpy", *pair, spacing) == {
        "preset": "medpy",
        **common,
        **iou,
        **{name: closed[name] for name in ("precision", "recall", "hd_mm")},
        "hd95_mm": closed["hd95_pooled_mm"],
        **symmetric,
        "asd_mm": surface.asd_mm(),
    }
    assert by_preset("monai", *pair, spacing, tolerances=(0.5, 3)) == {
        "preset": "monai",
        **common,
        **iou,
        **{name: closed[name] for name in ("hd_mm", "hd95_mm")},
        **symmetric,
        "asd_mm": surface.asd_mm(),
        **{name: closed[name] for name in ("nsd_0.5mm", "nsd_3mm")},
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_leave_undefined_values_out(preset):
    empty, one = np.zeros((2, 4, 4, 4), np.uint8)
    one[1, 1, 1] = 1
    row = by_preset(preset, empty, one, ISOTROPIC)
    assert (row["status"], row["dice"], row["assd_mm"]) == ("empty_prediction", 0, None)
    assert all(row[name] is None for name in row if name.endswith("mm"))
    assert by_preset(preset, empty, empty, ISOTROPIC)["dice"] is None


def test_the_average_from_the_prediction_has_a_direction():
    prediction, reference = np.zeros((2, 1, 1, 9), bool)
    prediction[0, 0, 2] = reference[0, 0, [2, 8]] = True
    there = surface_distances(prediction, reference, (1, 1, 0.5))
    back = surface_distances(reference, prediction, (1, 1, 0.5))
    assert (there.asd_mm(), back.asd_mm()) == (0, 1.5)


@given(seeds, st.permutations([0, 1, 2]), st.sets(st.integers(0, 2)), edges)
@settings(max_examples=60, deadline=None)
def test_values_do_not_depend_on_storage(seed, order, flipped, edge):
    prediction, reference = random_pair(seed)
    spacing = (2.5, 0.7, 1.3)
    moved = [np.flip(mask, tuple(flipped)).transpose(order) for mask in (prediction, reference)]
    expected = evaluate(prediction, reference, spacing, edge=edge)
    measured = evaluate(*moved, [spacing[axis] for axis in order], edge=edge)
    assert measured.keys() == expected.keys()
    for key, value in expected.items():
        number = isinstance(value, float)
        assert measured[key] == (pytest.approx(value, abs=1e-9) if number else value), key


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_swapping_the_masks_swaps_precision_and_recall(seed):
    prediction, reference = random_pair(seed)
    row = evaluate(prediction, reference, ANISOTROPIC)
    swapped = evaluate(reference, prediction, ANISOTROPIC)
    same = ("dice", "iou", "assd_mm", "masd_mm", "hd_mm", "hd95_mm", "hd95_pooled_mm", "nsd_1mm")
    for key in same:
        # The two directions are added in another order: the last digit may differ.
        assert swapped[key] == (row[key] and pytest.approx(row[key], rel=1e-12))
    assert (swapped["precision"], swapped["recall"]) == (row["recall"], row["precision"])
    assert swapped["volume_error_ml"] == -row["volume_error_ml"]
    assert swapped["components_prediction"] == row["components_reference"]


@given(seeds, spacings)
@settings(max_examples=20, deadline=None)
def test_a_mask_agrees_with_itself(seed, spacing):
    mask, _ = random_pair(seed)
    if mask.any():
        row = evaluate(mask, mask, spacing)
        assert (row["dice"], row["iou"], row["hd_mm"], row["nsd_1mm"]) == (1, 1, 0, 1)


def test_dtypes_and_orders_give_one_result():
    prediction, reference = random_pair(11)
    assert prediction.any()
    assert reference.any()
    expected = evaluate(prediction, reference, ANISOTROPIC)
    for dtype in (np.uint8, np.int16, np.int64):
        other = np.asfortranarray(prediction.astype(dtype) * 7)
        assert evaluate(other, reference.astype(dtype), ANISOTROPIC) == expected


def test_the_masks_are_not_changed():
    prediction, reference = random_pair(11)
    copies = prediction.copy(), reference.copy()
    evaluate(prediction, reference, ANISOTROPIC)
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


def test_what_cannot_be_compared_is_said():
    mask = np.ones((3, 4, 5), np.uint8)
    for compare in (evaluate, overlap, surface_distances, partial(by_preset, "medpy")):
        with pytest.raises(LnqError, match=r"\(3, 4, 4\) and reference \(3, 4, 5\) differ in size"):
            compare(mask[:, :, 1:], mask, ISOTROPIC)
        with pytest.raises(LnqError, match="above 0 mm"):
            compare(mask, mask, (1, -1, 1))
        with pytest.raises(LnqError, match="three axes"):
            compare(mask[0], mask[0], ISOTROPIC)
    with pytest.raises(LnqError, match="edge 'closed' is not one of surface, open"):
        evaluate(mask, mask, ISOTROPIC, edge="closed")
    with pytest.raises(LnqError, match="preset 'brats' is not one of lnq2023, medpy, monai"):
        row_as("brats", MaskPair(mask, mask, ISOTROPIC))
    with pytest.raises(LnqError, match="connectivity 4"):
        evaluate(mask, mask, ISOTROPIC, connectivity=4)
