"""One phantom case: its scene, its images, and the truth about its nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import find_objects, label

from lnqtools.components.diameters import diameters_mm
from lnqtools.components.labeling import find_components
from lnqtools.errors import LnqError
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid
from lnqtools.phantom.anatomy import draw_tubes, paint_behind_nodes, paint_over_nodes
from lnqtools.phantom.annotation import ENLARGED_MM, Axis, NodeRow
from lnqtools.phantom.nodes import Node, draw_nodes, paint_mimics
from lnqtools.phantom.patient import PHASES, Profile, draw_patient, profile_named
from lnqtools.phantom.scan import Scene, draw_grid, scan, size_named
from lnqtools.phantom.thorax import draw_thorax
from lnqtools.phantom.tumor import TUMOR, paint_tumor

FEWEST_VOXELS = 3
"""A node of which fewer voxels are left, next to vessels, is not in the truth."""


@dataclass(frozen=True)
class Phantom:
    """A synthetic chest CT with everything that is known about it; arrays (z, y, x).

    Attributes
    ----------
    ct : int16 array
        HU.
    truth : uint8 array
        1 in every lymph node.
    instances : uint16 array
        Number of the node, 1 to n; 0 elsewhere.
    weak : uint8 array
        1 in the annotated nodes, as the profile says.
    tumor : uint8 array
        1 in the tumor of the lung; no node lies in it.
    anatomy : uint8 array
        Classes of TotalSegmentator v2, task ``total``; 0 in nodes and in the tumor.
    grid : Grid
        Where the voxels lie.
    nodes : tuple of NodeRow
        One row per node, in the order of their numbers.
    phase : str
        Contrast phase: none, weak or high.
    """

    ct: np.ndarray
    truth: np.ndarray
    instances: np.ndarray
    weak: np.ndarray
    tumor: np.ndarray
    anatomy: np.ndarray
    grid: Grid
    nodes: tuple[NodeRow, ...]
    phase: str

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of voxels along z, y, x, mm."""
        return self.grid.spacing


def make_phantom(
    seed: int,
    index: int,
    *,
    profile: str = "realistic",
    size: str = "small",
    phase: str | None = None,
    tumor_probability: float | None = None,
) -> Phantom:
    """Make one synthetic chest CT with mediastinal and hilar lymph nodes.

    Parameters
    ----------
    seed : int
        Number of the cohort, 0 or more.
    index : int
        Number of the case in the cohort, 0 or more.
    profile : {"realistic", "easy", "ct-lymph-nodes", "lnq2023", "nsclc"}
        ``realistic``: contrast, noise, and nodes as in clinical CTs. ``easy``: the same anatomy
        without contrast, little noise, and large nodes of 250 HU, so that a small network
        finds them after minutes of training. The others stand for the paper's data sets: see
        `lnqtools.phantom.patient.PROFILES`.
    size : {"small", "full"}
        ``small``: about 95 × 112 × 144 voxels of 3.2 × 2.6 × 2.6 mm. ``full``: 512 × 512 voxels
        a slice, slices 1 to 5 mm apart.
    phase : {"none", "weak", "high"}, optional
        Contrast phase; by default drawn as the profile says.
    tumor_probability : float, optional
        Probability of a tumor of the lung; by default the profile's. A patient who has one has
        the same with every higher probability.

    Returns
    -------
    Phantom
        The case. It depends on the arguments alone, not on other cases.

    Raises
    ------
    LnqError
        If the profile, size or phase is unknown, or the seed or index is negative.
    """
    if seed < 0 or index < 0:
        raise LnqError("seed and index of a phantom must be 0 or more")
    if phase not in (None, *PHASES):
        raise LnqError(f"no contrast phase '{phase}'; choose from {', '.join(PHASES)}")
    cohort, matrix = profile_named(profile), size_named(size)
    if tumor_probability is not None:
        cohort = replace(cohort, tumor_probability=tumor_probability)
    scene, planned = _draw_scene(seed, index, cohort, phase)
    grid = draw_grid(_generator(seed, index, "grid"), scene.patient, matrix, cohort.thin_slices)
    images = scan(scene, grid, (seed, index, *b"noise"))
    tumor = images.instances == TUMOR
    images.instances[tumor] = 0
    instances, rows = _visible_nodes(images.instances, planned, grid)
    rows = _annotate(_generator(seed, index, "annotation"), rows, cohort)
    annotated = np.array([False, *(row.annotated for row in rows)])
    return Phantom(
        ct=images.ct,
        truth=(instances > 0).astype(np.uint8),
        instances=instances,
        weak=annotated[instances].astype(np.uint8),
        tumor=tumor.astype(np.uint8),
        anatomy=images.anatomy,
        grid=grid,
        nodes=tuple(rows),
        phase=scene.patient.phase,
    )


