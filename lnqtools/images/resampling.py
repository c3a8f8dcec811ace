"""Interpolation of images onto other grids.

Where the axes of two grids run the same way, an image is interpolated along one axis after the
other, which costs a fraction of weighing all neighbors of each voxel at once. Between grids that
are turned against each other, and for label-gaussian, SimpleITK does it. Both follow ITK's rules:
a voxel whose center lies beyond the outer faces of the image's voxels takes the fill value;
between those faces and the outermost centers a linear interpolation takes the value at the edge,
and a spline goes on as if mirrored.

Both grids are turned to one order of axes first, and the result is turned back: so how images are
stored changes neither the way taken nor which of two equally near voxels is the nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lnqtools.choices import INTERPOLATIONS
from lnqtools.errors import LnqError, require_choice
from lnqtools.images.grid import (
    EVEN,
    EXACT_DIGITS,
    Grid,
    beside,
    fill_value,
    lattice_map,
    outside,
    overlap,
    place,
    require_grid_memory,
    turn_to,
)

KEEP_VALUES = ("nearest", "label-gaussian")
"""Interpolations that make no value that the image does not have."""

PARALLEL = 1e-3
"""Largest drift, in voxels, of an axis that still counts as running along another."""
HALF_WAY = 1e-3
"""Positions this close to half way between two voxels are half way, but for rounding in headers."""


def resample(
    array: np.ndarray, source: Grid, target: Grid, interpolation: str, fill: float
) -> np.ndarray:
    """Interpolate an array onto another grid.

    Integer arrays stay integer: interpolated values are rounded to nearest and clipped to the
    range of the type.

    Parameters
    ----------
    array : (z, y, x) ndarray
    source, target : Grid
    interpolation : str
        ``nearest`` (half way between two voxels the one nearer to the head, the back or the
        left), ``linear``, ``bspline`` (cubic) or ``label-gaussian``.
    fill : float
        Value outside the source.

    Returns
    -------
    (z, y, x) ndarray
        Of the array's type.

    Raises
    ------
    LnqError
        If the interpolation is unknown, the array's type cannot hold the fill value, the target is
        larger than this machine's memory, memory runs out, or B-splines are asked for an axis of
        two voxels between grids that are turned against each other.
    """
    require_choice("interpolation", interpolation, INTERPOLATIONS)
    fill = float(fill_value(fill, array.dtype))
    source, target = _in_one_world(source, target)
    way, asked = turn_to(source, "LPS"), target
    array, source = way.turned(array), way.turned_grid(source)
    target = turn_to(target, "LPS").turned_grid(target)
    real = 0 if interpolation in KEEP_VALUES else np.dtype(_exact_type(array.dtype)).itemsize
    require_grid_memory(target, real + array.dtype.itemsize)
    positions = _positions_along_axes(source, target)
    try:
        if positions is None or interpolation == "label-gaussian":
            result = _resample_with_itk(array, source, target, interpolation, fill)
        else:
            result = _resample_along_axes(array, positions, interpolation, fill)
    except (MemoryError, RuntimeError):  # RuntimeError is SimpleITK's
        size = " × ".join(map(str, reversed(target.shape)))
        raise LnqError(f"cannot be resampled to {size} voxels: memory ran out") from None
    if array.dtype.kind in "iu" and result.dtype.kind == "f":
        limits = np.iinfo(array.dtype)
        np.rint(result, out=result)
        np.clip(result, limits.min, limits.max, out=result)
    return place(result.astype(array.dtype, copy=False), target, asked, fill)


def _in_one_world(source: Grid, target: Grid) -> tuple[Grid, Grid]:
    """Return both grids as if it were known where they lie, which matters to neither."""
    return beside(source, target).in_its_own_world(), target.in_its_own_world()


def _exact_type(dtype: np.dtype) -> type[np.floating]:
    """Return the least type of real numbers that holds all values of a type."""
    return np.float32 if np.result_type(dtype, np.float32) == np.float32 else np.float64


# Axis by axis


def _positions_along_axes(source: Grid, target: Grid) -> list[np.ndarray] | None:
    """Return for each axis where the target's voxels lie, in voxels of the source.

    None if the axes of the grids do not run along each other.
    """
    step = np.linalg.inv(source.matrix) @ target.matrix  # source voxels per target voxel
    last = np.array(target.shape) - 1
    if (np.abs(step - np.diag(np.diag(step))) @ last).max() > PARALLEL:
        return None
    first = source.index(np.array(target.origin))
    return [
        start + scale * np.arange(length)
        for start, scale, length in zip(first, np.diag(step), target.shape, strict=True)
    ]


class _Weights(NamedTuple):
    """Which voxels along an axis make each new voxel, and with what weight."""

    taps: np.ndarray  # (k, n) int
    weights: np.ndarray  # (k, n)


def _resample_along_axes(
    array: np.ndarray, positions: list[np.ndarray], interpolation: str, fill: float
) -> np.ndarray:
    """Interpolate along each axis, first along the one that leaves the fewest voxels."""
    result = array
    order = sorted(range(3), key=lambda axis: len(positions[axis]) / array.shape[axis])
    for axis in order:
        length, at = array.shape[axis], positions[axis]
        whole = np.floor(at + 0.5 + HALF_WAY)
        if interpolation == "nearest" or np.abs(at - whole).max() < EVEN:
            result = result.take(np.clip(whole.astype(np.intp), 0, length - 1), axis)
        elif interpolation == "linear":
            result = _weighted(result, axis, _linear(at, length))
        else:
            result = _weighted(_spline_coefficients(result, axis), axis, _cubic(at, length))
    for axis in range(3):
        at, length = positions[axis], array.shape[axis]
        beyond = (at < -0.5 - HALF_WAY) | (at >= length - 0.5 + HALF_WAY)
        if beyond.any():
            result[(slice(None),) * axis + (beyond,)] = fill
    return result


def _linear(at: np.ndarray, length: int) -> _Weights:
    at = np.clip(at, 0, length - 1)
    below = np.minimum(at.astype(np.intp), max(length - 2, 0))
    above = np.minimum(below + 1, length - 1)
    return _Weights(np.stack([below, above]), np.stack([below + 1 - at, at - below]))


def _cubic(at: np.ndarray, length: int) -> _Weights:
    """Return the weights of the cubic B-spline's four coefficients around each position."""
    below = np.floor(at)
    t = at - below
    weights = [(1 - t) ** 3, (3 * t - 6) * t**2 + 4, ((3 - 3 * t) * t + 3) * t + 1, t**3]
    taps = np.abs(np.stack([below + k for k in (-1, 0, 1, 2)]).astype(np.intp))
    around = max(2 * (length - 1), 1)  # mirrored at the outermost centers
    taps %= around
    return _Weights(np.minimum(taps, around - taps), np.stack(weights) / 6)


