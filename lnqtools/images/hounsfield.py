"""Whether an image holds CT numbers: the one check of HU, for every tool that relies on them.

A CT without its intercept, in gray levels, or normalized for a network looks like any other image;
lungs, networks and statistics then go wrong without a word. A sample of the voxels tells: in HU air
has -1000, fat -100, soft tissue 0 to 100, and only bone and metal have much more.

The check speaks only where it is sure. Crops of one tissue, padding, metal, noise, and what a
scanner's range or a window wider than `WIDEST_WINDOW_HU` left of a CT pass as HU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.images.volume import Volume, read_volume

LEAST_VOXELS = 4096
"""Fewer voxels may hold anything: such an image is taken as it is."""

SAMPLES_PER_AXIS = 48
"""At most so many of the voxels along an axis are looked at."""

SMALL = 15.0
"""Normalized values hardly exceed it; HU always do, as does unsmoothed noise of water."""

GRAY_LEVELS = 255
HIGHEST_HU = 3100
"""The highest of a scanner's 12 bits; metal has more where a scanner has 16."""

AIR_TWICE_HU = (-2300, -1500)
"""Air and lung whose intercept or slope was applied twice; in HU only padding, of few values."""

FAT_HU = -150
SOFT_TISSUE_HU = (-150, 150)
DENSE_BONE_HU = (850, 1400)
"""Soft tissue lies there too, if the intercept -1024 is missing or the slope applied twice."""

WIDEST_WINDOW_HU = 1100
LEAST_AT_AN_END, LEAST_VALUES = 20, 50
"""Voxels with exactly the highest value after clipping to a window; values, but in a drawing."""

TRACE, LITTLE, MUCH = 0.0005, 0.01, 0.1
"""Shares of the voxels: more than a single value has by chance; noticeable; a large part."""


def read_ct(path: str | Path, replace_nan: float | None = None, trust_hu: bool = False) -> Volume:
    """Read a CT that must be in HU.

    Parameters
    ----------
    path, replace_nan
        See `lnqtools.images.volume.read_volume`.
    trust_hu : bool
        Do not look at the values.

    Raises
    ------
    LnqError
        As `lnqtools.images.volume.read_volume` and `require_hu`.
    """
    volume = read_volume(path, replace_nan)
    if not trust_hu:
        require_hu(volume.array)
    return volume


def require_hu(array: npt.NDArray) -> None:
    """Raise LnqError if an image seems to hold other values than HU, see `hu_doubt`."""
    if doubt := hu_doubt(array):
        raise LnqError(f"{doubt}, or --trust-hu if they are HU")


def hu_doubt(array: npt.NDArray) -> str | None:
    """Say what an image that is not in HU looks like, and what to do about it.

    Parameters
    ----------
    array : (z, y, x) ndarray
        Finite numbers of any type. A sample of 48 voxels along each axis, or half as many at
        least, is looked at; it takes milliseconds whatever the size.

    Returns
    -------
    str or None
        None for HU as far as the sample can tell, and for less than `LEAST_VOXELS` voxels.
    """
    if array.size < LEAST_VOXELS:
        return None
    looks = _looks_like(_sample(array))
    if looks is None:
        return None
    low, high = float(array.min()), float(array.max())
    if low == high:
        return f"all its voxels are {low:g}: not a CT; give the CT"
    return f"its values lie between {low:g} and {high:g}: {looks}"


def _sample(array: npt.NDArray) -> npt.NDArray[np.float64]:
    """Return voxels of an even lattice over the whole."""
    steps = (-(-length // SAMPLES_PER_AXIS) for length in array.shape)
    return array[tuple(slice(None, None, step) for step in steps)].astype(np.float64).ravel()


def _looks_like(values: npt.NDArray[np.float64]) -> str | None:
    """Say what values are that cannot be HU, and what to do."""
    low, high = values.min(), values.max()
    if low == high:
        return "nearly all are one value; give the CT"
    if _share(values > HIGHEST_HU) > 1 - MUCH:
        return "an offset was added to all; subtract it"
    whole = not np.any(values % 1)
    if max(-low, high) <= SMALL and not (whole and low < 0):
        return "a scaled or normalized CT, or a label; give the CT in HU"
    below_fat = np.rint(values[values < FAT_HU])  # padding that was resampled is a little off
    below_fat = below_fat[~np.isin(below_fat, _most_frequent(below_fat, 2))]
    dense, soft = (_share(_within(values, of)) for of in (DENSE_BONE_HU, SOFT_TISSUE_HU))
    if dense > MUCH and below_fat.size < LITTLE / 2 * values.size:
        return "the intercept of -1024 is missing; add it"
    too_low = np.count_nonzero(_within(below_fat, AIR_TWICE_HU)) / values.size
    if too_low > MUCH or (dense > MUCH and soft < dense / 3):
        return "the intercept or the slope was applied twice; convert the CT anew"
    if low >= 0 and _share(values < 5) > LITTLE:
        if high <= GRAY_LEVELS:
            return "8-bit gray levels or labels; give the CT in HU"
        return "nothing lies below 0, where HU have air and fat; give the CT in HU"
    if high - low <= WIDEST_WINDOW_HU and _is_clipped(values, low, high):
        return "they were clipped to this window; give the CT as it was before"
    return None


def _within(values: npt.NDArray[np.float64], limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Tell which values lie between two."""
    return (values >= limits[0]) & (values <= limits[1])


def _share(where: npt.NDArray[np.bool_]) -> float:
    """Return the part of voxels that are marked."""
    return float(where.mean())


def _most_frequent(values: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return the most frequent values, as many or fewer."""
    found, frequencies = np.unique(values, return_counts=True)
    return found[np.argsort(-frequencies)[:count]]


def _is_clipped(values: npt.NDArray[np.float64], low: float, high: float) -> bool:
    """Tell whether shares of the values lie exactly at both ends, and others all between.

    Drawn images of a few values have such ends, too.
    """
    at_high = np.count_nonzero(values == high)
    if at_high < max(LEAST_AT_AN_END, TRACE * values.size) or _share(values == low) < LITTLE:
        return False
    return np.unique(values).size >= LEAST_VALUES
