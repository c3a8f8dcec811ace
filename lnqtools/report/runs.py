"""Run lengths: slices of masks as short text that a script in the page unfolds."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt


def encode_runs(numbers: npt.NDArray, count: int) -> bytes:
    """Write an image as runs of equal numbers.

    Parameters
    ----------
    numbers : ndarray of unsigned int
        Taken in C order; each below ``count``.
    count : int
        How many numbers there are: the fewer, the shorter.

    Returns
    -------
    bytes
        For each run ``length * count + number`` as LEB128: seven bits per byte, the lowest first,
        the eighth bit set where another byte follows. A run of 0 at the end is left out, so an
        empty image takes no bytes.
    """
    flat = numbers.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1]))
    starts = np.concatenate([[0], starts]) if flat.size else starts
    values = flat[starts].astype(np.uint64)
    lengths = np.diff(starts, append=flat.size).astype(np.uint64)
    if values.size and values[-1] == 0:
        values, lengths = values[:-1], lengths[:-1]
    return _leb128(lengths * np.uint64(count) + values)


def _leb128(numbers: npt.NDArray[np.uint64]) -> bytes:
    """Write numbers below 2**49 in as few bytes as each takes."""
    shifts = np.arange(0, 49, 7, dtype=np.uint64)
    groups = (numbers[:, np.newaxis] >> shifts) & np.uint64(0x7F)
    more = (numbers[:, np.newaxis] >> (shifts + np.uint64(7))) != 0
    used = np.ones_like(more)
    used[:, 1:] = more[:, :-1]
    return (groups | (more.astype(np.uint64) << np.uint64(7)))[used].astype(np.uint8).tobytes()


def encode_slices(numbers: npt.NDArray, count: int) -> list[str]:
    """Write each slice of a (z, y, x) array by `encode_runs`, as base64."""
    return [base64.b64encode(encode_runs(plane, count)).decode() for plane in numbers]
