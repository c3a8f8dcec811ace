"""lnq-report: predictions or labels, and their CTs → one HTML page to look at."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools import __version__
from lnqtools.cli._batch import Batch, Done, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import folder_tool
from lnqtools.cli._making import option_of
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
from lnqtools.cli._tool import about, command, emit, module_of, printable
from lnqtools.cli._values import PATH, Pair, Pairs
from lnqtools.cli.metrics import MasksHeld, read_pair
from lnqtools.cli.stats import directory_of
from lnqtools.errors import LnqError, os_errors
from lnqtools.files.records import MODEL_RECORD

if TYPE_CHECKING:
    from lnqtools.files.tables import Row
    from lnqtools.images.volume import Volume
    from lnqtools.report.contents import CaseContent, Entry

TITLES = {
    "compared": "Predicted lymph nodes",
    "predicted": "Predicted lymph nodes, without references",
    "labels": "Labels of lymph nodes",
}
IMAGES = "IMAGE"
FOLDS = "cross-validation.tsv"
FOLD_COLUMNS = ("case", "fold", "dice_annotated", "precision_annotated", "recall_annotated")
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
    help="The true mask of a prediction, or a directory of them.  [default: predictions are shown "
    "alone]",
)
@option(
    "--name",
    metavar="TEXT",
    only_with="--also",
    help="What the model of the IMAGEs is called, beside those of --also.  [default: IMAGE]",
)
@option(
    "--also",
    "others",
    type=Pair("NAME=DIR"),
    multiple=True,
    help="Another model's predictions of the same cases; may be given several times.",
)
@option(
    "--labels",
    is_flag=True,
    not_with="--reference",
    help="The IMAGEs are labels to look at, 0 background, 1 node, 2 unknown.",
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
@ENLARGED_OPTION.but(not_with="--reference")
@CI_OPTION.but(default=0.95, help="Level of the bootstrap confidence intervals of means.")
@RESAMPLES_OPTION
@SEED_OPTION
@WINDOW_OPTION
@option(
    "--quality",
    type=click.IntRange(1, 95),
    default=85,
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
    name: str | None,
    others: Pairs,
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
    if labels and others:
        raise click.UsageError("--also is for predictions, not with --labels")
    batch.plan.check_outputs()
    if os.path.lexists(folder) and not batch.force and not is_empty_folder(folder):
        raise click.UsageError(f"{folder} exists; -f replaces a report")
    models = _models(name, others)
    for other, where in others:
        if not any(batch.companions.has(case.name, where) for case in batch.cases):
            raise LnqError(f"--also {other}={where} has no prediction of any case")
    mode = "labels" if labels else "compared" if reference is not None else "predicted"

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
        title or TITLES[mode],
        definitions,
        *(level, resamples, seed),
        made_with={
            "tool": batch.tool,
            "version": __version__,
            "options": _as_given(batch.tool, batch.making.options),
            "versions": {package: version(package) for package in PACKAGES},
        },
        models=[printable(each) for each in models] if others else [],
        model=_read_model_record(Path(model)) if model is not None else None,
        folds=_read_folds(Path(model)) if model is not None else [],
        notices=[printable(notice)] if notice else [],
    )
    numbers = {case.source: f"{k:04}" for k, case in enumerate(batch.cases, start=1)}
    reader = partial(read_volume, replace_nan=replace_nan)

    def process(case: Case) -> list[CaseContent]:
        """Write the slices of one case; return the rest of it, for each model."""
        if labels:
            first = read_training_label(case, held)
            images = {"label": first}
        else:
            predicted, true = read_predictions(case, models, reference, resampling, held)
            first = true or next(iter(predicted.values()))
            of = " of {}" if others else ""
            images = {f"prediction{of.format(m)}": p for m, p in predicted.items()}
            images |= {"reference": true} if true else {}
        image, hu = case.read_covering(ct, "--ct", reader, first.grid)
        drawing = (hu, first.grid, definitions, looks)
        if labels:
            lost = recorded(first)
            found = [contents.describe_label_case(case.name, first.array, *drawing, lost)]
        else:
            masks = {printable(m) if others else "": p.array for m, p in predicted.items()}
            if true:
                found = contents.compare_models(case.name, masks, true.array, *drawing)
            else:
                found = contents.describe_predictions(case.name, masks, *drawing)
        files.write_case(place, numbers[case.source], found)
        records = {
            printable(role): _spelled(provenance_of(volume.extensions))
            for role, volume in {**images, "CT": image}.items()
        }
        kept = [replace(each, view={}, pictures=[], thumbnail=b"") for each in found]
        return [replace(kept[0], records=records), *kept[1:]]

    with files.new_report(Path(folder), replace=batch.force) as place:
        done = batch.run(process)
        entries = [entry for one in done for entry in as_entries(one, numbers[one.case.source])]
        if not any(entry.content for entry in entries):
            raise LnqError("no case can be shown: there is no report")
        shown = [(Path(figure), printable(Path(figure).name)) for figure in figures]
        files.write_report(place, mode, entries, described, shown)
    emit(str(Path(folder) / files.INDEX), b"\0" if batch.null else b"\n")
    end(done)


def _models(name: str | None, others: Pairs) -> dict[str, str | None]:
    """Return model → the directory of its predictions; None of the one whose are the IMAGEs."""
    models: dict[str, str | None] = {name or IMAGES: None}
    for other, place in others:
        if other in models:
            raise click.UsageError(f"two models are named {other}: --name names that of the IMAGEs")
        models[other] = place
    return models


def read_predictions(
    case: Case,
    models: Mapping[str, str | None],
    reference: str | None,
    resampling: str | None,
    held: MasksHeld,
) -> tuple[dict[str, Volume], Volume | None]:
    """Read a case's prediction of each model, and its reference if there is one, on one grid.

    That is the reference's, or else the one of the first model. Another model that lacks the case
    is left out, with a warning.
    """
    from lnqtools.labels.masks import read_mask, with_numbers

    true = None
    reader = partial(read_mask, values=held.values, instances=held.instances, binary=True)
    predicted: dict[str, Volume] = {}
    for model, place in models.items():
        if place is None and reference is not None:
            predicted[model], true = read_pair(case, reference, resampling, held)
            continue
        if place is None:
            mask = case.read(reader)
        elif not case.rules.companions.has(case.name, place):
            case.warn(f"--also {place} has no prediction of it: it is shown without {model}")
            continue
        else:
            first = true or next(iter(predicted.values()))
            mask = case.read_companion(place, "--also", reader, first.grid)
        if held.instances:
            mask = replace(mask, array=with_numbers(mask.array, mask.grid, held.connectivity))
        predicted[model] = mask
    return predicted, true


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


def _read_folds(model: Path) -> list[Row]:
    """Return the rows of a model's ``cross-validation.tsv``; none if it has not been validated."""
    from lnqtools.files.tables import read_table

    path = model / FOLDS
    if not path.exists():
        return []
    with about(path), os_errors("cannot be read"):
        rows = read_table(path.read_text())
        if lacking := [name for name in FOLD_COLUMNS if any(name not in row for row in rows)]:
            raise LnqError(f"lacks the column {lacking[0]}: lnq-train writes such a table")
        for row in rows:
            _number_in(row, "dice_annotated")
    return rows


