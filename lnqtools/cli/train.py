"""lnq-train: images and training labels → an nnU-Net model folder."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lnqtools.cli._contract import (
    ASSUME_ORIENTATION_OPTION,
    CASE_PATTERN_OPTION,
    FORCE_OPTION,
    SKIP_OPTION,
    VOICE_OPTIONS,
    read_paths,
)
from lnqtools.cli._forecast import Forecast, Teller, clock_time
from lnqtools.cli._names import files_by_case, is_one_file, name_of
from lnqtools.cli._nnunet import DEVICE_OPTION, PRECISION_OPTION
from lnqtools.cli._options import TRUST_HU_OPTION
from lnqtools.cli._rules import option
from lnqtools.cli._tool import (
    after_ctrl_c,
    again_with,
    clear_progress,
    command,
    emit,
    say,
)
from lnqtools.cli._values import PATH, XYZ, FiniteRange
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.nnunet.dataset import TrainingCase
    from lnqtools.nnunet.folds import Folds
    from lnqtools.nnunet.recipes import Recipe
    from lnqtools.nnunet.settings import Listeners

TOOL = "lnq-train"


@command(TOOL, example="lnq-train --images cropped --labels labels -m model")
@click.option("--images", type=PATH, metavar="DIR", help="CTs, one file per case.")
@click.option(
    "--labels",
    type=PATH,
    metavar="DIR",
    help="Their training labels (0 background, 1 lymph node, 2 unknown), by the same names.",
)
@option(
    "-T",
    "--files-from",
    type=PATH,
    metavar="FILE",
    not_with=("--images", "--labels", "--cohort"),
    help="Instead: read pairs from FILE ('-': standard input), an image and its label in turn, "
    "one path per line.",
)
@option(
    "--cohort",
    "cohorts",
    multiple=True,
    metavar="NAME:IMAGES:LABELS[:WEIGHT]",
    not_with=("--images", "--labels"),
    help="Instead: cases of one kind, of two directories, drawn WEIGHT times as often as others; "
    "may be given several times.",
)
@CASE_PATTERN_OPTION
@click.option("-0", "--null", is_flag=True, help="Paths read and printed end with NUL.")
@ASSUME_ORIENTATION_OPTION
@click.option("-m", "--model", type=PATH, metavar="DIR", help="The model; not for --show-recipe.")
@click.option(
    "--recipe",
    default="paper",
    metavar="NAME|FILE",
    help="paper, challenge, challenge-stock, resenc, laptop, smoke, or a file of this form; "
    "paper: nnU-Net's defaults, smoke: a small network for a CPU, to try things out.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe; may be given several times.",
)
@click.option(
    "--show-recipe", is_flag=True, help="Print the recipe, with what was changed, and exit."
)
@click.option(
    "--fold",
    metavar="N|all",
    help="Part of the cases to validate on, from 0; all: train and validate on every case.",
)
@click.option(
    "--folds",
    "fold_count",
    type=click.IntRange(min=2),
    metavar="N",
    help="Number of parts.  [default: 5, or those of --splits]",
)
@click.option(
    "--group-regex",
    metavar="REGEX",
    help="Finds the patient in a case's name (the first group, or all of the match); the cases "
    "of a patient are in one part.",
)
@click.option(
    "--splits",
    type=PATH,
    metavar="FILE",
    help="A model's splits_final.json: its cases keep their parts, others are added.",
)
@click.option(
    "--validate",
    is_flag=True,
    help="At the end predict the part to validate on, and measure on annotated voxels.",
)
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Epochs to train.")
@click.option("--iterations", type=click.IntRange(min=1), metavar="N", help="Batches in an epoch.")
@click.option(
    "--lr",
    "learning_rate",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="Learning rate at the start.",
)
@click.option(
    "--spacing",
    "spacing_mm",
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
    help="Seed of the first weights, the patches and the augmentation.",
)
@click.option(
    "--init",
    type=PATH,
    metavar="MODEL|CHECKPOINT|NAME",
    help="Start from the weights of a model, of a file, or of a model that lnq-model fetched, as "
    "far as they fit.",
)
@DEVICE_OPTION
@PRECISION_OPTION
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="GPUs that share each batch, by nnU-Net's distributed training.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads of torch.  [default: what a few steps are fastest with]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that prepare patches.  [default: 0 on a CPU, for a GPU the cores less one, "
    "up to 16]",
)
@option(
    "--resume",
    is_flag=True,
    not_with=("-f", "-s"),
    help="Go on from the last checkpoint; there must be one.",
)
@TRUST_HU_OPTION
@click.option(
    "--allow-no-background",
    is_flag=True,
    help="Train on labels without a background voxel, too, which teach lymph node everywhere.",
)
@click.option("--keep-preprocessed", is_flag=True, help="Keep what was made for training alone.")
@FORCE_OPTION
@SKIP_OPTION
@VOICE_OPTIONS[0]
@VOICE_OPTIONS[1]
def main(
    images: str | None,
    labels: str | None,
    files_from: str | None,
    cohorts: tuple[str, ...],
    case_pattern: re.Pattern[str] | None,
    null: bool,
    assume_orientation: str | None,
    model: str | None,
    recipe: str,
    settings: tuple[str, ...],
    show_recipe: bool,
    fold_count: int | None,
    group_regex: str | None,
    splits: str | None,
    validate: bool,
    seed: int,
    init: str | None,
    device: str,
    precision: str,
    gpus: int,
    threads: int | None,
    workers: int | None,
    resume: bool,
    trust_hu: bool,
    allow_no_background: bool,
    keep_preprocessed: bool,
    force: bool,
    skip: bool,
    quiet: bool,
    verbose: bool,
    **changes: Any,
) -> None:
    """Train an nnU-Net model.

    What the recipe says can be changed by --set, and by --epochs to --batch. The model folder is
    one that any nnU-Net v2 runs. With -s, the same command again goes on where it was
    interrupted, and does nothing when the model is there.
    """
    effective = _effective_recipe(recipe, settings, changes)
    if show_recipe:
        for line in effective.as_toml().splitlines():
            emit(line)
        return
    if model is None:
        raise click.UsageError("name the model's folder: -m DIR")

    from lnqtools.models.store import resolve
    from lnqtools.nnunet.settings import RunSettings, TrainingData
    from lnqtools.nnunet.train import train

    run = RunSettings(
        existing="replace" if force else "keep" if skip else "resume" if resume else "refuse",
        validate=validate,
        seed=seed,
        init=None if init is None else Path(resolve(init)),
        device=device,
        precision=precision,
        gpus=gpus,
        threads=threads,
        workers=workers,
        keep_preprocessed=keep_preprocessed,
        command=[TOOL, *sys.argv[1:]],
    )
    folds = _folds(fold_count, group_regex, splits)
    weights = {cohort.name: cohort.weight for cohort in map(_parse_cohort, cohorts)}
    way_on = partial(_way_on, Path(model), effective.fold, force)
    with _each_case_named(), after_ctrl_c(TOOL, way_on, quiet):
        cases = [
            replace(case, assume_orientation=assume_orientation)
            for case in find_cases(images, labels, files_from, null, cohorts, case_pattern)
        ]
        data = TrainingData(cases, weights, folds, trust_hu, allow_no_background)
        train(data, model, effective, run, _listeners(quiet, verbose))
    clear_progress()
    emit(model, b"\0" if null else b"\n")


@contextmanager
def _each_case_named() -> Iterator[None]:
    """Say what is wrong with each case that cannot be used, and end."""
    from lnqtools.nnunet.dataset import InvalidCasesError

    try:
        yield
    except InvalidCasesError as error:
        for path, message in error.problems:
            say(TOOL, message, path)
        raise click.exceptions.Exit(1) from None


def _way_on(model: Path, fold: str, force: bool) -> str | None:
    """Say after Ctrl-C how the training goes on."""
    from lnqtools.nnunet.model_state import left_to_go_on_from

    left = left_to_go_on_from(model, fold, anew=force)
    return left and f"{again_with(force)} goes on from {left}"


def _listeners(quiet: bool, verbose: bool) -> Listeners:
    """Return what shows a training's progress; nothing but nnU-Net's chatter if quiet."""
    from lnqtools.nnunet.settings import Listeners

    chatter = sys.stderr if verbose else None
    if quiet:
        return Listeners(chatter=chatter)
    watch = Watch()
    return Listeners(watch.epoch, watch.step, partial(say, TOOL), chatter, watch.batch)


def _effective_recipe(name: str, settings: tuple[str, ...], changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with all changes; what is wrong with it is wrong usage."""
    from lnqtools.nnunet.recipes import find_recipe

    try:
        return find_recipe(name).with_settings(settings, changes)
    except LnqError as error:
        raise click.UsageError(str(error)) from None


