"""Peak memory of a call in a forked child, or of a command: what tracemalloc does not see."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MB = 1e6

# A process started from a large one counts the large one's memory as its own peak until it has
# loaded its program. So a small one starts it, and asks for the peak of its children.
LAUNCHER = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
sys.stdout.buffer.write(b"%d\\n" % (kilobytes * 1024) + done.stdout)
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Call:
    """What a call returned and took; the peak is beyond what was held before."""

    result: Any
    cpu_s: float
    wall_s: float
    peak_mb: float


@dataclass(frozen=True)
class Command:
    """A program to run; calling it returns what it prints."""

    arguments: tuple[str, ...]

    def __call__(self) -> bytes:
        return subprocess.run(self.arguments, capture_output=True, check=True).stdout

    def with_peak(self) -> tuple[bytes, float]:
        """Return what it prints and the peak in MB of the largest process that it was."""
        command = [sys.executable, "-S", "-c", LAUNCHER, *self.arguments]
        printed = subprocess.run(command, capture_output=True, check=True).stdout
        peak, _, output = printed.partition(b"\n")
        return output, int(peak) / MB


def measure(work: Callable) -> tuple[float, float]:
    """Return CPU (children's too) and wall seconds of one call."""
    return _timed(work)[1:]


def _timed(work: Callable) -> tuple[Any, float, float]:
    before, wall = _cpu_s(), time.perf_counter()
    result = work()
    return result, _cpu_s() - before, time.perf_counter() - wall


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that ended, in microseconds' steps."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def first_call(work: Callable) -> Call:
    """Call once in a forked child and watch its memory. What it returns must be picklable."""
    if isinstance(work, Command):
        (result, peak_mb), cpu, wall = _timed(work.with_peak)
        return Call(result, cpu, wall, peak_mb)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(_watched(work)))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise ChildProcessError("the measured call failed in its process") from None
    finally:
        child.join()


def _watched(work: Callable) -> Call:
    """Call, and compare the peak of this process with what it held before."""
    # What was freed but kept for reuse would hide a part of the peak.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    held = _memory_mb("VmRSS")
    result, cpu, wall = _timed(work)
    return Call(result, cpu, wall, _memory_mb("VmHWM") - held)


def _memory_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / MB
    raise OSError(f"/proc/self/status does not say {field}")
