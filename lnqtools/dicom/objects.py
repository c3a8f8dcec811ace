"""Segmentations as DICOM objects or .seg.nrrd files: found, named, and drawn on a CT's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lnqtools.dicom.files import Instance, text_of
from lnqtools.dicom.rtstruct import RTSTRUCT_CLASS, draw_rtstruct, rois_of
from lnqtools.dicom.seg import SEG_CLASSES, draw_seg, own_grid, segments_of
from lnqtools.dicom.segments import Canvas, Segment, chosen_segments
from lnqtools.dicom.series import Archive, find_series
from lnqtools.errors import LnqError
from lnqtools.files.streams import digest_to_end, open_input
from lnqtools.images.grid import Grid, OtherLatticeError
from lnqtools.images.seg_nrrd import SUFFIX, read_layers
from lnqtools.images.volume import Volume

Draw = Callable[[Grid, Sequence[Segment], float], Canvas]
Opened = tuple[list[Segment], Draw, Callable[[], Grid] | None]
"""Segments, what draws them on a grid, and what gives their own; None of contours."""


@dataclass(frozen=True)
class Drawing:
    """A segmentation: a DICOM SEG, an RTSTRUCT or a .seg.nrrd file.

    Parameters
    ----------
    path : Path
    kind : str
        SEG, RTSTRUCT or .seg.nrrd.
    patient, series : str
        Patient ID, and UID of the series of images that it was drawn on; '' if it does not say.
    description : str
        Series Description.
    """

    path: Path
    kind: str
    patient: str = ""
    series: str = ""
    description: str = ""

    def mask(
        self,
        grid: Grid,
        wanted: Sequence[str] | None,
        *,
        instances: bool,
        uncovered: str,
        threshold: float = 0.5,
        resample: bool = False,
    ) -> Volume:
        """Return segments as a mask on a CT's grid.

        Parameters
        ----------
        grid : Grid
        wanted : sequence of str, optional
            See `lnqtools.dicom.segments.chosen_segments`.
        instances, uncovered
            See `lnqtools.dicom.segments.Canvas.volume`.
        threshold : float
            Of fractional segments, see `lnqtools.dicom.seg.draw_seg`.
        resample : bool
            Whether voxels may be others than the CT's: the nearest ones are taken then.

        Raises
        ------
        LnqError
            If it is damaged, holds no such segment, or does not lie on the grid.
        """
        grid.require_axes()
        segments, draw, own = self._opened()
        chosen = chosen_segments(segments, wanted)
        try:
            canvas = draw(grid, chosen, threshold)
        except OtherLatticeError as error:
            if own is None or not resample:
                hint = "" if own is None else "; --resample takes the nearest voxels"
                raise LnqError(f"{error}{hint}") from None
            canvas = draw(own(), chosen, threshold).onto(grid)
        return replace(canvas.volume(instances, uncovered), content=self._content())

    def _opened(self) -> Opened:
        """Return the segments, what draws them, and what gives the grid that they lie on."""
        if self.kind == SUFFIX:
            return _opened_nrrd(self.path)
        from lnqtools.dicom.files import read_header

        instance = Instance(self.path, read_header(self.path))
        if self.kind == "SEG":
            own = partial(own_grid, instance)
            return segments_of(instance), partial(draw_seg, instance), own
        rois = rois_of(instance)
        return rois, lambda grid, chosen, _: draw_rtstruct(instance, grid, chosen), None

    def _content(self) -> str:
        if self.kind == SUFFIX:
            from lnqtools.images.itk import itk_digest

            return itk_digest(self.path)
        with open_input(self.path) as stream:
            return digest_to_end(stream)


def _opened_nrrd(path: Path) -> Opened:
    layers = read_layers(path)
    values = [each.value for each in layers.segments]
    numbered = len(set(values)) == len(values)
    segments = [
        Segment(each.value if numbered else k, each.name, each.code, each.meaning)
        for k, each in enumerate(layers.segments, 1)
    ]

    def draw(grid: Grid, chosen: Sequence[Segment], threshold: float) -> Canvas:
        canvas = Canvas(grid, chosen)
        for segment, each in zip(segments, layers.segments, strict=True):
            if segment.number in canvas.values:
                mask = layers.array[each.layer] == each.value
                canvas.draw(mask, layers.grid, segment.number)
        return canvas

    return segments, draw, lambda: layers.grid


def find_drawings(places: Iterable[str | Path]) -> tuple[list[Drawing], Archive]:
    """Find the segmentations in folders, or those that are named.

    Returns
    -------
    list of Drawing
        DICOM objects in the order of patients, then .seg.nrrd files in that of paths.
    Archive
        All that is DICOM there.
    """
    paths = [Path(place) for place in places]
    named = [path for path in paths if _is_nrrd(path)]
    rest = [path for path in paths if not _is_nrrd(path)]
    archive = find_series(rest) if rest else Archive([], [])
    found = [
        drawing
        for series in archive.series
        for instance in series.instances
        if (drawing := _drawing(instance)) is not None
    ]
    for place in rest:
        if place.is_dir():
            named += sorted(path for path in place.rglob(f"*{SUFFIX}") if path.is_file())
    return found + [Drawing(path, SUFFIX) for path in dict.fromkeys(named)], archive


def _is_nrrd(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIX) and not path.is_dir()


def _drawing(instance: Instance) -> Drawing | None:
    """Return what a DICOM file draws, None if it is something else."""
    sop_class = instance.text("SOPClassUID")
    if sop_class in SEG_CLASSES:
        kind = "SEG"
    elif sop_class == RTSTRUCT_CLASS:
        kind = "RTSTRUCT"
    else:
        return None
    words = ("PatientID", "SeriesDescription")
    patient, description = map(instance.text, words)
    return Drawing(instance.path, kind, patient, drawn_on(instance.header), description)


def drawn_on(header: Any) -> str:
    """Return the UID of the series that a SEG or RTSTRUCT was drawn on, '' if it does not say."""
    try:
        if header.get("ReferencedSeriesSequence"):
            return text_of(header.ReferencedSeriesSequence[0], "SeriesInstanceUID")
        study = header.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        return text_of(study.RTReferencedSeriesSequence[0], "SeriesInstanceUID")
    except (AttributeError, IndexError, TypeError):
        return ""


def require_drawings(found: Sequence[Drawing], archive: Archive) -> None:
    """Raise LnqError if there is nothing to draw, and say what there is instead."""
    if found:
        return
    if not archive.series:
        raise LnqError("no SEG, RTSTRUCT or .seg.nrrd was found: nothing there is DICOM")
    kinds = sorted({series.kind for series in archive.series})
    raise LnqError(f"no SEG, RTSTRUCT or .seg.nrrd was found, but {', '.join(kinds)}")
