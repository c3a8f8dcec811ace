"""A small drawing for the summary, as SVG that takes its colors from the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from lnqtools.metrics.columns import column_of
from lnqtools.report.markup import rounded

WIDTH, LEFT, RIGHT, TOP = 640, 20, 620, 12
BINS = 50
TICKS = (0, 0.25, 0.5, 0.75, 1)
DOT, HIGHEST = 10.0, 160.0


def dot_plot(metric: str, values: Sequence[float], summary: Mapping[str, float | None]) -> str:
    """Draw fractions: one dot per case, stacked where they are nearly equal.

    Parameters
    ----------
    metric : str
        Name of the column that the values are of.
    values : sequence of float
        From 0 to 1; at least one.
    summary : mapping
        With ``mean``, ``ci_low`` and ``ci_high``; the latter are None where undefined.

    Returns
    -------
    str
        A figure element.
    """
    stacks = Counter(min(int(value * BINS), BINS - 1) for value in values)
    step = min(DOT, HIGHEST / max(stacks.values()))
    floor = TOP + step * max(stacks.values())
    dots = (
        f'<circle cx="{_x((place + 0.5) / BINS)}" cy="{_text(floor - step * (k + 0.5))}" '
        f'r="{_text(step * 0.42)}"/>'
        for place, count in sorted(stacks.items())
        for k in range(count)
    )
    ticks = (
        f'<text x="{_x(tick)}" y="{_text(floor + 26)}" text-anchor="middle">{tick:g}</text>'
        for tick in TICKS
    )
    shapes = "".join([_line("", 0, floor, 1, floor), *ticks, *dots, *_mean(summary, floor)])
    caption = escape(
        f"{column_of(metric).title} of {len(values)} cases, a dot each; the line is their mean, "
        f"{rounded(metric, summary['mean'])}, the bar below it the interval"
    )
    return (
        f'<figure><svg class="dots" viewBox="0 0 {WIDTH} {_text(floor + 32)}" role="img" '
        f'aria-label="{caption}">{shapes}</svg><figcaption class="soft">{caption}.</figcaption>'
        "</figure>"
    )


def _mean(summary: Mapping[str, float | None], floor: float) -> Iterator[str]:
    """Draw the mean and its interval."""
    mean, low, high = (summary[key] for key in ("mean", "ci_low", "ci_high"))
    if mean is not None:
        yield _line("mean", mean, 4, mean, floor + 8)
    if low is not None and high is not None:
        yield _line("interval", low, floor + 8, high, floor + 8)


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a line from one value and height to others."""
    ends = f'x1="{_x(x1)}" y1="{_text(y1)}" x2="{_x(x2)}" y2="{_text(y2)}"'
    return f'<line class="{name}" {ends}/>'


def _x(value: float) -> str:
    """Return where a value is drawn."""
    return _text(LEFT + (RIGHT - LEFT) * value)


def _text(length: float) -> str:
    return f"{length:.1f}"
