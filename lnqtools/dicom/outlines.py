"""Masks in slices as outlines along the edges of their pixels, and holes joined to them."""

from __future__ import annotations

import numpy as np

Corner = tuple[int, int]
_TURNS = {(0, 1): ((1, 0), (0, 1), (-1, 0)), (1, 0): ((0, -1), (1, 0), (0, 1))}
_TURNS |= {(0, -1): ((-1, 0), (0, -1), (1, 0)), (-1, 0): ((0, 1), (-1, 0), (0, -1))}
"""Direction of an edge (row, column) → those of the next, the one that keeps to its pixel first."""


def outlines_of(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of a mask, one for each part whose pixels share edges.

    Outlines run along the edges of pixels, so that they enclose the pixels' area exactly. A hole is
    joined to the outline around it by a bridge that leads there and back, which every reader
    fills alike, whether it knows of holes or not.

    Parameters
    ----------
    mask : (rows, columns) ndarray

    Returns
    -------
    list of (n, 2) ndarray
        Corners (row, column); pixel centers are whole numbers, corners lie half-way.
    """
    rings = [_corners_alone(ring) for ring in _rings(mask)]
    outer = [ring for ring in rings if _signed_area(ring) > 0]
    for hole in (ring for ring in rings if _signed_area(ring) < 0):
        around = min(
            (k for k, ring in enumerate(outer) if _encloses(ring, hole)),
            key=lambda k: abs(_signed_area(outer[k])),
        )
        outer[around] = _joined(outer[around], hole)
    return [ring - 0.5 for ring in outer]


def _rings(mask: np.ndarray) -> list[list[Corner]]:
    """Return closed paths along the edges between a mask and the rest, the mask at their right."""
    padded = np.pad(np.asarray(mask) != 0, 1)
    ways: dict[Corner, set[Corner]] = {}

    def add(pixels: np.ndarray, begin: Corner, step: Corner) -> None:
        for row, column in (pixels + np.array(begin) - 1).tolist():
            ways.setdefault((row, column), set()).add(step)

    add(np.argwhere(padded[1:] & ~padded[:-1]), (1, 0), (0, 1))  # above a pixel: to the right
    add(np.argwhere(padded[:, :-1] & ~padded[:, 1:]), (0, 1), (1, 0))  # right of it: down
    add(np.argwhere(padded[:-1] & ~padded[1:]), (1, 1), (0, -1))  # below it: to the left
    add(np.argwhere(padded[:, 1:] & ~padded[:, :-1]), (1, 1), (-1, 0))  # left of it: up
    rings = []
    while ways:
        start = min(ways)
        step = next(iter(ways[start]))
        ring, corner = [], start
        while True:
            ring.append(corner)
            ways[corner].discard(step)
            if not ways[corner]:
                del ways[corner]
            corner = corner[0] + step[0], corner[1] + step[1]
            if corner == start:  # the first of all remaining: no path crosses itself there
                break
            step = next(turn for turn in _TURNS[step] if turn in ways[corner])
        rings.append(ring)
    return rings


def _corners_alone(ring: list[Corner]) -> np.ndarray:
    """Return a path without the points between its corners."""
    points = np.array(ring)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[(before != after).any(axis=1)]


def _signed_area(ring: np.ndarray) -> float:
    """Return the area of a polygon, positive if it has its inside at the right of its way."""
    (y, x), (v, u) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * v - u * y).sum() / 2)


def _encloses(ring: np.ndarray, hole: np.ndarray) -> bool:
    """Tell whether an outline goes around a hole, by a point within the hole's first corner."""
    y, x = hole[np.lexsort((hole[:, 1], hole[:, 0]))[0]] + 0.5
    (y0, x0), (y1, x1) = ring.T, np.roll(ring, -1, axis=0).T
    down = (np.minimum(y0, y1) < y) & (y < np.maximum(y0, y1)) & (x0 < x) & (x0 == x1)
    return bool(np.count_nonzero(down) % 2)


def _joined(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return one path around a ring and a hole, bridged where they are nearest."""
    apart = np.abs(ring[:, None] - hole[None]).sum(axis=2)
    k, m = np.unravel_index(apart.argmin(), apart.shape)
    around = np.concatenate([hole[m:], hole[: m + 1]])
    return np.concatenate([ring[: k + 1], around, ring[k:]])
