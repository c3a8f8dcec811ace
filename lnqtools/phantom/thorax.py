"""The body between skin and lungs: chest wall, ribs, pleural cavity, mediastinum, diaphragm.

These fill a slab of slices from formulas over the whole slice; everything else in the phantom
is a solid that is painted on top (see anatomy.py). Coordinates (mm) have the carina at z = 0,
the midline at x = 0, and are those of an average patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnqtools.phantom import labels
from lnqtools.phantom.canvas import AIR_HU, Canvas
from lnqtools.phantom.patient import Patient
from lnqtools.phantom.shapes import Ellipsoid

LEVEL_MM = 24.0
"""Distance of vertebrae and of ribs along the spine."""

FIRST_LEVEL_Z = 84.0
"""Height of vertebra T1 and of the first rib's neck."""

BOTTOM_Z, TOP_Z = -190.0, 122.0
"""The scan reaches from below the lungs to above their apices."""

APEX_Z = 112.0
CAVITY_HALF_WIDTH, CAVITY_HALF_DEPTH = 128.0, 92.0
BODY_CENTER_Y = 6.0
ROUNDNESS = np.float32(2.3)
"""Exponent of the superellipses that are the outlines of body and cavity (2: ellipse)."""

RECESS_MM = 46.0
"""Depth of the recess around the domes of the diaphragm."""

COUCH_HALF_WIDTH = 205.0

MEDIASTINUM_Y = (-110, -85, -62, -35, -5, 25, 40, 55, 75, 100)
MEDIASTINUM_Z = (-200, -120, -60, -25, 0, 30, 60, 110)
MEDIASTINUM_HALF_WIDTH = (
    (30, 34, 34, 34, 30, 30, 28, 26, 26, 26),
    (8, 18, 30, 32, 32, 30, 26, 24, 24, 24),
    (6, 10, 28, 34, 36, 32, 26, 24, 22, 22),
    (5, 7, 24, 38, 42, 36, 28, 24, 22, 22),
    (5, 6, 20, 38, 38, 30, 27, 24, 22, 22),
    (6, 8, 24, 36, 35, 30, 27, 24, 22, 22),
    (10, 18, 32, 38, 34, 30, 26, 24, 22, 22),
    (60, 60, 60, 50, 40, 34, 30, 26, 24, 22),
)
"""Half width of the mediastinum (mm): one row per height z, one column per depth y."""

HEART_CENTER = (20.0, -28.0, -88.0)
HEART_RADII = (58.0, 47.0, 52.0)
HEART_AXES = ((0.88, -0.35, -0.32), (0.25, 0.92, -0.28), (0.40, 0.17, 0.90))


