"""What many CTs cost: each step on full-size cases, and on 10, 100 and 1000 tiny ones.

scale: one call of each tool on eight phantoms of 512 × 512 voxels a slice. The network is a tiny
one, so that what is measured is what comes on top of a real one; what it predicts is noise, so that
the true nodes are filtered and measured instead.

growth-chain: the same steps on phantoms of about 40 × 40 × 40 voxels; the cost of a case and the
memory of a call should not depend on how many there are.

``python -m bench scale growth-chain`` measures; ``python -m bench.scale TABLE >bench/scale.md``
makes the page of its table (bench/results/scale.tsv is the last one).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.growth import grown
from bench.harness import Benchmark, Row
from bench.images import tool
from bench.memory import MB, Command, measure

CASES = 8
TINY = 20
"""Phantoms that stand for any number of tiny cases, by links."""
COUNTS = (10, 100, 1000)
SEED = 31


@dataclass(frozen=True)
class Step:
    """A step of the chain.

    Attributes
    ----------
    tool : str
        Its name without "lnq-".
    what : str
        What it does, if it stands in the chain twice.
    source : str
        Folder of its inputs.
    options : sequence
        Its options; words that begin with "folder/" are paths.
    output : str
        Folder or file of what it writes.
    """

    tool: str
    what: str
    source: str
    options: Sequence[str]
    output: str
    target: str = "-O"

    @property
    def title(self) -> str:
        """The step's name in tables."""
        return f"lnq-{self.tool}" + f" ({self.what})" * bool(self.what)

    def command(self, folder: Path, cases: Sequence[str]) -> Command:
        """Return its call on some cases."""
        inputs = [folder / self.source / f"{case}.nii.gz" for case in cases]
        options = [
            str(folder / word[7:]) if word.startswith("folder/") else word for word in self.options
        ]
        return tool(self.tool, *inputs, *options, self.target, folder / self.output)


CHAIN = (
    Step("crop", "to the lungs, from HU", "ct", (), "cropped"),
    Step("weaklabel", "coat", "weak", ("--strategy", "coat"), "coat"),
    Step("weaklabel", "mask", "weak", ("--strategy", "mask"), "drawn"),
    Step(
        "crop",
        "a label, to the CT's box",
        "drawn",
        ("--label", "--like", "folder/cropped"),
        "boxed",
    ),
    Step("pseudolabel", "", "boxed", ("--anatomy", "folder/anatomy"), "labels"),
    Step("infer", "with a tiny network", "ct", ("-m", "folder/model", "--no-mirror"), "predicted"),
    Step("filter-diameter", "", "truth", ("--min", "7"), "filtered"),
    Step("metrics", "", "filtered", ("--reference", "folder/truth"), "cases.tsv", "-o"),
    Step(
        "metrics",
        "of each node",
        "filtered",
        ("--reference", "folder/truth", "--lesions"),
        "lesions.tsv",
        "-o",
    ),
)


def full_size(folder: Path, rounds: int | None) -> Iterator[Row]:
    """Measure each step on full-size cases, and what a training does with each case."""
    from lnqtools.images.volume import read_grid

    phantoms = tool("phantom", "-n", CASES, "--seed", SEED, "--size", "full", "-j", 2, "-O", folder)
    cases = [Path(line).name.removesuffix(".nii.gz") for line in phantoms().decode().split()]
    slices = sum(read_grid(folder / "ct" / f"{case}.nii.gz").shape[0] for case in cases) / CASES
    note = f"{_written(folder / 'ct', CASES)}, 512 × 512 × {slices:.0f} voxels on average"
    yield Row("phantoms", f"{CASES} cases", note=note)
    _small_model(folder / "model", (6.0, 3.0, 3.0), (32, 64, 64))
    for step in CHAIN:
        command = step.command(folder, cases)
        times = [measure(command) for _ in range(rounds or 1)]
        cpus, walls = zip(*times, strict=True)
        note = _written(folder / step.output, CASES)
        yield Row(step.title, f"{CASES} cases", cpus, walls, command.with_peak()[1], note=note)
    yield from _training(folder, cases)


