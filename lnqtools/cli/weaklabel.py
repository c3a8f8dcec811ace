"""lnq-weaklabel: incomplete annotations → training labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lnqtools.choices import STRATEGIES, UNCOVERED
from lnqtools.cli._batch import Batch, end, rows_of
from lnqtools.cli._case import Case
from lnqtools.cli._contract import image_tool
from lnqtools.cli._lost import ALLOW_EMPTY_OPTION, check_nodes_left
from lnqtools.cli._options import CONNECTIVITY_OPTION, FORMAT_OPTION
from lnqtools.cli._rules import option
from lnqtools.cli._tool import about, command
from lnqtools.cli._values import PATH, Companion, FiniteRange, LabelValues
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume


@command("lnq-weaklabel")
@option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    required=True,
    help="What voxels outside the drawn nodes become: background (full: nothing is missing; "
    "noisy: although nodes are missing), unknown (mask), or a hull of background and unknown "
    "beyond it (coat).",
)
@option(
    "--margin",
    type=click.IntRange(1, 100),
    default=1,
    metavar="N",
    only_with="--strategy coat",
    help="Coat: steps of the hull.",
)
@option(
    "--margin-mm",
    type=FiniteRange(min=0, min_open=True),
    metavar="MM",
    only_with="--strategy coat",
    not_with=("--margin", "--connectivity"),
    help="Coat: thickness of the hull in mm, instead of --margin.",
)
@CONNECTIVITY_OPTION.but(
    only_with="--strategy coat",
    help="Coat: neighbors that one step reaches: faces, edges too, corners too.",
)
@option(
    "--background",
    type=PATH,
    metavar="FILE|DIR",
    help="Mask of what is known to be background (a tumor, say); never over a drawn node.",
)
@option(
    "--values",
    "--foreground-labels",
    "values",
    type=LabelValues(or_none=True),
    help="Values of the annotation that mean lymph node, as 1,3 or 1-8; none: no node is drawn.  "
    "[default: every value but 0]",
)
@option(
    "--like",
    type=Companion(),
    metavar="FILE|DIR",
    help="Write the label onto the grid of this image, the CT or its crop; what the annotation "
    "does not cover is unknown.",
)
@option(
    "--uncovered",
    type=click.Choice(UNCOVERED),
    only_with="--like",
    not_with={"background": "--strategy mask"},
    help="With --like: what voxels are that the annotation does not cover; background where the "
    "whole image was annotated and saved in part.  [default: unknown]",
)
@ALLOW_EMPTY_OPTION.but(only_with="--like")
@option("--table", type=PATH, metavar="FILE", help="Write voxel counts per case.")
@FORMAT_OPTION
@image_tool("table", "form", "allow_empty")
def main(
    batch: Batch,
    strategy: str,
    margin: int,
    margin_mm: float | None,
    connectivity: int,
    background: str | None,
    values: tuple[int, ...] | None,
    like: str | None,
    uncovered: str | None,
    allow_empty: bool,
    table: str | None,
    form: str,
) -> None:
    """Turn incomplete lymph node annotations into training labels.

    Each IMAGE is an annotation in which some nodes are drawn. The label written for it holds 0
    background, 1 lymph node, 2 unknown; nnU-Net's loss leaves unknown voxels out.
    """
    from lnqtools.images import grid as grids
    from lnqtools.images.box import Box
    from lnqtools.images.volume import Volume, read_label
    from lnqtools.labels import lost as lost_nodes
    from lnqtools.labels.masks import listed_values, values_of
    from lnqtools.labels.training import LABEL_NAMES, count_labels, refuse_unknown, with_background
    from lnqtools.labels.weak import Coat, drawn_nodes, unknown_outside, weak_label

    chosen = None if values is None else frozenset(values)
    if chosen is not None:  # its other values may be known background
        batch = batch.allowing_input_as("background")

    def read_nodes(case: Case) -> tuple[np.ndarray, Volume]:
        annotation = case.read(read_label)
        refuse_unknown(annotation)
        if chosen is None and (found := values_of(annotation.array)).size > 1:
            case.warn(f"holds {listed_values(found)}: all are taken as node; --values picks")
        nodes = drawn_nodes(annotation.array, chosen)
        if not nodes.any() and chosen != frozenset():
            case.warn("no node is drawn in it")
        return nodes, annotation

    def target_of(case: Case, source: Grid, place: str) -> Grid:
        """Return the grid of the image that the label is for."""
        target = case.read_companion_grid(place, "--like")
        if grids.lattice_map(source, target) is None:
            how = grids.lattice_difference(source, target)
            raise LnqError(
                f"is on another lattice than --like {place}: {how}; lnq-crop --label --like brings "
                "it there"
            )
        if not (allow_empty or grids.overlap(source, target)):
            raise LnqError(f"lies outside the grid of --like {place}")
        return target

    def label_of(nodes: np.ndarray, grid: Grid) -> np.ndarray:
        is_coat = strategy == "coat"
        coat = Coat(grid.spacing, margin, connectivity, margin_mm) if is_coat else None
        return weak_label(nodes, strategy, coat)

    def label_like(
        case: Case, drawn: np.ndarray, source: Grid, place: str
    ) -> tuple[np.ndarray, Grid, lost_nodes.LostNodes, dict]:
        """Return the label on the grid of --like, the grid, what was lost, and table columns."""
        grid = target_of(case, source, place)
        nodes = grids.place(drawn, source, grid, False)
        passage = check_nodes_left(
            *(case, drawn, source, nodes, grid),
            place=f"the grid of --like {place}",
            allow_empty=allow_empty,
        )
        label = label_of(nodes, grid)
        covered = grids.carry_box(Box.whole(source.shape), source, grid)
        missing = label.size - label[covered].size
        if uncovered != "background":
            label = unknown_outside(label, covered)
            if missing and strategy in ("full", "noisy"):
                case.warn(
                    f"it covers {100 - 100 * missing / label.size:.3g} % of the image, the other "
                    f"{missing} voxels are unknown (--uncovered background if the whole image was "
                    "annotated)"
                )
        return label, grid, passage.lost, {"voxels_uncovered": missing, **passage.row()}

    def known_background(case: Case, grid: Grid, place: str) -> np.ndarray:
        if like is None:
            return case.read_companion(place, "--background", read_label, grid).array
        known = case.read_companion(place, "--background", read_label)
        with about(f"--background {place}"):
            return grids.place(known.array, known.grid, grid, 0)

    def process(case: Case) -> list[dict]:
        drawn, annotation = read_nodes(case)
        grid, lost = annotation.grid, lost_nodes.recorded(annotation)
        columns: dict = {}
        if like is None:
            label = label_of(drawn, grid)
        else:
            label, grid, newly_lost, columns = label_like(case, drawn, grid, like)
            lost += newly_lost
        if background is not None:
            label = with_background(label, known_background(case, grid, background) != 0)
        names = (LABEL_NAMES,)
        case.write(Volume(label, grid, (), names), facts=lost.record())
        counts = count_labels(label).row()
        return [{"case": case.name, **counts, **columns}] if table else []

    done = batch.run(process, table=table)
    batch.write_table(rows_of(done), table, form)
    end(done)
