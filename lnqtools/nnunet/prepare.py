"""From cases to nnU-Net's plans and preprocessed arrays, all in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.atomic import private_folder
from lnqtools.files.json_files import read_json, write_json
from lnqtools.images.box import bounding_box
from lnqtools.memory import require_memory, resampled_size
from lnqtools.nnunet.dataset import (
    CaseFacts,
    Status,
    Survey,
    TrainingCase,
    as_seen,
    dataset_json,
    fingerprint,
    foreground_hu,
    intensity_statistics,
    no_status,
    read_case,
)
from lnqtools.nnunet.environment import environment
from lnqtools.nnunet.folds import Splits
from lnqtools.nnunet.recipes import Recipe
from lnqtools.nnunet.resampling import FastResampling
from lnqtools.nnunet.view import RECORD, STORED, TRAINED

if TYPE_CHECKING:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    from lnqtools.images.volume import Volume

DATASET = "Dataset001_LNQ"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans"
SPLITS = "splits_final.json"
TRAINER_SETTINGS = "lnq_hparams"
"""What of a configuration in the plans are attributes of our trainer."""
COHORTS = "cohorts.json"
"""File that says of each case its cohort, whether all is annotated, and any is background."""

MIN_FEATURE_MAP_EDGE = 4
BASE_FEATURES, MAX_FEATURES = 32, 320
CONVOLUTIONS = 2
RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6, 6)
"""nnU-Net's planners' numbers for a 3-D U-Net."""


def nnunet_folders(folder: Path) -> dict[str, str]:
    """Return the environment variables by which nnU-Net finds its folders, all in one."""
    return {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}


def dataset_folder(folder: Path) -> Path:
    """Return nnU-Net's preprocessed folder of our data set within ``folder``."""
    return folder / "preprocessed" / DATASET


def planned_cases(folder: Path) -> list[str] | None:
    """Return the names of the cases that `write_plans` was called with, if it was."""
    dataset = dataset_folder(folder)
    if not (dataset / f"{PLANS}.json").is_file():
        return None
    return sorted(read_json(dataset / COHORTS))


def cases_with(folder: Path, what: str) -> set[str]:
    """Return the names of the planned cases that are ``full``, or have some ``background``."""
    cases = read_json(dataset_folder(folder) / COHORTS)
    return {name for name, case in cases.items() if case.get(what, True)}  # an earlier version's


def planned_batch(folder: Path) -> tuple[int, list[int]]:
    """Return how many patches a batch has by the plans, and their size (z, y, x)."""
    plans = read_json(dataset_folder(folder) / f"{PLANS}.json")
    configuration = plans["configurations"][CONFIGURATION]
    patch = [configuration["patch_size"][axis] for axis in plans["transpose_backward"]]
    return configuration["batch_size"], patch


def write_plans(
    survey: Survey,
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    weights: Mapping[str, float],
    splits: Splits,
    plans: Mapping[str, Any] | None = None,
) -> None:
    """Write what nnU-Net wants to know of the data set; the plans, which mark it whole, last.

    They are those of `make_plans`, unless others are given.
    """
    dataset = dataset_folder(folder)
    write_json(dataset / "dataset.json", dataset_json(survey.cases))
    write_json(dataset / "dataset_fingerprint.json", fingerprint(survey.cases, recipe.statistics))
    write_json(dataset / SPLITS, splits)
    write_json(
        dataset / COHORTS,
        {
            case.name: {
                "cohort": case.cohort,
                "full": case.full,
                "background": case.name in survey.with_background,
            }
            for case in survey.cases
        },
    )
    plans = plans or make_plans(survey.cases, recipe, seed, weights)
    write_json(dataset / f"{PLANS}.json", plans)


