"""nnU-Net's trainer with the recipe's numbers, checkpoints that are safe to read, and a report."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.dataloading import nnunet_dataset
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output
from lnqtools.files.json_files import read_json
from lnqtools.nnunet.augmentation import (
    STRAIGHT,
    augmenting_trainer,
    kept_transforms,
    mirrored_axes,
)
from lnqtools.nnunet.checkpoint import load_checkpoint, load_plain_pickle
from lnqtools.nnunet.curve import draw_curve, epoch_seconds, write_curve_table
from lnqtools.nnunet.initial import initial_file, load_initial
from lnqtools.nnunet.losses import OverlapAndEntropy, weight_of_unknown
from lnqtools.nnunet.optimizer import LearningRate, make_optimizer
from lnqtools.nnunet.precision import AUTO, computes_in
from lnqtools.nnunet.prepare import COHORTS, TRAINER_SETTINGS
from lnqtools.nnunet.recipes import DICE_CE, TVERSKY_CE, Recipe
from lnqtools.nnunet.sampling import CaseDraw, guaranteed_here
from lnqtools.nnunet.settings import BatchDone, Progress
from lnqtools.nnunet.spatial import SparseSpatialTransform

nnunet_dataset.load_pickle = load_plain_pickle  # prepared cases run no code when they are read

DEFAULTS = {
    **Recipe("").for_trainer(learned=True),
    **Recipe("").for_trainer(learned=False),
    "cohort_weights": {},
    "seed": 0,
}
"""Attributes that the plans may set, and what they are where the plans say nothing of them."""

EPOCHS_FOR_ESTIMATE = 10
AVX512_FLOATS = 16
PR_SET_PDEATHSIG = 1
"""Linux's number for the signal at the end of the parent."""


