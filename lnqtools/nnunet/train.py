"""Training a model: from image and label files to an nnU-Net results folder."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output, remove_stale_temporaries
from lnqtools.files.json_files import read_json, write_json
from lnqtools.files.locks import locked, released
from lnqtools.files.tables import table_lines
from lnqtools.nnunet.checkpoint import CHECKPOINTS, FINAL, newest_checkpoint
from lnqtools.nnunet.cohorts import (
    aligned,
    cohort_rows,
    patch_shares,
    short_of_background,
    stored_oddly,
)
from lnqtools.nnunet.dataset import Status, Survey, TrainingCase, no_notice, no_status, survey_cases
from lnqtools.nnunet.environment import (
    chatter_to,
    choose_device,
    compiler_cache,
    environment,
    is_out_of_memory,
    require_nnunet,
    torch_threads,
)
from lnqtools.nnunet.folds import Folds, Splits, make_splits, patients
from lnqtools.nnunet.prepare import (
    CONFIGURATION,
    DATASET,
    PLANS,
    SPLITS,
    cases_with,
    dataset_folder,
    nnunet_folders,
    planned_cases,
    preprocess,
    write_plans,
)
from lnqtools.nnunet.recipe_keys import ALL
from lnqtools.nnunet.recipes import Recipe
from lnqtools.nnunet.record import (
    add_run,
    begin_record,
    difference,
    is_same,
    last_run,
    made_with,
    read_record,
)
from lnqtools.nnunet.sampling import guaranteed_patches
from lnqtools.nnunet.threads import allotted_cores, fastest_threads

if TYPE_CHECKING:
    import torch

    from lnqtools.nnunet.trainer import LNQTrainer, Progress

TRAINER = "LNQTrainer"
LOCK = ".lock"
"""How the names of the files end that keep trainings of a model apart; a killed one leaves its."""
PREPARED = ".preprocessed"
COHORT_TABLE = "cohorts.tsv"

FULL_DISK_BYTES = 32 << 20
"""Less is no room for a case or a checkpoint: a failure to write one is put down to it."""

LEAST_TOLD = 0.005
"""Share of batches without a fully annotated patch that is worth a word: 1 %, rounded."""

NO_BACKGROUND = (
    "no voxel of a case{} is labeled background: the network would learn to call everything lymph "
    "node; give the labels background (lnq-pseudolabel --anatomy, lnq-weaklabel --strategy coat), "
    "or add completely annotated cases; --allow-no-background trains all the same"
)

Existing = Literal["refuse", "replace", "keep", "resume"]
"""What to do about a fold that has been trained or begun.