def make_plans(
    cases: Sequence[CaseFacts],
    recipe: Recipe,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Let nnU-Net plan its 3-D full resolution configuration and put the recipe's numbers in.

    Parameters
    ----------
    cases : sequence of CaseFacts
    recipe : Recipe
    seed : int
    weights : mapping, optional
        Cohort → how often a case of it is drawn, compared with one of weight 1.

    Raises
    ------
    LnqError
        If the images are too thin for a 3-D network.
    """
    plans = _nnunet_plans(cases, recipe)
    if CONFIGURATION not in plans["configurations"]:
        raise LnqError("the images are single slices; a 3-D network needs volumes")
    configuration = plans["configurations"][CONFIGURATION]
    configuration.pop("next_stage", None)
    plans["configurations"] = {CONFIGURATION: configuration}
    plans[RECORD] = TRAINED
    plans["foreground_intensity_properties_per_channel"] = {
        "0": intensity_statistics(foreground_hu(cases, recipe.statistics), recipe.window_hu)
    }
    if recipe.patch or recipe.features or recipe.convolutions:
        _set_network(configuration, recipe, plans["transpose_forward"])
    if recipe.batch:
        configuration["batch_size"] = recipe.batch
    if recipe.batch_dice is not None:
        configuration["batch_dice"] = recipe.batch_dice
    configuration[TRAINER_SETTINGS] = {
        **recipe.for_trainer(learned=True),
        "cohort_weights": dict(weights or {}),
        **recipe.for_trainer(learned=False),
        "seed": seed,
    }
    return plans


def _nnunet_plans(cases: Sequence[CaseFacts], recipe: Recipe) -> dict[str, Any]:
    """Run nnU-Net's planner in a folder of its own."""
    spacing = [float(s) for s in recipe.spacing_mm] if recipe.spacing_mm else None
    with private_folder("lnq-plan") as name:
        folder = Path(name)
        # The planner wants the cases listed, but opens none of them.
        listed = {case.name: {"images": [case.name], "label": case.name} for case in cases}
        raw, preprocessed = (folder / kind / DATASET for kind in ("raw", "preprocessed"))
        write_json(raw / "dataset.json", dataset_json(cases) | {"dataset": listed})
        write_json(preprocessed / "dataset_fingerprint.json", fingerprint(cases))
        # With 0 workers the planner would set torch to 0 threads, and fail.
        with environment(nnunet_folders(folder) | {"nnUNet_n_proc_DA": "1"}):
            planner = _planner_class(recipe.network)(
                DATASET,
                gpu_memory_target_in_gb=recipe.gpu_memory_gb,
                plans_name=PLANS,
                overwrite_target_spacing=spacing,
            )
            planner.plan_experiment()
        return read_json(preprocessed / f"{PLANS}.json")


def _planner_class(network: str) -> type[ExperimentPlanner]:
    """Return nnU-Net's planner of a kind of network."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
        residual_encoder_unet_planners as residual,
    )

    return {"plain": ExperimentPlanner, "resenc-m": residual.nnUNetPlannerResEncM}[network]


def _set_network(configuration: dict[str, Any], recipe: Recipe, transpose: list[int]) -> None:
    """Plan the U-Net for the recipe's patch and size, by nnU-Net's rules for its levels."""
    from nnunetv2.experiment_planning.experiment_planners.network_topology import (
        get_pool_and_conv_props,
    )

    patch = configuration["patch_size"]
    if recipe.patch:
        median = configuration["median_image_size_in_voxels"]
        wanted = [recipe.patch[axis] for axis in transpose]
        patch = [int(min(w, max(m, 8))) for w, m in zip(wanted, median, strict=True)]
    halvings = len(recipe.features) - 1 if recipe.features else 999
    _, strides, kernels, patch, _ = get_pool_and_conv_props(
        configuration["spacing"], patch, MIN_FEATURE_MAP_EDGE, halvings
    )
    levels = len(strides)
    features = recipe.features or [BASE_FEATURES * 2**k for k in range(levels)]
    configuration["patch_size"] = [int(n) for n in patch]
    configuration["architecture"]["arch_kwargs"].update(
        n_stages=levels,
        features_per_stage=features_at(features, levels),
        kernel_sizes=[list(map(int, kernel)) for kernel in kernels],
        strides=[list(map(int, stride)) for stride in strides],
        **_depth(recipe, levels),
    )


def features_at(features: Sequence[int], levels: int) -> list[int]:
    """Return the feature maps of each level: the last number stands for the levels below, too."""
    return [min(int(features[min(k, len(features) - 1)]), MAX_FEATURES) for k in range(levels)]


def _depth(recipe: Recipe, levels: int) -> dict[str, list[int]]:
    """Return how many convolutions, or residual blocks, each level has."""
    if recipe.network == "plain":
        count = recipe.convolutions or CONVOLUTIONS
        return {
            "n_conv_per_stage": [count] * levels,
            "n_conv_per_stage_decoder": [count] * (levels - 1),
        }
    blocks = [recipe.convolutions] * levels if recipe.convolutions else RESIDUAL_BLOCKS
    return {
        "n_blocks_per_stage": list(blocks[:levels]),
        "n_conv_per_stage_decoder": [1] * (levels - 1),
    }


def preprocess(cases: Sequence[TrainingCase], folder: Path, status: Status = no_status) -> None:
    """Crop, normalize and resample the cases as nnU-Net does; those already there are kept.

    Parameters
    ----------
    cases : sequence of TrainingCase
    folder : Path
        The one that `write_plans` wrote into.
    status : callable, optional
        Told after each case.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset = dataset_folder(folder)
    plans = PlansManager(read_json(dataset / f"{PLANS}.json"))
    orientation = plans.plans.get(RECORD, STORED)  # planned by a version that turned no case
    configuration = FastResampling(plans.get_configuration(CONFIGURATION), to_train=True)
    preprocessor = configuration.preprocessor_class(verbose=False)
    description = read_json(dataset / "dataset.json")
    target = dataset / configuration.data_identifier
    target.mkdir(parents=True, exist_ok=True)
    for done, case in enumerate(cases, 1):
        if not (target / f"{case.name}.pkl").is_file():
            image, label = (as_seen(volume, orientation) for volume in read_case(case))
            _require_memory(case, image, plans.transpose_forward, configuration.spacing)
            data, segmentation, properties = preprocessor.run_case_npy(
                image.array[np.newaxis],
                label.array[np.newaxis].astype(np.int8),  # signed: nnU-Net marks cropped-off by -1
                {"spacing": list(image.spacing)},
                plans,
                configuration,
                description,
            )
            _save_case(data, segmentation, properties, configuration.patch_size, target, case.name)
        status("preprocessing", done, len(cases))


def _require_memory(
    case: TrainingCase, image: Volume, axes: Sequence[int], spacing: Sequence[float]
) -> None:
    """Raise LnqError for a case that is larger than the memory on the network's grid."""
    box = bounding_box(image.array != 0)  # which is what nnU-Net resamples
    if box is None:
        return
    lengths = [box.shape[axis] for axis in axes]
    size = resampled_size(lengths, [image.spacing[axis] for axis in axes], spacing)
    try:  # at least: the image in float32, the label in int16
        require_memory(size, 4 + 2)
    except LnqError as error:
        raise LnqError(f"{case.image}: {error}") from None


def _save_case(
    data: np.ndarray,
    segmentation: np.ndarray,
    properties: dict[str, Any],
    patch: Sequence[int],
    folder: Path,
    name: str,
) -> None:
    """Write a preprocessed case as nnU-Net does; the file that marks it as whole comes last."""
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    data = data.astype(np.float32, copy=False)
    segmentation = segmentation.astype(np.int16, copy=False)
    blocks, chunks = comp_blosc2_params(data.shape, tuple(patch), data.itemsize)
    label_blocks, label_chunks = comp_blosc2_params(
        segmentation.shape, tuple(patch), segmentation.itemsize
    )
    with private_folder("case", folder) as scratch:
        nnUNetDatasetBlosc2.save_case(
            data,
            segmentation,
            properties,
            str(Path(scratch) / name),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=label_chunks,
            blocks_seg=label_blocks,
        )
        for suffix in ("_seg.b2nd", ".b2nd", ".pkl"):
            (Path(scratch) / f"{name}{suffix}").replace(folder / f"{name}{suffix}")
