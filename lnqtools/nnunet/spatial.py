"""nnU-Net's turning and scaling of patches, with less work for their labels."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from torch.nn.functional import grid_sample

BEYOND, OPEN, KNOWN = 0, 1, 2
"""What the voxel nearest to a point tells of it: that it has the label of the padding (grid_sample
pads with 0), that others lie around that voxel, and the first of the labels.

Of a point whose nearest voxel lies beyond the image at least half belongs to the padding.
"""


class SparseSpatialTransform(SpatialTransform):
    """batchgeneratorsv2's transform, which interpolates labels where they meet, and not elsewhere.

    That interpolates each value of a label everywhere and takes the largest, which is most of the
    time of augmentation. Where all voxels around a point have one label, that is what comes out;
    so only the other points are left to it; and slices, if each is turned for itself. The result is
    the same, bit for bit.
    """

    @classmethod
    def of(cls, transform: SpatialTransform) -> SparseSpatialTransform:
        """Return a transform that does the same as another."""
        same = copy(transform)
        same.__class__ = cls
        return same

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        grid = params["grid"]
        if grid is None or self.mode_seg != "bilinear" or len(segmentation) > 1:
            return super()._apply_to_segmentation(segmentation, **params)
        padding = self._get_grid_sample_padding_mode(self.border_mode_seg)
        lowest = segmentation.min()
        known = (segmentation - (lowest - KNOWN)).where(_is_even(segmentation), OPEN)
        found = grid_sample(
            *(known[None].float(), grid[None], "nearest", padding), align_corners=self.align_corners
        )[0].to(segmentation.dtype)
        is_open, is_beyond = found == OPEN, found == BEYOND
        found += lowest - KNOWN
        found[is_beyond] = self.padding_value_seg if self.border_mode_seg == "constant" else 0
        points = grid[is_open[0]]
        if len(points):
            line = copy(self)
            line.patch_size = [*[1] * (grid.ndim - 2), len(points)]
            interpolated = SpatialTransform._apply_to_segmentation(
                line, segmentation, grid=points.reshape(*line.patch_size, -1)
            )
            found[is_open] = interpolated.flatten()
        return found


def _is_even(label: torch.Tensor) -> torch.Tensor:
    """Return where all neighbors of a voxel, diagonal ones too, have its label; never at borders.

    Parameters
    ----------
    label : (channel, ...) tensor
    """
    low, high = label.clone(), label.clone()
    even = torch.ones(label.shape, dtype=torch.bool)
    for axis in range(1, label.ndim):
        last = label.shape[axis] - 1
        for ends, take in ((low, torch.minimum), (high, torch.maximum)):
            before = ends.clone()
            one, other = ends.narrow(axis, 0, last), ends.narrow(axis, 1, last)
            take(one, before.narrow(axis, 1, last), out=one)
            take(other, before.narrow(axis, 0, last), out=other)
        even.narrow(axis, 0, 1).fill_(False)
        even.narrow(axis, last, 1).fill_(False)
    return even & (low == high)
