"""What a torture found, as a row of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """What was done to the tools, how often, and what came of it.

    Attributes
    ----------
    what : str
        What was done: "killed by SIGKILL at a random moment, then run again with -s".
    where : str
        Tools or functions it was done to.
    tried : int
        How often.
    outcome : str
        What came of it, with figures: "all outputs byte-identical to an undisturbed run".
    wrong : tuple of str
        Each time that something was lost or wrong, in a sentence; empty is what is promised.
    """

    what: str
    where: str
    tried: int
    outcome: str
    wrong: tuple[str, ...] = ()


Torture = Callable[[Path, float], Iterator[Row]]
"""Runs in an empty folder; the number scales how much is tried (1 for the committed page)."""
