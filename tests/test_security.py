"""What SECURITY.md promises, as far as it is quick to see; ``make torture`` has the rest."""

from __future__ import annotations

import ast
import os
import pickle
import re
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lnqtools.cli._tool import show_traceback
from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_folder, atomic_output, temporary_suffix
from lnqtools.nnunet.checkpoint import load_plain_pickle
from lnqtools.nnunet.dataset import InvalidCasesError, TrainingCase, survey_cases
from lnqtools.nnunet.environment import compiler_cache
from lnqtools.nnunet.model_folder import open_model
from tests.conftest import ROOT, run, save, succeed
from tests.every_tool import (
    CONTROL,
    HOSTILE,
    NOT_TEXT,
    Call,
    Ended,
    anatomy_call,
    begin,
    hostile_cohort,
    light_calls,
    network_calls,
    refuse_network,
    wrong_with,
)
from tests.nnunet_data import Trap
from tests.suite import COMMANDS
from torture.security import UMASK, on_terminal

NAMES = (*HOSTILE, NOT_TEXT)
CALLS = light_calls(NAMES, HOSTILE[0])


# The network


def test_a_call_to_another_machine_would_be_noticed(tmp_path):
    variables, place = refuse_network(tmp_path)
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), 1)\nexcept OSError: pass"
    environment = {**os.environ, **variables}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    watched, tried = place.read_text().splitlines()
    assert watched == "watched"
    assert tried.startswith("socket.getaddrinfo by ")


def test_no_help_asks_for_the_network(tmp_path):
    variables, place = refuse_network(tmp_path)
    for name in COMMANDS:
        tool, *inner = name.split()
        ended = begin(Call(tool, (*inner, "--help")), tmp_path, variables)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith(f"Usage: {name} ".encode())
    assert place.read_text().splitlines() == ["watched"] * len(COMMANDS)


# Names


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Path, list[Ended], str]:
    """Make every call on hostile names, with the network refused; return what came of it."""
    folder = tmp_path_factory.mktemp("hostile")
    variables, place = refuse_network(folder)
    cohort = hostile_cohort(folder / "cohort", NAMES)
    ended = [begin(call, cohort, variables) for call in CALLS]
    return cohort, ended, place.read_text()


@pytest.mark.parametrize("number", range(len(CALLS)), ids=[call.tool for call in CALLS])
def test_no_name_is_a_command_an_option_or_a_terminals_code(hostile, number):
    cohort, ended, _ = hostile
    assert wrong_with(CALLS[number], ended[number], cohort) == []


def test_no_tool_asked_for_the_network(hostile):
    noted = hostile[2].splitlines()
    assert len(noted) >= len(CALLS)
    assert {*noted} == {"watched"}


@pytest.mark.slow
def test_no_tool_that_runs_a_network_asked_for_one(surrogate_weights, tmp_path):
    pytest.importorskip("nnunetv2")
    (tmp_path / "home").mkdir()
    variables, place = refuse_network(tmp_path)
    variables |= {
        "TOTALSEG_WEIGHTS_PATH": str(surrogate_weights),
        "TOTALSEG_HOME_DIR": str(tmp_path / "home"),
    }
    cohort = hostile_cohort(tmp_path / "cohort", ["a", "b"])
    calls = [*network_calls(["a", "b"]), anatomy_call(["a", "b"])]
    assert [call.tool for call in calls] == ["lnq-train", "lnq-infer", "lnq-anatomy"]
    for call in calls:
        assert wrong_with(call, begin(call, cohort, variables), cohort) == []
    noted = place.read_text().splitlines()
    assert len(noted) > len(calls)  # TotalSegmentator's own process, too
    assert {*noted} == {"watched"}


def test_tables_hold_names_as_they_are(hostile):
    """A name that a spreadsheet takes for a formula too: SECURITY.md says so."""
    text = (hostile[0] / "out" / "m.csv").read_bytes()
    for name in HOSTILE:
        quoted = f'"{name.replace(chr(34), chr(34) * 2)}"' if re.search('[",\r\n]', name) else name
        assert b"\n" + os.fsencode(quoted) + b",ok," in text.replace(b"\r\n", b"\n"), name


