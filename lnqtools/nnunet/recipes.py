"""How a model is trained: the recipes, which are TOML files of ``data/recipes`` or the user's."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from lnqtools.errors import LnqError

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]

ALL = "all"
NETWORKS = ("plain", "resenc-m")
STATISTICS = ("annotated", "nnunet")
RECIPES = ("paper", "challenge", "challenge-stock", "resenc", "laptop", "smoke")
"""Names of the recipes that come along, as files of ``data/recipes``."""


@dataclass(frozen=True)
class Recipe:
    """Everything about a training that is not the data; what is None is left to nnU-Net.

    Parameters
    ----------
    name : str
    epochs : int
    iterations : int
        Training batches in an epoch.
    validation_iterations : int
        Validation batches in an epoch, for the pseudo-Dice.
    learning_rate : float
        At the start; it falls polynomially to 0 at the last epoch.
    momentum : float
        Of the gradient descent. With 0.99 a training of a few hundred batches may never leave
        its start.
    weight_decay : float
    node_share : float
        Least share of a batch's patches that are centred on a lymph node voxel of their case, if
        it has any; the others lie anywhere, or on any annotated voxel if some are unknown.
        nnU-Net's ``oversample_foreground_percent``.
    full_share : float
        Least share of a batch's patches that come from a case without unknown voxels; rounded
        up to whole patches.
    fold : str
        ``0``, ``1`` …, or ``all``: all cases, which then are the validation cases too.
    save_every : int
        Epochs between two checkpoints to resume from.
    network : {"plain", "resenc-m"}
        nnU-Net's plain U-Net, or its residual encoder network of medium size.
    statistics : {"annotated", "nnunet"}
        Voxels whose intensities clip and standardise the images: those labelled 1, or, as
        nnU-Net itself does it, all above 0, unknown ones too.
    window_hu : pair of float, optional
        Intensities are clipped to it. Otherwise to the 0.5th and 99.5th percentile of the
        voxels of ``statistics``.
    spacing_mm : (z, y, x), optional
        Voxel size that the network works at. Otherwise the median of the cases.
    patch : (z, y, x), optional
        Patch size in voxels, rounded up to what the network can halve.
    batch : int, optional
        Patches in a batch.
    features : tuple of int, optional
        Feature maps at each level of the U-Net, which also bounds the number of levels.
    convolutions : int, optional
        Convolutions at each level; residual blocks at each level of a ``resenc-m`` encoder.
    gpu_memory_gb : float
        What nnU-Net's planner may fill with a patch and a batch of its own choice.
    asked : frozenset of str
        Keys that the user set: they must be possible. What a recipe that comes along sets may give
        way.

    Notes
    -----
    Files and the command line give ``spacing_mm`` and ``patch`` as x, y, z.
    """

    name: str
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    learning_rate: float = 1e-2
    momentum: float = 0.99
    weight_decay: float = 3e-5
    node_share: float = 0.33
    full_share: float = 0.0
    fold: str = "0"
    save_every: int = 10
    network: str = "plain"
    statistics: str = "annotated"
    window_hu: tuple[float, float] | None = None
    spacing_mm: Spacing | None = None
    patch: Shape | None = None
    batch: int | None = None
    features: tuple[int, ...] | None = None
    convolutions: int | None = None
    gpu_memory_gb: float = 8.0
    asked: frozenset[str] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        """Raise LnqError if a value is out of its range."""
        for key, rule in KEYS.items():
            value = getattr(self, key)
            if value is None and key in OPTIONAL:
                continue
            if not rule.fits(value):
                wrong = "nothing" if value is None else _file_value(key, value)
                raise LnqError(f"{key} must be {rule.what}, not {wrong}")

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with the given values; those that are None change nothing.

        Raises
        ------
        LnqError
            If a value is out of its range.
        """
        return self._with({key: v for key, v in changes.items() if v is not None})

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """Return the recipe with some ``KEY=VALUE`` set, the value as in a recipe's file.

        Quotes and brackets may be left out (``fold=all``, ``patch=96,96,48``); without a value
        the key is left to nnU-Net.

        Raises
        ------
        LnqError
            If a key does not exist, or its value is out of its range.
        """
        values = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise LnqError(f"{setting!r} is not KEY=VALUE")
            values[key.strip()] = _parsed(text.strip())
        return self._with(_fields(values))

    def _with(self, values: Mapping[str, Any]) -> Recipe:
        return replace(self, **values, asked=self.asked | values.keys())

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as its file says it; None is what is left to nnU-Net."""
        return {key: _file_value(key, getattr(self, key)) for key in KEYS}

    def as_toml(self) -> str:
        """Return the recipe as a file, in which a comment explains each key."""
        lines = [f"# {self.name}"]
        for key, value in self.as_dict().items():
            # A key without a value is not TOML: it stays a comment.
            setting = f"# {key} =" if value is None else f"{key} = {json.dumps(value)}"
            left = " (left to nnU-Net)" if value is None else ""
            lines.append(f"{setting:<32}  # {KEYS[key].meaning}{left}")
        return "\n".join(lines) + "\n"


class Rule(NamedTuple):
    """Which values a key takes, the same in words, and what the key is for."""

    fits: Callable[[Any], bool]
    what: str
    meaning: str


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def _at_least(least: int) -> Callable[[Any], bool]:
    return lambda value: _is_whole(value) and value >= least


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low < value < high


def _share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _three(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: _sequence(value, fits) and len(value) == 3


def _sequence(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(fits, value))


def _window(value: Any) -> bool:
    return _sequence(value, _is_number) and len(value) == 2 and value[0] < value[1]


def _one_of(names: Iterable[str]) -> Rule:
    names = tuple(names)
    return Rule(lambda value: value in names, f"one of {', '.join(names)}", "")


_WHOLE = Rule(_at_least(1), "a whole number of at least 1", "")
_SHARE = Rule(_share, "a number from 0 to 1", "")

KEYS: dict[str, Rule] = {
    "epochs": _WHOLE._replace(meaning="epochs of training"),
    "iterations": _WHOLE._replace(meaning="batches in an epoch"),
    "validation_iterations": _WHOLE._replace(meaning="validation batches in an epoch"),
    "learning_rate": Rule(
        _between(0, 1), "a number between 0 and 1", "at the start; falls to 0 at the last epoch"
    ),
    "momentum": Rule(
        lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1", "of gradient descent"
    ),
    "weight_decay": Rule(
        lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1", "pull towards 0"
    ),
    "node_share": _SHARE._replace(meaning="least share of a batch centred on lymph nodes"),
    "full_share": _SHARE._replace(
        meaning="least share of a batch from cases without unknown voxels"
    ),
    "fold": Rule(
        lambda v: v == ALL or _is_digits(v),
        "a number from 0, or all",
        "part to validate on, or all: train on every case",
    ),
    "save_every": _WHOLE._replace(meaning="epochs between two checkpoints"),
    "network": _one_of(NETWORKS)._replace(meaning="U-Net: plain or resenc-m"),
    "statistics": _one_of(STATISTICS)._replace(
        meaning="of voxels labelled 1 (annotated), or of all above 0 (nnunet)"
    ),
    "window_hu": Rule(_window, "two numbers, the lower one first", "intensities are clipped to it"),
    "spacing_mm": Rule(
        _three(_between(0, math.inf)),
        "three numbers x, y, z above 0",
        "voxel size of the network, x, y, z",
    ),
    "patch": Rule(
        _three(_at_least(8)),
        "three whole numbers x, y, z of at least 8",
        "patch in voxels, x, y, z",
    ),
    "batch": _WHOLE._replace(meaning="patches in a batch"),
    "features": Rule(
        lambda v: _sequence(v, _at_least(1)) and len(v) > 1,
        "two or more whole numbers",
        "feature maps at each level",
    ),
    "convolutions": _WHOLE._replace(meaning="convolutions at each level"),
    "gpu_memory_gb": Rule(
        _between(0, math.inf), "a number above 0", "that nnU-Net plans patch and batch for"
    ),
}
"""What a recipe's file may hold."""

