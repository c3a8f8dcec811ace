"""Options of the tools that run a network."""

from __future__ import annotations

import click

DEVICE_OPTION = click.option(
    "--device",
    default="auto",
    metavar="NAME",
    help="cpu, cuda, cuda:N, mps, or auto: the first of cuda, mps, cpu that is there.",
)
THREADS_OPTION = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads of torch.  [default: torch's choice; TotalSegmentator's: the cores allotted]",
)
