"""Weights that a training starts from: found, checked against the network, and put into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output
from lnqtools.files.json_files import read_json
from lnqtools.files.records import MODEL_RECORD
from lnqtools.nnunet.checkpoint import (
    UntrustedModelError,
    checkpoint_digest,
    load_checkpoint,
)
from lnqtools.nnunet.environment import chatter_to
from lnqtools.nnunet.loading import FILES_WAY_ON, nnunet_reads
from lnqtools.nnunet.model import METADATA_FILES, load_fold, read_plans
from lnqtools.nnunet.model_folder import (
    METADATA,
    find_checkpoints,
    metadata_digest,
    open_model,
    read_metadata,
)
from lnqtools.nnunet.prepare import CONFIGURATION, SPLITS, features_at, make_plans
from lnqtools.nnunet.recipe_keys import ALL
from lnqtools.nnunet.recipes import Recipe

if TYPE_CHECKING:
    import torch

    from lnqtools.nnunet.dataset import CaseFacts

OUTPUTS = 2
"""Of the networks that are trained here: background and lymph node."""
HEAD = "seg_layers."
"""What is in the names of the layers that make the outputs, one at each level of the decoder."""
WRAPPERS = ("module.", "_orig_mod.")
"""What torch's DDP and compiler put before each name."""
PLACES = ("", "encoder.")
"""Where in nnU-Net's network weights of other makers may lie: a bare encoder has no name for it."""
NESTED = ("network_weights", "state_dict", "model_state_dict", "model")
"""Under which names checkpoints hold their weights."""
TAKEN_OVER = (
    *("architecture", "patch_size", "spacing", "batch_size", "preprocessor_name"),
    *("normalization_schemes", "use_mask_for_norm"),
    *("resampling_fn_data", "resampling_fn_data_kwargs"),
    *("resampling_fn_seg", "resampling_fn_seg_kwargs"),
    *("resampling_fn_probabilities", "resampling_fn_probabilities_kwargs"),
)
"""What of a configuration in a model's plans goes with its weights."""
STATISTICS = (
    "foreground_intensity_properties_per_channel",
    "foreground_intensity_properties_by_modality",
)
NORMALIZATION = ("normalization_schemes", "use_mask_for_norm")
ARCHIVES = (".zip",)
KINDS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "resenc-m"}
"""Which network of a recipe a class of nnU-Net's is."""
TRANSPOSES = ("transpose_forward", "transpose_backward")


@dataclass(frozen=True)
class Origin:
    """The model that weights are of.

    Parameters
    ----------
    plans, configuration : mapping
        As nnU-Net reads them: the plans, and that of them which it was trained in.
    outputs : int, optional
        Of its network, where each is a label; None where its head is of no use.
    """

    plans: Mapping[str, Any]
    configuration: Mapping[str, Any]
    outputs: int | None


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Parameters
    ----------
    source : str
        Where they were found, for messages.
    place : Path
        The file or folder that was named, on this machine.
    digest : str
        Tells other weights or plans apart.
    weights : mapping
        Tensors by their names.
    model : Origin, optional
        That they are of; None for weights alone.
    trained_on : frozenset of str
        Marks of the images that the weights were trained on, as far as their model says so.
    """

    source: str
    place: Path
    digest: str
    weights: Mapping[str, Any]
    model: Origin | None = None
    trained_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Transfer:
    """Which of a start's weights fit a network.

    Parameters
    ----------
    weights : mapping
        By the network's names, each tensor once.
    tensors : int
        How many the network has.
    new_head : bool
        Whether those that make the outputs are left as they were.
    """

    weights: Mapping[str, torch.Tensor]
    tensors: int
    new_head: bool

    def recorded(self, start: Start) -> dict[str, Any]:
        """Return what a model's record says of the weights that a fold started from."""
        return {
            "weights": start.source,
            "digest": start.digest,
            "tensors": len(self.weights),
            "of": self.tensors,
            "new_head": self.new_head,
        }

    def __str__(self) -> str:
        """Return how many there are, in words."""
        head = "; the head is new" if self.new_head else ""
        return f"{len(self.weights)} of {self.tensors} tensors came along{head}"


