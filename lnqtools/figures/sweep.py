"""The picture of a sweep of thresholds and diameter filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lnqtools.metrics.columns import column_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (
    *("dice", "recall", "precision"),
    *("lesion_f1", "lesion_sensitivity", "lesion_precision"),
)
"""Columns that the picture shows: of voxels in the upper row, of lesions in the lower one."""


def sweep_picture(rows: Sequence[dict[str, Any]], form: str = "png") -> bytes:
    """Draw the scores over the thresholds, a line for each least diameter.

    Parameters
    ----------
    rows : sequence of dict
        Of `lnqtools.metrics.sweep.sweep_rows`. The point called best is marked, if there is one.
    form : {'png', 'svg', 'pdf'}

    Returns
    -------
    bytes
        The file: the same for the same rows and version of matplotlib.
    """
    from lnqtools.figures.style import DOUBLE_MM, look, new_figure, picture_bytes

    with look():
        figure = new_figure(DOUBLE_MM, 0.66 * DOUBLE_MM)
        _draw_sweep(figure, rows)
    return picture_bytes(figure, form)


def _draw_sweep(figure: Figure, rows: Sequence[dict[str, Any]]) -> None:
    """Fill the picture of a sweep."""
    from matplotlib import colormaps

    from lnqtools.figures.style import VERMILION

    best = next((row for row in rows if row["best"]), None)
    diameters = sorted({row["min_diameter_mm"] for row in rows})
    colors = colormaps["viridis"](np.linspace(0, 0.85, len(diameters)))
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    for panel, column in zip(axes.flat, PANELS, strict=True):
        for least, color in zip(diameters, colors, strict=True):
            points = [row for row in rows if row["min_diameter_mm"] == least]
            values = [np.nan if row[column] is None else row[column] for row in points]
            thresholds = [row["threshold"] for row in points]
            panel.plot(thresholds, values, ".-", color=color, label=_name_of(least))
        if best is not None and best[column] is not None:
            panel.axvline(best["threshold"], color="0.7", zorder=0)
            panel.plot(best["threshold"], best[column], "D", color=VERMILION, markersize=5)
        panel.set_title(column_of(column).title)
        panel.grid()
    axes[0, 0].set(ylim=(-0.02, 1.02), ylabel="mean of cases")
    axes[1, 0].set_ylabel("all cases together")
    for panel in axes[1]:
        panel.set_xlabel("probability threshold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="components kept", loc="outside lower center", ncols=8)
    figure.suptitle(_title(rows, best))


def _name_of(least_mm: float) -> str:
    """Name a filter in the legend."""
    return f"≥ {least_mm:g} mm" if least_mm > 0 else "all"


def _title(rows: Sequence[dict[str, Any]], best: dict[str, Any] | None) -> str:
    """Say of how many cases the picture is, and which point is the best."""
    n = rows[0]["n"]
    cases = f"n = {n} case" if n == 1 else f"n = {n} cases"
    if best is None:
        return cases
    kept = f"components kept: {_name_of(best['min_diameter_mm'])}"
    return f"{cases}; best for them (◆): threshold {best['threshold']:g}, {kept}"
