"""Training labels from incomplete annotations.

Strategies as in section 2 of Fischer et al., "Mask the Unknown" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnqtools.components.labeling import find_components, foreground_indices
from lnqtools.errors import LnqError
from lnqtools.images.box import Box
from lnqtools.images.grid import FLOAT32_MM
from lnqtools.labels.training import BACKGROUND, NODE, UNKNOWN


def drawn_nodes(annotation: np.ndarray, labels: frozenset[int] | None = None) -> np.ndarray:
    """Return where an annotation holds a lymph node, as (z, y, x) bool.

    Parameters
    ----------
    annotation : (z, y, x) ndarray of unsigned int
        Binary, or with one number per node.
    labels : frozenset of int, optional
        The numbers that mean lymph node; by default every number but 0. An empty set means
        that no node is drawn.
    """
    if labels is None:
        return annotation.astype(bool)
    return np.isin(annotation, sorted(labels))


@dataclass(frozen=True)
class Coat:
    """A hull of background around drawn nodes (Nguyen et al. 2020).

    Parameters
    ----------
    spacing : tuple of float
        Along z, y, x, in mm.
    steps : int
        Thickness in steps of 6-, 18- or 26-connectivity; the paper's coat is one step.
    connectivity : int
    distance_mm : float, optional
        Instead: all voxels whose centers lie within this distance of a node voxel's.
    """

    spacing: tuple[float, float, float]
    steps: int = 1
    connectivity: int = 6
    distance_mm: float | None = None

    def __post_init__(self) -> None:
        """Raise LnqError if a distance reaches no voxel in any direction."""
        if max(self.reach) == 0:
            raise LnqError(
                f"a coat of {self.distance_mm:g} mm reaches no voxel (the finest spacing is "
                f"{min(self.spacing):.3g} mm)"
            )

    @property
    def reach(self) -> tuple[int, ...]:
        """How many voxels the coat extends at most along z, y, x."""
        if self.distance_mm is None:
            return (self.steps,) * 3
        return tuple(int((self.distance_mm + FLOAT32_MM) // s) for s in self.spacing)

    def over(self, nodes: np.ndarray) -> np.ndarray:
        """Return nodes and their hull, as (z, y, x) bool."""
        from scipy.ndimage import (
            binary_dilation,
            distance_transform_edt,
            generate_binary_structure,
        )

        if self.distance_mm is None:
            structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[self.connectivity])
            return np.asarray(binary_dilation(nodes, structure, iterations=self.steps))
        distance = distance_transform_edt(~nodes, sampling=self.spacing)
        return np.asarray(distance <= self.distance_mm + FLOAT32_MM)


def weak_label(nodes: np.ndarray, strategy: str, coat: Coat | None = None) -> np.ndarray:
    """Make a training label from drawn nodes.

    Parameters
    ----------
    nodes : (z, y, x) ndarray of bool
    strategy : str
        ``full``: every node is drawn, the rest is background. ``noisy``: the rest is taken
        for background although nodes are missing. ``mask``: the rest is unknown. ``coat``: a
        hull around the nodes is background, the rest unknown.
    coat : Coat, optional
        For ``coat``.

    Returns
    -------
    (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.

    Examples
    --------
    >>> node = np.zeros((1, 4, 6), bool)
    >>> node[0, 1, 1:3] = True
    >>> weak_label(node, "coat", Coat(spacing=(2.5, 1.0, 1.0)))
    array([[[2, 0, 0, 2, 2, 2],
            [0, 1, 1, 0, 2, 2],
            [2, 0, 0, 2, 2, 2],
            [2, 2, 2, 2, 2, 2]]], dtype=uint8)
    """
    if strategy in ("full", "noisy"):
        return nodes.astype(np.uint8)
    label = np.full(nodes.shape, UNKNOWN, np.uint8)
    if strategy == "coat" and coat is not None:
        for box in _boxes_around(nodes, coat.reach):
            # Nodes of other components inside the box count too, as in a dilation of the whole.
            label[box][coat.over(nodes[box])] = BACKGROUND
    elif strategy != "mask":
        raise ValueError(f"unknown strategy {strategy!r}, or coat without a coat")
    label.reshape(-1)[foreground_indices(nodes)] = NODE
    return label


def _boxes_around(nodes: np.ndarray, reach: tuple[int, ...]) -> list[Box]:
    """Return boxes that hold each component and what lies within so many voxels of it."""
    found = find_components(nodes, (1.0, 1.0, 1.0), connectivity=26)
    return [found.box_of(k + 1).grown(reach, nodes.shape) for k in range(found.count)]


def unknown_outside(label: np.ndarray, covered: Box) -> np.ndarray:
    """Return a label that is unknown wherever its annotation does not reach.

    Parameters
    ----------
    label : (z, y, x) ndarray of uint8
    covered : Box
        The box of the voxels that the annotation covers, empty perhaps.
    """
    known = np.full_like(label, UNKNOWN)
    known[covered] = label[covered]
    return known