def _training(folder: Path, cases: Sequence[str]) -> Iterator[Row]:
    """Measure what lnq-train does before its first batch, by a training of one."""
    command = tool(
        *("train", "--images", folder / "cropped", "--labels", folder / "labels"),
        *("--recipe", "smoke", "--set", "epochs=1", "--set", "iterations=1"),
        *("--set", "validation_iterations=1", "--fold", "all", "--device", "cpu"),
        *("--keep-preprocessed", "-m", folder / "trained"),
    )
    cpu, wall = measure(command)
    note = _written(folder / "trained" / ".preprocessed", len(cases))
    peak_mb = command.with_peak()[1]
    name = "lnq-train (before the first batch)"
    yield Row(name, f"{len(cases)} cases", [cpu], [wall], peak_mb, note=note)


def tiny(folder: Path, rounds: int | None) -> Iterator[Row]:
    """Let the cases of each step grow in number."""
    made = folder / "made"
    tool("phantom", "-n", TINY, "--seed", SEED, "-j", 2, "-O", made)()
    for kind in ("ct", "weak", "truth", "anatomy"):
        files = sorted((made / kind).iterdir())
        options = ("--lungs", "none", "--spacing", 6, *["--label"] * (kind != "ct"))
        tool("crop", *files, *options, "-O", folder / f"coarse-{kind}")()
        (folder / kind).mkdir()
        for number in range(max(COUNTS)):
            target = folder / f"coarse-{kind}" / files[number % TINY].name
            (folder / kind / f"case{number:04}.nii.gz").symlink_to(target)
    _small_model(folder / "model", (6.0, 6.0, 6.0), (48, 48, 48))
    for step in CHAIN:
        commands = [
            step.command(folder, [f"case{number:04}" for number in range(count)])
            for count in COUNTS
        ]
        yield from grown(f"{step.title}, tiny cases", "cases", COUNTS, commands, rounds or 1)


def _small_model(folder: Path, spacing: tuple, patch: tuple) -> None:
    from tests.nnunet_data import random_model

    random_model(folder, spacing=spacing, patch=patch, eagerness=0.5)


def _written(place: Path, cases: int) -> str:
    """Return the bytes of a file, or of all files in a folder, as MB a case."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"{size / MB / cases:.3g} MB a case"


BENCHMARKS: dict[str, Benchmark] = {"scale": full_size, "growth-chain": tiny}


# The page

SIZES = (1_000, 100_000)
SHARD = 100
"""Cases of a job, as examples/ablation/config.yaml has it."""
TRAININGS, FOLDS, MIRRORS = 35, 5, 8
"""Seven models of five folds; the mean of the folds predicts, mirrored in every way."""
A100_HOURS = 9
"""A training on an A100, by nnU-Net's documentation (resenc_presets.md)."""
BATCHES, PATCHES = 1000 * 250, 2
"""Of such a training."""
LUNGS_MM = (240.0, 206.0, 291.0)
"""A box of lungs, z, y, x: 80 × 222 × 313 voxels at the paper's spacing."""

TEMPLATE = Path(__file__).with_name("scale.md.in")


def page(rows: Sequence[dict[str, str]], about: str) -> str:
    """Return the page of a table of this module's benchmarks."""
    steps = [row for row in rows if row["benchmark"] == "scale" and row["cpu_s"]]
    phantoms = next(row for row in rows if row["task"] == "phantoms")
    ct_mb, slices = _number(phantoms), phantoms["note"].partition(" × 512 × ")[2].split()[0]
    kinds = {
        "crops and labels of one kind": ("lnq-crop", "lnq-weaklabel", "lnq-pseudolabel"),
        "preprocessing, for each model": ("lnq-train",),
        "prediction but for the network, metrics": ("lnq-infer", "lnq-filter", "lnq-metrics"),
    }
    prepare_s = _cpu(next(row for row in steps if row["task"].startswith("lnq-train")))
    everything = sum(_cpu(row) for row in steps)
    written_mb = sum(map(_number, steps))
    patch, windows = _windows()
    passes = windows * FOLDS * MIRRORS
    predict = passes * A100_HOURS * 3600 / BATCHES / PATCHES / 3
    few, many = SIZES
    train = TRAININGS * A100_HOURS
    return TEMPLATE.read_text().format(
        about=about,
        slices=slices,
        steps=_steps_table(steps),
        totals="\n".join(
            _total(what, [row for row in steps if row["task"].startswith(tools)])
            for what, tools in kinds.items()
        ),
        ct_mb=ct_mb,
        ct_gb=ct_mb * few / 1e3,
        ct_tb=ct_mb * many / 1e6,
        hours=A100_HOURS,
        train=train,
        predict=predict,
        predict_few=predict * few / 3600,
        predict_many=predict * many / 3600,
        windows=windows,
        patch=" × ".join(map(str, reversed(patch))),
        passes=passes,
        growth=_growth_table([row for row in rows if row["benchmark"] == "growth-chain"]),
        few_hours=everything * few / 3600,
        many_hours=everything * many / 3600,
        many_days=everything * many / 3600 / 64 / 24,
        days=train / 24,
        days8=train / 24 / 8,
        two_cores=everything * many / 3600 / 2 / 24,
        prepare_days=prepare_s * many / 3600 / 24,
        out_tb=written_mb * many / 1e6,
        shard=SHARD,
        few_jobs=few // SHARD,
        many_jobs=many // SHARD,
        snake=many / SHARD * 5 / 3600,
    )


