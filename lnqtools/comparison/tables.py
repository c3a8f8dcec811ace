"""Tables of models, brought together case by case.

A model's table has one row per case, as `lnqtools.metrics.masks.evaluate` gives it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.choices import MISSING
from lnqtools.errors import LnqError, listed, require_choice
from lnqtools.files.tables import cell_text
from lnqtools.metrics.columns import Column, column_with
from lnqtools.metrics.summaries import cannot_be_judged, stand_in

FloatArray = npt.NDArray[np.float64]

NOT_AVAILABLE = frozenset({"NA", "N/A", "#N/A", "<NA>", "null", "NULL", "None"})
"""Words of R, spreadsheets, pandas and databases for an undefined cell (`float` reads NaN)."""

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
    values : (models, cases) or (groups, models, cases) ndarray
        NaN is undefined. Groups are a level beside the cases: as trainings of the same models with
        one seed each, see `grouped`.
    not_judged : ndarray of bool, as values
        Where the metric says nothing, see `lnqtools.metrics.summaries.cannot_be_judged`.
    missing : dict
        Model → how many cases (of all groups) it has no row of, if any.
    """

    metric: str
    better: str | None
    models: tuple[str, ...]
    cases: tuple[str, ...]
    values: FloatArray
    not_judged: npt.NDArray[np.bool_]
    missing: Mapping[str, int] = field(default_factory=dict)

    @property
    def levels(self) -> FloatArray:
        """The values, (groups, models, cases), of one group perhaps."""
        return self.values.reshape(-1, len(self.models), len(self.cases))

    @property
    def of_cases(self) -> FloatArray:
        """Each case's mean over the groups, (models, cases); undefined if it is so in any."""
        return self.levels.mean(axis=0)

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
    rows = kept = list(rows)
    for column, text in where:
        _check_column(rows, column)
        kept = [row for row in kept if cell_text(row.get(column)) == text]
    if where and not kept:
        asked = " and ".join(f"{column}={text}" for column, text in where)
        raise LnqError(f"has no row of {asked}")
    return kept


def split_rows(
    rows: Iterable[Mapping[str, Any]], column: str
) -> dict[str, list[Mapping[str, Any]]]:
    """Part a long table by the text of a column's cells, in the order in which these appear.

    Raises
    ------
    LnqError
        If there is no such column, or a cell is empty.
    """
    rows = list(rows)
    parts: dict[str, list[Mapping[str, Any]]] = {}
    _check_column(rows, column)
    for number, row in enumerate(rows, 1):
        if row.get(column) is None:
            raise LnqError(f"row {number} has nothing in the column {column}")
        parts.setdefault(cell_text(row[column]), []).append(row)
    return parts


def read_model(
    rows: Iterable[Mapping[str, Any]], metrics: Sequence[str], case_column: str = "case"
) -> ModelTable:
    """Take from a table of metrics what a comparison needs.

    A cell that is None, NaN, infinite or a word of `NOT_AVAILABLE` is undefined.

    Parameters
    ----------
    rows : iterable of mapping
        One row per case; cells are None, numbers, or text.
    metrics : sequence of str
        Names of the columns to compare.
    case_column : str
        Name of the column of cases.

    Raises
    ------
    LnqError
        If the column of cases or one of the metrics is missing, two rows have one case, or a cell
        is not a number.
    """
    rows = list(rows)
    _check_columns(rows, metrics, case_column)
    table = ModelTable({}, set(), {}, set())
    for row in rows:
        if row.get(case_column) is None:
            raise LnqError("has a row without a case name")
        case = cell_text(row[case_column])
        if case in table.values:
            raise LnqError(
                f"has more than one row of case {case}; one row per case is needed: --where keeps "
                "some, as --where stratum=all those of lnq-metrics --detection; --by parts a table "
                "of several models, --group one of several seeds"
            )
        table.values[case] = {metric: _number(row, metric, case) for metric in metrics}
        table.reference_ml[case] = _number(row, "volume_reference_ml", case)
        table.presets.add(f"{row.get('preset') or ''} {row.get('edge') or ''}")
        table.not_judged.update((case, name) for name in metrics if cannot_be_judged(row, name))
    return table


