"""How long work will take, from how fast it went so far, and how that is told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from lnqtools.cli._tool import say, show_progress

SECONDS_BETWEEN_LINES = 60


class Teller:
    """Tells how far long work is.

    On a terminal each message takes the place of the one before; elsewhere, as in a log, it is a
    line, and there is at most one a minute.

    Parameters
    ----------
    tool : str
    quiet : bool
        Tell nothing.
    at_once : bool
        Whether the first line may come at once, and not only when a minute has passed.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self,
        tool: str,
        *,
        quiet: bool = False,
        at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tool, self._quiet, self._clock = tool, quiet, clock
        self._latest = None if at_once else clock()

    @property
    def replaces(self) -> bool:
        """Whether a message takes the place of the one before."""
        return sys.stderr.isatty()

    def tell(self, message: str, *, lasting: bool = False) -> None:
        """Tell how far the work is; a lasting message keeps its line on a terminal, too."""
        if self._quiet:
            return
        if self.replaces and not lasting:
            show_progress(f"{self._tool}: {message}")
        elif self.replaces or self._is_time():
            say(self._tool, message)

    def _is_time(self) -> bool:
        now = self._clock()
        if self._latest is not None and now - self._latest < SECONDS_BETWEEN_LINES:
            return False
        self._latest = now
        return True


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

    def begin(self, total: float, *, timed: bool = False) -> None:
        """Begin a case of so much work, in any unit.

        Its first piece is not timed, unless asked: what comes before it, as reading and
        resampling, is not part of the speed.
        """
        self._total, self._done = total, 0.0
        self._latest = self._clock() if timed else None

    def advance(self, work: float, *, timed: bool = True) -> None:
        """Note that so much work was just done, or need not be done if it is not timed."""
        now = self._clock()
        if timed and self._latest is not None:
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
        """Return ``30 %, 0:04:10 left``."""
        return f"{self.share:.0%}{self.left}".replace("%", " %")

    @property
    def left(self) -> str:
        """``, 0:04:10 left``; empty as long as nothing was timed."""
        left = self.seconds_left
        return "" if left is None else f", {clock_time(left)} left"


def clock_time(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds: ``0:04:10``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
