"""What fits into memory, and who keeps what is freed."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lnqtools.errors import LnqError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Numbers of the parameters in glibc's malloc.h."""

_GLIBC_MMAP_MAX, _GLIBC_TRIM_THRESHOLD = 65536, 128 << 10
"""What glibc starts with (mallopt(3))."""

_KEPT_BYTES = 2000 << 20
"""Free memory at the heap's end that is kept: 256 MB are too few for a large network's layers."""


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


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep what is freed within the block; at its end the system gets it back.

    As it comes, glibc asks the system for each large array anew, zeroed page by page, and gives
    it back when it is freed: a third of the time of a network on a CPU, whose layers need the
    same arrays again and again. With any other C library nothing changes.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_MAX, _GLIBC_MMAP_MAX)
        libc.mallopt(_M_TRIM_THRESHOLD, _GLIBC_TRIM_THRESHOLD)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process if it is glibc."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
