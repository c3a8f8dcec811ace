"""What a study of so many cases and trainings can find.

The paired differences of two models vary from case to case, from training to training (groups, as
seeds), and beyond both. As a sum of random effects,

    difference of group g in case c = mean + case_c + group_g + rest_gc,

the mean over n cases and m groups has the standard error √(σ_case²/n + σ_group²/m + σ_rest²/(n m)):
more cases alone do not bring it below σ_group/√m. The variances are estimated as in an analysis of
variance of two crossed random factors without repetition (Searle, Casella and McCulloch 1992),
negative estimates being 0.
"""

import math
from itertools import combinations
from typing import NamedTuple

from lnqtools.comparison.paired import level_differences
from lnqtools.comparison.tables import FloatArray, Scores
from lnqtools.errors import LnqError
from lnqtools.files.tables import Row


class Spreads(NamedTuple):
    """Standard deviations of paired differences.

    Attributes
    ----------
    cases : float
        Between cases. Of one group, together with the rest, which cannot be told apart.
    groups : float or None
        Between groups; None of one group.
    rest : float
        What is left.
    """

    cases: float
    groups: float | None
    rest: float


def spreads(levels: FloatArray) -> Spreads:
    """Estimate how differences vary between cases, between groups, and beyond.

    Parameters
    ----------
    levels : (groups, cases) ndarray
        Defined differences, of at least two cases.
    """
    groups, cases = levels.shape
    if groups == 1:
        return Spreads(float(levels[0].std(ddof=1)), None, 0.0)
    of_cases, of_groups = levels.mean(axis=0), levels.mean(axis=1)
    rest = levels - of_cases - of_groups[:, None] + levels.mean()
    square_rest = float((rest**2).sum()) / ((groups - 1) * (cases - 1))
    square_cases = float(of_cases.var(ddof=1)) - square_rest / groups
    square_groups = float(of_groups.var(ddof=1)) - square_rest / cases
    return Spreads(
        *(math.sqrt(max(square, 0)) for square in (square_cases, square_groups, square_rest))
    )


def standard_error(found: Spreads, n_cases: int, n_groups: int) -> float:
    """Return the standard error of the mean difference over cases and groups."""
    of_groups = (found.groups or 0.0) ** 2 / n_groups
    return math.sqrt(found.cases**2 / n_cases + of_groups + found.rest**2 / (n_cases * n_groups))


def power_rows(
    scores: Scores,
    *,
    n_cases: int | None = None,
    n_groups: int | None = None,
    difference: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> list[Row]:
    """Say which differences a study of so many cases and groups would find, for each two models.

    By the normal approximation, for a two-sided test of the mean difference at ``alpha``: a true
    difference d is found with probability Φ(|d|/SE - z) + Φ(-|d|/SE - z), z being the normal
    quantile of 1 - alpha/2; the least that is found with a probability ``power`` is about
    (z + z_power) SE.

    Parameters
    ----------
    scores : Scores
        With undefined values filled, or not.
    n_cases, n_groups : int, optional
        Of the study; by default as many as there are here.
    difference : float, optional
        A true difference, in the unit of the metric.
    alpha, power : float

    Returns
    -------
    list of dict
        One row per pair: ``metric``, ``model_a``, ``model_b``, ``n`` (cases used here),
        ``n_undefined``, ``mean_difference`` (a - b, here), ``sd_cases``, ``sd_groups``,
        ``sd_rest`` (see `spreads`), ``n_cases``, ``n_groups`` (planned), ``standard_error``,
        ``detectable`` (the least difference), with ``difference`` also that and its ``power``.
        None where less than two cases are defined.

    Raises
    ------
    LnqError
        If several groups are planned and the scores have one: nothing tells how these differ.
    """
    planned = n_groups or len(scores.levels)
    if planned > 1 and len(scores.levels) == 1:
        raise LnqError(
            "how seeds differ is not known from one of each model: --group says which column, or "
            "which tables of a model, are several"
        )
    rows = []
    for a, b in combinations(range(len(scores.models)), 2):
        levels = level_differences(scores, a, b)
        cases = levels.shape[1]
        found = spreads(levels) if cases > 1 else None
        error = standard_error(found, n_cases or cases, planned) if found else None
        row: Row = {
            "metric": scores.metric,
            "model_a": scores.models[a],
            "model_b": scores.models[b],
            "n": cases,
            "n_undefined": len(scores.cases) - cases,
            "mean_difference": float(levels.mean()) if cases else None,
            "sd_cases": found and found.cases,
            "sd_groups": found and found.groups,
            "sd_rest": found.rest if found and found.groups is not None else None,
            "n_cases": n_cases or cases,
            "n_groups": planned,
            "standard_error": error,
            "detectable": None if error is None else detectable(error, alpha, power),
        }
        if difference is not None:
            chance = None if error is None else chance_to_find(difference, error, alpha)
            row |= {"difference": difference, "power": chance}
        rows.append(row)
    return rows


def detectable(error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the least true difference that is found with some probability."""
    from scipy.special import ndtri

    return float(ndtri(1 - alpha / 2) + ndtri(power)) * error


def chance_to_find(difference: float, error: float, alpha: float = 0.05) -> float:
    """Return the probability that a true difference is found."""
    from scipy.special import ndtr, ndtri

    if not error:
        return float(difference != 0)
    limit, apart = float(ndtri(1 - alpha / 2)), abs(difference) / error
    return float(ndtr(apart - limit) + ndtr(-apart - limit))
