"""How patches are changed at random while training: as nnU-Net does it, less, or more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lnqtools.nnunet.recipe_keys import AXES

if TYPE_CHECKING:
    from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

MORE = "da5"
STRAIGHT = ("intensity", "none")
"""Augmentations that leave a patch where and as it lies, but for mirroring."""


def augmenting_trainer(augmentation: str) -> type[nnUNetTrainer]:
    """Return nnU-Net's trainer whose augmentation is meant, or some of it."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation import nnUNetTrainerDA5 as da5

    return da5.nnUNetTrainerDA5 if augmentation == MORE else nnUNetTrainer


def mirrored_axes(
    mirror: bool | Sequence[str], transpose_forward: Sequence[int]
) -> tuple[int, ...]:
    """Return the network's axes along which patches are mirrored.

    Parameters
    ----------
    mirror : bool or sequence of str
        All axes, none, or some of x, y, z.
    transpose_forward : (3,) sequence of int
        Which of the image's axes z, y, x each of the network's axes is.
    """
    names = AXES if mirror is True else mirror or ()
    return tuple(k for k, axis in enumerate(transpose_forward) if AXES[::-1][axis] in names)


def kept_transforms(
    transforms: Sequence[BasicTransform], augmentation: str, turned: bool
) -> list[Any]:
    """Return those of a trainer's transforms that make up an augmentation.

    Parameters
    ----------
    transforms : sequence of transform
        Those of `augmenting_trainer`.
    augmentation : {"nnunet", "intensity", "none", "da5"}
        ``intensity`` is noise, brightness and contrast alone.
    turned : bool
        Keep da5's quarter turns and exchanges of axes, which mirror patches, too.
    """
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.spatial.transpose import TransposeAxesTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    intensity = (
        GaussianNoiseTransform,
        MultiplicativeBrightnessTransform,
        ContrastTransform,
    )

    def belongs(transform: Any) -> bool:
        at_random = isinstance(transform, RandomTransform)
        inner = transform.transform if at_random else transform
        if augmentation not in STRAIGHT:
            return turned or not isinstance(inner, Rot90Transform | TransposeAxesTransform)
        if not at_random:
            return not isinstance(inner, SpatialTransform)
        return augmentation == "intensity" and isinstance(inner, intensity)

    return [transform for transform in transforms if belongs(transform)]
