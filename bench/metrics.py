"""Agreement metrics against other packages, on the same arrays and files.

Ours computes every column of lnq-metrics; of the peers only Dice, an average surface distance
and a 95th percentile of the Hausdorff distance are asked. Values are held against ours where the
definitions are the same; what surface-distance (areas) and panoptica (percentiles) define
otherwise is computed but not compared.

python -m bench.metrics PEER PREDICTION REFERENCE is what a user of a peer runs: it reads two files
with SimpleITK and prints the metrics.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Benchmark, Comparison, compared
from bench.images import SHAPE, SPACING, equal_balls, lesion_mask
from bench.memory import Command

Metrics = dict[str, float]
Spacing = tuple[float, float, float]
Peer = Callable[[np.ndarray, np.ndarray, Spacing], Metrics]

SMALL, SMALL_SPACING = (80, 222, 313), (3.0, 0.93, 0.93)
"""A volume cropped to the lungs."""
VOLUMES: dict[str, tuple[str, tuple[int, int, int], Spacing, tuple]] = {
    "small": ("80 × 222 × 313", SMALL, SMALL_SPACING, ((15, 60, 90), (65, 160, 220))),
    "packed": (
        "512 × 512 × 300, lesions in 7 cm",
        SHAPE,
        SPACING,
        ((115, 205, 205), (185, 305, 305)),
    ),
    "clustered": (
        "512 × 512 × 300, clustered lesions",
        SHAPE,
        SPACING,
        ((60, 150, 130), (240, 360, 380)),
    ),
    "scattered": (
        "512 × 512 × 300, scattered lesions",
        SHAPE,
        SPACING,
        ((20, 30, 30), (280, 482, 482)),
    ),
}
"""Title, shape, spacing, and limits of the centers of ten lesions: clustered, as nodes between the
lungs and at the hila; packed, as those of one station; scattered, all over the body."""
CASES, JOBS_CASES = 20, 80


def make_pair(volume: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction that is off by some voxels, with one lesion invented and one missed."""
    _, shape, spacing, within = VOLUMES[volume]
    lesions = partial(lesion_mask, shape=shape, spacing=spacing, within=within)
    common = lesions(9, 3 * seed)
    reference = common | lesions(1, 3 * seed + 1)
    prediction = np.roll(common, (1, 2, 3), (0, 1, 2)) | lesions(1, 3 * seed + 2)
    return prediction, reference


def medpy() -> Peer:
    from medpy.metric.binary import assd, dc, hd95

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        return {
            "dice": float(dc(prediction, reference)),
            "assd_mm": float(assd(prediction, reference, spacing)),
            "hd95_pooled_mm": float(hd95(prediction, reference, spacing)),
        }

    return measure


def monai() -> Peer:
    import warnings

    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
    )

    # MONAI warns about its own arguments.
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        asd = compute_average_surface_distance(*pair, symmetric=True, spacing=spacing)
        hd95 = compute_hausdorff_distance(*pair, percentile=95, spacing=spacing)
        dice = compute_dice(*pair).item()
        return {"dice": dice, "assd_mm": asd.item(), "hd95_mm": hd95.item()}

    return measure


def surface_distance() -> Peer:
    import surface_distance as deepmind

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        masks = prediction != 0, reference != 0
        distances = deepmind.compute_surface_distances(*masks, spacing)
        means = deepmind.compute_average_surface_distance(distances)
        return {
            "dice": float(deepmind.compute_dice_coefficient(*masks)),
            "masd_by_area_mm": float(np.mean(means)),
            "hd95_by_area_mm": float(deepmind.compute_robust_hausdorff(distances, 95)),
        }

    return measure


def simpleitk() -> Peer:
    import SimpleITK as sitk

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        images = [sitk.GetImageFromArray(mask) for mask in (prediction, reference)]
        for image in images:
            image.SetSpacing(spacing[::-1])
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*images)
        borders = [sitk.BinaryContour(image, fullyConnected=False) for image in images]
        directed = []
        for border, other in (borders, borders[::-1]):
            away = sitk.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True)
            distances = sitk.GetArrayViewFromImage(away)
            on_border = sitk.GetArrayViewFromImage(border) != 0
            directed.append(np.maximum(distances[on_border], 0))
        return {
            "dice": overlap.GetDiceCoefficient(),
            "assd_mm": float(np.concatenate(directed).mean(dtype=float)),
            "hd95_mm": max(float(np.percentile(way, 95)) for way in directed),
        }

    return measure


