"""Where components lie in the chest: the side of the midline, and how far from the carina.

Both are measured in the world, so how a file stores its axes changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from lnqtools.anatomy.region import between_lungs
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, turn_to

SIDE_COLUMNS = ("midline_side", "midline_mm")
CARINA_COLUMNS = ("carina_mm",)
LEAST_BRONCHUS_MM2 = 20.0
"""Less is no bronchus, but a voxel beside the trachea. A main bronchus has some 100 mm²."""
ON_MIDLINE_MM = 1e-6


class NoCarinaError(LnqError):
    """A trachea does not part into bronchi."""


@dataclass(frozen=True)
class Midline:
    """The sagittal plane between the lungs.

    Parameters
    ----------
    grid : Grid
        Of the lungs, in LPS order.
    column : float
        Where the plane cuts the last axis: the index of its place.
    """

    grid: Grid
    column: float

    def left_mm(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return how far to the patient's left of it points (n, 3) of the world lie, in mm."""
        return (self.grid.index(points)[:, 2] - self.column) * self.grid.spacing[2]


def find_midline(lungs: npt.NDArray, grid: Grid) -> Midline:
    """Find the sagittal plane between the lungs.

    It is the plane at which `lnqtools.anatomy.region.lung_hull` parts left and right: through the
    voxel centers of the sagittal layer with the fewest lung voxels in the middle half of the lungs'
    extent, of several that nearest to its middle. So a lung that collapsed in part moves it little.

    Parameters
    ----------
    lungs : (z, y, x) ndarray
        Lung is whatever is not zero.
    grid : Grid

    Raises
    ------
    NoLungsError
        If the mask is empty.
    OneLungError
        If it does not hold two lungs.
    LnqError
        If it is not known how the axes lie.
    """
    way = turn_to(grid, "LPS")
    return Midline(way.turned_grid(grid), float(between_lungs(way.turned(lungs))))


def find_carina(trachea: npt.NDArray, grid: Grid) -> npt.NDArray[np.float64]:
    """Find the carina, where the trachea parts into the main bronchi.

    Of the largest piece of the mask (26-connected), from the head downward, the first axial slice
    in which it is in two parts or more (8-connected in the slice) of at least
    `LEAST_BRONCHUS_MM2`. There it is half way between the two voxels, one of each of the two
    largest parts, that are nearest to each other; of several such pairs their mean.

    Parameters
    ----------
    trachea : (z, y, x) ndarray
        Not zero in the trachea and the beginnings of its bronchi, as TotalSegmentator's class is.
    grid : Grid

    Returns
    -------
    (3,) ndarray of float
        In the world, mm (x, y, z).

    Raises
    ------
    NoCarinaError
        If there is no such slice.
    LnqError
        If it is not known how the axes lie.
    """
    way = turn_to(grid, "LPS")
    turned = way.turned_grid(grid)
    mask = np.ascontiguousarray(way.turned(trachea) != 0).view(np.uint8)
    largest = cc3d.largest_k(mask, k=1, connectivity=26) > 0
    least = LEAST_BRONCHUS_MM2 / (turned.spacing[1] * turned.spacing[2])
    for z in range(len(largest) - 1, -1, -1):
        parts = [part for part in _parts_of(largest[z]) if len(part) >= least]
        if len(parts) > 1:
            y, x = _between(parts[0], parts[1], turned.spacing[1:])
            return np.asarray(turned.world((z, y, x)))
    raise NoCarinaError("its trachea does not part into two bronchi: no carina")


def _parts_of(layer: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Return the voxels (n, 2) of each part of a slice, the largest part first."""
    if not layer.any():
        return []
    labels, count = cc3d.connected_components(
        np.ascontiguousarray(layer), connectivity=8, return_N=True
    )
    parts = [np.argwhere(labels == number + 1) for number in range(count)]
    return sorted(parts, key=len, reverse=True)


def _between(
    one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], spacing: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """Return the mean of the middles of all nearest pairs of voxels."""
    apart = np.linalg.norm((one[:, np.newaxis] - other) * spacing, axis=-1)
    first, second = np.nonzero(apart <= apart.min() * (1 + 1e-9))
    return np.asarray((one[first] + other[second]).mean(axis=0) / 2)


def side_columns(centroids: npt.NDArray[np.float64], midline: Midline | None) -> list[dict]:
    """Say on which side of the midline points of the world lie.

    Parameters
    ----------
    centroids : (n, 3) ndarray
        World positions (x, y, z) in mm.
    midline : Midline or None
        None if it is not known: the columns are None.

    Returns
    -------
    list of dict
        ``midline_side``, 'left' or 'right' of the patient, 'midline' if exactly on it, and
        ``midline_mm``, the distance to the plane, negative on the right.
    """
    if midline is None:
        return [dict.fromkeys(SIDE_COLUMNS) for _ in centroids]
    return [
        {"midline_side": _side_of(left), "midline_mm": left}
        for left in midline.left_mm(centroids).tolist()
    ]


def _side_of(left_mm: float) -> str:
    if abs(left_mm) <= ON_MIDLINE_MM:
        return "midline"
    return "left" if left_mm > 0 else "right"


def carina_columns(
    centroids: npt.NDArray[np.float64], carina: npt.NDArray[np.float64] | None
) -> list[dict[str, Any]]:
    """Return the distance of points of the world (n, 3) to the carina, ``carina_mm``, or None."""
    if carina is None:
        return [dict.fromkeys(CARINA_COLUMNS) for _ in centroids]
    distances = np.linalg.norm(centroids - carina, axis=1)
    return [{"carina_mm": distance} for distance in distances.tolist()]
