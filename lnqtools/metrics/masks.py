"""Agreement of a predicted mask with a reference mask: overlap and surface distances.

The work is proportional to the foreground. Each mask is read once, as 64-bit words, to list its
voxels; border voxels are found by looking at the neighbours of those alone; a border voxel that
lies on the other border is 0 mm away, one nearby is found by probing offsets in ascending
distance, and only the few that are left go to a k-d tree. All of it is exact: there is neither a
distance transform nor a crop.

Arrays are (z, y, x); ``spacing`` is in mm in the array's order. Values that are undefined
because a mask is empty are None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.components.labelling import check_mask, foreground_indices, label_runs
from lnqtools.components.sizes import MM3_PER_ML
from lnqtools.errors import LnqError, require_choice
from lnqtools.images.grid import check_spacing
from lnqtools.metrics.summaries import ratio

EDGES = ("surface", "open")


@dataclass(frozen=True)
class Preset:
    """What another evaluation computes.

    Attributes
    ----------
    edge : str
        What it takes the image edge for, see `surface_distances`.
    columns : mapping of str to str
        Its names, and the metric of ours (see `evaluate`) that each of them stands for.
    surface_dice : bool
        Whether it has the normalised surface distance of `SurfaceDistances.nsd`.
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

# Distances that exceed a tolerance by less than this (mm) are within it: spacings come from
# float32 headers, so a distance of exactly the tolerance may come out above it.
TIE_MM = 1e-6

# Offsets are probed up to this distance (mm): the lower bound pays at once, beyond the upper one
# the k-d tree is faster.
_PROBE_MM = (2.5, 4.0)
_MAX_REACH = 16
"""And so many voxels along the finest axis: of voxels of a micron there are billions nearby."""


class _Mask(NamedTuple):
    """A mask as its values in C order and the flat indices of its foreground."""

    values: np.ndarray
    indices: npt.NDArray[np.int64]
    shape: tuple[int, int, int]


def _read(mask: np.ndarray) -> _Mask:
    """List the foreground of a 3-D mask."""
    shape = check_mask(mask)
    contiguous = np.ascontiguousarray(mask)
    return _Mask(contiguous.reshape(-1), foreground_indices(contiguous), shape)


