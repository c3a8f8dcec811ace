"""Lattices and boxes, checked by world coordinates and against other libraries."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from lnqtools.errors import LnqError
from lnqtools.images.box import Box
from lnqtools.images.grid import (
    CLOSE_VOXELS,
    Grid,
    changes,
    cut_out,
    difference,
    fill_value,
    is_orientation,
    lattice_map,
    one_to_one,
    overlap,
    place,
    turn_to,
)
from lnqtools.images.resampling import resample
from tests.grids import (
    SIGNED_PERMUTATIONS,
    as_stored,
    boxes,
    grids,
    make_grid,
    numbered,
    turned_grid,
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
def test_with_spacing_keeps_the_center_and_nearly_the_extent(grid, spacing):
    new = grid.with_spacing(spacing)
    assert new.spacing == spacing
    assert new.direction == grid.direction
    centers = [g.world((np.array(g.shape) - 1) / 2) for g in (grid, new)]
    np.testing.assert_allclose(*centers, atol=1e-9)
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
def test_header_noise_is_no_change(grid):
    assert changes(grid, grid) == []
    assert changes(grid, as_stored(grid)) == []


@given(grids(), st.integers(0, 2), st.floats(0.1, 80))
def test_a_change_of_each_kind_is_said_alone(grid, axis, much):
    finer = [step * (1.5 if k == axis else 1) for k, step in enumerate(grid.spacing)]
    assert [said.split()[0] for said in changes(grid, replace(grid, spacing=tuple(finer)))] == [
        "spacing"
    ]
    moved = replace(grid, origin=tuple(x + much for x in grid.origin))
    assert [said.split()[0] for said in changes(grid, moved)] == ["first"]
    back = np.array(grid.direction)
    back[:, axis] *= -1
    mirrored = replace(grid, direction=tuple(map(tuple, back.tolist())))
    (said,) = changes(grid, mirrored)
    assert said == f"axes {grid.letters} → {mirrored.letters}"


@given(grids(oblique=False), st.floats(0.02, 40), st.integers(0, 2))
def test_axes_that_turn_are_told_by_their_angle(grid, degrees, axis):
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.eye(3)[axis]).as_matrix()
    turned = replace(grid, direction=tuple(map(tuple, (turn @ grid.direction).tolist())))
    assert changes(grid, turned) == [f"axes turned by {degrees:.2g} degrees"]


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


def test_corners_are_those_of_voxels_and_not_their_centers():
    """All centers of a single slice coincide, whatever its thickness."""
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
    target = grid.cropped(Box.of(start, np.add(start, shape)))
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


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grids_meet_up_to_the_outer_faces_of_voxels(axis):
    """The center of the one's outermost voxel may lie on the face of the other's."""
    grid = make_grid((3, 4, 5), (3.0, 2.0, 1.0), (0.0, 0.0, 0.0))
    length, step = grid.shape[axis], grid.spacing[axis]
    for shift, meets in ((length - 0.5, True), (length - 0.4, False)):
        for sign in (1, -1):
            origin = [0.0, 0.0, 0.0]
            origin[2 - axis] = sign * shift * step
            other = make_grid(grid.shape, grid.spacing, tuple(origin))
            assert overlap(grid, other) == meets


@given(grids(), st.integers(0, 2), st.floats(0.02, 0.98))
def test_shifts_by_a_part_of_a_voxel_share_no_lattice(grid, axis, part):
    moved = shifted(grid, axis, part)
    assert lattice_map(grid, moved) is None
    with pytest.raises(LnqError, match=r"do not share a lattice; resample"):
        place(numbered(grid.shape), grid, moved, 0)


def shifted(grid, axis, voxels):
    """Return a grid moved along one of its axes."""
    along = np.zeros(3)
    along[axis] = voxels
    return Grid(grid.shape, grid.spacing, tuple(grid.world(along).tolist()), grid.direction)


# Taking the voxels of one grid for those of another


@given(grids(), st.integers(0, 2), st.floats(-0.499, 0.499))
def test_within_half_a_voxel_the_same_voxels_are_cut_out(grid, axis, part):
    array = numbered(grid.shape)
    moved = shifted(grid, axis, part)
    np.testing.assert_array_equal(cut_out(array, moved, grid), array)
    way = one_to_one(moved, grid, CLOSE_VOXELS)
    assert way.apart == pytest.approx(abs(part), abs=1e-6)
    if abs(part) > 0.011:
        assert f"lie up to {abs(part):.2g} of a voxel off" in way.oddity
    elif abs(part) < 0.009:
        assert way.oddity is None


@given(grids(), st.integers(0, 2), st.sampled_from((-1, 1)), st.floats(0.501, 0.98))
def test_beyond_half_a_voxel_each_is_the_next_one(grid, axis, sign, part):
    """The nearest voxels are then the neighbors, and one plane of the target lacks any."""
    moved = shifted(grid, axis, sign * part)
    assert one_to_one(moved, grid, CLOSE_VOXELS) is None
    with pytest.raises(LnqError, match=r"^does not cover the image$"):
        cut_out(numbered(grid.shape), moved, grid)
    inner = [slice(None)] * 3
    inner[axis] = slice(1, None) if sign > 0 else slice(None, -1)
    if grid.shape[axis] > 1:
        array = numbered(grid.shape)
        outer = [slice(None)] * 3
        outer[axis] = slice(None, -1) if sign > 0 else slice(1, None)
        sides = (slice(*side.indices(n)[:2]) for side, n in zip(inner, grid.shape, strict=True))
        box = Box(sides)
        cut = cut_out(array, moved, grid.cropped(box))
        np.testing.assert_array_equal(cut, array[tuple(outer)])


@given(turned_grids(), st.integers(0, 2), st.sampled_from((0.0, -0.5, 0.3, 0.5)))
def test_voxels_stored_in_another_order_are_taken_one_to_one(case, axis, part):
    """Also where each lies exactly half way between two of the other's."""
    source, target, way = case
    mapped = one_to_one(shifted(source, axis, part * 0.999), target, CLOSE_VOXELS)
    array = numbered(source.shape)
    np.testing.assert_array_equal(mapped.turned(array), place(array, source, target, 0))
    if len(set(source.shape)) == 3 and min(source.shape) > 1:
        is_turned = not np.array_equal(way, np.eye(3))
        assert ("are stored in another order" in (mapped.oddity or "")) == is_turned
        assert ("of a voxel off" in (mapped.oddity or "")) == bool(part)


