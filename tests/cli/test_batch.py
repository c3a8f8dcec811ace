"""What no tool shows by itself of the batch contract: other processes at the same moment."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lnqtools.cli._batch import Batch, Case
from lnqtools.errors import LnqError
from lnqtools.grid import Grid
from lnqtools.volume import Volume

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
    case = Case("a", "a.nii", (target,))
    other = Batch("lnq-x", ["a.nii"], output=target, options={"n": then})
    assert other.write(case, Volume(np.array([[[1, 2]]], np.uint8), GRID))
    before = Path(target).read_bytes()
    batch = Batch("lnq-x", ["a.nii"], output=target, skip=skip, options={"n": 1})
    volume = Volume(np.array([[[3, 4]]], np.uint8), GRID)
    if sentence is None:
        assert batch.write(case, volume) is False
    else:
        with pytest.raises(LnqError, match=re.escape(sentence)):
            batch.write(case, volume)
    assert Path(target).read_bytes() == before


def test_force_replaces_what_another_process_made_meanwhile(tmp_path):
    target = str(tmp_path / "out.nii")
    batch = Batch("lnq-x", ["a.nii"], output=target, force=True)
    ((case, outcome),) = map(batch._planned, batch.cases)
    assert outcome is None
    Path(target).write_bytes(b"made meanwhile")
    assert batch.write(case, Volume(np.array([[[3, 4]]], np.uint8), GRID))
    assert Path(target).read_bytes().endswith(b"\3\4")
