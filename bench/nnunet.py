"""Training and inference against nnU-Net itself: the same small cases, network and work.

In all of it the network is tiny (features 8, 16, 32), as are the cases: what is measured is what
lies around a network. With a larger one, or on more patches, all contestants come closer to each
other, and the rows of the network alone say how much of the time can be saved at all. The CPU time
of all child processes counts; the peak is that of the largest process, so that the workers that
nnU-Net keeps beside it are not in its figure.

nnunet-training: lnq-train against nnUNetv2_plan_and_preprocess and nnUNetv2_train, files to model,
validation included. nnU-Net's planner has no options for so small a network; once it has planned
and preprocessed, its plans get our patch, batch and architecture, which preprocessing does not
depend on. Its trainer is its own with our numbers of epochs and batches. It runs as it comes, and
with one process for each of its pools, none for augmentation, and one thread: the best that we
know of on few cores.

nnunet-epochs: the same epochs of both trainers in one process each, on cases that are preprocessed.
The batches are as many, not the same.

nnunet-inference: lnq-infer on ten phantoms against nnUNetv2_predict_from_modelfolder (which
nnUNetv2_predict is but for the folder's name): as it comes, with one process for each of its pools,
and as its sequential function in one process and thread, which no command of nnU-Net's calls. Then
against a start of lnq-infer for each case.

nnunet-network: what of a prediction is the network, and what patches one at a time cost.

network: a network of the size that nnU-Net plans for the paper's CTs, with random weights, on one
full-size phantom in its lungs' box: lnq-infer, in fp32 and in bf16 where the processor has it,
against nnUNetv2_predict_from_modelfolder with one process for each of its pools, and as it comes.
network-step: a few steps of its training by each trainer, on a patch of noise.

The first, the third and the last two take minutes and run once, if --rounds does not say more.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import Benchmark, Comparison, compared
from bench.memory import Command
from lnqtools.nnunet.precision import BFLOAT_INSTRUCTIONS, processor_flags

if TYPE_CHECKING:
    from lnqtools.nnunet.recipes import Recipe

Words = tuple[object, ...]

PROGRAMS = Path(sys.executable).parent
COARSE: dict[str, Any] = {"spacing": (6.0, 6.0, 6.0), "patch": (24, 32, 40)}
"""Of a model that takes a few patches for a CT."""
TRAINING_CASES, INFERENCE_CASES, PREDICTED_CASES = 6, 10, 2
EPOCHS, ITERATIONS, VALIDATION_ITERATIONS = 2, 25, 2

TRAINER = f"""
import os
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class ShortTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = {EPOCHS}
        self.num_iterations_per_epoch = {ITERATIONS}
        self.num_val_iterations_per_epoch = {VALIDATION_ITERATIONS}
        if "BENCH_THREADS" in os.environ:  # nnUNetv2_train takes all cores
            torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
"""
"""nnU-Net's trainer, for as long as ours trains."""

SEQUENTIAL = """
import sys
from pathlib import Path
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
source, target, model = sys.argv[1:]
torch.set_num_threads(1)
predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
predictor.initialize_from_trained_model_folder(model, ("0",))
Path(target).mkdir(exist_ok=True)
predictor.predict_from_files_sequential(source, target)
"""

AS_IT_COMES = "nnU-Net as it comes"
ONE_PROCESS_EACH = "nnU-Net, one process a pool"
FOR_EACH = "lnq-infer, started for each case"
ONE_PROCESS = {"nnUNet_def_n_proc": "1"}


def script(*lines: str | Sequence[object], variables: dict[str, str] | None = None) -> Command:
    """Return a command that runs shell lines, or programs by their arguments, until one fails."""
    commands = [line if isinstance(line, str) else shlex.join(map(str, line)) for line in lines]
    given = [f"{name}={value}" for name, value in (variables or {}).items()]
    return Command(("env", *given, "bash", "-ec", "\n".join(commands)))


