"""Checkpoint files: which there are, and reading them without running code from them."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lnqtools.errors import LnqError

FINAL, BEST, LATEST = "checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth"
UNREADABLE = (
    *(OSError, RuntimeError, EOFError, LookupError),
    *(ValueError, TypeError, AttributeError, AssertionError),
)
"""What torch raises, depending on the bytes, where a file is not a checkpoint."""
CHECKPOINTS = (FINAL, BEST, LATEST)
"""nnU-Net's names, in the order in which they are taken for prediction."""


class UntrustedModelError(LnqError):
    """A model that could run any code when it is loaded."""


def load_checkpoint(path: Path, trust: bool = False) -> dict[str, Any]:
    """Read a checkpoint; its tensors stay in the file until they are used.

    Parameters
    ----------
    path : Path
    trust : bool
        A checkpoint is a pickle, which can run any code when it is read. Without ``trust`` only
        tensors, plain values and numpy numbers are accepted.

    Raises
    ------
    UntrustedModelError
        If it holds more than that and is not trusted.
    LnqError
        If the file is damaged.
    """
    import torch

    try:
        check_sums(path)
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=not trust, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise UntrustedModelError(
            f"{path.name} holds more than weights and plain values ({_offender(error)}); reading "
            "it could run any code"
        ) from None
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LnqError(f"{path.name} is not a readable checkpoint: {reason}") from None


def load_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of plain values and numpy arrays, as nnU-Net keeps beside prepared cases.

    Raises
    ------
    LnqError
        If it names anything else, which could run any code.
    """
    with Path(path).open("rb") as file:
        return _PlainUnpickler(file).load()


class _PlainUnpickler(pickle.Unpickler):
    """Knows numpy's numbers and arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names."""
        for known in _numpy_globals():
            thing, path = known if isinstance(known, tuple) else (known, _path_of(known))
            if path == f"{module}.{name}":
                return thing
        raise LnqError(f"a prepared case names {module}.{name}: do not trust it")


def _path_of(thing: Any) -> str:
    """Return the name that a pickle has for a class or function."""
    return f"{thing.__module__}.{thing.__qualname__}"


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint in a fold's folder that has seen most epochs, if there is any."""
    there = [folder / name for name in CHECKPOINTS if (folder / name).is_file()]
    if len(there) < 2 or there[0].name == FINAL:
        return there[0] if there else None
    return max(there, key=lambda path: load_checkpoint(path)["current_epoch"])


def checkpoint_digest(paths: Sequence[Path]) -> str:
    """Return a short digest that tells checkpoints apart without reading their tensors.

    A checkpoint is a zip archive with a checksum of each member; these and the sizes are
    digested. Files of another kind are read as a whole.

    Raises
    ------
    LnqError
        If a file is damaged.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(_fingerprint(path))
        except (OSError, zipfile.BadZipFile) as error:
            raise LnqError(f"{path.name} is not a readable checkpoint: {error}") from None
    return digest.hexdigest()[:16]


def _fingerprint(path: Path) -> bytes:
    if not _is_zip(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return "".join(f"{m.CRC} {m.file_size} " for m in archive.infolist()).encode()


def check_sums(path: Path) -> None:
    """Raise OSError if a part of the file is damaged; torch itself checks no sum of weights."""
    if not _is_zip(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise OSError(f"it is cut or damaged ({error})") from None
    if damaged is not None:
        raise OSError(f"its part {damaged} is damaged")


def _is_zip(path: Path) -> bool:
    """Tell whether torch can map the file (its format since 1.6)."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _numpy_globals() -> list[Any]:
    """Return what numpy's own pickled numbers and arrays need: old and new module names."""
    import numpy as np

    multiarray = import_module("numpy._core.multiarray")
    numeric = import_module("numpy._core.numeric")
    functions = [multiarray.scalar, multiarray._reconstruct, numeric._frombuffer]
    renamed = [(f, f.__module__.replace("._core", ".core") + f".{f.__name__}") for f in functions]
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [*functions, *renamed, np.ndarray, np.dtype, *dtypes]


def _offender(error: pickle.UnpicklingError) -> str:
    """Return the name in torch's message of what it refused to load."""
    words = str(error).split("GLOBAL ")
    return words[1].split()[0] if len(words) > 1 else "an unknown object"
