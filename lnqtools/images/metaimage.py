"""MetaImage: its header and its voxels.

They are read without SimpleITK: for some names of data files it writes beyond its memory, it says
what is wrong on standard error, and it takes packed voxels that it could not unpack for read.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.streams import CHUNK, MAX_DEFLATE_RATIO, Stream, notes_of, open_input, unpacked
from lnqtools.images.grid import Grid
from lnqtools.images.headers import (
    MAX_HEADER_LINES,
    MM,
    Notes,
    check_dimensions,
    data_file,
    lps_grid,
    note_of_ignored,
    refuse_units,
)

META_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
META_NUMBERS = dict.fromkeys(("dimsize", "elementspacing", "elementsize"), 1)
META_NUMBERS |= dict.fromkeys(("compresseddatasize", "headersize", "elementnumberofchannels"), 0)
META_ORIGINS = ("imageposition", "origin", "offset", "position")
META_DIRECTIONS = ("transformmatrix", "rotation", "orientation")
"""Names of one thing; the first that is there counts."""
META_NUMBERS |= dict.fromkeys(META_ORIGINS, 1) | dict.fromkeys(META_DIRECTIONS, 2)
META_INTENSITY = {"elementtointensityfunctionslope": 1, "elementtointensityfunctionoffset": 0}
META_NUMBERS |= dict.fromkeys(META_INTENSITY, 0)
"""Fields of a MetaImage that hold numbers, so many: NDims to a power."""
META_YES = ("T", "t", "1")
"""How a MetaImage's yes begins."""
META_ORDERS = ("binarydatabyteordermsb", "elementbyteordermsb")
META_NAMES = (
    *("NDims", "DimSize", "ElementType", "BinaryData", "CompressedData", "CompressedDataSize"),
    *("HeaderSize", "ElementNumberOfChannels", "ElementSpacing", "ElementSize", "DistanceUnits"),
    *("ImagePosition", "Origin", "Offset", "Position", "TransformMatrix", "Rotation"),
    *("Orientation", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "ElementDataFile"),
    *("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"),
)
META_SPELLING = {name.lower(): name for name in META_NAMES}
"""Fields that are read. They may not come twice; others know them in this spelling alone."""

MAX_META_SIDE = 2**31
"""Voxels along an axis that no MetaImage has."""
MAX_META_STRETCH = 0.01
"""How far the directions of a MetaImage may be from length 1, by rounding."""


def meta_fields(line: str, stream: Stream) -> dict[str, str]:
    """Read the fields of a MetaImage header, of which the first line is read."""
    fields: dict[str, str] = {}
    whole = True
    for _ in range(MAX_HEADER_LINES):
        key, *value = re.split(r"\s*(?:=|:=?)\s*", line.strip(), maxsplit=1)
        if fields and not key:
            break
        field = key.lower()
        if (spelling := META_SPELLING.get(field, key)) != key:
            raise LnqError(f"cannot be read: its header spells the field {spelling} as {key}")
        if field in fields and field in META_SPELLING:
            raise LnqError(f"cannot be read: its header has the field {key} twice")
        fields[field] = "".join(value)
        whole = whole and bool(value) and key.isascii() and key.isprintable()
        if field == "elementdatafile":  # ends the header
            if not whole:
                raise LnqError("cannot be read: its header has a line that is not a field")
            break
        line = stream.readline(CHUNK).decode("latin-1")
    return fields


def check_meta_fields(fields: dict[str, str]) -> None:
    """Refuse a MetaImage that lacks a field, or whose numbers are not numbers."""
    for key in ("ndims", "dimsize", "elementtype"):
        if key not in fields:
            raise LnqError(f"cannot be read: its header lacks the field {key}")
    if fields["ndims"] not in map(str, range(1, 11)):
        raise LnqError("cannot be read: the field ndims of its header is damaged")
    if not fields.get("binarydata", "true").startswith(META_YES):
        raise LnqError("holds its voxels as text, which is not read: convert it")
    if fields["elementtype"] not in META_TYPES:
        raise LnqError("has voxels of a type that is not a plain number")
    if not fields.keys() & {"elementspacing", "elementsize"}:
        raise LnqError("does not say how large its voxels are (no ElementSpacing)")
    if len({_says_yes(fields, name) for name in META_ORDERS if name in fields}) > 1:
        raise LnqError("cannot be read: its header names two byte orders")
    refuse_units([fields.get("distanceunits", "")], MM)
    for key, power in META_NUMBERS.items():
        try:
            numbers = [float(word) for word in fields.get(key, "").encode("ascii").split()]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)) or (
            key in fields and len(numbers) != int(fields["ndims"]) ** power
        ):
            raise LnqError(f"cannot be read: the field {key} of its header is damaged")


