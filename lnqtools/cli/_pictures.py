"""Pictures on the command line: where they may go, how wide they are, and their writing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from lnqtools.choices import PICTURES
from lnqtools.cli._output import check_table_place
from lnqtools.cli._values import FiniteRange, WordOr
from lnqtools.figures.style import DOUBLE_MM, SINGLE_MM

SUFFIXES = tuple(f".{form}" for form in PICTURES)
WIDTHS_MM = {"single": SINGLE_MM, "double": DOUBLE_MM}
WIDTH = WordOr(WIDTHS_MM, "MM", FiniteRange(min=50, max=500), "50 to 500 mm")
"""Of a figure: a word for a journal's columns, or a number of mm."""


def form_of(path: str) -> str:
    """Return ``png``, ``svg`` or ``pdf``."""
    return Path(path).suffix[1:].lower()


def check_picture_place(path: str, option: str, inputs: Iterable[str], *, replace: bool) -> None:
    """Refuse a file for a picture that has another suffix, is an input, exists, or has no folder.

    Raises
    ------
    click.UsageError
        If it is one of these.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"{option} {path}: a picture is named .png, .svg or .pdf")
    check_table_place(path, inputs, replace=replace)
