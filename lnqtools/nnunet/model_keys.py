"""Every key of plans.json and dataset.json that nnU-Net 2.8 writes or reads, and whether it counts.

The tables are those of ``man lnq-infer``, and a test holds them to what nnU-Net's planner writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lnqtools.errors import LnqError
from lnqtools.nnunet.view import RECORD

HONORED, REFUSED, NO_EFFECT = "honored", "refused", "without effect"
"""What becomes of a key in a prediction. Some values of an honored key are refused, too."""

PLANS_KEYS = {
    "configurations": HONORED,  # that which the checkpoint names
    "foreground_intensity_properties_per_channel": HONORED,
    "foreground_intensity_properties_by_modality": HONORED,  # its older name
    "image_reader_writer": HONORED,
    "label_manager": HONORED,
    RECORD: HONORED,
    "transpose_forward": HONORED,
    "transpose_backward": HONORED,
    "continue_training": NO_EFFECT,
    "dataset_name": NO_EFFECT,
    "experiment_planner_used": NO_EFFECT,
    "original_median_shape_after_transp": NO_EFFECT,
    "original_median_spacing_after_transp": NO_EFFECT,
    "plans_name": NO_EFFECT,
}
"""Keys of plans.json, and what becomes of them."""

CONFIGURATION_KEYS = {
    "architecture": HONORED,
    "inherits_from": HONORED,
    "normalization_schemes": HONORED,
    "patch_size": HONORED,
    "preprocessor_name": HONORED,
    "resampling_fn_data": HONORED,
    "resampling_fn_data_kwargs": HONORED,
    "resampling_fn_probabilities": HONORED,
    "resampling_fn_probabilities_kwargs": HONORED,
    "spacing": HONORED,
    "use_mask_for_norm": HONORED,
    # The network, as nnU-Net described it before 2.3:
    "UNet_class_name": HONORED,
    "UNet_base_num_features": HONORED,
    "conv_kernel_sizes": HONORED,
    "n_conv_per_stage_decoder": HONORED,
    "n_conv_per_stage_encoder": HONORED,
    "pool_op_kernel_sizes": HONORED,
    "unet_max_num_features": HONORED,
    "previous_stage": REFUSED,
    "batch_dice": NO_EFFECT,
    "batch_size": NO_EFFECT,
    "data_identifier": NO_EFFECT,
    "lnq_hparams": NO_EFFECT,
    "median_image_size_in_voxels": NO_EFFECT,
    "next_stage": NO_EFFECT,
    "num_pool_per_axis": NO_EFFECT,
    "resampling_fn_seg": NO_EFFECT,  # it must be one of nnU-Net's all the same
    "resampling_fn_seg_kwargs": NO_EFFECT,
}
"""Keys of a configuration in plans.json, and what becomes of them."""

DATASET_KEYS = {
    "channel_names": HONORED,
    "modality": HONORED,  # its older name
    "labels": HONORED,
    "regions_class_order": HONORED,
    "overwrite_image_reader_writer": HONORED,  # where plans.json names no reader
    "dataset": NO_EFFECT,
    "file_ending": NO_EFFECT,
    "numTraining": NO_EFFECT,
}
"""Keys of dataset.json; whatever else stands there describes the data, without effect."""

BY_OWN_VALUES = ("ZScoreNormalization", "RescaleTo01Normalization")
"""The normalizations by an image's own mean or range, to which all of the image contributes."""

_FOUND_IN = {
    "preprocessor_name": ("preprocessor", "preprocessing"),
    "resampling_fn_data": ("resampling", "preprocessing.resampling"),
    "resampling_fn_seg": ("resampling", "preprocessing.resampling"),
    "resampling_fn_probabilities": ("resampling", "preprocessing.resampling"),
    "label_manager": ("label manager", "utilities.label_handling"),
}
"""What plans.json names by these keys, and where in nnU-Net it is looked for."""


def unknown_keys(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> list[str]:
    """Return the keys of plans.json that nnU-Net does not know, and so ignores."""
    return [
        key
        for given, known in ((plans, PLANS_KEYS), (configuration, CONFIGURATION_KEYS))
        for key in given
        if key not in known
    ]


def check_values(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Refuse plans that nnU-Net could not follow, or that are not for CTs.

    Parameters
    ----------
    plans : mapping
    configuration : mapping
        That of the model, with what it inherits.

    Raises
    ------
    LnqError
        If they name what nnU-Net does not have, do not put axes back as they were, or normalize
        intensities as no CT's are, or by numbers that are missing.
    """
    for key, (kind, place) in _FOUND_IN.items():
        name = (configuration if key in CONFIGURATION_KEYS else plans).get(key)
        if name is not None:
            _require_part(kind, str(name), place)
    there, back = plans["transpose_forward"], plans["transpose_backward"]
    if sorted(there) != [0, 1, 2] or [there[axis] for axis in back] != [0, 1, 2]:
        raise LnqError(
            f"plans.json: transpose_backward {back} does not undo transpose_forward {there}"
        )
    _check_normalization(plans, configuration)


def _check_normalization(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Raise LnqError unless the one channel can be normalized, as a CT's."""
    scheme = configuration["normalization_schemes"][0]
    masked = configuration["use_mask_for_norm"][0]
    _require_part("normalization", str(scheme), "preprocessing.normalization")
    if scheme == "RGBTo01Normalization":
        raise LnqError(f"was trained on color pictures, not on CTs: plans.json names {scheme}")
    if not isinstance(masked, bool | None):
        raise LnqError(f"plans.json: use_mask_for_norm is {masked!r}, neither true nor false")
    key = "foreground_intensity_properties_per_channel"
    properties = plans.get(key) or plans.get("foreground_intensity_properties_by_modality") or {}
    numbers = properties.get("0") or {}
    wanted = ("mean", "std", "percentile_00_5", "percentile_99_5")
    missing = [name for name in wanted if not isinstance(numbers.get(name), int | float)]
    if scheme == "CTNormalization" and missing:
        raise LnqError(f"plans.json: {key} lacks {', '.join(missing)}")


def _require_part(kind: str, name: str, place: str) -> None:
    """Raise LnqError unless nnU-Net finds a class or function of this name in its package."""
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = Path(nnunetv2.__path__[0], *place.split("."))
    if not callable(recursive_find_python_class(str(folder), name, f"nnunetv2.{place}")):
        raise LnqError(
            f"plans.json names the {kind} {name}, which nnU-Net {version('nnunetv2')} does not "
            "have: install the version or fork of nnU-Net that it was trained with"
        )
