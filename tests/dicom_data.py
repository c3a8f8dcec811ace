"""DICOM series as scanners of two vendors write them, and as they should not be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import save

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

UID = "1.2.826.0.1.3680043.8.498."
SPACING = (3.0, 0.75, 0.5)
"""Of slices, rows and columns, mm."""
ORIGIN = (-12.5, -20.25, -40.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Edit = Callable[[Any, int], None]


def ct_of(shape: tuple[int, int, int] = (6, 10, 12)) -> np.ndarray:
    """Return HU (z, y, x), in a small CT no two alike, that 12 bits can hold."""
    return (np.arange(np.prod(shape)) % 3400 - 400).astype(np.int16).reshape(shape)


def matrix_of_series(
    spacing: Sequence[float] = SPACING, origin: Sequence[float] = ORIGIN
) -> np.ndarray:
    """Return the NIfTI affine of an axial series."""
    z, y, x = spacing
    matrix = np.diag([-x, -y, z, 1.0])
    matrix[:3, 3] = -origin[0], -origin[1], origin[2]
    return matrix


def uid_of(*words: object) -> str:
    """Return a UID that is the same for the same words."""
    return pydicom.uid.generate_uid(UID, list(map(str, words)))


def slices_of(
    hu: np.ndarray,
    *,
    patient: str = "P1",
    series: int = 1,
    vendor: str = "north",
    spacing: Sequence[float] = SPACING,
    origin: Sequence[float] = ORIGIN,
    orientation: Sequence[float] = AXIAL,
    description: str = "CHEST",
    edit: Edit | None = None,
) -> list[Any]:
    """Return the slices of a CT, in memory.

    Vendor ``north`` stores signed numbers of 16 bits as they are, from the feet up, contrast and
    kernel in one value; ``south`` stores unsigned ones of 12 bits with an intercept of -1024 and
    padding below, from the head down, a kernel of two values, and no Frame of Reference's
    Position Reference Indicator.
    """
    study = uid_of(patient, "study")
    columns, rows = np.reshape(orientation, (2, 3))
    normal = np.cross(columns, rows)
    slices = []
    for k, plane in enumerate(hu):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        uid = uid_of(patient, series, k)
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = uid
        image.PatientName, image.PatientID = "Doe^Jane", patient
        image.PatientBirthDate, image.PatientSex = "19500102", "F"
        image.StudyID, image.AccessionNumber = "S1", "A1"
        image.StudyDate, image.StudyTime, image.Modality = "20240506", "101112", "CT"
        image.ReferringPhysicianName = "Roe^Rick"
        image.StudyInstanceUID, image.SeriesInstanceUID = study, uid_of(patient, series)
        image.FrameOfReferenceUID = uid_of(patient, "frame")
        image.SeriesNumber, image.AcquisitionNumber = series, 1
        image.SeriesDescription = description
        image.PatientPosition = "HFS"
        image.ImageOrientationPatient = list(orientation)
        image.ImagePositionPatient = [
            round(float(x), 6) for x in np.array(origin) + normal * (k * spacing[0])
        ]
        image.PixelSpacing = [spacing[1], spacing[2]]
        image.SliceThickness, image.KVP = spacing[0], 120
        image.Rows, image.Columns = plane.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = 16
        (_north if vendor == "north" else _south)(image, plane, k, len(hu))
        if edit is not None:
            edit(image, k)
        slices.append(image)
    return slices


def _north(image: Any, plane: np.ndarray, k: int, count: int) -> None:
    image.Manufacturer, image.ManufacturerModelName = "NORTH", "Polar"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    image.ConvolutionKernel, image.ContrastBolusAgent = "B30f", "Iodine"
    image.InstanceNumber = k + 1
    image.AcquisitionTime = f"{101112 + k}"  # each slice its own
    image.PositionReferenceIndicator = ""
    image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 15, 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "HU"
    image.PixelData = np.asarray(plane, "<i2").tobytes()


def _south(image: Any, plane: np.ndarray, k: int, count: int) -> None:
    image.Manufacturer, image.ManufacturerModelName = "SOUTH MEDICAL", "Cross"
    image.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    image.ConvolutionKernel = ["I50f", "3"]
    image.InstanceNumber = count - k
    image.AcquisitionTime = "101112"
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.PixelData = (np.asarray(plane, np.int32) + 1024).astype("<u2").tobytes()


def write(
    folder: Path,
    slices: Sequence[Any],
    syntax: str = ExplicitVRLittleEndian,
    *,
    preamble: bool = True,
    name: str = "{:03}.dcm",
) -> Path:
    """Write slices, one file each, in a transfer syntax."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(slices):
        write_one(folder / name.format(k), image, syntax, preamble=preamble)
    return folder


def write_one(path: Path, image: Any, syntax: str, *, preamble: bool = True) -> None:
    """Write one file; what is compressed is packed by a library of its own."""
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    syntax = pydicom.uid.UID(syntax)
    if not preamble:
        pydicom.dcmwrite(path, _without_meta(image), implicit_vr=True, little_endian=True)
    elif syntax.is_encapsulated and syntax != pydicom.uid.RLELossless:
        image.save_as(path, enforce_file_format=True)
        pack(path, syntax)
    elif syntax == pydicom.uid.RLELossless:
        packed = pydicom.dcmread(_bytes(image))
        packed.compress(syntax, generate_instance_uid=False)
        packed.save_as(path, enforce_file_format=True)
    else:
        little = syntax != ExplicitVRBigEndian
        image = pydicom.dcmread(_bytes(image))
        if not little:
            image["PixelData"].value = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
        image.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            path,
            image,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=little,
            force_encoding=True,
        )