@contextmanager
def opened_start(
    path: Path | None, fold: str, chatter: TextIO | None = None
) -> Iterator[Start | None]:
    """Give the weights that a fold starts from; None without a path.

    Parameters
    ----------
    path : Path, optional
        A model's folder or zip archive, as `lnqtools.nnunet.model_folder.open_model` takes it, or
        a single checkpoint.
    fold : str
        The fold to be trained. Of several folds of a model the one of the same name counts.
    chatter : text stream, optional
        Where what nnU-Net prints goes.

    Raises
    ------
    LnqError
        If there are no weights, they could run code when read, or the model is not one of a single
        CT channel that can be trained.
    """
    with ExitStack() as held:
        with chatter_to(chatter):
            start = None if path is None else _find_start(path, fold, held)
        yield start


def _find_start(path: Path, fold: str, held: ExitStack) -> Start:
    try:
        if path.is_file() and path.suffix not in ARCHIVES:
            return _from_file(path)
        return _from_model(path, held.enter_context(open_model(path)), fold)
    except UntrustedModelError as error:
        raise LnqError(f"--init {path}: {error}: only weights are taken") from None
    except LnqError as error:
        raise LnqError(f"--init {path}: {error}") from None


def _from_model(path: Path, model: Path, fold: str) -> Start:
    """Return the weights of a model's fold, and what they were trained with."""
    there = find_checkpoints(model)
    chosen = [checkpoint for checkpoint in there if checkpoint.parent.name == f"fold_{fold}"]
    if not chosen and len(there) > 1:
        names = ", ".join(checkpoint.parent.name for checkpoint in there)
        raise LnqError(f"has {names}, not fold_{fold}: give a checkpoint of one of them")
    checkpoint = (chosen or there)[0]
    folder = checkpoint.parent.parent
    plans, dataset = (read_metadata(folder, name) for name in METADATA)
    loaded = load_fold(checkpoint, trust=False)
    return _planned(
        f"{path}, {loaded.name}/{loaded.checkpoint}",
        path,
        f"{metadata_digest(model)}-{checkpoint_digest(there)}",
        loaded.weights,
        (plans, dataset, loaded.configuration),
        _images_of(folder, loaded.name),
    )


def _from_file(path: Path) -> Start:
    """Return the weights of a file; those of an nnU-Net checkpoint hold their plans, too."""
    content = load_checkpoint(path)
    digest = checkpoint_digest([path])
    files = _files_of(path, content)
    if files is None:
        return Start(str(path), path, digest, _bare_weights(content))
    weights = load_fold(path, trust=False).weights
    fold = path.absolute().parent
    return _planned(str(path), path, digest, weights, files, _images_of(fold.parent, fold.name))


def _files_of(path: Path, content: Any) -> tuple[dict[str, Any], dict[str, Any], str] | None:
    """Return plans, labels and configuration of a checkpoint; None where they are nowhere."""
    trained = content.get("init_args") if isinstance(content, dict) else None
    if not isinstance(trained, dict) or "configuration" not in trained:
        return None
    if trained.get("plans") and trained.get("dataset_json"):
        return trained["plans"], trained["dataset_json"], trained["configuration"]
    folder = path.absolute().parent.parent
    if not all((folder / name).is_file() for name in METADATA):
        return None
    plans, dataset = (read_metadata(folder, name) for name in METADATA)
    return plans, dataset, trained["configuration"]


def _bare_weights(content: Any) -> Mapping[str, Any]:
    """Return the tensors of a file that nnU-Net did not write, by their names in the network."""
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {
        _unwrapped(str(name)): tensor
        for name, tensor in (content.items() if isinstance(content, Mapping) else ())
        if hasattr(tensor, "shape") and tensor.dtype.is_floating_point
    }
    if not tensors:
        raise LnqError("holds no weights by their names")
    return tensors


