"""The part of the chest where its lymph nodes lie: what is outside it cannot be one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lnqtools.anatomy.lungs import NoLungsError
from lnqtools.images.grid import Grid, grid_of, turn_to

EDGE_VOXELS = 1e-6
"""A voxel center so much beyond an edge still lies on it: corners of hulls are voxel centers."""


def lung_hull(
    lungs: npt.NDArray, grid: Grid | Sequence[float], margin_mm: float = 0.0, ends_mm: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Return the voxels within the convex hull of the lungs, axial slice by axial slice.

    In a slice the hull is that of the centers of all lung voxels, of both lungs together, and a
    voxel is inside if its center is at most ``margin_mm`` beyond each edge of the hull. Between
    the lungs' first and last slice one without lung takes the hull of the nearest ones on either
    side. Whole slices at most ``ends_mm`` above and below the lungs are inside too.

    Parameters
    ----------
    lungs : (z, y, x) ndarray
        Lung is whatever is not zero.
    grid : Grid or sequence of 3 floats
        Of the mask; or the size of its voxels in mm, of an array in LPS order.
    margin_mm : float
        How far the hull is widened in each slice.
    ends_mm : float
        How far beyond the lungs' ends, from center to center of slices.

    Returns
    -------
    (z, y, x) ndarray of bool
        As the array is stored.

    Raises
    ------
    NoLungsError
        If the mask is empty.

    Examples
    --------
    >>> lungs = np.zeros((3, 3, 5), np.uint8)
    >>> lungs[1, 1, [0, 4]] = 1
    >>> lung_hull(lungs, (5, 1, 1)).astype(int)[1].tolist()
    [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]
    """
    grid = grid_of(lungs.shape, grid)
    way = turn_to(grid, "LPS")
    inside = np.zeros(lungs.shape, bool)
    spacing = way.turned_grid(grid).spacing
    _fill(way.turned(inside), way.turned(lungs), spacing, margin_mm, ends_mm)
    return inside


def _fill(
    inside: npt.NDArray[np.bool_],
    lungs: npt.NDArray,
    spacing: tuple[float, float, float],
    margin_mm: float,
    ends_mm: float,
) -> None:
    """Mark the voxels inside the hulls, in LPS order."""
    rims = [_rim(layer) for layer in lungs]
    with_lung = [z for z, rim in enumerate(rims) if rim.size]
    if not with_lung:
        raise NoLungsError("the lung mask is empty")
    first, last = with_lung[0], with_lung[-1]
    reach = int(ends_mm / spacing[0] + EDGE_VOXELS)
    inside[max(first - reach, 0) : first] = True
    inside[last + 1 : last + 1 + reach] = True
    nearest = np.searchsorted(with_lung, np.arange(first, last + 1))
    for z, after in zip(range(first, last + 1), nearest.tolist(), strict=True):
        rim = rims[z]
        if not rim.size:
            rim = np.concatenate([rims[with_lung[after - 1]], rims[with_lung[after]]])
        _fill_slice(inside[z], rim, spacing[1:], margin_mm)


def _rim(layer: npt.NDArray) -> npt.NDArray[np.int64]:
    """Return the first and the last voxel of each row that has any, (n, 2) as row and column."""
    found = layer != 0
    rows = np.flatnonzero(found.any(axis=1))
    first = found[rows].argmax(axis=1)
    last = found.shape[1] - 1 - found[rows, ::-1].argmax(axis=1)
    return np.stack([np.tile(rows, 2), np.concatenate([first, last])], axis=1)


def _fill_slice(
    inside: npt.NDArray[np.bool_],
    rim: npt.NDArray[np.int64],
    spacing: tuple[float, float],
    margin_mm: float,
) -> None:
    """Mark the voxels of a slice at most a margin beyond each edge of the hull of some voxels."""
    edges = _hull_edges(rim * np.array(spacing))
    rows = np.arange(inside.shape[0]) * spacing[0]
    columns = np.arange(inside.shape[1]) * spacing[1]
    slack = margin_mm + EDGE_VOXELS * min(spacing)
    # What each edge leaves of each row lies on one side of a column, or is all or nothing.
    room = slack - edges[:, 2, np.newaxis] - edges[:, 0, np.newaxis] * rows
    across = edges[:, 1, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = room / across
    left = np.where(across < 0, bound, np.where((across == 0) & (room < 0), np.inf, -np.inf))
    right = np.where(across > 0, bound, np.inf)
    left_mm, right_mm = left.max(axis=0), right.min(axis=0)
    inside |= (columns >= left_mm[:, np.newaxis]) & (columns <= right_mm[:, np.newaxis])


def _hull_edges(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the edges of a convex hull in the plane as (a, b, c): inside is ay + bx + c <= 0.

    The normals (a, b) have length 1. Of points on a line, or of one, the box around them in that
    direction is meant, without breadth.
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        return ConvexHull(points).equations
    except QhullError:
        pass
    center = points.mean(axis=0)
    spread = points - center
    along = np.linalg.svd(spread, full_matrices=True)[2]
    normals = np.concatenate([along, -along])
    return np.column_stack([normals, -(points @ normals.T).max(axis=0)])
