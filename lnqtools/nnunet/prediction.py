"""What a model says of an image: from the network's logits to a mask on the image's grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.nnunet.environment import is_out_of_memory, told_of_cpu

if TYPE_CHECKING:
    import torch

    from lnqtools.nnunet.model import Model

Probability = TypeVar("Probability", "np.ndarray", "torch.Tensor")
Result = TypeVar("Result")

LINEAR_RESAMPLERS = {"resample_data_or_seg_to_shape": 3, "resample_torch_fornnunet": 1}
"""The resamplers that are linear if their order is 1, and their order if plans.json gives none."""


@dataclass(frozen=True)
class Prediction:
    """Where a model sees lymph nodes.

    Parameters
    ----------
    mask : (z, y, x) ndarray of uint8
        1 where the probability is above the threshold.
    probability : (z, y, x) ndarray of float32 or None
    notes : tuple of str
        What the user should know of how it was made, a sentence each.
    """

    mask: np.ndarray
    probability: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def check_threshold(threshold: float | None) -> None:
    """Raise LnqError unless a threshold, if there is one, lies between 0 and 1."""
    if threshold is not None and not 0 < threshold < 1:
        raise LnqError(f"a threshold lies between 0 and 1, not at {threshold:g}")


def above(probability: Probability, threshold: float | None) -> Probability:
    """Return where a probability is above a threshold, both as the map of it is written."""
    return probability > float(np.float32(0.5 if threshold is None else threshold))


def empty_prediction(shape: tuple[int, ...], with_probability: bool) -> Prediction:
    """Return the prediction of an image in which there is nothing."""
    probability = np.zeros(shape, np.float32) if with_probability else None
    return Prediction(np.zeros(shape, np.uint8), probability)


def predict_from_logits(
    model: Model,
    logits: torch.Tensor,
    properties: dict[str, Any],
    threshold: float | None,
    with_probability: bool,
) -> Prediction:
    """Decide where lymph nodes are, on the image's own grid.

    That is done on the device where the logits are, and the mask alone is copied from there, with
    the probability if it is wanted: in single precision, so that mask and map agree on every
    device. If the device's memory does not hold it, the CPU does it.

    Parameters
    ----------
    model : Model
    logits : (output, z, y, x) tensor
        On the network's grid, with its axes.
    properties : dict
        What nnU-Net's preprocessor tells of cropping and resampling.
    threshold : float or None
        Probability above which a voxel is lymph node; None decides as nnU-Net does.
    with_probability : bool
        Return the probability, too.
    """
    decide = _by_difference if _is_simple(model, properties) else _by_resampled_logits

    def decided(logits: torch.Tensor) -> list[np.ndarray | None]:
        found = decide(model, logits, properties, threshold, with_probability)
        return [None if each is None else each.cpu().numpy() for each in found]

    (mask, probability), notes = there_or_on_the_cpu(decided, logits, "resampling its output")
    assert mask is not None
    return Prediction(
        _uncropped(model, mask.astype(np.uint8), properties),
        None if probability is None else _uncropped(model, probability, properties),
        notes,
    )


def there_or_on_the_cpu(
    step: Callable[[torch.Tensor], Result], values: torch.Tensor, doing: str
) -> tuple[Result, tuple[str, ...]]:
    """Do a step on a tensor's device, or on the CPU if that device's memory does not hold it.

    Returns
    -------
    result : object
        Of the step.
    notes : tuple of str
        A sentence if memory ran out.
    """
    from nnunetv2.utilities.helpers import empty_cache

    device = values.device
    try:
        return step(values), ()
    except (MemoryError, RuntimeError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    empty_cache(device)  # outside the handler: the error holds what filled the memory
    return step(values.cpu()), (told_of_cpu(device, doing),)


def _is_simple(model: Model, properties: dict[str, Any]) -> bool:
    """Tell whether the logits' difference can be resampled instead of each class.

    With two classes, softmax is a function of the logits' difference, and linear
    resampling commutes with the difference. Where slices are thick nnU-Net resamples
    them separately; then its own function is used.
    """
    from nnunetv2.configuration import ANISO_THRESHOLD
    from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis

    settings = model.configuration.configuration
    how = settings["resampling_fn_probabilities_kwargs"]
    two_classes = not model.node.regions and model.node.outputs == 2
    resampler = settings["resampling_fn_probabilities"]
    linear = how.get("order", LINEAR_RESAMPLERS.get(resampler)) == 1
    if not (two_classes and linear and resampler in LINEAR_RESAMPLERS):
        return False
    before, after = model.spacings(properties["spacing"])
    threshold = how.get("separate_z_anisotropy_threshold", ANISO_THRESHOLD)
    separate, _ = determine_do_sep_z_and_axis(how.get("force_separate_z"), after, before, threshold)
    return not separate


def _by_difference(
    model: Model,
    logits: torch.Tensor,
    properties: dict[str, Any],
    threshold: float | None,
    with_probability: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return mask and probability on the cropped image's grid, by two classes' difference."""
    import torch

    difference = logits[1].float() - logits[0].float()
    shape = tuple(int(n) for n in properties["shape_after_cropping_and_before_resampling"])
    if difference.shape != shape:
        difference = torch.nn.functional.interpolate(
            difference[None, None], shape, mode="trilinear", align_corners=False
        )[0, 0]
    probability = difference.sigmoid_()
    return above(probability, threshold), probability if with_probability else None


def _by_resampled_logits(
    model: Model,
    logits: torch.Tensor,
    properties: dict[str, Any],
    threshold: float | None,
    with_probability: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return mask and probability on the cropped image's grid, by nnU-Net's own resampling."""
    import torch

    node = model.node
    before, after = model.spacings(properties["spacing"])
    shape = properties["shape_after_cropping_and_before_resampling"]
    resample = model.configuration.resampling_fn_probabilities
    resampled = torch.as_tensor(resample(node.needed(logits), shape, after, before))
    by_rank = threshold is None and node.most_probable_wins
    if by_rank and not with_probability:
        return node.most_probable(resampled), None
    probabilities = model.labels.apply_inference_nonlin(resampled)
    probability = node.probability(probabilities)
    mask = node.most_probable(resampled) if by_rank else above(probability, threshold)
    return mask, probability if with_probability else None


def _uncropped(model: Model, array: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
    """Put an array back into the image's frame, with the image's axes; 0 around it."""
    whole = np.zeros(properties["shape_before_cropping"], array.dtype)
    box = tuple(slice(start, stop) for start, stop in properties["bbox_used_for_cropping"])
    whole[box] = array
    return np.ascontiguousarray(whole.transpose(model.plans.transpose_backward))
