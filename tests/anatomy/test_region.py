"""The hull of the lungs: by hand, against scikit-image, however the axes are stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.morphology import convex_hull_image

from lnqtools.anatomy.lungs import NoLungsError
from lnqtools.anatomy.region import lung_hull
from lnqtools.images.grid import Grid
from lnqtools.images.orientation import oriented, turned
from lnqtools.images.volume import Volume

MASKS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 0, 0, 7]),
).filter(np.any)
SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3)


@given(MASKS, SPACINGS)
def test_without_margin_each_slice_is_its_convex_hull(mask, spacing):
    inside = lung_hull(mask, spacing)
    with_lung = np.flatnonzero(mask.any(axis=(1, 2)))
    for z in with_lung:
        points = np.argwhere(mask[z])
        if np.linalg.matrix_rank(points - points[0]) < 2:
            continue  # no area, which scikit-image does not take
        expected = convex_hull_image(mask[z], offset_coordinates=False, tolerance=1e-5)
        assert inside[z].tolist() == expected.tolist()
    assert not inside[: with_lung[0]].any()
    assert not inside[with_lung[-1] + 1 :].any()


@given(MASKS, SPACINGS, st.floats(0, 5), st.floats(0, 5))
def test_a_margin_never_takes_a_voxel_away_and_ends_never_add_one_between(
    mask, spacing, margin_mm, ends_mm
):
    hull = lung_hull(mask, spacing)
    wide = lung_hull(mask, spacing, margin_mm)
    assert not (hull & ~wide).any()
    assert hull[mask != 0].all()
    ends = lung_hull(mask, spacing, margin_mm, ends_mm)
    first, last = np.flatnonzero(mask.any(axis=(1, 2)))[[0, -1]]
    np.testing.assert_array_equal(ends[first : last + 1], wide[first : last + 1])
    beyond = np.r_[first - np.arange(first), np.arange(1, len(mask) - last)] * spacing[0]
    marked = np.delete(ends, np.arange(first, last + 1), axis=0)
    assert marked.all(axis=(1, 2)).tolist() == (beyond <= ends_mm + 1e-6 * spacing[0]).tolist()


def test_a_margin_is_in_mm_beyond_each_edge():
    lungs = np.zeros((1, 9, 21), np.uint8)
    lungs[0, 3:6, [5, 15]] = 1
    hull = lung_hull(lungs, (5.0, 2.0, 1.0), margin_mm=2.0)
    rows, columns = np.nonzero(hull[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 3, 17)
    assert hull.sum() == 5 * 15


def test_a_slice_without_lung_takes_the_hull_of_its_neighbors():
    lungs = np.zeros((5, 4, 8), bool)
    lungs[0, 1, 1] = lungs[4, 2, 6] = True
    hull = lung_hull(lungs, (1, 1, 1))
    assert [int(layer.sum()) for layer in hull] == [1, 2, 2, 2, 1]
    lungs[0, 1, 1:3] = lungs[4, 1, 5:7] = True
    lungs[4, 2, 6] = False
    between = lung_hull(lungs, (1, 1, 1))[1:4]
    assert between.sum(axis=(1, 2)).tolist() == [6, 6, 6]
    assert between[:, 1, 1:7].all()


@pytest.mark.parametrize("code", ["LPS", "RAI", "SAL", "PIR", "ASR"])
def test_however_the_axes_are_stored(code):
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[1, 1, 1] = mask[1, 5, 2] = mask[1, 3, 6] = mask[2:4, 2:4, 3:6] = 1
    grid = Grid.of_slices(mask.shape, (3.0, 1.0, 0.8))
    expected = Volume(lung_hull(mask, grid, 1.0, 3.0), grid)
    other = turned(Volume(mask, grid), oriented(grid, code))
    found = lung_hull(other.array, other.grid, 1.0, 3.0)
    np.testing.assert_array_equal(found, turned(expected, other.grid).array)


def test_no_lungs_are_an_error():
    with pytest.raises(NoLungsError, match="the lung mask is empty"):
        lung_hull(np.zeros((2, 2, 2), bool), (1, 1, 1))
