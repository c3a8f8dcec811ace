"""Comparison of models by a metric on the same cases: summaries, paired tests, rankings.

A model's table has a row a case, as `lnqtools.metrics.masks.evaluate` gives it. Everything random
is drawn from a generator that begins anew with the seed, so that a number depends on the seed and
on the values it is computed from, not on what else is in the table.
"""

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError, require_choice
from lnqtools.files.tables import cell_text
from lnqtools.metrics.summaries import cannot_be_judged, mean, stand_in

Row = dict[str, Any]
FloatArray = npt.NDArray[np.float64]

METHODS = ("approx", "exact")
ZEROS = ("wilcox", "pratt")
ADJUSTMENTS = ("none", "holm", "bonferroni", "bh")
RANKINGS = ("mean", "median", "ranks")

_BETTER = {
    "higher": r"dice|iou|precision|recall|nsd_.+|sensitivity|f1|pq|sq|rq",
    "lower": r"asd_mm|assd_mm|masd_mm|hd_mm|hd95_mm|hd95_pooled_mm|f[np]|f[np]_volume_ml",
}

# Reference volumes that differ by more than this fraction are of different references; less is
# rounding.
_SAME_VOLUME = 1e-6

_NAMED_CASES = 10
"""Cases that a message names before it only counts."""

_RESAMPLED_VALUES = 2**21
"""Values drawn at once: bounds the memory of the bootstrap."""


def known_direction(metric: str) -> str | None:
    """Return 'higher' or 'lower', whichever of a column of lnq-metrics is better, or None."""
    for better, names in _BETTER.items():
        if re.fullmatch(names, metric):
            return better
    return None


# Tables of several models, case by case


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
        There is no such column, or no such row.
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
        A row a case; cells are None, numbers, or text.
    metrics : sequence of str
        Names of the columns to compare.

    Raises
    ------
    LnqError
        There is no column ``case`` or one of the metrics, two rows have one case, or a cell is
        not a number.
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
                f"has more than one row of case {case}; a row a case is needed: --where keeps "
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
            "has no column named case; a row a case is needed, as lnq-metrics writes it without "
            "--summary"
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


def listed(cases: Sequence[str]) -> str:
    """Name some cases and count the others."""
    more = len(cases) - _NAMED_CASES
    return ", ".join(cases[:_NAMED_CASES]) + (f" and {more} more" if more > 0 else "")


