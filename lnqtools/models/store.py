"""Models that were fetched: where they lie, whether they are whole, and which name is which."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lnqtools.errors import LnqError, os_errors
from lnqtools.files.atomic import atomic_folder, remove_stale_temporaries
from lnqtools.files.json_files import read_json, write_json
from lnqtools.files.locks import locked, released
from lnqtools.files.sums import sha256_of
from lnqtools.models.catalogue import (
    NAME,
    RECEIPT,
    Entry,
    Part,
    find_entry,
    parse_entry,
    read_catalogue,
)
from lnqtools.models.download import fetch_file
from lnqtools.nnunet.model_folder import find_checkpoints, metadata_digest, unpack

HOME = "LNQ_MODELS"
"""The variable that names another folder for models."""
MORE_ROOM = f"set {HOME} to a folder on a larger disk"


@dataclass(frozen=True)
class Fetched:
    """A model that was fetched.

    Parameters
    ----------
    folder : Path
    entry : Entry
        Of the catalogue that it was fetched by, as it was then.
    files : mapping
        Path in the folder → ``sha256``, ``size``, ``mtime_ns`` when it was placed, and ``part``,
        the hash of what it came in.
    """

    folder: Path
    entry: Entry
    files: Mapping[str, Mapping[str, Any]]

    def flaw(self, *, thorough: bool, names: Iterable[str] | None = None) -> str | None:
        """Say what is wrong with a file, or return None if all are as they were fetched.

        Parameters
        ----------
        thorough : bool
            Read every file. Without it only those whose size is right and whose time is not.
        names : iterable of str, optional
            Of the files that count. Without it, all.
        """
        for name in self.files if names is None else names:
            path, was = self.folder / name, self.files[name]
            if path.is_symlink() or not path.is_file():
                return f"{name} is missing"
            found = path.stat()
            if found.st_size != was["size"]:
                return f"{name} has {found.st_size} bytes instead of {was['size']}"
            if thorough or found.st_mtime_ns != was["mtime_ns"]:
                with os_errors(str(path)):
                    if sha256_of(path) != was["sha256"]:
                        return f"{name} is not the file that was fetched: its SHA-256 is another"
        return None

    def is_of(self, entry: Entry) -> bool:
        """Tell whether the model has the files of an entry, from wherever they came."""
        ours, others = (
            [(part.sha256, part.path) for part in one.parts] for one in (self.entry, entry)
        )
        return ours == others

    def names_of(self, part: Part) -> list[str]:
        """Return the files that came in a part."""
        return [name for name, was in self.files.items() if was["part"] == part.sha256]


def home() -> Path:
    """Return the folder that models are fetched into.

    That is ``$LNQ_MODELS``, or ``lnqtools/models`` in the user's folder for data:
    ``$XDG_DATA_HOME``, or ``.local/share`` in the home directory.

    Raises
    ------
    LnqError
        If there is no home directory.
    """
    if given := os.environ.get(HOME):
        return Path(given)
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if data.is_absolute():  # others are to be ignored, as the standard says
        return data / "lnqtools" / "models"
    try:
        user = Path.home()
    except RuntimeError:
        user = Path("/")
    if user == Path("/"):
        raise LnqError(f"there is no home directory to keep models in: set {HOME} to a folder")
    return user / ".local" / "share" / "lnqtools" / "models"


def read_fetched(folder: Path) -> Fetched | None:
    """Return what a folder says of its fetching; None if it was not fetched.

    Raises
    ------
    LnqError
        If what it says is damaged.
    """
    path = folder / RECEIPT
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        known = {
            str(name): {key: was[key] for key in ("sha256", "size", "mtime_ns", "part")}
            for name, was in content["files"].items()
        }
        return Fetched(folder, parse_entry(content["entry"], content["catalogue"]), known)
    except (LnqError, OSError, ValueError, LookupError, TypeError, AttributeError):
        raise LnqError(f"{path} is damaged") from None


def fetched_names() -> list[str]:
    """Return the names of the models that were fetched, damaged ones too."""
    return sorted(receipt.parent.name for receipt in home().glob(f"[!.]*/{RECEIPT}"))


def fetched_models() -> list[Fetched]:
    """Return the models that were fetched, but for those whose receipt is damaged."""
    found = []
    for name in fetched_names():
        with suppress(LnqError):
            model = read_fetched(home() / name)
            if model is not None:
                found.append(model)
    return found


def is_name(model: str) -> bool:
    """Tell whether a model is given by its name: nothing has that path."""
    return re.fullmatch(NAME, model) is not None and not os.path.lexists(model)


def resolve(model: str) -> str:
    """Return where a model is that may be given by its name.

    Parameters
    ----------
    model : str
        The path of a folder, of an archive, or within one; or, where nothing has that path, the
        name of a fetched model.

    Returns
    -------
    str
        The path as it was given, or the folder of the fetched model.

    Raises
    ------
    LnqError
        If it is a name, and the model was not fetched or is not whole.
    """
    if not is_name(model):
        return model
    folder = home() / model
    fetched = _read_or_repair(folder)
    if fetched is None:
        if find_entry(model, [read_catalogue()]) is not None:
            raise LnqError(
                f"{model}: there is no such folder, and the model of that name was not fetched: "
                f"lnq-model fetch {model}"
            )
        raise LnqError(
            f"{model}: there is no such model folder or archive, and no fetched model has that "
            "name: lnq-model list shows those there are"
        )
    if (flaw := fetched.flaw(thorough=False)) is not None:
        raise LnqError(f"{folder}: {flaw}: lnq-model fetch {model} repairs it")
    return str(folder)


def _read_or_repair(folder: Path) -> Fetched | None:
    """Return what a folder says of its fetching, as `read_fetched`; errors say what repairs it."""
    try:
        return read_fetched(folder)
    except LnqError as error:
        raise LnqError(f"{error}: lnq-model fetch {folder.name} repairs it") from None


def fetch(entry: Entry, tell: Callable[[int, int], None], *, force: bool = False) -> Path:
    """Fetch a model, or what of it is not as it should be, and return its folder.

    Parameters
    ----------
    entry : Entry
    tell : callable
        Is told the number of a file, from 0, and how many bytes of it are there.
    force : bool
        Whether another model of that name is replaced.

    Raises
    ------
    LnqError
        If it cannot be fetched, or another model has its place.
    """
    if (reason := entry.why_not()) is not None:
        raise LnqError(reason)
    folder = home() / entry.name
    with os_errors(f"cannot keep models in {folder.parent}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _held(folder):
            remove_stale_temporaries(folder.parent)
            before = _what_is_there(folder, entry, force)
            if before and before.is_of(entry) and before.flaw(thorough=True) is None:
                return folder
            _make(entry, folder, before, tell)
    return folder


def _what_is_there(folder: Path, entry: Entry, force: bool) -> Fetched | None:
    """Return the fetched model that a new one takes the place of."""
    try:
        before = read_fetched(folder)
    except LnqError:
        return None
    if before is None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LnqError(f"{folder} is there, and lnq-model did not make it: move it away")
    elif not force and not before.is_of(entry):
        raise LnqError(
            f"{folder} is another model of that name: {before.entry} of {before.entry.place}, not "
            f"{entry} of {entry.place}; -f replaces it"
        )
    return before


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a model's place, or raise LnqError while another process fetches it."""
    lock = folder.parent / f".{folder.name}.lock"
    try:
        file = locked(lock, fcntl.LOCK_NB)
    except BlockingIOError:
        raise LnqError(f"{folder} is being fetched by another process: wait for it") from None
    with released(file, lock):
        yield