def _unwrapped(name: str) -> str:
    """Return a tensor's name without those of wrappers around the network."""
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _planned(
    source: str,
    place: Path,
    digest: str,
    weights: Mapping[str, Any],
    files: tuple[dict[str, Any], dict[str, Any], str],
    trained_on: frozenset[str],
) -> Start:
    """Return the weights of a model whose plans are known, and can be trained on."""
    with nnunet_reads(METADATA_FILES, FILES_WAY_ON):
        manager, configuration, labels = read_plans(*files)
        network = configuration.network_arch_init_kwargs
        if len(configuration.patch_size) != 3:
            raise LnqError("was trained on slices (2d); lnq-train trains 3-D networks")
        if "strides" not in network or "features_per_stage" not in network:
            raise LnqError(f"its network {configuration.network_arch_class_name} is not a U-Net")
        outputs = None if labels.has_regions else labels.num_segmentation_heads
    model = Origin(manager.plans, configuration.configuration, outputs)
    return Start(source, place, digest, weights, model, trained_on)


def _images_of(folder: Path, fold: str) -> frozenset[str]:
    """Return marks of the images that a fold of ours was trained on; empty where unknown."""
    try:
        cases = read_json(folder / MODEL_RECORD)["made_with"]["cases"]
        name = fold.removeprefix("fold_")
        names = cases if name == ALL else read_json(folder / SPLITS)[int(name)]["train"]
        return frozenset(cases[case]["image"] for case in names)
    except (OSError, ValueError, LookupError, TypeError):
        return frozenset()


def check_recipe(start: Start, recipe: Recipe) -> None:
    """Raise LnqError if a recipe was asked for another network than that of the weights."""
    if start.model is None:
        return
    architecture = start.model.configuration["architecture"]
    its = architecture["arch_kwargs"]
    kind = KINDS.get(architecture["network_class_name"].rpartition(".")[2], "of another kind")
    depth = its.get("n_conv_per_stage") or its.get("n_blocks_per_stage")
    planned: dict[str, Any] = {
        "network": kind,
        "features": list(its["features_per_stage"]),
        "convolutions": list(depth or ()),
    }
    wanted: dict[str, Any] = {"network": recipe.network}
    if recipe.features:
        wanted["features"] = features_at(recipe.features, its["n_stages"])
    if recipe.convolutions:
        wanted["convolutions"] = [recipe.convolutions] * its["n_stages"]
    for key in sorted(recipe.asked & wanted.keys()):
        if wanted[key] != planned[key]:
            raise LnqError(
                f"--init {start.place}: its network is {_listed(planned[key])}, but {key} is "
                f"{_listed(wanted[key])}: leave the key out, or start without --init"
            )


def _listed(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value))


def make_plans_from(
    start: Start,
    cases: Sequence[CaseFacts],
    recipe: Recipe,
    seed: int,
    weights: Mapping[str, float],
) -> dict[str, Any]:
    """Return nnU-Net's plans of cases for the network of some weights.

    What goes with the weights, the network and how it sees images, is as in the plans that they
    were trained with. What was asked for of patch, batch, spacing and intensities is the recipe's.
    Parameters as in `lnqtools.nnunet.prepare.make_plans`.
    """
    if start.model is None:
        return make_plans(cases, recipe, seed, weights)
    plans = make_plans(cases, _without_network(start.model, recipe), seed, weights)
    _hand_over(start.model, plans, recipe)
    return plans


def _without_network(model: Origin, recipe: Recipe) -> Recipe:
    """Return the recipe by which nnU-Net plans what of the plans is not the model's."""
    spacing = recipe.spacing_mm
    if "spacing_mm" not in recipe.asked:
        step = model.configuration["spacing"]
        z, y, x = (float(step[axis]) for axis in model.plans["transpose_backward"])
        spacing = (z, y, x)
    return replace(recipe, spacing_mm=spacing, patch=None, features=None, convolutions=None)


