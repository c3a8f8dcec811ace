"""The part of the chest where its lymph nodes lie: what is outside it cannot be one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, grid_of, turn_to

EDGE_VOXELS = 1e-6
"""A voxel center so much beyond an edge still lies on it: corners of hulls are voxel centers."""
LEAST_SHARE_OF_SECOND_LUNG = 0.15
MOST_BETWEEN = 0.3
"""Of the most lung voxels that a sagittal plane has, between two lungs; one lung has .6 or more."""


class OneLungError(LnqError):
    """Only one of the lungs is there, so that their hull is not known."""

    def __init__(self) -> None:
        super().__init__(
            "shows one lung alone, whose hull leaves out nodes of the mediastinum beside it; this "
            "case needs a mask of its region (--outside FILE|DIR)"
        )


def lung_hull(
    lungs: npt.NDArray, grid: Grid | Sequence[float], margin_mm: float = 0.0, ends_mm: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Return the voxels within the convex hull of the lungs, axial slice by axial slice.

    In a slice the hull is that of the centers of all lung voxels, of both lungs together, and a
    voxel is inside if its center is at most ``margin_mm`` beyond each edge of the hull. Between
    the lungs' first and last slice one that lacks a lung, or both, takes the missing one from the
    nearest slices above and below that have it: the tip of the higher lung alone, or the lung
    beside one that collapsed, would leave out the mediastinum. Whole slices at most ``ends_mm``
    above and below the lungs are inside too.

    Left and right are parted at the sagittal plane with the fewest lung voxels in the middle half
    of the lungs' extent. There must be few, and the smaller lung must have at least 0.15 of the
    voxels of the larger.

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
    OneLungError
        If it does not hold two lungs.

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
    middle = _between_lungs(lungs)
    rims = [
        [_rim(layer[:, columns], columns.start) for layer in lungs]
        for columns in (slice(0, middle), slice(middle, lungs.shape[2]))
    ]
    with_lung = [[z for z, rim in enumerate(lung) if rim.size] for lung in rims]
    first, last = min(at[0] for at in with_lung), max(at[-1] for at in with_lung)
    reach = int(ends_mm / spacing[0] + EDGE_VOXELS)
    inside[max(first - reach, 0) : first] = True
    inside[last + 1 : last + 1 + reach] = True
    for z in range(first, last + 1):
        near = [lung[k] for lung, at in zip(rims, with_lung, strict=True) for k in _nearest(at, z)]
        _fill_slice(inside[z], np.concatenate(near), spacing[1:], margin_mm)


def _between_lungs(lungs: npt.NDArray) -> int:
    """Return the column where the second lung begins, of an array in LPS order."""
    voxels = np.zeros(lungs.shape[2], np.int64)
    for layer in lungs:
        voxels += (layer != 0).sum(axis=0, dtype=np.uint32)
    columns = np.flatnonzero(voxels)
    if not columns.size:
        from lnqtools.anatomy.lungs import NoLungsError  # with libraries that a hull does without

        raise NoLungsError("the lung mask is empty")
    first, last = columns[[0, -1]].tolist()
    quarter = (last - first) // 4
    middle = first + quarter + int(voxels[first + quarter : last + 1 - quarter].argmin())
    sides = voxels[:middle].sum(), voxels[middle:].sum()
    are_apart = voxels[middle] <= MOST_BETWEEN * voxels.max()
    if not are_apart or min(sides) < LEAST_SHARE_OF_SECOND_LUNG * max(sides):
        raise OneLungError
    return middle


def _nearest(ascending: list[int], z: int) -> list[int]:
    """Return z if it is listed, else its neighbors in the list: one at its ends, else two."""
    after = bisect_left(ascending, z)
    if z in ascending[after : after + 1]:
        return [z]
    return ascending[max(after - 1, 0) : after + 1]


def _rim(layer: npt.NDArray, start: int) -> npt.NDArray[np.int64]:
    """Return the first and the last voxel of each row that has any, (n, 2) as row and column."""
    found = layer != 0
    rows = np.flatnonzero(found.any(axis=1))
    first = found[rows].argmax(axis=1)
    last = found.shape[1] - 1 - found[rows, ::-1].argmax(axis=1)
    return np.stack([np.tile(rows, 2), np.concatenate([first, last]) + start], axis=1)


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

    def cuts(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return where each edge cuts each row, (n, rows)."""
        return (slack - edges[:, 2:] - edges[:, :1] * rows) / edges[:, 1:2]

    across = edges[:, 1]
    left = cuts(edges[across < 0]).max(axis=0, initial=-np.inf)
    right = cuts(edges[across > 0]).min(axis=0, initial=np.inf)
    along = edges[across == 0]
    left[(along[:, :1] * rows + along[:, 2:] > slack).any(axis=0)] = np.inf
    first = np.searchsorted(columns, left, "left").astype(np.uint16)
    end = np.searchsorted(columns, right, "right").astype(np.uint16)
    numbers = np.arange(inside.shape[1], dtype=np.uint16)  # small: a slice is written fast
    np.greater_equal(numbers, first[:, np.newaxis], out=inside)
    inside &= numbers < end[:, np.newaxis]


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


def farthest_outside_mm(
    drawn: npt.NDArray, inside: npt.NDArray[np.bool_], spacing: Sequence[float]
) -> float | None:
    """Return how far from a region the farthest drawn voxel lies, center to center.

    Parameters
    ----------
    drawn : (z, y, x) ndarray of bool
    inside : (z, y, x) ndarray of bool
        The region, which must have a voxel.
    spacing : sequence of 3 floats
        In mm, in the array's order.

    Returns
    -------
    float or None
        In mm; None if nothing is drawn outside.

    Examples
    --------
    >>> drawn = np.array([[[True, False, False, True]]])
    >>> inside = np.array([[[True, True, False, False]]])
    >>> farthest_outside_mm(drawn, inside, (5, 1, 0.8))
    1.6
    """
    from scipy.spatial import cKDTree

    beyond = np.argwhere(drawn & ~inside)
    if not beyond.size:
        return None
    border = [
        np.column_stack([np.full(len(at), z), at])
        for z in range(len(inside))
        if (at := np.argwhere(_border(inside, z))).size
    ]
    tree = cKDTree(np.concatenate(border) * spacing)
    return float(tree.query(beyond * np.array(spacing))[0].max())


def _border(inside: npt.NDArray[np.bool_], z: int) -> npt.NDArray[np.bool_]:
    """Return which voxels of a slice have a neighbor (by faces) outside the region."""
    layer = inside[z]
    deep = layer.copy()
    for neighbor in inside[max(z - 1, 0) : z + 2]:
        deep &= neighbor
    for axis in (0, 1):
        own, other = deep.swapaxes(0, axis), layer.swapaxes(0, axis)
        own[1:] &= other[:-1]
        own[:-1] &= other[1:]
    return layer & ~deep