class LNQTrainer(nnUNetTrainer):
    """nnU-Net's trainer, hyper-parameters taken from the plans.

    The names of the arguments are those of nnU-Net's class, which reads them by name.
    """

    seed: int
    momentum: float
    optimizer_name: str
    schedule: str
    warmup: int
    augmentation: str
    mirror: bool | Sequence[str]
    loss_name: str
    alpha: float
    beta: float
    unknown: str | float
    full_share: float
    cohort_weights: Mapping[str, float]
    progress: Progress | None = None
    batch_done: BatchDone | None = None
    _batches_done = 0
    precision: str = AUTO
    _best_ema: float | None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  as in nnU-Net's class
    ):
        plans.setdefault("continue_training", False)  # popped without asking by nnU-Net 2.8
        super().__init__(plans, configuration, fold, dataset_json, device)
        if not self.is_ddp:
            self.device = device  # nnU-Net takes cuda:0 whatever it is given
        planned = self.configuration_manager.configuration[TRAINER_SETTINGS]
        for attribute, default in DEFAULTS.items():
            setattr(self, attribute, planned.get(attribute, default))
        self.logger = _Logger(self.output_folder, resume=False)

    def initialize(self) -> None:
        """Build network, optimizer and loss; the first weights are given, or depend on the seed."""
        self._seed_everything(0)
        super().initialize()
        network = self._bare_network()
        network.forward = computes_in(network.forward, self.precision, self.device)
        if self.device.type == "cpu" and suits_channels_last(self.network):
            self.network.to(memory_format=torch.channels_last_3d)
        dataset = Path(self.preprocessed_dataset_folder_base)
        load_initial(self._bare_network(), initial_file(dataset, self.fold))

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Return the recipe's optimizer and schedule."""
        if not self.enable_deep_supervision:
            self._freeze_coarse_outputs()
        optimizer = make_optimizer(
            self.optimizer_name,
            self.network.parameters(),
            self.initial_lr,
            self.weight_decay,
            self.momentum,
        )
        schedule = LearningRate(
            optimizer,
            self.initial_lr,
            self.schedule,
            self.num_epochs,
            self.num_iterations_per_epoch,
            self.warmup,
        )
        return optimizer, schedule

    def _freeze_coarse_outputs(self) -> None:
        """Let nobody wait for gradients of outputs that are not trained, as DDP would."""
        for layer in list(self._bare_network().decoder.seg_layers)[:-1]:
            layer.requires_grad_(False)

    def train_step(self, batch: dict) -> dict:
        """Run nnU-Net's step with the learning rate of this batch, and report."""
        self.lr_scheduler.next_batch()
        result = super().train_step(batch)
        self._batches_done += 1
        if self.batch_done is not None:
            epoch, batches = self.current_epoch + 1, self.num_iterations_per_epoch
            self.batch_done(epoch, self.num_epochs, self._batches_done, batches)
        return result

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's data sets, which say where patches may lie.

        That to train on says which cases a batch has, too.
        """
        training, validation = super().get_tr_and_val_datasets()
        training.draw = self._case_draw(training.identifiers)
        anywhere = weight_of_unknown(self.unknown) > 0
        training.anywhere = validation.anywhere = anywhere
        return training, validation

    def _case_draw(self, names: Sequence[str]) -> CaseDraw | None:
        """Return what draws the cases of a batch; None leaves it to nnU-Net, which draws evenly."""
        cases = read_json(Path(self.preprocessed_dataset_folder_base) / COHORTS)
        full = [cases[name]["full"] for name in names]
        sizes, rank = self._patches_on_each_gpu()
        guaranteed = guaranteed_here(self.full_share, sizes, rank) if any(full) else 0
        if not guaranteed and len(set(self.cohort_weights.values())) < 2:
            return None
        weights = [self.cohort_weights.get(cases[name]["cohort"], 1.0) for name in names]
        return CaseDraw(names, weights, full, guaranteed)

    def _patches_on_each_gpu(self) -> tuple[list[int], int]:
        """Return how nnU-Net spreads a batch over the GPUs, and which of them this one is."""
        gpus = dist.get_world_size() if self.is_ddp else 1
        each, more = divmod(self.configuration_manager.batch_size, gpus)
        return [each + (rank < more) for rank in range(gpus)], self.local_rank

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return nnU-Net's loaders, which let the data set draw the cases."""
        with drawing_loaders():
            return super().get_dataloaders()

    def try_step(self, threads: int) -> None:
        """Run the network forwards and backwards once, with so many threads, to time it."""
        if not self.was_initialized:
            self.initialize()
        torch.set_num_threads(threads)
        size = (self.batch_size, self.num_input_channels, *self.configuration_manager.patch_size)
        outputs = self.network(torch.zeros(size, device=self.device))
        sum(output.mean() for output in outputs).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Do nothing: ``lnq-train --validate`` does it, with annotated voxels alone."""

    def _build_loss(self) -> Any:
        """Return the recipe's loss; nnU-Net's own is NaN for a network of two levels.

        nnU-Net gives the coarsest output that it supervises no weight and divides by the sum;
        where it is the only one, it must have all.
        """
        with np.errstate(invalid="ignore"):
            loss = super()._build_loss()
        if self.enable_deep_supervision and len(loss.weight_factors) == 1:
            loss.weight_factors = (1.0,)
        own = self._own_loss()
        if own is None:
            return loss
        return (
            DeepSupervisionWrapper(own, loss.weight_factors)
            if self.enable_deep_supervision
            else own
        )

    def _own_loss(self) -> OverlapAndEntropy | None:
        """Return the recipe's loss for one output of the network; None if it is nnU-Net's."""
        unknown = weight_of_unknown(self.unknown)
        if self.loss_name == DICE_CE and unknown == 0:
            return None
        alpha, beta = (self.alpha, self.beta) if self.loss_name == TVERSKY_CE else (0.5, 0.5)
        return OverlapAndEntropy(
            unknown,
            alpha,
            beta,
            self.configuration_manager.batch_dice,
            self.is_ddp,
        )

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """End a training that diverged, before anything of this epoch is kept."""
        super().on_train_epoch_end(train_outputs)
        if not all(weights.isfinite().all() for weights in self.network.parameters()):
            raise LnqError(
                f"the training diverged in epoch {self.current_epoch + 1}: the weights are "
                "NaN or infinite; train anew (-f) with a lower learning rate (--lr)"
            )

    def on_epoch_start(self) -> None:
        """Seed anew, so that an epoch draws the same patches after a resume as without one."""
        self._seed_everything(1 + self.current_epoch)
        self._batches_done = 0
        super().on_epoch_start()

    def on_epoch_end(self) -> None:
        """Save what is due and report."""
        if self._best_ema is not None and np.isnan(self._best_ema):
            self._best_ema = None  # of epochs without nodes: nothing is ever better than NaN
        super().on_epoch_end()
        if self.progress is not None:
            loss, dice = (self.logger.get_value(k, -1) for k in ("train_losses", "mean_fg_dice"))
            self.progress(self.current_epoch, self.num_epochs, loss, dice, self._seconds_left())

    def on_train_end(self) -> None:
        """Write the picture of the whole curve, then the checkpoint that ends the training."""
        if self.local_rank == 0:
            self.logger.draw()
        super().on_train_end()

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint in one go, for any nnU-Net: its trainer is called nnUNetTrainer."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        checkpoint = {
            "network_weights": self._bare_network().state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": nnUNetTrainer.__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        with atomic_output(filename) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Go on from a checkpoint that `save_checkpoint` wrote."""
        if not self.was_initialized:
            self.initialize()
        checkpoint = load_checkpoint(Path(filename_or_checkpoint))
        self._bare_network().load_state_dict(checkpoint["network_weights"])
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.current_epoch = checkpoint["current_epoch"]
        self._best_ema = checkpoint["_best_ema"]
        self.logger.load_checkpoint(checkpoint["logging"])
        self.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802
        """Return how far patches turn, whether in slices alone, their size before, what mirrors."""
        theirs = augmenting_trainer(self.augmentation)
        turn, flat, size, _ = theirs.configure_rotation_dummyDA_mirroring_and_inital_patch_size(
            self
        )
        if self.augmentation in STRAIGHT:
            flat, size = False, self.configuration_manager.patch_size
        axes = mirrored_axes(self.mirror, self.plans_manager.transpose_forward)
        self.inference_allowed_mirroring_axes = axes or None
        return turn, flat, size, axes

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:
        """Return the recipe's augmentation, by a faster way for labels.

        nnU-Net's blur chooses its method by stopwatch; here it does not.
        """
        theirs = augmenting_trainer(self.augmentation)
        transforms = theirs.get_training_transforms(*args, **kwargs)
        turned = self.mirror is True
        kept = kept_transforms(transforms.transforms, self.augmentation, turned)
        transforms.transforms = [
            SparseSpatialTransform.of(each) if type(each) is SpatialTransform else each
            for each in kept
        ]
        for transform in transforms.transforms:
            inner = getattr(transform, "transform", transform)
            if isinstance(inner, GaussianBlurTransform):
                inner.benchmark = False
        return transforms

    def plot_network_architecture(self) -> None:
        """Draw nothing: nnU-Net's drawing needs a package that no longer works."""

    def _save_debug_information(self) -> None:
        """Write nothing: nnU-Net's file holds the paths and the name of this machine."""

    def _bare_network(self) -> Any:
        """Return the network without the wrappers of DDP and torch.compile, as far as it has them.

        The optimizer is made before DDP wraps the network.
        """
        network = getattr(self.network, "module", self.network)
        return getattr(network, "_orig_mod", network)

    def _seconds_left(self) -> float:
        """Estimate the time left from the last epochs."""
        history = self.logger.get_checkpoint()
        first = max(0, self.current_epoch - EPOCHS_FOR_ESTIMATE)
        last = [epoch_seconds(history, epoch) for epoch in range(first, self.current_epoch)]
        return float(np.mean(last)) * (self.num_epochs - self.current_epoch)

    def _seed_everything(self, step: int) -> None:
        """Seed all generators from the training's seed, the step and the GPU's number."""
        sequence = np.random.SeedSequence((self.seed, step, self.local_rank))
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the generator that nnU-Net draws from
        torch.manual_seed(seed)