refuse: an error. replace: train it anew. keep: leave a finished one, go on with a begun one,
start one that is not there. resume: as keep, but there must be a checkpoint to go on from.
"""


@compiler_cache()
def train(
    cases: Sequence[TrainingCase],
    model: Path,
    recipe: Recipe,
    *,
    existing: Existing = "refuse",
    weights: Mapping[str, float] | None = None,
    folds: Folds | None = None,
    validate: bool = False,
    seed: int = 0,
    device: str = "auto",
    gpus: int = 1,
    threads: int | None = None,
    workers: int | None = None,
    trust_hu: bool = False,
    allow_no_background: bool = False,
    keep_preprocessed: bool = False,
    command: Sequence[str] = (),
    progress: Progress | None = None,
    status: Status = no_status,
    notify: Callable[[str], None] = no_notice,
    chatter: TextIO | None = None,
) -> Path:
    """Train one fold of a model.

    Parameters
    ----------
    cases : sequence of TrainingCase
    model : Path
        Folder of the model: nnU-Net's results folder, with ``lnq-train.json`` beside
        ``plans.json`` and ``training.tsv`` and ``training.png`` in each fold.
    recipe : Recipe
    existing : {"refuse", "replace", "keep", "resume"}
    weights : mapping, optional
        Cohort → how often a case of it is drawn, compared with one of weight 1.
    folds : Folds, optional
        How the cases are split; by default as nnU-Net does it.
    validate : bool
        Predict the validation cases of the trained fold, and write how they agree with their
        labels on annotated voxels.
    seed : int
        Of the first weights, patches and augmentation. On one device with the same number of
        threads a CPU training then gives the same weights again.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
    gpus : int
        GPUs that share each batch, by nnU-Net's own distributed training.
    threads : int, optional
        CPU threads of torch. None means those of the fold's last run, or else on a CPU the
        number that a few steps are fastest with, and torch's own choice beside a GPU.
    workers : int, optional
        Processes that augment patches. None means none on a CPU, where they would only compete
        with the network, and up to 8 beside a GPU.
    trust_hu : bool
        Take images whose values do not look like HU.
    allow_no_background : bool
        Train on labels without a background voxel, too.
    keep_preprocessed : bool
        Keep the preprocessed cases when all folds that were begun are finished.
    command : sequence of str
        How the training was called, for the record.
    progress : callable, optional
        Told after each epoch: epoch, epochs, training loss, pseudo-Dice, seconds left.
    status : callable, optional
        Told how far checking and preprocessing have come.
    notify : callable, optional
        Given each sentence that the user should read.
    chatter : text stream, optional
        Where what nnU-Net prints goes.

    Returns
    -------
    Path
        ``model``.

    Raises
    ------
    LnqError
        If cases cannot be used (:class:`~lnqtools.nnunet.dataset.InvalidCasesError` then holds
        every problem), if ``existing`` forbids, or if the recipe or the cases differ from those
        of the model's other folds or checkpoint.
    MissingExtraError
        Without torch and nnunetv2.
    """
    require_nnunet()
    if not cases:
        raise LnqError("there are no cases to train on")
    weights, folds = weights or {}, folds or Folds()
    made = made_with(cases, recipe, seed, weights, folds)
    fold = model / f"fold_{recipe.fold}"
    if validate and recipe.fold == ALL:
        raise LnqError("fold all has no validation cases: train single folds to validate them")
    if _is_done(model, fold, made, existing):
        notify(f"{fold} is trained already: nothing to do")
        _tidy_up(model, keep_preprocessed)
        start = _Start(recipe, choose_device(device), gpus, threads, 0, tuple(command))
    else:
        _refuse_mixture(model, fold, made)
        chosen = choose_device(device)
        _check_gpus(gpus, device, chosen)
        start = _Start(recipe, chosen, gpus, threads, _augmenting(workers, chosen), tuple(command))
        with (
            chatter_to(chatter),
            torch_threads(threads),
            _full_disk_told(model),
            ExitStack() as held,
        ):
            plan = _Plan(
                weights,
                folds,
                seed,
                made,
                trust_hu=trust_hu,
                replace=existing == "replace",
                allow_no_background=allow_no_background,
            )
            _prepare(cases, model, start.recipe, plan, held, status, notify)
            _run(model, start, progress, chatter, notify)
        _tidy_up(model, keep_preprocessed)
    if validate:
        _validate(cases, model, start, status, notify, chatter)
    return model


@dataclass(frozen=True)
class _Start:
    """How the training of a fold is started."""

    recipe: Recipe
    device: torch.device
    gpus: int
    threads: int | None
    workers: int
    command: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """What decides how cases are prepared, apart from the recipe."""

    weights: Mapping[str, float]
    folds: Folds
    seed: int
    made: dict[str, Any]
    trust_hu: bool
    replace: bool
    allow_no_background: bool


def _prepare(
    cases: Sequence[TrainingCase],
    model: Path,
    recipe: Recipe,
    plan: _Plan,
    held: ExitStack,
    status: Status,
    notify: Callable[[str], None],
) -> None:
    """Check, plan and preprocess the cases, as far as that has not been done; hold the fold."""
    fold = model / f"fold_{recipe.fold}"
    prepared = model / PREPARED
    survey = None
    names = planned_cases(prepared) if is_same(model, plan.made) else None
    if names is None:
        survey = survey_cases(cases, status, notify, plan.trust_hu)
        names = survey.names
    splits = _split(names, recipe, plan.folds, {case.name: case.cohort for case in cases})
    _check_fold(splits, recipe.fold)
    trained_on = set(names if recipe.fold == ALL else splits[int(recipe.fold)]["train"])
    full = survey.full if survey else cases_with(prepared, "full")
    _check_full(full & trained_on, recipe, notify)
    background = survey.with_background if survey else cases_with(prepared, "background")
    if not background & trained_on and not plan.allow_no_background:
        raise LnqError(NO_BACKGROUND.format(_that_it_trains_on(recipe)))
    _report_cases(cases, names, recipe.fold, notify)
    # All that can be refused is behind us: from here on the folder is changed.
    _make_folder(model)
    with _alone(model):
        held.enter_context(_hold(fold))
        _refuse_mixture(model, fold, plan.made)  # another fold may have begun meanwhile
        if survey and is_same(model, plan.made) and planned_cases(prepared):
            survey = None  # another fold was prepared while this one was waiting
        elif survey is None and planned_cases(prepared) is None:
            # another fold has tidied up meanwhile
            survey = survey_cases(cases, status, notify, plan.trust_hu)
        _clear(model, fold, prepared=survey is not None, this_fold=plan.replace)
        begin_record(model, plan.made, recipe.fold if plan.replace else None)
        fold.mkdir(exist_ok=True)
        for folder in (model, fold):
            remove_stale_temporaries(folder)
        if survey:
            write_plans(survey, recipe, plan.seed, prepared, weights=plan.weights, splits=splits)
            write_json(model / SPLITS, splits)
            _write_cohorts(survey, model, recipe, plan.weights, notify)
        preprocess([case for case in cases if case.name in names], prepared, status)
        _link_results(prepared, model, TRAINER)


@contextmanager
def _full_disk_told(model: Path) -> Iterator[None]:
    """Say that the disk is full where what writes the cases or a checkpoint only fails."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if no_space or (model.is_dir() and shutil.disk_usage(model).free < FULL_DISK_BYTES):
            raise LnqError(f"the disk of {model} is full: make room, then -s goes on") from None
        raise


