"""Voxel lattices in the world, boxes on them, and the ways from one onto another.

Arrays are (z, y, x); indices and spacings are in that order. World coordinates are NIfTI's:
x to the right, y to the front, z to the head (RAS+), in mm, written (x, y, z).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from lnqtools.errors import LnqError

Box = tuple[slice, slice, slice]
Reals = tuple[float, float, float]
Counts = tuple[int, int, int]

SAME_VOXEL = 0.01
"""Largest distance, in voxels, at which two lattices' voxels count as the same."""
EVEN = 1e-6
"""Positions this close to each other, in voxels, are the same: spacings come from float32."""
MAX_SHEAR_MM = 0.1
"""Sheared axes are straightened when no corner moves by more than this, or half a voxel."""
SPACING_RANGE_MM = (1e-3, 1e3)
EXACT_DIGITS = 10
"""Decimals of mm that reckoning in the world leaves right, in whatever order axes are stored."""

ENDS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
"""World axis (x, y, z) that leads to an end of the body, and its sign."""
_ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
_LEANING = np.array([[1, 1e-3, -5e-4], [-1e-3, 1, 2.5e-4], [5e-4, -2.5e-4, 1]])
"""World axes as rows, leaning by less than a tenth of a degree: an axis at 45 degrees to two of
them would belong to that which the order of the array's axes has first."""


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxels in the world.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along z, y, x.
    spacing : tuple of float
        Distance of voxel centres along z, y, x, in mm.
    origin : tuple of float
        World position (x, y, z) in mm of the centre of voxel [0, 0, 0].
    direction : tuple of tuple of float
        3 × 3; column k is the world unit vector (x, y, z) along array axis k.
    """

    shape: Counts
    spacing: Reals
    origin: Reals
    direction: tuple[Reals, ...]

    @classmethod
    def from_affine(cls, shape: tuple[int, ...], affine: np.ndarray) -> Grid:
        """Make the grid of an array (z, y, x) from NIfTI's 4 × 4 affine of (x, y, z) indices."""
        columns = affine[:3, 2::-1]
        spacing = np.round(np.linalg.norm(columns, axis=0), EXACT_DIGITS)
        direction = tuple(_reals(row) for row in columns / spacing)
        return cls(_counts(shape), _reals(spacing), _reals(affine[:3, 3]), direction)

    @cached_property
    def matrix(self) -> np.ndarray:
        """(3, 3) step in the world, mm, per voxel along each array axis (columns z, y, x)."""
        return np.array(self.direction) * np.array(self.spacing)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) NIfTI affine: indices (x, y, z) to world (x, y, z) in mm."""
        affine = np.eye(4)
        affine[:3, :3] = self.matrix[:, ::-1]
        affine[:3, 3] = self.origin
        return affine

    @property
    def diagonal_mm(self) -> float:
        """Length in mm of the diagonal of the box around all voxels."""
        return float(np.linalg.norm(np.array(self.shape) * np.array(self.spacing)))

    def world(self, index: np.ndarray) -> np.ndarray:
        """Return the world positions (..., 3) in mm (x, y, z) of indices (..., 3) (z, y, x)."""
        return np.asarray(index, float) @ self.matrix.T + np.array(self.origin)

    def index(self, world: np.ndarray) -> np.ndarray:
        """Return the indices (..., 3) (z, y, x), not rounded, of world positions (..., 3)."""
        offset = np.asarray(world, float) - np.array(self.origin)
        return offset @ np.linalg.inv(self.matrix).T

    @classmethod
    def of_slices(cls, shape: Counts, spacing: Reals) -> Grid:
        """Make the grid of an array in LPS order (see `turn_to`) that may lie anywhere."""
        to_head_back_left = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
        return cls(shape, spacing, (0.0, 0.0, 0.0), to_head_back_left)

    def anatomical_axes(self) -> tuple[int, int, int]:
        """Return the array axes nearest to superior-inferior, anterior-posterior, left-right."""
        closeness = np.abs(_LEANING @ np.array(self.direction))  # rows x, y, z of the world
        return max(_ORDERS, key=lambda axes: float(closeness[[2, 1, 0], axes].sum()))

    def in_array_order(self, along: Reals) -> Reals:
        """Return lengths along the `anatomical_axes`, in their order, in that of the array's."""
        lengths = dict(zip(self.anatomical_axes(), along, strict=True))
        return lengths[0], lengths[1], lengths[2]

    def cropped(self, box: Box) -> Grid:
        """Return the grid of the voxels in a box; each keeps its place in the world."""
        shape = _counts(s.stop - s.start for s in box)
        origin = _reals(self.world(np.array([s.start for s in box])))
        return Grid(shape, self.spacing, origin, self.direction)

    def with_spacing(self, spacing: Reals) -> Grid:
        """Return a grid of another spacing (z, y, x, mm) that covers the same extent.

        The extents (shape × spacing) share their centre; the shape is rounded to the nearest
        whole number of voxels, at least one.
        """
        extent = np.array(self.shape) * np.array(self.spacing)
        shape = np.maximum(np.rint(extent / np.array(spacing)).astype(int), 1)
        centre = self.world((np.array(self.shape) - 1) / 2)
        steps = np.array(self.direction) * np.array(spacing)
        origin = centre - steps @ ((shape - 1) / 2)
        return Grid(_counts(shape), _reals(spacing), _reals(origin), self.direction)

    def corners(self) -> np.ndarray:
        """Return the indices (8, 3) of the corner voxels."""
        return np.array(list(product(*((0, n - 1) for n in self.shape))))


