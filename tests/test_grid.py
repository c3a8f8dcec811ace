"""Lattices, boxes and resampling, checked by world coordinates and against other libraries."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from lnqtools.errors import LnqError
from lnqtools.grid import (
    INTERPOLATIONS,
    Grid,
    bounding_box,
    cut_out,
    difference,
    fill_value,
    lattice_map,
    mask_onto,
    place,
    resample,
    whole_box,
)

pytestmark = pytest.mark.filterwarnings("error")

SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""The 48 ways to lay three axes along three others."""


def make_grid(shape=(4, 5, 6), spacing=(3.0, 2.0, 1.0), origin=(10.0, -20.0, 30.0), turn=None):
    """Return a grid; ``turn`` has the world directions of z, y, x as columns."""
    turn = np.eye(3)[:, ::-1] if turn is None else turn
    return Grid(shape, spacing, origin, tuple(map(tuple, np.asarray(turn, float).tolist())))


@st.composite
def grids(draw, oblique=True):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    turn = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    if oblique:
        angles = draw(st.tuples(*[st.integers(-1800, 1800)] * 3))  # ITK fails below 1e-308
        turn = Rotation.from_euler("xyz", np.array(angles) / 10, degrees=True).as_matrix() @ turn
    return make_grid(shape, spacing, origin, turn)


@st.composite
def boxes(draw, shape):
    sides = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        sides.append(slice(start, draw(st.integers(start + 1, n))))
    return tuple(sides)


@st.composite
def turned_grids(draw):
    """Return a grid, another one of the same lattice turned by any of 48 ways, and the way."""
    source = draw(grids())
    way = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    return source, turned_grid(source, way), way


def turned_grid(source: Grid, way: np.ndarray) -> Grid:
    """Return the same voxels in another order: target axis k is the source's axis in column k."""
    axes = np.abs(way).argmax(axis=0)
    signs = way.sum(axis=0)
    first = np.zeros(3)
    first[axes] = np.where(signs < 0, np.array(source.shape)[axes] - 1, 0)
    return make_grid(
        tuple(source.shape[a] for a in axes),
        tuple(source.spacing[a] for a in axes),
        tuple(source.world(first).tolist()),
        np.array(source.direction)[:, axes] * signs,
    )


def numbered(shape) -> np.ndarray:
    """Return an array in which every voxel has another value, from 1 on."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)


def as_stored(grid: Grid) -> Grid:
    """Return a grid as it comes back from a header's 32-bit numbers."""
    return Grid.from_affine(grid.shape, grid.affine.astype(np.float32).astype(float))


# Grids


