"""Stand-ins for TotalSegmentator's weights, so that the real package runs offline.

Each is an ordinary nnU-Net model whose few weights are set by hand: a structure is wherever the HU
lie in a band; for the lungs, also only where most of the neighborhood does. They know nothing of
anatomy: one lobe stands for all five, one vertebra for all bones, and foam or a blanket is lung.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Band:
    """A structure that is made of every voxel with ``low <= HU < high``."""

    structure: str
    low: int
    high: int
    crowded: bool = False
    """Only where the band fills most of the neighborhood, which body surfaces do not."""


HIGHEST = 3072
"""CT numbers are clipped to below this, so a band from here on holds nothing."""
LUNG = (-930, -700)

BANDS = {
    "total": (
        Band("lung_lower_lobe_left", *LUNG, crowded=True),
        Band("aorta", 110, 200),
        Band("vertebrae_T5", 200, HIGHEST),
    ),
    "lung_vessels": (Band("lung_arteries", 110, 250),),
    "trunk_cavities": (
        Band("thoracic_cavity", *LUNG),
        Band("mediastinum", 0, 110),
    ),
}
"""What the models of each task see; where bands overlap, the later one wins."""

BLOCK_MM = 6.0
CROWD_SHARE = 0.45
"""A crowd: this share of the 3 x 3 x 3 blocks around a voxel lies in the band."""
PATCH = (48, 48, 48)
"""Patches that stay in the processor's cache: 96 voxels a side took up to ten times as long."""

TASK_IDS = (291, 292, 293, 294, 295, 297, 298, 117, 343)
"""All models there are bands for: the parts of ``total``, fast, fastest, and the other tasks."""


@dataclass(frozen=True)
class Model:
    """What TotalSegmentator expects of one of its models."""

    folder: Path
    configuration: str
    plans_name: str
    trainer: str
    spacing: tuple[float, float, float]
    labels: dict[str, int]
    bands: tuple[Band, ...]

    @property
    def has_crowds(self) -> bool:
        """Return whether the neighborhood of a voxel matters."""
        return any(band.crowded for band in self.bands)

    @property
    def block(self) -> int:
        """Return the width of a voxel of the coarse stage, in voxels."""
        return round(BLOCK_MM / self.spacing[0]) if self.has_crowds else 2

    @property
    def kernel(self) -> int:
        """Return the width of the coarse stage's kernel: three blocks, and odd."""
        return 4 * self.block - 1 if self.has_crowds else 1


def write_surrogate_weights(folder: Path, task_ids: Iterable[int]) -> None:
    """Write models in TotalSegmentator's layout, to be its ``TOTALSEG_WEIGHTS_PATH``."""
    for task_id in task_ids:
        _write_model(folder, _describe_model(task_id))


def _describe_model(task_id: int) -> Model:
    """Look up in the installed package what the model of a task id is like."""
    from totalsegmentator import map_to_binary as names
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    task, settings = _settings(task_id)
    if task_id in names.map_taskid_to_partname_ct:
        classes = names.class_map_5_parts[names.map_taskid_to_partname_ct[task_id]]
    else:
        classes = names.class_map[task]
    labels = {name: label for label, name in classes.items()}
    bands = tuple(band for band in BANDS[task] if band.structure in labels)
    nothing = (Band(next(iter(labels)), HIGHEST, HIGHEST + 1),)
    configuration = settings.get("model", "3d_fullres")
    plans_name = settings.get("plans", "nnUNetPlans")
    step = settings["resample"]
    x, y, z = step if isinstance(step, list) else (step, step, step)
    return Model(
        folder=Path(
            TASK_ID_WEIGHTS_CONFIGS[task_id]["foldername"],
            f"{settings['trainer']}__{plans_name}__{configuration}",
        ),
        configuration=configuration,
        plans_name=plans_name,
        trainer=settings["trainer"],
        spacing=(z, y, x),
        labels=labels,
        bands=bands or nothing,
    )


def _settings(task_id: int) -> tuple[str, dict[str, Any]]:
    """Find the task that a model belongs to, and how the package runs it."""
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    for task in BANDS:
        modes = TASK_CONFIGS[task].get("sub_modes", {"only": TASK_CONFIGS[task]})
        for settings in modes.values():
            ids = settings["task_id"]
            if task_id in (ids if isinstance(ids, list) else [ids]):
                return task, settings
    raise KeyError(task_id)


