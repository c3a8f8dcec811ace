"""Masks of nodes as files hold them: of one value, or of one number per node.

In the files of data sets the same array may mean a mask, nodes that an annotator numbered, or
several classes. What is meant is said when it is read, and what may have been meant otherwise is
noted; see `lnqtools.components.labeling.find_components` and
`lnqtools.components.labeling.find_instances` for what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lnqtools.components.labeling import find_components, foreground_indices
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume, read_label
from lnqtools.labels.training import UNKNOWN, is_training_label, refuse_unknown

MOST_LISTED = 5
"""More values than these are counted."""


def read_mask(
    path: str | Path,
    values: Sequence[int] | None = None,
    instances: bool = False,
    *,
    binary: bool = False,
) -> Volume:
    """Read a mask of nodes; the rest is that of `as_mask`, and the errors of `read_label`."""
    return as_mask(read_label(path), values, instances, binary=binary)


def as_mask(
    label: Volume,
    values: Sequence[int] | None = None,
    instances: bool = False,
    *,
    binary: bool = False,
) -> Volume:
    """Take a label image for a mask of nodes.

    Parameters
    ----------
    label : Volume
    values : sequence of int, optional
        Values that are foreground; by default all but 0.
    instances : bool
        Whether each value is one node.
    binary : bool
        Whether a mask may have one value for all its nodes although ``instances`` is given, as
        networks make them; the caller then sees to it, see `with_numbers`.

    Returns
    -------
    Volume
        0 where nothing counts. Elsewhere the values are as they were, or 1 if some were chosen
        that do not number nodes. What may not be meant was added to the notes.

    Raises
    ------
    LnqError
        If unknown voxels of a training label would count.
    """
    array = label.array if values is None else with_values(label.array, values)
    refuse_unknown(replace(label, array=array))
    found = values_of(array)
    notes = list(label.notes)
    if values is not None:
        notes += _notes_on_choice(label, found)
    elif not instances and found.size > 1:
        notes.append(
            f"holds {listed_values(found)}: taken as one mask; --instances keeps numbered nodes "
            "apart, --values picks"
        )
    if instances and found.size == 1 and not binary:
        parts = find_components(array, label.grid, connectivity=26).count
        if parts > 1:
            notes.append(f"its {parts} separate parts are all {found[0]}: one node by --instances")
    if values is not None and not instances:
        array = (array != 0).view(np.uint8)
    return replace(label, array=array, notes=tuple(notes))


def _notes_on_choice(label: Volume, found: npt.NDArray[np.integer]) -> list[str]:
    """Say what may not be meant by a choice of values, of which these were found."""
    notes = []
    there = values_of(label.array)
    if there.size and not found.size:
        notes.append(f"holds {listed_values(there)}, of which --values picks none")
    if UNKNOWN in there and is_training_label(label):
        notes.append("is a training label: its unknown voxels count as background")
    return notes


def with_values(mask: npt.NDArray, values: Sequence[int]) -> npt.NDArray:
    """Return a mask of whole numbers in which all but some values are 0."""
    flat = np.ascontiguousarray(mask).reshape(-1)
    indices = foreground_indices(flat)
    indices = indices[np.isin(flat[indices], list(values))]
    chosen = np.zeros_like(flat)
    chosen[indices] = flat[indices]
    return chosen.reshape(mask.shape)


def values_of(mask: npt.NDArray) -> npt.NDArray[np.integer]:
    """Return the values in a mask of whole numbers from 0 on, but 0, ascending."""
    highest = mask.max(initial=0)
    if highest <= 1:
        return np.arange(1, highest + 1)
    flat = np.ascontiguousarray(mask).reshape(-1)
    return np.unique(flat[foreground_indices(flat)])


def listed_values(values: Sequence[int] | npt.NDArray[np.integer]) -> str:
    """Name ascending values: ``the value 3``, ``the values 1 to 7``, ``12 values from 1 to 40``."""
    first, last, count = int(values[0]), int(values[-1]), len(values)
    if count == 1:
        return f"the value {first}"
    if count > 2 and last - first == count - 1:
        return f"the values {first} to {last}"
    if count > MOST_LISTED:
        return f"{count} values from {first} to {last}"
    return f"the values {', '.join(str(value) for value in values[:-1])} and {last}"


def with_numbers(mask: npt.NDArray, grid: Grid, connectivity: int) -> npt.NDArray:
    """Give numbers to the connected components of a mask of one value; others have some."""
    if values_of(mask).size != 1:
        return mask
    return find_components(mask, grid, connectivity).label_map(np.uint32)