def test_world_and_index_by_hand():
    grid = make_grid()  # z, y, x along S, A, R; spacing 3, 2, 1 mm
    np.testing.assert_array_equal(grid.world(np.array([0, 0, 0])), (10, -20, 30))
    np.testing.assert_array_equal(grid.world(np.array([1, 1, 1])), (11, -18, 33))
    np.testing.assert_array_equal(grid.world(np.array([[0, 0, 5], [2, 0, 0]])[1]), (10, -20, 36))
    np.testing.assert_allclose(grid.index(np.array([11, -18, 33])), (1, 1, 1))
    np.testing.assert_array_equal(
        grid.affine, [[1, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    )


@given(grids(), arrays(float, (4, 3), elements=st.floats(-100, 100)))
def test_world_agrees_with_nibabel_and_index_reverses_it(grid, index):
    world = grid.world(index)
    np.testing.assert_allclose(
        world, nib.affines.apply_affine(grid.affine, index[:, ::-1]), atol=1e-9
    )
    np.testing.assert_allclose(grid.index(world), index, atol=1e-8)
    again = Grid.from_affine(grid.shape, grid.affine)
    np.testing.assert_allclose(again.affine, grid.affine, atol=1e-9)
    assert difference(grid, again) is None


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
def test_anatomical_axes_of_all_48_orientations(way):
    # rows of the direction are right, anterior, superior
    right, anterior, superior = np.abs(way).argmax(axis=1).tolist()
    for angles in ((0, 0, 0), (20, 10, -15), (-12, 25, 8)):
        tilt = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        grid = make_grid(turn=tilt @ way)
        assert grid.anatomical_axes() == (superior, anterior, right)
        codes = nib.aff2axcodes(grid.affine)[::-1]  # of the array axes z, y, x
        letters = [codes[axis] for axis in grid.anatomical_axes()]
        assert [{"I": "S", "P": "A", "L": "R"}.get(c, c) for c in letters] == ["S", "A", "R"]


@given(st.data())
def test_cropped_voxels_keep_their_places(data):
    grid = data.draw(grids())
    box = data.draw(boxes(grid.shape))
    part = grid.cropped(box)
    assert part.shape == tuple(s.stop - s.start for s in box)
    start = np.array([s.start for s in box])
    np.testing.assert_allclose(
        part.world(part.corners()), grid.world(part.corners() + start), atol=1e-9
    )


@given(grids(), st.tuples(*[st.floats(0.3, 5)] * 3))
def test_with_spacing_keeps_the_centre_and_nearly_the_extent(grid, spacing):
    new = grid.with_spacing(spacing)
    assert new.spacing == spacing
    assert new.direction == grid.direction
    centres = [g.world((np.array(g.shape) - 1) / 2) for g in (grid, new)]
    np.testing.assert_allclose(*centres, atol=1e-9)
    extents = np.array(grid.shape) * grid.spacing, np.array(new.shape) * spacing
    apart = np.abs(np.subtract(*extents))
    alone = np.array(new.shape) == 1
    assert (apart[~alone] <= np.array(spacing)[~alone] / 2 + 1e-9).all()


def test_with_spacing_by_hand():
    new = make_grid((4, 6, 8), (2, 1, 1)).with_spacing((1, 2, 4))
    assert new.shape == (8, 3, 2)
    # the old extent starts at (9.5, -20.5, 29); the first voxel is half a new voxel further in
    assert new.origin == (11.5, -19.5, 29.5)
    assert make_grid((1, 1, 1)).with_spacing((50, 50, 50)).shape == (1, 1, 1)


# Comparing grids


@given(grids())
def test_header_noise_is_no_difference(grid):
    assert difference(grid, as_stored(grid)) is None
    assert difference(as_stored(grid), grid) is None


@given(grids(), st.sampled_from(range(3)), st.sampled_from((-1, 1)))
def test_the_tolerance_is_a_hundredth_of_a_voxel(grid, axis, sign):
    for voxels, same in ((0.009, True), (0.011, False)):
        shift = np.zeros(3)
        shift[axis] = sign * voxels
        origin = tuple(grid.world(shift).tolist())
        moved = Grid(grid.shape, grid.spacing, origin, grid.direction)
        assert (difference(grid, moved) is None) == same
        assert (lattice_map(moved, grid) is not None) == same


@given(grids(), st.sampled_from(range(3)), st.sampled_from((-1, 1)))
def test_another_tolerance_may_be_asked_for(grid, axis, sign):
    for voxels, same in ((0.499, True), (0.501, False)):
        shift = np.zeros(3)
        shift[axis] = sign * voxels
        moved = Grid(grid.shape, grid.spacing, tuple(grid.world(shift).tolist()), grid.direction)
        assert (difference(grid, moved, 0.5) is None) == same


def test_corners_are_those_of_voxels_and_not_their_centres():
    """All centres of a single slice coincide, whatever its thickness."""
    thin, thick = (make_grid((1, 5, 6), (side, 2, 1)) for side in (2.0, 3.0))
    assert difference(thin, thick) == "their spacings are 1 × 2 × 2 and 1 × 2 × 3 mm"
    assert difference(thin, thick, 0.24) is not None  # (3 - 2) / 2 mm are a quarter of 2 mm
    assert difference(thin, thick, 0.26) is None


def test_the_diagonal_is_that_of_the_box_around_all_voxels():
    assert make_grid((4, 3, 12), (3.0, 1.0, 2.0)).diagonal_mm == pytest.approx(729**0.5)
    assert make_grid((1, 1, 1), (2.0, 3.0, 6.0)).diagonal_mm == 7


def test_differences_are_said_in_a_sentence():
    grid = make_grid()
    wide = make_grid((1, 1, 512), (1, 1, 0.5))
    tilt = Rotation.from_euler("z", 5, degrees=True).as_matrix() @ np.eye(3)[:, ::-1]
    cases = [
        (grid, make_grid((4, 5, 7)), "their sizes are 6 × 5 × 4 and 7 × 5 × 4 voxels"),
        (grid, make_grid(spacing=(3, 2.5, 1)), "their spacings are 1 × 2 × 3 and 1 × 2.5 × 3 mm"),
        (grid, make_grid(origin=(10, -20, -20)), "their voxels lie up to 50 mm apart"),
        (grid, make_grid(turn=tilt), "their axes point in different directions"),
        # too little for the eye, but a quarter of a voxel at the far end
        (wide, make_grid((1, 1, 512), (1, 1, 0.50025)), "their voxels lie up to 0.128 mm apart"),
    ]
    for a, b, sentence in cases:
        assert difference(a, b) == sentence
    assert difference(grid, grid) is None


# Copying voxels


@given(st.data())
def test_crop_and_place_back_is_the_identity_inside_the_box(data):
    grid = data.draw(grids())
    box = data.draw(boxes(grid.shape))
    array = numbered(grid.shape)
    cropped_grid = as_stored(grid.cropped(box))
    cropped = place(array, grid, cropped_grid, -7)
    np.testing.assert_array_equal(cropped, array[box])
    back = place(cropped, cropped_grid, as_stored(grid), -7)
    expected = np.full_like(array, -7)
    expected[box] = array[box]
    np.testing.assert_array_equal(back, expected)
    assert back.dtype == array.dtype


@given(turned_grids())
def test_turned_voxels_are_copied_exactly(case):
    source, target, way = case
    mapped = lattice_map(source, target)
    assert mapped is not None
    array = numbered(source.shape)
    turned = place(array, source, as_stored(target), 0)
    # by world coordinates: each target voxel holds what lies at its place
    index = np.moveaxis(np.indices(target.shape), 0, -1)
    at = np.rint(source.index(target.world(index))).astype(int)
    np.testing.assert_array_equal(turned, array[tuple(np.moveaxis(at, -1, 0))])
    assert np.shares_memory(turned, array)
    np.testing.assert_array_equal(place(turned, target, source, 0), array)
    if len(set(source.shape)) == 3 and min(source.shape) > 1:
        assert mapped.axes == tuple(np.abs(way).argmax(axis=0))
        assert mapped.flips == tuple(way.sum(axis=0) < 0)


@given(st.data())
def test_grids_that_overlap_in_part_or_not_at_all(data):
    grid = data.draw(grids())
    start = np.array(data.draw(st.tuples(*[st.integers(-8, 8)] * 3)))
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    target = grid.cropped(tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True)))
    array = numbered(grid.shape)
    padded = np.zeros([n + 40 for n in grid.shape], array.dtype)
    padded[tuple(slice(20, 20 + n) for n in grid.shape)] = array
    expected = padded[tuple(slice(20 + s, 20 + s + n) for s, n in zip(start, shape, strict=True))]
    np.testing.assert_array_equal(place(array, grid, target, 0), expected)
    if expected.all():
        np.testing.assert_array_equal(cut_out(array, grid, target), expected)
    else:
        with pytest.raises(LnqError, match=r"^does not cover the image$"):
            cut_out(array, grid, target)


