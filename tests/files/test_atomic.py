"""Files appear whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.files.atomic import (
    atomic_folder,
    atomic_output,
    is_pipe,
    remove_stale_temporaries,
    remove_unfinished,
    temporary_suffix,
    write_into_pipe,
)
from tests.conftest import left_by_a_killed_run, save


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


# Folders


def test_a_folder_takes_its_name_when_it_is_complete(tmp_path):
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "a").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    with pytest.raises(LnqError, match="cannot write"), atomic_folder(tmp_path / "no" / "new"):
        pass


def test_a_file_in_the_way_stays(tmp_path):
    (tmp_path / "new").write_text("mine")
    with pytest.raises(LnqError, match="Not a directory"), atomic_folder(tmp_path / "new"):
        pass
    assert (tmp_path / "new").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_child_that_ends_leaves_its_parents_folder_alone(tmp_path):
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("a")
        child = os.fork()
        if child == 0:
            remove_unfinished()
            os._exit(0)
        os.waitpid(child, 0)
        assert (folder / "a").exists()
    assert (tmp_path / "new" / "a").exists()


def test_a_folder_that_a_killed_process_left_is_removed_by_the_next(tmp_path):
    script = f"""
import os, signal
from lnqtools.files.atomic import atomic_folder
with atomic_folder({str(tmp_path / "new")!r}) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "half").exists()
    with atomic_folder(tmp_path / "other"):
        remove_stale_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_container_leaves_alone_what_another_of_its_name_writes(tmp_path, monkeypatch):
    """Its processes have numbers of their own: the other's seem to have ended."""
    elsewhere = left_by_a_killed_run(tmp_path / "x")
    elsewhere.write_bytes(b"part")
    monkeypatch.setattr("lnqtools.files.atomic.HOSTS_PROCESSES", 0)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="pod"))
    here = left_by_a_killed_run(tmp_path / "y")
    here.write_bytes(b"part")
    space = Path("/proc/self/ns/pid").stat().st_ino
    assert here.name.startswith(f".y.pod-{space}.")
    remove_stale_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [elsewhere]


@pytest.mark.parametrize("target", ["", "."])
def test_a_target_without_a_name_is_no_file(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(LnqError, match=r"^\. exists and is not a regular file$"),
        atomic_output(target),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_waits_for_burial_writes_no_more(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and is not buried
    left = tmp_path / f".x{temporary_suffix(child)}"
    own = tmp_path / f".x{temporary_suffix()}"
    for path in (left, own):
        path.write_bytes(b"part")
    remove_stale_temporaries(tmp_path)
    os.waitpid(child, 0)
    assert list(tmp_path.iterdir()) == [own]


@given(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
    ),
    st.lists(st.binary(max_size=99), max_size=5),
)
def test_any_name_gets_exactly_what_was_written(tmp_path_factory, name, parts):
    folder = tmp_path_factory.mktemp("any")
    target = folder / f"_{name}"
    with atomic_output(target) as raw:
        for part in parts:
            raw.write(part)
    assert list(folder.iterdir()) == [target]
    assert target.read_bytes() == b"".join(parts)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_refused_replaced_or_followed(there, tmp_path):
    mine, link = tmp_path / "mine", tmp_path / "link"
    if there:
        mine.write_text("old")
    link.symlink_to(mine)
    with pytest.raises(FileExistsError), atomic_output(link, replace=False) as raw:
        raw.write(b"new")
    assert mine.exists() == there
    with atomic_output(link, follow=True) as raw:
        raw.write(b"new")
    assert (mine.read_text(), link.is_symlink()) == ("new", True)
    with atomic_output(link) as raw:
        raw.write(b"newer")
    assert (mine.read_text(), link.read_text(), link.is_symlink()) == ("new", "newer", False)


def test_a_replaced_folder_finds_a_name_that_nothing_has(tmp_path):
    for name in ("page", f".page.{os.getpid()}.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "foreign").write_text("x")
    with (
        pytest.raises(LnqError, match=r"other files that were in it are now in .*\.old$"),
        atomic_folder(tmp_path / "page", lambda folder: []) as folder,
    ):
        (folder / "index").write_text("new")
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["index"]
    assert len(list(tmp_path.glob(".page.*.old/foreign"))) == 2


# Pipes


@given(st.binary(max_size=200_000))
def test_what_is_written_into_a_pipe_comes_out_of_it(tmp_path_factory, content):
    """Also what is more than a pipe holds."""
    path = tmp_path_factory.mktemp("pipe") / "fifo"
    os.mkfifo(path)
    assert is_pipe(path)
    with ThreadPoolExecutor(1) as reader:
        got = reader.submit(path.read_bytes)
        write_into_pipe(content, path)
        assert got.result(60) == content
    assert path.is_fifo()


def test_pipes_are_told_from_files(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to("/dev/null")
    assert is_pipe("/dev/null")
    assert is_pipe(link)
    assert not any(map(is_pipe, (file, tmp_path, tmp_path / "nowhere", file / "below")))
    with pytest.raises(LnqError, match=r"cannot write /dev/full: No space left on device"):
        write_into_pipe(b"x", "/dev/full")
