"""Points side by side, so that none hides another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def swarm(heights: Numbers, diameter: float) -> Numbers:
    """Return how far to move points sideways so that no two of them meet.

    From the lowest on each takes the free place that is nearest to the middle, beside those that
    have theirs.

    Parameters
    ----------
    heights : (n,) ndarray
        Where the points are, in the unit of their diameter.
    diameter : float
        Of a point, above 0.
    """
    offsets = np.zeros(heights.size)
    order = np.argsort(heights, kind="stable")
    for rank, point in enumerate(order):
        placed = order[:rank]
        apart = heights[point] - heights[placed]
        near = placed[apart < diameter]
        aside = np.sqrt(diameter**2 - (heights[point] - heights[near]) ** 2)
        places = np.concatenate([[0.0], offsets[near] + aside, offsets[near] - aside])
        places = places[np.argsort(np.abs(places), kind="stable")]
        free = np.all(np.abs(places[:, None] - offsets[near]) >= aside - 1e-9, axis=1)
        offsets[point] = places[np.argmax(free)]
    return offsets


def fitting_swarm(heights: Numbers, diameter: float, half_width: float) -> tuple[Numbers, float]:
    """Return a `swarm` that is at most so wide, and the diameter, at most the given, that it has.

    Below a fifth of the diameter points meet after all.
    """
    least = diameter / 5
    while True:
        offsets = swarm(heights, diameter)
        widest = float(np.abs(offsets).max(initial=0))
        if widest <= half_width:
            return offsets, diameter
        if diameter <= least:
            return offsets * (half_width / widest), diameter
        diameter = max(least, 0.8 * diameter)
