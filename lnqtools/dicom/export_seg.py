"""DICOM SEG, written: one segment of all nodes, or one per node."""

from __future__ import annotations

from typing import Any

from lnqtools import __version__
from lnqtools.dicom.codes import (
    ANATOMICAL_STRUCTURE,
    ARTIFICIAL_INTELLIGENCE,
    LYMPH_NODE,
    code,
)
from lnqtools.dicom.export import MANUFACTURER, Algorithm, Export
from lnqtools.dicom.numbering import Node
from lnqtools.dicom.packages import load
from lnqtools.images.seg_nrrd import color_of


def make_seg(export: Export) -> Any:
    """Return a SEG: binary, of the frames that hold something.

    Patient, study and frame of reference are the CT's.
    """
    highdicom = load("highdicom")
    count = len(export.nodes)
    descriptions = [_description(export, node, k, count) for k, node in enumerate(export.nodes)]
    seg = highdicom.seg.Segmentation(
        source_images=export.sources,
        pixel_array=export.frames,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=export.uid("series", "SEG"),
        series_number=export.series_number("SEG"),
        sop_instance_uid=export.uid("object", "SEG"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="lnq-dicom",
        software_versions=__version__,
        device_serial_number="none",
        content_label="LYMPH_NODES",
        content_description=export.description,
        series_description=export.description,
    )
    _without_chance(seg, export.uid("dimensions"))
    return seg


def _description(export: Export, node: Node, k: int, count: int) -> Any:
    highdicom = load("highdicom")
    return highdicom.seg.SegmentDescription(
        segment_number=node.number,
        segment_label=node.name,
        segmented_property_category=code(ANATOMICAL_STRUCTURE),
        segmented_property_type=code(LYMPH_NODE),
        algorithm_type=export.algorithm.kind,
        algorithm_identification=identification(export.algorithm),
        tracking_uid=export.uid("node", node.number),
        tracking_id=node.name,
        display_color=_lab(highdicom, color_of(k, count)),
    )


def identification(algorithm: Algorithm) -> Any:
    """Return what says which algorithm drew a mask; None if a person did."""
    if algorithm.kind == "MANUAL":
        return None
    return load("highdicom").AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=code(ARTIFICIAL_INTELLIGENCE),
        version=algorithm.version or "unknown",
    )


def _lab(highdicom: Any, color: tuple[float, float, float]) -> Any:
    return highdicom.color.CIELabColor.from_rgb(*(round(255 * part) for part in color))


def _without_chance(seg: Any, uid: str) -> None:
    """Put a UID of ours where highdicom draws one at random."""
    for item in seg.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in seg.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
