"""TotalSegmentator for a batch against a start of it for each CT, on stand-ins for the weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from bench.harness import Comparison, compared


def anatomy(folder: Path, cases: int) -> Comparison:
    """Compare a process for all cases with one for each, on stand-ins for the weights."""
    from lnqtools.images.volume import Volume, read_volume, write_volume
    from lnqtools.phantom import make_phantom
    from tests.totalseg_data import write_surrogate_weights

    programs, folder = Path(sys.executable).parent, folder / f"anatomy-{cases}"
    write_surrogate_weights(folder / "weights", [297])
    settings = {"totalseg_id": "", "send_usage_stats": False, "prediction_counter": 0}
    shown = {"statistics_disclaimer_shown": True}
    (folder / "config.json").write_text(json.dumps(settings | shown))
    home = {"TOTALSEG_HOME_DIR": str(folder), "TOTALSEG_WEIGHTS_PATH": str(folder / "weights")}
    for name in ("ct", "theirs"):
        (folder / name).mkdir()
    names = [f"{case}.nii.gz" for case in range(cases)]
    for case, name in enumerate(names):
        phantom = make_phantom(0, case)
        write_volume(Volume(phantom.ct, phantom.grid), folder / "ct" / name)

    def run(program: str, *arguments: str | Path) -> None:
        command = [programs / program, *arguments]
        subprocess.run(command, env={**os.environ, **home}, capture_output=True, check=True)

    def ours() -> list[Path]:
        cts = [folder / "ct" / name for name in names]
        run("lnq-anatomy", *cts, "-O", folder / "ours", "-f", "--fast", "--device", "cpu")
        return [folder / "ours" / name for name in names]

    def a_start_for_each_case() -> list[Path]:
        for name in names:
            places = ("-i", folder / "ct" / name, "-o", folder / "theirs" / name)
            run("TotalSegmentator", *places, "--ml", "-f", "-d", "cpu", "-ns", "1", "-q")
        return [folder / "theirs" / name for name in names]

    def same(a: list[Path], b: list[Path]) -> bool:
        maps = [[read_volume(path).array for path in paths] for paths in (a, b)]
        return all(x.any() and np.array_equal(x, y) for x, y in zip(*maps, strict=True))

    return Comparison(
        f"anatomy of small CTs (n = {cases}), TotalSegmentator --fast on stand-in weights",
        ours,
        {"TotalSegmentator, started for each": a_start_for_each_case},
        same,
        rounds=3,
    )


BENCHMARKS = {f"anatomy-{cases}": compared(partial(anatomy, cases=cases)) for cases in (1, 4, 8)}
