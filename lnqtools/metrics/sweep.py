"""Which probability threshold and which diameter filter: a sweep over validation cases.

A point of a sweep is a threshold and a least diameter. At a point, the prediction is the voxels
whose probability is above the threshold, without the connected components whose shortest diameter
is below the least one: what ``lnq-infer --threshold`` and ``lnq-filter-diameter --min`` would
make. Each map is read once, to list its voxels above the lowest threshold. Components are found,
measured and compared with the reference once per threshold; the filter then only selects among
their counts.

Arrays are (z, y, x). References hold 0 background,
1 node and, in training labels, 2 unknown: nobody knows what is right there, so unknown voxels
count in no score. A predicted component keeps them while its diameter is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.choices import SCORES
from lnqtools.components.labeling import (
    Components,
    check_mask,
    components_of,
    find_components,
    find_instances,
    foreground_indices,
)
from lnqtools.components.matching import Overlaps, best_first, component_overlaps
from lnqtools.components.sizes import MM3_PER_ML, at_least, filter_diameters_mm
from lnqtools.errors import LnqError, require_choice
from lnqtools.images.grid import Grid, grid_of
from lnqtools.labels.fill import check_probabilities
from lnqtools.labels.training import NODE, UNKNOWN, check_reference

CASE_COLUMNS = (
    *("case", "threshold", "min_diameter_mm", "dice", "precision", "recall"),
    *("volume_prediction_ml", "volume_reference_ml"),
    *("lesions_reference", "lesions_tp", "lesions_fn", "lesions_fp", "voxels_unknown"),
)

COLUMNS = (
    *("threshold", "min_diameter_mm", "n", "dice", "precision", "recall"),
    *("n_dice", "n_precision", "n_recall", "dice_pooled"),
    *("volume_prediction_ml", "volume_reference_ml"),
    *("lesions_reference", "lesions_tp", "lesions_fn", "lesions_fp"),
    *("lesion_sensitivity", "lesion_precision", "lesion_f1", "fp_per_case", "n_unknown", "best"),
)

_TIE_DIGITS = 12
"""Scores that differ by less are equal: they are the same numbers, summed in another order."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CaseSweep:
    """What one case counts at each point.

    Arrays are (T, D): rows are thresholds, columns least diameters, both ascending. Voxels are
    known ones, lesions are connected components.

    Attributes
    ----------
    voxels_prediction : (T, D) ndarray of int64
        Voxels of the prediction.
    voxels_overlap : (T, D) ndarray of int64
        Those of them that are node in the reference.
    lesions_hit : (T, D) ndarray of int64
        Lesions of the reference that are hits (true positives).
    lesions_false : (T, D) ndarray of int64
        Predicted lesions that hit none (false positives), if a voxel of them is known.
    voxels_reference, lesions_reference : int
        Node voxels and lesions of the reference.
    voxels_unknown : int
        Voxels of the image that count in no score.
    voxel_ml : float
        Volume of a voxel.
    """

    voxels_prediction: Counts
    voxels_overlap: Counts
    lesions_hit: Counts
    lesions_false: Counts
    voxels_reference: int
    lesions_reference: int
    voxels_unknown: int
    voxel_ml: float


