"""Series of DICOM files: what folders hold, and which of it are CTs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lnqtools.dicom.files import Instance, Unread, read_instances
from lnqtools.dicom.frames import CT_CLASSES, Frame, frames_of
from lnqtools.dicom.stacks import Stack, stacks_of
from lnqtools.errors import LnqError, listed
from lnqtools.images.volume import Volume


@dataclass(frozen=True)
class Series:
    """Files of one series.

    Parameters
    ----------
    instances : tuple of Instance
        In the order of paths.
    """

    instances: tuple[Instance, ...] = field(repr=False)

    def text(self, keyword: str) -> str:
        """Return an element of its first file as text, '' if it is missing."""
        return self.instances[0].text(keyword)

    def texts(self, keyword: str) -> list[str]:
        """Return the different values of an element, in the files' order."""
        return list(dict.fromkeys(filter(None, (i.text(keyword) for i in self.instances))))

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.text("SeriesInstanceUID")

    @property
    def folder(self) -> Path:
        """The folder of its first file."""
        return self.instances[0].path.parent

    @property
    def is_ct(self) -> bool:
        """Whether it is made of CT images, localizers among them."""
        return all(instance.text("SOPClassUID") in CT_CLASSES for instance in self.instances)

    @property
    def is_localizer(self) -> bool:
        """Whether all of its images are localizers (scouts, topograms)."""
        return all("LOCALIZER" in instance.text("ImageType") for instance in self.instances)

    @cached_property
    def stacks(self) -> list[Stack]:
        """Its volumes: one, or one per acquisition.

        Raises
        ------
        LnqError
            If it is not a CT, or its slices are not a volume, with the reason.
        """
        if not self.is_ct:
            raise LnqError(f"is not a CT, but {self.kind}")
        frames, others = self._frames()
        if not frames:
            raise LnqError(f"is {others[0]}")
        stacks = stacks_of(frames)
        if not others:
            return stacks
        left = f"{len(others)} of its images were left out: {', '.join(sorted(set(others)))}"
        return [Stack(s.frames, s.normal, s.part, (*s.notes, left), s.unevenness) for s in stacks]

    def _frames(self) -> tuple[list[Frame], list[str]]:
        """Return its slices, and what the other images are."""
        frames: list[Frame] = []
        for instance in self.instances:
            try:
                frames += frames_of(instance)
            except LnqError as error:
                raise LnqError(f"{instance.path.name}: {error}") from None
        return [f for f in frames if not f.kind], [f.kind for f in frames if f.kind]

    @property
    def kind(self) -> str:
        """What it is, for people: its modality."""
        modality = self.text("Modality") or "of unknown modality"
        if modality == "CT":
            return "CT of a kind that is not read (a screenshot, a report of the dose)"
        return modality


class Archive(NamedTuple):
    """What folders hold."""

    series: list[Series]
    unread: list[Unread]


def find_series(places: Iterable[str | Path]) -> Archive:
    """Find the DICOM series in folders, any nesting, many patients; their headers are read.

    Parameters
    ----------
    places : iterable of str or Path
        Folders, or DICOM files.

    Returns
    -------
    Archive
        Series in the order of patient, study, series number and UID; files that are not DICOM
        are passed over, those that are damaged are named.

    Raises
    ------
    LnqError
        If a place is not there, or is a file that is not DICOM.
    """
    unread: list[Unread] = []
    groups: dict[tuple[str, ...], list[Instance]] = {}
    for instance in read_instances(places, unread):
        words = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        groups.setdefault(tuple(map(instance.text, words)), []).append(instance)
    found = [Series(tuple(instances)) for instances in groups.values()]
    return Archive(sorted(found, key=_order), unread)


def _order(series: Series) -> tuple:
    number = series.text("SeriesNumber")
    place = int(number) if number.isdecimal() else 0
    patient, study = series.text("PatientID"), series.text("StudyInstanceUID")
    return patient, study, place, series.uid


def read_one_ct(folder: str | Path, resample: bool = False) -> Volume:
    """Read the one CT series of a folder.

    Parameters
    ----------
    folder : str or Path
        With DICOM files, in folders of it or not. Localizers, reports and series of other
        modalities beside the CT are passed over.
    resample : bool
        See `lnqtools.dicom.stacks.Stack.read`.

    Returns
    -------
    Volume
        HU by header, slices in order; int16 where all are whole numbers that fit. Its ``content``
        tells the content of the series' files, see `content_of_ct`.

    Raises
    ------
    LnqError
        If there is none or more than one, it is damaged, or its slices are not a volume.
    """
    return one_ct(folder).read(resample)


def content_of_ct(folder: str | Path) -> str:
    """Return the ``content`` that `read_one_ct` would give, without decoding voxels."""
    return one_ct(folder).digest()


def has_content(path: str | Path, digest: str) -> bool:
    """Tell whether a place with DICOM files holds a CT of this ``content``."""
    for series in find_series([path]).series:
        try:
            stacks = series.stacks if series.is_ct else []
        except LnqError:
            continue
        if any(stack.digest() == digest for stack in stacks):
            return True
    return False


def one_ct(folder: str | Path) -> Stack:
    """Return the slices of the one CT series of a folder; see `read_one_ct`."""
    archive = find_series([folder])
    if archive.unread:
        path, why = archive.unread[0]
        raise LnqError(f"{path.relative_to(folder)} {why}")
    if not archive.series:
        raise LnqError("holds no DICOM file")
    cts = [series for series in archive.series if series.is_ct and not series.is_localizer]
    if not cts:
        kinds = sorted({_kind(series) for series in archive.series})
        raise LnqError(f"holds no CT, but {', '.join(kinds)}")
    if len(cts) > 1:
        raise LnqError(
            f"holds {len(cts)} CT series, not one: {listed(named(cts))}; name the folder of one, "
            "or choose with lnq-dicom images"
        )
    stacks = cts[0].stacks
    if len(stacks) > 1:
        parts = ", ".join(stack.part for stack in stacks)
        raise LnqError(
            f"its CT series holds {len(stacks)} volumes ({parts}): lnq-dicom images writes each"
        )
    return stacks[0]


def _kind(series: Series) -> str:
    return "a localizer" if series.is_ct else series.kind


def named(series: Sequence[Series]) -> list[str]:
    """Return what series are called: number, description, folder."""
    words = []
    for each in series:
        number = each.text("SeriesNumber") or "?"
        description = each.text("SeriesDescription") or "no description"
        words.append(f"series {number} ({description}, {len(each.instances)} files)")
    return words
