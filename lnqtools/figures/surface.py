"""Surfaces of masks, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from lnqtools.figures.slices import Picture, rgb
from lnqtools.images.box import bounding_box

FINEST_MM = 1.0
"""Voxels are taken together until they are about this large, or a picture would take minutes."""
SMOOTHING_MM = 1.0
SHADING_MM = 2.0
"""Standard deviations of the smoothing of the surface, and of what shades it beyond that."""
_INSIDE = 0.51
"""Every voxel of a mask is inside its surface, or small nodes would vanish by the smoothing."""
_LIGHT = np.array([-0.48, -0.8, -0.36])
"""Where the light is along the turned axes: above, before and to the right of the patient."""
_DARKEST = 0.45
_SAMPLES_PER_PIXEL = 1.2
"""Samples along an edge; from 2/√3 on every pixel of a triangle has one."""
_PADDING = 3
"""Voxels around a mask, so that its surface is closed."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles around a mask.

    Attributes
    ----------
    corners : (n, 3, 3) ndarray
        Of each triangle, in mm along the turned axes: to the feet, to the back, to the left.
    normals : (n, 3, 3) ndarray
        Where the surface looks at each corner, to the outside, as far as shading goes: of length
        1, or 0.
    """

    corners: npt.NDArray[np.float64]
    normals: npt.NDArray[np.float64]


def surface_of(mask: npt.NDArray, spacing: Sequence[float]) -> Surface:
    """Return the smoothed surface of a mask.

    Parameters
    ----------
    mask : (z, y, x) ndarray
        Turned; may be empty.
    spacing : sequence of float
        Spacing along the turned axes, mm.

    Returns
    -------
    Surface
        The center of each voxel, or of the voxels that were taken together, lies inside it.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates
    from skimage.measure import block_reduce, marching_cubes

    box = bounding_box(mask)
    if box is None:
        return Surface(np.zeros((0, 3, 3)), np.zeros((0, 3, 3)))
    factors = [max(1, int(FINEST_MM / step + 1e-6)) for step in spacing]
    coarse = block_reduce(mask[box] != 0, tuple(factors), np.max)
    steps = np.array(spacing) * factors
    padded = np.pad(coarse, _PADDING)
    smooth = gaussian_filter(padded.astype(np.float32), SMOOTHING_MM / steps)
    places, triangles, _, _ = marching_cubes(np.maximum(smooth, _INSIDE * padded), 0.5)

    smoother = gaussian_filter(smooth, SHADING_MM / steps)
    slopes = [
        -map_coordinates(slope, places.T, order=1) / step
        for slope, step in zip(np.gradient(smoother), steps, strict=True)
    ]
    normals = np.stack(slopes, axis=-1)
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals /= np.where(lengths > 0, lengths, 1)

    first = [side.start * step for side, step in zip(box, spacing, strict=True)]
    offset = (np.array(factors) - 1) / 2 * np.array(spacing) + first
    corners = ((places - _PADDING) * steps + offset)[triangles]
    return Surface(corners, normals[triangles])


def surface_picture(
    surfaces: Sequence[tuple[Surface, str, float]],
    corner_mm: tuple[float, float],
    size_mm: tuple[float, float],
    pixel_mm: float,
    turn_degrees: float,
) -> Picture:
    """Return surfaces as somebody sees them who looks at the patient from the front.

    Parameters
    ----------
    surfaces : sequence of (Surface, str, float)
        Each with its color and opacity. What lies behind the front of a surface is seen through
        it as far as it is not opaque, but for the surface itself.
    corner_mm, size_mm : (float, float)
        Where the picture begins, down along the first turned axis and across as `projected`
        gives it, and how high and wide it is.
    pixel_mm : float
        Edge of a pixel.
    turn_degrees : float
        How far the patient's left is turned to the front.

    Returns
    -------
    (rows, columns, 3) ndarray of uint8
        On white; the patient's right is on the left, the head on top.
    """
    shape = tuple(max(1, round(length / pixel_mm)) for length in size_mm)
    depths, brightness = (
        np.stack(layer)
        for layer in zip(
            *(_front(of, corner_mm, shape, pixel_mm, turn_degrees) for of, _, _ in surfaces),
            strict=True,
        )
    )
    picture = np.full((*shape, 3), 255.0)
    farthest_first = np.argsort(-depths, axis=0, kind="stable")
    for rank in range(len(surfaces)):
        for number, (_, color, opacity) in enumerate(surfaces):
            here = (farthest_first[rank] == number) & np.isfinite(depths[number])
            shaded = brightness[number][here][:, np.newaxis] * rgb(color)
            picture[here] = opacity * shaded + (1 - opacity) * picture[here]
    return np.rint(picture).astype(np.uint8)


def projected(
    places: npt.NDArray[np.float64], turn_degrees: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return where turned places (..., 3) stand from left to right, and how far behind, in mm."""
    turn = np.deg2rad(turn_degrees)
    back, left = places[..., 1], places[..., 2]
    return np.cos(turn) * left + np.sin(turn) * back, np.cos(turn) * back - np.sin(turn) * left


def _front(
    surface: Surface,
    corner_mm: tuple[float, float],
    shape: tuple[int, ...],
    pixel_mm: float,
    turn_degrees: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how far behind the nearest point of a surface is in each pixel, and how bright.

    The depth is infinite where there is no surface. Each triangle is sampled so densely that no
    pixel of it is left out.
    """
    depths, brightness = np.full(shape, np.inf), np.zeros(shape)
    if not surface.corners.size:
        return depths, brightness
    _, facing = projected(surface.normals.sum(axis=1), turn_degrees)
    seen = facing <= 0  # what looks away is hidden by the rest of the surface
    corners, normals = surface.corners[seen], surface.normals[seen]
    edges = corners - np.roll(corners, 1, axis=1)
    longest = np.linalg.norm(edges, axis=-1).max(initial=0)
    parts = int(np.ceil(_SAMPLES_PER_PIXEL * longest / pixel_mm)) + 1
    for a, b in combinations_with_replacement(range(parts + 1), 2):
        weights = np.array([a, b - a, parts - b]) / parts
        points = np.tensordot(weights, corners, (0, 1))
        across, away = projected(points, turn_degrees)
        row, column = (
            np.floor((along - begin) / pixel_mm).astype(int)
            for along, begin in zip((points[:, 0], across), corner_mm, strict=True)
        )
        inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        pixels = row[inside], column[inside]
        np.minimum.at(depths, pixels, away[inside])
        nearest = away[inside] == depths[pixels]
        light = np.clip(np.tensordot(weights, normals, (0, 1)) @ _LIGHT, 0, 1)
        shades = _DARKEST + (1 - _DARKEST) * light[inside][nearest]
        brightness[pixels[0][nearest], pixels[1][nearest]] = shades
    return depths, brightness
