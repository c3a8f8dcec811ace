"""Tables as text: TSV, CSV and JSON lines, written and read."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from lnqtools.errors import LnqError

Row = dict[str, Any]
_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_TSV_MEANING = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


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


def read_table(text: str) -> list[Row]:
    """Read a table as `table_lines` writes it, in whichever form it is.

    The content tells the form: JSON lines begin with ``{``; a line of names with a tab in it is
    TSV's; all else is CSV. Line ends may be Windows'.

    Parameters
    ----------
    text : str
        The whole table.

    Returns
    -------
    list of dict
        Rows in the table's order; an empty cell is None. Cells of TSV and CSV are text, those of
        JSON lines what JSON says.

    Raises
    ------
    LnqError
        If there is no row or no name, a row has more or fewer cells than there are names, two
        columns have one name, or a line is not JSON where others are.
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise LnqError("is empty: a table begins with a line of names")
    if text.lstrip(" \r\n").startswith("{"):  # a tab would end a cell
        rows = list(_json_rows(text))
    else:
        names = text.partition("\n")[0]
        tabbed = "\t" in names
        if ";" in names and not tabbed and "," not in names:
            raise LnqError("has ; between its cells: export it with commas or tabs")
        rows = _named(_tsv_cells(text) if tabbed else _csv_cells(text))
    if not rows:
        raise LnqError("has names of columns but no row")
    if not any(name.strip() for name in rows[0]):
        raise LnqError("has no column with a name")
    return rows


def _json_rows(text: str) -> Iterator[Row]:
    """Yield the objects of JSON lines."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise LnqError(f"line {number} is not JSON: {error}") from None
        except RecursionError:
            raise LnqError(f"line {number} is not JSON of a table: it nests too deep") from None
        if not isinstance(row, dict):
            raise LnqError(f"line {number} is not a JSON object")
        yield row


def _tsv_cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the numbers and the cells of the lines of a TSV, without its escapes."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip("\r"):
            yield number, [_unescaped(cell) for cell in line.removesuffix("\r").split("\t")]


def _unescaped(cell: str) -> str:
    """Return what a cell of a TSV says; a backslash before any other letter is itself."""
    return re.sub(r"\\[\\tnr]", lambda found: _TSV_MEANING[found[0]], cell)


def _csv_cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the cells of each record of a CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from ((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise LnqError(f"line {reader.line_num} is not CSV: {error}") from None


def _named(lines: Iterator[tuple[int, list[str]]]) -> list[Row]:
    """Return rows by the names in the first line."""
    _, names = next(lines)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise LnqError(f"has two columns named {repeated[0]}")
    rows = []
    for number, cells in lines:
        if len(cells) != len(names):
            raise LnqError(f"line {number} has {len(cells)} cells instead of {len(names)}")
        rows.append({name: cell or None for name, cell in zip(names, cells, strict=True)})
    return rows
