"""lnq-report: predictions or labels, and their CTs → one HTML page to look at."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools import __version__
from lnqtools.cli._batch import Batch, Done, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import folder_tool
from lnqtools.cli._options import (
    CI_OPTION,
    CONNECTIVITY_OPTION,
    EDGE_OPTION,
    ENLARGED_OPTION,
    HIT_OPTION,
    INSTANCES_OPTION,
    METRIC_OPTION,
    PRESET_OPTION,
    REPLACE_NAN_OPTION,
    RESAMPLE_OPTION,
    RESAMPLES_OPTION,
    SEED_OPTION,
    TOLERANCE_OPTION,
    VALUES_OPTION,
    WINDOW_OPTION,
)
from lnqtools.cli._rules import option
from lnqtools.cli._tool import about, command, emit, printable
from lnqtools.cli._values import PATH
from lnqtools.cli.metrics import MasksHeld, read_pair
from lnqtools.cli.stats import directory_of
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume
    from lnqtools.report.contents import CaseContent, Entry

TITLES = {False: "Predicted lymph nodes", True: "Labels of lymph nodes"}
MODEL_RECORD = "lnq-train.json"
PACKAGES = ("numpy", "scipy", "Pillow")
"""What has a part in the numbers and pictures."""


def is_empty_folder(path: str) -> bool:
    """Tell whether a path is a folder with nothing in it."""
    return Path(path).is_dir() and not any(Path(path).iterdir())


@command("lnq-report", example="lnq-report predicted/*.nii.gz --ct ct --reference truth -O report")
@option(
    "--ct",
    type=PATH,
    metavar="FILE|DIR",
    required=True,
    help="The CT, or a directory with one of the same case name for each image.",
)
@option(
    "--reference",
    type=PATH,
    metavar="FILE|DIR",
    help="The true mask of a prediction, or a directory of them; without it, say --labels.",
)
@option(
    "--labels",
    is_flag=True,
    help="The IMAGEs are labels to look at, 0 background, 1 node, 2 unknown; no reference.",
)
@option(
    "-m",
    "--model",
    type=PATH,
    metavar="DIR",
    help="Tell how this model of lnq-train was made.",
)
@option(
    "--figure",
    "figures",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Show this picture too (.png, .svg, .jpg, .gif, .webp); may be given several times.",
)
@option("--title", metavar="TEXT", help="Title of the page.  [default: by what it shows]")
@PRESET_OPTION.but(only_with="--reference", not_with="--edge")
@EDGE_OPTION.but(only_with="--reference")
@TOLERANCE_OPTION.but(only_with="--reference", not_with="--preset lnq2023|medpy")
@RESAMPLE_OPTION.but(only_with="--reference")
@CONNECTIVITY_OPTION
@INSTANCES_OPTION
@VALUES_OPTION
@METRIC_OPTION
@HIT_OPTION.but(only_with="--reference")
@ENLARGED_OPTION.but(only_with="--labels")
@CI_OPTION.but(default=0.95, help="Level of the bootstrap confidence intervals of means.")
@RESAMPLES_OPTION
@SEED_OPTION
@WINDOW_OPTION
@option(
    "--quality",
    type=click.IntRange(1, 95),
    default=70,
    metavar="Q",
    help="JPEG quality of the slices: from 1 (small) to 95 (large).",
)
@option("--whole", is_flag=True, help="Show whole CTs, not only the lungs' box and what is drawn.")
@REPLACE_NAN_OPTION
@folder_tool()
def main(
    batch: Batch,
    ct: str,
    reference: str | None,
    labels: bool,
    model: str | None,
    figures: tuple[str, ...],
    title: str | None,
    preset: str | None,
    edge: str,
    tolerances: tuple[float, ...],
    resampling: str | None,
    connectivity: int,
    instances: bool,
    values: tuple[int, ...] | None,
    metric: str,
    least_iou: float,
    enlarged_mm: float,
    level: float,
    resamples: int,
    seed: int,
    window: tuple[float, float],
    quality: int,
    whole: bool,
    replace_nan: float | None,
    folder: str,
) -> None:
    """Make one HTML page to look at predictions, or labels, case by case.

    DIR/index.html opens from disk in any browser, without server or network: the metrics in
    summary and by case, each case's slices with what is drawn over them, its lesions, and how all
    of it was made. Each IMAGE is a predicted mask, or with --labels a label.
    """
    if labels == (reference is not None):
        raise click.UsageError("say --reference for predictions, or --labels for labels alone")
    batch.plan.check_outputs()
    if os.path.lexists(folder) and not batch.force and not is_empty_folder(folder):
        raise click.UsageError(f"{folder} exists; -f replaces a report")

    from lnqtools.images.nifti import provenance_of
    from lnqtools.images.volume import read_volume
    from lnqtools.labels.lost import recorded
    from lnqtools.report import contents, slices
    from lnqtools.report import folder as files
    from lnqtools.report.contents import Report

    slices.require_pillow()
    for figure in figures:
        files.check_figure(Path(figure))
    definitions = contents.Definitions(
        tolerances, edge, preset, connectivity, metric, least_iou, enlarged_mm, instances
    )
    held = MasksHeld(values, instances, connectivity)
    looks = contents.Looks(window, quality, whole)
    notice = reference and batch.warn_of_unmatched(reference, "--reference", "a prediction")
    described = Report(
        title or TITLES[labels],
        definitions,
        *(level, resamples, seed),
        made_with={
            "tool": batch.tool,
            "version": __version__,
            "options": dict(batch.making.options),
            "versions": {package: version(package) for package in PACKAGES},
        },
        model=_read_model_record(Path(model)) if model is not None else None,
        notices=[printable(notice)] if notice else [],
    )
    numbers = {case.source: f"{k:04}" for k, case in enumerate(batch.cases, start=1)}
    reader = partial(read_volume, replace_nan=replace_nan)

    def process(case: Case) -> CaseContent:
        """Write the slices of one case; return the rest of it."""
        drawing = (definitions, looks)
        if reference is not None:
            prediction, true = read_pair(case, reference, resampling, held)
            image, hu = case.read_covering(ct, "--ct", reader, true.grid)
            content = contents.compare_case(
                case.name, prediction.array, true.array, hu, true.grid, *drawing
            )
            images = {"prediction": prediction, "reference": true, "CT": image}
        else:
            label = read_training_label(case, held)
            image, hu = case.read_covering(ct, "--ct", reader, label.grid)
            content = contents.describe_label_case(
                case.name, label.array, hu, label.grid, *drawing, recorded(label)
            )
            images = {"label": label, "CT": image}
        files.write_case(place, numbers[case.source], content)
        records = {role: provenance_of(volume.extensions) for role, volume in images.items()}
        return replace(content, view={}, pictures=[], records=records)

    with files.new_report(Path(folder), replace=batch.force) as place:
        done = batch.run(process)
        entries = [as_entry(one, numbers[one.case.source]) for one in done]
        if not any(entry.content for entry in entries):
            raise LnqError("no case can be shown: there is no report")
        shown = [(Path(figure), printable(Path(figure).name)) for figure in figures]
        files.write_report(place, "labels" if labels else "compared", entries, described, shown)
    emit(str(Path(folder) / files.INDEX), b"\0" if batch.null else b"\n")
    end(done)


def read_training_label(case: Case, held: MasksHeld) -> Volume:
    """Read a label of 0, 1 and 2, or a mask of nodes if the command line says which."""
    from lnqtools.images.volume import read_label
    from lnqtools.labels.masks import read_mask
    from lnqtools.labels.training import check_label

    if held.instances or held.values is not None:
        return case.read(lambda path: read_mask(path, held.values, held.instances))
    label = case.read(read_label)
    try:
        check_label(label.array)
    except LnqError as error:
        raise LnqError(f"{error}; numbered nodes: --instances") from None
    return label


def _read_model_record(model: Path) -> dict[str, Any]:
    """Return what ``lnq-train.json`` in a model's folder says, or raise LnqError."""
    from lnqtools.files.json_files import read_json
    from lnqtools.report.origin import model_text

    path = model / MODEL_RECORD
    try:
        record = read_json(path)
    except OSError as error:
        raise LnqError(
            f"{path} cannot be read: {error.strerror or error}; only models of lnq-train tell how "
            "they were made"
        ) from None
    except ValueError as error:
        raise LnqError(f"{path} is not JSON: {error}") from None
    with about(path):
        model_text(record)  # or a damaged one would be found when all else is done
    return record


def as_entry(done: Done[CaseContent], number: str) -> Entry:
    """Return what the page lists of a case."""
    from lnqtools.report.contents import Entry

    return Entry(
        printable(done.case.name),
        number,
        done.result,
        [printable(warning) for warning in done.warnings],
        None if done.error is None else printable(done.error),
        printable(directory_of(done.case.source)),
    )
