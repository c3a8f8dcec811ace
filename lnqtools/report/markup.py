"""Pieces of HTML: text is escaped, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lnqtools.metrics.columns import column_of

UNDEFINED = "–"

Cell = tuple[str, str]
"""A text, and the value that it stands for."""


def rounded(column: str, value: Any) -> str:
    """Return a cell for people: as many digits as a column of this name deserves."""
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    return column_of(column).rounded(value)


def heading(column: str) -> str:
    """Return a column's name as people write it."""
    return escape(column_of(column).heading)


def classes(*names: str) -> str:
    """Return the attribute for classes, if there are any."""
    named = " ".join(name for name in names if name)
    return f' class="{named}"' if named else ""


def table(title: str, rows: Sequence[Mapping[str, Cell]]) -> str:
    """Return a table of cells; its first column names the rows. Headings may hold markup."""
    head = "".join(
        f'<th scope="col"{classes("text" * (k == 0))}>{name}</th>' for k, name in enumerate(rows[0])
    )
    body = []
    for row in rows:
        (first, named), *others = row.values()
        cells = "".join(
            f'<td data-value="{escape(value)}">{escape(text)}</td>' for text, value in others
        )
        body.append(
            f'<tr><th scope="row" class="name" data-value="{escape(named)}">{escape(first)}</th>'
            f"{cells}</tr>"
        )
    inside = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    region = f'<div class="scroll" role="region" aria-label="{escape(title)}" tabindex="0">'
    return f"<h3>{escape(title)}</h3>{region}{inside}</div>"


def options_list(options: Mapping[str, Any]) -> str:
    """Return names and values; those that are not set are left out."""
    lines = [
        f"<dt>{escape(str(name))}</dt><dd>{escape(plainly(value))}</dd>"
        for name, value in options.items()
        if value is not None and value is not False and value not in ([], "")
    ]
    return f'<dl class="options">{"".join(lines)}</dl>' if lines else ""


def plainly(value: Any) -> str:
    """Return a recorded value as a person would write it."""
    if value is True:
        return "yes"
    if isinstance(value, list):
        return ", ".join(plainly(each) for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plainly(each)}" for key, each in value.items())
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
