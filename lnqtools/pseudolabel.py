"""Fewer unknown voxels: what is known to be some structure is no lymph node.

"TotalSegmentator pseudo-labels" of Fischer et al., "Mask the Unknown" (2024), section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from lnqtools.errors import LnqError
from lnqtools.weaklabel import BACKGROUND, FLOAT32_MM, NODE, UNKNOWN

SLAB = 64


def apply_anatomy(label: np.ndarray, structures: np.ndarray) -> np.ndarray:
    """Set unknown voxels inside known structures to background.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.
    structures : (z, y, x) ndarray of bool

    Returns
    -------
    (z, y, x) ndarray of uint8
        Background and drawn nodes are as they were.
    """
    label = label.copy()
    label[structures & (label == UNKNOWN)] = BACKGROUND
    return label


def covered_node_voxels(label: np.ndarray, structures: np.ndarray) -> int:
    """Count the voxels of drawn nodes that the structures cover."""
    return int(np.count_nonzero(structures & (label == NODE)))


def structure_overlaps(
    label: np.ndarray, anatomy: np.ndarray, names: dict[int, str]
) -> list[dict[str, Any]]:
    """Say for each structure how much of the drawn nodes and of the unknown voxels it covers.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.
    anatomy : (z, y, x) ndarray of unsigned integer
        Multilabel map.
    names : dict
        Number → name of the map's structures.

    Returns
    -------
    list of dict
        A row for each structure that the map holds: ``index``, ``structure``, ``voxels``,
        ``voxels_unknown``, ``voxels_node``, and ``node_fraction`` = voxels_node / all node
        voxels of the label; None if it has none.
    """
    size = max(names) + 1
    counts = np.zeros((3, size), np.int64)
    for part, of_label in zip(anatomy, label, strict=True):  # a layer at a time: memory
        both = of_label * np.uint32(size) + part
        counts += np.bincount(both.ravel(), minlength=3 * size).reshape(3, size)
    nodes = int(np.count_nonzero(label == NODE))
    return [
        {
            "index": number,
            "structure": name,
            "voxels": int(counts[:, number].sum()),
            "voxels_unknown": int(counts[UNKNOWN, number]),
            "voxels_node": int(counts[NODE, number]),
            "node_fraction": int(counts[NODE, number]) / nodes if nodes else None,
        }
        for number, name in names.items()
        if counts[:, number].any()
    ]


def without_dense_lung(
    structures: np.ndarray, lobes: np.ndarray, ct: np.ndarray, hu_max: float
) -> np.ndarray:
    """Take away lobe voxels above ``hu_max``: effusion and hilar nodes hide in the lobes.

    Parameters
    ----------
    structures, lobes : (z, y, x) ndarray of bool
    ct : (z, y, x) ndarray
        In HU.
    hu_max : float
        In HU; lobe voxels up to and including it stay.
    """
    return structures & ~(lobes & (ct > hu_max))


def eroded(
    structures: np.ndarray, erode_mm: float, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Shrink the union of the structures by a distance.

    A voxel stays if every voxel whose centre lies within ``erode_mm`` of its own belongs to
    the union. Where structures touch each other nothing is lost; beyond the image's edge they
    are taken to go on.

    Parameters
    ----------
    structures : (z, y, x) ndarray of bool
    erode_mm : float
    spacing : tuple of float
        Along z, y, x, in mm.

    Raises
    ------
    LnqError
        If the distance is above 0 and reaches no voxel.
    """
    if erode_mm == 0:
        return structures
    if erode_mm + FLOAT32_MM < min(spacing):
        raise LnqError(
            f"an erosion of {erode_mm:g} mm reaches no voxel (the finest spacing is "
            f"{min(spacing):.3g} mm)"
        )
    reach = int((erode_mm + FLOAT32_MM) // spacing[0])
    eroded = np.empty_like(structures)
    for start in range(0, len(structures), SLAB):  # a distance map takes 20 bytes a voxel
        before = min(start, reach)
        around = structures[start - before : start + SLAB + reach]
        if around.all():  # no distance to an outside that is not there
            eroded[start : start + SLAB] = True
            continue
        far = distance_transform_edt(around, sampling=spacing) > erode_mm + FLOAT32_MM
        eroded[start : start + SLAB] = far[before : before + SLAB]
    return eroded
