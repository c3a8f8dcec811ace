"""lnq-crop: images → the same on the lungs' box, another image's grid, or another spacing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from lnqtools.choices import INTERPOLATIONS
from lnqtools.cli._batch import Batch, Done, end
from lnqtools.cli._case import Case
from lnqtools.cli._contract import image_tool
from lnqtools.cli._lost import ALLOW_EMPTY_OPTION, check_nodes_left
from lnqtools.cli._lungs import lung_finder
from lnqtools.cli._nnunet import DEVICE_OPTION, THREADS_OPTION
from lnqtools.cli._options import (
    CLASSES_OPTION,
    FORMAT_OPTION,
    LUNGS_OPTION,
    MARGIN_OPTION,
    REPLACE_NAN_OPTION,
    TRUST_HU_OPTION,
)
from lnqtools.cli._rules import option
from lnqtools.cli._series import read_series
from lnqtools.cli._tool import about, command
from lnqtools.cli._totalseg import (
    ANATOMY,
    DOWNLOAD_OPTION,
    KEEP_ANATOMY_OPTION,
    RUNNING,
    TOTALSEGMENTATOR,
    Running,
)
from lnqtools.cli._values import PATH, XYZ, Companion, FiniteRange
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.images.box import Box
    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume

CT_FILL_HU = -1024
ABOUT_LUNGS = (
    *("--lungs", "--keep", "--trust-hu", "--margin", "--spacing", "--classes"),
    *("--keep-anatomy", "--download", "--device", "--threads"),
)
"""Options about the box, and the spacing within it."""


@command("lnq-crop", example="lnq-crop ct/*.nii.gz -O cropped")
@LUNGS_OPTION.but(needs={"none": "--spacing"})
@CLASSES_OPTION.but(not_with="--lungs totalsegmentator")
@MARGIN_OPTION
@option(
    "--keep",
    type=PATH,
    metavar="FILE|DIR",
    not_with="--lungs none",
    help="Widen the lungs' box so that it holds what is drawn in this mask or label, too.",
)
@option(
    "--like",
    type=Companion(),
    metavar="FILE|DIR",
    not_with=ABOUT_LUNGS,
    help="Put the image onto this image's grid instead: crops, and pastes back.",
)
@option(
    "--take-geometry",
    type=Companion(),
    metavar="FILE|DIR",
    not_with=(*ABOUT_LUNGS, "--like", "--allow-empty", "--boxes"),
    help="Change no voxel, and let the header say that they lie where those of this image of the "
    "same size do: for masks whose origin was lost.",
)
@option(
    "--spacing",
    type=XYZ(minimum=1e-3),
    help="Resample to this spacing in mm (after the crop).",
)
@option(
    "--label",
    is_flag=True,
    needs=("--like", "--take-geometry", "--lungs FILE|DIR", "--lungs none"),
    help="The images are labels: no interpolated values, and a warning if nodes are lost.",
)
@option(
    "--interpolation",
    type=click.Choice(INTERPOLATIONS),
    only_with=("--like", "--spacing"),
    not_with={"linear": "--label", "bspline": "--label"},
    help="How values between voxels are found.  [default: linear; nearest with --label]",
)
@option(
    "--fill",
    type=FiniteRange(),
    metavar="VALUE",
    only_with=("--like", "--spacing"),
    help="Value outside the input.  [default: -1024; with --label 2, unknown, around training "
    "labels, and 0 around others]",
)
@ALLOW_EMPTY_OPTION.but(only_with="--label")
@REPLACE_NAN_OPTION
@TRUST_HU_OPTION.but(not_with=("--label", "--lungs none"))
@option("--boxes", type=PATH, metavar="FILE", help="Write a table of the boxes, and of lost nodes.")
@FORMAT_OPTION
@KEEP_ANATOMY_OPTION.but(only_with="--lungs totalsegmentator")
@DOWNLOAD_OPTION.but(only_with="--lungs totalsegmentator")
@DEVICE_OPTION.but(only_with="--lungs totalsegmentator")
@THREADS_OPTION.but(only_with="--lungs totalsegmentator")
@image_tool(
    *("trust_hu", "boxes", "form", "allow_empty", *RUNNING), more_outputs={ANATOMY: "keep_anatomy"}
)
def main(
    batch: Batch,
    lungs: str,
    classes: str,
    margin: tuple[float, float, float],
    keep: str | None,
    like: str | None,
    take_geometry: str | None,
    spacing: tuple[float, float, float] | None,
    label: bool,
    interpolation: str | None,
    fill: float | None,
    allow_empty: bool,
    replace_nan: float | None,
    trust_hu: bool,
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
    images = Images(
        label,
        shows_lungs=not (label or trust_hu or like is not None or lungs == "none"),
        interpolation=interpolation or ("nearest" if label else "linear"),
        fill=fill,
        allow_empty=allow_empty,
        replace_nan=replace_nan,
    )

    if take_geometry is not None:
        end(batch.run(partial(_take_geometry, images=images, place=take_geometry)))
        return

    def finish(done: list[Done[dict]]) -> None:
        batch.write_table([one.result for one in done if one.result], boxes, form)
        end(done)

    if like is not None:
        finish(batch.run(partial(_put_like, images=images, place=like), table=boxes))
        return
    if lungs not in ("none", TOTALSEGMENTATOR):
        import lnqtools.anatomy.lungs  # noqa: F401  before cases fork: once, not once a case
    running = Running(device, threads, download)
    with lung_finder(batch, lungs, classes, margin, running, table=boxes) as (batch, find):
        crop = partial(
            _crop,
            images=images,
            find=find,
            widen=partial(_widened, keep=keep, margin=margin) if keep is not None else None,
            spacing=spacing,
            place="the new grid" if lungs == "none" else "the lungs' box",
        )
        finish(batch.run(crop, table=boxes))


@dataclass(frozen=True)
class Images:
    """How the images of a run are read, brought onto another grid, and written.

    Parameters
    ----------
    label : bool
        Whether they are labels, whose values nothing may come between.
    shows_lungs : bool
        Whether lungs are to be found in them, so that they must be in HU.
    interpolation : str
        How values between voxels are found, where voxels do not meet.
    fill : float or None
        Value where an image does not reach; None for what suits it.
    allow_empty : bool
        Whether all that is drawn may be lost.
    replace_nan : float or None
        Value for voxels that are not finite.
    """

    label: bool
    shows_lungs: bool
    interpolation: str
    fill: float | None
    allow_empty: bool
    replace_nan: float | None

    def read(self, case: Case) -> Volume:
        """Read a case's image; one that is not what --label says is an error."""
        from lnqtools.images.hounsfield import require_hu
        from lnqtools.images.volume import read_label, read_volume
        from lnqtools.labels.training import is_training_label

        reader = read_label if self.label else partial(read_volume, replace_nan=self.replace_nan)
        volume = case.read(reader, None if self.label else partial(read_series, trust_hu=True))
        if not self.label and is_training_label(volume):
            raise LnqError("is a training label: say --label")
        if self.shows_lungs:
            require_hu(volume.array)
        return volume

    def onto(self, volume: Volume, target: Grid) -> Volume:
        """Copy voxels where the lattices agree, interpolate where they do not."""
        from lnqtools.images.grid import lattice_map, place
        from lnqtools.images.resampling import resample

        fill = self._outside(volume)
        if lattice_map(volume.grid, target) is not None:
            array = place(volume.array, volume.grid, target, fill)
        else:
            array = resample(volume.array, volume.grid, target, self.interpolation, fill)
        return replace(volume, array=array, grid=target)

    def _outside(self, volume: Volume) -> float:
        """Return the value where an image does not reach: what nobody annotated is unknown."""
        from lnqtools.labels.training import UNKNOWN, is_training_label

        if self.fill is not None:
            return self.fill
        if self.label:
            return UNKNOWN if is_training_label(volume) else 0
        return CT_FILL_HU

    def write(self, case: Case, volume: Volume, result: Volume, place: str) -> dict:
        """Write what became of an image, having told what it lost; return columns of the table."""
        from lnqtools.labels import lost as lost_nodes

        if not self.label:
            case.write(result)
            return {}
        lost = lost_nodes.recorded(volume)
        nodes_in = lost_nodes.node_finder(volume, unknown=self.fill)
        if nodes_in is None:  # structures: a crop is meant to lose them, but not all
            if volume.array.any() and not (result.array.any() or self.allow_empty):
                raise LnqError(f"nothing in it lies in {place}; --allow-empty goes on")
            columns = lost_nodes.NO_PASSAGE
        else:
            passage = check_nodes_left(
                *(case, nodes_in(volume.array), volume.grid),
                *(nodes_in(result.array), result.grid),
                place=place,
                allow_empty=self.allow_empty,
            )
            lost, columns = lost + passage.lost, passage.row()
        case.write(result, facts=lost.record())
        return columns


