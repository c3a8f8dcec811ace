"""What the processes of a running tool take: memory and open files, looked at while they run."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import BIN, environment

EVERY_SECONDS = 0.1
SHARED_MEMORY = Path("/dev/shm")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """The largest process of those watched, the one with most open files, and how many there are.

    Memory is a process's own: what it maps of files, as libraries, comes and goes. When a process
    that has loaded torch ends, it touches 130 MB of these.
    """

    second: float
    own_bytes: int
    files: int
    processes: int


@dataclass(frozen=True)
class Watched:
    """How a tool ended, what it said, what it took, and what it left that it should not."""

    status: int
    out: list[str]
    err: list[str]
    seconds: float
    samples: tuple[Sample, ...]
    left: tuple[str, ...]

    def most(self, begin: float, end: float) -> tuple[float, int]:
        """Return the most MB and the most open files of one process in a part of the run."""
        last = self.samples[-1].second if self.samples else 0
        part = [s for s in self.samples if begin * last <= s.second <= end * last]
        return (
            max((s.own_bytes for s in part), default=0) / 1e6,
            max((s.files for s in part), default=0),
        )


def running() -> dict[Path, tuple[Path, Path]]:
    """Return the folder in /proc of each process, and those of its parent and its group's first.

    One that has ended and waits for burial runs no more.
    """
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                state, parent, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z":
                    found[folder] = (folder.with_name(parent), folder.with_name(group))
    return found


def begun_by(first: Path) -> set[Path]:
    """Return the processes of a group, and those they began: TotalSegmentator's leaves it."""
    processes = running()
    found = {folder for folder, (_, group) in processes.items() if group == first}
    while begun := {p for p, (parent, _) in processes.items() if parent in found} - found:
        found |= begun
    return found


def sample(folders: Iterable[Path], second: float) -> Sample:
    """Look at processes."""
    own, files = [], []
    for folder in folders:
        with suppress(OSError, ValueError):
            _, resident, of_files = map(int, (folder / "statm").read_text().split()[:3])
            own.append((resident - of_files) * PAGE_BYTES)
            files.append(sum(1 for _ in (folder / "fd").iterdir()))
    return Sample(second, max(own, default=0), max(files, default=0), len(own))


def watch(
    tool: str,
    *arguments: str | Path,
    stdin: Sequence[Path] = (),
    variables: dict[str, str] | None = None,
) -> Watched:
    """Run an installed tool in a process group and a TMPDIR of its own, and look at it.

    ``stdin`` are paths, which end with NUL.
    """
    samples: list[Sample] = []
    seen: set[Path] = set()
    with tempfile.TemporaryDirectory(prefix="lnq-watch.") as scratch:
        start = time.monotonic()
        process = subprocess.Popen(
            [str(BIN / tool), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), "TMPDIR": scratch, "OMP_NUM_THREADS": "1", **(variables or {})},
            start_new_session=True,
        )
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(EVERY_SECONDS):
                folders = begun_by(Path("/proc") / str(process.pid))
                seen.update(folders)
                samples.append(sample(folders, time.monotonic() - start))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            out, err = process.communicate(b"".join(os.fsencode(path) + b"\0" for path in stdin))
        finally:
            ended.set()
            watcher.join()
        seconds = time.monotonic() - start
        left = [f"{path.name} in TMPDIR" for path in Path(scratch).iterdir()]
    left += [f"process {folder.name}" for folder in seen & running().keys()]
    numbers = {folder.name for folder in seen}
    for path in SHARED_MEMORY.iterdir():  # torch_PID_…; other runs have theirs there, too
        left += [str(path) for number in path.name.split("_") if number in numbers]
    lines = err.decode(errors="replace").splitlines()
    return Watched(
        process.returncode,
        [os.fsdecode(path) for path in out.replace(b"\n", b"\0").split(b"\0") if path],
        lines,
        seconds,
        tuple(samples),
        tuple(left),
    )
