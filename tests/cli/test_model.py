"""lnq-model: its commands as installed, and models by their names in lnq-infer and lnq-train."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests import conftest
from tests.cli.cohort import make_cohort
from tests.cli.helpers import QUIETLY_BY_SIGPIPE, end_without_reader
from tests.conftest import BIN, Result
from tests.models_data import mirror_of, pack, served, write_catalogue, write_stand_in

VARIABLES: dict[str, str] = {}
TERMS = "license: CC0; do not test on my cases"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Keep models in the test's folder, whose name has a space."""
    folder = tmp_path / "my models"
    monkeypatch.setitem(VARIABLES, "LNQ_MODELS", str(folder))
    return folder


run = partial(conftest.run, variables=VARIABLES)
succeed = partial(conftest.succeed, variables=VARIABLES)


@pytest.fixture
def catalogue(tmp_path) -> Path:
    """Return the catalogue of a model in two archives."""
    folder = tmp_path / "published"
    model = write_stand_in(folder / "model", folds=1)
    checkpoint = "fold_0/checkpoint_final.pth"
    archives = [pack(folder / "a.zip", model, "plans.json", "dataset.json")]
    archives.append(pack(folder / "b.zip", model, checkpoint))
    more = {"license": "CC0", "do_not_test_on": "my cases", "title": "nodes", "channels": ["CT"]}
    return write_catalogue(folder / "c.json", *map(served, archives), **more)


def table(result: Result) -> dict[str, list[str]]:
    head, *rows = [line.split("\t") for line in result.lines]
    assert head == ["name", "version", "license", "mb", "state", "title"]
    return {row[0]: row[1:] for row in rows}


def test_a_model_is_listed_shown_fetched_and_verified(catalogue, place):
    given = ("--catalogue", catalogue)
    assert table(succeed("lnq-model", "list"))["mediastinal-v1"] == [
        *("1.0.0", "CC BY-NC 4.0", "4077.7", "not fetched", "lymph nodes of the mediastinum in CT")
    ]
    listed = table(succeed("lnq-model", "list", *given))
    assert list(listed)[:2] == ["nodes", "mediastinal-v1"]
    assert listed["nodes"] == ["1.0", "CC0", "0.0", "not fetched", "nodes"]
    assert not place.exists()

    fetched = succeed("lnq-model", "fetch", "nodes", *given)
    assert (fetched.lines, fetched.err) == (
        [str(place / "nodes")],
        f"lnq-model: nodes 1.0: {TERMS}\n",
    )
    again = succeed("lnq-model", "fetch", "nodes", "-q")  # its entry came with it
    assert (again.lines, again.err) == ([str(place / "nodes")], "")
    assert table(succeed("lnq-model", "list"))["nodes"][3] == "fetched"
    assert succeed("lnq-model", "verify").lines == [str(place / "nodes")]

    lines = succeed("lnq-model", "info", "nodes", "mediastinal-v1").lines
    nodes, other = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert {"license: CC0", "do not test on: my cases", "state: fetched"} < {*nodes}
    assert f"folder: {place / 'nodes'}" in nodes
    assert [line.split(", ")[1] for line in nodes if line.startswith("file: ")] == [
        f"{(catalogue.parent / name).stat().st_size} bytes" for name in ("a.zip", "b.zip")
    ]
    assert {"license: CC BY-NC 4.0", "citation: not stated", "state: not fetched"} < {*other}


