"""Tables of models, brought together case by case.

A model's table has one row per case, as `lnqtools.metrics.masks.evaluate` gives it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError, listed
from lnqtools.files.tables import cell_text
from lnqtools.metrics.columns import Column, column_with
from lnqtools.metrics.summaries import cannot_be_judged, stand_in

FloatArray = npt.NDArray[np.float64]

_SAME_VOLUME = 1e-6
"""Reference volumes that differ by more than this fraction are of different references; less is
rounding."""


@dataclass(frozen=True)
class ModelTable:
    """What a comparison takes from one model's table, by case.

    Attributes
    ----------
    values : dict
        Case → metric → value; NaN where it is undefined.
    not_judged : set of (str, str)
        Cases and metrics that say nothing, see `lnqtools.metrics.summaries.cannot_be_judged`.
    reference_ml : dict
        Case → volume of the reference in ml; NaN where the table does not have it.
    presets : set of str
        What --preset and --edge of lnq-metrics the rows name.
    """

    values: dict[str, dict[str, float]]
    not_judged: set[tuple[str, str]]
    reference_ml: dict[str, float]
    presets: set[str]


@dataclass(frozen=True, eq=False)
class Scores:
    """Values of one metric for several models on the same cases.

    Attributes
    ----------
    metric : str
    better : str or None
        'higher' or 'lower'; None if it is not known.
    models, cases : tuple of str
    values : (models, cases) ndarray
        NaN is undefined.
    not_judged : (models, cases) ndarray of bool
        Where the metric says nothing, see `lnqtools.metrics.summaries.cannot_be_judged`.
    """

    metric: str
    better: str | None
    models: tuple[str, ...]
    cases: tuple[str, ...]
    values: FloatArray
    not_judged: npt.NDArray[np.bool_]

    @property
    def column(self) -> Column:
        """What is known of the metric, with the better direction that the user may have given."""
        return column_with(self.metric, self.better)


def select_rows(
    rows: Iterable[Mapping[str, Any]], where: Sequence[tuple[str, str]]
) -> list[Mapping[str, Any]]:
    """Keep the rows of a table whose cells are what they should be.

    Parameters
    ----------
    rows : iterable of mapping
    where : sequence of (str, str)
        Column and the text of its cell, as `lnqtools.files.tables.cell_text` writes it ('' for an
        undefined one); all must fit.

    Raises
    ------
    LnqError
        If there is no such column or row.
    """
    kept = list(rows)
    columns = dict.fromkeys(name for row in kept for name in row)
    for column, text in where:
        if column not in columns:
            raise LnqError(f"has no column named {column}; it has {', '.join(columns)}")
        kept = [row for row in kept if cell_text(row.get(column)) == text]
    if where and not kept:
        asked = " and ".join(f"{column}={text}" for column, text in where)
        raise LnqError(f"has no row of {asked}")
    return kept


def read_model(rows: Iterable[Mapping[str, Any]], metrics: Sequence[str]) -> ModelTable:
    """Take from a table of metrics what a comparison needs.

    A cell that is None, NaN or infinite is undefined.

    Parameters
    ----------
    rows : iterable of mapping
        One row per case; cells are None, numbers, or text.
    metrics : sequence of str
        Names of the columns to compare.

    Raises
    ------
    LnqError
        If the column ``case`` or one of the metrics is missing, two rows have one case, or a cell
        is not a number.
    """
    rows = list(rows)
    _check_columns(rows, metrics)
    table = ModelTable({}, set(), {}, set())
    for row in rows:
        if row.get("case") is None:
            raise LnqError("has a row without a case name")
        case = str(row["case"])
        if case in table.values:
            raise LnqError(
                f"has more than one row of case {case}; one row per case is needed: --where keeps "
                "some, as --where stratum=all those of lnq-metrics --detection"
            )
        table.values[case] = {metric: _number(row, metric, case) for metric in metrics}
        table.reference_ml[case] = _number(row, "volume_reference_ml", case)
        table.presets.add(f"{row.get('preset') or ''} {row.get('edge') or ''}")
        table.not_judged.update((case, name) for name in metrics if cannot_be_judged(row, name))
    return table


def _check_columns(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> None:
    """Refuse a table that lacks the case names or a metric."""
    columns = dict.fromkeys(name for row in rows for name in row)
    if "case" not in columns:
        raise LnqError(
            "has no column named case; one row per case is needed, as lnq-metrics writes it "
            "without --summary"
        )
    for metric in metrics:
        if metric not in columns:
            known = ", ".join(name for name in columns if name not in ("case", "status"))
            raise LnqError(f"has no column named {metric}; it has {known or 'no other'}")


def _number(row: Mapping[str, Any], column: str, case: str) -> float:
    """Return a cell as a number, NaN where it is undefined."""
    cell = row.get(column)
    if cell is None:
        return np.nan
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise LnqError(f"case {case}: {column} is {cell!r}, not a number") from None
    return value if np.isfinite(value) else np.nan


def missing_cases(tables: Mapping[str, ModelTable]) -> dict[str, list[str]]:
    """Return for each model the cases that others have and it has not, if any."""
    every = set().union(*(table.values for table in tables.values()))
    return {
        model: sorted(every - table.values.keys())
        for model, table in tables.items()
        if every - table.values.keys()
    }


def describe_missing(missing: Mapping[str, Sequence[str]]) -> str:
    """Name the cases that models lack, in half a sentence."""
    return "; ".join(f"{model} has no row of {listed(cases)}" for model, cases in missing.items())


def differing_references(tables: Mapping[str, ModelTable]) -> list[str]:
    """Return the cases for which two tables give different volumes of the reference."""
    volumes: dict[str, list[float]] = {}
    for table in tables.values():
        for case, volume in table.reference_ml.items():
            if not np.isnan(volume):
                volumes.setdefault(case, []).append(volume)
    return sorted(
        case
        for case, found in volumes.items()
        if max(found) - min(found) > _SAME_VOLUME * max(found)
    )


def align(
    tables: Mapping[str, ModelTable],
    metric: str,
    *,
    better: str | None = None,
    intersect: bool = False,
) -> Scores:
    """Bring a metric of several models together, case by case.

    Parameters
    ----------
    tables : mapping
        Model → its table.
    metric : str
    better : str, optional
        'higher' or 'lower'.
    intersect : bool
        Leave out cases that a model lacks, instead of refusing them.

    Raises
    ------
    LnqError
        If a model lacks a case that another has, or no case is common to all.
    """
    missing = missing_cases(tables)
    if missing and not intersect:
        raise LnqError(f"{describe_missing(missing)}; --intersect compares what all have")
    common = sorted(set.intersection(*(set(table.values) for table in tables.values())))
    if not common:
        raise LnqError("the tables have no case in common")
    values = [[table.values[case][metric] for case in common] for table in tables.values()]
    not_judged = [
        [(case, metric) in table.not_judged for case in common] for table in tables.values()
    ]
    return Scores(
        metric, better, tuple(tables), tuple(common), np.array(values), np.array(not_judged)
    )


def fill(scores: Scores, empty: str | float) -> Scores:
    """Let a value stand for each undefined one, as `metrics.summaries.fill_undefined` does.

    The worst value of a fraction stands for undefined ones under any rule; where there is no
    bound, what stands for them is a choice. Cases of which the metric says nothing stay undefined.

    Parameters
    ----------
    scores : Scores
    empty : str or float
        'drop' leaves all values as they are; 'worst' takes the worst value of any model on any
        case, as the LNQ2023 challenge did (none if no value is defined); a number is itself the
        value, mm.

    Raises
    ------
    LnqError
        If something is to be filled, and it is not known which direction is better.
    """
    if empty == "drop":
        return scores
    require_direction(scores)
    value = stand_in(defined(scores.values), empty, scores.column)
    if value is None:
        return scores
    undefined = np.isnan(scores.values) & ~scores.not_judged
    return replace(scores, values=np.where(undefined, value, scores.values))


def undefined_counts(scores: Scores) -> dict[str, int]:
    """Return for each model with undefined values how many it has."""
    counts = np.isnan(scores.values).sum(axis=1)
    return {model: int(n) for model, n in zip(scores.models, counts, strict=True) if n}


def same_cases(scores: Scores) -> bool:
    """Tell whether all models are defined on the same cases, so that their means compare."""
    undefined = np.isnan(scores.values)
    return bool((undefined == undefined[0]).all())


def require_direction(scores: Scores) -> None:
    """Refuse to guess which direction is better."""
    if scores.better is None:
        raise LnqError(
            f"which values of {scores.metric} are better is not known; say --higher-better "
            f"{scores.metric} or --lower-better {scores.metric}"
        )


def defined(values: FloatArray) -> FloatArray:
    """Return the values that are defined."""
    return values[~np.isnan(values)]
