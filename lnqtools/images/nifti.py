"""NIfTI: voxels, geometry and records out of its files and into them.

Headers go through nibabel's header classes, the voxels through isal straight into or out of one
array. SimpleITK does not touch NIfTI files: it takes damaged ones for whole and reports no full
disk (measured with 2.5.7).
"""

from __future__ import annotations

import io
import json
import math
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

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

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume

MAX_EXTENSION_BYTES = 64 << 20
MAX_SIDE = np.iinfo(np.int16).max
"""A NIfTI-1 header counts voxels in 16 bits."""
MAX_FORM_DIFFERENCE_MM = 0.5
MAX_COORDINATE = 1e12
"""Largest coordinate, in any unit; with larger ones the computation would overflow."""
MAX_QUATERNION = 1 + 1.01e-5
"""Greatest length of what a header holds of a quaternion; above 1 by the rounding of writers."""

UNIT_IN_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
MAX_LEVELS = 20
"""Levels of lists and objects in a record; what shows it goes down all of them."""
COMMENT_CODE = 6
"""NIFTI_ECODE_COMMENT, the extension that says how an image was made."""

Extension = tuple[int, bytes]


def read_provenance(path: str | Path) -> dict | None:
    """Return what ``write_volume`` recorded in an image, or None if there is nothing."""
    with open_input(path) as raw, unpacked(raw) as stream:
        header = read_header(stream, path)
        return provenance_of(_read_extensions(stream, header))


def provenance_of(extensions: tuple[Extension, ...]) -> dict | None:
    """Return the record among header extensions that says how an image was made, or None."""
    for extension in extensions:
        if (record := _record(extension)) is not None:
            return record
    return None


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
    path: str | Path,
) -> tuple[np.ndarray, Grid, tuple[str, ...], tuple[Extension, ...], str]:
    """Return the voxels, grid, notes and header extensions of a NIfTI file."""
    with open_input(path) as raw, unpacked(raw) as packed:
        stream = Digested(packed)
        header = read_header(stream, path)
        grid, notes = geometry_of(header)
        dtype = voxel_type(header)
        extensions = _read_extensions(stream, header)
        refuse_impossible_size(path, packed is not raw, grid.shape, dtype)
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


