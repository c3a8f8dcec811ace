"""Scanning a scene: the voxel lattice, painting slab by slab, noise and blur."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import correlate1d

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.phantom.canvas import Canvas, Paint
from lnqtools.phantom.patient import Patient
from lnqtools.phantom.shapes import Lattice
from lnqtools.phantom.thorax import BODY_CENTER_Y, BOTTOM_Z, TOP_Z, Thorax, body_half_extent

SLAB_VOXELS = 3_000_000
"""A scan is painted in slabs of about this many voxels, to bound the memory."""

DIRECTION = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
"""Array axes z, y, x run to the head, to the back, to the left (the order of LPS)."""

SLICE_BLUR = 0.38
"""Standard deviation of the blur across slices, in slices."""

HU_RANGE = (-1024, 3071)


@dataclass(frozen=True)
class Size:
    """Matrix (rows, columns) and the slice distances, mm, that a scan of this size may have.

    ``thin_mm`` are those of thin slices.
    """

    matrix: tuple[int, int]
    slice_distances_mm: tuple[float, ...]
    thin_mm: tuple[float, ...]


SIZES = {
    "small": Size((112, 144), (3.0, 3.1, 3.2, 3.3, 3.4), (2.0, 2.1, 2.2)),
    "full": Size((512, 512), (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0), (1.0, 1.25, 1.5)),
}


@dataclass(frozen=True)
class Scene:
    """All that the scanner sees: the thorax and what is painted onto it, in order."""

    patient: Patient
    thorax: Thorax
    paints: Sequence[Paint]


@dataclass(frozen=True)
class Scan:
    """Images of a scene, (z, y, x): HU (int16), anatomy classes (uint8), node numbers (uint16)."""

    grid: Grid
    ct: np.ndarray
    anatomy: np.ndarray
    instances: np.ndarray


def size_named(name: str) -> Size:
    """Return the size of that name, or raise LnqError listing the names there are."""
    if name not in SIZES:
        raise LnqError(f"no phantom size '{name}'; choose from {', '.join(SIZES)}")
    return SIZES[name]


def draw_grid(
    rng: np.random.Generator, patient: Patient, size: Size, thin_slices: bool = False
) -> Grid:
    """Draw the lattice of a scan: whole lungs, the body surrounded by air."""
    slice_mm = float(rng.choice(size.thin_mm if thin_slices else size.slice_distances_mm))
    half_width, half_depth = body_half_extent(patient, np.linspace(BOTTOM_Z, TOP_Z, 50))
    scale_x, scale_y, scale_z = patient.scale
    room_mm = rng.uniform(20, 50)
    width = 2 * half_width.max() * scale_x + room_mm
    depth = 2 * half_depth.max() * scale_y + room_mm
    rows, columns = size.matrix
    pixel_mm = round(float(max(width / columns, depth / rows)), 4)
    slices = round((TOP_Z - BOTTOM_Z) * scale_z / slice_mm)
    left_x = -pixel_mm * (columns - 1) / 2
    front_y = (BODY_CENTER_Y + 6) * scale_y - pixel_mm * (rows - 1) / 2
    return Grid(
        shape=(slices, rows, columns),
        spacing=(slice_mm, pixel_mm, pixel_mm),
        origin=(-left_x, float(-front_y), float(BOTTOM_Z * scale_z)),
        direction=DIRECTION,
    )


def scan(scene: Scene, grid: Grid, noise_seed: Sequence[int]) -> Scan:
    """Take the images of a scene; slabs do not show in the result.

    Parameters
    ----------
    scene : Scene
        What is scanned.
    grid : Grid
        Where the voxels lie; its axes run as DIRECTION.
    noise_seed : sequence of int
        Seed of the noise; each slice has its own generator.
    """
    lattice = _lattice(grid, scene.patient)
    images = Scan(grid, *(np.empty(grid.shape, kind) for kind in (np.int16, np.uint8, np.uint16)))
    for start, stop in _slabs(grid.shape):
        first, last = max(start - 1, 0), min(stop + 1, grid.shape[0])  # the blur needs neighbors
        canvas = _paint(scene, lattice, slice(first, last), grid)
        _add_noise(canvas, scene.patient, grid, noise_seed, first)
        ct = _blur(canvas.ct, scene.patient, grid)
        inner = slice(start - first, stop - first)
        images.ct[start:stop] = np.clip(np.rint(ct[inner]), *HU_RANGE)
        images.anatomy[start:stop] = canvas.anatomy[inner]
        images.instances[start:stop] = canvas.nodes[inner]
    return images


def _lattice(grid: Grid, patient: Patient) -> Lattice:
    """Voxel positions in the coordinates of the average patient."""
    scale_x, scale_y, scale_z = patient.scale
    right, front, low = grid.origin
    starts = low / scale_z, -front / scale_y, -right / scale_x
    scales = scale_z, scale_y, scale_x
    steps = (mm / scale for mm, scale in zip(grid.spacing, scales, strict=True))
    axes = zip(starts, steps, grid.shape, strict=True)
    return Lattice(*((start + step * np.arange(n)).astype(np.float32) for start, step, n in axes))


def _slabs(shape: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    """First and past-the-last slice of each slab."""
    step = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _paint(scene: Scene, lattice: Lattice, slices: slice, grid: Grid) -> Canvas:
    """Paint the scene onto some slices."""
    slab = Lattice(lattice.z[slices], lattice.y, lattice.x)
    edge_mm = 1.1 * grid.spacing[2] / float(scene.patient.scale[:2].min())
    canvas = Canvas.empty(slab, edge_mm)
    scene.thorax.fill(canvas)
    for paint in scene.paints:
        canvas.paint(paint)
    return canvas


def _add_noise(canvas: Canvas, patient: Patient, grid: Grid, seed, first_slice: int) -> None:
    """Add white noise that has the patient's standard deviation once it is blurred."""
    gain = np.prod([np.sqrt((kernel**2).sum()) for kernel in _kernels(patient, grid)])
    shoulders = 1 + 0.6 * np.clip((canvas.lattice.z - 55) / 40, 0, 1)  # fewer photons get through
    for k, ct in enumerate(canvas.ct):
        rng = np.random.default_rng([*seed, first_slice + k])
        deviation = np.float32(patient.noise_hu / gain * shoulders[k])
        ct += deviation * rng.standard_normal(ct.shape, dtype=np.float32)


def _blur(ct: np.ndarray, patient: Patient, grid: Grid) -> np.ndarray:
    """Blur along z, y, x as reconstruction does."""
    for axis, kernel in enumerate(_kernels(patient, grid)):
        ct = correlate1d(ct, kernel, axis, mode="nearest")
    return ct


def _kernels(patient: Patient, grid: Grid) -> list[np.ndarray]:
    """Kernels of the blur along z, y, x."""
    in_plane = max(0.45, 0.9 * patient.blur_mm / grid.spacing[2])
    return [_gaussian(SLICE_BLUR, 1), _gaussian(in_plane, 2), _gaussian(in_plane, 2)]


def _gaussian(sigma: float, radius: int) -> np.ndarray:
    """Gaussian kernel of unit sum, 2 radius + 1 samples."""
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)
