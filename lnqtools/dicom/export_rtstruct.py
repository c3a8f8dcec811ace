"""RTSTRUCT, written: nodes as outlines in the CT's slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lnqtools import __version__
from lnqtools.dicom.codes import LYMPH_NODE, code_item
from lnqtools.dicom.export import MANUFACTURER, Export
from lnqtools.dicom.frames import Frame
from lnqtools.dicom.numbering import Node
from lnqtools.dicom.outlines import outlines_of
from lnqtools.dicom.packages import load
from lnqtools.dicom.rtstruct import RTSTRUCT_CLASS
from lnqtools.errors import LnqError
from lnqtools.images.seg_nrrd import color_of

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, as the module wants it though it is retired."""
AXIAL_COSINE = 0.7
"""Least part of a slice's normal that runs to the head."""


def make_rtstruct(export: Export) -> Any:
    """Return an RTSTRUCT: a ROI per node, outlines along the edges of pixels.

    Raises
    ------
    LnqError
        If the CT's slices are not axial.
    """
    if abs(export.stack.normal[2]) < AXIAL_COSINE:
        raise LnqError("its CT's slices are not axial: an RTSTRUCT cannot be drawn in them")
    pydicom = load("pydicom")
    source = export.sources[0]
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.SpecificCharacterSet = source.get("SpecificCharacterSet", "ISO_IR 192")
    made.SOPClassUID, made.SOPInstanceUID = RTSTRUCT_CLASS, export.uid("object", "RTSTRUCT")
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
        *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "StudyDescription", "FrameOfReferenceUID"),
    ):
        if keyword in source:
            setattr(made, keyword, source[keyword].value)
    made.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", export.uid("series", "RTSTRUCT")
    made.SeriesNumber, made.InstanceNumber = export.series_number("RTSTRUCT"), 1
    made.SeriesDescription, made.OperatorsName = export.description, ""
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, "lnq-dicom"
    made.SoftwareVersions = __version__
    made.StructureSetLabel = "LYMPH_NODES"
    when = export.time()
    made.StructureSetDate, made.StructureSetTime = when["date"], when["time"]
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_reference(export)]
    made.StructureSetROISequence = [_roi(export, node) for node in export.nodes]
    made.ROIContourSequence = [
        _contours(export, node, color_of(k, len(export.nodes)))
        for k, node in enumerate(export.nodes)
    ]
    made.RTROIObservationsSequence = [_observation(node) for node in export.nodes]
    return made


def _dataset(**elements: Any) -> Any:
    item = load("pydicom").Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _image(export: Export, frame: Frame) -> Any:
    """Return the reference to a slice."""
    item = _dataset(
        ReferencedSOPClassUID=export.sources[0].SOPClassUID, ReferencedSOPInstanceUID=frame.uid
    )
    if "NumberOfFrames" in export.sources[0]:
        item.ReferencedFrameNumber = frame.number + 1
    return item


def _reference(export: Export) -> Any:
    source = export.sources[0]
    images = {frame.uid: _image(export, frame) for frame in export.stack.frames}
    for item in images.values():
        if "ReferencedFrameNumber" in item:
            del item.ReferencedFrameNumber
    series = _dataset(
        SeriesInstanceUID=source.SeriesInstanceUID, ContourImageSequence=list(images.values())
    )
    study = _dataset(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=source.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _dataset(
        FrameOfReferenceUID=source.FrameOfReferenceUID, RTReferencedStudySequence=[study]
    )


def _roi(export: Export, node: Node) -> Any:
    return _dataset(
        ROINumber=node.number,
        ReferencedFrameOfReferenceUID=export.sources[0].FrameOfReferenceUID,
        ROIName=node.name,
        ROIGenerationAlgorithm=export.algorithm.kind,
    )


def _observation(node: Node) -> Any:
    return _dataset(
        ObservationNumber=node.number,
        ReferencedROINumber=node.number,
        RTROIIdentificationCodeSequence=[code_item(LYMPH_NODE)],
        RTROIInterpretedType="",
        ROIInterpreter="",
    )


def _contours(export: Export, node: Node, color: tuple[float, float, float]) -> Any:
    item = _dataset(
        ROIDisplayColor=[round(255 * part) for part in color], ReferencedROINumber=node.number
    )
    contours = list(_outlines(export, node.number))
    if contours:
        item.ContourSequence = contours
    return item


def _outlines(export: Export, number: int) -> Iterator[Any]:
    """Yield the outlines of a node, slice by slice."""
    mask = export.mask.array == number
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        frame = export.stack.frames[int(k)]
        columns, rows = np.reshape(frame.plane.orientation, (2, 3))
        steps = np.stack([rows * frame.plane.spacing[0], columns * frame.plane.spacing[1]])
        for outline in outlines_of(mask[k]):
            points = np.array(frame.position) + outline @ steps
            yield _dataset(
                ContourImageSequence=[_image(export, frame)],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.9g}" for value in points.ravel().tolist()],
            )
