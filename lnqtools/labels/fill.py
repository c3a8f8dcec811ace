"""Fewer unknown voxels: from known structures, which are not lymph nodes, and from teachers.

Each source of pseudo-labels gives a `Verdict`, and `fill_unknown` fills by them all.

Structures: "TotalSegmentator pseudo-labels" of Fischer et al., "Mask the Unknown" (2024),
section 2. Teachers, trained models whose probabilities fill what is left: its discussion, after
Huang et al., "Revisiting nnU-Net for Iterative Pseudo Labeling" (2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.components.labeling import find_components, keep
from lnqtools.components.sizes import large_enough
from lnqtools.errors import LnqError
from lnqtools.images.grid import FLOAT32_MM, Grid
from lnqtools.images.layers import Layers
from lnqtools.labels.training import BACKGROUND, NODE, UNKNOWN, LabelCounts

SLAB = 64
Mask = npt.NDArray[np.bool_] | Layers


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a source of pseudo-labels says of voxels: masks (z, y, x), or None for nothing.

    Parameters
    ----------
    node, background : (z, y, x) ndarray of bool or Layers, optional
        What unknown voxels are to become; the two have no voxel in common.
    veto : (z, y, x) ndarray of bool or Layers, optional
        Where no verdict may make node of a voxel; it may still become background.
    """

    node: Mask | None = None
    background: Mask | None = None
    veto: Mask | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one verdict, in voxels.

    Parameters
    ----------
    node, background : int
        Unknown voxels that became node and background.
    small : int
        Unknown voxels that would have become node but for the size of their component.
    vetoed : int or None
        Voxels unknown before all verdicts that this one takes for node and a veto covers; None
        without a veto.
    covered : int
        Voxels of drawn nodes that it takes for background; they stay nodes.
    """

    node: int = 0
    background: int = 0
    small: int = 0
    vetoed: int | None = None
    covered: int = 0


@dataclass(frozen=True, eq=False)
class Filled:
    """A label (z, y, x; uint8) with fewer unknown voxels, and the outcome of each verdict."""

    label: npt.NDArray[np.uint8]
    outcomes: tuple[Outcome, ...]

    def counts(self, before: LabelCounts) -> LabelCounts:
        """Return how much is known now, without a look at the voxels."""
        node = sum(outcome.node for outcome in self.outcomes)
        background = sum(outcome.background for outcome in self.outcomes)
        return LabelCounts(
            before.foreground + node,
            before.background + background,
            before.unknown - node - background,
        )


def fill_unknown(
    label: npt.NDArray[np.uint8],
    verdicts: Sequence[Verdict],
    grid: Grid | Sequence[float],
    *,
    min_mm: float = 0.0,
    metric: str = "ellipsoid",
    min_volume_mm3: float = 0.0,
    in_place: bool = False,
) -> Filled:
    """Fill unknown voxels by verdicts, one after the other; nodes and background stay.

    A verdict fills what those before it leave unknown; a veto holds for all of them. A new node
    voxel belongs to a component (6 neighbors) of drawn and new node voxels. If that is too
    small, its new voxels stay unknown. So a voxel that completes a drawn node is judged with that
    node, and no component with a new voxel in it is smaller than asked for.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.
    verdicts : sequence of Verdict
    grid : Grid or sequence of 3 floats
        Of the label, or the size of its voxels; see `components.find_components`.
    min_mm, metric, min_volume_mm3
        Least size of a component; see `components.large_enough`.
    in_place : bool
        Whether the label itself is filled, which takes less memory and time; not with verdicts
        that make nodes, which look at what was unknown at first.

    Returns
    -------
    Filled
        Its label is a new array, unless it is filled in place.

    Examples
    --------
    The anatomy takes three voxels for background, one of them a drawn node, and a teacher takes
    all for node:

    >>> label = np.array([[[1, 2, 2, 2]]], np.uint8)
    >>> inside = np.array([[[True, True, True, False]]])
    >>> anatomy = Verdict(background=inside, veto=inside)
    >>> teacher = Verdict(node=np.ones(label.shape, bool))
    >>> filled = fill_unknown(label, [anatomy, teacher], (1, 1, 1))
    >>> filled.label.tolist()
    [[[1, 0, 0, 1]]]
    >>> filled.outcomes[0]
    Outcome(node=0, background=2, small=0, vetoed=0, covered=1)
    """
    filled = label if in_place else label.copy()
    vetoes = [verdict.veto for verdict in verdicts if verdict.veto is not None]
    with_nodes = [bool((layer == NODE).any()) for layer in label]
    outcomes = []
    for verdict in verdicts:
        background, covered = _fill_background(label, filled, verdict, with_nodes)
        new = wanted = vetoed = 0
        if verdict.node is not None:
            node, vetoed = _wanted_nodes(label, filled, verdict.node, vetoes)
            new = wanted = int(np.count_nonzero(node))
            if wanted and (min_mm or min_volume_mm3):
                found = find_components(node | (filled == NODE), grid)
                large = large_enough(found, min_mm, metric, min_volume_mm3=min_volume_mm3)
                node &= keep(found, large).view(bool)
                new = int(np.count_nonzero(node))
            np.copyto(filled, NODE, where=node)
        small, vetoed_or_none = wanted - new, vetoed if vetoes else None
        outcomes.append(Outcome(new, background, small, vetoed_or_none, covered))
    return Filled(filled, tuple(outcomes))


# Both work on a layer at a time, so that what lies between two steps stays in the cache.


def _fill_background(
    label: npt.NDArray[np.uint8],
    filled: npt.NDArray[np.uint8],
    verdict: Verdict,
    with_nodes: Sequence[bool],
) -> tuple[int, int]:
    """Fill a verdict's background in place; count its new voxels, and drawn nodes it covers."""
    new = covered = 0
    if verdict.background is None:
        return new, covered
    for drawn, layer, background, has_nodes in zip(
        label, filled, verdict.background, with_nodes, strict=True
    ):
        if has_nodes:
            covered += int(np.count_nonzero((drawn == NODE) & background))
        becomes = layer == UNKNOWN
        becomes &= background
        new += int(np.count_nonzero(becomes))
        # Not by copyto, which takes ten times as long for a mask with long runs.
        layer -= becomes.view(np.uint8) * np.uint8(UNKNOWN - BACKGROUND)
    return new, covered


