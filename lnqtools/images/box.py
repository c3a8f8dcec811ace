"""Boxes of voxels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

Counts = tuple[int, int, int]


class Box(tuple[slice, slice, slice]):
    """A box of voxels: a slice for each array axis, z, y, x, so it is an index of arrays.

    A box may be empty; it has a first voxel, ``start``, all the same.

    Examples
    --------
    >>> box = Box.of((1, 2, 3), (4, 4, 4))
    >>> box.shape
    (3, 2, 1)
    >>> np.arange(64).reshape(4, 4, 4)[box].ravel().tolist()
    [27, 31, 43, 47, 59, 63]
    >>> box.widened((1.0, 1.0, 1.0), spacing=(5.0, 0.5, 0.5), shape=(4, 4, 4))
    Box.of((0, 0, 1), (4, 4, 4))
    """

    __slots__ = ()

    @classmethod
    def of(cls, start: Iterable[int], stop: Iterable[int]) -> Self:
        """Return the box from a first voxel to one past the last along each axis."""
        return cls(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Self:
        """Return the box of all voxels of an array."""
        return cls.of((0, 0, 0), shape)

    @classmethod
    def joined(cls, boxes: Iterable[Box]) -> Self:
        """Return the smallest box around several."""
        starts, stops = zip(*((box.start, box.stop) for box in boxes), strict=True)
        return cls.of(np.min(starts, axis=0), np.max(stops, axis=0))

    def __repr__(self) -> str:
        """Say the ends, which are shorter than slices."""
        return f"{type(self).__name__}.of({self.start}, {self.stop})"

    @property
    def start(self) -> Counts:
        """Index of the first voxel."""
        z, y, x = self
        return z.start, y.start, x.start

    @property
    def stop(self) -> Counts:
        """One past the last index along each axis."""
        z, y, x = self
        return z.stop, y.stop, x.stop

    @property
    def shape(self) -> Counts:
        """Voxels along each axis."""
        z, y, x = self
        return z.stop - z.start, y.stop - y.start, x.stop - x.start

    @property
    def size(self) -> int:
        """All voxels."""
        return math.prod(self.shape)

    def extent_mm(self, spacing: Sequence[float]) -> tuple[float, float, float]:
        """Return its lengths along each axis."""
        z, y, x = (n * step for n, step in zip(self.shape, spacing, strict=True))
        return z, y, x

    def intersect(self, other: Box) -> Self:
        """Return the box of the voxels in both; empty along an axis on which they lie apart."""
        start = np.maximum(self.start, other.start)
        return type(self).of(start, np.maximum(np.minimum(self.stop, other.stop), start))

    def shifted(self, by: npt.ArrayLike) -> Self:
        """Return the box so many voxels on, as of an array that is a part of another."""
        return type(self).of(np.add(self.start, by), np.add(self.stop, by))

    def grown(self, voxels: Sequence[int], shape: Sequence[int]) -> Self:
        """Return the box with so many more voxels at either end of each axis of an array."""
        start, stop = np.subtract(self.start, voxels), np.add(self.stop, voxels)
        return type(self).of(np.maximum(start, 0), np.minimum(stop, shape))

    def widened(
        self, margin_mm: Sequence[float], spacing: Sequence[float], shape: Sequence[int]
    ) -> Self:
        """Return the box with a margin on every side, clipped to the image.

        Parameters
        ----------
        margin_mm : sequence of float
            Margin at either end of each array axis, in mm, not negative; rounded up to voxels.
        spacing : sequence of float
            In mm, one per array axis.
        shape : sequence of int
            Of the image.
        """
        voxels = np.ceil(np.divide(margin_mm, spacing) - 1e-6)  # float32 spacings are inexact
        return self.grown(voxels.astype(int).tolist(), shape)

    def columns(self) -> dict[str, int]:
        """Return its ends as columns of a table, along x, y, z."""
        row: dict[str, int] = {}
        for axis, side in zip("xyz", reversed(self), strict=True):
            row |= {f"{axis}_start": side.start, f"{axis}_stop": side.stop}
        return row


def bounding_box(mask: npt.NDArray) -> Box | None:
    """Return the smallest box that holds all non-zero voxels, or None if there are none."""
    start, stop = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        start.append(hit[0])
        stop.append(hit[-1] + 1)
    return Box.of(start, stop)
