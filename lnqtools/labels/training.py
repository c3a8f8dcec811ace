"""Training labels: 0 background, 1 lymph node, 2 unknown (the loss leaves it out)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.images.names import label_table, names_in_header
from lnqtools.images.volume import Volume

BACKGROUND, NODE, UNKNOWN = 0, 1, 2
LABEL_NAMES = label_table({BACKGROUND: "background", NODE: "lymph_node", UNKNOWN: "unknown"})
"""NIfTI header extension of a training label; it stays when the label is cropped."""


def with_background(label: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return a label with known background set (a tumor, say); drawn nodes stay nodes."""
    label = label.copy()
    np.copyto(label, BACKGROUND, where=background & (label != NODE))
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
    def labeled(self) -> int:
        """Voxels of background and nodes."""
        return self.foreground + self.background

    @property
    def total(self) -> int:
        """All voxels."""
        return self.labeled + self.unknown

    @property
    def labeled_per_unlabeled_percent(self) -> float | None:
        """100 × labeled / unlabeled voxels; None where no voxel is unlabeled."""
        return 100 * self.labeled / self.unknown if self.unknown else None

    @property
    def labeled_per_total_percent(self) -> float:
        """100 × labeled / all voxels."""
        return 100 * self.labeled / self.total

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
    # A layer at a time: it stays in the cache, and no array as large as the label is made.
    unknown = sum(int(np.count_nonzero(layer == UNKNOWN)) for layer in label)
    other = int(np.count_nonzero(label))
    return LabelCounts(other - unknown, label.size - other, unknown)


def is_training_label(volume: Volume) -> bool:
    """Tell whether an image says that it is a training label, by `LABEL_NAMES` in its header."""
    return names_in_header(volume).get(UNKNOWN) == "unknown"


def refuse_unknown(volume: Volume) -> None:
    """Raise LnqError for a training label with unknown voxels where a mask is wanted.

    Unknown voxels are numbered like a second node, and would be counted as one.
    """
    if is_training_label(volume) and (volume.array == UNKNOWN).any():
        raise LnqError(
            "is a training label with unknown voxels; give a mask in which every voxel is node "
            "or background"
        )


def check_label(
    label: npt.NDArray,
    expected: str = "a training label holds 0 background, 1 node, 2 unknown (lnq-weaklabel makes "
    "one)",
) -> None:
    """Raise LnqError unless a label holds only 0, 1 and 2, and say what was expected.

    Examples
    --------
    >>> check_label(np.array([[[0, 1, 2]]]))
    >>> check_label(np.array([[[0, 7]]]), "a mask holds 0 and 1")
    Traceback (most recent call last):
    lnqtools.errors.LnqError: holds the value 7; a mask holds 0 and 1
    """
    if (highest := int(label.max(initial=0))) > UNKNOWN:
        raise LnqError(f"holds the value {highest}; {expected}")


def check_reference(reference: npt.NDArray) -> None:
    """Do as `check_label` for a reference."""
    check_label(
        reference,
        "a reference holds 0 background, 1 node and perhaps 2 unknown (numbered nodes: --instances "
        "keeps them apart, --values picks)",
    )