def _folds(count: int | None, group_regex: str | None, splits: str | None) -> Folds:
    """Return how the cases are to be split."""
    from lnqtools.files.json_files import read_json
    from lnqtools.nnunet.folds import FOLD_COUNT, Folds, checked_splits, patients

    try:
        patients([], group_regex)
    except LnqError as error:
        raise click.UsageError(str(error)) from None
    if splits is None:
        return Folds(count or FOLD_COUNT, group_regex)
    try:
        kept = checked_splits(read_json(Path(splits)))
    except OSError as error:
        raise click.UsageError(f"--splits {splits}: {error.strerror or error}") from None
    except (ValueError, LnqError) as error:
        raise click.UsageError(f"--splits {splits}: {error}") from None
    return Folds(count or len(kept), group_regex, kept)


class Cohort(NamedTuple):
    """What --cohort names."""

    name: str
    images: str
    labels: str
    weight: float


def _parse_cohort(text: str) -> Cohort:
    """Return the parts of NAME:IMAGES:LABELS[:WEIGHT]; folders cannot have a colon."""
    parts = text.split(":")
    if len(parts) not in (3, 4) or not all(parts):
        raise click.UsageError(f"--cohort {text}: it is NAME:IMAGES:LABELS or …:WEIGHT")
    weight = 1.0
    if len(parts) == 4:
        try:
            weight = float(parts[3])
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise click.UsageError(f"--cohort {text}: a weight is a number above 0")
    return Cohort(parts[0], parts[1], parts[2], weight)


