"""lnq-train by nnU-Net's distributed training, on a single GPU, too; on a CPU by gloo."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from nnunetv2.run import run_training as nnunet
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from torch.nn.parallel import DistributedDataParallel

from lnqtools.cli.train import main
from lnqtools.nnunet import runs
from lnqtools.nnunet.trainer import LNQTrainer


def spawned(
    dataset: str,
    configuration: str,
    fold: str,
    trainer: str,
    plans: str,
    *,
    num_gpus: int,
    continue_training: bool,
    device: torch.device,
) -> None:
    """Do as nnU-Net's function, which spreads a training over two GPUs or more."""
    rest = (False, continue_training, False, None, False, False, num_gpus)
    arguments = (device.type, dataset, configuration, int(fold), trainer, plans, *rest)
    nnunet.mp.spawn(child, args=arguments, nprocs=num_gpus)


def child(rank: int, device: str, *arguments: Any) -> None:
    if device == "cpu":
        on_the_cpu()
    nnunet.run_ddp(rank, *arguments)


def on_the_cpu() -> None:
    """Let nnU-Net's distributed training, which is for GPUs alone, run on the CPU."""
    nnunet.setup_ddp = lambda rank, size: dist.init_process_group(
        "gloo", rank=rank, world_size=size
    )
    torch.cuda.set_device = lambda device: None
    trainer_module.DDP = lambda network, device_ids: DistributedDataParallel(network)
    plain = LNQTrainer.__init__

    @wraps(plain)
    def begin(self: LNQTrainer, *arguments: Any, **more: Any) -> None:
        plain(self, *arguments, **more)
        self.device, self.grad_scaler = torch.device("cpu"), None

    LNQTrainer.__init__ = begin  # type: ignore[method-assign]


if __name__ == "__main__":
    runs._run_here = runs._run_on_gpus
    nnunet.run_training = spawned
    main()
