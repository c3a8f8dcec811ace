"""Summaries of tables of metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
from lnqtools.metrics.columns import Column, column_of


def summarize(
    rows: Sequence[Mapping[str, Any]],
    empty: str | float = "drop",
    diagonals_mm: Sequence[float] = (),
    spread: str = "sample",
) -> list[dict[str, Any]]:
    """Summarize each numeric column of a table over its rows.

    A column is numeric if it holds numbers or None only; True and False are not numbers. None
    and values that are not finite are undefined. They are dropped, or filled as `fill_undefined`
    does; both means are given whatever is asked for, because the dropped one is too good and the
    filled one depends on the fill.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of a table, as `lnqtools.metrics.masks.evaluate` makes them; a column may be absent
        from some (undefined there).
    empty : {'drop', 'worst', 'diagonal'} or float
        What ``mean``, ``sd``, ``median``, ``min`` and ``max`` do with undefined values: drop
        them, or fill them. With 'drop', ``mean_filled`` is that of 'worst'.
    diagonals_mm : sequence of float
        For 'diagonal': of the image of each row, mm.
    spread : {'sample', 'population'}
        What divides the squares of the standard deviation: n - 1, or n as in numpy.

    Returns
    -------
    list of dict
        One row per numeric column, in the columns' order of first appearance: ``metric`` (the
        column's name), ``mean``, ``sd`` (None below two values; called ``sd_population`` where it
        is that, None without a value), ``median``, ``min``, ``max`` (all None without a value),
        ``n`` (defined values),
        ``n_undefined`` (n + n_undefined is the number of rows), ``n_filled`` (those of them that
        a fill stands for in ``mean_filled``), ``fill`` (what stands for them, on average; None
        if nothing does), ``mean_dropped`` (over the n), ``mean_filled`` (over n + n_filled).

    Raises
    ------
    LnqError
        As `fill_undefined`.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    dropped = {name: [_defined(row.get(name)) for row in rows] for name in columns}
    numeric = [name for name, values in dropped.items() if _is_numeric(values)]
    policy = "worst" if empty == "drop" else empty
    filled = fill_undefined(rows, policy, diagonals_mm)
    return [
        _summary(name, dropped[name], [row.get(name) for row in filled], empty == "drop", spread)
        for name in numeric
    ]


