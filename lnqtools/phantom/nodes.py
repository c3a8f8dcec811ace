"""Lymph nodes of the phantom: stations, shapes, confluent clusters, and their mimics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lnqtools.phantom.anatomy import Tubes
from lnqtools.phantom.annotation import ENLARGED_MM
from lnqtools.phantom.canvas import Paint
from lnqtools.phantom.labels import NONE
from lnqtools.phantom.patient import Patient, Profile
from lnqtools.phantom.shapes import Ellipsoid, Grown, Solid, Wavy, tube

TRIES = 400


class Station(NamedTuple):
    """A lymph node station: center and spread (x, y, z) in mm, and how often it has nodes."""

    name: str
    center: tuple[float, float, float]
    spread_mm: tuple[float, float, float]
    frequency: float


STATIONS = (
    Station("2R", (-17, 6, 52), (6, 5, 10), 1.0),
    Station("4R", (-20, 3, 18), (6, 6, 10), 2.4),
    Station("2L", (17, 14, 52), (4, 5, 8), 0.5),
    Station("4L", (17, 12, 16), (5, 5, 8), 1.4),
    Station("3a", (4, -56, 40), (15, 8, 18), 0.8),
    Station("5", (32, 2, 12), (5, 6, 7), 1.0),
    Station("6", (27, -33, 28), (6, 8, 8), 0.9),
    Station("7", (3, 24, -24), (9, 5, 8), 2.2),
    Station("8", (-6, 36, -62), (7, 4, 20), 0.6),
    Station("10R", (-42, 12, -18), (6, 8, 9), 1.5),
    Station("10L", (47, 12, -14), (6, 8, 8), 1.3),
    Station("11R", (-60, 18, -34), (6, 8, 9), 0.7),
    Station("11L", (62, 20, -32), (6, 8, 9), 0.6),
)
"""Stations of the IASLC map, with the carina at the origin."""


@dataclass(frozen=True)
class Node:
    """A node as it is planned; vessels, airways and lungs' limits then mold it.

    Attributes
    ----------
    number : int
        1, 2, ... within the patient.
    station : str
        Name of its station.
    center : (3,) array
        Position, mm.
    short_axis_mm : float
        Its smallest diameter.
    solid : Solid
        Its shape.
    hu : float
        Its attenuation.
    core : Solid or None
        A part with another attenuation: necrotic core or fatty hilum.
    core_hu : float
        The attenuation of that part.
    """

    number: int
    station: str
    center: np.ndarray
    short_axis_mm: float
    solid: Solid
    hu: float
    core: Solid | None
    core_hu: float

    def paint(self) -> Iterator[Paint]:
        """Yield the node and its core."""
        yield Paint(self.solid, self.hu, NONE, self.number, region="inner cavity")
        if self.core is not None:
            yield Paint(self.core, self.core_hu, node=None, region="inner cavity")


def draw_nodes(
    rng: np.random.Generator, patient: Patient, profile: Profile, heart: Ellipsoid, tubes: Tubes
) -> list[Node]:
    """Draw a patient's nodes, at least one of them enlarged, clear of vessels and airways."""
    return _NodePlacer(rng, patient, profile, heart, tubes).place()


