"""Neighbourhoods for dilation and erosion, in voxels and in mm."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import generate_binary_structure, iterate_structure

_RANK = {6: 1, 18: 2, 26: 3}


def steps(count: int, connectivity: int) -> np.ndarray:
    """Return the neighbourhood that ``count`` steps of 6-, 18- or 26-connectivity reach.

    Returns
    -------
    (2 count + 1, 2 count + 1, 2 count + 1) ndarray of bool
        Dilating by it equals dilating ``count`` times by the neighbourhood of one step.
    """
    if count == 0:
        return np.ones((1, 1, 1), bool)
    return iterate_structure(generate_binary_structure(3, _RANK[connectivity]), count)


def ball(radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the voxels whose centres lie within ``radius_mm`` of the middle one's.

    Parameters
    ----------
    radius_mm : float
    spacing : tuple of float
        Along z, y, x, in mm.

    Returns
    -------
    (z, y, x) ndarray of bool
        Of odd shape, with the middle voxel always set.
    """
    reach = [int((radius_mm + 1e-6) // s) for s in spacing]
    axes = [np.arange(-n, n + 1) * s for n, s in zip(reach, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return z * z + y * y + x * x <= (radius_mm + 1e-6) ** 2
