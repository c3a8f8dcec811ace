"""lnq-weaklabel: incomplete annotations, drawn or measured → training labels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from lnqtools.choices import STRATEGIES, UNCOVERED
from lnqtools.cli._batch import Batch, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import image_tool
from lnqtools.cli._lost import ALLOW_EMPTY_OPTION, check_nodes_left
from lnqtools.cli._models import read_text
from lnqtools.cli._names import near_names, same_name
from lnqtools.cli._options import CONNECTIVITY_OPTION, FORMAT_OPTION
from lnqtools.cli._rules import option
from lnqtools.cli._tool import about, command
from lnqtools.cli._values import PATH, Companion, FiniteRange, LabelValues
from lnqtools.errors import LnqError, listed

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume
    from lnqtools.labels.lost import LostNodes
    from lnqtools.labels.measured import Measurement
    from lnqtools.labels.weak import Coat


@command("lnq-weaklabel", example="lnq-weaklabel annotations/*.nii.gz --strategy mask -O masked")
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
    "--measurements",
    type=Companion(),
    metavar="TABLE",
    not_with="--like",
    help="Table of nodes that were measured, not drawn: the core of each is node, a ring around it "
    "unknown. With --values none IMAGE may be the CT.",
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
    measurements: str | None,
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
    if values is not None:  # its other values may be known background
        batch = batch.allowing_input_as("background")
    measured = None
    if measurements is not None:
        measured = MeasuredNodes.read(measurements)
        batch = measured.made_into(batch)
    labeling = Labeling(
        strategy,
        coat={"steps": margin, "connectivity": connectivity, "distance_mm": margin_mm},
        values=None if values is None else frozenset(values),
        background=background,
        measured=measured,
        like=like,
        uncovered=uncovered,
        allow_empty=allow_empty,
        tabulated=table is not None,
    )
    done = batch.run(labeling.process, table=table)
    batch.write_table([one.result for one in done if one.result], table, form)
    end(done)


@dataclass(frozen=True)
class MeasuredNodes:
    """The table of --measurements: where it is, its nodes by case in one spelling, its digest."""

    path: str
    by_case: Mapping[str, Sequence[Measurement]]
    content: str

    @classmethod
    def read(cls, path: str) -> MeasuredNodes:
        """Read a table, or raise LnqError that names it."""
        from lnqtools.files.streams import digest_to_end
        from lnqtools.files.tables import read_table
        from lnqtools.labels.measured import measurements_by_case

        with about(f"--measurements {path}"):
            text = read_text(path)
            found = measurements_by_case(read_table(text))
        digest = digest_to_end(io.BytesIO(text.encode(errors="surrogateescape")))
        return cls(path, {same_name(case): nodes for case, nodes in found.items()}, digest)

    def made_into(self, batch: Batch) -> Batch:
        """Return a batch whose images say that they are made from this; warn of other cases."""
        others = sorted(self.by_case.keys() - batch.companions.cases)
        if others and not batch.plan.elsewhere:
            count = f"{len(others)} without an image"
            batch.say(f"warning: --measurements {self.path} has {count}: {listed(others)}")
        contents = {"measurements": {self.path: self.content}}
        return replace(batch, making=batch.making.adding(contents=contents))

    def core_and_reach(self, case: Case, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Return what a case's nodes hold and reach, see `lnqtools.labels.measured.implied`."""
        from lnqtools.labels.measured import implied, located

        name = same_name(case.name)
        with about(f"--measurements {self.path}"):
            if name not in self.by_case:
                near = near_names(name, sorted(self.by_case))
                meant = f" (did you mean {' or '.join(near)}?)" if near else ""
                raise LnqError(f"has no row of the case {name}{meant}")
            return implied([located(row, grid) for row in self.by_case[name]], grid)


