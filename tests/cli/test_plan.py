"""The plan of a run: names, outputs, and what collides."""

import os
import re
from pathlib import Path

import click
import pytest

from lnqtools.cli._contract import _folders_opened
from lnqtools.cli._names import MANY_NAMES
from lnqtools.cli._plan import _real_paths, make_plan


@pytest.mark.parametrize(
    "path",
    [
        *("a.nii", "./a.nii", "in/../a.nii", "in/a.nii", "link/a.nii", "in/link.nii", "loop", ""),
        *("link/link.nii", "nowhere/a.nii", "in/.", "in/..", "in/", "/", ".", "..", "-", "//in/a"),
        *("in/dangling", "in//a.nii", "link/../a.nii"),
    ],
)
def test_a_path_leads_where_the_system_says(path, tmp_path, monkeypatch):
    (tmp_path / "here" / "in").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("link").symlink_to("../elsewhere/deep")
    Path("loop").symlink_to("loop")
    Path("in/link.nii").symlink_to("../../elsewhere/a.nii")
    (tmp_path / "elsewhere" / "deep" / "link.nii").symlink_to("../in/link.nii")
    Path("in/dangling").symlink_to("gone")
    real_path = _real_paths()
    for _ in range(2):
        assert real_path(path) == os.path.realpath(path)


def looked_at(monkeypatch) -> list[str]:
    """Return a list of the paths that are looked at from now on."""
    seen: list[str] = []
    plain = os.path.islink

    def islink(path):
        seen.append(path)
        return plain(path)

    monkeypatch.setattr(os.path, "islink", islink)
    return seen


def test_inputs_of_other_shards_are_not_looked_at_where_names_differ(tmp_path, monkeypatch):
    others = [str(tmp_path / f"{n}.nii") for n in range(1000)]
    folders = {"image": str(tmp_path / "out"), "probability": str(tmp_path / "p")}
    seen = looked_at(monkeypatch)
    plan = make_plan([str(tmp_path / "own.nii")], others, folders=folders)
    assert {Path(path).name for path in seen} == {"own.nii", "own.nii.gz"}
    assert plan.elsewhere[7] == (others[7], "7")


def test_folders_of_other_shards_are_not_looked_at_again(tmp_path, monkeypatch):
    """As when a run is taken up: whether an input is a link, and no more."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "own.nii.gz").touch()
    others = [str(tmp_path / f"{n}.nii") for n in range(1000)]
    folders = []
    monkeypatch.setattr(os.path, "realpath", lambda path: folders.append(path) or path)
    make_plan([str(tmp_path / "own.nii")], others, folders={"image": str(tmp_path / "out")})
    assert len(folders) <= 2


def test_of_two_folders_one_may_be_new(tmp_path):
    """As when maps of probability are asked for where masks are there already."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "own.nii.gz").touch()
    folders = {"image": str(tmp_path / "out"), "probability": str(tmp_path / "new")}
    plan = make_plan(["in/own.nii"], ["in/other.nii"], folders=folders)
    assert plan.cases[0].targets == [f"{folder}/own.nii.gz" for folder in folders.values()]


@pytest.mark.parametrize("kind", ["input", "link"])
def test_an_output_that_is_there_may_be_an_input_of_another_shard(kind, tmp_path):
    """By its own name, or by that of a link to it."""
    (tmp_path / "out").mkdir()
    made = tmp_path / "out" / "a_0000.nii.gz"
    made.touch()
    (tmp_path / "link.nii.gz").symlink_to(made)
    other = {"input": made, "link": tmp_path / "link.nii.gz"}[kind]
    own = str(tmp_path / "in" / "a_0000_0000.nii.gz")
    with pytest.raises(click.UsageError, match=r"a_0000.nii.gz is an input and would be over"):
        make_plan([own], [str(other)], folders={"image": str(tmp_path / "out")})


@pytest.mark.parametrize("folder", ["", "in/", "{here}/in/"])
def test_a_link_among_many_inputs_in_few_folders_is_seen(folder, tmp_path, monkeypatch):
    """There the folders are looked through, and not each input."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("in").mkdir()
    Path("out/own.nii.gz").touch()
    folder = folder.format(here=tmp_path)
    others = [f"{folder}{n}.nii" for n in range(100)]
    for other in others:
        Path(other).touch()
    seen = looked_at(monkeypatch)
    make_plan(["in/own.nii"], others, folders={"image": "out"})
    assert len(seen) < 50
    Path(others[50]).unlink()
    Path(others[50]).symlink_to(tmp_path / "out" / "own.nii.gz")
    with pytest.raises(click.UsageError, match=r"own.nii.gz is an input and would be over"):
        make_plan(["in/own.nii"], others, folders={"image": "out"})


def test_outputs_of_two_shards_that_are_one_file_by_a_link_are_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.nii.gz").touch()
    (out / "a.nii.gz").symlink_to("b.nii.gz")
    with pytest.raises(click.UsageError, match="would both write"):
        make_plan(["in/a.nii"], ["in/b.nii"], folders={"image": str(out)})


@pytest.mark.parametrize("own_first", [True, False])
def test_names_that_are_alike_collide_across_shards(own_first):
    own, others = (["1/a.nii"], ["2/b.nii", "3/a.nii"])
    if not own_first:  # both in other shards
        own, others = ["2/b.nii"], ["1/a.nii", "3/a.nii"]
    with pytest.raises(click.UsageError, match=r"1/a.nii and 3/a.nii would both write"):
        make_plan(own, others, folders={"image": "out"})
    with pytest.raises(click.UsageError, match=r"1/a.nii and 3/a.nii are both named a"):
        make_plan(own, others)
    assert len(make_plan(own, others, same_names=True).elsewhere) == 2


def test_a_pattern_may_name_an_output_as_another_input_is_called():
    pattern = re.compile("([^/]+)/[^/]*$")
    with pytest.raises(click.UsageError, match=r"out/a.nii.gz is an input"):
        make_plan(["a/ct.nii"], ["out/a.nii.gz"], folders={"image": "out"}, pattern=pattern)


@pytest.mark.parametrize("files", [1, MANY_NAMES])
def test_a_folder_called_as_an_image_is_opened_like_any_other(files, tmp_path):
    """As some programs unpack case.nii.gz: a folder of this name with the file in it."""
    names = [f"{n:03}.nii" for n in range(files)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "case.nii").mkdir()
    (tmp_path / "case.nii" / "case.nii").touch()
    (tmp_path / "link.nii").symlink_to(tmp_path / "case.nii")
    given = [str(tmp_path / name) for name in (*names, "case.nii", "link.nii", "gone.nii")]
    found = [*given[:files], f"{given[files]}/case.nii", given[-1]]
    assert _folders_opened(given, None) == found