def short_recipe() -> Recipe:
    from lnqtools.nnunet.recipes import find_recipe

    return find_recipe("smoke").with_changes(
        {
            "epochs": EPOCHS,
            "iterations": ITERATIONS,
            "validation_iterations": VALIDATION_ITERATIONS,
            "mirror": True,  # as nnU-Net's own commands
        }
    )


def write_training_cases(folder: Path) -> None:
    """Write completely annotated cases, as nnU-Net wants them; ours read the same files."""
    from lnqtools.files.json_files import write_json
    from lnqtools.nnunet.prepare import DATASET
    from tests.nnunet_data import LABELS, write_bright_nodes

    raw = folder / "raw" / DATASET
    write_bright_nodes(folder, TRAINING_CASES)
    for kind, place, ending in (("ct", "imagesTr", "_0000"), ("truth", "labelsTr", "")):
        (raw / place).mkdir(parents=True)
        for number in range(TRAINING_CASES):
            path = folder / kind / f"case {number}.nii.gz"
            path.rename(raw / place / f"case{number}{ending}.nii.gz")
    about = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": TRAINING_CASES}
    write_json(raw / "dataset.json", about | {"file_ending": ".nii.gz"})


def prepare_training(
    folder: Path,
    with_arrays: bool = False,
    recipe: Recipe | None = None,
    into: Path | None = None,
) -> None:
    """Write our plans of the cases and, if asked for, preprocess these, into ours by default."""
    from lnqtools.cli.train import find_cases
    from lnqtools.nnunet import prepare
    from lnqtools.nnunet.dataset import survey_cases
    from lnqtools.nnunet.environment import chatter_to
    from lnqtools.nnunet.folds import make_splits

    raw = folder / "raw" / prepare.DATASET
    cases = find_cases(str(raw / "imagesTr"), str(raw / "labelsTr"), None, False)
    with chatter_to(None):
        survey = survey_cases(cases)
        splits = make_splits(survey.names)
        ours = into or folder / "ours"
        recipe = recipe or short_recipe()
        prepare.write_plans(survey, recipe, 0, ours, weights={}, splits=splits)
        if with_arrays:
            prepare.preprocess(cases, ours)


def training(folder: Path) -> Comparison:
    from lnqtools.nnunet.prepare import CONFIGURATION, DATASET, PLANS, dataset_folder

    write_training_cases(folder)
    prepare_training(folder)
    (folder / "trainer").mkdir()
    (folder / "trainer" / "short_trainer.py").write_text(TRAINER)
    raw, model = folder / "raw" / DATASET, folder / "model"
    ours = script(
        (
            *(PROGRAMS / "lnq-train", "--images", raw / "imagesTr", "--labels", raw / "labelsTr"),
            *("-m", model, "-f", "-q", "--recipe", "smoke", "--epochs", EPOCHS),
            *("--iterations", ITERATIONS, "--device", "cpu", "--validate"),
            *("--set", f"validation_iterations={VALIDATION_ITERATIONS}", "--set", "mirror=true"),
        )
    )

    def nnunet(name: str, processes: Words = (), in_training: str = "") -> Command:
        place = folder / name
        dataset = place / "preprocessed" / DATASET
        train = f"{PROGRAMS}/nnUNetv2_train 1 {CONFIGURATION} 0 -tr ShortTrainer -device cpu"
        return script(
            ("rm", "-rf", place),
            "{",
            (PROGRAMS / "nnUNetv2_plan_and_preprocess", "-d", 1, "-c", CONFIGURATION, *processes),
            ("mv", dataset / f"{PLANS}.json", place / "planned.json"),
            ("cp", dataset_folder(folder / "ours") / f"{PLANS}.json", dataset),
            f"{in_training} {train}",
            "} >&2",
            ("echo", place / "results" / DATASET / f"ShortTrainer__{PLANS}__{CONFIGURATION}"),
            variables={
                "nnUNet_raw": str(raw.parent),
                "nnUNet_preprocessed": str(place / "preprocessed"),
                "nnUNet_results": str(place / "results"),
                "nnUNet_extTrainer": str(folder / "trainer"),
            },
        )

    return Comparison(
        f"{TRAINING_CASES} cases: plan, preprocess, {EPOCHS} × {ITERATIONS} batches, validate",
        ours,
        {
            AS_IT_COMES: nnunet("theirs"),
            f"{ONE_PROCESS_EACH}, none for augmentation, one thread": nnunet(
                "theirs-frugal",
                ("-npfp", 1, "-np", 1),
                "nnUNet_n_proc_DA=0 nnUNet_def_n_proc=1 BENCH_THREADS=1",
            ),
        },
        same_training,
        rounds=0,
    )


