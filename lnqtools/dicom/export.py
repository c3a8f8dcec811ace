"""Masks as DICOM objects of the CT series that they were made on: what all kinds share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lnqtools import __version__
from lnqtools.dicom.numbering import Node, Numbered
from lnqtools.dicom.packages import load
from lnqtools.dicom.record import add_record, uid_of
from lnqtools.dicom.stacks import Stack
from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output
from lnqtools.images.grid import CLOSE_VOXELS, difference, lattice_map, one_to_one
from lnqtools.images.volume import Volume

MANUFACTURER = "lnqtools"
MODALITIES = ("SEG", "RTSTRUCT", "SR")


class Algorithm(NamedTuple):
    """What drew a mask."""

    kind: str
    """AUTOMATIC, SEMIAUTOMATIC or MANUAL, as the standard has it."""
    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class Export:
    """A mask, in the order of the slices of its CT series, and what is said of it.

    Parameters
    ----------
    stack : Stack
        The CT.
    mask : Volume
        Numbers of nodes, on the grid of the stack.
    nodes : sequence of Node
    algorithm : Algorithm
    description : str
        Series Description.
    """

    stack: Stack
    mask: Volume
    nodes: Sequence[Node]
    algorithm: Algorithm
    description: str

    @cached_property
    def sources(self) -> list[Any]:
        """Headers of the CT's files, in the order of the slices."""
        pydicom = load("pydicom")
        paths = list(dict.fromkeys(frame.path for frame in self.stack.frames))
        if len(paths) > 1 and len(paths) < len(self.stack.frames):
            raise LnqError("its CT series has several files of many frames, which is not exported")
        headers = [pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in paths]
        for header in headers:
            if not header.get("FrameOfReferenceUID"):
                raise LnqError("its CT has no Frame of Reference UID, which a segmentation needs")
            _complete(header)
        return headers

    @property
    def frames(self) -> np.ndarray:
        """The mask (n, rows, columns) in the order of `sources`, or of the frames of the one."""
        if len(self.sources) > 1 or len(self.stack.frames) == 1:
            return self.mask.array
        ordered = np.empty_like(self.mask.array)
        for plane, frame in zip(self.mask.array, self.stack.frames, strict=True):
            ordered[frame.number] = plane
        return ordered

    @cached_property
    def identity(self) -> str:
        """What UIDs are made of: the CT, the voxels, and what is said of them."""
        digest = hashlib.sha256(np.ascontiguousarray(self.mask.array, np.uint32).tobytes())
        said = (*self.nodes, self.algorithm, self.description)
        uids = sorted({frame.uid for frame in self.stack.frames})
        digest.update(repr((uids, said, __version__)).encode())
        return digest.hexdigest()

    def uid(self, *words: object) -> str:
        """Return a UID of this export, the same for the same words."""
        return uid_of(self.identity, *words)

    def series_number(self, kind: str) -> int:
        """Return a Series Number for what is written: the CT's and 1000, 1001 or 1002 more."""
        return int(self.sources[0].get("SeriesNumber") or 0) + 1000 + MODALITIES.index(kind)

    def time(self) -> dict[str, str]:
        """Return date and time of the content: those of the CT, so that the bytes are its own.

        Two runs make the same file, which a clock would prevent.
        """
        header = self.sources[0]
        for what in ("Content", "Acquisition", "Series", "Study"):
            date = str(header.get(f"{what}Date") or "")
            if date:
                return {"date": date, "time": str(header.get(f"{what}Time") or "000000")}
        return {"date": "19000101", "time": "000000"}


def _complete(header: Any) -> None:
    """Give a header the elements that must be there, empty where nothing is known."""
    for keyword in (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"),
        *("AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    ):
        if keyword not in header:
            setattr(header, keyword, "")


def prepared(
    mask: Volume, stack: Stack, numbered: Numbered, algorithm: Algorithm, description: str
) -> Export:
    """Bring the numbered segments of a mask into the order of a CT's slices.

    Raises
    ------
    LnqError
        If the mask does not lie on the CT's grid.
    """
    grid = stack.grid
    way = one_to_one(mask.grid, grid, CLOSE_VOXELS)
    if way is None:
        how = difference(grid, mask.grid) or "their voxels do not meet"
        raise LnqError(f"does not lie on the grid of its CT series: {how}{_hint(mask, stack)}")
    turned = Volume(way.turned(numbered.array), grid)
    return Export(stack, turned, numbered.nodes, algorithm, description)


def _say_how_deidentified(dataset: Any, source: Any) -> None:
    """Say of a patient whose identity was removed how that was done, as the CT says it."""
    keywords = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    found = [keyword for keyword in keywords if source.get(keyword)]
    for keyword in found:
        setattr(dataset, keyword, source[keyword].value)
    if found and "PatientIdentityRemoved" in source:
        dataset.PatientIdentityRemoved = source.PatientIdentityRemoved
    elif "PatientIdentityRemoved" in dataset:
        del dataset.PatientIdentityRemoved


def _hint(mask: Volume, stack: Stack) -> str:
    if lattice_map(mask.grid, stack.grid, CLOSE_VOXELS) is not None:
        return "; lnq-crop --label --like CT pastes it back"
    return ""


def write_object(
    dataset: Any, export: Export, path: str | Path, record: Any, **rules: bool
) -> None:
    """Write a DICOM object whole or not at all, without the time at which it is made."""
    pydicom = load("pydicom")
    when = export.time()
    for what in ("Content", "InstanceCreation", "Series", "StructureSet"):
        for kind in ("date", "time"):
            keyword = f"{what}{kind.title()}"
            if keyword in dataset:
                setattr(dataset, keyword, when[kind])
    for item in dataset.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    _say_how_deidentified(dataset, export.sources[0])
    add_record(dataset, record)
    with atomic_output(path, **rules) as raw:
        pydicom.dcmwrite(raw, dataset, enforce_file_format=True)
