"""What many CTs cost: each step on full-size cases, and on 10, 100 and 1000 tiny ones.

scale: one call of each tool on eight phantoms of 512 × 512 voxels a slice. The network is a tiny
one, so that what is measured is what comes on top of a real one.

growth-chain: the same steps on phantoms of about 40 × 40 × 40 voxels; the cost of a case and the
memory of a call should not depend on how many there are.

``python -m bench scale growth-chain`` measures; ``python -m bench.scale TABLE >bench/scale.md``
makes the page of its table (bench/results/scale.tsv is the last one).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    target: str = field(default="-O")

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
    Step("filter-diameter", "", "predicted", ("--min", "7"), "filtered"),
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
    phantoms = tool("phantom", "-n", CASES, "--seed", SEED, "--size", "full", "-j", 2, "-O", folder)
    cases = [Path(line).name.removesuffix(".nii.gz") for line in phantoms().decode().split()]
    yield Row("phantoms", f"{CASES} cases", note=_written(folder / "ct", CASES))
    _tiny_model(folder / "model")
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
    _tiny_model(folder / "model")
    for step in CHAIN:
        commands = [
            step.command(folder, [f"case{number:04}" for number in range(count)])
            for count in COUNTS
        ]
        yield from grown(f"{step.title}, tiny cases", "cases", COUNTS, commands, rounds or 1)


def _tiny_model(folder: Path) -> None:
    from tests.nnunet_data import random_model

    random_model(folder, spacing=(6.0, 3.0, 3.0), patch=(32, 64, 64), eagerness=0.5)


def _written(place: Path, cases: int) -> str:
    """Return the bytes of a file, or of all files in a folder, as MB a case."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"{size / MB / cases:.3g} MB a case"


BENCHMARKS: dict[str, Benchmark] = {"scale": full_size, "growth-chain": tiny}
