"""Options of the tools that run a network."""

from __future__ import annotations

import click

from lnqtools.cli._rules import option

DEVICE_OPTION = option(
    "--device",
    default="auto",
    metavar="NAME",
    help="cpu, cuda, cuda:N, mps, or auto: the first of cuda, mps, cpu that is there.",
)
THREADS_OPTION = option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads of torch.  [default: torch's choice; TotalSegmentator's: the cores allotted]",
)
