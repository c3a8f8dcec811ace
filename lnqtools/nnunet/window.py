"""nnU-Net's sliding window, patch after patch in the thread that calls it."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from traceback import clear_frames
from typing import TYPE_CHECKING

from lnqtools.errors import LnqError
from lnqtools.nnunet.environment import is_out_of_memory, told_of_cpu

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


def places(
    shape: Sequence[int], patch: Sequence[int], step_size: float
) -> list[tuple[int | slice, ...]]:
    """Return where nnU-Net's patches lie in an image, in its order.

    Parameters
    ----------
    shape : (z, y, x)
    patch : sequence of int
        Size of a patch in voxels; of two lengths it is one in each slice. The image is padded to
        it where it is smaller.
    step_size : float
        In patch lengths.
    """
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    slices, plane = shape[: len(shape) - len(patch)], shape[len(shape) - len(patch) :]
    padded = [max(n, p) for n, p in zip(plane, patch, strict=True)]
    steps = compute_steps_for_sliding_window(padded, patch, step_size)
    spans = [
        [slice(start, start + length) for start in starts]
        for starts, length in zip(steps, patch, strict=True)
    ]
    return list(itertools.product(*map(range, slices), *spans))


@dataclass(eq=False)
class SlidingWindow:
    """A network that sees an image patch by patch, as in nnU-Net's predictor.

    That is not used itself: to load it takes seconds, most of them for what trains, compiles and
    draws; and it cuts its patches in a second thread. If memory runs out, the thread either waits
    for ever and keeps the image, or is what fails, and then the prediction waits for ever. Here an
    error is an error, and the next image finds the memory free.

    Parameters
    ----------
    network : Module
    outputs : int
        Of the network.
    patch : tuple of int
        Size of a patch in voxels.
    step_size : float
        Of the window, in patch lengths.
    mirrored : tuple of int
        The patch's axes along which mirrored versions are averaged.
    device : torch.device
    sums_there : bool
        Whether logits are summed up on the device, as far as its memory holds them.
    """

    network: torch.nn.Module
    outputs: int
    patch: tuple[int, ...]
    step_size: float
    mirrored: tuple[int, ...]
    device: torch.device
    sums_there: bool

    @property
    def versions(self) -> int:
        """How many versions of a patch the network sees."""
        return 1 << len(self.mirrored)

    def logits(
        self, data: torch.Tensor, on_patch: Callable[[], None]
    ) -> tuple[torch.Tensor, tuple[str, ...]]:
        """Return the logits of a preprocessed image, and notes.

        The same numbers as nnU-Net's ``predict_sliding_window_return_logits``: logits weighted by
        a Gaussian, summed in half precision. The network's may differ in their last bits where it
        sees several patches at once (`patches_at_once`).

        Parameters
        ----------
        data : (channel, z, y, x) tensor
        on_patch : callable
            Called after each patch.

        Returns
        -------
        logits : (output, z, y, x) tensor of float16
        notes : tuple of str
            A sentence if the device's memory did not hold the sums.
        """
        import torch
        from acvl_utils.cropping_and_padding.padding import pad_nd_image
        from nnunetv2.utilities.helpers import empty_cache

        self.network.to(self.device).eval()
        padded, inside = pad_nd_image(data, self.patch, "constant", {"value": 0}, True)
        notes: tuple[str, ...] = ()
        with torch.autocast("cuda") if self.device.type == "cuda" else contextlib.nullcontext():
            found = None
            if self.sums_there:
                try:
                    found = self._summed(padded, on_patch, self.device)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    clear_frames(error.__traceback__)  # which hold what fills the memory
                    notes = (told_of_cpu(self.device, "summing up the network's output"),)
            if found is None:
                empty_cache(self.device)
                found = self._summed(padded, on_patch, torch.device("cpu"))
        empty_cache(self.device)
        return found[(slice(None), *inside[1:])], notes

    def _summed(
        self, data: torch.Tensor, on_patch: Callable[[], None], place: torch.device
    ) -> torch.Tensor:
        """Return the weighted mean of the patches' logits, summed on a device."""
        import torch
        from nnunetv2.inference.sliding_window_prediction import compute_gaussian

        data = data.to(place)
        logits = torch.zeros((self.outputs, *data.shape[1:]), dtype=torch.half, device=place)
        weights = torch.zeros(data.shape[1:], dtype=torch.half, device=place)
        gaussian = compute_gaussian(
            self.patch, sigma_scale=1 / 8, value_scaling_factor=10, device=place
        )
        weight = gaussian.float()  # quicker to multiply with: the same numbers, of one type
        at_once = patches_at_once(self.network, self.patch, self.device)
        left = iter(places(data.shape[1:], self.patch, self.step_size))
        while batch := list(islice(left, at_once)):
            patches = torch.stack([data[(slice(None), *where)] for where in batch])
            found = self._mean_of_versions(patches.to(self.device)).to(place)
            for where, seen in zip(batch, found, strict=True):
                sums = logits[(slice(None), *where)]
                seen *= weight if seen.dtype == torch.float32 else gaussian
                sums.copy_(seen.add_(sums))
                weights[where] += gaussian
                on_patch()
        torch.div(logits, weights, out=logits)
        if torch.isinf(logits).any():
            raise LnqError(
                "the network's output is infinite in places: the model is broken, or the image "
                "holds other values than HU"
            )
        return logits

    def _mean_of_versions(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the network's output for patches, averaged over their mirrored versions."""
        total = self.network(patches)
        axes = [axis + 2 for axis in self.mirrored]
        for count in range(1, len(axes) + 1):
            for flipped in itertools.combinations(axes, count):
                total += self.network(patches.flip(flipped)).flip(flipped)
        return total.div_(self.versions) if axes else total
