"""The frame of the tortures: its page, its exit status, what it refuses."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite import TOOLS
from torture import __main__ as frame
from torture import security
from torture.rows import Row
from torture.watch import watch

GOOD = Row("cut | off", "lnq-crop", 1234, "all <named>\nin one line", ())
BAD = Row("shaken", "lnq-infer", 2, "not all", ("lnq-infer: a | b was lost",))


def fake(*rows: Row):
    def torture(folder: Path, scale: float) -> Iterator[Row]:
        assert list(folder.iterdir()) == []
        (folder / "scale").write_text(str(scale))
        for row in rows:
            yield Row(row.what, row.where, round(row.tried * scale), row.outcome, row.wrong)

    return torture


@pytest.fixture
def tortures(monkeypatch) -> None:
    known = {"good": ("What holds", fake(GOOD)), "goodness": ("More", fake(GOOD, GOOD))}
    monkeypatch.setattr(frame, "TORTURES", known | {"bad": ("What breaks", fake(GOOD, BAD))})


def call(monkeypatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["torture", *map(str, arguments)])
    return frame.main()


@pytest.mark.usefixtures("tortures")
def test_a_page_has_a_row_each_and_says_that_nothing_went_wrong(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    assert call(monkeypatch, "good", "--scale", "0.5", "-o", page) == 0
    text = page.read_text()
    row = r"| cut \| off | lnq-crop | 617 | all &lt;named> in one line | 0 |"
    assert text.count(row) == 3
    assert capsys.readouterr().out.splitlines() == [row] * 3
    assert re.findall("^## (.*)$", text, re.M) == ["What holds", "More"]
    assert text.count("\nLost, damaged or wrong: nothing.\n") == 2
    assert text.count("--scale 0.5` on 20") == 2


@pytest.mark.usefixtures("tortures")
def test_a_section_that_is_not_made_anew_stays(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    call(monkeypatch, "bad", "-o", page)
    call(monkeypatch, "good", "-o", page)
    before = page.read_text()
    assert re.findall("^## (.*)$", before, re.M) == ["What holds", "More", "What breaks"]
    assert call(monkeypatch, "goodness", "--scale", "3", "-o", page) == 0
    changed = {*page.read_text().splitlines()} ^ {*before.splitlines()}
    assert {line.partition("--scale")[2][:3] for line in changed if "--scale" in line} == {
        " 1`",
        " 3`",
    }
    assert len(changed) == 3  # the call as it was, the call and the row as they are


def test_rows_of_some_tools_are_made_anew_among_the_others(tmp_path, monkeypatch, capsys):
    def torture(folder: Path, scale: float, tools=("lnq-crop", "lnq-infer")) -> Iterator[Row]:
        for tool in tools:
            wrong = (f"{tool}: it died",) if scale == 1 else ()
            yield Row("cut | off", tool, round(10 * scale), f"at {scale:g}", wrong)
        yield Row("not done", "none", 0, "skipped: no strace")

    monkeypatch.setattr(
        frame, "TORTURES", {"kills": ("Killed", torture), "load": ("Load", torture)}
    )
    page = tmp_path / "page.md"
    assert call(monkeypatch, "kills", "-o", page) == 1
    assert call(monkeypatch, "kills", "--scale", "2", "--tool", "lnq-crop", "-o", page) == 0
    lines = page.read_text().splitlines()
    assert [line for line in lines if line.startswith("| ")][1:] == [
        r"| cut \| off | lnq-infer | 10 | at 1 | 1 |",
        r"| cut \| off | lnq-crop | 20 | at 2 | 0 |",
        "| not done | none | 0 | skipped: no strace | 0 |",
    ]
    calls = [line.partition("`")[2].partition("`")[0] for line in lines if line.startswith("`")]
    kills = "python -m torture kills --scale"
    assert calls == [f"{kills} 1", f"{kills} 2 --tool lnq-crop"]
    assert lines[-5:] == ["Wrong:", "", "- lnq-infer: it died", "", "Not tried: 1."]
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "load", "--tool", "lnq-crop", "-o", page)
    assert ended.value.code == 2
    assert "load: --tool is for inputs, kills, faults" in capsys.readouterr().err


@pytest.mark.usefixtures("tortures")
def test_what_went_wrong_is_named_and_is_the_status(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    assert call(monkeypatch, "bad", "-o", page) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[1] == "| shaken | lnq-infer | 2 | not all | 1 |"
    assert said.err == "wrong: lnq-infer: a | b was lost\n"
    assert page.read_text().endswith("\nWrong:\n\n- lnq-infer: a | b was lost\n")


@pytest.mark.usefixtures("tortures")
def test_an_unknown_name_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "good", "worse", "-o", tmp_path / "page.md")
    assert ended.value.code == 2
    assert "worse is not one of good, goodness, bad" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tortures")
def test_a_page_that_has_no_place_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "good", "-o", tmp_path / "nowhere" / "page.md")
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "there is no such folder" in said.err
    assert said.out == ""


def test_a_torture_that_breaks_is_a_row_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def broken(folder: Path, scale: float) -> Iterator[Row]:
        yield GOOD
        raise ZeroDivisionError("in it")

    known = {"good": ("What holds", fake(GOOD)), "bad": ("What breaks", broken)}
    monkeypatch.setattr(frame, "TORTURES", known)
    page = tmp_path / "page.md"
    assert call(monkeypatch, "-o", page) == 1
    sentence = "bad: the torture itself broke: ZeroDivisionError: in it"
    assert f"wrong: {sentence}\n" in capsys.readouterr().err
    text = page.read_text()
    assert text.count("| lnq-crop |") == 2
    assert text.endswith(f"Wrong:\n\n- {sentence}\n")


def test_the_hostile_names_and_machines_are_those_of_every_tool():
    assert {call.tool for call in security.every_call(("a", "b"))} == {*TOOLS}


def test_each_torture_has_a_heading_of_its_own():
    headings = [heading for heading, _ in frame.TORTURES.values()]
    assert len({*headings}) == len(headings) > 0


def test_a_watched_tool_tells_what_it_took_and_what_it_left(tmp_path, monkeypatch):
    """A stand-in for a tool that grows, opens files, and leaves one in TMPDIR and a process."""
    script = tmp_path / "lnq-greedy"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, subprocess, sys, tempfile, time\n"
        "names = sys.stdin.buffer.read()\n"
        "apart = dict.fromkeys(['stdin', 'stdout', 'stderr'], subprocess.DEVNULL)\n"
        "other = subprocess.Popen(['sleep', '60'], start_new_session=True, **apart)\n"
        "open('process', 'w').write(str(other.pid))\n"
        "time.sleep(1)\n"
        "held = [open(os.devnull) for _ in range(50)], bytearray(b'x') * 80_000_000\n"
        "time.sleep(1)\n"
        "open(os.path.join(os.environ['TMPDIR'], 'left'), 'w').close()\n"
        "os.write(1, names)\n"
        "sys.exit('lnq-greedy: bad')\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr("torture.watch.BIN", tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = watch("lnq-greedy", stdin=[Path("a b"), Path("c\nd")])
    assert ran.status == 1
    assert ran.err == ["lnq-greedy: bad"]
    apart = (tmp_path / "process").read_text()
    os.kill(int(apart), signal.SIGKILL)
    assert ran.left == ("left in TMPDIR", f"process {apart}")
    (mb, files), (last_mb, last_files) = ran.most(0.35, 0.48), ran.most(0.6, 1)  # has started
    assert 70 < last_mb - mb < 110
    assert last_files - files == 50
