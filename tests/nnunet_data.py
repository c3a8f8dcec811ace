"""Small cases and small models for the tests of what runs a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume
from tests.conftest import affine, save

if TYPE_CHECKING:
    from lnqtools.nnunet.predict import Predictor

SHAPE = (36, 48, 48)
KNOWN_COLUMNS = 16
"""In this many columns all is annotated; beyond them only the first two nodes are."""


def bright_nodes(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a CT with bright balls for nodes, its weak label (0, 1, 2) and the full truth."""
    rng = np.random.default_rng(seed)
    ct = gaussian_filter(rng.normal(0, 1, SHAPE), 2) * 150 - 60 + rng.normal(0, 10, SHAPE)
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    truth = np.zeros(SHAPE, np.uint8)
    label = np.full(SHAPE, 2, np.uint8)
    label[:, :, :KNOWN_COLUMNS] = 0
    for number in range(4):
        radius = rng.uniform(4, 7)
        center = [rng.uniform(radius, n - radius) for n in SHAPE]
        ball = (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= radius**2
        ct[ball] = 120 + rng.normal(0, 15, ball.sum())
        truth[ball] = 1
        if number < 2:
            label[ball] = 1
    label[(truth == 1) & (label == 0)] = 1
    return np.rint(ct).astype(np.int16), label, truth


def write_bright_nodes(folder: Path, count: int) -> None:
    """Write ct, label and truth of some cases, all unlike each other."""
    for number in range(count):
        arrays = bright_nodes(number)
        for kind, array in zip(("ct", "label", "truth"), arrays, strict=True):
            save(folder / kind / f"case {number}.nii.gz", array, affine((1.0, 1.0, 1.5)))


def volume(array: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    """Return an array (z, y, x) as an image whose axes lie as CTs' mostly do: LPS."""
    return Volume(array, lps_grid(array.shape, spacing))


def predictor(model: Path, **options) -> Predictor:
    """Load a model to predict in one thread on the CPU, without mirrored images."""
    from lnqtools.nnunet.predict import Predictor

    return Predictor(model, device="cpu", threads=1, mirroring=False, **options)


def lps_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """Return a grid of a shape and spacing (z, y, x) whose axes lie as CTs' mostly do: LPS."""
    return Grid.from_affine(shape, affine(spacing[::-1]))


LABELS = {"background": 0, "lymph_node": 1}


def random_model(
    folder: Path,
    *,
    recipe: str = "smoke",
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    shape: tuple[int, int, int] = (40, 60, 60),
    patch: tuple[int, int, int] | None = (16, 24, 24),
    labels: dict | None = None,
    folds: tuple[str, ...] = ("0",),
    transpose: tuple[int, int, int] = (0, 1, 2),
    extra: dict | None = None,
    eagerness: float = 0.0,
    change_plans: Callable[[dict], None] | None = None,
) -> Path:
    """Write a results folder of an untrained network, whose output depends on the image.

    ``eagerness`` is added to the first foreground class's logit: more voxels become node.
    ``change_plans`` changes the plans before the network is built from them.
    """
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from lnqtools.files.json_files import write_json
    from lnqtools.nnunet.dataset import CaseFacts, dataset_json
    from lnqtools.nnunet.prepare import CONFIGURATION, make_plans
    from lnqtools.nnunet.recipes import find_recipe

    facts = CaseFacts("a", spacing, shape, 1.0, True, False, np.linspace(-100.0, 200, 99))
    plans = make_plans([facts], find_recipe(recipe).with_changes({"patch": patch}), seed=0)
    plans["transpose_forward"] = list(transpose)
    plans["transpose_backward"] = [transpose.index(axis) for axis in range(3)]
    if change_plans is not None:
        change_plans(plans)
    dataset = dataset_json([facts]) | {"labels": labels or LABELS} | (extra or {})
    manager = PlansManager(deepcopy(plans))  # which turns old plans into new ones
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        network = nnUNetTrainer.build_network_architecture(
            manager, manager.get_configuration(CONFIGURATION), 1, heads, False
        )
        for parameter in network.parameters():  # far from its mild start: some voxels are sure
            parameter.data.mul_(2)
        network.decoder.seg_layers[-1].bias.data[1] += eagerness
        checkpoint = {
            "network_weights": network.state_dict(),
            "init_args": {"configuration": CONFIGURATION, "fold": fold},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
            "logging": {"mean_fg_dice": [np.float64(0.5)]},  # as nnU-Net's own checkpoints
        }
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", dataset)
    return folder


def trainer_by(folder: Path, *settings: str, recipe: str = "smoke", **more):
    """Return a trainer by a recipe that mirrors, with some keys set, of cases that are not there.

    What else is given changes the facts of its only case.
    """
    import torch

    from lnqtools.nnunet.dataset import CaseFacts, dataset_json
    from lnqtools.nnunet.environment import environment
    from lnqtools.nnunet.prepare import CONFIGURATION, dataset_folder, make_plans, nnunet_folders
    from lnqtools.nnunet.recipes import find_recipe
    from lnqtools.nnunet.trainer import LNQTrainer

    hu = np.linspace(-100.0, 200, 99)
    known = {"spacing": (2.0, 1.0, 1.0), "shape": (40, 60, 60), "has_unknown": True} | more
    facts = CaseFacts("a", cropped_share=1.0, annotated=True, node_hu=hu, **known)
    keys = find_recipe(recipe).with_settings(["mirror=true", *settings])
    plans = make_plans([facts], keys, seed=0)
    prepared = dataset_folder(folder) / plans["configurations"][CONFIGURATION]["data_identifier"]
    prepared.mkdir(parents=True, exist_ok=True)
    (prepared / "a.b2nd").touch()  # whose name tells nnU-Net how cases are kept
    with environment(nnunet_folders(folder)):
        return LNQTrainer(plans, CONFIGURATION, 0, dataset_json([facts]), torch.device("cpu"))


def residual(plans: dict) -> None:
    """Plan the network that nnU-Net's ResEnc presets plan: residual blocks in the encoder."""
    for configuration in plans["configurations"].values():
        network = configuration["architecture"]
        network["network_class_name"] = (
            "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
        )
        arguments = network["arch_kwargs"]
        arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")


def as_before_2_3(plans: dict) -> None:
    """Describe the network as nnU-Net did before 2.3: by numbers, not by the class."""
    for configuration in plans["configurations"].values():
        arguments = configuration.pop("architecture")["arch_kwargs"]
        configuration |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": arguments["features_per_stage"][0],
            "unet_max_num_features": max(arguments["features_per_stage"]),
            "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
            "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [arguments["n_stages"] - 1] * 3,
            "pool_op_kernel_sizes": arguments["strides"],
            "conv_kernel_sizes": arguments["kernel_sizes"],
        }


class Trap:
    """A pickle that makes a directory when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