OPTIONAL = frozenset(["window_hu", "spacing_mm", "patch", "batch", "features", "convolutions"])
"""Keys that may be left to nnU-Net."""

_XYZ = frozenset(["spacing_mm", "patch"])
"""Keys that are (z, y, x) inside and x, y, z for the user."""

_REALS = frozenset(field.name for field in fields(Recipe) if field.type == "float")


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


def parse_recipe(name: str, text: str) -> Recipe:
    """Return the recipe that a TOML text holds; keys that are not there have nnU-Net's values.

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
    return Recipe(name, **_fields(content), asked=frozenset(content))


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's values as the fields of a recipe hold them."""
    for key in values:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            meant = f", did you mean {near[0]}?" if near else ""
            raise LnqError(f"there is no key {key!r}{meant} (--show-recipe lists them all)")
    return {key: _field(key, value) for key, value in values.items()}


def _field(key: str, value: Any) -> Any:
    """Turn lists into tuples, round to (z, y, x), and whole numbers into reals where meant."""
    if key in _XYZ and _is_number(value):
        return (value,) * 3
    if isinstance(value, list):
        return tuple(reversed(value)) if key in _XYZ else tuple(value)
    if key == "fold" and (_is_whole(value) or _is_digits(value)):
        return str(int(value))  # 01 is fold 1: nnU-Net counts so, and its folders are fold_1
    return float(value) if key in _REALS and _is_whole(value) else value


def _file_value(key: str, value: Any) -> Any:
    """Return a field as a file has it: lists, x before y before z."""
    if isinstance(value, tuple):
        return list(reversed(value)) if key in _XYZ else list(value)
    return value


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