def _reals(values: Iterable) -> Reals:
    a, b, c = values
    return float(a), float(b), float(c)


def _counts(values: Iterable) -> Counts:
    a, b, c = values
    return int(a), int(b), int(c)


@dataclass(frozen=True)
class LatticeMap:
    """How the voxels of one grid lie on the lattice of another.

    Array axis k of the target runs along axis ``axes[k]`` of the source, backwards where
    ``flips[k]``; ``offset`` is the target index of the source's first voxel after that turn.
    """

    axes: Counts
    flips: tuple[bool, bool, bool]
    offset: Counts = (0, 0, 0)

    def turned(self, array: np.ndarray) -> np.ndarray:
        """Return the source array, as a view, with the target's axes."""
        backwards = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(self.axes)[backwards]

    def turned_grid(self, grid: Grid) -> Grid:
        """Return the grid of the same voxels with the target's axes."""
        first = np.zeros(3)
        signs = np.where(self.flips, -1, 1)
        first[list(self.axes)] = np.where(self.flips, np.array(grid.shape)[list(self.axes)] - 1, 0)
        direction = np.array(grid.direction)[:, self.axes] * signs
        return Grid(
            _counts(grid.shape[axis] for axis in self.axes),
            _reals(grid.spacing[axis] for axis in self.axes),
            _reals(grid.world(first)),
            tuple(_reals(row) for row in direction),
        )


def grid_of(shape: tuple[int, int, int], grid: Grid | Sequence[float]) -> Grid:
    """Return a mask's grid; of a spacing alone, that of an array in LPS order."""
    if not isinstance(grid, Grid):
        return Grid.of_slices(shape, check_spacing(grid))
    if grid.shape != shape:
        raise LnqError(f"mask {shape} and grid {grid.shape} differ in size (z, y, x)")
    return grid


