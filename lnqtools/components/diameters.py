"""Components of a mask, connected or numbered, and their shape: volumes, boxes, diameters.

The mask is read once, as 64-bit words, to list its foreground voxels. Everything after that works
on runs (voxels that follow each other along the last axis), so the cost grows with the foreground
and not with the volume or with the number of components.

Arrays are (z, y, x). Where their voxels lie is told by a `Grid`, or by a spacing in mm in the
array's order: then slices follow each other along axis 0, as in a CT (LPS order, see
`lnqtools.images.grid.turn_to`). Components are made with that, and what depends on directions, as
the axial slices of RECIST and the order of components, takes it from them: how a file stores its
axes changes nothing but the order of voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError, require_choice
from lnqtools.images.grid import UNKNOWN_AXES, Grid, grid_of, turn_to

CONNECTIVITIES = (6, 18, 26)

MM3_PER_ML = 1000.0

METRICS = (
    "ellipsoid",
    "ellipsoid-corrected",
    "recist",
    "recist-caliper",
    "inscribed",
    "feret-min",
    "sphere",
)
AXIAL_METRICS = frozenset({"recist", "recist-caliper"})
"""Those measured in an axial slice."""

# Lengths that differ by less than this fraction are taken as equal, so that a tie between two
# diagonals is not settled by rounding.
_TIE = 1e-9

# Lengths and volumes that miss a threshold by less than this fraction reach it: spacings come
# from float32 headers, so 5 voxels of 1.9 mm are 9.4999999 mm long.
_THRESHOLD_TIE = 1e-6

# A least variance below this fraction of a voxel's squared side means: no thickness at all.
_FLAT = 1e-10

# Directions in which the extents of a slice are taken to bound its diameter, within 2 %.
_LIMIT_DIRECTIONS = 8

# A box of this many times a component's voxels may hold several pieces of it, far apart.
_SPARSE = 8

# Numbers held at once when the widths of a hull are computed: 1 MB, which a cache can hold.
_WIDTHS_AT_ONCE = 131_072


def foreground_indices(mask: npt.NDArray) -> npt.NDArray[np.int64]:
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
        The array is neither boolean nor integer.
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
        Neighbours that count: by face; also by edge; also by corner.

    Returns
    -------
    Runs
        The runs and the component that each belongs to, in raster order of its first voxel.

    Raises
    ------
    LnqError
        Unknown connectivity.
    """
    require_choice("connectivity", connectivity, CONNECTIVITIES)
    firsts = _first_of_runs(indices, shape[2])
    starts, lengths = indices[firsts], np.diff(firsts, append=indices.size)
    first, second = _touching_runs(starts, lengths, shape, connectivity)
    firsts, component = np.unique(_first_joined(first, second, starts.size), return_inverse=True)
    return Runs(starts, lengths, component + 1, firsts.size)