def differing_references(tables: Mapping[str, ModelTable]) -> list[str]:
    """Return the cases of which two tables tell different volumes of the reference."""
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
        A model lacks a case that another has, or no case is common to all.
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

    Where higher is better, 0 stands for undefined values under any rule: they are fractions.
    Where lower is better, what stands for them is a choice. Cases of which the metric says
    nothing stay undefined.

    Parameters
    ----------
    scores : Scores
    empty : str or float
        'drop' leaves all values as they are; 'worst' takes the largest value of any model on any
        case, as the LNQ2023 challenge did (none if no value is defined); a number is itself the
        value, mm.

    Raises
    ------
    LnqError
        Something is to be filled, and it is not known which direction is better.
    """
    if empty == "drop":
        return scores
    higher = _higher_is_better(scores)
    value = stand_in(_defined(scores.values), empty, higher_is_better=higher)
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


def _higher_is_better(scores: Scores) -> bool:
    """Say which direction is better, or refuse to guess."""
    if scores.better is None:
        raise LnqError(
            f"which values of {scores.metric} are better is not known; say --higher-better "
            f"{scores.metric} or --lower-better {scores.metric}"
        )
    return scores.better == "higher"


def _defined(values: FloatArray) -> FloatArray:
    """Return the values that are defined."""
    return values[~np.isnan(values)]


# Summaries


def bootstrap_interval(
    values: FloatArray, level: float, *, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """Return a bootstrap confidence interval of the mean.

    Bias-corrected and accelerated (BCa; Efron 1987), as `scipy.stats.bootstrap` computes it.

    Parameters
    ----------
    values : (n,) ndarray
        Defined values.
    level : float
        Confidence level, between 0 and 1.
    resamples : int
        Samples of n values drawn with replacement.
    seed : int

    Returns
    -------
    low, high : float or None
        None below two values, and where all samples have a mean on one side of the values' own
        (of a few samples) or values differ by rounding alone. Values that are all equal are
        their own interval.
    """
    from scipy.stats import bootstrap

    if values.size < 2:
        return None, None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bootstrap(
            (values,),
            np.mean,
            confidence_level=level,
            n_resamples=resamples,
            batch=max(1, _RESAMPLED_VALUES // values.size),
            method="BCa",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    if np.isnan([found.low, found.high]).any():
        return None, None
    return float(found.low), float(found.high)


def summary_rows(
    scores: Scores,
    empty: str | float = "drop",
    *,
    level: float | None = None,
    resamples: int = 10000,
    seed: int = 0,
) -> list[Row]:
    """Summarise each model's values over the cases.

    Parameters
    ----------
    scores : Scores
        As read: undefined values not filled.
    empty : str or float
        What stands for undefined values, see `fill`.
    level : float, optional
        Confidence level of a bootstrap interval of the mean.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        A row a model: ``metric``, ``model``, ``mean``, ``sd`` (n - 1 in the denominator; None
        below two values), ``median`` (None without a value), with ``level`` also ``ci_low``,
        ``ci_high``; then, as `lnqtools.metrics.summaries.summarise` has them, ``n`` (defined
        values), ``n_undefined``, ``n_filled`` (those of them that a value stands for in
        ``mean_filled``), ``mean_dropped`` (over the n), ``mean_filled`` (over n + n_filled).
        With 'drop', ``mean_filled`` is that of 'worst'. It is None, and ``n_filled`` 0, if it is
        not known which direction is better and a value is undefined.
    """
    used = fill(scores, empty)
    filled = fill(scores, "worst" if empty == "drop" else empty) if scores.better else scores
    rows = []
    for number, model in enumerate(scores.models):
        values = _defined(used.values[number])
        dropped, complete = _defined(scores.values[number]), _defined(filled.values[number])
        row: Row = {
            "metric": scores.metric,
            "model": model,
            "mean": mean(values),
            "sd": float(values.std(ddof=1)) if values.size > 1 else None,
            "median": float(np.median(values)) if values.size else None,
        }
        if level is not None:
            interval = bootstrap_interval(values, level, resamples=resamples, seed=seed)
            row["ci_low"], row["ci_high"] = interval
        unknown = scores.better is None and dropped.size < len(scores.cases)
        row |= {
            "n": dropped.size,
            "n_undefined": len(scores.cases) - dropped.size,
            "n_filled": complete.size - dropped.size,
            "mean_dropped": mean(dropped),
            "mean_filled": None if unknown else mean(complete),
        }
        rows.append(row)
    return rows


# Paired tests


class SignedRank(NamedTuple):
    """Result of a Wilcoxon signed-rank test.

    Attributes
    ----------
    n_zero : int
        Differences that are 0.
    statistic : float
        W: the lesser of the rank sums of the positive and the negative differences.
    p : float
        Two-sided p value.
    rank_biserial : float
        (rank sum of the positive differences - that of the negative ones) / their sum.
    """

    n_zero: int
    statistic: float
    p: float
    rank_biserial: float


def signed_rank_test(
    differences: FloatArray, *, method: str = "approx", zeros: str = "wilcox"
) -> SignedRank:
    """Test whether paired differences are symmetric about 0 (Wilcoxon 1945), two-sided.

    Absolute differences are ranked, equal ones by their mean rank. If all differences are 0, W
    is 0, p is 1 and the effect is 0.

    Parameters
    ----------
    differences : (n,) ndarray
        At least one; see `paired_differences` for those that rounding makes unequal.
    method : str
        'approx': normal approximation, (R+ - R-) / √(sum of the squared ranks), corrected for
        ties and not for continuity, as ``scipy.stats.wilcoxon(method="approx",
        correction=False)``. 'exact': by all 2^n assignments of signs to these ranks, right with
        ties and zeros too (scipy's is not).
    zeros : str
        'wilcox' drops zero differences before ranking; 'pratt' ranks them and then drops their
        ranks (Pratt 1959).

    Returns
    -------
    SignedRank
        ``rank_biserial`` is the matched-pairs rank-biserial correlation in Kerby's (2014)
        simple difference form, from -1 to 1.

    Raises
    ------
    LnqError
        The method, or what becomes of zeros, is unknown.
    """
    require_choice("method", method, METHODS)
    require_choice("treatment of zeros", zeros, ZEROS)
    from scipy.stats import rankdata

    moved = differences != 0
    n_zero = int(differences.size - moved.sum())
    if not moved.any():
        return SignedRank(n_zero, 0.0, 1.0, 0.0)
    ranked = moved if zeros == "wilcox" else np.ones_like(moved)
    ranks = np.zeros(differences.size)
    ranks[ranked] = rankdata(np.abs(differences[ranked]))
    ranks[~moved] = 0
    up, down = ranks[differences > 0].sum(), ranks[differences < 0].sum()
    statistic = float(min(up, down))
    if method == "exact":
        p = _exact_p(ranks[moved], statistic)
    else:
        p = math.erfc(abs(up - down) / math.sqrt(2 * (ranks**2).sum()))
    return SignedRank(n_zero, statistic, p, float((up - down) / (up + down)))


def _exact_p(ranks: FloatArray, statistic: float) -> float:
    """Return the two-sided p value of a rank sum when each rank's sign is a fair coin.

    Works on twice the ranks, which are whole numbers with ties too, and only up to the statistic.
    """
    limit = round(2 * statistic)
    probability = np.zeros(limit + 1)
    probability[0] = 1
    for rank in np.rint(2 * ranks).astype(int):
        shifted = probability[: max(limit + 1 - rank, 0)] / 2
        probability /= 2
        probability[rank:] += shifted
    return min(1.0, 2 * float(probability.sum()))


def paired_differences(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return first - second where both are defined, free of rounding.

    0.3 - 0.2 and 0.2 - 0.1 differ by 3e-17 in the computer and would be two ranks. Differences
    are rounded to the twelfth digit of the largest value.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    first, second = first[both], second[both]
    return _without_noise(first - second, np.concatenate([first, second]))


def _without_noise(results: FloatArray, values: FloatArray) -> FloatArray:
    """Round results computed from values to the twelfth digit of the largest of these."""
    largest = np.abs(values).max(initial=0)
    return np.round(results, 12 - int(np.ceil(np.log10(largest)))) if largest else results


def hodges_lehmann(differences: FloatArray) -> float:
    """Return the median of the means of all pairs of differences, each with itself too.

    The estimate of location that belongs to the signed-rank test (Hodges and Lehmann 1963).
    """
    first, second = np.triu_indices(differences.size)
    return float(np.median((differences[first] + differences[second]) / 2))


def adjust_p_values(p_values: FloatArray, method: str) -> FloatArray:
    """Adjust p values for their number; NaN is no test and stays.

    Parameters
    ----------
    p_values : (n,) ndarray
    method : str
        'none'; 'bonferroni': n p; 'holm': step-down, for the i-th smallest the largest of
        (n - j + 1) p_j over j ≤ i (Holm 1979); both bound the chance of any false rejection.
        'bh': step-up, for the i-th smallest the least of n p_j / j over j ≥ i (Benjamini and
        Hochberg 1995): bounds the expected fraction of false ones among the rejections. None
        exceeds 1.

    Raises
    ------
    LnqError
        The method is unknown.
    """
    require_choice("adjustment", method, ADJUSTMENTS)
    from scipy.stats import false_discovery_control

    adjusted = np.array(p_values, float)
    tested = ~np.isnan(adjusted)
    p = adjusted[tested]
    if method == "bonferroni":
        p = p * p.size
    elif method == "holm":
        order = np.argsort(p)
        p[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    elif method == "bh" and p.size:
        p = false_discovery_control(p, method="bh")
    adjusted[tested] = np.minimum(p, 1)
    return adjusted


def pair_rows(
    scores: Scores,
    *,
    method: str = "approx",
    zeros: str = "wilcox",
    adjust: str = "none",
    level: float | None = None,
    resamples: int = 10000,
    seed: int = 0,
) -> list[Row]:
    """Compare each model with each, on the cases where both are defined.

    Parameters
    ----------
    scores : Scores
        With undefined values filled, or not.
    method, zeros : str
        See `signed_rank_test`.
    adjust : str
        See `adjust_p_values`; the family is all pairs of this metric.
    level : float, optional
        Confidence level of a bootstrap interval of the mean difference.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        A row a pair: ``metric``, ``model_a``, ``model_b``, ``n`` (cases compared),
        ``n_undefined`` (cases left out), ``n_zero``; of the differences a - b ``mean_difference``,
        with ``level`` also ``ci_low`` and ``ci_high``, ``median_difference`` and
        ``hodges_lehmann``; ``rank_biserial``, positive if a is the better (None if it is not
        known which direction is), ``w``, ``p``, ``p_adjusted``. None where no case is defined.
    """
    rows = []
    for a, b in combinations(range(len(scores.models)), 2):
        differences = paired_differences(scores.values[a], scores.values[b])
        row = {
            "metric": scores.metric,
            "model_a": scores.models[a],
            "model_b": scores.models[b],
            "n": differences.size,
            "n_undefined": len(scores.cases) - differences.size,
            **_difference_columns(differences, level, resamples, seed),
            **_test_columns(differences, method, zeros, scores.better),
        }
        rows.append(row)
    p_values = np.array([np.nan if row["p"] is None else row["p"] for row in rows])
    for row, p in zip(rows, adjust_p_values(p_values, adjust), strict=True):
        row["p_adjusted"] = None if np.isnan(p) else float(p)
    return rows


def _difference_columns(
    differences: FloatArray, level: float | None, resamples: int, seed: int
) -> Row:
    """Describe the size of paired differences."""
    row: Row = {"mean_difference": mean(differences)}
    if level is not None:
        interval = bootstrap_interval(differences, level, resamples=resamples, seed=seed)
        row["ci_low"], row["ci_high"] = interval
    some = differences.size > 0
    row["median_difference"] = float(np.median(differences)) if some else None
    row["hodges_lehmann"] = hodges_lehmann(differences) if some else None
    return row


def _test_columns(differences: FloatArray, method: str, zeros: str, better: str | None) -> Row:
    """Test paired differences."""
    if not differences.size:
        return dict.fromkeys(("n_zero", "rank_biserial", "w", "p"))
    found = signed_rank_test(differences, method=method, zeros=zeros)
    sign = {"higher": 1, "lower": -1, None: None}[better]
    return {
        "n_zero": found.n_zero,
        "rank_biserial": None if sign is None else sign * found.rank_biserial + 0.0,
        "w": found.statistic,
        "p": found.p,
    }


def matrix_rows(pairs: Sequence[Row], column: str, *, mirrored: int = 1) -> list[Row]:
    """Set a column of `pair_rows` out as a matrix of models against models.

    Parameters
    ----------
    pairs : sequence of dict
        Rows of one metric.
    column : str
        'p_adjusted', 'rank_biserial', ...
    mirrored : int
        1 if the value of b against a is that of a against b, -1 if it is its negative.

    Returns
    -------
    list of dict
        A row a model: ``metric``, ``model``, and a column a model; the diagonal is None.
    """
    models = list(dict.fromkeys(row[end] for row in pairs for end in ("model_a", "model_b")))
    cells = {(row["model_a"], row["model_b"]): row[column] for row in pairs}
    cells |= {(b, a): None if v is None else mirrored * v + 0.0 for (a, b), v in cells.items()}
    return [
        {
            "metric": pairs[0]["metric"],
            "model": model,
            **{other: cells.get((model, other)) for other in models},
        }
        for model in models
    ]


# Rankings


def rank_rows(
    scores: Scores, *, by: str = "mean", resamples: int = 10000, seed: int = 0
) -> list[Row]:
    """Rank the models, and count how often each has each rank when cases are drawn anew.

    As challengeR does (Wiesenfarth et al. 2021): samples of as many cases are drawn with
    replacement, the same for all models, and ranked as the cases themselves are. Only cases
    defined for every model count, so that none gains by undefined values. Models that tie share
    the least of their ranks.

    Parameters
    ----------
    scores : Scores
        With undefined values filled, or not; at least two models.
    by : str
        What is ranked: each model's 'mean' or 'median' over the cases (aggregate, then rank), or
        its mean rank within the cases, ties by their mean rank ('ranks': rank, then aggregate).
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        A row a model, the best first: ``metric``, ``rank``, ``model``, ``value`` (what was
        ranked), ``n`` (cases used), ``n_undefined`` (cases left out); over the samples
        ``rank_mean``, ``rank_low``, ``rank_high`` (2.5th and 97.5th percentile; ranks that
        occurred), ``rank_1``, ``rank_2``, ... (fraction of the samples in which the model had
        this rank); ``kendall_tau``, the mean over the samples of Kendall's tau-b between their
        ranking and this one (of samples that rank all alike there is none; the same for all
        models of a metric).

    Raises
    ------
    LnqError
        It is not known which direction is better, no case is defined for every model, or what
        to rank by is unknown.
    """
    require_choice("ranking", by, RANKINGS)
    sign = -1.0 if _higher_is_better(scores) else 1.0
    complete = ~np.isnan(scores.values).any(axis=0)
    if not complete.any():
        raise LnqError(f"no case has {scores.metric} of every model, so that they cannot be ranked")
    basis = sign * scores.values[:, complete]
    if by == "ranks":
        from scipy.stats import rankdata

        basis = rankdata(basis, axis=0)
    average = np.median if by == "median" else np.mean
    value = average(basis, axis=1)
    ranks = _ranks(_without_noise(value, basis))
    resampled = _resampled_ranks(basis, average, resamples, seed)
    tau = mean(_defined(_kendall_tau(resampled, ranks)))
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0, method="inverted_cdf")
    return [
        {
            "metric": scores.metric,
            "rank": int(ranks[k]),
            "model": scores.models[k],
            "value": float(value[k] if by == "ranks" else sign * value[k]),
            "n": int(complete.sum()),
            "n_undefined": int((~complete).sum()),
            "rank_mean": float(resampled[:, k].mean()),
            "rank_low": int(low[k]),
            "rank_high": int(high[k]),
            **{f"rank_{r}": float((resampled[:, k] == r).mean()) for r in _places(ranks)},
            "kendall_tau": tau,
        }
        for k in np.argsort(ranks, kind="stable")
    ]


def _places(ranks: npt.NDArray[np.int64]) -> range:
    """Return the ranks that there can be."""
    return range(1, ranks.size + 1)


def _ranks(values: FloatArray) -> npt.NDArray[np.int64]:
    """Rank along the last axis, the least first; ties share the least rank."""
    return 1 + (values[..., :, None] > values[..., None, :]).sum(axis=-1)


def _resampled_ranks(
    basis: FloatArray, average: Any, resamples: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the ranks (samples, models) in samples of the cases, drawn with replacement."""
    random = np.random.default_rng(seed)
    n = basis.shape[1]
    at_once = max(1, _RESAMPLED_VALUES // n)
    values = np.empty((resamples, basis.shape[0]))
    for start in range(0, resamples, at_once):
        drawn = random.integers(0, n, (min(at_once, resamples - start), n))
        for model, its in enumerate(basis):
            values[start : start + len(drawn), model] = average(its[drawn], axis=1)
    return _ranks(_without_noise(values, basis))


def _kendall_tau(rankings: npt.NDArray[np.int64], reference: npt.NDArray[np.int64]) -> FloatArray:
    """Return Kendall's tau-b of each ranking (rankings, models) with one; NaN if all tie."""
    first, second = np.triu_indices(reference.size, 1)
    theirs = np.sign(rankings[:, first] - rankings[:, second])
    ours = np.sign(reference[first] - reference[second])
    agreement = (theirs * ours).sum(axis=1)
    comparable = np.sqrt((theirs**2).sum(axis=1) * (ours**2).sum())
    return np.divide(
        agreement, comparable, out=np.full(len(rankings), np.nan), where=comparable > 0
    )
