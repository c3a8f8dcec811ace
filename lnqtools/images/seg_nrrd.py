"""Slicer's segmentations (.seg.nrrd): names, colors and codes of segments, in layers or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from isal import igzip

from lnqtools.errors import LnqError
from lnqtools.files.streams import CHUNK, Stream, open_input, unpacked
from lnqtools.images.grid import Grid
from lnqtools.images.headers import MAX_HEADER_LINES
from lnqtools.images.nrrd import SEGMENTATION, read_layered_nrrd
from lnqtools.images.sums import fits, with_sum, without_sum

SUFFIX = SEGMENTATION
RECORD = "lnqtools"
"""Key of what says how a file was made."""
TERMINOLOGY = "TerminologyEntry"
GOLDEN = (5**0.5 - 1) / 2
NODE, NODE_CODE = "lymph node", ("59441001", "Lymph node")
"""What segments are called that have no name, and their code in SNOMED CT."""
NODE_COLOR = (0.18, 0.80, 0.25)


class NamedSegment(NamedTuple):
    """One segment of a file: its voxels have a value in a layer."""

    name: str
    value: int
    layer: int = 0
    code: str = ""
    meaning: str = ""


class Layers(NamedTuple):
    """A segmentation in layers, each of which labels voxels; segments of two may overlap."""

    array: np.ndarray
    """(layers, z, y, x)"""
    grid: Grid
    segments: list[NamedSegment]


def read_layers(path: str | Path) -> Layers:
    """Read a segmentation.

    Raises
    ------
    LnqError
        If it is damaged, or its header names no segment.
    """
    array, grid = read_layered_nrrd(path)
    segments = _segments(keys_of(path))
    if not segments:
        raise LnqError("names no segment in its header: it is not one of Slicer's segmentations")
    count = len(array)
    if worst := next((s for s in segments if not 0 <= s.layer < count), None):
        raise LnqError(f"has {count} layers, and segment {worst.name} lies in another one")
    return Layers(array, grid, segments)


def keys_of(path: str | Path) -> dict[str, str]:
    """Return the keys of a NRRD file's writer (``key:=value``)."""
    found = {}
    with open_input(path) as stream:
        for _ in range(MAX_HEADER_LINES):
            line = stream.readline(CHUNK).decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                break
            key, sign, value = line.partition(":=")
            if sign:
                found[key] = value.replace("\\n", "\n").replace("\\\\", "\\")
    return found


def _segments(keys: Mapping[str, str]) -> list[NamedSegment]:
    """Return the segments that a header names, in its order."""
    numbers = sorted(int(found[1]) for key in keys if (found := re.match(r"Segment(\d+)_ID$", key)))
    segments = []
    for number in numbers:

        def value(word: str, otherwise: str, number: int = number) -> str:
            return keys.get(f"Segment{number}_{word}", otherwise)

        try:
            place = int(value("LabelValue", "1")), int(value("Layer", "0"))
        except ValueError:
            raise LnqError(f"is damaged: the layer of Segment{number} is not a number") from None
        kind = re.search(TERMINOLOGY + r":[^~]*~[^~]*~[^^]*\^([^^]*)\^([^~|]*)", value("Tags", ""))
        code = (kind[1], kind[2]) if kind else ("", "")
        name = value("Name", value("ID", f"segment {number}"))
        segments.append(NamedSegment(name, *place, *code))
    return segments


def read_record(path: str | Path) -> dict | None:
    """Return what says how a file was made, None if nothing does."""
    record = _record_in(keys_of(path))
    return None if record is None else without_sum(record)


