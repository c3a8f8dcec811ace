"""The box of the lungs, as --lungs, --classes and --margin say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from lnqtools.cli._batch import Batch
from lnqtools.cli._case import Case
from lnqtools.cli._totalseg import (
    ANATOMY,
    TOTALSEGMENTATOR,
    Running,
    about_map,
    open_segmenter,
)

if TYPE_CHECKING:
    from lnqtools.images.box import Box
    from lnqtools.images.volume import Volume


@contextmanager
def lung_finder(
    batch: Batch,
    lungs: str,
    classes: str,
    margin: tuple[float, float, float],
    running: Running,
    *,
    table: str | None = None,
) -> Iterator[tuple[Batch, Callable[[Case, Volume], Box]]]:
    """Give a function that returns the box of the lungs in a case's image.

    The function warns of what makes a box doubtful, and raises LnqError if there are no lungs.
    With ``--lungs totalsegmentator`` it also writes the map where the case has such an output,
    and the batch that is given records what made it.
    """
    from lnqtools.images.box import Box

    def box_of(case: Case, image: Volume, lung_map: Volume | None) -> Box:
        from lnqtools.anatomy.lungs import find_lungs

        image.grid.require_axes()
        with about_map(f"--lungs {lungs}") if lung_map else nullcontext():
            found = find_lungs(image, lung_map, classes, margin)
        for warning in found.warnings:
            case.warn(warning)
        return found.box

    def find(case: Case, image: Volume) -> Box:
        if lungs == "none":
            return Box.whole(image.array.shape)
        if lungs == "hu":
            return box_of(case, image, None)
        from lnqtools.anatomy.structures import LUNGS, read_anatomy

        reader = partial(read_anatomy, part=LUNGS, classes=classes)
        lung_map = case.read_companion(lungs, "--lungs", reader, image.grid)
        return box_of(case, image, lung_map)

    if lungs != TOTALSEGMENTATOR:
        yield batch, find
        return
    way_on = "--download does it for you, and --lungs hu needs none"
    opened = open_segmenter(batch, running, fast=True, table=table, way_on=way_on)
    with opened as (batch, segmenter):

        def segment_and_find(case: Case, image: Volume) -> Box:
            lung_map = segmenter.segment(image, low_resolution=True)
            if ANATOMY in case.planned.outputs:
                case.write(_on_grid_of(image, lung_map), ANATOMY)
            return box_of(case, image, lung_map)

        yield batch, segment_and_find


def _on_grid_of(image: Volume, lung_map: Volume) -> Volume:
    """Return a low-resolution map on the image's grid, where every tool can use it."""
    from dataclasses import replace

    from lnqtools.images.resampling import resample

    array = resample(lung_map.array, lung_map.grid, image.grid, "nearest", 0)
    return replace(lung_map, array=array, grid=image.grid)
