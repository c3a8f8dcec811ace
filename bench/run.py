"""Measure against other packages, alternately in one run: python -m bench.run [NAME]...

CPU seconds (all threads) and wall time as medians over rounds, with the spread of the CPU time, and
ratios to ours. Each comparison checks first that the results agree. NAME may be the beginning of
several: metrics stands for all of bench/metrics.py, nnunet for those of bench/nnunet.py. Some have
the peak memory too: of a call in memory, beyond what it was given; of a command, all that its
largest process held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bench.memory import Call, first_call, measure

SHAPE, SPACING = (300, 512, 512), (1.0, 0.8, 0.8)


@dataclass(frozen=True)
class Comparison:
    """Ours and its peers on one task; all return something that ``agree`` compares with ours.

    With ``memory``, a first call in a forked child is watched for its peak, and is all that there
    is of the peers that are named ``once``; of all, if there are no ``rounds``. ``skipped`` says
    why others are not there.
    """

    title: str
    ours: Callable
    peers: dict[str, Callable]
    agree: Callable[[Any, Any], bool]
    rounds: int = 5
    memory: bool = False
    once: frozenset[str] = frozenset()
    skipped: dict[str, str] = field(default_factory=dict)


def compare(comparison: Comparison, rounds: int | None) -> list[str]:
    """Run everything alternately; return the rows of a Markdown table."""
    rounds = comparison.rounds if rounds is None else rounds
    contestants = {"lnqtools": comparison.ours, **comparison.peers}
    first: dict[str, Call] = {}
    for name, work in contestants.items():
        first[name] = first_call(work) if comparison.memory else Call(work(), 0, 0, 0)
        same = name not in comparison.peers or comparison.agree(
            first["lnqtools"].result, first[name].result
        )
        if not same:
            sys.exit(f"{comparison.title}: {name} gives another result: {first[name].result}")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    once = comparison.once if rounds else contestants.keys()
    for name in once:
        taken[name].append((first[name].cpu_s, first[name].wall_s))
    for _ in range(rounds):
        for name in contestants.keys() - once:
            taken[name].append(measure(contestants[name]))
    rows = []
    ours = statistics.median(cpu for cpu, _ in taken["lnqtools"])
    for name, times in taken.items():
        cpus = [cpu for cpu, _ in times]
        cpu = statistics.median(cpus)
        wall = statistics.median(wall for _, wall in times)
        rows.append(
            f"| {comparison.title} | {name} | {cpu:.3f} | {min(cpus):.3f}–{max(cpus):.3f} "
            f"| {wall:.3f} | {cpu / ours:.2f} × "
            f"| {f'{first[name].peak_mb:.0f}' if comparison.memory else ''} |"
        )
    return rows + [
        f"| {comparison.title} | {name} | not measured: {reason} |||||"
        for name, reason in comparison.skipped.items()
    ]


def lesion_mask(
    count: int,
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    within: tuple[tuple[int, int, int], ...] = ((60, 150, 130), (240, 360, 380)),
) -> np.ndarray:
    """Return ellipsoids of 3 to 14 mm radius, by default scattered in the volume's middle."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for _ in range(count):
        radii = rng.uniform(3, 14, 3) / spacing
        centre = rng.uniform(*within)
        low = np.floor(centre - radii).astype(int)
        high = np.ceil(centre + radii).astype(int) + 1
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(axes, centre, radii, strict=True)) <= 1
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][inside] = 1
    return mask


def chest_ct(seed: int) -> np.ndarray:
    """Return noise over a smooth body: it compresses about as a CT does."""
    rng = np.random.default_rng(seed)
    ct = rng.normal(0, 12, SHAPE).astype(np.int16)
    z, y, x = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    ct += np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40, -1000).astype(np.int16)
    ct[np.broadcast_to((np.abs(x) < 0.6) & (np.abs(y) < 0.4) & (np.abs(x) > 0.2), SHAPE)] -= 850
    return ct + (z > 2).astype(np.int16)


def reading(folder: Path) -> Comparison:
    import nibabel as nib
    import SimpleITK as sitk

    from lnqtools.grid import Grid
    from lnqtools.volume import Volume, read_volume, write_volume

    path = folder / "ct.nii.gz"
    grid = Grid.from_affine(SHAPE, np.diag([*reversed(SPACING), 1.0]))
    write_volume(Volume(chest_ct(1), grid), path)
    return Comparison(
        "read a 512 × 512 × 300 CT (.nii.gz)",
        lambda: read_volume(path).array,
        {
            "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(path))),
            "nibabel": lambda: np.asanyarray(nib.load(path).dataobj).transpose(2, 1, 0),  # type: ignore[attr-defined]
        },
        np.array_equal,
    )


