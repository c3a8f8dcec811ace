"""lnq-pseudolabel: training labels + what is known → labels with fewer unknown voxels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

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
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.layers import Layers
    from lnqtools.images.volume import Volume
    from lnqtools.labels.fill import Filled, Outcome, Verdict
    from lnqtools.labels.training import LabelCounts
    from lnqtools.totalseg.segmenter import Segmenter

    Source = Callable[[Case, Grid, Volume | None], "Map"]


HULL = "hull"
FROM_HU = "hu"
OUTSIDE = "outside"
"""What the table by structure calls all that lies outside the region."""
TOTALSEGMENTATOR_RUNS = ("--anatomy totalsegmentator", "--vessels totalsegmentator")


@command("lnq-pseudolabel", example="lnq-pseudolabel masked/*.nii.gz --anatomy anatomy -O labels")
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
    only_with=(*TOTALSEGMENTATOR_RUNS, "--lung-hu-max", "--lungs hu"),
    help="CT, for totalsegmentator, --lung-hu-max and --lungs hu; on the label's grid or a larger "
    "one of its lattice.",
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
    "--outside",
    type=PATH,
    metavar="hull|FILE|DIR",
    needs={HULL: ("--anatomy", "--lungs")},
    help="Background is what lies outside the lungs' convex hull in each axial slice (hull), or "
    "where a mask of a region is 0.",
)
@option(
    "--lungs",
    type=PATH,
    metavar="hu|FILE|DIR",
    only_with="--outside hull",
    needs={FROM_HU: "--ct"},
    help="Where the lungs of the hull are: found in the --ct from HU alone (hu), or a lung mask or "
    "TotalSegmentator map.  [default: the lobes of the --anatomy]",
)
@option(
    "--margin-mm",
    type=FiniteRange(min=0),
    default=5.0,
    metavar="M",
    only_with="--outside hull",
    help="Widen the hull by M mm in each slice.",
)
@option(
    "--ends-mm",
    type=FiniteRange(min=0),
    default=50.0,
    metavar="E",
    only_with="--outside hull",
    help="Whole slices up to E mm above and below the lungs are not outside.",
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
    help="Fill no node whose diameter, with drawn voxels that it touches, is below MM.",
)
@METRIC_OPTION.but(only_with="--min-diameter")
@option(
    "--min-volume",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="MM3",
    only_with="--teacher",
    help="Fill no node whose volume, measured likewise, is below MM3.",
)
@option("--table", type=PATH, metavar="FILE", help="Write voxel counts per case.")
@option(
    "--by-structure",
    is_flag=True,
    only_with="--table",
    needs=("--anatomy", "--outside"),
    help="A row of the table for each structure in a case, and one for what lies outside: how much "
    "of the drawn nodes it covers.",
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
    outside: str | None,
    lungs: str | None,
    margin_mm: float,
    ends_mm: float,
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
    change; drawn nodes and known background stay. Structures of the --anatomy become background,
    as does what lies --outside a region, and no voxel there becomes node. A --teacher fills what
    is left.
    """
    _check_fillers(anatomy, outside, teacher, fg, bg, agree)
    running = Running(device, threads, download)
    with ExitStack() as stack:
        sources = []
        for place, option_name, task, version in (
            (anatomy, "--anatomy", "total", classes),
            (vessels, "--vessels", "lung_vessels", "auto"),
        ):
            if place == TOTALSEGMENTATOR:
                is_total = task == "total"
                opened = open_segmenter(
                    batch,
                    running,
                    task=task,
                    fast=fast and is_total,
                    structures=structures if is_total else "all",
                    table=table,
                )
                batch, segmenter = stack.enter_context(opened)
                sources.append(_made(segmenter, keep=is_total and keep_anatomy is not None))
            elif place is not None:
                sources.append(_given(place, option_name, task, version))
        about_anatomy = f"--anatomy {anatomy}"
        filling = Filling(
            CTs(ct, {"replace_nan": replace_nan, "trust_hu": trust_hu}),
            Structures(sources, about_anatomy, structures, lung_hu_max, erode_mm)
            if sources
            else None,
            Region(outside, lungs, about_anatomy, margin_mm, ends_mm)
            if outside is not None
            else None,
            Teachers(teacher, fg, bg, agree or len(teacher)) if teacher else None,
            {"min_mm": min_diameter, "metric": metric, "min_volume_mm3": min_volume},
        )
        rows = None if table is None else by_structure_rows if by_structure else case_rows
        done = batch.run(partial(_process, filling=filling, rows=rows), table=table)
        batch.write_table(rows_of(done), table, form)
        end(done)


