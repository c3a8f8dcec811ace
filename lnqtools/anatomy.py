"""TotalSegmentator's multilabel maps: which number is which structure.

The numbers differ between version 1 (104 classes) and version 2 (117): only six mean the same
in both. Structures are therefore chosen by name. The names come from the map itself where
TotalSegmentator wrote them into the NIfTI header, else from the version that the user gives.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.volume import Extension, Volume

LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)
MAX_LUNG_MASK_LABEL = 5
"""A map without names and no larger value is a lung mask: lungs 1, 2 or lobes 1 to 5."""
LABEL_TABLE_CODE = 0
_LABEL = re.compile(r'<Label\s+Key="(\d+)"[^>]*>\s*<!\[CDATA\[(.*?)\]\]>', re.DOTALL)


@cache
def class_names(version: str) -> dict[int, str]:
    """Return number → name of the task ``total`` of TotalSegmentator ``v1`` or ``v2``."""
    text = files("lnqtools").joinpath("data", f"totalsegmentator_{version}.txt").read_text()
    return dict(enumerate(text.split(), start=1))


def names_in_header(volume: Volume) -> dict[int, str]:
    """Return number → name as the map's header says, or {} if it does not."""
    for _, content in volume.extensions:
        text = content.decode("utf-8", "replace")
        if found := _LABEL.findall(text):
            return {int(key): name.strip() for key, name in found}
    return {}


def label_table(names: dict[int, str]) -> Extension:
    """Return a NIfTI header extension that names labels, as TotalSegmentator writes it."""
    labels = "".join(
        f'<Label Key="{key}" Red="1" Green="1" Blue="1" Alpha="1"><![CDATA[{name}]]></Label>'
        for key, name in names.items()
    )
    return LABEL_TABLE_CODE, (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0">'
        f"<LabelTable>{labels}</LabelTable></VolumeInformation></CaretExtension>"
    ).encode()


def structure_names(volume: Volume, classes: str = "auto") -> dict[int, str]:
    """Return number → name for a map, from the version given or from the map itself.

    Parameters
    ----------
    volume : Volume
        A multilabel map of the task ``total``.
    classes : str
        ``v1``, ``v2``, or ``auto``: as the header says; without names there, version 2 if the
        map holds a number that version 1 does not have.

    Raises
    ------
    LnqError
        If the version cannot be told, or the map holds a number above the last class.
    """
    if classes != "auto":
        names = class_names(classes)
    elif not (names := names_in_header(volume)):
        if volume.array.max() <= len(class_names("v1")):
            raise LnqError(
                "does not say which TotalSegmentator version made it, and the numbers fit both; "
                "say --classes v1 or v2"
            )
        names = class_names("v2")
    if (highest := int(volume.array.max())) > max(names):
        raise LnqError(f"holds label {highest}, which is no class of TotalSegmentator")
    return names


def chosen_labels(names: dict[int, str], wanted: str) -> frozenset[int]:
    """Return the numbers of the structures that a selection names.

    Parameters
    ----------
    names : dict
        Number → name of the map's classes.
    wanted : str
        Parts with commas between, applied in order: ``all``, a name (``rib_*`` matches many),
        ``-name`` takes away. A selection that begins with ``-`` begins from ``all``.

    Raises
    ------
    LnqError
        If a part matches no class of the map, or nothing is left.
    """
    parts = [part for part in (p.strip() for p in wanted.split(",")) if part]
    chosen = set(names) if parts and parts[0].startswith("-") else set()
    for part in parts:
        pattern = part.removeprefix("-")
        found = {n for n, name in names.items() if pattern == "all" or fnmatchcase(name, pattern)}
        if not found:
            near = get_close_matches(pattern, names.values(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LnqError(f"has no structure named {pattern}{hint}")
        chosen = chosen - found if part.startswith("-") else chosen | found
    if not chosen:
        raise LnqError(f"no structure is left of the selection {wanted!r}")
    return frozenset(chosen)


def labels_mask(array: np.ndarray, labels: frozenset[int]) -> np.ndarray:
    """Return where an array of unsigned labels holds one of some numbers, as (z, y, x) bool."""
    table = np.zeros(max(int(array.max()), *labels) + 1, bool)
    table[list(labels)] = True
    return table[array]


def lung_mask(volume: Volume, classes: str = "auto") -> np.ndarray:
    """Return the lungs of a lung mask or of a multilabel map, as (z, y, x) bool.

    Without names in its header, a map whose largest value is at most 5, or that holds 0 and 255
    alone, is a lung mask (any value counts); any other is a TotalSegmentator map, of which the
    five lobes are taken.

    Raises
    ------
    LnqError
        If a map's version cannot be told.
    """
    unnamed = classes == "auto" and not names_in_header(volume)
    if unnamed and (volume.array.max() <= MAX_LUNG_MASK_LABEL or _is_mask_of_255(volume.array)):
        return volume.array != 0
    names = structure_names(volume, classes)
    return labels_mask(volume.array, chosen_labels(names, ",".join(LOBES)))


def _is_mask_of_255(array: np.ndarray) -> bool:
    return array.max() == 255 and np.count_nonzero(array) == np.count_nonzero(array == 255)
