"""lnq-threshold: probability maps + references → scores by threshold and diameter filter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import SCORES
from lnqtools.cli._batch import Batch, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import table_tool
from lnqtools.cli._options import (
    CONNECTIVITY_OPTION,
    DEGENERATE_OPTION,
    FORMAT_OPTION,
    HIT_OPTION,
    INSTANCES_OPTION,
    METRIC_OPTION,
    VALUES_OPTION,
)
from lnqtools.cli._output import write_file
from lnqtools.cli._pictures import check_picture_place, form_of
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command
from lnqtools.cli._values import PATH, FiniteRange, Formed
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.images.volume import Volume
    from lnqtools.metrics.sweep import CaseSweep

MAX_VALUES = 1000


class Values(Formed):
    """Numbers with commas between, or from, to and step with colons between; in order, once."""

    name = "values"

    def __init__(self, metavar: str, one: FiniteRange):
        self.form, self.one = f"{metavar},...|FROM:TO:STEP", one

    def parse(self, value: str, param, ctx):
        """Parse ``0.3,0.5`` or ``0.1:0.9:0.1``."""
        ranged = value.count(":") == 2
        parts = value.split(":" if ranged else ",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            self.fail(f"{value!r} is neither numbers a,b,… nor FROM:TO:STEP", param, ctx)
        if ranged:
            numbers = self._steps(value, numbers, param, ctx)
        if len(numbers) > MAX_VALUES:
            self.fail(f"{value!r} are more than {MAX_VALUES} values", param, ctx)
        return tuple(sorted({self.one.convert(number, param, ctx) for number in numbers}))

    def _steps(self, value, ends: list[float], param, ctx) -> list[float]:
        """Return the values from first to last, the last one too if a step meets it."""
        first, last, step = ends
        if not (step > 0 and first <= last and math.isfinite(last / step)):
            self.fail(f"{value!r} is not FROM:TO:STEP with FROM ≤ TO and STEP > 0", param, ctx)
        count = min(math.floor((last - first) / step + 1e-6), MAX_VALUES) + 1
        return [round(first + number * step, 9) for number in range(count)]


@command("lnq-threshold", example="lnq-threshold maps/*.nii.gz --reference truth --plot curve.png")
@option(
    "--reference",
    type=PATH,
    metavar="FILE|DIR",
    required=True,
    help="The true mask or training label, or a directory with one of the same case name for each "
    "map.",
)
@option(
    "--thresholds",
    type=Values("P", FiniteRange(0, 1, min_open=True, max_open=True)),
    default="0.05:0.95:0.05",
    help="Probabilities above which a voxel is lymph node.",
)
@option(
    "--min-diameters",
    type=Values("MM", FiniteRange(min=0)),
    default="0,5,7.5,9.5",
    help="Least diameters of the components that are kept; 0 keeps all.",
)
@METRIC_OPTION
@DEGENERATE_OPTION
@CONNECTIVITY_OPTION
@INSTANCES_OPTION
@VALUES_OPTION
@HIT_OPTION
@option(
    "--score",
    type=click.Choice(SCORES),
    default="dice",
    help="What makes a point the best: the mean Dice of the cases, the Dice of all their voxels "
    "together, or the F1 of all their lesions.",
)
@option("--best", "best_only", is_flag=True, help="Only the row of the best point.")
@option(
    "--cases",
    "by_case",
    is_flag=True,
    not_with=("--score", "--best", "--plot"),
    help="One row per case and point instead.",
)
@option(
    "--plot",
    type=PATH,
    metavar="FILE",
    help="Draw the curves, too, into a .png, .svg or .pdf file.",
)
@FORMAT_OPTION
@table_tool()
def main(
    batch: Batch,
    reference: str,
    thresholds: tuple[float, ...],
    min_diameters: tuple[float, ...],
    metric: str,
    degenerate: str,
    connectivity: int,
    instances: bool,
    values: tuple[int, ...] | None,
    least_iou: float,
    score: str,
    best_only: bool,
    by_case: bool,
    plot: str | None,
    form: str,
    table: str,
) -> None:
    """Find the probability threshold and the diameter filter that suit validation cases.

    Each IMAGE is a map of probabilities. A row of the table is a point, a threshold and a least
    diameter, with the scores that these would have. Report no score on the cases that the point
    was chosen on.
    """
    from lnqtools.figures.style import require_packages
    from lnqtools.metrics.sweep import CASE_COLUMNS, COLUMNS, case_rows, sweep_rows

    if plot is not None:
        check_picture_place(plot, "--plot", batch.sources, replace=batch.force)
        require_packages()
    points = (thresholds, min_diameters)
    settings = {
        "metric": metric,
        "flat": degenerate,
        "connectivity": connectivity,
        "least_iou": least_iou,
        "instances": instances,
    }

    def sweep(case: Case) -> CaseSweep:
        return _sweep(case, reference, values, points, settings)

    batch.warn_of_unmatched(reference, "--reference", "a map")
    done = batch.run(sweep, table=table)
    swept = {one.case.name: one.result for one in done if one.result is not None}
    if by_case:
        rows = [
            {"case": name, **row} for name, one in swept.items() for row in case_rows(one, *points)
        ]
        batch.write_table(rows, table, form, CASE_COLUMNS)
    else:
        rows = sweep_rows(list(swept.values()), *points, score) if swept else []
        if plot is not None and rows:
            _draw(batch, rows, plot)
        best = [row for row in rows if row["best"]]
        _warn_of_ends(batch, best, thresholds)
        if best_only and rows and not best:
            raise LnqError(f"no point is the best: --score {score} is undefined at each")
        batch.write_table(best if best_only else rows, table, form, COLUMNS)
    end(done)


def _sweep(
    case: Case,
    reference: str,
    values: tuple[int, ...] | None,
    points: tuple[Sequence[float], Sequence[float]],
    settings: dict[str, Any],
) -> CaseSweep:
    """Count what one case has at each point."""
    from lnqtools.images.volume import read_volume
    from lnqtools.labels.fill import check_probabilities
    from lnqtools.labels.training import is_training_label
    from lnqtools.metrics.sweep import sweep_case

    probability = case.read(read_volume)
    check_probabilities(probability.array)
    read = partial(_read_reference, values=values, instances=settings["instances"])
    true = case.read_companion(reference, "--reference", read, probability.grid)
    counted = sweep_case(probability.array, true.array, true.grid, *points, **settings)
    if counted.voxels_unknown and not is_training_label(true):
        case.warn(
            f"{counted.voxels_unknown} voxels of its reference are 2, which is taken for "
            "unknown: they count in no score (of numbered nodes: --instances, --values)"
        )
    return counted


def _read_reference(path: Path, values: tuple[int, ...] | None, instances: bool) -> Volume:
    """Read a reference, a mask of nodes if the command line says which."""
    from lnqtools.images.volume import read_label
    from lnqtools.labels.masks import read_mask
    from lnqtools.labels.training import check_reference

    if instances or values is not None:
        return read_mask(path, values, instances)
    volume = read_label(path)
    check_reference(volume.array)
    return volume


def _draw(batch: Batch, rows: list[dict], plot: str) -> None:
    """Write the picture of the points."""
    from lnqtools.figures.sweep import sweep_picture

    picture = sweep_picture(rows, form_of(plot))
    write_file(picture, plot, replace=batch.force, follow=batch.force)


def _warn_of_ends(batch: Batch, best: list[dict], thresholds: Sequence[float]) -> None:
    """Warn of a best threshold beyond which none was tried."""
    if best and len(thresholds) > 1 and best[0]["threshold"] in (thresholds[0], thresholds[-1]):
        batch.say(
            f"warning: the best threshold, {best[0]['threshold']:g}, is at the end of those "
            "tried: try more with --thresholds"
        )
