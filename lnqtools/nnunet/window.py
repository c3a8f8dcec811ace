"""The sliding window of nnU-Net's predictor, patch by patch in the thread that calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import torch


def predict_patches(
    predictor: Any,
    on_patch: Callable[[], None],
    data: torch.Tensor,
    slicers: Sequence[tuple],
    do_on_device: bool = True,
) -> torch.Tensor:
    """Return the logits of a preprocessed image.

    The same numbers as nnU-Net's ``_internal_predict_sliding_window_return_logits``: logits
    weighted by a Gaussian, summed in half precision. That function cuts its patches in a second
    thread. If memory runs out, the thread either waits for ever and keeps the image, or is what
    fails, and then the prediction waits for ever. Here an error is an error, and the next image
    finds the memory free.

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
    for slicer in slicers:
        patch = data[slicer][None].contiguous().to(predictor.device)
        seen = predictor._internal_maybe_mirror_and_predict(patch)[0].to(place)
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