def fill_undefined(
    rows: Sequence[Mapping[str, Any]],
    policy: str | float,
    diagonals_mm: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Let a value stand for each one that is undefined because one of the masks is empty.

    Fractions have a worst value, 0 or 1, and it stands for them under any policy. Distances have
    no bound: what stands for them is a choice, the policy; for other columns without a bound it is
    the worst of their values. See `lnqtools.metrics.columns`. Nothing is filled in where it is not
    known which values are better, nor where there was nothing to judge (see `cannot_be_judged`).

    Parameters
    ----------
    rows : sequence of mapping
        As for `summarize`. A row without ``status`` counts as one with an empty mask.
    policy : {'worst', 'diagonal'} or float
        What stands for a distance: the largest value of its column (undefined values stay if
        it has none); the diagonal of the row's image (after the BraTS challenge); or a number
        of mm (LNQ2023: 115.27, the worst of all teams).
    diagonals_mm : sequence of float
        For 'diagonal': of the image of each row, mm.

    Returns
    -------
    list of dict
        The rows, each with all columns.

    Raises
    ------
    LnqError
        If the policy is unknown, or it is 'diagonal' and there is not one diagonal for each row.
    """
    if isinstance(policy, str) and policy not in ("worst", "diagonal"):
        raise LnqError(f"'{policy}' is not worst, diagonal or a number of mm")
    if policy == "diagonal" and len(diagonals_mm) != len(rows):
        raise LnqError("to fill with the image's diagonal takes one for each row")
    columns = dict.fromkeys(name for row in rows for name in row)
    table = {name: [_defined(row.get(name)) for row in rows] for name in columns}
    fills = {
        name: _fills(name, values, policy, diagonals_mm)
        for name, values in table.items()
        if _is_numeric(values)
    }
    filled = []
    for number, row in enumerate(rows):
        values = {name: table[name][number] for name in columns}
        values |= {
            name: fill[number]
            for name, fill in fills.items()
            if values[name] is None and not cannot_be_judged(row, name)
        }
        filled.append(values)
    return filled


def cannot_be_judged(row: Mapping[str, Any], metric: str) -> bool:
    """Tell whether a metric says nothing of a case, so that no value may stand for it.

    So it is where prediction and reference are empty: nothing to find and nothing found. And
    where the reference alone is empty, for metrics of what is found of it (`Column.of_reference`).

    Parameters
    ----------
    row : mapping
        Of a table: its ``status`` says so, or, in a table of strata, its
        ``components_reference`` and ``components_prediction``.
    metric : str
        Name of a column.
    """
    status = row.get("status")
    no_reference, no_prediction = (
        row.get(f"components_{side}") in (0, "0") or status in (f"empty_{side}", "both_empty")
        for side in ("reference", "prediction")
    )
    return no_reference and (no_prediction or column_of(metric).of_reference)


def _fills(
    name: str, values: Sequence[float | None], policy: str | float, diagonals_mm: Sequence[float]
) -> Sequence[float | None]:
    """Return what would stand for each value of a column."""
    column = column_of(name)
    if column.better is None:
        return [None] * len(values)
    if column.unit != "mm":
        policy = "worst"
    elif policy == "diagonal":
        return diagonals_mm
    return [stand_in(_numbers(values), policy, column)] * len(values)


def stand_in(values: npt.NDArray[np.float64], policy: str | float, column: Column) -> float | None:
    """Return what stands for an undefined value.

    Parameters
    ----------
    values : (n,) ndarray
        Those that are defined.
    policy : {'worst'} or float
        The worst of the values, or a number. It is of no account for a fraction, which has a worst
        value of its own.
    column : Column
        Of the values; it is known which of them are better.

    Returns
    -------
    float or None
        None for the worst of no values.
    """
    if column.worst is not None:
        return column.worst
    if policy != "worst":
        return float(policy)
    worst = max if column.better == "lower" else min
    return worst(values.tolist(), default=None)


def _defined(value: Any) -> Any:
    """Return a value, or None for a number that is not finite."""
    return None if _is_number(value) and not math.isfinite(value) else value


def _is_numeric(values: Iterable[Any]) -> bool:
    """Whether all values are numbers or None."""
    return all(value is None or _is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    """Whether a value is a number and not a truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _summary(
    name: str,
    values: Sequence[float | None],
    filled: Sequence[float | None],
    drop: bool,
    spread: str,
) -> dict[str, Any]:
    """Summarize one column, given as it is and with its undefined values filled."""
    dropped = _numbers(values)
    complete = _numbers(filled)
    fills = _numbers(new for old, new in zip(values, filled, strict=True) if old is None)
    used = dropped if drop else complete
    return {
        "metric": name,
        "mean": mean(used),
        SD_COLUMNS[spread]: standard_deviation(used, spread),
        "median": float(np.median(used)) if used.size else None,
        "min": float(used.min()) if used.size else None,
        "max": float(used.max()) if used.size else None,
        "n": dropped.size,
        "n_undefined": len(values) - dropped.size,
        "n_filled": fills.size,
        "fill": mean(fills),
        "mean_dropped": mean(dropped),
        "mean_filled": mean(complete),
    }


def _numbers(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    """Return the values that are defined."""
    return np.array([value for value in values if value is not None], float)


SD_COLUMNS = {"sample": "sd", "population": "sd_population"}
"""What divides the squares: one less than the number of values, or their number."""


def standard_deviation(values: npt.NDArray[np.float64], spread: str = "sample") -> float | None:
    """Return the standard deviation, 'sample' or 'population'; None of too few values."""
    ddof = int(spread == "sample")
    return float(values.std(ddof=ddof)) if values.size > ddof else None


def mean(values: npt.NDArray[np.float64]) -> float | None:
    """Return the mean; None without a value."""
    return float(values.mean()) if values.size else None


def ratio(numerator: float, denominator: float) -> float | None:
    """Return the quotient; None where the denominator is 0."""
    return numerator / denominator if denominator else None
