"""A trained model as its files make it: plans, labels, network, and the weights of its folds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnqtools.errors import LnqError
from lnqtools.images.grid import SPACING_RANGE_MM
from lnqtools.nnunet.checkpoint import load_checkpoint
from lnqtools.nnunet.loading import FILES_WAY_ON, build_network, nnunet_reads
from lnqtools.nnunet.model_keys import BY_OWN_VALUES, check_values, unknown_keys
from lnqtools.nnunet.node_label import NodeLabel, doubts
from lnqtools.nnunet.resampling import FastResampling
from lnqtools.nnunet.trust import check_network_classes

if TYPE_CHECKING:
    import torch
    from nnunetv2.utilities.label_handling.label_handling import LabelManager
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

METADATA_FILES = "plans.json and dataset.json"


@dataclass(frozen=True)
class Fold:
    """A trained fold: its name, where it was read, and what matters of it."""

    name: str
    checkpoint: str
    weights: dict[str, Any]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...] | None


@dataclass(frozen=True)
class Model:
    """A model with its folds, as nnU-Net sees it.

    Parameters
    ----------
    plans, labels
        nnU-Net's managers of plans.json and of the labels of dataset.json.
    configuration
        The one of the plans in which the folds were trained.
    dataset : dict
        What dataset.json says.
    node : NodeLabel
        What of the network's outputs are lymph nodes.
    folds : sequence of Fold
    network : Module
        With the weights of the first fold.
    notes : tuple of str
        What the user should know about the model.
    """

    plans: PlansManager
    labels: LabelManager
    configuration: Any
    dataset: dict[str, Any]
    node: NodeLabel
    folds: Sequence[Fold]
    network: torch.nn.Module
    notes: tuple[str, ...]

    @property
    def normalizes_by_image(self) -> bool:
        """Whether each image is normalized by its own values, so that what is cut off counts."""
        return self.configuration.normalization_schemes[0] in BY_OWN_VALUES

    def spacings(self, spacing: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return an image's spacing and the network's, in mm, both with the network's axes.

        Parameters
        ----------
        spacing : (z, y, x), mm
            That of the image as the network sees it.
        """
        before = [float(spacing[axis]) for axis in self.plans.transpose_forward]
        after = list(self.configuration.spacing)
        if self.configuration.configuration["resampling_fn_data"] == "no_resampling_hack":
            return before, before
        return before, before[: 3 - len(after)] + after  # a 2-D network keeps the slices


def load_fold(path: Path, trust: bool) -> Fold:
    """Read the weights of a fold; with ``trust`` from a file that could run code, too."""
    content = load_checkpoint(path, trust)
    try:
        axes = content.get("inference_allowed_mirroring_axes")
        return Fold(
            name=path.parent.name,
            checkpoint=path.name,
            weights=content["network_weights"],
            configuration=content["init_args"]["configuration"],
            trainer=content["trainer_name"],
            mirror_axes=tuple(axes) if axes else None,
        )
    except (KeyError, AttributeError, TypeError):
        raise LnqError(f"{path.parent.name}/{path.name} is not an nnU-Net v2 checkpoint") from None


def make_model(
    plans: dict[str, Any],
    dataset: dict[str, Any],
    folds: Sequence[Fold],
    find_node: Callable[[dict[str, Any], LabelManager], NodeLabel],
    trust: bool,
) -> Model:
    """Build the network from what a model's files say.

    Parameters
    ----------
    plans, dataset : dict
        The contents of plans.json and dataset.json.
    folds : sequence of Fold
    find_node : callable
        Finds the lymph nodes among the labels of dataset.json.
    trust : bool
        Build a network of any class that the plans name.

    Raises
    ------
    LnqError
        If these do not make a model for one CT channel.
    """
    first = folds[0]
    if any(fold.configuration != first.configuration for fold in folds):
        raise LnqError("its folds were trained in different configurations")
    with nnunet_reads(METADATA_FILES, FILES_WAY_ON):
        manager, configuration, labels = read_plans(plans, dataset, first.configuration, trust)
        node = find_node(dataset["labels"], labels)
    weights = {fold.name: fold.weights for fold in folds}
    network, notes = build_network(manager, configuration, node.outputs, first.trainer, weights)
    unheeded = unknown_keys(plans, configuration.configuration)
    notes = (*notes, *doubts(dataset, node), *_about_unheeded(unheeded))
    return Model(manager, labels, configuration, dataset, node, folds, network, notes)


def read_plans(
    plans: dict[str, Any], dataset: dict[str, Any], configuration: str, trust: bool = False
) -> tuple[PlansManager, Any, LabelManager]:
    """Return what nnU-Net makes of a model's plans, of one of their configurations, and labels.

    Whatever nnU-Net raises meanwhile is left to `lnqtools.nnunet.loading.nnunet_reads`.

    Raises
    ------
    LnqError
        If these are not of a model for one CT channel.
    UntrustedModelError
        If the plans name what could run code, and they are not trusted.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    found = _configuration(manager, configuration)
    check_values(plans, found.configuration)
    labels = _label_manager(manager, dataset)
    _check_lengths(found)
    if not trust:
        check_network_classes(found)
    return manager, found, labels


def _configuration(plans: PlansManager, name: str) -> Any:
    """Return the configuration of the plans that the model was trained in."""
    if name not in plans.available_configurations:
        raise LnqError(f"plans.json lacks the configuration {name} that the folds name")
    configuration = plans.get_configuration(name)
    if configuration.previous_stage_name is not None:
        raise LnqError("the model is the second stage of a cascade, which this tool does not run")
    return FastResampling(configuration, to_train=False)


def _label_manager(plans: PlansManager, dataset: dict[str, Any]) -> LabelManager:
    """Return nnU-Net's view of the labels of a model of CTs."""
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if len(channels) != 1:
        names = ", ".join(map(str, channels.values())) or "none"
        raise LnqError(f"the model takes {len(channels)} input channels ({names}), not one CT")
    labels = dataset["labels"]
    if labels and all(str(key).isdecimal() for key in labels):
        raise LnqError(
            "dataset.json is one of nnU-Net v1, which has names by numbers: write its labels as "
            + json.dumps({n: int(v) for v, n in labels.items()}, ensure_ascii=False)
        )
    return plans.get_label_manager(dataset)


def _check_lengths(configuration: Any) -> None:
    """Raise LnqError for voxels and patches of sizes that cannot be."""
    low, high = SPACING_RANGE_MM
    if not all(low <= float(step) <= high for step in configuration.spacing):
        raise LnqError(f"plans.json gives the spacing {configuration.spacing} mm")
    if not all(int(length) >= 1 for length in configuration.patch_size):
        raise LnqError(f"plans.json gives patches of {configuration.patch_size} voxels")


def _about_unheeded(keys: Sequence[str]) -> tuple[str, ...]:
    """Return a note about keys of plans.json that nothing reads, if there are any."""
    return (f"nnU-Net ignores what plans.json says of {', '.join(keys)}",) if keys else ()