def _take_geometry(case: Case, images: Images, place: str) -> None:
    """Write an image with the header of --take-geometry, and tell what that says otherwise."""
    from lnqtools.images.grid import changes, difference
    from lnqtools.images.volume import read_label, read_volume
    from lnqtools.labels.lost import recorded

    reader = read_label if images.label else partial(read_volume, replace_nan=images.replace_nan)
    volume = case.read(partial(reader, any_geometry=True))
    target = case.read_companion_grid(place, "--take-geometry")
    if volume.grid.shape != target.shape:
        transposed = sorted(volume.grid.shape) == sorted(target.shape)
        hint = ": with its axes in another order it would fit; was it saved transposed?"
        raise LnqError(
            f"is not of the size of --take-geometry {place}: {difference(volume.grid, target)}"
            f"{hint if transposed else ''}"
        )
    said = "; ".join(changes(volume.grid, target)) or "nothing, it lies there already"
    case.warn(f"--take-geometry {place} changes: {said}")
    case.write(replace(volume, grid=target), facts=recorded(volume).record())


def _put_like(case: Case, images: Images, place: str) -> dict:
    """Put an image onto the grid of --like; return its row of the table."""
    from lnqtools.images import grid as grids
    from lnqtools.images.box import Box

    volume = images.read(case)
    target = case.read_companion_grid(place, "--like")
    if grids.lattice_map(volume.grid, target) is None:
        how = images.interpolation
        case.warn(f"its voxels and those of --like do not meet: interpolated ({how})")
    if not (images.allow_empty or grids.overlap(volume.grid, target)):
        raise LnqError(f"lies outside the grid of --like {place}")
    result = images.onto(volume, target)
    if images.label and images.fill is None and grids.reaches_beyond(target, volume.grid):
        _warn_of_padding(case, volume, result)
    columns = images.write(case, volume, result, f"the grid of --like {place}")
    box = grids.carry_box(Box.whole(target.shape), target, volume.grid)
    return {**_box_row(case.name, box, volume.grid), **columns}


