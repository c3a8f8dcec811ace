"""Catalogue entries of trained models, and whether one is whole by what it says of itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lnqtools.errors import LnqError, os_errors
from lnqtools.files.json_files import read_json
from lnqtools.files.records import MODEL_RECORD, SUMS, leads_out
from lnqtools.files.sums import sha256_of
from lnqtools.models.catalogue import NAME
from lnqtools.nnunet.checkpoint import FINAL, check_sums
from lnqtools.nnunet.model_folder import (
    METADATA,
    find_checkpoints,
    metadata_digest,
    open_model,
    read_metadata,
)
from lnqtools.nnunet.prepare import SPLITS
from lnqtools.nnunet.record import read_record


def describe(model: Path, name: str | None, version: str, license_: str | None) -> dict[str, Any]:
    """Return the entry of a model for a catalogue that lies beside it.

    Parameters
    ----------
    model : Path
        A results folder, or a zip archive of one.
    name : str, optional
        Without it, that of the folder or archive.
    version : str
    license_ : str, optional

    Returns
    -------
    dict
        Its files are those that a prediction needs.

    Raises
    ------
    LnqError
        If it is not a model, or the name cannot be one.
    """
    place = model.resolve()
    name = name or (place.stem if place.is_file() else place.name)
    if not re.fullmatch(NAME, name):
        raise LnqError(
            f"{name!r} is no name for a model: --name gives one of letters, digits, '.', '-', '_'"
        )
    with open_model(model) as folder:
        checkpoints = find_checkpoints(folder)
        trained = checkpoints[0].parent.parent
        dataset = read_metadata(trained, METADATA[1])
        if place.is_file():
            files = [{**_served(place, place.name), "unpack": True}]
        else:
            paths = [*(_beside(trained, file, folder) for file in METADATA), *checkpoints]
            within = [path.relative_to(folder).as_posix() for path in paths]
            files = [
                {**_served(path, f"{place.name}/{file}"), "path": file}
                for path, file in zip(paths, within, strict=True)
            ]
        cases = _training_cases(trained)
        channels = dataset.get("channel_names") or dataset.get("modality") or {}
        return {
            "name": name,
            "version": version,
            "license": license_,
            "labels": dataset.get("labels"),
            "channels": list(channels.values()) if isinstance(channels, dict) else channels,
            "training_count": len(cases) or dataset.get("numTraining"),
            "training_cases": cases,
            "citation": None,
            "files": files,
        }


def _served(path: Path, url: str) -> dict[str, Any]:
    """Return address, hash and size of a file."""
    with os_errors(str(path)):
        return {"url": quote(url), "sha256": sha256_of(path), "size": path.stat().st_size}


def _beside(trained: Path, name: str, folder: Path) -> Path:
    """Return a model's metadata, which must lie within the folder that is described."""
    path = next(p for p in (trained / name, trained.parent / name) if p.is_file())
    if not path.is_relative_to(folder):
        raise LnqError(f"{name} lies above the folder: give the folder that holds it")
    return path


def _training_cases(trained: Path) -> list[str]:
    """Return the cases that a model says it was trained on: by our record, or nnU-Net's splits."""
    record = read_record(trained) if (trained / MODEL_RECORD).is_file() else None
    try:
        if record is not None:
            return sorted(record["made_with"]["cases"])
        if (trained / SPLITS).is_file():
            folds = read_json(trained / SPLITS)
            return sorted({case for fold in folds for part in fold.values() for case in part})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return []


def check_whole(model: Path) -> bool:
    """Raise LnqError unless a model that was not fetched is whole by its own account.

    Its plans and labels are there, each part of each checkpoint has the checksum that it carries,
    and a model of ours has every fold that its record began, and no file of another hash.

    Parameters
    ----------
    model : Path
        A results folder, or a zip archive of one.

    Returns
    -------
    bool
        Whether its record has hashes.
    """
    with open_model(model) as folder:
        checkpoints = find_checkpoints(folder)
        metadata_digest(folder)
        for path in checkpoints:
            try:
                check_sums(path)
            except OSError as error:
                raise LnqError(f"{path.parent.name}/{path.name}: {error}") from None
        trained = checkpoints[0].parent.parent
        record = read_record(trained) if (trained / MODEL_RECORD).is_file() else None
        for run in record["runs"] if record else ():
            if not (trained / f"fold_{run['fold']}" / FINAL).is_file():
                raise LnqError(
                    f"fold_{run['fold']} is not trained to its end: lnq-train -s goes on"
                )
        hashes = record.get(SUMS, {}) if record else {}
        for name, digest in hashes.items():
            path = trained / name
            if not leads_out(name) and path.is_file() and sha256_of(path) != digest:
                raise LnqError(
                    f"{name} is not the file that the training left (see {MODEL_RECORD})"
                )
        return bool(hashes)