def test_a_training_refuses_names_that_its_files_cannot_have(tmp_path):
    array = np.ones((8, 8, 8), np.uint8)
    image, label = (save(tmp_path / kind / f"{NOT_TEXT}.nii.gz", array) for kind in "ab")
    with pytest.raises(InvalidCasesError) as caught:
        survey_cases([TrainingCase(NOT_TEXT, image, label)])
    sentence = "nnU-Net cannot name files after it: it is not UTF-8"
    assert caught.value.problems == ((image, sentence),)


def test_a_terminal_gets_names_as_escapes_and_a_pipe_their_bytes(tmp_path):
    name = "a\x1b]0;owned\x07b\nc\td"
    save(tmp_path / f"{name}.nii.gz", np.ones((2, 3, 4), np.uint8))
    (tmp_path / f"{name}2.nii.gz").write_bytes(b"no image")
    paths = (f"{name}.nii.gz", f"{name}2.nii.gz")
    call = Call("lnq-weaklabel", ("-0", "-T", "-", "--strategy", "full", "-O", "out"), paths)
    shown = on_terminal(call, tmp_path)
    assert r"out/a\x1b]0;owned\x07b\nc\td.nii.gz" in shown
    assert r"lnq-weaklabel: a\x1b]0;owned\x07b\nc\td2.nii.gz: " in shown
    assert CONTROL & {*shown} == set()
    piped = run(
        "lnq-weaklabel", tmp_path / paths[0], "--strategy", "full", "-O", tmp_path / "o", "-0"
    )
    assert piped.out == f"{tmp_path}/o/{name}.nii.gz\0"


def test_a_table_on_a_terminal_keeps_its_tabs_and_lines(tmp_path):
    save(tmp_path / "a\x1bb.nii.gz", np.ones((2, 3, 4), np.uint8))
    call = Call("lnq-filter-diameter", ("-0", "-T", "-", "--list"), ("a\x1bb.nii.gz",))
    head, row = on_terminal(call, tmp_path).splitlines()
    assert head.startswith("case\t")
    assert row.startswith("a\\x1bb\t")
    recipe = succeed("lnq-train", "--show-recipe", "--recipe", "smoke").out
    assert (
        on_terminal(Call("lnq-train", ("--show-recipe", "--recipe", "smoke")), tmp_path) == recipe
    )


def test_a_traceback_cannot_drive_a_terminal(capsys):
    show_traceback('Traceback:\n  File "a\x1b[2Jb"\nValueError: c\rd\n')
    assert capsys.readouterr().err == 'Traceback:\n  File "a\\x1b[2Jb"\nValueError: c\nd\n'


# Data


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_prepared_cases_are_plain_values_and_arrays(protocol, tmp_path):
    content = {
        "spacing": (1.0, np.float64(2.5)),
        "class_locations": {1: np.arange(8, dtype=np.int32).reshape(2, 4), 2: []},
        "name": "a",
    }
    path = tmp_path / "case.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    read = load_plain_pickle(path)
    np.testing.assert_array_equal(
        read["class_locations"].pop(1), content["class_locations"].pop(1), strict=True
    )
    assert read == content


def test_a_prepared_case_cannot_run_code(tmp_path):
    trap, path = tmp_path / "made by the pickle", tmp_path / "case.pkl"
    path.write_bytes(pickle.dumps({"spacing": Trap(trap)}))
    with pytest.raises(LnqError, match=r"names posix\.mkdir: do not trust it"):
        load_plain_pickle(path)
    assert not trap.exists()


def test_a_training_reads_prepared_cases_that_way():
    pytest.importorskip("nnunetv2")
    from nnunetv2.training.dataloading import nnunet_dataset

    import lnqtools.nnunet.trainer  # noqa: F401  it says so

    assert nnunet_dataset.load_pickle is load_plain_pickle


