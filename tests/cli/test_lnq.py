"""lnq: the list of tools, any of them by its short name, what is installed, completion."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import lnqtools
from lnqtools.choices import SHELLS
from lnqtools.cli.lnq import TOOLS
from tests.completions import completion_files
from tests.conftest import ROOT, run, succeed
from tests.suite import TOOLS as INSTALLED

BIN = Path(sys.executable).parent


def test_it_lists_all_tools_with_the_line_of_their_man_page():
    listed = dict(line.split(maxsplit=1) for line in succeed("lnq").lines)
    pages = {tool: (ROOT / "man" / "man1" / f"{tool}.1").read_text() for tool in INSTALLED}
    lines = {tool: text.partition("\n.Nd ")[2].partition("\n")[0] for tool, text in pages.items()}
    assert listed == {tool: line for tool, line in lines.items() if tool != "lnq"}


def test_a_tool_is_run_as_under_its_own_name(tmp_path):
    assert succeed("lnq", "crop", "--version").out == f"lnq-crop {lnqtools.__version__}\n"
    assert succeed("lnq", "lnq-crop", "--help").out == succeed("lnq-crop", "--help").out
    made = succeed("lnq", "phantom", "-n", 1, "--profile", "easy", "-O", tmp_path, "-q")
    assert made.lines == [str(tmp_path / "ct" / "phantom0-0000.nii.gz")]
    failed = run("lnq", "crop", tmp_path / "none.nii.gz", "-O", tmp_path / "out")
    assert (failed.status, failed.out) == (1, "")
    assert failed.err.startswith("lnq-crop: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["croop"], "there is no tool croop; lnq alone lists them"),
        (["--json", "crop"], "--json and --completion are not for crop"),
        (["--completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["--jsn"], "No such option"),
    ],
)
def test_what_is_no_tool_is_refused(arguments, sentence):
    done = run("lnq", *arguments)
    assert (done.status, done.out) == (2, "")
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


def test_json_says_what_is_there():
    said = json.loads(succeed("lnq", "--json").out)
    assert said["version"] == lnqtools.__version__
    assert said["tools"] == TOOLS
    assert said["extras"]["nnunet"] is True
    assert said["packages"]["click"]
    assert said["devices"][0] == "cpu"
    assert {"paper", "smoke"} <= set(said["recipes"])
    assert [len(said["structures"][version]) for version in ("v1", "v2")] == [104, 117]
    assert said["structures"]["v2"][0] == "spleen"


# Completion


def test_the_files_are_those_that_click_makes():
    pinned = re.search(r"^click==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    if version("click") != pinned[1]:
        pytest.skip(f"they are made with click {pinned[1]}; each version words them its own way")
    folder = ROOT / "completions"
    there = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert there == completion_files()


def test_the_files_are_installed_where_shells_look():
    share = Path(sys.prefix, "share")
    assert (share / "bash-completion" / "completions" / "lnq-crop").is_file()
    assert (share / "zsh" / "site-functions" / "_lnq-crop").is_file()
    assert (share / "fish" / "vendor_completions.d" / "lnq-crop.fish").is_file()


IN_SHELL = {
    "bash": """
        source FOLDER/bash/lnq-crop
        COMP_WORDS=(lnq-crop --lu) COMP_CWORD=1
        _lnq_crop_completion lnq-crop
        echo "${COMPREPLY[@]}"
    """,
    "fish": """
        source FOLDER/fish/lnq-crop.fish
        complete --do-complete 'lnq-crop --lu'
    """,
    "zsh": """
        autoload -U compinit && compinit -u -D
        source FOLDER/zsh/_lnq-crop
        compadd() { print -l -- ${(P)${@[-1]}} }
        _describe() { local found=($(print -l -- ${(P)${@[-2]}})); print -l -- $found }
        words=(lnq-crop --lu) CURRENT=2
        _lnq_crop_completion
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_options(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    program = IN_SHELL[shell].replace("FOLDER", str(ROOT / "completions"))
    unconfigured = ["-f"] if shell == "zsh" else []
    done = subprocess.run(
        [shell, *unconfigured, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        check=False,
    )
    assert "--lungs" in done.stdout, done.stderr
    assert "--margin" not in done.stdout
