"""Lesions of two masks: what they have in common, and which are partners.

A lesion is a component, connected or numbered. Each mask is read and labeled once; how the
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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.components.labeling import Components, expand_ranges, find_components, find_instances
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid


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
        If the masks differ in shape.
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
            If the IoU is not a fraction.
        """
        if not 0 <= least_iou <= 1:
            raise LnqError(f"an IoU lies between 0 and 1: {least_iou} does not")
        return self.overlap_voxels > 0 if least_iou == 0 else self.ious >= least_iou


class LesionPair(NamedTuple):
    """Lesions of a reference and of a prediction, compared with each other."""

    reference: Lesions
    prediction: Lesions


def find_lesions(
    prediction: np.ndarray,
    reference: np.ndarray,
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
        `lnqtools.components.labeling.find_components`.
    connectivity : {6, 18, 26}
        Neighbors that belong to one component.
    instances : bool
        Voxels of one number are a component instead, in both masks.

    Returns
    -------
    LesionPair
        Partners are found as this module's description says.

    Raises
    ------
    LnqError
        If the masks differ in shape or are not 3-D masks, the spacing is not positive, or the
        connectivity is unknown.

    Examples
    --------
    One node is found, the other is missed:

    >>> reference = np.zeros((4, 8, 8), np.uint8)
    >>> reference[1:3, 1:3, 1:3] = reference[1:3, 5:7, 5:7] = 1
    >>> prediction = np.zeros((4, 8, 8), np.uint8)
    >>> prediction[1:3, 1:3, 1:4] = 1
    >>> lesions = find_lesions(prediction, reference, (2.5, 1.0, 1.0))
    >>> lesions.reference.partners.tolist(), lesions.reference.ious.round(2).tolist()
    ([1, 0], [0.67, 0.0])
    >>> lesions.reference.hits(0.5).tolist(), lesions.prediction.hits(0.5).tolist()
    ([True, False], [True])
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
