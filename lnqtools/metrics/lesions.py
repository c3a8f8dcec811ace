"""Agreement of two masks lesion by lesion: overlaps, partners, detection.

A lesion is a component, connected or numbered. Each mask is read and labelled once; how the
components of one overlap those of the other is then found on runs of voxels, so the cost grows
with the foreground and not with the volume times the number of lesions.

Which lesion of one mask belongs to which of the other
    Pairs of overlapping components are taken in descending order of IoU (intersection over
    union), each if neither of the two has a partner yet. Of equal IoUs the pair with more common
    voxels comes first, then the one with the lower numbers (reference first).

    So each component has at most one partner, and one list of partners serves every threshold:
    the pairs of IoU >= t are those that the same rule gives when pairs below t are left out. From
    0.5 on no other one-to-one matching exists. Two pairs that share component A, both of IoU >=
    0.5, would each cover half of A and nothing else; A being connected, the two halves would
    touch and be one component (above 0.5: Kirillov et al. 2019, and so it is with numbered
    components, which need not be connected). Matchings of the largest total
    IoU (``scipy.optimize.linear_sum_assignment``) have neither property: they may give up a pair
    of IoU 0.54 for two of 0.28.

Arrays are (z, y, x).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.components.diameters import METRICS, diameters_mm
from lnqtools.components.labelling import Components, expand_ranges, find_components, find_instances
from lnqtools.components.rows import column_name, component_table
from lnqtools.components.sizes import MM3_PER_ML, at_least, bin_columns, bin_numbers
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.metrics.summaries import ratio, summarise

SIDES = ("reference", "prediction")

HIT_IOUS = (0.1, 0.5)

# RECIST 1.1: short axes below 10 mm are normal, from 15 mm on a node is a target lesion.
STRATA_MM = (10.0, 15.0)
STRATA = ("all", "<10mm", "10-15mm", ">=15mm", "degenerate")

_SPREAD = ("mean", "sd", "median", "min", "max", "n", "n_undefined")


class Overlaps(NamedTuple):
    """Pairs of components, one of each of two masks, that have voxels in common."""

    first: npt.NDArray[np.int64]  # component of the one mask, 1..n; ascending
    second: npt.NDArray[np.int64]  # component of the other, 1..m; ascending for each first
    voxels: npt.NDArray[np.int64]  # in common, at least 1


def component_overlaps(first: Components, second: Components) -> Overlaps:
    """Count the common voxels of each pair of components that has any.

    Parameters
    ----------
    first, second : Components
        Components of two masks of one shape.

    Returns
    -------
    Overlaps
        Each pair once; empty if the masks have no voxel in common.

    Raises
    ------
    LnqError
        The masks differ in shape.
    """
    if first.shape != second.shape:
        raise LnqError(
            f"masks differ in size: {first.shape} and {second.shape} (z, y, x); bring them onto "
            "one grid first"
        )
    # The runs of a mask are disjoint: in raster order, their ends ascend as their starts do.
    raster = np.argsort(second.run_starts)
    starts = second.run_starts[raster]
    ends = starts + second.run_lengths[raster]
    first_ends = first.run_starts + first.run_lengths
    begin = np.searchsorted(ends, first.run_starts, "right")
    stop = np.searchsorted(starts, first_ends, "left")
    one = np.repeat(np.arange(begin.size), stop - begin)
    other = expand_ranges(begin, stop - begin)
    begin_common = np.maximum(first.run_starts[one], starts[other])
    common = np.minimum(first_ends[one], ends[other]) - begin_common
    pair = _run_labels(first)[one] * (second.count + 1) + _run_labels(second)[raster[other]]
    pairs, place = np.unique(pair, return_inverse=True)
    voxels = np.bincount(place, weights=common, minlength=pairs.size).astype(np.int64)
    return Overlaps(*np.divmod(pairs, second.count + 1), voxels)


def _run_labels(components: Components) -> npt.NDArray[np.int64]:
    """Component (1..n) of each run."""
    return np.repeat(np.arange(1, components.count + 1), np.diff(components.run_offsets))


@dataclass(frozen=True, eq=False)
class Lesions:
    """The components of one mask, each with what the other mask has of it.

    Row k - 1 of each array belongs to component k.

    Attributes
    ----------
    components : Components
        The mask's components.
    overlap_voxels : (n,) ndarray of int64
        Voxels that the other mask covers.
    partners : (n,) ndarray of int64
        Number of the one component of the other mask that belongs to it, 0 without any.
    ious : (n,) ndarray of float
        IoU with the partner, 0 without one.
    """

    components: Components
    overlap_voxels: npt.NDArray[np.int64]
    partners: npt.NDArray[np.int64]
    ious: npt.NDArray[np.float64]

    def hits(self, least_iou: float) -> npt.NDArray[np.bool_]:
        """Tell which components are found in the other mask.

        Parameters
        ----------
        least_iou : float
            The IoU with its partner that makes a component a hit, above 0 to 1. With 0, one
            voxel of overlap is enough, partner or not: one component may hit several.

        Returns
        -------
        (n,) ndarray of bool

        Raises
        ------
        LnqError
            The IoU is not a fraction.
        """
        if not 0 <= least_iou <= 1:
            raise LnqError(f"an IoU lies between 0 and 1: {least_iou} does not")
        return self.overlap_voxels > 0 if least_iou == 0 else self.ious >= least_iou


class LesionPair(NamedTuple):
    """Lesions of a reference and of a prediction, compared with each other."""

    reference: Lesions
    prediction: Lesions


def find_lesions(
    prediction: npt.NDArray,
    reference: npt.NDArray,
    grid: Grid | Sequence[float],
    connectivity: int = 6,
    *,
    instances: bool = False,
) -> LesionPair:
    """Find the components of two masks, and which belong to which.

    Parameters
    ----------
    prediction, reference : (z, y, x) ndarray
        Boolean or integer masks of one shape; every non-zero voxel is foreground.
    grid : Grid or sequence of 3 floats
        Of both masks, or the size of their voxels; see
        `lnqtools.components.labelling.find_components`.
    connectivity : {6, 18, 26}
        Neighbours that belong to one component.
    instances : bool
        Voxels of one number are a component instead, in both masks.

    Returns
    -------
    LesionPair
        Partners are found as this module's description says.

    Raises
    ------
    LnqError
        The masks differ in shape, are not 3-D masks, the spacing is not positive, or the
        connectivity is unknown.
    """
    if instances:
        return compare_components(find_instances(reference, grid), find_instances(prediction, grid))
    true = find_components(reference, grid, connectivity)
    predicted = find_components(prediction, grid, connectivity)
    return compare_components(true, predicted)


def compare_components(reference: Components, prediction: Components) -> LesionPair:
    """Do as `find_lesions` from components that are found already."""
    overlaps = component_overlaps(reference, prediction)
    sizes = (
        reference.voxel_counts[overlaps.first - 1] + prediction.voxel_counts[overlaps.second - 1]
    )
    ious = overlaps.voxels / (sizes - overlaps.voxels)
    matched = best_first(overlaps, ious)
    return LesionPair(
        _lesions(reference, overlaps.first, overlaps.second, overlaps.voxels, ious, matched),
        _lesions(prediction, overlaps.second, overlaps.first, overlaps.voxels, ious, matched),
    )


def best_first(overlaps: Overlaps, ious: npt.NDArray[np.float64]) -> list[int]:
    """Find the pairs that become partners, as this module's description says.

    Parameters
    ----------
    overlaps : Overlaps
        Pairs that may become partners.
    ious : (p,) ndarray of float
        IoU of each of them.

    Returns
    -------
    list of int
        Rows of the pairs, best IoU first.
    """
    order = np.lexsort((overlaps.second, overlaps.first, -overlaps.voxels, -ious))
    first, second = overlaps.first.tolist(), overlaps.second.tolist()
    taken: tuple[set[int], set[int]] = set(), set()
    matched = []
    for row in order.tolist():
        if first[row] not in taken[0] and second[row] not in taken[1]:
            taken[0].add(first[row])
            taken[1].add(second[row])
            matched.append(row)
    return matched


def _lesions(
    components: Components,
    own: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64],
    voxels: npt.NDArray[np.int64],
    ious: npt.NDArray[np.float64],
    matched: list[int],
) -> Lesions:
    """Put what pairs of components say into rows for the components of one mask."""
    covered = np.bincount(own - 1, weights=voxels, minlength=components.count)
    partners = np.zeros(components.count, np.int64)
    partner_ious = np.zeros(components.count)
    partners[own[matched] - 1] = other[matched]
    partner_ious[own[matched] - 1] = ious[matched]
    return Lesions(components, covered.astype(np.int64), partners, partner_ious)


def lesion_table(lesions: LesionPair, metrics: Sequence[str] = METRICS) -> list[dict[str, Any]]:
    """Describe each component of both masks, and what the other mask has of it.

    The overlap of a reference component is ``gt_overlap`` = |component ∩ prediction| /
    |component|, a proxy of sensitivity; that of a predicted component is ``pred_overlap`` =
    |component ∩ reference| / |component|, a proxy of precision (section 4.3 of the paper).

    Parameters
    ----------
    lesions : LesionPair
        From `find_lesions`.
    metrics : sequence of str
        Diameters to measure, out of `lnqtools.components.diameters.METRICS`.

    Returns
    -------
    list of dict
        One row per component, those of the reference first: ``side`` ('reference' or
        'prediction'), ``id`` (within its side, see `lnqtools.components.labelling.Components`),
        ``voxels``, ``volume_mm3``, one ``diameter_<metric>_mm`` per metric, ``centroid``
        (z, y, x index), ``overlap_voxels``,
        ``overlap`` (fraction), ``hit`` (at least one voxel is covered), ``hit_iou_0.1`` and
        ``hit_iou_0.5`` (IoU with the partner is at least that), ``partner`` (its id in the other
        side, or None) and ``iou`` (with the partner, or None). No rows for an empty mask.
    """
    return [
        {"side": name, **row}
        for name, side, other in zip(SIDES, lesions, reversed(lesions), strict=True)
        for row in _side_table(side, other.components.ids, metrics)
    ]


def _side_table(
    side: Lesions, partner_ids: npt.NDArray[np.integer], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of `lesion_table` of one mask."""
    rows = component_table(side.components, metrics)
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
    """Summarise the overlaps of lesions in bins of shortest diameter (Fig. 5 of the paper).

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
        The diameter, out of `lnqtools.components.diameters.METRICS`; the rows must hold it.

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
        The width is not above 0.
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
    """Summarise the overlaps of some components."""
    if not overlaps.size:
        return {"n": 0, "mean": None, "q1": None, "median": None, "q3": None, "hits": 0}
    q1, median, q3 = np.percentile(overlaps, (25, 50, 75)).tolist()
    return {
        "n": overlaps.size,
        **{"mean": float(overlaps.mean()), "q1": q1, "median": median, "q3": q3},
        "hits": int(np.count_nonzero(overlaps)),
    }


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
    as COCO's do by area; so each column of counts adds up over the strata.

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
        From `find_lesions`.
    metric : str
        The diameter that sorts into strata, out of `lnqtools.components.diameters.METRICS`.
    least_iou : float
        What makes a hit, see `Lesions.hits`. With 0 (one voxel), components are not matched one
        to one: ``pq``, ``sq`` and ``rq`` are undefined, and TP counts reference components.

    Returns
    -------
    list of dict
        One row per stratum of `STRATA`: ``stratum``, ``components_reference`` (TP + FN),
        ``components_prediction``, ``tp``, ``fn``, ``fp``, ``sensitivity``, ``precision``,
        ``f1``, ``pq``, ``sq``, ``rq``, ``fn_volume_ml`` and ``fp_volume_ml`` (volume of the
        components that are FN and FP). Undefined values are None.

    Raises
    ------
    LnqError
        Unknown metric, or an IoU that is no fraction.
    """
    true, predicted = (_strata(diameters_mm(side.components, metric)) for side in lesions)
    found = lesions.reference.hits(least_iou)
    false = ~lesions.prediction.hits(least_iou)
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
        }
        volumes = {
            "fn_volume_ml": _volume_ml(lesions.reference, of_size & ~found),
            "fp_volume_ml": _volume_ml(lesions.prediction, predicted_of_size & false),
        }
        iou_sum = float(matched.sum()) if least_iou > 0 else None
        rows.append({"stratum": stratum, **counts, **_rates(counts, iou_sum), **volumes})
    return rows


