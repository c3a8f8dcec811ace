"""lnq-train: images and training labels → an nnU-Net model folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnqtools.cli._batch import case_name, files_by_case
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    FORCE_OPTION,
    SKIP_OPTION,
    VOICE_OPTIONS,
    XYZ,
    FiniteRange,
    command,
    read_paths,
)
from lnqtools.cli._tool import clear_progress, emit, say, show_progress

if TYPE_CHECKING:
    from lnqtools.nnunet.dataset import TrainingCase

TOOL = "lnq-train"


@command(TOOL)
@click.option("--images", type=click.Path(), metavar="DIR", help="CTs, one file a case.")
@click.option(
    "--labels",
    type=click.Path(),
    metavar="DIR",
    help="Their training labels (0 background, 1 lymph node, 2 unknown), by the same names.",
)
@click.option(
    "-T",
    "--files-from",
    type=click.Path(),
    metavar="FILE",
    help="Instead: read pairs from FILE ('-': standard input), an image and its label in turn, "
    "a path a line.",
)
@click.option("-0", "--null", is_flag=True, help="Paths read and printed end with NUL.")
@click.option("-m", "--model", type=click.Path(), metavar="DIR", required=True, help="The model.")
@click.option(
    "--recipe",
    type=click.Choice(["paper", "challenge", "smoke"]),
    default="paper",
    help="paper: nnU-Net's defaults; challenge: the submission to LNQ2023; smoke: a small "
    "network for a CPU, to try things out.",
)
@click.option(
    "--fold",
    type=click.Choice(["0", "1", "2", "3", "4", "all"]),
    help="Part of the cases to validate on; all: train and validate on every case.",
)
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Epochs to train.")
@click.option("--iterations", type=click.IntRange(min=1), metavar="N", help="Batches in an epoch.")
@click.option(
    "--lr",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="Learning rate at the start.",
)
@click.option(
    "--spacing",
    type=XYZ(minimum=1e-3),
    help="Voxel size in mm that the network works at (one number, or x,y,z).",
)
@click.option("--patch", type=XYZ(int, minimum=8), help="Patch size in voxels.")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Patches in a batch.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Of the first weights, the patches and the augmentation.",
)
@DEVICE_OPTION
@THREADS_OPTION
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that prepare patches.  [default: 0 on a CPU, up to 8 for a GPU]",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint; there must be one.")
@click.option("--keep-preprocessed", is_flag=True, help="Keep what was made for training alone.")
@FORCE_OPTION
@SKIP_OPTION
@VOICE_OPTIONS[0]
@VOICE_OPTIONS[1]
def main(
    images: str | None,
    labels: str | None,
    files_from: str | None,
    null: bool,
    model: str,
    recipe: str,
    fold: str | None,
    epochs: int | None,
    iterations: int | None,
    lr: float | None,
    spacing: tuple[float, float, float] | None,
    patch: tuple[int, int, int] | None,
    batch: int | None,
    seed: int,
    device: str,
    threads: int | None,
    workers: int | None,
    resume: bool,
    keep_preprocessed: bool,
    force: bool,
    skip: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train an nnU-Net model.

    What the recipe says can be changed by --fold to --batch. The model folder is one that any
    nnU-Net v2 runs. With -s, the same command again goes on where it was interrupted, and does
    nothing when the model is there.
    """
    if force + skip + resume > 1:
        raise click.UsageError("-f, -s and --resume exclude each other")

    from lnqtools.nnunet.dataset import InvalidCasesError
    from lnqtools.nnunet.recipes import find_recipe
    from lnqtools.nnunet.train import train

    changes = {
        "fold": fold,
        "epochs": epochs,
        "iterations": iterations,
        "learning_rate": lr,
        "spacing_mm": spacing,
        "patch": patch,
        "batch": batch,
    }
    effective = find_recipe(recipe).with_changes(changes)
    try:
        train(
            find_cases(images, labels, files_from, null),
            Path(model),
            effective,
            existing="replace" if force else "keep" if skip else "resume" if resume else "refuse",
            seed=seed,
            device=device,
            threads=threads,
            workers=workers,
            keep_preprocessed=keep_preprocessed,
            command=[TOOL, *sys.argv[1:]],
            progress=None if quiet else _show_epoch,
            status=_ignore if quiet else _show_step,
            notify=_ignore if quiet else _notify,
            chatter=sys.stderr if verbose else None,
        )
    except InvalidCasesError as error:
        for path, message in error.problems:
            say(TOOL, message, path)
        raise click.exceptions.Exit(1) from None
    clear_progress()
    emit(model, b"\0" if null else b"\n")


def find_cases(
    images: str | None, labels: str | None, files_from: str | None, null: bool
) -> list[TrainingCase]:
    """Return the cases that two folders or a list of pairs name.

    Raises
    ------
    click.UsageError
        For neither, both, an odd number of listed paths, or a folder without images.
    InvalidCasesError
        With every image that lacks its label and every label that lacks its image.
    """
    if files_from is not None:
        if images or labels:
            raise click.UsageError("-T lists images and labels: --images and --labels do not fit")
        return _listed_cases(read_paths(files_from, null))
    if not (images and labels):
        raise click.UsageError("name the cases: --images DIR --labels DIR, or -T FILE")
    return _cases_in_folders(images, labels)


def _listed_cases(paths: list[str]) -> list[TrainingCase]:
    from lnqtools.nnunet.dataset import TrainingCase

    if not paths:
        raise click.UsageError("no input: the list is empty")
    if len(paths) % 2:
        raise click.UsageError("-T lists an image and its label in turn: a path is missing")
    return [
        TrainingCase(case_name(image), Path(image), Path(label))
        for image, label in zip(paths[::2], paths[1::2], strict=True)
    ]


def _cases_in_folders(images: str, labels: str) -> list[TrainingCase]:
    from lnqtools.nnunet.dataset import InvalidCasesError, TrainingCase

    found, wanted = _images_in(images, "--images"), _images_in(labels, "--labels")
    problems = [
        (path, f"{option} {folder} has {len(paths)} files named {name}")
        for option, folder, files in (("--images", images, found), ("--labels", labels, wanted))
        for name, paths in files.items()
        for path in paths[1:]
    ]
    problems += [
        (found[name][0], f"has no companion named {name} in --labels {labels}")
        for name in found.keys() - wanted.keys()
    ]
    problems += [
        (wanted[name][0], f"has no companion named {name} in --images {images}")
        for name in wanted.keys() - found.keys()
    ]
    if problems:
        raise InvalidCasesError(sorted(problems))
    return [TrainingCase(name, found[name][0], wanted[name][0]) for name in sorted(found)]


def _images_in(folder: str, option: str) -> dict[str, list[Path]]:
    if not Path(folder).is_dir():
        raise click.UsageError(f"{option} {folder}: no such directory")
    files = files_by_case(folder)
    if not files:
        raise click.UsageError(f"no input: {option} {folder} holds no images")
    return files


def _ignore(*what: object) -> None:
    """Show nothing."""


def _notify(message: str) -> None:
    say(TOOL, message)


def _show_step(step: str, done: int, total: int) -> None:
    show_progress(f"{TOOL}: {step}: {done} of {total}")


def _show_epoch(epoch: int, epochs: int, loss: float, dice: float, seconds_left: float) -> None:
    minutes = round(seconds_left / 60)
    left = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
    show_progress(
        f"{TOOL}: epoch {epoch} of {epochs}, loss {loss:.3f}, "
        f"pseudo-Dice of annotated voxels {dice:.3f}, {left} left"
    )
