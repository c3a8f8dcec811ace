"""Stacks: slices of CT that make up one volume, in order; or the reason why they do not."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lnqtools.dicom.frames import SPLITTERS, Frame, Plane, hu_of
from lnqtools.dicom.straightening import resampled
from lnqtools.errors import LnqError
from lnqtools.files.streams import digest_to_end, open_input
from lnqtools.images.grid import Grid, straightened
from lnqtools.images.volume import Volume

TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From DICOM's world (LPS+) to NIfTI's (RAS+)."""
EVEN_MM = 0.1
"""Slices whose positions are off even ones by no more are even: some scanners write one decimal."""
EVEN_SHARE = 0.02
"""So are those that are off by no more than this share of their distance."""
CONTENT = "dicom-"
"""How the digest of a series begins."""
SAME_PLACE_MM = 0.01
SAME_DIRECTION = 1e-3
SAME_LENGTH = 1e-3
MOST_PARTS = 3
"""Parts of a series that do not overlap and are still taken for volumes of their own."""


class UnevenError(LnqError):
    """Slices are not evenly spaced, or not above each other: resampling would help."""


@dataclass(frozen=True)
class Stack:
    """Slices of one volume, from the first to the last along their normal.

    Parameters
    ----------
    frames : tuple of Frame
    normal : ndarray
        Unit vector (x, y, z; LPS) across the slices.
    part : str
        What tells it from other volumes of its series, as ``acquisition 2``; '' if it is alone.
    notes : tuple of str
        What is odd about it.
    unevenness : str, optional
        Why it has to be resampled to be a volume.
    """

    frames: tuple[Frame, ...]
    normal: np.ndarray
    part: str = ""
    notes: tuple[str, ...] = ()
    unevenness: str | None = None

    @property
    def depths_mm(self) -> np.ndarray:
        """Where the slices lie along their normal."""
        return _positions(self.frames) @ self.normal

    @property
    def step(self) -> np.ndarray:
        """Mean step (x, y, z; LPS) in mm from a slice to the next."""
        return _line(_positions(self.frames))[1]

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) from indices (x, y, z) to the world (RAS+), mm; its axes may be sheared."""
        plane, affine = self.frames[0].plane, np.eye(4)
        columns, rows = np.reshape(plane.orientation, (2, 3))
        affine[:3, 0] = TO_RAS @ columns * plane.spacing[1]
        affine[:3, 1] = TO_RAS @ rows * plane.spacing[0]
        affine[:3, 2] = TO_RAS @ self.step
        affine[:3, 3] = TO_RAS @ _line(_positions(self.frames))[0]
        return affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        return len(self.frames), *self.frames[0].plane.size

    @property
    def grid(self) -> Grid:
        """Where the voxels lie.

        Raises
        ------
        UnevenError
            If they lie on no grid.
        """
        if self.unevenness:
            raise UnevenError(self.unevenness)
        return Grid.from_affine(self.shape, straightened(self.affine, self.shape))

    def read(self, resample: bool = False) -> Volume:
        """Read the voxels as HU.

        Parameters
        ----------
        resample : bool
            Whether slices that are tilted against their stack, or unevenly spaced, are
            interpolated onto a grid at right angles; else they are refused.

        Raises
        ------
        UnevenError
            If they would have to be resampled.
        LnqError
            If voxels cannot be read.
        """
        if not self.unevenness:
            return Volume(hu_of(self.frames), self.grid, self.notes, content=self.digest())
        if not resample:
            raise UnevenError(self.unevenness)
        array, affine = resampled(hu_of(self.frames), self.affine, self.depths_mm)
        grid = Grid.from_affine(array.shape, affine)
        notes = (*self.notes, f"{self.unevenness}: it was resampled")
        return Volume(array, grid, notes, content=self.digest())

    def digest(self) -> str:
        """Return what tells the content of its files: it is compared by ``-s``."""
        digests = []
        for path in dict.fromkeys(frame.path for frame in sorted(self.frames, key=_identity)):
            with open_input(path) as stream:
                digests.append(digest_to_end(stream))
        text = " ".join([*digests, *(str(frame.number) for frame in self.frames)])
        return f"{CONTENT}{zlib.crc32(text.encode()):08x}-{len(digests)}"


def _identity(frame: Frame) -> tuple[str, int]:
    return frame.uid, frame.number


def stacks_of(frames: Sequence[Frame]) -> list[Stack]:
    """Return the volumes that slices of a series make up: one, or one per acquisition.

    Parameters
    ----------
    frames : sequence of Frame
        Slices, no localizers.

    Raises
    ------
    LnqError
        If they are not volumes, with the reason.
    """
    frames, copies = _without_same_files(frames)
    notes = [f"{copies} files that are there twice were taken once"] if copies else []
    uneven: list[Stack] = []
    try:
        whole = _stack(frames, "", notes)
        if not whole.unevenness:
            return [whole]
        uneven = [whole]  # unless it is several volumes between each other
    except LnqError as error:
        why = error
    try:
        unlike = _without_same_slices(frames)
        more = f"{len(frames) - len(unlike)} slices that are there twice, alike, were taken once"
        if len(unlike) < len(frames):
            return [_stack(unlike, "", [*notes, more])]
    except LnqError:
        pass
    for keyword in SPLITTERS:
        if parts := _parts_by(frames, keyword, notes):
            return parts
    if uneven:
        return uneven
    raise why


def _without_same_files(frames: Sequence[Frame]) -> tuple[list[Frame], int]:
    """Return frames without copies of a file, and how many there were.

    Raises
    ------
    LnqError
        If two files have one UID and are not copies.
    """
    found: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        other = found.setdefault(_identity(frame), frame)
        if other is not frame and not _is_copy(frame, other):
            raise LnqError(
                f"two of its files, {other.path.name} and {frame.path.name}, have one SOP Instance "
                "UID and differ"
            )
    return list(found.values()), len(frames) - len(found)


def _is_copy(frame: Frame, other: Frame) -> bool:
    alike = replace(frame, path=other.path) == other
    return alike and np.array_equal(hu_of([frame]), hu_of([other]))


def _without_same_slices(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames of which those at one place are one; LnqError if they are not the same."""
    found: dict[tuple[float, ...], Frame] = {}
    for frame in frames:
        place = tuple(round(x / SAME_PLACE_MM) for x in frame.position)
        other = found.setdefault(place, frame)
        if other is not frame and not np.array_equal(hu_of([frame]), hu_of([other])):
            raise LnqError("slices at one place differ")
    return list(found.values())


