"""Ranks of models, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lnqtools.figures.charts import WIDE_MM, NamesBelow, panels_of
from lnqtools.figures.style import SINGLE_MM, SMALL_PT, color_of, look, new_figure
from lnqtools.files.tables import Row
from lnqtools.metrics.columns import column_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LARGEST_PT = 13.0
"""Diameter of a blob of all samples."""


def rank(
    tables: Sequence[Sequence[Row]], models: Sequence[str], *, width_mm: float = SINGLE_MM
) -> Figure:
    """Draw how often each model has each rank when cases are drawn anew (a blob plot).

    As challengeR does (Wiesenfarth et al. 2021): the area of a blob is the fraction of the
    bootstrap samples in which the model has the rank; a cross is its rank over the cases
    themselves, a line the interval of its ranks. The best model stands on the left.

    Parameters
    ----------
    tables : sequence of sequence of dict
        Of `lnqtools.comparison.ranking.rank_rows`, a panel each.
    models : sequence of str
        All of them, in the order of their colors.
    width_mm : float
        Width of the figure.
    """
    side_by_side = width_mm >= WIDE_MM
    across_mm = width_mm / (len(tables) if side_by_side else 1)
    names = [NamesBelow.of([str(row["model"]) for row in rows], across_mm) for rows in tables]
    height_mm = 16 + 6 * len(models) + max(of_panel.height_mm for of_panel in names)
    with look():
        figure = new_figure(width_mm, height_mm if side_by_side else height_mm * len(tables))
        panels = panels_of(figure, len(tables), side_by_side)
        for axes, rows, below in zip(panels, tables, names, strict=True):
            _draw_ranks(axes, rows, models)
            below.write(axes)
        figure.supxlabel(
            "area: fraction of bootstrap samples; line: 95 % interval; ×: rank of the cases",
            fontsize=SMALL_PT,
        )
    return figure


def _draw_ranks(axes: Axes, rows: Sequence[Row], models: Sequence[str]) -> None:
    """Draw one metric; each model has the color of its place among all."""
    for place, row in enumerate(rows):
        color = color_of(models.index(str(row["model"])))
        shares = [(r, row[f"rank_{r}"]) for r in range(1, len(rows) + 1) if row[f"rank_{r}"]]
        axes.vlines(place, row["rank_low"], row["rank_high"], color=color, linewidth=0.8, zorder=1)
        axes.scatter(
            [place] * len(shares),
            [r for r, _ in shares],
            s=[_LARGEST_PT**2 * share for _, share in shares],
            color=color,
            alpha=0.75,
            linewidths=0,
            zorder=2,
        )
        axes.plot(place, row["rank"], "x", color="black", markersize=4, zorder=3)
    axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(len(rows) + 0.6, 0.4), ylabel="rank")
    axes.set_yticks(range(1, len(rows) + 1))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    tau = rows[0]["kendall_tau"]
    sure = "" if tau is None else f"; Kendall's τ {tau:.2f}"
    axes.set_title(f"{column_of(str(rows[0]['metric'])).title} (n = {rows[0]['n']}{sure})")
