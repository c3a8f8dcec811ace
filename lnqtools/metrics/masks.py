"""Agreement of a predicted mask with a reference mask: the metrics, each a function of a pair.

A new metric is a function in `MEASURES` and a record in `lnqtools.metrics.columns`: tables,
summaries, comparisons, pages and figures read these.

Values that are undefined because a mask is empty are None.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lnqtools.errors import LnqError, require_choice
from lnqtools.metrics.pairs import MaskPair
from lnqtools.metrics.summaries import ratio


def _dice(pair: MaskPair) -> float | None:
    return ratio(2 * pair.common_voxels, pair.predicted.voxels + pair.true.voxels)


def _iou(pair: MaskPair) -> float | None:
    either = pair.predicted.voxels + pair.true.voxels - pair.common_voxels
    return ratio(pair.common_voxels, either)


def _volume_error_ml(pair: MaskPair) -> float:
    return (pair.predicted.voxels - pair.true.voxels) * pair.true.voxel_ml


_NSD = "nsd_{}mm"

MEASURES: dict[str, Callable[..., Any]] = {
    "status": lambda pair: pair.status,
    "dice": _dice,
    "iou": _iou,
    "precision": lambda pair: ratio(pair.common_voxels, pair.predicted.voxels),
    "recall": lambda pair: ratio(pair.common_voxels, pair.true.voxels),
    "assd_mm": lambda pair: pair.surface.assd_mm(),
    "masd_mm": lambda pair: pair.surface.masd_mm(),
    "hd_mm": lambda pair: pair.surface.hd_mm(),
    "hd95_mm": lambda pair: pair.surface.hd95_mm(),
    "hd95_pooled_mm": lambda pair: pair.surface.hd95_pooled_mm(),
    _NSD: lambda pair, tolerance_mm: pair.surface.nsd(tolerance_mm),
    "volume_prediction_ml": lambda pair: pair.predicted.volume_ml,
    "volume_reference_ml": lambda pair: pair.true.volume_ml,
    "volume_error_ml": _volume_error_ml,
    "components_prediction": lambda pair: pair.predicted.component_count,
    "components_reference": lambda pair: pair.true.component_count,
}
"""Column of lnq-metrics → its value for a pair of masks, in the table's order.

