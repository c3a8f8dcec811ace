"""The part of the chest where its lymph nodes lie: what is outside it cannot be one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, grid_of, turn_to

NONE = 2**31
"""Beyond any column."""
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
    lungs: npt.NDArray,
    grid: Grid | Sequence[float],
    margin_mm: float = 0.0,
    ends_mm: float = 0.0,
    *,
    labels: frozenset[int] | None = None,
) -> npt.NDArray[np.bool_]:
    """Return the voxels within the convex hull of the lungs, axial slice by axial slice.

    In a slice the hull is that of the centers of all lung voxels, of both lungs together, and a
    voxel is inside if its center is at most ``margin_mm`` beyond each edge of the hull. Between
    the lungs' first and last slice one that lacks a lung, or both, takes the missing one from the
    nearest slices above and below that have it: the tip of the higher lung alone, or the lung
    beside one that collapsed, would leave out the mediastinum. Whole slices at most ``ends_mm``
    above and below the lungs are inside too.

    Left and right are parted at the sagittal plane with the fewest lung voxels in the middle half
    of the lungs' extent, of several at that nearest to its middle. There must be few, and the
    smaller lung must have at least 0.15 of the voxels of the larger.

    Parameters
    ----------
    lungs : (z, y, x) ndarray
        Lung is whatever is not zero, or one of the ``labels``.
    grid : Grid or sequence of 3 floats
        Of the mask; or the size of its voxels in mm, of an array in LPS order.
    margin_mm : float
        How far the hull is widened in each slice.
    ends_mm : float
        How far beyond the lungs' ends, from center to center of slices.
    labels : frozenset of int, optional
        Numbers of the lungs in a map of unsigned integers, as of the five lobes.

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
    turned, turned_lungs = way.turned(inside), way.turned(lungs)
    # The hull is the same in a mirror, and voxels are read and written fastest as they are stored.
    stored = tuple(slice(None, None, -1 if step < 0 else 1) for step in turned.strides)
    runs = [_runs(layer) for layer in _Layers(turned_lungs[stored], labels)]
    voxels = _voxels_of_columns(runs, turned.shape[2])
    if turned.strides[2] > 0:
        middle = _where_second_begins(voxels)
    else:
        middle = turned.shape[2] - _where_second_begins(voxels[::-1])
    _fill(turned[stored], runs, middle, way.turned_grid(grid).spacing, margin_mm, ends_mm)
    return inside


@dataclass(frozen=True, eq=False)
class _Layers:
    """The lungs of a map, a slice at a time: a mask of all would fill memory."""

    array: npt.NDArray
    labels: frozenset[int] | None

    def __iter__(self) -> Iterator[npt.NDArray[np.bool_]]:
        from lnqtools.anatomy.maps import labels_mask

        for layer in self.array:
            if self.labels is None:
                yield layer != 0
            else:
                yield labels_mask(layer[np.newaxis], self.labels)[0]


class _Runs(NamedTuple):
    """Runs of lung voxels along the rows of a slice, in order: row, first column, and the end."""

    row: npt.NDArray[np.intp]
    first: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]


def _runs(layer: npt.NDArray[np.bool_]) -> _Runs:
    """Find the runs of a slice."""
    rows, columns = layer.shape
    line = np.zeros(1 + rows * (columns + 1), bool)  # no lung before the rows and after each
    line[1:].reshape(rows, columns + 1)[:, :columns] = layer
    edges = np.flatnonzero(line[1:] != line[:-1])
    row, first = np.divmod(edges[::2], columns + 1)
    return _Runs(row, first, edges[1::2] - row * (columns + 1))


def _voxels_of_columns(runs: Iterable[_Runs], columns: int) -> npt.NDArray[np.int64]:
    """Return how many lung voxels the sagittal planes have."""
    begun = np.zeros(columns + 1, np.int64)
    for slice_runs in runs:
        begun += np.bincount(slice_runs.first, minlength=columns + 1)
        begun -= np.bincount(slice_runs.end, minlength=columns + 1)
    return begun.cumsum()[:-1]


def _fill(
    inside: npt.NDArray[np.bool_],
    runs: Sequence[_Runs],
    middle: int,
    spacing: tuple[float, float, float],
    margin_mm: float,
    ends_mm: float,
) -> None:
    """Mark the voxels inside the hulls; the second lung begins at column ``middle``."""
    parts = [_rims(of_slice, middle, inside.shape[1]) for of_slice in runs]
    rims = [[part[lung] for part in parts] for lung in (0, 1)]
    with_lung = [[z for z, rim in enumerate(lung) if (rim != NONE).any()] for lung in rims]
    first, last = min(at[0] for at in with_lung), max(at[-1] for at in with_lung)
    reach = int(ends_mm / spacing[0] + EDGE_VOXELS)
    inside[max(first - reach, 0) : first] = True
    inside[last + 1 : last + 1 + reach] = True
    slices = range(first, last + 1)
    both = [
        np.minimum.reduce(
            [lung[k] for lung, at in zip(rims, with_lung, strict=True) for k in _nearest(at, z)]
        )
        for z in slices
    ]
    for z, corners in zip(slices, _hulls(np.array(both)), strict=True):
        _fill_slice(inside[z], corners, spacing[1:], margin_mm)