class Map(NamedTuple):
    """A multilabel map: its names by number, itself, and its part on the label's grid."""

    names: dict[int, str]
    whole: Volume
    part: np.ndarray


@dataclass(frozen=True)
class CTs:
    """Where the CTs are, if they are needed, and how one is read, see `read_ct`."""

    place: str | None
    rules: dict[str, Any]

    def read(self, case: Case, grid: Grid) -> tuple[Volume | None, np.ndarray | None]:
        """Return a case's CT, and its HU on a grid."""
        if self.place is None:
            return None, None
        from lnqtools.images.hounsfield import read_ct

        return case.read_covering(self.place, "--ct", partial(read_ct, **self.rules), grid)


@dataclass(frozen=True)
class Structures:
    """What is known from anatomical structures.

    Parameters
    ----------
    sources : sequence of callable
        Give a map of a case; the first one's structures are chosen among, of the others all count.
    about_map : str
        What the first is called in messages.
    chosen : str
        The structures that become background.
    lung_hu_max : float or None
        Lobe voxels above are not used.
    erode_mm : float
        How far the union of structures is shrunk.
    """

    sources: Sequence[Source]
    about_map: str
    chosen: str
    lung_hu_max: float | None
    erode_mm: float

    def verdict(self, maps: Sequence[Map], hu: np.ndarray | None, grid: Grid) -> Verdict:
        """Return what the structures of a case's maps say of its label."""
        from lnqtools.labels import fill

        inside = self._inside(maps, hu)
        if not self.erode_mm:
            return fill.Verdict(background=inside, veto=inside)
        shrunk = fill.eroded(inside.whole(), self.erode_mm, grid.spacing)
        return fill.Verdict(background=shrunk, veto=inside)

    def _inside(self, maps: Sequence[Map], hu: np.ndarray | None) -> Layers:
        """Return the voxels inside the chosen structures, and the vessels."""
        from lnqtools.anatomy.maps import LOBES, chosen_labels, labels_mask
        from lnqtools.images.layers import Layers
        from lnqtools.labels.fill import without_dense_lung

        (names, _, part), *others = maps
        with about(self.about_map):
            chosen = chosen_labels(names, self.chosen)
            lobes = chosen_labels(names, ",".join(LOBES)) if self.lung_hu_max is not None else None

        def layer(z: int) -> np.ndarray:
            here = slice(z, z + 1)
            inside = labels_mask(part[here], chosen)
            if lobes and hu is not None and self.lung_hu_max is not None:
                lung = labels_mask(part[here], lobes)
                inside = without_dense_lung(inside, lung, hu[here], self.lung_hu_max)
            for vessels in others:
                inside |= labels_mask(vessels.part[here], frozenset(vessels.names))
            return inside[0]

        return Layers(len(part), layer)


