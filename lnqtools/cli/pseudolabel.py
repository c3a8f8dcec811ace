"""lnq-pseudolabel: training labels + anatomy, teachers → labels with fewer unknown voxels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import click

from lnqtools.cli._batch import Batch, end, rows_of
from lnqtools.cli._case import Case
from lnqtools.cli._contract import image_tool
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    CLASSES_OPTION,
    FORMAT_OPTION,
    METRIC_OPTION,
    REPLACE_NAN_OPTION,
    TRUST_HU_OPTION,
)
from lnqtools.cli._rules import option
from lnqtools.cli._tool import about, command
from lnqtools.cli._totalseg import (
    ANATOMY,
    DOWNLOAD_OPTION,
    KEEP_ANATOMY_OPTION,
    RUNNING,
    TOTALSEGMENTATOR,
    Running,
    about_map,
    open_segmenter,
    segmented,
)
from lnqtools.cli._values import HU, PATH, FiniteRange, parse_structures

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume
    from lnqtools.labels.fill import Verdict
    from lnqtools.totalseg.segmenter import Segmenter

    Map = tuple[dict[int, str], np.ndarray]
    Source = Callable[[Case, Grid, Volume | None], Map]


TOTALSEGMENTATOR_RUNS = ("--anatomy totalsegmentator", "--vessels totalsegmentator")


@command("lnq-pseudolabel")
@option(
    "--anatomy",
    type=PATH,
    metavar="FILE|DIR|totalsegmentator",
    needs={"totalsegmentator": "--ct"},
    help="TotalSegmentator multilabel map on the label's grid, or on a larger one of its lattice; "
    "totalsegmentator makes it from the --ct.",
)
@option(
    "--structures",
    default="all",
    callback=parse_structures,
    only_with="--anatomy",
    metavar="NAME,...|@FILE",
    help="Structures that become background: all, mediastinum, lungs, names (rib_* matches "
    "many), -NAME leaves one out, @FILE reads a list.",
)
@CLASSES_OPTION.but(only_with="--anatomy FILE|DIR")
@option(
    "--vessels",
    type=PATH,
    metavar="FILE|DIR|totalsegmentator",
    only_with="--anatomy",
    needs={"totalsegmentator": "--ct"},
    help="Map of the task lung_vessels, all of which becomes background, too: version 2 of the "
    "task total has no pulmonary artery.",
)
@option(
    "--lung-hu-max",
    type=HU,
    metavar="HU",
    only_with="--anatomy",
    needs="--ct",
    help="Do not use lobe voxels above HU in the --ct: effusion and hilar nodes hide there.",
)
@option(
    "--ct",
    type=PATH,
    metavar="FILE|DIR",
    only_with=(*TOTALSEGMENTATOR_RUNS, "--lung-hu-max"),
    help="CT, for totalsegmentator and for --lung-hu-max; on the label's grid or a larger one of "
    "its lattice.",
)
@REPLACE_NAN_OPTION.but(only_with="--ct")
@TRUST_HU_OPTION.but(only_with="--ct")
@option(
    "--erode",
    "erode_mm",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="MM",
    only_with="--anatomy",
    help="Shrink the union of the structures by MM first.",
)
@option(
    "--teacher",
    type=PATH,
    metavar="FILE|DIR",
    multiple=True,
    help="Map of a trained model's probabilities, as lnq-infer --probabilities writes it, on the "
    "label's grid or a larger one of its lattice; may be given for several models.",
)
@option(
    "--fg",
    type=FiniteRange(0, 1),
    default=1.0,
    metavar="P",
    only_with="--teacher",
    help="Fill with node where the teachers' probability is above P; 1 fills none.",
)
@option(
    "--bg",
    type=FiniteRange(0, 1),
    default=0.0,
    metavar="P",
    only_with="--teacher",
    help="Fill with background where the teachers' probability is below P; 0 fills none.",
)
@option(
    "--agree",
    type=click.IntRange(min=1),
    metavar="N",
    only_with="--teacher",
    help="How many teachers must agree on a voxel.  [default: all]",
)
@option(
    "--min-diameter",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="MM",
    only_with="--teacher",
    help="Fill no node that, together with drawn voxels it touches, has a shorter diameter.",
)
@METRIC_OPTION.but(only_with="--min-diameter")
@option(
    "--min-volume",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="MM3",
    only_with="--teacher",
    help="Likewise, none of a smaller volume.",
)
@option("--table", type=PATH, metavar="FILE", help="Write voxel counts per case.")
@option(
    "--by-structure",
    is_flag=True,
    only_with="--table",
    needs="--anatomy",
    help="A row of the table for each structure in a case: how much of the drawn nodes it covers.",
)
@FORMAT_OPTION
@option(
    "--fast",
    is_flag=True,
    only_with="--anatomy totalsegmentator",
    help="Let totalsegmentator use its 3 mm model.",
)
@KEEP_ANATOMY_OPTION.but(only_with="--anatomy totalsegmentator")
@DOWNLOAD_OPTION.but(only_with=TOTALSEGMENTATOR_RUNS)
@DEVICE_OPTION.but(only_with=TOTALSEGMENTATOR_RUNS)
@THREADS_OPTION.but(only_with=TOTALSEGMENTATOR_RUNS)
@image_tool(
    *("table", "form", "by_structure", "trust_hu", *RUNNING), more_outputs={ANATOMY: "keep_anatomy"}
)
def main(
    batch: Batch,
    anatomy: str | None,
    structures: str,
    classes: str,
    vessels: str | None,
    lung_hu_max: float | None,
    ct: str | None,
    replace_nan: float | None,
    trust_hu: bool,
    erode_mm: float,
    teacher: tuple[str, ...],
    fg: float,
    bg: float,
    agree: int | None,
    min_diameter: float,
    metric: str,
    min_volume: float,
    table: str | None,
    by_structure: bool,
    form: str,
    fast: bool,
    keep_anatomy: str | None,
    download: bool,
    device: str,
    threads: int | None,
) -> None:
    """Fill unknown voxels from known anatomy, and from what trained models are sure of.

    Each IMAGE is a training label: 0 background, 1 lymph node, 2 unknown. Only unknown voxels
    change; drawn nodes and known background stay. Structures of the --anatomy become
    background, and no voxel inside them becomes node. A --teacher fills what is left.
    """
    from lnqtools.anatomy.maps import LOBES, chosen_labels, labels_mask
    from lnqtools.images.hounsfield import read_ct
    from lnqtools.images.volume import Volume, read_label
    from lnqtools.labels import fill
    from lnqtools.labels.lost import recorded
    from lnqtools.labels.training import LABEL_NAMES, check_label, count_labels

    _check_fillers(anatomy, teacher, fg, bg, agree)

    def structure_mask(maps: list[Map], hu: np.ndarray | None) -> np.ndarray:
        """Return the chosen structures, and the vessels."""
        names, part = maps[0]
        with about(f"--anatomy {anatomy}"):
            mask = labels_mask(part, chosen_labels(names, structures))
            if lung_hu_max is not None and hu is not None:
                lobes = labels_mask(part, chosen_labels(names, ",".join(LOBES)))
                mask = fill.without_dense_lung(mask, lobes, hu, lung_hu_max)
        for vessel_names, vessel_part in maps[1:]:
            mask |= labels_mask(vessel_part, frozenset(vessel_names))
        return mask

    def find_structures(
        case: Case, label: Volume, sources: list[Source]
    ) -> tuple[list[Map], np.ndarray | None]:
        """Return the maps of a case if the table wants them, and the voxels inside structures.

        The latter are None without anatomy.
        """
        if not sources:
            return [], None
        whole_ct = hu = None
        if ct is not None:
            reader = partial(read_ct, replace_nan=replace_nan, trust_hu=trust_hu)
            whole_ct, hu = case.read_covering(ct, "--ct", reader, label.grid)
        maps = [source(case, label.grid, whole_ct) for source in sources]
        return maps if by_structure else [], structure_mask(maps, hu)

    def verdict_of_teachers(case: Case, grid: Grid) -> Verdict:
        """Return what enough teachers agree on."""
        return fill.teachers_verdict(
            _probabilities(case, teacher, grid),
            node_above=fg,
            background_below=bg,
            agree=agree or len(teacher),
        )

    def process(case: Case, sources: list[Source]) -> list[dict]:
        label = case.read(read_label)
        check_label(label.array)
        before = count_labels(label.array)
        if not before.unknown:
            case.warn("it has no unknown voxels, so it stays as it is (lnq-weaklabel makes some)")
        anatomy_says = teachers_say = None
        maps, inside = find_structures(case, label, sources)
        if inside is not None:
            mask = fill.eroded(inside, erode_mm, label.spacing)
            anatomy_says = fill.Verdict(background=mask, veto=inside)
        if teacher:
            teachers_say = verdict_of_teachers(case, label.grid)
        filled = fill.fill_unknown(
            label.array,
            [verdict for verdict in (anatomy_says, teachers_say) if verdict],
            label.grid,
            min_mm=min_diameter,
            metric=metric,
            min_volume_mm3=min_volume,
        )
        covered = filled.outcomes[0].covered if anatomy_says else None
        if covered:
            case.warn(f"the anatomy covers {covered} node voxels; they stay nodes")
        written = Volume(filled.label, label.grid, (), (LABEL_NAMES,))
        case.write(written, facts=recorded(label).record())
        if table is None:
            return []
        if by_structure:
            return [
                {"case": case.name, **row}
                for names, part in maps
                for row in fill.structure_overlaps(label.array, part, names)
            ]
        return [
            {
                "case": case.name,
                "voxels_unknown_before": before.unknown,
                "voxels_node_covered": covered,
                **fill.teacher_columns(filled.outcomes[-1] if teachers_say else None),
                **filled.counts(before).row(),
            }
        ]

    with ExitStack() as stack:

        def source(place: str, option: str, task: str, version: str, kept: bool) -> Source:
            if place != TOTALSEGMENTATOR:
                return _given(place, option, task, version)
            nonlocal batch
            opened = open_segmenter(
                batch,
                Running(device, threads, download),
                task=task,
                fast=fast and task == "total",
                structures=structures if task == "total" else "all",
                table=table,
            )
            batch, segmenter = stack.enter_context(opened)
            return _made(segmenter, keep=kept)

        sources = []
        if anatomy is not None:
            kept = keep_anatomy is not None
            sources.append(source(anatomy, "--anatomy", "total", classes, kept))
        if vessels is not None:
            sources.append(source(vessels, "--vessels", "lung_vessels", "auto", False))
        done = batch.run(partial(process, sources=sources), table=table)
        batch.write_table(rows_of(done), table, form)
        end(done)


def _given(place: str, option: str, task: str, classes: str) -> Source:
    """Return a source that reads maps of a task."""
    from lnqtools.anatomy.maps import check_task, read_map, structure_names

    context = about_map if task == "total" else about

    def part_of(case: Case, grid: Grid, ct: Volume | None) -> Map:
        whole, part = case.read_covering(place, option, read_map, grid)
        with context(f"{option} {place}"):
            names = structure_names(whole, classes)
            check_task(names, task)
        return names, part

    return part_of


def _made(segmenter: Segmenter, *, keep: bool) -> Source:
    """Return a source that has TotalSegmentator make maps of the CTs."""
    from lnqtools.anatomy.maps import structure_names
    from lnqtools.images.grid import cut_out

    def part_of(case: Case, grid: Grid, ct: Volume | None) -> Map:
        assert ct is not None  # totalsegmentator needs --ct
        found = segmented(case, segmenter, ct)
        if keep:
            case.write(found, ANATOMY)
        return structure_names(found), cut_out(found.array, found.grid, grid)

    return part_of


def _probabilities(case: Case, teachers: tuple[str, ...], grid: Grid) -> Iterator[np.ndarray]:
    """Yield each teacher's probabilities on a grid."""
    from lnqtools.images.volume import read_volume
    from lnqtools.labels.fill import check_probabilities

    def read(path: Path) -> Volume:
        volume = read_volume(path)
        check_probabilities(volume.array)
        return volume

    for place in teachers:
        yield case.read_covering(place, "--teacher", read, grid)[1]


def _check_fillers(
    anatomy: str | None, teacher: tuple[str, ...], fg: float, bg: float, agree: int | None
) -> None:
    """Refuse to fill from nothing, and teachers that fill nothing or contradict themselves."""
    if anatomy is None and not teacher:
        raise click.UsageError("say what fills unknown voxels: --anatomy, --teacher or both")
    if teacher:
        _check_teachers(teacher, fg, bg, agree)


def _check_teachers(teacher: tuple[str, ...], fg: float, bg: float, agree: int | None) -> None:
    """Refuse thresholds and votes that fill nothing or contradict each other."""
    if fg == 1 and bg == 0:
        raise click.UsageError("--teacher fills nothing without --fg P or --bg P")
    if bg > fg:
        raise click.UsageError(f"--bg {bg:g} is above --fg {fg:g}: voxels between would be both")
    if agree is not None and agree > len(teacher):
        raise click.UsageError(f"--agree {agree}: there are {len(teacher)} teachers")
    if len({os.path.realpath(place) for place in teacher}) < len(teacher):
        raise click.UsageError("a --teacher is named twice, and would vote twice")
