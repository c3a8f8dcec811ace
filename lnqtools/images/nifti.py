"""NIfTI: voxels, geometry and records out of its files and into them.

The voxels go through isal straight into or out of one array. SimpleITK does not touch NIfTI files:
it takes damaged ones for whole and reports no full disk (measured with 2.5.7).
"""

from __future__ import annotations

import json
import math
import mmap
import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.foreign import HEAD_BYTES, PAIR, is_half_of_a_pair, what_it_is
from lnqtools.files.streams import (
    CHUNK,
    MAX_DEFLATE_RATIO,
    Digested,
    Stream,
    notes_of,
    open_input,
    read_to_end,
    unpacked,
)
from lnqtools.images.grid import NO_AXES, Grid, check_voxel_size, corner_distance, straightened
from lnqtools.images.nifti_header import LENGTH_1, LENGTH_2, NiftiHeader, nifti_1_bytes
from lnqtools.images.sums import fits, with_sum, without_sum

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume

LEAST_MAPPED_BYTES = 4 << 20
MAPPED_CHUNK = 256 << 10
"""Bytes that are read at once for a digest: they stay in the processor's cache."""
MAX_EXTENSION_BYTES = 64 << 20
MAX_SIDE = np.iinfo(np.int16).max
"""A NIfTI-1 header counts voxels in 16 bits."""
MAX_FORM_DIFFERENCE_MM = 0.5
MAX_COORDINATE = 1e12
"""Largest coordinate, in any unit; with larger ones the computation would overflow."""

UNIT_IN_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
MAX_LEVELS = 20
"""Levels of lists and objects in a record; what shows it goes down all of them."""
COMMENT_CODE = 6
"""NIFTI_ECODE_COMMENT, the extension that says how an image was made."""

_LABEL = re.compile(r'<Label\s+Key="(\d+)"[^>]*>\s*<!\[CDATA\[(.*?)\]\]>', re.DOTALL)

Extension = tuple[int, bytes]


def read_provenance(path: str | Path) -> dict | None:
    """Return what ``write_volume`` recorded in an image, or None if there is nothing."""
    with open_input(path) as raw, unpacked(raw) as stream:
        header = read_header(stream, path)
        return provenance_of(_read_extensions(stream, header))


def named_labels(extensions: tuple[Extension, ...]) -> dict[int, str]:
    """Return number → name of labels as header extensions say, without that of 0; {} if none do."""
    for _, content in extensions:
        text = content.decode("utf-8", "replace")
        if found := {int(k): name.strip() for k, name in _LABEL.findall(text) if int(k)}:
            return found
    return {}


def provenance_of(extensions: tuple[Extension, ...]) -> dict | None:
    """Return the record among header extensions that says how an image was made, or None."""
    record = _first_record(extensions)
    return None if record is None else without_sum(record)


def _first_record(extensions: tuple[Extension, ...]) -> dict | None:
    """Return the first record among header extensions, with its sum, or None."""
    return next((record for e in extensions if (record := _record(e)) is not None), None)


def is_as_written(path: str | Path) -> bool | None:
    """Tell whether a file holds what ``write_volume`` wrote, whether packed since or not.

    Returns
    -------
    bool or None
        None if there is no sum in its record.

    Raises
    ------
    LnqError
        If it is not a whole NIfTI file.
    """
    with open_input(path) as raw, unpacked(raw) as stream:
        block = _header_block(stream, path)
        extensions = _read_extensions(stream, _parsed(block))
        voxels = iter(partial(stream.read, CHUNK), b"")
        return fits(_first_record(extensions), _parts(block, extensions, voxels))


def _parts(
    block: bytes, extensions: Iterable[Extension], voxels: Iterable[Any]
) -> Iterable[bytes | memoryview]:
    """Yield what the sum of a record is of, but for where the voxels begin: after the record."""
    yield block[:108]
    yield block[112:]
    yield from (_extension_bytes(each) for each in extensions if _record(each) is None)
    yield from voxels


