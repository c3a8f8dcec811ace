"""NRRD: its header, and its voxels through SimpleITK.

SimpleITK reads them once they are found to be whole: it takes damaged files for whole (measured
with 2.5.7).
"""

from __future__ import annotations

import math
import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.streams import CHUNK, Stream, notes_of, open_input, unpacked
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

ENCODINGS = {"raw": False, "gz": True, "gzip": True}
"""Usual encodings of a NRRD file, and whether they pack the voxels."""

SEGMENTATION = ".seg.nrrd"
TIMES = {"s", "ms", "sec", "second", "seconds"}
"""Units of a fourth axis, of one volume, which say nothing against mm."""
NRRD_SPACES = (
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
)
NO_PATIENT = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
"""Spaces whose axes are not those of a patient."""


def nrrd_fields(stream: Stream) -> dict[str, str]:
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


def check_nrrd_fields(fields: dict[str, str]) -> None:
    """Refuse a NRRD file whose place or size SimpleITK would make up, or take for another."""
    refuse_units(re.findall('"([^"]*)"', fields.get("spaceunits", "")), MM)
    refuse_units(re.findall('"([^"]*)"', fields.get("units", "")), MM | TIMES)
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


def read_nrrd(
    path: str | Path, stream: Stream, fields: dict[str, str]
) -> tuple[np.ndarray, Grid, Notes]:
    """Read a NRRD file, of which a stream is at the end of the header, and say what is ignored."""
    reader = open_nrrd(path)
    array, grid, ignored = _read_voxels(path, stream, fields, reader)
    return array.reshape(grid.shape), grid, ignored


def read_layered_nrrd(path: str | Path) -> tuple[np.ndarray, Grid]:
    """Read a NRRD file whose voxels may have several layers, as (layers, z, y, x)."""
    with open_input(path) as stream:
        if not stream.readline(CHUNK).startswith(b"NRRD"):
            raise LnqError("is not a NRRD file")
        fields = nrrd_fields(stream)
        if "sizes" not in fields:
            raise LnqError("cannot be read: its header is damaged")
        check_nrrd_fields(fields)
        array, grid, _ = _read_voxels(path, stream, fields, open_nrrd(path, layers=True))
    return np.moveaxis(array.reshape(*grid.shape, -1), -1, 0), grid


def _read_voxels(
    path: str | Path, stream: Stream, fields: dict[str, str], reader
) -> tuple[np.ndarray, Grid, Notes]:
    """Read the voxels of an opened file, and say what is ignored."""
    import SimpleITK as sitk

    grid = nrrd_grid(reader)
    try:
        numbers = reader.GetNumberOfComponents()
        one = sitk.Image([1, 1, 1], reader.GetPixelID(), *([numbers] if numbers > 1 else []))
        needed = math.prod(grid.shape) * numbers * one.GetSizeOfPixelComponent()
        ignored = _check_nrrd_voxels(path, stream, fields, needed)
        array = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, TypeError):
        raise LnqError("cannot be read: it is damaged, or not made of plain numbers") from None
    if array.dtype.kind not in "iuf":
        raise LnqError("has voxels of a type that is not a plain number")
    return array, grid, ignored


def is_segmentation(path: str | Path) -> bool:
    """Tell whether a file is called as 3D Slicer calls segmentations."""
    return str(path).lower().endswith(SEGMENTATION)


def open_nrrd(path: str | Path, layers: bool = False):
    """Open a NRRD file with SimpleITK and read its header; voxels may have several layers."""
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
    if not layers and reader.GetNumberOfComponents() > 1 and is_segmentation(path):
        raise LnqError(
            f"has {reader.GetNumberOfComponents()} layers, as segments that overlap have in 3D "
            "Slicer: lnq-dicom masks makes a mask of those that --segments picks"
        )
    check_dimensions(reader.GetSize(), 1 if layers else reader.GetNumberOfComponents())
    return reader


def nrrd_grid(reader) -> Grid:
    """Return the grid that SimpleITK found."""
    size = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(size, size)
    return lps_grid(reader.GetSize(), direction, reader.GetSpacing(), reader.GetOrigin())


def _check_nrrd_voxels(
    path: str | Path, stream: Stream, fields: dict[str, str], needed: int
) -> Notes:
    """Refuse voxels that are missing or damaged: SimpleITK overlooks both; say what is ignored."""
    packed = ENCODINGS.get(fields.get("encoding", "").lower())
    if packed is None:
        return ()  # text, or packed in a rare way: SimpleITK sees to it
    with ExitStack() as stack:
        if (beside := data_file(path, fields)) is not None:
            stream = stack.enter_context(open_input(beside))
        length, notes = _length_of_voxels(stream, packed)
    if length < needed:
        raise LnqError(f"ends early: {length} of {needed} bytes of voxels (truncated?)")
    if packed and length > needed:
        raise LnqError(f"holds {length} bytes of voxels, its header says {needed}")
    skips = any(any(_finite(fields.get(key, ""))) for key in ("byteskip", "lineskip"))
    return notes if skips else (*notes, *note_of_ignored(length - needed))


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
