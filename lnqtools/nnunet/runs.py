"""The run of a fold's training by nnU-Net's trainer: in this process, or spread over GPUs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output
from lnqtools.files.json_files import read_json
from lnqtools.nnunet.checkpoint import newest_checkpoint
from lnqtools.nnunet.environment import (
    environment,
    is_out_of_memory,
    network_memory,
    on_device,
    why_not_compiled,
)
from lnqtools.nnunet.model_state import PREPARED, lock_model
from lnqtools.nnunet.prepare import (
    CONFIGURATION,
    DATASET,
    PLANS,
    dataset_folder,
    nnunet_folders,
    planned_batch,
)
from lnqtools.nnunet.recipe_keys import ALL
from lnqtools.nnunet.recipes import Recipe
from lnqtools.nnunet.record import add_run, last_run
from lnqtools.nnunet.settings import Listeners, RunSettings
from lnqtools.nnunet.threads import allotted_cores, augmenting_workers, fastest_threads

if TYPE_CHECKING:
    import torch

    from lnqtools.nnunet.trainer import LNQTrainer

TRAINER = "LNQTrainer"
COMPILE = "nnUNet_compile"
"""nnU-Net's variable: whether to compile networks. Without it, it does where it trains on a GPU."""


@dataclass(frozen=True)
class FoldRun:
    """The training of one fold, on a device of this machine."""

    model: Path
    recipe: Recipe
    settings: RunSettings
    listeners: Listeners
    device: torch.device
    init: Mapping[str, Any] | None = None
    """What is recorded of the weights that this run starts from; None where it goes on."""

    @property
    def fold(self) -> Path:
        """The fold's folder."""
        return self.model / f"fold_{self.recipe.fold}"

    @property
    def prepared(self) -> Path:
        """The folder of nnU-Net's folders with the preprocessed cases."""
        return self.model / PREPARED

    @property
    def workers(self) -> int:
        """The number of processes that augment patches, for each GPU."""
        if self.settings.workers is not None:
            return self.settings.workers
        return augmenting_workers(self.settings.gpus) if self.device.type == "cuda" else 0


def check_gpus(run: FoldRun) -> None:
    """Raise LnqError if the machine cannot spread a training over so many GPUs."""
    import torch

    gpus, asked = run.settings.gpus, run.settings.device
    if gpus == 1:
        return
    if run.device.type != "cuda" or run.device.index is not None:
        raise LnqError(f"--gpus {gpus} takes the first {gpus} GPUs: --device {asked} does not fit")
    if gpus > (there := torch.cuda.device_count()):
        raise LnqError(f"--gpus {gpus}: torch finds only {there} on this machine")


def run_fold(run: FoldRun) -> None:
    """Train from the newest checkpoint, if there is one, to the last epoch."""
    variables = nnunet_folders(run.prepared) | {"nnUNet_n_proc_DA": str(run.workers)}
    try:
        with environment(variables | _compiling(run)):
            if run.settings.gpus > 1:
                _run_on_gpus(run)
            else:
                _run_here(run)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LnqError(_what_to_lower(run)) from None


def _compiling(run: FoldRun) -> dict[str, str]:
    """Return the variable that keeps nnU-Net from compiling where that cannot work, and say so."""
    if run.device.type != "cuda" or COMPILE in os.environ or (why := why_not_compiled()) is None:
        return {}
    run.listeners.notify(f"warning: {why}: the network is not compiled, and trains more slowly")
    return {COMPILE: "0"}


def _run_here(run: FoldRun) -> None:
    """Train in this process."""
    import torch

    from lnqtools.nnunet.trainer import LNQTrainer

    if run.device.type == "cuda":  # as nnUNetv2_train: the fastest convolutions are tried out
        torch.backends.cudnn.benchmark = True

    dataset = dataset_folder(run.prepared)
    fold = run.recipe.fold
    trainer = LNQTrainer(
        plans=read_json(dataset / f"{PLANS}.json"),
        configuration=CONFIGURATION,
        fold=fold if fold == ALL else int(fold),
        dataset_json=read_json(dataset / "dataset.json"),
        device=run.device,
    )
    trainer.progress, trainer.batch_done = run.listeners.progress, run.listeners.batch
    trainer.precision = run.settings.precision
    checkpoint = newest_checkpoint(run.fold)
    with on_device(run.device):
        try:
            if checkpoint:
                trainer.load_checkpoint(str(checkpoint))
            with network_memory(run.device.type):
                _note_run(run, _set_threads(run, trainer))
                trainer.run_training()
        finally:
            _end_workers(trainer)


