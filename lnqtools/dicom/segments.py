"""Segments of segmentations: which of them are meant, and what they make on a CT's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from lnqtools.errors import LnqError, listed
from lnqtools.images.box import Box
from lnqtools.images.grid import (
    CLOSE_VOXELS,
    SAME_VOXEL,
    Grid,
    OtherLatticeError,
    lattice_difference,
    lattice_map,
    turn_to,
)
from lnqtools.images.names import label_table
from lnqtools.images.volume import Volume
from lnqtools.labels.training import LABEL_NAMES, UNKNOWN

LONGEST_NUMBER = 5
"""Digits of a segment's number; a code of SNOMED CT has more."""


@dataclass(frozen=True)
class Segment:
    """One segment of a DICOM SEG or .seg.nrrd, or one ROI of an RTSTRUCT.

    Parameters
    ----------
    number : int
    name : str
    code, meaning : str
        What it is by a coding scheme, as 59441001 and Lymph node; '' where nothing says so.
    """

    number: int
    name: str
    code: str = ""
    meaning: str = ""

    def __str__(self) -> str:
        """Return what people know it by."""
        return f"{self.number} {self.name}" + (f" ({self.code})" if self.code else "")


def chosen_segments(segments: Sequence[Segment], wanted: Sequence[str] | None) -> list[Segment]:
    """Return the segments that are meant.

    Parameters
    ----------
    segments : sequence of Segment
    wanted : sequence of str, optional
        Names (upper and lower case alike; ``*`` stands for anything), numbers, or codes, with
        their scheme or without (``SCT:59441001``). Without it all are meant if they are of one
        kind, or there is but one.

    Raises
    ------
    LnqError
        If there is none, one of the words names none, or nothing says which are meant.
    """
    if not segments:
        raise LnqError("holds no segment")
    there = f"it holds {listed([str(segment) for segment in segments])}"
    if wanted is None:
        kinds = {(segment.code or segment.name.casefold()) for segment in segments}
        if len(kinds) > 1:
            raise LnqError(f"does not say which segments are nodes: {there}; --segments picks")
        return list(segments)
    found: dict[int, Segment] = {}
    for word in wanted:
        named = [segment for segment in segments if _is_named(segment, word)]
        if not named:
            raise LnqError(f"has no segment {word}: {there}")
        found |= {segment.number: segment for segment in named}
    return [found[number] for number in sorted(found)]


def _is_named(segment: Segment, word: str) -> bool:
    """Tell whether a word means a segment."""
    if word.isdecimal() and len(word) <= LONGEST_NUMBER and int(word) == segment.number:
        return True
    scheme, _, code = word.rpartition(":")
    if segment.code and code == segment.code and scheme.upper() in ("", "SCT", "SRT"):
        return True
    return fnmatchcase(segment.name.casefold().strip(), word.casefold().strip())


class Canvas:
    """A CT's grid, onto which segments are drawn in axial slices, however the CT is stored.

    Parameters
    ----------
    grid : Grid
        Of the CT.
    segments : sequence of Segment
        Those that are drawn; the first becomes 1, the second 2.

    Attributes
    ----------
    axial : Grid
        The same grid in LPS order.
    drawn, seen : (z, y, x) ndarray
        On that: what is drawn, and which voxels the segmentation holds.
    """

    def __init__(self, grid: Grid, segments: Sequence[Segment]):
        self.grid, self.segments = grid, segments
        self.values = {segment.number: k for k, segment in enumerate(segments, 1)}
        way = turn_to(grid, "LPS")
        self.axial = way.turned_grid(grid)
        self._array = np.zeros(grid.shape, np.min_scalar_type(max(2, len(segments))))
        self._covered = np.zeros(grid.shape, bool)
        self.drawn, self.seen = way.turned(self._array), way.turned(self._covered)
        self.shared = self.lost = 0
        self.apart = 0.0
        self.resampled = False

    def draw(self, mask: np.ndarray, grid: Grid, number: int) -> None:
        """Draw a piece of a segment, which holds all of its own grid.

        Raises
        ------
        OtherLatticeError
            If its voxels are not those of the CT.
        """
        way = lattice_map(grid, self.axial, CLOSE_VOXELS)
        if way is None:
            how = lattice_difference(grid, self.axial)
            raise OtherLatticeError(f"does not lie on the voxels of the CT: {how}")
        self.apart = max(self.apart, way.apart)
        turned, whole = way.turned(mask), Box.whole(self.axial.shape)
        here = whole.intersect(Box.whole(turned.shape).shifted(way.offset))
        part = turned[here.shifted(np.negative(way.offset))]
        self.lost += int(np.count_nonzero(mask)) - int(np.count_nonzero(part))
        self.seen[here] = True
        self.fill(self.drawn[here], part != 0, number)

    def fill(self, target: np.ndarray, mask: np.ndarray, number: int) -> None:
        """Set voxels of a segment in a part of what is drawn; of several the last has them."""
        value = self.values[number]
        self.shared += int(np.count_nonzero(mask & (target != 0) & (target != value)))
        target[mask] = np.maximum(target[mask], value)

    def onto(self, grid: Grid) -> Canvas:
        """Return what is drawn on another grid, each voxel as the one nearest to its center."""
        from lnqtools.images.resampling import resample

        other = Canvas(grid, self.segments)
        other._array[:] = resample(self._array, self.grid, grid, "nearest", 0)
        covered = resample(self._covered.view(np.uint8), self.grid, grid, "nearest", 0)
        other._covered[:] = covered.view(bool)
        other.shared, other.resampled = self.shared, True
        return other

    def volume(self, instances: bool, uncovered: str) -> Volume:
        """Return the mask, or one number per segment.

        Parameters
        ----------
        instances : bool
        uncovered : {'unknown', 'background'}
            What voxels are that the segmentation does not hold.

        Raises
        ------
        LnqError
            If all lies outside the CT.
        """
        if self.lost and not self._array.any():
            raise LnqError("lies outside the CT: it belongs to another one")
        notes = []
        if self.lost:
            notes.append(f"{self.lost} of its voxels lie outside the CT and were left out")
        if self.apart > SAME_VOXEL:
            notes.append(
                f"its voxels lie up to {self.apart:.2g} of a voxel off those of the CT: they were "
                "taken one for one"
            )
        if self.resampled:
            notes.append("its voxels are not those of the CT: the nearest ones were taken")
        if not self._array.any():
            notes.append("the mask is empty")
        if not instances:
            array = (self._array != 0).astype(np.uint8)
            if uncovered == "unknown":
                array[~self._covered & (array == 0)] = UNKNOWN
            names = (LABEL_NAMES,) if uncovered == "unknown" else ()
            return Volume(array, self.grid, tuple(notes), names)
        if self.shared:
            notes.append(f"{self.shared} voxels lie in several segments: the last of them has them")
        if empty := len(self.segments) - len(np.unique(self._array[self._array > 0])):
            notes.append(f"{empty} of its {len(self.segments)} segments have no voxel of their own")
        table = label_table({self.values[s.number]: s.name for s in self.segments})
        return Volume(self._array, self.grid, tuple(notes), (table,))