def _make_folder(model: Path) -> None:
    """Make the model's folder, or raise LnqError."""
    try:
        model.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LnqError(f"cannot make the folder {model}: {error.strerror or error}") from None


def _split(
    names: Sequence[str], recipe: Recipe, folds: Folds, cohorts: Mapping[str, str]
) -> Splits:
    """Return the folds; none if there are too few cases and fold all does not need them."""
    if recipe.fold == ALL and len(patients(names, folds.group_regex)) < folds.count:
        return []
    return make_splits(names, folds, cohorts)


def _check_fold(splits: Splits, fold: str) -> None:
    """Raise LnqError if there is no such fold."""
    if fold != ALL and int(fold) >= len(splits):
        raise LnqError(f"there is no fold {fold}: there are {len(splits)} folds, from 0")


def _check_full(full: set[str], recipe: Recipe, notify: Callable[[str], None]) -> None:
    """Say where full_share has no fully annotated case to train on; raise if the user wants it."""
    if full or not recipe.full_share:
        return
    why = f"no case{_that_it_trains_on(recipe)} is fully annotated"
    if "full_share" in recipe.asked:
        raise LnqError(
            f"full_share is {recipe.full_share:g}, but {why}; add such cases, or --set "
            "full_share=0 if the others have enough background"
        )
    asked = f"full_share {recipe.full_share:g} of the recipe {recipe.name}"
    notify(f"warning: {asked} has no effect: {why}")


def _that_it_trains_on(recipe: Recipe) -> str:
    return "" if recipe.fold == ALL else f" that fold {recipe.fold} trains on"


def _write_cohorts(
    survey: Survey,
    model: Path,
    recipe: Recipe,
    weights: Mapping[str, float],
    notify: Callable[[str], None],
) -> None:
    """Write the table of cohorts, and show it."""
    plans = read_json(dataset_folder(model / PREPARED) / f"{PLANS}.json")
    batch_size = plans["configurations"][CONFIGURATION]["batch_size"]
    guaranteed = guaranteed_patches(recipe.full_share, batch_size)
    rows = cohort_rows(survey.cases, weights, guaranteed, batch_size)
    with atomic_output(model / COHORT_TABLE) as file:
        file.write(("\n".join(table_lines(rows)) + "\n").encode())
    for line in aligned(rows):
        notify(line)
    if odd := stored_oddly(survey.cases):
        notify(f"warning: {odd}")
    for sentence in short_of_background(rows):
        notify(f"warning: {sentence}")
    chances = patch_shares(survey.cases, weights, 0, batch_size)
    weak = sum(p for p, case in zip(chances, survey.cases, strict=True) if not case.full)
    without = weak**batch_size
    if survey.full and without >= LEAST_TOLD and not guaranteed:
        notify(
            f"{without:.0%} of the batches will have no patch of a fully annotated case; "
            "--set full_share=0.5 guarantees one in two"
        )


