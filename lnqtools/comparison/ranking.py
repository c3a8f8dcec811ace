"""Models in order, and how sure the order is.

Samples are drawn as in `lnqtools.comparison.summaries`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.choices import RANKINGS
from lnqtools.comparison.paired import without_noise
from lnqtools.comparison.summaries import RESAMPLED_VALUES
from lnqtools.comparison.tables import FloatArray, Scores, defined, require_direction
from lnqtools.errors import LnqError, require_choice
from lnqtools.files.tables import Row
from lnqtools.metrics.summaries import mean


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
        Samples that the bootstrap draws, and its seed.

    Returns
    -------
    list of dict
        One row per model, the best first: ``metric``, ``rank``, ``model``, ``value`` (what was
        ranked), ``n`` (cases used), ``n_undefined`` (cases left out); over the samples
        ``rank_mean``, ``rank_low``, ``rank_high`` (2.5th and 97.5th percentile; ranks that
        occurred), ``rank_1``, ``rank_2``, ... (fraction of the samples in which the model had
        this rank); ``kendall_tau``, the mean over the samples of Kendall's tau-b between their
        ranking and this one (of samples that rank all alike there is none; the same for all
        models of a metric).

    Raises
    ------
    LnqError
        If it is not known which direction is better, no case is defined for every model, or
        what to rank by is unknown.
    """
    require_choice("ranking", by, RANKINGS)
    require_direction(scores)
    sign = -1.0 if scores.better == "higher" else 1.0
    complete = ~np.isnan(scores.values).any(axis=0)
    if not complete.any():
        raise LnqError(f"no case has {scores.metric} of every model, so that they cannot be ranked")
    basis = sign * scores.values[:, complete]
    if by == "ranks":
        from scipy.stats import rankdata

        basis = rankdata(basis, axis=0)
    average = np.median if by == "median" else np.mean
    value = average(basis, axis=1)
    ranks = _ranks(without_noise(value, basis))
    resampled = _resampled_ranks(basis, average, resamples, seed)
    tau = mean(defined(_kendall_tau(resampled, ranks)))
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
    at_once = max(1, RESAMPLED_VALUES // n)
    values = np.empty((resamples, basis.shape[0]))
    for start in range(0, resamples, at_once):
        drawn = random.integers(0, n, (min(at_once, resamples - start), n))
        for model, its in enumerate(basis):
            values[start : start + len(drawn), model] = average(its[drawn], axis=1)
    return _ranks(without_noise(values, basis))


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
