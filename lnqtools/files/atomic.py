"""Files that appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lnqtools.errors import LnqError

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2(2)."""

HOSTS_PROCESSES = 0xEFFFFFFC
"""Inode number of Linux's first name space of processes, which is the host's."""

_unfinished: set[Path] = set()
"""Temporary files and folders of this process. A signal may come even between a file and its
removal, so whoever ends a process by one looks here last."""


@contextmanager
def atomic_output(
    path: str | Path, *, replace: bool = True, follow: bool = False
) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when it is complete.

    The temporary file lies beside the target and carries host and process number in its name;
    whatever ends the block early removes it.

    Parameters
    ----------
    path : str or Path
    replace : bool
        Whether a file of that name is replaced.
    follow : bool
        Whether a link of that name stays, and the file that it leads to is replaced. Somebody
        else may have laid the link, to a file that only you can write.

    Raises
    ------
    FileExistsError
        Without ``replace``, if the target exists when the file is complete.
    LnqError
        If the target exists and is not a regular file, or the write fails.
    """
    target = Path(os.path.realpath(path) if follow else path)
    temporary = _beside(target, temporary_suffix())
    _unfinished.add(temporary)
    try:
        if target.exists() and not target.is_file():
            raise LnqError(f"{Path(path)} exists and is not a regular file")
        with _new_file(temporary) as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        if replace:
            temporary.replace(target)
        else:
            _name_anew(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        raise LnqError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        _remove(temporary)
        _unfinished.discard(temporary)


def is_pipe(path: str | Path) -> bool:
    """Tell whether what is written to a path goes through it, as through a FIFO or /dev/null."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def write_into_pipe(content: bytes, path: str | Path) -> None:
    """Write into a FIFO or a device, which stays what it is.

    Raises
    ------
    BrokenPipeError
        If nobody reads it any more.
    LnqError
        If it cannot be written to.
    """
    try:
        with Path(path).open("wb") as pipe:
            pipe.write(content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LnqError(f"cannot write {path}: {error.strerror or error}") from None


def _new_file(temporary: Path) -> BinaryIO:
    """Open a file that nothing has the name of, so that no link laid there is followed.

    In a container each run may have the number of one that was killed, and finds its file.
    """
    with suppress(FileExistsError):
        return temporary.open("xb")
    _remove(temporary)
    try:
        return temporary.open("xb")
    except FileExistsError:
        raise LnqError(f"{temporary} is in the way, and cannot be removed") from None


def _name_anew(temporary: Path, target: Path) -> None:
    """Give a file its name unless that is taken: a link, which never replaces, then a rename."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the best that is left
        if target.exists():
            raise FileExistsError(target) from None
        temporary.replace(target)


@contextmanager
def atomic_folder(
    path: str | Path, replaced: Callable[[Path], Iterable[str]] | None = None
) -> Iterator[Path]:
    """Give an empty folder to fill that takes its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        Where the folder will be. Without ``replaced``, none may be there that is not empty.
    replaced : callable, optional
        Returns which files of the folder that was there, relative to it, may be removed, and gets
        the path that it has by then. They stay until the new ones are complete. Others never are
        removed.

    Raises
    ------
    LnqError
        If the folder cannot be made, or there were files in the old one that may not be removed;
        these are left in a folder beside the new one, which the message names.
    """
    target = Path(os.path.realpath(path))
    temporary, old = _beside(target, temporary_suffix()), _unused_name(target)
    _unfinished.add(temporary)
    try:
        _remove(temporary)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if replaced is not None and target.is_dir() and any(target.iterdir()):
            _replace_folder(target, temporary, old)
            remove_files(old, replaced(old))
        else:
            temporary.rename(target)
    except OSError as error:
        raise LnqError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _unfinished.discard(temporary)
    if old.exists():
        raise LnqError(f"{path} is complete; other files that were in it are now in {old}")


def _unused_name(target: Path) -> Path:
    """Return a hidden name beside a folder that nothing has."""
    names = (_beside(target, f".{k}.old") for k in itertools.count(os.getpid()))
    return next(name for name in names if not os.path.lexists(name))


def _replace_folder(target: Path, new: Path, old: Path) -> None:
    """Give a folder the name of another, which gets the name ``old``."""
    try:
        _exchange(new, target)
    except OSError:  # a file system that exchanges nothing: for a moment none has the name
        target.rename(old)
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
    else:
        try:
            new.rename(old)
        except OSError:
            _exchange(new, target)
            raise


def _exchange(one: Path, other: Path) -> None:
    """Exchange the names of two folders in one step, so that a kill finds one or the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = [os.fsencode(path) for path in (one, other)]
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _sync(path: Path) -> None:
    """Have what was written to a file on the disk, not only on its way there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_files(folder: Path, files: Iterable[str]) -> None:
    """Remove files, and the folders that are empty without them."""
    paths = [folder / name for name in files]
    for path in paths:
        path.unlink(missing_ok=True)
    for parent in sorted({p for path in paths for p in path.parents}, reverse=True):
        if parent == folder or folder in parent.parents:
            with suppress(OSError):  # not empty
                parent.rmdir()


def _beside(target: Path, suffix: str) -> Path:
    """Return the hidden name that something has until it is complete."""
    begin = os.fsdecode(os.fsencode(target.name)[:100])  # names have at most 255 bytes
    return target.parent / f".{begin}{suffix}"


def temporary_suffix(process: int | None = None) -> str:
    """Return how the names end of what a process has not completed; None: this one."""
    return f".{_host()}.{process or os.getpid()}.tmp"


def _host() -> str:
    """Return where the numbers of processes are those of this one: the host, or a container on it.

    Containers may share a folder and the host's name, and know nothing of each other's processes.
    """
    with suppress(OSError):  # a system without such names
        if (space := Path("/proc/self/ns/pid").stat().st_ino) != HOSTS_PROCESSES:
            return f"{os.uname().nodename}-{space}"
    return os.uname().nodename


def remove_unfinished() -> None:
    """Remove what is temporary and whose own removal was cut short; for a process that ends.

    What a parent began before it forked is the parent's.
    """
    for temporary in _unfinished:
        if temporary.name.endswith(temporary_suffix()):
            _remove(temporary)


def remove_stale_temporaries(folder: str | Path) -> None:
    """Remove temporary files and folders that killed processes of this host left in a folder."""
    for path in Path(folder).glob(".*.tmp"):
        rest, _, process = path.name.removesuffix(".tmp").rpartition(".")
        if rest.endswith(f".{_host()}") and process.isdecimal() and not _is_running(int(process)):
            _remove(path)


def private_folder(
    prefix: str, place: str | Path | None = None
) -> tempfile.TemporaryDirectory[str]:
    """Make a folder for this user alone, and remove what killed runs left beside it.

    It lies below ``$TMPDIR``, or in another place. Use it in a ``with`` statement, or clean it up.
    """
    place = place or tempfile.gettempdir()
    remove_stale_temporaries(place)
    return tempfile.TemporaryDirectory(prefix=f".{prefix}.", suffix=temporary_suffix(), dir=place)


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_running(process: int) -> bool:
    """Tell whether a process is there and does something: one that waits for burial does not.

    Where nobody buries them, as in many a container, the children of a killed process stay.
    """
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1]
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return state not in (b"Z", b"X")
