"""A predicted mask and its reference: what is found in both, once, for all that ask for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lnqtools.components.labeling import (
    Components,
    Runs,
    check_mask,
    components_of_instances,
    components_of_runs,
    label_runs,
)
from lnqtools.components.matching import LesionPair, compare_components
from lnqtools.components.sizes import MM3_PER_ML
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid, grid_of
from lnqtools.metrics.surfaces import (
    Foreground,
    SurfaceDistances,
    distances_between,
    foreground_of,
)


@dataclass(frozen=True, eq=False)
class Mask:
    """One of the two masks; every non-zero voxel is foreground.

    Attributes
    ----------
    array : (z, y, x) ndarray
        Boolean or integer; it must not be changed.
    grid : Grid
    connectivity : {6, 18, 26}
        Of its components.
    instances : bool
        Voxels of one number are a component instead.
    """

    array: np.ndarray
    grid: Grid
    connectivity: int = 6
    instances: bool = False

    @cached_property
    def foreground(self) -> Foreground:
        """Its voxels."""
        return foreground_of(self.array)

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return self.foreground.indices.size

    @property
    def volume_ml(self) -> float:
        """Volume of its voxels in ml."""
        return self.voxels * self.voxel_ml

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod(self.grid.spacing)) / MM3_PER_ML

    @cached_property
    def _runs(self) -> Runs:
        """Its runs, labeled; of connected components."""
        return label_runs(self.foreground.indices, self.grid.shape, self.connectivity)

    @cached_property
    def components(self) -> Components:
        """Its components, as `find_components` or `find_instances` finds them."""
        if not self.instances:
            return components_of_runs(self._runs, self.grid)
        indices = self.foreground.indices
        return components_of_instances(indices, self.foreground.values[indices], self.grid)

    @property
    def component_count(self) -> int:
        """How many components it has; they are not measured for it."""
        return self.components.count if self.instances else self._runs.component_count


class MaskPair:
    """A predicted mask and its reference.

    Foreground, components, surfaces and partners are found when they are first asked for, and
    kept.

    Parameters
    ----------
    prediction, reference : (z, y, x) ndarray
        Boolean or integer masks of one shape; every non-zero voxel is foreground.
    grid : Grid or sequence of 3 floats
        Of both, or the size (z, y, x) of their voxels in mm; see
        `lnqtools.components.labeling.find_components`.
    edge : {'surface', 'open'}
        See `lnqtools.metrics.surfaces.distances_between`.
    connectivity : {6, 18, 26}
        Of components.
    instances : bool
        Voxels of one number are a component instead, in both masks.

    Attributes
    ----------
    predicted, true : Mask
    edge : str

    Raises
    ------
    LnqError
        If the masks differ in shape, are not 3-D masks or not of the grid's size, or the spacing
        is not positive. Edge and connectivity are looked at when they are needed.
    """

    def __init__(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        grid: Grid | Sequence[float],
        *,
        edge: str = "surface",
        connectivity: int = 6,
        instances: bool = False,
    ) -> None:
        if prediction.shape != reference.shape:
            raise LnqError(
                f"prediction {prediction.shape} and reference {reference.shape} differ in size "
                "(z, y, x): bring them onto one grid first"
            )
        grid = grid_of(check_mask(prediction), grid)
        self.predicted = Mask(prediction, grid, connectivity, instances)
        self.true = Mask(reference, grid, connectivity, instances)
        self.edge = edge

    @property
    def status(self) -> str:
        """Which masks are empty: 'ok', 'empty_prediction', 'empty_reference', 'both_empty'."""
        if self.predicted.voxels and self.true.voxels:
            return "ok"
        if self.true.voxels:
            return "empty_prediction"
        return "empty_reference" if self.predicted.voxels else "both_empty"

    @cached_property
    def common_voxels(self) -> int:
        """How many voxels both masks have."""
        at = self.predicted.foreground.indices
        return int(np.count_nonzero(self.true.foreground.values[at]))

    @cached_property
    def surface(self) -> SurfaceDistances:
        """The distances between their surfaces."""
        masks = (self.predicted.foreground, self.true.foreground)
        return distances_between(*masks, self.true.grid.spacing, self.edge)

    @cached_property
    def lesions(self) -> LesionPair:
        """Their components, and which belong to which, as `find_lesions` finds it."""
        return compare_components(self.true.components, self.predicted.components)
