"""Organs, vessels, airways and bones of the phantom: tables of coordinates, and what they paint.

Positions are (x, y, z) in mm, x to the left, y to the back, z to the head, the carina at z = 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lnqtools.phantom import labels
from lnqtools.phantom.canvas import Paint
from lnqtools.phantom.patient import Patient, Profile
from lnqtools.phantom.shapes import (
    Brick,
    Column,
    Difference,
    Ellipsoid,
    Grown,
    Intersection,
    Rods,
    Solid,
    Union,
    tube,
)
from lnqtools.phantom.thorax import FIRST_LEVEL_Z, LEVEL_MM, Thorax

Point = tuple[float, float, float]

# --- tubes: vessels, airways, esophagus ------------------------------------------------------

JUNCTIONS: dict[str, Point] = {
    "carina": (0, 15, 0),
    "end of right main bronchus": (-30, 20, -26),
    "end of left main bronchus": (40, 22, -22),
    "end of brachiocephalic trunk": (-20, -8, 84),
    "top of superior vena cava": (-29, -20, 44),
    "pulmonary bifurcation": (20, -18, -4),
}
"""Points where tubes meet; each is moved once for each patient."""

JUNCTION_SD_MM = 2.0


@dataclass(frozen=True)
class Course:
    """The course of a tube.

    Attributes
    ----------
    points : sequence
        Positions, or names of JUNCTIONS.
    radii : sequence of float
        Radius in mm at each point (or one for all), before the calibre of its kind is applied.
    kind : str
        Tubes of a kind share a patient's calibre (a key of CALIBRES).
    sd_mm : float
        How far (standard deviation) the points move from patient to patient.
    """

    points: Sequence[Point | str]
    radii: Sequence[float] | float
    kind: str
    sd_mm: float = 2.0


CALIBRES = {
    "airway": (0.88, 1.12),
    "artery": (0.87, 1.13),
    "vein": (0.88, 1.12),
    "pulmonary": (0.88, 1.12),
    "esophagus": (0.81, 1.19),
}
"""Range of the factor on the radii, by kind of tube."""

AIRWAYS = {
    "trachea": Course([(0, 2, 130), (1, 8, 70), (0, 12, 30), "carina"], 8.5, "airway", 1.5),
    "right main bronchus": Course(
        ["carina", (-15, 18, -14), "end of right main bronchus"], (7.3, 6.8, 6.4), "airway", 1
    ),
    "left main bronchus": Course(
        ["carina", (20, 19, -10), "end of left main bronchus"], (7, 6.2, 5.8), "airway", 1
    ),
    "right upper lobe bronchus": Course(
        [(-25, 20, -20), (-46, 22, -18), (-60, 24, -10)], (5, 4, 3), "airway"
    ),
    "intermediate bronchus": Course(
        ["end of right main bronchus", (-38, 23, -48), (-44, 30, -74)], (5.6, 5, 3.5), "airway"
    ),
    "left upper lobe bronchus": Course(
        ["end of left main bronchus", (52, 14, -16), (64, 10, -8)], (5.2, 4, 3), "airway"
    ),
    "left lower lobe bronchus": Course(
        ["end of left main bronchus", (48, 30, -42), (54, 36, -68)], (5.2, 4.6, 3.2), "airway"
    ),
}

VESSELS = {
    "inferior vena cava": Course([(-20, 6, -94), (-22, 10, -120), (-22, 16, -210)], 11, "vein"),
    "left atrial appendage": Course(
        [(26, -8, -40), (38, -24, -34), (36, -36, -36)], (8, 7, 5), "vein"
    ),
    "superior vena cava": Course(
        [(-26, -10, -48), (-30, -10, -10), (-31, -14, 24), "top of superior vena cava"], 9.2, "vein"
    ),
    "right brachiocephalic vein": Course(
        ["top of superior vena cava", (-31, -20, 66), (-42, -18, 94)], (9, 7.5, 7), "vein"
    ),
    "left brachiocephalic vein": Course(
        ["top of superior vena cava", (-8, -38, 54), (18, -34, 64), (44, -22, 92)],
        (7.5, 6.5, 6.5, 7),
        "vein",
    ),
    "azygos vein": Course(
        [(-7, 38, -150), (-9, 36, -60), (-11, 34, -8), (-17, 28, 15), (-27, 10, 19), (-30, -8, 12)],
        4.2,
        "vein",
        1,
    ),
    "hemiazygos vein": Course([(12, 52, -150), (13, 50, -70), (0, 40, -40)], 2.4, "vein", 1),
    "right superior pulmonary vein": Course(
        [(-18, 0, -48), (-40, -8, -36), (-60, -14, -16)], (8, 6.5, 5), "vein"
    ),
    "right inferior pulmonary vein": Course(
        [(-14, 10, -58), (-34, 16, -58), (-56, 26, -64)], (8, 6.5, 5), "vein"
    ),
    "left superior pulmonary vein": Course(
        [(22, -2, -42), (40, -8, -30), (58, -14, -10)], (8, 6.5, 5), "vein"
    ),
    "left inferior pulmonary vein": Course(
        [(20, 14, -58), (36, 20, -56), (58, 30, -62)], (8, 6.5, 5), "vein"
    ),
    "right pulmonary artery": Course(
        ["pulmonary bifurcation", (2, -2, -10), (-26, 3, -16), (-44, 8, -20), (-56, 16, -38)],
        (12.2, 10.5, 9.7, 8.1, 5.5),
        "pulmonary",
    ),
    "left pulmonary artery": Course(
        ["pulmonary bifurcation", (34, 4, 2), (50, 20, -2), (56, 28, -30)],
        (12.2, 10.5, 8.8, 5.5),
        "pulmonary",
    ),
    "pulmonary trunk": Course(
        [(16, -46, -58), (22, -38, -28), "pulmonary bifurcation"], (14.8, 13.5, 12.8), "pulmonary"
    ),
    "esophagus": Course(
        [(4, 18, 130), (7, 26, 60), (5, 30, 0), (3, 31, -40), (6, 28, -90), (14, 20, -150)],
        8,
        "esophagus",
        1.5,
    ),
    "aorta": Course(
        [
            *[(4, -18, -52), (-12, -22, -22), (-17, -23, 12), (-12, -18, 34), (4, 0, 46)],
            *[(19, 24, 40), (25, 42, 18), (26, 46, -20), (22, 47, -80), (14, 44, -140)],
            (6, 38, -210),
        ],
        (15, 15.8, 15, 14.3, 13.2, 12.3, 12, 11.7, 11.2, 10.5, 9.8),
        "artery",
    ),
    "brachiocephalic trunk": Course(
        [(-10, -16, 48), (-16, -12, 66), "end of brachiocephalic trunk"], (6.5, 6, 5.5), "artery"
    ),
    "right common carotid artery": Course(
        ["end of brachiocephalic trunk", (-18, -8, 104), (-20, -12, 134)], 4, "artery"
    ),
    "right subclavian artery": Course(
        ["end of brachiocephalic trunk", (-42, -6, 98), (-80, -2, 96)], 4.5, "artery"
    ),
    "left common carotid artery": Course([(5, 0, 52), (14, -2, 80), (18, -4, 130)], 4, "artery"),
    "left subclavian artery": Course(
        [(19, 22, 46), (24, 20, 76), (50, 16, 96), (95, 6, 94)], 5, "artery"
    ),
}

VESSEL_PAINT = {
    "inferior vena cava": ("venous", labels.INFERIOR_VENA_CAVA),
    "left atrial appendage": ("arterial", labels.ATRIAL_APPENDAGE_LEFT),
    "superior vena cava": ("venous", labels.SUPERIOR_VENA_CAVA),
    "right brachiocephalic vein": ("venous", labels.BRACHIOCEPHALIC_VEIN_RIGHT),
    "left brachiocephalic vein": ("venous", labels.BRACHIOCEPHALIC_VEIN_LEFT),
    "azygos vein": ("venous", labels.NONE),
    "hemiazygos vein": ("venous", labels.NONE),
    "right superior pulmonary vein": ("arterial", labels.PULMONARY_VEIN),
    "right inferior pulmonary vein": ("arterial", labels.PULMONARY_VEIN),
    "left superior pulmonary vein": ("arterial", labels.PULMONARY_VEIN),
    "left inferior pulmonary vein": ("arterial", labels.PULMONARY_VEIN),
    "right pulmonary artery": ("pulmonary", labels.NONE),
    "left pulmonary artery": ("pulmonary", labels.NONE),
    "pulmonary trunk": ("pulmonary", labels.NONE),
    "aorta": ("arterial", labels.AORTA),
    "brachiocephalic trunk": ("arterial", labels.BRACHIOCEPHALIC_TRUNK),
    "right common carotid artery": ("arterial", labels.COMMON_CAROTID_ARTERY_RIGHT),
    "right subclavian artery": ("arterial", labels.SUBCLAVIAN_ARTERY_RIGHT),
    "left common carotid artery": ("arterial", labels.COMMON_CAROTID_ARTERY_LEFT),
    "left subclavian artery": ("arterial", labels.SUBCLAVIAN_ARTERY_LEFT),
}
"""Blood and class of the vessels, in the order in which they are painted."""

Tubes = dict[str, Rods]


def draw_tubes(rng: np.random.Generator) -> Tubes:
    """Draw one patient's airways, vessels and esophagus."""
    junctions = {
        name: np.array(point) + rng.normal(0, JUNCTION_SD_MM, 3)
        for name, point in JUNCTIONS.items()
    }
    calibres = {kind: rng.uniform(*limits) for kind, limits in CALIBRES.items()}
    return {
        name: tube(
            [
                junctions[p] if isinstance(p, str) else np.array(p) + rng.normal(0, course.sd_mm, 3)
                for p in course.points
            ],
            np.multiply(course.radii, calibres[course.kind]),
        )
        for name, course in (AIRWAYS | VESSELS).items()
    }