def _hand_over(model: Origin, plans: dict[str, Any], recipe: Recipe) -> None:
    """Put what goes with the weights into plans."""
    ours = plans["configurations"][CONFIGURATION]
    taken = {key: model.configuration[key] for key in TAKEN_OVER if key in model.configuration}
    before, axes = plans["transpose_backward"], model.plans["transpose_forward"]
    size = ours["median_image_size_in_voxels"]
    taken["median_image_size_in_voxels"] = [[size[k] for k in before][axis] for axis in axes]
    if "spacing_mm" in recipe.asked and recipe.spacing_mm:
        taken["spacing"] = [float(recipe.spacing_mm[axis]) for axis in axes]
    if "patch" in recipe.asked and recipe.patch:
        halved = np.prod(taken["architecture"]["arch_kwargs"]["strides"], axis=0)
        patch = [recipe.patch[axis] for axis in axes]
        taken["patch_size"] = [int(-(-n // h) * h) for n, h in zip(patch, halved, strict=True)]
    if "batch" in recipe.asked and recipe.batch:
        taken["batch_size"] = recipe.batch
    if recipe.asked & {"window_hu", "statistics"}:
        taken = {key: value for key, value in taken.items() if key not in NORMALIZATION}
    else:
        _hand_over_statistics(model.plans, plans)
    ours.update(taken)
    plans.update({key: list(model.plans[key]) for key in TRANSPOSES})


def _hand_over_statistics(theirs: Mapping[str, Any], plans: dict[str, Any]) -> None:
    """Put the numbers by which a model's images are normalized into plans, if it has any."""
    given = next((theirs[key] for key in STATISTICS if theirs.get(key)), None)
    if given and "0" in given:
        plans[STATISTICS[0]] = {"0": given["0"]}


def fit_to(start: Start, plans: Mapping[str, Any], outputs: int) -> Transfer:
    """Find which of a start's weights fit the network of plans.

    Parameters
    ----------
    start : Start
    plans : mapping
    outputs : int
        Of the network.

    Raises
    ------
    LnqError
        If none of them fits the network's encoder; if their own plans say that they fit, and one
        does not.
    """
    wanted = _tensors(plans, outputs)
    same_labels = start.model is None or start.model.outputs == outputs
    found: dict[str, torch.Tensor] = {}
    for place in PLACES:
        there = {f"{place}{key}": tensor for key, tensor in start.weights.items()}
        fitting = dict(_fitting(wanted, there, same_labels))
        found = max(found, fitting, key=len)
    missing = [names[0] for names in wanted if names[0] not in found]
    transfer = Transfer(found, len(wanted), any(HEAD in name for name in missing))
    odd = [name for name in missing if HEAD not in name]
    if start.model and odd:
        raise LnqError(
            f"--init {start.place}: the weights do not fit the network of its plans: {len(odd)} "
            f"parts differ, as {odd[0]}; {FILES_WAY_ON}"
        )
    if not any("encoder." in name and tensor.ndim > 1 for name, tensor in found.items()):
        names, size = next(iter(wanted.items()))
        raise LnqError(
            f"--init {start.place}: no convolution of the network's encoder is among its "
            f"{len(start.weights)} tensors, by name and size, as {names[0]} of "
            f"{'×'.join(map(str, size))}; --set features, convolutions and network make another"
        )
    return transfer


def _tensors(plans: Mapping[str, Any], outputs: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the sizes of a network's tensors, by the names that each has: some are shared."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    network = plans["configurations"][CONFIGURATION]["architecture"]
    with torch.device("meta"):
        built = get_network_from_plans(
            network["network_class_name"],
            network["arch_kwargs"],
            network["_kw_requires_import"],
            1,
            outputs,
            deep_supervision=True,
        )
    names: dict[int, list[str]] = {}
    state = built.state_dict(keep_vars=True)
    for key, tensor in state.items():
        names.setdefault(id(tensor), []).append(key)
    return {tuple(of_one): tuple(state[of_one[0]].shape) for of_one in names.values()}


def _fitting(
    wanted: Mapping[tuple[str, ...], tuple[int, ...]],
    there: Mapping[str, torch.Tensor],
    same_labels: bool,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the tensors that have the name and size of a network's, under the first name of each."""
    for names, size in wanted.items():
        if HEAD in names[0] and not same_labels:
            continue
        for name in names:
            if name in there and tuple(there[name].shape) == size:
                yield names[0], there[name]
                break


def initial_file(dataset: Path, fold: str | int) -> Path:
    """Return where the weights that a fold starts from lie in the preprocessed data set."""
    return dataset / f"initial_fold_{fold}.pth"


def write_initial(transfer: Transfer, path: Path) -> None:
    """Write weights to start from where the trainer finds them."""
    import torch

    with atomic_output(path) as file:
        torch.save(dict(transfer.weights), file)


def load_initial(network: torch.nn.Module, path: Path) -> None:
    """Put the weights to start from, if there are any, into a network; the others stay."""
    if path.is_file():
        network.load_state_dict(load_checkpoint(path), strict=False)