@contextmanager
def _hold(fold: Path) -> Iterator[None]:
    """Keep a fold, or raise LnqError while another process has it in training."""
    try:
        file = locked(_lock_of(fold), fcntl.LOCK_NB)
    except BlockingIOError:
        raise LnqError(
            f"{fold} is being trained by another process: wait for it, or train another fold"
        ) from None
    with released(file, _lock_of(fold)):
        yield


def _lock_of(fold: Path) -> Path:
    return fold.parent / f".{fold.name}{LOCK}"


def _is_held(fold: Path) -> bool:
    try:
        with _hold(fold):
            return False
    except LnqError:
        return True


@contextmanager
def _alone(model: Path) -> Iterator[None]:
    """Hold the model's folder while it is prepared: folds may be started at the same time."""
    with released(locked(model / LOCK), model / LOCK):
        yield


def _is_done(model: Path, fold: Path, made: dict[str, Any], existing: Existing) -> bool:
    """Tell whether the fold is finished and may stay; raise LnqError where it may not go on."""
    record = read_record(model)
    checkpoint = newest_checkpoint(fold)
    if existing == "refuse" and checkpoint:
        raise LnqError(
            f"{fold} has been trained: use another -m for another model; -s keeps it or goes on; "
            "-f trains it anew and loses what is there"
        )
    if existing == "resume" and not checkpoint:
        raise LnqError(f"{fold} has no checkpoint to resume from")
    if existing == "replace" or not checkpoint or record is None:
        return False
    differs = difference(record["made_with"], made)
    if differs:
        raise LnqError(
            f"{fold} was begun otherwise: {differs}; use another -m; -f trains it anew and loses "
            "what is there"
        )
    return checkpoint.name == FINAL


def left_to_go_on_from(model: Path, fold: str, *, anew: bool = False) -> str | None:
    """Return what a training that was broken off leaves; None where -s would only begin.

    Parameters
    ----------
    model : Path
    fold : str
    anew : bool
        The fold was to be trained anew: if it is finished, that is an earlier training's.
    """
    there = [name for name in CHECKPOINTS if (model / f"fold_{fold}" / name).is_file()]
    if there and not (anew and FINAL in there):
        return "the last checkpoint"
    if there or planned_cases(model / PREPARED) is None:
        return None
    return "the prepared cases"


def _refuse_mixture(model: Path, fold: Path, made: dict[str, Any]) -> None:
    """Raise LnqError if other folds of the model were made, or are being made, otherwise."""
    record = read_record(model)
    differs = difference(record["made_with"], made) if record else ""
    if not differs:
        return
    others = [path for path in _folds(model) if path != fold]
    if trained := [path.name for path in others if newest_checkpoint(path)]:
        names = ", ".join(trained)
        raise LnqError(f"{names} of {model} was trained otherwise: {differs}; use another -m")
    for path in others:
        if _is_held(path):
            raise LnqError(f"{path} is being trained otherwise: {differs}; use another -m")


def _clear(model: Path, fold: Path, *, prepared: bool, this_fold: bool) -> None:
    """Remove preprocessed cases that cannot be reused, and a fold that is trained anew."""
    if prepared:
        _remove_folder(model / PREPARED)
    if this_fold:
        from lnqtools.nnunet.validate import gather_tables

        _remove_folder(fold)
        gather_tables(model)


def _remove_folder(folder: Path) -> None:
    """Remove a folder; of one that is a link, to another disk perhaps, all that it leads to.

    First goes what says that the rest is whole: a kill may come at any time.
    """
    if not folder.is_dir():
        return
    for mark in (*folder.rglob("*.pth"), *folder.rglob("*.pkl")):
        mark.unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not folder.is_symlink():
        folder.rmdir()


def _folds(model: Path) -> list[Path]:
    return sorted(path for path in model.glob("fold_*") if path.is_dir())


