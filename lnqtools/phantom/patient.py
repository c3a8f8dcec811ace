"""What differs from patient to patient: profile of the cohort, contrast phase, size, noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.phantom.annotation import Annotation, EachByChance, FewLargeOnes, PartOfEnlarged

Range = tuple[float, float]


@dataclass(frozen=True)
class Profile:
    """What a cohort looks like; ranges are of uniform distributions.

    Attributes
    ----------
    phases : dict of str to float
        Probability of each contrast phase.
    noise_hu : Range
        Standard deviation of the noise at the level of the heart.
    node_count : tuple of int
        Number of single nodes that are placed (fewest, most).
    short_axis_mm : tuple of float
        Median of the log-normal distribution of the nodes' short axes, its sigma, and limits.
    bulky_fraction : float
        Probability that a node is bulky and has confluent neighbors.
    bulky_mm : Range
        Short axis of a bulky node.
    node_hu : Range
        Attenuation of the nodes, before contrast.
    node_texture : bool
        Whether some nodes have a necrotic core or a fatty hilum, and nodes differ in HU.
    plaque : bool
        Whether the aorta may have a calcified plaque.
    annotation : Annotation or None
        Which nodes are drawn; None: not any.
    tumor_probability : float
        Probability that a patient has a tumor of the lung.
    thin_slices : bool
        Whether slices are thin.
    """

    phases: dict[str, float]
    noise_hu: Range
    node_count: tuple[int, int]
    short_axis_mm: tuple[float, float, float, float]
    bulky_fraction: float
    bulky_mm: Range
    node_hu: Range
    node_texture: bool
    plaque: bool
    annotation: Annotation | None
    tumor_probability: float = 0.0
    thin_slices: bool = False


_CLINICAL = Profile(
    phases={"none": 1 / 3, "weak": 1 / 3, "high": 1 / 3},
    noise_hu=(10, 24),
    node_count=(8, 13),
    short_axis_mm=(7.6, 0.34, 5.0, 42.0),
    bulky_fraction=0.12,
    bulky_mm=(16, 42),
    node_hu=(28, 46),
    node_texture=True,
    plaque=True,
    annotation=FewLargeOnes(mean_more=0.5, exponent=2.0),
    tumor_probability=0.25,
)
"""Patients of many scanners, with and without contrast."""

PROFILES = {
    "realistic": Profile(
        phases={"none": 0.4, "weak": 0.35, "high": 0.25},
        noise_hu=(10, 24),
        node_count=(7, 12),
        short_axis_mm=(7.4, 0.35, 5.0, 42.0),
        bulky_fraction=0.045,
        bulky_mm=(16, 42),
        node_hu=(28, 46),
        node_texture=True,
        plaque=True,
        annotation=PartOfEnlarged((0.2, 0.45)),
    ),
    "easy": Profile(
        phases={"none": 1.0},
        noise_hu=(5, 8),
        node_count=(6, 9),
        short_axis_mm=(15.0, 0.2, 11.0, 24.0),
        bulky_fraction=0.0,
        bulky_mm=(20, 24),
        node_hu=(250, 250),
        node_texture=False,
        plaque=False,
        annotation=PartOfEnlarged((0.4, 0.6)),
    ),
    "ct-lymph-nodes": Profile(
        phases={"weak": 0.3, "high": 0.7},
        noise_hu=(6, 12),
        node_count=(17, 21),
        short_axis_mm=(7.9, 0.36, 5.0, 30.0),
        bulky_fraction=0.03,
        bulky_mm=(16, 30),
        node_hu=(28, 46),
        node_texture=True,
        plaque=True,
        annotation=EachByChance(enlarged=0.59, small=0.05),
        thin_slices=True,
    ),
    "lnq2023": _CLINICAL,
    "nsclc": replace(_CLINICAL, annotation=None, tumor_probability=1.0),
}


@dataclass(frozen=True)
class Phase:
    """HU ranges of the blood in a contrast phase, and how much tissue gains, HU."""

    arterial: Range
    pulmonary: Range
    venous: Range
    node_gain: float
    muscle_gain: float
    heart_gain: float


PHASES = {
    "none": Phase((36, 48), (36, 48), (36, 48), 0, 0, 0),
    "weak": Phase((75, 120), (70, 120), (70, 110), 12, 4, 12),
    "high": Phase((160, 300), (150, 350), (120, 200), 22, 7, 45),
}


@dataclass(frozen=True)
class Patient:
    """One patient and how he or she was scanned.

    Attributes
    ----------
    scale : (3,) array
        Size along x, y, z relative to the anatomy the coordinates were written for.
    phase : str
        Contrast phase: none, weak or high.
    blood_hu : dict of str to float
        HU of arterial, pulmonary and venous blood.
    muscle_hu, heart_hu, fat_hu, lung_hu, node_hu : float
        HU of tissues.
    cortex_hu, marrow_hu : float
        HU of the ribs.
    subcutaneous_fat_mm : float
        Thickness of the fat under the skin.
    noise_hu : float
        Standard deviation of the noise at the level of the heart.
    blur_mm : float
        Standard deviation of the reconstruction kernel in the slice plane.
    """

    scale: np.ndarray
    phase: str
    blood_hu: dict[str, float]
    muscle_hu: float
    heart_hu: float
    fat_hu: float
    lung_hu: float
    node_hu: float
    cortex_hu: float
    marrow_hu: float
    subcutaneous_fat_mm: float
    noise_hu: float
    blur_mm: float


def profile_named(name: str) -> Profile:
    """Return the profile of that name, or raise LnqError listing the names there are."""
    if name not in PROFILES:
        raise LnqError(f"no phantom profile '{name}'; choose from {', '.join(PROFILES)}")
    return PROFILES[name]


def draw_patient(
    rng: np.random.Generator, profile: Profile, phase_name: str | None = None
) -> Patient:
    """Draw one patient of a cohort, in the contrast phase of that name if one is given."""
    drawn = str(rng.choice(list(profile.phases), p=list(profile.phases.values())))
    name = phase_name or drawn
    phase = PHASES[name]
    muscle_hu = rng.uniform(45, 58) + phase.muscle_gain
    return Patient(
        scale=rng.uniform(0.92, 1.08, 3) * rng.uniform(0.96, 1.05),
        phase=name,
        blood_hu=_draw_blood(rng, phase),
        muscle_hu=muscle_hu,
        heart_hu=muscle_hu - 4 + phase.heart_gain,
        fat_hu=rng.uniform(-112, -96),
        lung_hu=rng.uniform(-890, -810),
        node_hu=rng.uniform(*profile.node_hu) + phase.node_gain,
        cortex_hu=rng.uniform(420, 700),
        marrow_hu=rng.uniform(150, 240),
        subcutaneous_fat_mm=rng.uniform(6, 24),
        noise_hu=rng.uniform(*profile.noise_hu),
        blur_mm=rng.uniform(0.35, 0.75),
    )


def _draw_blood(rng: np.random.Generator, phase: Phase) -> dict[str, float]:
    """HU of the blood; without contrast it is the same everywhere."""
    arterial, pulmonary, venous = (
        rng.uniform(*r) for r in (phase.arterial, phase.pulmonary, phase.venous)
    )
    if phase.arterial == phase.venous:
        pulmonary = venous = arterial
    return {"arterial": arterial, "pulmonary": pulmonary, "venous": venous}
