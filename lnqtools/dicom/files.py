"""DICOM files in folders: which there are, and their headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lnqtools.dicom.packages import load
from lnqtools.errors import LnqError, os_errors
from lnqtools.files.foreign import HEAD_BYTES, is_dicom

PIXEL_DATA = 0x7FE00010
DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR, the index of a disc: it holds no image."""


NESTED = (
    *("1.2.840.10008.5.1.4.1.1.2.", "1.2.840.10008.5.1.4.1.1.66."),
    "1.2.840.10008.5.1.4.1.1.481.3",
)
"""SOP classes of which sequences are read: enhanced CT, segmentations, RTSTRUCT."""


class Instance(NamedTuple):
    """One DICOM file, and its header: all before the voxels."""

    path: Path
    header: Any

    def text(self, keyword: str) -> str:
        """Return an element as text without padding, '' if it is missing or empty."""
        return text_of(self.header, keyword)


class Unread(NamedTuple):
    """A file that should have been DICOM, and why it could not be read."""

    path: Path
    why: str


def text_of(header: Any, keyword: str) -> str:
    """Return an element as text without padding, several values with backslashes between."""
    try:
        value = header.get(keyword)
    except Exception:  # noqa: BLE001  whatever pydicom makes of a damaged value: there is none
        return ""
    if value is None:
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    parts = [str(part).strip(" \0") for part in value] if several else [str(value).strip(" \0")]
    return "\\".join(parts)


def numbers_of(header: Any, keyword: str, count: int) -> tuple[float, ...]:
    """Return an element as finite numbers.

    Raises
    ------
    LnqError
        If it is missing, damaged, or has another number of values.
    """
    text = text_of(header, keyword)
    if not text:
        raise LnqError(f"has no {keyword_words(keyword)}")
    numbers = []
    with suppress(ValueError):
        numbers = [float(part) for part in text.split("\\")]
    if len(numbers) != count or not all(abs(number) < float("inf") for number in numbers):
        raise LnqError(f"has a damaged {keyword_words(keyword)} ({text})")
    return tuple(numbers)


def keyword_words(keyword: str) -> str:
    """Return a keyword as the standard writes the name: ``Pixel Spacing``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword)


def read_instances(places: Iterable[str | Path], unread: list[Unread]) -> Iterator[Instance]:
    """Yield each DICOM file at some places, once, in the order of paths.

    Parameters
    ----------
    places : iterable of str or Path
        Files, and folders that are searched with all of theirs. Other files than DICOM in folders
        are passed over.
    unread : list of Unread
        Gets the files that are damaged, or are called .dcm and are something else.

    Raises
    ------
    LnqError
        If a place is not there, cannot be read, or is a file that is not DICOM.
    """
    seen: set[Path] = set()
    for place in map(Path, places):
        for path in _files_at(place):
            if (real := path.resolve()) in seen:
                continue
            seen.add(real)
            try:
                header = read_header(path)
            except LnqError as error:
                unread.append(Unread(path, str(error)))
                continue
            if header is None:
                if path == place:
                    raise LnqError(f"{place}: is not a DICOM file")
                if path.suffix.lower() == ".dcm":
                    unread.append(Unread(path, "is not a DICOM file, though it is called so"))
            elif text_of(header, "SOPClassUID"):
                yield Instance(path, header)


def _files_at(place: Path) -> list[Path]:
    with os_errors(f"{place} cannot be read"):
        if place.is_dir():
            return sorted(path for path in place.rglob("*") if path.is_file())
        if not place.exists():
            raise LnqError(f"{place}: no such file or directory")
    return [place]


def read_header(path: Path) -> Any:
    """Return the header of a DICOM file, also one without preamble, or None if it is none.

    A DICOMDIR is returned without SOP class.

    Raises
    ------
    LnqError
        If it begins as DICOM and is damaged.
    """
    pydicom = load("pydicom")
    with os_errors("cannot be read"), path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not is_dicom(head):
        return None
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        kind = text_of(header.file_meta, "MediaStorageSOPClassUID")
        known = all(text_of(header, word) for word in ("SOPClassUID", "SOPInstanceUID"))
        if text_of(header, "SOPClassUID").startswith(NESTED):
            for _ in header.iterall():  # pydicom looks into sequences when they are asked for
                pass
    except Exception as error:  # noqa: BLE001  a damaged file raises whatever its bytes lead to
        raise LnqError(f"is damaged ({type(error).__name__}): copy it again") from None
    if kind == DIRECTORY:
        return pydicom.Dataset()
    if not known:
        raise LnqError("is damaged: its header ends before it says what it is; copy it again")
    return header