def test_a_damaged_one_is_refused_by_all_and_repaired(catalogue, place):
    with mirror_of(catalogue.parent) as mirror:
        url = mirror.url("c.json")
        succeed("lnq-model", "fetch", "nodes", "--catalogue", url)
        path = place / "nodes" / "fold_0" / "checkpoint_final.pth"
        path.write_bytes(path.read_bytes()[:-1])
        flaw = "fold_0/checkpoint_final.pth has 2999 bytes instead of 3000"
        said = f"{place / 'nodes'}: {flaw}: lnq-model fetch nodes repairs it\n"
        assert table(succeed("lnq-model", "list"))["nodes"][3] == "damaged"
        for call in (
            ("lnq-model", "verify", "nodes"),
            ("lnq-infer", "x.nii.gz", "-m", "nodes", "-o", "y.nii.gz"),
            *[("lnq-train", "--images", "a", "--labels", "b", "-m", "m", "--init", "nodes")],
        ):
            refused = run(*call)
            assert (refused.status, refused.out, refused.err) == (1, "", f"{call[0]}: {said}")
        mirror.asked.clear()
        succeed("lnq-model", "fetch", "nodes")
        assert [path for path, _ in mirror.asked] == ["/b.zip"]
    assert succeed("lnq-model", "verify", "nodes").lines == [str(place / "nodes")]


def test_the_catalogue_decides_what_is_right(catalogue, place):
    succeed("lnq-model", "fetch", "nodes", "--catalogue", catalogue)
    other = write_catalogue(catalogue.with_name("d.json"), served(catalogue.with_name("a.zip")))
    refused = run("lnq-model", "verify", "nodes", "--catalogue", other)
    assert refused.status == 1
    assert f"and {other} has other files for nodes 1.0: lnq-model fetch -f nodes" in refused.err
    listed = table(succeed("lnq-model", "list", "--catalogue", other))
    assert listed["nodes"][3] == "another fetched: 1.0"
    refused = run("lnq-model", "fetch", "nodes", "--catalogue", other)
    assert (refused.status, "-f replaces it" in refused.err) == (1, True)


def test_unknown_names_are_one_line_that_says_what_to_do(place):
    asked = run("lnq-model", "fetch", "nodes")
    assert asked.status == 2
    assert asked.err.startswith("lnq-model: no catalogue has a model nodes: lnq-model list shows")
    to_do = {
        "axillary-v1": "the model of that name was not fetched: lnq-model fetch axillary-v1",
        "nodes": "no fetched model has that name: lnq-model list shows those there are",
    }
    for name, words in to_do.items():
        refused = run("lnq-infer", "x.nii.gz", "-m", name, "-o", "y.nii.gz")
        assert refused.status == 1
        assert refused.err.startswith(f"lnq-infer: {name}: ")
        assert refused.err.endswith(f"{words}\n")
        assert refused.err.count("\n") == 1
    assert run("lnq-model", "verify").status == 2
    assert run("lnq-model", "fetch").status == 2
    assert not place.exists()


def test_one_that_cannot_be_fetched_does_not_stop_the_others(catalogue, place, tmp_path):
    shown = write_catalogue(tmp_path / "shown.json", name="shown", source="https://a.org")
    given = ("--catalogue", shown, "--catalogue", catalogue)
    assert table(succeed("lnq-model", "list", *given))["shown"][3] == "no files known"
    fetched = run("lnq-model", "fetch", "shown", "nodes", *given)
    assert (fetched.status, fetched.lines) == (1, [str(place / "nodes")])
    reason = f"lnq-model: shown: {shown} does not say where its files are, so it can be shown, but"
    assert fetched.err.startswith(reason)
    assert (
        f"state: no files known: {shown} does" in succeed("lnq-model", "info", "shown", *given).out
    )


@pytest.mark.parametrize("place", ["there is none", "a folder", "a file"])
def test_a_catalogue_that_is_none_is_told(place, tmp_path):
    path = tmp_path / place
    if place == "a folder":
        path.mkdir()
    elif place == "a file":
        path.write_text("{}")
    refused = run("lnq-model", "list", "--catalogue", path)
    assert (refused.status, refused.out) == (1, "")
    words = {"there is none": "No such file", "a folder": "Is a directory", "a file": "no list of"}
    assert words[place] in refused.err
    assert refused.err.count("\n") == 1


