"""Whether what a step needs fits into this machine's memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from lnqtools.errors import LnqError


def machine_bytes() -> int:
    """Return the size of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resampled_size(
    size: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]
) -> list[int]:
    """Return the size of an image on a grid of other voxels, to whole ones as nnU-Net rounds."""
    lengths = zip(size, spacing_mm, new_spacing_mm, strict=True)
    return [round(n * before / after) for n, before, after in lengths]


def require_memory(
    size: Sequence[int],
    voxel_bytes: int,
    grid: str = "the network's grid",
    advice: str = "look at its voxel size, or crop it",
) -> None:
    """Raise LnqError for an image that another grid makes larger than this machine's memory.

    So it is with an image whose header is in meters, and found before it fills the memory.

    Parameters
    ----------
    size : sequence of int
        Voxels along each axis of that grid.
    voxel_bytes : int
        What each takes at least.
    grid, advice : str
        What it is called, and what may help.
    """
    needed = math.prod(size) * voxel_bytes
    if needed > machine_bytes():
        raise LnqError(
            f"would measure {' × '.join(map(str, size))} voxels on {grid}, {needed / 1e9:.0f} GB, "
            f"more than this machine's memory: {advice}"
        )
