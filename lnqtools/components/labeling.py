"""Connected components of a mask.

The mask is read once, as 64-bit words, to list its foreground voxels. Everything after that works
on runs (voxels that follow each other along the last axis), so the cost grows with the foreground
and not with the volume or with the number of components.

Arrays are (z, y, x); ``spacing`` is in mm in the array's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from lnqtools.choices import CONNECTIVITIES
from lnqtools.errors import LnqError, require_choice
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, grid_of, turn_to


def foreground_indices(mask: np.ndarray) -> npt.NDArray[np.int64]:
    """List the non-zero voxels of a mask.

    Reads eight bytes at a time, which is several times faster than ``np.flatnonzero`` where most
    of the volume is background.

    Parameters
    ----------
    mask : ndarray
        Boolean or integer array of any shape; copied only if it is not C-contiguous.

    Returns
    -------
    (N,) ndarray of int64
        Flat (C order) indices, ascending.

    Raises
    ------
    LnqError
        If the array is neither boolean nor integer.
    """
    mask = np.asarray(mask)
    if mask.dtype.kind not in "biu":
        raise LnqError(f"a mask must hold whole numbers, not {mask.dtype}: convert it first")
    flat = np.ascontiguousarray(mask).reshape(-1)
    per_word = 8 // flat.itemsize
    whole = flat.size // per_word * per_word
    words = np.flatnonzero(flat[:whole].view(np.uint64) != 0)
    values = flat[:whole].reshape(-1, per_word)[words].reshape(-1)
    hits = np.flatnonzero(values)
    indices = words[hits // per_word] * per_word + hits % per_word
    tail = np.flatnonzero(flat[whole:]) + whole
    return np.concatenate([indices, tail]) if tail.size else indices


class Runs(NamedTuple):
    """Runs of foreground voxels along the last axis, in raster order, with their component."""

    starts: npt.NDArray[np.int64]  # flat index of the first voxel
    lengths: npt.NDArray[np.int64]  # in voxels
    labels: npt.NDArray[np.int64]  # component, 1..count
    component_count: int


def label_runs(
    indices: npt.NDArray[np.int64], shape: tuple[int, int, int], connectivity: int = 6
) -> Runs:
    """Label the connected components of a list of foreground voxels.

    Parameters
    ----------
    indices : (N,) ndarray of int
        Flat indices of the foreground, ascending (see `foreground_indices`).
    shape : tuple of int
        Shape (z, y, x) of the volume.
    connectivity : {6, 18, 26}
        Neighbors that count: by face; also by edge; also by corner.

    Returns
    -------
    Runs
        The runs and the component that each belongs to, in raster order of its first voxel.

    Raises
    ------
    LnqError
        If the connectivity is unknown.
    """
    require_choice("connectivity", connectivity, CONNECTIVITIES)
    firsts = _first_of_runs(indices, shape[2])
    starts, lengths = indices[firsts], np.diff(firsts, append=indices.size)
    first, second = _touching_runs(starts, lengths, shape, connectivity)
    firsts, component = np.unique(_first_joined(first, second, starts.size), return_inverse=True)
    return Runs(starts, lengths, component + 1, firsts.size)


def _first_of_runs(
    indices: npt.NDArray[np.int64], row_length: int, values: np.ndarray | None = None
) -> npt.NDArray[np.int64]:
    """Split ascending flat indices into runs within a row, of one value: where each begins."""
    is_start = np.ones(indices.size, bool)
    is_start[1:] = np.diff(indices) != 1
    is_start |= indices % row_length == 0
    if values is not None:
        is_start[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(is_start)


def _touching_runs(
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    shape: tuple[int, int, int],
    connectivity: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of runs in neighboring rows that touch."""
    ends = starts + lengths - 1
    z, y, first_x = np.unravel_index(starts, shape)
    last_x = first_x + lengths - 1
    pairs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for step_z, step_y, reach in _later_rows(connectivity):
        inside = (z + step_z < shape[0]) & (y + step_y >= 0) & (y + step_y < shape[1])
        run = np.flatnonzero(inside)
        row = ((z[run] + step_z) * shape[1] + y[run] + step_y) * shape[2]
        lowest = row + np.maximum(first_x[run] - reach, 0)
        highest = row + np.minimum(last_x[run] + reach, shape[2] - 1)
        begin = np.searchsorted(ends, lowest, "left")
        stop = np.searchsorted(starts, highest, "right")
        touching = np.maximum(stop - begin, 0)
        pairs.append((np.repeat(run, touching), expand_ranges(begin, touching)))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _later_rows(connectivity: int) -> list[tuple[int, int, int]]:
    """Neighboring rows that come later in raster order: step in z, in y, and reach along x."""
    axes_crossed = {6: 1, 18: 2, 26: 3}[connectivity]
    rows = []
    for step_z, step_y in ((0, 1), (1, -1), (1, 0), (1, 1)):
        spare = axes_crossed - abs(step_z) - abs(step_y)
        if spare >= 0:
            rows.append((step_z, step_y, min(spare, 1)))
    return rows


