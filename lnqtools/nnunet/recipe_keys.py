"""The keys of recipes: which values each takes, in code and in words, and where they go."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ALL = "all"
"""The fold that trains on every case."""
AXES = ("x", "y", "z")
"""Of images, as files of recipes call them."""
IGNORE = "ignore"
"""What stands for a weight of 0 of unknown voxels."""


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def _at_least(least: int) -> Callable[[Any], bool]:
    return lambda value: _is_whole(value) and value >= least


def _all_fit(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(fits, value))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_real(value: Any) -> Any:
    return float(value) if _is_whole(value) else _as_tuple(value)


def _as_zyx(value: Any) -> Any:
    """Turn x, y, z round; a single number stands for all three."""
    if _is_number(value):
        return (value,) * 3
    return tuple(reversed(value)) if isinstance(value, list) else value


def _as_xyz(value: Any) -> Any:
    return list(reversed(value)) if isinstance(value, tuple) else value


def _as_fold(value: Any) -> Any:
    """Return 01 as fold 1: nnU-Net counts so, and its folders are fold_1."""
    return str(int(value)) if _is_whole(value) or _is_digits(value) else _as_tuple(value)


def _as_axes(value: Any) -> Any:
    """Return axes in one way: each once, in the order of x, y, z; all are true, no axis false."""
    if isinstance(value, bool):
        return value
    axes = value.replace(" ", "").split(",") if isinstance(value, str) else value
    if not isinstance(axes, list) or not set(map(str, axes)) <= set(AXES):
        return _as_tuple(value)
    some = tuple(axis for axis in AXES if axis in axes)
    return some if 0 < len(some) < len(AXES) else bool(some)


def _as_unknown(value: Any) -> Any:
    """Return a weight of 0 as what it is called: ignored."""
    return IGNORE if _is_number(value) and value == 0 else _as_real(value)


@dataclass(frozen=True)
class Kind:
    """The values that keys of one kind take.

    Parameters
    ----------
    fits : callable
        Whether a value of a recipe is one of them.
    what : str
        The same in words: "epochs must be …".
    read, write : callable
        Turn a value of a TOML file into the recipe's and back: there lists, here tuples.
    """

    fits: Callable[[Any], bool]
    what: str
    read: Callable[[Any], Any] = _as_tuple
    write: Callable[[Any], Any] = _as_list


def number(fits: Callable[[float], bool], what: str) -> Kind:
    """Return the kind of the finite numbers that fit; a file may give them as whole ones."""
    return Kind(lambda value: _is_number(value) and fits(value), what, _as_real)


def one_of(*names: str) -> Kind:
    """Return the kind of a choice between words."""
    return Kind(lambda value: value in names, f"one of {', '.join(names)}")


def three(fits: Callable[[Any], bool], what: str) -> Kind:
    """Return the kind of three values: x, y, z in files and (z, y, x) in recipes."""
    return Kind(lambda value: _all_fit(value, fits) and len(value) == 3, what, _as_zyx, _as_xyz)


SWITCH = Kind(lambda value: isinstance(value, bool), "true or false")
MIRRORED = Kind(
    lambda value: isinstance(value, bool) or _all_fit(value, AXES.__contains__),
    "true, false, or some of x, y, z",
    _as_axes,
)
WHOLE = Kind(_at_least(0), "a whole number of at least 0")
COUNT = Kind(_at_least(1), "a whole number of at least 1")
COUNTS = Kind(
    lambda value: _all_fit(value, _at_least(1)) and len(value) > 1, "two or more whole numbers"
)
SHARE = number(lambda value: 0 <= value <= 1, "a number from 0 to 1")
UP_TO_ONE = number(lambda value: 0 < value <= 1, "a number above 0, at most 1")
BELOW_ONE = number(lambda value: 0 <= value < 1, "a number from 0 to below 1")
RATE = number(lambda value: 0 < value < 1, "a number between 0 and 1")
POSITIVE = number(lambda value: value > 0, "a number above 0")
RANGE = Kind(
    lambda value: _all_fit(value, _is_number) and len(value) == 2 and value[0] < value[1],
    "two numbers, the lower one first",
)
LENGTHS = three(POSITIVE.fits, "three numbers x, y, z above 0")
PATCH = three(_at_least(8), "three whole numbers x, y, z of at least 8")
UNKNOWN = Kind(
    lambda value: value == IGNORE or SHARE.fits(value),
    f"{IGNORE}, or a number from 0 to 1",
    _as_unknown,
)
FOLD = Kind(lambda value: value == ALL or _is_digits(value), "a number from 0, or all", _as_fold)


@dataclass(frozen=True)
class Key:
    """What is known of a key, besides its name and its default.

    Parameters
    ----------
    kind : Kind
    meaning : str
        A few words, the comment of ``lnq-train --show-recipe``.
    optional : bool
        May be None, which leaves it to nnU-Net.
    trainer : str, optional
        The trainer's attribute that is set to it.
    learned : bool
        Whether it decides what a model learns: then all folds of a model, and a training that is
        resumed, must agree in it.
    """

    kind: Kind
    meaning: str
    optional: bool = False
    trainer: str | None = None
    learned: bool = True

    def takes(self, value: Any) -> bool:
        """Tell whether a recipe may hold a value under this key."""
        return (value is None and self.optional) or self.kind.fits(value)


def key(
    default: Any, kind: Kind, meaning: str, *, trainer: str | None = None, learned: bool = True
) -> Any:
    """Return a field of a recipe that is a key; with the default None it is optional."""
    about = Key(kind, meaning, default is None, trainer, learned)
    return field(default=default, metadata={"key": about})