# --- behind the nodes: what nodes lie on top of ----------------------------------------------


def paint_behind_nodes(
    rng: np.random.Generator, patient: Patient, thorax: Thorax
) -> Iterator[Paint]:
    """Yield bones of the front and shoulders, lung vessels, thymus, organs of the abdomen."""
    yield from _sternum_and_shoulders(patient)
    yield from _abdomen(patient)
    yield from _lung_vessels(rng, patient)
    yield from _thymus(rng)
    yield Paint(Grown(thorax.heart, 3), patient.fat_hu, region="inner cavity")


def _sternum_and_shoulders(patient: Patient) -> Iterator[Paint]:
    """Bones with a cortex and a marrow, outside the cavity."""
    sternum = Union(
        (
            Brick((0, -100, -60), (15, 5.5, 46)),
            Brick((0, -95, 2), (16, 5.5, 30)),
            Brick((0, -91, 44), (25, 6, 15)),
        )
    )
    yield from _bone(sternum, labels.STERNUM, 420, 140, region="wall")
    for side, clavicle, scapula in (
        (1, labels.CLAVICULA_LEFT, labels.SCAPULA_LEFT),
        (-1, labels.CLAVICULA_RIGHT, labels.SCAPULA_RIGHT),
    ):
        knots = [(22, -74, 66), (60, -70, 78), (110, -38, 96), (150, -20, 100)]
        rod = tube([(side * x, y, z) for x, y, z in knots], 6.2)
        yield from _bone(rod, clavicle, 550, 180, region="wall")
        center = (side * 108, 74, 28)
        yield Paint(Brick(center, (40, 15, 66), side * 32), patient.muscle_hu, region="wall")
        yield from _bone(Brick(center, (34, 3.2, 60), side * 32), scapula, 480, 260, region="wall")
        spine = tube([(side * 88, 86, 58), (side * 146, 74, 76)], (4, 5))
        yield Paint(spine, 430, scapula, region="wall")