def _cpu(row: dict[str, str]) -> float:
    return float(row["cpu_s"]) / CASES


def _number(row: dict[str, str]) -> float:
    """Return the MB that a case wrote."""
    return float(row["note"].split()[0])


def _steps_table(steps: Sequence[dict[str, str]]) -> str:
    lines = ["| step | CPU s per CT | peak MB | MB written per CT |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row['task']} | {_cpu(row):.2f} | {float(row['peak_mb']):.0f} | {_number(row):.3g} |"
        for row in steps
    ]
    return "\n".join(lines)


def _total(what: str, steps: Sequence[dict[str, str]]) -> str:
    cpu_s, mb = sum(map(_cpu, steps)), sum(map(_number, steps))
    cells = [f"{cpu_s * n / 3600:,.1f}" for n in SIZES] + [f"{mb * n / 1e3:,.1f}" for n in SIZES]
    return f"| {what} | " + " | ".join(cells) + " |"


def _growth_table(rows: Sequence[dict[str, str]]) -> str:
    lines = [
        "| step | ms per case, 10 to 100 | 100 to 1 000 | peak MB of 10 | of 100 | of 1 000 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        measured = [row for row in rows if row["task"] == task and row["cpu_s"]]
        cpu = [float(row["cpu_s"]) for row in measured]
        slopes = [
            1e3 * (more - less) / (n - m)
            for less, more, m, n in zip(cpu, cpu[1:], COUNTS, COUNTS[1:], strict=False)
        ]
        peaks = [f"{float(row['peak_mb']):.0f}" for row in measured]
        missing = ["–"] * (len(COUNTS) - len(measured))
        slopes_ms = [f"{slope:.1f}" for slope in slopes] + missing
        cells = [task.removesuffix(", tiny cases"), *slopes_ms, *peaks, *missing]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _windows() -> tuple[list[int], int]:
    """Return patch (z, y, x) and windows of the paper's recipe in a box of lungs."""
    import numpy as np
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    from lnqtools.nnunet.dataset import CaseFacts
    from lnqtools.nnunet.environment import chatter_to
    from lnqtools.nnunet.prepare import CONFIGURATION, make_plans
    from lnqtools.nnunet.recipes import find_recipe

    spacing = (3.0, 0.93, 0.93)
    shape = tuple(round(mm / s) for mm, s in zip(LUNGS_MM, spacing, strict=True))
    facts = CaseFacts("a", spacing, shape, 1.0, True, False, np.linspace(-100.0, 200, 99))
    with chatter_to(None):
        plans = make_plans([facts], find_recipe("paper"), seed=0)
    patch = plans["configurations"][CONFIGURATION]["patch_size"]
    steps = compute_steps_for_sliding_window(shape, patch, 0.5)
    return [int(n) for n in patch], int(np.prod([len(axis) for axis in steps]))


def main() -> None:
    lines = Path(sys.argv[1]).read_text().splitlines()
    rows = list(csv.DictReader(lines[1:], delimiter="\t"))
    print(page(rows, lines[0].removeprefix("# ")), end="")


if __name__ == "__main__":
    main()