def _spline_coefficients(array: np.ndarray, axis: int) -> np.ndarray:
    from scipy.ndimage import spline_filter1d

    real = _exact_type(array.dtype)
    return spline_filter1d(array, 3, axis, output=real, mode="mirror")


def _weighted(array: np.ndarray, axis: int, along: _Weights) -> np.ndarray:
    """Sum voxels along an axis, each with its weight."""
    shape = [len(along.weights), 1, 1, 1]
    shape[1 + axis] = -1
    weights = along.weights.astype(_exact_type(array.dtype)).reshape(shape)
    total = array.take(along.taps[0], axis) * weights[0]
    for tap, weight in zip(along.taps[1:], weights[1:], strict=True):
        total += array.take(tap, axis) * weight
    return total


# Between grids that are turned against each other


def _resample_with_itk(
    array: np.ndarray, source: Grid, target: Grid, interpolation: str, fill: float
) -> np.ndarray:
    """Interpolate with SimpleITK; to real numbers, because it truncates whole ones."""
    import SimpleITK as sitk

    if interpolation == "bspline" and 2 in array.shape:  # ITK 5.4 reads foreign memory there
        raise LnqError("an axis of two voxels is too short for bspline; use linear")
    kind = {
        "nearest": sitk.sitkNearestNeighbor,
        "linear": sitk.sitkLinear,
        "bspline": sitk.sitkBSpline,
        "label-gaussian": sitk.sitkLabelGaussian,
    }[interpolation]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(list(reversed(source.spacing)))
    origin, direction = _seen_from(source, target)
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in reversed(target.shape)])
    filter_.SetOutputSpacing(list(reversed(target.spacing)))
    filter_.SetOutputOrigin(origin)
    filter_.SetOutputDirection(direction)
    filter_.SetInterpolator(kind)
    filter_.SetDefaultPixelValue(fill)
    if interpolation not in KEEP_VALUES:
        exact = _exact_type(array.dtype) == np.float32
        filter_.SetOutputPixelType(sitk.sitkFloat32 if exact else sitk.sitkFloat64)
    return sitk.GetArrayFromImage(filter_.Execute(image))


def _seen_from(source: Grid, target: Grid) -> tuple[list[float], list[float]]:
    """Return ITK's origin and direction of a grid where the source's axes are those of the world.

    Without the last digits, which would settle ties by the source's place.
    """
    turn = np.linalg.inv(np.array(source.direction))
    origin = turn @ (np.array(target.origin) - np.array(source.origin))
    direction = turn @ np.array(target.direction)
    return (
        np.round(origin[::-1], EXACT_DIGITS).tolist(),
        np.round(direction[::-1, ::-1], EXACT_DIGITS).ravel().tolist(),
    )


# Masks


def mask_onto(mask: np.ndarray, source: Grid, target: Grid) -> tuple[np.ndarray, int]:
    """Bring a mask onto another grid: each voxel takes the value of the nearest one.

    Where the lattices agree the voxels are copied. Voxels outside the source are 0.

    Parameters
    ----------
    mask : (z, y, x) ndarray
        Mask or label on ``source``.
    source, target : Grid

    Returns
    -------
    array : (z, y, x) ndarray
        The mask on ``target``, of the same type.
    lost : int
        Foreground voxels of the source that lie outside the target's extent.

    Raises
    ------
    LnqError
        If the two grids do not meet anywhere.
    """
    if not overlap(source, target):
        raise LnqError("the two images do not meet anywhere in the world")
    source, target = _in_one_world(source, target)
    lost = int(outside(np.nonzero(mask), source, target).sum())
    if lattice_map(source, target) is not None:
        array = place(mask, source, target, 0)
    else:
        array = resample(mask, source, target, "nearest", 0)
    return array, lost
