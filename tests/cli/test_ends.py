"""How tools end at the moments that no case shows: while they start, while they end, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lnqtools.cli._output import check_table_place
from lnqtools.errors import LnqError
from tests.conftest import affine, left_by_a_killed_run, run, save, succeed


def python(script: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a script."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, check=False)


# Signals


@pytest.mark.parametrize("name", ["lnq-crop", "notebook"])
def test_ctrl_c_while_a_tool_imports_is_quiet_and_another_program_keeps_its_own(name):
    done = python(f"""
import os, signal, sys
sys.argv = ["/somewhere/{name}"]
import lnqtools.cli
os.kill(os.getpid(), signal.SIGINT)
""")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.endswith(b"KeyboardInterrupt\n" if name == "notebook" else b"")
    assert (done.stderr == b"") == (name != "notebook")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_all_is_done_is_quiet(signum, tmp_path):
    source, target = save(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8)), tmp_path / "o.nii"
    line = [str(source), "--strategy", "full", "-o", str(target)]
    done = python(f"""
import atexit, os
atexit.register(os.kill, os.getpid(), {signum:d})
from lnqtools.cli.weaklabel import main
main({line!r})
""")
    assert (done.returncode, done.stderr) == (-signum, b"")
    assert done.stdout.decode() == f"{target}\n"
    assert target.exists()


def test_a_second_signal_while_the_first_one_ends_a_tool_is_quiet(tmp_path):
    source = save(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8))
    line = [str(source), "--strategy", "full", "-O", str(tmp_path / "out")]
    done = python(f"""
import os, pathlib, signal
from lnqtools.files import atomic
from lnqtools.cli import _tool
def again():
    os.kill(os.getpid(), signal.SIGTERM)
    atomic.remove_unfinished()
_tool.remove_unfinished = again
def first(*_):
    os.kill(os.getpid(), signal.SIGINT)
os.link = first  # the file is written, and has no name yet
from lnqtools.cli.weaklabel import main
main({line!r})
""")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "1 of 3 done, -s goes on"),
        (["-s"], "1 of 3 done, -s goes on"),
        (["-f"], "1 of 3 done, -s instead of -f goes on"),
        (["-j", "2"], "1 of 3 done, -s goes on"),
        (["-q"], None),
    ],
)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_how_to_go_on_where_an_output_is_there(tmp_path, options, said, signum):
    sources = [save(tmp_path / f"{n}.nii", np.ones((2, 3, 4), np.uint8)) for n in "abc"]
    out = tmp_path / "out"
    line = [*map(str, sources), "--strategy", "full", "-O", str(out), *options]
    done = python(f"""
import os
from lnqtools.cli import _batch
emit = _batch.emit
def emit_and_be_interrupted(*arguments, **options):
    emit(*arguments, **options)
    os.kill(os.getpid(), {signum:d})
_batch.emit = emit_and_be_interrupted
from lnqtools.cli.weaklabel import main
main({line!r})
""")
    assert (done.returncode, done.stdout.decode()) == (-signum, f"{out}/a.nii.gz\n")
    quiet = said is None or signum != signal.SIGINT
    assert done.stderr.decode() == ("" if quiet else f"lnq-weaklabel: interrupted: {said}\n")
    again = [part for part in line if part != "-f"]
    assert len(succeed("lnq-weaklabel", *again, *([] if "-s" in line else ["-s"])).lines) == 3


@pytest.mark.parametrize("place", ["-o", "nothing yet"])
def test_ctrl_c_without_an_output_to_keep_is_quiet(tmp_path, place):
    sources = [save(tmp_path / f"{n}.nii", np.ones((2, 3, 4), np.uint8)) for n in "ab"]
    kept = [str(sources[0]), "-o", "-"] if place == "-o" else [*map(str, sources), "-O", "out"]
    done = python(
        f"""
