"""The training curve: a table and a picture of loss and pseudo-Dice by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lnqtools.files.atomic import atomic_output

COLUMNS = {
    "learning_rate": "lrs",
    "training_loss": "train_losses",
    "validation_loss": "val_losses",
    "pseudo_dice_annotated": "mean_fg_dice",
    "pseudo_dice_annotated_smoothed": "ema_fg_dice",
}
"""Our column: nnU-Net's name for it."""


def write_curve_table(history: Mapping[str, Sequence], path: Path) -> None:
    """Write a TSV with one row per epoch.

    Parameters
    ----------
    history : mapping
        nnU-Net's logging lists. Pseudo-Dice is the Dice of all validation patches of an epoch
        taken together, over annotated voxels only; smoothed is its moving average
        (0.9 × before + 0.1 × now).
    path : Path
    """
    rows = ["\t".join(["epoch", *COLUMNS, "seconds"])]
    for epoch in range(_finished_epochs(history)):
        values = [f"{history[key][epoch]:.6g}" for key in COLUMNS.values()]
        rows.append("\t".join([str(epoch + 1), *values, f"{epoch_seconds(history, epoch):.1f}"]))
    with atomic_output(path) as file:
        file.write(("\n".join(rows) + "\n").encode())


def draw_curve(history: Mapping[str, Sequence], path: Path) -> None:
    """Draw losses and pseudo-Dice over the epochs as a PNG, as ``lnq-plot training`` does."""
    from lnqtools.figures.charts import training
    from lnqtools.figures.style import picture_bytes

    count = _finished_epochs(history)
    shown = {column: np.array(history[key][:count]) for column, key in COLUMNS.items()}
    figure = training({"epoch": np.arange(1.0, count + 1), **shown})
    with atomic_output(path) as file:
        file.write(picture_bytes(figure, "png"))


def epoch_seconds(history: Mapping[str, Sequence], epoch: int) -> float:
    """Return how long an epoch (0-based) took."""
    return history["epoch_end_timestamps"][epoch] - history["epoch_start_timestamps"][epoch]


def _finished_epochs(history: Mapping[str, Sequence]) -> int:
    return min(len(values) for values in history.values())
