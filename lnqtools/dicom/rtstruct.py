"""RTSTRUCT, read: contours in slices, filled to masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lnqtools.dicom.files import Instance, numbers_of, text_of
from lnqtools.dicom.segments import Canvas, Segment
from lnqtools.dicom.stacks import TO_RAS
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
PLANAR = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose something."""
FLAT = 0.02
"""How far points of a contour may be from one plane, in slices."""
OFF_SLICE = 0.25
"""How far that plane may be from the CT's slice, in slices."""


def rois_of(instance: Instance) -> list[Segment]:
    """Return the ROIs of an RTSTRUCT, with their codes where they have any."""
    codes = {
        text_of(item, "ReferencedROINumber"): code
        for item in instance.header.get("RTROIObservationsSequence") or []
        for code in item.get("RTROIIdentificationCodeSequence") or []
    }
    found = []
    for item in instance.header.get("StructureSetROISequence") or []:
        number = int(numbers_of(item, "ROINumber", 1)[0])
        name = text_of(item, "ROIName") or f"ROI {number}"
        code = codes.get(str(number))
        words = ("CodeValue", "CodeMeaning")
        found.append(Segment(number, name, *(text_of(code, w) if code else "" for w in words)))
    return found


def draw_rtstruct(instance: Instance, grid: Grid, segments: Sequence[Segment]) -> Canvas:
    """Draw ROIs onto a CT's grid: voxels whose center lies within an odd number of contours.

    Parameters
    ----------
    instance : Instance
    grid : Grid
        Contours lie in its axial slices.
    segments : sequence of Segment

    Raises
    ------
    LnqError
        If contours do not lie in axial slices of the CT, or enclose nothing.
    """
    canvas = Canvas(grid, segments)
    outlines: dict[int, dict[int, list[np.ndarray]]] = {}
    for number, points in _contours(instance.header, canvas.values):
        k, outline = _in_slice(canvas.axial.index(points @ TO_RAS.T))
        outlines.setdefault(number, {}).setdefault(k, []).append(outline)
    for number, slices in outlines.items():
        for k, contours in slices.items():
            mask, beyond = filled(contours, canvas.drawn.shape[1:])
            if 0 <= k < len(canvas.drawn):
                canvas.lost += beyond
                canvas.seen[k] = True
                canvas.fill(canvas.drawn[k], mask, number)
            else:
                canvas.lost += beyond + int(np.count_nonzero(mask))
    return canvas


def _contours(header: Any, wanted: dict[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the ROI and the points (n, 3; LPS) of each contour that encloses something."""
    for item in header.get("ROIContourSequence") or []:
        number = int(numbers_of(item, "ReferencedROINumber", 1)[0])
        if number not in wanted:
            continue
        for contour in item.get("ContourSequence") or []:
            kind = text_of(contour, "ContourGeometricType").upper()
            if kind == "POINT":
                continue
            if kind not in PLANAR:
                raise LnqError(f"ROI {number} has contours of type {kind}, which enclose nothing")
            numbers = text_of(contour, "ContourData").split("\\")
            try:
                points = np.array(numbers, float).reshape(-1, 3)
            except ValueError:
                raise LnqError(f"ROI {number} has a damaged contour") from None
            if len(points) < 3 or not np.isfinite(points).all():
                raise LnqError(f"ROI {number} has a damaged contour ({len(points)} points)")
            yield number, points


def _in_slice(index: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the slice of a contour, and its points (n, 2; rows, columns), in voxels."""
    depth = index[:, 0]
    if np.ptp(depth) > FLAT:
        raise LnqError(
            "has contours that do not lie in axial slices of the CT: draw them there, or save them "
            "as DICOM SEG"
        )
    k = int(np.rint(depth.mean()))
    if abs(depth.mean() - k) > OFF_SLICE:
        raise LnqError(
            f"has contours between the CT's slices, {abs(depth.mean() - k):.2g} of their distance "
            "away: it belongs to another CT"
        )
    return k, index[:, 1:]


def filled(outlines: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return the pixels whose center lies within an odd number of outlines.

    A center on an outline belongs to what lies below and to the right of it. So a hole may be an
    outline of its own, or joined to the outer one by a bridge there and back.

    Parameters
    ----------
    outlines : sequence of (n, 2) ndarray
        Corners (row, column) of closed polygons; pixel centers are whole numbers.
    shape : (int, int)

    Returns
    -------
    mask : (rows, columns) ndarray of bool
    outside : int
        How many such pixels lie beyond the picture.
    """
    every = np.concatenate(outlines)
    first = np.floor(every.min(axis=0)).astype(int)
    size = np.ceil(every.max(axis=0)).astype(int) - first + 1
    toggles = np.zeros((size[0], size[1] + 1), np.int32)
    for outline in outlines:
        start = outline - first
        for (y0, x0), (y1, x1) in zip(start, np.roll(start, -1, axis=0), strict=True):
            low, high = sorted((y0, y1))
            rows = np.arange(int(np.ceil(low)), int(np.ceil(high)))
            if rows.size:
                crossing = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
                np.add.at(toggles, (rows, np.ceil(crossing - 1e-9).astype(int)), 1)
    inside = (np.cumsum(toggles, axis=1)[:, :-1] % 2).astype(bool)
    mask = np.zeros(shape, bool)
    low = np.maximum(first, 0)
    high = np.minimum(first + size, shape)
    if (high > low).all():
        (y, x), (b, r) = low, high
        part = inside[y - first[0] : b - first[0], x - first[1] : r - first[1]]
        mask[y:b, x:r] = part
    return mask, int(np.count_nonzero(inside)) - int(np.count_nonzero(mask))