@dataclass(frozen=True)
class Thorax:
    """The patient's own measures of the thorax; ``fill`` paints them.

    Attributes
    ----------
    patient : Patient
        HU of the tissues.
    heart : Ellipsoid
        The mediastinum is wide enough for it.
    heart_gap_mm : float
        Fat between heart and lungs.
    mediastinum_mm : array
        MEDIASTINUM_HALF_WIDTH of this patient.
    dome_z : tuple of float
        Height of the right and of the left dome of the diaphragm.
    stranding : (Z, Y, X) array
        Coarse pattern of soft tissue strands in the mediastinal fat, HU, on a lattice over
        STRANDING_BOX.
    """

    patient: Patient
    heart: Ellipsoid
    heart_gap_mm: float
    mediastinum_mm: np.ndarray
    dome_z: tuple[float, float]
    stranding: np.ndarray

    def fill(self, canvas: Canvas) -> None:
        """Paint skin to lungs and set the canvas's regions."""
        cavity = _cavity_distance(canvas)
        self._fill_chest_wall(canvas, cavity)
        self._fill_ribs(canvas, cavity)
        mediastinum = self._mediastinum_distance(canvas)
        lung = self._lung_distance(canvas, cavity, mediastinum)
        self._set_regions(canvas, cavity, mediastinum, lung)
        canvas.ct[canvas.regions["cavity"]] = self.patient.fat_hu
        canvas.ct[canvas.regions["diaphragm"]] = self.patient.muscle_hu
        self._fill_lungs(canvas, lung)
        self._add_stranding(canvas)

    def _fill_chest_wall(self, canvas: Canvas, cavity: np.ndarray) -> None:
        """Skin, subcutaneous fat, and two layers of muscle around the cavity."""
        body = _body_distance(canvas, self.patient)
        canvas.ct += canvas.coverage(body) * np.float32(self.patient.fat_hu - AIR_HU)
        canvas.ct[(body < 0) & (body > -2.2)] = 10.0
        under_skin = body < -4
        thickness = 4 + _muscle_thickness(canvas)
        fat_planes = (np.abs(cavity - 9.2) < 1.2) | (np.abs(cavity - 23) < 1.2)
        muscle = (cavity > 0) & (cavity < thickness) & under_skin & ~fat_planes
        canvas.ct[muscle] = self.patient.muscle_hu
        canvas.regions["wall"] = under_skin & (cavity > 0)
        self._fill_couch(canvas, body)

    def _fill_couch(self, canvas: Canvas, body: np.ndarray) -> None:
        """Table under the patient: a curved shell around foam."""
        x, y, _ = canvas.lattice.points
        back = BODY_CENTER_Y + body_half_extent(self.patient, np.array(0.0))[1]
        depth = y - (back + 7 - (x / COUCH_HALF_WIDTH) ** 2 * 24)
        table = (body > 1) & (depth > 0) & (depth < 26) & (np.abs(x) < COUCH_HALF_WIDTH)
        shell = (depth < 3) | (depth > 23)
        canvas.ct[table] = np.broadcast_to(np.where(shell, -250, -960), table.shape)[table]

    def _fill_ribs(self, canvas: Canvas, cavity: np.ndarray) -> None:
        """Ribs: oblique bands, one per level, in the shell 1 to 8.5 mm outside the cavity."""
        index = np.nonzero((cavity > 0.8) & (cavity < 8.6))
        lattice = canvas.lattice
        z, y, x = lattice.z[index[0]], lattice.y[index[1]], lattice.x[index[2]]
        descent = 0.42 * (88 - y) * np.clip(np.abs(x) / 40, 0, 1)
        height = z + descent
        rib = np.round((FIRST_LEVEL_Z - height) / LEVEL_MM)
        off_center = height - (FIRST_LEVEL_Z - LEVEL_MM * rib)
        radius = np.hypot(off_center / 5.2, (cavity[index] - 4.7) / 3.9)
        is_rib = (radius < 1) & (rib >= 0) & (rib <= 11) & (np.abs(x) > 14)
        cartilage = is_rib & (y < -62)
        first = np.where(x > 0, labels.RIB_LEFT_1, labels.RIB_RIGHT_1)
        hu = np.where(radius > 0.62, self.patient.cortex_hu, self.patient.marrow_hu)
        index = tuple(i[is_rib] for i in index)
        canvas.ct[index] = np.where(cartilage, 95, hu)[is_rib]
        canvas.anatomy[index] = np.where(cartilage, labels.COSTAL_CARTILAGES, first + rib)[is_rib]

    def _mediastinum_distance(self, canvas: Canvas) -> np.ndarray:
        """Distance to the mediastinum's sides, widened around the heart."""
        lattice = canvas.lattice
        depth = np.clip(lattice.y, MEDIASTINUM_Y[0], MEDIASTINUM_Y[-1])
        rows = np.stack([np.interp(depth, MEDIASTINUM_Y, row) for row in self.mediastinum_mm])
        levels = np.interp(lattice.z, MEDIASTINUM_Z, np.arange(len(MEDIASTINUM_Z)))
        half_width = _interpolate(rows, levels, axis=0)
        shift = np.interp(lattice.z, (-160, -80, 0, 60), (6, 4, 1, 0)).astype(np.float32)
        x = lattice.x[None, None, :]
        distance = np.abs(x - shift[:, None, None]) - half_width.astype(np.float32)[:, :, None]
        window = lattice.window(self.heart.bounds, margin=20)
        if window:
            part = distance[window]
            around_heart = self.heart.distance(lattice.cut(window)) - np.float32(self.heart_gap_mm)
            np.minimum(part, around_heart, out=part)
        return distance

    def _lung_distance(self, canvas, cavity, mediastinum) -> np.ndarray:
        """Distance to the lungs: in the cavity, beside the mediastinum, above the diaphragm."""
        x, y, z = canvas.lattice.points
        top = np.where(x > 0, self.dome_z[1], self.dome_z[0]).astype(np.float32)
        fall = 66 * (((np.abs(x) - 66) / 88) ** 2 + ((y - 2) / 100) ** 2)
        diaphragm = top - np.minimum(fall, RECESS_MM)
        lung = np.maximum(cavity, -mediastinum)
        return np.maximum(lung, (diaphragm - z) * np.float32(0.75), out=lung)

    def _set_regions(self, canvas, cavity, mediastinum, lung) -> None:
        """Name the parts of the slab to which paint is confined."""
        z = canvas.lattice.z[:, None, None]
        in_cavity, in_lung = cavity < 0, lung < 0
        opening = -6 + 2 * np.minimum(z + 120, 0)  # organs reach the midline below the heart
        beside = in_cavity & ~in_lung & (mediastinum > opening) & (z < -70)
        canvas.regions |= {
            "cavity": in_cavity,
            "inner cavity": cavity < -2,
            "lung": in_lung,
            "mediastinum": in_cavity & (lung > 1) & (mediastinum < 2),
            "abdomen": beside & (lung > 2.5),
            "diaphragm": beside & (mediastinum > 0) & (lung <= 2.5),
        }

    def _fill_lungs(self, canvas: Canvas, lung: np.ndarray) -> None:
        """Lung tissue (denser toward the back), the lobes, and their fissures."""
        _, y, z = canvas.lattice.points
        tissue = np.float32(self.patient.lung_hu) + np.float32(0.22) * y
        canvas.ct += canvas.coverage(lung) * (tissue - canvas.ct)
        oblique = z - (0.95 * (y + 5) - 22)
        horizontal = z + 34
        left = np.where(oblique > 0, labels.LUNG_UPPER_LOBE_LEFT, labels.LUNG_LOWER_LOBE_LEFT)
        front = np.where(
            horizontal > 0, labels.LUNG_UPPER_LOBE_RIGHT, labels.LUNG_MIDDLE_LOBE_RIGHT
        )
        right = np.where(oblique > 0, front, labels.LUNG_LOWER_LOBE_RIGHT)
        on_left = canvas.lattice.x > 0
        lobes = np.where(on_left, left, right).astype(np.uint8)
        np.copyto(canvas.anatomy, lobes, where=canvas.regions["lung"])
        half_edge = canvas.edge_mm / 2
        fissure = np.abs(oblique) < half_edge
        fissure = fissure | ((np.abs(horizontal) < half_edge) & (oblique > 0) & ~on_left)
        canvas.ct[fissure & (lung < -3)] += 60

    def _add_stranding(self, canvas: Canvas) -> None:
        """Vary the mediastinal fat."""
        window = canvas.lattice.window(STRANDING_BOX)
        if window is None:
            return
        part = canvas.lattice.cut(window)
        pattern = self.stranding
        for axis, (low, coordinates) in enumerate(
            zip(STRANDING_BOX[0][::-1], (part.z, part.y, part.x), strict=True)
        ):
            pattern = _interpolate(pattern, (coordinates - low) / STRANDING_MM, axis)
        canvas.ct[window] += pattern * canvas.regions["mediastinum"][window]