def test_exactly_half_a_voxel_is_one_to_one():
    for voxels in (0.5, -0.5):
        for axis in range(3):
            grid = make_grid()
            assert one_to_one(shifted(grid, axis, voxels), grid, CLOSE_VOXELS).offset == (0, 0, 0)


def test_a_part_of_a_grid_is_not_one_to_one():
    grid = make_grid()
    part = grid.cropped(Box.of((0, 0, 1), (4, 5, 6)))
    assert lattice_map(part, grid).offset == (0, 0, 1)
    assert one_to_one(part, grid, CLOSE_VOXELS) is None
    assert one_to_one(grid, part, CLOSE_VOXELS) is None


# Grids of which not all is known


SIDES = ((4, 5, 6), (3.0, 2.0, 1.0))
ALL_LETTERS = ["".join(s) for w in permutations(("RL", "AP", "SI")) for s in product(*w)]


@given(st.text("RLAPSIXlps", max_size=4) | st.sampled_from(ALL_LETTERS))
def test_only_orientations_are_orientations(text):
    assert len(ALL_LETTERS) == 48
    assert is_orientation(text) == (text in ALL_LETTERS)


@pytest.mark.parametrize("letters", ALL_LETTERS)
def test_letters_are_nibabels(letters):
    grid = Grid.of_spacing(*SIDES).assuming(letters)
    assert nib.aff2axcodes(grid.affine) == tuple(letters)
    assert grid.letters == letters
    tilt = Rotation.from_euler("xyz", (20, 10, -15), degrees=True).as_matrix()
    oblique = make_grid(*SIDES, turn=tilt @ np.array(grid.direction))
    assert oblique.letters == letters