def between_lungs(lungs: npt.NDArray, labels: frozenset[int] | None = None) -> int:
    """Return the column where the second lung begins, see `lung_hull`.

    Parameters
    ----------
    lungs : (z, y, x) ndarray
        In LPS order; lung is whatever is not zero, or one of the ``labels``.
    labels : frozenset of int, optional

    Raises
    ------
    NoLungsError, OneLungError
        As `lung_hull`.
    """
    runs = map(_runs, _Layers(lungs, labels))
    return _where_second_begins(_voxels_of_columns(runs, lungs.shape[2]))


def _where_second_begins(voxels: npt.NDArray[np.int64]) -> int:
    """Return the column where the second lung begins, from the voxels of each, in LPS order."""
    columns = np.flatnonzero(voxels)
    if not columns.size:
        from lnqtools.anatomy.lungs import NoLungsError  # with libraries that a hull does without

        raise NoLungsError("the lung mask is empty")
    first, last = columns[[0, -1]].tolist()
    half = np.arange(first + (last - first) // 4, last + 1 - (last - first) // 4)
    fewest = half[voxels[half] == voxels[half].min()]
    middle = int(fewest[np.abs(2 * fewest - first - last).argmin()])
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


def _rims(
    runs: _Runs, middle: int, rows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for each lung of each row the first column that is found, and minus the last.

    Of either (2, rows). `NONE` stands for both where a row has none, so that the rim of two masks
    is the lesser of each.
    """
    return (
        _rim(_Runs(runs.row, runs.first, np.minimum(runs.end, middle)), rows),
        _rim(_Runs(runs.row, np.maximum(runs.first, middle), runs.end), rows),
    )


def _rim(runs: _Runs, rows: int) -> npt.NDArray[np.int64]:
    """Return what `_rims` does for the runs of one lung, those of the other being empty."""
    row, first, end = (values[runs.first < runs.end] for values in runs)
    rim = np.full((2, rows), NONE)
    rim[0, row[::-1]] = first[::-1]  # of a row with several the last to be written stays
    rim[1, row] = 1 - end
    return rim


_Corners = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Corners (n, 2) of a slice's hull as row and column, by ascending row: left ones, right ones.

The right ones are those of the mirrored slice, as in a rim: of minus the columns."""


def _hulls(rims: npt.NDArray[np.int64]) -> list[_Corners]:
    """Return the convex hulls of rims (slice, side, row), exactly, in whole numbers.

    No corner is a point that lies on or beyond the line between those before and after it. Once
    such points are gone others may lie so; when none does the rest are the corners.
    """
    slices, _, _ = rims.shape
    z, side, row = np.nonzero(rims != NONE)
    points = np.stack([2 * z + side, row, rims[z, side, row]])
    keep = np.zeros(1, bool)
    while not keep.all():
        steps, across = np.diff(points), points[:, 2:] - points[:, :-2]
        keep = np.ones(points.shape[1], bool)
        keep[1:-1] = steps[1, :-1] * across[2] > across[1] * steps[2, :-1]
        keep[1:-1] |= across[0] > 0  # the first or last of its rim
        points = points[:, keep]
    ends = np.searchsorted(points[0], np.arange(1, 2 * slices))
    corners = np.split(points[1:].T, ends)
    return list(zip(corners[::2], corners[1::2], strict=True))


def _fill_slice(
    inside: npt.NDArray[np.bool_],
    corners: _Corners,
    spacing: tuple[float, float],
    margin_mm: float,
) -> None:
    """Mark the voxels of a slice at most a margin beyond each edge of its hull."""
    slack = margin_mm + EDGE_VOXELS * min(spacing)
    highest, lowest = corners[0][[0, -1], 0].tolist()
    near = _at_most(highest, lowest, slack, spacing[0], len(inside))
    left, right = (_bound(of_side * spacing, near * spacing[0], slack) for of_side in corners)
    columns = np.arange(inside.shape[1]) * spacing[1]
    first = np.searchsorted(columns, left, "left").astype(np.uint16)
    end = np.searchsorted(columns, -right, "right").astype(np.uint16)
    box = inside[near[0] : near[-1] + 1, first.min() : end.max()]
    numbers = np.arange(first.min(), end.max(), dtype=np.uint16)  # small: a slice is written fast
    np.greater_equal(numbers, first[:, np.newaxis], out=box)
    box &= numbers < end[:, np.newaxis]


def _at_most(
    first: int, last: int, slack: float, spacing: float, rows: int
) -> npt.NDArray[np.intp]:
    """Return the rows at most so far before the first, or after the last."""
    at = np.arange(rows) * spacing
    return np.flatnonzero((at >= first * spacing - slack) & (at <= last * spacing + slack))


def _bound(
    corners: npt.NDArray[np.floating], rows: npt.NDArray[np.floating], slack: float
) -> npt.NDArray[np.float64]:
    """Return from where on rows are inside of a hull's left edges; all in mm."""
    y, x = corners[: max(len(corners) - 1, 1)].T  # where each edge begins
    slopes = np.diff(corners[:, 1]) / np.diff(corners[:, 0]) if len(corners) > 1 else np.zeros(1)
    edges = x + slopes * (rows[:, np.newaxis] - y) - slack * np.hypot(1, slopes)
    return edges.max(axis=1)


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
    >>> farthest_outside_mm(drawn, inside, (5, 1, 0.5))
    1.0
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
