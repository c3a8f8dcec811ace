"""Voxel lattices in the world, boxes on them, and the ways from one onto another.

Arrays are (z, y, x); indices and spacings are in that order. World coordinates are NIfTI's:
x to the right, y to the front, z to the head (RAS+), in mm, written (x, y, z).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.images.box import Box, Counts
from lnqtools.memory import require_memory

Reals = tuple[float, float, float]

SAME_VOXEL = 0.01
"""Largest distance, in voxels, at which two lattices' voxels count as the same."""
CLOSE_VOXELS = 0.5
"""Largest distance at which they are taken for the same with a warning."""
EVEN = 1e-6
"""Positions this close to each other, in voxels, are the same: spacings come from float32."""
SAME_SPACING = 1e-3
"""Largest relative difference of two spacings that are called the same."""
MAX_SHEAR_MM = 0.1
"""Sheared axes are straightened when no corner moves by more than this, or half a voxel."""
SPACING_RANGE_MM = (1e-3, 1e3)
EXACT_DIGITS = 10
"""Decimals of mm that reckoning in the world leaves right, in whatever order axes are stored."""

ENDS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
"""World axis (x, y, z) that leads to an end of the body, and its sign; nibabel's letters."""
_LETTERS = {end: letter for letter, end in ENDS.items()}
_ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
_LEANING = np.array([[1, 1e-3, -5e-4], [-1e-3, 1, 2.5e-4], [5e-4, -2.5e-4, 1]])
"""World axes as rows, leaning by less than a tenth of a degree: an axis at 45 degrees to two of
them would belong to that which the order of the array's axes has first."""
NO_AXES = "its header does not say how its axes lie in the patient (sform and qform codes are 0)"
UNKNOWN_AXES = f"{NO_AXES}: --assume-orientation LPS, or the letters that fit, says it"
FLOAT32_MM = 1e-5
"""NIfTI stores spacings as float32: distances that differ by less are equal."""


