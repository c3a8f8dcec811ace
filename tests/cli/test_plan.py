"""The plan of a run: names, outputs, and what collides."""

import os
from pathlib import Path

import pytest

from lnqtools.cli._plan import _real_paths


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