class _Logger(MetaLogger):
    """nnU-Net's logger; plain numbers, and no gap in the moving average."""

    def log(self, key: str, value: Any, step: int) -> None:
        """Log a value.

        Validation patches of an epoch may hold no lymph node, then Dice is 0/0. nnU-Net's
        moving average would stay NaN from there on.
        """
        plain = [float(v) for v in value] if isinstance(value, list) else float(value)
        self.local_logger.log(key, plain, step)
        if key == "mean_fg_dice":
            self.local_logger.log("ema_fg_dice", self._smoothed(float(value)), step)

    def _smoothed(self, dice: float) -> float:
        before = self.get_value("ema_fg_dice", step=None)
        if not before or np.isnan(before[-1]):
            return dice
        return before[-1] if np.isnan(dice) else 0.9 * before[-1] + 0.1 * dice

    def plot_progress_png(self, output_folder: str) -> None:
        """Write the table of the curve; nnU-Net calls this after each epoch."""
        write_curve_table(self.get_checkpoint(), Path(output_folder) / "training.tsv")

    def draw(self) -> None:
        """Write the picture of the curve."""
        draw_curve(self.get_checkpoint(), Path(self.output_folder) / "training.png")


def suits_channels_last(network: torch.nn.Module) -> bool:
    """Tell whether a CPU trains a network faster with the channels of a voxel side by side.

    A training step took .70 to .92 of the time with 8 feature maps at the first level, 1.09 to 1.23
    with 16 or 32 (CPU with AVX-512, whose registers hold 16 numbers).
    """
    convolution = next(m for m in network.modules() if isinstance(m, torch.nn.Conv3d))
    return convolution.out_channels < AVX512_FLOATS


