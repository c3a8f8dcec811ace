"""Tumors of the lung: irregular masses that look like lymph nodes and are not in the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnqtools.phantom.anatomy import LUNG_ROOTS
from lnqtools.phantom.canvas import Paint
from lnqtools.phantom.labels import NONE
from lnqtools.phantom.nodes import Node
from lnqtools.phantom.patient import Patient
from lnqtools.phantom.shapes import Ellipsoid, Union, Wavy

TUMOR = 65535
"""Stands for the tumor among the numbers of nodes while a scene is painted."""

RADIUS_MM = (8.0, 22.0)
TRIES = 20
PERIPHERY = ((85, 100), (-45, 45), (-50, 45))
"""Ranges (x of the left side, y, z) of the far end of the lines on which tumors lie, mm."""


def paint_tumor(rng: np.random.Generator, patient: Patient, nodes: Sequence[Node]) -> Paint:
    """Draw a tumor anywhere between the hilum and the periphery of one lung.

    A mass of `RADIUS_MM` with two lobes at its surface, all of it wavy; its HU are nearly those of
    the nodes. It leaves nodes alone; vessels, airways and the heart are painted over it.
    """
    radius = rng.uniform(*RADIUS_MM)
    center = _draw_center(rng, radius, nodes)
    lobes = [Ellipsoid(center, radius * rng.uniform(0.8, 1.2, 3))]
    for _ in range(2):
        direction = rng.normal(0, 1, 3)
        off_center = 0.8 * radius * direction / np.linalg.norm(direction)
        lobes.append(Ellipsoid(center + off_center, radius * rng.uniform(0.3, 0.6, 3)))
    phases = tuple(rng.uniform(0, 2 * np.pi, 3))
    solid = Wavy(Union(tuple(lobes)), 0.06 * radius, (24, 24, 24), phases)
    hu = patient.node_hu + rng.normal(0, 8)
    return Paint(solid, hu, NONE, TUMOR, region="inner cavity", spare_nodes=True)


def _draw_center(rng: np.random.Generator, radius: float, nodes: Sequence[Node]) -> np.ndarray:
    """Draw a tumor's center, which no node hides if there is such a place."""
    for _ in range(TRIES):
        side = int(rng.choice((-1, 1)))
        hilum = np.array(LUNG_ROOTS[side], float)
        far = np.array([rng.uniform(*limits) for limits in PERIPHERY]) * (side, 1, 1)
        center = hilum + rng.uniform(0.1, 1) * (far - hilum)
        away_mm = [np.linalg.norm(center - n.center) - n.short_axis_mm / 2 for n in nodes]
        if min(away_mm, default=radius) > radius / 2:
            break
    return center
