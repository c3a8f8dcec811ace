"""The box of the lungs, as --lungs, --classes and --margin say."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from lnqtools.cli._batch import Batch, Case, about
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.grid import Box
    from lnqtools.volume import Volume


def find_box(
    batch: Batch,
    case: Case,
    image: Volume,
    lungs: str,
    classes: str,
    margin: tuple[float, float, float],
    *,
    needs_hu: bool = False,
) -> Box:
    """Return the box of the lungs in a case's image, and warn of what makes it doubtful.

    Raises
    ------
    LnqError
        If there are no lungs, or ``needs_hu`` and the image seems to hold other values.
    """
    from lnqtools.grid import whole_box
    from lnqtools.volume import read_label

    if lungs == "none":
        return whole_box(image.array.shape)
    from lnqtools.lungs import find_lungs

    lung_map = None
    if lungs != "hu":
        lung_map = batch.read_companion(case, lungs, "--lungs", read_label, image.grid)
    with about(f"--lungs {lungs}") if lung_map else nullcontext():
        found = find_lungs(image, lung_map, classes, margin)
    if needs_hu and found.lacks_intercept:
        raise LnqError("its values seem to lack their intercept of -1024, they are not HU; add it")
    for warning in found.warnings:
        batch.warn(warning)
    return found.box
