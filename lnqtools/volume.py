"""Volumes, and the files that hold them: the only module that knows a file format.

NIfTI headers go through nibabel's header classes, the voxels through isal straight into or out
of one array. SimpleITK reads ``.nrrd`` and ``.mha``, once their voxels are found to be whole; it
does not touch NIfTI files. It takes damaged files of any of these formats for whole and reports
no full disk (measured with 2.5.7).
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from isal import igzip
from isal.isal_zlib import IsalError
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from lnqtools.atomic import atomic_output
from lnqtools.errors import LnqError
from lnqtools.grid import Grid

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES

GZIP_FIRST_BYTE = b"\x1f"
MAX_DEFLATE_RATIO = 1032
"""No deflate stream unpacks to more than this many times its size."""
MAX_EXTENSION_BYTES = 64 << 20
MAX_EXTRA_BYTES = 16 << 20
MAX_HEADER_LINES = 10_000
MAX_SIDE = np.iinfo(np.int16).max
"""A NIfTI-1 header counts voxels in 16 bits."""
CHUNK = 4 << 20
META_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
META_NUMBERS = dict.fromkeys(("dimsize", "elementspacing", "elementsize"), 1)
META_NUMBERS |= dict.fromkeys(("compresseddatasize", "headersize", "elementnumberofchannels"), 0)
META_NUMBERS |= dict.fromkeys(("offset", "position", "origin"), 1)
META_NUMBERS |= dict.fromkeys(("transformmatrix", "rotation", "orientation"), 2)
"""Fields of a MetaImage that say where its voxels lie, with so many numbers: NDims to a power."""
YES = ("T", "t", "1")
"""How a MetaImage's yes begins."""
META_FIELDS = META_NUMBERS.keys() | {"ndims", "elementtype", "binarydata", "compresseddata"}
"""Those that may not come twice."""
MAX_META_SIDE = 2**31
"""Voxels along an axis that no MetaImage has."""
MAX_SHEAR_MM = 0.1
"""Sheared axes are straightened when no corner moves by more than this."""
MAX_FORM_DIFFERENCE_MM = 0.5
SPACING_RANGE_MM = (1e-3, 1e3)
MAX_COORDINATE = 1e12
"""In any unit; with larger ones the reckoning would overflow."""
UNIT_IN_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
COMMENT_CODE = 6
"""NIFTI_ECODE_COMMENT, the extension that says how an image was made."""

DAMAGED: tuple[type[Exception], ...] = (
    igzip.BadGzipFile,
    IsalError,  # type: ignore[assignment]
    zlib.error,
)

Extension = tuple[int, bytes]
Stream = io.BufferedIOBase


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their place in the world.

    Parameters
    ----------
    array : (z, y, x) ndarray
    grid : Grid
    notes : tuple of str
        What was odd about the file it came from, a sentence each.
    extensions : tuple of (int, bytes)
        Codes and contents of the NIfTI header extensions of that file; they are written again,
        except the record of how the file was made.
    """

    array: np.ndarray
    grid: Grid
    notes: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = field(default=(), repr=False)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of voxel centres along z, y, x, in mm."""
        return self.grid.spacing


def read_volume(path: str | Path, replace_nan: float | None = None) -> Volume:
    """Read an image.

    Parameters
    ----------
    path : str or Path
        ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha``; ``-`` reads NIfTI from standard input.
    replace_nan : float, optional
        Value for voxels that are not finite; without it such an image is refused.

    Returns
    -------
    Volume
        Integer images keep an integer type, also after a whole-numbered rescale; a real one
        makes them float32.

    Raises
    ------
    LnqError
        If the file is not a whole, readable image of three dimensions.
    """
    volume = _read_itk(path) if _is_itk(path) else _read_nifti(path)
    if volume.array.dtype.kind != "f":
        return volume
    finite = np.isfinite(volume.array)
    if finite.all():
        return volume
    if replace_nan is None:
        raise LnqError(f"{np.count_nonzero(~finite)} voxels are NaN or infinite")
    return replace(
        volume, array=np.where(finite, volume.array, volume.array.dtype.type(replace_nan))
    )


def read_label(path: str | Path) -> Volume:
    """Read a label image: whole numbers from 0 on.

    Returns
    -------
    Volume
        Of type uint8 where the values allow it, else the smallest unsigned type.

    Raises
    ------
    LnqError
        As :func:`read_volume`, and for fractions, negative values and NaN.
    """
    volume = read_volume(path)
    return replace(volume, array=as_label(volume.array))


