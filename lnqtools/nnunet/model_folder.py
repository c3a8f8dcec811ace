"""nnU-Net v2 results folders, and zip archives of them: which files make up a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from lnqtools.errors import LnqError
from lnqtools.files.atomic import private_folder
from lnqtools.files.json_files import read_json
from lnqtools.files.records import leads_out
from lnqtools.nnunet.checkpoint import CHECKPOINTS

METADATA = ("plans.json", "dataset.json")
PARTS = (".pth", ".pt", ".pkl", ".model", ".json")
"""Suffixes of files that are parts of a model only."""
V1 = (
    "is a model of nnU-Net v1 (plans.pkl, *.model), which nnU-Net v2 cannot run: predict with "
    "nnU-Net v1, or train it anew"
)
MAX_EXPANSION, SMALL_BYTES = 100, 64 << 20
"""No weights shrink to less than this part of them; what stays small may."""


@contextmanager
def open_model(
    model: Path, folds: Sequence[str] | None = None, checkpoint: str | None = None
) -> Iterator[Path]:
    """Give the folder of a model; a zip archive is unpacked until the block ends.

    Parameters
    ----------
    model : Path
        A results folder, a zip archive as ``nnUNetv2_export_model_to_zip`` makes it, or a folder
        within such an archive (``model.zip/Dataset001_x/nnUNetTrainer__nnUNetPlans__2d``).
    folds, checkpoint
        As in `find_checkpoints`; nothing else is unpacked but plans.json and dataset.json.

    Yields
    ------
    Path
        The folder. That of an archive is private (mode 700), below ``$TMPDIR``.

    Raises
    ------
    LnqError
        If the archive is damaged, does not fit on the disk, or has a member that would leave the
        folder or grows as no model does; or if the file is one of a model's.
    """
    archive = next((path for path in (model, *model.parents) if path.is_file()), None)
    if archive is None:
        yield model
        return
    if archive.suffix in PARTS:
        fold = archive.absolute().parent.name
        which = f"above {fold}" if fold.startswith("fold_") else "that holds fold_*"
        raise LnqError(f"is one file of a model: give the folder {which}")
    with private_folder("lnq-model") as private:
        unpack(archive, Path(private), lambda path: _is_needed(path, folds, checkpoint))
        yield Path(private) / model.relative_to(archive)


def find_checkpoints(
    model: Path, folds: Sequence[str] | None = None, checkpoint: str | None = None
) -> list[Path]:
    """Return the checkpoint file of each fold that a prediction uses.

    Parameters
    ----------
    model : Path
        An nnU-Net v2 results folder: the one that holds ``fold_*``, or one up to two levels above
        it that holds a single such folder.
    folds : sequence of str, optional
        ``0`` … ``4`` or ``all``. Without it, all numbered folds that hold a checkpoint, as
        nnU-Net does; ``fold_all`` if there is no other.
    checkpoint : str, optional
        Name of the checkpoint files. Without it the final one, else the best, else the latest.

    Raises
    ------
    LnqError
        If the folder is not a results folder, or a fold lacks a checkpoint.
    """
    folder = _folder_of_folds(model)
    wanted = [checkpoint] if checkpoint else list(CHECKPOINTS)
    paths = []
    for fold in folds or _available_folds(folder, wanted):
        there = [folder / f"fold_{fold}" / name for name in wanted]
        path = next((path for path in there if path.is_file()), None)
        if path is None:
            raise LnqError(f"fold_{fold} does not exist or lacks {' or '.join(wanted)}")
        paths.append(path)
    return paths


def read_metadata(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file that lies beside ``fold_*`` or one level up.

    Raises
    ------
    LnqError
        If it is missing or not JSON.
    """
    for path in (folder / name, folder.parent / name):
        if path.is_file():
            try:
                content = read_json(path)
            except ValueError as error:
                raise LnqError(f"{name} is not valid JSON: {error}") from None
            if not isinstance(content, dict):
                raise LnqError(f"{name} is not an nnU-Net file: it holds no names with values")
            return content
    raise LnqError(f"{name} is missing in the model folder")


