"""Charts of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lnqtools.figures.style import (
    BLUE,
    DOUBLE_MM,
    GRAY,
    SINGLE_MM,
    SMALL_PT,
    VERMILION,
    color_of,
    look,
    marker_of,
    new_figure,
)
from lnqtools.figures.tables import (
    Histogram,
    Numbers,
    OverlapsByDiameter,
    common_bin_width,
    limits_of_agreement,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lnqtools.comparison.tables import Scores

WIDE_MM = 0.6 * DOUBLE_MM
"""From this width on panels stand side by side."""
_DIGIT_MM_PER_PT = 0.26
"""Width of a digit with the gap beside it, per point of its size."""
_LETTER_MM = 1.25
"""Mean width of a letter of 7 pt."""
_LONGEST_NAME = 24
"""Letters of a name that a figure shows."""
_WIDEST = 0.4
"""Farthest that a point of a swarm is moved sideways."""


def shown_name(name: str) -> str:
    """Return a name as a figure shows it: without control characters, its end cut if too long."""
    plain = "".join(c if c.isprintable() else "�" for c in name)  # lone surrogates among them
    short = plain if len(plain) <= _LONGEST_NAME else plain[: _LONGEST_NAME - 1] + "…"
    quoted = short.replace("$", r"\$")  # which would begin a formula
    return f" {quoted}" if quoted.startswith("_") else quoted  # or a legend would leave it out


def _panels(
    figure: Figure, count: int, side_by_side: bool, *, share_y: bool = False, share_x: bool = False
) -> list[Axes]:
    """Return panels in a row or in a column."""
    rows, columns = (1, count) if side_by_side else (count, 1)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)
    return list(grid.flat)


def _whole_numbers(axes: Axes) -> None:
    """Let the vertical axis, which counts, begin at 0 and have ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))


