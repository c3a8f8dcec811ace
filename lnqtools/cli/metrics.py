"""lnq-metrics: predictions + references → tables of agreement."""

from __future__ import annotations

import click

from lnqtools.cli._batch import Batch, Case, about
from lnqtools.cli._options import (
    FORMAT_OPTION,
    FiniteRange,
    command,
    connectivity_option,
    table_tool,
)


@command("lnq-metrics")
@click.option(
    "--reference",
    type=click.Path(),
    metavar="FILE|DIR",
    required=True,
    help="The true mask, or a directory with one of the same case name for each prediction.",
)
@click.option(
    "--tolerance",
    "tolerances",
    type=FiniteRange(min=0),
    multiple=True,
    default=(1.0, 2.0),
    metavar="MM",
    help="Tolerance of the surface Dice (nsd); may be given several times.",
)
@click.option(
    "--edge",
    type=click.Choice(["surface", "open"]),
    default="surface",
    help="Whether a mask's voxels at the image's edge belong to its surface (surface) or not "
    "(open, as in the LNQ2023 evaluation).",
)
@connectivity_option("Neighbours that join voxels: faces, edges too, corners too.")
@click.option(
    "--lesions", is_flag=True, help="A row a component of either mask, instead of a row a case."
)
@click.option(
    "--summary",
    is_flag=True,
    help="A row a metric over all cases, with counts of undefined values, instead.",
)
@FORMAT_OPTION
@table_tool()
def main(
    batch: Batch,
    reference: str,
    tolerances: tuple[float, ...],
    edge: str,
    connectivity: int,
    lesions: bool,
    summary: bool,
    form: str,
    table: str,
) -> None:
    """Measure how well predicted masks agree with references.

    Each IMAGE is a prediction; every value but 0 is foreground. Distances are blank where a
    mask is empty, and counted in the summary.
    """
    from lnqtools import metrics, statistics
    from lnqtools.components import METRICS
    from lnqtools.tables import in_world
    from lnqtools.volume import Volume, read_label
    from lnqtools.weaklabel import refuse_unknown

    if lesions and summary:
        raise click.UsageError("--lesions and --summary exclude each other")

    def read_pair(case: Case) -> tuple[Volume, Volume]:
        prediction = batch.read(case, read_label)
        refuse_unknown(prediction)
        true = batch.read_companion(case, reference, "--reference", read_label, prediction.grid)
        with about(f"--reference {reference}"):
            refuse_unknown(true)
        return prediction, true

    def measure(case: Case) -> list[dict]:
        prediction, true = read_pair(case)
        row = metrics.evaluate(
            prediction.array,
            true.array,
            prediction.spacing,
            tolerances=tolerances,
            edge=edge,
            connectivity=connectivity,
        )
        return [{"case": case.name, **row}]

    def describe_lesions(case: Case) -> list[dict]:
        prediction, true = read_pair(case)
        rows = metrics.lesions(
            prediction.array,
            true.array,
            prediction.spacing,
            connectivity=connectivity,
            metrics=METRICS,
            axial_axis=prediction.grid.anatomical_axes()[0],
        )
        return [{"case": case.name, **in_world(row, prediction.grid)} for row in rows]

    for name in batch.unmatched(reference):
        batch.say(f"warning: {name} in --reference {reference} has no prediction")
    if lesions:
        batch.run(describe_lesions, table=table, form=form, columns=_lesion_columns())
    else:
        collapse = statistics.summarise if summary else None
        batch.run(measure, table=table, form=form, collapse=collapse)


def _lesion_columns() -> tuple[str, ...]:
    """Return the columns of --lesions, which a run without components has too."""
    from lnqtools.components import METRICS, column_name

    return (
        *("case", "side", "id", "voxels", "volume_mm3"),
        *(column_name(metric) for metric in METRICS),
        *("centroid_x_mm", "centroid_y_mm", "centroid_z_mm"),
        *("overlap_voxels", "overlap", "hit"),
    )