def test_two_grids_of_one_size_and_spacing_are_one_if_nothing_more_is_known():
    grid = Grid.of_spacing(*SIDES)
    assert difference(grid, Grid.of_spacing(*SIDES)) is None
    assert one_to_one(grid, Grid.of_spacing(*SIDES)).oddity is None
    array = numbered(grid.shape)
    np.testing.assert_array_equal(cut_out(array, grid, Grid.of_spacing(*SIDES)), array)
    for shape, spacing, how in (
        ((4, 5, 7), SIDES[1], "their sizes are 6 × 5 × 4 and 7 × 5 × 4 voxels"),
        (SIDES[0], (3.0, 2.0, 1.5), "their spacings are 1 × 2 × 3 and 1.5 × 2 × 3 mm"),
    ):
        other = Grid.of_spacing(shape, spacing)
        assert how in difference(grid, other)
        for ask in (lattice_map, one_to_one):
            with pytest.raises(LnqError, match=f"neither .* says where its voxels lie .*{how}"):
                ask(grid, other)
        with pytest.raises(LnqError, match=r"neither .* says where its voxels lie"):
            overlap(grid, other)


def test_assumed_axes_do_not_make_two_sizes_meet():
    """Both would lie at 0, and a crop would land in the corner."""
    whole = Grid.of_spacing(*SIDES).assuming("LPS")
    part = Grid.of_spacing((2, 2, 2), SIDES[1]).assuming("LPS")
    for ask in (lattice_map, overlap):
        with pytest.raises(LnqError, match=r"neither .* says where its voxels lie"):
            ask(part, whole)
    with pytest.raises(LnqError, match=r"neither .* says where its voxels lie"):
        resample(numbered(part.shape), part, whole, "nearest", 0)
    placed = Grid(
        (2, 2, 2), SIDES[1], whole.cropped(Box.of((1, 1, 1), (3, 3, 3))).origin, whole.direction
    )
    assert lattice_map(placed, whole).offset == (1, 1, 1)  # a crop of it, written with its place


@given(grids(oblique=False), st.sampled_from(SIGNED_PERMUTATIONS))
def test_assumed_axes_lie_on_a_placed_grid_of_one_size(straight, way):
    """Wherever that is, and if it is oblique; the letters say the order and the ends."""
    tilt = Rotation.from_euler("xyz", (20, 10, -15), degrees=True).as_matrix()
    turn = tilt @ np.array(straight.direction)
    placed = make_grid(straight.shape, straight.spacing, straight.origin, turn)
    other = turned_grid(placed, way)
    unknown = Grid.of_spacing(other.shape, other.spacing)
    with pytest.raises(
        LnqError, match=f"run as the other's, --assume-orientation {placed.letters}"
    ):
        lattice_map(unknown, placed)
    if other.shape == placed.shape:
        assert f"--assume-orientation {placed.letters} says so" in difference(unknown, placed)
    assumed = unknown.assuming(other.letters)
    array = numbered(other.shape)
    way = one_to_one(assumed, placed)
    np.testing.assert_array_equal(way.turned(array), place(array, other, placed, 0))
    back = one_to_one(placed, assumed)
    np.testing.assert_array_equal(back.turned(way.turned(array)), array)
    same = unknown.assuming(other.letters)
    assert difference(same, other) is None
    assert difference(other, same) is None


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


def test_fill_value_must_fit_the_voxels():
    assert fill_value(-1024, np.dtype(np.int16)) == -1024
    assert fill_value(255, np.dtype(np.uint8)) == 255
    assert fill_value(-0.5, np.dtype(np.float32)) == -0.5
    for value, dtype in ((-1024, "u1"), (256, "u1"), (0.5, "i2"), (np.nan, "i2"), (np.inf, "i4")):
        with pytest.raises(
            LnqError, match=f"voxels of type .* cannot hold the fill value {value:g}"
        ):
            fill_value(value, np.dtype(dtype))
