"""The training curve: a table and a picture of loss and pseudo-Dice by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lnqtools.atomic import atomic_output

COLUMNS = {
    "learning_rate": "lrs",
    "training_loss": "train_losses",
    "validation_loss": "val_losses",
    "pseudo_dice_annotated": "mean_fg_dice",
    "pseudo_dice_annotated_smoothed": "ema_fg_dice",
}
"""Our column: nnU-Net's name for it."""


def write_curve_table(history: Mapping[str, Sequence], path: Path) -> None:
    """Write a TSV with a row an epoch.

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
    """Draw losses (left axis) and pseudo-Dice (right axis) over the epochs as a PNG."""
    from matplotlib.figure import Figure

    count = _finished_epochs(history)
    epochs = range(1, count + 1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    loss_axes = figure.subplots()
    dice_axes = loss_axes.twinx()
    loss_axes.plot(epochs, history["train_losses"][:count], "C0", label="training loss")
    loss_axes.plot(epochs, history["val_losses"][:count], "C1", label="validation loss")
    dice_axes.plot(epochs, history["mean_fg_dice"][:count], "C2:", label="pseudo-Dice")
    dice_axes.plot(epochs, history["ema_fg_dice"][:count], "C2", label="pseudo-Dice, smoothed")
    loss_axes.set(xlabel="epoch", ylabel="loss (cross-entropy − Dice)")
    dice_axes.set(ylabel="Dice of annotated voxels", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    with atomic_output(path) as file:
        figure.savefig(file, format="png", dpi=120)


def epoch_seconds(history: Mapping[str, Sequence], epoch: int) -> float:
    """Return how long an epoch (0-based) took."""
    return history["epoch_end_timestamps"][epoch] - history["epoch_start_timestamps"][epoch]


def _finished_epochs(history: Mapping[str, Sequence]) -> int:
    return min(len(values) for values in history.values())
