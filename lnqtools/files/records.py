"""Records that tools leave beside what they made: their names, and which files they may name."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

MODEL_RECORD, REPORT_RECORD = "lnq-train.json", "lnq-report.json"
SUMS = "sha256"
"""The key of the files that were made beside a record: name → SHA-256."""


def leads_out(name: str) -> bool:
    """Tell whether a path could lead out of the folder that it is put into, or be cut short."""
    path = PurePosixPath(name)
    absolute = path.is_absolute() or PureWindowsPath(name).drive != ""
    return absolute or ".." in path.parts or "\\" in name or "\0" in name