class OtherLatticeError(LnqError):
    """Voxels of two images do not meet."""


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxels in the world.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along z, y, x.
    spacing : tuple of float
        Distance of voxel centers along z, y, x, in mm.
    origin : tuple of float
        World position (x, y, z) in mm of the center of voxel [0, 0, 0].
    direction : tuple of tuple of float
        3 × 3; column k is the world unit vector (x, y, z) along array axis k.
    oriented : bool
        Whether the direction is known. If not, nothing but shape and spacing may be used, and
        what needs more raises LnqError.
    placed : bool
        Whether the origin is known. If not, it is 0, and the grid is that of another one of the
        same size and spacing, whose axes run the same way.
    """

    shape: Counts
    spacing: Reals
    origin: Reals
    direction: tuple[Reals, ...]
    oriented: bool = True
    placed: bool = True

    @classmethod
    def from_affine(cls, shape: tuple[int, ...], affine: np.ndarray) -> Grid:
        """Make the grid of an array (z, y, x) from NIfTI's 4 × 4 affine of (x, y, z) indices.

        Examples
        --------
        >>> grid = Grid.from_affine((60, 512, 512), np.diag([-0.8, -0.8, 2.5, 1]))
        >>> grid.spacing, grid.letters, grid.axial_axis
        ((2.5, 0.8, 0.8), 'LPS', 0)
        """
        columns = affine[:3, 2::-1]
        spacing = np.round(np.linalg.norm(columns, axis=0), EXACT_DIGITS)
        direction = tuple(_reals(row) for row in columns / spacing)
        return cls(_counts(shape), _reals(spacing), _reals(affine[:3, 3]), direction)

    @classmethod
    def of_spacing(cls, shape: tuple[int, ...], spacing: Reals) -> Grid:
        """Make the grid of an array (z, y, x) of which no more is known than its spacing."""
        somehow = _direction_of("LPS")
        return cls(_counts(shape), spacing, (0.0, 0.0, 0.0), somehow, oriented=False, placed=False)

    def assuming(self, letters: str) -> Grid:
        """Return the grid with axes that run as said, if its own are unknown.

        Parameters
        ----------
        letters : str
            As ``LPS``: to where the axes x, y, z of the file run, see `is_orientation`.
        """
        if self.oriented:
            return self
        return replace(self, direction=_direction_of(letters), oriented=True)

    def in_its_own_world(self) -> Grid:
        """Return the grid as if all of it were known, for what is done to an image alone."""
        return replace(self, oriented=True, placed=True)

    def require_axes(self) -> None:
        """Raise LnqError if it is not known how the axes lie."""
        if not self.oriented:
            raise LnqError(UNKNOWN_AXES)

    @property
    def letters(self) -> str:
        """To where the axes x, y, z of the file run, as ``LPS``; oblique ones nearly."""
        world_of = dict(zip(self.anatomical_axes(), (2, 1, 0), strict=True))
        ends = ((world_of[axis], self.direction[world_of[axis]][axis] > 0) for axis in (2, 1, 0))
        return "".join(_LETTERS[world, 1 if rises else -1] for world, rises in ends)

    @cached_property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(3, 3) step in the world, mm, per voxel along each array axis (columns z, y, x)."""
        return np.array(self.direction, np.float64) * np.array(self.spacing, np.float64)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) NIfTI affine: indices (x, y, z) to world (x, y, z) in mm."""
        self.require_axes()
        affine = np.eye(4)
        affine[:3, :3] = self.matrix[:, ::-1]
        affine[:3, 3] = self.origin
        return affine

    @property
    def diagonal_mm(self) -> float:
        """Length in mm of the diagonal of the box around all voxels."""
        return float(np.linalg.norm(np.array(self.shape) * np.array(self.spacing)))

    def world(self, index: npt.ArrayLike) -> np.ndarray:
        """Return the world positions (..., 3) in mm (x, y, z) of indices (..., 3) (z, y, x)."""
        self.require_axes()
        return self._world(index)

    def _world(self, index: npt.ArrayLike) -> np.ndarray:
        return np.asarray(index, np.float64) @ self.matrix.T + np.array(self.origin, np.float64)

    def index(self, world: np.ndarray) -> np.ndarray:
        """Return the indices (..., 3) (z, y, x), not rounded, of world positions (..., 3)."""
        self.require_axes()
        return self._index(world)

    def _index(self, world: np.ndarray) -> np.ndarray:
        offset = np.asarray(world, np.float64) - np.array(self.origin, np.float64)
        return offset @ np.linalg.inv(self.matrix).T

    @classmethod
    def of_slices(cls, shape: Counts, spacing: Reals) -> Grid:
        """Make the grid of an array in LPS order (see `turn_to`) that may lie anywhere."""
        return cls(shape, spacing, (0.0, 0.0, 0.0), _direction_of("LPS"))

    def anatomical_axes(self) -> tuple[int, int, int]:
        """Return the array axes nearest to superior-inferior, anterior-posterior, left-right.

        Raises
        ------
        LnqError
            If it is not known how the axes lie.
        """
        self.require_axes()
        closeness = np.abs(_LEANING @ np.array(self.direction))  # rows x, y, z of the world
        return max(_ORDERS, key=lambda axes: float(closeness[[2, 1, 0], axes].sum()))

    def in_array_order(self, along: Reals) -> Reals:
        """Return lengths along the `anatomical_axes`, in their order, in that of the array's."""
        lengths = dict(zip(self.anatomical_axes(), along, strict=True))
        return lengths[0], lengths[1], lengths[2]

    @property
    def axial_axis(self) -> int | None:
        """The array axis nearest to superior-inferior, or None if that is not known."""
        return self.anatomical_axes()[0] if self.oriented else None

    def cropped(self, box: Box) -> Grid:
        """Return the grid of the voxels in a box; each keeps its place in the world."""
        return replace(self, shape=box.shape, origin=_reals(self._world(box.start)))

    def with_spacing(self, spacing: Reals) -> Grid:
        """Return a grid of another spacing (z, y, x, mm) that covers the same extent.

        The extents (shape × spacing) share their center; the shape is rounded to the nearest
        whole number of voxels, at least one.
        """
        extent = np.array(self.shape) * np.array(self.spacing)
        shape = np.maximum(np.rint(extent / np.array(spacing)).astype(int), 1)
        center = self._world((np.array(self.shape) - 1) / 2)
        steps = np.array(self.direction) * np.array(spacing)
        origin = center - steps @ ((shape - 1) / 2)
        return replace(self, shape=_counts(shape), spacing=_reals(spacing), origin=_reals(origin))

    def corners(self) -> np.ndarray:
        """Return the indices (8, 3) of the corner voxels."""
        return np.array(list(product(*((0, n - 1) for n in self.shape))))


def _reals(values: Iterable[Any]) -> Reals:
    a, b, c = values
    return float(a), float(b), float(c)


def _counts(values: Iterable[Any]) -> Counts:
    a, b, c = values
    return int(a), int(b), int(c)


def is_orientation(letters: str) -> bool:
    """Tell whether letters say how three axes run: R or L, A or P and S or I, in any order."""
    return len(letters) == 3 and all(len({*letters} & {*pair}) == 1 for pair in ("RL", "AP", "SI"))