def same_training(ours: bytes, theirs: bytes) -> bool:
    """Tell whether the same network was trained as long, on cases preprocessed alike.

    The intensities' statistics may differ by 1 %: nnU-Net draws voxels by chance.
    """
    a, b = (trained(Path(os.fsdecode(path.strip()))) for path in (ours, theirs))
    (means_a, facts_a), (means_b, facts_b) = a, b
    close = all(math.isclose(x, y, rel_tol=0.01) for x, y in zip(means_a, means_b, strict=True))
    return close and facts_a == facts_b


def trained(model: Path) -> tuple[list[float], dict[str, Any]]:
    """Return what a model was made with: statistics by which images are normalized, and facts."""
    import torch

    from lnqtools.nnunet.prepare import CONFIGURATION

    plans = json.loads((model / "plans.json").read_text())
    planned = model.parents[2] / "planned.json"  # of nnU-Net: those that it preprocessed with
    first = json.loads(planned.read_text()) if planned.is_file() else plans
    statistics = first["foreground_intensity_properties_per_channel"]["0"]
    keys = ("spacing", "normalization_schemes", "median_image_size_in_voxels")
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    weights = checkpoint["network_weights"]
    return [statistics[key] for key in ("mean", "std")], {
        "preprocessing": [first["configurations"][CONFIGURATION][key] for key in keys],
        "patch and batch": [
            plans["configurations"][CONFIGURATION][key] for key in ("patch_size", "batch_size")
        ],
        "weights": {name: tuple(weight.shape) for name, weight in weights.items()},
        "epochs": len(checkpoint["logging"]["train_losses"]),
        "validated": sorted(p.name for p in (model / "fold_0" / "validation").glob("*.nii.gz")),
    }


