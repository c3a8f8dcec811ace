"""Options that tools share, each written once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import click

from lnqtools.cli._tables import FORMATS, PAPER_FORMATS
from lnqtools.cli._tool import was_given
from lnqtools.cli._values import HU, PATH, XYZ, FiniteRange, Hit, LabelValues, Window


def refuse_idle_options(
    shown: str, used_by: Mapping[str, Collection[str]], hints: Mapping[str, str] | None = None
) -> None:
    """Refuse options on which the table that ``--table`` chose does not depend.

    Parameters
    ----------
    shown : str
        The table.
    used_by : mapping
        Parameter → tables that depend on it; all do on those that are not in it.
    hints : mapping, optional
        Parameter → what the message says after the table's name.

    Raises
    ------
    click.UsageError
        Such an option was given.
    """
    for parameter in click.get_current_context().command.params:
        name = parameter.name or ""
        if was_given(name) and shown not in used_by.get(name, (shown,)):
            hint = (hints or {}).get(name, "")
            raise click.UsageError(f"{parameter.opts[0]} changes nothing in --table {shown}{hint}")


# Inputs and outputs


FORMAT_OPTION = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Form of the table.  [default: as the file's suffix says, else tsv]",
)
PAPER_FORMAT_OPTION = click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, *PAPER_FORMATS]),
    help="Form of the table; markdown and latex are rounded, for people.  "
    "[default: as the file's suffix says, else tsv]",
)
DEGENERATE_OPTION = click.option(
    "--degenerate",
    type=click.Choice(["drop", "keep", "recist"]),
    default="drop",
    help="Components too flat for the metric: drop (as the paper), keep, or judge by recist.",
)
METRIC_OPTION = click.option(
    "--metric",
    type=click.Choice(
        [
            "ellipsoid",
            "ellipsoid-corrected",
            "recist",
            "recist-caliper",
            "inscribed",
            "feret-min",
            "sphere",
        ]
    ),
    default="ellipsoid",
    help="Definition of the shortest diameter (see the man page); ellipsoid is the paper's.",
)
TOLERANCE_OPTION = click.option(
    "--tolerance",
    "tolerances",
    type=FiniteRange(min=0),
    multiple=True,
    default=(1.0, 2.0),
    metavar="MM",
    help="Tolerance of the surface Dice (nsd); may be given several times.",
)
EDGE_OPTION = click.option(
    "--edge",
    type=click.Choice(["surface", "open"]),
    default="surface",
    help="Whether a mask's voxels at the image's edge belong to its surface (surface) or not "
    "(open, as in the LNQ2023 evaluation).",
)
PRESET_OPTION = click.option(
    "--preset",
    type=click.Choice(["lnq2023", "medpy", "monai"]),
    help="Only what this evaluation or package computes, as it defines and names it, instead.",
)
RESAMPLE_OPTION = click.option(
    "--resample-prediction",
    "resampling",
    type=click.Choice(["nearest"]),
    help="Bring a prediction on another grid onto its reference's; without it an error.",
)
HIT_OPTION = click.option(
    "--hit",
    "least_iou",
    type=Hit(),
    default="0.5",
    help="What makes a lesion found: the IoU with its partner, or one voxel of overlap.",
)
RESAMPLES_OPTION = click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=10000,
    metavar="N",
    help="Samples that the bootstrap draws.",
)
SEED_OPTION = click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="S", help="Of the bootstrap."
)
WINDOW_OPTION = click.option(
    "--window",
    type=Window(),
    default="-160,240",
    help="HU that are shown as black and as white; the mediastinal window.",
)
ENLARGED_OPTION = click.option(
    "--enlarged-mm",
    type=FiniteRange(min=0, min_open=True),
    default=10.0,
    metavar="MM",
    help="Least diameter of an enlarged node.",
)
CLASSES_OPTION = click.option(
    "--classes",
    type=click.Choice(["auto", "v1", "v2"]),
    default="auto",
    help="TotalSegmentator version whose class numbers a map holds; auto: as the map says.",
)
REPLACE_NAN_OPTION = click.option(
    "--replace-nan",
    type=HU,
    metavar="HU",
    help="Value for voxels that are NaN or infinite; without it such a CT is refused.",
)
VALUES_OPTION = click.option(
    "--values",
    type=LabelValues(),
    help="Values of a mask that are foreground, as 1,3 or 1-8.  [default: every value but 0]",
)
INSTANCES_OPTION = click.option(
    "--instances",
    is_flag=True,
    help="Masks hold numbered nodes: each value is one component, whether it touches others or "
    "lies in several pieces.",
)
TRUST_HU_OPTION = click.option(
    "--trust-hu",
    is_flag=True,
    help="Take CTs whose values do not look like HU all the same.",
)


def connectivity_option(text: str) -> Callable:
    """Make the option that says which voxels are neighbours."""
    return click.option(
        "--connectivity",
        type=click.Choice(["6", "18", "26"]),
        default="6",
        callback=lambda context, parameter, value: int(value),
        help=text,
    )


LUNGS_OPTION = click.option(
    "--lungs",
    type=PATH,
    default="hu",
    metavar="hu|totalsegmentator|none|FILE|DIR",
    help="Where the lungs are: found from HU alone (hu) or by TotalSegmentator, a lung mask or "
    "TotalSegmentator map (FILE|DIR), or no crop to the lungs (none).",
)
MARGIN_OPTION = click.option(
    "--margin",
    type=XYZ(minimum=0),
    default="0",
    help="Widen the lungs' box by this many mm on every side (one number, or x,y,z).",
)
