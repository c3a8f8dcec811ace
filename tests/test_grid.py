"""Lattices and boxes, checked by world coordinates and against other libraries."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from lnqtools.errors import LnqError
from lnqtools.grid import (
    Grid,
    bounding_box,
    cut_out,
    difference,
    fill_value,
    lattice_map,
    place,
    turn_to,
    whole_box,
)
from tests.grids import (
    SIGNED_PERMUTATIONS,
    as_stored,
    boxes,
    grids,
    make_grid,
    numbered,
    turned_grids,
)

pytestmark = pytest.mark.filterwarnings("error")

TILTED = Rotation.from_euler("xyz", (20, -15, 10), degrees=True).as_matrix()


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


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
@pytest.mark.parametrize("code", ["LPS", "RAS", "LPI", "ASR"])
def test_arrays_are_turned_as_nibabel_turns_them(way, code):
    grid = make_grid(turn=TILTED @ way)
    array = numbered(grid.shape)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), grid.affine)
    turn = ornt_transform(io_orientation(grid.affine), axcodes2ornt(code))
    expected = image.as_reoriented(turn)
    way_there = turn_to(grid, code)
    turned = way_there.turned_grid(grid)
    assert nib.aff2axcodes(turned.affine) == tuple(code)
    np.testing.assert_allclose(turned.affine, expected.affine, atol=1e-9)
    found = way_there.turned(array)
    np.testing.assert_array_equal(found, np.asanyarray(expected.dataobj).transpose(2, 1, 0))
    assert np.shares_memory(found, array)
    np.testing.assert_array_equal(place(array, grid, turned, 0), found)


def test_lengths_along_the_patient_come_in_the_arrays_order():
    for way in SIGNED_PERMUTATIONS:
        grid = make_grid(turn=TILTED @ way)
        ordered = grid.in_array_order((3.0, 2.0, 1.0))
        assert [ordered[axis] for axis in grid.anatomical_axes()] == [3, 2, 1]
    assert make_grid().in_array_order((3.0, 2.0, 1.0)) == (3, 2, 1)


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
