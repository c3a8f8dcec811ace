"""NRRD and MetaImage, ITK's formats: arrays and grids out of their files.

SimpleITK reads NRRD, once the voxels are found to be whole: it takes damaged files for whole
(measured with 2.5.7). MetaImages are read without it: for some names of data files it writes beyond
its memory, it says what is wrong on standard error, and it takes packed voxels that it could not
unpack for read.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.foreign import HEAD_BYTES, what_it_is
from lnqtools.files.streams import (
    CHUNK,
    MAX_DEFLATE_RATIO,
    Stream,
    digest_to_end,
    notes_of,
    open_input,
    unpacked,
)
from lnqtools.images.grid import Grid, straightened

Notes = tuple[str, ...]
"""What is odd about a file, a sentence each."""

MAX_HEADER_LINES = 10_000
ENCODINGS = {"raw": False, "gz": True, "gzip": True}
"""Of a NRRD file: the usual ones, and whether they pack the voxels."""
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
MM = {"mm", "millimeter", "millimeters", "", "?", "???"}
TIMES = {"s", "ms", "sec", "second", "seconds"}
"""Units that say nothing against mm; of a fourth axis, of one volume."""
NRRD_SPACES = (
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
)
NO_PATIENT = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
"""Spaces whose axes are not those of a patient."""
MAX_META_SIDE = 2**31
"""Voxels along an axis that no MetaImage has."""
MAX_META_STRETCH = 0.01
"""How far the directions of a MetaImage may be from length 1, by rounding."""


def read_itk(path: str | Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Read a NRRD or MetaImage file, with the voxels beside it if they are there.

    Returns
    -------
    (z, y, x) ndarray
        Plain numbers, in native byte order.
    Grid
    tuple of str
        What was odd about the file, a sentence each.

    Raises
    ------
    LnqError
        If it is not a whole, readable image of three dimensions.
    """
    with open_input(path) as stream:
        fields = _read_fields(path, stream)
        read = _read_meta if _is_meta(fields) else _read_nrrd
        array, grid, ignored = read(path, stream, fields)
    return array, grid, (*_notes(fields), *ignored)


def read_itk_grid(path: str | Path) -> tuple[Grid, tuple[str, ...]]:
    """Read where the voxels of a NRRD or MetaImage file lie, from its header alone, and notes."""
    with open_input(path) as stream:
        fields = _read_fields(path, stream)
    grid = _meta_grid(fields) if _is_meta(fields) else _nrrd_grid(_open_nrrd(path))
    size = (_data_file(path, fields) or Path(path)).stat().st_size
    rarely_packed = fields.get("encoding", "raw").lower() not in ENCODINGS
    if math.prod(grid.shape) > size * MAX_DEFLATE_RATIO and not rarely_packed:
        raise LnqError("its header claims more voxels than the file can hold (truncated?)")
    return grid, _notes(fields)


def itk_digest(path: str | Path) -> str:
    """Return digests of a NRRD or MetaImage file and, if its voxels lie beside it, of these."""
    with open_input(path) as stream:
        beside = _data_file(path, _text_header(stream))
    digests = []
    for file in (path, beside) if beside else (path,):
        with open_input(file) as stream:
            digests.append(digest_to_end(stream))
    return ",".join(digests)


# Headers of both


def _read_fields(path: str | Path, stream: Stream) -> dict[str, str]:
    """Read the fields of a header, and look at them as far as they can be."""
    fields = _text_header(stream)
    (_check_meta_fields if _is_meta(fields) else _check_nrrd_fields)(fields)
    _data_file(path, fields)
    return fields


def _text_header(stream: Stream) -> dict[str, str]:
    """Read the lines of a NRRD or MetaImage header, up to the voxels."""
    first = stream.readline(CHUNK).decode("latin-1")
    is_nrrd = first.startswith("NRRD")
    fields = _nrrd_fields(stream) if is_nrrd else _meta_fields(first, stream)
    if ("sizes" if is_nrrd else "elementdatafile") in fields:
        return fields
    stream.seek(0)
    raise LnqError(
        what_it_is(stream.read(HEAD_BYTES), "NRRD", "MetaImage")
        or "is empty, truncated, or neither a NRRD nor a MetaImage file"
    )


def _nrrd_fields(stream: Stream) -> dict[str, str]:
    """Read the fields of a NRRD header, but for keys of its writer: they end with ``:=``."""
    fields: dict[str, str] = {}
    for _ in range(MAX_HEADER_LINES):
        line = stream.readline(CHUNK).decode("latin-1").strip()
        if not line:  # it ends the header, the file's end a detached one
            break
        key, _, value = line.partition(":")
        if not value.startswith("="):
            fields[key.lower().replace(" ", "")] = value.strip()
    fields.pop("elementdatafile", None)
    return fields


