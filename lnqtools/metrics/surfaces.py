"""Distances between the surfaces of two masks.

The work is proportional to the foreground. Border voxels are found by looking at the neighbours of
a mask's voxels alone; a border voxel that lies on the other border is 0 mm away, one nearby is
found by probing offsets in ascending distance, and only the few that are left go to a k-d tree. All
of it is exact: there is neither a distance transform nor a crop.

Arrays are (z, y, x); ``spacing`` is in mm in the array's order.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.choices import EDGES
from lnqtools.components.labelling import check_mask, foreground_indices
from lnqtools.errors import require_choice

# Distances that exceed a tolerance by less than this (mm) are within it: spacings come from
# float32 headers, so a distance of exactly the tolerance may come out above it.
TIE_MM = 1e-6

# Offsets are probed up to this distance (mm): the lower bound pays at once, beyond the upper one
# the k-d tree is faster.
_PROBE_MM = (2.5, 4.0)
_MAX_REACH = 16
"""And so many voxels along the finest axis: of voxels of a micron there are billions nearby."""


class Foreground(NamedTuple):
    """A mask as its values in C order and the flat indices of its foreground."""

    values: np.ndarray
    indices: npt.NDArray[np.int64]
    shape: tuple[int, int, int]


def foreground_of(mask: np.ndarray) -> Foreground:
    """List the foreground of a 3-D mask, which is read once, as 64-bit words."""
    shape = check_mask(mask)
    contiguous = np.ascontiguousarray(mask)
    return Foreground(contiguous.reshape(-1), foreground_indices(contiguous), shape)


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance in mm from each border voxel of one mask to the other mask's nearest one.

    Each method returns mm (`nsd`: a fraction), or None where a surface is empty.

    Attributes
    ----------
    from_prediction : (P,) ndarray of float
        One distance per border voxel of the prediction; empty if either surface is.
    from_reference : (R,) ndarray of float
        One distance per border voxel of the reference; empty if either surface is.
    """

    from_prediction: npt.NDArray[np.float64]
    from_reference: npt.NDArray[np.float64]

    @cached_property
    def pooled(self) -> npt.NDArray[np.float64]:
        """The distances of both directions together, (P + R,)."""
        return np.concatenate([self.from_prediction, self.from_reference])

    def assd_mm(self) -> float | None:
        """Average symmetric surface distance: the mean of the pooled distances (medpy, MONAI)."""
        return float(self.pooled.mean()) if self.pooled.size else None

    def asd_mm(self) -> float | None:
        """Mean of the distances from the prediction alone (medpy's and MONAI's asd)."""
        return float(self.from_prediction.mean()) if self.from_prediction.size else None

    def masd_mm(self) -> float | None:
        """Mean of the two directed means (what the LNQ2023 challenge called ASSD)."""
        if not self.pooled.size:
            return None
        return float(self.from_prediction.mean() + self.from_reference.mean()) / 2

    def hd_mm(self) -> float | None:
        """Hausdorff distance: the largest distance of either direction."""
        return float(self.pooled.max()) if self.pooled.size else None

    def hd95_mm(self) -> float | None:
        """Larger of the directed 95th percentiles (MONAI, Metrics Reloaded, DeepMind).

        Percentiles interpolate linearly, as numpy's.
        """
        if not self.pooled.size:
            return None
        directed = (self.from_prediction, self.from_reference)
        return max(float(np.percentile(distances, 95)) for distances in directed)

    def hd95_pooled_mm(self) -> float | None:
        """95th percentile of the pooled distances (medpy)."""
        return float(np.percentile(self.pooled, 95)) if self.pooled.size else None

    def nsd(self, tolerance_mm: float) -> float | None:
        """Return the normalized surface distance: the fraction within a tolerance.

        After Nikolov et al. 2021, with each border voxel counted once instead of weighted by
        its surface area. A distance within 1e-6 mm above the tolerance counts as within.
        """
        if not self.pooled.size:
            return None
        return float(np.count_nonzero(self.pooled <= tolerance_mm + TIE_MM) / self.pooled.size)


