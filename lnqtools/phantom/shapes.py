"""Solids given by their signed distance, and the lattice of points they are evaluated on.

Positions and vectors are (x, y, z) in mm: x to the patient's left, y to the back, z to the
head. Arrays are (z, y, x). A distance is negative inside and, near the surface, in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lnqtools.images.box import Box

Bounds = tuple[np.ndarray, np.ndarray]
"""Lowest and highest corner (x, y, z) of a box that holds a solid, mm."""

MARGIN_MM = 5.0
"""Distances are needed, and right, up to this far outside a solid's surface."""

FAR_MM = 1e3
"""Stands for any distance beyond MARGIN_MM."""


@dataclass(frozen=True)
class Lattice:
    """Rectangular lattice of points, given by the coordinates along each axis (float32, mm)."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along z, y, x."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The coordinates x, y, z as arrays that broadcast to (z, y, x)."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    def window(self, bounds: Bounds, margin: float = 0.0) -> Box | None:
        """Return the box of the points within bounds, or None if there are none."""
        low, high = bounds
        sides = []
        for axis, coordinates in zip((2, 1, 0), (self.z, self.y, self.x), strict=True):
            start, stop = np.searchsorted(coordinates, (low[axis] - margin, high[axis] + margin))
            if start == stop:
                return None
            sides.append(slice(int(start), int(stop)))
        return Box(sides)

    def cut(self, window: Box) -> Lattice:
        """Return the part of the lattice in a window."""
        return Lattice(self.z[window[0]], self.y[window[1]], self.x[window[2]])


class Solid(Protocol):
    """Anything with a box around it and a signed distance."""

    @property
    def bounds(self) -> Bounds:
        """Box around the solid."""

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Return the signed distance, mm, at each point; shape of the lattice, float32."""