def metadata_digest(model: Path) -> str:
    """Return a short digest of what plans.json and dataset.json say.

    Parameters
    ----------
    model : Path
        As in `find_checkpoints`.

    Raises
    ------
    LnqError
        As `read_metadata`.
    """
    folder = _folder_of_folds(model)
    text = json.dumps([read_metadata(folder, name) for name in METADATA], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _folder_of_folds(model: Path) -> Path:
    """Return the folder that holds ``fold_*``."""
    if not model.is_dir():
        raise LnqError("there is no such model folder or archive")
    for pattern in ("fold_*", "*/fold_*", "*/*/fold_*"):
        found = sorted({fold.parent for fold in model.glob(pattern) if fold.is_dir()})
        if len(found) == 1:
            return found[0]
        if found:
            names = " or ".join(str(folder.relative_to(model)) for folder in found)
            raise LnqError(f"holds several models: add /{names} to its path")
    if any(next(model.glob(f"{level}plans.pkl"), None) for level in ("", "*/", "*/*/")):
        raise LnqError(V1)
    fold = model.absolute().name
    if fold.startswith("fold_"):
        only = fold.removeprefix("fold_")
        raise LnqError(f"is a fold of a model: give the folder above (--folds {only} for it alone)")
    raise LnqError("is not an nnU-Net results folder: there is no fold_* in it")


def _available_folds(folder: Path, wanted: list[str]) -> list[str]:
    """Return the numbered folds that hold a checkpoint, or ``all`` where none does."""
    there = sorted(
        path.name.removeprefix("fold_")
        for path in folder.glob("fold_*")
        if any((path / name).is_file() for name in wanted)
    )
    found = [name for name in there if name.isdecimal()] or [n for n in there if n == "all"]
    if not found and next(folder.glob("fold_*/*.model"), None):
        raise LnqError(V1)
    if not found:
        raise LnqError(f"no fold of the model holds {' or '.join(wanted)}")
    return found


def unpack(
    archive: Path,
    target: Path,
    is_needed: Callable[[PurePosixPath], bool],
    more_room: str = "set TMPDIR to a larger disk, or unpack it yourself and name the folder",
) -> list[PurePosixPath]:
    """Unpack files of a zip archive of a model into a folder.

    Parameters
    ----------
    archive, target : Path
    is_needed : callable
        Tells whether a file of the archive is wanted.
    more_room : str
        What to do where the disk has too little room.

    Returns
    -------
    list of PurePosixPath
        What was unpacked, relative to the folder.

    Raises
    ------
    LnqError
        If the archive is damaged, does not fit on the disk, or has a member that would leave the
        folder, is there already, or grows as no model does.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            paths = {member: path_within(member) for member in opened.infolist()}
            needed = {
                member: path
                for member, path in paths.items()
                if not member.is_dir() and is_needed(path)
            }
            if not needed and any(path.suffix == ".model" for path in paths.values()):
                raise LnqError(V1)
            _check_expansion(needed)
            _check_space(target, sum(member.file_size for member in needed), more_room)
            for member, path in needed.items():
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, (target / path).open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except FileExistsError as error:
        raise LnqError(f"the archive holds {Path(error.filename).name} twice") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise LnqError(f"is neither a folder nor a whole zip archive: {error}") from None
    except (OSError, RuntimeError, NotImplementedError) as error:  # encrypted, odd compression
        raise LnqError(f"the archive cannot be unpacked: {error}") from None
    return list(needed.values())


def path_within(member: zipfile.ZipInfo) -> PurePosixPath:
    """Return a member's path, which stays within the folder it is unpacked into.

    Raises
    ------
    LnqError
        If it is a link, or its path could leave the folder.
    """
    if leads_out(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
        raise LnqError(
            f"the archive holds {member.filename!r}, a link or a path that could leave its folder: "
            "do not trust it"
        )
    return PurePosixPath(member.filename)


def _is_needed(path: PurePosixPath, folds: Sequence[str] | None, checkpoint: str | None) -> bool:
    """Tell whether a member is metadata, or a checkpoint that may be asked for."""
    if path.name in METADATA:
        return True
    wanted = (checkpoint,) if checkpoint else CHECKPOINTS
    fold = path.parent.name.removeprefix("fold_")
    in_fold = path.parent.name.startswith("fold_") and (not folds or fold in folds)
    return in_fold and path.name in wanted


def _check_expansion(members: Collection[zipfile.ZipInfo]) -> None:
    """Raise LnqError for members that were made to fill the disk or the memory."""
    sizes = {repr(m.filename): (m.file_size, m.compress_size) for m in members}
    sizes["content"] = (sum(m.file_size for m in members), sum(m.compress_size for m in members))
    for what, (size, packed) in sizes.items():
        if size > max(SMALL_BYTES, MAX_EXPANSION * packed):
            raise LnqError(
                f"the archive's {what} would grow to {size / 1e9:.1f} GB from {packed / 1e6:.1f} "
                "MB, as no model does: do not trust it"
            )


def _check_space(folder: Path, size: int, more_room: str) -> None:
    """Raise LnqError if a folder's disk has no room for so many bytes."""
    if size > shutil.disk_usage(folder).free:
        raise LnqError(
            f"unpacked it takes {size / 1e9:.1f} GB, more than {folder.parent} has room for: "
            f"{more_room}"
        )
