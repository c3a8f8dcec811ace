"""The state of a model's folder in training: who holds it, what is done, what is removed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lnqtools.errors import LnqError, os_errors
from lnqtools.files.atomic import remove_stale_temporaries
from lnqtools.files.locks import locked, released
from lnqtools.nnunet.checkpoint import CHECKPOINTS, FINAL, newest_checkpoint
from lnqtools.nnunet.prepare import CONFIGURATION, DATASET, PLANS, planned_cases
from lnqtools.nnunet.record import difference, read_record
from lnqtools.nnunet.settings import Existing

LOCK = ".lock"
"""How the names of lock files end.

``.lock`` in a model's folder is locked while the folder is prepared, ``.fold_0.lock`` while that
fold is trained. A killed training leaves its lock file there, but not locked.
"""
PREPARED = ".preprocessed"
"""The folder, in a model's, of nnU-Net's own folders with the preprocessed cases."""

FULL_DISK_BYTES = 32 << 20
"""Free space below which a failure to write is put down to a full disk.

A preprocessed case, or a checkpoint, hardly fits into less.
"""


@contextmanager
def lock_model(model: Path) -> Iterator[None]:
    """Hold the model's folder while it is changed: folds may be started at the same time."""
    with released(locked(model / LOCK), model / LOCK):
        yield


@contextmanager
def lock_fold(fold: Path) -> Iterator[None]:
    """Hold a fold, or raise LnqError while another process has it in training."""
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


def _is_locked(fold: Path) -> bool:
    try:
        with lock_fold(fold):
            return False
    except LnqError:
        return True


@contextmanager
def explain_full_disk(model: Path) -> Iterator[None]:
    """Raise LnqError for a full disk in place of a failure to write cases or a checkpoint."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if no_space or (model.is_dir() and shutil.disk_usage(model).free < FULL_DISK_BYTES):
            raise LnqError(f"the disk of {model} is full: make room, then -s goes on") from None
        raise


def is_done(model: Path, fold: Path, made: Mapping[str, Any], existing: Existing) -> bool:
    """Tell whether the fold is finished and may stay; raise LnqError where it may not go on."""
    record = read_record(model)
    checkpoint = newest_checkpoint(fold)
    if existing == "refuse" and checkpoint:
        raise LnqError(
            f"{fold} has been trained: use another -m for another model, which may start from its "
            f"weights (--init {model}); -s keeps it or goes on; -f trains it anew and loses what "
            "is there"
        )
    if existing == "resume" and not checkpoint:
        raise LnqError(f"{fold} has no checkpoint to resume from")
    if existing == "replace" or not checkpoint or record is None:
        return False
    differs = difference(record["made_with"], made)
    if differs:
        raise LnqError(
            f"{fold} was begun with other settings: {differs}; use another -m, to start from its "
            f"weights with --init {model}; -f trains it anew and loses what is there"
        )
    return checkpoint.name == FINAL


def left_to_go_on_from(model: Path, fold: str, *, anew: bool = False) -> str | None:
    """Return what an interrupted training left to go on from; None where -s would start over.

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


def refuse_mixture(model: Path, fold: Path, made: Mapping[str, Any]) -> None:
    """Raise LnqError if other folds of the model were, or are being, trained differently."""
    record = read_record(model)
    differs = difference(record["made_with"], made) if record else ""
    if not differs:
        return
    others = [path for path in _folds(model) if path != fold]
    if trained := [path.name for path in others if newest_checkpoint(path)]:
        names = ", ".join(trained)
        raise LnqError(
            f"{names} of {model} was trained with other settings: {differs}; use another -m, to "
            f"start from its weights with --init {model}"
        )
    for path in others:
        if _is_locked(path):
            raise LnqError(
                f"{path} is being trained with other settings: {differs}; use another -m"
            )


def make_folder(model: Path) -> None:
    """Make the model's folder, or raise LnqError."""
    with os_errors(f"cannot make the folder {model}"):
        model.mkdir(parents=True, exist_ok=True)


def clear(model: Path, fold: Path, *, prepared: bool, this_fold: bool) -> None:
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


def link_results(model: Path, trainer: str) -> None:
    """Let nnU-Net's results folder, whose name it makes up, be the model's folder."""
    link = model / PREPARED / "results" / DATASET / f"{trainer}__{PLANS}__{CONFIGURATION}"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():  # other folds may be using it
        link.symlink_to(os.path.relpath(model, link.parent))


def tidy_up(model: Path, keep_preprocessed: bool) -> None:
    """Remove what killed runs left, and the preprocessed cases once no begun fold needs them.

    What cannot be removed stays, as in the folder of somebody else.
    """
    with suppress(OSError), lock_model(model):
        folds = _folds(model)
        for folder in (model, *(fold for fold in folds if not _is_locked(fold))):
            remove_stale_temporaries(folder)
        finished = all((fold / FINAL).is_file() for fold in folds)
        if finished and not keep_preprocessed:
            _remove_folder(model / PREPARED)
