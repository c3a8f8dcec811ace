"""The paper's figure of single cases: views and a surface of prediction and reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lnqtools.figures import slices
from lnqtools.figures.style import (
    BLUE,
    DOUBLE_MM,
    GREEN,
    PAGE_MM,
    YELLOW,
    look,
    new_figure,
)
from lnqtools.figures.surface import projected, surface_of, surface_picture
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.views import MEDIASTINAL_WINDOW_HU, gray_levels, turned, turned_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lnqtools.images.volume import Volume

MARGIN_MM = 15.0
"""How far the picture reaches beyond nodes and trachea."""
REFERENCE_OPACITY = 0.6
_GAP_MM = 1.0
_TURN_DEGREES = 25.0
_PIXEL_MM = 25.4 / 600
"""Edge of a pixel of the surfaces, on the paper."""
_FINEST_PIXEL_MM = 0.2
"""Least edge of a pixel of the surfaces, in the patient: finer ones show nothing more."""


@dataclass(frozen=True, eq=False)
class ShownCase:
    """A case and what was found in it, all on one grid.

    Attributes
    ----------
    heading : str
        Stands above its column; may have several lines.
    ct : Volume
    prediction, reference : (z, y, x) ndarray
        Masks.
    trachea : (z, y, x) ndarray, optional
        Mask.
    instances : bool
        Whether both masks of nodes are numbered.
    """

    heading: str
    ct: Volume
    prediction: npt.NDArray
    reference: npt.NDArray
    trachea: npt.NDArray | None = None
    instances: bool = False


def cases(
    shown: Sequence[ShownCase],
    *,
    window_hu: tuple[float, float] = MEDIASTINAL_WINDOW_HU,
    width_mm: float = DOUBLE_MM,
) -> Figure:
    """Draw cases as columns: axial, coronal, sagittal view and surfaces (Fig. 4).

    The views go through the largest component of the reference, of the prediction if the
    reference is empty. They show the box around both and the trachea, and 15 mm more. The
    reference is filled green, the prediction outlined yellow; the surfaces are seen from the
    front, a little from the left. Each column has one scale.

    Parameters
    ----------
    shown : sequence of ShownCase
    window_hu : (low, high)
    width_mm : float
        Width of the figure.
    """
    boxed = [_Boxed.of(case) for case in shown]
    lines = max(case.heading.count("\n") for case in shown) + 1
    heading_mm, legend_mm = 3.4 * lines + 0.6, 6.0
    around_mm = 3 * _GAP_MM + heading_mm + legend_mm
    column_mm, scales, heights = _scaled(boxed, width_mm, PAGE_MM - around_mm)
    total_mm = heights.sum() + around_mm
    with look():
        figure = new_figure(width_mm, total_mm, arranged=False)
        left = (width_mm - len(boxed) * column_mm - (len(boxed) - 1) * _GAP_MM) / 2
        for case, heading, scale in zip(boxed, (c.heading for c in shown), scales, strict=True):
            figure.text(
                (left + column_mm / 2) / width_mm,
                1 - 0.6 / total_mm,
                heading,
                ha="center",
                va="top",
            )
            bottom = total_mm - heading_mm
            for row, height in enumerate(heights):
                bottom -= height
                axes = slices.axes_at(figure, (left, bottom, column_mm, height))
                room = (height / scale, column_mm / scale)
                if row < 3:
                    case.draw_view(axes, row, room, window_hu)
                else:
                    case.draw_surfaces(axes, room, max(_PIXEL_MM / scale, _FINEST_PIXEL_MM))
                if row == 0:
                    slices.draw_scale(axes)
                bottom -= _GAP_MM
            left += column_mm + _GAP_MM
        keys = [slices.Key("reference", GREEN, REFERENCE_OPACITY), slices.Key("prediction", YELLOW)]
        if any(case.trachea is not None for case in shown):
            keys.append(slices.Key("trachea", BLUE, 1.0))
        slices.write_keys(figure, keys)
    return figure


def _scaled(
    boxed: Sequence[_Boxed], width_mm: float, most_mm: float
) -> tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the columns' width, their scales and the rows' heights, at most so many mm in all."""
    rooms = [case.room_mm for case in boxed]
    column_mm = (width_mm - _GAP_MM * (len(boxed) - 1)) / max(len(boxed), 3)
    scales = np.array([column_mm / max(across for _, across in room) for room in rooms])
    heights = (scales[:, np.newaxis] * np.array(rooms)[:, :, 0]).max(axis=0)
    shrinking = min(1.0, most_mm / heights.sum())
    return shrinking * column_mm, shrinking * scales, shrinking * heights