@given(grids(), st.integers(0, 2), st.floats(0.02, 0.98))
def test_shifts_by_a_part_of_a_voxel_share_no_lattice(grid, axis, part):
    shift = np.zeros(3)
    shift[axis] = part
    moved = Grid(grid.shape, grid.spacing, tuple(grid.world(shift).tolist()), grid.direction)
    assert lattice_map(grid, moved) is None
    with pytest.raises(LnqError, match=r"do not share a lattice; resample"):
        place(numbered(grid.shape), grid, moved, 0)
    with pytest.raises(LnqError, match=r"^lies on another lattice: their voxels do not meet$"):
        cut_out(numbered(grid.shape), grid, moved)


def test_other_lattices():
    grid = make_grid()
    tilt = Rotation.from_euler("y", 45, degrees=True).as_matrix() @ np.eye(3)[:, ::-1]
    finer = "lies on another lattice: their spacings are 1 × 2 × 3 and 0.5 × 2 × 3 mm"
    tilted = "lies on another lattice: their axes point in different directions"
    for other, message in (
        (make_grid(spacing=(3, 2, 0.5)), finer),
        (make_grid(turn=tilt), tilted),
    ):
        assert lattice_map(grid, other) is None
        with pytest.raises(LnqError, match=message):
            cut_out(numbered(grid.shape), grid, other)
    # a spacing that is right to the eye, but drifts by more than the tolerance over the array
    assert lattice_map(make_grid((1, 1, 5)), make_grid((1, 1, 5), (3, 2, 1.001))) is not None
    assert lattice_map(make_grid((1, 1, 50)), make_grid((1, 1, 50), (3, 2, 1.001))) is None