def _check_columns(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], case_column: str
) -> None:
    """Refuse a table that lacks the case names or a metric."""
    columns = dict.fromkeys(name for row in rows for name in row)
    if case_column not in columns:
        has = f"; it has {', '.join(columns)} (--case-column)" if columns else ""
        raise LnqError(
            f"has no column named {case_column}; one row per case is needed, as lnq-metrics writes "
            f"it without --summary{has}"
        )
    for metric in metrics:
        if metric not in columns:
            known = ", ".join(name for name in columns if name not in (case_column, "status"))
            raise LnqError(f"has no column named {metric}; it has {known or 'no other'}")


def _check_column(rows: Iterable[Mapping[str, Any]], column: str) -> None:
    columns = dict.fromkeys(name for row in rows for name in row)
    if column not in columns:
        raise LnqError(f"has no column named {column}; it has {', '.join(columns)}")


def _number(row: Mapping[str, Any], column: str, case: str) -> float:
    """Return a cell as a number, NaN where it is undefined."""
    cell = row.get(column)
    if cell is None or (isinstance(cell, str) and cell in NOT_AVAILABLE):
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
    missing: str = "error",
    empty: str | float = "worst",
    way_on: str = "--missing drop leaves such cases out for all, --missing worst lets the worst "
    "value stand for them",
) -> Scores:
    """Bring a metric of several models together, case by case.

    Parameters
    ----------
    tables : mapping
        Model → its table.
    metric : str
    better : str, optional
        'higher' or 'lower'.
    missing : str
        What becomes of a case that a model has no row of: an 'error'; 'drop' leaves it out for all
        models; 'worst' lets a value stand for it as `fill` does for an undefined one.
    empty : str or float
        What stands for missing distances: 'worst' ('drop' too: it is about rows that are there)
        or a number, see `fill`.
    way_on : str
        What to do about an error.

    Raises
    ------
    LnqError
        If a model lacks a case that another has, no case is common to all, or something is to be
        filled and it is not known which direction is better.
    """
    require_choice("rule for missing cases", missing, MISSING)
    lacking = missing_cases(tables)
    if lacking and missing == "error":
        raise LnqError(f"{describe_missing(lacking)}; {way_on}")
    of_models = [set(table.values) for table in tables.values()]
    join = set.union if missing == "worst" else set.intersection
    cases = sorted(join(*of_models))
    if not cases:
        raise LnqError("the tables have no case in common")
    values = [[_value(table, case, metric) for case in cases] for table in tables.values()]
    not_judged = [
        [(case, metric) in table.not_judged for case in cases] for table in tables.values()
    ]
    counts = {model: len(names) for model, names in lacking.items()}
    scores = Scores(
        *(metric, better, tuple(tables), tuple(cases)),
        *(np.array(values), np.array(not_judged), counts),
    )
    return _with_missing(scores, tables, empty) if lacking and missing == "worst" else scores


def _value(table: ModelTable, case: str, metric: str) -> float:
    return table.values[case][metric] if case in table.values else np.nan


def _with_missing(scores: Scores, tables: Mapping[str, ModelTable], empty: str | float) -> Scores:
    """Let the worst value stand for each case that a model lacks.

    It stays undefined where the case's reference is empty and the metric is about what is found of
    it: there, no model can be judged.
    """
    require_direction(scores)
    absent = np.array(
        [[case not in table.values for case in scores.cases] for table in tables.values()]
    )
    if scores.column.of_reference:
        absent &= ~scores.not_judged.any(axis=0)
    value = stand_in(defined(scores.values), "worst" if empty == "drop" else empty, scores.column)
    if value is None:
        return scores
    return replace(scores, values=np.where(absent, value, scores.values))


def grouped(scores: Scores, models: Sequence[str], groups: Sequence[str]) -> Scores:
    """Part the scores of models in groups: (groups times models, cases) → (groups, models, cases).

    Parameters
    ----------
    scores : Scores
        Of each model in each group, those of the first group first, all on the same cases.
    models, groups : sequence of str
    """
    shape = (len(groups), len(models), len(scores.cases))
    counts = [scores.missing.get(name, 0) for name in scores.models]
    sums = np.reshape(counts, shape[:2]).sum(axis=0).tolist()
    return replace(
        scores,
        models=tuple(models),
        values=scores.values.reshape(shape),
        not_judged=scores.not_judged.reshape(shape),
        missing={model: n for model, n in zip(models, sums, strict=True) if n},
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
    counts = np.isnan(scores.of_cases).sum(axis=1)
    return {model: int(n) for model, n in zip(scores.models, counts, strict=True) if n}


def same_cases(scores: Scores) -> bool:
    """Tell whether all models are defined on the same cases, so that their means compare."""
    undefined = np.isnan(scores.of_cases)
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
