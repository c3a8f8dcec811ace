"""The box of the lungs, as --lungs, --classes and --margin say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from lnqtools.cli._batch import Batch
from lnqtools.cli._plan import Case
from lnqtools.cli._totalseg import TOTALSEGMENTATOR, about_map, open_segmenter

if TYPE_CHECKING:
    from lnqtools.images.box import Box
    from lnqtools.images.volume import Volume


@contextmanager
def lung_finder(
    batch: Batch,
    lungs: str,
    classes: str,
    margin: tuple[float, float, float],
    *,
    keep_anatomy: str | None = None,
    download: bool = False,
    device: str = "auto",
    threads: int | None = None,
    table: str | None = None,
) -> Iterator[Callable[[Case, Volume], Box]]:
    """Give a function that returns the box of the lungs in a case's image.

    The function warns of what makes a box doubtful, and raises LnqError if there are no lungs.
    With ``--lungs totalsegmentator`` it also writes the map, with ``keep_anatomy``, as the last
    of the case's targets.
    """
    from lnqtools.images.box import whole_box

    def box_of(case: Case, image: Volume, lung_map: Volume | None) -> Box:
        from lnqtools.anatomy.lungs import find_lungs

        image.grid.require_axes()
        with about_map(f"--lungs {lungs}") if lung_map else nullcontext():
            found = find_lungs(image, lung_map, classes, margin)
        for warning in found.warnings:
            batch.warn(warning)
        return found.box

    def find(case: Case, image: Volume) -> Box:
        if lungs == "none":
            return whole_box(image.array.shape)
        if lungs == "hu":
            return box_of(case, image, None)
        from lnqtools.anatomy.maps import read_map

        lung_map = batch.read_companion(case, lungs, "--lungs", read_map, image.grid)
        return box_of(case, image, lung_map)

    if lungs != TOTALSEGMENTATOR:
        yield find
        return
    opened = open_segmenter(
        batch,
        fast=True,
        device=device,
        threads=threads,
        download=download,
        table=table,
        way_on="--download does it for you, and --lungs hu needs none",
    )
    with opened as segmenter:

        def segment_and_find(case: Case, image: Volume) -> Box:
            lung_map = segmenter.segment(image, low_resolution=True)
            if keep_anatomy is not None:
                batch.write(case, _on_grid_of(image, lung_map), len(case.targets) - 1)
            return box_of(case, image, lung_map)

        yield segment_and_find


def _on_grid_of(image: Volume, lung_map: Volume) -> Volume:
    """Return a low-resolution map on the image's grid, where every tool can use it."""
    from dataclasses import replace

    from lnqtools.images.resampling import resample

    array = resample(lung_map.array, lung_map.grid, image.grid, "nearest", 0)
    return replace(lung_map, array=array, grid=image.grid)