def _set_threads(run: FoldRun, trainer: LNQTrainer) -> int:
    """Let torch use the threads that were asked for, or before, or that are fastest."""
    import torch

    if run.settings.threads is None:
        before = last_run(run.model, run.recipe.fold)
        most = allotted_cores()
        if before and before["threads"] <= most:
            torch.set_num_threads(before["threads"])
        elif run.device.type == "cpu":
            torch.set_num_threads(fastest_threads(trainer.try_step, most))
    return torch.get_num_threads()


def _note_run(run: FoldRun, threads: int) -> None:
    """Add to the model's record how this training was started."""
    facts = {
        "fold": run.recipe.fold,
        "recipe": {"name": run.recipe.name, **run.recipe.as_dict()},
        "command": list(run.settings.command),
        "device": str(run.device),
        "precision": run.settings.precision,
        "gpus": run.settings.gpus,
        "threads": threads,
        "workers": run.workers,
        **({"init": run.init} if run.init else {}),
    }
    with lock_model(run.model):
        add_run(run.model, facts)


def _end_workers(trainer: LNQTrainer) -> None:
    """End the processes that augment patches, also when the training was broken off."""
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()


def _run_on_gpus(run: FoldRun) -> None:
    """Train by nnU-Net's own distributed training: one process per GPU."""
    import torch
    from nnunetv2.run import run_training as nnunet

    gpus = run.settings.gpus
    batch_size = planned_batch(run.prepared)[0]
    if batch_size < gpus:
        raise LnqError(f"a batch of {batch_size} cannot be spread over {gpus} GPUs: raise --batch")
    port = os.environ.get("MASTER_PORT") or str(nnunet.find_free_network_port())
    variables = trainer_lookup(run.prepared, run.settings.precision) | {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    _note_run(run, torch.get_num_threads())
    with environment(variables), _standard_output_to(run.listeners.chatter), told_of_children():
        nnunet.run_training(
            DATASET,
            CONFIGURATION,
            run.recipe.fold,
            TRAINER,
            PLANS,
            num_gpus=gpus,
            continue_training=newest_checkpoint(run.fold) is not None,
            device=run.device,
        )


@contextmanager
def told_of_children() -> Iterator[None]:
    """Raise the LnqError of a child process as one: torch hands on its traceback as text."""
    from torch.multiprocessing import ProcessRaisedException

    try:
        yield
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        kind, _, sentence = last.partition(": ")
        if kind != f"{LnqError.__module__}.{LnqError.__name__}":
            raise
        raise LnqError(sentence) from None


def trainer_lookup(prepared: Path, precision: str) -> dict[str, str]:
    """Return the environment in which nnU-Net finds our trainer by its name, with its precision.

    nnU-Net imports each file of a folder; pointed at our package it would not find its way in it.
    """
    folder = prepared / "trainer"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(folder / "lnq_trainer.py") as file:
        file.write(
            b"from lnqtools.nnunet.trainer import LNQTrainer\n"
            + f"LNQTrainer.precision = {precision!r}\n".encode()
        )
    return {"nnUNet_extTrainer": str(folder)}


@contextmanager
def _standard_output_to(chatter: TextIO | None) -> Iterator[None]:
    """Send what child processes print to standard error, or drop it: stdout is for results."""
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


def _what_to_lower(run: FoldRun) -> str:
    """Return the sentence for a training that memory does not hold."""
    batch_size, patch = planned_batch(run.prepared)
    size = "×".join(map(str, reversed(patch)))
    where = "the GPU's memory" if run.device.type == "cuda" else "memory"
    workers = f", or --workers (now {run.workers})" if run.workers else ""
    return (
        f"{where} is too small for {batch_size} patches of {size} voxels: lower --batch "
        f"or --patch{workers}, or take the recipe laptop"
    )
