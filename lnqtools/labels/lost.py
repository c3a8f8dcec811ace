"""Drawn nodes that do not come along onto another grid: counted, told, and recorded.

A record of them stays with the label, whatever is made of it: who counts the nodes of a data set
learns how many there were before a crop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, fields
from itertools import product
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.components.labeling import Components, find_components, foreground_indices
from lnqtools.images.grid import Grid, lattice_map, outside, turn_to
from lnqtools.images.names import names_in_header
from lnqtools.images.nifti import provenance_of
from lnqtools.images.resampling import HALF_WAY
from lnqtools.images.volume import Volume
from lnqtools.labels.training import NODE, UNKNOWN, is_training_label

RECORD = "lost"
"""Key of the record in what an image says of its making."""
MAX_NODES_ML = 2000.0
"""More than bulky nodes of a chest have, and less than lungs."""


@dataclass(frozen=True)
class LostNodes:
    """What grids left out of the drawn nodes, on the way to a label.

    Attributes
    ----------
    components : int
        Connected components (by faces) of which nothing is left.
    cut : int
        Components that are left in part.
    voxels : int
        Drawn voxels outside the grid.
    volume_ml : float
        Their volume.
    """

    components: int = 0
    cut: int = 0
    voxels: int = 0
    volume_ml: float = 0.0

    def __add__(self, other: LostNodes) -> LostNodes:
        """Return what two steps lost together."""
        return LostNodes(
            self.components + other.components,
            self.cut + other.cut,
            self.voxels + other.voxels,
            round(self.volume_ml + other.volume_ml, 6),
        )

    def __bool__(self) -> bool:
        """Tell whether anything was lost."""
        return any(astuple(self))

    def row(self) -> dict[str, Any]:
        """Return columns of a table."""
        return {
            "components_lost": self.components,
            "components_cut": self.cut,
            "voxels_lost": self.voxels,
            "volume_lost_ml": self.volume_ml,
        }

    def record(self) -> dict[str, Any]:
        """Return what an image says of it: nothing if nothing was lost."""
        return {RECORD: asdict(self)} if self else {}


NOTHING_LOST = LostNodes()


def recorded(volume: Volume) -> LostNodes:
    """Return what was lost on the way to an image, as its header says; nothing if it does not."""
    record = (provenance_of(volume.extensions) or {}).get(RECORD)
    if not isinstance(record, dict):
        return NOTHING_LOST
    values = [record.get(field.name, 0) for field in fields(LostNodes)]
    *counts, volume_ml = values
    are_counts = all(type(count) is int and count >= 0 for count in counts)
    if not (are_counts and type(volume_ml) in (int, float) and 0 <= volume_ml < inf):
        return NOTHING_LOST  # another tool's
    return LostNodes(*values)


@dataclass(frozen=True)
class Passage:
    """What became of drawn nodes on their way onto another grid.

    Attributes
    ----------
    drawn : int
        Components before.
    drawn_voxels : int
    left : int
        Components of which something is left.
    lost : LostNodes
    """

    drawn: int
    drawn_voxels: int
    left: int
    lost: LostNodes

    def sentence(self, place: str) -> str:
        """Say what is lost.

        Parameters
        ----------
        place : str
            What the grid is, as in 'lie outside PLACE'.
        """
        lost = self.lost
        if not lost.voxels:
            return (
                f"{lost.components} of {self.drawn} drawn components "
                f"{'is' if lost.components == 1 else 'are'} lost between the voxels of {place}"
            )
        fates = {"lost": lost.components, "cut": lost.cut}
        told = ", ".join(f"{count} {fate}" for fate, count in fates.items() if count)
        return (
            f"{lost.voxels} of {self.drawn_voxels} drawn voxels ({lost.volume_ml:.3g} ml) lie "
            f"outside {place} (of {self.drawn} component{'s' * (self.drawn != 1)}, {told})"
        )

    def row(self) -> dict[str, Any]:
        """Return columns of a table."""
        return {"components_drawn": self.drawn, **self.lost.row()}


NO_PASSAGE = dict.fromkeys(("components_drawn", *NOTHING_LOST.row()))
"""Columns of an image that does not hold nodes."""


NodesIn = Callable[[npt.NDArray], npt.NDArray]
"""Takes the voxels of a mask or label, and returns an array that is not 0 where a node is drawn."""


def node_finder(volume: Volume, unknown: float | None = None) -> NodesIn | None:
    """Return what finds drawn nodes in an image, or None if it is of something else.

    Nodes are value 1 of a training label and every value but 0 of a mask. A map that names its
    labels in its header, as TotalSegmentator's, and a mask larger than nodes can be are of
    something else: a crop is meant to lose what they hold.

    Parameters
    ----------
    volume : Volume
    unknown : float, optional
        Who says that this value means unknown has a training label even without names.
    """
    if is_training_label(volume) or unknown == UNKNOWN:
        return lambda array: array == NODE
    volume_ml = np.count_nonzero(volume.array) * np.prod(volume.spacing) / 1000
    return None if names_in_header(volume) or volume_ml > MAX_NODES_ML else lambda array: array


def passage(drawn: npt.NDArray, source: Grid, left: npt.NDArray, target: Grid) -> Passage:
    """Compare drawn nodes with what is left of them on another grid.

    Parameters
    ----------
    drawn : (z, y, x) ndarray of bool or int
        Not 0 where a node is drawn, on ``source``.
    source, target : Grid
    left : (z, y, x) ndarray of bool or int
        The same on ``target``: copied where the lattices agree, else resampled.
    """
    found = find_components(drawn, source)
    voxels_outside = _voxels_outside(found, source, target)
    survives = voxels_outside < found.voxel_counts
    if lattice_map(source, target) is None:  # small ones are lost between its voxels
        survives &= _is_hit(found, source, left, target)
    volume_mm3 = float(voxels_outside.sum() * np.prod(source.spacing))
    lost = LostNodes(
        int((~survives).sum()),
        int((survives & (voxels_outside > 0)).sum()),
        int(voxels_outside.sum()),
        round(volume_mm3 / 1000, 6),
    )
    return Passage(found.count, int(found.voxel_counts.sum()), int(survives.sum()), lost)


def _voxels_outside(found: Components, source: Grid, target: Grid) -> npt.NDArray[np.int64]:
    """Count the voxels of each component that lie outside a grid, (n,)."""
    ends = found.boxes - [0, 1]  # first and last voxel on each axis
    doubtful = np.zeros(found.count, bool)
    for z, y, x in product((0, 1), repeat=3):
        doubtful |= outside((ends[:, 0, z], ends[:, 1, y], ends[:, 2, x]), source, target)
    voxels = np.repeat(doubtful, found.voxel_counts)
    beyond = outside(np.unravel_index(found.voxels[voxels], found.shape), source, target)
    return np.bincount(found.labels[voxels][beyond] - 1, minlength=found.count)


def _is_hit(
    found: Components, source: Grid, left: npt.NDArray, target: Grid
) -> npt.NDArray[np.bool_]:
    """Tell for each component whether a voxel of the resampled image comes from it, (n,)."""
    at = np.stack(np.unravel_index(foreground_indices(left), target.shape))
    at = at[:, ~outside(at, target, source)]  # a fill may look like a node
    way = turn_to(source, "LPS")  # as images are resampled
    turned = way.turned_grid(source)
    nearest = np.floor(turned.index(target.world(at.T)) + 0.5 + HALF_WAY).astype(np.int64)
    z, y, x = np.clip(nearest, 0, np.array(turned.shape) - 1).T
    hit = way.turned(found.label_map(np.uint32))[z, y, x]
    return np.isin(np.arange(1, found.count + 1), hit)
