"""One phantom case: its scene, its images, and the truth about its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import find_objects, label

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.phantom.anatomy import draw_tubes, paint_behind_nodes, paint_over_nodes
from lnqtools.phantom.nodes import ENLARGED_MM, Node, draw_nodes, paint_mimics
from lnqtools.phantom.patient import Profile, draw_patient, profile_named
from lnqtools.phantom.scan import Scene, draw_grid, scan, size_named
from lnqtools.phantom.thorax import draw_thorax

FEWEST_VOXELS = 3
"""A node of which fewer voxels are left, next to vessels, is not in the truth."""


class NodeRow(NamedTuple):
    """What is known about one node of a phantom.

    Attributes
    ----------
    id : int
        Its value in ``instances``.
    station : str
        Lymph node station.
    short_axis_mm : float
        See ``short_axis_mm``.
    volume_mm3 : float
        Number of voxels times their volume.
    enlarged : bool
        Whether the short axis is at least 10 mm.
    annotated : bool
        Whether it is in the weak annotation.
    """

    id: int
    station: str
    short_axis_mm: float
    volume_mm3: float
    enlarged: bool
    annotated: bool


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
        1 in the annotated nodes: a random part of the enlarged ones.
    anatomy : uint8 array
        Classes of TotalSegmentator v2, task ``total``; 0 in nodes.
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
    anatomy: np.ndarray
    grid: Grid
    nodes: tuple[NodeRow, ...]
    phase: str

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of voxels along z, y, x, mm."""
        return self.grid.spacing


def make_phantom(
    seed: int, index: int, *, profile: str = "realistic", size: str = "small"
) -> Phantom:
    """Make one synthetic chest CT with mediastinal and hilar lymph nodes.

    Parameters
    ----------
    seed : int
        Number of the cohort, 0 or more.
    index : int
        Number of the case in the cohort, 0 or more.
    profile : {"realistic", "easy"}
        ``realistic``: contrast, noise, and nodes as in clinical CTs. ``easy``: the same anatomy
        without contrast, little noise, and large nodes of 250 HU, so that a small network
        finds them after minutes of training.
    size : {"small", "full"}
        ``small``: about 95 × 112 × 144 voxels of 3.2 × 2.6 × 2.6 mm. ``full``: 512 × 512 voxels
        a slice, slices 1 to 5 mm apart.

    Returns
    -------
    Phantom
        The case. It depends on the arguments alone, not on other cases.

    Raises
    ------
    LnqError
        If the profile or size is unknown, or the seed or index is negative.
    """
    if seed < 0 or index < 0:
        raise LnqError("seed and index of a phantom must be 0 or more")
    cohort, matrix = profile_named(profile), size_named(size)
    scene, planned = _draw_scene(seed, index, cohort)
    grid = draw_grid(_generator(seed, index, "grid"), scene.patient, matrix)
    images = scan(scene, grid, (seed, index, *b"noise"))
    instances, rows = _visible_nodes(images.instances, planned, grid.spacing)
    rows = _annotate(_generator(seed, index, "annotation"), rows, cohort)
    annotated = np.array([False, *(row.annotated for row in rows)])
    return Phantom(
        ct=images.ct,
        truth=(instances > 0).astype(np.uint8),
        instances=instances,
        weak=annotated[instances].astype(np.uint8),
        anatomy=images.anatomy,
        grid=grid,
        nodes=tuple(rows),
        phase=scene.patient.phase,
    )


def _generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose: what is drawn for it does not move the others."""
    return np.random.default_rng((seed, index, *purpose.encode()))


def _draw_scene(seed: int, index: int, profile: Profile) -> tuple[Scene, list[Node]]:
    """Draw the patient and list what is painted, from the back to the front."""

    def rng(purpose: str) -> np.random.Generator:
        return _generator(seed, index, purpose)

    patient = draw_patient(rng("patient"), profile)
    thorax = draw_thorax(rng("thorax"), patient)
    tubes = draw_tubes(rng("tubes"))
    nodes = draw_nodes(rng("nodes"), patient, profile, thorax.heart, tubes)
    paints = [
        *paint_behind_nodes(rng("behind"), patient, thorax),
        *(paint for node in nodes for paint in node.paint()),
        *paint_mimics(rng("mimics"), patient),
        *paint_over_nodes(rng("over"), patient, profile, thorax, tubes),
    ]
    return Scene(patient, thorax, paints), nodes


def _visible_nodes(
    painted: np.ndarray, planned: list[Node], spacing: tuple[float, float, float]
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
        rows.append(_node_row(number, node.station, piece, spacing))
    return instances, rows


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """Largest 6-connected component of a mask that is not empty."""
    components, _ = label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == sizes.argmax())


def _node_row(
    number: int, station: str, mask: np.ndarray, spacing: tuple[float, float, float]
) -> NodeRow:
    """Measure a node; nothing is annotated yet."""
    short = short_axis_mm(mask, spacing)
    volume = float(mask.sum() * np.prod(spacing))
    return NodeRow(number, station, short, volume, short >= ENLARGED_MM, annotated=False)


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
    widest = mask[mask.sum(axis=(1, 2)).argmax()]
    positions = np.argwhere(widest) * spacing[1:]
    covariance = np.cov(positions, rowvar=False, bias=True) + np.diag(np.square(spacing[1:])) / 12
    return float(4 * np.sqrt(np.linalg.eigvalsh(covariance)[0]))


def _annotate(rng: np.random.Generator, rows: list[NodeRow], profile: Profile) -> list[NodeRow]:
    """Mark a random part of the enlarged nodes, larger ones more often, at least one.

    If vessels left no node enlarged, the largest node is marked.
    """
    candidates = [row for row in rows if row.enlarged]
    candidates = candidates or sorted(rows, key=lambda row: row.short_axis_mm)[-1:]
    if not candidates:
        return rows
    count = max(1, round(rng.uniform(*profile.annotated_fraction) * len(candidates)))
    weights = np.array([row.short_axis_mm for row in candidates]) ** 1.5
    ids = [row.id for row in candidates]
    chosen = rng.choice(ids, count, replace=False, p=weights / weights.sum())
    return [row._replace(annotated=row.id in chosen) for row in rows]
