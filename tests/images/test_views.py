"""Slices look the same however an image is stored."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from lnqtools.images.grid import Grid
from lnqtools.images.views import fullest_slices, gray_levels, turned, turned_grid
from tests.grids import grids, numbered

CODES = [
    "".join(pair[side] for pair, side in zip(pairs, sides, strict=True))
    for pairs in permutations(("RL", "AP", "SI"))
    for sides in product((0, 1), repeat=3)
]


@pytest.mark.parametrize("code", CODES)
def test_views_do_not_depend_on_the_orientation(code):
    # x from left to right, y from back to front, z from feet to head: the last of each is shown
    # first: head, front and right
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    image = nib.Nifti1Image(array.astype(np.int16), np.diag([1.0, 2, 3, 1]))
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(code))
    stored = image.as_reoriented(turn)
    zyx = np.asanyarray(stored.dataobj).transpose(2, 1, 0)
    grid = Grid.from_affine(zyx.shape, stored.affine)
    shown = turned(zyx, grid)
    assert np.array_equal(shown, array.transpose(2, 1, 0)[::-1, ::-1, ::-1])
    assert np.shares_memory(shown, zyx)
    assert turned_grid(grid).spacing == (3, 2, 1)


def test_every_orientation_is_among_them():
    assert len(set(CODES)) == 48


def test_the_fullest_slices():
    mask = np.zeros((4, 5, 6), np.uint8)
    assert fullest_slices(mask) == (2, 2, 3)
    mask[1, 2:4, 3] = 7
    mask[1, 2, 5] = 1
    assert fullest_slices(mask) == (1, 2, 3)


def test_gray_levels_of_a_window():
    hu = np.array([-3024, -160, -158, 40, 240, 241, 32767], np.int16)
    levels = gray_levels(hu, (-160, 240))
    assert levels.dtype == np.uint8
    assert levels.tolist() == [0, 0, 1, 128, 255, 255, 255]  # 1.275 and 127.5: to even
    assert gray_levels(hu.astype(np.float64)).tolist() == levels.tolist()


# What holds of any grid and any window


@given(grids(), st.data())
def test_a_turned_voxel_keeps_its_place(grid, data):
    array, shown = numbered(grid.shape), turned_grid(grid)
    seen = turned(array, grid)
    assert seen.shape == shown.shape
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shown.shape)
    stored = np.argwhere(array == seen[index])[0]
    np.testing.assert_allclose(shown.world(np.array(index)), grid.world(stored), atol=1e-9)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_no_slice_is_fuller_than_the_fullest(mask):
    for axis, number in enumerate(fullest_slices(mask)):
        counts = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        assert counts[number] == counts.max()


@given(
    hnp.arrays(np.int16, 9),
    st.integers(-2000, 2000),
    st.integers(1, 4000),
)
def test_gray_levels_are_those_of_the_formula(hu, low, width):
    exact = np.clip(255 * (hu.astype(float) - low) / width, 0, 255)
    assert np.abs(gray_levels(hu, (low, low + width)) - exact).max() <= 0.5 + 1e-3