def sweep_case(
    probability: npt.NDArray,
    reference: npt.NDArray,
    grid: Grid | Sequence[float],
    thresholds: Sequence[float],
    min_diameters_mm: Sequence[float] = (0.0,),
    *,
    metric: str = "ellipsoid",
    flat: str = "drop",
    connectivity: int = 6,
    least_iou: float = 0.5,
    instances: bool = False,
) -> CaseSweep:
    """Count the voxels and lesions of one case at each point.

    Parameters
    ----------
    probability : (z, y, x) ndarray of float
        Probability of lymph node, 0 to 1. A voxel is foreground where it is above the threshold,
        which is rounded to the array's precision first: a stored 0.1 is not above 0.1.
    reference : (z, y, x) ndarray of unsigned int
        0 background, 1 node, 2 unknown.
    grid : Grid or sequence of 3 floats
        Of both, or the size of their voxels; see `lnqtools.components.labeling.find_components`.
    thresholds : sequence of float
        From 0 to below 1, ascending.
    min_diameters_mm : sequence of float
        Least shortest diameters in mm, 0 or more, ascending; 0 keeps every component.
    metric, flat, connectivity
        Of the filter, see `lnqtools.components.sizes.large_enough`; components of the reference
        have the same connectivity.
    least_iou : float
        What makes a lesion a hit, see `lnqtools.components.matching.Lesions.hits`. The IoU is that
        of known voxels.
    instances : bool
        The reference holds numbered nodes instead, each number one lesion, and nothing unknown.

    Returns
    -------
    CaseSweep

    Raises
    ------
    LnqError
        If the arrays differ in shape or hold other values, thresholds or diameters are out of
        range or order, or an option is unknown.
    """
    grid = grid_of(check_mask(probability), grid)
    if reference.shape != grid.shape:
        raise LnqError(f"map {grid.shape} and reference {reference.shape} differ in size (z, y, x)")
    check_probabilities(probability)
    if not instances:
        check_reference(reference)
    _check_points(thresholds, min_diameters_mm)
    if not 0 <= least_iou <= 1:
        raise LnqError(f"an IoU lies between 0 and 1: {least_iou} does not")
    true, is_unknown = _read_reference(reference, grid, connectivity, instances)
    counts = np.zeros((4, len(thresholds), len(min_diameters_mm)), np.int64)
    for row, indices in enumerate(_foregrounds(probability, thresholds)):
        found = components_of(indices, grid, connectivity)
        diameters = filter_diameters_mm(found, metric, flat)
        kept = np.array([at_least(diameters, least) for least in min_diameters_mm])
        known = found.voxel_counts - found.overlap_voxels(is_unknown)
        counts[:, row] = _count(found, true, known, kept, least_iou)
    predicted, common, hit, false = counts
    return CaseSweep(
        voxels_prediction=predicted,
        voxels_overlap=common,
        lesions_hit=hit,
        lesions_false=false,
        voxels_reference=int(true.voxel_counts.sum()),
        lesions_reference=true.count,
        voxels_unknown=int(np.count_nonzero(is_unknown)),
        voxel_ml=float(np.prod(grid.spacing)) / MM3_PER_ML,
    )


def _read_reference(
    reference: npt.NDArray, grid: Grid, connectivity: int, instances: bool
) -> tuple[Components, npt.NDArray[np.bool_]]:
    """Return the lesions of a reference, and where it is unknown."""
    if instances:
        return find_instances(reference, grid), np.zeros(grid.shape, bool)
    nodes = (reference == NODE).view(np.uint8)
    return find_components(nodes, grid, connectivity), reference == UNKNOWN


def _check_points(thresholds: Sequence[float], min_diameters_mm: Sequence[float]) -> None:
    """Refuse a sweep without a point, out of range, or out of order."""
    for values, name, top in (
        (np.asarray(thresholds, float), "thresholds", 1),
        (np.asarray(min_diameters_mm, float), "least diameters", np.inf),
    ):
        if not values.size:
            raise LnqError(f"a sweep needs {name}")
        if not (values >= 0).all() or not (values < top).all():
            raise LnqError(f"{name} lie from 0 to below {top}: {values.tolist()} do not")
        if (np.diff(values) <= 0).any():
            raise LnqError(f"{name} must ascend: {values.tolist()} do not")


def _foregrounds(probability: npt.NDArray, thresholds: Sequence[float]) -> Iterable[Counts]:
    """Yield for each threshold the flat indices of the voxels above it, ascending.

    The volume is read once: voxels above a threshold are among those above the one before.
    """
    limits = np.asarray(thresholds, probability.dtype)
    indices = foreground_indices(probability > limits[0])
    passed = np.searchsorted(limits, probability.reshape(-1)[indices], side="left")
    for row in range(limits.size):
        above = passed > row
        indices, passed = indices[above], passed[above]
        yield indices


def _count(
    found: Components,
    true: Components,
    known: Counts,
    kept: npt.NDArray[np.bool_],
    least_iou: float,
) -> Counts:
    """Count at one threshold, for each least diameter, the four arrays of `CaseSweep`, (4, D)."""
    overlaps = component_overlaps(true, found)
    common = np.bincount(overlaps.second - 1, weights=overlaps.voxels, minlength=found.count)
    sizes = true.voxel_counts[overlaps.first - 1] + known[overlaps.second - 1]
    ious = overlaps.voxels / (sizes - overlaps.voxels)
    judged = kept & (known > 0)
    lesions = [_lesion_counts(overlaps, ious, selected, least_iou) for selected in judged]
    hit, false = np.array(lesions, np.int64).reshape(-1, 2).T
    return np.stack([kept @ known, kept @ common.astype(np.int64), hit, false])