def scipy() -> Peer:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        p, r = prediction != 0, reference != 0
        borders = [mask & ~binary_erosion(mask) for mask in (p, r)]
        directed = [
            distance_transform_edt(~other, sampling=spacing)[border]
            for border, other in (borders, borders[::-1])
        ]
        return {
            "dice": float(2 * (p & r).sum() / (p.sum() + r.sum())),
            "assd_mm": float(np.concatenate(directed).mean()),
            "hd95_mm": max(float(np.percentile(way, 95)) for way in directed),
        }

    return measure


def scipy_cropped() -> Peer:
    from scipy.ndimage import find_objects

    of_whole = scipy()

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        box = find_objects(prediction | reference)[0]
        return of_whole(prediction[box], reference[box], spacing)

    return measure


def panoptica() -> Peer:
    import contextlib
    import io

    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )
    from panoptica.metrics import Metric

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(),
        instance_metrics=[Metric.DSC],
        global_metrics=[Metric.DSC, Metric.ASSD, Metric.HD95],
    )

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> Metrics:
        with contextlib.redirect_stdout(io.StringIO()):
            results = evaluator.evaluate(prediction, reference, voxelspacing=spacing)
        (result,) = results.values()
        return {
            "dice": float(result.global_bin_dsc),
            "panoptica_assd_mm": float(result.global_bin_assd),
            "panoptica_hd95_mm": float(result.global_bin_hd95),
        }

    return measure


PEERS: dict[str, Callable[[], Peer]] = {
    "surface-distance": surface_distance,
    "scipy EDT": scipy,
    "scipy EDT, cropped by hand": scipy_cropped,
    "SimpleITK": simpleitk,
    "MONAI": monai,
    "panoptica": panoptica,
    "medpy": medpy,
}
ONCE = frozenset({"medpy", "panoptica", "scipy EDT"})
"""Up to minutes for a large volume."""