def _meta_fields(line: str, stream: Stream) -> dict[str, str]:
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
                raise LnqError("cannot be read: its header has a line that is no field")
            break
        line = stream.readline(CHUNK).decode("latin-1")
    return fields


def _is_meta(fields: dict[str, str]) -> bool:
    return "elementdatafile" in fields


def _data_file(path: str | Path, fields: dict[str, str]) -> Path | None:
    """Return the file beside a header that holds the voxels, or None if they follow the header."""
    name = fields.get("elementdatafile" if _is_meta(fields) else "datafile") or "LOCAL"
    if name.upper() == "LOCAL":
        return None
    if name.startswith("LIST") or "%" in name:
        raise LnqError("has a file a slice, which is not read: convert it")
    beside = Path(path).parent / name
    try:
        there = beside.is_file()
    except OSError:  # no file can have such a name
        there = False
    if not there:
        raise LnqError(f"its data file {name} is missing")
    return beside


def _notes(fields: dict[str, str]) -> tuple[str, ...]:
    """Return what a header leaves open, and what of it was not followed, a sentence each."""
    origins: tuple[str, ...]
    if _is_meta(fields):
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


def _refuse_units(units: Iterable[str], known: set[str]) -> None:
    for unit in units:
        if unit.strip().lower() not in known:
            raise LnqError(f"gives lengths in {unit}, which are not mm: convert it")


def _check_dimensions(size: Sequence[int], numbers: int) -> None:
    """Refuse what is no 3-D volume of one number a voxel; the size begins with x."""
    if len(size) < 3 or any(n != 1 for n in size[3:]) or numbers != 1:
        dims = " × ".join(map(str, size))
        raise LnqError(f"must be one 3-D volume, it is {dims} with {numbers} numbers a voxel")
    if min(size) < 1:
        raise LnqError(f"its header has impossible dimensions {list(size)}")


def _lps_grid(
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


# NRRD


def _check_nrrd_fields(fields: dict[str, str]) -> None:
    """Refuse a NRRD file whose place or size SimpleITK would make up, or take for another."""
    _refuse_units(re.findall('"([^"]*)"', fields.get("spaceunits", "")), MM)
    _refuse_units(re.findall('"([^"]*)"', fields.get("units", "")), MM | TIMES)
    if (space := fields.get("space", "").lower()) not in ("", *NRRD_SPACES, *NO_PATIENT):
        raise LnqError(f"lies in the space {space}, which is not read: convert it")
    vectors = fields.get("spacedirections", "").count("(")
    lengths = max(vectors, len(_finite(fields.get("spacings", ""))))
    if lengths < min(3, len(fields["sizes"].split())):  # of fewer axes others speak
        raise LnqError("does not say how large its voxels are (no space directions or spacings)")
    origin = re.sub("[(),]", " ", fields.get("spaceorigin", ""))
    if len(_finite(origin)) < len(origin.split()):
        raise LnqError("cannot be read: the field space origin of its header is damaged")


def _finite(text: str) -> list[float]:
    """Return the finite numbers among words."""
    numbers = []
    for word in text.split():
        with suppress(ValueError):
            numbers.append(float(word))
    return [number for number in numbers if math.isfinite(number)]


def _read_nrrd(
    path: str | Path, stream: Stream, fields: dict[str, str]
) -> tuple[np.ndarray, Grid, Notes]:
    """Read a NRRD file, of which a stream is at the end of the header, and say what is ignored."""
    import SimpleITK as sitk

    reader = _open_nrrd(path)
    grid = _nrrd_grid(reader)
    try:
        voxel_bytes = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        needed = math.prod(grid.shape) * voxel_bytes
        ignored = _check_nrrd_voxels(path, stream, fields, needed)
        array = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, TypeError):
        raise LnqError("cannot be read: it is damaged, or not made of plain numbers") from None
    if array.dtype.kind not in "iuf":
        raise LnqError("has voxels of a type that is not a plain number")
    return array.reshape(grid.shape), grid, ignored


