"""CT numbers of components."""

from typing import Any

import numpy as np

from lnqtools.components.labeling import Components, sum_by_component
from lnqtools.errors import LnqError

HU_COLUMNS = ("hu_mean", "hu_sd")
"""What `hu_columns` returns of each component."""


def hu_columns(components: Components, hu: np.ndarray) -> list[dict[str, Any]]:
    """Describe the CT numbers in each component.

    Parameters
    ----------
    components : Components
        Components of a mask.
    hu : (z, y, x) ndarray
        CT in HU on the grid of the mask, any numeric type, finite.

    Returns
    -------
    list of dict
        Of each component ``hu_mean``, the mean over its voxels, and ``hu_sd``, their standard
        deviation ``sqrt(sum((hu - mean) ** 2) / (n - 1))``; None of a single voxel.

    Raises
    ------
    LnqError
        If the CT is of another size.

    Examples
    --------
    >>> from lnqtools import find_components
    >>> mask = np.array([[[1, 1, 0, 1]]], np.uint8)
    >>> hu_columns(find_components(mask, (1, 1, 1)), np.array([[[30, 50, 0, -7]]]))
    [{'hu_mean': 40.0, 'hu_sd': 14.142135623730951}, {'hu_mean': -7.0, 'hu_sd': None}]
    """
    if hu.shape != components.shape:
        raise LnqError(f"mask {components.shape} and CT {hu.shape} differ in size (z, y, x)")
    if not components.count:
        return []
    values = hu[np.unravel_index(components.voxels, components.shape)].astype(np.float64)
    counts, offsets = components.voxel_counts, components.voxel_offsets
    means = sum_by_component(values, offsets) / counts
    squares = sum_by_component(np.square(values - np.repeat(means, counts)), offsets)
    deviations = np.sqrt(squares / np.maximum(counts - 1, 1))
    return [
        {"hu_mean": mean, "hu_sd": deviation if count > 1 else None}
        for mean, deviation, count in zip(
            means.tolist(), deviations.tolist(), counts.tolist(), strict=True
        )
    ]
