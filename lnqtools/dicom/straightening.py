"""Slices that are tilted or unevenly spaced, interpolated onto a grid at right angles."""

from __future__ import annotations

from itertools import product

import numpy as np

from lnqtools.images.grid import EXACT_DIGITS

AIR_HU = -1024.0
"""What lies beyond the slices."""


def resampled(
    array: np.ndarray, affine: np.ndarray, depths_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return slices on a grid at right angles, interpolated linearly.

    Unevenly spaced ones get their least distance. Where they are tilted, the third axis is that
    along which they were taken, the first stays, and the second is at right angles to both.

    Parameters
    ----------
    array : (n, rows, columns) ndarray
        HU.
    affine : (4, 4) ndarray
        From indices (x, y, z) to the world, mm; its axes may be sheared.
    depths_mm : (n,) ndarray
        Where the slices lie along their normal, rising.

    Returns
    -------
    (z, y, x) ndarray
        Of the same type.
    (4, 4) ndarray
    """
    gaps = np.diff(depths_mm)
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    if np.linalg.norm(np.cross(normal, affine[:3, 2])) < 1e-3 * np.linalg.norm(affine[:3, 2]):
        return _evened(array, affine, depths_mm, float(np.round(gaps.min(), EXACT_DIGITS)))
    return _sheared(array, affine)


def _evened(
    array: np.ndarray, affine: np.ndarray, depths_mm: np.ndarray, step_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate between slices."""
    length = depths_mm[-1] - depths_mm[0]
    wanted = depths_mm[0] + step_mm * np.arange(int(np.floor(length / step_mm + 1e-3)) + 1)
    at = np.interp(wanted, depths_mm, np.arange(len(depths_mm)))
    below = np.minimum(at.astype(int), len(depths_mm) - 2)
    share = (at - below)[:, None, None]
    mixed = array[below] * (1 - share) + array[below + 1] * share
    even = affine.copy()
    direction = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    even[:3, 2] = direction * step_mm
    return _as_type(mixed, array.dtype), even


def _sheared(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate onto axes at right angles that hold all of a sheared stack."""
    from scipy import ndimage

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    x, _, z = (affine[:3, :3] / spacing).T
    x = x - (x @ z) * z
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    y *= np.sign(y @ affine[:3, 1])
    straight = np.eye(4)
    straight[:3, :3] = np.stack([x, y, z], axis=1) * spacing
    straight[:3, 3] = affine[:3, 3]
    size = np.array(array.shape[::-1])
    corners = np.array(list(product(*((0, n - 1) for n in size))))
    into = np.linalg.inv(straight) @ affine
    ends = corners @ into[:3, :3].T + into[:3, 3]
    first = np.floor(ends.min(axis=0) + 1e-6)
    shape = (np.ceil(ends.max(axis=0) - 1e-6) - first).astype(int) + 1
    straight[:3, 3] = (straight @ [*first, 1])[:3]
    back = np.linalg.inv(affine) @ straight
    turned = ndimage.affine_transform(
        array.astype(np.float32),
        back[2::-1, 2::-1],
        back[2::-1, 3],
        output_shape=tuple(shape[::-1]),
        order=1,
        mode="constant",
        cval=AIR_HU,
    )
    return _as_type(turned, array.dtype), straight


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.rint(values).astype(dtype) if dtype.kind in "iu" else values.astype(dtype)
