"""Comparisons of models as a paper prints them: rounded, the best in bold.

Each function takes rows of the modules beside this one and returns a table of text for
`lnqtools.files.typeset`, the headings first. Metrics are called, and their values rounded, as
`lnqtools.metrics.columns` says; p values have two digits.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from lnqtools.files.tables import Row
from lnqtools.files.typeset import Bold
from lnqtools.metrics.columns import column_of
from lnqtools.metrics.summaries import SD_COLUMNS

Table = list[list[str]]

_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
_NONE = "–"


def summary_text(
    rows: Sequence[Row],
    better: Mapping[str, str | None],
    level: float | None = None,
    incomparable: Collection[str] = (),
) -> Table:
    """Set summaries out as in the paper's Table 3: one row per model, columns for each metric.

    Where values of a metric are undefined, the means without them and with them filled stand
    beside the mean.

    Parameters
    ----------
    rows : sequence of dict
        Of `lnqtools.comparison.summaries.summary_rows`, of one metric or several.
    better : mapping
        Metric → 'higher', 'lower' or None.
    level : float, optional
        Confidence level of the intervals.
    incomparable : collection of str
        Metrics whose means are over other cases for one model than for another: none is bold.
    """
    headings = ["model"]
    lines = {row["model"]: [row["model"]] for row in rows}
    for metric in dict.fromkeys(row["metric"] for row in rows):
        of_metric = [row for row in rows if row["metric"] == metric]
        known = None if metric in incomparable else better[metric]
        best = _best([row["mean"] for row in of_metric], known)
        undefined = any(row["n_undefined"] for row in of_metric)
        missing = any(row["n_missing"] for row in of_metric)
        groups = "sd_groups" in of_metric[0]
        title = column_of(metric).title
        headings += [
            f"{_heading(metric, better[metric])} {_mean_and_sd_heading(of_metric)}",
            f"{title} median",
            *([f"{title} {_interval_heading(of_metric, level)}"] if level else []),
            *([f"{title} SD of groups"] if groups else []),
            f"{title} n",
        ]
        if undefined:
            headings += [f"{title} undefined", f"{title} dropped", f"{title} filled"]
        if missing:
            headings.append(f"{title} missing")
        for row in of_metric:
            mean = mean_and_sd(row)
            cells = [
                Bold(mean) if best is not None and row["mean"] == best else mean,
                _value(metric, row["median"]),
                *([_interval(row)] if level else []),
                *([_value(metric, row["sd_groups"])] if groups else []),
                str(row["n"]),
            ]
            if undefined:
                cells.append(str(row["n_undefined"]))
                cells += [_value(metric, row[key]) for key in ("mean_dropped", "mean_filled")]
            if missing:
                cells.append(str(row["n_missing"]))
            lines[row["model"]] += cells
    return [headings, *lines.values()]


def _heading(metric: str, better: str | None) -> str:
    """Return what a metric is called, with an arrow in the better direction."""
    return column_of(metric).heading + _ARROWS[better]


def mean_and_sd(row: Row) -> str:
    """Return mean ± SD of a summary."""
    return f"{_value(row['metric'], row['mean'])} ± {_value(row['metric'], row[_sd_column(row)])}"


def _mean_and_sd_heading(rows: Sequence[Row]) -> str:
    """Say what is in the denominator of the standard deviations of some summaries."""
    return f"mean ± SD ({'n - 1' if _sd_column(rows[0]) == 'sd' else 'n'})"


def _sd_column(row: Row) -> str:
    """Return which standard deviation a summary has."""
    return next(name for name in SD_COLUMNS.values() if name in row)


def _best(means: Sequence[float | None], better: str | None) -> float | None:
    """Return the best mean; None without one, or where the better direction is unknown."""
    known = [mean for mean in means if mean is not None]
    if not known or better is None:
        return None
    return max(known) if better == "higher" else min(known)


def _value(metric: str, value: float | None) -> str:
    """Round a value of a metric, or a difference of such."""
    return _NONE if value is None else column_of(metric).rounded(value)


def _interval(row: Row) -> str:
    """Return a confidence interval, to the digits that its samples support."""
    return _limits(row["metric"], row["ci_low"], row["ci_high"])


def _limits(metric: str, low: float | None, high: float | None) -> str:
    """Return two limits that were rounded already, with not more decimals than the metric has."""
    if low is None or high is None:
        return _NONE
    decimals = max(len(f"{limit:.10f}".rstrip("0").partition(".")[2]) for limit in (low, high))
    digits = min(column_of(metric).digits, decimals)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _interval_heading(rows: Sequence[Row], level: float) -> str:
    """Return the level of intervals, and how they were found."""
    found = dict.fromkeys(row["ci_method"] for row in rows if row["ci_method"])
    ways = ", ".join({"bca": "BCa"}.get(way, way) for way in found)
    return f"{_percent(level)} CI ({ways})" if ways else f"{_percent(level)} CI"


def _percent(level: float) -> str:
    """Return a confidence level as a percentage."""
    return f"{100 * level:g} %"


def p_text(p: float | None) -> str:
    """Round a p value to two digits."""
    return _NONE if p is None else f"{p:.2g}"


def _share(share: float | None) -> str:
    """Round a fraction of cases or samples."""
    return _NONE if share is None else f"{share:.2f}"


def effect_text(effect: float | None) -> str:
    """Round an effect, with its sign."""
    return _NONE if effect is None else f"{effect:+.2f}"


def verdict_text(verdict: float | None) -> str:
    """Say of a significance map whether the model of the row is better or worse, or neither."""
    return _NONE if verdict is None else {1: "better", 0: "=", -1: "worse"}[int(verdict)]


def matrix_text(
    rows: Sequence[Row],
    text: Callable[[float | None], str],
    better: str | None,
    summaries: Sequence[Row] = (),
) -> Table:
    """Set a matrix of one metric out as in the paper's Tables 5 and 6.

    Parameters
    ----------
    rows : sequence of dict
        Of `lnqtools.comparison.paired.matrix_rows`.
    text : callable
        Makes text of a cell.
    better : str or None
        'higher' or 'lower'.
    summaries : sequence of dict
        Of `lnqtools.comparison.summaries.summary_rows`, for last columns: each model's mean ± SD,
        and over how many cases it is (how many are left out).
    """
    models = [row["model"] for row in rows]
    table = [[_heading(rows[0]["metric"], better), *models]]
    table += [[row["model"], *(text(row[model]) for model in models)] for row in rows]
    if summaries:
        table[0] += [_mean_and_sd_heading(summaries), "n (undefined)"]
        for line, row in zip(table[1:], summaries, strict=True):
            line += [mean_and_sd(row), f"{row['n']} ({row['n_undefined']})"]
    return table


def pair_text(rows: Sequence[Row], better: str | None, level: float | None = None) -> Table:
    """Set the pairs of one metric out, one row per pair."""
    metric = rows[0]["metric"]
    headings = [
        *(_heading(metric, better), "n", "undefined", "mean difference"),
        *([_interval_heading(rows, level)] if level else []),
        *("Hodges-Lehmann", "rank-biserial", "P(first better)", "p", "p adjusted"),
    ]
    lines = [
        [
            f"{row['model_a']} – {row['model_b']}",
            str(row["n"]),
            str(row["n_undefined"]),
            _value(metric, row["mean_difference"]),
            *([_interval(row)] if level else []),
            _value(metric, row["hodges_lehmann"]),
            effect_text(row["rank_biserial"]),
            _share(row["p_superior"]),
            p_text(row["p"]),
            p_text(row["p_adjusted"]),
        ]
        for row in rows
    ]
    return [headings, *lines]


def power_text(rows: Sequence[Row], better: str | None) -> Table:
    """Set out what a study would find of the pairs of one metric, one row per pair."""
    metric = rows[0]["metric"]
    asked = "difference" in rows[0]
    headings = [
        *(_heading(metric, better), "SD of cases", "SD of groups", "SD of rest"),
        *("cases planned", "groups planned", "standard error", "detectable"),
        *([f"power for {_value(metric, rows[0]['difference'])}"] if asked else []),
    ]
    spreads = ("sd_cases", "sd_groups", "sd_rest")
    lines = [
        [
            f"{row['model_a']} – {row['model_b']}",
            *(_value(metric, row[name]) for name in spreads),
            *(str(row["n_cases"]), str(row["n_groups"])),
            *(_value(metric, row[name]) for name in ("standard_error", "detectable")),
            *([_share(row["power"])] if asked else []),
        ]
        for row in rows
    ]
    return [headings, *lines]


def rank_text(rows: Sequence[Row], better: str | None, by: str) -> Table:
    """Set the ranking by one metric, or by several together, out: one row per model."""
    metric = rows[0]["metric"]
    places = range(1, len(rows) + 1)
    within = by in ("ranks", "cases")
    undefined = any(row["n_undefined"] for row in rows)
    missing = any(row["n_missing"] for row in rows)
    headings = [
        _heading(metric, None if within else better),
        *("rank", "mean rank" if within else by, "95 % CI", "n"),
        *(["undefined"] if undefined else []),
        *(["missing"] if missing else []),
        *("p to next", "95 % of samples"),
        *(f"rank {place}" for place in places),
        "Kendall's τ",
    ]
    lines = [
        [
            row["model"],
            str(row["rank"]),
            f"{row['value']:.3f}" if within else _value(metric, row["value"]),
            _limits("mean_rank" if within else metric, row["value_low"], row["value_high"]),
            str(row["n"]),
            *([str(row["n_undefined"])] if undefined else []),
            *([str(row["n_missing"])] if missing else []),
            p_text(row["p_next_adjusted"]),
            f"{row['rank_low']} to {row['rank_high']}",
            *(_share(row[f"rank_{place}"]) for place in places),
            _share(row["kendall_tau"]),
        ]
        for row in rows
    ]
    return [headings, *lines]
