"""Run TotalSegmentator on many CTs, in one process that is kept alive for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.files.atomic import private_folder
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume, read_label, write_volume
from lnqtools.memory import require_memory, resampled_size
from lnqtools.totalseg.weights import models_of, user_folder, weights_folder

_SETTINGS = {
    "totalseg_id": "",
    "send_usage_stats": False,
    "prediction_counter": 0,
    "statistics_disclaimer_shown": True,
}


SPACING_MM = {"default": 1.5, "fast": 3.0}
"""Spacing of the grids that TotalSegmentator brings a CT to."""
VOXEL_BYTES = {"default": 4 + 2 * 25 // 3, "fast": 4 + 2 * 118}
"""What a voxel of these grids takes at least: the CT, and each class in half precision. The
five networks of the task total have 25 classes or more, and see a large CT in three parts."""


class Segmenter:
    """TotalSegmentator in a process of its own, with a private home and no network.

    The process starts with the first CT and loads each model once. If it dies, that CT fails
    and the next one gets a new process. Close it, or use it in a ``with`` statement.

    Parameters
    ----------
    task : str
        ``total``, ``lung_vessels`` or ``trunk_cavities``.
    fast : bool
        The 3 mm model of the task ``total``.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
    threads : int, optional
        CPU threads; by default as many as this process may run on.
    chatter : file, optional
        Where the package's own messages go; by default they are kept for errors only.

    Attributes
    ----------
    weights : list of str
        Names of the models that the task runs.

    Raises
    ------
    LnqError
        If the task has no fast variant. That the package and the weights are there is checked
        before: `lnqtools.totalseg.weights.require_weights`.
    """

    def __init__(
        self,
        task: str = "total",
        *,
        fast: bool = False,
        device: str = "auto",
        threads: int | None = None,
        chatter: IO | None = None,
    ):
        self.task, self.fast = task, fast
        self.weights = [model.parts[0] for model in models_of(task, fast).values()]
        self._settings = {
            "device": device,
            "threads": threads or len(os.sched_getaffinity(0)),
        }
        self._chatter = chatter
        self._home = private_folder("lnq-totalseg")
        self._worker: _Worker | None = None
        _furnish(Path(self._home.name), self.weights)

    def __enter__(self) -> Segmenter:
        """Return the segmenter."""
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the process and remove its folder."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._home.cleanup()

    def segment(self, ct: Volume, *, low_resolution: bool = False) -> Volume:
        """Return the multilabel map of a CT.

        Parameters
        ----------
        ct : Volume
            In HU.
        low_resolution : bool
            With ``fast``: the map as the model gives it, at about 3 mm, on a lattice whose
            first and last voxel centers are those of the CT. It saves time and, for a large CT,
            gigabytes of memory.

        Returns
        -------
        Volume
            uint8; its header names the structures.

        Raises
        ------
        LnqError
            If TotalSegmentator fails, it is unknown how the CT's axes lie, the CT has no voxel on
            its grid, or so many that this machine's memory does not hold them.
        """
        ct.grid.require_axes()
        mode = "fast" if self.fast else "default"
        step_mm = SPACING_MM[mode]
        size = resampled_size(ct.array.shape, ct.spacing, [step_mm] * 3)
        if min(size) < 1:
            raise LnqError(f"is thinner than half a voxel of TotalSegmentator's {step_mm:g} mm")
        require_memory(size, VOXEL_BYTES[mode])
        home = Path(self._home.name)
        ct_file, map_file = home / "ct.nii", home / "map.nii"
        write_volume(Volume(ct.array, ct.grid), ct_file, None)
        try:
            self._ask(
                {
                    "ct": str(ct_file),
                    "map": str(map_file),
                    "task": self.task,
                    "fast": self.fast,
                    "low_resolution": low_resolution,
                }
            )
            found = read_label(map_file)
        finally:
            ct_file.unlink(missing_ok=True)
            map_file.unlink(missing_ok=True)
        return replace(found, grid=_lattice_of_map(found.grid, ct.grid), notes=())

    def _ask(self, request: dict) -> None:
        """Have the process do a request; if it ends over it, the next request gets a new one."""
        if self._worker is None:
            self._worker = _Worker(self._home.name, self._settings, self._chatter)
        try:
            self._worker.ask(request)
        except _WorkerEndedError:
            self._worker = None
            raise


class _WorkerEndedError(LnqError):
    """The process ended instead of answering."""


class _Worker:
    """A process that runs `lnqtools.totalseg.worker` in a private home."""

    def __init__(self, home: str, settings: dict, chatter: IO | None):
        self._log = Path(home, "log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "lnqtools.totalseg.worker"),
                    json.dumps({"home": home, **settings}),
                ],
                env=_environment(home),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=chatter or log,
                start_new_session=True,  # Ctrl-C comes to the tool, which ends the process
            )
        try:
            self._hear()
        except BaseException:
            self.stop()
            raise

    def ask(self, request: dict) -> None:
        """Send a request and wait until it is done."""
        with suppress(BrokenPipeError):  # it ended: the missing answer says so
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        self._hear()

    def stop(self) -> None:
        """End the process, whatever it is doing, and what it may have started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):
            self._requests.close()

    @property
    def _requests(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _hear(self) -> None:
        """Wait for an answer; raise LnqError if it is an error or does not come."""
        line = self._answers.readline()
        if not line:
            raise _WorkerEndedError(f"TotalSegmentator failed: {self._last_words()}")
        if error := json.loads(line).get("error"):
            raise LnqError(f"TotalSegmentator failed: {error}")

    def _last_words(self) -> str:
        """Say how the process ended."""
        status = self._process.wait()
        self.stop()
        if status < 0:
            return f"its process ended by signal {-status} (out of memory?)"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with status {status}"


def _furnish(home: Path, models: list[str]) -> None:
    """Fill a private home: settings that send nothing, and links to the weights of a task.

    With links to these alone TotalSegmentator neither tidies the user's folder nor stumbles
    over older models in it.
    """
    settings = dict(_SETTINGS)
    try:
        user = json.loads((user_folder() / "config.json").read_text())
        settings["license_number"] = user["license_number"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no license: the tasks of lnq-anatomy need none
    (home / "config.json").write_text(json.dumps(settings))
    (home / "weights").mkdir()
    for name in models:
        (home / "weights" / name).symlink_to((weights_folder() / name).resolve())


def _environment(home: str) -> dict[str, str]:
    """Return the variables of the process."""
    checkout = str(Path(__file__).resolve().parents[2])
    paths = [checkout, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "TOTALSEG_HOME_DIR": home,
        "TOTALSEG_WEIGHTS_PATH": str(Path(home, "weights")),
        "TMPDIR": home,
        "MPLCONFIGDIR": home,
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _lattice_of_map(found: Grid, ct: Grid) -> Grid:
    """Return where a map's voxels truly lie.

    TotalSegmentator resamples so that the first and the last voxel centers of the CT and of the
    low-resolution image meet, but writes its nominal spacing: up to 4.5 mm off at the far end.
    A map of the CT's size lies on the CT's grid; one that lies elsewhere is refused.
    """
    z, y, x = (
        step if many == few else (many - 1) * step / (few - 1) if few > 1 else many * step
        for many, few, step in zip(ct.shape, found.shape, ct.spacing, strict=True)
    )
    true = replace(ct, shape=found.shape, spacing=(z, y, x))
    corners = np.array([0, 0, 0]), np.array(found.shape) - 1
    off_mm = max(float(np.abs(true.world(c) - found.world(c)).max()) for c in corners)
    if off_mm > 2 * max(found.spacing):
        raise LnqError(f"TotalSegmentator's map lies {off_mm:.0f} mm away from the CT")
    return true
