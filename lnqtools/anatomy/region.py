"""The part of the chest where its lymph nodes lie: what is outside it cannot be one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, cut_out, grid_of, turn_to
from lnqtools.images.layers import Layers

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


class Hull(NamedTuple):
    """From which column on how many voxels of a row are inside a hull.

    Parameters
    ----------
    first, width, column : (z, y, x) ndarray of uint16
        The first two are the same in all voxels of a row; the last is a voxel's own column. They
        are views that take no memory, of whatever axes: cut and turned like any array.
    """

    first: npt.NDArray[np.uint16]
    width: npt.NDArray[np.uint16]
    column: npt.NDArray[np.uint16]

    def cut_out(self, source: Grid, target: Grid) -> Hull:
        """Return the part on a smaller grid, see `lnqtools.images.grid.cut_out`."""
        return Hull(*(cut_out(view, source, target) for view in self))

    def outside(self) -> Layers:
        """Return the voxels outside, a layer at a time."""

        def layer(z: int) -> npt.NDArray[np.bool_]:
            return self.column[z] - self.first[z] >= self.width[z]  # what is lower wraps round

        return Layers(len(self.first), layer)


def lung_hull(
    lungs: npt.NDArray,
    grid: Grid | Sequence[float],
    margin_mm: float = 0.0,
    ends_mm: float = 0.0,
    *,
    labels: frozenset[int] | None = None,
) -> Hull:
    """Find the convex hull of the lungs, axial slice by axial slice.

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
    Hull
        With the axes of the array.

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
    >>> lung_hull(lungs, (5, 1, 1)).outside().whole().astype(int)[1].tolist()
    [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    """
    grid = grid_of(lungs.shape, grid)
    way = turn_to(grid, "LPS")
    # The hull is the same in a mirror, and voxels are read fastest as they are stored.
    slices = lungs.transpose(way.axes)
    runs = _runs(_lung_layers(slices, labels))
    voxels = _voxels_of_columns(runs, slices.shape[2])
    if way.flips[2]:
        middle = slices.shape[2] - _where_second_begins(voxels[::-1])
    else:
        middle = _where_second_begins(voxels)
    spacing = way.turned_grid(grid).spacing
    first, end = _spans(
        _rims(runs, middle, slices.shape), slices.shape, spacing, margin_mm, ends_mm
    )
    columns = np.arange(slices.shape[2], dtype=first.dtype)
    as_stored = np.argsort(way.axes)
    return Hull(
        *(
            np.broadcast_to(values, slices.shape).transpose(as_stored)
            for values in (first[..., np.newaxis], (end - first)[..., np.newaxis], columns)
        )
    )


def _lung_layers(
    array: npt.NDArray, labels: frozenset[int] | None
) -> Iterable[npt.NDArray[np.bool_]]:
    """Return the lungs of a map, a slice at a time: a mask of all would fill memory."""
    from lnqtools.anatomy.maps import label_layers

    return (layer != 0 for layer in array) if labels is None else label_layers(array, labels)


class _Runs(NamedTuple):
    """Runs of lung voxels along the rows of all slices, in order: row, first column, and the end.

    Rows are counted through from slice to slice.
    """

    row: npt.NDArray[np.intp]
    first: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]


def _runs(layers: Iterable[npt.NDArray[np.bool_]]) -> _Runs:
    """Find the runs of slices."""
    found = [_runs_of_slice(layer, z * len(layer)) for z, layer in enumerate(layers)]
    return _Runs(*map(np.concatenate, zip(*found, strict=True)))


def _runs_of_slice(layer: npt.NDArray[np.bool_], rows_before: int) -> _Runs:
    """Find the runs of a slice."""
    rows, columns = layer.shape
    line = np.zeros(1 + rows * (columns + 1), bool)  # no lung before the rows and after each
    line[1:].reshape(rows, columns + 1)[:, :columns] = layer
    edges = np.flatnonzero(line[1:] != line[:-1])
    row, first = np.divmod(edges[::2], columns + 1)
    return _Runs(rows_before + row, first, edges[1::2] - row * (columns + 1))


def _voxels_of_columns(runs: _Runs, columns: int) -> npt.NDArray[np.intp]:
    """Return how many lung voxels the sagittal planes have."""
    begun = np.bincount(runs.first, minlength=columns + 1)
    begun -= np.bincount(runs.end, minlength=columns + 1)
    return begun.cumsum()[:-1]


def _spans(
    rims: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    margin_mm: float,
    ends_mm: float,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Return for each row (z, y) the first column inside the hulls, and where they end."""
    present = (rims != NONE).any(axis=(2, 3))
    with_lung = [np.flatnonzero(of_lung).tolist() for of_lung in present.T]
    lowest, highest = np.flatnonzero(present.any(axis=1))[[0, -1]].tolist()
    both = rims.min(axis=1)
    for z in np.flatnonzero(~present.all(axis=1)).tolist():
        near = [rims[k, lung] for lung, at in enumerate(with_lung) for k in _nearest(at, z)]
        both[z] = np.minimum.reduce(near)
    first, end = np.zeros((2, *shape[:2]), np.uint16)
    slices = slice(lowest, highest + 1)
    first[slices], end[slices] = _bounds(_hulls(both[slices]), shape[1:], spacing[1:], margin_mm)
    reach = int(ends_mm / spacing[0] + EDGE_VOXELS)
    end[max(lowest - reach, 0) : lowest] = end[highest + 1 : highest + 1 + reach] = shape[2]
    return first, end


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
    runs = _runs(_lung_layers(lungs, labels))
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


def _rims(runs: _Runs, middle: int, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the first column that is found, and minus the last, as (slice, lung, 2, row).

    The second lung begins at column ``middle``. `NONE` stands for both where a row has none, so
    that the rim of two masks is the lesser of each.
    """
    slices, rows, _ = shape
    of_lungs = (
        _rim(_Runs(runs.row, runs.first, np.minimum(runs.end, middle)), slices * rows),
        _rim(_Runs(runs.row, np.maximum(runs.first, middle), runs.end), slices * rows),
    )
    return np.stack(of_lungs).reshape(2, 2, slices, rows).transpose(2, 0, 1, 3)


def _rim(runs: _Runs, rows: int) -> npt.NDArray[np.int64]:
    """Return what `_rims` does for the runs of one lung, those of the other being empty."""
    row, first, end = (values[runs.first < runs.end] for values in runs)
    rim = np.full((2, rows), NONE)
    rim[0, row[::-1]] = first[::-1]  # of a row with several the last to be written stays
    rim[1, row] = 1 - end
    return rim


def _hulls(rims: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the convex hulls of rims (slice, side, row), exactly, in whole numbers.

    No corner is a point that lies on or beyond the line between those before and after it. Once
    such points are gone others may lie so; when none does the rest are the corners.

    Returns
    -------
    (3, n) ndarray
        Corners: twice the slice, one more for a right side; row, ascending; and column. A right
        side is that of the mirrored slice, as in a rim: of minus the columns.
    """
    z, side, row = np.nonzero(rims != NONE)
    points = np.stack([2 * z + side, row, rims[z, side, row]])
    keep = np.zeros(1, bool)
    while not keep.all():
        steps, across = np.diff(points), points[:, 2:] - points[:, :-2]
        keep = np.ones(points.shape[1], bool)
        keep[1:-1] = steps[1, :-1] * across[2] > across[1] * steps[2, :-1]
        keep[1:-1] |= across[0] > 0  # the first or last of its rim
        points = points[:, keep]
    return points


def _bounds(
    corners: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    spacing: tuple[float, float],
    margin_mm: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return from which column on and up to which rows are at most a margin beyond each edge.

    Of hulls of slices, each of which has corners; as (slice, row), 0 where none of a row is.
    """
    side, row, _ = corners
    begins = np.flatnonzero(np.diff(side, prepend=-1))
    ends = np.append(begins[1:], len(side))
    y, x = corners[1:] * np.array([spacing]).T
    is_last = np.diff(side, append=-1) != 0
    slopes = np.where(is_last, 0, np.diff(x, append=0) / np.where(is_last, 1, np.diff(y, append=0)))
    slack = margin_mm + EDGE_VOXELS * min(spacing)
    at_zero = x - slopes * y - slack * np.hypot(1, slopes)  # of each edge, where its corner begins
    rows = np.arange(shape[0])
    bounds = np.empty((len(begins), shape[0]))
    for bound, begin, end in zip(bounds, begins, ends, strict=True):
        edges = slice(begin, max(end - 1, begin + 1)), np.newaxis
        (slopes[edges] * (rows * spacing[0]) + at_zero[edges]).max(axis=0, out=bound)
    reach = slack / spacing[0]
    highest, lowest = row[begins[::2], np.newaxis], row[ends[::2] - 1, np.newaxis]
    near = (rows >= highest - reach) & (rows <= lowest + reach)
    first = np.ceil(bounds[::2] / spacing[1]).clip(0, shape[1])
    after = np.floor(-bounds[1::2] / spacing[1]).clip(-1, shape[1] - 1) + 1
    return first * near, after * near


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

    beyond = _places((a & ~b for a, b in zip(drawn, inside, strict=True)), spacing)
    if not beyond.size:
        return None
    border = _places((_border(inside, z) for z in range(len(inside))), spacing)
    return float(cKDTree(border).query(beyond)[0].max())


def _places(
    layers: Iterable[npt.NDArray[np.bool_]], spacing: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return the centers (n, 3) of a mask's voxels, in mm."""
    found = []
    for z, layer in enumerate(layers):
        row, column = np.divmod(np.flatnonzero(layer), layer.shape[1])  # as argwhere, but fast
        found.append(np.stack([np.full(len(row), z), row, column], axis=1))
    return np.concatenate(found) * spacing


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
