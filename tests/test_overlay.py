"""examples/overlay.py shows the same view of an image however it is stored."""

from __future__ import annotations

import runpy
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from lnqtools.grid import Grid
from tests.conftest import ROOT

CODES = [
    "".join(pair[side] for pair, side in zip(pairs, sides, strict=True))
    for pairs in permutations(("RL", "AP", "SI"))
    for sides in product((0, 1), repeat=3)
]


def test_views_do_not_depend_on_the_orientation():
    pytest.importorskip("matplotlib")
    turned = runpy.run_path(str(ROOT / "examples" / "overlay.py"))["turned"]
    # x from left to right, y from back to front, z from feet to head: the last of each is shown
    # first: head, front and right
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    image = nib.Nifti1Image(array.astype(np.int16), np.diag([1.0, 2, 3, 1]))
    shown = array.transpose(2, 1, 0)[::-1, ::-1, ::-1]
    assert len(set(CODES)) == 48
    for code in CODES:
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(code))
        stored = image.as_reoriented(turn)
        zyx = np.asanyarray(stored.dataobj).transpose(2, 1, 0)
        assert np.array_equal(turned(zyx, Grid.from_affine(zyx.shape, stored.affine)), shown)
