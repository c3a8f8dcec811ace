"""lnq-anatomy: CTs → multilabel maps of their anatomy, by TotalSegmentator."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnqtools.choices import TASKS
from lnqtools.cli._batch import Batch, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import image_tool
from lnqtools.cli._names import STREAM
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import REPLACE_NAN_OPTION, TRUST_HU_OPTION
from lnqtools.cli._rules import option
from lnqtools.cli._series import read_series
from lnqtools.cli._tool import command
from lnqtools.cli._totalseg import DOWNLOAD_OPTION, Running, open_segmenter, segmented
from lnqtools.cli._values import parse_structures
from lnqtools.errors import LnqError, os_errors

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume


@command("lnq-anatomy", example="lnq-anatomy ct/*.nii.gz -O anatomy -s")
@option(
    "--task",
    type=click.Choice(TASKS),
    default="total",
    help="What to segment: 117 structures, the lungs' vessels and airways, or the body cavities.",
)
@option(
    "--fast",
    is_flag=True,
    only_with="--task total",
    help="The 3 mm model of the task total: coarser, 10 × faster.",
)
@option(
    "--structures",
    default="all",
    callback=parse_structures,
    metavar="NAME,...|@FILE",
    help="Structures to keep in the map: all, mediastinum, lungs, names (rib_* matches many), "
    "-NAME leaves one out, @FILE reads a list.",
)
@REPLACE_NAN_OPTION
@TRUST_HU_OPTION
@DOWNLOAD_OPTION
@DEVICE_OPTION
@THREADS_OPTION
@image_tool("trust_hu", "download", "device", "threads", parallel=False)
def main(
    batch: Batch,
    task: str,
    fast: bool,
    structures: str,
    replace_nan: float | None,
    trust_hu: bool,
    download: bool,
    device: str,
    threads: int | None,
) -> None:
    """Segment the anatomy of CTs with TotalSegmentator.

    Each IMAGE is a CT. The map lies on its grid; the names of its labels are in its header and
    in a table beside it (CASE.tsv).
    """
    from lnqtools.anatomy.maps import chosen_labels, labels_mask, structure_names
    from lnqtools.images.hounsfield import read_ct
    from lnqtools.images.names import label_table

    def segment(case: Case, ct: Volume, segmenter) -> None:
        _check_names_place(case)
        found = segmented(case, segmenter, ct)
        names = structure_names(found)
        if structures != "all":
            chosen = chosen_labels(names, structures)
            found = replace(found, array=found.array * labels_mask(found.array, chosen))
            names = {number: name for number, name in names.items() if number in chosen}
        result = replace(found, extensions=(label_table(names),))
        if case.write(result) and case.planned.targets[0] != STREAM:
            _complete_names(Path(case.planned.targets[0]))

    def keep(case: Case) -> None:
        """Make the table of a kept map whose run ended before it was written."""
        _check_names_place(case)
        _complete_names(Path(case.planned.targets[0]))

    def load(case: Case) -> Volume:
        reader = partial(read_ct, replace_nan=replace_nan, trust_hu=trust_hu)
        return case.read(reader, partial(read_series, trust_hu=trust_hu))

    running = Running(device, threads, download)
    opened = open_segmenter(batch, running, task=task, fast=fast, structures=structures)
    with opened as (batch, segmenter):
        end(batch.run(partial(segment, segmenter=segmenter), load=load, keep=keep, watched=True))


def _check_names_place(case: Case) -> None:
    """Raise LnqError if what lies where the table of names goes is something else."""
    from lnqtools.anatomy.maps import NAMES_HEADING
    from lnqtools.images.names import names_table_path

    path = names_table_path(case.planned.targets[0])
    if case.planned.targets[0] == STREAM or not os.path.lexists(path):
        return
    if not path.is_file():
        raise LnqError(f"{path} exists and is not a regular file")
    if not case.rules.force and not _begins_with(path, NAMES_HEADING):
        raise LnqError(f"{path} exists and is not a table of names; -f replaces it")


def _begins_with(path: Path, text: str) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(text)) == text.encode()


def _complete_names(image: Path) -> None:
    """Write the table of names beside a map, unless the one that is there is the map's.

    It gets the map's time, by which it is known: whatever the clock does, and though another
    process replaces the map meanwhile, no table of another map stays beside it.
    """
    from lnqtools.anatomy.maps import names_table, structure_names
    from lnqtools.files.atomic import atomic_output
    from lnqtools.images.names import names_table_path
    from lnqtools.images.volume import read_label

    table = names_table_path(image)
    complete = table.exists() and _time_of(table) == _time_of(image)
    while not complete:
        made = _time_of(image)
        result = read_label(image)
        with atomic_output(table) as raw:
            raw.write(names_table(structure_names(result), result.array).encode())
            raw.flush()
            os.utime(raw.fileno(), ns=(made, made))
        complete = _time_of(image) == made


def _time_of(path: Path) -> int:
    """Return when a file was changed, in ns."""
    with os_errors(f"{path} cannot be read again"):
        return path.stat().st_mtime_ns