def _parts_by(frames: Sequence[Frame], keyword: str, notes: list[str]) -> list[Stack]:
    """Return the volumes that an element tells apart, or none if it does not."""
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.said[keyword], []).append(frame)
    if not 1 < len(groups) <= len(frames) // 2 or "" in groups:
        return []
    what = {"AcquisitionNumber": "acquisition", "ConvolutionKernel": "kernel"}.get(keyword, "part")
    more = f"its series holds {len(groups)} volumes, told apart by {keyword}"
    try:
        stacks = [
            _stack(of, f"{what} {name if what != 'part' else k}", [*notes, more])
            for k, (name, of) in enumerate(sorted(groups.items(), key=_natural), 1)
        ]
    except LnqError:
        return []
    if any(stack.unevenness for stack in stacks):
        return []
    return stacks if len(stacks) <= MOST_PARTS or _all_overlap(stacks) else []


def _natural(item: tuple[str, list[Frame]]) -> tuple[int, str]:
    name = item[0]
    return (int(name) if name.isdecimal() else -1, name)


def _all_overlap(stacks: Sequence[Stack]) -> bool:
    """Tell whether each volume shares some of its extent with another one."""
    ranges = [(s.depths_mm[0], s.depths_mm[-1]) for s in stacks]
    return all(any(a is not b and a[0] < b[1] and b[0] < a[1] for b in ranges) for a in ranges)


def _stack(frames: Sequence[Frame], part: str, notes: Iterable[str]) -> Stack:
    """Return slices in order, or say why they are not those of one volume."""
    plane = _common_plane(frames)
    if len(frames) < 2:
        raise LnqError("has a single slice, which says nothing of the distance to the next")
    columns, rows = np.reshape(plane.orientation, (2, 3))
    normal = np.cross(columns, rows)
    ordered = tuple(sorted(frames, key=lambda frame: float(np.dot(frame.position, normal))))
    gaps = np.diff(_positions(ordered) @ normal)
    if gaps.min() < SAME_PLACE_MM:
        raise LnqError(_repeated(int((gaps < SAME_PLACE_MM).sum()), len(ordered)))
    uneven = _uneven(gaps, ordered)
    stack = Stack(ordered, normal, part, tuple(notes), uneven)
    shift = _sideways_mm(stack)
    if shift > max(EVEN_MM, 0.1 * min(plane.spacing)):
        raise LnqError(f"its slices are shifted against each other, by up to {shift:.2g} mm")
    if tilt := _tilt(stack):
        if uneven:
            raise LnqError(f"{uneven}; and {tilt}: it has to be resampled by other means")
        return replace(stack, unevenness=tilt)
    return stack


