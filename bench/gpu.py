"""What a GPU takes for a batch and for a case, and how long it waits: python -m bench.gpu.

Training: batches of the plan that a recipe makes of CTs as large as the paper's cropped ones, by
our trainer and by nnU-Net's as nnUNetv2_train runs it, both compiled; the first batches, in which
torch compiles, do not count. Ours with several numbers of augmenting processes, both with those
that they take by themselves, and the network's steps on one batch that is there.

Prediction: the same CTs by untrained networks of these plans, mirrored, lnq-infer against
nnUNetv2_predict_from_modelfolder, files to files; seconds from the first mask written to the last,
so that the start does not count.

GPU idle is the share of the time in which nvidia-smi saw no kernel run. DEVICE=cpu rehearses it all
with a small network on small CTs: of those numbers nothing follows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bench.nnunet import PAPER_GRID, PROGRAMS, prepare_training, small_model
from tests.gpu.machine import circumstances, found

COLUMNS = ("what", "recipe", "by", "augmenting processes", "s each", "to ours", "GPU idle")
OWN = "own choice"
OURS, THEIRS = "LNQTrainer", "nnUNetTrainer"
SMALL = """
patch = [32, 32, 32]
batch = 2
features = [8, 16, 32]
network = "{}"
"""


@dataclass(frozen=True)
class Scale:
    """How much is done on a device."""

    batches: int
    batches_alone: int
    """With no augmenting process: they take a second each."""
    warm: int
    cases: int
    shape: tuple[int, int, int]
    mirror: bool


SCALES = {
    "cuda": Scale(50, 10, 5, 4, PAPER_GRID["shape"], mirror=True),
    "cpu": Scale(3, 3, 1, 2, (24, 48, 48), mirror=False),
}
TRAINING_CASES = 6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=SCALES)
    parser.add_argument("--output", type=Path, default=Path("build/gpu/gpu-bench.md"))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        trainer, folder, workers, device = asked.child
        tell_steps(trainer, Path(folder), json.loads(workers), device)
        return
    if asked.device == "cuda" and not found()["gpus"]:
        print("gpu-bench: torch sees no GPU: nothing was measured (DEVICE=cpu rehearses it)")
        return
    head = f"`make gpu-bench DEVICE={asked.device}`: {circumstances()}"
    table = [head, "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    print("\n".join(table))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    for cells in measured(asked.device):
        table.append(line(cells))
        print(table[-1], flush=True)
        asked.output.write_text("\n".join(table) + "\n")


def line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def measured(device: str) -> Iterator[Sequence[object]]:
    """Yield the rows of the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_cases(folder, SCALES[device])
        for name, network in (("paper", "plain"), ("resenc", "resenc-m")):
            recipe = name
            if device == "cpu":
                recipe = str(folder / f"{name}.toml")
                Path(recipe).write_text(SMALL.format(network))
            yield from training(folder, name, recipe, device)
            yield from prediction(folder, name, recipe, device)


def write_cases(folder: Path, scale: Scale) -> None:
    """Write completely annotated CTs of noise with bright balls, as nnU-Net wants them."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from lnqtools.files.json_files import write_json
    from lnqtools.nnunet.prepare import DATASET
    from tests.conftest import affine, save
    from tests.nnunet_data import LABELS

    raw = folder / "raw" / DATASET
    matrix = affine(PAPER_GRID["spacing"][::-1])
    for number in range(TRAINING_CASES):
        rng = np.random.default_rng(number)
        seeds = rng.random(scale.shape, np.float32) < 2e-5
        seeds[tuple(n // 2 for n in scale.shape)] = True
        nodes = gaussian_filter(seeds.astype(np.float32), (1.5, 5, 5)) > 3e-4
        ct = rng.normal(-50, 40, scale.shape).astype(np.float32) + 150 * nodes
        save(raw / "imagesTr" / f"case{number}_0000.nii.gz", ct.astype(np.int16), matrix)
        save(raw / "labelsTr" / f"case{number}.nii.gz", nodes.astype(np.uint8), matrix)
    about = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": TRAINING_CASES}
    write_json(raw / "dataset.json", about | {"file_ending": ".nii.gz"})


# Training


def training(folder: Path, name: str, recipe: str, device: str) -> Iterator[Sequence[object]]:
    """Yield rows of both trainers, each in a process of its own."""
    from lnqtools.nnunet.recipes import find_recipe
    from lnqtools.nnunet.threads import cores

    place = folder / f"prepared-{name}"
    prepare_training(folder, with_arrays=True, recipe=find_recipe(recipe), into=place)
    several = (0, 4, 8, cores()) if name == "paper" and device == "cuda" else (0,)
    ours: dict[object, float] = {}
    for trainer, numbers in ((OURS, [*dict.fromkeys(several), OWN, None]), (THEIRS, [OWN])):
        child = (trainer, place, json.dumps(numbers), device)
        command = [sys.executable, "-m", "bench.gpu", "--child", *map(str, child)]
        shared = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=shared) as running:
            assert running.stdout is not None
            for told in running.stdout:
                row = json.loads(told)
                ours.setdefault(row["workers"], row["seconds"])
                ratio = row["seconds"] / ours[OWN] if OWN in ours else None
                what = "batch" if row["workers"] is not None else "batch that is there"
                yield cells(what, name, trainer, row["workers"], row["seconds"], ratio, row["idle"])
        if running.returncode:
            raise SystemExit(f"{trainer} failed with {name}")


def cells(
    what: str,
    name: str,
    by: str,
    workers: object,
    seconds: float,
    ratio: float | None,
    idle: float | None,
) -> Sequence[object]:
    shown = "–" if idle is None else f"{idle:.0%}"
    several = "–" if workers is None else workers
    return what, name, by, several, f"{seconds:.3f}", f"{ratio:.2f} ×" if ratio else "–", shown


def tell_steps(kind: str, place: Path, numbers: list[Any], device: str) -> None:
    """Print seconds for a batch with so many augmenting processes; None: with none at all."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from lnqtools.files.json_files import read_json
    from lnqtools.nnunet.environment import chatter_to, environment, network_memory
    from lnqtools.nnunet.prepare import CONFIGURATION, PLANS, dataset_folder, nnunet_folders
    from lnqtools.nnunet.trainer import LNQTrainer

    torch.backends.cudnn.benchmark = True  # as nnUNetv2_train and lnq-train
    torch.set_num_threads(1)
    dataset, told = dataset_folder(place), sys.stdout
    folders = nnunet_folders(place) | {"nnUNet_results": str(place / kind)}
    with environment(folders), chatter_to(sys.stderr), network_memory(device):
        made = {OURS: LNQTrainer, THEIRS: nnUNetTrainer}[kind](
            read_json(dataset / f"{PLANS}.json") | {"continue_training": False},
            CONFIGURATION,
            0,
            read_json(dataset / "dataset.json"),
            torch.device(device),
        )
        made.initialize()
        for number in numbers:
            with environment(augmenting(kind, number, device)):
                made.dataloader_train, made.dataloader_val = made.get_dataloaders()
            seconds, idle = timed(made, SCALES[device], number)
            for loader in (made.dataloader_train, made.dataloader_val):
                if hasattr(loader, "_finish"):
                    loader._finish()
            row = {"workers": number, "seconds": seconds, "idle": idle}
            print(json.dumps(row), file=told, flush=True)


