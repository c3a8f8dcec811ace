"""DICOM objects by the words of the command line."""

from __future__ import annotations

from typing import Any

from lnqtools.dicom.export import Export
from lnqtools.dicom.export_report import make_report
from lnqtools.dicom.export_rtstruct import make_rtstruct
from lnqtools.dicom.export_seg import make_seg


def make_object(kind: str, export: Export) -> Any:
    """Return what a mask becomes: ``seg``, ``rtstruct`` or ``sr``; a report refers to the SEG."""
    if kind == "rtstruct":
        return make_rtstruct(export)
    if kind not in ("seg", "sr"):
        raise KeyError(kind)
    seg = make_seg(export)
    return seg if kind == "seg" else make_report(export, seg)
