"""Charts of tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lnqtools.errors import LnqError
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
from lnqtools.figures.swarm import fitting_swarm
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
_LINE_MM = 3.0
"""Height of a line of 7 pt."""
_LONGEST_NAME = 48
"""Letters of a name that a figure shows."""
_WIDEST = 0.45
"""Farthest that a point of a swarm is moved sideways."""
_POINT_MM = 1.0
"""Diameter of a case's point, unless there are too many."""


def shown_name(name: str) -> str:
    """Return a name as a figure shows it: without control characters, cut if too long.

    Its end is kept, too: names of models often differ there.
    """
    plain = "".join(c if c.isprintable() else "�" for c in name)  # lone surrogates among them
    part = (_LONGEST_NAME - 1) // 2
    short = plain if len(plain) <= _LONGEST_NAME else f"{plain[: part + 1]}…{plain[-part:]}"
    quoted = short.replace("$", r"\$")  # which would begin a formula
    return f" {quoted}" if quoted.startswith("_") else quoted  # or a legend would leave it out


def wrapped(name: str, letters: int) -> str:
    """Break a name into lines, after spaces, commas, underscores, hyphens and slashes if it can."""
    lines, line = [], ""
    for part in re.findall(r"[^\s,_/-]*[\s,_/-]*", name):
        if line and len(line) + len(part.rstrip()) > letters:
            lines.append(line.rstrip())
            line = ""
        line += part
    return "\n".join([*lines, line.rstrip()] if line.strip() else lines)


