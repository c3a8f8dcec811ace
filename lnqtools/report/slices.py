"""What the page shows of a case: which part, as gray pictures, marks and places to jump to.

Everything here is turned as `lnqtools.images.views` turns it, so that each case looks the same
however it is stored: slices run from head to feet, rows from front to back, columns from the
patient's right to the left.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.anatomy.lungs import lungs_from_hu
from lnqtools.components.labeling import Components
from lnqtools.errors import LnqError, MissingExtraError
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid
from lnqtools.images.views import gray_levels, turned, turned_grid
from lnqtools.report.runs import encode_slices

MARGIN_MM = 10.0
"""Margin around the lungs and all that is drawn."""

MAX_STRIP_PIXELS = 2**21
MAX_STRIP_ROWS = 16_000
"""Browsers draw no picture of more than 16384 rows."""
JPEG_BLOCK = 8


def shown_box(hu: npt.NDArray, grid: Grid, drawn: Sequence[Components]) -> Box:
    """Return the part of a case to show: the lungs and all that is drawn, with a margin.

    Parameters
    ----------
    hu : (z, y, x) ndarray
        CT numbers.
    grid : Grid
        Of the CT and of what is drawn.
    drawn : sequence of Components
        Of masks; all of them are shown.

    Returns
    -------
    Box
        In stored voxels. Of a CT in which no lungs are found it is the whole.
    """
    try:
        lungs = lungs_from_hu(hu, grid).box
    except LnqError:
        return Box.whole(hu.shape)
    boxes = [
        Box.of(start, stop)
        for components in drawn
        for start, stop in np.moveaxis(components.boxes, 2, 1)
    ]
    return Box.joined([lungs, *boxes]).widened((MARGIN_MM,) * 3, grid.spacing, grid.shape)


@dataclass(frozen=True)
class Part:
    """A part of a grid, and arrays of that grid as the page shows them.

    Parameters
    ----------
    grid : Grid
        Grid of whole arrays.
    box : Box
        The part, in stored voxels.
    """

    grid: Grid
    box: Box

    def of(self, array: npt.NDArray) -> npt.NDArray:
        """Return a whole array's part, turned (a view)."""
        return turned(array[self.box], self.grid)

    def numbers(self, components: Components) -> npt.NDArray[np.uint32]:
        """Return the number of the component that each voxel of the part is in, 0 without one.

        As `of` their map, of which only the part is made; all of them must lie in it.
        """
        numbers = np.zeros([side.stop - side.start for side in self.box], np.uint32)
        places = np.unravel_index(components.voxels, components.shape)
        inside = [at - side.start for at, side in zip(places, self.box, strict=True)]
        numbers[tuple(inside)] = components.labels
        return turned(numbers, self.grid)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns."""
        return turned_grid(self.grid).spacing

    def stored_slices(self) -> list[tuple[int, int]]:
        """Return along each axis the stored number of the first slice, and the step to the next."""
        return [self._stored_along(axis) for axis in range(3)]

    def _stored_along(self, axis: int) -> tuple[int, int]:
        stored = self.grid.anatomical_axes()[axis]
        numbers = np.arange(self.grid.shape[stored])
        numbers = np.expand_dims(numbers, [a for a in range(3) if a != stored])
        shown = self.of(np.broadcast_to(numbers, self.grid.shape))
        first, *others = np.moveaxis(shown, axis, 0)[:, 0, 0].tolist()
        return first, others[0] - first if others else 1


AIR_HU, DENSEST_HU = -1024.0, 2000.0
SCALE_GRAYS = (0, 36, 219, 255)


def gray_scale(window_hu: tuple[float, float]) -> tuple[list[float], list[int]]:
    """Return the HU, and their grays, between which the grays of the page's pictures are linear.

    The page can show any window of a picture. So that the report's own keeps its fine steps, it
    has most of the grays, with a quarter of its width on either side: of 400 HU every 3.3 HU have
    one. The others are for air, below, and for bone, above.
    """
    low, high = window_hu
    beside = (high - low) / 4
    inner = (low - beside, high + beside)
    return [min(AIR_HU, inner[0] - 1), *inner, max(DENSEST_HU, inner[1] + 1)], list(SCALE_GRAYS)


@dataclass(frozen=True)
class Strips:
    """Slices of a CT below each other in pictures.

    Attributes
    ----------
    slices_each : int
        Slices in each picture, but perhaps the last.
    rows_each : int
        Rows that each slice takes in a picture, a multiple of eight: a JPEG's blocks hold rows
        of one slice only.
    pictures : list of bytes
        JPEG files.
    """

    slices_each: int
    rows_each: int
    pictures: list[bytes]


def gray_strips(hu: npt.NDArray, window_hu: tuple[float, float], quality: int) -> Strips:
    """Draw slices of a CT.

    Parameters
    ----------
    hu : (z, y, x) ndarray
        Turned.
    window_hu : (low, high)
        Shown first; `gray_scale` says how HU become grays.
    quality : int
        Of the JPEG files, 1 to 95.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    LnqError
        If a slice is too large for a picture.
    """
    image = require_pillow()
    depth, rows, columns = hu.shape
    filling = -rows % JPEG_BLOCK
    if max(rows + filling, columns) > MAX_STRIP_ROWS:
        raise LnqError(f"has slices of {columns} × {rows} voxels, too many for a picture")
    pixels = (rows + filling) * columns
    scale = gray_scale(window_hu)
    each = max(1, min(MAX_STRIP_PIXELS // pixels, MAX_STRIP_ROWS // (rows + filling)))
    pictures = []
    for first in range(0, depth, each):
        gray = np.rint(np.interp(hu[first : first + each], *scale)).astype(np.uint8)
        gray = np.pad(gray, ((0, 0), (0, filling), (0, 0)), mode="edge")
        file = io.BytesIO()
        image.fromarray(gray.reshape(-1, columns)).save(file, "JPEG", quality=quality)
        pictures.append(file.getvalue())
    return Strips(each, rows + filling, pictures)


def require_pillow() -> Any:
    """Return Pillow's module of images, or raise MissingExtraError."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("report", "PIL") from None
    return Image


