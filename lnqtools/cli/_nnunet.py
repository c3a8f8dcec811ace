"""Options of the tools that run a network."""

from __future__ import annotations

import click

from lnqtools.choices import PRECISIONS
from lnqtools.cli._rules import option

DEVICE_OPTION = option(
    "--device",
    default="auto",
    metavar="NAME",
    help="cpu, cuda, cuda:N, mps, or auto: the first of cuda, mps, cpu that is there.",
)
PRECISION_OPTION = option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Numbers that the network computes in: fp32, bf16 or fp16 (see the man page); auto: as "
    "nnU-Net, fp16 on a CUDA GPU, else fp32.",
)
THREADS_OPTION = option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads of torch.  [default: torch's choice; TotalSegmentator's: the cores allotted]",
)