def distances_between(
    prediction: Foreground,
    reference: Foreground,
    spacing: tuple[float, float, float],
    edge: str = "surface",
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks, exactly and both ways.

    The surface of a mask is its border voxels: those with at least one of their six face
    neighbours outside the mask. Distances are Euclidean, in mm, between voxel centres.

    They are exact for the voxels. Of the bodies that the voxels stand for they are an estimate:
    between concentric spheres each distance is off by less than a voxel's longest side plus its
    diagonal, and the averages fall short by up to a quarter of the longest side (a property of
    all metrics on border voxels: tests/metrics/test_masks.py has the argument).

    Parameters
    ----------
    prediction, reference : Foreground
        Of masks of one shape.
    spacing : tuple of 3 floats
        Voxel size (z, y, x) in mm.
    edge : {'surface', 'open'}
        Whether what lies beyond the image edge is outside, so that a mask has a surface where
        the image cuts it (medpy, MONAI), or not (LNQ2023). An open mask that fills the image
        has no surface.

    Returns
    -------
    SurfaceDistances
        Empty both ways if either mask has no surface.

    Raises
    ------
    LnqError
        `edge` is unknown.
    """
    require_choice("edge", edge, EDGES)
    of_prediction = _border_voxels(prediction, edge)
    of_reference = _border_voxels(reference, edge)
    if not of_prediction.size or not of_reference.size:
        return SurfaceDistances(np.zeros(0), np.zeros(0))
    shape = prediction.shape
    return SurfaceDistances(
        _nearest_mm(of_prediction, of_reference, shape, spacing),
        _nearest_mm(of_reference, of_prediction, shape, spacing),
    )


def _border_voxels(mask: Foreground, edge: str) -> npt.NDArray[np.int64]:
    """Flat indices of the foreground voxels with a face neighbour outside the mask."""
    values, indices, shape = mask
    enclosed = np.ones(indices.size, bool)
    strides = (shape[1] * shape[2], shape[2], 1)
    for length, stride in zip(shape, strides, strict=True):
        coordinate = indices // stride % length
        for step, last in ((-1, 0), (1, length - 1)):
            at_edge = coordinate == last
            if edge == "surface":
                enclosed &= ~at_edge
            neighbour = np.where(at_edge, indices, indices + step * stride)
            enclosed &= values[neighbour] != 0
    return indices[~enclosed]


def _nearest_mm(
    queries: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> npt.NDArray[np.float64]:
    """Distance from each query voxel to the nearest target voxel (flat indices, not empty)."""
    is_target = np.zeros(np.prod(shape), bool)
    is_target[targets] = True
    distances = np.full(queries.size, np.inf)
    distances[is_target[queries]] = 0
    _probe_nearby(distances, queries, is_target, shape, spacing)
    far = np.flatnonzero(np.isinf(distances))
    if far.size:
        from scipy.spatial import cKDTree

        # For these few queries, a tree that is quick to build beats one quick to search.
        tree = cKDTree(
            _position_mm(targets, shape, spacing), balanced_tree=False, compact_nodes=False
        )
        distances[far] = tree.query(_position_mm(queries[far], shape, spacing))[0]
    return distances


def _position_mm(
    indices: npt.NDArray[np.int64],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> npt.NDArray[np.float64]:
    """Positions of voxel centres in mm, (m, 3)."""
    index = np.stack(np.unravel_index(indices, shape), axis=1)
    return np.asarray(index * np.array(spacing))


def _probe_nearby(
    distances: npt.NDArray[np.float64],
    queries: npt.NDArray[np.int64],
    is_target: npt.NDArray[np.bool_],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> None:
    """Fill in the distances of queries with a target nearby, trying the nearest offsets first.

    Queries so close to the image edge that an offset could leave the volume are left out.
    """
    offsets, lengths_mm, reach = _offsets(shape, spacing)
    waiting = np.flatnonzero(np.isinf(distances))
    position = np.stack(np.unravel_index(queries[waiting], shape), axis=1)
    away_from_edge = (position >= reach) & (position < np.array(shape) - reach)
    waiting = waiting[away_from_edge.all(axis=1)]
    indices = queries[waiting]
    for offset, length_mm in zip(offsets, lengths_mm, strict=True):
        if not waiting.size:
            return
        hit = is_target[indices + offset]
        if hit.any():
            distances[waiting[hit]] = length_mm
            waiting, indices = waiting[~hit], indices[~hit]


@lru_cache(maxsize=64)
def _offsets(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[list[int], list[float], npt.NDArray[np.int64]]:
    """Offsets worth probing, in ascending distance: flat index, length in mm, reach per axis."""
    largest = max(spacing)
    low_mm, high_mm = _PROBE_MM
    # Three fine voxels, or one coarse one with a margin for rounding.
    radius_mm = float(np.clip(3 * largest if largest < 1.5 else 1.01 * largest, low_mm, high_mm))
    radius_mm = min(radius_mm, _MAX_REACH * min(spacing))
    reach = np.array([int(radius_mm // side) for side in spacing])
    steps = np.indices(tuple(2 * reach + 1)).reshape(3, -1).T - reach
    lengths_mm = np.linalg.norm(steps * np.array(spacing), axis=1)
    within = np.flatnonzero((lengths_mm > 0) & (lengths_mm <= radius_mm))
    within = within[np.argsort(lengths_mm[within], kind="stable")]
    flat = steps[within] @ np.array([shape[1] * shape[2], shape[2], 1])
    return flat.tolist(), lengths_mm[within].tolist(), reach
