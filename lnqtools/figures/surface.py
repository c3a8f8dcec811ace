"""Surfaces of masks, drawn as shaded triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lnqtools.figures.slices import rgb
from lnqtools.grid import bounding_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
_PADDING = 3
"""Voxels around a mask, so that its surface is closed."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles around a mask.

    Attributes
    ----------
    corners : (n, 3, 3) ndarray
        Of each triangle, in mm along the turned axes: to the feet, to the back, to the left.
    normals : (n, 3) ndarray
        Where each triangle looks, to the outside, as far as it is shaded: of length 1, or 0.
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
        Of the turned axes, mm.

    Returns
    -------
    Surface
        The centre of each voxel, or of the voxels that were taken together, lies inside it.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates
    from skimage.measure import block_reduce, marching_cubes

    box = bounding_box(mask)
    if box is None:
        return Surface(np.zeros((0, 3, 3)), np.zeros((0, 3)))
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
    normals = np.stack(slopes, axis=-1)[triangles].sum(axis=1)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)

    first = [side.start * step for side, step in zip(box, spacing, strict=True)]
    offset = (np.array(factors) - 1) / 2 * np.array(spacing) + first
    corners = ((places - _PADDING) * steps + offset)[triangles]
    return Surface(corners, normals / np.where(lengths > 0, lengths, 1))


def draw_surfaces(
    axes: Axes, surfaces: Sequence[tuple[Surface, str, float]], turn_degrees: float = 25.0
) -> None:
    """Draw surfaces as somebody sees them who looks at the patient from the front.

    Parameters
    ----------
    axes : Axes
        With limits in mm; the patient's right is on the left, the head is on top.
    surfaces : sequence of (Surface, str, float)
        Each with its colour and opacity.
    turn_degrees : float
        How far the patient's left is turned to the front.
    """
    from matplotlib.collections import PolyCollection

    corners = np.concatenate([surface.corners for surface, _, _ in surfaces])
    normals = np.concatenate([surface.normals for surface, _, _ in surfaces])
    faces = np.concatenate(
        [np.tile([*rgb(c) / 255, a], (len(s.corners), 1)) for s, c, a in surfaces]
    )
    faces[:, :3] *= _brightness(normals)[:, np.newaxis]
    _, away = projected(normals, turn_degrees)
    across, depth = projected(corners, turn_degrees)
    distances = depth.mean(axis=1)
    seen = np.flatnonzero(away <= 0)  # what looks away is hidden by the rest of its surface
    farthest_first = seen[np.argsort(-distances[seen], kind="stable")]
    axes.add_collection(
        PolyCollection(
            list(np.stack([across, corners[..., 0]], axis=-1)[farthest_first]),
            facecolors=faces[farthest_first],
            edgecolors="none",
            antialiaseds=False,  # else the background shines through between the triangles
            rasterized=True,
        ),
        autolim=False,
    )


def projected(
    places: npt.NDArray[np.float64], turn_degrees: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return where turned places (..., 3) stand from left to right, and how far behind, in mm."""
    turn = np.deg2rad(turn_degrees)
    back, left = places[..., 1], places[..., 2]
    return np.cos(turn) * left + np.sin(turn) * back, np.cos(turn) * back - np.sin(turn) * left


def _brightness(normals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how bright triangles are, by their angle to the light: from `_DARKEST` to 1."""
    return _DARKEST + (1 - _DARKEST) * np.clip(normals @ _LIGHT, 0, 1)