def _bone(
    solid: Solid, label: int, cortex_hu: float, marrow_hu: float, region: str | None = None
) -> Iterator[Paint]:
    """Cortical bone, 2.2 mm thick, around marrow."""
    yield Paint(solid, cortex_hu, label, region=region)
    yield Paint(Grown(solid, -2.2), marrow_hu, region=region)


def _abdomen(patient: Patient) -> Iterator[Paint]:
    """Upper abdominal organs under the diaphragm."""
    venous = patient.blood_hu["venous"]
    liver = Union(
        (
            Ellipsoid((-72, -4, -150), (86, 96, 70)),
            Ellipsoid((8, -44, -158), (66, 42, 46)),
        )
    )
    yield Paint(liver, 0.35 * venous + 45, labels.LIVER, region="abdomen")
    stomach = Ellipsoid((66, -24, -152), (44, 42, 48))
    yield Paint(stomach, 35, labels.STOMACH, region="abdomen")
    yield Paint(Grown(stomach, -5), 15, region="abdomen")
    spleen = Ellipsoid((96, 44, -158), (26, 42, 46))
    yield Paint(spleen, 0.4 * venous + 42, labels.SPLEEN, region="abdomen")


LUNG_ROOTS = {-1: (-52, 12, -26), 1: (54, 14, -22)}
"""Hilum of the right (-1) and the left (1) lung."""

