"""Slices of CTs with labels on them, and the paper's figure of the preprocessing steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lnqtools.components.labeling import find_components, find_instances
from lnqtools.errors import LnqError
from lnqtools.figures.charts import shown_name
from lnqtools.figures.style import (
    BLUE,
    DOUBLE_MM,
    GREEN,
    ORANGE,
    SMALL_PT,
    look,
    new_figure,
)
from lnqtools.images.grid import SAME_VOXEL, Grid, beside, place
from lnqtools.images.views import (
    MEDIASTINAL_WINDOW_HU,
    fullest_slices,
    gray_levels,
    turned,
    turned_grid,
)
from lnqtools.labels.training import BACKGROUND, NODE, UNKNOWN, check_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lnqtools.images.volume import Volume

Picture = npt.NDArray[np.uint8]

NODE_OPACITY = 0.75
BACKGROUND_OPACITY = 0.25
HATCH = "///"
"""Of unknown voxels, through which the CT is seen."""

SIDES_OF_VIEWS = (("R", "L"), ("R", "L"), ("A", "P"))
"""What is on the left and on the right of the axial, coronal and sagittal view."""
_GAP_MM = 1.0
_BAR_MM = 50
"""Length of the scale bar in the patient."""


@dataclass(frozen=True, eq=False)
class Step:
    """A row of the figure: a CT and what is known of it.

    Attributes
    ----------
    name : str
        Stands beside the row; may be empty.
    ct : Volume
    label : Volume
        1 lymph node, 0 background, 2 unknown; on the CT's lattice. Without any 2 it is a mask,
        of which the nodes alone are drawn.
    instances : bool
        Whether the label is a mask of numbered nodes instead.
    """

    name: str
    ct: Volume
    label: Volume
    instances: bool = False


def rgb(color: str) -> npt.NDArray[np.float64]:
    """Return a color '#rrggbb' as three levels from 0 to 255."""
    return np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)], float)


def tinted(picture: Picture, where: npt.NDArray[np.bool_], color: str, opacity: float) -> Picture:
    """Return a picture in which some pixels are mixed with a color; the others are as they were.

    Parameters
    ----------
    picture : (rows, columns, 3) ndarray of uint8
    where : (rows, columns) ndarray of bool
    color : str
        '#rrggbb'
    opacity : float
        Share of the color, from 0 to 1.
    """
    mixed = picture.copy()
    mixed[where] = np.rint(opacity * rgb(color) + (1 - opacity) * picture[where])
    return mixed


def _label_picture(hu: np.ndarray, label: np.ndarray, window_hu: tuple[float, float]) -> Picture:
    """Return a slice in gray, nodes green, and background bluish, where it is not -1."""
    gray = np.repeat(gray_levels(hu, window_hu)[..., np.newaxis], 3, axis=-1)
    colored = tinted(gray, label == BACKGROUND, BLUE, BACKGROUND_OPACITY)
    return tinted(colored, label == NODE, GREEN, NODE_OPACITY)


def centers_by_size(
    mask: npt.NDArray, grid: Grid, *, instances: bool = False
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield where the fullest slices of each component meet, in the world (x, y, z), mm.

    The largest component comes first.
    """
    found = find_instances(mask, grid) if instances else find_components(mask, grid)
    for number in np.argsort(-found.voxel_counts, kind="stable").tolist():
        part = grid.cropped(found.box_of(number + 1))
        within = fullest_slices(turned(found.crop(number + 1), part))
        yield turned_grid(part).world(np.array(within))