class DrawingLoader(nnUNetDataLoader):
    """nnU-Net's loader of patches, which asks its data set which cases to take, and where.

    With ``anywhere`` patches that need no node are drawn as from labels without unknown voxels;
    nnU-Net centers them on annotated voxels. A ``draw`` says which cases to take.
    """

    def __init__(self, data: Any, *args: Any, **kwargs: Any):
        super().__init__(data, *args, **kwargs)
        if getattr(data, "anywhere", False):
            self.has_ignore = False
        self._made_by = os.getpid()

    def set_thread_id(self, thread_id: int) -> None:
        """Begin in a process that augments patches.

        It ends with the one that started it, however that ends: it was forked of one that may have
        opened a GPU, whose memory is not free before all of them are gone. And it draws numbers of
        its own: nnU-Net seeds numpy's generator here, but torch's, which decides what is mirrored
        and where noise lies, would be the same in each of them.
        """
        super().set_thread_id(thread_id)
        end_with_parent(self._made_by)
        seed = int(np.random.randint(2**31))  # noqa: NPY002  the generator that nnU-Net seeds
        random.seed(seed)
        torch.manual_seed(seed)

    def get_indices(self):
        """Return the names of the cases of a batch."""
        draw = getattr(self._data, "draw", None)
        return super().get_indices() if draw is None else draw(self.batch_size)


def end_with_parent(parent: int) -> None:
    """Let this process be killed when the one that started it is gone (Linux alone)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


@contextmanager
def drawing_loaders() -> Iterator[None]:
    """Let nnU-Net's trainer, which takes its loader by name, take ours within the block."""
    trainer_module.nnUNetDataLoader = DrawingLoader
    try:
        yield
    finally:
        trainer_module.nnUNetDataLoader = nnUNetDataLoader