def _direction_of(letters: str) -> tuple[Reals, ...]:
    """Return the direction of array axes z, y, x that run as letters say of x, y, z."""
    direction = np.zeros((3, 3))
    for axis, letter in enumerate(reversed(letters)):
        world, sign = ENDS[letter]
        direction[world, axis] = sign
    return tuple(_reals(row) for row in direction)


def _nearest_ways(grid: Grid) -> np.ndarray:
    """Return the direction of axes along the patient's that are nearest to a grid's."""
    nearest = np.zeros((3, 3))
    for world, axis in zip((2, 1, 0), grid.anatomical_axes(), strict=True):
        nearest[world, axis] = np.sign(grid.direction[world][axis])
    return nearest


@dataclass(frozen=True)
class LatticeMap:
    """How the voxels of one grid lie on the lattice of another.

    Array axis k of the target runs along axis ``axes[k]`` of the source, backwards where
    ``flips[k]``; ``offset`` is the target index of the source's first voxel after that turn.
    Corners of voxels are up to ``apart`` voxels off.
    """

    axes: Counts
    flips: tuple[bool, bool, bool]
    offset: Counts = (0, 0, 0)
    apart: float = 0.0

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
        return replace(
            grid,
            shape=_counts(grid.shape[axis] for axis in self.axes),
            spacing=_reals(grid.spacing[axis] for axis in self.axes),
            origin=_reals(grid._world(first)),
            direction=tuple(_reals(row) for row in direction),
        )

    @property
    def oddity(self) -> str | None:
        """What is odd about taking the source's voxels for the target's, or None."""
        odd = []
        if self.apart > SAME_VOXEL:
            odd.append(f"lie up to {self.apart:.2g} of a voxel off those of the image")
        if self.axes != (0, 1, 2) or any(self.flips):
            odd.append("are stored in another order")
        return f"its voxels {' and '.join(odd)}: they were taken one for one" if odd else None


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
    their centers: two images of a single slice, one thick and one thin, share all centers.

    Parameters
    ----------
    a, b : Grid
    tolerance : float
        Largest distance of two corners along each axis, in voxels of ``a``.
    """
    if a.shape != b.shape:
        return _sizes(a, b)
    try:
        a = beside(a, b)
    except LnqError as error:
        return str(error)
    apart = a._index(b._world(_box_corners(a))) - _box_corners(a)
    if np.abs(apart).max() <= tolerance:
        return None
    return _lattice_difference(a, b) or (
        f"their voxels lie up to {np.linalg.norm(apart @ a.matrix.T, axis=1).max():.3g} mm apart"
    )


def changes(before: Grid, after: Grid) -> list[str]:
    """Say what a header says otherwise than another of the same size, a phrase each.

    Spacings count as the same within 1e-5 of each other, directions within 0.01 degrees, places
    of the first voxel within a thousandth of its least side.
    """
    said = []
    if not np.allclose(before.spacing, after.spacing, rtol=1e-5, atol=0):
        spacings = (" × ".join(f"{s:.6g}" for s in reversed(g.spacing)) for g in (before, after))
        said.append("spacing {} → {} mm".format(*spacings))
    if not (before.oriented and after.oriented):
        ways = [g.letters if g.oriented else "unknown" for g in (before, after)]
        return said if ways == ["unknown", "unknown"] else [*said, "axes {} → {}".format(*ways)]
    if before.letters != after.letters:
        said.append(f"axes {before.letters} → {after.letters}")
    turn = np.array(after.direction) @ np.array(before.direction).T
    sine = np.linalg.norm(turn - turn.T) / np.sqrt(8)  # of small angles exact, unlike the cosine
    angle = np.degrees(np.arctan2(sine, (np.trace(turn) - 1) / 2))
    if before.letters == after.letters and angle > 0.01:
        said.append(f"axes turned by {angle:.2g} degrees")
    moved = np.subtract(after.origin, before.origin)
    if np.linalg.norm(moved) > 1e-3 * min(after.spacing):
        places = (", ".join(f"{x:.6g}" for x in g.origin) for g in (before, after))
        said.append("first voxel at {} → {} mm".format(*places))
    return said


def _sizes(a: Grid, b: Grid) -> str:
    sizes = (" × ".join(map(str, reversed(g.shape))) for g in (a, b))
    return "their sizes are {} and {} voxels".format(*sizes)


def _box_corners(grid: Grid) -> np.ndarray:
    """Return the indices (8, 3) of the corners of the box around all voxels."""
    return np.array(list(product(*((-0.5, n - 0.5) for n in grid.shape))))


def beside(grid: Grid, other: Grid) -> Grid:
    """Return a grid in one world with another, also where it is unknown where one of them lies.

    Two of one size and spacing, perhaps turned, are then taken to be in one place, and the axes of
    the one whose place is unknown run as its letters say, no more exactly. Others lie at 0.

    Raises
    ------
    LnqError
        If the place of neither is known and they are not of one size and spacing, or the axes of
        one are unknown.
    """
    if grid.placed and other.placed:
        return grid
    if grid.oriented != other.oriented:
        known = grid if grid.oriented else other
        raise LnqError(
            "one of the two headers does not say how its axes lie in the patient (sform and qform "
            f"codes are 0); if they run as the other's, --assume-orientation {known.letters} "
            "says so"
        )
    mine, theirs = (_nearest_ways(g) if g.placed else np.array(g.direction) for g in (grid, other))
    turn = theirs.T @ mine
    same_size = np.array_equal(np.abs(turn) @ grid.shape, other.shape)
    if same_size and np.allclose(np.abs(turn) @ grid.spacing, other.spacing, rtol=SAME_SPACING):
        moved = replace(grid, direction=tuple(map(_reals, np.array(other.direction) @ turn)))
        centers = (g._world((np.array(g.shape) - 1) / 2) for g in (other, moved))
        return replace(moved, origin=_reals(np.array(moved.origin) + np.subtract(*centers)))
    if not (grid.placed or other.placed):
        how = _sizes(grid, other) if grid.shape != other.shape else _lattice_difference(grid, other)
        raise LnqError(
            "neither of the two headers says where its voxels lie (sform and qform codes are 0), "
            f"and {how}"
        )
    return grid


def _lattice_difference(a: Grid, b: Grid) -> str | None:
    """Say how two grids differ in spacing or direction."""
    if not np.allclose(a.spacing, b.spacing, rtol=SAME_SPACING):
        spacings = (" × ".join(f"{s:.4g}" for s in reversed(g.spacing)) for g in (a, b))
        return "their spacings are {} and {} mm".format(*spacings)
    if not np.allclose(a.direction, b.direction, atol=1e-3):
        return "their axes point in different directions"
    return None


def lattice_map(source: Grid, target: Grid, tolerance: float = SAME_VOXEL) -> LatticeMap | None:
    """Return how the source's voxels fall onto the target's lattice, or None if they do not.

    The axes may be permuted and mirrored. Over the whole source the corners of voxels must meet
    within a tolerance, in voxels along each axis.

    Raises
    ------
    LnqError
        If it is unknown how the two lie to each other, see `beside`.
    """
    source = beside(source, target)
    step = np.linalg.inv(target.matrix) @ source.matrix  # target voxels per source voxel
    turn = np.rint(step)
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    corners = _box_corners(source)
    off = target._index(source._world(corners)) - corners @ turn.T  # of the first voxel, nearly
    first = np.rint(target._index(np.array(source.origin)))
    if np.array_equal(np.abs(turn) @ source.shape, target.shape):  # of two ways, one to one
        whole = np.where(turn.sum(axis=1) < 0, np.array(target.shape) - 1, 0)
        first = whole if np.abs(off - whole).max() <= tolerance else first
    apart = float(np.abs(off - first).max())
    if apart > tolerance:
        return None
    axes = _counts(np.abs(turn).argmax(axis=1))
    z, y, x = (bool(turn[k, axis] < 0) for k, axis in enumerate(axes))
    least = (source.corners() @ turn.T + first).min(axis=0)
    return LatticeMap(axes, (z, y, x), _counts(least), apart)


def one_to_one(source: Grid, target: Grid, tolerance: float = SAME_VOXEL) -> LatticeMap | None:
    """Return how each voxel of the source is one of the target, or None if they are not.

    Parameters and errors are those of `lattice_map`.
    """
    way = lattice_map(source, target, tolerance)
    if way is None or way.offset != (0, 0, 0):
        return None
    return way if tuple(source.shape[axis] for axis in way.axes) == target.shape else None


def carry_box(box: Box, source: Grid, target: Grid) -> Box:
    """Return the box of the target's voxels whose centers lie within a box of the source's.

    The box reaches to the outer edges of its voxels. Between grids that are turned against each
    other it is the smallest box around the turned one.

    Parameters
    ----------
    box : Box
        On ``source``, not empty.
    source, target : Grid

    Returns
    -------
    Box
        Clipped to ``target``; empty along an axis where they do not meet.
    """
    ends = np.array(list(product(*zip(box.start, box.stop, strict=True)))) - 0.5
    carried = target.index(beside(source, target).world(ends))
    first = np.ceil(carried.min(axis=0) - SAME_VOXEL).astype(int)
    last = np.floor(carried.max(axis=0) + SAME_VOXEL).astype(int)
    return Box.of(np.clip(first, 0, target.shape), np.clip(last + 1, 0, target.shape))


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
    return _placed(array, way, target, fill)


def _placed(array: np.ndarray, way: LatticeMap, target: Grid, fill: float) -> np.ndarray:
    """Copy an array onto a grid, of which it is known how its voxels fall onto it."""
    turned, whole = way.turned(array), Box.whole(target.shape)
    here = whole.intersect(Box.whole(turned.shape).shifted(way.offset))
    there = here.shifted(np.negative(way.offset))
    if here == whole:
        return turned[there]
    require_grid_memory(target, array.dtype.itemsize)
    placed = np.full(target.shape, fill_value(fill, array.dtype), array.dtype)
    placed[here] = turned[there]
    return placed


def require_grid_memory(grid: Grid, voxel_bytes: int) -> None:
    """Raise LnqError for a grid whose voxels, of at least so many bytes, memory does not hold."""
    size = tuple(reversed(grid.shape))
    require_memory(size, voxel_bytes, "the new grid", "ask for larger voxels, or for fewer")


def overlap(a: Grid, b: Grid) -> bool:
    """Tell whether a box around one grid's voxels meets the other, along the other's axes."""
    b = beside(b, a)
    corners = a._index(b._world(b.corners()))
    last = np.array(a.shape) - 1
    return bool((corners.max(axis=0) >= -0.5).all() and (corners.min(axis=0) <= last + 0.5).all())


def outside(index: Sequence[np.ndarray] | np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Tell which voxels of one grid have their center beyond the outer faces of another's.

    Parameters
    ----------
    index : sequence of 3 (n,) ndarrays of int
        Where they are on ``source``, along z, y and x, as `numpy.nonzero` says it.
    source, target : Grid

    Returns
    -------
    (n,) ndarray of bool
    """
    source = beside(source, target)
    step = np.linalg.inv(target.matrix) @ source.matrix  # target voxels per source voxel
    first = target._index(np.array(source.origin))
    beyond = np.zeros(len(index[0]), bool)
    for start, (z, y, x), length in zip(first, step, target.shape, strict=True):
        at = start + z * index[0] + y * index[1] + x * index[2]
        beyond |= np.abs(at - (length - 1) / 2) > length / 2 + EVEN
    return beyond