def center_of_largest(
    mask: npt.NDArray, grid: Grid, *, instances: bool = False
) -> npt.NDArray[np.float64]:
    """Return where the fullest slices of the largest component meet, in the world (x, y, z), mm.

    The middle of the grid for an empty mask.
    """
    shown = turned_grid(grid)
    middle = shown.world(np.array(shown.shape) // 2)
    return next(centers_by_size(mask, grid, instances=instances), middle)


def lies_within(world: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.bool_]:
    """Tell which places (..., 3) in the world lie in the voxels of a grid, (...)."""
    middle = (np.array(grid.shape) - 1) / 2
    within = np.abs(grid.index(world) - middle) <= middle + 0.5 + SAME_VOXEL
    return np.all(within, axis=-1)


def slices_through(grid: Grid, world: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """Return the slices of a turned array nearest to a place in the world, within the grid.

    Half way between two, as far as headers can tell, it is the second.
    """
    shown = turned_grid(grid)
    nearest = np.floor(shown.index(world) + 0.5 + SAME_VOXEL)
    first, second, third = np.clip(nearest, 0, np.array(shown.shape) - 1).astype(int).tolist()
    return first, second, third


@dataclass(frozen=True, eq=False)
class Places:
    """Where the views of each row go through.

    Attributes
    ----------
    world : list of (3,) ndarray
        Of each row, (x, y, z) in mm.
    note : str or None
        Why they do not go through a node that all rows hold.
    apart : bool
        The rows are of different patients: what lies where in one says nothing of another.
    """

    world: list[npt.NDArray[np.float64]]
    note: str | None = None
    apart: bool = False


def own_places(steps: Sequence[Step]) -> Places:
    """Return the middle of each row's own largest node, or of its CT, for rows of many patients.

    Raises
    ------
    LnqError
        If a label is not on its CT's lattice.
    """
    grids = [beside(step.ct.grid, step.ct.grid) for step in steps]
    world = [
        center_of_largest(_numbers_on_ct(step), grid, instances=step.instances)
        for step, grid in zip(steps, grids, strict=True)
    ]
    return Places(world, apart=True)


def choose_places(steps: Sequence[Step]) -> Places:
    """Return where the views go through: the largest node that all rows hold.

    A row without a node holds what its CT shows. Without a node in all rows the views go through
    the largest of the first row with nodes that all CTs show; without that, each row goes through
    its own largest node, or its middle.

    Raises
    ------
    LnqError
        If a label is not on its CT's lattice.
    """
    numbers = [_numbers_on_ct(step) for step in steps]
    nodes = [on_row != 0 for on_row in numbers]
    grids = _in_one_world(steps)
    own = [
        center_of_largest(on_row, grid, instances=step.instances)
        for on_row, grid, step in zip(numbers, grids, steps, strict=True)
    ]

    def shown_by_all(places: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64] | None:
        return next((p for p in places if all(lies_within(p, grid) for grid in grids)), None)

    with_nodes = [k for k, mask in enumerate(nodes) if mask.any()]
    if not with_nodes:
        place = shown_by_all(own[:1])
        note = "no label holds a node; the views go through the middle"
        return Places(own if place is None else [place] * len(steps), note)
    first = with_nodes[0]
    at = np.nonzero(nodes[first])
    drawn = grids[first].world(np.stack(at, axis=-1))
    held = [_held(drawn, mask, grid) for mask, grid in zip(nodes, grids, strict=True)]
    shared = np.zeros_like(numbers[first])
    shared[at] = numbers[first][at] * np.logical_and.reduce(held)
    numbered = steps[first].instances
    place = shown_by_all(centers_by_size(shared, grids[first], instances=numbered))
    if place is not None:
        return Places([place] * len(steps))
    reasons = [
        f"row {k + 1}{_called(step)} "
        + ("lacks them" if lies_within(drawn, grids[k]).any() else "does not reach them")
        for k, step in enumerate(steps)
        if not held[k].any()
    ]
    note = f"no node of row {first + 1}{_called(steps[first])} is in all rows"
    note += f" ({', '.join(reasons)})" if reasons else ""
    place = shown_by_all(centers_by_size(numbers[first], grids[first], instances=numbered))
    if place is not None:
        return Places(
            [place] * len(steps), f"{note}; the views go through its largest that all CTs show"
        )
    return Places(own, f"{note}; each row goes through its own largest node")


def _in_one_world(steps: Sequence[Step]) -> list[Grid]:
    """Return the grid of each row's CT beside the first one's, or raise LnqError."""
    grids = []
    for number, step in enumerate(steps, start=1):
        try:
            grids.append(beside(step.ct.grid, steps[0].ct.grid))
        except LnqError as error:
            raise LnqError(f"the CTs of rows 1 and {number}: {error}") from None
    return grids


def _held(
    world: npt.NDArray[np.float64], nodes: npt.NDArray[np.bool_], grid: Grid
) -> npt.NDArray[np.bool_]:
    """Tell which places (n, 3) a row's CT shows, and its label, if it has nodes, has for nodes."""
    held = lies_within(world, grid)
    if nodes.any():
        nearest = np.floor(grid.index(world[held]) + 0.5 + SAME_VOXEL)
        z, y, x = np.clip(nearest, 0, np.array(grid.shape) - 1).astype(int).T
        held[held] = nodes[z, y, x]
    return held


def _called(step: Step) -> str:
    return f" ({step.name})" if step.name else ""


def preprocess(
    steps: Sequence[Step],
    *,
    places: Places | None = None,
    window_hu: tuple[float, float] = MEDIASTINAL_WINDOW_HU,
    width_mm: float = DOUBLE_MM,
) -> Figure:
    """Draw steps of the preprocessing in three views through the largest node (Fig. 3).

    All rows show one place in the world: where the fullest slices of the largest node meet that
    all of them hold. Within a row all views have one scale, which its bar tells.

    Parameters
    ----------
    steps : sequence of Step
    places : Places, optional
        Other places, see `choose_places` and `own_places`.
    window_hu : (low, high)
    width_mm : float
        Width of the figure.

    Raises
    ------
    LnqError
        If a label is not on its CT's lattice.
    """
    labels = [on_ct(step) for step in steps]
    places = places or choose_places(steps)
    grids = [beside(s.ct.grid, s.ct.grid) for s in steps] if places.apart else _in_one_world(steps)
    rows = []
    for step, label, world, grid in zip(steps, labels, places.world, grids, strict=True):
        ct = turned(step.ct.array, step.ct.grid)
        values = turned(label, step.ct.grid)
        at = slices_through(grid, world)
        rows.append(
            [
                _View(_label_picture(ct.take(k, axis), of, window_hu), of)
                for axis, k in enumerate(at)
                for of in (values.take(k, axis),)
            ]
        )
    keys = [Key("lymph node", GREEN, NODE_OPACITY)]
    if any((label == BACKGROUND).any() for label in labels):
        keys.append(Key("background", BLUE, BACKGROUND_OPACITY))
    if any((label == UNKNOWN).any() for label in labels):
        keys.append(Key("unknown", ORANGE, hatched=True))
    spacings = [turned_grid(step.ct.grid).spacing for step in steps]
    with look():
        return _view_rows(rows, spacings, [shown_name(s.name) for s in steps], keys, width_mm)


def _numbers_on_ct(step: Step) -> npt.NDArray:
    """Return a step's nodes on its CT's grid: 1, or their numbers."""
    if step.instances:
        return place(step.label.array, step.label.grid, step.ct.grid, 0)
    return (on_ct(step) == NODE).view(np.uint8)


def on_ct(step: Step) -> npt.NDArray[np.int16]:
    """Return a step's label on its CT's grid, the background of a mask as -1: not to be shown.

    Raises
    ------
    LnqError
        If it is not a training label, or does not lie on the CT's lattice.
    """
    values = step.label.array
    if step.instances:
        values = (values != 0).view(np.uint8)
    check_label(values, "0 is background, 1 node, 2 unknown (numbered nodes: --instances)")
    known = bool((values == UNKNOWN).any())
    placed = place(values.astype(np.int16), step.label.grid, step.ct.grid, UNKNOWN)
    return placed if known else np.where(placed == BACKGROUND, -1, placed)


@dataclass(frozen=True, eq=False)
class _View:
    """A slice with its colors, and the label that is outlined on it."""

    picture: Picture
    label: npt.NDArray


def _mark_label(axes: Axes, label: npt.NDArray, step_mm: tuple[float, float]) -> None:
    """Outline background and nodes in the legend's colors, and hatch what is unknown."""
    hatch(axes, label == UNKNOWN, step_mm, ORANGE)
    for value, color in ((BACKGROUND, BLUE), (NODE, GREEN)):
        outline(axes, label == value, step_mm, color)


def outline(
    axes: Axes, mask: npt.NDArray[np.bool_], step_mm: tuple[float, float], color: str
) -> None:
    """Draw the edges between a slice's foreground and the rest as a line."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask, 1)
    down, across = step_mm
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]) * (down, across)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]) * (down, across)
    lines = [
        *([(x, y), (x + across, y)] for y, x in level.tolist()),
        *([(x, y), (x, y + down)] for y, x in upright.tolist()),
    ]
    axes.add_collection(LineCollection(lines, colors=color, linewidths=0.7), autolim=False)


def hatch(
    axes: Axes, mask: npt.NDArray[np.bool_], step_mm: tuple[float, float], color: str
) -> None:
    """Draw parallel lines over a slice's foreground, through which the picture is seen."""
    if not mask.any():
        return
    down, across = (
        (np.arange(-1, n + 1) + 0.5) * s for n, s in zip(mask.shape, step_mm, strict=True)
    )
    limits = axes.get_xlim(), axes.get_ylim()
    drawn = axes.contourf(
        across, down, np.pad(mask, 1).astype(float), levels=[0.5, 2], colors="none", hatches=[HATCH]
    )
    drawn.set(edgecolor=color, linewidth=0)
    axes.set(xlim=limits[0], ylim=limits[1])


def _view_rows(
    rows: Sequence[Sequence[_View]],
    spacings: Sequence[tuple[float, float, float]],
    names: Sequence[str],
    keys: Sequence[Key],
    width_mm: float,
) -> Figure:
    """Lay out rows of three views, on black, with one scale per row, in aligned columns."""
    extents = np.array([_extents_mm(*row) for row in zip(rows, spacings, strict=True)])
    left_mm = 4.0 if any(names) else 0.0
    legend_mm = 6.0
    shares = (extents[:, :, 1] / extents[:, :, 1].sum(axis=1, keepdims=True)).mean(axis=0)
    widths = shares * (width_mm - left_mm - 2 * _GAP_MM)
    scales = (widths / extents[:, :, 1]).min(axis=1)  # mm of paper a mm of patient
    heights = scales * extents[:, :, 0].max(axis=1)
    total_mm = heights.sum() + _GAP_MM * (len(rows) - 1) + legend_mm
    figure = new_figure(width_mm, total_mm, arranged=False)
    top_mm = 0.0
    for row, extent, scale, height, name in zip(rows, extents, scales, heights, names, strict=True):
        left = left_mm
        for k, view in enumerate(row):
            box = (left, total_mm - top_mm - height, widths[k], height)
            axes = axes_at(figure, box)
            show_picture(axes, view.picture, extent[k], (height / scale, widths[k] / scale))
            down, across = extent[k] / np.array(view.label.shape)
            _mark_label(axes, view.label, (down, across))
            write_sides(axes, SIDES_OF_VIEWS[k])
            left += widths[k] + _GAP_MM
            if k == 0:
                draw_scale(axes)
        if name:
            middle = 1 - (top_mm + height / 2) / total_mm
            figure.text(1.5 / width_mm, middle, name, rotation=90, ha="center", va="center")
        top_mm += height + _GAP_MM
    write_keys(figure, keys)
    return figure


def _extents_mm(
    views: Sequence[_View], spacing: tuple[float, float, float]
) -> list[tuple[float, float]]:
    """Return height and width of the three views in the patient, mm."""
    steps = [[s for a, s in enumerate(spacing) if a != axis] for axis in range(3)]
    return [
        (view.label.shape[0] * down, view.label.shape[1] * across)
        for view, (down, across) in zip(views, steps, strict=True)
    ]


# Pieces of such figures


def axes_at(figure: Figure, box_mm: tuple[float, float, float, float]) -> Axes:
    """Return an empty black panel at (left, bottom, width, height) on the paper."""
    width, height = figure.get_size_inches() * 25.4
    left, bottom, across, up = box_mm
    axes = figure.add_axes((left / width, bottom / height, across / width, up / height))
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    return axes


def show_picture(
    axes: Axes, picture: Picture, extent_mm: Sequence[float], room_mm: Sequence[float]
) -> None:
    """Show a picture of a height and width in the patient in the middle of a panel's room."""
    height, width = extent_mm
    axes.imshow(picture, extent=(0, width, height, 0), aspect="auto")
    down, across = ((room - own) / 2 for room, own in zip(room_mm, extent_mm, strict=True))
    axes.set(xlim=(-across, width + across), ylim=(height + down, -down))


def write_sides(axes: Axes, sides: tuple[str, str]) -> None:
    """Write which sides of the patient are on the left and right edge of a panel."""
    for x, side, align in zip((0.015, 0.985), sides, ("left", "right"), strict=True):
        axes.text(x, 0.5, side, transform=axes.transAxes, ha=align, va="center", **_on_images())


def draw_scale(axes: Axes) -> None:
    """Draw a bar of 50 mm of the patient into the lower right corner of a panel."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = right - 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    for color, width in (("black", 2.5), ("white", 1.5)):
        axes.plot([x - _BAR_MM, x], [y, y], color=color, lw=width, solid_capstyle="butt")
    axes.annotate(
        f"{_BAR_MM} mm",
        (x - _BAR_MM / 2, y),
        xytext=(0, 1.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        **_on_images(),
    )


def _on_images() -> dict[str, Any]:
    """Return how text on images looks, so that it is seen on dark and bright ones."""
    from matplotlib.patheffects import withStroke

    edge = withStroke(linewidth=1.2, foreground="black")
    return {"color": "white", "fontsize": SMALL_PT, "path_effects": [edge]}


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a color as it is in the picture.

    Attributes
    ----------
    name, color : str
    opacity : float
        Of what is filled; the outline has the color itself.
    hatched : bool
        Whether it is hatched instead.
    """

    name: str
    color: str
    opacity: float = 0.0
    hatched: bool = False


def write_keys(figure: Figure, keys: Sequence[Key]) -> None:
    """Write what the colors mean below all panels."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=to_rgba(key.color, key.opacity),
            edgecolor=key.color,
            hatch=2 * HATCH if key.hatched else None,
            linewidth=0.0 if key.hatched else 0.9,
            label=key.name,
        )
        for key in keys
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=len(keys),
        borderaxespad=0.1,
        handlelength=2.0,
        handleheight=0.9,
    )
