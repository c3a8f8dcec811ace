"""What the records in folders claim of files: those of models, of reports, and lists of sums."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lnqtools.errors import LnqError
from lnqtools.files.json_files import read_json
from lnqtools.files.records import MODEL_RECORD, REPORT_RECORD, SUMS, leads_out
from lnqtools.files.sums import read_sums

LIST_SUFFIX = ".sha256"
MODEL, REPORT, LIST = "model", "report", "list"
"""Kinds of what is recorded; a file of a list may be of any kind."""


class Claim(NamedTuple):
    """What a record says of a file.

    Parameters
    ----------
    path : Path
        Where the file should be.
    record : Path
        The record.
    sha256 : str or None
        Of the file; None where the record says no more than that it is there.
    tool, version : str
        What made it, as far as the record says that.
    """

    path: Path
    record: Path
    sha256: str | None
    tool: str = ""
    version: str = ""


def kind_of_record(path: Path) -> str | None:
    """Return of what kind the record in a file is by its name; None of any other file."""
    if path.suffix == LIST_SUFFIX:
        return LIST
    return {MODEL_RECORD: MODEL, REPORT_RECORD: REPORT}.get(path.name)


def claims_of(path: Path) -> list[Claim]:
    """Return what a record claims of files.

    Raises
    ------
    OSError
        If it cannot be read.
    LnqError
        If it is no such record, or damaged.
    """
    kind = kind_of_record(path)
    if kind == LIST:
        return _claims_of_list(path)
    reader: Callable[[Path, Any], list[Claim]] = {
        MODEL: _claims_of_model,
        REPORT: _claims_of_report,
    }[kind or MODEL]
    try:
        return reader(path, read_json(path))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise LnqError("is damaged, or not a record of these tools") from None


def _claims_of_model(path: Path, record: Mapping[str, Any]) -> list[Claim]:
    versions = {run["fold"]: run["versions"].get("lnq-tools", "") for run in record["runs"]}
    latest = next(reversed(versions.values()), "")

    def version_of(name: str) -> str:
        return versions.get(name.partition("/")[0].removeprefix("fold_"), latest)

    return [
        Claim(path.parent / _inside(name), path, digest, "lnq-train", version_of(name))
        for name, digest in record.get(SUMS, {}).items()
    ]


def _claims_of_report(path: Path, record: Mapping[str, Any]) -> list[Claim]:
    sums = record.get(SUMS, {})
    made_by = record["tool"], record.get("version", "")
    names = [name for name in record["files"] if name != path.name]
    return [Claim(path.parent / _inside(name), path, sums.get(name), *made_by) for name in names]


def _inside(name: str) -> str:
    """Return a path that stays in its folder; ValueError for another."""
    if leads_out(name):
        raise ValueError(name)
    return name


def _claims_of_list(path: Path) -> list[Claim]:
    """Return the claims of a list, whose names are relative to where sha256sum was called.

    That is taken to be the nearest folder above the list, or else the one at work, from which any
    of its files is found.
    """
    sums = read_sums(path)
    base = place_of(sums, path) or Path()
    return [Claim(base / name, path, digest) for name, digest in sums.items()]


def place_of(names: Iterable[str], near: Path) -> Path | None:
    """Return the folder from which one of some relative paths leads somewhere.

    These are tried: the folders above a file, the nearest first, and then the one at work.
    """
    names = list(names)
    for folder in (*near.parents, *near.absolute().parents, Path()):
        if any(os.path.lexists(folder / name) for name in names):
            return folder
    return None
