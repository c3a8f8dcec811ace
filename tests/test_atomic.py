"""Files appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lnqtools.atomic import atomic_output, remove_unfinished
from lnqtools.errors import LnqError
from tests.conftest import save


@pytest.mark.parametrize("error", [LnqError, KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_the_target_as_it_was(error, tmp_path):
    target = tmp_path / "x.nii.gz"
    target.write_bytes(b"before")

    def fail():
        with atomic_output(target) as raw:
            raw.write(b"half")
            assert len(list(tmp_path.iterdir())) == 2
            raise error("in the middle")

    with pytest.raises(LnqError if error is OSError else error, match="in the middle"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]
    assert target.read_bytes() == b"before"


@pytest.mark.parametrize("replace", [True, False])
def test_a_signal_at_the_very_end_leaves_the_file_alone(replace, tmp_path, monkeypatch):
    """The removal of the temporary file is cut short; what ends the process makes up for it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    def write():
        with atomic_output(tmp_path / "x", replace=replace) as raw:
            raw.write(b"whole")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write()
    remove_unfinished()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"whole"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_tool_that_a_signal_ends_in_its_clean_up_leaves_nothing_behind(jobs, tmp_path):
    names = ["a.nii.gz", "b.nii.gz"]
    cases = [save(tmp_path / name, np.ones((2, 3, 4), np.uint8)) for name in names]
    script = f"""
import os, pathlib, signal
from lnqtools.cli.weaklabel import main
unlink = pathlib.Path.unlink
def interrupted(path, **options):
    pathlib.Path.unlink = unlink
    os.kill(os.getpid(), signal.SIGTERM)  # the handler runs before the file is removed
    unlink(path, **options)
pathlib.Path.unlink = interrupted
main({[*map(str, cases), "--strategy", "full", "-O", str(tmp_path / "out"), "-j", jobs]!r})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    if jobs == "1":
        assert done.returncode == -signal.SIGTERM
        assert done.stderr == b""
        assert written == names[:1]
    else:  # a worker each; the tool goes on without them
        assert done.returncode == 1
        assert done.stderr.count(b"its worker ended") == 2
        assert written == names
