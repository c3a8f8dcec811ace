"""TID 1500, written: long axis, short axis and volume of each node, as a structured report."""

from __future__ import annotations

from typing import Any

from lnqtools.components.diameters import recist_axes_mm
from lnqtools.components.labeling import find_instances
from lnqtools.dicom.codes import (
    ARTIFICIAL_INTELLIGENCE,
    CT_CHEST,
    DEVICE,
    LONG_AXIS,
    LYMPH_NODE,
    MM,
    MM3,
    SHORT_AXIS,
    VOLUME,
    code,
)
from lnqtools.dicom.export import MANUFACTURER, Export
from lnqtools.dicom.packages import load


def make_report(export: Export, seg: Any) -> Any:
    """Return a report of the nodes in a SEG that has a segment for each.

    The long axis is the longest distance of two voxel corners in an axial slice, the short axis
    the extent across it there (see `lnqtools.components.diameters`), both in mm; the volume is
    voxels × voxel volume, mm³.
    """
    sr = load("highdicom.sr")
    components = find_instances(export.mask.array, export.mask.grid)
    long_mm, short_mm = recist_axes_mm(components)
    volumes = components.volumes_mm3
    groups = []
    for k, node in enumerate(export.nodes):
        values = ((LONG_AXIS, long_mm, MM), (SHORT_AXIS, short_mm, MM), (VOLUME, volumes, MM3))
        groups.append(
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(
                    uid=export.uid("node", node.number), identifier=node.name
                ),
                referenced_segment=sr.ReferencedSegment(
                    *(seg.SOPClassUID, seg.SOPInstanceUID, node.number),
                    source_series=sr.SourceSeriesForSegmentation(
                        export.sources[0].SeriesInstanceUID
                    ),
                ),
                finding_type=code(LYMPH_NODE),
                algorithm_id=_algorithm(sr, export),
                measurements=[
                    sr.Measurement(name=code(name), value=round(float(of[k]), 3), unit=code(unit))
                    for name, of, unit in values
                ],
            )
        )
    observer = sr.ObserverContext(
        observer_type=code(DEVICE),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=export.uid("device"),
            name="lnq-dicom",
            manufacturer_name=MANUFACTURER,
            model_name="lnq-dicom",
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=code(CT_CHEST),
        imaging_measurements=groups,
    )
    return sr.ComprehensiveSR(
        evidence=[seg, *export.sources],
        content=content,
        series_instance_uid=export.uid("series", "SR"),
        series_number=export.series_number("SR"),
        sop_instance_uid=export.uid("object", "SR"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description=export.description,
    )


def _algorithm(sr: Any, export: Export) -> Any:
    algorithm = export.algorithm
    if algorithm.kind == "MANUAL":
        return None
    return sr.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version or "unknown",
        family=code(ARTIFICIAL_INTELLIGENCE),
        manufacturer=MANUFACTURER,
    )