def augmenting(kind: str, number: object, device: str) -> dict[str, str]:
    """Return nnU-Net's variable for so many processes; without it, it takes its own number."""
    from lnqtools.nnunet.threads import augmenting_workers

    if number != OWN:
        return {"nnUNet_n_proc_DA": str(number or 0)}
    if device == "cpu":
        return {"nnUNet_n_proc_DA": "1"}  # theirs would be a dozen
    return {"nnUNet_n_proc_DA": str(augmenting_workers(1))} if kind == OURS else {}


def timed(trainer: Any, scale: Scale, number: object) -> tuple[float, float | None]:
    """Return seconds for a batch, and the share of them in which the GPU was idle."""
    trainer.network.train()
    batch = next(trainer.dataloader_train)
    for _ in range(scale.warm):
        trainer.train_step(batch if number is None else next(trainer.dataloader_train))
    batches = scale.batches_alone if number == 0 else scale.batches
    with watched() as watch:
        begin = time.time()
        for _ in range(batches):
            trainer.train_step(batch if number is None else next(trainer.dataloader_train))
        end = time.time()
    return (end - begin) / batches, watch.idle(begin, end)


# Prediction


def prediction(folder: Path, name: str, recipe: str, device: str) -> Iterator[Sequence[object]]:
    """Yield rows of both commands."""
    from lnqtools.nnunet.prepare import DATASET

    scale = SCALES[device]
    grid = {"spacing": PAPER_GRID["spacing"], "shape": scale.shape}
    place = folder / f"predicted-{name}"
    model = small_model(place, recipe=recipe, patch=None, **grid)
    (place / "in").mkdir()
    for ct in sorted((folder / "raw" / DATASET / "imagesTr").iterdir())[: scale.cases]:
        (place / "in" / ct.name).symlink_to(ct)
    cts = sorted((place / "in").iterdir())
    plain = () if scale.mirror else ("--no-mirror",)
    theirs = () if scale.mirror else ("--disable_tta",)
    commands = {
        "lnq-infer": ("-m", model, *cts, "--no-crop", "-q", "--device", device, *plain, "-O"),
        "nnUNetv2_predict_from_modelfolder": (
            *("-m", model, "-i", place / "in", "-f", 0, "-device", device, *theirs, "-o"),
        ),
    }
    ours = None
    for program, words in commands.items():
        into = place / program
        with watched() as watch:
            command = [PROGRAMS / program, *map(str, words), into]
            subprocess.run(command, stdout=sys.stderr, check=True)
        written = sorted(path.stat().st_mtime for path in into.glob("*.nii.gz"))
        assert len(written) == scale.cases
        seconds = (written[-1] - written[0]) / (scale.cases - 1)
        ours = seconds if ours is None else ours
        idle = watch.idle(written[0], written[-1])
        yield cells("case", name, program, None, seconds, seconds / ours if ours else None, idle)


# The GPU at work


@dataclass
class Watch:
    """When a GPU was seen, and in what percentage of the time before it was at work."""

    seen: list[tuple[float, float]] = field(default_factory=list)

    def idle(self, begin: float, end: float) -> float | None:
        """Return the share of a time without work; None if nobody looked."""
        busy = [percent for when, percent in self.seen if begin <= when <= end]
        return 1 - sum(busy) / len(busy) / 100 if busy else None


@contextmanager
def watched() -> Iterator[Watch]:
    """Look at the first GPU again and again within the block."""
    watch, over = Watch(), Event()

    def look() -> None:
        query = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0")
        while not over.wait(0.1):
            try:
                told = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True)
            except OSError:  # no driver's tool, no GPU
                return
            if told.stdout.strip().isdigit():
                watch.seen.append((time.time(), float(told.stdout)))

    looking = Thread(target=look)
    looking.start()
    try:
        yield watch
    finally:
        over.set()
        looking.join()


if __name__ == "__main__":
    main()
