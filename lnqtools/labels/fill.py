"""Fewer unknown voxels: from known structures, which are no lymph node, and from teachers.

Structures: "TotalSegmentator pseudo-labels" of Fischer et al., "Mask the Unknown" (2024),
section 2. Teachers, trained models whose probabilities fill what is left: its discussion, after
Huang et al., "Revisiting nnU-Net for Iterative Pseudo Labeling" (2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lnqtools.components.labelling import find_components, keep
from lnqtools.components.sizes import large_enough
from lnqtools.errors import LnqError
from lnqtools.images.grid import FLOAT32_MM, Grid
from lnqtools.labels.training import BACKGROUND, NODE, UNKNOWN

SLAB = 64
FILLED_COLUMNS = (
    "voxels_teacher_foreground",
    "voxels_teacher_background",
    "voxels_teacher_small",
)


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
    np.copyto(label, BACKGROUND, where=structures & (label == UNKNOWN))
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
    from scipy.ndimage import distance_transform_edt

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


# Teachers


def check_probabilities(probability: np.ndarray) -> None:
    """Raise LnqError for what cannot be a map of probabilities: logits, masks."""
    if probability.dtype.kind != "f":
        raise LnqError(
            "holds whole numbers, as a mask does; a map of probabilities holds fractions"
        )
    low, high = float(probability.min()), float(probability.max())
    if not (low >= 0 and high <= 1):
        raise LnqError(
            f"holds values from {low:.3g} to {high:.3g}; probabilities lie between 0 and 1 "
            "(logits are refused)"
        )


class Verdict(NamedTuple):
    """What teachers agree on: two masks (z, y, x) that have no voxel in common."""

    node: np.ndarray
    background: np.ndarray


def teachers_verdict(
    probabilities: Iterable[np.ndarray], *, node_above: float, background_below: float, agree: int
) -> Verdict:
    """Say where enough teachers are sure.

    A voxel is node where at least ``agree`` teachers give it a probability above
    ``node_above``, and background where at least ``agree`` give it one below
    ``background_below``. Where both hold, which takes two camps of that size, it is neither.

    Parameters
    ----------
    probabilities : iterable of (z, y, x) ndarray of float
        A map of each teacher, all of one shape; one is looked at after the other.
    node_above, background_below : float
        The comparisons are strict, so 1 finds no node and 0 no background.
    agree : int
        From 1 to the number of teachers.
    """
    for_node = for_background = np.zeros((), np.uint16)
    for probability in probabilities:
        for_node = for_node + (probability > node_above)
        for_background = for_background + (probability < background_below)
    node, background = for_node >= agree, for_background >= agree
    return Verdict(node & ~background, background & ~node)


@dataclass(frozen=True, eq=False)
class Filled:
    """A training label after the teachers, and what became of its unknown voxels.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
    foreground, background : int
        Unknown voxels that became node and background.
    small : int
        Unknown voxels that would have become node but for the size of their component.
    """

    label: np.ndarray
    foreground: int
    background: int
    small: int

    def row(self) -> dict[str, int]:
        """Return the counts as columns of a table, `FILLED_COLUMNS`."""
        counts = (self.foreground, self.background, self.small)
        return dict(zip(FILLED_COLUMNS, counts, strict=True))


def fill_unknown(
    label: np.ndarray,
    verdict: Verdict,
    grid: Grid | Sequence[float],
    *,
    veto: np.ndarray | None = None,
    min_mm: float = 0.0,
    metric: str = "ellipsoid",
    min_volume_mm3: float = 0.0,
) -> Filled:
    """Fill unknown voxels with what teachers agree on; nodes and background stay.

    A new node voxel belongs to a component (6 neighbours) of drawn and new node voxels. If that
    is too small, its new voxels stay unknown. So a voxel that completes a drawn node is judged
    with that node, and no component with a new voxel in it is smaller than asked for.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.
    verdict : Verdict
    grid : Grid or sequence of 3 floats
        Of the label, or the size of its voxels; see `components.find_components`.
    veto : (z, y, x) ndarray of bool, optional
        Where no voxel may become node; it may still become background.
    min_mm, metric, min_volume_mm3
        Least size of a component; see `components.large_enough`.
    """
    unknown = label == UNKNOWN
    node = unknown & verdict.node
    if veto is not None:
        node &= ~veto
    wanted = int(np.count_nonzero(node))
    if wanted and (min_mm or min_volume_mm3):
        found = find_components(node | (label == NODE), grid)
        large = large_enough(found, min_mm, metric, min_volume_mm3=min_volume_mm3)
        node &= keep(found, large) != 0
    background = unknown & verdict.background
    filled = label.copy()
    filled[node] = NODE
    filled[background] = BACKGROUND
    new = int(np.count_nonzero(node))
    return Filled(filled, new, int(np.count_nonzero(background)), wanted - new)


def vetoed_voxels(label: np.ndarray, verdict: Verdict, veto: np.ndarray) -> int:
    """Count the unknown voxels that the teachers take for node and that are vetoed."""
    return int(np.count_nonzero((label == UNKNOWN) & verdict.node & veto))
