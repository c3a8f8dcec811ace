"""lnq-pseudolabel: training labels + anatomy → training labels with fewer unknown voxels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import click

from lnqtools.cli._batch import Batch, Case, about
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    CLASSES_OPTION,
    FORMAT_OPTION,
    HU,
    REPLACE_NAN_OPTION,
    FiniteRange,
    command,
    image_tool,
    parse_structures,
)
from lnqtools.cli._totalseg import (
    DOWNLOAD_OPTION,
    KEEP_ANATOMY_OPTION,
    RUNNING,
    TOTALSEGMENTATOR,
    open_segmenter,
    refuse_options,
    segmented,
)

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.grid import Grid
    from lnqtools.totalseg.segmenter import Segmenter
    from lnqtools.volume import Volume

    Map = tuple[dict[int, str], np.ndarray]
    Source = Callable[[Case, Grid, Volume | None], Map]


@command("lnq-pseudolabel")
@click.option(
    "--anatomy",
    type=click.Path(),
    metavar="FILE|DIR|totalsegmentator",
    required=True,
    help="TotalSegmentator multilabel map on the label's grid, or on a larger one of its lattice; "
    "totalsegmentator makes it from the --ct.",
)
@click.option(
    "--structures",
    default="all",
    callback=parse_structures,
    metavar="NAME,...|@FILE",
    help="Structures that become background: all, mediastinum, lungs, names (rib_* matches "
    "many), -NAME leaves one out, @FILE reads a list.",
)
@CLASSES_OPTION
@click.option(
    "--vessels",
    type=click.Path(),
    metavar="FILE|DIR|totalsegmentator",
    help="Map of the task lung_vessels, all of which becomes background, too: version 2 of the "
    "task total has no pulmonary artery.",
)
@click.option(
    "--lung-hu-max",
    type=HU,
    metavar="HU",
    help="Do not use lobe voxels above HU in the --ct: effusion and hilar nodes hide there.",
)
@click.option(
    "--ct",
    type=click.Path(),
    metavar="FILE|DIR",
    help="CT, for totalsegmentator and for --lung-hu-max; on the label's grid or a larger one of "
    "its lattice.",
)
@REPLACE_NAN_OPTION
@click.option(
    "--erode",
    "erode_mm",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="MM",
    help="Shrink the union of the structures by MM first.",
)
@click.option("--table", type=click.Path(), metavar="FILE", help="Write voxel counts per case.")
@click.option(
    "--by-structure",
    is_flag=True,
    help="A row of the table for each structure in a case: how much of the drawn nodes it covers.",
)
@FORMAT_OPTION
@click.option("--fast", is_flag=True, help="Let totalsegmentator use its 3 mm model.")
@KEEP_ANATOMY_OPTION
@DOWNLOAD_OPTION
@DEVICE_OPTION
@THREADS_OPTION
@image_tool("table", "form", "by_structure", *RUNNING)
def main(
    batch: Batch,
    anatomy: str,
    structures: str,
    classes: str,
    vessels: str | None,
    lung_hu_max: float | None,
    ct: str | None,
    replace_nan: float | None,
    erode_mm: float,
    table: str | None,
    by_structure: bool,
    form: str,
    fast: bool,
    keep_anatomy: str | None,
    download: bool,
    device: str,
    threads: int | None,
) -> None:
    """Set unknown voxels inside known anatomy to background.

    Each IMAGE is a training label: 0 background, 1 lymph node, 2 unknown. Only unknown voxels
    change; a drawn node is never overwritten.
    """
    from lnqtools import pseudolabel
    from lnqtools.anatomy import LOBES, chosen_labels, labels_mask
    from lnqtools.volume import Volume, read_label, read_volume
    from lnqtools.weaklabel import LABEL_NAMES, UNKNOWN, check_label, count_labels

    _check(anatomy, vessels, lung_hu_max, ct, by_structure, table)
    if keep_anatomy is not None:
        batch.also_into = (keep_anatomy,)

    def structure_mask(maps: list[Map], hu: np.ndarray | None) -> np.ndarray:
        """Return what becomes background: the chosen structures, and the vessels."""
        names, part = maps[0]
        with about(f"--anatomy {anatomy}"):
            mask = labels_mask(part, chosen_labels(names, structures))
            if lung_hu_max is not None and hu is not None:
                lobes = labels_mask(part, chosen_labels(names, ",".join(LOBES)))
                mask = pseudolabel.without_dense_lung(mask, lobes, hu, lung_hu_max)
        for _, vessel_part in maps[1:]:
            mask |= vessel_part != 0
        return mask

    def process(case: Case, sources: list[Source]) -> list[dict]:
        label = batch.read(case, read_label)
        check_label(label.array)
        if not (label.array == UNKNOWN).any():
            batch.warn("it has no unknown voxels, so it stays as it is (lnq-weaklabel makes some)")
        whole_ct = hu = None
        if ct is not None:
            read_ct = partial(read_volume, replace_nan=replace_nan)
            whole_ct, hu = batch.read_covering(case, ct, "--ct", read_ct, label.grid)
        maps = [source(case, label.grid, whole_ct) for source in sources]
        mask = pseudolabel.eroded(structure_mask(maps, hu), erode_mm, label.spacing)
        covered = pseudolabel.covered_node_voxels(label.array, mask)
        if covered:
            batch.warn(f"the anatomy covers {covered} node voxels; they stay nodes")
        result = pseudolabel.apply_anatomy(label.array, mask)
        batch.write(case, Volume(result, label.grid, (), (LABEL_NAMES,)))
        if by_structure:
            return [
                {"case": case.name, **row}
                for names, part in maps
                for row in pseudolabel.structure_overlaps(label.array, part, names)
            ]
        before, after = count_labels(label.array), count_labels(result)
        return [
            {
                "case": case.name,
                "voxels_unknown_before": before.unknown,
                "voxels_node_covered": covered,
                **after.row(),
            }
        ]

    with ExitStack() as stack:

        def source(place: str, option: str, task: str, version: str, kept: bool) -> Source:
            if place != TOTALSEGMENTATOR:
                return _given(batch, place, option, version)
            opened = open_segmenter(
                batch,
                task=task,
                fast=fast and task == "total",
                device=device,
                threads=threads,
                download=download,
            )
            segmenter = stack.enter_context(opened)
            return _made(batch, segmenter, keep=kept)

        sources = [source(anatomy, "--anatomy", "total", classes, keep_anatomy is not None)]
        if vessels is not None:
            sources.append(source(vessels, "--vessels", "lung_vessels", "auto", False))
        batch.run(partial(process, sources=sources), table=table, form=form)


def _given(batch: Batch, place: str, option: str, classes: str) -> Source:
    """Return a source that reads maps."""
    from lnqtools.anatomy import read_map, structure_names

    def part_of(case: Case, grid: Grid, ct: Volume | None) -> Map:
        whole, part = batch.read_covering(case, place, option, read_map, grid)
        with about(f"{option} {place}"):
            return structure_names(whole, classes), part

    return part_of


def _made(batch: Batch, segmenter: Segmenter, *, keep: bool) -> Source:
    """Return a source that has TotalSegmentator make maps of the CTs."""
    from lnqtools.anatomy import structure_names
    from lnqtools.grid import cut_out

    def part_of(case: Case, grid: Grid, ct: Volume | None) -> Map:
        assert ct is not None  # _check
        found = segmented(batch, segmenter, ct)
        if keep:
            batch.write(case, found, 1)
        return structure_names(found), cut_out(found.array, found.grid, grid)

    return part_of


def _check(anatomy, vessels, lung_hu_max, ct, by_structure, table) -> None:
    """Refuse options that contradict each other or have no effect."""
    runs = TOTALSEGMENTATOR in (anatomy, vessels)
    if ct is None and runs:
        raise click.UsageError(f"{TOTALSEGMENTATOR} needs the --ct")
    if ct is None and lung_hu_max is not None:
        raise click.UsageError("--lung-hu-max needs the --ct")
    if ct is not None and not runs and lung_hu_max is None:
        raise click.UsageError(f"--ct is for {TOTALSEGMENTATOR} and --lung-hu-max")
    if ct is None:
        refuse_options("--ct", "replace_nan")
    if not runs:
        refuse_options(TOTALSEGMENTATOR, "fast", *RUNNING)
    if anatomy == TOTALSEGMENTATOR:
        refuse_options("--anatomy FILE|DIR", "classes")
    else:
        refuse_options(f"--anatomy {TOTALSEGMENTATOR}", "keep_anatomy", "fast")
    if by_structure and table is None:
        raise click.UsageError("--by-structure is for --table")