def same_values(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Tell whether the metrics agree that both have, as far as float32 reaches."""
    common = ours.keys() & theirs.keys()
    return "dice" in common and all(np.isclose(ours[k], theirs[k], rtol=1e-5) for k in common)


def peers_on(*pair_and_spacing: Any) -> tuple[dict[str, Callable[[], Metrics]], dict[str, str]]:
    """Return the peers' calls on a pair of arrays, and why other peers are not measured."""
    calls: dict[str, Callable[[], Metrics]] = {}
    skipped = {}
    for name, load in PEERS.items():
        try:
            calls[name] = partial(load(), *pair_and_spacing)
        except ImportError as error:
            skipped[name] = str(error)
    return calls, skipped


def arrays(volume: str, folder: Path) -> Comparison:
    from lnqtools.metrics.masks import evaluate

    title, _, spacing, _ = VOLUMES[volume]
    pair = make_pair(volume)
    calls, skipped = peers_on(*pair, spacing)
    return Comparison(
        f"metrics of arrays, {title}",
        partial(evaluate, *pair, spacing),
        calls,
        same_values,
        once=ONCE & calls.keys(),
        skipped=skipped,
    )


def write_cases(folder: Path, volume: str, count: int) -> tuple[list[str], list[str]]:
    """Write predictions and references with SimpleITK; return their paths."""
    import SimpleITK as sitk

    paths: tuple[list[str], list[str]] = ([], [])
    for case in range(count):
        for side, (name, mask) in enumerate(zip(("p", "r"), make_pair(volume, case), strict=True)):
            path = folder / name / f"{case:02}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            image = sitk.GetImageFromArray(mask)
            image.SetSpacing(VOLUMES[volume][2][::-1])
            sitk.WriteImage(image, str(path), True)
            paths[side].append(str(path))
    return paths


PART = ("--missing", "drop")
"""Predictions of some of the references are enough."""


def lnq_metrics(predictions: list[str], folder: Path, *options: str) -> Command:
    program = str(Path(sys.executable).parent / "lnq-metrics")
    return Command((program, *predictions, "--reference", str(folder / "r"), "-q", *PART, *options))


READ = """
import sys, SimpleITK
print(sum(SimpleITK.ReadImage(path).GetSize() == (512, 512, 300) for path in sys.argv[1:]))
"""


def files(folder: Path) -> Comparison:
    """Compare the command on all cases with a process that only reads the same files."""
    predictions, references = write_cases(folder, "clustered", CASES)
    read = Command((sys.executable, "-c", READ, *predictions, *references))
    return Comparison(
        f"lnq-metrics on {CASES} cases (files), clustered lesions",
        lnq_metrics(predictions, folder, "--format", "jsonl"),
        {"SimpleITK reads the same files, no more": read},
        lambda a, b: (len(a.splitlines()), int(b)) == (CASES, 2 * CASES),
        rounds=3,
    )


def one_case(folder: Path) -> Comparison:
    """Compare the command on one case with a process that reads it and calls a peer."""
    predictions, references = write_cases(folder, "clustered", 1)
    peers: dict[str, Callable] = {}
    skipped = peers_on()[1]
    for name in PEERS.keys() - ONCE - skipped.keys():
        command = (sys.executable, "-m", "bench.metrics", name, *predictions, *references)
        peers[f"SimpleITK, then {name}"] = Command(command)

    def agree(ours: bytes, theirs: bytes) -> bool:
        return same_values(json.loads(ours), json.loads(theirs))

    return Comparison(
        "lnq-metrics on one case (files), clustered lesions",
        lnq_metrics(predictions, folder, "--format", "jsonl"),
        peers,
        agree,
        rounds=3,
        skipped=skipped,
    )


def jobs(folder: Path) -> Comparison:
    """Compare two cases at once with one after the other; the wall time is what counts."""
    predictions, references = write_cases(folder, "clustered", CASES)
    for number in range(CASES, JOBS_CASES):
        for paths in (predictions, references):
            link = Path(paths[0]).with_name(f"{number}.nii.gz")
            link.symlink_to(paths[number % CASES])
            paths.append(str(link))
    return Comparison(
        f"lnq-metrics -j 2 on {JOBS_CASES} cases (files), by wall time",
        lnq_metrics(predictions, folder, "-j", "2"),
        {"lnqtools with -j 1": lnq_metrics(predictions, folder, "-j", "1")},
        lambda a, b: a == b,
        rounds=3,
    )


FEW, MANY = 2, 200


def lesion_pairs() -> dict[int, tuple[np.ndarray, np.ndarray]]:
    references = {count: equal_balls(count) for count in (FEW, MANY)}
    return {count: (np.roll(mask, 2, axis=2), mask) for count, mask in references.items()}


def lesions(folder: Path) -> Comparison:
    """Compare 200 lesions with 2 of the same volume together, every diameter measured."""
    from lnqtools.components.matching import find_lesions
    from lnqtools.metrics.lesions import lesion_table

    pairs = lesion_pairs()

    def table(count: int) -> int:
        return len(lesion_table(find_lesions(*pairs[count], SPACING)))

    return Comparison(
        f"all diameters of {FEW} lesions, arrays",
        partial(table, FEW),
        {f"lnqtools, {MANY} lesions": partial(table, MANY)},
        lambda a, b: b == a * MANY // FEW,
    )


def detection(folder: Path) -> Comparison:
    """Compare detection of 200 lesions with 2 of the same volume together."""
    from lnqtools.components.matching import find_lesions
    from lnqtools.metrics.lesions import detection_table

    pairs = lesion_pairs()

    def found(count: int) -> int:
        return detection_table(find_lesions(*pairs[count], SPACING))[0]["components_reference"]

    return Comparison(
        f"detection of {FEW} lesions, arrays",
        partial(found, FEW),
        {f"lnqtools, {MANY} lesions": partial(found, MANY)},
        lambda a, b: b == a * MANY // FEW,
    )


def lesion_files(folder: Path) -> Comparison:
    """Compare lnq-metrics --lesions on a file of 200 lesions with one of 2."""
    import SimpleITK as sitk

    commands = {}
    for count, pair in lesion_pairs().items():
        place = folder / str(count)
        for name, mask in zip(("p", "r"), pair, strict=True):
            (place / name).mkdir(parents=True)
            image = sitk.GetImageFromArray(mask)
            image.SetSpacing(SPACING[::-1])
            sitk.WriteImage(image, str(place / name / "case.nii.gz"), True)
        case = [str(place / "p" / "case.nii.gz")]
        commands[count] = lnq_metrics(case, place, "--lesions", "--format", "jsonl")
    return Comparison(
        f"lnq-metrics --lesions (files), {FEW} lesions",
        commands[FEW],
        {f"lnqtools, {MANY} lesions": commands[MANY]},
        lambda a, b: (len(a.splitlines()), len(b.splitlines())) == (2 * FEW, 2 * MANY),
    )


BENCHMARKS: dict[str, Benchmark] = {
    **{f"metrics-{volume}": compared(partial(arrays, volume)) for volume in VOLUMES},
    "metrics-files": compared(files),
    "metrics-one-case": compared(one_case),
    "metrics-jobs": compared(jobs),
    "metrics-lesions": compared(lesions),
    "metrics-detection": compared(detection),
    "metrics-lesion-files": compared(lesion_files),
}


def main() -> None:
    import SimpleITK as sitk

    name, *paths = sys.argv[1:]
    images = [sitk.ReadImage(path) for path in paths]
    pair = [sitk.GetArrayFromImage(image) for image in images]
    print(json.dumps(PEERS[name]()(*pair, images[1].GetSpacing()[::-1])))


if __name__ == "__main__":
    main()