def _write_model(root: Path, model: Model) -> None:
    """Write what TotalSegmentator unzips for a model, and no more."""
    import torch

    folder = root / model.folder
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(_plans(model)))
    (folder / "dataset.json").write_text(json.dumps(_dataset(model)))
    checkpoint = {
        "network_weights": _network(model).state_dict(),
        "init_args": {"configuration": model.configuration, "fold": 0},
        "trainer_name": model.trainer,
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def _dataset(model: Model) -> dict[str, Any]:
    """Return dataset.json, with the structures as regions: a channel each, not one a class.

    nnU-Net needs a label twice to take it for a region. The real models have a channel for each
    of up to 117 classes, which take most of their time.
    """
    labels = {band.structure: model.labels[band.structure] for band in model.bands}
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {name: [label, label] for name, label in labels.items()},
        "regions_class_order": list(labels.values()),
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }


def _plans(model: Model) -> dict[str, Any]:
    """Return plans.json of a network that sees plain HU."""
    intensities = {
        "mean": 0.0,
        "std": 1.0,
        "median": 0.0,
        "min": -1024.0,
        "max": HIGHEST - 1.0,
        "percentile_00_5": -1024.0,
        "percentile_99_5": HIGHEST - 1.0,
    }
    resampling: dict[str, Any] = {}
    for kind in ("data", "seg", "probabilities"):
        resampling[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        resampling[f"resampling_fn_{kind}_kwargs"] = {
            "is_seg": kind == "seg",
            "order": 1,
            "order_z": 0,
            "force_separate_z": None,
        }
    return {
        "dataset_name": model.folder.parent.name,
        "plans_name": model.plans_name,
        "original_median_spacing_after_transp": model.spacing,
        "original_median_shape_after_transp": PATCH,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {
            model.configuration: resampling
            | {
                "data_identifier": f"{model.plans_name}_{model.configuration}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": PATCH,
                "median_image_size_in_voxels": PATCH,
                "spacing": model.spacing,
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": True,
                "architecture": _architecture(model),
            }
        },
    }


def _architecture(model: Model) -> dict[str, Any]:
    """Return the smallest U-Net that can tell HU bands and see a neighborhood."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4 * len(model.bands), 1],
            "kernel_sizes": [[1, 1, 1], [model.kernel] * 3],
            "strides": [[1, 1, 1], [model.block] * 3],
            "n_conv_per_stage": [2, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "conv_bias": True,
            "norm_op": None,
            "norm_op_kwargs": {},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.ReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _network(model: Model) -> Any:
    """Build the network and set its weights, a band a channel."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = _architecture(model)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        input_channels=1,
        output_channels=len(model.bands),
        deep_supervision=False,
    )
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)
    for number, band in enumerate(model.bands):
        _mark_band(network, number, band)
        if band.crowded:
            _require_crowd(network, number)
    return network


def _mark_band(network: Any, number: int, band: Band) -> None:
    """Let the encoder mark the voxels of a band with 1, and the head fire above one half.

    Whether a whole number x is at least e is relu(x - e + 1) - relu(x - e), and whether it lies
    in a band is the difference of two such steps.
    """
    ramps, marks = (block.conv for block in network.encoder.stages[0][0].convs)
    edges = (band.low - 1, band.low, band.high - 1, band.high)
    for place, (edge, sign) in enumerate(zip(edges, (1, -1, -1, 1), strict=True)):
        ramp = 4 * number + place
        ramps.weight[ramp] = 1
        ramps.bias[ramp] = -edge
        marks.weight[number, ramp] = sign
    after_coarse = marks.out_channels  # the decoder sees as many channels of the coarse stage first
    network.decoder.stages[0].convs[0].conv.weight[number, after_coarse + number] = 1
    (head,) = network.decoder.seg_layers
    head.weight[number, number] = 10
    head.bias[number] = -10 * 0.5


def _require_crowd(network: Any, number: int) -> None:
    """Let the head fire only where mark and neighborhood together reach a higher threshold.

    The coarse stage takes the mean of the marks over the neighborhood, less the mean of the gas,
    which is what lies below the band: that leaves nothing of the blurred surface of a body.
    """
    _, marks = (block.conv for block in network.encoder.stages[0][0].convs)
    crowd = network.encoder.stages[1][0].convs[0].conv
    gas = marks.out_channels - 1  # of the four channels a band, more than this one are free
    marks.bias[gas] = 1
    marks.weight[gas] = -marks.weight[number]
    marks.weight[gas, 4 * number + 2 : 4 * number + 4] = 0  # one less the lower step
    block = crowd.stride[0]
    window = [slice(block - 1, None)] * 3  # centered on the block, not on its first voxel
    crowd.weight[0, number, *window] = 1 / (3 * block) ** 3
    crowd.weight[0, gas, *window] = -1 / (3 * block) ** 3
    network.decoder.transpconvs[0].weight[0, number] = 1
    network.decoder.stages[0].convs[0].conv.weight[number, number] = 1
    network.decoder.seg_layers[0].bias[number] -= 10 * (0.5 + CROWD_SHARE)