def _first_of_runs(
    indices: npt.NDArray[np.int64], row_length: int, values: npt.NDArray | None = None
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
    """Pairs of runs in neighbouring rows that touch."""
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
    """Neighbouring rows that come later in raster order: step in z, in y, and reach along x."""
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
        Of the mask.
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
        Mean voxel index (z, y, x); a voxel's centre has its whole index.
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

    def crop(self, component: int) -> npt.NDArray[np.bool_]:
        """One component alone, as a boolean array of the size of its box."""
        low, high = self.boxes[component - 1].T
        cropped = np.zeros(high - low, bool)
        position = np.stack(np.unravel_index(self.voxels_of(component), self.shape))
        cropped[tuple(position - low[:, np.newaxis])] = True
        return cropped

    def label_map(self, dtype: npt.DTypeLike = np.uint16) -> npt.NDArray:
        """Volume that holds each voxel's component number, 0 in the background.

        Raises
        ------
        LnqError
            `dtype` cannot hold the number of components.
        """
        if self.count > np.iinfo(dtype).max:
            raise LnqError(f"{self.count} components do not fit into {np.dtype(dtype)}")
        volume = np.zeros(self.shape, dtype)
        volume.reshape(-1)[self.voxels] = self.labels
        return volume

    def overlap_voxels(self, mask: npt.NDArray) -> npt.NDArray[np.int64]:
        """Voxels of each component that are non-zero in another mask of the same shape, (n,)."""
        if mask.shape != self.shape:
            raise LnqError(f"masks differ in size: {mask.shape} and {self.shape} (z, y, x)")
        inside = np.ascontiguousarray(mask).reshape(-1)[self.voxels] != 0
        return np.bincount(self.labels[inside] - 1, minlength=self.count)


def find_components(
    mask: npt.NDArray, grid: Grid | Sequence[float], connectivity: int = 6
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
        Neighbours that count: by face (as in the paper); also by edge; also by corner.

    Returns
    -------
    Components
        Without any component for an empty mask.

    Raises
    ------
    LnqError
        The mask is not a 3-D array of whole numbers or not of the grid's size, a spacing is not
        positive, or the connectivity is unknown.
    """
    grid = grid_of(check_mask(mask), grid)
    return components_of(foreground_indices(mask), grid, connectivity)


def components_of(indices: npt.NDArray[np.int64], grid: Grid, connectivity: int = 6) -> Components:
    """Do as `find_components` from a list of foreground voxels (flat indices, ascending)."""
    runs = _in_scan_order(label_runs(indices, grid.shape, connectivity), grid)
    return group_runs(runs, grid, np.arange(1, runs.component_count + 1))


def find_instances(mask: npt.NDArray, grid: Grid | Sequence[float]) -> Components:
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
        The mask is not a 3-D array of whole numbers or not of the grid's size, or a spacing is
        not positive.
    """
    grid = grid_of(check_mask(mask), grid)
    indices = foreground_indices(mask)
    values = np.ascontiguousarray(mask).reshape(-1)[indices]
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
    counts = _sum_by_component(lengths, offsets)
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
    centroids = (_sum_by_component(doubled, offsets) / 2 / counts).T
    return Components(grid, starts, lengths, offsets, counts, boxes, centroids, ids)


def _sum_by_component(values: npt.NDArray, offsets: npt.NDArray[np.int64]) -> npt.NDArray:
    """Sum along the last axis over each component's runs (every component has one or more)."""
    return np.add.reduceat(values, offsets[:-1], axis=-1)


def check_mask(mask: npt.NDArray) -> tuple[int, int, int]:
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


def diameters_mm(components: Components, metric: str) -> npt.NDArray[np.float64]:
    """Measure the shortest diameter of each component.

    ==================== =======================================================================
    metric               definition
    ==================== =======================================================================
    ellipsoid            least axis of the ellipsoid with the component's second moments about
                         voxel centres, ``sqrt(20 * least eigenvalue of the covariance)``. This
                         is skimage's ``axis_minor_length`` with spacing,
                         ``sqrt(10 * (-e0 + e1 + e2))`` over the inertia eigenvalues, used by
                         the paper. 0 where all voxel centres lie in one plane.
    ellipsoid-corrected  the same, with ``spacing**2 / 12`` added to the variances: a voxel is a
                         box, not a point. Unbiased for small nodes, and above 0 for flat ones.
    recist               in the axial slice where the distance between two voxel corners is
                         longest: the component's extent perpendicular to that longest axis
                         (RECIST 1.1 short axis). Of equally long axes, the one with the larger
                         perpendicular counts.
    recist-caliper       least distance of two parallel lines around that axial slice.
    inscribed            twice the largest distance from a voxel's centre to the nearest voxel
                         centre outside; what lies beyond the image edge is outside.
    feret-min            least distance of two parallel planes around the voxels' corners.
    sphere               diameter of the sphere of equal volume, ``(6 V / pi) ** (1 / 3)``.
    ==================== =======================================================================

    Parameters
    ----------
    components : Components
        Components of a mask; their grid makes the result mm and says which slices are axial.
    metric : str
        One of `METRICS`.

    Returns
    -------
    (n,) ndarray of float
        Diameter of each component in mm; no row for an empty mask.

    Raises
    ------
    LnqError
        Unknown metric, or a metric of axial slices where these are unknown.
    """
    check_axial(metric, components.grid)
    return _measure(components, [metric])[metric]


def check_axial(metric: str, grid: Grid) -> None:
    """Raise LnqError for a metric of axial slices where it is unknown which these are."""
    if metric in AXIAL_METRICS and grid.axial_axis is None:
        raise LnqError(f"{metric} is measured in axial slices, and {UNKNOWN_AXES}")


def _measure(components: Components, metrics: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Measure several diameters; the two of the axial slice share the work, and are else NaN."""
    for metric in metrics:
        require_choice("diameter", metric, METRICS)
    if AXIAL_METRICS & set(metrics):
        short_axes, calipers = _axial_widths_mm(components)
    measured: dict[str, npt.NDArray[np.float64]] = {}
    for metric in metrics:
        match metric:
            case "ellipsoid":
                covariances = _covariances(components)
                measured[metric] = _ellipsoid_mm(covariances, components.spacing)
            case "ellipsoid-corrected":
                covariances = _covariances(components) + np.diag(np.square(components.spacing) / 12)
                measured[metric] = _ellipsoid_mm(covariances, components.spacing)
            case "recist":
                measured[metric] = short_axes
            case "recist-caliper":
                measured[metric] = calipers
            case "inscribed":
                measured[metric] = _inscribed_mm(components)
            case "feret-min":
                measured[metric] = _least_ferets_mm(components)
            case "sphere":
                measured[metric] = np.cbrt(6 * components.volumes_mm3 / np.pi)
    return measured


def degenerate(components: Components, metric: str) -> npt.NDArray[np.bool_]:
    """Tell for which components a diameter has no meaning.

    Only ``ellipsoid`` has such: its moments are those of voxel centres, and where these lie in
    one plane (a component one slice thick) the diameter is 0 whatever the size.

    Returns
    -------
    (n,) ndarray of bool
        True where the diameter says nothing.
    """
    require_choice("diameter", metric, METRICS)
    if metric != "ellipsoid":
        return np.zeros(components.count, bool)
    return diameters_mm(components, metric) == 0


def large_enough(
    components: Components,
    min_mm: float,
    metric: str = "ellipsoid",
    flat: str = "drop",
    min_volume_mm3: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Tell which components have at least a shortest diameter and a volume.

    Parameters
    ----------
    components : Components
        Components of a mask.
    min_mm : float
        Least diameter in mm; one of exactly this diameter is kept, as far as float32 spacings
        can tell (within a millionth).
    metric : str
        One of `METRICS`.
    flat : {'drop', 'keep', 'recist'}
        What becomes of components for which the metric has no meaning (see `degenerate`): not
        kept (as in the paper; their diameter is 0, so a least diameter of 0 keeps them too),
        kept, or judged by ``recist`` instead.
    min_volume_mm3 : float
        Least volume in mm³, for every component.

    Returns
    -------
    (n,) ndarray of bool
    """
    diameters = filter_diameters_mm(components, metric, flat)
    return at_least(diameters, min_mm) & at_least(components.volumes_mm3, min_volume_mm3)


def filter_diameters_mm(
    components: Components, metric: str = "ellipsoid", flat: str = "drop"
) -> npt.NDArray[np.float64]:
    """Measure the diameters that `large_enough` compares with the least one.

    Parameters
    ----------
    components, metric, flat
        See `large_enough`.

    Returns
    -------
    (n,) ndarray of float
        Shortest diameter of each component in mm; for those that the metric says nothing about,
        0 with 'drop', infinity with 'keep', ``recist`` with 'recist'.

    Raises
    ------
    LnqError
        Unknown metric, or word for `flat`.
    """
    if flat not in ("drop", "keep", "recist"):
        raise LnqError(f"flat components can be treated by drop, keep or recist, not '{flat}'")
    diameters = diameters_mm(components, metric)
    if flat == "drop" or not (without_meaning := degenerate(components, metric)).any():
        return diameters
    if flat == "keep":
        return np.where(without_meaning, np.inf, diameters)
    instead = diameters_mm(components, "recist")
    return np.where(without_meaning, instead, diameters)


def at_least(sizes: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """Tell which lengths or volumes reach a least one, as far as float32 spacings can tell.

    One that misses it by a millionth or less reaches it; NaN never does.
    """
    return sizes >= least * (1 - _THRESHOLD_TIE)


def bin_numbers(sizes: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.int64]:
    """Sort lengths into bins of equal width from 0: bin k holds k * width, by `at_least`."""
    return np.floor(sizes / (width * (1 - _THRESHOLD_TIE))).astype(np.int64)


def bin_columns(number: int, width_mm: float) -> dict[str, Any]:
    """Name and limits of a bin of `bin_numbers`, in mm; -1 holds what has no diameter."""
    if number < 0:
        return {"bin": "degenerate", "from_mm": None, "to_mm": None}
    low, high = number * width_mm, (number + 1) * width_mm
    return {"bin": f"{low:g}-{high:g}mm", "from_mm": low, "to_mm": high}


def column_name(metric: str) -> str:
    """Name a diameter's column in a table: ``diameter_ellipsoid_corrected_mm``."""
    return f"diameter_{metric.replace('-', '_')}_mm"


def component_table(
    components: Components, metrics: Sequence[str] = METRICS
) -> list[dict[str, Any]]:
    """Describe each component in one row.

    Parameters
    ----------
    components : Components
        Components of a mask.
    metrics : sequence of str
        Diameters to measure, out of `METRICS`.

    Returns
    -------
    list of dict
        Keys: ``id`` (see `Components`), ``voxels``, ``volume_mm3``, one
        ``diameter_<metric>_mm`` per metric (None for `AXIAL_METRICS` where the axial axis is
        unknown), ``centroid`` (z, y, x index) and ``box`` (first and one past the last index on
        each axis).
    """
    diameters = {
        column_name(metric): values for metric, values in _measure(components, metrics).items()
    }
    volumes = components.volumes_mm3
    return [
        {
            "id": int(components.ids[k]),
            "voxels": int(components.voxel_counts[k]),
            "volume_mm3": float(volumes[k]),
            **{name: _number(values[k]) for name, values in diameters.items()},
            "centroid": tuple(components.centroids[k].tolist()),
            "box": tuple((low, high) for low, high in components.boxes[k].tolist()),
        }
        for k in range(components.count)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _covariances(components: Components) -> npt.NDArray[np.float64]:
    """Covariance of each component's voxel centres in mm², (n, 3, 3).

    Summed over runs around the centroid, so that nothing large cancels: a run of L voxels has
    the second moment L (L² - 1) / 12 about its own middle.
    """
    lengths, offsets = components.run_lengths, components.run_offsets
    runs_each = np.diff(offsets)
    middle = np.stack(np.unravel_index(components.run_starts, components.shape)).astype(float)
    middle[2] += (lengths - 1) / 2
    deviation = middle - np.repeat(components.centroids, runs_each, axis=0).T
    covariances = np.empty((components.count, 3, 3))
    for a in range(3):
        for b in range(a + 1):
            moment = lengths * deviation[a] * deviation[b]
            if a == b == 2:
                moment += lengths * (np.square(lengths) - 1) / 12
            mean = _sum_by_component(moment, offsets) / components.voxel_counts
            covariances[:, a, b] = covariances[:, b, a] = mean
    return covariances * np.outer(components.spacing, components.spacing)


def _ellipsoid_mm(
    covariances: npt.NDArray[np.float64], spacing: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Least axis of solid ellipsoids with these covariances: variance is axis² / 20."""
    least = np.linalg.eigvalsh(covariances)[:, 0]
    least[least < _FLAT * min(spacing) ** 2] = 0
    return np.sqrt(20 * least)


def _inscribed_mm(components: Components) -> npt.NDArray[np.float64]:
    """Twice the largest distance to the outside of each component."""
    depths_mm = [_depth_mm(components, k + 1) for k in range(components.count)]
    return 2 * np.array(depths_mm, float)


def _depth_mm(components: Components, component: int) -> float:
    """Largest distance to the outside of a component, in its own box.

    Pieces that do not touch, not at corners either, are measured one by one: between two of them
    lies a voxel outside, and their common box may be the whole image.
    """
    from scipy.ndimage import distance_transform_edt

    of_box = np.prod(np.diff(components.boxes[component - 1]))
    if of_box > _SPARSE * components.voxel_counts[component - 1]:
        voxels = components.voxels_of(component)
        pieces = components_of(voxels, components.grid, 26)
        if pieces.count > 1:
            return max(_depth_mm(pieces, k + 1) for k in range(pieces.count))
    inside = np.pad(components.crop(component), 1)
    return float(distance_transform_edt(inside, sampling=components.spacing).max())


def _least_ferets_mm(components: Components) -> npt.NDArray[np.float64]:
    """Least width of the convex hull of each component's voxel corners.

    The least width of a polyhedron lies across a face or across two edges (Houle and Toussaint
    1988), so the least of the widths along the normals of all of these is exact. Coordinates are
    whole voxels; mm come in with the norm.
    """
    from scipy.spatial import ConvexHull

    if not components.count:
        return np.zeros(0)
    corners, offsets = _outer_corners(components)
    widths_mm = []
    for begin, end in pairwise(offsets.tolist()):
        hull = ConvexHull(corners[begin:end] - corners[begin])
        vertices = hull.points[hull.vertices]
        normals = _width_normals(hull.points[hull.simplices], hull.neighbors, hull.equations[:, :3])
        widths_mm.append(_least_width_mm(vertices, normals, components.spacing))
    return np.array(widths_mm, float)


def _width_normals(
    triangles: npt.NDArray[np.float64],
    neighbours: npt.NDArray[np.int32],
    outward: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Find where a hull's width may be least: the normals of its faces and of pairs of its edges.

    The planes that touch a hull in one edge have the normals between those of the edge's two
    faces. Two edges lie in two parallel planes only if the plane along both has such a normal
    for each, which then is perpendicular to the edge and has one face's normal on either side.
    All numbers are whole (as float), so the signs that tell are exact.

    Parameters
    ----------
    triangles : (f, 3, 3) ndarray
        Corners of the hull's triangles, in whole numbers.
    neighbours : (f, 3) ndarray of int
        Triangle opposite each corner.
    outward : (f, 3) ndarray
        Approximate outward normals.

    Returns
    -------
    (m, 3) ndarray of float
        Whole numbers, of any length, 0 too.
    """
    faces = _cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    faces *= np.sign(np.einsum("ij,ij->i", faces, outward))[:, np.newaxis]
    triangle, corner = np.nonzero(neighbours > np.arange(len(faces))[:, np.newaxis])
    edges = triangles[triangle, (corner + 1) % 3] - triangles[triangle, (corner + 2) % 3]
    left, right = faces[triangle], faces[neighbours[triangle, corner]]
    # A triangle without area hides what lies beyond it: its edges may touch at any normal.
    at_any = np.logical_not(left.any(axis=1) & right.any(axis=1))
    sharp = _cross(left, right).any(axis=1) | at_any
    edges, left, right, at_any = edges[sharp], left[sharp], right[sharp], at_any[sharp]
    normals = [faces]
    step = max(1, _WIDTHS_AT_ONCE // max(1, len(edges)))
    for k in range(0, len(edges), step):
        some = slice(k, k + step)
        pairs = at_any | ((edges[some] @ left.T) * (edges[some] @ right.T) < 0)
        pairs &= at_any[some, np.newaxis] | ((left[some] @ edges.T) * (right[some] @ edges.T) < 0)
        first, second = np.nonzero(np.triu(pairs, k + 1))
        normals.append(_cross(edges[some][first], edges[second]))
    return np.concatenate(normals)


def _cross(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cross products of the rows of two (m, 3) arrays (`numpy.cross` takes twice as long)."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _outer_corners(
    components: Components,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners of voxels that hold the convex hull of each component, (m, 3), and offsets.

    On each line along the last axis on which a component's voxels have corners, the first and
    the last of them. Those of component k are the rows ``offsets[k - 1]:offsets[k]``.
    """
    z, y, x = np.unravel_index(components.run_starts, components.shape)
    owner = np.repeat(np.arange(components.count), np.diff(components.run_offsets))
    size = (components.count, components.shape[0] + 1, components.shape[1] + 1)
    steps = ((0, 0), (0, 1), (1, 0), (1, 1))
    lines = np.concatenate([np.ravel_multi_index((owner, z + i, y + j), size) for i, j in steps])
    order = np.argsort(lines, kind="stable")
    starts = np.flatnonzero(np.diff(lines[order], prepend=-1))
    first = np.minimum.reduceat(np.tile(x, 4)[order], starts)
    last = np.maximum.reduceat(np.tile(x + components.run_lengths, 4)[order], starts)
    owner, z, y = np.unravel_index(lines[order][starts], size)
    corners = np.stack([z, y, first, z, y, last], axis=1).reshape(-1, 3)
    return corners, 2 * np.searchsorted(owner, np.arange(components.count + 1))


class _Slices(NamedTuple):
    """Axial slices of components: points in the plane, slice by slice, component by component."""

    points: npt.NDArray[np.int64]  # (m, 2), voxel indices; hold each slice's hull
    offsets: npt.NDArray[np.int64]  # points of slice s are offsets[s]:offsets[s + 1]
    limits_mm: npt.NDArray[np.float64]  # no diameter of the slice is longer
    of_component: npt.NDArray[np.int64]  # slices of component k are of_component[k - 1:k + 1]


def _axial_widths_mm(
    components: Components,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Short axis and least caliper of each component's axial slice of the longest diameter."""
    axial = components.axial_axis
    if not components.count or axial is None:
        unknown = np.full(components.count, np.nan)
        return unknown, unknown
    in_plane = [axis for axis in range(3) if axis != axial]
    spacing = np.array(components.spacing)[in_plane]
    slices = _axial_slices(components, axial, in_plane, spacing)
    widths_mm = np.zeros((components.count, 2))
    for k, (begin, end) in enumerate(pairwise(slices.of_component.tolist())):
        widths_mm[k] = _widths_of_longest_mm(slices, begin, end, spacing)
    return widths_mm[:, 0], widths_mm[:, 1]


def _axial_slices(
    components: Components, axial: int, in_plane: list[int], spacing: npt.NDArray[np.float64]
) -> _Slices:
    """Cut components into axial slices."""
    # The ends of runs bound every slice, unless slices cut across the runs.
    if axial == 2:
        voxels, owner = components.voxels, components.labels - 1
    else:
        last = components.run_starts + components.run_lengths - 1
        voxels = np.concatenate([components.run_starts, last])
        owner = np.tile(np.repeat(np.arange(components.count), np.diff(components.run_offsets)), 2)
    position = np.stack(np.unravel_index(voxels, components.shape), axis=1)
    slice_of = owner * components.shape[axial] + position[:, axial]
    order = np.argsort(slice_of, kind="stable")
    points = position[order][:, in_plane]
    starts = np.flatnonzero(np.diff(slice_of[order], prepend=-1))
    of_component = np.searchsorted(owner[order][starts], np.arange(components.count + 1))
    limits_mm = _longest_possible_mm(points, starts, spacing)
    return _Slices(points, np.append(starts, len(points)), limits_mm, of_component)


def _longest_possible_mm(
    points: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Upper bound of the diameter of each group of voxels, from its extents in a few directions.

    A diameter is at most pi / (2 n) off one of n evenly spread directions.
    """
    angles = np.arange(_LIMIT_DIRECTIONS) * np.pi / _LIMIT_DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)])
    along = (points * spacing) @ directions
    extents = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
    extents += spacing @ np.abs(directions)  # voxels are boxes
    return extents.max(axis=1) / np.cos(np.pi / (2 * _LIMIT_DIRECTIONS))


def _widths_of_longest_mm(
    slices: _Slices, begin: int, end: int, spacing: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Short axis and least caliper of that slice of begin..end which has the longest diameter."""
    longest_mm, short_axis_mm, caliper_mm = 0.0, 0.0, 0.0
    for number in (begin + np.argsort(-slices.limits_mm[begin:end])).tolist():
        if slices.limits_mm[number] < longest_mm * (1 - _TIE):
            break
        points = slices.points[slices.offsets[number] : slices.offsets[number + 1]]
        polygon = _convex_polygon(points)
        length_mm, across_mm = _longest_axis_mm(polygon * spacing)
        if length_mm < longest_mm * (1 - _TIE):
            continue
        if length_mm > longest_mm * (1 + _TIE):
            longest_mm, short_axis_mm, caliper_mm = length_mm, 0.0, 0.0
        edges = polygon - np.concatenate([polygon[1:], polygon[:1]])
        normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        short_axis_mm = max(short_axis_mm, across_mm)
        caliper_mm = max(caliper_mm, _least_width_mm(polygon, normals, spacing))
    return short_axis_mm, caliper_mm


def _longest_axis_mm(vertices_mm: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Longest distance between two vertices, and the extent perpendicular to it."""
    difference = vertices_mm[:, np.newaxis] - vertices_mm
    distance = np.linalg.norm(difference, axis=-1)
    longest = float(distance.max())
    axes = difference[distance >= longest * (1 - _TIE)] / longest
    perpendicular = np.stack([axes[:, 1], -axes[:, 0]])
    return longest, float(np.ptp(vertices_mm @ perpendicular, axis=0).max())


def _convex_polygon(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Vertices of the convex hull of pixels' corners, in order around it."""
    from scipy.spatial import ConvexHull

    steps = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    corners = (pixels[:, np.newaxis] + steps).reshape(-1, 2)
    return corners[ConvexHull(corners).vertices]


def _least_width_mm(
    vertices: npt.NDArray,
    normals: npt.NDArray,
    spacing: npt.ArrayLike,
) -> float:
    """Least width of points (in voxels) between planes (or lines) with the given normals.

    Planes ``normal . index = a`` and ``= b`` are ``|a - b| / norm(normal / spacing)`` mm apart.
    """
    normals_mm = normals / np.asarray(spacing)
    norms = np.sqrt(np.einsum("ij,ij->i", normals_mm, normals_mm))
    units = normals[norms > 0] / norms[norms > 0, np.newaxis]
    points = vertices.astype(float)
    step = max(1, _WIDTHS_AT_ONCE // len(points))
    return min(
        float(np.ptp(points @ units[k : k + step].T, axis=0).min())
        for k in range(0, len(units), step)
    )
