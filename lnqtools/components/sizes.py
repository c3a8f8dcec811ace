"""Which components are large enough, and bins and strata of their sizes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.choices import DEGENERATE
from lnqtools.components.diameters import degenerate, diameters_mm
from lnqtools.components.labeling import Components
from lnqtools.errors import LnqError

MM3_PER_ML = 1000.0

_THRESHOLD_TIE = 1e-6
"""Lengths and volumes that miss a threshold by less than this fraction reach it: spacings come
from float32 headers, so 5 voxels of 1.9 mm are 9.4999999 mm long."""

STRATA_MM = (10.0, 15.0)
"""RECIST 1.1: short axes below 10 mm are normal, from 15 mm on a node is a target lesion."""
STRATA = ("all", "<10mm", "10-15mm", ">=15mm", "degenerate")


def large_enough(
    components: Components,
    min_mm: float,
    metric: str = "ellipsoid",
    flat: str = "drop",
    min_volume_mm3: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Tell which components have at least a shortest diameter and a volume.

    Parameters
    ----------
    components : Components
        Components of a mask.
    min_mm : float
        Least diameter in mm; one of exactly this diameter is kept, as far as float32 spacings
        can tell (within a millionth).
    metric : str
        One of `lnqtools.choices.METRICS`.
    flat : {'drop', 'keep', 'recist'}
        What becomes of components for which the metric has no meaning (see `degenerate`): not
        kept (as in the paper; their diameter is 0, so a least diameter of 0 keeps them too),
        kept, or judged by ``recist`` instead.
    min_volume_mm3 : float
        Least volume in mm³, for every component.

    Returns
    -------
    (n,) ndarray of bool
    """
    diameters = filter_diameters_mm(components, metric, flat)
    return at_least(diameters, min_mm) & at_least(components.volumes_mm3, min_volume_mm3)


def filter_diameters_mm(
    components: Components, metric: str = "ellipsoid", flat: str = "drop"
) -> npt.NDArray[np.float64]:
    """Measure the diameters that `large_enough` compares with the least one.

    Parameters
    ----------
    components, metric, flat
        See `large_enough`.

    Returns
    -------
    (n,) ndarray of float
        Shortest diameter of each component in mm; for those that the metric says nothing about,
        0 with 'drop', infinity with 'keep', ``recist`` with 'recist'.

    Raises
    ------
    LnqError
        If the metric, or the word for `flat`, is unknown.
    """
    if flat not in DEGENERATE:
        raise LnqError(f"flat components can be treated by drop, keep or recist, not '{flat}'")
    diameters = diameters_mm(components, metric)
    if flat == "drop" or not (without_meaning := degenerate(components, metric)).any():
        return diameters
    if flat == "keep":
        return np.where(without_meaning, np.inf, diameters)
    instead = diameters_mm(components, "recist")
    return np.where(without_meaning, instead, diameters)


def at_least(sizes: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """Tell which lengths or volumes reach a least one, as far as float32 spacings can tell.

    One that misses it by a millionth or less reaches it; NaN never does.
    """
    return sizes >= least * (1 - _THRESHOLD_TIE)


def bin_numbers(sizes: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.int64]:
    """Sort lengths into bins of equal width from 0: bin k holds k * width, by `at_least`."""
    return np.floor(sizes / (width * (1 - _THRESHOLD_TIE))).astype(np.int64)


def bin_columns(number: int, width_mm: float) -> dict[str, Any]:
    """Name and limits of a bin of `bin_numbers`, in mm; -1 holds what has no diameter."""
    if number < 0:
        return {"bin": "degenerate", "from_mm": None, "to_mm": None}
    low, high = number * width_mm, (number + 1) * width_mm
    return {"bin": f"{low:g}-{high:g}mm", "from_mm": low, "to_mm": high}


def strata(diameters: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Tell for each stratum which diameters are in it."""
    measured = diameters > 0
    enlarged, target = (at_least(diameters, limit) for limit in STRATA_MM)
    members = (
        np.ones(diameters.size, bool),
        measured & ~enlarged,
        enlarged & ~target,
        target,
        ~measured,
    )
    return dict(zip(STRATA, members, strict=True))
