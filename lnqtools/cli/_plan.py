"""The cases of a run, and their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One input and what is to be made of it.

    ``kept`` marks a case whose outputs are already there (``-s``): it may be computed again for
    a table, but nothing is written. ``replaces`` marks one that may replace files (``-f``, or
    ``-s`` where some of its outputs are missing), ``unproven`` one that is kept though nothing
    says what content it was made from.
    """

    name: str
    source: str
    targets: tuple[str, ...] = ()
    kept: bool = False
    replaces: bool = False
    unproven: bool = False