def test_bounding_box():
    mask = np.zeros((4, 5, 6), np.uint8)
    assert bounding_box(mask) is None
    mask[1, 2, 3] = 1
    assert bounding_box(mask) == (slice(1, 2), slice(2, 3), slice(3, 4))
    mask[3, 0, 5] = 7
    assert bounding_box(mask) == (slice(1, 4), slice(0, 3), slice(3, 6))
    assert bounding_box(np.ones((4, 5, 6), bool)) == whole_box((4, 5, 6))
    assert whole_box((4, 5, 6)) == (slice(0, 4), slice(0, 5), slice(0, 6))


def test_fill_value_must_fit_the_voxels():
    assert fill_value(-1024, np.dtype(np.int16)) == -1024
    assert fill_value(255, np.dtype(np.uint8)) == 255
    assert fill_value(-0.5, np.dtype(np.float32)) == -0.5
    for value, dtype in ((-1024, "u1"), (256, "u1"), (0.5, "i2"), (np.nan, "i2"), (np.inf, "i4")):
        with pytest.raises(
            LnqError, match=f"voxels of type .* cannot hold the fill value {value:g}"
        ):
            fill_value(value, np.dtype(dtype))


# Resampling

OBLIQUE = Rotation.from_euler("xyz", (20, -15, 40), degrees=True).as_matrix()