def as_label(array: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 on in the smallest unsigned type, or raise LnqError."""
    if array.dtype == np.uint8:
        return array
    low, high = array.min(), array.max()
    if low < 0:
        raise LnqError(f"a label image cannot hold the negative value {low:g}")
    if array.dtype.kind == "f" and not (np.floor(array) == array).all():
        raise LnqError("a label image must hold whole numbers, this one holds fractions")
    if high > np.iinfo(np.uint32).max:
        raise LnqError(f"label {high:g} is too large")
    return array.astype(np.min_scalar_type(int(high)), copy=False)


def read_grid(path: str | Path) -> Grid:
    """Read where an image's voxels lie, from its header alone."""
    if _is_itk(path):
        with _open_input(path) as raw:
            fields = _text_fields(path, raw)
        is_meta = "elementdatafile" in fields
        return _meta_grid(fields) if is_meta else _itk_grid(_itk_header(path))
    with _open_input(path) as raw, _unpacked(raw) as stream:
        return _read_geometry(_read_header(stream))[0]


def read_provenance(path: str | Path) -> dict | None:
    """Return what :func:`write_volume` recorded in an image, or None if there is nothing."""
    with _open_input(path) as raw, _unpacked(raw) as stream:
        header = _read_header(stream)
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
    return record if isinstance(record, dict) and "tool" in record else None


def image_suffix(path: str | Path) -> str:
    """Return the suffix of an image file name as written, or ''."""
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[-len(suffix) :]
    return ""


# Reading NIfTI


def _read_nifti(path: str | Path) -> Volume:
    with _open_input(path) as raw, _unpacked(raw) as stream:
        header = _read_header(stream)
        grid, notes = _read_geometry(header)
        dtype = _voxel_type(header)
        extensions = _read_extensions(stream, header)
        _refuse_impossible_size(path, stream is not raw, grid.shape, dtype)
        array = _read_voxels(stream, grid.shape, dtype)
        extra = _read_to_end(stream)
    if extra:
        notes.append(f"{extra} bytes after the voxels were ignored")
    array, scaling_notes = _scaled(array, header)
    return Volume(array, grid, (*notes, *scaling_notes), extensions)


@contextmanager
def _open_input(path: str | Path) -> Iterator[Stream]:
    """Open a regular file, or standard input for '-', and turn its troubles into LnqError."""
    try:
        if str(path) == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise LnqError("standard input is closed or a terminal; pipe an image in")
            yield cast(Stream, sys.stdin.buffer)
            return
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            raise LnqError("is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
        with Path(path).open("rb") as raw:
            yield raw
    except EOFError:
        raise LnqError("ends early: the file is truncated") from None
    except DAMAGED as error:
        raise LnqError(f"the compressed data are damaged ({error})") from None
    except OSError as error:
        raise LnqError(f"cannot be read: {error.strerror or error}") from None


@contextmanager
def _unpacked(raw: Stream) -> Iterator[Stream]:
    """Go by the first byte, not by the name, whether a stream is gzipped.

    A pipe may hold no more than one byte yet, and no NIfTI header begins like gzip.
    """
    buffered = (
        raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
    )
    first = buffered.peek(1)[:1]
    if not first:
        raise LnqError("is empty")
    if first == GZIP_FIRST_BYTE:
        with igzip.IGzipFile(fileobj=buffered, mode="rb") as stream:
            yield stream
    else:
        yield buffered


def _read_exactly(stream: Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise LnqError("ends early: it is not an image, or truncated")
    return content


def _read_header(stream: Stream) -> Nifti1Header:
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
        raise LnqError("is not a NIfTI image")
    block = first + _read_exactly(stream, length - 4)
    if block[place] != magic:
        raise LnqError(
            f"is not a NIfTI image in one file (magic {block[place]!r}; a .hdr/.img pair must be "
            "converted first)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = kind(block, endianness, check=False)
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # as the standard says: no handedness means 1
    return header


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


def _read_geometry(header: Nifti1Header) -> tuple[Grid, list[str]]:
    shape = _three_dimensions(header)
    affine, notes = _believed_affine(header, shape)
    return Grid.from_affine(shape, affine), notes


def _three_dimensions(header: Nifti1Header) -> tuple[int, int, int]:
    """Return the shape (z, y, x), or raise if the image is not one volume."""
    count = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    if not dims or min(dims) < 1:
        raise LnqError(f"its header has impossible dimensions {header['dim'].tolist()}")
    if len(dims) < 3 or any(n != 1 for n in dims[3:]):
        raise LnqError(f"must be one 3-D volume, it is {' × '.join(map(str, dims))}")
    return dims[2], dims[1], dims[0]


def _voxel_type(header: Nifti1Header) -> np.dtype:
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
    unit = UNIT_IN_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    if unit != 1:
        notes.append("lengths were converted to mm")
    if sform is not None and qform is not None:
        apart = _corner_distance(sform, qform, shape) * unit
        if apart > MAX_FORM_DIFFERENCE_MM:
            notes.append(f"sform and qform differ by up to {apart:.1f} mm, the sform was taken")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(steps, np.abs(header["pixdim"][1:4]), rtol=1e-3):
        notes.append("pixdim disagrees with the affine, the affine was taken")
    return _orthogonal(np.diag([unit, unit, unit, 1]) @ affine, shape), notes


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


def _corner_distance(a: np.ndarray, b: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return the largest distance between the corner voxels under two affines."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape[::-1]) - 1)
    apart = corners @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).max())


def _orthogonal(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Turn almost orthogonal axes to the nearest orthogonal ones, or raise LnqError."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not (steps.min() >= SPACING_RANGE_MM[0] and steps.max() <= SPACING_RANGE_MM[1]):
        raise LnqError("its voxels measure {:.3g} × {:.3g} × {:.3g} mm".format(*steps))
    left, _, right = np.linalg.svd(affine[:3, :3] / steps)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * steps
    moved = _corner_distance(affine, straight, shape)
    if moved > MAX_SHEAR_MM:
        raise LnqError(
            f"its axes are not at right angles (straightening would move corners by {moved:.1f} "
            "mm; a tilted gantry?); resample it to a regular grid first"
        )
    return straight


def _refuse_impossible_size(
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


def _read_to_end(stream: Stream) -> int:
    """Read to the end, where gzip's length and checksum are; return the bytes found there."""
    extra = 0
    while content := stream.read(CHUNK):
        extra += len(content)
        if extra > MAX_EXTRA_BYTES:
            raise LnqError("holds far more data than its header says")
    return extra


def _scaled(array: np.ndarray, header: Nifti1Header) -> tuple[np.ndarray, list[str]]:
    """Apply the header's slope and intercept, in whole numbers where that is exact."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
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


# Reading NRRD and MetaImage


def _is_itk(path: str | Path) -> bool:
    return image_suffix(path).lower() in ITK_SUFFIXES


def _read_itk(path: str | Path) -> Volume:
    with _open_input(path) as raw:
        fields = _text_fields(path, raw)
        if "elementdatafile" in fields:
            return _read_meta(path, raw, fields)
    import SimpleITK as sitk

    reader = _itk_header(path)
    grid = _itk_grid(reader)
    try:
        voxel_bytes = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        _check_itk_voxels(path, math.prod(grid.shape) * voxel_bytes)
        array = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, TypeError):
        raise LnqError("cannot be read: it is damaged, or not made of plain numbers") from None
    if array.dtype.kind not in "iuf":
        raise LnqError("has voxels of a type that is not a plain number")
    return Volume(array.reshape(grid.shape), grid)


def _text_fields(path: str | Path, stream: Stream) -> dict[str, str]:
    """Read the fields of a NRRD or MetaImage header, and look at them as far as they can be."""
    fields = _text_header(stream)
    _check_meta_fields(fields)
    _data_file(path, fields)
    return fields


def _itk_header(path: str | Path):
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


def _check_dimensions(size: Sequence[int], numbers: int) -> None:
    """Refuse what is no 3-D volume of one number a voxel; the size begins with x."""
    if len(size) < 3 or any(n != 1 for n in size[3:]) or numbers != 1:
        dims = " × ".join(map(str, size))
        raise LnqError(f"must be one 3-D volume, it is {dims} with {numbers} numbers a voxel")
    if min(size) < 1:
        raise LnqError(f"its header has impossible dimensions {list(size)}")


def _itk_grid(reader) -> Grid:
    """Return the grid of what SimpleITK holds."""
    size = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(size, size)
    return _lps_grid(reader.GetSize(), direction, reader.GetSpacing(), reader.GetOrigin())


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
    return Grid.from_affine(shape, _orthogonal(affine, shape))


def _read_meta(path: str | Path, stream: Stream, fields: dict[str, str]) -> Volume:
    """Read a MetaImage, of which a stream is at the end of the header.

    SimpleITK's reader of these writes beyond its memory for some names of data files, says what is
    wrong on standard error, and takes packed voxels that it could not unpack for read.
    """
    grid = _meta_grid(fields)
    order = ">" if _says_yes(fields, "binarydatabyteordermsb", "elementbyteordermsb") else "<"
    dtype = np.dtype(order + META_TYPES[fields["elementtype"]])
    needed = math.prod(grid.shape) * dtype.itemsize
    with ExitStack() as stack:
        if (beside := _data_file(path, fields)) is not None:
            stream = stack.enter_context(_open_input(beside))
        content = _meta_voxels(stream, fields, needed)
    array = np.frombuffer(content, dtype).reshape(grid.shape)
    return Volume(array.astype(dtype.newbyteorder("="), copy=False), grid)


def _meta_voxels(stream: Stream, fields: dict[str, str], needed: int) -> bytearray:
    """Read the voxels of a MetaImage, which begin where a stream is."""
    begin = stream.tell()
    length = stream.seek(0, os.SEEK_END) - begin
    packed = _says_yes(fields, "compresseddata")
    skipped = int(float(fields.get("headersize", 0)))
    if skipped == -1:  # the voxels are the end of the file
        skipped = max(0, length - needed)
    if skipped < 0 or (packed and skipped):
        raise LnqError("cannot be read: the field headersize of its header is damaged")
    most = length * MAX_DEFLATE_RATIO if packed else length - skipped
    if most < needed:
        raise LnqError(f"ends early: at most {max(0, most)} of {needed} bytes of voxels")
    stream.seek(begin + skipped)
    if not packed:
        content = bytearray(needed)  # which, unlike bytes, may be changed
        stream.readinto(content)
        return content
    content = _unpacked_voxels(stream, fields, needed)
    if len(content) < needed:
        raise LnqError(f"ends early: {len(content)} of {needed} bytes of voxels (truncated?)")
    if len(content) > needed:
        raise LnqError(f"holds more than the {needed} bytes of voxels that its header says")
    return content


def _unpacked_voxels(stream: Stream, fields: dict[str, str], needed: int) -> bytearray:
    """Unpack gzip or zlib to its end, but to no more than one byte too many."""
    begin = stream.tell()
    content = bytearray()
    with _unpacked(stream) as unpacked:
        if unpacked is not stream:
            while len(content) <= needed and (block := unpacked.read(CHUNK)):
                content += block
            return content
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
    return content


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
    matrix = numbers(("transformmatrix", "rotation", "orientation"), np.eye(dimensions).ravel())
    axes = matrix.reshape(dimensions, dimensions)[:3, :3]
    lengths = np.linalg.norm(axes, axis=1)
    if spacing[:3].min() < 0 or lengths.min() == 0:
        raise LnqError("cannot be read: its header gives impossible axes")
    origin = numbers(("offset", "position", "origin"), np.zeros(dimensions))
    return _lps_grid([int(n) for n in size], axes.T / lengths, spacing, origin)


def _says_yes(fields: dict[str, str], *names: str) -> bool:
    """Tell whether one of some fields of a MetaImage says yes."""
    return any(fields.get(name, "false").startswith(YES) for name in names)


def _text_header(stream: Stream) -> dict[str, str]:
    """Read the lines of a NRRD or MetaImage header, up to the voxels."""
    fields: dict[str, str] = {}
    whole = True
    for _ in range(MAX_HEADER_LINES):
        line = stream.readline(CHUNK).decode("latin-1")
        key, *value = re.split(r"\s*(?:=|:=?)\s*", line.strip(), maxsplit=1)
        if fields and not key:  # an empty line ends a NRRD header, the file's end a detached one
            break
        if key.lower() in fields and key.lower() in META_FIELDS:
            raise LnqError(f"cannot be read: its header has the field {key} twice")
        fields[key.lower()] = "".join(value)
        whole = whole and bool(value) and key.isascii() and key.isprintable()
        if key.lower() == "elementdatafile":  # ends a MetaImage header
            if not whole:
                raise LnqError("cannot be read: its header has a line that is no field")
            break
    if fields.keys() & {"elementdatafile", "sizes"}:
        return fields
    raise LnqError("is empty, truncated, or neither a NRRD nor a MetaImage file")


def _check_meta_fields(fields: dict[str, str]) -> None:
    """Refuse a MetaImage that lacks a field, or whose numbers are none."""
    if "elementdatafile" not in fields:
        return
    for key in ("ndims", "dimsize", "elementtype"):
        if key not in fields:
            raise LnqError(f"cannot be read: its header lacks the field {key}")
    if fields["ndims"] not in map(str, range(1, 11)):
        raise LnqError("cannot be read: the field ndims of its header is damaged")
    if not fields.get("binarydata", "true").startswith(YES):
        raise LnqError("holds its voxels as text, which is not read: convert it")
    if fields["elementtype"] not in META_TYPES:
        raise LnqError("has voxels of a type that is not a plain number")
    for key, power in META_NUMBERS.items():
        try:
            numbers = [float(word) for word in fields.get(key, "").encode("ascii").split()]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)) or (
            key in fields and len(numbers) != int(fields["ndims"]) ** power
        ):
            raise LnqError(f"cannot be read: the field {key} of its header is damaged")


def _data_name(fields: dict[str, str]) -> str:
    """Return the name of the file that a header gives for the voxels; LOCAL is its own."""
    return fields.get("data file") or fields.get("elementdatafile") or "LOCAL"


def _data_file(path: str | Path, fields: dict[str, str]) -> Path | None:
    """Return the file beside a header that holds the voxels, or None if they follow the header."""
    name = _data_name(fields)
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


def _check_itk_voxels(path: str | Path, needed: int) -> None:
    """Refuse voxels of a NRRD file that are missing or damaged: SimpleITK overlooks both."""
    with ExitStack() as stack:
        stream = stack.enter_context(_open_input(path))
        fields = _text_header(stream)
        packed = {"raw": False, "gz": True, "gzip": True}.get(fields.get("encoding", "").lower())
        if packed is None:
            return  # text, or packed in a rare way: SimpleITK sees to it
        if (beside := _data_file(path, fields)) is not None:
            stream = stack.enter_context(_open_input(beside))
        length = _length_of_voxels(stream, packed)
    if length < needed:
        raise LnqError(f"ends early: {length} of {needed} bytes of voxels (truncated?)")
    if packed and length > needed:
        raise LnqError(f"holds {length} bytes of voxels, its header says {needed}")


def _length_of_voxels(stream: Stream, packed: bool) -> int:
    """Return the number of bytes to the end of a stream, as they are when unpacked."""
    if not packed:
        begin = stream.tell()
        return stream.seek(0, os.SEEK_END) - begin
    with _unpacked(stream) as unpacked:
        if unpacked is stream:
            raise LnqError("cannot be read: its voxels are not compressed, as its header says")
        return sum(map(len, iter(lambda: unpacked.read(CHUNK), b"")))


# Writing


def write_volume(
    volume: Volume, path: str | Path, provenance: dict | None = None, *, replace: bool = True
) -> None:
    """Write a NIfTI-1 image whole or not at all.

    The bytes go to a temporary file beside the target, are synced, and take its name at the
    end. The same volume and provenance always make the same bytes.

    Parameters
    ----------
    volume : Volume
    path : str or Path
        ``.nii.gz`` (compressed) or ``.nii``; ``-`` writes uncompressed to standard output.
    provenance : dict, optional
        Recorded as JSON in a header extension.
    replace : bool
        Whether a file that is there, or that another process makes meanwhile, is replaced.

    Raises
    ------
    FileExistsError
        Without ``replace``, if there is such a file.
    LnqError
        If the target is something else than a regular file or has another suffix, or the write
        fails.
    """
    if str(path) == "-":
        _write_to_standard_output(volume, provenance)
        return
    if image_suffix(path).lower() not in NIFTI_SUFFIXES:
        raise LnqError(f"cannot write {path}: an image must be named .nii.gz or .nii")
    with atomic_output(path, replace=replace) as raw:
        if str(path).lower().endswith(".gz"):
            level = 1 if volume.array.dtype.itemsize == 1 else 2
            packed = igzip.IGzipFile(
                filename="", fileobj=raw, mode="wb", compresslevel=level, mtime=0
            )
            with packed as stream:
                _write_nifti(volume, stream, provenance)
        else:
            _write_nifti(volume, raw, provenance)


def _write_to_standard_output(volume: Volume, provenance: dict | None) -> None:
    if sys.stdout is None or sys.stdout.isatty():
        raise LnqError("standard output is closed or a terminal; redirect it")
    try:
        _write_nifti(volume, sys.stdout.buffer, provenance)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LnqError(f"cannot write to standard output: {error.strerror or error}") from None


def _write_nifti(volume: Volume, stream: BinaryIO | Stream, provenance: dict | None) -> None:
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