def epochs(folder: Path) -> Comparison:
    """Compare the trainers' epochs alone, and both with steps on one batch that is there."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from lnqtools.files.json_files import read_json
    from lnqtools.nnunet.environment import chatter_to, environment
    from lnqtools.nnunet.prepare import CONFIGURATION, PLANS, dataset_folder, nnunet_folders
    from lnqtools.nnunet.trainer import LNQTrainer

    write_training_cases(folder)
    prepare_training(folder, with_arrays=True)
    dataset = dataset_folder(folder / "ours")
    number = count()

    @contextmanager
    def trainer(kind: type[nnUNetTrainer], workers: int = 0) -> Iterator[nnUNetTrainer]:
        """Give a trainer in results folders of its own."""
        folders = nnunet_folders(folder / "ours")
        folders["nnUNet_results"] = str(folder / f"results-{next(number)}")
        torch.set_num_threads(1)
        with chatter_to(None), environment(folders | {"nnUNet_n_proc_DA": str(workers)}):
            plans = read_json(dataset / f"{PLANS}.json") | {"continue_training": False}
            description = read_json(dataset / "dataset.json")
            made = kind(plans, CONFIGURATION, 0, description, torch.device("cpu"))
            made.num_epochs = EPOCHS
            made.num_iterations_per_epoch = ITERATIONS
            made.num_val_iterations_per_epoch = VALIDATION_ITERATIONS
            yield made

    def run(kind: type[nnUNetTrainer], workers: int = 0) -> Callable[[], tuple[int, bool]]:
        def work() -> tuple[int, bool]:
            with trainer(kind, workers) as made:
                made.run_training()
            losses = made.logger.get_checkpoint()["train_losses"]
            return len(losses), losses[-1] < losses[0]

        return work

    def steps() -> tuple[int, bool]:
        """Train and validate as often on one batch: network, loss and optimizer, no more."""
        with trainer(LNQTrainer) as made:
            made.initialize()
            patch = made.configuration_manager.patch_size
            data = torch.randn(made.batch_size, 1, *patch)
            sizes = [
                [round(n * s) for n, s in zip(patch, scale, strict=True)]
                for scale in made._get_deep_supervision_scales()
            ]
            target = [torch.randint(0, 2, (made.batch_size, 1, *size)) for size in sizes]
            batch = {"data": data, "target": [t.float() for t in target]}
            for _ in range(EPOCHS):
                made.network.train()
                losses = [made.train_step(batch)["loss"] for _ in range(ITERATIONS)]
                made.network.eval()
                with torch.no_grad():
                    for _ in range(VALIDATION_ITERATIONS):
                        made.validation_step(batch)
            return EPOCHS, losses[-1] < losses[0]

    return Comparison(
        f"{EPOCHS} epochs of {ITERATIONS} batches, one thread",
        run(LNQTrainer),
        {
            "nnUNetTrainer, no process for augmentation": run(nnUNetTrainer),
            "nnUNetTrainer, 2 processes for each kind of batch": run(nnUNetTrainer, 2),
            "the network's steps alone": steps,
        },
        lambda a, b: a == b == (EPOCHS, True),
        rounds=3,
    )


def inference(folder: Path) -> Comparison:
    model = small_model(folder, **COARSE)
    write_phantoms(folder)
    predict = Predictions(folder, model)
    one_each = ("-npp", 1, "-nps", 1)
    sequential = (sys.executable, "-c", SEQUENTIAL, predict.source)
    return Comparison(
        f"inference of {INFERENCE_CASES} small CTs, no mirroring",
        predict.ours(),
        {
            FOR_EACH: predict.ours_for_each(),
            AS_IT_COMES: predict.theirs(),
            f"{ONE_PROCESS_EACH} and thread": predict.theirs(*one_each, variables=ONE_PROCESS),
            "nnU-Net's sequential function, one thread": predict.command(
                lambda into: [(*sequential, into, model)]
            ),
        },
        as_near_as_asked,
        rounds=0,
        once=frozenset({FOR_EACH}),
    )


class Predictions:
    """Commands that predict the CTs of a folder with a model.

    Each prints how near to ours its masks must come, in Dice, and the folder that they are in.
    """

    def __init__(self, folder: Path, model: Path, variables: dict[str, str] | None = None):
        self.source = folder / "in"
        self._folder, self._model, self._variables = folder, model, variables or {}

    def command(
        self,
        words: Callable[[Path], list[Words]],
        variables: dict[str, str] | None = None,
        least_dice: float = 0.999,
    ) -> Command:
        """Run what predicts into a folder that it is given."""
        into = Path(tempfile.mkdtemp(prefix="out-", dir=self._folder))
        lines = ["{", *words(into), "} >&2", ("echo", least_dice, into)]
        return script(*lines, variables=self._variables | (variables or {}))

    def ours(self, *options: object, least_dice: float = 0.999) -> Command:
        cts = sorted(self.source.iterdir())
        return self.command(
            lambda into: [self._lnq_infer(into, *cts, *options)], least_dice=least_dice
        )

    def ours_for_each(self) -> Command:
        cts = sorted(self.source.iterdir())
        return self.command(lambda into: [self._lnq_infer(into, ct) for ct in cts])

    def _lnq_infer(self, into: Path, *more: object) -> Words:
        options = ("--no-crop", "--no-mirror", "--device", "cpu", "-f", "-q")
        return (PROGRAMS / "lnq-infer", "-m", self._model, "-O", into, *options, *more)

    def theirs(self, *options: object, variables: dict[str, str] | None = None) -> Command:
        program = PROGRAMS / "nnUNetv2_predict_from_modelfolder"
        fixed = ("-f", 0, "-device", "cpu", "--disable_tta", "--disable_progress_bar")
        where = ("-i", self.source, "-m", self._model)
        return self.command(
            lambda into: [(program, *where, "-o", into, *fixed, *options)], variables
        )


def as_near_as_asked(ours: bytes, theirs: bytes) -> bool:
    """Tell whether the masks of two `Predictions` agree; how well goes to standard error."""
    from lnqtools.images.volume import read_label
    from lnqtools.metrics.masks import overlap

    (_, folder), (least_dice, other) = (
        os.fsdecode(said).split(maxsplit=1) for said in (ours, theirs)
    )
    folders = [Path(at.strip()) for at in (folder, other)]
    names, others = (sorted(path.name for path in at.glob("*.nii.gz")) for at in folders)
    if names != others or not names:
        return False
    for name in names:
        a, b = (read_label(at / name) for at in folders)
        dice = overlap(a.array, b.array, a.spacing)["dice"]
        differ = int((a.array != b.array).sum())
        print(f"{other.strip()}/{name}: Dice {dice:.6f}, {differ} voxels", file=sys.stderr)
        if not a.array.any() or dice < float(least_dice):
            return False
    return True


def small_model(folder: Path, **options: Any) -> Path:
    """Write an untrained model, which sees something in each phantom."""
    from lnqtools.nnunet.environment import chatter_to
    from tests.nnunet_data import random_model

    with chatter_to(None):
        return random_model(folder / "model", **options)


def write_phantoms(folder: Path, count: int = INFERENCE_CASES) -> None:
    """Write CTs for nnU-Net into in/."""
    from lnqtools.images.volume import Volume, write_volume
    from lnqtools.phantom import make_phantom

    (folder / "in").mkdir()
    for number in range(count):
        phantom = make_phantom(0, number)
        path = folder / "in" / f"case{number}_0000.nii.gz"
        write_volume(Volume(phantom.ct, phantom.grid), path)


def network_alone(folder: Path) -> Comparison:
    """Compare predictions in memory with the network's passes that they need."""
    import torch

    from lnqtools.images.volume import Volume
    from lnqtools.nnunet import window
    from lnqtools.nnunet.environment import network_memory
    from lnqtools.nnunet.predict import Predictor
    from lnqtools.phantom import make_phantom

    model = small_model(folder, spacing=(4.0, 3.5, 3.5), patch=(40, 48, 56))
    predictor = Predictor(model, mirroring=False, device="cpu", threads=1)
    torch.set_num_threads(1)
    phantoms = [make_phantom(0, number) for number in range(PREDICTED_CASES)]
    patches = sum(predictor.patch_count(p.grid) for p in phantoms)

    def whole(together: int = window.TOGETHER) -> tuple[int, list[bytes]]:
        window.TOGETHER = together
        passes: list[int] = []
        images = (Volume(phantom.ct, phantom.grid) for phantom in phantoms)
        found = [predictor.predict(image, progress=passes.append) for image in images]
        return len(passes), [prediction.mask.tobytes() for prediction in found]

    def passes() -> tuple[int, list[bytes]]:
        network = predictor._model.network
        size = predictor._model.configuration.patch_size
        patch = torch.randn(window.TOGETHER, 1, *size)
        with torch.inference_mode(), network_memory("cpu"):
            pairs = (network(patch) for _ in range(patches // window.TOGETHER))
            return sum(map(len, pairs)), []

    return Comparison(
        f"prediction of {PREDICTED_CASES} small CTs in memory, {patches} patches, one thread",
        whole,
        {"one patch at a time": lambda: whole(1), "the network's passes alone": passes},
        lambda a, b: a[0] == b[0] and b[1] in ([], a[1]),
        rounds=3,
    )


PAPER_GRID = {"spacing": (3.0, 0.93, 0.93), "shape": (84, 210, 297)}
"""Voxels and size in the median of the paper's cropped CTs."""
BF16 = "lnq-infer --precision bf16"


def compile_programs(folder: Path) -> None:
    """Run what predicts on a small case, so that Python has compiled it when it is measured."""
    folder.mkdir()
    model = small_model(folder, **COARSE)
    write_phantoms(folder, 1)
    predict = Predictions(folder, model)
    for command in (predict.ours(), predict.theirs("-npp", 1, "-nps", 1, variables=ONE_PROCESS)):
        command()


def network(folder: Path) -> Comparison:
    """Compare one prediction by a network of the paper's size, files to files."""
    compile_programs(folder / "first")
    model = small_model(folder, recipe="paper", patch=None, **PAPER_GRID)
    (folder / "in").mkdir()
    ct = folder / "in" / "case_0000.nii.gz"
    subprocess.run([PROGRAMS / "lnq-phantom", "-n1", "--size=full", "-qO", folder], check=True)
    (whole,) = (folder / "ct").iterdir()
    subprocess.run([PROGRAMS / "lnq-crop", whole, "-qo", ct], check=True)
    predict = Predictions(folder, model, {"OMP_NUM_THREADS": "1"})
    peers = {
        ONE_PROCESS_EACH: predict.theirs("-npp", 1, "-nps", 1, variables=ONE_PROCESS),
        AS_IT_COMES: predict.theirs(),
    }
    if BFLOAT_INSTRUCTIONS & processor_flags():  # random weights are never sure
        peers[BF16] = predict.ours("--precision", "bf16", least_dice=0.8)
    return Comparison(
        "prediction of a full-size CT by the paper's network",
        predict.ours(),
        peers,
        as_near_as_asked,
        rounds=0,
    )


STEPS = 3
"""In one go: the first one asks the system for memory, the others find it kept."""


def network_step(folder: Path) -> Comparison:
    """Compare steps of training a network of the paper's size."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from lnqtools.nnunet.environment import chatter_to, network_memory
    from lnqtools.nnunet.precision import computes_in
    from lnqtools.nnunet.trainer import LNQTrainer
    from tests.nnunet_data import trainer_by

    torch.set_num_threads(1)
    grid = {"spacing": PAPER_GRID["spacing"], "shape": PAPER_GRID["shape"]}
    with chatter_to(None):
        trainer = trainer_by(folder, recipe="paper", **grid)
        trainer.initialize()
    plain = trainer.network.forward
    size = (1, 1, *trainer.configuration_manager.patch_size)
    patch = torch.randn(size, generator=torch.Generator().manual_seed(0))
    target = [
        (torch.nn.functional.interpolate(patch, scale_factor=s) > 1).float()
        for s in trainer._get_deep_supervision_scales()
    ]
    batch = {"data": patch, "target": target}

    def step(precision: str, kept: bool) -> Callable[[], int]:
        def work() -> int:
            trainer.network.forward = computes_in(plain, precision, patch.device)
            with network_memory("cpu") if kept else nullcontext():
                for _ in range(STEPS):
                    nnUNetTrainer.train_step(trainer, batch)
            return STEPS

        return work

    peers = {"nnUNetTrainer": step("auto", kept=False)}
    if BFLOAT_INSTRUCTIONS & processor_flags():
        peers[f"{LNQTrainer.__name__} in bf16"] = step("bf16", kept=True)
    return Comparison(
        f"{STEPS} training steps of the paper's network, one patch each",
        step("auto", kept=True),
        peers,
        lambda a, b: a == b,
        rounds=0,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "nnunet-training": compared(training),
    "nnunet-epochs": compared(epochs),
    "nnunet-inference": compared(inference),
    "nnunet-network": compared(network_alone),
    "network": compared(network),
    "network-step": compared(network_step),
}