def writing(folder: Path) -> Comparison:
    import nibabel as nib
    import SimpleITK as sitk

    from lnqtools.grid import Grid
    from lnqtools.volume import Volume, read_volume, write_volume

    array = chest_ct(1)
    affine = np.diag([*reversed(SPACING), 1.0])
    volume = Volume(array, Grid.from_affine(SHAPE, affine))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(list(reversed(SPACING)))
    ours, itk, nibabel = (folder / f"{name}.nii.gz" for name in ("ours", "itk", "nibabel"))

    def back(write: Callable, path: Path) -> Callable:
        def work():
            write()
            return path

        return work

    return Comparison(
        "write a 512 × 512 × 300 CT (.nii.gz)",
        back(lambda: write_volume(volume, ours), ours),
        {
            "SimpleITK": back(lambda: sitk.WriteImage(image, str(itk), True), itk),
            "nibabel": back(
                lambda: nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), nibabel),
                nibabel,
            ),
        },
        lambda a, b: np.array_equal(read_volume(a).array, read_volume(b).array),
    )


def components(folder: Path) -> Comparison:
    import cc3d
    from skimage.measure import regionprops

    from lnqtools.components import diameters_mm, find_components

    mask = lesion_mask(60, 2)

    def ours():
        return np.sort(diameters_mm(find_components(mask, SPACING), "ellipsoid"))

    def scikit_image():
        labels = cc3d.connected_components(mask, connectivity=6)
        regions = regionprops(labels, spacing=SPACING)
        return np.sort([region.axis_minor_length for region in regions])

    def a_component_at_a_time():
        labels, count = cc3d.connected_components(mask, connectivity=6, return_N=True)
        return np.sort(
            [
                regionprops((labels == k).astype(np.uint8), spacing=SPACING)[0].axis_minor_length
                for k in range(1, count + 1)
            ]
        )

    return Comparison(
        "components and their least ellipsoid axis, 60 lesions",
        ours,
        {
            "cc3d + skimage": scikit_image,
            "a full-volume pass per component (the paper's code)": a_component_at_a_time,
        },
        lambda a, b: np.allclose(a, b, atol=1e-4),
    )


def surface(folder: Path) -> Comparison:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    from lnqtools.metrics import evaluate

    prediction = lesion_mask(10, 3)
    reference = np.roll(prediction, (1, 2, 3), (0, 1, 2)) | lesion_mask(1, 4)

    def ours():
        row = evaluate(prediction, reference, SPACING)
        return row["dice"], row["assd_mm"], row["hd_mm"]

    def scipy():
        p, r = prediction != 0, reference != 0
        dice = 2 * (p & r).sum() / (p.sum() + r.sum())
        borders = [mask & ~binary_erosion(mask) for mask in (p, r)]
        to_r = distance_transform_edt(~borders[1], sampling=SPACING)[borders[0]]
        to_p = distance_transform_edt(~borders[0], sampling=SPACING)[borders[1]]
        both = np.concatenate([to_r, to_p])
        return dice, both.mean(), both.max()

    return Comparison(
        "Dice, ASSD and HD of 512 × 512 × 300 masks in memory",
        ours,
        {"scipy distance transforms": scipy},
        lambda a, b: np.allclose(a, b, rtol=1e-9),
    )


def startup(folder: Path) -> Comparison:
    def started(*command: str) -> Callable:
        return lambda: subprocess.run(command, capture_output=True, check=True).returncode

    return Comparison(
        "lnq-crop --help",
        started(str(Path(sys.executable).parent / "lnq-crop"), "--help"),
        {'python -c "import click, numpy"': started(sys.executable, "-c", "import click, numpy")},
        lambda a, b: a == b,
    )


def anatomy(folder: Path, cases: int) -> Comparison:
    """Compare a process for all cases with one for each, on stand-ins for the weights."""
    from lnqtools.phantom import make_phantom
    from lnqtools.volume import Volume, read_volume, write_volume
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


COMPARISONS: dict[str, Callable[[Path], Comparison]] = {
    "startup": startup,
    "reading": reading,
    "writing": writing,
    "components": components,
    "surface": surface,
    **{f"anatomy-{cases}": partial(anatomy, cases=cases) for cases in (1, 4, 8)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    from bench.metrics import COMPARISONS as METRICS
    from bench.nnunet import COMPARISONS as NNUNET

    comparisons = {**COMPARISONS, **METRICS, **NNUNET}
    parser.add_argument("names", nargs="*", help=f"out of {', '.join(comparisons)}; all by default")
    parser.add_argument("--rounds", type=int, help="5 by default, fewer of what takes minutes")
    arguments = parser.parse_args()
    wanted = tuple(arguments.names)
    for name in wanted:
        if not any(known.startswith(name) for known in comparisons):
            parser.error(f"{name} is not one of {', '.join(comparisons)}")
    packages = (
        *("numpy", "scipy", "nibabel", "SimpleITK", "scikit-image", "connected-components-3d"),
        *("torch", "nnunetv2", "TotalSegmentator"),
        *("isal", "medpy", "monai", "surface-distance", "panoptica"),
    )
    print(f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()},")
    print(", ".join(f"{name} {installed(name)}" for name in packages) + "\n")
    print("| task | package | CPU s | from–to | wall s | CPU to ours | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for name, comparison in comparisons.items():
        if wanted and not name.startswith(wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in compare(comparison(Path(folder)), arguments.rounds):
                print(row, flush=True)


def processor() -> str:
    cores = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()} ({platform.machine()}), {cores}"
    return f"{platform.machine()}, {cores}"


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


if __name__ == "__main__":
    from bench.run import main as run  # the one module that bench.metrics imports too

    run()