def find_cases(
    images: str | None,
    labels: str | None,
    files_from: str | None,
    null: bool,
    cohorts: tuple[str, ...] = (),
    pattern: re.Pattern[str] | None = None,
) -> list[TrainingCase]:
    """Return the cases that two folders, a list of pairs, or cohorts name.

    A pattern finds their names in paths, see `case_name`.

    Raises
    ------
    click.UsageError
        If none of them is given, an odd number of paths is listed, two cohorts have one name, or
        a folder has no images.
    InvalidCasesError
        If an image lacks its label or a label its image; it names them all.
    """
    if files_from is not None:
        return _listed_cases(read_paths(files_from, null), pattern)
    if cohorts:
        return _cases_of_cohorts([_parse_cohort(cohort) for cohort in cohorts], pattern)
    if not (images and labels):
        raise click.UsageError(
            "name the cases: --images DIR --labels DIR, --cohort NAME:DIR:DIR, or -T FILE"
        )
    return _cases_in_folders(images, labels, pattern)


def _cases_of_cohorts(cohorts: list[Cohort], pattern: re.Pattern[str] | None) -> list[TrainingCase]:
    from lnqtools.nnunet.dataset import InvalidCasesError

    names = [cohort.name for cohort in cohorts]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"two cohorts are called {name}")
    cases: list[TrainingCase] = []
    problems: list[tuple[Path, str]] = []
    for cohort in cohorts:
        try:
            where = f"--cohort {cohort.name}: "
            found = _cases_in_folders(cohort.images, cohort.labels, pattern, where)
            cases += [replace(case, cohort=cohort.name) for case in found]
        except InvalidCasesError as error:
            problems += error.problems
    if problems:
        raise InvalidCasesError(problems)
    return cases