def read_meta(
    path: str | Path, stream: Stream, fields: dict[str, str]
) -> tuple[np.ndarray, Grid, Notes]:
    """Read a MetaImage, of which a stream is at the end of the header, and say what is ignored."""
    grid = meta_grid(fields)
    order = ">" if any(_says_yes(fields, name) for name in META_ORDERS) else "<"
    dtype = np.dtype(order + META_TYPES[fields["elementtype"]])
    needed = math.prod(grid.shape) * dtype.itemsize
    with ExitStack() as stack:
        if (beside := data_file(path, fields)) is not None:
            stream = stack.enter_context(open_input(beside))
        content, ignored = _meta_voxels(stream, fields, needed)
    array = np.frombuffer(content, dtype).reshape(grid.shape)
    return array.astype(dtype.newbyteorder("="), copy=False), grid, ignored


def _meta_voxels(stream: Stream, fields: dict[str, str], needed: int) -> tuple[bytearray, Notes]:
    """Read the voxels of a MetaImage, which begin where a stream is, and say what is ignored."""
    begin = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    packed = _says_yes(fields, "compresseddata")
    header = int(float(fields.get("headersize", 0)))  # from the beginning of the file
    if header == -1:  # the voxels are the end of the file
        header = max(begin, end - needed)
    if header and (packed or header < begin):
        raise LnqError("cannot be read: the field headersize of its header is damaged")
    begin = header or begin
    most = (end - begin) * (MAX_DEFLATE_RATIO if packed else 1)
    if most < needed:
        raise LnqError(f"ends early: at most {max(0, most)} of {needed} bytes of voxels")
    stream.seek(begin)
    if not packed:
        content = bytearray(needed)  # which, unlike bytes, may be changed
        stream.readinto(content)
        return content, note_of_ignored(end - begin - needed)
    content, notes = _unpacked_voxels(stream, fields, needed)
    if len(content) < needed:
        raise LnqError(f"ends early: {len(content)} of {needed} bytes of voxels (truncated?)")
    if len(content) > needed:
        raise LnqError(f"holds more than the {needed} bytes of voxels that its header says")
    return content, notes


def _unpacked_voxels(
    stream: Stream, fields: dict[str, str], needed: int
) -> tuple[bytearray, Notes]:
    """Unpack gzip or zlib to its end, but to no more than one byte too many."""
    begin = stream.tell()
    content = bytearray()
    with unpacked(stream) as gunzipped:
        if gunzipped is not stream:
            while len(content) <= needed and (block := gunzipped.read(CHUNK)):
                content += block
            return content, notes_of(gunzipped)
    inflate = zlib.decompressobj()
    while not inflate.eof and len(content) <= needed:
        block = inflate.unconsumed_tail or stream.read(CHUNK)
        if not block:
            raise EOFError
        content += inflate.decompress(block, needed + 1 - len(content))
    if len(content) <= needed:
        packed = stream.tell() - begin - len(inflate.unused_data)
        if float(fields.get("compresseddatasize", packed)) != packed:
            raise LnqError(
                "its header gives another length of the compressed voxels; it is damaged"
            )
    return content, ()


def meta_grid(fields: dict[str, str]) -> Grid:
    """Return the grid of a MetaImage; each row of its matrix is the direction of an axis."""
    dimensions = int(fields["ndims"])

    def numbers(names: Sequence[str], default: np.ndarray) -> np.ndarray:
        text = next((fields[name] for name in names if name in fields), None)
        return default if text is None else np.array(text.split(), float)

    size = numbers(("dimsize",), np.ones(0))
    if (size != np.rint(size)).any() or (np.abs(size) > MAX_META_SIDE).any():
        raise LnqError("cannot be read: the field dimsize of its header is damaged")
    channels = numbers(("elementnumberofchannels",), np.ones(1))
    check_dimensions([int(n) for n in size], int(channels[0]))
    spacing = numbers(("elementspacing", "elementsize"), np.ones(dimensions))
    matrix = numbers(META_DIRECTIONS, np.eye(dimensions).ravel())
    axes = matrix.reshape(dimensions, dimensions)[:3, :3]
    lengths = np.linalg.norm(axes, axis=1)
    if spacing[:3].min() < 0 or lengths.min() == 0:
        raise LnqError("cannot be read: its header gives impossible axes")
    origin = numbers(META_ORIGINS, np.zeros(dimensions))
    grid = lps_grid([int(n) for n in size], axes.T / lengths, spacing, origin)
    if not np.allclose(lengths, 1, atol=MAX_META_STRETCH):
        raise LnqError("cannot be read: its header gives directions that are not of length 1")
    return grid


def _says_yes(fields: dict[str, str], name: str) -> bool:
    """Tell whether a field of a MetaImage says yes."""
    return fields.get(name, "false").startswith(META_YES)