def _lesion_counts(
    overlaps: Overlaps,
    ious: npt.NDArray[np.float64],
    judged: npt.NDArray[np.bool_],
    least_iou: float,
) -> tuple[int, int]:
    """Count hits in the reference and false lesions among the judged ones of the prediction."""
    chosen = judged[overlaps.second - 1]
    if least_iou > 0:
        chosen &= ious >= least_iou  # pairs below change no partners, see components.matching
    pairs = Overlaps(*(column[chosen] for column in overlaps))
    if least_iou > 0:
        hit = hitting = len(best_first(pairs, ious[chosen]))
    else:
        hit, hitting = np.unique(pairs.first).size, np.unique(pairs.second).size
    return hit, int(np.count_nonzero(judged)) - hitting


def case_rows(
    sweep: CaseSweep, thresholds: Sequence[float], min_diameters_mm: Sequence[float]
) -> list[dict[str, Any]]:
    """Describe one case, in one row per point.

    Parameters
    ----------
    sweep : CaseSweep
    thresholds, min_diameters_mm : sequence of float
        Those that the sweep was made with.

    Returns
    -------
    list of dict
        `CASE_COLUMNS` but the case, by threshold and then by diameter. ``dice``, ``precision``
        and ``recall`` as in `lnqtools.metrics.masks.overlap`; None where undefined.
    """
    dice, precision, recall = (_plain(values) for values in _voxel_scores(sweep))
    return [
        {
            "threshold": threshold,
            "min_diameter_mm": least,
            "dice": dice[t][d],
            "precision": precision[t][d],
            "recall": recall[t][d],
            "volume_prediction_ml": float(sweep.voxels_prediction[t, d] * sweep.voxel_ml),
            "volume_reference_ml": sweep.voxels_reference * sweep.voxel_ml,
            "lesions_reference": sweep.lesions_reference,
            "lesions_tp": int(sweep.lesions_hit[t, d]),
            "lesions_fn": int(sweep.lesions_reference - sweep.lesions_hit[t, d]),
            "lesions_fp": int(sweep.lesions_false[t, d]),
            "voxels_unknown": sweep.voxels_unknown,
        }
        for t, threshold in enumerate(thresholds)
        for d, least in enumerate(min_diameters_mm)
    ]


def sweep_rows(
    sweeps: Sequence[CaseSweep],
    thresholds: Sequence[float],
    min_diameters_mm: Sequence[float],
    score: str = "dice",
) -> list[dict[str, Any]]:
    """Summarize the sweeps of all cases, in one row per point.

    ===================== ======================================================================
    column                definition
    ===================== ======================================================================
    n                     cases
    dice                  mean over cases of 2 |P and R| / (|P| + |R|); undefined in a case
                          where both are empty
    precision             mean over cases of |P and R| / |P|; undefined for an empty prediction
    recall                mean over cases of |P and R| / |R|; undefined for an empty reference
    n_dice, ...           cases in which it is defined; the others are left out of the mean
    dice_pooled           Dice of the voxels of all cases together
    volume_*_ml           mean over cases of the volume of known voxels
    lesions_*             of all cases together: lesions of the reference, those that are hits
                          (tp) and are not (fn), predicted lesions that hit none (fp)
    lesion_sensitivity    tp / (tp + fn)
    lesion_precision      tp / (tp + fp)
    lesion_f1             2 tp / (2 tp + fp + fn)
    fp_per_case           fp / n
    n_unknown             cases with unknown voxels
    best                  whether the point is that of `best_point`
    ===================== ======================================================================

    Parameters
    ----------
    sweeps : sequence of CaseSweep
        One or more, made with the same points.
    thresholds, min_diameters_mm : sequence of float
        The points of the sweep.
    score : str
        One of `lnqtools.choices.SCORES`, see `best_point`.

    Returns
    -------
    list of dict
        `COLUMNS`, by threshold and then by diameter; None where undefined.
    """
    table = {
        "n": len(sweeps),
        **_voxel_columns(sweeps),
        **_lesion_columns(sweeps),
        "n_unknown": sum(sweep.voxels_unknown > 0 for sweep in sweeps),
    }
    shape = (len(thresholds), len(min_diameters_mm))
    columns = {name: _plain(np.broadcast_to(values, shape)) for name, values in table.items()}
    rows = [
        {
            "threshold": threshold,
            "min_diameter_mm": least,
            **{name: values[t][d] for name, values in columns.items()},
        }
        for t, threshold in enumerate(thresholds)
        for d, least in enumerate(min_diameters_mm)
    ]
    best = best_point(rows, score)
    return [{**row, "best": number == best} for number, row in enumerate(rows)]