@dataclass(frozen=True)
class Labeling:
    """How an annotation becomes a training label, as the options of the same names say.

    ``measured`` is the table of --measurements. ``tabulated`` tells whether there is a table of
    counts.
    """

    strategy: str
    coat: dict[str, Any]
    values: frozenset[int] | None
    background: str | None
    measured: MeasuredNodes | None
    like: str | None
    uncovered: str | None
    allow_empty: bool
    tabulated: bool

    def process(self, case: Case) -> dict | None:
        """Write the label of a case; return its row of the table, if there is one."""
        from lnqtools.images.volume import Volume
        from lnqtools.labels.lost import recorded
        from lnqtools.labels.measured import label_of_measured
        from lnqtools.labels.training import LABEL_NAMES, count_labels, with_background

        nodes, annotation = self._read_nodes(case)
        grid, lost = annotation.grid, recorded(annotation)
        columns: dict = {}
        if self.measured is not None:
            core, reach = self.measured.core_and_reach(case, grid)
            label = label_of_measured(nodes, core, reach, self.strategy, self._coat_on(grid))
        elif self.like is None:
            label = self._label(nodes, grid)
        else:
            grid = self._target(case, annotation.grid, self.like)
            label, newly_lost, columns = self._label_on(case, nodes, annotation.grid, grid)
            lost += newly_lost
        if self.background is not None:
            label = with_background(label, self._known_background(case, grid) != 0)
        case.write(Volume(label, grid, (), (LABEL_NAMES,)), facts=lost.record())
        if not self.tabulated:
            return None
        return {"case": case.name, **count_labels(label).row(), **columns}

    def _read_nodes(self, case: Case) -> tuple[np.ndarray, Volume]:
        """Return the drawn nodes of a case, and its annotation, which may be its CT if none are."""
        import numpy as np

        from lnqtools.images.volume import NegativeLabelError, read_label, read_volume
        from lnqtools.labels.masks import listed_values, values_of
        from lnqtools.labels.training import refuse_unknown
        from lnqtools.labels.weak import drawn_nodes

        if self.measured is not None and self.values == frozenset():
            image = case.read(read_volume)
            return np.zeros(image.array.shape, bool), image
        try:
            annotation = case.read(read_label)
        except NegativeLabelError as error:
            if self.measured is None:
                raise
            raise LnqError(f"{error}; with --values none it may be a CT") from None
        refuse_unknown(annotation)
        if self.values is None and (found := values_of(annotation.array)).size > 1:
            case.warn(f"holds {listed_values(found)}: all are taken as node; --values picks")
        nodes = drawn_nodes(annotation.array, self.values)
        if not nodes.any() and self.values != frozenset() and self.measured is None:
            case.warn("no node is drawn in it")
        return nodes, annotation

    def _label(self, nodes: np.ndarray, grid: Grid) -> np.ndarray:
        """Return the label of nodes on a grid."""
        from lnqtools.labels.weak import weak_label

        return weak_label(nodes, self.strategy, self._coat_on(grid))

    def _coat_on(self, grid: Grid) -> Coat | None:
        from lnqtools.labels.weak import Coat

        return Coat(grid.spacing, **self.coat) if self.strategy == "coat" else None

    def _target(self, case: Case, source: Grid, place: str) -> Grid:
        """Return the grid of the image that the label is for."""
        from lnqtools.images import grid as grids

        target = case.read_companion_grid(place, "--like")
        if grids.lattice_map(source, target) is None:
            how = grids.lattice_difference(source, target)
            raise LnqError(
                f"is on another lattice than --like {place}: {how}; lnq-crop --label --like brings "
                "it there"
            )
        if not (self.allow_empty or grids.overlap(source, target)):
            raise LnqError(f"lies outside the grid of --like {place}")
        return target

    def _label_on(
        self, case: Case, drawn: np.ndarray, source: Grid, grid: Grid
    ) -> tuple[np.ndarray, LostNodes, dict]:
        """Return the label on the grid of --like, the nodes that are lost, and table columns."""
        from lnqtools.images.box import Box
        from lnqtools.images.grid import carry_box, place
        from lnqtools.labels.weak import unknown_outside

        nodes = place(drawn, source, grid, False)
        passage = check_nodes_left(
            *(case, drawn, source, nodes, grid),
            place=f"the grid of --like {self.like}",
            allow_empty=self.allow_empty,
        )
        label = self._label(nodes, grid)
        covered = carry_box(Box.whole(source.shape), source, grid)
        missing = label.size - label[covered].size
        if self.uncovered != "background":
            label = unknown_outside(label, covered)
            if missing and self.strategy in ("full", "noisy"):
                case.warn(
                    f"it covers {100 - 100 * missing / label.size:.3g} % of the image, the other "
                    f"{missing} voxels are unknown (--uncovered background if the whole image was "
                    "annotated)"
                )
        return label, passage.lost, {"voxels_uncovered": missing, **passage.row()}

    def _known_background(self, case: Case, grid: Grid) -> np.ndarray:
        """Return the mask of --background on the label's grid."""
        from lnqtools.images.grid import place
        from lnqtools.images.volume import read_label

        where = str(self.background)
        if self.like is None:
            return case.read_companion(where, "--background", read_label, grid).array
        known = case.read_companion(where, "--background", read_label)
        with about(f"--background {where}"):
            return place(known.array, known.grid, grid, 0)