def _diameter_ticks(axes: Axes, bin_mm: float, bins: int) -> None:
    """Put ticks at the edges of bins, with numbers at few enough of them to read."""
    step = next(2**k for k in range(32) if bins / 2**k <= 8)
    ticks = [float(f"{k * bin_mm:.9g}") for k in range(0, bins + 1, step)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks(np.arange(bins + 1) * bin_mm, minor=True)
    axes.set_xlim(0, bins * bin_mm)


def diameters(
    histograms: Mapping[str, Histogram], *, enlarged_mm: float = 10.0, width_mm: float = SINGLE_MM
) -> Figure:
    """Draw the histogram of shortest diameters of each data set (Fig. 2 of the paper).

    Parameters
    ----------
    histograms : mapping
        Data set → its histogram, all with bins of one width.
    enlarged_mm : float
        Where the line of enlarged nodes stands.
    width_mm : float
        Width of the figure.

    Raises
    ------
    LnqError
        If the bins differ in width.
    """
    bin_mm = common_bin_width([h.bin_mm for h in histograms.values()])
    bins = max(
        *(h.counts.size for h in histograms.values()), math.floor(enlarged_mm / bin_mm) + 1, 2
    )
    columns = 1
    if width_mm >= WIDE_MM:
        columns = 2 if len(histograms) == 4 else min(len(histograms), 3)
    rows = math.ceil(len(histograms) / columns)
    with look():
        figure = new_figure(width_mm, 10 + 32 * rows)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for panel in list(grid.flat)[len(histograms) :]:
            panel.remove()
        for k, (axes, (name, shown)) in enumerate(zip(grid.flat, histograms.items(), strict=False)):
            _draw_histogram(axes, shown, shown_name(name), bin_mm, color_of(k))
            axes.axvline(enlarged_mm, color="black", linestyle=(0, (4, 2)), linewidth=0.8)
            _whole_numbers(axes)
            axes.tick_params(labelbottom=k >= len(histograms) - columns)
        _diameter_ticks(grid[0, 0], bin_mm, bins)
        grid[0, 0].annotate(
            f"{enlarged_mm:g} mm",
            (enlarged_mm, 1),
            xycoords=grid[0, 0].get_xaxis_transform(),
            xytext=(2, -1),
            textcoords="offset points",
            va="top",
            fontsize=SMALL_PT,
        )
        for axes in list(grid.flat)[: len(histograms)][-columns:]:
            axes.set_xlabel("shortest diameter (mm)")
        figure.align_ylabels()
    return figure


def _draw_histogram(axes: Axes, shown: Histogram, name: str, bin_mm: float, color: str) -> None:
    """Draw one data set, and write how many components it has."""
    edges = np.arange(shown.counts.size) * bin_mm
    axes.bar(edges, shown.counts, bin_mm, align="edge", color=color, edgecolor="white")
    apart = f"\n+ {shown.degenerate} without diameter" if shown.degenerate else ""
    note = f"{name}\nn = {shown.counts.sum()}{apart}"
    axes.text(0.99, 0.97, note, transform=axes.transAxes, ha="right", va="top")
    axes.set_ylabel("components")


SIDE_NAMES = {
    "reference": "overlap of reference\ncomponents (gt_overlap)",
    "prediction": "overlap of predicted\ncomponents (pred_overlap)",
}


def overlap(
    models: Mapping[str, Mapping[str, OverlapsByDiameter]], *, width_mm: float = SINGLE_MM
) -> Figure:
    """Draw mean overlaps by shortest diameter, of references and predictions (Fig. 5).

    A marker is the mean of a bin, the bar behind it goes from the first to the third quartile;
    above stands how many components each bin has, and how many have no diameter.

    Parameters
    ----------
    models : mapping
        Model → side ('reference', 'prediction') → overlaps, all with bins of one width.
    width_mm : float
        Width of the figure.

    Raises
    ------
    LnqError
        If the bins differ in width.
    """
    every = [side for sides in models.values() for side in sides.values()]
    bin_mm = common_bin_width([side.bin_mm for side in every])
    bins = max(*(side.n.size for side in every), 2)
    side_by_side = width_mm >= WIDE_MM
    height = 46 + 3 * len(models)
    with look():
        figure = new_figure(width_mm, height if side_by_side else 2 * height - 6)
        panels = _panels(figure, 2, side_by_side, share_x=True)
        for axes, (side, name) in zip(panels, SIDE_NAMES.items(), strict=True):
            for k, (model, sides) in enumerate(models.items()):
                _draw_overlaps(axes, sides[side], k, len(models), bin_mm, shown_name(model))
            _write_counts(
                axes,
                [sides[side] for sides in models.values()],
                bin_mm,
                bins,
                width_mm / 2 if side_by_side else width_mm,
            )
            axes.set(ylim=(-0.03, 1.03), ylabel=name)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.tick_params(labelbottom=True)
        for axes in panels if side_by_side else panels[-1:]:
            axes.set_xlabel("shortest diameter (mm)")
        _diameter_ticks(panels[0], bin_mm, bins)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _draw_overlaps(
    axes: Axes, shown: OverlapsByDiameter, number: int, of: int, bin_mm: float, name: str
) -> None:
    """Draw one model's means and quartiles, beside those of the others."""
    centers = (np.arange(shown.n.size) + (number + 1) / (of + 1)) * bin_mm
    color = color_of(number)
    axes.vlines(centers, shown.q1, shown.q3, color=color, alpha=0.35, linewidth=2.2)
    axes.plot(centers, shown.mean, marker_of(number), ls="-", lw=0.6, color=color, label=name)


def _write_counts(
    axes: Axes, shown: Sequence[OverlapsByDiameter], bin_mm: float, bins: int, panel_mm: float
) -> None:
    """Write how many components each bin has above the panel, one line per model.

    Models that were compared with the same components share one line. Where there are many bins
    the digits are as small as they must be.
    """
    lines = [([*side.n.tolist(), *[0] * (bins - side.n.size)], side.degenerate) for side in shown]
    same = all(line == lines[0] for line in lines)
    digits = max(len(str(n)) for line, _ in lines for n in line)
    size = min(SMALL_PT, (panel_mm - 18) / bins / digits / _DIGIT_MM_PER_PT)
    for k, (line, degenerate) in enumerate(lines[:1] if same else lines):
        height = 1.03 + 0.085 * ((0 if same else len(lines) - 1) - k)
        write = partial(
            axes.text,
            y=height,
            transform=axes.get_xaxis_transform(),
            fontsize=size,
            color="black" if same else color_of(k),
            va="bottom",
        )
        for number, n in enumerate(line):
            write(x=(number + 0.5) * bin_mm, s=str(n), ha="center")
        write(x=-0.02 * bins * bin_mm, s="n", ha="right")
        if degenerate:
            write(x=1.01 * bins * bin_mm, s=f"+{degenerate}", ha="left")


def scores(shown: Sequence[Scores], *, width_mm: float = SINGLE_MM) -> Figure:
    """Draw each model's values as box and points, one panel per metric.

    A box goes from the first to the third quartile, its whiskers to the farthest value within
    1.5 box lengths; each case is a point. Undefined values are counted under the model's name.

    Parameters
    ----------
    shown : sequence of Scores
        One per metric, of the same models.
    width_mm : float
        Width of the figure.
    """
    side_by_side = width_mm >= WIDE_MM
    across_mm = width_mm / (len(shown) if side_by_side else 1)
    names = [_names_below(of_metric) for of_metric in shown]
    letters = max(len(line) for some in names for name in some for line in name.split("\n"))
    upright = letters * _LETTER_MM > (across_mm - 14) / len(names[0])
    height_mm = 58 + letters * _LETTER_MM * upright
    with look():
        figure = new_figure(width_mm, height_mm if side_by_side else height_mm * len(shown))
        panels = _panels(figure, len(shown), side_by_side)
        for axes, of_metric, below in zip(panels, shown, names, strict=True):
            _draw_scores(axes, of_metric)
            axes.set_xticks(range(len(below)), below, rotation=90 if upright else 0)
    return figure


def _names_below(shown: Scores) -> list[str]:
    """Return what stands under each model: its name, and how many values there are."""
    names = []
    for model, values in zip(shown.models, shown.values, strict=True):
        undefined = int(np.isnan(values).sum())
        apart = f"\n{undefined} undef." if undefined else ""
        names.append(f"{shown_name(model)}\nn = {values.size - undefined}{apart}")
    return names


def _draw_scores(axes: Axes, shown: Scores) -> None:
    """Draw one metric."""
    every = shown.values[~np.isnan(shown.values)]
    band = float(np.ptp(every)) / 25 if every.size and np.ptp(every) > 0 else 1.0
    for k, values in enumerate(shown.values):
        defined = values[~np.isnan(values)]
        if not defined.size:
            continue
        boxes = axes.boxplot(
            [defined],
            positions=[k],
            widths=0.5,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": "0.93", "edgecolor": GRAY},
            medianprops={"color": "black", "linewidth": 1.2, "zorder": 4},
            whiskerprops={"color": GRAY},
            capprops={"color": GRAY},
            manage_ticks=False,
        )
        boxes["boxes"][0].set_zorder(1)
        axes.scatter(
            k + swarm(defined, band),
            defined,
            s=7 if defined.size <= 50 else 4,
            color=color_of(k),
            alpha=0.8,
            linewidths=0,
            zorder=3,
        )
    axes.set_xlim(-0.5, len(shown.models) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(shown.column.heading)
    if shown.column.is_fraction:
        axes.set_ylim(-0.03, 1.03)
    else:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def swarm(values: Numbers, height: float) -> Numbers:
    """Return how far to move points sideways so that near ones lie side by side.

    Values are sorted into bands of equal height; those of a band are spread evenly around 0, in
    the order of their values: left, right, farther left, and so on.

    Parameters
    ----------
    values : (n,) ndarray
    height : float
        Of a band, above 0.
    """
    bands = np.floor(values / height).astype(np.int64)
    sizes = np.unique(bands, return_counts=True)[1]
    step = min(0.07, 2 * _WIDEST / max(int(sizes.max(initial=1)) - 1, 1))
    offsets = np.zeros(values.size)
    for band in np.unique(bands):
        members = np.flatnonzero(bands == band)
        members = members[np.argsort(values[members], kind="stable")]
        ranks = np.arange(members.size)
        sides = np.where(ranks % 2, 1, -1) * ((ranks + 1) // 2)
        offsets[members] = step * (sides - (sides.max() + sides.min()) / 2)
    return offsets


def agreement(
    models: Mapping[str, tuple[Numbers, Numbers]], *, width_mm: float = SINGLE_MM
) -> Figure:
    """Draw how volumes of predictions and references agree (Bland and Altman 1986).

    The lines are the mean difference and the limits of agreement, 1.96 standard deviations
    (n - 1 in the denominator) below and above it; their values stand beside them.

    Parameters
    ----------
    models : mapping
        Model → volumes of predictions and of references in ml, case by case.
    width_mm : float
        Width of the figure.
    """
    side_by_side = width_mm >= WIDE_MM
    with look():
        height = 60 if side_by_side else 8 + 50 * len(models)
        figure = new_figure(width_mm, height)
        panels = _panels(figure, len(models), side_by_side, share_x=True, share_y=True)
        for k, (axes, (name, (predicted, true))) in enumerate(
            zip(panels, models.items(), strict=True)
        ):
            _draw_agreement(axes, predicted, true, k)
            note = f"{shown_name(name)}\nn = {predicted.size}"
            axes.annotate(
                note,
                (0, 1),
                xycoords="axes fraction",
                xytext=(3, 0),
                textcoords="offset points",
                va="bottom",
            )
        for axes in panels if side_by_side else panels[-1:]:
            axes.set_xlabel("mean of both volumes (ml)")
        for axes in panels[:1] if side_by_side else panels:
            axes.set_ylabel("prediction − reference (ml)")
    return figure


def _draw_agreement(axes: Axes, predicted: Numbers, true: Numbers, number: int) -> None:
    """Draw one model's cases, mean difference and limits."""
    differences = predicted - true
    limits = limits_of_agreement(differences)
    axes.plot(
        (predicted + true) / 2,
        differences,
        marker_of(number),
        color=color_of(number),
        alpha=0.8,
        markeredgewidth=0,
    )
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    lines = {
        "mean": (limits.mean, "-"),
        "+1.96 SD": (limits.upper, (0, (4, 2))),
        "−1.96 SD": (limits.lower, (0, (4, 2))),
    }
    for name, (value, dashes) in lines.items():
        if np.isnan(value):
            continue
        axes.axhline(value, color="black", linestyle=dashes, linewidth=0.8, zorder=1, label=name)
        axes.annotate(
            f"{name}\n{signed(value)} ml",
            (1, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(2, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL_PT,
        )


def signed(value: float) -> str:
    """Return a number with its sign, three digits or more: +0.123, −12.3, +1234."""
    decimals = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:+.{min(decimals, 3)}f}".replace("-", "−")


def training(history: Mapping[str, Numbers], *, width_mm: float = SINGLE_MM) -> Figure:
    """Draw the losses and the pseudo-Dice of a training over its epochs.

    Parameters
    ----------
    history : mapping
        `lnqtools.figures.tables.TRAINING_COLUMNS` → one value per epoch.
    width_mm : float
        Width of the figure.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = history["epoch"]
    mark = "." if epochs.size < 3 else ""
    with look():
        figure = new_figure(width_mm, 78 if width_mm < WIDE_MM else 52)
        loss, dice = _panels(figure, 2, width_mm >= WIDE_MM, share_x=True)
        curves = (
            (loss, "training_loss", "training", BLUE, "-", 1.0),
            (loss, "validation_loss", "validation", VERMILION, "-", 1.0),
            (dice, "pseudo_dice_annotated", "each epoch", GRAY, "-", 0.6),
            (dice, "pseudo_dice_annotated_smoothed", "moving average", "black", "-", 1.0),
        )
        for axes, column, name, color, dashes, width in curves:
            axes.plot(
                epochs,
                history[column],
                color=color,
                linestyle=dashes,
                linewidth=width,
                marker=mark,
                label=name,
            )
        loss.set_ylabel("loss\n(cross-entropy − Dice)")
        dice.set(ylabel="pseudo-Dice of\nannotated voxels", ylim=(0, 1))
        for axes in (loss, dice):
            axes.grid(axis="y")
            axes.legend(loc="best")
            axes.tick_params(labelbottom=True)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        for axes in (loss, dice) if width_mm >= WIDE_MM else (dice,):
            axes.set_xlabel("epoch")
        figure.align_ylabels()
    return figure
