"""Run lengths: slices of masks as short text that a script in the page unfolds."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt


def encode_runs(numbers: npt.NDArray) -> bytes:
    """Write an image as runs of equal numbers.

    Parameters
    ----------
    numbers : ndarray of unsigned int
        Taken in C order; below 2**32.

    Returns
    -------
    bytes
        For each run its number and its length as LEB128: seven bits a byte, the lowest first, the
        eighth bit set where another byte follows. A run of 0 at the end is left out, so an empty
        image is no byte.
    """
    flat = numbers.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1]))
    starts = np.concatenate([[0], starts]) if flat.size else starts
    values = flat[starts].astype(np.uint64)
    lengths = np.diff(starts, append=flat.size).astype(np.uint64)
    if values.size and values[-1] == 0:
        values, lengths = values[:-1], lengths[:-1]
    return _leb128(np.stack([values, lengths], axis=1).reshape(-1))


def _leb128(numbers: npt.NDArray[np.uint64]) -> bytes:
    """Write numbers below 2**35 in as few bytes as each takes."""
    shifts = np.arange(0, 35, 7, dtype=np.uint64)
    groups = (numbers[:, np.newaxis] >> shifts) & np.uint64(0x7F)
    more = (numbers[:, np.newaxis] >> (shifts + np.uint64(7))) != 0
    used = np.ones_like(more)
    used[:, 1:] = more[:, :-1]
    return (groups | (more.astype(np.uint64) << np.uint64(7)))[used].astype(np.uint8).tobytes()


def encode_slices(numbers: npt.NDArray) -> list[str]:
    """Write each slice of a (z, y, x) array by `encode_runs`, as base64."""
    return [base64.b64encode(encode_runs(plane)).decode() for plane in numbers]