@dataclass(frozen=True)
class NamesBelow:
    """Models written below a panel, in lines, or upright where there is no room.

    Attributes
    ----------
    texts : list of str
    upright : bool
    """

    texts: list[str]
    upright: bool

    @classmethod
    def of(cls, names: Sequence[str], panel_mm: float, notes: Sequence[str] = ()) -> NamesBelow:
        """Break names so that they fit below a panel; notes stand below them."""
        letters = max(int((panel_mm - 14) / len(names) / _LETTER_MM), 1)
        texts = _noted(names, notes, letters)
        upright = max(len(line) for text in texts for line in text.split("\n")) > letters + 1
        if upright:
            texts = _noted(names, notes, _LONGEST_NAME // 2)
        return cls(texts, upright)

    @property
    def height_mm(self) -> float:
        """Room that they need."""
        lines = [text.split("\n") for text in self.texts]
        if self.upright:
            return _LETTER_MM * max(len(line) for text in lines for line in text)
        return _LINE_MM * max(map(len, lines))

    def write(self, axes: Axes) -> None:
        """Write them at 0, 1, ..."""
        axes.set_xticks(range(len(self.texts)), self.texts, rotation=90 if self.upright else 0)
        axes.tick_params(axis="x", length=0)


def _noted(names: Sequence[str], notes: Sequence[str], letters: int) -> list[str]:
    """Return names in lines of so many letters, each with its note if there are any."""
    lines = [wrapped(shown_name(name), letters) for name in names]
    return [f"{a}\n{b}" for a, b in zip(lines, notes, strict=True)] if notes else lines


def panels_of(
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
    above stands how many components each bin has, and how many have no diameter. Bins in which
    there is no component of any model are left out; a dotted line tells where.

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
    filled = _filled_bins([side.n for side in every])
    side_by_side = width_mm >= WIDE_MM
    height = 46 + 3 * len(models)
    with look():
        figure = new_figure(width_mm, height if side_by_side else 2 * height - 6)
        panels = panels_of(figure, 2, side_by_side, share_x=True)
        for axes, (side, name) in zip(panels, SIDE_NAMES.items(), strict=True):
            for k, (model, sides) in enumerate(models.items()):
                _draw_overlaps(axes, sides[side], filled, k, len(models), shown_name(model))
            _write_counts(
                axes,
                [sides[side] for sides in models.values()],
                filled,
                width_mm / 2 if side_by_side else width_mm,
            )
            axes.set(ylim=(-0.03, 1.03), ylabel=name)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.tick_params(labelbottom=True)
            _name_bins(axes, filled, bin_mm)
        for axes in panels if side_by_side else panels[-1:]:
            axes.set_xlabel("shortest diameter (mm)")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _filled_bins(counts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return the numbers of the bins in which any of them has a component."""
    bins = max((of.size for of in counts), default=0)
    total = sum((np.pad(of, (0, bins - of.size)) for of in counts), np.zeros(bins, np.int64))
    return np.flatnonzero(total)


def _name_bins(axes: Axes, filled: npt.NDArray[np.int64], bin_mm: float) -> None:
    """Write the diameters of each bin, and draw a dotted line where some are left out."""
    names = [f"{k * bin_mm:.4g}–{(k + 1) * bin_mm:.4g}" for k in filled.tolist()]
    axes.set_xticks(np.arange(filled.size) + 0.5, names, rotation=90 if filled.size > 5 else 0)
    axes.set_xlim(0, max(filled.size, 1))
    for gap in (np.flatnonzero(np.diff(filled) > 1) + 1).tolist():
        axes.axvline(gap, color=GRAY, linestyle=":", linewidth=0.8, zorder=0)


def _of_bins(values: npt.NDArray, filled: npt.NDArray[np.int64], nothing: float) -> npt.NDArray:
    """Return values of these bins; one side may have fewer bins than another."""
    padded = np.append(values, np.full(int(filled.max(initial=-1)) + 1, nothing))
    return padded[filled]


def _draw_overlaps(
    axes: Axes,
    shown: OverlapsByDiameter,
    filled: npt.NDArray[np.int64],
    number: int,
    of: int,
    name: str,
) -> None:
    """Draw one model's means and quartiles, beside those of the others."""
    places = np.arange(filled.size) + (number + 1) / (of + 1)
    mean, q1, q3 = (_of_bins(v, filled, np.nan) for v in (shown.mean, shown.q1, shown.q3))
    color = color_of(number)
    axes.vlines(places, q1, q3, color=color, alpha=0.35, linewidth=2.2)
    gaps = np.flatnonzero(np.diff(filled) > 1) + 1  # no line goes over bins that are left out
    places, mean = (np.insert(values, gaps, np.nan) for values in (places, mean))
    axes.plot(places, mean, marker_of(number), ls="-", lw=0.6, color=color, label=name)


def _write_counts(
    axes: Axes,
    shown: Sequence[OverlapsByDiameter],
    filled: npt.NDArray[np.int64],
    panel_mm: float,
) -> None:
    """Write how many components each bin has above the panel, one line per model.

    Models that were compared with the same components share one line. Where there are many bins
    the digits are as small as they must be.
    """
    lines = [(_of_bins(side.n, filled, 0).astype(int).tolist(), side.degenerate) for side in shown]
    same = all(line == lines[0] for line in lines)
    bins = max(filled.size, 1)
    digits = max((len(str(n)) for line, _ in lines for n in line), default=1)
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
            write(x=number + 0.5, s=str(n), ha="center")
        write(x=-0.02 * bins, s="n", ha="right")
        if degenerate:
            write(x=1.01 * bins, s=f"+{degenerate}", ha="left")


def scores(shown: Sequence[Scores], *, log: bool = False, width_mm: float = SINGLE_MM) -> Figure:
    """Draw each model's values as box and points, one panel per metric.

    A box goes from the first to the third quartile, its whiskers to the farthest value within
    1.5 box lengths; each case is a point, and none hides another. Undefined values are counted
    under the model's name.

    Parameters
    ----------
    shown : sequence of Scores
        One per metric, of the same models.
    log : bool
        Whether the scale of what has no upper bound, as distances, is logarithmic; below its least
        positive value it is linear, to 0.
    width_mm : float
        Width of the figure.
    """
    side_by_side = width_mm >= WIDE_MM
    across_mm = width_mm / (len(shown) if side_by_side else 1)
    names = [NamesBelow.of(each.models, across_mm, _counts_below(each)) for each in shown]
    height_mm = 50 + max(of_panel.height_mm for of_panel in names)
    with look():
        figure = new_figure(width_mm, height_mm if side_by_side else height_mm * len(shown))
        panels = panels_of(figure, len(shown), side_by_side)
        for axes, of_metric, below in zip(panels, shown, names, strict=True):
            logarithmic = log and not of_metric.column.is_fraction
            _draw_scores(axes, of_metric, logarithmic, (across_mm - 14, 44.0))
            below.write(axes)
    return figure


def _counts_below(shown: Scores) -> list[str]:
    """Return what stands under each model's name: how many values there are."""
    notes = []
    for values in shown.values:
        undefined = int(np.isnan(values).sum())
        apart = f"\n{undefined} undef." if undefined else ""
        notes.append(f"n = {values.size - undefined}{apart}")
    return notes


def _draw_scores(
    axes: Axes, shown: Scores, logarithmic: bool, panel_mm: tuple[float, float]
) -> None:
    """Draw one metric into a panel of about this width and height."""
    every = shown.values[~np.isnan(shown.values)]
    _value_axis(axes, shown, every, logarithmic)
    transform = axes.yaxis.get_transform()
    low, high = transform.transform(axes.get_ylim())
    model_mm = panel_mm[0] / len(shown.models)
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
        heights_mm = (transform.transform(defined) - low) / (high - low) * panel_mm[1]
        offsets_mm, point_mm = fitting_swarm(heights_mm, _POINT_MM, _WIDEST * model_mm)
        axes.scatter(
            k + offsets_mm / model_mm,
            defined,
            s=(0.85 * point_mm / 25.4 * 72) ** 2,
            color=color_of(k),
            alpha=0.8,
            linewidths=0,
            zorder=3,
        )
    axes.set_xlim(-0.5, len(shown.models) - 0.5)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _value_axis(axes: Axes, shown: Scores, every: Numbers, logarithmic: bool) -> None:
    """Set the scale, limits and title of the axis of values."""
    axes.set_ylabel(shown.column.heading + (", log scale" if logarithmic else ""))
    if shown.column.is_fraction:
        axes.set_ylim(-0.03, 1.03)
        return
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    if not logarithmic:
        room = 0.04 * (max(high, 0) - min(low, 0)) or 1.0
        axes.set_ylim(min(low, 0) - room * (low < 0), high + room)
        return
    if low < 0:
        raise LnqError(f"{shown.metric} has values below 0, which no logarithmic scale shows")
    positive = every[every > 0]
    least = float(positive.min()) if positive.size else 1.0
    if low == 0:
        axes.set_yscale("symlog", linthresh=least, linscale=0.3)
    else:
        axes.set_yscale("log")
    limits = (0.0 if low == 0 else least / 1.3, max(high, least) * 1.3)
    axes.set_yticks(_log_ticks(*limits))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_ylim(limits)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 0, if it is to be seen, and 1, 2 and 5 times powers of ten; these alone of many."""
    least = low or high / 1e4
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1,)):
        ticks = [m * 10.0**k for k in powers for m in steps if least <= m * 10.0**k <= high]
        if len(ticks) <= 8:
            break
    return [0.0, *ticks] if low == 0 else ticks


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
        panels = panels_of(figure, len(models), side_by_side, share_x=True, share_y=True)
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


SMOOTHED_EPOCHS = 20
"""From so many epochs on the moving average of the pseudo-Dice is drawn."""


def training(history: Mapping[str, Numbers], *, width_mm: float = SINGLE_MM) -> Figure:
    """Draw the losses and the pseudo-Dice of a training over its epochs.

    The moving average begins at the first epoch's value and comes near to the others after some
    twenty epochs only; a shorter training is drawn without it.

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
        loss, dice = panels_of(figure, 2, width_mm >= WIDE_MM, share_x=True)
        curves = (
            (loss, "training_loss", "training", BLUE, "-", 1.0),
            (loss, "validation_loss", "validation", VERMILION, "-", 1.0),
            (dice, "pseudo_dice_annotated", "each epoch", GRAY, "-", 0.8),
            (dice, "pseudo_dice_annotated_smoothed", "moving average", "black", "-", 1.0),
        )
        lagging = epochs.size < SMOOTHED_EPOCHS
        for axes, column, name, color, dashes, width in curves[: 3 if lagging else 4]:
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