def _make(
    entry: Entry, folder: Path, before: Fetched | None, tell: Callable[[int, int], None]
) -> None:
    """Make the folder of a model, from what is there and right, and what is fetched."""
    downloads = folder.parent / f".{entry.name}.download"
    downloads.mkdir(exist_ok=True)
    kept = [before is not None and _is_whole(before, part) for part in entry.parts]
    for number, part in enumerate(entry.parts):
        if not kept[number]:
            _download(part, downloads, partial(tell, number))
    files: dict[str, dict[str, Any]] = {}

    def made_here(_: Path) -> list[str]:
        return [*(before.files if before else ()), *files, RECEIPT]

    with atomic_folder(folder, made_here) as new:
        for part, is_kept in zip(entry.parts, kept, strict=True):
            with _about(part):
                if before is not None and is_kept:
                    hashes = {name: before.files[name]["sha256"] for name in before.names_of(part)}
                    _link({name: folder / name for name in hashes}, new)
                else:
                    hashes = _place(part, downloads / str(part.sha256), new)
            files |= {name: _seen(new / name, digest, part) for name, digest in hashes.items()}
        try:
            find_checkpoints(new)
            metadata_digest(new)
        except LnqError as error:
            raise LnqError(f"what {entry.place} names is no model: {error}") from None
        receipt = {"entry": entry.recorded(), "catalogue": entry.place, "files": files}
        write_json(new / RECEIPT, receipt)
    shutil.rmtree(downloads, ignore_errors=True)


def _is_whole(fetched: Fetched, part: Part) -> bool:
    """Tell whether all files that came in a part are there, and right."""
    names = fetched.names_of(part)
    return bool(names) and fetched.flaw(thorough=True, names=names) is None


def _download(part: Part, folder: Path, tell: Callable[[int], None]) -> None:
    """Fetch a part into a folder, under the name of its hash, unless it is there."""
    if part.url is None or part.sha256 is None or part.size is None:
        raise LnqError("a file without address, hash or size cannot be fetched")
    target = folder / part.sha256
    if target.is_file() and sha256_of(target) == part.sha256:
        return
    if part.size > shutil.disk_usage(folder).free:
        raise LnqError(
            f"{part.url} takes {part.size / 1e9:.1f} GB, more than {folder.parent} has room for: "
            f"{MORE_ROOM}"
        )
    fetch_file(part.url, target, part.size, part.sha256, tell)


@contextmanager
def _about(part: Part) -> Iterator[None]:
    """Name the address in an error about a part."""
    try:
        yield
    except LnqError as error:
        raise LnqError(f"{part.url}: {error}") from None


def _place(part: Part, source: Path, folder: Path) -> dict[str, str]:
    """Put what was fetched into a model's folder; return its files and their hashes."""
    if part.path is not None:
        _link({part.path: source}, folder)
        return {part.path: str(part.sha256)}
    paths = unpack(source, folder, lambda path: path.name != RECEIPT, MORE_ROOM)
    return {str(path): sha256_of(folder / path) for path in paths}


def _link(files: Mapping[str, Path], folder: Path) -> None:
    """Give files their names in a folder; copies where the disk knows no links."""
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise LnqError(f"{name} is there twice")
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _seen(path: Path, digest: str, part: Part) -> dict[str, Any]:
    """Return what the receipt says of a file."""
    found = path.stat()
    return {
        "sha256": digest,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "part": part.sha256,
    }
