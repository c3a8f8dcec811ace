"""A lock keeps other processes out while its file is open, and no longer."""

import fcntl
import os
import subprocess
import sys

import pytest

from lnqtools.files.locks import locked, released

ANOTHER = """
import fcntl, sys
from pathlib import Path
from lnqtools.files.locks import locked
try:
    locked(Path(sys.argv[1]), fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(7)
"""


def another(path) -> int:
    """Try to lock it in another process; return its exit status, 7 if it is held."""
    return subprocess.run([sys.executable, "-c", ANOTHER, path], check=False).returncode


def test_another_process_is_kept_out_until_it_is_released(tmp_path):
    path = tmp_path / "lock"
    file = locked(path)
    assert another(path) == 7
    with pytest.raises(BlockingIOError):
        locked(path, fcntl.LOCK_NB)
    with released(file, path):
        assert another(path) == 7
    assert not path.exists()
    assert another(path) == 0


def test_a_file_that_its_owner_removed_is_not_taken_for_locked(tmp_path, monkeypatch):
    """Between open and lock the owner may remove it: then it is made again."""
    path = tmp_path / "lock"
    real, opened = os.open, []

    def open_what_is_removed(*arguments) -> int:
        file = real(*arguments)
        if not opened:
            path.unlink()
        opened.append(file)
        return file

    monkeypatch.setattr(os, "open", open_what_is_removed)
    file = locked(path)
    monkeypatch.undo()
    assert len(opened) == 2
    assert os.path.samestat(os.fstat(file), path.stat())
    os.close(file)


def test_what_another_user_removed_is_released_all_the_same(tmp_path):
    path = tmp_path / "lock"
    file = locked(path)
    path.unlink()
    with released(file, path):
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