def test_a_described_folder_is_fetched_from_beside_its_catalogue(catalogue, place):
    folder = catalogue.parent
    shutil.copytree(folder / "model", folder / "my model")
    made = succeed("lnq-model", "describe", "my model", "--name", "mine", cwd=folder)
    assert made.err == "lnq-model: for you to fill in: license, citation\n"
    (folder / "mine.json").write_text(made.out)
    with mirror_of(folder) as mirror:
        succeed("lnq-model", "fetch", "mine", "--catalogue", mirror.url("mine.json"))
    for path in (folder / "model").rglob("*.*"):
        assert (
            place / "mine" / path.relative_to(folder / "model")
        ).read_bytes() == path.read_bytes()
    (entry,) = json.loads(made.out)["models"]
    assert (entry["version"], entry["training_count"], len(entry["files"])) == ("1", 4, 3)


def test_a_folder_of_which_no_hashes_are_known_is_verified_by_itself(catalogue):
    folder = catalogue.parent / "model"
    verified = succeed("lnq-model", "verify", folder)
    assert verified.lines == [str(folder)]
    assert "no hashes are known of it: it is whole by its own checksums" in verified.err
    (folder / "plans.json").unlink()
    refused = run("lnq-model", "verify", folder)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == f"lnq-model: {folder}: plans.json is missing in the model folder\n"


def test_a_model_of_ours_is_verified_by_the_hashes_of_its_record(catalogue):
    folder = catalogue.parent / "model"
    plans = folder / "plans.json"
    sums = {"plans.json": hashlib.sha256(plans.read_bytes()).hexdigest(), "gone.png": "0" * 64}
    made_with = {"cases": {}}
    record = {"made_with": made_with, "runs": [], "sha256": sums}
    (folder / "lnq-train.json").write_text(json.dumps(record))
    verified = succeed("lnq-model", "verify", folder)
    assert (verified.lines, verified.err) == ([str(folder)], "")
    plans.write_text(plans.read_text() + " ")
    refused = run("lnq-model", "verify", folder)
    assert (refused.status, refused.out) == (1, "")
    told = "plans.json is not the file that the training left (see lnq-train.json)"
    assert refused.err == f"lnq-model: {folder}: {told}\n"


def test_ctrl_c_leaves_what_the_next_run_goes_on_from(catalogue, place):
    with mirror_of(catalogue.parent) as mirror:
        mirror.limits["b.zip"], mirror.holds = 1000, True
        command = [BIN / "lnq-model", "fetch", "nodes", "--catalogue", mirror.url("c.json")]
        pipe = subprocess.PIPE
        variables = {**os.environ, **VARIABLES}
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=variables)
        while not mirror.holding.wait(0.05):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGINT
        assert said.decode().endswith("interrupted: the same command goes on\n")
        assert not (place / "nodes").exists()
        mirror.asked.clear()
        succeed("lnq-model", "fetch", "nodes", "--catalogue", mirror.url("c.json"))
        assert "/a.zip" not in [path for path, _ in mirror.asked]


def test_nobody_reads_the_list():
    assert end_without_reader("lnq-model", "list") == QUIETLY_BY_SIGPIPE


@pytest.mark.slow
def test_a_name_predicts_as_its_folder_does(model, place, tmp_path):
    cohort = make_cohort(tmp_path / "cohort")
    (tmp_path / "c.json").write_text(succeed("lnq-model", "describe", model).out)
    shutil.copytree(model, tmp_path / "model")
    succeed("lnq-model", "fetch", "model", "--catalogue", tmp_path / "c.json")
    made = []
    for given in ("model", model):
        call = (cohort / "ct" / "plain.nii.gz", "-m", given, "--no-mirror", "--threads", 1)
        target = tmp_path / f"{len(made)}.nii.gz"
        succeed("lnq-infer", *call, "--lungs", cohort / "lungs", "-o", target, cwd=place)
        made.append(target.read_bytes())
    assert made[0] == made[1]
    assert os.listdir(place) == ["model"]  # noqa: PTH208
