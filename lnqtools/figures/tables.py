"""Rows of the tools' tables → what charts show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lnqtools.components.rows import column_name
from lnqtools.components.sizes import bin_numbers
from lnqtools.errors import LnqError
from lnqtools.files.tables import Row
from lnqtools.metrics.lesions import SIDES, overlap_by_diameter

Numbers = npt.NDArray[np.float64]

TRAINING_COLUMNS = (
    "epoch",
    "training_loss",
    "validation_loss",
    "pseudo_dice_annotated",
    "pseudo_dice_annotated_smoothed",
)


def require_columns(rows: Sequence[Row], columns: Sequence[str], maker: str) -> None:
    """Raise LnqError for a table of the command ``maker`` that lacks columns, naming them."""
    if missing := [name for name in columns if any(name not in row for row in rows)]:
        noun = "column" if len(missing) == 1 else "columns"
        raise LnqError(f"lacks the {noun} {', '.join(missing)}; {maker} writes such a table")


def numbers(rows: Sequence[Row], column: str) -> Numbers:
    """Return a column as numbers, NaN where a cell is empty or not finite.

    Raises
    ------
    LnqError
        If a cell is neither empty nor a number.
    """
    values = np.full(len(rows), np.nan)
    for k, cell in enumerate(row[column] for row in rows):
        try:
            values[k] = np.nan if cell is None else float(cell)
        except (TypeError, ValueError, OverflowError):
            raise LnqError(f"row {k + 1}: {column} is {cell!r}, not a number") from None
    values[~np.isfinite(values)] = np.nan
    return values


def counts(rows: Sequence[Row], column: str) -> npt.NDArray[np.int64]:
    """Return a column of counts.

    Raises
    ------
    LnqError
        If a cell is not a whole number from 0 on.
    """
    values = numbers(rows, column)
    whole = (values >= 0) & (values == np.floor(values))  # False for NaN
    if not whole.all():
        row = int(np.argmin(whole))
        raise LnqError(f"row {row + 1}: {column} is {rows[row][column]!r}, not a count")
    return values.astype(np.int64)


# Diameters


@dataclass(frozen=True, eq=False)
class Histogram:
    """Components of a data set by shortest diameter.

    Attributes
    ----------
    counts : (bins,) ndarray of int
        Bin k holds ``k * bin_mm <= diameter < (k + 1) * bin_mm``.
    bin_mm : float
    degenerate : int
        Components whose diameter has no meaning; they are in no bin.
    """

    counts: npt.NDArray[np.int64]
    bin_mm: float
    degenerate: int


def histogram_of_components(
    rows: Sequence[Row], metric: str = "ellipsoid", bin_mm: float = 2.5
) -> Histogram:
    """Count the components of ``lnq-filter-diameter --list``.

    A diameter of 0, which ``ellipsoid`` gives whatever lies in one plane, says nothing about the
    size, as little as an empty cell: such components are degenerate.

    Raises
    ------
    LnqError
        If the table lacks the diameter.
    """
    column = column_name(metric)
    require_columns(rows, [column], "lnq-filter-diameter --list")
    sizes = np.nan_to_num(numbers(rows, column))
    measured = sizes > 0
    binned = np.bincount(bin_numbers(sizes[measured], bin_mm))
    return Histogram(binned, bin_mm, int(np.count_nonzero(~measured)))


def histograms_of_bins(rows: Sequence[Row]) -> dict[str, Histogram]:
    """Return the histogram of each data set of ``lnq-stats --table diameters``.

    Raises
    ------
    LnqError
        If the table lacks a column, or its bins are not of one width or not from 0 on.
    """
    maker = "lnq-stats --table diameters"
    require_columns(rows, ["set", "bin", "from_mm", "to_mm", "components"], maker)
    found, low, high = (
        counts(rows, "components"),
        numbers(rows, "from_mm"),
        numbers(rows, "to_mm"),
    )
    histograms = {}
    for name in dict.fromkeys(str(row["set"]) for row in rows):
        here = np.array([str(row["set"]) == name for row in rows])
        binned = here & ~np.isnan(low)
        width = _bin_width(low[binned], high[binned])
        apart = int(found[here & np.isnan(low)].sum())
        histograms[name] = Histogram(found[binned], width, apart)
    return histograms


def _bin_width(low: Numbers, high: Numbers) -> float:
    """Return the width of the bins, which must follow each other from 0 on; NaN without any."""
    if not low.size:
        return np.nan
    edges = np.arange(low.size + 1) * (high[0] - low[0])
    if not (np.allclose(low, edges[:-1]) and np.allclose(high, edges[1:]) and edges[-1] > 0):
        raise LnqError("has bins that are not of one width, one after the other from 0 on")
    return float(edges[1])


def common_bin_width(widths: Sequence[float]) -> float:
    """Return the width that all bins have; 2.5 mm if there are no bins at all.

    Raises
    ------
    LnqError
        If they differ.
    """
    known = sorted({round(float(width), 9) for width in widths if not np.isnan(width)})
    if len(known) > 1:
        raise LnqError(
            f"the tables have bins of {' and '.join(f'{width:g}' for width in known)} mm: make "
            "them of one width"
        )
    return known[0] if known else 2.5


# Overlaps


@dataclass(frozen=True, eq=False)
class OverlapsByDiameter:
    """Overlaps of the components of one side, by shortest diameter.

    Attributes
    ----------
    n : (bins,) ndarray of int
        Components in each bin.
    mean, q1, q3 : (bins,) ndarray
        Of their overlaps; NaN where n is 0.
    bin_mm : float
        Bin k begins at ``k * bin_mm``.
    degenerate : int
        Components whose diameter has no meaning; they are in no bin.
    """

    n: npt.NDArray[np.int64]
    mean: Numbers
    q1: Numbers
    q3: Numbers
    bin_mm: float
    degenerate: int


def overlaps_by_side(
    rows: Sequence[Row], metric: str = "ellipsoid", bin_mm: float = 2.5
) -> dict[str, OverlapsByDiameter]:
    """Return the overlaps of each side, of ``lnq-metrics --by-diameter`` or ``--lesions``.

    Parameters
    ----------
    rows : sequence of mapping
        The former has bins already; of the latter the bins are made here.
    metric, bin_mm
        For the latter: the diameter and the width of a bin.

    Raises
    ------
    LnqError
        If the table lacks columns, or has odd bins or sides.
    """
    if is_of_lesions(rows):
        rows = _binned(rows, metric, bin_mm)
    maker = "lnq-metrics --by-diameter or --lesions"
    require_columns(rows, ["side", "from_mm", "to_mm", "n", "mean", "q1", "q3"], maker)
    if odd := {str(row["side"]) for row in rows} - set(SIDES):
        raise LnqError(f"side is {min(odd)!r}, not {' or '.join(SIDES)}")
    return {side: _overlaps_of([row for row in rows if row["side"] == side]) for side in SIDES}


def is_of_lesions(rows: Sequence[Row]) -> bool:
    """Tell a table of lesions from one of bins."""
    return "overlap" in rows[0]


def _binned(rows: Sequence[Row], metric: str, bin_mm: float) -> list[Row]:
    """Sort a table of lesions into bins, which are those of ``lnq-metrics --by-diameter``."""
    column = column_name(metric)
    require_columns(rows, ["side", column, "overlap"], "lnq-metrics --lesions")
    sizes, overlaps = np.nan_to_num(numbers(rows, column)), numbers(rows, "overlap")
    lesions = [
        {"side": row["side"], column: size, "overlap": overlap}
        for row, size, overlap in zip(rows, sizes.tolist(), overlaps.tolist(), strict=True)
    ]
    return overlap_by_diameter(lesions, bin_mm, metric)


def _overlaps_of(rows: Sequence[Row]) -> OverlapsByDiameter:
    """Return the bins of one side, those without diameter apart."""
    low, high, n = numbers(rows, "from_mm"), numbers(rows, "to_mm"), counts(rows, "n")
    binned = ~np.isnan(low)
    mean, q1, q3 = (numbers(rows, name)[binned] for name in ("mean", "q1", "q3"))
    width = _bin_width(low[binned], high[binned])
    return OverlapsByDiameter(n[binned], mean, q1, q3, width, int(n[~binned].sum()))


# Cases


def chosen_cases(dice: Mapping[str, float]) -> dict[str, list[str]]:
    """Choose the worst, an average and the best case.

    The average case is the one whose Dice is nearest to the mean. Of cases as good the one whose
    name comes first is taken.

    Parameters
    ----------
    dice : mapping
        Case → Dice; cases where it is NaN are left out.

    Returns
    -------
    dict
        Case → what it is, out of 'worst', 'average' and 'best'; in this order. Of few cases one
        may be several of them.

    Raises
    ------
    LnqError
        If no case has a Dice.
    """
    defined = {case: value for case, value in sorted(dice.items()) if not np.isnan(value)}
    if not defined:
        raise LnqError("has no case whose dice is defined")
    mean = float(np.mean(list(defined.values())))
    order = {
        "worst": lambda case: defined[case],
        "average": lambda case: round(abs(defined[case] - mean), 12),
        "best": lambda case: -defined[case],
    }
    roles: dict[str, list[str]] = {}
    for role, key in order.items():
        roles.setdefault(min(defined, key=key), []).append(role)
    return roles


# Agreement


@dataclass(frozen=True)
class Limits:
    """Mean difference and limits of agreement (Bland and Altman 1986).

    Attributes
    ----------
    n : int
    mean : float
    sd : float
        With n - 1 in the denominator; NaN below two values.
    """

    n: int
    mean: float
    sd: float

    @property
    def lower(self) -> float:
        """The mean less 1.96 standard deviations."""
        return self.mean - 1.96 * self.sd

    @property
    def upper(self) -> float:
        """The mean and 1.96 standard deviations."""
        return self.mean + 1.96 * self.sd


def limits_of_agreement(differences: Numbers) -> Limits:
    """Return the limits between which 95 % of normally distributed differences lie."""
    mean = float(differences.mean()) if differences.size else np.nan
    sd = float(differences.std(ddof=1)) if differences.size > 1 else np.nan
    return Limits(differences.size, mean, sd)


# Training


def training_history(rows: Sequence[Row]) -> dict[str, Numbers]:
    """Return the columns of lnq-train's ``training.tsv`` that the curve shows.

    Raises
    ------
    LnqError
        If the table lacks columns.
    """
    require_columns(rows, TRAINING_COLUMNS, "lnq-train")
    return {name: numbers(rows, name) for name in TRAINING_COLUMNS}
