"""The look that all pictures of the suite share: sizes, fonts, colors, and files of figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING

from lnqtools.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE_MM = 85.0
"""Width of a journal's column."""
DOUBLE_MM = 180.0
"""Width of both columns of a page."""
PAGE_MM = 230.0
"""Height of a page of a journal."""
DPI = 300
"""Resolution of PNG files, and of images inside the other formats."""
SMALL_PT = 6.0
"""Font size of what stands inside a panel; all else has 7 pt."""

# Okabe and Ito's colors, which people with any kind of color blindness tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GRAY = "#767676"
"""Color of lines that only help to read."""

_SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_MARKERS = "osD^vP*X"

_LOOK = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "figure.titlesize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.color": "0.9",
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "patch.linewidth": 0.5,
    "hatch.linewidth": 0.7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.constrained_layout.h_pad": 0.02,
    "pdf.fonttype": 42,  # journals refuse Type 3
    "svg.hashsalt": "lnqtools",
}


def color_of(number: int) -> str:
    """Return the color of the nth model (from 0); the eighth has the first's."""
    return _SERIES[number % len(_SERIES)]


def marker_of(number: int) -> str:
    """Return the marker of the nth model (from 0); with its color it is unique up to 56."""
    return _MARKERS[number % len(_MARKERS)]


def require_packages(*modules: str) -> None:
    """Raise MissingExtraError unless matplotlib and some modules more are installed."""
    for module in ("matplotlib", *modules):
        if find_spec(module) is None:
            raise MissingExtraError("plot", module)


@contextmanager
def look() -> Iterator[None]:
    """Draw in the suite's look, whatever the person's own settings of matplotlib are."""
    from matplotlib import style

    with style.context(["default", _LOOK]):
        yield


def new_figure(width_mm: float, height_mm: float, *, arranged: bool = True) -> Figure:
    """Return an empty figure of a size in mm, which arranges its panels itself or not."""
    from matplotlib.figure import Figure

    size = (width_mm / 25.4, height_mm / 25.4)
    return Figure(figsize=size, dpi=DPI, layout="constrained" if arranged else None)


def picture_bytes(figure: Figure, form: str, dpi: int = DPI) -> bytes:
    """Return the file of a figure: the same for the same figure and version of matplotlib.

    Parameters
    ----------
    figure : Figure
    form : str
        One of `lnqtools.choices.PICTURES`.
    dpi : int
        Of a PNG, and of what is an image inside the others.
    """
    content = BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with look():
        figure.savefig(content, format=form, dpi=dpi, metadata=undated.get(form))
    return content.getvalue()
