"""How the weights follow their gradients: the optimizer, and the learning rate of each batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

POLY_EXPONENT = 0.9
"""nnU-Net's."""


def make_optimizer(
    name: str,
    weights: Iterable[torch.nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    momentum: float,
) -> torch.optim.Optimizer:
    """Return the optimizer of that name: ``sgd`` with Nesterov's momentum, ``adamw`` or ``adam``.

    The momentum is of ``sgd`` alone; the others have torch's own betas.
    """
    import torch

    if name == "sgd":
        return torch.optim.SGD(
            weights, learning_rate, momentum, weight_decay=weight_decay, nesterov=momentum > 0
        )
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    return kind(weights, learning_rate, weight_decay=weight_decay)


def falling_share(schedule: str, epoch: int, epochs: int) -> float:
    """Return what is left of the first learning rate in an epoch, counted from 0.

    Parameters
    ----------
    schedule : {"poly", "cosine"}
        As (1 − t)^0.9, nnU-Net's, or as ½ (1 + cos πt), with t = epoch / epochs.
    epoch, epochs : int
    """
    passed = epoch / epochs
    return {
        "poly": (1 - passed) ** POLY_EXPONENT,
        "cosine": (1 + math.cos(math.pi * passed)) / 2,
    }[schedule]


def rising_share(batch: int, warmup: int) -> float:
    """Return the factor of the learning rate in a batch, counted from 0 at the training's start.

    It rises evenly over the first ``warmup`` batches and is 1 from the last of them on.
    """
    return min(1.0, (batch + 1) / warmup) if warmup else 1.0


class LearningRate:
    """Sets the learning rate of an optimizer: it falls by the epoch, and first rises by the batch.

    It depends on the epoch and on the batch in it alone, so that a training that is resumed at the
    start of an epoch goes on as one that was not interrupted.

    Parameters
    ----------
    optimizer : Optimizer
    first : float
        The learning rate of the first epoch, after the warm-up.
    schedule : {"poly", "cosine"}
        See `falling_share`.
    epochs, iterations : int
        Epochs, and batches in each.
    warmup : int
        See `rising_share`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        first: float,
        schedule: str,
        epochs: int,
        iterations: int,
        warmup: int = 0,
    ):
        self._optimizer = optimizer
        self._first = first
        self._schedule = schedule
        self._epochs, self._iterations, self._warmup = epochs, iterations, warmup
        self._epoch = self._done = 0

    def step(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self._epoch, self._done = epoch, 0
        self._set()

    def next_batch(self) -> None:
        """Set the learning rate of the epoch's next batch."""
        self._set()
        self._done += 1

    def _set(self) -> None:
        falling = falling_share(self._schedule, self._epoch, self._epochs)
        rising = rising_share(self._epoch * self._iterations + self._done, self._warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = self._first * falling * rising
