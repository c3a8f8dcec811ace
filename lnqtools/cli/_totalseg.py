"""What the tools that run TotalSegmentator share: options, and a process for the whole batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnqtools.cli._batch import Batch
from lnqtools.cli._case import Case
from lnqtools.cli._names import STREAM
from lnqtools.cli._rules import option
from lnqtools.cli._tool import about
from lnqtools.cli._values import PATH
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume
    from lnqtools.totalseg.segmenter import Segmenter

TOTALSEGMENTATOR = "totalsegmentator"
ANATOMY = "anatomy"
"""The output that --keep-anatomy asks for."""

DOWNLOAD_OPTION = option(
    "--download",
    is_flag=True,
    help="Fetch TotalSegmentator's weights if they are missing; without it nothing is.",
)
KEEP_ANATOMY_OPTION = option(
    "--keep-anatomy",
    type=PATH,
    metavar="DIR",
    help="Write the maps that TotalSegmentator made there, too, on the grid of the CT.",
)
RUNNING = ("keep_anatomy", "download", "device", "threads")
"""Names of the options about how TotalSegmentator runs; they leave the images unchanged."""


@dataclass(frozen=True)
class Running:
    """How a network runs: --device, --threads, and whether --download may fetch its weights."""

    device: str = "auto"
    threads: int | None = None
    download: bool = False


@contextmanager
def open_segmenter(
    batch: Batch,
    running: Running,
    *,
    task: str = "total",
    fast: bool = False,
    structures: str = "all",
    table: str | None = None,
    way_on: str = "--download does it for you",
) -> Iterator[tuple[Batch, Segmenter]]:
    """Make TotalSegmentator ready for a batch, or say at once why it cannot run.

    The batch that is given records the models that will run in its images. If no case is to be
    done, for an image or for a table, no weights are looked for; if they are missing, ``way_on``
    says what else the tool's options offer.

    Raises
    ------
    click.UsageError
        If cases were to run at once: they share one process; or for structures that the task
        does not have.
    LnqError
        If the package or weights are missing.
    """
    if batch.jobs > 1:
        raise click.UsageError(
            "TotalSegmentator works on one case at a time, with all cores: leave out -j"
        )
    batch.plan.check_outputs()
    from importlib.metadata import version

    from lnqtools.totalseg.segmenter import Segmenter
    from lnqtools.totalseg.weights import (
        MissingWeightsError,
        fetch_weights,
        require_totalsegmentator,
        require_weights,
    )

    require_totalsegmentator()
    _check_structures(task, structures)
    if not nothing_to_do(batch, table):
        if running.download:
            fetch_weights(task, fast)
        try:
            require_weights(task, fast)
        except MissingWeightsError as error:
            raise LnqError(f"{error}; {way_on}") from None
    chatter = sys.stderr if batch.verbose else None
    opened = Segmenter(
        task, fast=fast, device=running.device, threads=running.threads, chatter=chatter
    )
    with opened as segmenter:
        versions = {"TotalSegmentator": version("TotalSegmentator"), "weights": segmenter.weights}
        yield batch.made_with(**versions), segmenter


def _check_structures(task: str, structures: str) -> None:
    """Raise click.UsageError for structures that a task does not have."""
    from lnqtools.anatomy.maps import chosen_labels
    from lnqtools.totalseg.weights import classes_of

    try:
        chosen_labels(classes_of(task), structures)
    except LnqError as error:
        raise click.UsageError(f"--structures {structures}: the task {task} {error}") from None


def nothing_to_do(batch: Batch, table: str | None = None) -> bool:
    """Tell whether every output is there and kept, and no table wants the cases done again."""
    return (
        batch.skip
        and table is None
        and STREAM not in batch.sources  # what comes is known when it has been read
        and all(
            target != STREAM and Path(target).exists()
            for case in batch.cases
            for target in case.targets
        )
    )


@contextmanager
def about_map(named: str) -> Iterator[None]:
    """Do as ``about`` for a map whose version --classes gives, and say so if it has no names."""
    from lnqtools.anatomy.maps import NamelessMapError

    with about(named):
        try:
            yield
        except NamelessMapError as error:
            raise LnqError(f"{error}; say --classes v1 or v2") from None


def segmented(case: Case, segmenter: Segmenter, ct: Volume) -> Volume:
    """Return the map of a CT at full resolution, and warn if it is empty."""
    found = segmenter.segment(ct)
    if not found.array.any():
        case.warn(f"TotalSegmentator ({segmenter.task}) found none of its structures")
    return found