@pytest.mark.parametrize("name", ["m/plans.json", "m/fold_0/checkpoint_final.pth"])
def test_an_archive_that_grows_as_no_model_does_is_refused(name, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    for megabytes, refused in ((60, False), (70, True)):
        with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr(name, bytes(megabytes << 20))
        if refused:
            with pytest.raises(LnqError, match=r"0\.1 GB from 0\.1 MB, as no model does"):
                open_model(tmp_path / "m.zip").__enter__()
        else:
            with open_model(tmp_path / "m.zip") as folder:
                assert (folder / name).stat().st_size == megabytes << 20
        assert list(scratch.iterdir()) == []


def test_a_size_that_an_archive_lies_about_is_not_exceeded(tmp_path):
    """Zeros are told to be four bytes: no more are unpacked, and the checksum tells."""
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("m/plans.json", bytes(1 << 20))
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.index(signature) + at
        content[place : place + 4] = (4).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(LnqError, match="nor a whole zip archive"), open_model(path):
        pass


READERS = r"""
    (yaml|pickle|dill|cloudpickle|joblib|marshal|shelve|runpy)(\..*)?     # as modules
    | eval | exec | os\.(system|popen|exec\w+|spawn\w+) | subprocess\.get(status)?output
    | (.*\.)?(extractall|unpack_archive) | .*torch\.(load|jit\.load|hub\..*)
    | importlib\.import_module | import_module | __import__
"""
"""What may run code from the data that it is given."""
ALLOWED = {
    ("lnqtools/nnunet/checkpoint.py", "pickle"),
    ("lnqtools/nnunet/checkpoint.py", "pickle.Unpickler"),
    ("lnqtools/nnunet/checkpoint.py", "pickle.UnpicklingError"),
    ("lnqtools/nnunet/checkpoint.py", "torch.load"),
    ("lnqtools/nnunet/checkpoint.py", "importlib.import_module"),
    ("lnqtools/nnunet/checkpoint.py", "import_module"),
    ("lnqtools/__init__.py", "importlib.import_module"),
    ("lnqtools/__init__.py", "import_module"),
    ("lnqtools/cli/lnq.py", "importlib.import_module"),
    ("lnqtools/cli/lnq.py", "import_module"),
    ("lnqtools/cli/report.py", "importlib.import_module"),
    ("lnqtools/cli/report.py", "import_module"),
    ("lnqtools/dicom/packages.py", "importlib.import_module"),
}
"""Only checkpoints are read as pickles, and plain values alone taken of them; the package imports
its own modules, by a table of names or, of tools that an image names, from `lnqtools.cli` alone,
and pydicom.
"""


def names_in_code(text: str) -> set[str]:
    """Return the modules and the dotted names that code uses, and ``KEYWORD=True`` of its calls."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Name | ast.Attribute):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(f"{node.arg}={ast.unparse(node.value)}")
    return found


def runs_data(text: str) -> set[str]:
    """Return the names in code that may run what they read."""
    more = re.compile(f"{READERS} | shell=(?!False).* | allow_pickle=(?!False).*", re.VERBOSE)
    return {name for name in names_in_code(text) if more.fullmatch(name)}


@pytest.mark.parametrize(
    "code",
    [
        *("import yaml", "from yaml import load", "import pickle as p", "eval(x)", "exec(x)"),
        *("os.system(x)", "run(x, shell=True)", "archive.extractall(x)", "torch.load(x)"),
        *("np.load(x, allow_pickle=True)", "self.torch.load(x)", "import_module(x)"),
    ],
)
def test_code_that_may_run_data_is_seen(code):
    assert runs_data(code)


def test_no_code_may_run_data_but_where_checkpoints_are_read():
    sources = sorted((ROOT / "lnqtools").rglob("*.py"))
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in sources
        for name in runs_data(path.read_text())
    }
    assert found == ALLOWED


# Other users of the machine


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o077, 0o600, 0o700)])
def test_the_umask_rules_all_that_is_written(umask, file_mode, folder_mode, tmp_path):
    """Tables, pictures and pages; tests/images/test_volume.py has the images."""
    cohort = hostile_cohort(tmp_path / "cohort", ["a", "b"])
    wanted = {"lnq-crop", "lnq-metrics", "lnq-threshold", "lnq-report"}
    before = (sys.executable, "-c", UMASK, str(umask))
    for call in light_calls(["a", "b"]):
        if call.tool in wanted:
            assert begin(call, cohort, before=before).status == 0
    made = list((cohort / "out").rglob("*"))
    assert len(made) > 10
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in made}
    assert modes == {(True, folder_mode), (False, file_mode)}


def test_a_folders_group_is_handed_on(tmp_path):
    groups = [12345] if os.geteuid() == 0 else [g for g in os.getgroups() if g != os.getegid()]
    if not groups:
        pytest.skip("needs a second group")
    os.chown(tmp_path, -1, groups[0])
    tmp_path.chmod(0o2770)
    for _ in range(2):
        with atomic_output(tmp_path / "file") as raw:
            raw.write(b"x")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("x")
    made = list(tmp_path.rglob("*"))
    assert sorted(path.name for path in made) == ["file", "folder", "inside"]
    assert {path.stat().st_gid for path in made} == {groups[0]}


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    planted = tmp_path / f".x{temporary_suffix()}"
    planted.symlink_to(victim)
    with atomic_output(tmp_path / "x") as raw:
        raw.write(b"new")
        assert not planted.is_symlink()
    assert victim.read_text() == "mine"
    assert (tmp_path / "x").read_bytes() == b"new"
    assert not (tmp_path / "x").is_symlink()


def test_what_cannot_be_moved_out_of_the_way_is_said(tmp_path, monkeypatch):
    planted = tmp_path / f".x{temporary_suffix()}"
    planted.write_text("another user's, in a sticky folder")
    monkeypatch.setattr("lnqtools.files.atomic._remove", lambda path: None)
    with pytest.raises(LnqError, match="is in the way, and cannot be removed"):
        atomic_output(tmp_path / "x").__enter__()
    assert planted.read_text().startswith("another")


def test_what_a_killed_run_of_this_number_left_is_replaced(tmp_path):
    """In a container, each run may have the number of one before."""
    for name in ("file", "folder"):
        left = tmp_path / f".{name}{temporary_suffix()}"
        left.mkdir()
        (left / "half").write_text("half")
    with atomic_output(tmp_path / "file") as raw:
        raw.write(b"x")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("x")
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert made == ["file", "folder", "folder/inside"]


def test_torchs_compiler_gets_a_private_folder_that_goes_again(tmp_path, monkeypatch):
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(name, raising=False)
    with compiler_cache():
        (folder,) = tmp_path.iterdir()
        assert os.environ[name] == str(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == []
    assert name not in os.environ
    monkeypatch.setenv(name, "mine")
    with compiler_cache():
        assert os.environ[name] == "mine"
    assert list(tmp_path.iterdir()) == []


def test_a_model_leaves_nothing_in_the_folder_for_temporary_files(tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2")
    from tests.nnunet_data import random_model

    model = random_model(tmp_path / "model")
    save(tmp_path / "a.nii.gz", np.zeros((20, 20, 20), np.int16))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    options = ("-m", model, "--lungs", "none", "--no-mirror", "-o", tmp_path / "out.nii.gz")
    succeed("lnq-infer", tmp_path / "a.nii.gz", "--trust-hu", *options)
    assert list((tmp_path / "scratch").iterdir()) == []


# SECURITY.md


def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test_that_there_is():
    text = (ROOT / "SECURITY.md").read_text()
    promises = text.partition("\n## Promised")[2].partition("\n## ")[0]
    items = promises.split("\n- ")[1:]
    assert len(items) >= 6
    for item in items:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", item)
        assert named, f"no test is named: {item[:60]}"
        for file, function in named:
            assert (ROOT / file).is_file(), file
            assert not function or function in functions_of(ROOT / file), f"{file}::{function}"
