"""What a training is asked for: the data, how it runs, and who listens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from lnqtools.nnunet.dataset import Status, TrainingCase, no_notice, no_status
from lnqtools.nnunet.folds import Folds

Progress = Callable[[int, int, float, float, float], None]
"""Called with the epoch (from 1), the epochs, training loss, pseudo-Dice and the seconds left."""

BatchDone = Callable[[int, int, int, int], None]
"""Called with the epoch and the batch of it (from 1), and how many there are of both."""

Existing = Literal["refuse", "replace", "keep", "resume"]
"""What to do about a fold that has been trained or begun: see :class:`RunSettings`."""


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from.

    Parameters
    ----------
    cases : sequence of TrainingCase
    weights : mapping, optional
        Cohort → how often a case of it is drawn, compared with one of weight 1.
    folds : Folds, optional
        How the cases are split; by default as nnU-Net does it.
    trust_hu : bool
        Take images whose values do not look like HU.
    allow_no_background : bool
        Train on labels without a background voxel, too.
    """

    cases: Sequence[TrainingCase]
    weights: Mapping[str, float] = field(default_factory=dict)
    folds: Folds = field(default_factory=Folds)
    trust_hu: bool = False
    allow_no_background: bool = False


@dataclass(frozen=True)
class RunSettings:
    """How a fold is trained, apart from the recipe.

    Parameters
    ----------
    existing : {"refuse", "replace", "keep", "resume"}
        What to do about a fold that has been trained or begun: an error; train it anew; leave a
        finished one, go on with a begun one, start one that is not there; the same, but there
        must be a checkpoint to go on from.
    validate : bool
        Predict the validation cases of the trained fold, and write how they agree with their
        labels on annotated voxels.
    seed : int
        Of the first weights, patches and augmentation. On one device with the same number of
        threads a CPU training then gives the same weights again.
    init : Path, optional
        A model or checkpoint whose weights a fold starts from, as far as they fit.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Numbers that the network computes in; ``auto`` as nnU-Net, fp16 on CUDA, else fp32. The
        loss and the optimizer have fp32.
    gpus : int
        GPUs that share each batch, by nnU-Net's own distributed training.
    threads : int, optional
        CPU threads of torch. None means those of the fold's last run, or else on a CPU the
        number that a few steps are fastest with, and torch's own choice beside a GPU.
    workers : int, optional
        Processes that augment patches, for each GPU. None means none on a CPU, where they would
        only compete with the network, and beside GPUs all cores but one, up to 16 for each.
    keep_preprocessed : bool
        Keep the preprocessed cases when all folds that were begun are finished.
    command : sequence of str
        How the training was called, for the record.
    """

    existing: Existing = "refuse"
    validate: bool = False
    seed: int = 0
    init: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    gpus: int = 1
    threads: int | None = None
    workers: int | None = None
    keep_preprocessed: bool = False
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Listeners:
    """Callbacks that are told how a training goes; by default they do nothing.

    Parameters
    ----------
    progress : callable, optional
        Told after each epoch: epoch, epochs, training loss, pseudo-Dice, seconds left.
    batch : callable, optional
        Told after each batch: epoch, epochs, batch, batches. Not of a training on several GPUs,
        and neither is ``progress``.
    status : callable, optional
        Told how far checking, preprocessing and validating have come: step, cases done, cases.
    notify : callable, optional
        Given each sentence that the user should read.
    chatter : text stream, optional
        Where what nnU-Net prints goes.
    """

    progress: Progress | None = None
    status: Status = no_status
    notify: Callable[[str], None] = no_notice
    chatter: TextIO | None = None
    batch: BatchDone | None = None