FIRST_BRANCHES = (
    *[(0.9, -0.35, 0.55), (0.95, 0.25, 0.35), (0.85, -0.5, -0.1), (0.8, 0.45, -0.35)],
    *[(0.7, 0.1, -0.75), (0.75, 0.6, 0.2), (0.6, -0.3, -0.7)],
)
"""Directions in which vessels enter the lung: outwards, to the back, to the head."""

GENERATIONS = 6


def _lung_vessels(rng: np.random.Generator, patient: Patient) -> Iterator[Paint]:
    """Vessels in the lungs; TotalSegmentator counts them to the lobes."""
    hu = (patient.blood_hu["pulmonary"] + 40) / 2
    for side, root in LUNG_ROOTS.items():
        rods: list[tuple] = []
        for outwards, back, up in FIRST_BRANCHES:
            direction = np.array((side * outwards, back, up)) + rng.normal(0, 0.15, 3)
            start = np.array(root) + rng.normal(0, 4, 3)
            radius, length = 4.6 * rng.uniform(0.75, 1), 30 * rng.uniform(0.8, 1.2)
            _grow_branch(rng, rods, start, direction, radius, length, GENERATIONS)
        yield Paint(Rods(*zip(*rods, strict=True)), hu, region="lung")


def _grow_branch(rng, rods, start, direction, radius, length, generations) -> None:
    """Add a branch and, recursively, its two or three daughters to the list of rods."""
    if generations == 0:
        return
    direction = direction / np.linalg.norm(direction)
    end = start + direction * length
    rods.append((start, end, radius, 0.85 * radius))
    for _ in range(2 if rng.random() < 0.92 else 3):
        turned = direction + rng.normal(0, 0.55, 3)
        narrower, shorter = radius * rng.uniform(0.68, 0.82), length * rng.uniform(0.66, 0.92)
        _grow_branch(rng, rods, end, turned, narrower, shorter, generations - 1)


def _thymus(rng: np.random.Generator) -> Iterator[Paint]:
    """Remnant of the thymus: two lobes, more or less fatty."""
    center = np.array((4, -66, 30)) + rng.normal(0, 4, 3)
    lobes = Union(
        (
            Ellipsoid(center - np.array((9, 0, 0)), (7, 14, 30)),
            Ellipsoid(center + np.array((9, 0, 0)), (8, 15, 32)),
        )
    )
    yield Paint(lobes, rng.uniform(-75, 15), region="mediastinum")


# --- in front of the nodes: what molds them -------------------------------------------------


def paint_over_nodes(
    rng: np.random.Generator, patient: Patient, profile: Profile, thorax: Thorax, tubes: Tubes
) -> Iterator[Paint]:
    """Yield the heart, vessels, esophagus, airways, thyroid and spine."""
    yield from _pericardial_recess(rng, tubes["aorta"])
    yield from _heart(patient, thorax.heart)
    yield from _esophagus(rng, patient, tubes["esophagus"])
    for name, (blood, label) in VESSEL_PAINT.items():
        yield Paint(tubes[name], patient.blood_hu[blood], label)
    if profile.plaque and rng.random() < 0.5:
        wall = tubes["aorta"].starts[rng.integers(12, 22)] + (0, 11, 0)
        yield Paint(Ellipsoid(wall, (4, 2, 5)), 700)
    yield from _airways(tubes)
    for side in (-1, 1):
        yield Paint(Ellipsoid((side * 18, -6, 122), (9, 11, 22)), 90, labels.THYROID_GLAND)
    yield from _spine(patient)


