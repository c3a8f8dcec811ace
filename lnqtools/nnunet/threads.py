"""How many CPU threads a network runs fastest with: measured, not guessed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

CLEARLY_FASTER = 0.9
"""More threads must take at most this part of the time of fewer: they hinder other work."""

MOST_WORKERS = 16
"""For each GPU: a batch of two patches of the paper's size takes half a second of a core to augment
(measured), and a fast GPU some 0.06 s or more to learn from (estimated), which is 6 to 13 cores."""

LONG_ENOUGH_S = 1.0
REPEATS = 4


def allotted_cores() -> int:
    """Return the cores that this process may use: OMP_NUM_THREADS if set, else those allotted."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else cores()


def cores() -> int:
    """Return the cores that this process and its children may use together."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def augmenting_workers(gpus: int) -> int:
    """Return how many processes augment patches for each of the GPUs.

    All cores but one, shared between the GPUs: 1 to `MOST_WORKERS` each. The threads that
    OMP_NUM_THREADS grants one process do not count: each of these has one.
    """
    return min(MOST_WORKERS, max(1, (cores() - 1) // gpus))


def fastest_threads(step_with: Callable[[int], None], most: int) -> int:
    """Return the number of threads, among 1, 2, 4 … and ``most``, that a step is fastest with.

    The search ends at the first number that is not clearly faster than the one before. A step
    is timed by the shortest of up to four runs, which together take about a second, or one run
    if it takes longer.

    Parameters
    ----------
    step_with : callable
        Does one step with so many threads.
    most : int
    """
    best, best_s = 1, 0.0
    for threads in _candidates(most):
        seconds = _seconds(step_with, threads)
        if threads > 1 and seconds > CLEARLY_FASTER * best_s:
            break
        best, best_s = threads, seconds
    return best


def _candidates(most: int) -> list[int]:
    powers = [2**k for k in range(most.bit_length()) if 2**k < most]
    return [*powers, most] if most > 1 else []


def _seconds(step_with: Callable[[int], None], threads: int) -> float:
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < LONG_ENOUGH_S:
        start = time.perf_counter()
        step_with(threads)
        times.append(time.perf_counter() - start)
    return min(times)
