"""Slices of volumes as people look at them, however the image is stored.

A turned array runs from head to feet, from front to back and from the patient's right to the left:
its axial slices are seen from the feet with the front on top, its coronal ones from the front and
its sagittal ones from the patient's left, both with the head on top.
"""

from __future__ import annotations

import numpy as np

from lnqtools.images.grid import Grid, turn_to

MEDIASTINAL_WINDOW_HU = (-160.0, 240.0)
"""Level 40, width 400."""
SEEN = "LPI"
"""Where the columns, rows and slices of a turned array lead, see `lnqtools.images.grid.turn_to`."""


def turned(array: np.ndarray, grid: Grid) -> np.ndarray:
    """Return a view whose axes run from head to feet, from front to back, from right to left.

    Parameters
    ----------
    array : (z, y, x) ndarray
        On the grid.
    grid : Grid
        In any orientation; axes that are oblique are taken for the nearest ones.

    Returns
    -------
    ndarray
        A view, nothing is copied.
    """
    return turn_to(grid, SEEN).turned(array)


def turned_grid(grid: Grid) -> Grid:
    """Return the grid of a turned array."""
    return turn_to(grid, SEEN).turned_grid(grid)


def fullest_slices(mask: np.ndarray) -> tuple[int, int, int]:
    """Return along each axis the slice with the most foreground; the middle of an empty mask."""
    if not mask.any():
        return mask.shape[0] // 2, mask.shape[1] // 2, mask.shape[2] // 2
    foreground = mask != 0
    first, second, third = (
        int(foreground.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
        for axis in range(3)
    )
    return first, second, third


def gray_levels(
    hu: np.ndarray, window_hu: tuple[float, float] = MEDIASTINAL_WINDOW_HU
) -> np.ndarray:
    """Return the gray levels of a window: 0 at and below its lower end, 255 from its upper end on.

    Parameters
    ----------
    hu : ndarray
        CT numbers of any type.
    window_hu : (low, high)
        In HU, low below high.

    Returns
    -------
    ndarray of uint8
        ``255 * (hu - low) / (high - low)``, clipped and rounded to the nearest level.
    """
    low, high = window_hu
    levels = (hu.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.rint(np.clip(levels, 0, 255, out=levels), out=levels).astype(np.uint8)
