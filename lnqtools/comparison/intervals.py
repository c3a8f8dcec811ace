"""Bootstrap intervals of means over cases, or over groups and cases, and how exact they are.

Everything random is drawn from a generator that begins anew with the seed, so that a number depends
on the seed and on the values it is computed from, not on what else is in the table.

Groups are a second level beside the cases, as trainings with other seeds: each group has each case.
Their number is part of the uncertainty, so that both are drawn anew (a bootstrap of crossed levels;
Bouthillier et al. 2021 show why seeds count).

A limit is a quantile of the samples that were drawn, and other samples would give another one: its
standard error is half the distance between the quantiles one binomial standard deviation to either
side. Limits are rounded to the digit in which that error begins; more would be noise.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lnqtools.comparison.tables import FloatArray

RESAMPLED_VALUES = 2**21
"""Values drawn at once: bounds the memory of the bootstrap."""

MIN_CASES_BCA = 10
"""Of fewer cases, BCa's acceleration is a guess from as many numbers, and may move a limit to the
sample's edge: percentiles instead."""


def bootstrap_interval(
    values: FloatArray, level: float, *, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """Return a bootstrap confidence interval of the mean.

    Bias-corrected and accelerated (BCa; Efron 1987), as `scipy.stats.bootstrap` computes it; below
    `MIN_CASES_BCA` cases, and with several groups, by percentiles.

    Parameters
    ----------
    values : (n,) or (groups, n) ndarray
        Defined values.
    level : float
        Confidence level, between 0 and 1.
    resamples : int
        Samples of n values, and of groups, drawn with replacement.
    seed : int

    Returns
    -------
    low, high : float or None
        Rounded to the digits that the samples support. None below two values, where less than one
        sample is expected beyond either limit, of few samples. Values that are all equal, as far as
        rounding can tell, are their own interval.
    """
    levels = np.atleast_2d(values)
    if levels.shape[1] < 2 or resamples * (1 - level) / 2 < 1:
        return None, None
    if not without_noise(levels - levels[0, 0], levels).any():
        return float(levels[0, 0]), float(levels[0, 0])
    if interval_method(levels) == "percentile":
        means = resampled_means(levels, resamples=resamples, seed=seed)
        limits = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]).tolist()
    else:
        limits, means = _bca(levels[0], level, resamples, seed)
    if np.isnan(limits).any():  # BCa, of samples whose means all lie on one side
        return None, None
    low, high = (supported(limit, means) for limit in limits)
    return low, high


def interval_method(values: FloatArray) -> str:
    """Return how `bootstrap_interval` finds the limits: 'bca' or 'percentile'."""
    groups, cases = np.atleast_2d(values).shape
    return "bca" if groups == 1 and cases >= MIN_CASES_BCA else "percentile"


def _bca(
    values: FloatArray, level: float, resamples: int, seed: int
) -> tuple[list[float], FloatArray]:
    """Return the limits, and the means of the samples."""
    from scipy.stats import bootstrap

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
        )
    limits = found.confidence_interval
    return [float(limits.low), float(limits.high)], found.bootstrap_distribution


def complete_cases(levels: FloatArray) -> FloatArray:
    """Return the cases of (groups, cases) that are defined in all groups."""
    complete: FloatArray = levels[:, ~np.isnan(levels).any(axis=0)]
    return complete


def resampled_means(levels: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Return the means of samples of groups and of cases, both drawn with replacement.

    Parameters
    ----------
    levels : (groups, cases) ndarray
        Defined values.
    resamples, seed : int

    Returns
    -------
    (resamples,) ndarray
    """
    parts = drawn_cases(levels.shape, resamples, seed)
    return np.concatenate(
        [(weights @ levels)[rows, cases].mean(axis=1) for weights, rows, cases in parts]
    )


def drawn_cases(
    shape: tuple[int, int], resamples: int, seed: int
) -> Iterator[tuple[FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Draw samples of groups and of cases, with replacement, some at once.

    Parameters
    ----------
    shape : (groups, cases)
    resamples, seed : int
        One group is not drawn, so that the cases are those of a bootstrap of cases alone.

    Yields
    ------
    weights : (m, groups) ndarray
        How much each group counts in each sample; the sum is 1.
    rows : (m, 1) ndarray of int
        0, 1, ..., m - 1, to take the cases by.
    cases : (m, cases) ndarray of int
        The cases drawn.
    """
    random = np.random.default_rng(seed)
    groups, cases = shape
    weights = np.ones((resamples, 1))
    if groups > 1:
        drawn = random.integers(groups, size=(resamples, groups))
        weights = (drawn[..., None] == np.arange(groups)).mean(axis=1)
    at_once = max(1, RESAMPLED_VALUES // cases)
    for start in range(0, resamples, at_once):
        part = weights[start : start + at_once]
        rows = np.arange(len(part))[:, None]
        yield part, rows, random.integers(cases, size=(len(part), cases))


def without_noise(results: FloatArray, values: FloatArray) -> FloatArray:
    """Round results computed from values to the twelfth digit of the largest of these."""
    largest = np.abs(values).max(initial=0)
    return np.round(results, 12 - int(np.ceil(np.log10(largest)))) if largest else results


def supported(limit: float, samples: FloatArray) -> float:
    """Round a quantile of samples to the digit in which its standard error begins.

    Parameters
    ----------
    limit : float
        A quantile of the samples, or near one.
    samples : (n,) ndarray
        What was drawn.
    """
    share = float((samples <= limit).mean())
    apart = math.sqrt(share * (1 - share) / samples.size)
    low, high = np.quantile(samples, np.clip([share - apart, share + apart], 0, 1))
    error = (high - low) / 2
    return round(limit, -math.floor(math.log10(error))) if error > 0 else limit
