"""What the tests on a GPU share: a cohort, models trained on it, and a table of what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lnqtools.nnunet.environment import environment
from tests.conftest import BIN, ROOT, succeed
from tests.gpu.machine import circumstances
from tests.nnunet_data import write_bright_nodes

CASES = 6
REPORT = ROOT / "build" / "gpu" / "gpu-test.md"
RECIPE = """
epochs = {epochs}
iterations = {iterations}
validation_iterations = 2
learning_rate = 3e-2
momentum = 0.9
save_every = 1
patch = [32, 32, 32]
batch = 2
features = [8, 16, 32]
convolutions = 1
"""
LENGTHS = {"cuda": (8, 100), "cpu": (3, 10)}
"""Epochs and batches in one: two minutes on a GPU, with two starts; to rehearse, a few seconds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cuda", "cpu"), help="where networks run")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave these tests to make gpu-test."""
    return None if config.getoption("--device", None) else True


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--device")


@pytest.fixture
def on_cuda(device: str) -> None:
    if device != "cuda":
        pytest.skip("takes a GPU")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ct, label, truth, and the CTs as nnU-Net's command wants them, in."""
    folder = tmp_path_factory.mktemp("gpu")
    write_bright_nodes(folder, CASES)
    (folder / "in").mkdir()
    for number, ct in enumerate(sorted((folder / "ct").iterdir())[:2]):
        (folder / "in" / f"case{number}_0000.nii.gz").symlink_to(ct)
    return folder


@dataclass(frozen=True)
class Training:
    """A call of lnq-train, by default the one whose model most tests use."""

    folder: Path
    model: Path
    device: str
    fold: str = "0"
    lengths: tuple[int, int] = LENGTHS["cpu"]

    def command(self, *more: object) -> list[str]:
        epochs, iterations = self.lengths
        recipe = self.folder / f"{epochs}-{iterations}.toml"
        recipe.write_text(RECIPE.format(epochs=epochs, iterations=iterations))
        cases = ("--images", self.folder / "ct", "--labels", self.folder / "label")
        which = ("--recipe", recipe, "--fold", self.fold, "-m", self.model)
        workers = () if self.device == "cuda" else ("--workers", 1)
        words = (*cases, *which, "--device", self.device, *workers, *more)
        return ["lnq-train", *map(str, words)]


@pytest.fixture(scope="session")
def training(folder: Path, device: str) -> Training:
    return Training(folder, folder / "model", device, lengths=LENGTHS[device])


@dataclass(frozen=True)
class Killed:
    """A training that was killed in its second epoch or later, and went on to its end."""

    model: Path
    cohorts: str
    workers: list[int]
    """Processes that augmented for the killed one."""


@pytest.fixture(scope="session")
def killed(training: Training) -> Killed:
    command = training.command("-s", "--keep-preprocessed", "--validate")
    latest = training.model / "fold_0" / "checkpoint_latest.pth"
    process = subprocess.Popen([BIN / command[0], *command[1:]], stdout=subprocess.DEVNULL)
    while not latest.exists():
        assert process.poll() is None
        time.sleep(0.02)
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    process.send_signal(signal.SIGKILL)
    process.wait()
    cohorts = (training.model / "cohorts.tsv").read_text()
    succeed(*command, anew=True)
    return Killed(training.model, cohorts, [int(child) for child in told.split()])


@pytest.fixture(scope="session")
def model(killed: Killed, training: Training) -> Path:
    """Return a model with two folds, the second of which was trained without torch's compiler."""
    with environment({"nnUNet_compile": "0"}):
        succeed(*replace(training, fold="1").command("--keep-preprocessed"), anew=True)
    return killed.model


@pytest.fixture(scope="session")
def cpu_model(folder: Path) -> Path:
    """Return a model that was trained for a short time on the CPU."""
    made = Training(folder, folder / "cpu model", "cpu")
    succeed(*made.command(), anew=True)
    return made.model


@pytest.fixture(scope="session")
def predict(folder: Path) -> Callable[..., tuple[Path, Path]]:
    """Return what predicts two CTs, and returns the folders of masks and of probabilities."""

    def predicted(*options: object) -> tuple[Path, Path]:
        into = folder / f"predicted-{len(list(folder.glob('predicted-*')))}"
        cts = sorted((folder / "in").iterdir())
        where = ("--no-crop", "-O", into / "masks", "--probabilities", into / "probabilities")
        succeed("lnq-infer", *cts, *options, *where, anew=True)
        return into / "masks", into / "probabilities"

    return predicted


# The table


def pytest_configure(config: pytest.Config) -> None:
    if device := config.getoption("--device", None):
        config.pluginmanager.register(Table(device))


class Table:
    """Writes what came of each test."""

    def __init__(self, device: str):
        self._head = f"`make gpu-test DEVICE={device}`: {circumstances()}"
        self._rows: dict[str, list[str]] = {}
        self._seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.split("::")[-1].removeprefix("test_").replace("_", " ")
        self._seconds[name] = self._seconds.get(name, 0) + report.duration
        told = [f"{what}: {value}" for what, value in report.user_properties]
        if report.skipped:
            told = [str(report.longrepr[2])]
        if report.when == "call" or not report.passed:
            self._rows[name] = [report.outcome, "; ".join(told).replace("|", "/")]

    def pytest_sessionfinish(self) -> None:
        rows = [
            f"| {name} | {outcome} | {self._seconds[name]:.0f} | {told} |"
            for name, (outcome, told) in self._rows.items()
        ]
        cpu_s = sum(os.times()[:4])  # of children, too
        self._head += f"; {sum(self._seconds.values()):.0f} s, {cpu_s:.0f} CPU s"
        head = [self._head, "", "| what | outcome | s | measured |", "|---|---|---|---|"]
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text("\n".join([*head, *rows]) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(REPORT.read_text())


def runs(model: Path) -> list[dict]:
    """Return what a model's record says of the runs that trained it."""
    return json.loads((model / "lnq-train.json").read_text())["runs"]
