"""What the text headers of NRRD and MetaImage have in common, and their grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, straightened

Notes = tuple[str, ...]
"""What is odd about a file, one sentence for each oddity."""

MAX_HEADER_LINES = 10_000

MM = {"mm", "millimeter", "millimeters", "", "?", "???"}
"""Units of lengths that are mm, or not given."""


def is_meta(fields: dict[str, str]) -> bool:
    """Tell whether a header is a MetaImage's."""
    return "elementdatafile" in fields


def data_file(path: str | Path, fields: dict[str, str]) -> Path | None:
    """Return the file beside a header that holds the voxels, or None if they follow the header."""
    name = fields.get("elementdatafile" if is_meta(fields) else "datafile") or "LOCAL"
    if name.upper() == "LOCAL":
        return None
    if name.startswith("LIST") or "%" in name:
        raise LnqError("has one file per slice, which is not read: convert it")
    beside = Path(path).parent / name
    try:
        there = beside.is_file()
    except OSError:  # no file can have such a name
        there = False
    if not there:
        raise LnqError(f"its data file {name} is missing")
    return beside


def refuse_units(units: Iterable[str], known: set[str]) -> None:
    """Raise LnqError for lengths in another unit than those that are known."""
    for unit in units:
        if unit.strip().lower() not in known:
            raise LnqError(f"gives lengths in {unit}, which are not mm: convert it")


def check_dimensions(size: Sequence[int], numbers: int) -> None:
    """Refuse what is not a 3-D volume of one number per voxel; the size begins with x."""
    if len(size) < 3 or any(n != 1 for n in size[3:]) or numbers != 1:
        dims = " × ".join(map(str, size))
        raise LnqError(f"must be one 3-D volume, it is {dims} with {numbers} numbers per voxel")
    if min(size) < 1:
        raise LnqError(f"its header has impossible dimensions {list(size)}")


def lps_grid(
    size: Sequence[int],
    direction: np.ndarray,
    spacing: Sequence[float] | np.ndarray,
    origin: Sequence[float] | np.ndarray,
) -> Grid:
    """Return a grid in RAS+ from one in LPS+, with its axes in the columns of ``direction``."""
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = to_ras @ (direction[:3, :3] * np.array(spacing[:3]))
    affine[:3, 3] = to_ras @ np.array(origin[:3])
    shape = (size[2], size[1], size[0])
    return Grid.from_affine(shape, straightened(affine, shape))


def note_of_ignored(unread: int) -> Notes:
    """Return what to say of bytes that follow the voxels."""
    return (f"{unread} bytes after the voxels were ignored",) if unread else ()
