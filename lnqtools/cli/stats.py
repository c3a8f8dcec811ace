"""lnq-stats: data sets of labels → tables of their nodes, voxels and diameters."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnqtools.choices import PAPER_FORMATS, STATISTICS
from lnqtools.cli._batch import Batch, Done, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import file_identity, table_tool
from lnqtools.cli._names import STREAM, images_in, naming_hint
from lnqtools.cli._options import (
    BIN_OPTION,
    CONNECTIVITY_OPTION,
    ENLARGED_OPTION,
    INSTANCES_OPTION,
    METRIC_OPTION,
    PAPER_FORMAT_OPTION,
    VALUES_OPTION,
)
from lnqtools.cli._rules import option
from lnqtools.cli._tool import command
from lnqtools.cli._values import Pair, Pairs

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.volume import Volume
    from lnqtools.labels.cohorts import DataSets, LabeledVolume

OF_COMPONENTS = "--table data-sets|diameters|cases"

Identity = tuple[str, str]
"""Where a file truly is and what it is called, see `file_identity`."""


def _images_of_sets(
    sets: Iterable[tuple[str, str]], pattern: re.Pattern[str] | None
) -> dict[str, dict[Identity, str]]:
    """Return the images of each set that --set names, one that it names twice once."""
    images: dict[str, dict[Identity, str]] = {}
    for name, place in sets:
        found = {file_identity(path): path for path in images_of(place, pattern)}
        images.setdefault(name, {}).update(found)
    return images


def images_of(place: str, pattern: re.Pattern[str] | None) -> list[str]:
    """Return the images of a directory, or one file."""
    if not Path(place).is_dir():
        if not Path(place).exists():
            raise click.UsageError(f"--set {place}: no such file or directory")
        return [place]
    images = images_in(place, pattern)
    if not images:
        how = "whose path --case-pattern fits" if pattern else "(its folders are not searched)"
        raise click.UsageError(f"--set {place}: no image in it {how}")
    return images


def named_images(parameters: dict) -> list[str]:
    """Return the inputs that --set names, one in several sets once."""
    images: dict[Identity, str] = {}
    for of_set in _images_of_sets(parameters["sets"], parameters["case_pattern"]).values():
        images.update(of_set)
    return list(images.values())


@command("lnq-stats", example="lnq-stats --set train=labels --set test=truth")
@option(
    "--set",
    "sets",
    multiple=True,
    type=Pair("NAME=DIR|FILE"),
    help="A data set: its name, and a directory of labels or one label; may be given several "
    "times.",
)
@option(
    "--name",
    metavar="NAME",
    help="The data set of the IMAGEs that are in no --set.  [default: their directory's name]",
)
@option(
    "--weak",
    multiple=True,
    metavar="NAME",
    help="In this data set 0 is unknown, and every other value a drawn node.",
)
@option(
    "--full",
    multiple=True,
    metavar="NAME",
    help="In this data set 0 is background, and every other value a node.",
)
@option(
    "--table",
    "shown",
    type=click.Choice(STATISTICS),
    default="data-sets",
    help="Nodes per data set (Table 1 of the paper), labeled voxels per data set or step "
    "(Table 2), components per diameter (Figure 2), or everything per case.",
)
@METRIC_OPTION.but(only_with=OF_COMPONENTS)
@CONNECTIVITY_OPTION.but(only_with=OF_COMPONENTS)
@INSTANCES_OPTION.but(only_with=("--weak", "--full"), needs=OF_COMPONENTS)
@VALUES_OPTION.but(only_with=("--weak", "--full"))
@ENLARGED_OPTION.but(only_with="--table data-sets|cases")
@BIN_OPTION.but(only_with="--table diameters")
@PAPER_FORMAT_OPTION
@table_tool(more_images=named_images, same_names=True)
def main(
    batch: Batch,
    sets: Pairs,
    name: str | None,
    weak: tuple[str, ...],
    full: tuple[str, ...],
    shown: str,
    metric: str,
    connectivity: int,
    instances: bool,
    values: tuple[int, ...] | None,
    enlarged_mm: float,
    bin_mm: float,
    form: str,
    table: str,
) -> None:
    """Describe data sets of labels: nodes, labeled voxels, diameters.

    Each IMAGE is a label: 0 background, 1 lymph node, 2 unknown.
    """
    from lnqtools.images.volume import read_label
    from lnqtools.labels import cohorts, lost
    from lnqtools.labels.masks import as_mask

    inputs = [*((case.source, case.name) for case in batch.cases), *batch.plan.elsewhere]
    places = _images_of_sets(sets, batch.companions.pattern)
    sets_of = sets_by_input([source for source, _ in inputs], places, name)
    refuse_repeated(inputs, sets_of)
    names = list(dict.fromkeys([*dict(sets), *(of for each in sets_of.values() for of in each)]))
    contents = _contents_of_sets(weak, full, names)

    def describe(case: Case) -> dict[str, LabeledVolume]:
        """Return what an input is in each of its sets."""
        volume = mask = case.read(read_label)
        if any(of in contents for of in sets_of[case.source]):
            mask = as_mask(volume, values, instances)
            for note in mask.notes[len(volume.notes) :]:
                case.warn(note)
        described = {}
        for of in sets_of[case.source]:
            content = cohorts.describe_label(
                as_label(mask if of in contents else volume, of, contents.get(of)),
                volume.grid,
                metric,
                connectivity,
                lost=lost.recorded(volume),
                numbers=mask.array if instances and of in contents else None,
            )
            described[of] = content
        return described

    def tabulate(done: list[Done[dict[str, LabeledVolume]]]) -> list[dict]:
        found = data_sets_of(done, names)
        if shown == "voxels":
            return cohorts.voxel_rows(found)
        if shown == "diameters":
            return cohorts.diameter_rows(found, bin_mm)
        if shown == "cases":
            return cohorts.case_rows(found, enlarged_mm)
        return cohorts.data_set_rows(found, enlarged_mm)

    done = batch.run(describe, table=table)
    batch.write_lines(table_text(tabulate(done), shown, form), table)
    end(done)


def data_sets_of(done: Iterable[Done[dict[str, LabeledVolume]]], names: Iterable[str]) -> DataSets:
    """Return the volumes of each set by case, in the order of the names; no set without any."""
    found: dict[str, dict[str, LabeledVolume]] = {name: {} for name in names}
    for one in done:
        for of, volume in (one.result or {}).items():
            found[of][one.case.name] = volume
    return {name: volumes for name, volumes in found.items() if volumes}


def table_text(rows: list[dict], shown: str, form: str) -> Iterable[str]:
    """Return the lines of a table."""
    from lnqtools.files.tables import table_lines
    from lnqtools.files.typeset import typeset_lines
    from lnqtools.labels import cohorts

    if form not in PAPER_FORMATS or not rows:
        return table_lines(rows, form)
    text = {
        "data-sets": cohorts.data_set_text,
        "voxels": cohorts.voxel_text,
    }.get(shown, cohorts.plain_text)
    return typeset_lines([text(rows)], form)


def sets_by_input(
    sources: Iterable[str], sets: dict[str, dict[Identity, str]], name: str | None
) -> dict[str, list[str]]:
    """Return the data sets of each input: those of --set, else --name, else its directory."""
    sets_of: dict[str, list[str]] = {}
    for source in sources:
        identity = file_identity(source)
        named = [of for of, images in sets.items() if identity in images]
        sets_of[source] = named or [name or directory_of(source)]
    if name is not None and [name] not in sets_of.values():
        raise click.UsageError(f"--name {name} is for IMAGEs in no --set, and there are none")
    return sets_of


def directory_of(source: str) -> str:
    """Return the name of the data set of an input that no option names."""
    return "stdin" if source == STREAM else str(Path(source).parent)


def refuse_repeated(named: Iterable[tuple[str, str]], sets_of: dict[str, list[str]]) -> None:
    """Refuse two inputs of one case name, or of one file, in a set: it would count twice."""
    owners: dict[tuple[str, str], str] = {}
    for source, case in named:
        file, _ = file_identity(source)
        for of in sets_of[source]:
            for what, how in ((case, f"both named {case}"), (file, "one file")):
                if (of, what) in owners:
                    hint = naming_hint(owners[of, what], source) if what == case else ""
                    raise click.UsageError(
                        f"{owners[of, what]} and {source} are {how} in the set {of}{hint}"
                    )
                owners[of, what] = source


def _contents_of_sets(weak: Iterable[str], full: Iterable[str], names: list[str]) -> dict[str, str]:
    """Return which sets hold weak or full masks; the others hold labels."""
    contents: dict[str, str] = {}
    for content, chosen in (("weak", weak), ("full", full)):
        for given in chosen:
            of = str(Path(given)) if "/" in given and given not in names else given
            if of not in names:
                known = ", ".join(names)
                raise click.UsageError(f"--{content} {given}: no such set; there are: {known}")
            if contents.setdefault(of, content) != content:
                raise click.UsageError(f"{of} is named by --weak and by --full")
    return contents


def as_label(volume: Volume, name: str, content: str | None) -> np.ndarray:
    """Return a label of 0, 1 and 2 for an input of a set.

    Parameters
    ----------
    volume : Volume
    name : str
        Name of the set.
    content : {'weak', 'full', None}
        What the set holds: masks in which 0 is unknown or background, or labels.
    """
    from lnqtools.labels.training import check_label
    from lnqtools.labels.weak import drawn_nodes, weak_label

    if content is not None:
        strategy = {"weak": "mask", "full": "full"}[content]
        return weak_label(drawn_nodes(volume.array), strategy)
    named = shlex.quote(name)
    check_label(
        volume.array,
        "a label holds 0 background, 1 node, 2 unknown (masks of numbered nodes: "
        f"--full {named} if all are drawn, --weak {named} if some are)",
    )
    return volume.array