def check_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the spacing as three floats; refuse what cannot be a voxel size in mm."""
    values = tuple(float(side) for side in spacing)
    if len(values) != 3 or not all(np.isfinite(side) and side > 0 for side in values):
        raise LnqError(f"spacing must be three lengths above 0 mm (z, y, x), not {values}")
    return values


def turn_to(grid: Grid, code: str) -> LatticeMap:
    """Return how arrays of a grid are turned so that their axes run to given ends of the body.

    Parameters
    ----------
    grid : Grid
        Axes that are oblique count as the nearest ones.
    code : str
        Where x, y, z of the turned array lead, as nibabel's ``aff2axcodes`` says it: in ``LPS``,
        the order of ITK and of DICOM's slices, slices run to the head, rows to the back, columns
        to the left.
    """
    nearest = dict(zip("zyx", grid.anatomical_axes(), strict=True))
    axes, flips = [], []
    for letter in reversed(code):
        world, sign = ENDS[letter]
        axis = nearest["xyz"[world]]
        axes.append(axis)
        flips.append(grid.direction[world][axis] * sign < 0)
    return LatticeMap(_counts(axes), (flips[0], flips[1], flips[2]))


def difference(a: Grid, b: Grid, tolerance: float = SAME_VOXEL) -> str | None:
    """Say how two grids differ, or return None if they are the same.

    Grids are the same if their shapes are equal and each of the eight corners of the box around
    the voxels of one lies within a tolerance of the other's. Those are corners of voxels, not
    their centres: two images of a single slice, one thick and one thin, share all centres.

    Parameters
    ----------
    a, b : Grid
    tolerance : float
        Largest distance of two corners along each axis, in voxels of ``a``.
    """
    if a.shape != b.shape:
        sizes = (" × ".join(map(str, reversed(g.shape))) for g in (a, b))
        return "their sizes are {} and {} voxels".format(*sizes)
    corners = np.array(list(product(*((-0.5, n - 0.5) for n in a.shape))))
    apart = a.index(b.world(corners)) - corners
    if np.abs(apart).max() <= tolerance:
        return None
    return _lattice_difference(a, b) or (
        f"their voxels lie up to {np.linalg.norm(apart @ a.matrix.T, axis=1).max():.3g} mm apart"
    )


def _lattice_difference(a: Grid, b: Grid) -> str | None:
    """Say how two grids differ in spacing or direction."""
    if not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        spacings = (" × ".join(f"{s:.4g}" for s in reversed(g.spacing)) for g in (a, b))
        return "their spacings are {} and {} mm".format(*spacings)
    if not np.allclose(a.direction, b.direction, atol=1e-3):
        return "their axes point in different directions"
    return None


def lattice_map(source: Grid, target: Grid) -> LatticeMap | None:
    """Return how the source's voxels fall onto the target's lattice, or None if they do not.

    The axes may be permuted and mirrored. The voxels must meet within 0.01 voxel over the
    whole source.
    """
    step = np.linalg.inv(target.matrix) @ source.matrix  # target voxels per source voxel
    turn = np.rint(step)
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    first = np.rint(target.index(np.array(source.origin)))
    meant = source.corners() @ turn.T + first
    if np.abs(target.index(source.world(source.corners())) - meant).max() > SAME_VOXEL:
        return None
    axes = _counts(np.abs(turn).argmax(axis=1))
    z, y, x = (bool(turn[k, axis] < 0) for k, axis in enumerate(axes))
    return LatticeMap(axes, (z, y, x), _counts(meant.min(axis=0)))


def whole_box(shape: tuple[int, ...]) -> Box:
    """Return the box of all voxels."""
    z, y, x = (slice(0, int(n)) for n in shape)
    return z, y, x


def bounding_box(mask: np.ndarray) -> Box | None:
    """Return the smallest box that holds all non-zero voxels, or None if there are none."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return box[0], box[1], box[2]


