"""NRRD and MetaImage, ITK's formats: arrays and grids out of their files.

Which of the two a file is, its first line says, not its name.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.foreign import HEAD_BYTES, what_it_is
from lnqtools.files.streams import CHUNK, MAX_DEFLATE_RATIO, Stream, digest_to_end, open_input
from lnqtools.images.grid import Grid
from lnqtools.images.headers import data_file, is_meta
from lnqtools.images.metaimage import (
    META_DIRECTIONS,
    META_INTENSITY,
    META_ORIGINS,
    check_meta_fields,
    meta_fields,
    meta_grid,
    read_meta,
)
from lnqtools.images.nrrd import (
    ENCODINGS,
    NO_PATIENT,
    check_nrrd_fields,
    nrrd_fields,
    nrrd_grid,
    open_nrrd,
    read_nrrd,
)


def read_itk(
    path: str | Path,
) -> tuple[np.ndarray, Grid, tuple[str, ...], tuple[()], str]:
    """Read a NRRD or MetaImage file, with the voxels beside it if they are there.

    Returns
    -------
    (z, y, x) ndarray
        Plain numbers, in native byte order.
    Grid
    tuple of str
        What was odd about the file, a sentence each.
    tuple
        Empty: neither has header extensions as NIfTI has them.
    str
        What `itk_digest` gives.

    Raises
    ------
    LnqError
        If it is not a whole, readable image of three dimensions.
    """
    content = itk_digest(path)  # before: what is changed meanwhile is then seen as another
    with open_input(path) as stream:
        fields = _read_fields(path, stream)
        read = read_meta if is_meta(fields) else read_nrrd
        array, grid, ignored = read(path, stream, fields)
    return array, grid, (*_notes(fields), *ignored), (), content


def read_itk_grid(path: str | Path) -> tuple[Grid, tuple[str, ...]]:
    """Read where the voxels of a NRRD or MetaImage file lie, from its header alone, and notes."""
    with open_input(path) as stream:
        fields = _read_fields(path, stream)
    grid = meta_grid(fields) if is_meta(fields) else nrrd_grid(open_nrrd(path))
    size = (data_file(path, fields) or Path(path)).stat().st_size
    rarely_packed = fields.get("encoding", "raw").lower() not in ENCODINGS
    if math.prod(grid.shape) > size * MAX_DEFLATE_RATIO and not rarely_packed:
        raise LnqError("its header claims more voxels than the file can hold (truncated?)")
    return grid, _notes(fields)


def itk_digest(path: str | Path) -> str:
    """Return digests of a NRRD or MetaImage file and, if its voxels lie beside it, of these."""
    with open_input(path) as stream:
        beside = data_file(path, _text_header(stream))
    digests = []
    for file in (path, beside) if beside else (path,):
        with open_input(file) as stream:
            digests.append(digest_to_end(stream))
    return ",".join(digests)


# Headers of both


def _read_fields(path: str | Path, stream: Stream) -> dict[str, str]:
    """Read the fields of a header, and check them as far as possible."""
    fields = _text_header(stream)
    (check_meta_fields if is_meta(fields) else check_nrrd_fields)(fields)
    data_file(path, fields)
    return fields


def _text_header(stream: Stream) -> dict[str, str]:
    """Read the lines of a NRRD or MetaImage header, up to the voxels."""
    first = stream.readline(CHUNK).decode("latin-1")
    is_nrrd = first.startswith("NRRD")
    fields = nrrd_fields(stream) if is_nrrd else meta_fields(first, stream)
    if ("sizes" if is_nrrd else "elementdatafile") in fields:
        return fields
    stream.seek(0)
    raise LnqError(
        what_it_is(stream.read(HEAD_BYTES), "NRRD", "MetaImage")
        or "is empty, truncated, or neither a NRRD nor a MetaImage file"
    )


def _notes(fields: dict[str, str]) -> tuple[str, ...]:
    """Return what a header leaves open, and what of it was not followed, a sentence each."""
    origins: tuple[str, ...]
    if is_meta(fields):
        has_axes = bool(fields.keys() & {*META_DIRECTIONS})
        origins = META_ORIGINS
        scaled = any(float(fields.get(name, n)) != n for name, n in META_INTENSITY.items())
    else:
        has_axes = fields.get("space", "").lower() not in ("", *NO_PATIENT)
        origins = ("spaceorigin", "axismins")
        scaled = False
    notes = []
    if not has_axes:
        notes.append("its header names no patient's axes: LPS was taken")
    if not fields.keys() & {*origins}:
        notes.append("its header gives no origin: 0 was taken")
    if scaled:
        notes.append("its intensity function was not applied: the voxels were taken as they are")
    return tuple(notes)