@dataclass(frozen=True)
class Region:
    """Where nodes may lie: --outside, --lungs, --margin-mm and --ends-mm.

    Parameters
    ----------
    place : str
        ``hull``, or where masks of the region are.
    lungs : str or None
        ``hu`` or where the lungs of the hull are; None: in the anatomy.
    about_anatomy : str
        What the anatomy is called in messages.
    margin_mm, ends_mm : float
        See `lnqtools.anatomy.region.lung_hull`.
    """

    place: str
    lungs: str | None
    about_anatomy: str
    margin_mm: float
    ends_mm: float

    def outside(
        self, case: Case, grid: Grid, anatomy: Map | None, ct: Volume | None
    ) -> tuple[Layers, Map | None]:
        """Return the voxels of a grid outside a case's region, and its map if that has names."""
        if self.place == HULL:
            return self._outside_hull(case, grid, anatomy, ct), None
        from lnqtools.anatomy.maps import check_region
        from lnqtools.anatomy.structures import read_anatomy
        from lnqtools.images.layers import Layers
        from lnqtools.images.names import names_in_header

        reader = partial(read_anatomy, part="trunk_cavities")
        whole, part = case.read_covering(self.place, "--outside", reader, grid)
        with about(f"--outside {self.place}"):
            names = names_in_header(whole)
            check_region(names)
            if not part.any():
                raise LnqError("is 0 wherever the image lies: all of it would be background")
        outside = Layers(len(part), lambda z: part[z] == 0)
        return outside, Map(names, whole, part) if names else None

    def _outside_hull(
        self, case: Case, grid: Grid, anatomy: Map | None, ct: Volume | None
    ) -> Layers:
        """Return the voxels of a grid outside the hull of a case's lungs."""
        from lnqtools.anatomy.maps import LOBES, chosen_labels, lung_mask
        from lnqtools.anatomy.region import lung_hull
        from lnqtools.anatomy.structures import LUNGS, read_anatomy

        lobes = None
        if self.lungs == FROM_HU:
            from lnqtools.anatomy.lungs import lung_mask_from_hu

            assert ct is not None  # hu needs --ct
            source, said = ct, "--lungs hu"
            lungs = lung_mask_from_hu(ct.array, ct.grid)
        elif self.lungs is not None:
            said = f"--lungs {self.lungs}"
            reader = partial(read_anatomy, part=LUNGS)
            source, _ = case.read_covering(self.lungs, "--lungs", reader, grid)
            with about(said):
                lungs = lung_mask(source)
        else:
            assert anatomy is not None  # hull needs it, or --lungs
            source, said = anatomy.whole, self.about_anatomy
            with about(said):
                lobes = chosen_labels(anatomy.names, ",".join(LOBES))
            lungs = source.array
        with about(said):
            hull = lung_hull(lungs, source.grid, self.margin_mm, self.ends_mm, labels=lobes)
            outside = hull.cut_out(source.grid, grid).outside()
            if all(layer.all() for layer in outside):
                raise LnqError("shows no lung near the image: all of it would be background")
        return outside


@dataclass(frozen=True)
class Teachers:
    """What trained models are sure of: --teacher, --fg, --bg and --agree."""

    places: tuple[str, ...]
    node_above: float
    background_below: float
    agree: int

    def verdict(self, case: Case, grid: Grid) -> Verdict:
        """Return what enough teachers agree on."""
        from lnqtools.labels.fill import teachers_verdict

        return teachers_verdict(
            _probabilities(case, self.places, grid),
            node_above=self.node_above,
            background_below=self.background_below,
            agree=self.agree,
        )


@dataclass(frozen=True)
class Filling:
    """What fills unknown voxels, in this order, and the least size of nodes that it makes."""

    cts: CTs
    structures: Structures | None
    region: Region | None
    teachers: Teachers | None
    least_size: dict[str, Any]


class Result(NamedTuple):
    """What became of a label, for its rows in the table."""

    label: Volume
    before: LabelCounts
    filled: Filled
    maps: list[Map]
    by_structures: Outcome | None
    by_region: Outcome | None
    by_teachers: Outcome | None
    outside: Layers | None
    outside_mm: float | None