def _record(extension: Extension) -> dict | None:
    """Return the record that an extension holds, or None if it is another kind."""
    code, content = extension
    if code != COMMENT_CODE:
        return None
    try:
        record = json.loads(content.rstrip(b"\0"))
    except (ValueError, RecursionError):
        return None
    of_a_tool = isinstance(record, dict) and "tool" in record
    parts = ("options", "made_from")
    well_made = of_a_tool and all(isinstance(record.get(part, {}), dict) for part in parts)
    return record if well_made and _is_shallow(record, MAX_LEVELS) else None


def _is_shallow(value: Any, levels: int) -> bool:
    """Tell whether a value from JSON holds no more than so many levels of lists and objects."""
    if not isinstance(value, dict | list):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inside)


def read_nifti(
    path: str | Path, *, any_geometry: bool = False
) -> tuple[np.ndarray, Grid, tuple[str, ...], tuple[Extension, ...], str]:
    """Return the voxels, grid, notes, header extensions and digest of a NIfTI file.

    With ``any_geometry`` a header that does not say soundly where the voxels lie, as one whose
    axes are not at right angles, gives a grid of unknown place with voxels of 1 mm, and a note.
    """
    with open_input(path) as raw, unpacked(raw) as packed:
        stream = Digested(packed)
        header = read_header(stream, path)
        grid, notes = _any_geometry_of(header) if any_geometry else geometry_of(header)
        dtype = voxel_type(header)
        extensions = _read_extensions(stream, header)
        refuse_impossible_size(path, packed is not raw, grid.shape, dtype)
        is_plain = packed is raw and str(path) != "-"
        array = _mapped_voxels(raw, stream, grid.shape, dtype) if is_plain else None
        if array is None:
            array = _read_voxels(stream, grid.shape, dtype)
        extra = read_to_end(stream)
        notes += notes_of(packed)
    if extra:
        notes.append(f"{extra} bytes after the voxels were ignored")
    array, scaling_notes = _scaled(array, header)
    return array, grid, (*notes, *scaling_notes), extensions, stream.digest


def read_nifti_grid(path: str | Path) -> tuple[Grid, tuple[str, ...]]:
    """Read where the voxels of a NIfTI file lie, from its header alone, and notes."""
    with open_input(path) as raw, unpacked(raw) as stream:
        header = read_header(stream, path)
        grid, notes = geometry_of(header)
        refuse_impossible_size(path, stream is not raw, grid.shape, voxel_type(header))
    return grid, tuple(notes)