def _first_joined(
    one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """For each of ``count`` runs the first one that pairs join it to, itself if there is none.

    Every run points at an earlier one of its component or at itself. Pairs hook the later of
    their ends to the earlier, and pointers then jump on to where they lead (Shiloach and Vishkin
    1982), until no pair is left between two ends. It spares the import of scipy.sparse, which
    takes longer than a case.
    """
    root = np.arange(count)
    while one.size:
        ends = np.stack([root[one], root[other]])
        apart = ends[0] != ends[1]
        one, other, ends = one[apart], other[apart], ends[:, apart]
        np.minimum.at(root, ends.max(axis=0), ends.min(axis=0))
        while not np.array_equal(further := root[root], root):
            root = further
    return root


def expand_ranges(
    starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Concatenate the ranges start .. start + length."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


@dataclass(frozen=True, eq=False)
class Components:
    """Components of a mask, as runs grouped by component.

    Component k (1..count) has row k - 1 in each array. Connected ones (`find_components`) are
    numbered in the order in which one meets them from feet to head, in a slice from front to back,
    in a row from right to left; numbered ones (`find_instances`) are in the order of their numbers,
    may touch, and may consist of several pieces.

    Attributes
    ----------
    grid : Grid
        Grid of the mask.
    run_starts : (R,) ndarray of int64
        Flat index of the first voxel of each run, grouped by component.
    run_lengths : (R,) ndarray of int64
        Voxels in each run.
    run_offsets : (n + 1,) ndarray of int64
        The runs of component k are ``run_offsets[k - 1]:run_offsets[k]``.
    voxel_counts : (n,) ndarray of int64
        Voxels in each component.
    boxes : (n, 3, 2) ndarray of int64
        First and one past the last index on each axis.
    centroids : (n, 3) ndarray of float
        Mean voxel index (z, y, x); a voxel's center has its whole index.
    ids : (n,) ndarray of int
        What tables call each: k, or its number in the mask.
    """

    grid: Grid
    run_starts: npt.NDArray[np.int64]
    run_lengths: npt.NDArray[np.int64]
    run_offsets: npt.NDArray[np.int64]
    voxel_counts: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]
    centroids: npt.NDArray[np.float64]
    ids: npt.NDArray[np.integer]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the mask."""
        return self.grid.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm."""
        return self.grid.spacing

    @property
    def axial_axis(self) -> int | None:
        """Array axis nearest to superior-inferior, across axial slices; None if unknown."""
        return self.grid.axial_axis

    @property
    def count(self) -> int:
        """Number of components."""
        return self.voxel_counts.size

    @property
    def volumes_mm3(self) -> npt.NDArray[np.float64]:
        """Volume of each component in mm³: voxels times the volume of a voxel."""
        return self.voxel_counts * np.prod(self.spacing)

    @cached_property
    def voxels(self) -> npt.NDArray[np.int64]:
        """Flat indices of all foreground voxels, grouped by component, ascending in each."""
        return expand_ranges(self.run_starts, self.run_lengths)

    @cached_property
    def voxel_offsets(self) -> npt.NDArray[np.int64]:
        """The voxels of component k are ``voxels[voxel_offsets[k - 1]:voxel_offsets[k]]``."""
        return np.concatenate([[0], np.cumsum(self.voxel_counts)])

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Component (1..n) of each entry of `voxels`."""
        return np.repeat(np.arange(1, self.count + 1), self.voxel_counts)

    def voxels_of(self, component: int) -> npt.NDArray[np.int64]:
        """Flat indices of one component's voxels, ascending (a view)."""
        return self.voxels[self.voxel_offsets[component - 1] : self.voxel_offsets[component]]

    def box_of(self, component: int) -> Box:
        """Return the box of one component."""
        start, stop = self.boxes[component - 1].T
        return Box.of(start, stop)

    def crop(self, component: int) -> npt.NDArray[np.bool_]:
        """One component alone, as a boolean array of the size of its box."""
        box = self.box_of(component)
        cropped = np.zeros(box.shape, bool)
        position = np.stack(np.unravel_index(self.voxels_of(component), self.shape))
        cropped[tuple(position - np.reshape(box.start, (3, 1)))] = True
        return cropped

    def only(self, rows: npt.NDArray[np.int64]) -> Self:
        """Return some of the components, in the order of their rows here."""
        runs_each = np.diff(self.run_offsets)[rows]
        runs = expand_ranges(self.run_offsets[rows], runs_each)
        return replace(
            self,
            run_starts=self.run_starts[runs],
            run_lengths=self.run_lengths[runs],
            run_offsets=np.concatenate([[0], np.cumsum(runs_each)]),
            voxel_counts=self.voxel_counts[rows],
            boxes=self.boxes[rows],
            centroids=self.centroids[rows],
            ids=self.ids[rows],
        )

    def by_shape(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Find which components have the same voxels, but for their place.

        Returns
        -------
        first : (m,) ndarray of int
            Row of the first component of each shape.
        same : (n,) ndarray of int
            The shape of each component, an index into ``first``.
        """
        runs_each = np.diff(self.run_offsets)
        place = np.stack(np.unravel_index(self.run_starts, self.shape), axis=1)
        place -= np.repeat(self.boxes[:, :, 0], runs_each, axis=0)
        runs = np.column_stack([place, self.run_lengths])
        shapes: dict[bytes, int] = {}
        same = np.empty(self.count, np.int64)
        first: list[int] = []
        for row, (begin, end) in enumerate(pairwise(self.run_offsets.tolist())):
            shape = shapes.setdefault(runs[begin:end].tobytes(), len(first))
            if shape == len(first):
                first.append(row)
            same[row] = shape
        return np.array(first, np.int64), same

    def label_map(self, dtype: npt.DTypeLike = np.uint16) -> np.ndarray:
        """Volume that holds each voxel's component number, 0 in the background.

        Raises
        ------
        LnqError
            If `dtype` cannot hold the number of components.
        """
        if self.count > np.iinfo(dtype).max:
            raise LnqError(f"{self.count} components do not fit into {np.dtype(dtype)}")
        volume = np.zeros(self.shape, dtype)
        volume.reshape(-1)[self.voxels] = self.labels
        return volume

    def overlap_voxels(self, mask: np.ndarray) -> npt.NDArray[np.int64]:
        """Voxels of each component that are non-zero in another mask of the same shape, (n,)."""
        if mask.shape != self.shape:
            raise LnqError(f"masks differ in size: {mask.shape} and {self.shape} (z, y, x)")
        inside = np.ascontiguousarray(mask).reshape(-1)[self.voxels] != 0
        return np.bincount(self.labels[inside] - 1, minlength=self.count)


def find_components(
    mask: np.ndarray, grid: Grid | Sequence[float], connectivity: int = 6
) -> Components:
    """Find the connected components of a mask in one pass over the volume.

    Parameters
    ----------
    mask : (z, y, x) ndarray
        Boolean or integer; every non-zero voxel is foreground.
    grid : Grid or sequence of 3 floats
        Where its voxels lie (`Grid.from_affine` makes it of a NIfTI affine); or their size
        (z, y, x) in mm alone, of a mask in LPS order, whose axis 0 is the axial one.
    connectivity : {6, 18, 26}
        Neighbors that count: by face (as in the paper); also by edge; also by corner.

    Returns
    -------
    Components
        Without any component for an empty mask.

    Raises
    ------
    LnqError
        If the mask is not a 3-D array of whole numbers or not of the grid's size, a spacing is
        not positive, or the connectivity is unknown.

    Examples
    --------
    >>> mask = np.zeros((4, 6, 6), np.uint8)
    >>> mask[1:3, 1:3, 1:5] = mask[3, 5, 5] = 1
    >>> nodes = find_components(mask, (2.5, 1.0, 1.0))
    >>> nodes.count, nodes.voxel_counts.tolist(), nodes.volumes_mm3.tolist()
    (2, [16, 1], [40.0, 2.5])
    """
    grid = grid_of(check_mask(mask), grid)
    return components_of(foreground_indices(mask), grid, connectivity)


def components_of(indices: npt.NDArray[np.int64], grid: Grid, connectivity: int = 6) -> Components:
    """Do as `find_components` from a list of foreground voxels (flat indices, ascending)."""
    return components_of_runs(label_runs(indices, grid.shape, connectivity), grid)


def components_of_runs(runs: Runs, grid: Grid) -> Components:
    """Do as `find_components` from runs that `label_runs` labeled."""
    return group_runs(_in_scan_order(runs, grid), grid, np.arange(1, runs.component_count + 1))


def find_instances(mask: np.ndarray, grid: Grid | Sequence[float]) -> Components:
    """Take each number in a mask for one component, in one pass over the volume.

    Parameters
    ----------
    mask : (z, y, x) ndarray
        Boolean or integer. Voxels of one number other than 0 are one component, wherever they
        lie; those of two numbers are two, though they touch.
    grid : Grid or sequence of 3 floats
        Where its voxels lie, or their size, as `find_components` takes it.

    Returns
    -------
    Components
        In the order of the numbers, which are the ``ids``; none for an empty mask.

    Raises
    ------
    LnqError
        If the mask is not a 3-D array of whole numbers or not of the grid's size, or a spacing is
        not positive.
    """
    grid = grid_of(check_mask(mask), grid)
    indices = foreground_indices(mask)
    return components_of_instances(indices, np.ascontiguousarray(mask).reshape(-1)[indices], grid)


def components_of_instances(
    indices: npt.NDArray[np.int64], values: np.ndarray, grid: Grid
) -> Components:
    """Do as `find_instances` from foreground voxels (flat indices, ascending) and their numbers."""
    firsts = _first_of_runs(indices, grid.shape[2], values)
    numbers, component = np.unique(values[firsts], return_inverse=True)
    lengths = np.diff(firsts, append=indices.size)
    return group_runs(Runs(indices[firsts], lengths, component + 1, numbers.size), grid, numbers)


def _in_scan_order(runs: Runs, grid: Grid) -> Runs:
    """Return runs with components numbered by their first voxels in LPS order, if it is known."""
    if not grid.oriented:
        return runs
    way = turn_to(grid, "LPS")
    if way.axes == (0, 1, 2) and not any(way.flips):
        return runs
    steps = np.zeros(3, np.int64)
    lengths = np.array(grid.shape)[list(way.axes)]
    steps[list(way.axes)] = np.where(way.flips, -1, 1) * (lengths[1] * lengths[2], lengths[2], 1)
    ranks = steps @ np.unravel_index(runs.starts, grid.shape)
    ranks += np.minimum(steps[2] * (runs.lengths - 1), 0)  # the run's last voxel may come first
    first = np.full(runs.component_count, np.iinfo(np.int64).max)
    np.minimum.at(first, runs.labels - 1, ranks)
    numbers = np.empty_like(first)
    numbers[np.argsort(first)] = np.arange(1, first.size + 1)
    return runs._replace(labels=numbers[runs.labels - 1])


def group_runs(runs: Runs, grid: Grid, ids: npt.NDArray[np.integer]) -> Components:
    """Make components of labeled runs: each number from 1 on has at least one."""
    order = np.argsort(runs.labels, kind="stable")
    starts, lengths = runs.starts[order], runs.lengths[order]
    offsets = np.searchsorted(runs.labels[order], np.arange(1, runs.component_count + 2))
    counts = sum_by_component(lengths, offsets)
    z, y, first_x = np.unravel_index(starts, grid.shape)
    ends = np.stack([z, y, first_x + lengths - 1])
    starts_zyx = np.stack([z, y, first_x])
    first_run = offsets[:-1]
    boxes = np.stack(
        [
            np.minimum.reduceat(starts_zyx, first_run, axis=1),
            np.maximum.reduceat(ends, first_run, axis=1) + 1,
        ]
    ).transpose(2, 1, 0)
    doubled = (starts_zyx + ends) * lengths  # whole numbers: the sums below are exact
    centroids = (sum_by_component(doubled, offsets) / 2 / counts).T
    return Components(grid, starts, lengths, offsets, counts, boxes, centroids, ids)


def sum_by_component(values: np.ndarray, offsets: npt.NDArray[np.int64]) -> np.ndarray:
    """Sum along the last axis over each component's runs (every component has one or more)."""
    return np.add.reduceat(values, offsets[:-1], axis=-1)


def check_mask(mask: np.ndarray) -> tuple[int, int, int]:
    """Return the shape of a 3-D mask; refuse any other array with a sentence."""
    if mask.ndim != 3:
        raise LnqError(f"a mask must have three axes (z, y, x), not {mask.ndim}")
    return mask.shape


def keep(components: Components, selected: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Make a mask of some of the components, without their numbers.

    Parameters
    ----------
    components : Components
        Components of a mask.
    selected : (n,) array_like of bool
        Which of them to keep.

    Returns
    -------
    (z, y, x) ndarray of uint8
        1 in the selected components, 0 elsewhere.
    """
    selected = np.asarray(selected, bool)
    if selected.shape != (components.count,):
        raise LnqError(f"{selected.size} choices for {components.count} components")
    mask = np.zeros(components.shape, np.uint8)
    mask.reshape(-1)[components.voxels[np.repeat(selected, components.voxel_counts)]] = 1
    return mask