def _process(
    case: Case, filling: Filling, rows: Callable[[str, Result], list[dict]] | None
) -> list[dict]:
    """Fill a label and write it; return its rows of the table."""
    from lnqtools.anatomy.region import farthest_outside_mm
    from lnqtools.images.volume import Volume, read_label
    from lnqtools.labels import fill
    from lnqtools.labels.lost import recorded
    from lnqtools.labels.training import LABEL_NAMES, NODE, check_label, count_labels

    label = case.read(read_label)
    check_label(label.array)
    before = count_labels(label.array)
    if not before.unknown:
        case.warn("it has no unknown voxels, so it stays as it is (lnq-weaklabel makes some)")
    verdicts: dict[str, Verdict] = {}
    maps: list[Map] = []
    outside: Layers | None = None
    outside_mm: float | None = None
    ct, hu = filling.cts.read(case, label.grid)
    if filling.structures:
        maps = [source(case, label.grid, ct) for source in filling.structures.sources]
        verdicts["structures"] = filling.structures.verdict(maps, hu, label.grid)
    if filling.region:
        anatomy = maps[0] if maps else None
        outside, named = filling.region.outside(case, label.grid, anatomy, ct)
        maps += [named] if named else []
        verdicts["region"] = fill.Verdict(background=outside, veto=outside)
    if filling.teachers:
        verdicts["teachers"] = filling.teachers.verdict(case, label.grid)
    is_needed_as_it_was = filling.teachers is not None or rows is by_structure_rows
    filled = fill.fill_unknown(
        *(label.array, list(verdicts.values()), label.grid),
        **filling.least_size,
        in_place=not is_needed_as_it_was,
    )
    outcomes = dict(zip(verdicts, filled.outcomes, strict=True))
    by_structures, by_region = outcomes.get("structures"), outcomes.get("region")
    if by_structures and by_structures.covered:
        case.warn(f"the anatomy covers {by_structures.covered} node voxels; they stay nodes")
    if outside is not None and by_region and by_region.covered:
        outside_mm = farthest_outside_mm(label.array == NODE, ~outside.whole(), label.spacing)
        case.warn(
            f"{by_region.covered} drawn node voxels lie outside the region, up to "
            f"{outside_mm:.1f} mm from it; they stay nodes"
        )
    written = Volume(filled.label, label.grid, (), (LABEL_NAMES,))
    case.write(written, facts=recorded(label).record())
    result = Result(
        *(label, before, filled, maps, by_structures, by_region, outcomes.get("teachers")),
        *(outside, outside_mm),
    )
    return rows(case.name, result) if rows else []


def case_rows(name: str, result: Result) -> list[dict]:
    """Return the row of a case: how much was filled by what."""
    from lnqtools.labels.fill import teacher_columns

    return [
        {
            "case": name,
            "voxels_unknown_before": result.before.unknown,
            "voxels_node_covered": result.by_structures and result.by_structures.covered,
            "voxels_region_background": result.by_region and result.by_region.background,
            "voxels_node_outside": result.by_region and result.by_region.covered,
            "node_outside_mm": result.outside_mm,
            **teacher_columns(result.by_teachers),
            **result.filled.counts(result.before).row(),
        }
    ]


def by_structure_rows(name: str, result: Result) -> list[dict]:
    """Return a row for each structure of a case, and one for what lies outside its region."""
    from lnqtools.labels.fill import structure_overlaps

    label = result.label.array
    rows = [row for names, _, part in result.maps for row in structure_overlaps(label, part, names)]
    if result.outside is not None:
        overlaps = structure_overlaps(label, result.outside, {1: OUTSIDE})
        rows += [{**row, "index": None} for row in overlaps]
    return [{"case": name, **row} for row in rows]


def _given(place: str, option: str, task: str, classes: str) -> Source:
    """Return a source that reads maps of a task."""
    from lnqtools.anatomy.maps import check_task, structure_names
    from lnqtools.anatomy.structures import read_anatomy

    context = about_map if task == "total" else about
    reader = partial(read_anatomy, part=task, classes=classes)

    def part_of(case: Case, grid: Grid, ct: Volume | None) -> Map:
        whole, part = case.read_covering(place, option, reader, grid)
        with context(f"{option} {place}"):
            names = structure_names(whole, classes)
            check_task(names, task)
        return Map(names, whole, part)

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
        part = cut_out(found.array, found.grid, grid)
        return Map(structure_names(found), found, part)

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
    anatomy: str | None,
    outside: str | None,
    teacher: tuple[str, ...],
    fg: float,
    bg: float,
    agree: int | None,
) -> None:
    """Refuse to fill from nothing, and teachers that fill nothing or contradict themselves."""
    if anatomy is None and outside is None and not teacher:
        raise click.UsageError(
            "say what fills unknown voxels: --anatomy, --outside, --teacher or several of them"
        )
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
