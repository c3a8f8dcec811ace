"""Codes of what is written: SNOMED CT for what is seen, DICOM for how it was found."""

from __future__ import annotations

from typing import Any

from lnqtools.dicom.packages import load

LYMPH_NODE = ("59441001", "SCT", "Lymph node")
ANATOMICAL_STRUCTURE = ("91723000", "SCT", "Anatomical Structure")
LONG_AXIS = ("103339001", "SCT", "Long axis")
SHORT_AXIS = ("103340004", "SCT", "Short axis")
VOLUME = ("118565006", "SCT", "Volume")
MM = ("mm", "UCUM", "millimeter")
MM3 = ("mm3", "UCUM", "cubic millimeter")
ARTIFICIAL_INTELLIGENCE = ("123110", "DCM", "Artificial Intelligence")
DEVICE = ("121007", "DCM", "Device")
CT_CHEST = ("24627-2", "LN", "Chest CT")


def code(value: tuple[str, str, str]) -> Any:
    """Return a code as highdicom takes it."""
    return load("pydicom.sr.coding").Code(*value)


def code_item(value: tuple[str, str, str]) -> Any:
    """Return a code as an item of a sequence."""
    item = load("pydicom").Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value
    return item
