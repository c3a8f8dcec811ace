"""Curves over the probability thresholds of `lnq-threshold`, of several models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lnqtools.errors import LnqError
from lnqtools.figures.charts import shown_name
from lnqtools.figures.style import GRAY, SINGLE_MM, color_of, look, marker_of, new_figure
from lnqtools.figures.tables import Numbers, numbers, require_columns
from lnqtools.files.tables import Row
from lnqtools.metrics.columns import column_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {
    "pr": ("recall", "precision"),
    "pr-lesions": ("lesion_sensitivity", "lesion_precision"),
    "froc": ("fp_per_case", "lesion_sensitivity"),
}
"""Kind of curve → the columns that it goes along and up."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Points of one model, by ascending threshold.

    Attributes
    ----------
    x, y : (n,) ndarray
        NaN where undefined.
    thresholds : (n,) ndarray
    best : int or None
        The point that the table calls best, if it is among them.
    """

    x: Numbers
    y: Numbers
    thresholds: Numbers
    best: int | None


def curve_of(rows: Sequence[Row], kind: str, min_diameter_mm: float | None = None) -> Curve:
    """Take a curve from a table of lnq-threshold.

    Parameters
    ----------
    rows : sequence of mapping
    kind : str
        Of `AXES`.
    min_diameter_mm : float, optional
        Of the diameter filter; without it the least of the table.

    Raises
    ------
    LnqError
        If the table lacks columns, or has no row of that filter.
    """
    across, up = AXES[kind]
    require_columns(rows, ["threshold", "min_diameter_mm", across, up], "lnq-threshold")
    if "case" in rows[0]:
        raise LnqError("has one row per case; the curve needs lnq-threshold without --cases")
    kept = _of_filter(rows, min_diameter_mm)
    best = [k for k, row in enumerate(kept) if str(row.get("best")).lower() in ("true", "1", "yes")]
    x, y, thresholds = (numbers(kept, name) for name in (across, up, "threshold"))
    return Curve(x, y, thresholds, best[0] if best else None)


def _of_filter(rows: Sequence[Row], min_diameter_mm: float | None) -> list[Row]:
    """Return the rows of a diameter filter, by threshold."""
    filters = numbers(rows, "min_diameter_mm")
    wanted = filters.min() if min_diameter_mm is None else min_diameter_mm
    kept = [row for row, least in zip(rows, filters, strict=True) if np.isclose(least, wanted)]
    if not kept:
        there = ", ".join(f"{least:g}" for least in sorted(set(filters.tolist())))
        raise LnqError(f"has no row of min_diameter_mm {wanted:g}; it has {there}")
    return sorted(kept, key=lambda row: float(row["threshold"]))


def curves(models: Mapping[str, Curve], kind: str, *, width_mm: float = SINGLE_MM) -> Figure:
    """Draw precision over recall, or sensitivity over false positives per case.

    Each point is a threshold; a ring marks the one that the table calls best. The axis of false
    positives ends at one and a half times those at which a model's sensitivity is highest: what is
    beyond, where masks grow together, is not shown.

    Parameters
    ----------
    models : mapping
        Model → its curve.
    kind : str
        Of `AXES`.
    width_mm : float
        Width of the figure.
    """
    across, up = (column_of(name) for name in AXES[kind])
    with look():
        figure = new_figure(width_mm, min(0.95 * width_mm, 90.0))
        axes = figure.subplots()
        for k, (name, curve) in enumerate(models.items()):
            color = color_of(k)
            axes.plot(
                curve.x, curve.y, marker_of(k), ls="-", ms=2.5, color=color, label=shown_name(name)
            )
            if curve.best is not None:
                best = curve.x[curve.best], curve.y[curve.best]
                axes.plot(*best, "o", ms=7, mfc="none", mec=color, mew=1.0, zorder=4)
        axes.set(ylim=(-0.02, 1.02), ylabel=up.title)
        if across.is_fraction:
            axes.set(xlim=(-0.02, 1.02), xlabel=across.title)
        else:
            axes.set_xlim(0, _seen_to(models.values()))
            axes.set_xlabel("false positive lesions per case")
        axes.grid()
        axes.set_axisbelow(True)
        _legend(figure, axes, any(c.best is not None for c in models.values()))
    return figure


def _seen_to(shown: Iterable[Curve]) -> float:
    """Return where the axis of a FROC ends: beyond it there are only more false lesions."""
    ends = [curve.x[np.nanargmax(curve.y)] for curve in shown if not np.isnan(curve.y).all()]
    return max(1.0, 1.5 * max(ends, default=1.0))


def _legend(figure: Figure, axes: Axes, rings: bool) -> None:
    """Write the models below, and what a ring is."""
    from matplotlib.lines import Line2D

    handles, names = axes.get_legend_handles_labels()
    if rings:
        ring = Line2D([], [], ls="none", marker="o", ms=7, mfc="none", mec=GRAY, label="best")
        handles, names = [*handles, ring], [*names, "best threshold"]
    figure.legend(handles, names, loc="outside lower center", ncols=3)


# Calibration


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often voxels of like probability are nodes.

    Attributes
    ----------
    edges : (n + 1,) ndarray
        Thresholds and 1; bin k holds ``edges[k] < p <= edges[k + 1]``.
    volume_ml : (n,) ndarray
        Of the voxels of each bin, in all cases.
    observed : (n,) ndarray
        Fraction of that volume that is node; NaN of an empty bin.
    """

    edges: Numbers
    volume_ml: Numbers
    observed: Numbers

    @property
    def error(self) -> float:
        """Mean distance of ``observed`` from the bins' middles, by volume; NaN without voxels."""
        there = self.volume_ml > 0
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        gaps = np.abs(self.observed - middles)[there]
        return float(np.average(gaps, weights=self.volume_ml[there])) if there.any() else np.nan


