"""Frames: single slices of CT, from files that hold one or many, and their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lnqtools.dicom.files import Instance, numbers_of, text_of
from lnqtools.dicom.packages import load
from lnqtools.errors import LnqError

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": False,
    "1.2.840.10008.5.1.4.1.1.2.1": True,
    "1.2.840.10008.5.1.4.1.1.2.2": True,
}
"""SOP classes of CT (plain, enhanced, legacy converted) → whether a file has many frames."""
NOT_SLICES = {"LOCALIZER": "a localizer", "MIP": "a projection (MIP)", "MINIP": "a projection"}
"""Words of the image type that say that an image is not a slice of a volume."""
HU_TYPES = ("", "HU", "US")
"""What Rescale Type says of CT numbers; US is unspecified."""
SPLITTERS = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex", "StackID"),
    *("ConvolutionKernel", "ImageType", "AcquisitionDateTime", "AcquisitionTime"),
)
"""What may tell several volumes of one series apart, the likeliest first."""


class Plane(NamedTuple):
    """What slices of one volume have in common."""

    size: tuple[int, int]
    """Rows and columns."""
    spacing: tuple[float, float]
    """Distance in mm of rows, and of columns."""
    orientation: tuple[float, ...]
    """Directions (x, y, z; LPS) in which columns and rows are counted: Image Orientation."""
    frame_of_reference: str


@dataclass(frozen=True)
class Frame:
    """One slice: where it lies, how its stored values become HU, and what else it says of itself.

    Parameters
    ----------
    path : Path
    number : int
        Which of the file's frames it is, from 0 on.
    uid : str
        SOP Instance UID of the file.
    plane : Plane
    position : tuple of float
        Of the center of its first pixel, mm (x, y, z; LPS).
    slope, intercept : float
        HU = slope × stored value + intercept.
    said : mapping
        Elements out of `SPLITTERS`.
    kind : str, optional
        What it is other than a slice, as ``a localizer``.
    """

    path: Path
    number: int
    uid: str
    plane: Plane
    position: tuple[float, ...]
    slope: float
    intercept: float
    said: dict[str, str]
    kind: str | None = None


def frames_of(instance: Instance) -> Iterator[Frame]:
    """Yield the slices of a CT file.

    Raises
    ------
    LnqError
        If something is missing without which they have no place or no HU.
    """
    header = instance.header
    if not CT_CLASSES[text_of(header, "SOPClassUID")]:
        yield _frame(instance, 0, [header])
        return
    shared = _first(header, "SharedFunctionalGroupsSequence")
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    count = int(numbers_of(header, "NumberOfFrames", 1)[0])
    if len(own) != count:
        raise LnqError(f"describes {len(own)} of its {count} frames: it is damaged")
    for number, group in enumerate(own):
        yield _frame(instance, number, _macros(group) + _macros(shared) + [header])


def _first(header: Any, keyword: str) -> Any:
    """Return the one item of a sequence, or None."""
    items = header.get(keyword) if header is not None else None
    return items[0] if items else None


def _macros(groups: Any) -> list[Any]:
    """Return the items of a frame's functional groups, in which its elements are."""
    if groups is None:
        return []
    return [element.value[0] for element in groups if element.VR == "SQ" and element.value]


def _frame(instance: Instance, number: int, places: Sequence[Any]) -> Frame:
    """Return a frame, whose elements stand at one of several places, in the order of preference."""

    def where(keyword: str) -> Any:
        return next((place for place in places if keyword in place), instance.header)

    def text(keyword: str) -> str:
        return text_of(where(keyword), keyword)

    def numbers(keyword: str, count: int) -> tuple[float, ...]:
        return numbers_of(where(keyword), keyword, count)

    words = {*text("ImageType").split("\\"), *text("FrameType").split("\\")}
    kind = next((NOT_SLICES[word] for word in NOT_SLICES if word in words), None)
    plane, scale = Plane((0, 0), (0, 0), (), ""), (1.0, 0.0)
    position: tuple[float, ...] = (0.0, 0.0, 0.0)
    if kind is None:
        _check_values(instance.header, text("RescaleType"))
        rows, columns = (int(numbers(keyword, 1)[0]) for keyword in ("Rows", "Columns"))
        plane = Plane(
            (rows, columns),
            _two(numbers("PixelSpacing", 2)),
            numbers("ImageOrientationPatient", 6),
            text("FrameOfReferenceUID"),
        )
        position = numbers("ImagePositionPatient", 3)
        scale = (numbers("RescaleSlope", 1)[0], numbers("RescaleIntercept", 1)[0])
    said = {keyword: text(keyword) for keyword in SPLITTERS}
    said["ImageType"] = text("FrameType") or said["ImageType"]
    said["AcquisitionNumber"] = text("FrameAcquisitionNumber") or said["AcquisitionNumber"]
    uid = text_of(instance.header, "SOPInstanceUID")
    return Frame(instance.path, number, uid, plane, position, *scale, said, kind)


def _two(numbers: tuple[float, ...]) -> tuple[float, float]:
    if min(numbers) <= 0:
        raise LnqError(f"has a damaged Pixel Spacing ({numbers[0]:g}\\{numbers[1]:g})")
    return numbers[0], numbers[1]


