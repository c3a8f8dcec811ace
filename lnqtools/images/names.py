"""Names of labels: in the headers of images that hold them, or in a table beside."""

from __future__ import annotations

from pathlib import Path

from lnqtools.images.nifti import Extension, named_labels
from lnqtools.images.volume import Volume, image_suffix

LABEL_TABLE_CODE = 0
WITH_TABLE = "+"
"""Separates the digest of a map from that of the table beside it that gave its names."""


def names_in_header(volume: Volume) -> dict[int, str]:
    """Return number → name as the map's header says, or {} if it does not.

    The name of 0 is left out, because 0 is not a structure.
    """
    return named_labels(volume.extensions)


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


def names_table_path(path: str | Path) -> Path:
    """Return where the table of a map's names lies: beside it, as ``.tsv``."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(image_suffix(path)) + ".tsv")
