"""A folder with one mask per structure, as TotalSegmentator writes it, read as a map.

Each file is called as its structure: ``lung_upper_lobe_left.nii.gz``. What is called otherwise, a
CT or the file of another task, has no part in it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from lnqtools.anatomy.maps import LOBES, TASKS, class_names, read_map, task_names
from lnqtools.errors import LnqError, listed
from lnqtools.images.content import folder_digest, images_by_name
from lnqtools.images.grid import difference
from lnqtools.images.names import label_table
from lnqtools.images.volume import Volume, read_label

LUNGS = "lungs"
LANDMARKS = "landmarks"
PARTS = {LUNGS: frozenset(LOBES), LANDMARKS: frozenset((*LOBES, "trachea"))}
"""What is read of a folder, beside whole tasks: the lungs' five files, and not all of a hundred."""


def is_structure_folder(path: str | Path) -> bool:
    """Tell whether a path is a directory with a file called as a structure of `TASKS`."""
    if not Path(path).is_dir():
        return False
    known = frozenset().union(*map(task_names, TASKS))
    return not known.isdisjoint(images_by_name(path))


def read_anatomy(path: str | Path, part: str = "total", classes: str = "auto") -> Volume:
    """Read a multilabel map, or a folder with one mask per structure as such a map.

    Parameters
    ----------
    path : str or Path
        A file is read by `lnqtools.anatomy.maps.read_map`.
    part : str
        What is read of a folder: the structures of a task of `TASKS`, or of one of `PARTS`.
    classes : str
        ``v1`` or ``v2``: the version whose numbers the map of a folder gets; ``auto``: the newer
        one that has all of its structures, else 1, 2, 3 in order of names.

    Returns
    -------
    Volume
        Of a folder with the structures' names in a header extension. Where structures overlap the
        first by number counts, and a note tells how many voxels that are.

    Raises
    ------
    LnqError
        As `read_map`, or if no file of a folder is called as such a structure, one of the lobes
        is missing, the files lie on different grids, or a structure is not one of ``classes``.
    """
    if not Path(path).is_dir():
        return read_map(path)
    images = images_by_name(path)
    wanted = PARTS.get(part) or task_names(part)
    found = wanted.intersection(images)
    if not found:
        what = "lung lobe" if part in PARTS else f"structure of the task {part}"
        raise LnqError(
            f"is a folder without the file of a {what}, as {min(wanted)}.nii.gz; "
            f"it holds {listed(sorted(images)) or 'no image'}"
        )
    if part == LUNGS and (missing := sorted(wanted - found)):
        raise LnqError(f"is a folder without {listed(missing)}, of the five lobes of the lungs")
    return _joined(Path(path), _numbered(found, classes, part), images)


def _numbered(found: Collection[str], classes: str, part: str) -> dict[int, str]:
    """Return number → name of structures, in order of the numbers."""
    versions = ("v2", "v1") if classes == "auto" else (classes,)
    for version in versions if part in ("total", *PARTS) else ():
        numbers = {name: number for number, name in class_names(version).items()}
        if numbers.keys() >= set(found):
            return dict(sorted((numbers[name], name) for name in found))
        if classes != "auto":
            other = min(set(found) - numbers.keys())
            raise LnqError(f"holds {other}, which is not a class of {classes}")
    return dict(enumerate(sorted(found), start=1))


def _joined(folder: Path, names: dict[int, str], images: dict[str, Path]) -> Volume:
    """Read the masks of structures into one map."""
    joined: Volume | None = None
    notes: dict[str, None] = {}
    digests: dict[str, str] = {}
    overlaps: dict[str, int] = {}
    for number, name in names.items():
        path = images[name]
        mask = _read_mask(path)
        digests[path.name] = mask.content
        notes |= dict.fromkeys(mask.notes)
        if joined is None:
            first, joined = path, replace(mask, array=np.zeros(mask.array.shape, np.uint8))
        if how := difference(joined.grid, mask.grid):
            raise LnqError(f"{first.name} and {path.name} do not lie on one grid: {how}")
        if taken := _add(joined.array, mask.array, number):
            overlaps[name] = taken
    assert joined is not None  # there is a structure
    if overlaps:
        notes[
            f"{sum(overlaps.values())} voxels are of several structures, and count for the first "
            f"by number: {listed(list(overlaps))}"
        ] = None
    return replace(
        joined,
        notes=tuple(notes),
        extensions=(label_table(names),),
        content=folder_digest(folder, digests),
    )


def _read_mask(path: Path) -> Volume:
    try:
        return read_label(path)
    except LnqError as error:
        raise LnqError(f"{path.name}: {error}") from None


def _add(array: np.ndarray, mask: np.ndarray, number: int) -> int:
    """Give the voxels of a mask a number where they have none; return how many have one."""
    taken = 0
    for layer, drawn in zip(array, mask, strict=True):
        if not drawn.any():
            continue
        inside = drawn != 0
        free = inside & (layer == 0)
        layer[free] = number
        taken += int(np.count_nonzero(inside) - np.count_nonzero(free))
    return taken
