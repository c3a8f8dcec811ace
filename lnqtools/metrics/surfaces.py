"""Distances between the surfaces of two masks.

The work is proportional to the foreground, and exact: border voxels are found by looking at the
neighbours of a mask's voxels alone, and the nearest ones by a k-d tree.

Arrays are (z, y, x); ``spacing`` is in mm in the array's order.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.choices import EDGES
from lnqtools.components.labelling import check_mask, foreground_indices
from lnqtools.errors import require_choice

# Distances that exceed a tolerance by less than this (mm) are within it: spacings come from
# float32 headers, so a distance of exactly the tolerance may come out above it.
TIE_MM = 1e-6


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
    of_prediction = _border_mm(prediction, spacing, edge)
    of_reference = _border_mm(reference, spacing, edge)
    if not len(of_prediction) or not len(of_reference):
        return SurfaceDistances(np.zeros(0), np.zeros(0))
    return SurfaceDistances(
        _nearest_mm(of_prediction, of_reference), _nearest_mm(of_reference, of_prediction)
    )


def _border_mm(
    mask: Foreground, spacing: tuple[float, float, float], edge: str
) -> npt.NDArray[np.float64]:
    """Positions in mm, (m, 3), of the foreground voxels with a face neighbour outside the mask."""
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
    border = np.stack(np.unravel_index(indices[~enclosed], shape), axis=1)
    return np.asarray(border * np.array(spacing))


def _nearest_mm(
    points: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distance from each point to the nearest of the others, of which there is one at least."""
    from scipy.spatial import cKDTree

    # A distance transform of 120 × 300 × 300 voxels takes 0.5 s and 130 MB where this takes 0.02 s
    # and 1 MB; searching a balanced tree would save less than it takes to build it.
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points)[0])
