"""How a model is trained: the recipes, which are TOML files of ``data/recipes`` or the user's."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from lnqtools.errors import LnqError
from lnqtools.nnunet.recipe_keys import (
    BELOW_ONE,
    COUNT,
    COUNTS,
    FOLD,
    IGNORE,
    LENGTHS,
    MIRRORED,
    PATCH,
    POSITIVE,
    RANGE,
    RATE,
    SHARE,
    SWITCH,
    UNKNOWN,
    UP_TO_ONE,
    WHOLE,
    Key,
    key,
    one_of,
)

NETWORKS = ("plain", "resenc-m")
STATISTICS = ("annotated", "nnunet")
OPTIMIZERS = ("sgd", "adamw", "adam")
SCHEDULES = ("poly", "cosine")
AUGMENTATIONS = ("nnunet", "intensity", "none", "da5")
DICE_CE, TVERSKY_CE = LOSSES = ("dice_ce", "tversky_ce")
RECIPES = ("paper", "challenge", "challenge-stock", "resenc", "laptop", "smoke")
"""Names of the recipes that come along, as files of ``data/recipes``."""


@dataclass(frozen=True)
class Recipe:
    """Everything about a training that is neither data nor machine.

    Each field but ``name`` and ``asked`` is a key of a recipe's file, and says itself which values
    it takes, what it means and which attribute of the trainer it sets; ``as_toml`` shows them all.
    The defaults are nnU-Net's, and what is None is left to its planner. Files and the command line
    give ``spacing_mm`` and ``patch`` as x, y, z; here they are (z, y, x).

    Parameters
    ----------
    name : str
    asked : frozenset of str
        Keys that the user set: they must be possible. What a recipe that comes along sets may give
        way.

    Raises
    ------
    LnqError
        If a value is out of its range.
    """

    name: str
    epochs: int = key(1000, COUNT, "epochs of training", trainer="num_epochs")
    iterations: int = key(250, COUNT, "batches in an epoch", trainer="num_iterations_per_epoch")
    validation_iterations: int = key(
        50, COUNT, "validation batches in an epoch", trainer="num_val_iterations_per_epoch"
    )
    learning_rate: float = key(
        1e-2, RATE, "at the start; falls to 0 at the last epoch", trainer="initial_lr"
    )
    # With 0.99 a training of a few hundred batches may never leave its start.
    momentum: float = key(0.99, BELOW_ONE, "of the optimizer sgd", trainer="momentum")
    weight_decay: float = key(3e-5, BELOW_ONE, "pull toward 0", trainer="weight_decay")
    # The other patches lie anywhere, or on any annotated voxel if some are unknown.
    node_share: float = key(
        0.33,
        SHARE,
        "least share of a batch centered on lymph nodes",
        trainer="oversample_foreground_percent",
    )
    full_share: float = key(
        0.0,
        SHARE,
        "least share of a batch from cases without unknown voxels",
        trainer="full_share",
    )
    fold: str = key("0", FOLD, "part to validate on, or all: train on every case", learned=False)
    save_every: int = key(
        10, COUNT, "epochs between two checkpoints", trainer="save_every", learned=False
    )
    optimizer: str = key("sgd", one_of(*OPTIMIZERS), "sgd, adamw or adam", trainer="optimizer_name")
    schedule: str = key(
        "poly",
        one_of(*SCHEDULES),
        "how the learning rate falls: poly or cosine",
        trainer="schedule",
    )
    warmup: int = key(0, WHOLE, "first batches, in which the learning rate rises", trainer="warmup")
    augmentation: str = key(
        "nnunet",
        one_of(*AUGMENTATIONS),
        "of patches: nnunet, intensity, none or da5",
        trainer="augmentation",
    )
    # Prediction mirrors along the same axes.
    mirror: bool | tuple[str, ...] = key(
        True,
        MIRRORED,
        "patches at random: true, false, or some of x, y, z",
        trainer="mirror",
    )
    deep_supervision: bool = key(
        True, SWITCH, "the coarse levels are trained, too", trainer="enable_deep_supervision"
    )
    # Otherwise true if the images are far larger than the patch that nnU-Net plans.
    batch_dice: bool | None = key(None, SWITCH, "one Dice or Tversky of all patches of a batch")
    loss: str = key(
        DICE_CE, one_of(*LOSSES), "dice_ce, or tversky_ce with alpha and beta", trainer="loss_name"
    )
    # Salehi et al. 2017; ½ and ½ are Dice.
    alpha: float = key(0.3, UP_TO_ONE, "weight of false positives", trainer="alpha")
    beta: float = key(0.7, UP_TO_ONE, "weight of false negatives", trainer="beta")
    unknown: str | float = key(
        IGNORE, UNKNOWN, "voxels: ignore, or their weight as background, to 1", trainer="unknown"
    )
    network: str = key("plain", one_of(*NETWORKS), "U-Net: plain or resenc-m")
    # Of these voxels' intensities, by which the images are clipped and standardized.
    statistics: str = key(
        "annotated",
        one_of(*STATISTICS),
        "of voxels labeled 1 (annotated), or of all above 0 (nnunet)",
    )
    # Otherwise to the 0.5th and 99.5th percentile of the voxels of ``statistics``.
    window_hu: tuple[float, float] | None = key(None, RANGE, "intensities are clipped to it")
    # Otherwise the median of the cases.
    spacing_mm: tuple[float, float, float] | None = key(
        None, LENGTHS, "voxel size of the network, x, y, z"
    )
    # Rounded up to what the network can halve.
    patch: tuple[int, int, int] | None = key(None, PATCH, "patch in voxels, x, y, z")
    batch: int | None = key(None, COUNT, "patches in a batch")
    # Which also bounds the number of levels.
    features: tuple[int, ...] | None = key(None, COUNTS, "feature maps at each level")
    # Residual blocks at each level of a resenc-m encoder.
    convolutions: int | None = key(None, COUNT, "convolutions at each level")
    gpu_memory_gb: float = key(8.0, POSITIVE, "that nnU-Net plans patch and batch for")
    asked: frozenset[str] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        """Raise LnqError if a value is out of its range."""
        for name, its in self.all_keys().items():
            value = getattr(self, name)
            if not its.takes(value):
                wrong = "nothing" if value is None else its.kind.write(value)
                raise LnqError(f"{name} must be {its.kind.what}, not {wrong}")
        self._check_together()

    def _check_together(self) -> None:
        """Raise LnqError if values exclude each other."""
        batches = self.epochs * self.iterations
        if self.warmup > batches:
            raise LnqError(
                f"warmup must be at most {batches}, the batches of the training, not {self.warmup}"
            )
        if self.loss != TVERSKY_CE:
            for name in ("alpha", "beta"):
                if getattr(self, name) != getattr(type(self), name):
                    raise LnqError(
                        f"{name} is of the loss {TVERSKY_CE}, and the loss is {self.loss}"
                    )

    @classmethod
    def all_keys(cls) -> dict[str, Key]:
        """Return what is known of each key."""
        return {f.name: f.metadata["key"] for f in fields(cls) if "key" in f.metadata}

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return the recipe with the given values; those that are None change nothing.

        Raises
        ------
        LnqError
            If a value is out of its range.
        """
        return self._with({name: v for name, v in changes.items() if v is not None})

    def with_settings(
        self, settings: Iterable[str], changes: Mapping[str, Any] | None = None
    ) -> Self:
        """Return the recipe with some ``KEY=VALUE`` set, the value as in a recipe's file.

        Quotes and brackets may be left out (``fold=all``, ``patch=96,96,48``); without a value
        the key is left to nnU-Net. What `with_changes` takes can be given, too, and counts more:
        values that need each other are set together.

        Raises
        ------
        LnqError
            If a key does not exist, or its value is out of its range.
        """
        values = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise LnqError(f"{setting!r} is not KEY=VALUE")
            values[name.strip()] = _parsed(text.strip())
        given = {name: v for name, v in (changes or {}).items() if v is not None}
        return self._with(_fields(type(self), values) | given)

    def _with(self, values: Mapping[str, Any]) -> Self:
        return replace(self, **values, asked=self.asked | values.keys())

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as its file says it; None is what is left to nnU-Net."""
        return {name: its.kind.write(getattr(self, name)) for name, its in self.all_keys().items()}

    def learned(self) -> dict[str, Any]:
        """Return what of `as_dict` decides what a model learns."""
        keys = self.all_keys()
        return {name: value for name, value in self.as_dict().items() if keys[name].learned}

    def for_trainer(self, *, learned: bool) -> dict[str, Any]:
        """Return the attributes of the trainer that the keys set, which are learned or not."""
        return {
            its.trainer: getattr(self, name)
            for name, its in self.all_keys().items()
            if its.trainer and its.learned == learned
        }

    def as_toml(self) -> str:
        """Return the recipe as a file, in which a comment explains each key."""
        keys = self.all_keys()
        lines = [f"# {self.name}"]
        for name, value in self.as_dict().items():
            # A key without a value is not TOML: it stays a comment.
            setting = f"# {name} =" if value is None else f"{name} = {json.dumps(value)}"
            left = " (left to nnU-Net)" if value is None else ""
            lines.append(f"{setting:<32}  # {keys[name].meaning}{left}")
        return "\n".join(lines) + "\n"


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or the one in that file.

    Raises
    ------
    LnqError
        If there is neither, the file is not TOML, or holds what a recipe does not.
    """
    if name in RECIPES:
        text = files("lnqtools").joinpath("data", "recipes", f"{name}.toml").read_text()
        return replace(parse_recipe(name, text), asked=frozenset())
    path = Path(name)
    if not path.is_file():
        raise LnqError(f"there is no recipe {name!r}: use {', '.join(RECIPES)}, or a file")
    try:
        return parse_recipe(path.stem, path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise LnqError(f"cannot read the recipe {name}: {error}") from None
    except LnqError as error:
        raise LnqError(f"the recipe {name}: {error}") from None


def parse_recipe(name: str, text: str, kind: type[Recipe] = Recipe) -> Recipe:
    """Return the recipe that a TOML text holds; keys that are not there have nnU-Net's values.

    Parameters
    ----------
    name : str
    text : str
    kind : type
        The class whose keys the text may hold.

    Raises
    ------
    LnqError
        If it is not TOML, has a key that no recipe has, or a value out of its range.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LnqError(f"is not TOML: {error}") from None
    except RecursionError:
        raise LnqError("is not TOML of a recipe: it nests too deep") from None
    return kind(name, **_fields(kind, content), asked=frozenset(content))


def _fields(recipe: type[Recipe], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's values as the fields of a recipe hold them."""
    keys = recipe.all_keys()
    for name in values:
        if name not in keys:
            near = get_close_matches(name, keys, 1)
            meant = f", did you mean {near[0]}?" if near else ""
            raise LnqError(f"there is no key {name!r}{meant} (--show-recipe lists them all)")
    return {name: keys[name].kind.read(value) for name, value in values.items()}


def _parsed(text: str) -> Any:
    """Return a value as TOML reads it, lists and text without their signs too; None if empty."""
    if not text:
        return None
    for candidate in (text, f"[{text}]" if "," in text else text):
        try:
            return tomllib.loads(f"value = {candidate}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text
