"""Each model's values over the cases, with bootstrap intervals."""

import numpy as np

from lnqtools.choices import SPREADS
from lnqtools.comparison.intervals import bootstrap_interval, complete_cases, interval_method
from lnqtools.comparison.tables import Scores, defined, fill
from lnqtools.errors import require_choice
from lnqtools.files.tables import Row
from lnqtools.metrics.summaries import SD_COLUMNS, mean, standard_deviation


def summary_rows(
    scores: Scores,
    empty: str | float = "drop",
    *,
    spread: str = "sample",
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
    spread : str
        'sample': n - 1 in the denominator of the standard deviation; 'population': n, as in the
        paper's Table 4 and in numpy.
    level : float, optional
        Confidence level of a bootstrap interval of the mean.
    resamples, seed : int
        Samples that the bootstrap draws, and its seed.

    Returns
    -------
    list of dict
        One row per model: ``metric``, ``model``, ``mean``, ``sd`` over the cases (its column is
        called ``sd_population`` where it is that; of a sample None below two values), ``median``
        (None without a value), with ``level`` also ``ci_low``, ``ci_high``, ``ci_method`` (see
        `lnqtools.comparison.intervals.bootstrap_interval`); with several groups ``sd_groups``, over
        the groups' means; then, as `lnqtools.metrics.summaries.summarize` has them, ``n`` (defined
        values), ``n_undefined``, ``n_filled`` (those of them that a value stands for in
        ``mean_filled``), ``mean_dropped`` (over the n), ``mean_filled`` (over n + n_filled); and
        ``n_missing``, cases that the model has no row of. With 'drop', ``mean_filled`` is that of
        'worst'. It is None, and ``n_filled`` 0, if it is not known which direction is better and a
        value is undefined. With several groups, values are the cases' means over these.
    """
    require_choice("standard deviation", spread, SPREADS)
    used = fill(scores, empty)
    filled = fill(scores, "worst" if empty == "drop" else empty) if scores.better else scores
    rows = []
    for number, model in enumerate(scores.models):
        levels = complete_cases(used.levels[:, number])
        values = levels.mean(axis=0)
        dropped, complete = (defined(of.of_cases[number]) for of in (scores, filled))
        row: Row = {
            "metric": scores.metric,
            "model": model,
            "mean": mean(values),
            SD_COLUMNS[spread]: standard_deviation(values, spread),
            "median": float(np.median(values)) if values.size else None,
        }
        if level is not None:
            row["ci_low"], row["ci_high"] = bootstrap_interval(
                levels, level, resamples=resamples, seed=seed
            )
            row["ci_method"] = interval_method(levels) if row["ci_low"] is not None else None
        if len(levels) > 1:
            of_groups = levels.mean(axis=1) if values.size else values
            row["sd_groups"] = standard_deviation(of_groups, spread)
        unknown = scores.better is None and dropped.size < len(scores.cases)
        row |= {
            "n": dropped.size,
            "n_undefined": len(scores.cases) - dropped.size,
            "n_filled": complete.size - dropped.size,
            "mean_dropped": mean(dropped),
            "mean_filled": None if unknown else mean(complete),
            "n_missing": scores.missing.get(model, 0),
        }
        rows.append(row)
    return rows