def _report_cases(
    cases: Sequence[TrainingCase], names: list[str], fold: str, notify: Callable[[str], None]
) -> None:
    """Say which cases are left out, and where validation is not what one would think."""
    left_out = [case.name for case in cases if case.name not in names]
    if left_out:
        notify(f"left out, because all is unknown there: {', '.join(left_out)}")
    if fold == ALL:
        notify("all cases are training and validation cases: pseudo-Dice flatters")


def _augmenting(workers: int | None, device: torch.device) -> int:
    """Return the number of augmenting processes."""
    if workers is not None:
        return workers
    return min(8, max(1, allotted_cores() - 1)) if device.type == "cuda" else 0


def _check_gpus(gpus: int, asked: str, device: torch.device) -> None:
    """Raise LnqError if the machine cannot spread a training over so many GPUs."""
    import torch

    if gpus == 1:
        return
    if device.type != "cuda" or device.index is not None:
        raise LnqError(f"--gpus {gpus} takes the first {gpus} GPUs: --device {asked} does not fit")
    if gpus > (there := torch.cuda.device_count()):
        raise LnqError(f"--gpus {gpus}: torch finds only {there} on this machine")


def _run(
    model: Path,
    start: _Start,
    progress: Progress | None,
    chatter: TextIO | None,
    notify: Callable[[str], None],
) -> None:
    """Train from the newest checkpoint, if there is one, to the last epoch."""
    prepared = model / PREPARED
    variables = nnunet_folders(prepared) | {"nnUNet_n_proc_DA": str(start.workers)}
    try:
        with environment(variables):
            if start.gpus > 1:
                _run_on_gpus(model, start, chatter, notify)
            else:
                _run_here(model, start, progress)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LnqError(_what_to_lower(model, start)) from None


def _run_here(model: Path, start: _Start, progress: Progress | None) -> None:
    """Train in this process."""
    from lnqtools.nnunet.trainer import LNQTrainer

    dataset = dataset_folder(model / PREPARED)
    fold = start.recipe.fold
    trainer = LNQTrainer(
        plans=read_json(dataset / f"{PLANS}.json"),
        configuration=CONFIGURATION,
        fold=fold if fold == ALL else int(fold),
        dataset_json=read_json(dataset / "dataset.json"),
        device=start.device,
    )
    trainer.progress = progress
    checkpoint = newest_checkpoint(model / f"fold_{fold}")
    try:
        if checkpoint:
            trainer.load_checkpoint(str(checkpoint))
        _note_run(model, start, _set_threads(model, start, trainer))
        trainer.run_training()
    finally:
        _end_workers(trainer)


def _set_threads(model: Path, start: _Start, trainer: LNQTrainer) -> int:
    """Let torch use the threads that were asked for, or before, or that are fastest."""
    import torch

    if start.threads is None:
        before = last_run(model, start.recipe.fold)
        most = allotted_cores()
        if before and before["threads"] <= most:
            torch.set_num_threads(before["threads"])
        elif start.device.type == "cpu":
            torch.set_num_threads(fastest_threads(trainer.try_step, most))
    return torch.get_num_threads()


def _note_run(model: Path, start: _Start, threads: int) -> None:
    """Add to the model's record how this training was started."""
    run = {
        "fold": start.recipe.fold,
        "recipe": {"name": start.recipe.name, **start.recipe.as_dict()},
        "command": list(start.command),
        "device": str(start.device),
        "gpus": start.gpus,
        "threads": threads,
        "workers": start.workers,
    }
    with _alone(model):
        add_run(model, run)