def _generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose: what is drawn for it does not move the others."""
    return np.random.default_rng((seed, index, *purpose.encode()))


def _draw_scene(
    seed: int, index: int, profile: Profile, phase: str | None
) -> tuple[Scene, list[Node]]:
    """Draw the patient and list what is painted, from the back to the front."""

    def rng(purpose: str) -> np.random.Generator:
        return _generator(seed, index, purpose)

    patient = draw_patient(rng("patient"), profile, phase)
    thorax = draw_thorax(rng("thorax"), patient)
    tubes = draw_tubes(rng("tubes"))
    nodes = draw_nodes(rng("nodes"), patient, profile, thorax.heart, tubes)
    for_tumor = rng("tumor")
    has_tumor = for_tumor.random() < profile.tumor_probability
    paints = [
        *paint_behind_nodes(rng("behind"), patient, thorax),
        *(paint for node in nodes for paint in node.paint()),
        *([paint_tumor(for_tumor, patient, nodes)] if has_tumor else []),
        *paint_mimics(rng("mimics"), patient),
        *paint_over_nodes(rng("over"), patient, profile, thorax, tubes),
    ]
    return Scene(patient, thorax, paints), nodes


def _visible_nodes(
    painted: np.ndarray, planned: list[Node], grid: Grid
) -> tuple[np.ndarray, list[NodeRow]]:
    """Keep the largest visible piece of each painted node and number them anew."""
    instances = np.zeros_like(painted)
    rows: list[NodeRow] = []
    for node, box in zip(planned, find_objects(painted, len(planned)), strict=True):
        if box is None:
            continue
        piece = _largest_piece(painted[box] == node.number)
        if piece.sum() < FEWEST_VOXELS:
            continue
        number = len(rows) + 1
        instances[box][piece] = number
        rows.append(_node_row(number, node.station, piece, grid.cropped(Box(box))))
    return instances, rows


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """Largest 6-connected component of a mask that is not empty."""
    components, _ = label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == sizes.argmax())


def _node_row(number: int, station: str, mask: np.ndarray, grid: Grid) -> NodeRow:
    """Measure a node; nothing is annotated yet."""
    short, long = axial_axes(mask, grid)
    lengths = short_axis_mm(mask, grid.spacing), math.dist(*long)
    volume = float(mask.sum() * np.prod(grid.spacing))
    return NodeRow(
        *(number, station, lengths[0], volume, lengths[0] >= ENLARGED_MM),
        annotated=False,
        diameter_ellipsoid_mm=float(diameters_mm(find_components(mask, grid), "ellipsoid")[0]),
        long_axis_mm=lengths[1],
        long_axis=long,
        short_axis=short,
    )


def short_axis_mm(mask: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Return the short axis of a node on the axial slice where it is largest.

    The axis of the ellipse with the second moments of the slice, ``4 sqrt(e)`` with ``e`` the
    smaller eigenvalue of the covariance of the pixel positions plus ``spacing² / 12`` (a pixel
    is an area, not a point), in mm. RECIST 1.1 measures lymph nodes in the axial plane.

    Parameters
    ----------
    mask : (Z, Y, X) bool array
        One node, not empty.
    spacing : tuple of float
        Distance of voxels along z, y, x, mm.
    """
    covariance = _covariance(mask[_widest(mask)], spacing)
    return float(4 * np.sqrt(np.linalg.eigvalsh(covariance)[0]))


def axial_axes(mask: np.ndarray, grid: Grid) -> tuple[Axis, Axis]:
    """Return the short and the long axis of a node on the axial slice where it is largest.

    The axes of the ellipse of `short_axis_mm`, through its center.

    Parameters
    ----------
    mask : (Z, Y, X) bool array
        One node, not empty.
    grid : Grid
        Where its voxels lie.
    """
    slice_index = _widest(mask)
    center = np.argwhere(mask[slice_index]).mean(axis=0)
    values, vectors = np.linalg.eigh(_covariance(mask[slice_index], grid.spacing))
    halves = 2 * np.sqrt(values) * vectors / np.array(grid.spacing[1:])[:, None]
    ends = [(slice_index, *(center + sign * half)) for half in halves.T for sign in (-1, 1)]
    points = [tuple(point) for point in grid.world(np.array(ends)).tolist()]
    return Axis(*points[:2]), Axis(*points[2:])


def _widest(mask: np.ndarray) -> int:
    """Return the axial slice of a node that has the most pixels."""
    return int(mask.sum(axis=(1, 2)).argmax())


def _covariance(pixels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Covariance of the positions of a slice's pixels, which are areas, mm²."""
    positions = np.argwhere(pixels) * spacing[1:]
    return np.cov(positions, rowvar=False, bias=True) + np.diag(np.square(spacing[1:])) / 12


def _annotate(rng: np.random.Generator, rows: list[NodeRow], profile: Profile) -> list[NodeRow]:
    """Mark the nodes that are drawn."""
    if profile.annotation is None or not rows:
        return rows
    chosen = profile.annotation.choose(rng, rows)
    return [row._replace(annotated=row.id in chosen) for row in rows]