@dataclass
class _NodePlacer:
    """Places nodes one after the other where there is room."""

    rng: np.random.Generator
    patient: Patient
    profile: Profile
    heart: Ellipsoid
    tubes: Tubes
    nodes: list[Node] = field(default_factory=list)

    def place(self) -> list[Node]:
        """Place all nodes."""
        frequencies = np.array([s.frequency for s in STATIONS])
        frequencies /= frequencies.sum()
        count = self.rng.integers(*self.profile.node_count, endpoint=True)
        for _ in range(TRIES):
            if len(self.nodes) >= count:
                break
            self._try_station(STATIONS[self.rng.choice(len(STATIONS), p=frequencies)])
        return self.nodes

    def _try_station(self, station: Station) -> None:
        """Place a node, with confluent ones if it is bulky, unless something is in the way."""
        bulky = self.rng.random() < self.profile.bulky_fraction
        short = self._draw_short_axis(bulky)
        center = np.array(station.center) + self.rng.normal(0, 1, 3) * station.spread_mm
        if self._clearance(center) < min(0.28 * short, 4.5) or self._touches(center, short):
            return
        self._add(station.name, center, short)
        if bulky:
            self._add_confluent_nodes()

    def _draw_short_axis(self, bulky: bool) -> float:
        """Short axis, mm; the first node is enlarged."""
        median, sigma, low, high = self.profile.short_axis_mm
        short = median * np.exp(self.rng.normal(0, sigma))
        if bulky:
            short = self.rng.uniform(*self.profile.bulky_mm)
        if not self.nodes:
            short = max(short, ENLARGED_MM + self.rng.uniform(2, 6))
        return float(np.clip(short, low, high))

    def _clearance(self, center: np.ndarray) -> float:
        """Distance of a position from the nearest tube or the heart, mm; negative inside."""
        heart = self.heart
        radius = np.linalg.norm((center - heart.center) / heart.radii)
        from_heart = float((radius - 1) * heart.radii.min()) - 4
        return min(from_heart, *(t.distance_to(center) for t in self.tubes.values()))

    def _touches(self, center: np.ndarray, short: float) -> bool:
        """Whether a node there would run into another one."""
        return any(
            np.linalg.norm(center - n.center) < 0.45 * (short + n.short_axis_mm) + 1
            for n in self.nodes
        )

    def _add_confluent_nodes(self) -> None:
        """Add one to four nodes that touch the last one."""
        first = self.nodes[-1]
        for _ in range(self.rng.integers(1, 5)):
            short = self.rng.uniform(9, max(10, 0.9 * first.short_axis_mm))
            direction = self.rng.normal(0, 1, 3) * (1, 0.8, 1.3)
            direction /= np.linalg.norm(direction)
            center = first.center + direction * 0.47 * (first.short_axis_mm + short)
            if self._clearance(center) > min(0.2 * short, 3.5):
                self._add(first.station, center, short)

    def _add(self, station: str, center: np.ndarray, short: float) -> None:
        """Add a node: an irregular ellipsoid, longest from head to feet."""
        radii = short / 2 * np.array((1, self.rng.uniform(1.05, 1.5), self.rng.uniform(1.2, 2)))
        axes = _draw_orientation(self.rng)
        phases = tuple(self.rng.uniform(0, 2 * np.pi, 3))
        solid = Wavy(Ellipsoid(center, radii, axes), 0.036 * short, (22, 22, 31), phases)
        texture = self.profile.node_texture
        hu = self.patient.node_hu + (self.rng.normal(0, 5) if texture else 0)
        core: Solid | None = None
        core_hu, chance = 0.0, self.rng.random()
        if texture and short > 13 and chance < 0.3:  # necrosis
            core, core_hu = Grown(solid, -0.25 * short), hu - 22
        elif texture and short < 11 and chance < 0.25:  # fatty hilum
            core, core_hu = Ellipsoid(center + 0.45 * radii[0], 0.33 * radii), -35.0
        number = len(self.nodes) + 1
        self.nodes.append(Node(number, station, center, short, solid, hu, core, core_hu))


def _draw_orientation(rng: np.random.Generator) -> np.ndarray:
    """Rotation about z by any angle and a slight tilt; rows are the ellipsoid's axes."""
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    tilt_x, tilt_y = rng.normal(0, 0.35, 2)
    about_z = np.array(((cos, sin, 0), (-sin, cos, 0), (0, 0, 1)))
    tilt = np.array(((1, 0, tilt_y), (0, 1, -tilt_x), (-tilt_y, tilt_x, 1)))
    return np.linalg.qr(about_z @ tilt)[0]


def paint_mimics(rng: np.random.Generator, patient: Patient) -> Iterator[Paint]:
    """Yield small vessels in the mediastinal fat that have no class and look like nodes."""
    hu = 0.8 * patient.blood_hu["arterial"] + 8
    for side in (-1, 1):  # internal mammary vessels
        points = [(side * 24, -84, 90), (side * 26, -90, 0), (side * 26, -92, -110)]
        yield _mimic(np.array(points) + rng.normal(0, 1.5, (3, 3)), rng.uniform(1.3, 2.2), hu)
    for _ in range(rng.integers(5, 10)):
        start = STATIONS[rng.integers(len(STATIONS))].center + rng.normal(0, 8, 3)
        middle = start + rng.normal(0, 18, 3)
        end = middle + rng.normal(0, 14, 3)
        yield _mimic([start, middle, end], rng.uniform(1.2, 2.6), hu)


def _mimic(points, radius_mm: float, hu: float) -> Paint:
    """Small vessel that leaves nodes alone."""
    solid = tube(points, radius_mm)
    return Paint(solid, hu, node=None, region="mediastinum", spare_nodes=True)