def _read_exactly(stream: Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise LnqError("ends early: it is not an image, or truncated")
    return content


def read_header(stream: Stream, path: str | Path) -> NiftiHeader:
    """Read a NIfTI-1 or -2 header of either byte order."""
    return _parsed(_header_block(stream, path))


def _parsed(block: bytes) -> NiftiHeader:
    return NiftiHeader.parse(block, "<" if block[0] else ">")


def _header_block(stream: Stream, path: str | Path) -> bytes:
    """Read the bytes of a header."""
    first = _read_exactly(stream, 4)
    length = int.from_bytes(first, "little" if first[0] else "big")
    if length == LENGTH_2:
        magic, place = b"n+2", slice(4, 7)
    elif length == LENGTH_1:
        magic, place = b"n+1", slice(344, 347)
    else:
        head = first + stream.read(HEAD_BYTES - 4)
        half = PAIR if is_half_of_a_pair(path) else None
        raise LnqError(half or what_it_is(head, "NIfTI") or "is not a NIfTI image")
    block = first + _read_exactly(stream, length - 4)
    if block[place] in (b"ni1", b"ni2", b"\0\0\0"):  # the last one is Analyze's
        raise LnqError(PAIR)
    if block[place] != magic:
        raise LnqError(f"is not a NIfTI image (its magic is {block[place]!r})")
    return block


def _read_extensions(stream: Stream, header: NiftiHeader) -> tuple[Extension, ...]:
    """Read on to the first voxel; return the header extensions."""
    start = header.offset
    room = start - header.length
    if not 0 <= room <= MAX_EXTENSION_BYTES or start != int(start):
        raise LnqError(f"its voxels cannot begin at byte {start:g}")
    block = _read_exactly(stream, int(room))
    order: Literal["little", "big"] = "little" if header.byte_order == "<" else "big"
    extensions, at = [], 4
    while block[:1] == b"\x01" and at + 8 <= len(block):
        size, code = (int.from_bytes(block[i : i + 4], order, signed=True) for i in (at, at + 4))
        if size < 8 or at + size > len(block):
            break
        extensions.append((code, block[at + 8 : at + size]))
        at += size
    return tuple(extensions)


def geometry_of(header: NiftiHeader) -> tuple[Grid, list[str]]:
    """Return the grid that a header describes, and notes."""
    shape = _three_dimensions(header)
    if not (header.has_sform or header.has_qform):
        return _grid_without_axes(header, shape)
    affine, notes = _believed_affine(header, shape)
    return Grid.from_affine(shape, affine), notes


def _any_geometry_of(header: NiftiHeader) -> tuple[Grid, list[str]]:
    """Return the grid that a header describes, or one of its size where that makes no sense."""
    try:
        return geometry_of(header)
    except LnqError as error:
        shape = _three_dimensions(header)
        return Grid.of_spacing(shape, (1.0, 1.0, 1.0)), [f"its own geometry was not used: {error}"]


def _grid_without_axes(header: NiftiHeader, shape: tuple[int, int, int]) -> tuple[Grid, list[str]]:
    """Return a grid of which nothing but shape and spacing is known."""
    unit, notes = _unit(header)
    steps = np.abs(header.spacing) * unit
    check_voxel_size(steps)
    x, y, z = steps.tolist()
    size = " × ".join(f"{step:.4g}" for step in (x, y, z))
    return Grid.of_spacing(shape, (z, y, x)), [
        *notes,
        f"{NO_AXES}: only its voxel size of {size} mm was taken",
    ]


def _three_dimensions(header: NiftiHeader) -> tuple[int, int, int]:
    """Return the shape (z, y, x), or raise if the image is not one volume."""
    count, *sizes = header.dim
    dims = sizes[:count] if 1 <= count <= 7 else []
    dims[3:] = [n or 1 for n in dims[3:]]  # some writers leave sizes of 0 behind
    if not dims or min(dims) < 1:
        raise LnqError(f"its header has impossible dimensions {header.dim}")
    if len(dims) < 3 or any(n != 1 for n in dims[3:]):
        raise LnqError(f"must be one 3-D volume, it is {' × '.join(map(str, dims))}")
    return dims[2], dims[1], dims[0]


def voxel_type(header: NiftiHeader) -> np.dtype:
    """Return the type of the voxels, or raise LnqError for what is not a plain number."""
    dtype = header.voxel_type
    if dtype is None:
        raise LnqError(f"has voxels of a type that is not a plain number (code {header.code})")
    return dtype


def _believed_affine(
    header: NiftiHeader, shape: tuple[int, int, int]
) -> tuple[np.ndarray, list[str]]:
    """Return the affine in mm with orthogonal axes, the sform before the qform, and notes."""
    notes = []
    sform, qform = _usable(header.sform), _usable(header.qform)
    if sform is None and qform is None:
        raise LnqError("does not say where its voxels lie (neither a usable sform nor qform)")
    if sform is None and header.has_sform:
        notes.append("the sform is not usable, the qform was taken")
    affine = cast(np.ndarray, qform if sform is None else sform)
    unit, notes_on_unit = _unit(header)
    notes += notes_on_unit
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if sform is not None and qform is not None:
        apart = corner_distance(sform, qform, shape) * unit
        if apart > min(MAX_FORM_DIFFERENCE_MM, steps.min() * unit / 2):
            notes.append(f"sform and qform differ by up to {apart:.1f} mm, the sform was taken")
    if not np.allclose(steps, header.spacing, rtol=1e-3):
        notes.append("pixdim disagrees with the affine, the affine was taken")
    return straightened(np.diag([unit, unit, unit, 1]) @ affine, shape), notes


def _unit(header: NiftiHeader) -> tuple[float, list[str]]:
    """Return a header's unit of length in mm, and what is to be said of it."""
    unit = UNIT_IN_MM.get(header.unit, 1.0)
    return unit, ["lengths were converted to mm"] if unit != 1 else []


def _usable(affine: np.ndarray | None) -> np.ndarray | None:
    """Return a form of a header if it is invertible and of finite lengths, or None."""
    if affine is None or not np.abs(affine).max() <= MAX_COORDINATE:  # or NaN
        return None
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(all="ignore"):  # of numbers too small to divide by
        volume = abs(np.linalg.det(affine[:3, :3] / steps))
    return affine if steps.min() > 0 and volume >= 1e-3 else None  # neither if NaN


def refuse_impossible_size(
    path: str | Path, packed: bool, shape: tuple[int, int, int], dtype: np.dtype
) -> None:
    """Refuse a header that claims more voxels than its file can hold, before allocating."""
    if str(path) == "-":
        return
    needed = math.prod(shape) * dtype.itemsize
    size = Path(path).stat().st_size
    if needed > size * (MAX_DEFLATE_RATIO if packed else 1):
        raise LnqError(
            f"its header claims {needed / 2**20:.3g} MiB of voxels, more than the file can hold "
            "(truncated?)"
        )


def _mapped_voxels(
    raw: Stream, stream: Digested, shape: tuple[int, int, int], dtype: np.dtype
) -> np.ndarray | None:
    """Return voxels as they lie in a file, which takes memory only for those that are used.

    The file is read once all the same, for its digest. What is written into the array goes to
    memory alone. Who shortens the file meanwhile ends this process, by SIGBUS.

    Returns
    -------
    (z, y, x) ndarray or None
        None for what is no file, for few voxels, and where the voxels cannot be used as they are.
    """
    start, size = stream.length, math.prod(shape) * dtype.itemsize
    if size < LEAST_MAPPED_BYTES or not dtype.isnative or start % dtype.itemsize:
        return None
    try:
        file = mmap.mmap(raw.fileno(), start + size, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # a pipe; a file that is too short is told of below
        return None
    room = memoryview(bytearray(MAPPED_CHUNK))
    for done in range(0, size, MAPPED_CHUNK):
        _read_piece(stream, room[: size - done], done, size)
    return np.frombuffer(file, dtype, math.prod(shape), start).reshape(shape)


def _read_voxels(stream: Stream, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Read voxels straight into one array of native byte order."""
    try:
        array = np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise LnqError("its header claims more voxels than fit into memory") from None
    view = array.reshape(-1).view(np.uint8).data
    for done in range(0, len(view), CHUNK):
        _read_piece(stream, view[done : done + CHUNK], done, len(view))
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return array


def _read_piece(stream: Stream, room: memoryview, before: int, size: int) -> None:
    """Fill a buffer with the next of so many bytes of voxels."""
    done = 0
    while done < len(room):
        count = stream.readinto(room[done:])
        if not count:
            raise LnqError(f"ends early: {before + done} of {size} bytes of voxels (truncated?)")
        done += count


def _scaled(array: np.ndarray, header: NiftiHeader) -> tuple[np.ndarray, list[str]]:
    """Apply the header's slope and intercept, in whole numbers where that is exact."""
    slope, inter = header.scaling
    if slope == 0:  # the standard's word for no scaling
        return array, []
    if not np.isfinite(slope):
        return array, [f"scl_slope is {slope:g}: the voxels were taken as they are"]
    notes = []
    if not np.isfinite(inter):
        notes.append(f"scl_inter is {inter:g}: taken as 0")
        inter = 0.0
    if (slope, inter) == (1.0, 0.0):
        return array, notes
    if array.dtype.kind in "iu" and slope.is_integer() and inter.is_integer():
        return _scaled_integers(array, int(slope), int(inter)), notes
    real = np.float64 if array.dtype == np.float64 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):  # whoever reads looks for what comes out
        scaled = np.multiply(array, real(slope), dtype=real)
        np.add(scaled, real(inter), out=scaled)
    return scaled, notes


def _scaled_integers(array: np.ndarray, slope: int, inter: int) -> np.ndarray:
    """Return slope × array + inter in the array's own type if it fits, else in a wider one."""
    ends = [int(array.min()) * slope + inter, int(array.max()) * slope + inter]
    low, high = min(ends), max(ends)
    for dtype in (array.dtype, np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.int64)):
        limits = np.iinfo(dtype)
        # The type must hold the factors as well as the results. What overflows on the way is
        # right again at the end, because integers wrap round.
        if limits.min <= min(low, slope, inter) and max(high, slope, inter) <= limits.max:
            scaled = np.multiply(array, dtype.type(slope), dtype=dtype, casting="unsafe")
            return np.add(scaled, dtype.type(inter), out=scaled)
    raise LnqError("its rescaled values are too large")


def write_to_standard_output(volume: Volume, provenance: dict | None) -> None:
    """Write an image to standard output, or say why not."""
    if sys.stdout is None or sys.stdout.isatty():
        raise LnqError("standard output is closed or a terminal; redirect it")
    try:
        write_nifti(volume, sys.stdout.buffer, provenance)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LnqError(f"cannot write to standard output: {error.strerror or error}") from None


def write_nifti(volume: Volume, stream: BinaryIO | Stream, provenance: dict | None) -> None:
    """Write an uncompressed NIfTI-1 image to a stream, a plane at a time."""
    stream.write(_head_of(volume, provenance))
    for plane in _planes(volume):
        stream.write(plane)


def _planes(volume: Volume) -> Iterable[memoryview]:
    """Yield the bytes of the voxels, a plane at a time: a cropped view is never copied whole."""
    native = volume.array.dtype.newbyteorder("=")
    for plane in volume.array:
        yield np.ascontiguousarray(plane, native).data.cast("B")


def _head_of(volume: Volume, provenance: dict | None) -> bytes:
    """Return what comes before the voxels: the header and its extensions."""
    shape, dtype = volume.array.shape[::-1], volume.array.dtype.newbyteorder("=")
    if len(shape) != 3 or not all(1 <= n <= MAX_SIDE for n in shape):
        raise LnqError(f"cannot be written as NIfTI: {' × '.join(map(str, shape))} voxels")
    affine = volume.grid.affine if volume.grid.oriented else None  # what is not known is not said
    try:
        header_at = partial(nifti_1_bytes, shape, dtype, volume.spacing[::-1], affine)
        header = header_at(0)
    except KeyError:
        raise LnqError(f"cannot be written as NIfTI: voxels of type {dtype}") from None
    extensions = [e for e in volume.extensions if _record(e) is None]
    if provenance is not None:
        record = with_sum(provenance, _parts(header, extensions, _planes(volume)))
        extensions.insert(0, (COMMENT_CODE, json.dumps(record, sort_keys=True).encode()))
    tail = bytes([bool(extensions), 0, 0, 0]) + b"".join(map(_extension_bytes, extensions))
    return header_at(LENGTH_1 + len(tail)) + tail


def _extension_bytes(extension: Extension) -> bytes:
    """Return a header extension as it is stored: a multiple of 16 bytes, its head of 8 counted."""
    code, content = extension
    size = -(-(8 + len(content)) // 16) * 16
    head = size.to_bytes(4, sys.byteorder) + code.to_bytes(4, sys.byteorder, signed=True)
    return (head + content).ljust(size, b"\0")