def _wanted_nodes(
    label: npt.NDArray[np.uint8],
    filled: npt.NDArray[np.uint8],
    nodes: Mask,
    vetoes: Sequence[Mask],
) -> tuple[npt.NDArray[np.bool_], int]:
    """Return which voxels a verdict would make node, whatever their size, and count the vetoed."""
    wanted = np.zeros(label.shape, bool)
    vetoed = 0
    for of_node, drawn, now, node, *of_vetoes in zip(
        wanted, label, filled, nodes, *vetoes, strict=True
    ):
        np.logical_and(now == UNKNOWN, node, out=of_node)
        if of_vetoes:
            veto = reduce(np.logical_or, of_vetoes)
            vetoed += int(np.count_nonzero((drawn == UNKNOWN) & node & veto))
            of_node &= ~veto
    return wanted, vetoed


# Structures


def structure_overlaps(
    label: np.ndarray, anatomy: np.ndarray | Layers, names: dict[int, str]
) -> list[dict[str, Any]]:
    """Say for each structure how much of the drawn nodes and of the unknown voxels it covers.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.
    anatomy : (z, y, x) ndarray of unsigned integer, or Layers
        Multilabel map, or a mask.
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
    dense = ct > hu_max
    dense &= lobes
    return structures & ~dense


def eroded(
    structures: np.ndarray, erode_mm: float, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Shrink the union of the structures by a distance.

    A voxel stays if every voxel whose center lies within ``erode_mm`` of its own belongs to
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

    Raises
    ------
    LnqError
        If there are more than 255 teachers.
    """
    votes = np.zeros((2, 1, 1, 1), np.uint8)
    for count, probability in enumerate(probabilities):
        if count == 0:
            votes = np.zeros((2, *probability.shape), np.uint8)
        if count == np.iinfo(votes.dtype).max:
            raise LnqError(f"there are more than {count} teachers")
        for for_node, for_background, layer in zip(*votes, probability, strict=True):
            for_node += (layer > node_above).view(np.uint8)
            for_background += (layer < background_below).view(np.uint8)
    node, background = votes >= agree
    return Verdict(node & ~background, background & ~node)


def teacher_columns(outcome: Outcome | None) -> dict[str, int | None]:
    """Return what came of the teachers' verdict as columns of a table; None without teachers."""
    return {
        "voxels_teacher_foreground": outcome.node if outcome else None,
        "voxels_teacher_background": outcome.background if outcome else None,
        "voxels_teacher_small": outcome.small if outcome else None,
        "voxels_teacher_vetoed": outcome.vetoed if outcome else None,
    }