def _strata(diameters: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Tell for each stratum which diameters are in it."""
    measured = diameters > 0
    enlarged, target = (at_least(diameters, limit) for limit in STRATA_MM)
    members = (
        np.ones(diameters.size, bool),
        measured & ~enlarged,
        enlarged & ~target,
        target,
        ~measured,
    )
    return dict(zip(STRATA, members, strict=True))


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
        Rows of `detection_table` of one stratum, one a case, of one `least_iou`.

    Returns
    -------
    dict
        The same columns: counts and volumes are sums, and rates are those of the summed counts,
        so that each lesion counts the same.
    """
    rows = list(rows)
    counts = {
        name: sum(row[name] for row in rows)
        for name in ("components_reference", "components_prediction", "tp", "fn", "fp")
    }
    volumes = {name: sum(row[name] for row in rows) for name in ("fn_volume_ml", "fp_volume_ml")}
    one_to_one = any(row["pq"] is not None for row in rows)
    iou_sum = sum(row["tp"] * (row["sq"] or 0) for row in rows) if one_to_one else None
    return {**counts, **_rates(counts, iou_sum), **volumes}


def summarise_detection(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise detection over cases, in each stratum.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `detection_table` of all cases, of one `least_iou`.

    Returns
    -------
    list of dict
        One row per stratum and column of numbers: ``stratum``, ``metric`` (the column's name),
        ``pooled`` (all cases' lesions together, see `pool_detection`), and over the cases where
        it is defined ``mean``, ``sd``, ``median``, ``min``, ``max``, ``n``; ``n_undefined``
        counts the others. The mean of ``fp`` is the number of false positives per case.
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
        for line in summarise(of_size):
            spread = {name: line[name] for name in _SPREAD}
            name = line["metric"]
            table.append({"stratum": stratum, "metric": name, "pooled": pooled[name], **spread})
    return table
