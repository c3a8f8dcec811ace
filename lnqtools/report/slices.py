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

    def stored_slices(self) -> tuple[int, int]:
        """Return the stored number of the first slice, from 0, and the step to the next."""
        axis = self.grid.anatomical_axes()[0]
        numbers = np.arange(self.grid.shape[axis])
        numbers = np.expand_dims(numbers, [a for a in range(3) if a != axis])
        first, *others = self.of(np.broadcast_to(numbers, self.grid.shape))[:, 0, 0].tolist()
        return first, others[0] - first if others else 1


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
        Shown as black and white, see `lnqtools.images.views.gray_levels`.
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
    each = max(1, min(MAX_STRIP_PIXELS // pixels, MAX_STRIP_ROWS // (rows + filling)))
    pictures = []
    for first in range(0, depth, each):
        gray = gray_levels(hu[first : first + each], window_hu)
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


@dataclass(frozen=True)
class Spot:
    """Where to look for a component.

    Attributes
    ----------
    slice : int
        The one with most of its voxels; of several the first.
    box : tuple of int
        First row and column that it takes there, and one past the last ones.
    mean_hu : float
        Of all its voxels.
    """

    slice: int
    box: tuple[int, int, int, int]
    mean_hu: float


def find_spots(numbers: npt.NDArray, count: int, hu: npt.NDArray) -> list[Spot]:
    """Find where each component is seen best.

    Parameters
    ----------
    numbers : (z, y, x) ndarray of unsigned int
        1 to ``count``, each there at least once; 0 elsewhere.
    count : int
    hu : (z, y, x) ndarray
        The CT.

    Returns
    -------
    list of Spot
        That of component k is at k - 1.
    """
    z, y, x = np.nonzero(numbers)
    component = numbers[z, y, x].astype(np.int64) - 1
    depth = numbers.shape[0]
    sizes = np.bincount(component * depth + z, minlength=count * depth).reshape(count, depth)
    fullest = sizes.argmax(axis=1)
    means = np.bincount(component, hu[z, y, x], minlength=count) / sizes.sum(axis=1)
    seen = z == fullest[component]
    component, places = component[seen], np.stack([y[seen], x[seen]], axis=1)
    low = np.full((count, 2), np.iinfo(np.int64).max)
    high = np.zeros((count, 2), np.int64)
    np.minimum.at(low, component, places)
    np.maximum.at(high, component, places + 1)
    boxes = np.concatenate([low, high], axis=1).tolist()
    return [Spot(int(fullest[k]), tuple(boxes[k]), float(means[k])) for k in range(count)]
