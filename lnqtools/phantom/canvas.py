"""A slab of the phantom being painted: HU, anatomy labels, node numbers, regions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lnqtools.phantom.shapes import MARGIN_MM, Lattice, Solid

AIR_HU = -1000.0


@dataclass(frozen=True)
class Paint:
    """One solid to be painted over what is there.

    Parameters
    ----------
    solid : Solid
        Where.
    hu : float
        The attenuation inside; it blends into the surroundings over the canvas's edge width.
    label : int or None
        Anatomy class inside (0: none). None leaves the class that is there.
    node : int or None
        Node number inside (0: no node). None leaves the number that is there.
    region : str or None
        Paint only within this region of the canvas.
    spare_nodes : bool
        Do not paint over nodes.
    """

    solid: Solid
    hu: float
    label: int | None = None
    node: int | None = 0
    region: str | None = None
    spare_nodes: bool = False


@dataclass
class Canvas:
    """The arrays of one slab of slices, all of the lattice's shape (z, y, x).

    Attributes
    ----------
    edge_mm : float
        Width over which a painted surface blends into its surroundings (partial volume).
    ct : float32 array
        HU.
    anatomy : uint8 array
        TotalSegmentator v2 classes.
    nodes : uint16 array
        Node numbers, 0 where there is no node.
    regions : dict of str to bool array
        Parts of the thorax to which paint can be confined; set by the thorax.
    """

    lattice: Lattice
    edge_mm: float
    ct: np.ndarray
    anatomy: np.ndarray
    nodes: np.ndarray
    regions: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, lattice: Lattice, edge_mm: float) -> Canvas:
        """Return a canvas of air."""
        return cls(
            lattice,
            edge_mm,
            ct=np.full(lattice.shape, AIR_HU, np.float32),
            anatomy=np.zeros(lattice.shape, np.uint8),
            nodes=np.zeros(lattice.shape, np.uint16),
        )

    def coverage(self, distance: np.ndarray) -> np.ndarray:
        """Return the fraction (0 to 1) of each voxel that lies within a surface."""
        return np.clip(0.5 - distance / np.float32(self.edge_mm), 0, 1)

    def paint(self, paint: Paint) -> None:
        """Paint one solid, where it meets this slab."""
        window = self.lattice.window(paint.solid.bounds, MARGIN_MM)
        if window is None:
            return
        distance = paint.solid.distance(self.lattice.cut(window))
        cover = self.coverage(distance)
        inside = distance < 0
        if paint.region is not None:
            cover *= self.regions[paint.region][window]
            inside &= self.regions[paint.region][window]
        if paint.spare_nodes:
            free = self.nodes[window] == 0
            cover *= free
            inside &= free
        ct = self.ct[window]
        ct += cover * (np.float32(paint.hu) - ct)
        if paint.label is not None:
            self.anatomy[window][inside] = paint.label
        if paint.node is not None:
            self.nodes[window][inside] = paint.node
