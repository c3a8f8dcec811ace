"""lnq-metrics: predictions + references → tables of agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lnqtools.choices import EMPTY_IN_IMAGES, METRICS
from lnqtools.cli._batch import Batch, Done, end, rows_of, unmatched_told
from lnqtools.cli._case import Case
from lnqtools.cli._contract import table_tool
from lnqtools.cli._models import MISSING_OPTION
from lnqtools.cli._names import same_name
from lnqtools.cli._nodes import NodeColumns, with_node_options
from lnqtools.cli._options import (
    CONNECTIVITY_OPTION,
    EDGE_OPTION,
    FORMAT_OPTION,
    HIT_OPTION,
    INSTANCES_OPTION,
    METRIC_OPTION,
    PRESET_OPTION,
    RESAMPLE_OPTION,
    SD_OPTION,
    TOLERANCE_OPTION,
    VALUES_OPTION,
)
from lnqtools.cli._plan import Planned
from lnqtools.cli._rules import option
from lnqtools.cli._tool import about, command, say
from lnqtools.cli._values import PATH, FiniteRange, empty_policy
from lnqtools.errors import LnqError, listed

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume
    from lnqtools.metrics.pairs import MaskPair

OF_LESIONS = ("--lesions", "--by-diameter", "--detection")
"""What asks for tables of single lesions, which have no surface distances."""


@command("lnq-metrics", example="lnq-metrics predicted/*.nii.gz --reference truth >metrics.tsv")
@option(
    "--reference",
    type=PATH,
    metavar="FILE|DIR",
    required=True,
    help="The true mask, or a directory with one of the same case name for each prediction.",
)
@TOLERANCE_OPTION.but(not_with=(*OF_LESIONS, "--preset lnq2023|medpy"))
@EDGE_OPTION.but(not_with=OF_LESIONS)
@PRESET_OPTION.but(not_with=("--edge", "--connectivity", "--instances", *OF_LESIONS))
@RESAMPLE_OPTION
@CONNECTIVITY_OPTION
@INSTANCES_OPTION
@VALUES_OPTION
@option(
    "--lesions",
    is_flag=True,
    not_with=("--by-diameter", "--detection", "--summary"),
    help="One row per component of either mask, not one per case.",
)
@with_node_options(only_with="--lesions")
@option(
    "--by-diameter",
    type=FiniteRange(min=0.01),
    metavar="MM",
    not_with=("--detection", "--summary"),
    help="One row per bin of this width of shortest diameter, over all components.",
)
@option(
    "--detection",
    is_flag=True,
    help="One row per case and range of diameters: lesions found, missed and false.",
)
@HIT_OPTION.but(only_with="--detection")
@METRIC_OPTION.but(only_with=("--by-diameter", "--detection"))
@option(
    "--summary",
    is_flag=True,
    help="One row per metric over all cases, with counts of undefined values.",
)
@option(
    "--empty",
    type=empty_policy(EMPTY_IN_IMAGES),
    default="drop",
    only_with="--summary",
    not_with="--detection",
    help="Summary: leave undefined distances out, or let the column's worst, the image's diagonal "
    "or a number of mm stand for them.",
)
@SD_OPTION.but(only_with="--summary")
@MISSING_OPTION.but(
    help="References without a prediction, and predictions without a reference: name them, and end "
    "with status 1 (error); leave them out (drop); take a prediction that is not there as empty, "
    "which is the worst there is (worst).",
)
@FORMAT_OPTION
@table_tool()
def main(
    batch: Batch,
    reference: str,
    tolerances: tuple[float, ...],
    edge: str,
    preset: str | None,
    resampling: str | None,
    connectivity: int,
    instances: bool,
    values: tuple[int, ...] | None,
    lesions: bool,
    by_diameter: float | None,
    detection: bool,
    least_iou: float,
    metric: str,
    summary: bool,
    empty: str | float,
    spread: str,
    missing: str,
    form: str,
    table: str,
    **beside: Any,
) -> None:
    """Measure how well predicted masks agree with references.

    Each IMAGE is a prediction; every value but 0 is foreground. Distances are blank where a
    mask is empty, and counted in the summary.
    """
    from lnqtools.metrics.masks import PRESETS

    held = MasksHeld(values, instances, connectivity)
    pairs = Pairs(reference, resampling, held, PRESETS[preset].edge if preset else edge)
    kind: _OfCases | _OfLesions = _OfCases(tolerances, preset, summary, empty, spread)
    if lesions or by_diameter or detection:
        nodes = NodeColumns(**beside)
        kind = _OfLesions(
            lesions, by_diameter, detection, summary, nodes, metric, least_iou, spread
        )

    batch.check_table(table)
    unpredicted = without_prediction(batch, reference, missing)
    batch = with_reference(batch, reference) if missing == "drop" else batch
    done: list[Done] = batch.run(lambda case: kind.of(case, pairs.read(case)), table=table)
    if unpredicted and missing == "worst":
        done += batch.only(unpredicted).run(
            lambda case: kind.of_missing(case, pairs.with_nothing_predicted(case)), table=table
        )
    batch.write_table(kind.rows(done), table, form, kind.columns)
    end(done)
    if unpredicted and missing == "error":
        raise click.exceptions.Exit(1)


class _OfCases(NamedTuple):
    """A row per case, or with --summary one per metric."""

    tolerances: tuple[float, ...]
    preset: str | None
    summary: bool
    empty: str | float
    spread: str
    columns: tuple[str, ...] = ()

    def of(self, case: Case, pair: MaskPair) -> tuple[dict, float]:
        """Return the row of a case, and the diagonal of its image in mm."""
        from lnqtools.metrics.masks import described_row

        row = described_row(pair, self.tolerances, self.preset)
        return {"case": case.name, **row}, pair.true.grid.diagonal_mm

    def of_missing(self, case: Case, pair: MaskPair) -> tuple[dict, float]:
        """Do as `of` where there is a reference alone."""
        row, diagonal_mm = self.of(case, pair)
        if row["status"] == "empty_prediction":
            row["status"] = "missing_prediction"
        return row, diagonal_mm

    def rows(self, done: list[Done[tuple[dict, float]]]) -> list[dict]:
        """Return the table of all cases."""
        from lnqtools.metrics.summaries import summarize

        measured = [one.result for one in done if one.result]
        rows = [row for row, _ in measured]
        if not self.summary:
            return rows
        diagonals_mm = [diagonal_mm for _, diagonal_mm in measured]
        return summarize(rows, self.empty, diagonals_mm, self.spread)


class _OfLesions(NamedTuple):
    """Rows of single lesions, of bins of their diameters, or of those found and missed."""

    lesions: bool
    by_diameter: float | None
    detection: bool
    summary: bool
    nodes: NodeColumns
    metric: str
    least_iou: float
    spread: str

    def of(self, case: Case, pair: MaskPair) -> list[dict]:
        """Return the rows of a case."""
        from lnqtools.components.diameters import check_axial
        from lnqtools.components.rows import in_world
        from lnqtools.metrics.lesions import detection_table, lesion_table

        grid, found = pair.true.grid, pair.lesions
        if self.detection:
            rows = detection_table(found, self.metric, least_iou=self.least_iou)
        else:
            if not self.lesions:
                check_axial(self.metric, grid)
            measured = METRICS if self.lesions else [self.metric]
            rows = lesion_table(found, measured, longest=self.lesions)
            cells = self.nodes.of(case, *(side.components for side in found))
            rows = [row | more for row, more in zip(rows, chain(*cells), strict=True)]
        return [{"case": case.name, **in_world(row, grid)} for row in rows]

    def of_missing(self, case: Case, pair: MaskPair) -> list[dict]:
        """Return the rows where there is a reference alone."""
        return self.of(case, pair)

    def rows(self, done: list[Done[list[dict]]]) -> list[dict]:
        """Return the table of all cases."""
        from lnqtools.metrics.lesions import overlap_by_diameter, summarize_detection

        rows = rows_of(done)
        if self.by_diameter:
            return overlap_by_diameter(rows, width_mm=self.by_diameter, metric=self.metric)
        return summarize_detection(rows, self.spread) if self.detection and self.summary else rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of --lesions, which a run without components has too."""
        return _lesion_columns(self.nodes) if self.lesions else ()