CASE_COLUMNS = ("case", "threshold", "min_diameter_mm", "precision", "volume_prediction_ml")


def calibration_of(rows: Sequence[Row]) -> Calibration:
    """Count voxels by probability, from a table of ``lnq-threshold --cases``.

    Without a diameter filter, the voxels above one threshold and not above the next are those of
    probabilities between them, and so are the nodes among them: what is true of a prediction is
    its precision times its volume.

    Raises
    ------
    LnqError
        If the table lacks columns or rows without a filter, or the thresholds of its cases differ.
    """
    require_columns(rows, CASE_COLUMNS, "lnq-threshold --cases")
    if not (numbers(rows, "min_diameter_mm") == 0).any():
        raise LnqError("has no row without a diameter filter: --min-diameters 0")
    kept = _of_filter(rows, 0.0)
    thresholds = np.unique(numbers(kept, "threshold"))
    predicted, true = np.zeros((2, thresholds.size))
    cases = [str(row["case"]) for row in kept]
    if len(kept) != thresholds.size * len(set(cases)):
        raise LnqError("has not the same thresholds for each case")
    volumes = numbers(kept, "volume_prediction_ml")
    precisions = np.nan_to_num(numbers(kept, "precision"))  # undefined of an empty prediction
    at = np.searchsorted(thresholds, numbers(kept, "threshold"))
    np.add.at(predicted, at, volumes)
    np.add.at(true, at, volumes * precisions)
    of_bins, of_nodes = (values - np.append(values[1:], 0.0) for values in (predicted, true))
    there = of_bins > 1e-9
    observed = np.divide(of_nodes, of_bins, out=np.full(of_bins.shape, np.nan), where=there)
    return Calibration(np.append(thresholds, 1.0), np.where(there, of_bins, 0.0), observed)


def calibration(models: Mapping[str, Calibration], *, width_mm: float = SINGLE_MM) -> Figure:
    """Draw how often voxels are nodes, over what a model says of them (a reliability diagram).

    A horizontal line is a bin of probabilities; on the diagonal they are calibrated. Below stands
    the volume of each bin, on a logarithmic scale.

    Parameters
    ----------
    models : mapping
        Model → what was counted.
    width_mm : float
        Width of the figure.
    """
    with look():
        figure = new_figure(width_mm, min(1.2 * width_mm, 110.0))
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        for k, (name, shown) in enumerate(models.items()):
            low, high = shown.edges[:-1], shown.edges[1:]
            label = f"{shown_name(name)} (error {shown.error:.3f})"
            look_ = {"color": color_of(k), "linewidth": 0.9}
            axes.hlines(shown.observed, low, high, **look_)
            axes.plot((low + high) / 2, shown.observed, marker_of(k), ms=3, label=label, **look_)
            seen = np.where(shown.volume_ml > 0, shown.volume_ml, np.nan)
            below.stairs(seen, shown.edges, **look_)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="fraction that is node")
        if any(shown.volume_ml.any() for shown in models.values()):
            below.set_yscale("log")
        below.set(ylabel="volume (ml)", xlabel="predicted probability")
        for panel in (axes, below):
            panel.grid()
            panel.set_axisbelow(True)
        figure.align_ylabels()
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=1 if width_mm < 120 else 2)
    return figure