STRANDING_MM = 9.0
STRANDING_BOX = (np.array((-80.0, -115.0, -210.0)), np.array((90.0, 110.0, 150.0)))


def draw_thorax(rng: np.random.Generator, patient: Patient) -> Thorax:
    """Draw the measures of one patient's thorax."""
    heart = Ellipsoid(
        HEART_CENTER + rng.normal(0, 3, 3),
        np.array(HEART_RADII) * rng.uniform(0.9, 1.1),
        HEART_AXES,
    )
    half_width = np.array(MEDIASTINUM_HALF_WIDTH, float)
    inspiration = rng.uniform(-8, 24)
    low, high = STRANDING_BOX
    nodes = np.ceil((high - low)[::-1] / STRANDING_MM).astype(int) + 2
    return Thorax(
        patient=patient,
        heart=heart,
        heart_gap_mm=rng.uniform(3, 12),
        mediastinum_mm=half_width + rng.normal(0, 1.5, half_width.shape) + rng.uniform(-1, 9),
        dome_z=(inspiration - 100, inspiration - 110 + rng.uniform(-6, 6)),
        stranding=11 * rng.standard_normal(nodes, dtype=np.float32),
    )


def body_half_extent(patient: Patient, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the half width and the half depth (mm) of the body at heights z."""
    fat = patient.subcutaneous_fat_mm
    belly = np.clip((-z - 20) / 150, 0, 1)
    shoulder, neck = np.clip(z / 60, 0, 1), np.clip((z - 85) / 40, 0, 1)
    throat = np.clip((z - 70) / 50, 0, 1)
    half_width = CAVITY_HALF_WIDTH + 26 + fat + 8 * belly + 12 * shoulder - 75 * neck
    half_depth = CAVITY_HALF_DEPTH + 22 + 0.8 * fat + 2 * belly - 30 * throat
    return half_width, half_depth


def _body_distance(canvas: Canvas, patient: Patient) -> np.ndarray:
    """Distance to the skin."""
    half_width, half_depth = body_half_extent(patient, canvas.lattice.z)
    return _superellipse(canvas, half_width, half_depth, np.full_like(half_width, BODY_CENTER_Y))


def _cavity_distance(canvas: Canvas) -> np.ndarray:
    """Distance to the pleural cavity, which tapers toward the apices and lies further back."""
    z = canvas.lattice.z
    taper = np.sqrt(np.clip(1 - np.clip(z / APEX_Z, 0, 1) ** 2.2, 1e-3, 1))
    belly = np.clip((-z - 20) / 150, 0, 1)
    half_width = np.maximum(CAVITY_HALF_WIDTH * taper, 8) + 8 * belly
    flat = np.sqrt(taper) * (0.55 + 0.45 * taper)
    half_depth = np.maximum(CAVITY_HALF_DEPTH * flat, 10) + 4 * belly
    return _superellipse(canvas, half_width, half_depth, -2 + 22 * (1 - taper))


def _superellipse(canvas: Canvas, half_width, half_depth, center_y) -> np.ndarray:
    """Distance to a tube along z, given its half axes and center in each slice (arrays over z)."""
    x, y, _ = canvas.lattice.points
    width, depth, center = (
        v.astype(np.float32)[:, None, None] for v in (half_width, half_depth, center_y)
    )
    sum_of_powers = (np.abs(x) / width) ** ROUNDNESS + (np.abs(y - center) / depth) ** ROUNDNESS
    radius = np.power(sum_of_powers, 1 / ROUNDNESS, out=sum_of_powers)
    return (radius - 1) * ((width + depth) / 2)


def _muscle_thickness(canvas: Canvas) -> np.ndarray:
    """Muscle outside the ribs, mm: thicker at back and front, and at the shoulders."""
    x, y, z = canvas.lattice.points
    shoulder = 26 * np.clip((z - 45) / 50, 0, 1)
    back = 4 * (y > 20) + 7 * np.clip(y / CAVITY_HALF_DEPTH, 0, 1) * (z > -60)
    pectoral = 13 * (y < -20) * np.exp(-(((np.abs(x) - 70) / 38) ** 2)) * np.clip(z / 30 + 1, 0, 1)
    axilla = 5 * np.exp(-(((y - 5) / 25) ** 2))
    return 9 + back + pectoral + shoulder - axilla


def _interpolate(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along one axis at fractional indices."""
    first = np.clip(places.astype(int), 0, values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    t = (places - first).astype(np.float32).reshape(shape)
    return values.take(first, axis) * (1 - t) + values.take(first + 1, axis) * t