def _record_in(keys: Mapping[str, str]) -> dict | None:
    try:
        record = json.loads(keys.get(RECORD, "null"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def is_as_written(path: str | Path) -> bool | None:
    """Tell whether a file holds what `write_seg_nrrd` wrote; None if its record has no sum.

    Raises
    ------
    LnqError
        If it is damaged.
    """
    record = _record_in(keys_of(path))
    with open_input(path) as raw:
        header = b"".join(_lines_but_the_records(raw))
        with unpacked(raw) as stream:
            return fits(record, chain([header], iter(partial(stream.read, CHUNK), b"")))


def _lines_but_the_records(stream: Stream) -> Iterator[bytes]:
    """Yield the lines before the voxels, but for that of the record."""
    for line in iter(partial(stream.readline, CHUNK), b""):
        if not line.startswith(f"{RECORD}:=".encode()):
            yield line
        if line == b"\n":
            break


def color_of(k: int, count: int) -> tuple[float, float, float]:
    """Return the color (red, green, blue; 0 to 1) of the kth segment, from 0 on.

    A single one is green; of several each differs from those beside it: hues a golden section
    of the circle apart.
    """
    import colorsys

    return NODE_COLOR if count == 1 else colorsys.hsv_to_rgb((0.33 + k * GOLDEN) % 1, 0.65, 0.9)


def write_segmentation(
    array: np.ndarray,
    grid: Grid,
    names: Mapping[int, str],
    stream: BinaryIO,
    record: dict[str, Any] | None = None,
) -> None:
    """Write labels as `write_seg_nrrd`; those that have no name are lymph nodes."""
    values = [int(value) for value in np.unique(array) if value] or [1]
    segments = []
    for value in values:
        name = names.get(value) or (NODE if len(values) == 1 else f"{NODE} {value}")
        is_node = NODE in name.lower().replace("_", " ")
        segments.append(NamedSegment(name, value, 0, *(NODE_CODE if is_node else ("", ""))))
    write_seg_nrrd(array, grid, segments, stream, record)


def write_seg_nrrd(
    array: np.ndarray,
    grid: Grid,
    segments: Sequence[NamedSegment],
    stream: BinaryIO,
    record: dict[str, Any] | None = None,
) -> None:
    """Write a segmentation in one layer, as Slicer does, gzipped.

    Parameters
    ----------
    array : (z, y, x) ndarray of unsigned integers
    grid : Grid
    segments : sequence of NamedSegment
    stream : file
    record : dict, optional
        What says how it was made.

    Raises
    ------
    LnqError
        If its voxels are not labels, or it is unknown where they lie.
    """
    if array.dtype.kind != "u":
        raise LnqError(f"only labels can be written as {SUFFIX}, not voxels of type {array.dtype}")
    grid.require_axes()
    if record is not None:
        header = _header(array, grid, segments, None).encode()
        record = with_sum(record, chain([header], _planes(array)))
    stream.write(_header(array, grid, segments, record).encode())
    with igzip.IGzipFile(
        filename="", fileobj=stream, mode="wb", compresslevel=1, mtime=0
    ) as packed:
        for plane in _planes(array):
            packed.write(plane)


def _planes(array: np.ndarray) -> Iterator[memoryview]:
    """Yield the bytes of the voxels, a plane at a time."""
    little = array.dtype.newbyteorder("<")
    for plane in array:
        yield np.ascontiguousarray(plane, little).data.cast("B")


def _header(
    array: np.ndarray, grid: Grid, segments: Sequence[NamedSegment], record: dict[str, Any] | None
) -> str:
    to_lps = np.diag([-1.0, -1.0, 1.0])
    steps = (to_lps @ grid.matrix)[:, ::-1].T + 0.0
    sizes = array.shape[::-1]
    lines = [
        "NRRD0004",
        f"type: uint{8 * array.dtype.itemsize}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join(map(_vector, steps))}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(to_lps @ np.array(grid.origin) + 0.0)}",
    ]
    keys: dict[str, str] = {}
    extent = " ".join(f"0 {n - 1}" for n in sizes)
    for k, segment in enumerate(segments):
        color = " ".join(f"{part:.6g}" for part in color_of(k, len(segments)))
        kind = f"SCT^{segment.code}^{segment.meaning}" if segment.code else "^^"
        tags = (
            f"{TERMINOLOGY}:Segmentation category and type - DICOM master list~"
            f"SCT^123037004^Anatomical Structure~{kind}~^^~"
            "Anatomic codes - DICOM master list~^^~^^|"
        )
        keys |= {
            f"Segment{k}_{word}": str(value)
            for word, value in {
                **{"Color": color, "ColorAutoGenerated": 0, "Extent": extent},
                **{"ID": f"Segment_{segment.value}", "LabelValue": segment.value, "Layer": 0},
                **{"Name": segment.name, "NameAutoGenerated": 0, "Tags": tags},
            }.items()
        }
    keys["Segmentation_ContainedRepresentationNames"] = "Binary labelmap|"
    keys["Segmentation_MasterRepresentation"] = "Binary labelmap"
    keys["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    if record is not None:
        keys[RECORD] = json.dumps(record, sort_keys=True)
    lines += [f"{key}:={_escaped(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n\n"


def _vector(numbers: np.ndarray) -> str:
    return "(" + ",".join(repr(float(number)) for number in numbers) + ")"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", " ")
