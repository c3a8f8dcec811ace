#!/usr/bin/env python3
"""Sort downloaded DICOM files into a folder per case: its CT slices and its annotation.

Archives differ in how they lay out their folders; what belongs together stands in the files. For
each annotation (a SEG or an RTSTRUCT) WORK/CASE gets ``ct/`` with links to the slices of the CT
series that the annotation refers to, and ``annotation.dcm``, ``description`` beside it. CASE is
the patient's ID. The cases are printed, each ended by NUL.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lnqtools.errors import LnqError

TAGS = [
    "FrameOfReferenceUID",
    "ImageType",
    "Modality",
    "PatientID",
    "ReferencedFrameOfReferenceSequence",
    "ReferencedSeriesSequence",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
]
SAFE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class Instance(NamedTuple):
    """One DICOM file, and what its header says that matters here."""

    path: Path
    header: Any

    def get(self, tag: str) -> str:
        """Return an element as text, empty if it is not there."""
        return str(self.header.get(tag, ""))


def read_headers(source: Path, damaged: list[Path]) -> Iterator[Instance]:
    """Yield each DICOM file once, in the order of paths, wherever it lies below a folder.

    Files that must have been DICOM before something cut them off are added to ``damaged``.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import MediaStorageDirectoryStorage

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    seen = set()
    for path in sorted(source.rglob("*")):
        if not path.is_file():
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except InvalidDicomError:  # a license, a table
            if path.suffix.lower() == ".dcm":
                damaged.append(path)
            continue
        except (EOFError, OSError, ValueError):
            damaged.append(path)
            continue
        instance = Instance(path, header)
        uid = instance.get("SOPInstanceUID")
        if uid and instance.get("Modality") and instance.get("SeriesInstanceUID"):
            if uid not in seen:
                seen.add(uid)
                yield instance
        elif header.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
            damaged.append(path)


def referenced_series(header: Any) -> str | None:
    """Return the UID of the image series that a SEG or RTSTRUCT was drawn on, if it says so."""
    try:
        if "ReferencedSeriesSequence" in header:
            return str(header.ReferencedSeriesSequence[0].SeriesInstanceUID)
        study = header.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        return str(study.RTReferencedSeriesSequence[0].SeriesInstanceUID)
    except (AttributeError, IndexError):
        return None


def series_of(
    annotation: Instance, cts: dict[str, list[Instance]]
) -> tuple[str, list[Instance]] | None:
    """Return the CT series of an annotation: the one it names, or its study's only one."""
    named = referenced_series(annotation.header)
    if named is not None:
        return (named, cts[named]) if named in cts else None
    same_study = [
        (uid, slices)
        for uid, slices in cts.items()
        if slices[0].get("StudyInstanceUID") == annotation.get("StudyInstanceUID")
    ]
    return same_study[0] if len(same_study) == 1 else None


def link(folder: Path, slices: list[Instance], annotation: Instance | None) -> None:
    """Make the folder of a case anew: links alone, nothing is copied."""
    shutil.rmtree(folder / "ct", ignore_errors=True)
    (folder / "ct").mkdir(parents=True)
    for number, instance in enumerate(slices, 1):
        (folder / "ct" / f"{number:05}.dcm").symlink_to(instance.path.resolve())
    if annotation is not None:
        (folder / "annotation.dcm").unlink(missing_ok=True)
        (folder / "annotation.dcm").symlink_to(annotation.path.resolve())
        (folder / "description").write_text(annotation.get("SeriesDescription") + "\n")


def choose(
    case: str, found: list[Instance], cts: dict[str, list[Instance]], modality: str
) -> tuple[list[Instance], Instance | None]:
    """Return the slices and the annotation of a case.

    Raises
    ------
    LnqError
        Unless there is one of each.
    """
    if not SAFE_NAME.fullmatch(case):
        raise LnqError("its patient ID cannot be a file name")
    if modality == "none":
        series = [slices for slices in cts.values() if slices[0].get("PatientID") == case]
        if len(series) != 1:
            raise LnqError(f"it has {len(series)} CT series; keep one of them")
        return series[0], None
    if len(found) != 1:
        paths = ", ".join(str(instance.path) for instance in found)
        raise LnqError(f"it has {len(found)} annotations; keep one of {paths}")
    pair = series_of(found[0], cts)
    if pair is None:
        raise LnqError(f"the CT that {found[0].path} was drawn on is not there")
    return pair[1], found[0]


def sort(source: Path, work: Path, modality: str, wanted: str, unwanted: str | None) -> int:
    """Make the folders and print the cases; return how many failures there were."""
    cts: dict[str, list[Instance]] = defaultdict(list)
    cases: dict[str, list[Instance]] = defaultdict(list)
    damaged: list[Path] = []
    total = 0
    for instance in read_headers(source, damaged):
        total += 1
        case, kind = instance.get("PatientID"), instance.get("Modality")
        if not re.search(wanted, case):
            continue
        if kind == "CT" and "LOCALIZER" not in instance.get("ImageType"):
            cts[instance.get("SeriesInstanceUID")].append(instance)
            if modality == "none":
                cases[case].append(instance)
        elif kind == modality and not (
            unwanted and re.search(unwanted, instance.get("SeriesDescription"))
        ):
            cases[case].append(instance)
    if not cases:
        what = "CT" if modality == "none" else modality
        raise LnqError(f"holds no {what} that is wanted, among {total} DICOM files")
    for path in damaged:
        sys.stderr.write(f"sort_dicom.py: {path}: is cut off; download it again\n")
    failures = len(damaged)
    for case, found in sorted(cases.items()):
        try:
            link(work / case, *choose(case, found, cts, modality))
        except LnqError as error:
            failures += 1
            sys.stderr.write(f"sort_dicom.py: {case}: {error}\n")
            continue
        sys.stdout.buffer.write(os.fsencode(case) + b"\0")
    return failures


def main() -> int:
    """Run as a program: 0 all done, 1 some case failed, 2 nothing could be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--annotation", choices=["SEG", "RTSTRUCT", "none"], required=True)
    parser.add_argument("--case", default="", help="regular expression of the patients wanted")
    parser.add_argument("--without", help="regular expression of series descriptions not wanted")
    options = parser.parse_args()
    try:
        failures = sort(
            options.source, options.work, options.annotation, options.case, options.without
        )
    except ModuleNotFoundError as error:
        sys.stderr.write(f"sort_dicom.py: {error.name} is not installed; pip install pydicom\n")
        return 2
    except LnqError as error:
        sys.stderr.write(f"sort_dicom.py: {options.source}: {error}\n")
        return 2
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