def _bytes(image: Any) -> Any:
    from io import BytesIO

    stream = BytesIO()
    image.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return stream


def _without_meta(image: Any) -> Any:
    bare = Dataset()
    bare.update(image)
    return bare


def pack(path: Path, syntax: str) -> None:
    """Compress a file in its place, by GDCM."""
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    kinds = {
        pydicom.uid.JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        pydicom.uid.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        pydicom.uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def write_ct(folder: Path, hu: np.ndarray | None = None, **rest: Any) -> list[Any]:
    """Write a CT series; return its slices. Options are those of `slices_of`."""
    slices = slices_of(ct_of() if hu is None else hu, **rest)
    write(folder, slices)
    return slices


def enhanced_ct(hu: np.ndarray, backwards: bool = False) -> Any:
    """Return an Enhanced CT: all slices in one file, the rescale of each in its own group."""
    first = slices_of(hu[:1])[0]
    image = Dataset()
    image.file_meta = first.file_meta
    keep = (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID"),
        *("AccessionNumber", "StudyDate", "StudyTime", "Modality", "ReferringPhysicianName"),
        *("StudyInstanceUID", "FrameOfReferenceUID", "Manufacturer", "SeriesDescription"),
        *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
        *("BitsStored", "HighBit", "PixelRepresentation", "InstanceNumber", "ImageType"),
        *("PositionReferenceIndicator", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber"),
    )
    for keyword in keep:
        setattr(image, keyword, getattr(first, keyword))
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedCTImageStorage
    image.NumberOfFrames = len(hu)
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [SPACING[1], SPACING[2]], SPACING[0]
    orientation.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    order = range(len(hu))[:: -1 if backwards else 1]
    planes = []
    for k in order:
        position, scale, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + k * SPACING[0]]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -k, "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [scale]
        image.PerFrameFunctionalGroupsSequence.append(group)
        planes.append(np.asarray(hu[k] + k, "<i2"))
    image.PixelData = np.stack(planes).tobytes()
    return image


def as_mr(image: Any, k: int) -> None:
    """Make a slice one of MR."""
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.Modality = "MR"
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del image[keyword]


def save_mask(path: Path, mask: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    """Write a mask on the grid of `slices_of`."""
    return save(path, mask.astype(np.uint8), matrix_of_series() if matrix is None else matrix)


# Segmentations


def write_seg(
    path: Path,
    slices: Sequence[Any],
    segments: dict[str, np.ndarray],
    description: str = "nodes",
    *,
    kind: str = "BINARY",
    omit_empty: bool = True,
    codes: Sequence[Any] | None = None,
    edit: Callable[[Any], None] | None = None,
    **rest: Any,
) -> Path:
    """Write a DICOM SEG by highdicom, one segment per name; fractions are 0 to 1."""
    highdicom = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes as known

    kinds = codes or [known.SCT.LymphNode] * len(segments)
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=known.SCT.AnatomicalStructure,
            segmented_property_type=of,
            algorithm_type="MANUAL",
        )
        for number, (name, of) in enumerate(zip(segments, kinds, strict=True), 1)
    ]
    array = np.stack(list(segments.values()), axis=-1)
    if kind == "LABELMAP":
        array = (array * np.arange(1, len(segments) + 1)).max(axis=-1).astype(np.uint8)
    made = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        series_description=description,
        omit_empty_frames=omit_empty,
        **rest,
    )
    if edit is not None:
        edit(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)
    return path


def shuffle_frames(seg: Any) -> None:
    """Put the frames of a SEG in another order: what they are stands in their groups."""
    from pydicom.pixels.utils import pack_bits

    pixels = seg.pixel_array
    order = np.random.default_rng(1).permutation(len(pixels))
    groups = list(seg.PerFrameFunctionalGroupsSequence)
    seg.PerFrameFunctionalGroupsSequence = [groups[k] for k in order]
    seg.PixelData = pack_bits(pixels[order])


def write_rtstruct(
    path: Path, slices: Sequence[Any], rois: dict[str, Sequence[Any]], geometry: str | None = None
) -> Path:
    """Write an RTSTRUCT of contours, each a list of points (x, y, z; LPS)."""
    first = slices[0]
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = pydicom.uid.RTStructureSetStorage
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.SOPInstanceUID = uid_of(path)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", uid_of(path, "series")
    made.PatientID, made.StudyInstanceUID = first.PatientID, first.StudyInstanceUID
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = geometry or "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{x:.6g}" for point in points for x in point]
            drawn.ContourSequence.append(contour)
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def box_outline(k: float, rows: tuple[float, float], columns: tuple[float, float]) -> list:
    """Return the outline of a box of pixels in slice k, from edge to edge (world, LPS)."""
    (top, bottom), (left, right) = rows, columns
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    z, y, x = SPACING
    return [
        (ORIGIN[0] + column * x, ORIGIN[1] + row * y, ORIGIN[2] + k * z) for row, column in corners
    ]
