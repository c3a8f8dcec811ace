"""Which nodes of a phantom are drawn, as the data set that its profile stands for has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

ENLARGED_MM = 10.0
"""Short axis from which a node counts as enlarged (RECIST 1.1)."""


class Axis(NamedTuple):
    """The end points of an axis, world positions (x, y, z) in mm."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]


class NodeRow(NamedTuple):
    """What is known about one node of a phantom.

    Attributes
    ----------
    id : int
        Its value in ``instances``.
    station : str
        Lymph node station.
    short_axis_mm : float
        See `lnqtools.phantom.case.short_axis_mm`.
    volume_mm3 : float
        Number of voxels times their volume.
    enlarged : bool
        Whether the short axis is at least 10 mm.
    annotated : bool
        Whether it is in the annotation.
    diameter_ellipsoid_mm : float
        Its shortest diameter in the paper's Table 1: ``ellipsoid`` of
        `lnqtools.components.diameters.diameters_mm`.
    long_axis_mm : float
        As ``short_axis_mm``.
    long_axis, short_axis : Axis
        See `lnqtools.phantom.case.axial_axes`.
    """

    id: int
    station: str
    short_axis_mm: float
    volume_mm3: float
    enlarged: bool
    annotated: bool
    diameter_ellipsoid_mm: float
    long_axis_mm: float
    long_axis: Axis
    short_axis: Axis


class Annotation(Protocol):
    """How nodes are chosen to be drawn."""

    @property
    def folder(self) -> str:
        """What the annotation is called: ``weak`` or ``standard``."""

    def choose(self, rng: np.random.Generator, rows: Sequence[NodeRow]) -> list[int]:
        """Return the ids of the nodes that are drawn, out of at least one."""


@dataclass(frozen=True)
class PartOfEnlarged:
    """A random part of the enlarged nodes, larger ones more often, at least one.

    If vessels left no node enlarged, the largest node is drawn.

    Attributes
    ----------
    fraction : tuple of float
        Range of the part.
    """

    fraction: tuple[float, float]
    folder: str = "weak"

    def choose(self, rng: np.random.Generator, rows: Sequence[NodeRow]) -> list[int]:
        """Return the ids of the nodes that are drawn."""
        candidates = _enlarged_or_largest(rows)
        count = max(1, round(rng.uniform(*self.fraction) * len(candidates)))
        return _draw_large_ones(rng, candidates, count, exponent=1.5)


@dataclass(frozen=True)
class FewLargeOnes:
    """A few of the enlarged nodes, mostly the largest: one, and a Poisson number more.

    If vessels left no node enlarged, the largest node is drawn.

    Attributes
    ----------
    mean_more : float
        Mean of the number beyond one, as far as there are so many enlarged nodes.
    exponent : float
        A node's weight in the draw is its short axis to this power.
    """

    mean_more: float
    exponent: float
    folder: str = "weak"

    def choose(self, rng: np.random.Generator, rows: Sequence[NodeRow]) -> list[int]:
        """Return the ids of the nodes that are drawn."""
        candidates = _enlarged_or_largest(rows)
        count = min(1 + rng.poisson(self.mean_more), len(candidates))
        return _draw_large_ones(rng, candidates, count, self.exponent)


@dataclass(frozen=True)
class EachByChance:
    """Each node by itself, with a probability; the largest if else none were drawn.

    Attributes
    ----------
    enlarged, small : float
        Probability of a node whose ``diameter_ellipsoid_mm`` is at least 10, and of another one.
    """

    enlarged: float
    small: float
    folder: str = "standard"

    def choose(self, rng: np.random.Generator, rows: Sequence[NodeRow]) -> list[int]:
        """Return the ids of the nodes that are drawn."""
        enlarged = np.array([row.diameter_ellipsoid_mm >= ENLARGED_MM for row in rows])
        drawn = rng.random(len(rows)) < np.where(enlarged, self.enlarged, self.small)
        chosen = [row.id for row, is_drawn in zip(rows, drawn, strict=True) if is_drawn]
        return chosen or [max(rows, key=_short_axis).id]


def _enlarged_or_largest(rows: Sequence[NodeRow]) -> list[NodeRow]:
    """Return the enlarged nodes, or the largest if there are none."""
    return [row for row in rows if row.enlarged] or sorted(rows, key=_short_axis)[-1:]


def _short_axis(row: NodeRow) -> float:
    return row.short_axis_mm


def _draw_large_ones(
    rng: np.random.Generator, candidates: Sequence[NodeRow], count: int, exponent: float
) -> list[int]:
    """Draw some nodes, larger ones more often."""
    weights = np.array([row.short_axis_mm for row in candidates]) ** exponent
    ids = [row.id for row in candidates]
    return rng.choice(ids, count, replace=False, p=weights / weights.sum()).tolist()