def _common_plane(frames: Sequence[Frame]) -> Plane:
    """Return what all slices have in common, or raise LnqError."""
    planes = {frame.plane for frame in frames}
    first = frames[0].plane
    what = None
    if len({plane.size for plane in planes}) > 1:
        what = "are of different sizes"
    elif any(not np.allclose(p.spacing, first.spacing, rtol=SAME_LENGTH) for p in planes):
        what = "have pixels of different sizes"
    elif any(
        not np.allclose(p.orientation, first.orientation, atol=SAME_DIRECTION) for p in planes
    ):
        what = "do not lie parallel"
    elif len({plane.frame_of_reference for plane in planes}) > 1:
        what = "lie in different frames of reference"
    if what:
        raise LnqError(f"its {len(frames)} slices {what}")
    columns, rows = np.reshape(first.orientation, (2, 3))
    lengths = np.linalg.norm([columns, rows], axis=1)
    if abs(lengths - 1).max() > SAME_DIRECTION or abs(columns @ rows) > SAME_DIRECTION:
        raise LnqError("its Image Orientation Patient is not two directions at a right angle")
    return first


def _repeated(count: int, slices: int) -> str:
    if count == slices - 1:
        return f"its {slices} slices lie at one place, as those that watch for contrast"
    return (
        f"{count} of its {slices} slices lie where another one does and differ from it, and "
        "nothing tells its acquisitions apart"
    )


def _uneven(gaps: np.ndarray, frames: Sequence[Frame]) -> str | None:
    """Say how slices are not evenly spaced, or return None."""
    depths = np.concatenate([[0.0], np.cumsum(gaps)])
    start, step = _line(depths)
    off = np.abs(depths - (start + step * np.arange(len(depths)))).max()
    allowed = max(EVEN_MM, EVEN_SHARE * float(step))
    if off <= allowed and np.abs(gaps - step).max() <= 2 * allowed:
        return None
    usual = float(np.median(gaps))
    odd = int(np.abs(gaps - usual).argmax())
    ends = " and ".join(frames[k].path.name for k in (odd, odd + 1))
    text = (
        f"its slices are not evenly spaced: most are {usual:.4g} mm apart, {gaps[odd]:.4g} mm "
        f"between {ends}"
    )
    times = gaps / usual
    whole = np.rint(times)
    missing = int(whole.sum()) - len(gaps)
    if missing and (whole >= 1).all() and (np.abs(times - whole) * usual <= 2 * allowed).all():
        text += f" ({missing} missing)"
    return text


def _sideways_mm(stack: Stack) -> float:
    """Return how far positions are off a straight line, within the slices."""
    positions = _positions(stack.frames)
    depths = positions @ stack.normal
    slope, start = np.polyfit(depths - depths.mean(), positions, 1)
    off = positions - (np.outer(depths - depths.mean(), slope) + start)
    return float(np.abs(off).max())


def _tilt(stack: Stack) -> str | None:
    """Say by how much slices are tilted against their stack, if that is too much for a grid."""
    try:
        straightened(stack.affine, stack.shape)
    except LnqError as error:
        step = stack.step / np.linalg.norm(stack.step)
        angle = float(np.degrees(np.arccos(np.clip(abs(step @ stack.normal), 0, 1))))
        if angle < 0.01:
            raise LnqError(str(error)) from None
        return f"its slices are tilted by {angle:.1f}° against their stack (gantry tilt)"
    return None


def _positions(frames: Iterable[Frame]) -> np.ndarray:
    return np.array([frame.position for frame in frames])


def _line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return start and step of the line nearest to values, (n,) or (n, 3).

    Two ends that are exact are kept: a line through rounded positions would move them.
    """
    index = np.arange(len(values), dtype=float)
    exact = values[0] + np.multiply.outer(index, (values[-1] - values[0]) / (len(values) - 1))
    if np.abs(exact - values).max() <= 1e-3:
        return values[0], (values[-1] - values[0]) / (len(values) - 1)
    step, start = np.polyfit(index, values, 1)
    return start, step