def _listed_cases(paths: list[str], pattern: re.Pattern[str] | None) -> list[TrainingCase]:
    from lnqtools.nnunet.dataset import TrainingCase

    if not paths:
        raise click.UsageError("no input: the list is empty")
    if len(paths) % 2:
        raise click.UsageError("-T lists an image and its label in turn: a path is missing")
    cases = [
        TrainingCase(name_of(image, pattern), Path(image), Path(label))
        for image, label in zip(paths[::2], paths[1::2], strict=True)
    ]
    return _with_labels_apart(cases)


def _with_labels_apart(cases: list[TrainingCase]) -> list[TrainingCase]:
    """Return the cases; raise if one is labeled by its own image."""
    from lnqtools.nnunet.dataset import InvalidCasesError

    if own := [case.image for case in cases if is_one_file(case.image, case.label)]:
        raise InvalidCasesError([(image, "its label is the image itself") for image in own])
    return cases


def _cases_in_folders(
    images: str, labels: str, pattern: re.Pattern[str] | None = None, cohort: str = ""
) -> list[TrainingCase]:
    from lnqtools.nnunet.dataset import InvalidCasesError, TrainingCase

    where_images, where_labels = (
        (f"{cohort}{images}", f"{cohort}{labels}")
        if cohort
        else (f"--images {images}", f"--labels {labels}")
    )
    found = _images_in(images, where_images, pattern)
    wanted = _images_in(labels, where_labels, pattern)
    problems = [
        (path, f"{where} has {len(paths)} files named {name}")
        for where, files in ((where_images, found), (where_labels, wanted))
        for name, paths in files.items()
        for path in paths[1:]
    ]
    problems += [
        (found[name][0], f"has no companion named {name} in {where_labels}")
        for name in found.keys() - wanted.keys()
    ]
    problems += [
        (wanted[name][0], f"has no companion named {name} in {where_images}")
        for name in wanted.keys() - found.keys()
    ]
    if problems:
        raise InvalidCasesError(sorted(problems))
    return _with_labels_apart(
        [TrainingCase(name, found[name][0], wanted[name][0]) for name in sorted(found)]
    )


def _images_in(folder: str, where: str, pattern: re.Pattern[str] | None) -> dict[str, list[Path]]:
    if not Path(folder).is_dir():
        raise click.UsageError(f"{where}: no such directory")
    files = files_by_case(folder, pattern)
    if not files:
        raise click.UsageError(f"no input: {where} holds no images")
    return files


class Watch:
    """Tells how a training goes: of each epoch, and within one on a terminal.

    Elsewhere the batches of the first epoch are told of, too, of which the time left is known.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._teller = Teller(TOOL, at_once=True, clock=clock)
        self._forecast = Forecast(clock)
        self._first: int | None = None

    def step(self, step: str, done: int, total: int) -> None:
        """Show how far a step before or after the training is."""
        if self._teller.replaces:
            self._teller.tell(f"{step}: {done} of {total}")

    def batch(self, epoch: int, epochs: int, batch: int, batches: int) -> None:
        """Tell of a batch; the first is not timed, and nothing is known after it."""
        if self._first is None:
            self._first = epoch
            self._forecast.begin((epochs - epoch + 1) * batches)
        self._forecast.advance(1)
        if self._forecast.left and (epoch == self._first or self._teller.replaces):
            whole = f"epoch {epoch} of {epochs}, batch {batch} of {batches}"
            self._teller.tell(f"{whole}{self._forecast.left}")

    def epoch(self, epoch: int, epochs: int, loss: float, dice: float, seconds_left: float) -> None:
        """Tell of an epoch."""
        self._teller.tell(
            f"epoch {epoch} of {epochs}, loss {loss:.3f}, pseudo-Dice of annotated voxels "
            f"{dice:.3f}, {clock_time(seconds_left)} left",
            lasting=True,
        )