@dataclass(frozen=True)
class Marks:
    """Two images of numbers as one: what is drawn over the CT.

    Attributes
    ----------
    kinds : list of (int, int)
        What each mark stands for, a number of the first image and one of the second; mark 0 is
        (0, 0).
    slices : list of str
        The marks of each slice, see `lnqtools.report.runs`.
    """

    kinds: list[tuple[int, int]]
    slices: list[str]


def mark(first: npt.NDArray, second: npt.NDArray) -> Marks:
    """Put two (z, y, x) images of whole numbers from 0 on into one."""
    marked = (first != 0) | (second != 0)
    factor = int(second.max(initial=0)) + 1
    pairs = first[marked].astype(np.int64) * factor + second[marked]
    kinds, place = np.unique(pairs, return_inverse=True)
    numbers = np.zeros(first.shape, np.uint32)
    numbers[marked] = place + 1
    named = [(0, 0), *((int(kind // factor), int(kind % factor)) for kind in kinds)]
    return Marks(named, encode_slices(numbers, len(named)))


COLORS = {"both": "#00b583", "missed": "#56b4e9", "false": "#f0702a"}
"""Of agreement, as in report.css; a node of a single mask has that of both."""
THUMBNAIL_PIXELS = (128, 96)
"""Width and height: those of the page twice, for fine screens."""
THUMBNAIL_MM = 100.0
"""Height of what one shows, at least."""
THUMBNAIL_OPACITY = 0.6


def thumbnail(
    hu: npt.NDArray,
    first: npt.NDArray,
    second: npt.NDArray,
    spacing: tuple[float, float],
    window_hu: tuple[float, float],
) -> bytes:
    """Draw an axial slice small, with two masks in the colors of their agreement.

    Parameters
    ----------
    hu, first, second : (rows, columns) ndarray
        Both masks may be one.
    spacing : (float, float)
        Distance of rows and columns.
    window_hu : (low, high)

    Returns
    -------
    bytes
        A JPEG file.
    """
    image = require_pillow()
    picture = np.repeat(gray_levels(hu, window_hu)[..., np.newaxis], 3, axis=-1).astype(float)
    one, other = first != 0, second != 0
    for name, where in (("both", one & other), ("missed", one & ~other), ("false", other & ~one)):
        color = [int(COLORS[name][k : k + 2], 16) for k in (1, 3, 5)]
        picture[where] += THUMBNAIL_OPACITY * (color - picture[where])
    box = _seen_small(one | other, spacing)
    whole = image.fromarray(np.rint(picture).astype(np.uint8))
    file = io.BytesIO()
    whole.transform(THUMBNAIL_PIXELS, image.Transform.EXTENT, box, image.Resampling.BILINEAR).save(
        file, "JPEG", quality=80
    )
    return file.getvalue()


def _seen_small(
    marked: npt.NDArray[np.bool_], spacing: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of what a thumbnail shows: what is marked, and around."""
    places = np.argwhere(marked) if marked.any() else (np.array([marked.shape]) - 1) / 2
    steps = np.array(spacing)
    low, high = places.min(axis=0) * steps, (places.max(axis=0) + 1) * steps
    width, height = THUMBNAIL_PIXELS
    tall = max(THUMBNAIL_MM, *(high - low) * (1.2, 1.2 * height / width))
    half = np.array([tall, tall * width / height]) / 2
    (top, left), (bottom, right) = (low + high) / 2 / steps + np.array([-half, half]) / steps
    return float(left), float(top), float(right), float(bottom)


@dataclass(frozen=True)
class Spot:
    """Where to look for a component.

    Attributes
    ----------
    at : tuple of int
        Along each axis the slice with most of its voxels; of several the first.
    box : (tuple of int, tuple of int)
        The first slice that it takes along each axis, and one past the last.
    """

    at: tuple[int, ...]
    box: tuple[tuple[int, ...], tuple[int, ...]]


def find_spots(numbers: npt.NDArray, count: int) -> list[Spot]:
    """Find where each component is seen best.

    Parameters
    ----------
    numbers : (z, y, x) ndarray of unsigned int
        1 to ``count``, each there at least once; 0 elsewhere.
    count : int

    Returns
    -------
    list of Spot
        That of component k is at k - 1.
    """
    places = np.nonzero(numbers)
    component = numbers[places].astype(np.int64) - 1
    at, low, high = np.zeros((3, count, 3), np.int64)
    for axis, (along, length) in enumerate(zip(places, numbers.shape, strict=True)):
        sizes = np.bincount(component * length + along, minlength=count * length)
        sizes = sizes.reshape(count, length)
        at[:, axis] = sizes.argmax(axis=1)
        low[:, axis] = (sizes > 0).argmax(axis=1)
        high[:, axis] = length - (sizes > 0)[:, ::-1].argmax(axis=1)
    return [
        Spot(tuple(at[k].tolist()), (tuple(low[k].tolist()), tuple(high[k].tolist())))
        for k in range(count)
    ]
