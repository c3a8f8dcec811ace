"""Agreement of two masks lesion by lesion: tables of lesions, and their detection.

A lesion is a connected component; which of one mask belongs to which of the other is said in
`lnqtools.components.matching`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.choices import METRICS
from lnqtools.components.diameters import diameters_mm
from lnqtools.components.matching import LesionPair, Lesions
from lnqtools.components.rows import column_name, component_table
from lnqtools.components.sizes import MM3_PER_ML, STRATA, bin_columns, bin_numbers, strata
from lnqtools.errors import LnqError
from lnqtools.metrics.summaries import SD_COLUMNS, ratio, summarize

SIDES = ("reference", "prediction")

HIT_IOUS = (0.1, 0.5)

_COMPONENTS = ("components_reference", "components_prediction")


def lesion_table(
    lesions: LesionPair, metrics: Sequence[str] = METRICS, *, longest: bool = True
) -> list[dict[str, Any]]:
    """Describe each component of both masks, and what the other mask has of it.

    The overlap of a reference component is ``gt_overlap`` = |component ∩ prediction| /
    |component|, a proxy of sensitivity; that of a predicted component is ``pred_overlap`` =
    |component ∩ reference| / |component|, a proxy of precision (section 4.3 of the paper).

    Parameters
    ----------
    lesions : LesionPair
        From `lnqtools.components.matching.find_lesions`.
    metrics : sequence of str
        Diameters to measure, out of `lnqtools.choices.METRICS`.
    longest : bool
        Whether the columns of `lnqtools.components.rows.LONGEST` are there.

    Returns
    -------
    list of dict
        One row per component, those of the reference first: ``side`` ('reference' or
        'prediction'), ``id`` (within its side, see `lnqtools.components.labeling.Components`),
        ``voxels``, ``volume_mm3``, one ``diameter_<metric>_mm`` per metric, those of
        the longest, ``centroid`` (z, y, x index), ``overlap_voxels``,
        ``overlap`` (fraction), ``hit`` (at least one voxel is covered), ``hit_iou_0.1`` and
        ``hit_iou_0.5`` (IoU with the partner is at least that), ``partner`` (its id in the other
        side, or None) and ``iou`` (with the partner, or None). No rows for an empty mask.
    """
    return [
        {"side": name, **row}
        for name, side, other in zip(SIDES, lesions, reversed(lesions), strict=True)
        for row in _side_table(side, other.components.ids, metrics, longest)
    ]


def _side_table(
    side: Lesions, partner_ids: npt.NDArray[np.integer], metrics: Sequence[str], longest: bool
) -> list[dict[str, Any]]:
    """Rows of `lesion_table` of one mask."""
    rows = component_table(side.components, metrics, longest=longest)
    for row, overlap, partner, iou in zip(
        rows, side.overlap_voxels.tolist(), side.partners.tolist(), side.ious.tolist(), strict=True
    ):
        del row["box"]
        row["overlap_voxels"] = overlap
        row["overlap"] = overlap / row["voxels"]
        row["hit"] = overlap > 0
        row |= {f"hit_iou_{least:g}": iou >= least for least in HIT_IOUS}
        row["partner"] = int(partner_ids[partner - 1]) if partner else None
        row["iou"] = iou if partner else None
    return rows


def overlap_by_diameter(
    rows: Iterable[Mapping[str, Any]], width_mm: float = 2.5, metric: str = "ellipsoid"
) -> list[dict[str, Any]]:
    """Summarize the overlaps of lesions in bins of shortest diameter (Fig. 5 of the paper).

    Bin k holds the components of ``k * width_mm <= diameter < (k + 1) * width_mm``, by their own
    diameter. A diameter of 0, which ``ellipsoid`` gives whatever lies in one plane, says nothing
    about the size: such components are counted apart.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `lesion_table`, of any number of cases.
    width_mm : float
        Width of a bin.
    metric : str
        The diameter, out of `lnqtools.choices.METRICS`; the rows must hold it.

    Returns
    -------
    list of dict
        For each side the bins from 0 to the largest diameter of either side, empty ones too, and
        then the degenerate components: ``side``, ``bin`` ('2.5-5mm', 'degenerate'), ``from_mm``,
        ``to_mm``, ``n`` (components), ``mean``, ``q1``, ``median``, ``q3`` of their overlaps
        (quartiles interpolate linearly, as numpy's; None if n is 0), and ``hits``, the
        components with an overlap above 0.

    Raises
    ------
    LnqError
        If the width is not above 0.
    """
    if not width_mm > 0:
        raise LnqError(f"bins of diameter must be wider than 0 mm: {width_mm} is not")
    rows = list(rows)
    diameters = np.array([row[column_name(metric)] for row in rows], float)
    overlaps = np.array([row["overlap"] for row in rows], float)
    sides = np.array([row["side"] for row in rows], str)
    numbers = np.where(diameters > 0, bin_numbers(diameters, width_mm), -1)
    bins = [*range(int(numbers.max(initial=-1)) + 1), -1]
    return [
        {
            "side": side,
            **bin_columns(number, width_mm),
            **_overlap_summary(overlaps[(sides == side) & (numbers == number)]),
        }
        for side in SIDES
        for number in bins
    ]


def _overlap_summary(overlaps: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Summarize the overlaps of some components."""
    if not overlaps.size:
        return {"n": 0, "mean": None, "q1": None, "median": None, "q3": None, "hits": 0}
    q1, median, q3 = np.percentile(overlaps, (25, 50, 75)).tolist()
    return {
        "n": overlaps.size,
        **{"mean": float(overlaps.mean()), "q1": q1, "median": median, "q3": q3},
        "hits": int(np.count_nonzero(overlaps)),
    }


def finding(row: Mapping[str, Any], least_iou: float) -> str:
    """Say in a few words whether a lesion is found, and why not, and how much of it is covered.

    Parameters
    ----------
    row : mapping
        Of `lesion_table`.
    least_iou : float
        What makes a hit, see `Lesions.hits`.

    Returns
    -------
    str
        Of the reference 'found', 'missed' where nothing is covered, and between them
        '100 % covered, IoU < 0.5': such a one counts as missed, and yet it was not overlooked. With
        'no partner' in place of the IoU what covers it is the partner of another. Of the
        prediction 'true', 'false', '40 % true, IoU < 0.5'.
    """
    of_reference = row["side"] == "reference"
    if row["overlap_voxels"] if least_iou == 0 else (row["iou"] or 0) >= least_iou:
        return "found" if of_reference else "true"
    if not row["overlap_voxels"]:
        return "missed" if of_reference else "false"
    why = "no partner" if row["partner"] is None else f"IoU < {least_iou:g}"
    return f"{_percent(row['overlap'])} {'covered' if of_reference else 'true'}, {why}"


def _percent(fraction: float) -> str:
    """Return a part above 0 as a percentage that is 100 only where it is all, and never 0."""
    return f"{max(math.floor(100 * fraction), 1)} %"


def detection_table(
    lesions: LesionPair,
    metric: str = "ellipsoid",
    *,
    least_iou: float = 0.5,
) -> list[dict[str, Any]]:
    """Count found, missed and false lesions of one case, over all and by size.

    A true positive (TP) is a reference component that is hit, a false negative (FN) one that is
    not, a false positive (FP) a predicted component that hits none; see `Lesions.hits`. Strata
    hold reference components (TP, FN) by their own diameter and predicted ones (FP) by theirs,
    as COCO's do by area; so each column of counts adds up over the strata. A pair whose components
    are of two sizes is a TP in the stratum of the reference's, see ``partners_elsewhere``.

    ==================== =======================================================================
    value                definition
    ==================== =======================================================================
    sensitivity          TP / (TP + FN); undefined without a reference component
    precision            TP / (TP + FP); undefined with neither
    f1                   2 TP / (2 TP + FP + FN); undefined without any component
    sq                   segmentation quality: mean IoU of the TP with their partners;
                         undefined without a TP
    rq                   recognition quality: f1 of one-to-one partners
    pq                   panoptic quality: sum of the TP's IoU / (TP + FP / 2 + FN / 2), which is
                         sq · rq, and 0 without a TP (Kirillov et al. 2019)
    ==================== =======================================================================

    Parameters
    ----------
    lesions : LesionPair
        From `lnqtools.components.matching.find_lesions`.
    metric : str
        The diameter that sorts into strata, out of `lnqtools.choices.METRICS`.
    least_iou : float
        What makes a hit, see `Lesions.hits`. With 0 (one voxel), components are not matched one
        to one: ``pq``, ``sq`` and ``rq`` are undefined, and TP counts reference components.

    Returns
    -------
    list of dict
        One row per stratum of `STRATA`: ``stratum``, ``components_reference`` (TP + FN),
        ``components_prediction``, ``tp``, ``fn``, ``fp``, ``partners_elsewhere`` (TP whose
        partner lies in another stratum), ``sensitivity``, ``precision``, ``f1``, ``pq``, ``sq``,
        ``rq``, ``fn_volume_ml`` and ``fp_volume_ml`` (volume of the components that are FN and
        FP). Undefined values are None.

    Raises
    ------
    LnqError
        If the metric is unknown, or the IoU is not a fraction.
    """
    true, predicted = (strata(diameters_mm(side.components, metric)) for side in lesions)
    found = lesions.reference.hits(least_iou)
    false = ~lesions.prediction.hits(least_iou)
    moved = found & _in_other_strata(lesions.reference.partners, true, predicted)
    rows = []
    for stratum in STRATA:
        of_size, predicted_of_size = true[stratum], predicted[stratum]
        matched = lesions.reference.ious[of_size & found]
        counts = {
            "components_reference": _count(of_size),
            "components_prediction": _count(predicted_of_size),
            "tp": _count(of_size & found),
            "fn": _count(of_size & ~found),
            "fp": _count(predicted_of_size & false),
            "partners_elsewhere": _count(of_size & moved),
        }
        volumes = {
            "fn_volume_ml": _volume_ml(lesions.reference, of_size & ~found),
            "fp_volume_ml": _volume_ml(lesions.prediction, predicted_of_size & false),
        }
        iou_sum = float(matched.sum()) if least_iou > 0 else None
        rows.append({"stratum": stratum, **counts, **_rates(counts, iou_sum), **volumes})
    return rows


def _in_other_strata(
    partners: npt.NDArray[np.int64],
    own: Mapping[str, npt.NDArray[np.bool_]],
    other: Mapping[str, npt.NDArray[np.bool_]],
) -> npt.NDArray[np.bool_]:
    """Tell which components have a partner, and it lies in another stratum than they do."""
    of_own, of_other = (np.argmax([of[s] for s in STRATA[1:]], axis=0) for of in (own, other))
    moved = np.zeros(partners.size, bool)
    paired = partners > 0
    moved[paired] = of_own[paired] != of_other[partners[paired] - 1]
    return moved


def _count(selected: npt.NDArray[np.bool_]) -> int:
    """Count components."""
    return int(np.count_nonzero(selected))


def _volume_ml(side: Lesions, selected: npt.NDArray[np.bool_]) -> float:
    """Volume of some components."""
    return float(side.components.volumes_mm3[selected].sum()) / MM3_PER_ML


def _rates(counts: Mapping[str, int], iou_sum: float | None) -> dict[str, float | None]:
    """Rates from counts; those of pairs need the sum of the true positives' IoU."""
    tp, fn, fp = counts["tp"], counts["fn"], counts["fp"]
    f1 = ratio(2 * tp, 2 * tp + fp + fn)
    return {
        "sensitivity": ratio(tp, tp + fn),
        "precision": ratio(tp, tp + fp),
        "f1": f1,
        "pq": None if iou_sum is None else ratio(2 * iou_sum, 2 * tp + fp + fn),
        "sq": None if iou_sum is None else ratio(iou_sum, tp),
        "rq": None if iou_sum is None else f1,
    }


def pool_detection(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Take the lesions of many cases together.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `detection_table` of one stratum, one per case, of one `least_iou`.

    Returns
    -------
    dict
        The same columns: counts and volumes are sums, and rates are those of the summed counts,
        so that each lesion counts the same.
    """
    rows = list(rows)
    counts = {
        name: sum(row[name] for row in rows)
        for name in (*_COMPONENTS, "tp", "fn", "fp", "partners_elsewhere")
    }
    volumes = {name: sum(row[name] for row in rows) for name in ("fn_volume_ml", "fp_volume_ml")}
    one_to_one = any(row["pq"] is not None for row in rows)
    iou_sum = sum(row["tp"] * (row["sq"] or 0) for row in rows) if one_to_one else None
    return {**counts, **_rates(counts, iou_sum), **volumes}


def summarize_detection(
    rows: Iterable[Mapping[str, Any]], spread: str = "sample"
) -> list[dict[str, Any]]:
    """Summarize detection over cases, in each stratum.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `detection_table` of all cases, of one `least_iou`.
    spread : {'sample', 'population'}
        What divides the squares of the standard deviation, see
        `lnqtools.metrics.summaries.summarize`.

    Returns
    -------
    list of dict
        One row per stratum and column of numbers: ``stratum``, ``metric`` (the column's name),
        ``pooled`` (all cases' lesions together, see `pool_detection`), and over the cases where
        it is defined ``mean``, ``sd`` or ``sd_population``, ``median``, ``min``, ``max``, ``n``;
        ``n_undefined`` counts the others. The mean of ``fp`` is the number of false positives
        per case.
    """
    rows = list(rows)
    table = []
    for stratum in STRATA:
        of_size = [
            {name: value for name, value in row.items() if name not in ("case", "stratum")}
            for row in rows
            if row["stratum"] == stratum
        ]
        pooled = pool_detection(of_size)
        for line in summarize(of_size, spread=spread):
            name = line["metric"]
            columns = ("mean", SD_COLUMNS[spread], "median", "min", "max", "n", "n_undefined")
            over_cases = {column: line[column] for column in columns}
            table.append({"stratum": stratum, "metric": name, "pooled": pooled[name], **over_cases})
    return table