def without_prediction(batch: Batch, reference: str, missing: str) -> list[Planned]:
    """Name the references that no prediction belongs to, and return them as cases."""
    found = batch.unmatched(reference)
    if not found:
        return []
    told = unmatched_told(found, reference, "--reference", "a prediction")
    if missing == "error":
        say(
            batch.tool,
            f"{told}; --missing drop leaves such cases out, --missing worst takes the prediction "
            "as empty",
        )
    else:
        becomes = {"drop": "left out", "worst": "taken as empty predictions"}[missing]
        batch.say(f"warning: {told}; {becomes}")
    return [Planned(name, str(path)) for name, paths in found.items() for path in paths]


def with_reference(batch: Batch, reference: str) -> Batch:
    """Return the batch without the predictions that have no reference, which are named.

    Raises
    ------
    LnqError
        If no prediction is left.
    """
    if not Path(reference).is_dir():
        return batch
    names = batch.companions.in_directory(reference)
    kept = [case for case in batch.cases if same_name(case.name) in names]
    if not kept:
        raise LnqError(f"no prediction has a reference in --reference {reference}")
    if without := [case.name for case in batch.cases if case not in kept]:
        count = f"{len(without)} prediction{'s' if len(without) > 1 else ''}"
        batch.say(
            f"warning: {count} without a reference in --reference {reference}: {listed(without)}; "
            "left out"
        )
    return batch.only(kept)


