"""Drawn nodes that another grid leaves out: a warning, and an error where none is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnqtools.cli._case import Case
from lnqtools.cli._rules import option
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.labels.lost import Passage

ALLOW_EMPTY_OPTION = option(
    "--allow-empty",
    is_flag=True,
    help="Go on where all drawn nodes are lost.",
)


def check_nodes_left(
    case: Case,
    drawn: np.ndarray,
    source: Grid,
    left: np.ndarray,
    target: Grid,
    *,
    place: str,
    allow_empty: bool,
) -> Passage:
    """Warn of drawn nodes that a grid leaves out.

    Parameters
    ----------
    case : Case
    drawn, left : (z, y, x) ndarray
        The nodes on ``source`` and on ``target``, see `lnqtools.labels.lost.passage`.
    source, target : Grid
    place : str
        What the target is, for messages.
    allow_empty : bool

    Raises
    ------
    LnqError
        If nodes are drawn and none is left, unless that is allowed.
    """
    from lnqtools.labels.lost import passage

    found = passage(drawn, source, left, target)
    if found.lost:
        if not (found.left or allow_empty):
            raise LnqError(f"{found.sentence(place)}: none is left; --allow-empty goes on")
        case.warn(found.sentence(place))
    return found
