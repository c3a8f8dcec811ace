"""Which cases a batch's patches come from: weights of cohorts, and a share that is guaranteed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lnqtools.errors import LnqError


class CaseDraw:
    """Draws the cases of a batch.

    The first ``guaranteed`` are drawn among the fully annotated cases, the others among all, in
    both by weight and with replacement; then they are shuffled, because nnU-Net centers the last
    patches of a batch on foreground.

    Parameters
    ----------
    names : sequence of str
    weights : sequence of float
        How often each case is drawn, compared with one of weight 1.
    full : sequence of bool
        Whether each case is fully annotated.
    guaranteed : int
        Patches of a batch that come from a fully annotated case.

    Raises
    ------
    LnqError
        If such patches are wanted and there is no such case.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float],
        full: Sequence[bool],
        guaranteed: int = 0,
    ):
        self.names = np.array(names)
        self.guaranteed = guaranteed
        self.chances = _normalized(np.array(weights, float))
        self.full = np.array(full, bool)
        if guaranteed and not self.full.any():
            raise LnqError("no case to train on is fully annotated, which full_share asks for")

    def __call__(self, batch_size: int) -> np.ndarray:
        """Return the names of the cases of a batch."""
        guaranteed = min(self.guaranteed, batch_size)
        drawn = [np.random.choice(self.names, batch_size - guaranteed, p=self.chances)]  # noqa: NPY002
        if guaranteed:
            chances = _normalized(self.chances[self.full])
            drawn.append(np.random.choice(self.names[self.full], guaranteed, p=chances))  # noqa: NPY002
        return np.random.permutation(np.concatenate(drawn))  # noqa: NPY002  nnU-Net's generator


def _normalized(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def guaranteed_patches(full_share: float, batch_size: int) -> int:
    """Return how many patches of a batch a share is, rounded up."""
    return math.ceil(full_share * batch_size - 1e-9)


def guaranteed_here(full_share: float, sizes: Sequence[int], rank: int) -> int:
    """Return how many guaranteed patches the part of a batch on one of several GPUs has.

    They are spread evenly over the batch, so that all parts together have as many as they must.

    Parameters
    ----------
    full_share : float
    sizes : sequence of int
        Patches on each GPU.
    rank : int
    """
    batch_size = sum(sizes)
    count = guaranteed_patches(full_share, batch_size)
    low = sum(sizes[:rank])
    return (low + sizes[rank]) * count // batch_size - low * count // batch_size
