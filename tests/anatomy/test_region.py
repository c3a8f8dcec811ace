"""The hull of the lungs: by hand, against scikit-image, however the axes are stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt
from skimage.morphology import convex_hull_image

from lnqtools.anatomy.lungs import NoLungsError
from lnqtools.anatomy.region import OneLungError, farthest_outside_mm, lung_hull
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, cut_out
from lnqtools.images.orientation import oriented, turned
from lnqtools.images.volume import Volume

SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)
GAP = 4
"""Columns between two lungs; so many that some lie in the middle half."""


def hull_mask(*lungs, **labels) -> np.ndarray:
    """Return the voxels inside the hull of `lung_hull`."""
    return ~lung_hull(*lungs, **labels).outside().whole()


@st.composite
def lungs(draw) -> np.ndarray:
    """Make two lungs of any form, the smaller not too small, with a gap between them."""
    slices, rows = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    elements = st.sampled_from([0, 0, 0, 7])
    sides = [
        draw(hnp.arrays(np.uint8, (slices, rows, draw(st.integers(1, 3))), elements=elements))
        for _ in "rl"
    ]
    counts = [np.count_nonzero(side) for side in sides]
    assume(min(counts) > 0.15 * max(counts))
    return np.concatenate([sides[0], np.zeros((slices, rows, GAP), np.uint8), sides[1]], axis=2)


def nearest(side: np.ndarray, z: int) -> np.ndarray:
    """Return a lung's slice, or the nearest ones that have it, above and below, as one."""
    there = np.flatnonzero(side.any(axis=(1, 2)))
    near = [z] if z in there else [*there[there < z][-1:], *there[there > z][:1]]
    return side[near].any(axis=0)


@given(lungs(), SPACINGS)
def test_without_margin_each_slice_is_the_convex_hull_of_both_lungs(mask, spacing):
    inside = hull_mask(mask, spacing)
    columns = np.flatnonzero(mask.any(axis=(0, 1)))
    middle = columns[np.diff(columns).argmax()] + 1
    left, right = mask.copy(), mask.copy()
    left[:, :, middle:] = right[:, :, :middle] = 0
    first, last = np.flatnonzero(mask.any(axis=(1, 2)))[[0, -1]]
    for z in range(first, last + 1):
        both = nearest(left, z) | nearest(right, z)
        points = np.argwhere(both)
        if np.linalg.matrix_rank(points - points[0]) < 2:
            continue  # no area, which scikit-image does not take
        expected = convex_hull_image(both, offset_coordinates=False, tolerance=1e-5)
        assert inside[z].tolist() == expected.tolist()
    assert not inside[:first].any()
    assert not inside[last + 1 :].any()


@given(lungs(), SPACINGS, st.floats(0, 5), st.floats(0, 5))
def test_a_margin_never_takes_a_voxel_away_and_ends_never_add_one_between(
    mask, spacing, margin_mm, ends_mm
):
    hull = hull_mask(mask, spacing)
    wide = hull_mask(mask, spacing, margin_mm)
    assert not (hull & ~wide).any()
    assert hull[mask != 0].all()
    ends = hull_mask(mask, spacing, margin_mm, ends_mm)
    first, last = np.flatnonzero(mask.any(axis=(1, 2)))[[0, -1]]
    np.testing.assert_array_equal(ends[first : last + 1], wide[first : last + 1])
    beyond = np.r_[first - np.arange(first), np.arange(1, len(mask) - last)] * spacing[0]
    marked = np.delete(ends, np.arange(first, last + 1), axis=0)
    assert marked.all(axis=(1, 2)).tolist() == (beyond <= ends_mm + 1e-6 * spacing[0]).tolist()