def _voxel_columns(sweeps: Sequence[CaseSweep]) -> dict[str, Any]:
    """Return the columns of `sweep_rows` that count voxels, each a number or (T, D)."""
    n = len(sweeps)
    scores = np.array([_voxel_scores(sweep) for sweep in sweeps])  # case, score, T, D
    defined = np.isfinite(scores)
    counted = np.count_nonzero(defined, axis=0)
    means = _ratios(np.where(defined, scores, 0).sum(axis=0), counted)
    predicted = sum(sweep.voxels_prediction for sweep in sweeps)
    common = sum(sweep.voxels_overlap for sweep in sweeps)
    reference = sum(sweep.voxels_reference for sweep in sweeps)
    return {
        **dict(zip(("dice", "precision", "recall"), means, strict=True)),
        **dict(zip(("n_dice", "n_precision", "n_recall"), counted, strict=True)),
        "dice_pooled": _ratios(2 * common, predicted + reference),
        "volume_prediction_ml": sum(s.voxels_prediction * s.voxel_ml for s in sweeps) / n,
        "volume_reference_ml": sum(s.voxels_reference * s.voxel_ml for s in sweeps) / n,
    }


def _lesion_columns(sweeps: Sequence[CaseSweep]) -> dict[str, Any]:
    """Return the columns of `sweep_rows` that count lesions, each a number or (T, D)."""
    hit = sum(sweep.lesions_hit for sweep in sweeps)
    false = sum(sweep.lesions_false for sweep in sweeps)
    lesions = sum(sweep.lesions_reference for sweep in sweeps)
    return {
        "lesions_reference": lesions,
        "lesions_tp": hit,
        "lesions_fn": lesions - hit,
        "lesions_fp": false,
        "lesion_sensitivity": _ratios(hit, lesions),
        "lesion_precision": _ratios(hit, hit + false),
        "lesion_f1": _ratios(2 * hit, hit + false + lesions),
        "fp_per_case": false / len(sweeps),
    }


def best_point(rows: Sequence[dict[str, Any]], score: str = "dice") -> int | None:
    """Find the point with the highest score.

    Of points with the same score (to twelve digits) the one whose threshold is nearest to 0.5 is
    the best, of two as near the lower; of those with the same threshold the one with the smaller
    least diameter.

    Parameters
    ----------
    rows : sequence of dict
        Of `sweep_rows`; ``best`` is not needed.
    score : {'dice', 'dice-pooled', 'lesion-f1'}
        The column to go by.

    Returns
    -------
    int or None
        Number of the row; None if the score is undefined at every point.

    Raises
    ------
    LnqError
        If the score is unknown.
    """
    require_choice("score", score, SCORES)
    column = score.replace("-", "_")

    def rank(number: int) -> tuple[float, ...]:
        row = rows[number]
        threshold = row["threshold"]
        nearness = round(abs(threshold - 0.5), _TIE_DIGITS)
        return (-round(row[column], _TIE_DIGITS), nearness, threshold, row["min_diameter_mm"])

    scored = [number for number, row in enumerate(rows) if row[column] is not None]
    return min(scored, key=rank, default=None)


def _voxel_scores(sweep: CaseSweep) -> npt.NDArray[np.float64]:
    """Dice, precision and recall of one case, (3, T, D), NaN where undefined."""
    predicted, common = sweep.voxels_prediction, sweep.voxels_overlap
    return np.stack(
        [
            _ratios(2 * common, predicted + sweep.voxels_reference),
            _ratios(common, predicted),
            _ratios(common, np.full_like(common, sweep.voxels_reference)),
        ]
    )


def _ratios(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return quotients, NaN where the denominator is 0."""
    above, below = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)


def _plain(values: npt.NDArray) -> list[list[Any]]:
    """Return a (T, D) array as lists, None for NaN."""
    return [[None if value != value else value for value in row] for row in values.tolist()]