def joined_box(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around several."""
    z, y, x = (
        slice(min(s.start for s in sides), max(s.stop for s in sides))
        for sides in zip(*boxes, strict=True)
    )
    return z, y, x


def carry_box(box: Box, source: Grid, target: Grid) -> Box:
    """Return the box of the target's voxels whose centres lie within a box of the source's.

    The box reaches to the outer edges of its voxels. Between grids that are turned against each
    other it is the smallest box around the turned one.

    Parameters
    ----------
    box : tuple of slice
        On ``source``, not empty.
    source, target : Grid

    Returns
    -------
    tuple of slice
        Clipped to ``target``; empty along an axis where they do not meet.
    """
    ends = np.array(list(product(*((s.start - 0.5, s.stop - 0.5) for s in box))))
    carried = target.index(source.world(ends))
    first = np.ceil(carried.min(axis=0) - SAME_VOXEL).astype(int)
    last = np.floor(carried.max(axis=0) + SAME_VOXEL).astype(int)
    sides = [
        slice(min(max(low, 0), length), max(min(high + 1, length), 0))
        for low, high, length in zip(first.tolist(), last.tolist(), target.shape, strict=True)
    ]
    return sides[0], sides[1], sides[2]


def place(array: np.ndarray, source: Grid, target: Grid, fill: float) -> np.ndarray:
    """Copy an array, voxel by voxel, onto another grid of the same lattice.

    Parameters
    ----------
    array : (z, y, x) ndarray
        Values on ``source``.
    source, target : Grid
        Grids whose voxels coincide; the axes may be permuted and mirrored.
    fill : float
        Value of the target's voxels outside the source.

    Returns
    -------
    (z, y, x) ndarray
        Of the array's type. A view where the target lies inside the source.

    Raises
    ------
    LnqError
        If the lattices do not agree.
    """
    way = lattice_map(source, target)
    if way is None:
        raise LnqError("the two grids do not share a lattice; resample one of them first")
    turned = way.turned(array)
    here, there = [], []
    for start, length, room in zip(way.offset, turned.shape, target.shape, strict=True):
        low, high = max(start, 0), min(start + length, room)
        here.append(slice(low, max(low, high)))
        there.append(slice(low - start, max(low, high) - start))
    if all(s.start == 0 and s.stop == n for s, n in zip(here, target.shape, strict=True)):
        return turned[tuple(there)]
    placed = np.full(target.shape, fill_value(fill, array.dtype), array.dtype)
    placed[tuple(here)] = turned[tuple(there)]
    return placed


def overlap(a: Grid, b: Grid) -> bool:
    """Tell whether a box around one grid's voxels meets the other, along the other's axes."""
    corners = a.index(b.world(b.corners()))
    last = np.array(a.shape) - 1
    return bool((corners.max(axis=0) >= -0.5).all() and (corners.min(axis=0) <= last + 0.5).all())


def outside(index: Sequence[np.ndarray] | np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Tell which voxels of one grid have their centre beyond the outer faces of another's.

    Parameters
    ----------
    index : sequence of 3 (n,) ndarrays of int
        Where they are on ``source``, along z, y and x, as `numpy.nonzero` says it.
    source, target : Grid

    Returns
    -------
    (n,) ndarray of bool
    """
    step = np.linalg.inv(target.matrix) @ source.matrix  # target voxels per source voxel
    first = target.index(np.array(source.origin))
    beyond = np.zeros(len(index[0]), bool)
    for start, (z, y, x), length in zip(first, step, target.shape, strict=True):
        at = start + z * index[0] + y * index[1] + x * index[2]
        beyond |= np.abs(at - (length - 1) / 2) > length / 2 + EVEN
    return beyond


def reaches_beyond(target: Grid, source: Grid) -> bool:
    """Tell whether one grid has voxels whose centre lies beyond the outer faces of another's."""
    return bool(outside(target.corners().T, target, source).any())


def lattice_difference(a: Grid, b: Grid) -> str:
    """Say how the lattices of two grids differ that do not share one."""
    return _lattice_difference(a, b) or "their voxels do not meet"


def fill_value(value: float, dtype: np.dtype) -> float:
    """Return a fill value, or raise LnqError if a type of voxels cannot hold it."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not (float(value).is_integer() and limits.min <= value <= limits.max):
            raise LnqError(
                f"voxels of type {dtype} cannot hold the fill value {value:g}: choose another "
                "with --fill, or say --label if this is a label"
            )
    return value


def cut_out(array: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return the part of an array that lies on a smaller grid of the same lattice, as a view.

    Raises
    ------
    LnqError
        If the lattices do not agree or the target reaches beyond the source.
    """
    way = lattice_map(source, target)
    if way is None:
        how = _lattice_difference(source, target) or "their voxels do not meet"
        raise LnqError(f"lies on another lattice: {how}")
    shape = way.turned(array).shape
    if any(o > 0 or o + n < m for o, n, m in zip(way.offset, shape, target.shape, strict=True)):
        raise LnqError("does not cover the image")
    return place(array, source, target, 0)


def corner_distance(a: np.ndarray, b: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return the largest distance between the corner voxels under two affines."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape[::-1]) - 1)
    apart = corners @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())


def straightened(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Turn almost orthogonal axes to the nearest orthogonal ones, or raise LnqError."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not (steps.min() >= SPACING_RANGE_MM[0] and steps.max() <= SPACING_RANGE_MM[1]):
        raise LnqError("its voxels measure {:.3g} × {:.3g} × {:.3g} mm".format(*steps))
    left, _, right = np.linalg.svd(affine[:3, :3] / steps)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * steps
    moved = corner_distance(affine, straight, shape)
    if moved > min(MAX_SHEAR_MM, steps.min() / 2):
        raise LnqError(
            f"its axes are not at right angles (straightening would move corners by {moved:.1f} "
            "mm; a tilted gantry?); resample it to a regular grid first"
        )
    return straight
