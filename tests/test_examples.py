"""The demo: the whole chain with a real network, twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.helpers import rows_of
from tests.conftest import ROOT, shell


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of every image and every file of the model."""
    files = [*folder.rglob("*.nii.gz"), *(folder / "model").rglob("*.*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.slow
def test_the_demo_learns_and_does_no_work_twice(tmp_path):
    pytest.importorskip("nnunetv2")
    command = f"OMP_NUM_THREADS=1 '{ROOT / 'examples' / 'demo.sh'}' demo"
    done = shell(command, tmp_path)
    assert done.status == 0, done.err
    rows = rows_of((tmp_path / "demo" / "metrics.tsv").read_text())
    assert len(rows) == 4
    assert sum(float(row["dice"]) for row in rows) / 4 > 0.5
    before = stamps(tmp_path / "demo")
    assert len(before) > 80
    again = shell(command, tmp_path)
    assert again.status == 0, again.err
    assert "nothing to do" in again.err
    assert stamps(tmp_path / "demo") == before
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
