"""lnq-pseudolabel: training labels + anatomy → training labels with fewer unknown voxels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from lnqtools.cli._batch import Batch, Case, about
from lnqtools.cli._options import (
    CLASSES_OPTION,
    FORMAT_OPTION,
    HU,
    REPLACE_NAN_OPTION,
    FiniteRange,
    command,
    image_tool,
)


def parse_structures(context, parameter, value: str) -> str:
    """Put the lines of each ``@FILE`` in its place; ``#`` begins a comment."""
    parts: list[str] = []
    for part in (p.strip() for p in value.split(",")):
        if not part.startswith("@"):
            parts.append(part)
            continue
        try:
            lines = Path(part[1:]).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"cannot read {part}: {error}") from None
        parts += [line.split("#")[0].strip() for line in lines]
    return ",".join(part for part in parts if part)


@command("lnq-pseudolabel")
@click.option(
    "--anatomy",
    type=click.Path(),
    metavar="FILE|DIR",
    required=True,
    help="TotalSegmentator multilabel map on the label's grid, or on a larger one of its lattice.",
)
@click.option(
    "--structures",
    default="all",
    callback=parse_structures,
    metavar="NAME,...|@FILE",
    help="Structures that become background: all, names (rib_* matches many), -NAME leaves one "
    "out, @FILE reads a list.",
)
@CLASSES_OPTION
@click.option(
    "--lung-hu-max",
    type=HU,
    metavar="HU",
    help="Do not use lobe voxels above HU in the --ct: effusion and hilar nodes hide there.",
)
@click.option("--ct", type=click.Path(), metavar="FILE|DIR", help="CT, for --lung-hu-max.")
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
@FORMAT_OPTION
@image_tool("table", "form")
def main(
    batch: Batch,
    anatomy: str,
    structures: str,
    classes: str,
    lung_hu_max: float | None,
    ct: str | None,
    replace_nan: float | None,
    erode_mm: float,
    table: str | None,
    form: str,
) -> None:
    """Set unknown voxels inside known anatomy to background.

    Each IMAGE is a training label: 0 background, 1 lymph node, 2 unknown. Only unknown voxels
    change; a drawn node is never overwritten.
    """
    from lnqtools import pseudolabel
    from lnqtools.anatomy import LOBES, chosen_labels, labels_mask, structure_names
    from lnqtools.volume import Volume, read_label, read_volume
    from lnqtools.weaklabel import LABEL_NAMES, UNKNOWN, check_label, count_labels

    if (lung_hu_max is None) != (ct is None):
        raise click.UsageError("--lung-hu-max and --ct go together")
    if replace_nan is not None and ct is None:
        raise click.UsageError("--replace-nan is for --ct")

    def structure_mask(case: Case, label: Volume):
        read = batch.read_covering
        whole, anatomy_map = read(case, anatomy, "--anatomy", read_label, label.grid)
        if structures == "all" and lung_hu_max is None:
            mask = anatomy_map != 0
        else:
            with about(f"--anatomy {anatomy}"):
                names = structure_names(whole, classes)
                mask = labels_mask(anatomy_map, chosen_labels(names, structures))
        if lung_hu_max is not None and ct is not None:
            read_ct = partial(read_volume, replace_nan=replace_nan)
            _, hu = read(case, ct, "--ct", read_ct, label.grid)
            with about(f"--anatomy {anatomy}"):
                lobes = labels_mask(anatomy_map, chosen_labels(names, ",".join(LOBES)))
            mask = pseudolabel.without_dense_lung(mask, lobes, hu, lung_hu_max)
        return pseudolabel.eroded(mask, erode_mm, label.spacing)

    def process(case: Case) -> list[dict]:
        label = batch.read(case, read_label)
        check_label(label.array)
        if not (label.array == UNKNOWN).any():
            batch.warn("it has no unknown voxels, so it stays as it is (lnq-weaklabel makes some)")
        mask = structure_mask(case, label)
        covered = pseudolabel.covered_node_voxels(label.array, mask)
        if covered:
            batch.warn(f"the anatomy covers {covered} node voxels; they stay nodes")
        result = pseudolabel.apply_anatomy(label.array, mask)
        batch.write(case, Volume(result, label.grid, (), (LABEL_NAMES,)))
        if not table:
            return []
        before, after = count_labels(label.array), count_labels(result)
        return [
            {
                "case": case.name,
                "voxels_unknown_before": before.unknown,
                "voxels_node_covered": covered,
                **after.row(),
            }
        ]

    batch.run(process, table=table, form=form)
