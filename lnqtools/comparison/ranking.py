"""Models in order, and how sure the order is.

Samples are drawn as in `lnqtools.comparison.intervals`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.choices import RANKINGS, TIES
from lnqtools.comparison.intervals import drawn_cases, supported, without_noise
from lnqtools.comparison.paired import (
    SignedRank,
    adjust_p_values,
    paired_differences,
    signed_rank_test,
)
from lnqtools.comparison.tables import FloatArray, Scores, defined, require_direction
from lnqtools.errors import LnqError, require_choice
from lnqtools.files.tables import Row
from lnqtools.metrics.summaries import mean

Test = Callable[[FloatArray], SignedRank]


def case_ranks(metrics: Sequence[Scores], ties: str = "min") -> Scores:
    """Rank the models within each case, and average the ranks of several metrics.

    The LNQ2023 challenge ranked so, by Dice and ASSD: in each case a team's rank in a metric is 1 +
    the number of teams that are better; the mean over both metrics, and then over the cases, is
    what the teams were ordered by.

    Parameters
    ----------
    metrics : sequence of Scores
        Of the same models and cases, with undefined values filled, or not.
    ties : str
        What equal values share: the best of their ranks ('min', as LNQ2023 and challengeR), or the
        mean of them ('average').

    Returns
    -------
    Scores
        Mean ranks, lower is better, of each group; of one metric under its name, of several as
        ``mean_rank(dice,assd_mm)``. A case in which a metric is undefined for any model is
        undefined for all.

    Raises
    ------
    LnqError
        If it is not known which direction of a metric is better, or the word for ties is unknown.
    """
    require_choice("rank of ties", ties, TIES)
    first = metrics[0]
    for scores in metrics:
        require_direction(scores)
    ranks = np.mean([_ranks_within(scores, ties) for scores in metrics], axis=0)
    names = ",".join(scores.metric for scores in metrics)
    name = first.metric if len(metrics) == 1 else f"mean_rank({names})"
    return replace(first, metric=name, better="lower", values=ranks, not_judged=np.isnan(ranks))


def _ranks_within(scores: Scores, ties: str) -> FloatArray:
    """Return the ranks (groups, models, cases) of the models in each case, 1 the best."""
    from scipy.stats import rankdata

    values = (-1.0 if scores.better == "higher" else 1.0) * scores.levels
    ranks: FloatArray = rankdata(values, method=ties, axis=1).astype(float)
    undefined = np.isnan(values).any(axis=1, keepdims=True)
    return np.where(undefined, np.nan, ranks)


def rank_rows(
    scores: Scores,
    *,
    by: str = "mean",
    ties: str = "min",
    level: float = 0.95,
    resamples: int = 10000,
    seed: int = 0,
    test: Test = signed_rank_test,
    adjust: str = "none",
) -> list[Row]:
    """Rank the models, and count how often each has each rank when cases are drawn anew.

    As challengeR does (Wiesenfarth et al. 2021): samples of as many cases are drawn with
    replacement, the same for all models, and ranked as the cases themselves are; with several
    groups, as seeds, these are drawn, too. Only cases defined for every model count, so that none
    gains by undefined values. Models that tie share the least of their ranks.

    Parameters
    ----------
    scores : Scores
        With undefined values filled, or not; at least two models. Of `case_ranks` to rank by
        several metrics.
    by : str
        What is ranked: each model's 'mean' or 'median' over the cases (aggregate, then rank), or
        its mean rank within the cases ('ranks', and 'cases', which is the same of one metric: rank,
        then aggregate).
    ties : str
        Of 'ranks', see `case_ranks`.
    level : float
        Of the intervals.
    resamples, seed : int
        Samples that the bootstrap draws, and its seed.
    test : callable
        Takes the paired differences of neighbors, and returns a `SignedRank`.
    adjust : str
        See `lnqtools.comparison.paired.adjust_p_values`; the family is all neighbors.

    Returns
    -------
    list of dict
        One row per model, the best first: ``metric``, ``rank``, ``model``, ``value`` (what was
        ranked), ``value_low``, ``value_high`` (its percentile interval over the samples), ``n``
        (cases used), ``n_undefined`` (cases left out), ``n_missing`` (cases that the model has no
        row of); over the samples ``rank_mean``, ``rank_low``, ``rank_high`` (percentiles; ranks
        that occurred), ``rank_1``, ``rank_2``, ... (fraction of the samples in which the model had
        this rank); ``kendall_tau``, the mean over the samples of Kendall's tau-b between their
        ranking and this one (of samples that rank all alike there is none; the same for all
        models of a metric); ``p_next``, ``p_next_adjusted``: of the signed-rank test of what is
        ranked in each case against the model of the next row; None in the last.

    Raises
    ------
    LnqError
        If it is not known which direction is better, no case is defined for every model, or
        what to rank by is unknown.
    """
    require_choice("ranking", by, RANKINGS)
    require_direction(scores)
    if by in ("ranks", "cases"):
        scores = case_ranks([scores], ties)
    sign = -1.0 if scores.better == "higher" else 1.0
    complete = ~np.isnan(scores.of_cases).any(axis=0)
    if not complete.any():
        raise LnqError(f"no case has {scores.metric} of every model, so that they cannot be ranked")
    levels = sign * scores.levels[:, :, complete]
    of_cases = levels.mean(axis=0)
    average = np.median if by == "median" else np.mean
    value = average(of_cases, axis=1)
    ranks = _ranks(without_noise(value, levels))
    samples = _resampled_values(levels, average, resamples, seed)
    resampled = _ranks(without_noise(samples, levels))
    tau = mean(defined(_kendall_tau(resampled, ranks)))
    bounds = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(resampled, bounds, axis=0, method="inverted_cdf")
    order = np.argsort(ranks, kind="stable")
    return [
        {
            "metric": scores.metric,
            "rank": int(ranks[k]),
            "model": scores.models[k],
            "value": float(sign * value[k]) + 0.0,  # never -0
            **_interval(sign * samples[:, k] + 0.0, bounds),
            "n": int(complete.sum()),
            "n_undefined": int((~complete).sum()),
            "n_missing": scores.missing.get(scores.models[k], 0),
            "rank_mean": float(resampled[:, k].mean()),
            "rank_low": int(low[k]),
            "rank_high": int(high[k]),
            **{f"rank_{r}": float((resampled[:, k] == r).mean()) for r in _places(ranks)},
            "kendall_tau": tau,
            **against_next,
        }
        for k, against_next in zip(order, _neighbors(of_cases[order], test, adjust), strict=True)
    ]


def _neighbors(ordered: FloatArray, test: Test, adjust: str) -> list[Row]:
    """Test each model (models, cases) against the next; of the last there is nothing to test."""
    p_values = [test(paired_differences(*pair)).p for pair in pairwise(ordered)]
    adjusted = adjust_p_values(np.array(p_values), adjust).tolist()
    rows = zip([*p_values, None], [*adjusted, None], strict=True)
    return [{"p_next": p, "p_next_adjusted": after} for p, after in rows]


def _interval(samples: FloatArray, bounds: Sequence[float]) -> Row:
    """Return the percentile interval of a model's resampled values."""
    low, high = (supported(float(limit), samples) for limit in np.quantile(samples, bounds))
    return {"value_low": low, "value_high": high}


def _places(ranks: npt.NDArray[np.int64]) -> range:
    """Return the ranks that there can be."""
    return range(1, ranks.size + 1)


def _ranks(values: FloatArray) -> npt.NDArray[np.int64]:
    """Rank along the last axis, the least first; ties share the least rank."""
    return 1 + (values[..., :, None] > values[..., None, :]).sum(axis=-1)


def _resampled_values(levels: FloatArray, average: Any, resamples: int, seed: int) -> FloatArray:
    """Return each model's value (samples, models) in samples of groups and cases."""
    groups, models, cases = levels.shape
    parts = []
    for weights, rows, drawn in drawn_cases((groups, cases), resamples, seed):
        of_models = [(weights @ levels[:, k])[rows, drawn] for k in range(models)]
        parts.append(np.stack([average(of, axis=1) for of in of_models], axis=1))
    return np.concatenate(parts)


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
