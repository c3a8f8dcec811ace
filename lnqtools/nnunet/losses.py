"""The losses that nnU-Net lacks: Tversky's, and unknown voxels that count a little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lnqtools.labels.training import UNKNOWN
from lnqtools.nnunet.recipe_keys import IGNORE

if TYPE_CHECKING:
    import torch

SMOOTH = 1e-5
"""What nnU-Net adds to both sides of its Dice's fraction."""


def weight_of_unknown(unknown: str | float) -> float:
    """Return how much an unknown voxel counts as background, by a recipe's key ``unknown``."""
    return 0.0 if unknown == IGNORE else float(unknown)


@dataclass(frozen=True)
class OverlapAndEntropy:
    """Cross-entropy, less the overlap of prediction and truth: Dice's, or more general Tversky's.

    Each voxel has a weight, 1 or that of unknown voxels, which are background. With the weight w
    of a voxel, the probability p of a class there, and its truth t, which is 0 or 1, the
    cross-entropy is Σw·(−log p of the true class) / Σw, and the overlap of a class is
    (2 TP + s) / (2 TP + 2α FP + 2β FN + s), with TP = Σwpt, FP = Σwp(1 − t), FN = Σw(1 − p)t and
    nnU-Net's s. The mean over all classes but background counts. With α = β = ½ the overlap is
    Dice; and with a weight of 0, or of 1, all is nnU-Net's loss with unknown voxels ignored, or
    labeled background.

    Parameters
    ----------
    unknown_weight : float
        Of unknown voxels, from 0 to 1.
    alpha, beta : float
        Weights of false positives and of false negatives [1]_.
    batch : bool
        One overlap of all patches of a batch, instead of the mean over the patches.
    gpus : bool
        The batch is spread over several GPUs.

    References
    ----------
    .. [1] S. S. M. Salehi, D. Erdogmus and A. Gholipour, "Tversky loss function for image
       segmentation using 3D fully convolutional deep networks", MLMI 2017.
    """

    unknown_weight: float = 0.0
    alpha: float = 0.5
    beta: float = 0.5
    batch: bool = False
    gpus: bool = False

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        logits : (patch, class, z, y, x) tensor
        target : (patch, 1, z, y, x) tensor
            Labels, of any type.
        """
        import torch
        from torch.nn.functional import cross_entropy

        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        unknown = target == UNKNOWN
        labels = target.masked_fill(unknown, 0).long()
        weights = logits.new_ones(labels.shape).masked_fill(unknown, self.unknown_weight)
        entropies = cross_entropy(logits, labels[:, 0], reduction="none")
        least = torch.finfo(weights.dtype).tiny  # where nothing counts, 0 is what comes out
        entropy = (weights[:, 0] * entropies).sum() / weights.sum().clamp_min(least)
        return entropy - self._overlap(logits, labels, weights)

    def _overlap(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean overlap of all classes but background."""
        import torch

        classes = torch.arange(1, logits.shape[1], device=logits.device)
        truth = labels == classes.view(1, -1, *[1] * (logits.ndim - 2))
        predicted = weights * torch.softmax(logits, 1)[:, 1:]
        space = tuple(range(2, logits.ndim))
        sums = [
            self._of_batch(each.sum(space))
            for each in (predicted * truth, predicted, weights * truth)
        ]
        both, all_predicted, all_true = sums
        false = self.alpha * (all_predicted - both) + self.beta * (all_true - both)
        return ((2 * both + SMOOTH) / (2 * both + 2 * false + SMOOTH)).mean()

    def _of_batch(self, sums: torch.Tensor) -> torch.Tensor:
        """Return the sums (patch, class) of the patches, or of the whole batch."""
        if not self.batch:
            return sums
        whole = sums.sum(0)
        if not self.gpus:
            return whole
        from nnunetv2.utilities.ddp_allgather import AllGatherGrad

        return AllGatherGrad.apply(whole).sum(0)