def _crop(
    case: Case,
    images: Images,
    find: Callable[[Case, Volume], Box],
    widen: Callable[[Case, Box, Grid], Box] | None,
    spacing: tuple[float, float, float] | None,
    place: str,
) -> dict:
    """Crop an image to the lungs, then resample it if wanted; return its row of the table."""
    volume = images.read(case)
    lungs_box = find(case, volume)
    box = widen(case, lungs_box, volume.grid) if widen else lungs_box
    cropped = replace(volume, array=volume.array[box], grid=volume.grid.cropped(box))
    if spacing is not None:
        alone = cropped.grid.in_its_own_world()
        steps = alone.in_array_order(spacing)
        finer = images.onto(replace(cropped, grid=alone), alone.with_spacing(steps))
        cropped = replace(finer, grid=cropped.grid.with_spacing(steps))
    columns = images.write(case, volume, cropped, place)
    widening = _widening(lungs_box, box, volume.grid) if widen else {}
    return {**_box_row(case.name, box, volume.grid), **widening, **columns}


def _warn_of_padding(case: Case, volume: Volume, result: Volume) -> None:
    """Warn where what stands around a label changes what the label says, or may."""
    from lnqtools.labels.lost import node_finder
    from lnqtools.labels.training import UNKNOWN, is_training_label

    highest = int(volume.array.max())
    if is_training_label(volume) and highest != UNKNOWN:
        unknown = int((result.array == UNKNOWN).sum())
        case.warn(
            f"it was labeled completely; {unknown} voxels outside it are unknown now (if the whole "
            "image was annotated, lnq-weaklabel --like --uncovered background says so)"
        )
    elif not is_training_label(volume) and highest == UNKNOWN and node_finder(volume):
        case.warn("around it stands 0, background; if its 2 means unknown, say --fill 2")


def _widened(
    case: Case, box: Box, grid: Grid, keep: str, margin: tuple[float, float, float]
) -> Box:
    """Return a box that also holds what is drawn in a case's mask, with the margin around it."""
    from lnqtools.anatomy.lungs import widened_box
    from lnqtools.images.volume import read_label
    from lnqtools.labels.lost import node_finder

    mask = case.read_companion(keep, "--keep", read_label)
    nodes_in = node_finder(mask)
    drawn = nodes_in(mask.array) if nodes_in else mask.array
    with about(f"--keep {keep}"):
        box, lost = widened_box(box, drawn, mask.grid, grid, margin)
    if lost:
        case.warn(f"{lost} drawn voxels of --keep {keep} lie outside the image")
    return box


def _widening(lungs_box: Box, box: Box, grid: Grid) -> dict:
    """Describe how much longer than the lungs' box one is along x, y, z, in mm."""
    sides = zip(lungs_box.shape, box.shape, grid.spacing, strict=True)
    added = [(wide - length) * step for length, wide, step in sides]
    return {f"{axis}_widened_mm": mm for axis, mm in zip("xyz", reversed(added), strict=True)}


def _box_row(name: str, box: Box, grid: Grid) -> dict:
    """Describe a box in voxels (first, and one past the last) and in mm, along x, y, z."""
    extents = dict(zip("zyx", box.extent_mm(grid.spacing), strict=True))
    corner = grid.world(box.start).tolist() if grid.oriented else [None] * 3
    return {
        "case": name,
        **box.columns(),
        **{f"{axis}_extent_mm": extents[axis] for axis in "xyz"},
        **{f"origin_{axis}_mm": v for axis, v in zip("xyz", corner, strict=True)},
    }