def _check_values(header: Any, rescale_type: str) -> None:
    """Refuse slices whose values are not HU, or made of them by more than slope and intercept."""
    if rescale_type.upper() not in HU_TYPES:
        raise LnqError(f"its values are not HU (Rescale Type {rescale_type})")
    if "ModalityLUTSequence" in header:
        raise LnqError("its values become HU by a table (Modality LUT), which is not read")
    if (samples := text_of(header, "SamplesPerPixel") or "1") != "1":
        raise LnqError(f"is in color ({samples} samples per pixel): a screenshot, not a CT slice")


def hu_of(frames: Sequence[Frame]) -> np.ndarray:
    """Return the HU of slices of one size, in their order.

    Returns
    -------
    (n, rows, columns) ndarray
        int16 where all are whole numbers that fit, int32 where they do not, float32 of others.

    Raises
    ------
    LnqError
        If voxels are missing, damaged or compressed in a way that nothing installed unpacks.
    """
    whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    array: np.ndarray | None = None
    opened = _Opened()
    for k, frame in enumerate(frames):
        stored = opened.stored(frame)
        if array is None:
            array = np.empty((len(frames), *stored.shape), np.int16 if whole else np.float32)
        if not whole:
            array[k] = stored * np.float64(frame.slope) + frame.intercept
            continue
        values = stored.astype(np.int64) * int(frame.slope) + int(frame.intercept)
        wanted = np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
        if not np.can_cast(wanted, array.dtype) and not _fits(values, array.dtype):
            array = array.astype(np.int32)
            if not _fits(values, array.dtype):
                raise LnqError(f"{frame.path.name} has values beyond 32 bits: it is damaged")
        array[k] = values
    assert array is not None, "a stack has slices"
    return array


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    limits = np.iinfo(dtype)
    return bool(limits.min <= values.min() and values.max() <= limits.max)


class _Opened:
    """The file whose frames are read, so that one of many frames is read once."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.dataset: Any = None

    def open(self, path: Path) -> None:
        """Read a file."""
        self.dataset = load("pydicom").dcmread(path, force=True)
        self.path = path
        _syntax_of(self.dataset)

    def stored(self, frame: Frame) -> np.ndarray:
        """Return the stored values of a frame, (rows, columns)."""
        try:
            if frame.path != self.path:
                self.open(frame.path)
            syntax = _syntax_of(self.dataset)
            # Spare bits of what is packed are cleared here, of all else by _stored_bits.
            array = load("pydicom.pixels").pixel_array(
                self.dataset,
                index=frame.number,
                raw=True,
                correct_unused_bits=syntax.is_encapsulated,
            )
        except Exception as error:  # noqa: BLE001  decoders raise whatever damaged bytes lead to
            raise LnqError(f"{frame.path.name}: {_why_not_decoded(error, self)}") from None
        if array.shape != frame.plane.size:
            raise LnqError(f"{frame.path.name} is damaged: its voxels are {array.shape}")
        if not syntax.is_encapsulated:
            array = _stored_bits(array, self.dataset, frame.path)
        return array


def stored_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the stored values of all frames of a file, (rows, columns) each.

    Raises
    ------
    LnqError
        If voxels are missing, damaged or compressed in a way that nothing installed unpacks.
    """
    opened = _Opened()
    try:
        opened.open(path)
        yield from load("pydicom.pixels").iter_pixels(opened.dataset, raw=True)
    except Exception as error:  # noqa: BLE001  decoders raise whatever damaged bytes lead to
        raise LnqError(_why_not_decoded(error, opened)) from None


def _syntax_of(dataset: Any) -> Any:
    """Return the transfer syntax; a file without preamble is in the standard's default."""
    pydicom = load("pydicom")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        little, implicit = dataset.original_encoding[::-1]
        uid = pydicom.uid
        syntax = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        if not little:
            syntax = uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = syntax
    return syntax


def _why_not_decoded(error: Exception, opened: _Opened) -> str:
    """Say why voxels could not be read."""
    with suppress(Exception):
        syntax = opened.dataset.file_meta.TransferSyntaxUID
        if "unable to decompress" in str(error).lower() or "missing" in str(error).lower():
            return f"its voxels are compressed ({syntax.name}) and nothing installed unpacks that"
    if isinstance(error, AttributeError):
        floats = {"FloatPixelData", "DoubleFloatPixelData"} & {*dir(opened.dataset)}
        return "has voxels of type float, which CT has not" if floats else "has no voxels"
    return "its voxels are cut off or damaged: copy it again"


def _stored_bits(array: np.ndarray, dataset: Any, path: Path) -> np.ndarray:
    """Return values without what lies in the bits beside them, as overlays of old files do.

    Raises
    ------
    LnqError
        If nothing says what lies there.
    """
    allocated, stored, high = (
        int(numbers_of(dataset, keyword, 1)[0])
        for keyword in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if stored == allocated:
        return array
    if not 0 < stored < allocated or high != stored - 1:
        raise LnqError(f"{path.name}: its {stored} bits end at bit {high}, which is not read")
    spare = allocated - stored
    bits = array.astype(array.dtype.newbyteorder("="))
    extended = (bits << spare) >> spare  # arithmetic where signed
    if (extended == bits).all() or _has_embedded_overlay(dataset):
        return extended
    raise LnqError(f"{path.name} has values that do not fit the {stored} bits it says it uses")


def _has_embedded_overlay(dataset: Any) -> bool:
    """Tell whether overlays are said to lie in the bits above the values."""
    groups = range(0x6000, 0x6020, 2)
    return any((group, 0x0102) in dataset and dataset[group, 0x0102].value for group in groups)
