"""Training labels from incomplete annotations.

A label says of each voxel: 0 background, 1 lymph node, 2 unknown (the loss leaves it out).
Strategies as in section 2 of Fischer et al., "Mask the Unknown" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from lnqtools.components import find_components
from lnqtools.errors import LnqError
from lnqtools.morphology import ball, steps
from lnqtools.volume import Volume, provenance_of

BACKGROUND, NODE, UNKNOWN = 0, 1, 2
STRATEGIES = ("full", "noisy", "mask", "coat")


def drawn_nodes(annotation: np.ndarray, labels: frozenset[int] | None = None) -> np.ndarray:
    """Return where an annotation holds a lymph node, as (z, y, x) bool.

    Parameters
    ----------
    annotation : (z, y, x) ndarray of unsigned int
        Binary or with one number a node.
    labels : frozenset of int, optional
        The numbers that mean lymph node; by default every number but 0. An empty set means
        that no node is drawn.
    """
    if labels is None:
        return annotation != 0
    return np.isin(annotation, sorted(labels))


def weak_label(
    nodes: np.ndarray, strategy: str, neighbourhood: np.ndarray | None = None
) -> np.ndarray:
    """Make a training label from drawn nodes.

    Parameters
    ----------
    nodes : (z, y, x) ndarray of bool
    strategy : str
        ``full``: every node is drawn, the rest is background. ``noisy``: the rest is taken
        for background although nodes are missing. ``mask``: the rest is unknown. ``coat``: a
        hull around the nodes is background, the rest unknown (Nguyen et al. 2020).
    neighbourhood : ndarray of bool, optional
        For ``coat``: the hull is the dilation by this neighbourhood minus the nodes.

    Returns
    -------
    (z, y, x) ndarray of uint8
        0 background, 1 node, 2 unknown.
    """
    if strategy in ("full", "noisy"):
        return nodes.astype(np.uint8)
    if strategy == "mask":
        return np.where(nodes, np.uint8(NODE), np.uint8(UNKNOWN))
    if strategy != "coat" or neighbourhood is None:
        raise ValueError(f"unknown strategy {strategy!r}, or coat without a neighbourhood")
    label = np.full(nodes.shape, UNKNOWN, np.uint8)
    for box in _boxes_around(nodes, neighbourhood.shape):
        # Nodes of other components inside the box count too, as in a dilation of the whole.
        label[box][binary_dilation(nodes[box], neighbourhood)] = BACKGROUND
    label[nodes] = NODE
    return label


def _boxes_around(nodes: np.ndarray, reach: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Return boxes that hold each component and what a neighbourhood of that shape reaches."""
    boxes = find_components(nodes, (1.0, 1.0, 1.0), connectivity=26).boxes
    return [
        tuple(
            slice(max(int(low) - size // 2, 0), min(int(high) + size // 2, room))
            for (low, high), size, room in zip(box, reach, nodes.shape, strict=True)
        )
        for box in boxes
    ]


def coat_neighbourhood(
    margin: int,
    margin_mm: float | None,
    connectivity: int,
    spacing: tuple[float, float, float],
) -> np.ndarray:
    """Return the neighbourhood of a coat.

    Parameters
    ----------
    margin : int
        Steps of 6-, 18- or 26-connectivity; the paper's coat is one step.
    margin_mm : float or None
        Instead: all voxels whose centres lie within this distance.
    connectivity : int
    spacing : tuple of float
        Along z, y, x, in mm.

    Raises
    ------
    LnqError
        If the margin in mm reaches no voxel in any direction.
    """
    if margin_mm is None:
        return steps(margin, connectivity)
    neighbourhood = ball(margin_mm, spacing)
    if neighbourhood.size == 1:
        raise LnqError(
            f"a coat of {margin_mm:g} mm reaches no voxel (the finest spacing is "
            f"{min(spacing):.3g} mm)"
        )
    return neighbourhood


def with_background(label: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return a label with known background set (a tumour, say); drawn nodes stay nodes."""
    label = label.copy()
    label[background & (label != NODE)] = BACKGROUND
    return label


@dataclass(frozen=True)
class LabelCounts:
    """How much of a label is known.

    ``labeled`` voxels are those of background and nodes. The paper's Table 2 fits
    labeled/unlabeled and labeled/total alike in two of its rows and only labeled/total in the
    third; both are given.
    """

    foreground: int
    background: int
    unknown: int

    @property
    def labeled_per_unlabeled_percent(self) -> float | None:
        """100 × labeled / unlabeled voxels; None where no voxel is unlabeled."""
        labeled = self.foreground + self.background
        return 100 * labeled / self.unknown if self.unknown else None

    @property
    def labeled_per_total_percent(self) -> float:
        """100 × labeled / all voxels."""
        labeled = self.foreground + self.background
        return 100 * labeled / (labeled + self.unknown)

    def row(self) -> dict:
        """Return the counts and ratios as columns of a table."""
        return {
            "voxels_foreground": self.foreground,
            "voxels_background": self.background,
            "voxels_unknown": self.unknown,
            "labeled_per_unlabeled_percent": self.labeled_per_unlabeled_percent,
            "labeled_per_total_percent": self.labeled_per_total_percent,
        }


def count_labels(label: np.ndarray) -> LabelCounts:
    """Count the voxels of a label (z, y, x) of values 0, 1 and 2."""
    unknown = int(np.count_nonzero(label == UNKNOWN))
    foreground = int(np.count_nonzero(label == NODE))
    return LabelCounts(foreground, label.size - foreground - unknown, unknown)


def refuse_unknown(volume: Volume) -> None:
    """Raise LnqError for a training label with unknown voxels where a mask is wanted.

    Unknown voxels are numbered like a second node, and would be counted as one.
    """
    made_by = (provenance_of(volume.extensions) or {}).get("tool")
    if made_by in ("lnq-weaklabel", "lnq-pseudolabel") and (volume.array == UNKNOWN).any():
        raise LnqError(
            f"is a training label of {made_by} with unknown voxels; give a mask in which every "
            "voxel is node or background"
        )


def check_label(label: np.ndarray) -> None:
    """Raise LnqError unless a label holds only 0, 1 and 2."""
    if (highest := int(label.max())) > UNKNOWN:
        raise LnqError(
            f"holds the value {highest}; a training label holds 0 background, 1 node, 2 unknown "
            "(lnq-weaklabel makes one)"
        )