def ramp(grid: Grid, slope=(0.5, -0.25, 2.0), start=100.0) -> np.ndarray:
    """Return a linear function of the world position of each voxel."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    return grid.world(index) @ np.array(slope) + start


def smaller(grid: Grid, turn: np.ndarray) -> Grid:
    """Return a grid of other spacing and direction that lies well inside another."""
    shape, spacing = (3, 4, 5), (1.3, 0.9, 0.7)
    centre = grid.world((np.array(grid.shape) - 1) / 2)
    steps = turn * np.array(spacing)
    origin = centre - steps @ ((np.array(shape) - 1) / 2)
    return make_grid(shape, spacing, tuple(origin.tolist()), turn)


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS[::7], ids=str)
def test_linear_interpolation_of_a_ramp_is_exact(way):
    source = make_grid((9, 10, 11), (2, 1.5, 1), turn=OBLIQUE.T @ way)
    target = smaller(source, OBLIQUE @ way)
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-9)):
        result = resample(ramp(source).astype(dtype), source, target, "linear", 0)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, ramp(target), atol=tolerance)
    cubic = resample(ramp(source).astype(np.float32), source, target, "bspline", 0)
    np.testing.assert_allclose(cubic, ramp(target), atol=0.05)  # the border is not a ramp


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8])
def test_integers_are_rounded_to_nearest(dtype):
    source = make_grid((1, 1, 6), (1, 1, 1))
    origin = tuple(source.world(np.array([0, 0, 0.66])).tolist())
    target = make_grid((1, 1, 5), (1, 1, 1), origin)
    values = np.array([[[0, 1, 2, 3, 4, 5]]])
    result = resample(values.astype(dtype), source, target, "linear", 0)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result[0, 0], [1, 2, 3, 4, 5])  # truncated: 0, 1, 2, 3, 4
    if dtype != np.uint8:
        result = resample(-values.astype(dtype), source, target, "linear", 0)
        np.testing.assert_array_equal(result[0, 0], [-1, -2, -3, -4, -5])


def test_mean_of_integers_is_not_biased():
    rng = np.random.default_rng(3)
    source = make_grid((20, 20, 20), (1, 1, 1))
    target = smaller(source, OBLIQUE).with_spacing((0.3, 0.3, 0.3))
    array = rng.integers(-1000, 1000, source.shape).astype(np.int16)
    whole = resample(array, source, target, "linear", 0)
    real = resample(array.astype(np.float64), source, target, "linear", 0)
    assert np.abs(whole - real).max() <= 0.5 + 1e-3
    assert abs((whole - real).mean()) < 0.05


def test_large_integers_are_not_rounded_to_float32():
    source = make_grid()
    array = np.full(source.shape, 2**24 + 1, np.int32)
    array[0] = 2**31 - 1
    np.testing.assert_array_equal(resample(array, source, source, "linear", 0), array)


def test_no_splines_through_two_voxels():
    source = make_grid((2, 5, 5))
    with pytest.raises(LnqError, match=r"an axis of two voxels is too short for bspline"):
        resample(numbered(source.shape), source, source, "bspline", 0)
    for shape in ((1, 5, 5), (3, 5, 5)):
        source = make_grid(shape, (1, 1, 1))
        finer = source.with_spacing((0.7, 0.8, 0.9))
        result = resample(np.ones(shape, np.float32), source, finer, "bspline", 0)
        np.testing.assert_allclose(result, 1, rtol=1e-6)


def test_overshoot_is_clipped_to_the_type():
    source = make_grid((1, 1, 8), (1, 1, 1))
    step = np.zeros(source.shape, np.uint8)
    step[..., 4:] = 255
    finer = source.with_spacing((1, 1, 0.25))
    result = resample(step, source, finer, "bspline", 0)[0, 0].astype(int)
    real = resample(step.astype(np.float32), source, finer, "bspline", 0)[0, 0]
    assert real.min() < -5
    assert real.max() > 260
    inside = finer.index(source.world(np.array([0, 0, 0])))[2]
    used = slice(int(np.ceil(inside)), -int(np.ceil(inside)))
    np.testing.assert_array_equal(result[used], np.rint(np.clip(real, 0, 255)).astype(int)[used])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_onto_its_own_grid_nothing_changes(interpolation, dtype):
    grid = make_grid((6, 7, 8), (2, 1.5, 1), turn=OBLIQUE)
    array = np.random.default_rng(4).integers(0, 3, grid.shape).astype(dtype)
    if interpolation == "label-gaussian":
        array = np.repeat(np.repeat(np.repeat(array, 3, 0), 3, 1), 3, 2)  # it smooths corners
        array[:] = array[0, 0, 0]
        grid = Grid(array.shape, grid.spacing, grid.origin, grid.direction)
    result = resample(array, grid, grid, interpolation, 0)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, array, atol=1e-5 if array.dtype.kind == "f" else 0)


@given(st.data())
def test_nearest_takes_the_nearest_voxel_by_world_coordinates(data):
    source, target = data.draw(grids()), data.draw(grids())
    centre = source.world((np.array(source.shape) - 1) / 2)
    target = make_grid(
        target.shape, target.spacing, tuple(centre.tolist()), np.array(target.direction)
    )
    labels = numbered(source.shape).astype(np.uint16)
    result = resample(labels, source, target, "nearest", 999)
    index = source.index(target.world(np.moveaxis(np.indices(target.shape), 0, -1)))
    room = np.array(source.shape)
    edge = 1e-3  # ties and the outer faces may go either way
    inside = ((index > -0.5 + edge) & (index < room - 0.5 - edge)).all(-1)
    outside = ((index < -0.5 - edge) | (index > room - 0.5 + edge)).any(-1)
    clear = (np.abs(index - np.floor(index) - 0.5) > edge).all(-1)
    nearest = np.clip(np.rint(index).astype(int), 0, room - 1)
    expected = labels[tuple(np.moveaxis(nearest, -1, 0))]
    np.testing.assert_array_equal(result[inside & clear], expected[inside & clear])
    assert (result[outside] == 999).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_labels_stay_labels_and_outside_is_filled(interpolation):
    source = make_grid((8, 8, 8), (1, 1, 1))
    labels = np.zeros(source.shape, np.uint8)
    labels[2:6, 2:6, 2:6] = 5
    target = source.cropped((slice(0, 8), slice(0, 8), slice(4, 12)))
    result = resample(labels, source, target, interpolation, 9)
    assert result.dtype == np.uint8
    assert (result[..., 4:] == 9).all()
    if interpolation in ("nearest", "label-gaussian"):
        assert set(np.unique(result)) == {0, 5, 9}
        finer = resample(labels, source, source.with_spacing((0.6, 0.7, 0.8)), interpolation, 0)
        assert set(np.unique(finer)) == {0, 5}


def test_linear_interpolation_agrees_with_scipy():
    source = make_grid((6, 7, 8), (3, 2, 1))
    target = source.with_spacing((1.1, 0.9, 1.7)).cropped((slice(2, 12), slice(2, 12), slice(1, 4)))
    array = np.random.default_rng(5).normal(size=source.shape).astype(np.float32)
    at = source.index(target.world(np.moveaxis(np.indices(target.shape), 0, -1)))
    assert (at > 0).all()
    assert (at < np.array(source.shape) - 1).all()
    peer = map_coordinates(array, np.moveaxis(at, -1, 0), order=1)
    result = resample(array, source, target, "linear", 0)
    np.testing.assert_allclose(result, peer, atol=1e-5)


# Masks onto other grids


@given(turned_grids(), st.integers(0, 2**32 - 1))
def test_a_mask_on_the_same_lattice_is_copied(pair, seed):
    source, target, _ = pair
    mask = np.random.default_rng(seed).integers(0, 3, source.shape).astype(np.uint8)
    there, lost = mask_onto(mask, source, target)
    np.testing.assert_array_equal(there, place(mask, source, target, 0))
    assert (there.dtype, lost) == (np.uint8, 0)
    back, _ = mask_onto(there, target, source)
    np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("seed", range(20))
def test_each_voxel_takes_the_value_of_the_nearest_one(seed):
    random = np.random.default_rng(seed)
    tilt = Rotation.from_euler("xyz", random.uniform(-20, 20, 3), degrees=True).as_matrix()
    source = make_grid((7, 9, 8), tuple(random.uniform(0.7, 3, 3)), turn=tilt @ np.eye(3)[:, ::-1])
    centre = source.world(np.array([3, 4, 4]))
    target = make_grid((6, 5, 9), tuple(random.uniform(0.7, 3, 3)))
    start = centre - target.matrix @ [3, 2, 4]
    target = make_grid(target.shape, target.spacing, tuple(start.tolist()))
    mask = random.integers(0, 3, source.shape).astype(np.uint8)
    found, lost = mask_onto(mask, source, target)

    indices = np.moveaxis(np.indices(target.shape), 0, -1)
    at = np.rint(source.index(target.world(indices))).astype(int)
    inside = ((at >= 0) & (at < source.shape)).all(axis=-1)
    expected = np.where(
        inside, mask[tuple(np.moveaxis(np.where(inside[..., None], at, 0), -1, 0))], 0
    )
    np.testing.assert_array_equal(found, expected)
    beyond = target.index(source.world(np.argwhere(mask)))
    kept = ((np.rint(beyond) >= 0) & (np.rint(beyond) < target.shape)).all(axis=1)
    assert lost == np.count_nonzero(~kept)


def test_masks_that_meet_nowhere_are_not_brought_together():
    with pytest.raises(LnqError, match="do not meet anywhere"):
        mask_onto(np.ones((4, 5, 6), np.uint8), make_grid(), make_grid(origin=(10, -20, 50)))
