"""Tables as text: TSV, CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from lnqtools.grid import Grid

Row = dict[str, Any]
FORMATS = ("tsv", "csv", "jsonl")
_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def table_lines(
    rows: Iterable[Row], form: str = "tsv", columns: Sequence[str] = ()
) -> Iterator[str]:
    r"""Yield a table as lines without line ends, the names of the columns first.

    Parameters
    ----------
    rows : iterable of dict
        None is an empty cell (JSON: null, which also stands for NaN and infinity).
    form : str
        ``tsv`` (backslash, tab and line ends in text are written ``\\``, ``\t``, ``\n``,
        ``\r``), ``csv`` (RFC 4180) or ``jsonl`` (one object a line, no line of names).
    columns : sequence of str
        Names of the columns; by default those of the first row.

    Raises
    ------
    ValueError
        If a row has other columns.
    """
    rows = iter(rows)
    if not columns and (first := next(rows, None)) is not None:
        columns, rows = list(first), chain([first], rows)
    if columns and form != "jsonl":
        yield _line(columns, form)
    for row in rows:
        if list(row) != list(columns):
            raise ValueError(f"a row has the columns {list(row)} instead of {list(columns)}")
        if form == "jsonl":
            yield json.dumps({key: _json_value(value) for key, value in row.items()})
        else:
            yield _line([cell_text(row[key]) for key in columns], form)


def cell_text(value: Any) -> str:
    """Return a cell as text: '' for None, 0 or 1 for a truth value, reals to ten digits."""
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)


def _plain(value: Any) -> Any:
    """Return a numpy scalar as Python's own number."""
    return value.item() if hasattr(value, "item") else value


def _json_value(value: Any) -> Any:
    """Return a value that JSON has a word for."""
    value = _plain(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(cells: Sequence[str], form: str) -> str:
    if form == "tsv":
        return "\t".join(cell.translate(_TSV_ESCAPES) for cell in cells)
    buffer = io.StringIO()  # with another line end, csv would not quote line ends in cells
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().removesuffix("\r\n")


def in_world(row: Row, grid: Grid) -> Row:
    """Return a component's row with its centroid in world mm and its box as six columns.

    Parameters
    ----------
    row : dict
        With ``centroid``, an index (z, y, x), and perhaps ``box``, the first index and the one
        past the last along z, y, x.
    grid : Grid
        Of the image that the component lies in.
    """
    flat: Row = {}
    for key, value in row.items():
        if key == "centroid":
            world = grid.world(np.array(value)).tolist()
            flat |= {f"centroid_{axis}_mm": v for axis, v in zip("xyz", world, strict=True)}
        elif key == "box":
            for axis, (start, stop) in zip("xyz", reversed(value), strict=True):
                flat |= {f"{axis}_start": start, f"{axis}_stop": stop}
        else:
            flat[key] = value
    return flat
