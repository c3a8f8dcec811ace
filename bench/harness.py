"""One run of ours and its peers, alternately, and the table of it."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.memory import Call, first_call, measure

OURS = "lnqtools"
PACKAGES = (
    *("numpy", "scipy", "nibabel", "SimpleITK", "scikit-image", "connected-components-3d", "isal"),
    *("torch", "nnunetv2", "TotalSegmentator", "medpy", "monai", "surface-distance", "panoptica"),
)
COLUMNS = (
    *("benchmark", "task", "package", "rounds", "cpu_s", "cpu_s_min", "cpu_s_max"),
    *("wall_s", "wall_s_min", "wall_s_max", "peak_mb"),
    *("cpu_to_ours", "wall_to_ours", "peak_to_ours", "note"),
)


@dataclass(frozen=True)
class Comparison:
    """Ours and its peers on one task; all return something that ``agree`` compares with ours.

    A first call of each in a forked child is watched for its peak of memory, and is all that there
    is of the peers that are named ``once``; of all, if there are no ``rounds``. ``skipped`` says
    why others are not there.
    """

    title: str
    ours: Callable
    peers: dict[str, Callable]
    agree: Callable[[Any, Any], bool]
    rounds: int = 5
    once: frozenset[str] = frozenset()
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What one package took for one task: medians, and the least and the most."""

    task: str
    package: str
    cpu_s: Sequence[float] = ()
    wall_s: Sequence[float] = ()
    peak_mb: float | None = None
    cpu_to_ours: float | None = None
    wall_to_ours: float | None = None
    peak_to_ours: float | None = None
    note: str = ""

    def cells(self, benchmark: str) -> list[str]:
        """Return the row of a table with all digits that mean something."""
        return [
            *(benchmark, self.task, self.package, str(len(self.cpu_s))),
            *_spread(self.cpu_s),
            *_spread(self.wall_s),
            *map(_number, (self.peak_mb, self.cpu_to_ours, self.wall_to_ours, self.peak_to_ours)),
            self.note,
        ]

    def markdown(self) -> str:
        """Return the row for people."""
        if not self.cpu_s:
            return f"| {self.task} | {self.package} | {self.note} ||||||"
        cpu, wall = (statistics.median(values) for values in (self.cpu_s, self.wall_s))
        by_cpu, by_peak = (
            "" if ratio is None else f"{ratio:.2f} ×"
            for ratio in (self.cpu_to_ours, self.peak_to_ours)
        )
        peak = "" if self.peak_mb is None else f"{self.peak_mb:.0f}"
        return (
            f"| {self.task} | {self.package} | {cpu:.3f} "
            f"| {min(self.cpu_s):.3f}–{max(self.cpu_s):.3f} | {by_cpu} | {wall:.3f} "
            f"| {peak} | {by_peak} |"
        )


MARKDOWN_HEAD = (
    "| task | package | CPU s | from–to | CPU to ours | wall s | peak MB | peak to ours |",
    "|---|---|---|---|---|---|---|---|",
)


def _spread(values: Sequence[float]) -> list[str]:
    if not values:
        return [""] * 3
    return [_number(v) for v in (statistics.median(values), min(values), max(values))]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


Benchmark = Callable[[Path, int | None], Iterable[Row]]
"""Measures in a folder of its own, in so many rounds, and yields rows."""


def compared(make: Callable[[Path], Comparison]) -> Benchmark:
    """Return the benchmark of a comparison."""
    return partial(_compare, make)


def _compare(make: Callable[[Path], Comparison], folder: Path, rounds: int | None) -> Iterator[Row]:
    """Run everything alternately."""
    comparison = make(folder)
    contestants = {OURS: comparison.ours, **comparison.peers}
    first: dict[str, Call] = {}
    for name, work in contestants.items():
        first[name] = first_call(work)
        if name != OURS and not comparison.agree(first[OURS].result, first[name].result):
            sys.exit(f"{comparison.title}: {name} gives another result: {first[name].result}")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    rounds = comparison.rounds if rounds is None else rounds
    once = comparison.once if rounds else contestants.keys()
    for name in once:
        taken[name].append((first[name].cpu_s, first[name].wall_s))
    for _ in range(rounds):
        for name, work in contestants.items():
            if name not in once:
                taken[name].append(measure(work))
    ours = [statistics.median(times) for times in zip(*taken[OURS], strict=True)]
    for name, times in taken.items():
        cpus, walls = zip(*times, strict=True)
        peak_mb = first[name].peak_mb
        yield Row(
            comparison.title,
            name,
            cpus,
            walls,
            peak_mb,
            statistics.median(cpus) / ours[0],
            statistics.median(walls) / ours[1],
            peak_mb / first[OURS].peak_mb if first[OURS].peak_mb > 0 else None,
        )
    for name, reason in comparison.skipped.items():
        yield Row(comparison.title, name, note=f"not measured: {reason}")


def circumstances() -> str:
    """Return date, machine and versions."""
    versions = ", ".join(f"{name} {_installed(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, Python {platform.python_version()}, "
        f"{versions}"
    )


def _processor() -> str:
    cores = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()} ({platform.machine()}), {cores}"
    return f"{platform.machine()}, {cores}"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