def _run_on_gpus(
    model: Path, start: _Start, chatter: TextIO | None, notify: Callable[[str], None]
) -> None:
    """Train by nnU-Net's own distributed training: a process a GPU."""
    import torch
    from nnunetv2.run import run_training as nnunet

    batch_size = _planned_batch(model)[0]
    if batch_size < start.gpus:
        raise LnqError(
            f"a batch of {batch_size} cannot be spread over {start.gpus} GPUs: raise --batch"
        )
    fold = start.recipe.fold
    port = os.environ.get("MASTER_PORT") or str(nnunet.find_free_network_port())
    variables = trainer_lookup(model / PREPARED) | {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    _note_run(model, start, torch.get_num_threads())
    notify(f"{start.gpus} GPUs; how far they are: {model / f'fold_{fold}' / 'training.tsv'}")
    with environment(variables), _standard_output_to(chatter):
        nnunet.run_training(
            DATASET,
            CONFIGURATION,
            fold,
            TRAINER,
            PLANS,
            num_gpus=start.gpus,
            continue_training=newest_checkpoint(model / f"fold_{fold}") is not None,
            device=start.device,
        )


def trainer_lookup(prepared: Path) -> dict[str, str]:
    """Return the environment in which nnU-Net finds our trainer by its name.

    nnU-Net imports each file of a folder; pointed at our package it would not find its way in it.
    """
    folder = prepared / "trainer"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder / "lnq_trainer.py") as file:
        file.write(b"from lnqtools.nnunet.trainer import LNQTrainer\n")
    return {"nnUNet_extTrainer": str(folder)}


@contextmanager
def _standard_output_to(chatter: TextIO | None) -> Iterator[None]:
    """Send what child processes print to standard error, or drop it: results go to the other."""
    sys.stdout.flush()
    before = os.dup(1)
    target = os.dup(2) if chatter else os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(target, 1)
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(target)


def _what_to_lower(model: Path, start: _Start) -> str:
    """Return the sentence for a training that memory does not hold."""
    batch_size, patch = _planned_batch(model)
    size = "×".join(map(str, reversed(patch)))
    where = "the GPU's memory" if start.device.type == "cuda" else "memory"
    workers = f", or --workers (now {start.workers})" if start.workers else ""
    return (
        f"{where} is too small for {batch_size} patches of {size} voxels: lower --batch "
        f"or --patch{workers}, or take the recipe laptop"
    )


def _planned_batch(model: Path) -> tuple[int, list[int]]:
    """Return how many patches a batch has, and their size (z, y, x)."""
    plans = read_json(dataset_folder(model / PREPARED) / f"{PLANS}.json")
    configuration = plans["configurations"][CONFIGURATION]
    patch = [configuration["patch_size"][axis] for axis in plans["transpose_backward"]]
    return configuration["batch_size"], patch


def _validate(
    cases: Sequence[TrainingCase],
    model: Path,
    start: _Start,
    status: Status,
    notify: Callable[[str], None],
    chatter: TextIO | None,
) -> None:
    """Validate the fold and say how it went."""
    from lnqtools.nnunet.predict import Predictor
    from lnqtools.nnunet.validate import TABLE, gather_tables, validate_fold

    fold = start.recipe.fold
    run = last_run(model, fold)
    threads = start.threads or (run["threads"] if run else None)

    def load() -> Predictor:
        device = str(start.device)
        return Predictor(model, folds=[fold], device=device, threads=threads, chatter=chatter)

    rows = validate_fold(cases, model, fold, load, status)
    with _alone(model):
        gather_tables(model)
    dice = [row["dice_annotated"] for row in rows if row["dice_annotated"] is not None]
    mean = f"{sum(dice) / len(dice):.3f}" if dice else "undefined"
    notify(
        f"fold {fold}, annotated voxels only: mean Dice {mean} over {len(dice)} of {len(rows)} "
        f"validation cases; see {model / TABLE}"
    )


def _end_workers(trainer: LNQTrainer) -> None:
    """End the processes that augment patches, also when the training was broken off."""
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()


def _link_results(prepared: Path, model: Path, trainer: str) -> None:
    """Let nnU-Net's results folder, whose name it makes up, be the model's folder."""
    link = prepared / "results" / DATASET / f"{trainer}__{PLANS}__{CONFIGURATION}"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():  # other folds may be using it
        link.symlink_to(os.path.relpath(model, link.parent))


def _tidy_up(model: Path, keep_preprocessed: bool) -> None:
    """Remove what killed runs left, and the preprocessed cases once no begun fold needs them.

    What cannot be removed stays, as in the folder of somebody else.
    """
    with suppress(OSError), _alone(model):
        folds = _folds(model)
        for folder in (model, *(fold for fold in folds if not _is_held(fold))):
            remove_stale_temporaries(folder)
        finished = all((fold / FINAL).is_file() for fold in folds)
        if finished and not keep_preprocessed:
            _remove_folder(model / PREPARED)