class MasksHeld(NamedTuple):
    """How masks hold nodes: --values, --instances, and --connectivity of those without numbers."""

    values: tuple[int, ...] | None = None
    instances: bool = False
    connectivity: int = 6

    @property
    def reader(self) -> Callable[..., Volume]:
        """What reads a reference."""
        from lnqtools.labels.masks import read_mask

        return partial(read_mask, values=self.values, instances=self.instances)


def read_pair(
    case: Case, place: str, resampling: str | None, held: MasksHeld
) -> tuple[Volume, Volume]:
    """Read a prediction and its reference, and see to it that they lie on one grid.

    Returns
    -------
    prediction, reference : Volume
        Both on the reference's grid. With --instances a prediction of one value, as of a network,
        has the numbers of its connected components.

    Raises
    ------
    LnqError
        If either cannot be read or is a training label, or if the grids differ by more than
        the order of axes and `lnqtools.images.grid.CLOSE_VOXELS` and nothing is to be resampled.
    """
    from lnqtools.labels.masks import with_numbers

    prediction = case.read(partial(held.reader, binary=True))
    true = case.read_companion(place, "--reference", held.reader)
    array = _onto_reference(case, place, prediction, true.grid, resampling)
    if held.instances:
        array = with_numbers(array, true.grid, held.connectivity)
    return replace(prediction, array=array, grid=true.grid), true


class Pairs(NamedTuple):
    """How predictions and references are read, and compared."""

    reference: str
    resampling: str | None
    held: MasksHeld
    edge: str

    def read(self, case: Case) -> MaskPair:
        """Read a prediction and its reference."""
        return self._pair(*read_pair(case, self.reference, self.resampling, self.held))

    def with_nothing_predicted(self, case: Case) -> MaskPair:
        """Read the reference that a case is, and take an empty prediction of it."""
        import numpy as np

        true = case.read(self.held.reader)
        return self._pair(replace(true, array=np.zeros_like(true.array)), true)

    def _pair(self, prediction: Volume, true: Volume) -> MaskPair:
        from lnqtools.metrics.pairs import MaskPair

        return MaskPair(
            prediction.array,
            true.array,
            true.grid,
            edge=self.edge,
            connectivity=self.held.connectivity,
            instances=self.held.instances,
        )


def _onto_reference(
    case: Case, place: str, prediction: Volume, grid: Grid, resampling: str | None
) -> np.ndarray:
    """Return a prediction's voxels on its reference's grid."""
    from lnqtools.images.grid import CLOSE_VOXELS, SAME_VOXEL, difference, one_to_one
    from lnqtools.images.resampling import mask_onto

    how = difference(prediction.grid, grid)
    if how is None:
        return prediction.array
    path = case.companion(place, "--reference")
    where = f"the grid of --reference {path}: {how}"
    with about(f"--reference {path}"):
        way = one_to_one(prediction.grid, grid, CLOSE_VOXELS)
    if way and way.apart <= SAME_VOXEL:
        case.warn(f"is compared voxel by voxel, though its axes are not stored as on {where}")
        return way.turned(prediction.array)
    if resampling:
        array, lost = mask_onto(prediction.array, prediction.grid, grid)
        case.warn(f"was resampled onto {where}")
        if lost:
            case.warn(f"{lost} of its foreground voxels lie outside the reference's image")
        return array
    if way:
        case.warn(f"is compared voxel by voxel, though not quite on {where}")
        return way.turned(prediction.array)
    raise LnqError(
        f"does not lie on {where}; if both headers are right, say --resample-prediction nearest"
    )


def _lesion_columns(nodes: NodeColumns) -> tuple[str, ...]:
    """Return the columns of --lesions, which a run without components has too."""
    from lnqtools.components.rows import LONGEST, column_name

    return (
        *("case", "side", "id", "voxels", "volume_mm3"),
        *(column_name(metric) for metric in METRICS),
        *LONGEST,
        *("centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
        *("overlap_voxels", "overlap", "hit", "hit_iou_0.1", "hit_iou_0.5", "partner", "iou"),
        *nodes.names,
    )
