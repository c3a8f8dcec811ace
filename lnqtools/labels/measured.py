"""Lymph nodes of which diameters are known and nothing is drawn: tables of them → labels.

A reading has a node's long and short axis, as RECIST 1.1 measures them on an axial slice. What
these imply of its voxels is told in `implied`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.files.tables import Row
from lnqtools.images.box import Box
from lnqtools.images.grid import EVEN, Grid
from lnqtools.labels.training import UNKNOWN
from lnqtools.labels.weak import Coat, weak_label

CORE = 0.7
"""The core's diameters, as a part of the least that the node may measure."""
CORE_MOST_MM = 12.0
"""The core's diameter along the short axis is not larger: vessels run through large clusters."""
RING = 1.5
"""The ring's outer diameters, as a multiple of the greatest that the node may measure."""
LONGEST_PER_SHORT = 2.0
"""How many short axes a long axis may measure that nobody measured."""
PLAUSIBLE_MM = (0.5, 200.0)
"""Axes of other lengths are in another unit."""
MOST_OFF_DEG = 15.0
"""How far from perpendicular a short axis may be."""

UNITS = ("mm", "voxel")
"""Of end points: world positions, or indices."""
CENTER_COLUMNS = ("centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "short_axis_mm")
LONG_COLUMN = "long_axis_mm"


def end_columns(unit: str = "mm") -> tuple[str, ...]:
    """Name the columns of the end points: ``long_x1_mm``, ..., ``short_z2_mm``.

    Parameters
    ----------
    unit : {"mm", "voxel"}
    """
    places = product(("long", "short"), (1, 2), "xyz")
    return tuple(f"{axis}_{letter}{end}_{unit}" for axis, end, letter in places)


@dataclass(frozen=True)
class Measurement:
    """One row of a table: a node by its end points, or by its center and diameters.

    Attributes
    ----------
    row : int
        Its number in the table, from 1, without the line of names.
    ends : (4, 3) ndarray or None
        Start and end of the long axis, then of the short one (x, y, z).
    in_voxels : bool
        Whether the end points are voxel indices from 0, along the axes of the image's file; else
        they are world positions in mm.
    center : (3,) ndarray or None
        World position (x, y, z) in mm.
    short_mm, long_mm : float
        Diameters that go with the center.
    """

    row: int
    ends: npt.NDArray[np.float64] | None = None
    in_voxels: bool = False
    center: npt.NDArray[np.float64] | None = None
    short_mm: float = math.nan
    long_mm: float = math.nan


@dataclass(frozen=True)
class MeasuredNode:
    """Where a node lies and how long it is, as far as it was measured.

    Attributes
    ----------
    center : (3,) ndarray
        World position (x, y, z) in mm.
    axes : (3, 3) ndarray
        Unit vectors as rows: along the long axis, the short axis, and across both.
    least_mm, most_mm : (3,) ndarray
        The least and the greatest diameter along each that the measurement leaves.
    """

    center: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    least_mm: npt.NDArray[np.float64]
    most_mm: npt.NDArray[np.float64]


def measurements_by_case(rows: Sequence[Row]) -> dict[str, list[Measurement]]:
    """Read a table of measured nodes.

    Parameters
    ----------
    rows : sequence of dict
        With ``case``, and either all `end_columns` of one unit or `CENTER_COLUMNS` and perhaps
        ``long_axis_mm``. Others are ignored.

    Returns
    -------
    dict
        Case → its nodes, in the table's order.

    Raises
    ------
    LnqError
        If columns are missing, or a cell is empty or not a finite number.
    """
    columns = _columns_of(rows[0])
    found: dict[str, list[Measurement]] = {}
    for number, row in enumerate(rows, start=1):
        if not (case := row.get("case")):
            raise LnqError(f"row {number} has no case")
        numbers = [_number(row, column, number) for column in columns]
        found.setdefault(str(case), []).append(_measurement(number, columns, numbers))
    return found


def _columns_of(row: Row) -> tuple[str, ...]:
    """Return the columns of numbers that a table has, of which it may have one kind."""
    kinds = [*map(end_columns, UNITS), CENTER_COLUMNS]
    whole = [kind for kind in kinds if set(kind) <= row.keys()]
    if "case" not in row:
        raise LnqError("has no column case")
    if len(whole) > 1:
        raise LnqError(f"has columns of more than one kind: {whole[0][0]} and {whole[1][0]}")
    if not whole:
        nearest = max(kinds, key=lambda kind: len(row.keys() & set(kind)))
        lacking = [column for column in nearest if column not in row]
        raise LnqError(
            f"has no column {lacking[0]}: a node is given by its end points ({kinds[0][0]} to "
            f"{kinds[0][-1]}, or _voxel) or by {', '.join(CENTER_COLUMNS)}"
        )
    optional = (LONG_COLUMN,) if whole[0] is CENTER_COLUMNS and LONG_COLUMN in row else ()
    return (*whole[0], *optional)


def _number(row: Row, column: str, number: int) -> float:
    """Return a cell as a finite number."""
    cell = row.get(column)
    try:
        value = float(str(cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        said = "empty" if cell is None else f"{cell!r}, not a finite number"
        raise LnqError(f"row {number}: {column} is {said}")
    return value


def _measurement(row: int, columns: Sequence[str], numbers: Sequence[float]) -> Measurement:
    """Return the measurement that the numbers in some columns are."""
    if columns[:4] == CENTER_COLUMNS:
        *center, short = numbers[:4]
        long = numbers[4] if len(numbers) > 4 else LONGEST_PER_SHORT * short
        return Measurement(row, center=np.array(center), short_mm=short, long_mm=long)
    ends = np.reshape(numbers, (4, 3))
    return Measurement(row, ends, in_voxels=columns == end_columns("voxel"))


def located(measurement: Measurement, grid: Grid) -> MeasuredNode:
    """Return where a measured node lies.

    Parameters
    ----------
    measurement : Measurement
    grid : Grid
        Of the image that it was measured in.

    Raises
    ------
    LnqError
        If a point lies outside the image, or the axes cannot be those of a node: of no plausible
        length, the short one longer, not perpendicular, or apart. It names the row. Also if
        points are in mm and it is not known how or where the image lies.
    """
    try:
        return _located(measurement, grid)
    except LnqError as error:
        raise LnqError(f"row {measurement.row}: {error}") from None


def _located(measurement: Measurement, grid: Grid) -> MeasuredNode:
    if measurement.center is not None:
        short, long = measurement.short_mm, measurement.long_mm
        _check_lengths(short, long)
        _check_inside(measurement.center[None], grid)
        least, most = np.full(3, short), np.full(3, long)
        return MeasuredNode(measurement.center, np.eye(3), least, most)
    assert measurement.ends is not None
    ends = measurement.ends
    if measurement.in_voxels:
        ends = grid.in_its_own_world().world(ends[:, ::-1])
    _check_inside(ends, grid, in_voxels=measurement.in_voxels)
    return _spanned(ends)


def _spanned(ends: npt.NDArray[np.float64]) -> MeasuredNode:
    """Return the node whose long and short axis have these ends, in mm.

    Its center is that of the rectangle around both axes.
    """
    long_vector, short_vector = ends[1] - ends[0], ends[3] - ends[2]
    long, short = float(np.linalg.norm(long_vector)), float(np.linalg.norm(short_vector))
    _check_lengths(short, long)
    cosine = abs(long_vector @ short_vector) / (long * short)
    angle = math.degrees(math.acos(min(cosine, 1.0)))
    if angle < 90 - MOST_OFF_DEG:
        raise LnqError(f"its axes are at {angle:.0f}° to each other, not perpendicular")
    along = long_vector / long
    across = short_vector - (short_vector @ along) * along
    across /= np.linalg.norm(across)
    through = np.cross(along, across)
    middle_of_long, middle_of_short = ends[:2].mean(axis=0), ends[2:].mean(axis=0)
    off = middle_of_short - middle_of_long
    if np.linalg.norm(off) > long / 2:
        raise LnqError(
            f"its axes do not cross: their middles are {np.linalg.norm(off):.0f} mm apart"
        )
    center = middle_of_long + (off @ across) * across + (off @ through) / 2 * through
    return MeasuredNode(
        *(center, np.stack((along, across, through))),
        least_mm=np.array((long, short, short)),
        most_mm=np.array((long, short, long)),
    )


def _check_lengths(short: float, long: float) -> None:
    low, high = PLAUSIBLE_MM
    for name, length in (("short", short), ("long", long)):
        if not low <= length <= high:
            raise LnqError(
                f"its {name} axis is {length:.3g} mm, which a node's cannot be: is another unit "
                "meant?"
            )
    if short > long * 1.001:
        raise LnqError(f"its short axis, {short:.3g} mm, is longer than its long one, {long:.3g}")


def _check_inside(points: npt.NDArray[np.float64], grid: Grid, in_voxels: bool = False) -> None:
    """Raise LnqError unless all points (N, 3) in the world lie in the image."""
    if not in_voxels and not grid.placed:
        raise LnqError("its points are in mm, and it is unknown where the image lies")
    index = (grid.in_its_own_world() if in_voxels else grid).index(points)
    outside = ((index < -0.5) | (index > np.array(grid.shape) - 0.5)).any(axis=1)
    if outside.any():
        shown = index[outside][0][::-1] if in_voxels else points[outside][0]
        place = ", ".join(f"{value:.4g}" for value in shown)
        unit = "voxels" if in_voxels else "mm, x to the right, y to the front"
        raise LnqError(f"the point ({place}) lies outside the image, in {unit}")


def implied(
    nodes: Iterable[MeasuredNode], grid: Grid
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which voxels measured nodes surely hold (core), and which they may (reach).

    Each measurement implies an ellipsoid along its axes. Across the slice nobody measured: that
    diameter is at least the short axis, and at most the long one. The core is the ellipsoid of the
    least diameters, `CORE` times as large, or less, so that it measures `CORE_MOST_MM` along the
    short axis; and in any case the voxel that holds the center, or those between which it lies.
    The reach is the ellipsoid of the greatest diameters, `RING` times as large. Voxels belong to
    an ellipsoid if their centers do.

    Parameters
    ----------
    nodes : iterable of MeasuredNode
        As `located` gives them.
    grid : Grid

    Returns
    -------
    core, reach : (z, y, x) ndarray of bool
        The core lies in the reach.
    """
    own = grid.in_its_own_world()
    core, reach = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    for node in nodes:
        index = own.index(node.center)
        around = np.ceil(RING * node.most_mm.max() / 2 / np.array(grid.spacing)) + 1
        box = Box.of(np.floor(index - around), np.ceil(index + around) + 1)
        box = box.intersect(Box.whole(grid.shape))
        places = np.moveaxis(np.indices(box.shape), 0, -1) + np.array(box.start)
        along = (own.world(places) - node.center) @ node.axes.T
        at_center = (np.abs(places - index) <= 0.5 + EVEN).all(axis=-1)
        core[box] |= _within(along, _core_mm(node) / 2) | at_center
        reach[box] |= _within(along, RING * node.most_mm / 2) | at_center
    return core, reach


def _core_mm(node: MeasuredNode) -> npt.NDArray[np.float64]:
    """Return the core's diameters along the node's axes."""
    return node.least_mm * min(CORE, CORE_MOST_MM / float(node.least_mm[1]))


def _within(
    along: npt.NDArray[np.float64], radii: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Tell which positions (..., 3), given along an ellipsoid's axes, lie in it."""
    return np.asarray(np.square(along / radii).sum(axis=-1) <= 1 + EVEN)


def label_of_measured(
    drawn: npt.NDArray[np.bool_],
    core: npt.NDArray[np.bool_],
    reach: npt.NDArray[np.bool_],
    strategy: str,
    coat: Coat | None = None,
) -> npt.NDArray[np.uint8]:
    """Make a training label from drawn and from measured nodes.

    Parameters
    ----------
    drawn : (z, y, x) ndarray of bool
        The drawn nodes, if there are any.
    core, reach : (z, y, x) ndarray of bool
        Of the measured ones, see `implied`.
    strategy, coat
        What the voxels are that no node reaches, as for `lnqtools.labels.weak.weak_label`; a coat
        lies around the reach.

    Returns
    -------
    (z, y, x) ndarray of uint8
        1 in drawn nodes and cores, 2 in the rest of the reach, elsewhere as the strategy says.
    """
    label = weak_label(drawn | reach, strategy, coat)
    label[reach & ~core & ~drawn] = UNKNOWN
    return label
