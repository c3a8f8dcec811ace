"""TotalSegmentator's weights: which ones a task needs, where they lie, whether they are whole.

TotalSegmentator downloads whenever a model's folder is missing, and never again once the folder
is there, even if the unpacking was interrupted. So the files are looked at before it starts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lnqtools.errors import LnqError, MissingExtraError, os_errors
from lnqtools.files.atomic import private_folder

MODEL_FILES = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
_FETCH = (
    "import sys; from totalsegmentator.libs import download_pretrained_weights as fetch; "
    "[fetch(int(number)) for number in sys.argv[1:]]"
)


class MissingWeightsError(LnqError):
    """Weights that a task needs are not there, or not whole."""


def require_totalsegmentator() -> None:
    """Raise MissingExtraError unless TotalSegmentator and what it runs on are installed."""
    for module in ("totalsegmentator", "torch", "nnunetv2"):
        if find_spec(module) is None:
            raise MissingExtraError("totalsegmentator", module)


def classes_of(task: str) -> dict[int, str]:
    """Return number → name of a task's structures in the installed version."""
    from totalsegmentator.map_to_binary import class_map

    return dict(class_map[task])


def models_of(task: str, fast: bool) -> dict[int, Path]:
    """Return number → folder of the models that a task runs.

    A folder lies in that of the weights and is the one that TotalSegmentator reads: data set
    with its version, then trainer, plans and configuration.

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
    lobes = _lobes_model("fast" if config.get("robust_crop") else "fastest")
    return {**(lobes if config.get("crop") else {}), **_model_folders(config)}


def _lobes_model(mode: str) -> dict[int, Path]:
    """Return the model that finds the lungs for tasks that look inside them only."""
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    return _model_folders(TASK_CONFIGS["total"]["sub_modes"][mode])


def _model_folders(config: dict[str, Any]) -> dict[int, Path]:
    """Return number → folder of the models of one of TotalSegmentator's configurations."""
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    numbers = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
    plans, model = config.get("plans") or "nnUNetPlans", config.get("model") or "3d_fullres"
    trained = f"{config['trainer']}__{plans}__{model}"
    return {
        number: Path(str(TASK_ID_WEIGHTS_CONFIGS[number]["foldername"]), trained)
        for number in numbers
    }


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


def missing_weights(models: Mapping[int, Path]) -> dict[int, str]:
    """Return what is wrong with the weights, by model; {} if all are whole."""
    wrong = {}
    for number, model in models.items():
        if (what := _what_is_missing(weights_folder() / model)) is not None:
            wrong[number] = f"{model.parent} {what}"
    return wrong


def _what_is_missing(model: Path) -> str | None:
    """Say what a data set's folder with a model in it lacks, or None if it is whole."""
    if not model.parent.is_dir():
        return "is missing"
    flaw = _flaw(model)
    return flaw and f"{flaw} (an interrupted download?)"


def _flaw(model: Path) -> str | None:
    """Say which part of a model is not there or cut off, or None if it is whole."""
    if not model.is_dir():
        return f"lacks {model.name}"
    for file in MODEL_FILES:
        if not (model / file).is_file():
            return f"lacks {Path(file).name}"
        if not _is_whole(model / file):
            return f"holds a truncated {Path(file).name}"
    return None


def _is_whole(file: Path) -> bool:
    """Tell whether a file of a model, which is JSON or a zip archive, has its end."""
    if file.suffix == ".json":
        try:
            return isinstance(json.loads(file.read_bytes()), dict)
        except ValueError:
            return False
    with file.open("rb") as stream:
        is_archive = stream.read(2) == b"PK"
    return zipfile.is_zipfile(file) if is_archive else file.stat().st_size > 0


def require_weights(task: str, fast: bool) -> None:
    """Raise MissingWeightsError, with what to do, unless all weights of a task are whole."""
    models = models_of(task, fast)
    wrong = missing_weights(models)
    if not wrong:
        return
    commands = " && ".join(
        f"totalseg_download_weights -t {name}" for name in _download_names(task, fast, wrong)
    )
    # TotalSegmentator takes a folder that is there for a whole model
    broken = any((weights_folder() / models[number].parent).exists() for number in wrong)
    first = ", once such folders are removed" if broken else ""
    raise MissingWeightsError(
        f"TotalSegmentator's weights in {weights_folder()} are not whole: "
        f"{'; '.join(wrong.values())}; on a machine with a network {commands} fetches them{first} "
        "($TOTALSEG_WEIGHTS_PATH names another place)"
    )


def _download_names(task: str, fast: bool, wrong: Iterable[int]) -> list[str]:
    """Return the names under which TotalSegmentator's own command fetches what is missing."""
    if task == "total":
        return ["total_fast" if fast else "total"]
    lobes = {*_lobes_model("fast"), *_lobes_model("fastest")}  # it fetches both under one name
    own, finders = {*wrong} - lobes, {*wrong} & lobes
    return [*([task] if own else []), *(["total_fast"] if finders else [])]


def fetch_weights(task: str, fast: bool) -> None:
    """Download what a task lacks, whole or not at all.

    Each model is unpacked beside the others under another name, looked at, and then renamed;
    what an interrupted download left behind is replaced.

    Raises
    ------
    LnqError
        If a download fails.
    """
    models = models_of(task, fast)
    wrong = missing_weights(models)
    if not wrong:
        return
    target = weights_folder()
    with os_errors(f"cannot keep weights in {target}"):
        target.mkdir(parents=True, exist_ok=True)
        with private_folder("lnq-download", target) as fresh:
            _run_download(Path(fresh), wrong)
            for number in wrong:
                model = models[number]
                if (what := _what_is_missing(Path(fresh) / model)) is not None:
                    raise LnqError(f"the download of model {number} failed: {model.parent} {what}")
                _move_in(Path(fresh) / model, target / model)


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


def _move_in(fresh: Path, model: Path) -> None:
    """Put a whole model in the place of what is there, unless another process was first."""
    if _what_is_missing(model) is None:
        return
    if model.parent.exists():
        shutil.rmtree(model.parent)
    fresh.parent.rename(model.parent)
