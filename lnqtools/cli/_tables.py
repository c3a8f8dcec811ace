"""The form of a table: its file's suffix says it, and --format where there is no file."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

SUFFIXES = {
    **{".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl"},
    **{".md": "markdown", ".tex": "latex"},
}
PLACES = ("table", "boxes")
"""Parameters that say where a table goes; ``form`` is that of --format."""


def decide_form(context: click.Context) -> None:
    """Put the form of a tool's table among its parameters, once these are read."""
    for parameter in context.command.params:
        if parameter.name == "form" and isinstance(parameter.type, click.Choice):
            place = next(filter(None, map(context.params.get, PLACES)), None)
            forms = parameter.type.choices
            context.params["form"] = table_form(place, context.params["form"], forms)


def table_form(place: str | None, given: str | None, forms: Sequence[str]) -> str:
    """Return the form of a table.

    Parameters
    ----------
    place : str or None
        The file that it goes to; None and ``-`` are standard output.
    given : str or None
        What --format says.
    forms : sequence of str
        Those that the tool can write.

    Raises
    ------
    click.UsageError
        If the file has another suffix, or another one than --format says.
    """
    if place is None or _is_stream(place):
        return given or "tsv"
    suffixes = {suffix: form for suffix, form in SUFFIXES.items() if form in forms}
    form = suffixes.get(Path(place).suffix.lower())
    if form is None:
        *first, last = suffixes
        raise click.UsageError(f"{place}: a table is named {', '.join(first)} or {last}")
    if given not in (None, form):
        raise click.UsageError(f"--format {given} contradicts the name of {place}")
    return form


def _is_stream(place: str) -> bool:
    """Tell whether a place is not a file that has a name of its own, but a pipe or a device."""
    if place == "-" or place.startswith("/dev/"):
        return True
    with suppress(OSError):
        mode = Path(place).stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False
