"""Locks between processes, by files that exist while they are held."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def locked(path: Path, how: int = 0) -> int:
    """Return an open file that no other process has locked.

    It is a file and not its folder, and open for writing: over NFS other machines see only such
    locks.
    """
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:
            if not path.exists():
                raise
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # another user's, of the same group
        try:
            fcntl.flock(file, fcntl.LOCK_EX | how)
        except BlockingIOError:
            os.close(file)
            raise
        except OSError:
            return file  # a file system without locks: nothing can keep two trainings apart
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)  # whoever had it has removed it


@contextmanager
def released(file: int, path: Path) -> Iterator[None]:
    """Remove, then unlock, a locked file when the block ends; see `locked`."""
    try:
        yield
    finally:
        with suppress(OSError):  # another user's: it does no harm
            path.unlink()
        os.close(file)
