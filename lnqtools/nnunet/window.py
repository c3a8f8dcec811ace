"""The sliding window of nnU-Net's predictor, patch after patch in the thread that calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import torch

TOGETHER = 2
"""Patches that a small network sees at once on a CPU.

For a single patch torch takes its own slow convolution in layers of at most 20 480 channels × z ×
y, and oneDNN's for two or more: two take as long as one, or less, and more gain nothing. It is a
fixed number and not measured where it is used, since the two convolutions round differently: load
on the machine could change a mask. Of oneDNN's the result does not depend on how many patches there
are, or which.
"""
SMALL_BYTES = 64 << 20
"""Size of a patch's first feature maps up to which a network is small.

Larger ones gain a few percent, and two patches would take twice their memory.
"""


def patches_at_once(network: torch.nn.Module, patch: Sequence[int], device: torch.device) -> int:
    """Return how many patches a network is best run on together.

    Parameters
    ----------
    network : Module
    patch : sequence of int
        Size of a patch in voxels.
    device : torch.device
    """
    widths = (getattr(part, "out_channels", None) for part in network.modules())
    maps_bytes = 4 * math.prod(patch) * next((int(width) for width in widths if width), 0)
    return TOGETHER if device.type == "cpu" and maps_bytes <= SMALL_BYTES else 1


def predict_patches(
    predictor: Any,
    on_patch: Callable[[], None],
    data: torch.Tensor,
    slicers: Sequence[tuple],
    do_on_device: bool = True,
) -> torch.Tensor:
    """Return the logits of a preprocessed image.

    The same numbers as nnU-Net's ``_internal_predict_sliding_window_return_logits``: logits
    weighted by a Gaussian, summed in half precision. The network's may differ in their last bits
    where it sees several patches at once (`patches_at_once`). That function cuts its patches in a
    second thread. If memory runs out, the thread either waits for ever and keeps the image, or is
    what fails, and then the prediction waits for ever. Here an error is an error, and the next
    image finds the memory free.

    Parameters
    ----------
    predictor : nnUNetPredictor
    on_patch : callable
        Called after each patch.
    data : (channel, z, y, x) tensor
    slicers : sequence of tuple of slice
        Where the patches lie in ``data``.
    do_on_device : bool
        Whether the sums are kept on the predictor's device.

    Returns
    -------
    (class, z, y, x) tensor of float16
    """
    import torch
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    place = predictor.device if do_on_device else torch.device("cpu")
    data = data.to(place)
    heads = predictor.label_manager.num_segmentation_heads
    logits = torch.zeros((heads, *data.shape[1:]), dtype=torch.half, device=place)
    weights = torch.zeros(data.shape[1:], dtype=torch.half, device=place)
    patch_size = tuple(predictor.configuration_manager.patch_size)
    gaussian = compute_gaussian(
        patch_size, sigma_scale=1 / 8, value_scaling_factor=10, device=place
    )
    at_once = patches_at_once(predictor.network, patch_size, predictor.device)
    left = iter(slicers)
    while batch := list(islice(left, at_once)):
        patches = torch.stack([data[slicer] for slicer in batch]).to(predictor.device)
        found = predictor._internal_maybe_mirror_and_predict(patches).to(place)
        for slicer, seen in zip(batch, found, strict=True):
            seen *= gaussian
            logits[slicer] += seen
            weights[slicer[1:]] += gaussian
            on_patch()
    torch.div(logits, weights, out=logits)
    if torch.isinf(logits).any():
        raise LnqError(
            "the network's output is infinite in places: the model is broken, or the image holds "
            "other values than HU"
        )
    return logits
