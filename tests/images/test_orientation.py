"""Orientations of grids, against nibabel's, and arrays turned from one to another and back."""

from __future__ import annotations

import re
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from lnqtools.errors import LnqError
from lnqtools.images.grid import difference
from lnqtools.images.orientation import check_code, in_slice_order, oriented, turned
from lnqtools.images.volume import Volume
from tests.grids import SIGNED_PERMUTATIONS, grids, make_grid, numbered, turned_grid, turned_grids

CODES = ["".join(c) for order in permutations(("LR", "PA", "IS")) for c in product(*order)]
TILT = Rotation.from_euler("xyz", (12, -9, 20), degrees=True).as_matrix()


def reoriented(volume: Volume, code: str) -> nib.Nifti1Image:
    """Return an image as nibabel turns it."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine)
    way = ornt_transform(io_orientation(image.affine), axcodes2ornt(code))
    return image.as_reoriented(way)


def test_codes_by_hand():
    assert make_grid().letters == "RAS"
    lps = make_grid(turn=np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]]))  # columns z, y, x
    assert lps.letters == "LPS"
    turned_lps = oriented(lps, "PIR")
    assert (turned_lps.shape, turned_lps.spacing) == ((6, 4, 5), (1.0, 3.0, 2.0))
    # x of the first voxel is that of LPS's last, 5 voxels of 1 mm to the left of the first;
    # z that of its last slice, 3 of 3 mm above; y is as it was
    assert turned_lps.origin == (10.0 - 5, -20.0, 30.0 + 9)
    assert turned_lps.letters == "PIR"


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
@pytest.mark.parametrize("tilt", [np.eye(3), TILT], ids=["straight", "oblique"])
def test_all_48_ways_to_store_an_image_are_told_turned_and_turned_back(way, tilt):
    grid = turned_grid(make_grid(turn=tilt @ np.eye(3)[:, ::-1]), way)
    volume = Volume(numbered(grid.shape), grid)
    stored = grid.letters
    assert stored == "".join(nib.aff2axcodes(grid.affine))
    assert oriented(grid, stored) == grid
    for code in CODES:
        other = turned(volume, oriented(grid, code))
        theirs = reoriented(volume, code)
        np.testing.assert_array_equal(other.array.transpose(2, 1, 0), theirs.dataobj)
        np.testing.assert_allclose(other.grid.affine, theirs.affine, atol=1e-12)
        assert other.array.flags.c_contiguous
        assert other.grid.letters == code
        np.testing.assert_array_equal(turned(other, grid).array, volume.array)
        assert difference(oriented(other.grid, stored), grid) is None


def test_the_48_codes_are_all_there_are():
    assert len(set(CODES)) == 48
    assert [check_code(code.lower()) for code in CODES] == CODES
    for wrong in ("", "LP", "LPSX", "LRS", "LPX", "auto"):
        with pytest.raises(LnqError, match=f"{re.escape(repr(wrong))} is not an orientation"):
            check_code(wrong)


@given(turned_grids(), st.sampled_from(CODES))
def test_a_turned_grid_has_the_same_voxels_however_it_was_stored(grids, code):
    one, other, _ = grids
    closeness = np.abs(np.array(one.direction))
    sums = sorted(closeness[range(3), list(axes)].sum() for axes in permutations(range(3)))
    assume(sums[-1] - sums[-2] > 1e-6)  # at exactly 45° two orders are equally near
    assert difference(oriented(one, code), oriented(other, code)) is None


@given(grids())
def test_slices_are_axial_and_last_and_nothing_is_mirrored(grid):
    seen = in_slice_order(grid)
    assert seen.anatomical_axes() == (0, 1, 2)
    assert in_slice_order(seen) == seen
    volume = Volume(numbered(grid.shape), grid)
    np.testing.assert_array_equal(
        turned(volume, seen).array, volume.array.transpose(grid.anatomical_axes())
    )
    assert set(seen.letters) == set(grid.letters)