def _open_nrrd(path: str | Path):
    """Open a NRRD file with SimpleITK and read its header."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    try:
        str(path).encode()  # SimpleITK aborts the process on other names
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except UnicodeEncodeError:
        raise LnqError("has a name that is not UTF-8, which SimpleITK cannot open") from None
    except RuntimeError:
        raise LnqError("cannot be read: its header is damaged") from None
    _check_dimensions(reader.GetSize(), reader.GetNumberOfComponents())
    return reader


def _nrrd_grid(reader) -> Grid:
    """Return the grid that SimpleITK found."""
    size = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(size, size)
    return _lps_grid(reader.GetSize(), direction, reader.GetSpacing(), reader.GetOrigin())


def _check_nrrd_voxels(
    path: str | Path, stream: Stream, fields: dict[str, str], needed: int
) -> Notes:
    """Refuse voxels that are missing or damaged: SimpleITK overlooks both; say what is ignored."""
    packed = ENCODINGS.get(fields.get("encoding", "").lower())
    if packed is None:
        return ()  # text, or packed in a rare way: SimpleITK sees to it
    with ExitStack() as stack:
        if (beside := _data_file(path, fields)) is not None:
            stream = stack.enter_context(open_input(beside))
        length, notes = _length_of_voxels(stream, packed)
    if length < needed:
        raise LnqError(f"ends early: {length} of {needed} bytes of voxels (truncated?)")
    if packed and length > needed:
        raise LnqError(f"holds {length} bytes of voxels, its header says {needed}")
    skips = any(any(_finite(fields.get(key, ""))) for key in ("byteskip", "lineskip"))
    return notes if skips else (*notes, *_ignored(length - needed))


def _ignored(unread: int) -> Notes:
    return (f"{unread} bytes after the voxels were ignored",) if unread else ()


def _length_of_voxels(stream: Stream, packed: bool) -> tuple[int, Notes]:
    """Return the number of bytes to the end of a stream, as they are when unpacked, and notes."""
    if not packed:
        begin = stream.tell()
        return stream.seek(0, os.SEEK_END) - begin, ()
    with unpacked(stream) as content:
        if content is stream:
            raise LnqError("cannot be read: its voxels are not compressed, as its header says")
        length = sum(map(len, iter(lambda: content.read(CHUNK), b"")))
        return length, notes_of(content)


# MetaImage


def _check_meta_fields(fields: dict[str, str]) -> None:
    """Refuse a MetaImage that lacks a field, or whose numbers are none."""
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
    _refuse_units([fields.get("distanceunits", "")], MM)
    for key, power in META_NUMBERS.items():
        try:
            numbers = [float(word) for word in fields.get(key, "").encode("ascii").split()]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)) or (
            key in fields and len(numbers) != int(fields["ndims"]) ** power
        ):
            raise LnqError(f"cannot be read: the field {key} of its header is damaged")


def _read_meta(
    path: str | Path, stream: Stream, fields: dict[str, str]
) -> tuple[np.ndarray, Grid, Notes]:
    """Read a MetaImage, of which a stream is at the end of the header, and say what is ignored."""
    grid = _meta_grid(fields)
    order = ">" if any(_says_yes(fields, name) for name in META_ORDERS) else "<"
    dtype = np.dtype(order + META_TYPES[fields["elementtype"]])
    needed = math.prod(grid.shape) * dtype.itemsize
    with ExitStack() as stack:
        if (beside := _data_file(path, fields)) is not None:
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
        return content, _ignored(end - begin - needed)
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


def _meta_grid(fields: dict[str, str]) -> Grid:
    """Return the grid of a MetaImage; each row of its matrix is the direction of an axis."""
    dimensions = int(fields["ndims"])

    def numbers(names: Sequence[str], default: np.ndarray) -> np.ndarray:
        text = next((fields[name] for name in names if name in fields), None)
        return default if text is None else np.array(text.split(), float)

    size = numbers(("dimsize",), np.ones(0))
    if (size != np.rint(size)).any() or (np.abs(size) > MAX_META_SIDE).any():
        raise LnqError("cannot be read: the field dimsize of its header is damaged")
    channels = numbers(("elementnumberofchannels",), np.ones(1))
    _check_dimensions([int(n) for n in size], int(channels[0]))
    spacing = numbers(("elementspacing", "elementsize"), np.ones(dimensions))
    matrix = numbers(META_DIRECTIONS, np.eye(dimensions).ravel())
    axes = matrix.reshape(dimensions, dimensions)[:3, :3]
    lengths = np.linalg.norm(axes, axis=1)
    if spacing[:3].min() < 0 or lengths.min() == 0:
        raise LnqError("cannot be read: its header gives impossible axes")
    origin = numbers(META_ORIGINS, np.zeros(dimensions))
    grid = _lps_grid([int(n) for n in size], axes.T / lengths, spacing, origin)
    if not np.allclose(lengths, 1, atol=MAX_META_STRETCH):
        raise LnqError("cannot be read: its header gives directions that are not of length 1")
    return grid


def _says_yes(fields: dict[str, str], name: str) -> bool:
    """Tell whether a field of a MetaImage says yes."""
    return fields.get(name, "false").startswith(META_YES)
