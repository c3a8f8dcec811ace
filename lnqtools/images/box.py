"""Boxes of voxels: a slice for each array axis, z, y, x."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Box = tuple[slice, slice, slice]


def whole_box(shape: tuple[int, ...]) -> Box:
    """Return the box of all voxels."""
    z, y, x = (slice(0, int(n)) for n in shape)
    return z, y, x


def bounding_box(mask: np.ndarray) -> Box | None:
    """Return the smallest box that holds all non-zero voxels, or None if there are none."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return box[0], box[1], box[2]


def joined_box(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around several."""
    z, y, x = (
        slice(min(s.start for s in sides), max(s.stop for s in sides))
        for sides in zip(*boxes, strict=True)
    )
    return z, y, x