import os, signal
from lnqtools.cli import _batch, _case
def interrupted(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
{"_batch.Batch._report" if place == "-o" else "_case.Case.read"} = interrupted
from lnqtools.cli.weaklabel import main
main({[*kept, "--strategy", "full"]!r})
"""
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


# What a killed run left


def test_what_a_killed_run_left_of_a_file_is_removed_by_the_next(tmp_path):
    save(tmp_path / "in" / "a.nii.gz", np.ones((4, 4, 4), np.uint8))
    (tmp_path / "training.tsv").write_text(
        "epoch\ttraining_loss\tvalidation_loss\tpseudo_dice_annotated\t"
        "pseudo_dice_annotated_smoothed\n1\t0.5\t0.4\t0.1\t0.1\n2\t0.4\t0.3\t0.2\t0.1\n"
    )
    runs = [
        ("lnq-stats", "in/a.nii.gz", "-o", "out/a.tsv"),
        ("lnq-filter-diameter", "in/a.nii.gz", "--min", "1", "-o", "out/a.nii.gz"),
        ("lnq-plot", "training", "training.tsv", "-o", "out/a.png"),
    ]
    out = tmp_path / "out"
    out.mkdir()
    for line in runs:
        stale = left_by_a_killed_run(out / Path(line[-1]).name)
        stale.write_bytes(b"part")
        succeed(*line, "-q", cwd=tmp_path)
        assert [path.name for path in out.iterdir()] == [Path(line[-1]).name]
        (out / Path(line[-1]).name).unlink()


def test_a_table_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(LnqError, match="cannot be written to"):
        check_table_place(str(tmp_path / "t.tsv"), [], replace=False)


# The two files of a map


def write_map(path: Path, structure: int) -> None:
    """Write a map of one structure, as lnq-anatomy does."""
    from lnqtools.images.grid import Grid
    from lnqtools.images.names import label_table
    from lnqtools.images.volume import Volume, write_volume

    array = np.full((2, 2, 2), structure, np.uint8)
    names = label_table({structure: f"structure_{structure}"})
    grid = Grid.from_affine(array.shape, affine())
    write_volume(Volume(array, grid, (), (names,)), path, {"tool": "lnq-anatomy"}, replace=True)


def test_a_table_of_names_is_known_by_its_maps_time_whatever_the_clock_says(tmp_path):
    from lnqtools.cli.anatomy import _complete_names

    image, table = tmp_path / "a.nii.gz", tmp_path / "a.tsv"
    write_map(image, 3)
    table.write_text("index\tname\tvoxels\n7\tstructure_7\t8\n")  # of the map before, and newer
    os.utime(table, ns=(0, image.stat().st_mtime_ns + 10**15))
    for _ in range(2):
        _complete_names(image)
        assert table.read_text() == "index\tname\tvoxels\n3\tstructure_3\t8\n"
        assert table.stat().st_mtime_ns == image.stat().st_mtime_ns
        before = table.stat().st_ino
    _complete_names(image)
    assert table.stat().st_ino == before  # kept


def test_a_map_that_another_process_replaces_meanwhile_gets_its_own_table(tmp_path, monkeypatch):
    from lnqtools.cli.anatomy import _complete_names
    from lnqtools.images import volume

    image, table = tmp_path / "a.nii.gz", tmp_path / "a.tsv"
    write_map(image, 3)
    read = volume.read_label

    def read_and_be_overtaken(path):
        found = read(path)
        monkeypatch.setattr(volume, "read_label", read)
        write_map(image, 5)
        os.utime(image, ns=(0, 10**18))
        return found

    monkeypatch.setattr(volume, "read_label", read_and_be_overtaken)
    _complete_names(image)
    assert table.read_text() == "index\tname\tvoxels\n5\tstructure_5\t8\n"


def test_a_signal_does_not_wait_for_a_file_that_is_read_ahead(tmp_path):
    os.mkfifo(tmp_path / "slow")
    script = f"""
import os, signal, threading
from pathlib import Path
from lnqtools.cli._batch import Batch
from lnqtools.cli._making import Making
from lnqtools.cli._plan import make_plan
from lnqtools.cli._tool import Tool

def run():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    plan = make_plan(["a"], folders={{"image": {str(tmp_path)!r}}})
    batch = Batch(plan=plan, making=Making("lnq-test"))
    batch.run(print, load=lambda case: Path({str(tmp_path / "slow")!r}).read_bytes())

Tool("lnq-test", callback=run).main([])
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, b"")


@pytest.mark.parametrize("around", ["nullcontext()", "after_ctrl_c('lnq-test', way_on, False)"])
def test_a_signal_that_a_library_makes_its_own_error_of_ends_the_tool_all_the_same(around):
    """As torch.save does, which is interrupted while it writes."""
    done = python(f"""
import os, signal
from contextlib import nullcontext
from lnqtools.cli._tool import Tool, after_ctrl_c

def way_on():
    return "-s goes on"

def run():
    with {around}:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            raise RuntimeError("unexpected pos 64 vs 0") from None

Tool("lnq-test", callback=run).main([])
""")
    said = b"" if around == "nullcontext()" else b"lnq-test: interrupted: -s goes on\n"
    assert (done.returncode, done.stderr) == (-signal.SIGINT, said)


def test_a_path_that_the_system_refuses_is_named(tmp_path):
    image = save(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8))
    name = "x" * 300
    result = run("lnq-metrics", image, "--reference", tmp_path / name)
    assert (result.status, result.out) == (1, "")
    assert result.err == f"lnq-metrics: {tmp_path / name}: File name too long\n"


@pytest.mark.parametrize("option", ["", "-s", "-f"])
def test_only_f_writes_a_table_through_a_link(tmp_path, option):
    image = save(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8))
    (tmp_path / "mine").write_text("dear to me")
    table = tmp_path / "t.tsv"
    table.symlink_to("mine")
    writing = ["--min", "0", "-O", tmp_path / "out", "--table", table]
    result = run("lnq-filter-diameter", image, *writing, *option.split())
    assert result.status == (0 if option else 2)
    assert ((tmp_path / "mine").read_text() == "dear to me") == (option != "-f")
    assert table.is_symlink() == (option != "-s")