def _pericardial_recess(rng: np.random.Generator, aorta: Rods) -> Iterator[Paint]:
    """Fluid behind the ascending aorta, which looks like a node."""
    knots = [
        aorta.starts[4] + (-15, 12, 0),
        aorta.starts[5] + (0, 19, 2),
        aorta.starts[5] + (17, 10, 0),
    ]
    yield Paint(
        tube(knots, rng.uniform(2.5, 4.5)),
        rng.uniform(2, 16),
        node=None,
        region="mediastinum",
        spare_nodes=True,
    )


CHAMBERS = (
    ((22, -4, -14), (24, 20, 30), "arterial"),
    ((-4, -28, -4), (30, 14, 26), "pulmonary"),
    ((-34, -8, 2), (17, 22, 24), "venous"),
    ((-8, 26, 22), (30, 17, 20), "arterial"),
)
"""Offset from the heart's center, radii, and blood of the four chambers."""


def _heart(patient: Patient, heart: Ellipsoid) -> Iterator[Paint]:
    """Muscle and four chambers."""
    yield Paint(heart, patient.heart_hu, labels.HEART, region="inner cavity")
    size = heart.radii.mean() / 52
    for offset, radii, blood in CHAMBERS:
        chamber = Ellipsoid(heart.center + offset, np.array(radii) * size, heart.axes)
        within_wall = Intersection(chamber, Grown(heart, -3))
        yield Paint(within_wall, patient.blood_hu[blood], region="inner cavity")


def _esophagus(rng: np.random.Generator, patient: Patient, esophagus: Rods) -> Iterator[Paint]:
    """Muscle, and in most patients some stretches with air or fluid."""
    yield Paint(esophagus, patient.muscle_hu - 4, labels.ESOPHAGUS)
    if rng.random() < 0.6:
        content = rng.choice((-700.0, -300.0, 10.0))
        first = rng.integers(0, 4)
        for i in range(first, len(esophagus.starts), 4):
            piece = slice(i, i + 2)
            ends = esophagus.starts[piece], esophagus.ends[piece]
            lumen = Rods(
                *ends, esophagus.start_radii[piece] - 4.6, esophagus.end_radii[piece] - 4.6
            )
            yield Paint(lumen, content)


WALL_MM = {"trachea": 1.6, "right main bronchus": 1.6, "left main bronchus": 1.6}
"""Thickness of the airways' wall; of the other bronchi 1.2 mm. These are TRACHEA, those none."""


def _airways(tubes: Tubes) -> Iterator[Paint]:
    """Walls first, then the lumen of all, so that the branches are open."""
    for name in AIRWAYS:
        yield Paint(Grown(tubes[name], WALL_MM.get(name, 1.2)), 20)
    for name in reversed(AIRWAYS):
        label = labels.TRACHEA if name in WALL_MM else labels.NONE
        yield Paint(tubes[name], -985, label)


def _spine(patient: Patient) -> Iterator[Paint]:
    """Discs, muscles of the back, vertebrae C6 to L1 with arch and processes, cord."""
    yield Paint(Column((0, 55, 0), (17, 14.5), 400), 75)
    canal = Column((0, 78, 0), (10, 10), 400)
    for side, label in ((-1, labels.AUTOCHTHON_RIGHT), (1, labels.AUTOCHTHON_LEFT)):
        muscle = Difference(Column((side * 24, 92, 0), (21, 15), 400), Grown(canal, 6))
        yield Paint(muscle, patient.muscle_hu - 4, label, region="wall")
    for level in range(-2, 13):
        vertebra = _vertebra(FIRST_LEVEL_Z - LEVEL_MM * level)
        yield from _bone(vertebra, labels.VERTEBRAE_T1 - level, 420, 175)
    yield Paint(canal, 5)
    yield Paint(Column((0, 78, 0), (4.6, 4.6), 400), 42, labels.SPINAL_CORD)


def _vertebra(z: float) -> Solid:
    """Body, arch around the canal, spinous and transverse processes."""
    return Union(
        (
            Column((0, 55, z), (17, 14.5), 9.6),
            Difference(Column((0, 78, z), (14.5, 14.5), 9), Column((0, 78, z), (9.5, 9.5), 20)),
            Brick((0, 100, z), (3, 13, 5.5)),
            Difference(Brick((0, 80, z), (30, 4.5, 5)), Column((0, 78, z), (10, 10), 20)),
        )
    )
