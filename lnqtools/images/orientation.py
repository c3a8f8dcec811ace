"""The order and direction in which a file stores its axes, and images turned to another.

An orientation is written as nibabel and ITK do: for each of the file's axes x, y, z the direction
in which it increases, such as ``LPS`` for left, posterior, superior. An array (z, y, x) has these
letters backwards. Axes between the anatomical directions count as the nearest ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, LatticeMap, is_orientation, place, turn_to

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume


def check_code(code: str) -> str:
    """Return an orientation in capitals, or raise LnqError if it is not one of the 48."""
    capitals = code.upper()
    if not is_orientation(capitals):
        raise LnqError(
            f"{code!r} is not an orientation: it has one letter each of L or R, P or A, I or S, "
            "such as LPS"
        )
    return capitals


def oriented(grid: Grid, code: str) -> Grid:
    """Return the grid of the same voxels in an orientation, such as ``LPS``.

    Raises
    ------
    LnqError
        If ``code`` is not one of the 48.
    """
    return turn_to(grid, check_code(code)).turned_grid(grid)


def in_slice_order(grid: Grid) -> Grid:
    """Return the grid of the same voxels whose slices are axial and stored last.

    The array axes (z, y, x) then run superior-inferior, anterior-posterior and left-right, each
    in the direction in which it did.
    """
    return LatticeMap(grid.anatomical_axes(), (False, False, False)).turned_grid(grid)


def turned(volume: Volume, grid: Grid) -> Volume:
    """Return an image on the grid of the same voxels in another order, contiguous in memory.

    Raises
    ------
    LnqError
        If the grids do not share a lattice.
    """
    array = np.ascontiguousarray(place(volume.array, volume.grid, grid, 0))
    return replace(volume, array=array, grid=grid)
