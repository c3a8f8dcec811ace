"""lnq-weaklabel: incomplete annotations → training labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lnqtools.cli._batch import Batch, Case
from lnqtools.cli._options import (
    FORMAT_OPTION,
    PATH,
    FiniteRange,
    command,
    connectivity_option,
    image_tool,
    was_given,
)

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.grid import Grid


def parse_labels(context, parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse ``1,3``, or ``none`` for no label at all."""
    if value is None:
        return None
    if value == "none":
        return ()
    try:
        labels = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        labels = (0,)
    if labels[0] < 1:
        raise click.BadParameter(f"{value!r} is not a list like 1,3, nor none")
    return labels


@command("lnq-weaklabel")
@click.option(
    "--strategy",
    type=click.Choice(["full", "noisy", "mask", "coat"]),
    required=True,
    help="What voxels outside the drawn nodes become: background (full: nothing is missing; "
    "noisy: although nodes are missing), unknown (mask), or a hull of background and unknown "
    "beyond it (coat).",
)
@click.option(
    "--margin", type=click.IntRange(1, 100), default=1, metavar="N", help="Coat: steps of the hull."
)
@click.option(
    "--margin-mm",
    type=FiniteRange(min=0, min_open=True),
    metavar="MM",
    help="Coat: thickness of the hull in mm, instead of --margin.",
)
@connectivity_option("Coat: neighbours that one step reaches: faces, edges too, corners too.")
@click.option(
    "--background",
    type=PATH,
    metavar="FILE|DIR",
    help="Mask of what is known to be background (a tumour, say); never over a drawn node.",
)
@click.option(
    "--foreground-labels",
    metavar="N,...",
    callback=parse_labels,
    help="Values of the annotation that mean lymph node; 'none': no node is drawn.  "
    "[default: every value but 0]",
)
@click.option("--table", type=PATH, metavar="FILE", help="Write voxel counts per case.")
@FORMAT_OPTION
@image_tool("table", "form")
def main(
    batch: Batch,
    strategy: str,
    margin: int,
    margin_mm: float | None,
    connectivity: int,
    background: str | None,
    foreground_labels: tuple[int, ...] | None,
    table: str | None,
    form: str,
) -> None:
    """Turn incomplete lymph node annotations into training labels.

    Each IMAGE is an annotation in which some nodes are drawn. The label written for it holds 0
    background, 1 lymph node, 2 unknown; nnU-Net's loss leaves unknown voxels out.
    """
    from lnqtools import weaklabel
    from lnqtools.volume import Volume, read_label

    _check(strategy)
    chosen = None if foreground_labels is None else frozenset(foreground_labels)
    if chosen is not None:  # its other values may be known background
        batch.may_be_input = frozenset({"background"})

    def read_nodes(case: Case) -> tuple[np.ndarray, Grid]:
        annotation = batch.read(case, read_label)
        weaklabel.refuse_unknown(annotation)
        nodes = weaklabel.drawn_nodes(annotation.array, chosen)
        if not nodes.any() and chosen != frozenset():
            batch.warn("no node is drawn in it")
        return nodes, annotation.grid

    def process(case: Case) -> list[dict]:
        nodes, grid = read_nodes(case)
        coat = None
        if strategy == "coat":
            coat = weaklabel.Coat(grid.spacing, margin, connectivity, margin_mm)
        label = weaklabel.weak_label(nodes, strategy, coat)
        if background is not None:
            known = batch.read_companion(case, background, "--background", read_label, grid)
            label = weaklabel.with_background(label, known.array != 0)
        batch.write(case, Volume(label, grid, (), (weaklabel.LABEL_NAMES,)))
        return [{"case": case.name, **weaklabel.count_labels(label).row()}] if table else []

    batch.run(process, table=table, form=form)


def _check(strategy: str) -> None:
    """Refuse options of the coat that would be ignored."""
    given = {name for name in ("margin", "margin_mm", "connectivity") if was_given(name)}
    if given and strategy != "coat":
        raise click.UsageError("--margin, --margin-mm and --connectivity are for --strategy coat")
    if "margin_mm" in given and len(given) > 1:
        raise click.UsageError("--margin-mm excludes --margin and --connectivity")
