"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lnqtools.errors import LnqError

_unfinished: set[Path] = set()
"""Temporary files of this process. A signal may come even between a file and its removal, so
whoever ends a process by one looks here last."""


@contextmanager
def atomic_output(path: str | Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when it is complete.

    The temporary file lies beside the target and carries host and process number in its name;
    whatever ends the block early removes it.

    Raises
    ------
    FileExistsError
        Without ``replace``, if the target exists when the file is complete.
    LnqError
        If the target exists and is not a regular file, or the write fails.
    """
    target = Path(os.path.realpath(path))
    begin = os.fsdecode(os.fsencode(target.name)[:100])  # names have at most 255 bytes
    temporary = target.with_name(f".{begin}{_temporary_suffix()}")
    _unfinished.add(temporary)
    try:
        if target.exists() and not target.is_file():
            raise LnqError(f"{path} exists and is not a regular file")
        with temporary.open("wb") as raw:
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
        with suppress(OSError):
            temporary.unlink()
        _unfinished.discard(temporary)


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


def _temporary_suffix() -> str:
    return f".{_host()}.{os.getpid()}.tmp"


def _host() -> str:
    return os.uname().nodename


def remove_unfinished() -> None:
    """Remove the temporary files whose own removal was cut short; for a process that ends."""
    for temporary in _unfinished:
        with suppress(OSError):
            temporary.unlink()


def remove_stale_temporaries(folder: str | Path) -> None:
    """Remove temporary files that killed processes of this host left in a folder."""
    for path in Path(folder).glob(".*.tmp"):
        rest, _, process = path.name.removesuffix(".tmp").rpartition(".")
        if rest.endswith(f".{_host()}") and process.isdecimal() and not _is_running(int(process)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
