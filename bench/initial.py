"""How many batches weights to start from save: an experiment on phantoms, about 9 CPU minutes.

A small network is trained on one cohort. Then for each seed another cohort is trained on from first
weights, with some batches, and from that network (``--init``) with half and a quarter of them. All
predict the same cases, which none has seen. ``python -m bench.initial DIR`` prints a row for each
training and the paired differences, over seeds, of mean Dice; DIR keeps the models, and what is
there is not trained again.

Found (one thread): after 240 batches from first weights Dice .460, after 120 from the network .653,
higher with each of six seeds (p = .0098); after 80 .569, with five of them (p = .14).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from lnqtools.images.volume import Volume, write_volume
from lnqtools.metrics.masks import overlap
from lnqtools.nnunet.dataset import TrainingCase
from lnqtools.nnunet.predict import Predictor
from lnqtools.nnunet.recipes import Recipe, find_recipe
from lnqtools.nnunet.settings import RunSettings, TrainingData
from lnqtools.nnunet.train import train
from lnqtools.phantom import make_phantom

PROFILE, SPACING, PATCH = "easy", 4, 32
SEEDS, CASES, TESTED = 6, 6, 6
SOURCE_CASES, SOURCE_EPOCHS = 10, 8
EPOCHS, ITERATIONS = 6, 40
TEST_COHORT, SOURCE_COHORT = 900, 901


def write_cohort(folder: Path, cohort: int, count: int) -> list[TrainingCase]:
    """Write phantoms with their complete truth; those there are kept."""
    cases = []
    for number in range(count):
        name = f"{cohort}-{number}"
        ct, label = (folder / f"{name}-{kind}.nii.gz" for kind in ("ct", "label"))
        if not label.exists():
            phantom = make_phantom(cohort, number, profile=PROFILE)
            write_volume(Volume(phantom.ct, phantom.grid), ct)
            write_volume(Volume(phantom.truth.astype(np.uint8), phantom.grid), label)
        cases.append(TrainingCase(name, ct, label))
    return cases


def recipe(epochs: int) -> Recipe:
    settings = [f"epochs={epochs}", f"iterations={ITERATIONS}", "validation_iterations=1"]
    settings += [f"spacing_mm={SPACING}", f"patch={PATCH}", "fold=all", "save_every=100"]
    return find_recipe("smoke").with_settings(settings)


def trained(
    cases: list[TrainingCase], model: Path, epochs: int, seed: int, init: Path | None = None
) -> Path:
    run = RunSettings(existing="keep", seed=seed, init=init, device="cpu", threads=1)
    return train(TrainingData(cases), model, recipe(epochs), run)


def mean_dice(model: Path, tested: Iterable[TrainingCase]) -> float:
    from lnqtools.images.volume import read_label, read_volume

    predictor = Predictor(model, folds=["all"], device="cpu", threads=1, mirroring=False)
    found = []
    for case in tested:
        truth = read_label(case.label)
        mask = predictor.predict(read_volume(case.image)).mask
        found.append(overlap(mask, truth.array, truth.spacing)["dice"])
    return float(np.mean(found))


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    tested = write_cohort(folder, TEST_COHORT, TESTED)
    source = trained(
        write_cohort(folder, SOURCE_COHORT, SOURCE_CASES), folder / "source", SOURCE_EPOCHS, 0
    )
    show("source", SOURCE_EPOCHS, 0, mean_dice(source, tested))
    dice: dict[tuple[str, int], list[float]] = {}
    for seed in range(1, SEEDS + 1):
        cases = write_cohort(folder, seed, CASES)
        for start, epochs in (("scratch", EPOCHS), ("init", EPOCHS // 2), ("init", EPOCHS // 3)):
            model = folder / f"{start}-{epochs}-{seed}"
            trained(cases, model, epochs, seed, source if start == "init" else None)
            dice.setdefault((start, epochs), []).append(mean_dice(model, tested))
            show(start, epochs, seed, dice[start, epochs][-1])
    scratch = np.array(dice.pop(("scratch", EPOCHS)))
    for (start, epochs), found in dice.items():
        gain = np.array(found) - scratch
        p = ttest_rel(found, scratch).pvalue
        sys.stdout.write(
            f"{start} {epochs * ITERATIONS} batches: Dice {np.mean(found):.3f} against "
            f"{scratch.mean():.3f} of {EPOCHS * ITERATIONS}; {gain.mean():+.3f}, "
            f"{(gain > 0).sum()} of {len(gain)} seeds above, p = {p:.2g}\n"
        )


def show(start: str, epochs: int, seed: int, dice: float) -> None:
    cpu = time.process_time()
    sys.stdout.write(
        f"{start}\t{epochs * ITERATIONS}\t{seed}\t{dice:.3f}\t{cpu:.0f} CPU s so far\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
