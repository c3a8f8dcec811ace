"""TotalSegmentator's multilabel maps: which number is which structure.

The numbers differ between version 1 (104 classes) and version 2 (117): only six mean the same
in both. Structures are therefore chosen by name. The names come from the map itself, where
TotalSegmentator wrote them into the NIfTI header, or from the table beside it, or from the
version that the user gives. Nothing is guessed from the numbers.
"""

from __future__ import annotations

import io
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.streams import digest_to_end
from lnqtools.images.layers import Layers
from lnqtools.images.names import WITH_TABLE, label_table, names_in_header, names_table_path
from lnqtools.images.volume import Volume, read_label

LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)
MAX_LUNG_MASK_LABEL = 5
"""A map without names and no larger value is a lung mask: lungs 1, 2 or lobes 1 to 5."""
PRESETS = {
    "lungs": LOBES,
    "mediastinum": (
        *("heart", "heart_*", "atrial_appendage_left", "aorta", "superior_vena_cava"),
        *("inferior_vena_cava", "pulmonary_artery", "pulmonary_vein", "brachiocephalic_*"),
        *("subclavian_artery_*", "common_carotid_artery_*", "esophagus", "trachea"),
        "thyroid_gland",
    ),
}
"""Names for many structures; each takes what a version has of them."""
LUNG_VESSELS = frozenset(
    {
        *("lung_airways", "lung_airways_wall", "lung_arteries", "lung_veins"),
        *("lung_vessels", "lung_trachea_bronchia"),  # of the older model
    }
)
TRUNK_CAVITIES = frozenset({"abdominal_cavity", "thoracic_cavity", "pericardium", "mediastinum"})
TASKS = ("total", "lung_vessels", "trunk_cavities")
"""TotalSegmentator's tasks whose maps are known."""

FEW_RUNS = 8
"""Of labels, as the five lobes or all but the aorta: to compare is faster than to look up."""

NAMES_HEADING = "index\tname\tvoxels"


class NamelessMapError(LnqError):
    """A map does not say which number is which structure."""


@cache
def class_names(version: str) -> dict[int, str]:
    """Return number → name of the task ``total`` of TotalSegmentator ``v1`` or ``v2``."""
    text = files("lnqtools").joinpath("data", f"totalsegmentator_{version}.txt").read_text()
    return dict(enumerate(text.split(), start=1))


@cache
def task_names(task: str) -> frozenset[str]:
    """Return the names of the structures of one of `TASKS`, in whatever version of it."""
    total = (*class_names("v1").values(), *class_names("v2").values())
    return {
        "total": frozenset(total),
        "lung_vessels": LUNG_VESSELS,
        "trunk_cavities": TRUNK_CAVITIES,
    }[task]


@cache
def _names_by_kind() -> dict[str, frozenset[str]]:
    """Return what is named in maps of each task and in training labels; no two share a name."""
    return {
        **{_map_of(task): task_names(task) for task in TASKS},
        "a training label": frozenset({"lymph_node", "unknown"}),
    }


def _map_of(task: str) -> str:
    return f"a map of the task {task}"


def check_task(names: dict[int, str], task: str) -> None:
    """Raise LnqError unless a map's names are those of a task.

    The structures must not hold lymph nodes: a cavity holds some, and a training label names them.
    A name that no known task has may be a newer version's.

    Parameters
    ----------
    names : dict
        Number → name of the map's classes.
    task : str
        ``total`` of either version, ``lung_vessels`` or ``trunk_cavities``.
    """
    wanted, given = _map_of(task), list(names.values())
    _check_other_kinds(given, wanted, wanted)
    if _names_by_kind()[wanted].isdisjoint(given):
        raise LnqError(f"names no structure of the task {task} (but {given[0]})")


def check_region(names: dict[int, str]) -> None:
    """Raise LnqError for what is known not to be a region: a map of structures, a training label.

    A map of ``trunk_cavities`` is one, and so is whatever has names of its own.

    Parameters
    ----------
    names : dict
        Number → name of the map's classes; none is as good.
    """
    _check_other_kinds(list(names.values()), _map_of("trunk_cavities"), "a region")


def _check_other_kinds(given: list[str], may_be: str, wanted: str) -> None:
    """Raise LnqError if names are those of a kind that they may not be."""
    for kind, known in _names_by_kind().items():
        if kind != may_be and (shared := [name for name in given if name in known]):
            raise LnqError(f"is {kind} (it names {shared[0]}), not {wanted}")


def names_table(names: dict[int, str], array: np.ndarray) -> str:
    """Return a table of a map's structures: index, name, and the number of voxels."""
    voxels = np.bincount(array.ravel(), minlength=max(names) + 1)
    lines = [f"{index}\t{name}\t{voxels[index]}" for index, name in names.items()]
    return "\n".join([NAMES_HEADING, *lines]) + "\n"


def read_map(path: str | Path) -> Volume:
    """Read a multilabel map; names that its header lacks come from the table beside it.

    Raises
    ------
    LnqError
        As `lnqtools.images.volume.read_label`.
    """
    volume = read_label(path)
    names, digest = ({}, "") if names_in_header(volume) else _names_beside(path)
    if not names:
        return volume
    extensions = (*volume.extensions, label_table(names))
    content = f"{volume.content}{WITH_TABLE}{digest}"
    return replace(volume, extensions=extensions, content=content)


