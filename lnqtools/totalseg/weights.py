"""TotalSegmentator's weights: which ones a task needs, where they lie, whether they are whole.

TotalSegmentator downloads whenever a model's folder is missing, and never again once the folder
is there, even if the unpacking was interrupted. So the files are looked at before it starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lnqtools.errors import LnqError, MissingExtraError

TASKS = ("total", "lung_vessels", "trunk_cavities")
MODEL_FILES = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
_LOBES_MODEL = {"robust": 297, "rough": 298}
"""Models that find the lungs for tasks that look inside them only."""
_FETCH = (
    "import sys; from totalsegmentator.libs import download_pretrained_weights as fetch; "
    "[fetch(int(number)) for number in sys.argv[1:]]"
)


def require_totalsegmentator() -> None:
    """Raise MissingExtraError unless TotalSegmentator and what it runs on are installed."""
    for module in ("totalsegmentator", "torch", "nnunetv2"):
        if find_spec(module) is None:
            raise MissingExtraError("totalsegmentator", module)


def models_of(task: str, fast: bool) -> tuple[int, ...]:
    """Return the numbers of the models that a task runs.

    Raises
    ------
    LnqError
        If the task has no fast variant, or the installed version does not know it.
    """
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    config = TASK_CONFIGS.get(task)
    if config is None:
        raise LnqError(f"the installed TotalSegmentator has no task {task}")
    if "sub_modes" in config:
        config = config["sub_modes"]["fast" if fast else "default"]
    elif fast:
        raise LnqError(f"the task {task} has no fast variant")
    numbers = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
    if config.get("crop"):
        numbers = [_LOBES_MODEL["robust" if config.get("robust_crop") else "rough"], *numbers]
    return tuple(numbers)


def folder_names(models: Iterable[int]) -> dict[int, str]:
    """Return the names of the models' folders; they carry the data set and its version."""
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    return {number: str(TASK_ID_WEIGHTS_CONFIGS[number]["foldername"]) for number in models}


def user_folder() -> Path:
    """Return where TotalSegmentator keeps the user's settings and, by default, weights."""
    if home := os.environ.get("TOTALSEG_HOME_DIR"):
        return Path(home)
    home_directory = Path.home()
    return (Path("/tmp") if home_directory == Path("/") else home_directory) / ".totalsegmentator"


def weights_folder() -> Path:
    """Return where TotalSegmentator looks for weights, by its own environment variables."""
    if given := os.environ.get("TOTALSEG_WEIGHTS_PATH"):
        return Path(given)
    return user_folder() / "nnunet" / "results"


def missing_weights(models: Iterable[int]) -> dict[int, str]:
    """Return what is wrong with the weights, by model; {} if all are whole."""
    wrong = {}
    for number, name in folder_names(models).items():
        if (what := _what_is_missing(weights_folder() / name)) is not None:
            wrong[number] = f"{name} {what}"
    return wrong


def _what_is_missing(folder: Path) -> str | None:
    """Say what a model's folder lacks, or None if it is whole."""
    if not folder.is_dir():
        return "is missing"
    trained = sorted(folder.glob("*__*__*"))
    if not trained:
        return "is empty (an interrupted download?)"
    for file in MODEL_FILES:
        if not any((model / file).is_file() for model in trained):
            return f"lacks {Path(file).name} (an interrupted download?)"
    if not any(_is_whole(model / MODEL_FILES[-1]) for model in trained):
        return "holds a truncated checkpoint_final.pth (an interrupted download?)"
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint, which is a zip archive, has its end."""
    if not checkpoint.is_file():
        return False
    with checkpoint.open("rb") as stream:
        is_archive = stream.read(2) == b"PK"
    return zipfile.is_zipfile(checkpoint) if is_archive else checkpoint.stat().st_size > 0


def require_weights(task: str, fast: bool) -> None:
    """Raise LnqError unless all weights of a task are whole; the message says what to do."""
    wrong = missing_weights(models_of(task, fast))
    if not wrong:
        return
    commands = " && ".join(
        f"totalseg_download_weights -t {name}" for name in _download_names(task, fast, wrong)
    )
    raise LnqError(
        f"TotalSegmentator's weights in {weights_folder()} are not whole: "
        f"{'; '.join(wrong.values())}; --download fetches them, as does, on a machine with a "
        f"network, {commands} ($TOTALSEG_WEIGHTS_PATH names another place); to crop to the "
        "lungs without them: --lungs hu"
    )


def _download_names(task: str, fast: bool, wrong: Iterable[int]) -> list[str]:
    """Return the names under which TotalSegmentator's own command fetches what is missing."""
    own = f"{task}_fast" if fast else task
    lobes = set(wrong) & set(_LOBES_MODEL.values())
    others = set(wrong) - lobes
    return [
        *([own] if others or task == "total" else []),
        *(["total_fast"] if lobes and not fast else []),
    ]


def fetch_weights(task: str, fast: bool) -> None:
    """Download what a task lacks, whole or not at all.

    Each model is unpacked beside the others under another name, looked at, and then renamed;
    what an interrupted download left behind is replaced.

    Raises
    ------
    LnqError
        If a download fails.
    """
    wrong = missing_weights(models_of(task, fast))
    if not wrong:
        return
    target = weights_folder()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lnq-download-", dir=target) as fresh:
            _run_download(Path(fresh), wrong)
            for number, name in folder_names(wrong).items():
                if (what := _what_is_missing(Path(fresh) / name)) is not None:
                    raise LnqError(f"the download of model {number} failed: {name} {what}")
                _move_in(Path(fresh) / name, target / name)
    except OSError as error:
        raise LnqError(f"cannot keep weights in {target}: {error.strerror or error}") from None


def _run_download(folder: Path, models: Iterable[int]) -> None:
    """Let TotalSegmentator download models into a folder, in a process of its own."""
    settings = {"TOTALSEG_WEIGHTS_PATH": str(folder), "TOTALSEG_HOME_DIR": str(user_folder())}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _FETCH, *map(str, models)],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise LnqError(f"the download of TotalSegmentator's weights failed: {lines[-1]}")


def _move_in(fresh: Path, place: Path) -> None:
    """Put a whole model in the place of what is there, unless another process was first."""
    if _what_is_missing(place) is None:
        return
    if place.exists():
        shutil.rmtree(place)
    fresh.rename(place)