def reaches_beyond(target: Grid, source: Grid) -> bool:
    """Tell whether one grid has voxels whose center lies beyond the outer faces of another's."""
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

    Lattices up to half a voxel apart count as the same, see :attr:`LatticeMap.oddity`.

    Raises
    ------
    OtherLatticeError
        If the lattices do not agree.
    LnqError
        If the target reaches beyond the source.
    """
    way = lattice_map(source, target, CLOSE_VOXELS)
    if way is None:
        how = _lattice_difference(source, target) or "their voxels do not meet"
        raise OtherLatticeError(f"lies on another lattice: {how}")
    shape = way.turned(array).shape
    if any(o > 0 or o + n < m for o, n, m in zip(way.offset, shape, target.shape, strict=True)):
        raise LnqError("does not cover the image")
    return _placed(array, way, target, 0)


def corner_distance(a: np.ndarray, b: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return the largest distance between the corner voxels under two affines."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape[::-1]) - 1)
    apart = corners @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())


def check_voxel_size(steps: np.ndarray) -> None:
    """Raise LnqError for voxels (x, y, z), mm, that no scanner makes."""
    if not (steps.min() >= SPACING_RANGE_MM[0] and steps.max() <= SPACING_RANGE_MM[1]):  # or NaN
        raise LnqError("its voxels measure {:.3g} × {:.3g} × {:.3g} mm".format(*steps))


def straightened(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Turn almost orthogonal axes to the nearest orthogonal ones, or raise LnqError."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    check_voxel_size(steps)
    left, _, right = np.linalg.svd(affine[:3, :3] / steps)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * steps
    moved = corner_distance(affine, straight, shape)
    if moved > min(MAX_SHEAR_MM, steps.min() / 2):
        raise LnqError(
            f"its axes are not at right angles, by {moved:.1f} mm at the corners, as with a tilted "
            "gantry: convert the series with dcm2niix and take the file that it corrects (…_Tilt), "
            "or resample the image onto axes at right angles"
        )
    return straight