def read_header(stream: Stream, path: str | Path) -> Nifti1Header:
    """Read a NIfTI-1 or -2 header of either byte order."""
    first = _read_exactly(stream, 4)
    endianness = "<" if first[0] else ">"
    length = int.from_bytes(first, "little" if first[0] else "big")
    kind: type[Nifti1Header]
    if length == 540:
        kind, magic, place = Nifti2Header, b"n+2", slice(4, 7)
    elif length == 348:
        kind, magic, place = Nifti1Header, b"n+1", slice(344, 347)
    else:
        head = first + stream.read(HEAD_BYTES - 4)
        half = PAIR if is_half_of_a_pair(path) else None
        raise LnqError(half or what_it_is(head, "NIfTI") or "is not a NIfTI image")
    block = first + _read_exactly(stream, length - 4)
    if block[place] in (b"ni1", b"ni2", b"\0\0\0"):  # the last one is Analyze's
        raise LnqError(PAIR)
    if block[place] != magic:
        raise LnqError(f"is not a NIfTI image (its magic is {block[place]!r})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = kind(block, endianness, check=False)
    if not header["pixdim"][0] < 0:
        header["pixdim"][0] = 1  # as the standard says: what is not -1 means 1
    _shorten_quaternion(header)
    return header


def _shorten_quaternion(header: Nifti1Header) -> None:
    """Bring a quaternion that is a hair too long to length 1; nibabel would refuse it."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    length = math.hypot(*(float(header[name]) for name in names))
    if 1 < length <= MAX_QUATERNION:
        for name in names:
            header[name] = header[name] / length


def _read_extensions(stream: Stream, header: Nifti1Header) -> tuple[Extension, ...]:
    """Read on to the first voxel; return the header extensions."""
    start = float(header["vox_offset"])
    room = start - header.sizeof_hdr
    if not 0 <= room <= MAX_EXTENSION_BYTES or start != int(start):
        raise LnqError(f"its voxels cannot begin at byte {start:g}")
    block = _read_exactly(stream, int(room))
    order: Literal["little", "big"] = "little" if header.endianness == "<" else "big"
    extensions, at = [], 4
    while block[:1] == b"\x01" and at + 8 <= len(block):
        size, code = (int.from_bytes(block[i : i + 4], order, signed=True) for i in (at, at + 4))
        if size < 8 or at + size > len(block):
            break
        extensions.append((code, block[at + 8 : at + size]))
        at += size
    return tuple(extensions)


def geometry_of(header: Nifti1Header) -> tuple[Grid, list[str]]:
    """Return the grid that a header describes, and notes."""
    shape = _three_dimensions(header)
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        return _grid_without_axes(header, shape)
    affine, notes = _believed_affine(header, shape)
    return Grid.from_affine(shape, affine), notes


def _grid_without_axes(header: Nifti1Header, shape: tuple[int, int, int]) -> tuple[Grid, list[str]]:
    """Return a grid of which nothing but shape and spacing is known."""
    unit, notes = _unit(header)
    steps = np.abs(header["pixdim"][1:4].astype(float)) * unit
    check_voxel_size(steps)
    x, y, z = steps.tolist()
    size = " × ".join(f"{step:.4g}" for step in (x, y, z))
    return Grid.of_spacing(shape, (z, y, x)), [
        *notes,
        f"{NO_AXES}: only its voxel size of {size} mm was taken",
    ]


def _three_dimensions(header: Nifti1Header) -> tuple[int, int, int]:
    """Return the shape (z, y, x), or raise if the image is not one volume."""
    count = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    dims[3:] = [n or 1 for n in dims[3:]]  # some writers leave sizes of 0 behind
    if not dims or min(dims) < 1:
        raise LnqError(f"its header has impossible dimensions {header['dim'].tolist()}")
    if len(dims) < 3 or any(n != 1 for n in dims[3:]):
        raise LnqError(f"must be one 3-D volume, it is {' × '.join(map(str, dims))}")
    return dims[2], dims[1], dims[0]


def voxel_type(header: Nifti1Header) -> np.dtype:
    """Return the type of the voxels, or raise LnqError for what is not a plain number."""
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = None
    if dtype is None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise LnqError(
            f"has voxels of a type that is not a plain number (code {header['datatype']})"
        )
    return dtype


def _believed_affine(
    header: Nifti1Header, shape: tuple[int, int, int]
) -> tuple[np.ndarray, list[str]]:
    """Return the affine in mm with orthogonal axes, the sform before the qform, and notes."""
    notes = []
    sform, qform = _usable(header.get_sform), _usable(header.get_qform)
    if sform is None and qform is None:
        raise LnqError("does not say where its voxels lie (neither a usable sform nor qform)")
    if sform is None and header["sform_code"] > 0:
        notes.append("the sform is not usable, the qform was taken")
    affine = cast(np.ndarray, qform if sform is None else sform)
    unit, notes_on_unit = _unit(header)
    notes += notes_on_unit
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if sform is not None and qform is not None:
        apart = corner_distance(sform, qform, shape) * unit
        if apart > min(MAX_FORM_DIFFERENCE_MM, steps.min() * unit / 2):
            notes.append(f"sform and qform differ by up to {apart:.1f} mm, the sform was taken")
    if not np.allclose(steps, header["pixdim"][1:4], rtol=1e-3):
        notes.append("pixdim disagrees with the affine, the affine was taken")
    return straightened(np.diag([unit, unit, unit, 1]) @ affine, shape), notes


def _unit(header: Nifti1Header) -> tuple[float, list[str]]:
    """Return a header's unit of length in mm, and what is to be said of it."""
    unit = UNIT_IN_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    return unit, ["lengths were converted to mm"] if unit != 1 else []


def _usable(get_form) -> np.ndarray | None:
    """Return a coded and invertible form of a header, of finite lengths, or None."""
    try:
        with np.errstate(all="ignore"):
            affine, code = get_form(coded=True)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return None
    if affine is None or code <= 0 or not np.abs(affine).max() <= MAX_COORDINATE:  # or NaN
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


def _read_voxels(stream: Stream, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Read voxels straight into one array of native byte order."""
    try:
        array = np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise LnqError("its header claims more voxels than fit into memory") from None
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = stream.readinto(view[done : done + CHUNK])
        if not count:
            raise LnqError(f"ends early: {done} of {len(view)} bytes of voxels (truncated?)")
        done += count
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return array


def _scaled(array: np.ndarray, header: Nifti1Header) -> tuple[np.ndarray, list[str]]:
    """Apply the header's slope and intercept, in whole numbers where that is exact."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
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
    header = io.BytesIO()  # nibabel seeks, which a pipe cannot
    _header_of(volume, provenance).write_to(header)
    stream.write(header.getvalue())
    native = volume.array.dtype.newbyteorder("=")
    for plane in volume.array:  # a plane at a time: a cropped view is never copied whole
        stream.write(np.ascontiguousarray(plane, native).data.cast("B"))


def _header_of(volume: Volume, provenance: dict | None) -> Nifti1Header:
    shape = volume.array.shape[::-1]
    if len(shape) != 3 or not all(1 <= n <= MAX_SIDE for n in shape):
        raise LnqError(f"cannot be written as NIfTI: {' × '.join(map(str, shape))} voxels")
    header = Nifti1Header()
    try:
        header.set_data_shape(shape)
        header.set_data_dtype(volume.array.dtype.newbyteorder("="))
    except HeaderDataError as error:
        raise LnqError(f"cannot be written as NIfTI: {error}") from None
    header["scl_slope"], header["scl_inter"] = 1, 0
    header.set_xyzt_units("mm")
    if volume.grid.oriented:  # what is not known is not said
        header.set_qform(volume.grid.affine, code=1)
        header.set_sform(volume.grid.affine, code=1)
    header["pixdim"][1:4] = volume.spacing[::-1]
    extensions = [e for e in volume.extensions if _record(e) is None]
    if provenance is not None:
        text = json.dumps(provenance, sort_keys=True)
        extensions.insert(0, (COMMENT_CODE, text.encode()))
    header.extensions.extend(Nifti1Extension(code, content) for code, content in extensions)
    header.set_data_offset(header.single_vox_offset + header.extensions.get_sizeondisk())
    return header
