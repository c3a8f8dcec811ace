"""``lnq-train.json``: what a model was made with, and how each training was started."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lnqtools
from lnqtools.errors import LnqError
from lnqtools.files.json_files import read_json, write_json
from lnqtools.files.records import MODEL_RECORD, SUMS
from lnqtools.files.sums import sha256_of
from lnqtools.nnunet.dataset import TrainingCase
from lnqtools.nnunet.folds import Folds
from lnqtools.nnunet.recipes import Recipe
from lnqtools.nnunet.view import STORED, TRAINED


def made_with(
    cases: Sequence[TrainingCase],
    recipe: Recipe,
    seed: int,
    weights: Mapping[str, float],
    folds: Folds,
    init: str | None = None,
) -> dict[str, Any]:
    """Return what decides what a model learns, apart from the fold.

    ``init`` tells the weights that it starts from from others.
    """
    return {
        "recipe": recipe.learned(),
        "seed": seed,
        "init": init,
        "orientation": TRAINED,
        "cohorts": {name: weights.get(name, 1.0) for name in sorted({c.cohort for c in cases})},
        "folds": {
            "count": folds.count,
            "group_regex": folds.group_regex,
            "splits": folds.kept and [sorted(part["val"]) for part in folds.kept],
        },
        "cases": {
            case.name: {
                "cohort": case.cohort,
                "image": content_mark(case.image),
                "label": content_mark(case.label),
                **_assumed(case),
            }
            for case in sorted(cases, key=lambda c: c.name)
        },
    }


def _assumed(case: TrainingCase) -> dict[str, str]:
    """Return how the axes of a case's files run where their headers do not say it, if told."""
    letters = case.assume_orientation
    return {} if letters is None else {"assume_orientation": letters}


def content_mark(path: Path) -> str | None:
    """Return what tells a file's content; None where unreadable, which is said properly later.

    That is gzip's own CRC-32 and length of the content (8 bytes, as they are at the file's end),
    or the SHA-256 of another file. A file of bgzip ends with the length 0, whatever is in it.
    """
    if not path.is_file():  # reading a FIFO waits, a device may have no end
        return None
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(-8, os.SEEK_END)
                end = file.read(8)
                if end[4:] != bytes(4):
                    return "gzip:" + end.hex()
        return "sha256:" + sha256_of(path)
    except OSError:
        return None


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how two `made_with` differ; empty if they do not."""
    was, wanted = _settings(before), _settings(now)
    parts = [
        f"{key} {_shown(was.get(key))} there, {_shown(wanted.get(key))} now"
        for key in {**wanted, **was}
        if was.get(key) != wanted.get(key)
    ]
    old, new = before["cases"], now["cases"]
    counts = {
        "cases not there": len(new.keys() - old.keys()),
        "cases missing now": len(old.keys() - new.keys()),
        "cases changed": sum(old[name] != new[name] for name in old.keys() & new.keys()),
    }
    return ", ".join(parts + [f"{n} {what}" for what, n in counts.items() if n])


def _settings(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is not a case under one name each.

    A key that a recipe did not have yet when the record was made has its default.
    """
    return {
        **Recipe("").learned(),
        **made["recipe"],
        "seed": made["seed"],
        "init": made.get("init"),
        "orientation": made.get("orientation", STORED),
        **{f"weight of {name}": weight for name, weight in made["cohorts"].items()},
        "folds": made["folds"]["count"],
        "group_regex": made["folds"]["group_regex"],
        "splits": made["folds"]["splits"],
    }


def _shown(value: Any) -> str:
    """Return a value in a few words: a split would fill the screen."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "others"
    return "none" if value is None else str(value)


def read_record(model: Path) -> dict[str, Any] | None:
    """Return what ``lnq-train.json`` says; None for a folder yet to be filled.

    Raises
    ------
    LnqError
        If it is not a folder, or holds something else.
    """
    if (model / MODEL_RECORD).is_file():
        try:
            record = read_json(model / MODEL_RECORD)
        except ValueError as error:
            raise LnqError(f"{model / MODEL_RECORD} is damaged: {error}") from None
        if not isinstance(record, dict):
            raise LnqError(f"{model / MODEL_RECORD} is damaged: it is not a record of lnq-train")
        return record
    if model.exists() and not model.is_dir():
        raise LnqError(f"{model} is not a folder")
    # What is hidden may be another fold's lock, or the part of a record that a kill left.
    if model.is_dir() and not all(path.name.startswith(".") for path in model.iterdir()):
        raise LnqError(f"{model} holds files but no {MODEL_RECORD}: give a new folder")
    return None


def is_same(model: Path, made: Mapping[str, Any]) -> bool:
    """Tell whether the model was begun with the same cases and options."""
    record = read_record(model)
    return record is not None and not difference(record["made_with"], made)


def begin_record(model: Path, made: Mapping[str, Any], anew: str | None = None) -> None:
    """Write what the model is made with; what is said of a fold that is trained ``anew`` goes."""
    record = read_record(model)
    goes_on = record is not None and not difference(record["made_with"], made)
    before = record if record and goes_on else {"runs": []}
    runs = [run for run in before["runs"] if run["fold"] != anew]
    folder = f"fold_{anew}/"
    sums = {name: of for name, of in before.get(SUMS, {}).items() if not name.startswith(folder)}
    write_json(model / MODEL_RECORD, {"made_with": made, "runs": runs, SUMS: sums})


def add_run(model: Path, run: Mapping[str, Any]) -> None:
    """Add how a training was started, with the versions that it runs with."""
    record = read_json(model / MODEL_RECORD)
    record["runs"].append({**run, "versions": versions(), "git": git_description()})
    write_json(model / MODEL_RECORD, record)


def add_sums(model: Path, fold: Path) -> None:
    """Add the SHA-256 of each file of a finished fold, and of those beside the folds."""
    record = read_json(model / MODEL_RECORD)
    own = [path for path in fold.rglob("*") if path.is_file()]
    beside = [path for path in model.iterdir() if path.is_file() and path.name != MODEL_RECORD]
    names = {str(path.relative_to(model)): path for path in (*own, *beside)}
    of_others = {
        name: digest
        for name, digest in record.get(SUMS, {}).items()
        if "/" in name and not name.startswith(f"{fold.name}/")
    }
    found = {name: sha256_of(path) for name, path in names.items() if not _is_hidden(name)}
    write_json(model / MODEL_RECORD, {**record, SUMS: dict(sorted({**of_others, **found}.items()))})


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def last_run(model: Path, fold: str) -> dict[str, Any] | None:
    """Return how a fold was last started, if it was."""
    runs = (read_record(model) or {"runs": []})["runs"]
    return next((run for run in reversed(runs) if run["fold"] == fold), None)


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers."""
    found = {"lnq-tools": lnqtools.__version__, "python": platform.python_version()}
    for package in ("nnunetv2", "torch", "numpy", "batchgeneratorsv2"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_description() -> str | None:
    """Return ``git describe`` of the checkout that lnqtools runs from; None if it is not one."""
    folder = Path(lnqtools.__file__).parent
    # A package installed somewhere below another project's checkout is not part of it.
    if _git(folder, "ls-files", "--error-unmatch", "errors.py") is None:
        return None
    return _git(folder, "describe", "--always", "--dirty", "--tags")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return git's output; None without git, or where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
