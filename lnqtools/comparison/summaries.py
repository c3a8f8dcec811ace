"""Each model's values over the cases, with bootstrap intervals.

Everything random is drawn from a generator that begins anew with the seed, so that a number depends
on the seed and on the values it is computed from, not on what else is in the table.
"""

import warnings

import numpy as np

from lnqtools.comparison.tables import FloatArray, Scores, defined, fill
from lnqtools.files.tables import Row
from lnqtools.metrics.summaries import mean

RESAMPLED_VALUES = 2**21
"""Values drawn at once: bounds the memory of the bootstrap."""


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
            batch=max(1, RESAMPLED_VALUES // values.size),
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
    """Summarize each model's values over the cases.

    Parameters
    ----------
    scores : Scores
        As read: undefined values not filled.
    empty : str or float
        What stands for undefined values, see `fill`.
    level : float, optional
        Confidence level of a bootstrap interval of the mean.
    resamples, seed : int
        Samples that the bootstrap draws, and its seed.

    Returns
    -------
    list of dict
        One row per model: ``metric``, ``model``, ``mean``, ``sd`` (n - 1 in the denominator; None
        below two values), ``median`` (None without a value), with ``level`` also ``ci_low``,
        ``ci_high``; then, as `lnqtools.metrics.summaries.summarize` has them, ``n`` (defined
        values), ``n_undefined``, ``n_filled`` (those of them that a value stands for in
        ``mean_filled``), ``mean_dropped`` (over the n), ``mean_filled`` (over n + n_filled).
        With 'drop', ``mean_filled`` is that of 'worst'. It is None, and ``n_filled`` 0, if it is
        not known which direction is better and a value is undefined.
    """
    used = fill(scores, empty)
    filled = fill(scores, "worst" if empty == "drop" else empty) if scores.better else scores
    rows = []
    for number, model in enumerate(scores.models):
        values = defined(used.values[number])
        dropped, complete = defined(scores.values[number]), defined(filled.values[number])
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