def test_a_margin_is_in_mm_beyond_each_edge():
    lungs = np.zeros((1, 9, 21), np.uint8)
    lungs[0, 3:6, [5, 15]] = 1
    hull = hull_mask(lungs, (5.0, 2.0, 1.0), margin_mm=2.0)
    rows, columns = np.nonzero(hull[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 3, 17)
    assert hull.sum() == 5 * 15


def test_a_slice_without_lung_takes_the_hull_of_its_neighbors():
    lungs = np.zeros((5, 4, 8), bool)
    lungs[[0, 4], 1, 1:3] = lungs[[0, 4], 1, 5:7] = True
    between = hull_mask(lungs, (1, 1, 1))[1:4]
    assert between.sum(axis=(1, 2)).tolist() == [6, 6, 6]
    assert between[:, 1, 1:7].all()


def two_lungs() -> np.ndarray:
    """Return two boxes of 6 × 4 × 4 voxels with six columns between them."""
    lungs = np.zeros((8, 6, 16), np.uint8)
    lungs[1:7, 1:5, 1:5] = 1
    lungs[1:7, 1:5, 11:15] = 1
    return lungs


@pytest.mark.parametrize("gone", [slice(0, 3), slice(2, 5), slice(5, 8)])
def test_a_slice_that_lacks_one_lung_still_spans_the_mediastinum(gone):
    """As where one lung's tip is higher, or a lobe of the other side has collapsed."""
    whole = hull_mask(two_lungs(), (3, 1, 1))
    lungs = two_lungs()
    lungs[gone, :, 8:] = 0
    np.testing.assert_array_equal(hull_mask(lungs, (3, 1, 1)), whole)


def test_lungs_that_the_image_cuts_have_the_hull_of_what_it_shows():
    whole = two_lungs()
    hull = hull_mask(whole, (3, 1, 1), 1.0)
    cut = (slice(3, 6), slice(2, 6), slice(3, 13))
    np.testing.assert_array_equal(
        hull_mask(whole[cut], (3, 1, 1), 1.0), hull[cut] & (np.arange(4) < 4)[:, np.newaxis]
    )


@pytest.mark.parametrize("side", [slice(0, 8), slice(8, 16)])
@pytest.mark.parametrize("rest", [0, 1])
def test_one_lung_has_no_hull(side, rest):
    """With a rest of the other, of less than 0.15 of its voxels, or without."""
    lungs = two_lungs()
    lungs[:, :, side] = 0
    lungs[3, 2, side] = rest * two_lungs()[3, 2, side]
    with pytest.raises(OneLungError, match="shows one lung alone"):
        hull_mask(lungs, (3, 1, 1))


def test_lungs_that_touch_in_a_few_slices_are_two():
    lungs = two_lungs()
    lungs[3, 1, 5:11] = 1
    assert hull_mask(lungs, (3, 1, 1))[1].sum() == 4 * 14
    lungs[1:7, 1:3, 5:11] = 1
    with pytest.raises(OneLungError):
        hull_mask(lungs, (3, 1, 1))


@pytest.mark.parametrize("code", ["LPS", "RAI", "SAL", "PIR", "ASR"])
def test_however_the_axes_are_stored(code):
    mask = np.zeros((6, 7, 12), np.uint8)
    mask[1, 1, 1] = mask[1, 5, 2] = mask[1, 3, 10] = mask[2:4, 2:4, 8:10] = mask[3:5, 3, 1:4] = 1
    grid = Grid.of_slices(mask.shape, (3.0, 1.0, 0.8))
    expected = Volume(hull_mask(mask, grid, 1.0, 3.0), grid)
    other = turned(Volume(mask, grid), oriented(grid, code))
    found = hull_mask(other.array, other.grid, 1.0, 3.0)
    np.testing.assert_array_equal(found, turned(expected, other.grid).array)


@pytest.mark.parametrize("code", ["LPS", "RAI", "SAL", "PIR"])
def test_a_part_of_a_hull_is_that_part_of_its_mask_however_it_is_stored(code):
    mask = np.zeros((6, 7, 12), np.uint8)
    mask[1:4, 1, 1] = mask[2, 5, 2] = mask[1:5, 3, 10] = 1
    grid = Grid.of_slices(mask.shape, (3.0, 1.0, 0.8))
    part = oriented(grid.cropped(Box.of((1, 2, 1), (6, 5, 9))), code)
    expected = cut_out(hull_mask(mask, grid, 1.0, 3.0), grid, part)
    assert 0 < expected.sum() < expected.size
    found = lung_hull(mask, grid, 1.0, 3.0).cut_out(grid, part).outside()
    np.testing.assert_array_equal(~found.whole(), expected)


def test_no_lungs_are_an_error():
    with pytest.raises(NoLungsError, match="the lung mask is empty"):
        hull_mask(np.zeros((2, 2, 2), bool), (1, 1, 1))


@given(hnp.arrays(bool, (3, 4, 5)), hnp.arrays(bool, (3, 4, 5)).filter(np.any), SPACINGS)
def test_the_farthest_voxel_is_that_of_a_distance_map(drawn, inside, spacing):
    beyond = distance_transform_edt(~inside, sampling=spacing)[drawn & ~inside]
    found = farthest_outside_mm(drawn, inside, spacing)
    assert found == (pytest.approx(beyond.max()) if beyond.size else None)
