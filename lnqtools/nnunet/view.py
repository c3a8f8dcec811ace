"""How a model sees an image: in the orientation that it was trained in, as far as it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnqtools.choices import ORIENTATIONS
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.orientation import check_code, in_slice_order, oriented

TRAINED = "LPS"
"""The orientation that ``lnq-train`` turns every case to."""
RECORD = "lnq_orientation"
"""The key of plans.json, and so of the plans in a checkpoint, that says so."""

AUTO, STORED = ORIENTATIONS
READERS = {
    "SimpleITKIO": None,
    "NibabelIO": None,
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
"""nnU-Net's readers of volumes, and the orientation that they turn an image to, if they do."""
PICTURE_READERS = ("NaturalImage2DIO", "Tiff3DIO")
"""nnU-Net's readers of PNG and TIFF, which hold neither HU nor directions."""


def model_orientation(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], wanted: str = AUTO
) -> str | None:
    """Return the orientation in which a model sees images.

    Parameters
    ----------
    plans, dataset : mapping
        The contents of plans.json and dataset.json. nnU-Net predicts with the reader of plans.json;
        that of dataset.json is the one that the plans were made with, and stands in for it.
    wanted : str
        ``auto``, or what counts instead of what the model says: an orientation, or ``stored``.

    Returns
    -------
    str or None
        Such as ``LPS``; ``stored`` for the one in which an image is stored; None where the model
        does not say it.

    Raises
    ------
    LnqError
        If the model was trained on pictures, or, unless the orientation is ``wanted``, if this
        nnU-Net has no reader for it.
    """
    overwritten = dataset.get("overwrite_image_reader_writer")
    named = plans.get("image_reader_writer") or (overwritten if overwritten != "None" else None)
    reader = None if named is None else str(named)
    if reader in PICTURE_READERS:
        raise LnqError(f"was trained on pictures, not on CTs: plans.json names the reader {reader}")
    if wanted == STORED:
        return STORED
    if wanted != AUTO:
        return check_code(wanted)
    if RECORD in plans:
        try:
            return check_code(str(plans[RECORD]))
        except LnqError as error:
            raise LnqError(f"plans.json: {RECORD}: {error}") from None
    if reader is not None and reader not in READERS:
        raise LnqError(
            f"plans.json names the reader {reader}, which nnU-Net does not have: say with "
            "--orientation to which orientation it turns an image, such as RAS"
        )
    return None if reader is None else READERS[reader]


def seen_as(grid: Grid, orientation: str | None) -> Grid:
    """Return the grid on which a model of an orientation sees the voxels of another grid.

    Where the model does not say it, slices are axial and last, as CTs are mostly stored; nothing
    is mirrored, and an image that is stored so is seen as it is.
    """
    if orientation == STORED:
        return grid
    return in_slice_order(grid) if orientation is None else oriented(grid, orientation)