def vector(xyz: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return a position or direction as float32, so that distances stay float32."""
    return np.asarray(xyz, np.float32)


class Ellipsoid:
    """Ellipsoid with semi-axes ``radii`` along the rows of ``axes`` (default: x, y, z)."""

    def __init__(self, center, radii, axes=None):
        self.center = vector(center)
        self.radii = vector(radii)
        self.axes = vector(np.eye(3) if axes is None else axes)

    @property
    def bounds(self) -> Bounds:
        """Box around the ellipsoid."""
        reach = np.sqrt(((self.axes * self.radii[:, None]) ** 2).sum(axis=0))
        return self.center - reach, self.center + reach

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Approximate the distance by (f - 1) / |∇f|, f being 1 on the surface, 0 at the center."""
        offsets = [p - c for p, c in zip(lattice.points, self.center, strict=True)]
        tiny = np.float32(1e-12)  # keeps the center inside
        scale = np.full(lattice.shape, tiny)
        slope = np.full(lattice.shape, tiny / self.radii.min() ** 2)
        for axis, radius in zip(self.axes, self.radii, strict=True):
            along = sum(a * o for a, o in zip(axis, offsets, strict=True) if a) / radius
            scale += along**2
            slope += (along / radius) ** 2
        np.sqrt(scale, out=scale)
        return scale * (scale - 1) / np.sqrt(slope, out=slope)


class Brick:
    """Rectangular block, turned by ``angle_deg`` about the z axis."""

    def __init__(self, center, half_sides, angle_deg=0.0):
        self.center = vector(center)
        self.half_sides = vector(half_sides)
        angle = np.deg2rad(angle_deg)
        self.cos, self.sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    @property
    def bounds(self) -> Bounds:
        """Box around the block."""
        a, b, c = self.half_sides
        cos, sin = abs(self.cos), abs(self.sin)
        reach = vector((a * cos + b * sin, a * sin + b * cos, c))
        return self.center - reach, self.center + reach

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Take the largest distance to a pair of faces (low outside the edges)."""
        x, y, z = (p - c for p, c in zip(lattice.points, self.center, strict=True))
        turned = (self.cos * x + self.sin * y, self.cos * y - self.sin * x, z)
        faces = [np.abs(p) - h for p, h in zip(turned, self.half_sides, strict=True)]
        return np.maximum(np.maximum(faces[0], faces[1]), faces[2])


class Column:
    """Upright cylinder of elliptical section."""

    def __init__(self, center, radii_xy, half_height):
        self.center = vector(center)
        self.radii = vector(radii_xy)
        self.half_height = np.float32(half_height)

    @property
    def bounds(self) -> Bounds:
        """Box around the cylinder."""
        reach = np.append(self.radii, self.half_height)
        return self.center - reach, self.center + reach

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Take the larger of the distances to the side and to the nearer end."""
        x, y, z = (p - c for p, c in zip(lattice.points, self.center, strict=True))
        section = np.sqrt((x / self.radii[0]) ** 2 + (y / self.radii[1]) ** 2)
        return np.maximum((section - 1) * self.radii.mean(), np.abs(z) - self.half_height)


class Rods:
    """Union of straight rods with round ends whose radius changes linearly along each rod.

    Parameters
    ----------
    starts, ends : (N, 3) array-like
        End points, mm.
    start_radii, end_radii : (N,) array-like
        Radii there, mm.
    """

    def __init__(self, starts, ends, start_radii, end_radii):
        self.starts, self.ends = vector(starts), vector(ends)
        self.start_radii, self.end_radii = vector(start_radii), vector(end_radii)
        reach = np.maximum(self.start_radii, self.end_radii)[:, None]
        self.lows = np.minimum(self.starts, self.ends) - reach
        self.highs = np.maximum(self.starts, self.ends) + reach

    @property
    def bounds(self) -> Bounds:
        """Box around all rods."""
        return self.lows.min(axis=0), self.highs.max(axis=0)

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Evaluate each rod only in its own neighborhood; elsewhere it is FAR_MM."""
        nearest = np.full(lattice.shape, FAR_MM, np.float32)
        for i in range(len(self.starts)):
            window = lattice.window((self.lows[i], self.highs[i]), MARGIN_MM)
            if window:
                part = nearest[window]
                np.minimum(part, self._rod_distance(i, lattice.cut(window)), out=part)
        return nearest

    def _rod_distance(self, i: int, lattice: Lattice) -> np.ndarray:
        """Distance to rod i, by projection onto its axis."""
        start, along = self.starts[i], self.ends[i] - self.starts[i]
        offsets = [p - s for p, s in zip(lattice.points, start, strict=True)]
        length_squared = along @ along + np.float32(1e-6)
        t = sum(o * a for o, a in zip(offsets, along / length_squared, strict=True))
        t = np.clip(t, 0, 1)
        square = sum((o - t * a) ** 2 for o, a in zip(offsets, along, strict=True))
        return np.sqrt(square) - (self.start_radii[i] + t * self._growth(i))

    def _growth(self, i):
        """Change of radius from start to end."""
        return self.end_radii[i] - self.start_radii[i]

    def distance_to(self, point: np.ndarray) -> float:
        """Return the signed distance, mm, of one position, however far away."""
        along = self.ends - self.starts
        offset = point - self.starts
        t = np.clip((offset * along).sum(axis=1) / ((along**2).sum(axis=1) + 1e-6), 0, 1)
        axis_distance = np.linalg.norm(offset - t[:, None] * along, axis=1)
        return float((axis_distance - (self.start_radii + t * self._growth(slice(None)))).min())


def tube(points: Sequence, radii: np.ndarray | Sequence[float] | float, pieces: int = 4) -> Rods:
    """Return a tube along a smooth (Catmull-Rom) curve through points, as a chain of rods."""
    knots = np.asarray(points, float)
    knot_radii = np.broadcast_to(np.asarray(radii, float), len(knots))
    if len(knots) > 2:
        knots, knot_radii = _smooth(knots, knot_radii, pieces)
    return Rods(knots[:-1], knots[1:], knot_radii[:-1], knot_radii[1:])


def _smooth(knots: np.ndarray, radii: np.ndarray, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and radii along the Catmull-Rom spline through the knots."""
    places = np.linspace(0, len(knots) - 1, pieces * (len(knots) - 1) + 1)
    first = np.minimum(places.astype(int), len(knots) - 2)
    t = (places - first)[:, None]
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    a, b, c, d = (padded[first + k] for k in range(4))
    bend = (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    curve = b + 0.5 * ((c - a) * t + bend)
    return curve, np.interp(places, np.arange(len(radii)), radii)


@dataclass(frozen=True)
class Grown:
    """A solid grown (or, with a negative amount, shrunk) by some mm."""

    solid: Solid
    amount_mm: float

    @property
    def bounds(self) -> Bounds:
        """Box around the grown solid."""
        low, high = self.solid.bounds
        grow = max(self.amount_mm, 0.0)
        return low - grow, high + grow

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Shift the distance of the solid."""
        return self.solid.distance(lattice) - np.float32(self.amount_mm)


@dataclass(frozen=True)
class Union:
    """What lies in at least one of several solids."""

    solids: tuple[Solid, ...]

    @property
    def bounds(self) -> Bounds:
        """Box around all of them."""
        lows, highs = zip(*(s.bounds for s in self.solids), strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Take the smallest of the distances."""
        return np.minimum.reduce([s.distance(lattice) for s in self.solids])


@dataclass(frozen=True)
class Intersection:
    """What lies in both of two solids."""

    solid: Solid
    other: Solid

    @property
    def bounds(self) -> Bounds:
        """Box around the first solid."""
        return self.solid.bounds

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Take the larger of the distances."""
        return np.maximum(self.solid.distance(lattice), self.other.distance(lattice))


@dataclass(frozen=True)
class Difference:
    """What lies in one solid and not in another."""

    solid: Solid
    removed: Solid

    @property
    def bounds(self) -> Bounds:
        """Box around the first solid."""
        return self.solid.bounds

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Take the larger of the distance and the other's negated distance."""
        return np.maximum(self.solid.distance(lattice), -self.removed.distance(lattice))


@dataclass(frozen=True)
class Wavy:
    """A solid whose surface is displaced by a wave along each axis."""

    solid: Solid
    height_mm: float
    wavelengths_mm: tuple[float, float, float]
    phases: tuple[float, float, float]

    @property
    def bounds(self) -> Bounds:
        """Box around the highest waves."""
        low, high = self.solid.bounds
        return low - 3 * self.height_mm, high + 3 * self.height_mm

    def distance(self, lattice: Lattice) -> np.ndarray:
        """Add the waves to the distance."""
        waves = sum(
            np.sin(p * np.float32(2 * np.pi / length) + np.float32(phase))
            for p, length, phase in zip(
                lattice.points, self.wavelengths_mm, self.phases, strict=True
            )
        )
        return self.solid.distance(lattice) + np.float32(self.height_mm) * waves