def _names_beside(path: str | Path) -> tuple[dict[int, str], str]:
    """Return the names in the table beside a map but that of 0, and its digest; {} if none is."""
    table = names_table_path(path)
    if not table.is_file():  # a FIFO would wait
        return {}, ""
    try:
        content = table.read_bytes()
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return {}, ""
    if not lines or lines[0].split("\t")[:2] != ["index", "name"]:
        return {}, ""
    cells = [line.split("\t") for line in lines[1:]]
    names = {int(c[0]): c[1] for c in cells if len(c) > 1 and c[0].isdecimal() and int(c[0])}
    return names, digest_to_end(io.BytesIO(content))


def structure_names(volume: Volume, classes: str = "auto") -> dict[int, str]:
    """Return number → name for a map, from the version given or from the map itself.

    Parameters
    ----------
    volume : Volume
        A multilabel map of TotalSegmentator, as `read_map` gives it.
    classes : str
        ``v1`` or ``v2``: the task ``total`` of that version; ``auto``: as the map says.

    Raises
    ------
    NamelessMapError
        If the map does not say.
    LnqError
        If it says otherwise than the version given, or holds a number above the last class.
    """
    own = names_in_header(volume)
    names = own if classes == "auto" else class_names(classes)
    for number, name in own.items():
        if names.get(number) != name:
            raise LnqError(
                f"names its label {number} {name}, which in {classes} is "
                f"{names.get(number, 'not a class')}"
            )
    if not names:
        raise NamelessMapError(
            "does not name its structures, and numbers mean something else in each version of "
            "TotalSegmentator"
        )
    if (highest := int(volume.array.max())) > max(names):
        raise LnqError(f"holds label {highest}, which is not a class of TotalSegmentator")
    return names


def chosen_labels(names: dict[int, str], wanted: str) -> frozenset[int]:
    """Return the numbers of the structures that a selection names.

    Parameters
    ----------
    names : dict
        Number → name of the map's classes.
    wanted : str
        Parts with commas between, applied in order: ``all``, one of `PRESETS`, a name
        (``rib_*`` matches many); ``-name`` takes away. A selection that begins with ``-``
        begins from ``all``.

    Raises
    ------
    LnqError
        If a part matches no class of the map, or nothing is left.
    """
    parts = [part for part in (p.strip() for p in wanted.split(",")) if part]
    chosen = set(names) if parts and parts[0].startswith("-") else set()
    for part in parts:
        pattern = part.removeprefix("-")
        found = _matching(names, pattern)
        if not found:
            near = get_close_matches(pattern, names.values(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LnqError(f"has no structure named {pattern}{hint}")
        chosen = chosen - found if part.startswith("-") else chosen | found
    if not chosen:
        raise LnqError(f"has no structure left of the selection {wanted!r}")
    return frozenset(chosen)


def _matching(names: dict[int, str], pattern: str) -> set[int]:
    """Return the numbers that one part of a selection means; a class comes before a preset."""
    if pattern == "all":
        return set(names)
    patterns = (pattern,) if pattern in names.values() else PRESETS.get(pattern, (pattern,))
    return {n for n, name in names.items() if any(fnmatchcase(name, p) for p in patterns)}


def _runs(labels: frozenset[int]) -> list[tuple[int, int]]:
    """Return the first of numbers that follow each other, and how many do, for each such run."""
    firsts = sorted(n for n in labels if n - 1 not in labels)
    lasts = sorted(n for n in labels if n + 1 not in labels)
    return [(first, last + 1 - first) for first, last in zip(firsts, lasts, strict=True)]


def labels_mask(array: np.ndarray, labels: frozenset[int]) -> np.ndarray:
    """Return where an array of unsigned labels holds one of some numbers, as (z, y, x) bool."""
    mask = np.empty(array.shape, bool)
    runs = _runs(labels)
    few = len(runs) <= FEW_RUNS and max(labels) <= np.iinfo(array.dtype).max
    if few and array.dtype.kind == "u":
        for layer, found in zip(array, mask, strict=True):
            low, count = runs[0]
            np.less(layer - array.dtype.type(low), count, out=found)  # what is lower wraps round
            for low, count in runs[1:]:
                found |= layer - array.dtype.type(low) < count
        return mask
    table = np.zeros(max(int(array.max()), *labels) + 1, bool)
    table[list(labels)] = True
    for layer, found in zip(array, mask, strict=True):  # as large numbers, the whole fills memory
        table.take(layer, out=found, mode="clip")  # none is out of range; "raise" would copy
    return mask


def label_layers(array: np.ndarray, labels: frozenset[int]) -> Layers:
    """Return what `labels_mask` does, a layer at a time."""
    return Layers(len(array), lambda z: labels_mask(array[z : z + 1], labels)[0])


def lung_mask(volume: Volume, classes: str = "auto") -> np.ndarray:
    """Return the lungs of a lung mask or of a multilabel map: what is not 0, as (z, y, x).

    Without names in its header, a map whose largest value is at most 5, or that holds 0 and 255
    alone, is a lung mask (any value counts); any other is a TotalSegmentator map, of which the
    five lobes are taken.

    Raises
    ------
    LnqError
        As `structure_names`.
    """
    unnamed = classes == "auto" and not names_in_header(volume)
    if unnamed and (volume.array.max() <= MAX_LUNG_MASK_LABEL or _is_mask_of_255(volume.array)):
        return volume.array
    names = structure_names(volume, classes)
    return labels_mask(volume.array, chosen_labels(names, ",".join(LOBES)))


def _is_mask_of_255(array: np.ndarray) -> bool:
    return array.max() == 255 and np.count_nonzero(array) == np.count_nonzero(array == 255)
