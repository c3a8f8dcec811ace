"""Paired tests of models, two by two."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from lnqtools.choices import ADJUSTMENTS, METHODS, ZEROS
from lnqtools.comparison.intervals import bootstrap_interval, interval_method, without_noise
from lnqtools.comparison.tables import FloatArray, Scores
from lnqtools.errors import require_choice
from lnqtools.files.tables import Row
from lnqtools.metrics.summaries import mean


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
        If the method, or what becomes of zeros, is unknown.
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
    return without_noise(first - second, np.concatenate([first, second]))


def hodges_lehmann(differences: FloatArray) -> float:
    """Return the median of the means of all pairs of differences, each with itself too.

    The estimate of location that belongs to the signed-rank test (Hodges and Lehmann 1963).
    """
    first, second = np.triu_indices(differences.size)
    return float(np.median((differences[first] + differences[second]) / 2))


def adjust_p_values(p_values: FloatArray, method: str) -> FloatArray:
    """Adjust p values for their number; NaN stands for no test, and stays.

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
        If the method is unknown.
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
        Samples that the bootstrap draws, and its seed.

    Returns
    -------
    list of dict
        One row per pair: ``metric``, ``model_a``, ``model_b``, ``n`` (cases compared),
        ``n_undefined`` (cases left out); of the differences a - b ``mean_difference``, with
        ``level`` also ``ci_low``, ``ci_high`` and ``ci_method`` (see
        `lnqtools.comparison.intervals.bootstrap_interval`), ``median_difference`` and
        ``hodges_lehmann``; ``n_zero``, ``rank_biserial``, positive if a is the better, ``w``,
        ``p``; ``p_superior``, see `superiority`, with ``level`` also its interval
        ``p_superior_low``, ``p_superior_high``; ``p_adjusted``. None where no case is defined, or
        a direction is needed that is not known. With several groups the test is of the cases'
        means over these, and intervals are over groups and cases.
    """
    rows = []
    for a, b in combinations(range(len(scores.models)), 2):
        levels = level_differences(scores, a, b)
        differences = without_noise(levels.mean(axis=0), levels)
        row = {
            "metric": scores.metric,
            "model_a": scores.models[a],
            "model_b": scores.models[b],
            "n": differences.size,
            "n_undefined": len(scores.cases) - differences.size,
            **_difference_columns(levels, level, resamples, seed),
            **_test_columns(differences, method, zeros, scores.better),
            **_superiority_columns(levels, scores.better, level, resamples, seed),
        }
        rows.append(row)
    p_values = np.array([np.nan if row["p"] is None else row["p"] for row in rows])
    for row, p in zip(rows, adjust_p_values(p_values, adjust), strict=True):
        row["p_adjusted"] = None if np.isnan(p) else float(p)
    return rows


def level_differences(scores: Scores, a: int, b: int) -> FloatArray:
    """Return the differences a - b of two models' values, (groups, cases defined in all groups).

    The groups are paired as they are: seed 1 of the one with seed 1 of the other.
    """
    first, second = scores.levels[:, a], scores.levels[:, b]
    both = ~(np.isnan(first) | np.isnan(second)).any(axis=0)
    return np.stack(
        [paired_differences(*of) for of in zip(first[:, both], second[:, both], strict=True)]
    )


def _difference_columns(levels: FloatArray, level: float | None, resamples: int, seed: int) -> Row:
    """Describe the size of paired differences."""
    differences = levels.mean(axis=0)
    row: Row = {"mean_difference": mean(differences)}
    if level is not None:
        row["ci_low"], row["ci_high"] = bootstrap_interval(
            levels, level, resamples=resamples, seed=seed
        )
        row["ci_method"] = interval_method(levels) if row["ci_low"] is not None else None
    some = differences.size > 0
    row["median_difference"] = float(np.median(differences)) if some else None
    row["hodges_lehmann"] = hodges_lehmann(differences) if some else None
    return row


def superiority(differences: FloatArray, better: str | None) -> FloatArray:
    """Return for each difference a - b how often a is the better: 1, 0, or .5 where they tie.

    Their mean is the probability that a is better than b, P(a > b) + P(a = b) / 2, on a case (and
    group) drawn at random. All .5 if nobody knows which direction is better.
    """
    sign = {"higher": 1, "lower": -1, None: 0}[better]
    return 0.5 + 0.5 * np.sign(sign * differences)


def _superiority_columns(
    levels: FloatArray, better: str | None, level: float | None, resamples: int, seed: int
) -> Row:
    """Say how often the one model is better than the other."""
    known = better is not None and levels.size > 0
    wins = superiority(levels, better)
    row: Row = {"p_superior": float(wins.mean()) if known else None}
    if level is not None:
        limits = bootstrap_interval(wins, level, resamples=resamples, seed=seed)
        row["p_superior_low"], row["p_superior_high"] = limits if known else (None, None)
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


def significance_rows(pairs: Sequence[Row], order: Sequence[str], alpha: float) -> list[Row]:
    """Set out which model is better than which, in the order of a ranking.

    Parameters
    ----------
    pairs : sequence of dict
        Rows of `pair_rows`, of one metric of which the better direction is known.
    order : sequence of str
        The models, the best first.
    alpha : float
        Adjusted p values below it are significant.

    Returns
    -------
    list of dict
        As `matrix_rows`: 1 where the model of the row is significantly better than that of the
        column, -1 where it is significantly worse, else 0.
    """

    def verdict(row: Row) -> int:
        return int(np.sign(row["rank_biserial"])) if row["p_adjusted"] < alpha else 0

    judged = [{**row, "verdict": None if row["p"] is None else verdict(row)} for row in pairs]
    rows = {row["model"]: row for row in matrix_rows(judged, "verdict", mirrored=-1)}
    return [
        {"metric": rows[model]["metric"], "model": model, **{o: rows[model][o] for o in order}}
        for model in order
    ]


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
        One row per model: ``metric``, ``model``, and one column per model; the diagonal is None.
    """
    models = list(dict.fromkeys(row[end] for row in pairs for end in ("model_a", "model_b")))
    cells = {(row["model_a"], row["model_b"]): row[column] for row in pairs}
    cells |= {(b, a): None if v is None else mirrored * v + 0 for (a, b), v in cells.items()}
    return [
        {
            "metric": pairs[0]["metric"],
            "model": model,
            **{other: cells.get((model, other)) for other in models},
        }
        for model in models
    ]
