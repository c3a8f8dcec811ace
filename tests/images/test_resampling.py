"""Interpolation, checked by world coordinates and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from lnqtools import memory
from lnqtools.choices import INTERPOLATIONS
from lnqtools.errors import LnqError
from lnqtools.images import resampling
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, place
from lnqtools.images.resampling import mask_onto, resample
from tests.grids import (
    SIGNED_PERMUTATIONS,
    as_stored,
    grids,
    make_grid,
    numbered,
    stored,
    turned_grid,
    turned_grids,
)

pytestmark = pytest.mark.filterwarnings("error")

OBLIQUE = Rotation.from_euler("xyz", (20, -15, 40), degrees=True).as_matrix()


def ramp(grid: Grid, slope=(0.5, -0.25, 2.0), start=100.0) -> np.ndarray:
    """Return a linear function of the world position of each voxel."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    return grid.world(index) @ np.array(slope) + start


def smaller(grid: Grid, turn: np.ndarray) -> Grid:
    """Return a grid of other spacing and direction that lies well inside another."""
    shape, spacing = (3, 4, 5), (1.3, 0.9, 0.7)
    center = grid.world((np.array(grid.shape) - 1) / 2)
    steps = turn * np.array(spacing)
    origin = center - steps @ ((np.array(shape) - 1) / 2)
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


def test_no_splines_through_two_voxels_between_turned_grids():
    source = make_grid((2, 5, 5))
    with pytest.raises(LnqError, match=r"an axis of two voxels is too short for bspline"):
        resample(numbered(source.shape), source, smaller(source, OBLIQUE), "bspline", 0)
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
    center = source.world((np.array(source.shape) - 1) / 2)
    target = make_grid(
        target.shape, target.spacing, tuple(center.tolist()), np.array(target.direction)
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
    target = source.cropped(Box.of((0, 0, 4), (8, 8, 12)))
    result = resample(labels, source, target, interpolation, 9)
    assert result.dtype == np.uint8
    assert (result[..., 4:] == 9).all()
    if interpolation in ("nearest", "label-gaussian"):
        assert set(np.unique(result)) == {0, 5, 9}
        finer = resample(labels, source, source.with_spacing((0.6, 0.7, 0.8)), interpolation, 0)
        assert set(np.unique(finer)) == {0, 5}


def test_linear_interpolation_agrees_with_scipy():
    source = make_grid((6, 7, 8), (3, 2, 1))
    target = source.with_spacing((1.1, 0.9, 1.7)).cropped(Box.of((2, 2, 1), (12, 12, 4)))
    array = np.random.default_rng(5).normal(size=source.shape).astype(np.float32)
    at = source.index(target.world(np.moveaxis(np.indices(target.shape), 0, -1)))
    assert (at > 0).all()
    assert (at < np.array(source.shape) - 1).all()
    peer = map_coordinates(array, np.moveaxis(at, -1, 0), order=1)
    result = resample(array, source, target, "linear", 0)
    np.testing.assert_allclose(result, peer, atol=1e-5)


@given(st.data())
def test_axis_by_axis_it_equals_simpleitk(data):
    """Also beyond the outermost centers, along oblique axes, mirrored and on single slices."""
    source = data.draw(grids())
    shape = data.draw(st.tuples(*[st.integers(1, 8)] * 3))
    spacing = data.draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    signs = data.draw(st.tuples(*[st.sampled_from((1, -1))] * 3))
    turn = np.array(source.direction) * signs
    place_of_center = data.draw(st.tuples(*[st.floats(0, 1)] * 3))
    center = source.world(np.array(place_of_center) * (np.array(source.shape) - 1))
    origin = center - turn * np.array(spacing) @ ((np.array(shape) - 1) / 2)
    target = make_grid(shape, spacing, tuple(origin.tolist()), turn)
    array = np.random.default_rng(8).normal(0, 100, source.shape).astype(np.float32)
    at = source.index(target.world(np.moveaxis(np.indices(target.shape), 0, -1)))
    clear = (np.abs(at - np.floor(at) - 0.5) > 1e-3).all(-1)  # ties and faces go either way
    for interpolation in ("nearest", "linear", "bspline"):
        if interpolation == "bspline" and 2 in source.shape:
            continue
        ours = resample(array, source, target, interpolation, -1e4)
        peer = resampling._resample_with_itk(array, source, target, interpolation, -1e4)
        np.testing.assert_allclose(ours[clear], peer[clear], atol=2e-2)


def test_a_spline_through_two_voxels_by_hand():
    """Mirrored, 0 and 1 go on as 0 1 0 1: at the centers the values, half way the mean."""
    source = make_grid((1, 1, 2), (1, 1, 1))
    step = np.array([[[0, 1]]], np.float32)
    finer = make_grid((1, 1, 3), (1, 1, 0.5), source.origin)
    np.testing.assert_allclose(
        resample(step, source, finer, "bspline", 9)[0, 0], [0, 0.5, 1], atol=1e-6
    )


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
def test_half_way_between_two_voxels_nearest_takes_that_to_the_head_back_or_left(way):
    source = Grid.of_slices((2, 4, 6), (1, 1, 1))
    expected = numbered(source.shape)[1::2, 1::2, 1::2]
    target = turned_grid(source, way)
    half = target.with_spacing((2, 2, 2))
    for coarse in (half, as_stored(half), source.with_spacing((2, 2, 2))):
        found = resample(
            stored(numbered(source.shape), source, target), target, coarse, "nearest", 0
        )
        back = place(found, coarse, source.with_spacing((2, 2, 2)), 0)
        np.testing.assert_array_equal(back, expected)


def test_what_memory_does_not_hold_is_refused_before_the_work(monkeypatch):
    source = make_grid((3, 4, 5), (1, 1, 1))
    finer = make_grid((6, 8, 10), (0.5, 0.5, 0.5))
    array = np.zeros(source.shape, np.int16)
    monkeypatch.setattr(memory, "machine_bytes", lambda: 480 * 6)
    for way in ("linear", "bspline", "nearest"):
        assert resample(array, source, finer, way, 0).shape == finer.shape
    monkeypatch.setattr(memory, "machine_bytes", lambda: 480 * 6 - 1)
    resample(array, source, finer, "nearest", 0)
    monkeypatch.setattr(resampling, "_resample_along_axes", None)
    for way in ("linear", "bspline"):
        with pytest.raises(LnqError, match=r"would measure 10 × 8 × 6 voxels on the new grid, 0 G"):
            resample(array, source, finer, way, 0)
    monkeypatch.setattr(memory, "machine_bytes", lambda: 480 * 2 - 1)
    with pytest.raises(LnqError, match="more than this machine's memory: ask for larger voxels"):
        resample(array, source, finer, "nearest", 0)
    with pytest.raises(LnqError, match=r"would measure 10 × 8 × 6 voxels on the new grid"):
        place(array, source, make_grid((6, 8, 10), (1, 1, 1)), 0)


def test_memory_that_runs_out_is_told(monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 1 << 60)
    source = make_grid((3, 3, 3), (1, 1, 1))
    enormous = make_grid((300, 1 << 18, 1 << 18), (0.01, 1e-5, 1e-5))
    with pytest.raises(LnqError, match=r"cannot be resampled to 262144 × 262144 × 300 vox"):
        resample(np.zeros(source.shape, np.int16), source, enormous, "linear", 0)


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
    center = source.world(np.array([3, 4, 4]))
    target = make_grid((6, 5, 9), tuple(random.uniform(0.7, 3, 3)))
    start = center - target.matrix @ [3, 2, 4]
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