def _number_in(row: Row, name: str) -> None:
    """Refuse a cell that is neither empty nor a number."""
    try:
        float(row[name] or 0)
    except ValueError:
        raise LnqError(f"{name} is {row[name]!r}, not a number") from None


def _spelled(record: Row | None) -> Row | None:
    """Return what an image says of its making with its options as on the command line."""
    options = (record or {}).get("options")
    if not record or not isinstance(options, dict):
        return record
    return {**record, "options": _as_given(str(record.get("tool")), options)}


def _as_given(tool: str, options: Mapping[str, Any]) -> Row:
    """Return a tool's options by their names on the command line: ``--hit`` for ``least_iou``."""
    names = _option_names(tool)
    return {names.get(name, option_of(name)): value for name, value in options.items()}


@cache
def _option_names(tool: str) -> dict[str, str]:
    """Return parameter → option of a tool of this suite; nothing of others."""
    if not re.fullmatch(r"lnq(-[a-z]+)+", tool):
        return {}
    module = module_of(tool)
    if find_spec(module) is None:
        return {}
    main = getattr(import_module(module), "main", None)
    parameters = main.params if isinstance(main, click.Command) else []
    return {str(p.name): max(p.opts, key=len) for p in parameters if isinstance(p, click.Option)}


def as_entries(done: Done[list[CaseContent]], number: str) -> list[Entry]:
    """Return what the page lists of a case: a row, or one for each model."""
    from lnqtools.report.contents import Entry
    from lnqtools.report.folder import number_of

    found: Sequence[CaseContent | None] = done.result or [None]
    return [
        Entry(
            printable(done.case.name),
            number_of(number, k),
            content,
            [printable(warning) for warning in done.warnings] if k == 0 else [],
            None if done.error is None else printable(done.error),
            printable(directory_of(done.case.source)),
            content.row.get("model", "") if content else "",
        )
        for k, content in enumerate(found)
    ]
