"""A little of the torture by faults, so that it is known to run, and its figures to be true."""

from __future__ import annotations

import pytest

from tests import suite
from torture import faults
from torture.tools import HEAVY, NOT_ALONE, Call, make_calls

TOOLS = ("lnq-filter-diameter", "lnq-stats")


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> list[Call]:
    return make_calls(tmp_path_factory.mktemp("inputs"), {*suite.TOOLS} - {*HEAVY})


@pytest.fixture(scope="module")
def known(calls, tmp_path_factory) -> list[faults.Known]:
    folder = tmp_path_factory.mktemp("faults")
    return [faults._undisturbed(call, folder / call.tool) for call in calls if call.tool in TOOLS]


def test_every_tool_and_command_of_dicom_is_put_through_it(calls):
    tools = {call.tool.split()[0] for call in calls}
    assert tools == {*suite.TOOLS} - {*HEAVY, *NOT_ALONE}
    of_dicom = {name for name in suite.COMMANDS if name.startswith("lnq-dicom ")}
    assert {call.tool for call in calls if call.tool.startswith("lnq-dicom")} == of_dicom


@pytest.mark.slow
@pytest.mark.parametrize("torture", ["_killed", "_full_disks", "_folder_removed"])
def test_nothing_is_lost_or_wrong(torture, known, tmp_path):
    for row in getattr(faults, torture)(known, tmp_path / "run", 0.04):
        assert row.wrong == ()


def test_what_is_wrong_is_seen(known, tmp_path):
    (one,) = (one for one in known if one.tool == "lnq-filter-diameter")
    place = one.fresh(tmp_path / "run", with_old=True)
    assert one.damaged(place, with_old=True) == []
    first, second, *_ = sorted(one.old)
    (place / "out" / first).write_bytes(b"part")
    (place / "out" / second).unlink()
    (place / "out" / ".x.tmp").write_bytes(b"part")
    assert one.damaged(place, with_old=True) == [f"{first} is damaged", f"{second} is gone"]
    wrong = one.after_all(place, "-s")
    assert wrong[0].startswith("-s ended with 1: ")
    assert f"{first} differs" in wrong
    assert "out/.x.tmp is left" in wrong


def test_a_tool_that_leaves_a_part_and_says_nothing_is_found(tmp_path):
    """A shell line stands for such a tool."""

    class Bad(Call):
        def line(self, *more: str) -> list[str]:
            return ["/bin/sh", "-c", "printf whole > out/x; : > out/.x.tmp"]

    known = faults._undisturbed(Bad("lnq-bad", (), ()), tmp_path / "bad")
    (row,) = faults._full_output([known], tmp_path / "run", 1)
    begin = "lnq-bad: standard output is /dev/full, try 0 at "
    assert all(sentence.startswith(begin) for sentence in row.wrong)
    assert [sentence.partition("%: ")[2] for sentence in row.wrong] == [
        "it said nothing of cannot write the results: No space left",
        "status 0",
        "out/.x.tmp is left",
    ]