@dataclass(frozen=True, eq=False)
class _Boxed:
    """A case turned, and cut to what is shown of it."""

    hu: npt.NDArray
    masks: dict[str, npt.NDArray]
    at: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, case: ShownCase) -> _Boxed:
        grid = case.ct.grid
        spacing = turned_grid(grid).spacing
        masks = {
            name: turned(mask, grid) != 0
            for name, mask in (
                ("trachea", case.trachea),
                ("reference", case.reference),
                ("prediction", case.prediction),
            )
            if mask is not None
        }
        main = case.reference if case.reference.any() else case.prediction
        world = slices.center_of_largest(main, grid, instances=case.instances)
        through = slices.slices_through(grid, world)
        box = _widened(sum(masks.values(), np.zeros_like(masks["reference"])), spacing)
        at = tuple(k - side.start for k, side in zip(through, box, strict=True))
        cut = {name: mask[box] for name, mask in masks.items()}
        return cls(turned(case.ct.array, grid)[box], cut, at, spacing)  # type: ignore[arg-type]

    @property
    def extent_mm(self) -> npt.NDArray[np.float64]:
        """Size along the turned axes."""
        return np.array(self.hu.shape) * np.array(self.spacing)

    @property
    def room_mm(self) -> list[tuple[float, float]]:
        """Height and width of the three views and of the surfaces."""
        down, back, left = self.extent_mm.tolist()
        across, _ = projected(self._corners_mm(), _TURN_DEGREES)
        return [(back, left), (down, left), (down, back), (down, float(np.ptp(across)))]

    def _corners_mm(self) -> npt.NDArray[np.float64]:
        """Return the corners of the box of all masks, without the margin."""
        found = bounding_box(sum(self.masks.values(), np.zeros(self.hu.shape, bool)))
        box = found or Box.whole(self.hu.shape)
        ends = [(side.start * s, side.stop * s) for side, s in zip(box, self.spacing, strict=True)]
        return np.array([[z, y, x] for z in ends[0] for y in ends[1] for x in ends[2]])

    def draw_view(
        self, axes: Axes, axis: int, room_mm: tuple[float, float], window_hu: tuple[float, float]
    ) -> None:
        """Draw one of the three views."""
        part = {name: mask.take(self.at[axis], axis) for name, mask in self.masks.items()}
        gray = gray_levels(self.hu.take(self.at[axis], axis), window_hu)
        picture = np.repeat(gray[..., np.newaxis], 3, axis=-1)
        if "trachea" in part:
            picture = slices.tinted(picture, part["trachea"], BLUE, 1.0)  # as its surface
        picture = slices.tinted(picture, part["reference"], GREEN, REFERENCE_OPACITY)
        slices.show_picture(axes, picture, self.room_mm[axis], room_mm)
        down, across = (s for a, s in enumerate(self.spacing) if a != axis)
        for name, color in (("reference", GREEN), ("prediction", YELLOW)):
            if part[name].any():
                slices.outline(axes, part[name], (down, across), color)
        slices.write_sides(axes, slices.SIDES_OF_VIEWS[axis])

    def draw_surfaces(self, axes: Axes, room_mm: tuple[float, float], pixel_mm: float) -> None:
        """Draw the surfaces, which fill a panel."""
        corners = self._corners_mm()
        across, _ = projected(corners, _TURN_DEGREES)
        middle = (corners[:, 0].mean(), (across.min() + across.max()) / 2)
        down, aside = (at - room / 2 for at, room in zip(middle, room_mm, strict=True))
        looks = {"trachea": (BLUE, 1.0), "reference": (GREEN, 1.0), "prediction": (YELLOW, 0.65)}
        surfaces = [(surface_of(m, self.spacing), *looks[n]) for n, m in self.masks.items()]
        picture = surface_picture(surfaces, (down, aside), room_mm, pixel_mm, _TURN_DEGREES)
        axes.set_facecolor("white")
        slices.show_picture(axes, picture, room_mm, room_mm)


def _widened(mask: npt.NDArray, spacing: tuple[float, float, float]) -> Box:
    """Return the box of a mask and the margin around it, or of all if the mask is empty."""
    box = bounding_box(mask) or Box.whole(mask.shape)
    return box.grown([round(MARGIN_MM / step) for step in spacing], mask.shape)
