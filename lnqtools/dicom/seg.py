"""DICOM SEG, read: binary, fractional and label maps, whatever the order of their frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lnqtools.dicom.files import Instance, numbers_of, text_of
from lnqtools.dicom.frames import stored_frames
from lnqtools.dicom.segments import Canvas, Segment
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, OtherLatticeError
from lnqtools.images.headers import lps_grid

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes: Segmentation, Label Map Segmentation."""
OFF_EVEN = 0.02
"""How far frames may be off the slices of their own grid, in slices."""
FAR = 1.5
"""Frames that lie so many slices of the CT apart, by what they say, are of other slices."""


def segments_of(instance: Instance) -> list[Segment]:
    """Return the segments of a SEG, without the background that a label map may name."""
    found = []
    for item in instance.header.get("SegmentSequence") or []:
        number = int(numbers_of(item, "SegmentNumber", 1)[0])
        kind = (item.get("SegmentedPropertyTypeCodeSequence") or [None])[0]
        code, meaning = ("", "") if kind is None else (_code(kind), text_of(kind, "CodeMeaning"))
        if number:
            name = text_of(item, "SegmentLabel") or meaning or f"segment {number}"
            found.append(Segment(number, name, code, meaning))
    return found


def _code(item: Any) -> str:
    words = (text_of(item, word) for word in ("CodeValue", "LongCodeValue", "URNCodeValue"))
    return next(filter(None, words), "")


def draw_seg(
    instance: Instance, grid: Grid, segments: Sequence[Segment], threshold: float = 0.5
) -> Canvas:
    """Draw segments onto a CT's grid.

    Parameters
    ----------
    instance : Instance
    grid : Grid
    segments : sequence of Segment
    threshold : float
        Least fraction of a voxel (occupancy or probability) that is in a segment.

    Raises
    ------
    LnqError
        If it is damaged, or its voxels are not the CT's.
    """
    canvas = Canvas(grid, segments)
    header = instance.header
    kind = text_of(header, "SegmentationType").upper()
    least = 1.0
    if kind == "FRACTIONAL":
        least = threshold * numbers_of(header, "MaximumFractionalValue", 1)[0]
    elif kind not in ("BINARY", "LABELMAP"):
        raise LnqError(f"has segments of type {kind or 'unknown'}, which is not read")
    places = list(_places(header))
    _check_distance([place for place, _ in places], header, grid)
    for (place, number), pixels in zip(places, stored_frames(instance.path), strict=True):
        if pixels.shape != place.shape[1:]:
            raise LnqError("is damaged: its frames are of another size than it says")
        plane = _across(place, grid)
        if kind == "LABELMAP":
            for segment in segments:
                canvas.draw((pixels == segment.number)[None], plane, segment.number)
        elif number in canvas.values:
            canvas.draw((pixels >= max(least, 1e-9))[None], plane, number)
    return canvas


def _places(header: Any) -> Iterator[tuple[Grid, int | None]]:
    """Yield where each frame lies, and of which segment it is: None in label maps."""
    shared = _first(header, "SharedFunctionalGroupsSequence")
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    count = int(numbers_of(header, "NumberOfFrames", 1)[0])
    if len(own) != count:
        raise LnqError(f"is damaged: it describes {len(own)} of its {count} frames")
    shape = tuple(int(numbers_of(header, word, 1)[0]) for word in ("Rows", "Columns"))
    for group in own:

        def part(keyword: str, group: Any = group) -> Any:
            return _first(group, keyword) or _first(shared, keyword)

        position, orientation = part("PlanePositionSequence"), part("PlaneOrientationSequence")
        measures, segment = part("PixelMeasuresSequence"), part("SegmentIdentificationSequence")
        if position is None or orientation is None or measures is None:
            raise LnqError("does not say where its frames lie")
        columns, rows = np.reshape(numbers_of(orientation, "ImageOrientationPatient", 6), (2, 3))
        spacing = numbers_of(measures, "PixelSpacing", 2)
        direction = np.stack([columns, rows, np.cross(columns, rows)], axis=1)
        place = lps_grid(
            *((shape[1], shape[0], 1), direction, (spacing[1], spacing[0], 1.0)),
            np.array(numbers_of(position, "ImagePositionPatient", 3)),
        )
        number = segment and int(numbers_of(segment, "ReferencedSegmentNumber", 1)[0])
        yield place, number


def _first(item: Any, keyword: str) -> Any:
    """Return the one item of a sequence, or None."""
    items = item.get(keyword) if item is not None else None
    return items[0] if items else None


def _across(plane: Grid, grid: Grid) -> Grid:
    """Return the grid of one frame with the thickness of the CT's slices that run along it."""
    along = np.abs(np.array(plane.direction)[:, 0] @ np.array(grid.direction))
    thickness = grid.spacing[int(along.argmax())]
    return replace(plane, spacing=(thickness, *plane.spacing[1:]))


def own_grid(instance: Instance) -> Grid:
    """Return the grid of a SEG's own slices, from the first that it holds to the last.

    Raises
    ------
    LnqError
        If its frames are not slices of one grid, or it holds only one and does not say how thick.
    """
    header = instance.header
    places = [place for place, _ in _places(header)]
    normal = np.array(places[0].direction)[:, 0]
    depths = np.array([np.dot(place.origin, normal) for place in places])
    said, gap = _said_distance(header), _least_gap(depths)
    step = said if said is not None and said < 1.5 * gap else gap
    first = places[int(depths.argmin())]
    index = (depths - depths.min()) / step
    aside = [
        np.subtract(place.origin, first.origin) - depth * normal
        for place, depth in zip(places, depths - depths.min(), strict=True)
    ]
    even = np.isfinite(step) and np.abs(index - np.rint(index)).max() <= OFF_EVEN
    if not even or np.abs(aside).max() > OFF_EVEN * step or len({p.shape for p in places}) > 1:
        raise LnqError("its frames are not slices of one grid, so that they cannot be resampled")
    count = int(np.rint(index.max())) + 1
    return replace(first, shape=(count, *first.shape[1:]), spacing=(step, *first.spacing[1:]))


def _said_distance(header: Any) -> float | None:
    """Return the distance of slices as a SEG says it, None if it does not."""
    measures = _first(
        _first(header, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence"
    ) or _first(_first(header, "PerFrameFunctionalGroupsSequence"), "PixelMeasuresSequence")
    for word in ("SpacingBetweenSlices", "SliceThickness"):
        if text_of(measures, word):
            return numbers_of(measures, word, 1)[0]
    return None


def _least_gap(depths: np.ndarray) -> float:
    """Return the least distance of two slices, infinite if there is one."""
    different = np.unique(np.round(depths, 3))
    return float(np.diff(different).min()) if len(different) > 1 else float("inf")


def _check_distance(places: Sequence[Grid], header: Any, grid: Grid) -> None:
    """Refuse frames that are slices of another distance than the CT's: most would stay empty."""
    normal = np.array(places[0].direction)[:, 0]
    depths = np.array([np.dot(place.origin, normal) for place in places])
    said, gap = _said_distance(header), _least_gap(depths)
    thickness = _across(places[0], grid).spacing[0]
    if said is not None and min(said, gap) > FAR * thickness:
        raise OtherLatticeError(
            f"lies on slices {min(said, gap):.4g} mm apart, the CT's are {thickness:.4g} mm apart"
        )
