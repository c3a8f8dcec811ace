"""Options that tools share, each written once."""

from __future__ import annotations

import click

from lnqtools.choices import (
    ALL_FORMATS,
    CLASSES,
    CONNECTIVITIES,
    DEGENERATE,
    EDGES,
    FORMATS,
    METRICS,
    PRESETS,
    RESAMPLINGS,
    SPREADS,
)
from lnqtools.cli._rules import option
from lnqtools.cli._values import HU, PATH, XYZ, FiniteRange, LabelValues, Window, WordOr

# Inputs and outputs

FORMAT_OPTION = option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Form of the table.  [default: as the file's suffix says, else tsv]",
)
PAPER_FORMAT_OPTION = option(
    "--format",
    "form",
    type=click.Choice(ALL_FORMATS),
    help="Form of the table; markdown and latex are rounded, for people.  "
    "[default: as the file's suffix says, else tsv]",
)
DEGENERATE_OPTION = option(
    "--degenerate",
    type=click.Choice(DEGENERATE),
    default="drop",
    help="Components too flat for the metric: drop (as the paper), keep, or judge by recist.",
)
METRIC_OPTION = option(
    "--metric",
    type=click.Choice(METRICS),
    default="ellipsoid",
    help="Definition of the shortest diameter (see the man page); ellipsoid is the paper's.",
)
TOLERANCE_OPTION = option(
    "--tolerance",
    "tolerances",
    type=FiniteRange(min=0),
    multiple=True,
    default=(1.0, 2.0),
    metavar="MM",
    help="Tolerance of the surface Dice (nsd); may be given several times.",
)
EDGE_OPTION = option(
    "--edge",
    type=click.Choice(EDGES),
    default="surface",
    help="Whether a mask's voxels at the image's edge belong to its surface (surface) or not "
    "(open, as in the LNQ2023 evaluation).",
)
PRESET_OPTION = option(
    "--preset",
    type=click.Choice(PRESETS),
    help="Only what this evaluation or package computes, as it defines and names it, instead.",
)
RESAMPLE_OPTION = option(
    "--resample-prediction",
    "resampling",
    type=click.Choice(RESAMPLINGS),
    help="Bring a prediction on another grid onto its reference's; without it an error.",
)
HIT_OPTION = option(
    "--hit",
    "least_iou",
    type=WordOr({"voxel": 0.0}, "IOU", FiniteRange(0, 1, min_open=True), "a number above 0 to 1"),
    default="0.5",
    help="What makes a lesion found: the IoU with its partner, or one voxel of overlap.",
)
RESAMPLES_OPTION = option(
    "--resamples",
    type=click.IntRange(min=1),
    default=10000,
    metavar="N",
    help="Samples that the bootstrap draws.",
)
SEED_OPTION = option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="S", help="Seed of the bootstrap."
)
WINDOW_OPTION = option(
    "--window",
    type=Window(),
    default="-160,240",
    help="HU that are shown as black and as white; the mediastinal window.",
)
SD_OPTION = option(
    "--sd",
    "spread",
    type=click.Choice(SPREADS),
    default="sample",
    help="Standard deviations divide by n - 1 (sample) or by n (population), as the paper's "
    "Table 4; the column is then called sd_population.",
)
CI_OPTION = option(
    "--ci",
    "level",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Add bootstrap confidence intervals of means (summary) or mean differences (pairs) of "
    "this level, as 0.95.",
)
BIN_OPTION = option(
    "--bin-mm",
    type=FiniteRange(min=0.01),
    default=2.5,
    metavar="MM",
    help="Width of a bin of diameters.",
)
ENLARGED_OPTION = option(
    "--enlarged-mm",
    type=FiniteRange(min=0, min_open=True),
    default=10.0,
    metavar="MM",
    help="Least diameter of an enlarged node.",
)
CLASSES_OPTION = option(
    "--classes",
    type=click.Choice(CLASSES),
    default="auto",
    help="TotalSegmentator version whose class numbers a map holds; auto: as the map says.",
)
REPLACE_NAN_OPTION = option(
    "--replace-nan",
    type=HU,
    metavar="HU",
    help="Value for voxels that are NaN or infinite; without it such a CT is refused.",
)
VALUES_OPTION = option(
    "--values",
    type=LabelValues(),
    help="Values of a mask that are foreground, as 1,3 or 1-8.  [default: every value but 0]",
)
INSTANCES_OPTION = option(
    "--instances",
    is_flag=True,
    help="Masks hold numbered nodes: each value is one component, whether it touches others or "
    "lies in several pieces.",
)
TRUST_HU_OPTION = option(
    "--trust-hu",
    is_flag=True,
    help="Take CTs whose values do not look like HU all the same.",
)

CONNECTIVITY_OPTION = option(
    "--connectivity",
    type=click.Choice([str(number) for number in CONNECTIVITIES]),
    default="6",
    callback=lambda context, parameter, value: int(value),
    help="Neighbors that join voxels: faces, edges too, corners too.",
)
LUNGS_OPTION = option(
    "--lungs",
    type=PATH,
    default="hu",
    metavar="hu|totalsegmentator|none|FILE|DIR",
    help="Where the lungs are: found from HU alone (hu) or by TotalSegmentator, a lung mask or "
    "TotalSegmentator map (FILE|DIR), or no crop to the lungs (none).",
)
MARGIN_OPTION = option(
    "--margin",
    type=XYZ(minimum=0),
    default="0",
    help="Widen the lungs' box by this many mm on every side (one number, or x,y,z).",
)
