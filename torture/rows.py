"""What a torture found, as a row of docs/reliability.md."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass


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
        How often; 0 if it cannot be tried on this machine, and the outcome says why.
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


Torture = Callable[..., Iterator[Row]]
"""Runs in an empty folder; the number scales how much is tried (1 for the committed page).

Those of `BY_TOOL` take a third argument: the tools that it is done to, all by default.
"""


def guarded(name: str, rows: Iterator[Row]) -> Iterator[Row]:
    """Yield a torture's rows; if it breaks itself, that is a row too, and the others go on."""
    try:
        yield from rows
    except Exception as error:  # noqa: BLE001  an hour's page is not lost over it
        traceback.print_exc()
        broke = f"{name}: the torture itself broke: {type(error).__name__}: {error}"
        yield Row("what was to come", name, 0, "not done", (broke,))