def _check_same_shape(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Refuse masks of two sizes with a sentence."""
    if prediction.shape != reference.shape:
        raise LnqError(
            f"prediction {prediction.shape} and reference {reference.shape} differ in size "
            "(z, y, x): bring them onto one grid first"
        )


def _read_pair(prediction: np.ndarray, reference: np.ndarray) -> tuple[_Mask, _Mask]:
    """List the foreground of both masks, which must have one size."""
    _check_same_shape(prediction, reference)
    return _read(prediction), _read(reference)


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
        The masks differ in shape, are not 3-D masks, or the spacing is not positive.
    """
    return _overlap(*_read_pair(prediction, reference), check_spacing(spacing))


def _overlap(
    prediction: _Mask, reference: _Mask, spacing: tuple[float, float, float]
) -> dict[str, Any]:
    """Do as `overlap` from the lists of foreground voxels."""
    predicted, true = prediction.indices.size, reference.indices.size
    both = int(np.count_nonzero(reference.values[prediction.indices]))
    voxel_ml = float(np.prod(spacing)) / MM3_PER_ML
    return {
        "status": _status(predicted, true),
        "dice": ratio(2 * both, predicted + true),
        "iou": ratio(both, predicted + true - both),
        "precision": ratio(both, predicted),
        "recall": ratio(both, true),
        "volume_prediction_ml": predicted * voxel_ml,
        "volume_reference_ml": true * voxel_ml,
        "volume_error_ml": (predicted - true) * voxel_ml,
        "voxels_prediction": predicted,
        "voxels_reference": true,
        "voxels_overlap": both,
    }


def _status(predicted: int, true: int) -> str:
    """Say which of the masks are empty."""
    if predicted and true:
        return "ok"
    if true:
        return "empty_prediction"
    return "empty_reference" if predicted else "both_empty"


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
        """Normalised surface distance: the fraction of pooled distances within a tolerance.

        After Nikolov et al. 2021, with each border voxel counted once instead of weighted by
        its surface area. A distance within 1e-6 mm above the tolerance counts as within.
        """
        if not self.pooled.size:
            return None
        return float(np.count_nonzero(self.pooled <= tolerance_mm + TIE_MM) / self.pooled.size)


def surface_distances(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    *,
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
    prediction, reference : (z, y, x) ndarray
        Boolean or integer masks of one shape; every non-zero voxel is foreground.
    spacing : sequence of 3 floats
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
        The masks differ in shape, are not 3-D masks, the spacing is not positive, or `edge` is
        unknown.
    """
    pair = _read_pair(prediction, reference)
    return _surface_distances(*pair, check_spacing(spacing), edge)


def _surface_distances(
    prediction: _Mask, reference: _Mask, spacing: tuple[float, float, float], edge: str
) -> SurfaceDistances:
    """Do as `surface_distances` from the lists of foreground voxels."""
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


def _border_voxels(mask: _Mask, edge: str) -> npt.NDArray[np.int64]:
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
        Tolerances in mm of the normalised surface distance: one column each (``nsd_2mm``).
    edge : {'surface', 'open'}
        See `surface_distances`.
    connectivity : {6, 18, 26}
        Of the components that are counted.
    instances : bool
        Voxels of one number are a component instead, in both masks.

    Returns
    -------
    dict
        ``status``; ``dice``, ``iou``, ``precision``, ``recall`` (see `overlap`); ``assd_mm``,
        ``masd_mm``, ``hd_mm``, ``hd95_mm``, ``hd95_pooled_mm``, ``nsd_<tolerance>mm`` (see
        `SurfaceDistances`); ``volume_prediction_ml``, ``volume_reference_ml``,
        ``volume_error_ml``; ``components_prediction``, ``components_reference``. Distances are
        None if a mask is empty.

    Raises
    ------
    LnqError
        As `surface_distances`; or the connectivity is unknown.

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
    spacing_mm = check_spacing(spacing)
    predicted, true = _read_pair(prediction, reference)
    voxels = _overlap(predicted, true, spacing_mm)
    surface = _surface_distances(predicted, true, spacing_mm, edge)
    first = ("status", "dice", "iou", "precision", "recall")
    counts = [_count_components(mask, connectivity, instances) for mask in (predicted, true)]
    distances = ("assd_mm", "masd_mm", "hd_mm", "hd95_mm", "hd95_pooled_mm")
    volumes = ("volume_prediction_ml", "volume_reference_ml", "volume_error_ml")
    return {
        **{name: voxels[name] for name in first},
        **{name: getattr(surface, name)() for name in distances},
        **_surface_dice(surface, tolerances),
        **{name: voxels[name] for name in volumes},
        "components_prediction": counts[0],
        "components_reference": counts[1],
    }


def _count_components(mask: _Mask, connectivity: int, instances: bool) -> int:
    """Count the components of a mask."""
    if instances:
        return np.unique(mask.values[mask.indices]).size
    return label_runs(mask.indices, mask.shape, connectivity).component_count


def _surface_dice(
    surface: SurfaceDistances, tolerances: Sequence[float]
) -> dict[str, float | None]:
    """Return the normalised surface distance at each tolerance, by name of the column."""
    return {f"nsd_{tolerance:.10g}mm": surface.nsd(tolerance) for tolerance in tolerances}


def evaluate_as(
    preset: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    *,
    tolerances: Sequence[float] = (1.0, 2.0),
) -> dict[str, Any]:
    """Compute for one case what another evaluation computes, under the names it uses.

    The same name may mean two things: ``hd95_mm`` is our ``hd95_pooled_mm`` under 'medpy' and
    our ``hd95_mm`` under 'monai'; ``assd_mm`` is our ``masd_mm`` under 'lnq2023'. So the row
    says which preset it was made with. What is undefined is None, whatever the other evaluation
    makes of it.

    Parameters
    ----------
    preset : {'lnq2023', 'medpy', 'monai'}
        A key of `PRESETS`, where the definitions are.
    prediction, reference : (z, y, x) ndarray
        Boolean or integer masks of one shape; every non-zero voxel is foreground.
    spacing : sequence of 3 floats
        Voxel size (z, y, x) in mm.
    tolerances : sequence of float
        Tolerances in mm of the normalised surface distance, for 'monai' alone.

    Returns
    -------
    dict
        ``preset``, ``status`` (see `overlap`) and the metrics of the preset.

    Raises
    ------
    LnqError
        As `surface_distances`; or the preset is unknown.
    """
    require_choice("preset", preset, tuple(PRESETS))
    chosen = PRESETS[preset]
    spacing_mm = check_spacing(spacing)
    predicted, true = _read_pair(prediction, reference)
    voxels = _overlap(predicted, true, spacing_mm)
    surface = _surface_distances(predicted, true, spacing_mm, chosen.edge)
    metrics = {
        name: voxels[ours] if ours in voxels else getattr(surface, ours)()
        for name, ours in chosen.columns.items()
    }
    if chosen.surface_dice:
        metrics |= _surface_dice(surface, tolerances)
    return {"preset": preset, "status": voxels["status"], **metrics}