One with ``{}`` in its name is measured at each tolerance in mm.
"""

_OVERLAP = ("status", "dice", "iou", "precision", "recall")
_VOLUMES = ("volume_prediction_ml", "volume_reference_ml", "volume_error_ml")
_OF_PRESETS = {"asd_mm": lambda pair: pair.surface.asd_mm()}
"""Columns that only tables of presets have."""


@dataclass(frozen=True)
class Preset:
    """What another evaluation computes.

    Attributes
    ----------
    edge : str
        What it takes the image edge for, see `lnqtools.metrics.surfaces.distances_between`.
    columns : mapping of str to str
        Its names, and the metric of ours (see `evaluate`) that each of them stands for.
    surface_dice : bool
        Whether it has the normalized surface distance of `SurfaceDistances.nsd`.
    """

    edge: str
    columns: Mapping[str, str]
    surface_dice: bool = False


PRESETS = {
    # The challenge's public evaluation code: contours that leave the image edge open, and the
    # mean of the two directed means under the name of ASSD.
    "lnq2023": Preset("open", {"dice": "dice", "assd_mm": "masd_mm"}),
    # medpy.metric.binary: dc, jc, precision, recall, hd, hd95, assd, asd, all with voxelspacing.
    "medpy": Preset(
        "surface",
        {
            **{name: name for name in ("dice", "iou", "precision", "recall", "hd_mm")},
            "hd95_mm": "hd95_pooled_mm",
            "assd_mm": "assd_mm",
            "asd_mm": "asd_mm",
        },
    ),
    # monai.metrics: compute_dice, compute_iou, compute_hausdorff_distance (percentile None and
    # 95), compute_average_surface_distance (symmetric True and False), compute_surface_dice.
    "monai": Preset(
        "surface",
        {name: name for name in ("dice", "iou", "hd_mm", "hd95_mm", "assd_mm", "asd_mm")},
        surface_dice=True,
    ),
}


def overlap(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> dict[str, Any]:
    """Compare two masks voxel by voxel.

    With P and R the numbers of voxels of prediction and reference, and B of those in both:
    dice = 2 B / (P + R), iou = B / (P + R - B), precision = B / P, recall = B / R. One empty
    mask makes dice and iou 0; two make them undefined (None). Precision is undefined for an
    empty prediction, recall for an empty reference.

    Parameters
    ----------
    prediction, reference : (z, y, x) ndarray
        Boolean or integer masks of one shape; every non-zero voxel is foreground.
    spacing : sequence of 3 floats
        Voxel size (z, y, x) in mm.

    Returns
    -------
    dict
        ``status`` ('ok', 'empty_prediction', 'empty_reference', 'both_empty'), ``dice``,
        ``iou``, ``precision``, ``recall``, ``volume_prediction_ml``, ``volume_reference_ml``,
        ``volume_error_ml`` (prediction minus reference), ``voxels_prediction``,
        ``voxels_reference``, ``voxels_overlap``.

    Raises
    ------
    LnqError
        If the masks differ in shape or are not 3-D masks, or the spacing is not positive.
    """
    pair = MaskPair(prediction, reference, spacing)
    return {
        **{name: MEASURES[name](pair) for name in (*_OVERLAP, *_VOLUMES)},
        "voxels_prediction": pair.predicted.voxels,
        "voxels_reference": pair.true.voxels,
        "voxels_overlap": pair.common_voxels,
    }


def evaluate(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    *,
    tolerances: Sequence[float] = (1.0, 2.0),
    edge: str = "surface",
    connectivity: int = 6,
    instances: bool = False,
) -> dict[str, Any]:
    """Compute every metric of one case as a row of a table.

    Parameters
    ----------
    prediction, reference : (z, y, x) ndarray
        Boolean or integer masks of one shape; every non-zero voxel is foreground.
    spacing : sequence of 3 floats
        Voxel size (z, y, x) in mm.
    tolerances : sequence of float
        Tolerances in mm of the normalized surface distance: one column each (``nsd_2mm``).
    edge : {'surface', 'open'}
        See `lnqtools.metrics.surfaces.distances_between`.
    connectivity : {6, 18, 26}
        Of the components that are counted.
    instances : bool
        Voxels of one number are a component instead, in both masks.

    Returns
    -------
    dict
        ``status``; ``dice``, ``iou``, ``precision``, ``recall`` (see `overlap`); ``assd_mm``,
        ``masd_mm``, ``hd_mm``, ``hd95_mm``, ``hd95_pooled_mm``, ``nsd_<tolerance>mm`` (see
        `lnqtools.metrics.surfaces.SurfaceDistances`); ``volume_prediction_ml``,
        ``volume_reference_ml``, ``volume_error_ml``; ``components_prediction``,
        ``components_reference``: the columns of `MEASURES`. Distances are None if a mask is empty.

    Raises
    ------
    LnqError
        As `MaskPair`, or if the edge or the connectivity is unknown.

    Examples
    --------
    >>> reference = np.zeros((4, 6, 6), np.uint8)
    >>> reference[1:3, 1:3, 1:3] = 1
    >>> prediction = np.zeros((4, 6, 6), np.uint8)
    >>> prediction[1:3, 1:3, 1:4] = 1
    >>> row = evaluate(prediction, reference, (2.5, 1.0, 1.0))
    >>> row["dice"], row["recall"], row["hd_mm"], round(row["volume_error_ml"], 3)
    (0.8, 1.0, 1.0, 0.01)
    """
    pair = MaskPair(
        *(prediction, reference, spacing), edge=edge, connectivity=connectivity, instances=instances
    )
    return row_of(pair, tolerances)


def row_of(pair: MaskPair, tolerances: Sequence[float] = (1.0, 2.0)) -> dict[str, Any]:
    """Do as `evaluate` for a pair of masks, of which more may be asked than this row."""
    return {name: measure(pair) for name, measure in _measures(tolerances, MEASURES)}


def _measures(
    tolerances: Sequence[float], names: Iterable[str]
) -> Iterator[tuple[str, Callable[[MaskPair], Any]]]:
    """Yield some of `MEASURES`, one with a tolerance for each of them."""
    for name in names:
        if "{}" not in name:
            yield name, MEASURES[name]
            continue
        for tolerance in tolerances:
            at_it = partial(MEASURES[name], tolerance_mm=tolerance)
            yield name.format(f"{tolerance:.10g}"), at_it


def described_row(
    pair: MaskPair, tolerances: Sequence[float], preset: str | None = None
) -> dict[str, Any]:
    """Return a pair's row of lnq-metrics, which says by what preset or edge it was measured."""
    if preset:
        return row_as(preset, pair, tolerances)
    return {**row_of(pair, tolerances), "edge": pair.edge}


def row_as(preset: str, pair: MaskPair, tolerances: Sequence[float] = (1.0, 2.0)) -> dict[str, Any]:
    """Return for one case what another evaluation computes, under the names it uses.

    The same name may mean two things: ``hd95_mm`` is our ``hd95_pooled_mm`` under 'medpy' and
    our ``hd95_mm`` under 'monai'; ``assd_mm`` is our ``masd_mm`` under 'lnq2023'. So the row
    says which preset it was made with. What is undefined is None, whatever the other evaluation
    makes of it.

    Parameters
    ----------
    preset : {'lnq2023', 'medpy', 'monai'}
        A key of `PRESETS`, where the definitions are.
    pair : MaskPair
        With the image edge taken as the preset does.
    tolerances : sequence of float
        Tolerances in mm of the normalized surface distance, for 'monai' alone.

    Returns
    -------
    dict
        ``preset``, ``status`` (see `overlap`) and the metrics of the preset.

    Raises
    ------
    LnqError
        If the preset is unknown, or takes the image edge otherwise.
    """
    require_choice("preset", preset, tuple(PRESETS))
    chosen = PRESETS[preset]
    if pair.edge != chosen.edge:
        raise LnqError(f"preset {preset} takes the image edge for {chosen.edge}, not {pair.edge}")
    known = {**MEASURES, **_OF_PRESETS}
    metrics = {name: known[ours](pair) for name, ours in chosen.columns.items()}
    if chosen.surface_dice:
        metrics |= {name: measure(pair) for name, measure in _measures(tolerances, [_NSD])}
    return {"preset": preset, "status": pair.status, **metrics}
