"""What no tool shows by itself of the batch contract: other processes, and other versions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lnqtools.cli._case import Case, Rules
from lnqtools.cli._making import Making
from lnqtools.cli._plan import IMAGE, Planned
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume, read_volume, write_volume

GRID = Grid((1, 1, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


@pytest.mark.parametrize(
    ("skip", "then", "sentence"),
    [
        (False, 1, "out.nii exists: another process made it meanwhile"),
        (True, 2, "out.nii was made with --n 2, now 1: another process made it meanwhile"),
        (True, 1, None),
    ],
)
def test_what_another_process_made_meanwhile_stays(tmp_path, skip, then, sentence):
    target = str(tmp_path / "out.nii")
    planned = Planned("a", "a.nii", {IMAGE: target})
    other = Case(planned, Rules(making=Making("lnq-x", {"n": then})))
    assert other.write(Volume(np.array([[[1, 2]]], np.uint8), GRID))
    before = Path(target).read_bytes()
    case = Case(planned, Rules(making=Making("lnq-x", {"n": 1}), skip=skip))
    volume = Volume(np.array([[[3, 4]]], np.uint8), GRID)
    if sentence is None:
        assert case.write(volume) is False
    else:
        with pytest.raises(LnqError, match=re.escape(sentence)):
            case.write(volume)
    assert Path(target).read_bytes() == before


def test_force_replaces_what_another_process_made_meanwhile(tmp_path):
    target = str(tmp_path / "out.nii")
    case = Case(Planned("a", "a.nii", {IMAGE: target}), Rules(making=Making("lnq-x"), force=True))
    assert case.why_not() is None
    Path(target).write_bytes(b"made meanwhile")
    assert case.write(Volume(np.array([[[3, 4]]], np.uint8), GRID))
    assert Path(target).read_bytes().endswith(b"\3\4")


# Records of other versions


def kept(tmp_path, then: dict, now: Making, source: str = "a.nii") -> str | None:
    """Say what is wrong with an output of a record, if anything."""
    target = tmp_path / "out.nii"
    write_volume(Volume(np.array([[[1, 2]]], np.uint8), GRID), target, {"tool": "lnq-x", **then})
    case = Case(Planned("a", source, {IMAGE: str(target)}), Rules(making=now, skip=True))
    why_not = case.why_not()
    assert case.kept == (why_not is None)
    return why_not and why_not.removeprefix(f"{target} exists and ")


CHANGED = "was made with --new unset, now 3; -f replaces it"


@pytest.mark.parametrize(
    ("then", "given", "error"),
    [
        ({"n": 1}, (), None),
        ({"n": 1}, ("new",), CHANGED),
        ({"n": 1, "new": 3}, ("new",), None),
        ({"n": 1, "new": 3}, (), None),
        ({"n": 1, "new": 4}, (), CHANGED.replace("unset", "4")),
        ({"n": 2}, (), "was made with --n 2, now 1; -f replaces it"),
        ({"n": 1, "gone": 5}, (), None),
    ],
)
def test_what_an_older_version_did_not_know_was_as_it_is_unless_somebody_says_otherwise(
    tmp_path, then, given, error
):
    now = Making("lnq-x", {"n": 1, "new": 3}, frozenset({"new"} - {*given}))
    assert kept(tmp_path, {"options": then}, now) == error


def test_an_option_that_is_no_more_is_compared_where_contents_are(tmp_path):
    source = tmp_path / "a.nii"
    write_volume(Volume(np.array([[[1, 2]]], np.uint8), GRID), source)
    made_from = {"input": read_volume(source).content}
    now = Making("lnq-x", {})
    assert kept(tmp_path, {"options": {}, "made_from": made_from}, now, str(source)) is None
    then = {"options": {"gone": 5}, "made_from": made_from}
    error = kept(tmp_path, then, now, str(source))
    assert error == "was made with --gone 5, now unset; -f replaces it"


@pytest.mark.parametrize("more", [{"n": "x"}, {"nothing": "x"}, {"input": {"a": 1}}, {"x": [[]]}])
def test_a_record_that_no_tool_wrote_does_no_harm(tmp_path, more):
    source = tmp_path / "a.nii"
    write_volume(Volume(np.array([[[1, 2]]], np.uint8), GRID), source)
    made_from = {"input": read_volume(source).content, **more}
    then = {"options": {"n": 1, "x": None}, "made_from": made_from}
    now = Making("lnq-x", {"n": 1, "x": None})
    error = kept(tmp_path, then, now, str(source))
    assert error == ("was made from another input; -f replaces it" if "input" in more else None)


def test_a_companion_of_an_impossible_name_is_an_error_of_its_case(tmp_path):
    source = tmp_path / "a.nii"
    write_volume(Volume(np.array([[[1, 2]]], np.uint8), GRID), source)
    place = "x" * 300
    made_from = {"input": read_volume(source).content, "like": "00000000-1"}
    now = Making("lnq-x", {"like": place})
    then = {"options": {"like": place}, "made_from": made_from}
    assert kept(tmp_path, then, now, str(source)) == f"{place}: File name too long"


def test_what_is_made_from_no_file_needs_no_content(tmp_path):
    target = tmp_path / "out.nii"
    write_volume(Volume(np.array([[[1, 2]]], np.uint8), GRID), target, {"tool": "lnq-x"})
    for of_files in (True, False):
        rules = Rules(making=Making("lnq-x"), skip=True, reads_files=of_files)
        case = Case(Planned("a", "a", {IMAGE: str(target)}), rules)
        assert (case.why_not(), case.kept, case.unproven) == (None, True, of_files)
