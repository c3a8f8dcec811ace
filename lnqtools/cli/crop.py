"""lnq-crop: images → the same on the lungs' box, another image's grid, or another spacing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import click

from lnqtools.cli._batch import Batch, Case
from lnqtools.cli._lungs import check_lung_options, lung_finder
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    CLASSES_OPTION,
    FORMAT_OPTION,
    LUNGS_OPTION,
    MARGIN_OPTION,
    PATH,
    REPLACE_NAN_OPTION,
    XYZ,
    FiniteRange,
    command,
    image_tool,
    was_given,
)
from lnqtools.cli._totalseg import (
    DOWNLOAD_OPTION,
    KEEP_ANATOMY_OPTION,
    RUNNING,
    TOTALSEGMENTATOR,
)
from lnqtools.errors import LnqError

CT_FILL_HU = -1024


@command("lnq-crop")
@LUNGS_OPTION
@CLASSES_OPTION
@MARGIN_OPTION
@click.option(
    "--like",
    type=PATH,
    metavar="FILE|DIR",
    help="Put the image onto this image's grid instead: crops, and pastes back.",
)
@click.option(
    "--spacing",
    type=XYZ(minimum=1e-3),
    help="Resample to this spacing in mm (after the crop).",
)
@click.option(
    "--label", is_flag=True, help="The images are labels: no interpolated values, 0 outside."
)
@click.option(
    "--interpolation",
    type=click.Choice(["nearest", "linear", "bspline", "label-gaussian"]),
    help="Where voxels do not meet.  [default: linear; nearest with --label]",
)
@click.option(
    "--fill",
    type=FiniteRange(),
    metavar="VALUE",
    help="Value outside the input.  [default: -1024; 0 with --label]",
)
@REPLACE_NAN_OPTION
@click.option("--boxes", type=PATH, metavar="FILE", help="Write a table of the boxes.")
@FORMAT_OPTION
@KEEP_ANATOMY_OPTION
@DOWNLOAD_OPTION
@DEVICE_OPTION
@THREADS_OPTION
@image_tool("boxes", "form", *RUNNING)
def main(
    batch: Batch,
    lungs: str,
    classes: str,
    margin: tuple[float, float, float],
    like: str | None,
    spacing: tuple[float, float, float] | None,
    label: bool,
    interpolation: str | None,
    fill: float | None,
    replace_nan: float | None,
    boxes: str | None,
    form: str,
    keep_anatomy: str | None,
    download: bool,
    device: str,
    threads: int | None,
) -> None:
    """Crop CTs to the lungs, or put images onto another grid.

    Each IMAGE is a CT, or a label with --label. Every voxel keeps its place in the world.
    """
    from lnqtools import grid as grids
    from lnqtools.resampling import resample
    from lnqtools.volume import Volume, read_label, read_volume

    _check(like, lungs, label, spacing, interpolation, fill)
    kind = interpolation or ("nearest" if label else "linear")
    outside = fill if fill is not None else (0 if label else CT_FILL_HU)
    reader = read_label if label else partial(read_volume, replace_nan=replace_nan)

    def onto(volume: Volume, target: grids.Grid) -> Volume:
        """Copy voxels where the lattices agree, interpolate (and say so) where they do not."""
        if grids.lattice_map(volume.grid, target) is not None:
            array = grids.place(volume.array, volume.grid, target, outside)
        else:
            array = resample(volume.array, volume.grid, target, kind, outside)
        return replace(volume, array=array, grid=target)

    def put_like(case: Case, place: str) -> None:
        volume = batch.read(case, reader)
        target = batch.read_companion_grid(case, place, "--like")
        if grids.lattice_map(volume.grid, target) is None:
            batch.warn(f"its voxels and those of --like do not meet: interpolated ({kind})")
        if not grids.overlap(volume.grid, target):
            raise LnqError(f"lies outside the grid of --like {place}")
        batch.write(case, onto(volume, target))

    def crop(case: Case, find: Callable[[Case, Volume], grids.Box]) -> list[dict]:
        volume = batch.read(case, reader)
        box = find(case, volume)
        cropped = replace(volume, array=volume.array[box], grid=volume.grid.cropped(box))
        if spacing is not None:
            alone = cropped.grid.in_its_own_world()
            finer = onto(replace(cropped, grid=alone), alone.with_spacing(spacing))
            cropped = replace(finer, grid=cropped.grid.with_spacing(spacing))
        batch.write(case, cropped)
        return [_box_row(case.name, box, volume.grid)] if boxes else []

    if like is not None:
        batch.run(partial(put_like, place=like))
        return
    check_lung_options(lungs, *RUNNING)
    if lungs not in ("none", TOTALSEGMENTATOR):
        import lnqtools.lungs  # noqa: F401  before cases fork: once, not once a case
    if keep_anatomy is not None:
        batch.also_into = (keep_anatomy,)
    with lung_finder(
        batch,
        lungs,
        classes,
        margin,
        keep_anatomy=keep_anatomy,
        device=device,
        threads=threads,
        download=download,
        table=boxes,
    ) as find:
        batch.run(partial(crop, find=find), table=boxes, form=form)


def _check(like, lungs, label, spacing, interpolation, fill) -> None:
    """Refuse options that contradict each other."""
    if like is not None:
        for name in ("lungs", "margin", "spacing", "boxes", "classes", *RUNNING):
            if was_given(name):
                option = name.replace("_", "-")
                raise click.UsageError(f"--like and --{option} exclude each other")
        if like == "-":
            raise click.UsageError("--like takes a file or a directory, not '-'")
    elif spacing is None and (interpolation is not None or fill is not None):
        raise click.UsageError("--interpolation and --fill are for --like and --spacing")
    elif label and lungs in ("hu", TOTALSEGMENTATOR):
        raise click.UsageError(
            "a label does not show the lungs: give --like, --lungs FILE|DIR or --lungs none"
        )
    elif lungs == "none" and spacing is None:
        raise click.UsageError("--lungs none leaves nothing to do without --spacing")
    if label and interpolation in ("linear", "bspline"):
        raise click.UsageError(f"{interpolation} makes values that are no label: use nearest")


def _box_row(name: str, box, grid) -> dict:
    """Describe a box in voxels (first, and one past the last) and in mm, along x, y, z."""
    row: dict = {"case": name}
    sides = list(zip("xyz", reversed(box), reversed(grid.spacing), strict=True))
    for axis, side, _ in sides:
        row |= {f"{axis}_start": side.start, f"{axis}_stop": side.stop}
    for axis, side, step in sides:
        row[f"{axis}_extent_mm"] = (side.stop - side.start) * step
    first = [side.start for side in box]
    corner = grid.world(first).tolist() if grid.oriented else [None] * 3
    row |= {f"origin_{axis}_mm": v for axis, v in zip("xyz", corner, strict=True)}
    return row
