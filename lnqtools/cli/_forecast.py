"""How long work will take, from how fast it went so far."""

from __future__ import annotations

import time
from collections.abc import Callable


class Forecast:
    """The time that is left of a case. What was measured on one case serves the next.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._measured = 0.0
        self._seconds = 0.0
        self._total = self._done = 0.0
        self._latest: float | None = None

    def begin(self, total: float) -> None:
        """Begin a case of so much work, in any unit."""
        self._total, self._done, self._latest = total, 0.0, None

    def advance(self, work: float) -> None:
        """Note that so much work was just done.

        The first piece of a case is not timed: what comes before it, as reading and resampling,
        is not part of the speed.
        """
        now = self._clock()
        if self._latest is not None:
            self._seconds += now - self._latest
            self._measured += work
        self._latest = now
        self._done += work

    @property
    def share(self) -> float:
        """The part of the case that is done, from 0 to 1."""
        return min(self._done / self._total, 1.0) if self._total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """The time that the case still takes; None as long as nothing was timed."""
        if not self._measured:
            return None
        return max(self._total - self._done, 0.0) * self._seconds / self._measured

    def __str__(self) -> str:
        """Return ``30 %, about 4 min left``."""
        left = self.seconds_left
        known = "" if left is None else f", about {rounded_time(left)} left"
        return f"{self.share:.0%}{known}".replace("%", " %")


def rounded_time(seconds: float) -> str:
    """Return a duration as people say it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
