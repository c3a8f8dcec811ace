"""How the cost of a tool grows: with voxels, with components, with cases.

A line is drawn through the CPU time of whole commands: cost = start + constant × size. The exponent
is the slope of log (cost - start) over log size: 1 is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.harness import Benchmark, Row
from bench.images import SPACING, equal_balls, scene, tool
from bench.memory import Command, measure


def grown(
    title: str, unit: str, sizes: Sequence[float], commands: Sequence[Callable], rounds: int | None
) -> Iterator[Row]:
    """Measure commands of growing size alternately; yield a row each, then the line through all."""
    taken: list[list[tuple[float, float]]] = [[] for _ in commands]
    for _ in range(rounds or 3):
        for times, command in zip(taken, commands, strict=True):
            times.append(measure(command))
    for size, command, times in zip(sizes, commands, taken, strict=True):
        cpus, walls = zip(*times, strict=True)
        peak_mb = command.with_peak()[1] if isinstance(command, Command) else None
        yield Row(title, f"{size:g} {unit}", cpus, walls, peak_mb)
    costs = np.array([min(cpu for cpu, _ in times) for times in taken])
    constant, start = np.polyfit(sizes, costs, 1)
    start = min(start, 0.95 * costs[0])
    exponent = np.polyfit(np.log(sizes), np.log(costs - start), 1)[0]
    note = f"{start:.2f} s to start, {1e3 * constant:.3g} ms × {unit}, exponent {exponent:.2f}"
    yield Row(title, "growth", note=note)


def slices(
    folder: Path, rounds: int | None, name: str, image: str, options: Sequence[str] = ()
) -> Iterator[Row]:
    """Let the volume grow, slice by slice of 512 x 512 voxels."""
    counts = (75, 150, 300, 600)
    whole = np.concatenate([scene()[image]] * 2)
    commands = []
    for count in counts:
        path = write(whole[:count], folder / f"{count}.nii.gz")
        commands.append(tool(name, path, *options, "-o", folder / "out.nii.gz"))
    millions = [count * 0.512**2 for count in counts]
    yield from grown(f"lnq-{name}, by voxels", "million voxels", millions, commands, rounds)


def components(folder: Path, rounds: int | None) -> Iterator[Row]:
    """Let the nodes grow in number; together they keep their volume."""
    counts = (50, 100, 200, 400, 800)
    table = ("--min", "7", "--table", folder / "table.tsv")
    commands = [
        tool(
            "filter-diameter",
            write(equal_balls(count), folder / f"{count}.nii.gz"),
            *(*table, "-o", folder / "out.nii.gz"),
        )
        for count in counts
    ]
    title = "lnq-filter-diameter with every diameter, by components"
    yield from grown(title, "components", counts, commands, rounds)


def cases(folder: Path, rounds: int | None) -> Iterator[Row]:
    """Let the cases of one call grow in number."""
    counts = (10, 100, 1000)
    small = write(scene()["weak"][100:150, 200:300, 200:300], folder / "small.nii.gz")
    (folder / "weak").mkdir()
    for case in range(max(counts)):
        (folder / "weak" / f"{case:04}.nii.gz").symlink_to(small)
    every = sorted((folder / "weak").iterdir())
    commands = [
        tool("weaklabel", *every[:count], "--strategy", "coat", "-O", folder / "out")
        for count in counts
    ]
    yield from grown("lnq-weaklabel, by small cases in a call", "cases", counts, commands, rounds)


def write(array: np.ndarray, path: Path) -> Path:
    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume, write_volume

    write_volume(Volume(array, Grid.from_affine(array.shape, np.diag([*SPACING[::-1], 1.0]))), path)
    return path


BENCHMARKS: dict[str, Benchmark] = {
    "growth-crop": partial(
        slices, name="crop", image="ct", options=("--lungs", "none", "--spacing", "2")
    ),
    "growth-weaklabel": partial(
        slices, name="weaklabel", image="weak", options=("--strategy", "coat")
    ),
    "growth-components": components,
    "growth-cases": cases,
}
