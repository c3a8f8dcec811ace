"""Summaries of tables of metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise each numeric column of a table over its rows.

    A column is numeric if it holds numbers or None only; True and False are not numbers. None
    and values that are not finite are undefined: they are counted and enter nothing else.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of a table, as `lnqtools.metrics.evaluate` makes them; a column may be absent from
        some (undefined there).

    Returns
    -------
    list of dict
        One row per numeric column, in the columns' order of first appearance: ``metric`` (the
        column's name), ``mean``, ``sd`` (n - 1 in the denominator; None below two values),
        ``median``, ``min``, ``max`` (all None without a value), ``n`` (values used),
        ``n_undefined``. n + n_undefined is the number of rows.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    table = {name: [row.get(name) for row in rows] for name in columns}
    return [_summary(name, values) for name, values in table.items() if _is_numeric(values)]


def _is_numeric(values: Iterable[Any]) -> bool:
    """Whether all values are numbers or None."""
    return all(value is None or _is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    """Whether a value is a number and not a truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _summary(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """Summarise one column."""
    defined = np.array([v for v in values if v is not None and math.isfinite(v)], float)
    n = defined.size
    return {
        "metric": name,
        "mean": float(defined.mean()) if n else None,
        "sd": float(defined.std(ddof=1)) if n > 1 else None,
        "median": float(np.median(defined)) if n else None,
        "min": float(defined.min()) if n else None,
        "max": float(defined.max()) if n else None,
        "n": n,
        "n_undefined": len(values) - n,
    }
