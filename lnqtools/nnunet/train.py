"""Training a model: from image and label files to an nnU-Net results folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from lnqtools.errors import LnqError
from lnqtools.nnunet.checkpoint import FINAL, newest_checkpoint
from lnqtools.nnunet.dataset import Status, TrainingCase, no_status, survey_cases
from lnqtools.nnunet.environment import (
    chatter_to,
    choose_device,
    environment,
    require_nnunet,
    torch_threads,
)
from lnqtools.nnunet.prepare import (
    CONFIGURATION,
    DATASET,
    PLANS,
    dataset_folder,
    nnunet_folders,
    planned_cases,
    preprocess,
    read_json,
    write_json,
    write_plans,
)
from lnqtools.nnunet.recipes import Recipe

if TYPE_CHECKING:
    import torch

    from lnqtools.nnunet.trainer import LNQTrainer, Progress

RECORD = "lnq-train.json"
TRAINER = "LNQTrainer"
PREPARED = ".preprocessed"

Existing = Literal["refuse", "replace", "keep", "resume"]
"""What to do about a fold that has been trained or begun.

refuse: an error. replace: train it anew. keep: leave a finished one, go on with a begun one,
start one that is not there. resume: as keep, but there must be a checkpoint to go on from.
"""


def train(
    cases: Sequence[TrainingCase],
    model: Path,
    recipe: Recipe,
    *,
    existing: Existing = "refuse",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    keep_preprocessed: bool = False,
    command: Sequence[str] = (),
    progress: Progress | None = None,
    status: Status = no_status,
    notify: Callable[[str], None] = lambda message: None,
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
    seed : int
        Of the first weights, patches and augmentation. On one device with the same number of
        threads a CPU training then gives the same weights again.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
    threads : int, optional
        CPU threads of torch; its own choice if None.
    workers : int, optional
        Processes that augment patches. None means none on a CPU, where they would only compete
        with the network, and up to 8 beside a GPU.
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
    fold = model / f"fold_{recipe.fold}"
    prepared = model / PREPARED
    made_with = _made_with(cases, recipe, seed)
    if _is_done(model, fold, made_with, existing):
        notify(f"{fold} is trained already: nothing to do")
        return model
    _refuse_mixture(model, fold, made_with)
    chosen = choose_device(device)
    survey = None
    names = planned_cases(prepared) if _is_same(model, made_with) else None
    if names is None:
        survey = survey_cases(cases, status)
        names = survey.names
    _report_cases(cases, names, recipe.fold, notify)
    # All that can be refused is behind us: from here on the folder is changed.
    model.mkdir(parents=True, exist_ok=True)
    with chatter_to(chatter), torch_threads(threads):
        with _alone(model):
            if survey and _is_same(model, made_with) and planned_cases(prepared):
                survey = None  # another fold was prepared while this one was waiting
            _clear(model, fold, prepared=survey is not None, this_fold=existing == "replace")
            record = {"made_with": made_with, "fold": recipe.fold, "versions": _versions()}
            write_json(model / RECORD, record | {"command": list(command), "device": str(chosen)})
            fold.mkdir(exist_ok=True)
            if survey:
                write_plans(survey, recipe, seed, prepared)
            preprocess([case for case in cases if case.name in names], prepared, status)
            _link_results(prepared, model, TRAINER)
        _run(model, fold, recipe.fold, chosen, _augmenting(workers, chosen), progress)
    _tidy_up(model, keep_preprocessed)
    return model


@contextmanager
def _alone(model: Path) -> Iterator[None]:
    """Hold the model's folder while it is prepared: folds may be started at the same time."""
    folder = os.open(model, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _is_done(model: Path, fold: Path, made_with: dict[str, Any], existing: Existing) -> bool:
    """Tell whether the fold is finished and may stay; raise LnqError where it may not go on."""
    record = _read_record(model)
    checkpoint = newest_checkpoint(fold)
    if existing == "refuse" and checkpoint:
        raise LnqError(f"{fold} has been trained: -f trains it anew, -s goes on or keeps it")
    if existing == "resume" and not checkpoint:
        raise LnqError(f"{fold} has no checkpoint to resume from")
    if existing == "replace" or not checkpoint or record is None:
        return False
    differs = _difference(record["made_with"], made_with)
    if differs:
        raise LnqError(f"{fold} was begun otherwise: {differs}; -f trains it anew")
    return checkpoint.name == FINAL


def _read_record(model: Path) -> dict[str, Any] | None:
    """Return what ``lnq-train.json`` says; None for a folder yet to be filled."""
    if (model / RECORD).is_file():
        return read_json(model / RECORD)
    if model.exists() and not model.is_dir():
        raise LnqError(f"{model} is not a folder")
    if model.is_dir() and any(model.iterdir()):
        raise LnqError(f"{model} holds files but no {RECORD}: give a new folder")
    return None


def _is_same(model: Path, made_with: dict[str, Any]) -> bool:
    """Tell whether the model was begun with the same cases and options."""
    record = _read_record(model)
    return record is not None and not _difference(record["made_with"], made_with)


def _refuse_mixture(model: Path, fold: Path, made_with: dict[str, Any]) -> None:
    """Raise LnqError if other folds of the model were made otherwise."""
    others = [path.name for path in _folds(model) if path != fold and newest_checkpoint(path)]
    record = _read_record(model)
    differs = _difference(record["made_with"], made_with) if record and others else ""
    if differs:
        names = ", ".join(others)
        raise LnqError(f"{names} of {model} was trained otherwise: {differs}; give a new folder")


def _clear(model: Path, fold: Path, *, prepared: bool, this_fold: bool) -> None:
    """Remove preprocessed cases that cannot be reused, and a fold that is trained anew."""
    if prepared:
        shutil.rmtree(model / PREPARED, ignore_errors=True)
    if this_fold:
        shutil.rmtree(fold, ignore_errors=True)


def _folds(model: Path) -> list[Path]:
    return sorted(path for path in model.glob("fold_*") if path.is_dir())


def _made_with(cases: Sequence[TrainingCase], recipe: Recipe, seed: int) -> dict[str, Any]:
    """Return what decides what a model learns, apart from the fold."""
    settings = {k: v for k, v in recipe.as_dict().items() if k not in ("fold", "save_every")}
    return {
        "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()},
        "seed": seed,
        "cases": {case.name: _input_marks(case) for case in sorted(cases, key=lambda c: c.name)},
    }


def _input_marks(case: TrainingCase) -> list[str | None]:
    """Return marks that tell the contents of image and label; None where unreadable."""
    try:
        return [_content_mark(case.image), _content_mark(case.label)]
    except OSError:
        return [None, None]  # the survey of the cases says it properly


def _content_mark(path: Path) -> str:
    """Return gzip's own checksum and length of the content, or a digest of another file."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
        file.seek(-8, os.SEEK_END)
        return file.read(8).hex()


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Say how two ``made_with`` differ; empty if they do not."""
    was = before["recipe"] | {"seed": before["seed"]}
    wanted = now["recipe"] | {"seed": now["seed"]}
    parts = [
        f"{key} {was.get(key)} there, {value} now"
        for key, value in wanted.items()
        if was.get(key) != value
    ]
    old, new = before["cases"], now["cases"]
    counts = {
        "cases not there": len(new.keys() - old.keys()),
        "cases missing now": len(old.keys() - new.keys()),
        "cases changed": sum(old[name] != new[name] for name in old.keys() & new.keys()),
    }
    return ", ".join(parts + [f"{n} {what}" for what, n in counts.items() if n])


def _versions() -> dict[str, str]:
    from lnqtools import __version__

    versions = {"lnq-tools": __version__, "python": platform.python_version()}
    for package in ("nnunetv2", "torch", "numpy", "batchgeneratorsv2"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _report_cases(
    cases: Sequence[TrainingCase], names: list[str], fold: str, notify: Callable[[str], None]
) -> None:
    """Say which cases are left out, and where validation is not what one would think.

    Raises
    ------
    LnqError
        If there are too few cases for the fold.
    """
    left_out = [case.name for case in cases if case.name not in names]
    if left_out:
        notify(f"left out, because all is unknown there: {', '.join(left_out)}")
    if fold != "all" and int(fold) >= len(names):
        raise LnqError(f"there is no fold {fold}: {len(names)} cases make as many folds, from 0")
    if fold == "all" or len(names) == 1:
        notify("all cases are training and validation cases: pseudo-Dice flatters")


def _augmenting(workers: int | None, device: torch.device) -> int:
    """Return the number of augmenting processes."""
    if workers is not None:
        return workers
    return min(8, max(1, len(os.sched_getaffinity(0)) - 1)) if device.type == "cuda" else 0


def _run(
    model: Path,
    fold: Path,
    fold_name: str,
    device: torch.device,
    workers: int,
    progress: Progress | None,
) -> None:
    """Train from the newest checkpoint, if there is one, to the last epoch."""
    import torch

    from lnqtools.nnunet.trainer import LNQTrainer

    prepared = model / PREPARED
    dataset = dataset_folder(prepared)
    with environment(nnunet_folders(prepared) | {"nnUNet_n_proc_DA": str(workers)}):
        trainer = LNQTrainer(
            plans=read_json(dataset / f"{PLANS}.json"),
            configuration=CONFIGURATION,
            fold=fold_name if fold_name == "all" else int(fold_name),
            dataset_json=read_json(dataset / "dataset.json"),
            device=device,
        )
        trainer.progress = progress
        checkpoint = newest_checkpoint(fold)
        try:
            if checkpoint:
                trainer.load_checkpoint(str(checkpoint))
            trainer.run_training()
        except torch.OutOfMemoryError:
            raise LnqError("the GPU's memory is too small: lower --batch or --patch") from None
        finally:
            _end_workers(trainer)


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
    """Remove the preprocessed cases once no begun fold needs them."""
    finished = all((fold / FINAL).is_file() for fold in _folds(model))
    if finished and not keep_preprocessed:
        shutil.rmtree(model / PREPARED, ignore_errors=True)
