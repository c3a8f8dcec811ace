"""What a report says of each case: numbers by the modules that other tools use, and its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.components.labeling import Components, find_components, find_instances
from lnqtools.components.rows import column_name, component_table, in_world
from lnqtools.files.tables import Row, table_lines
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid
from lnqtools.images.views import MEDIASTINAL_WINDOW_HU, fullest_slices
from lnqtools.labels import cohorts
from lnqtools.labels.cohorts import LabeledVolume
from lnqtools.labels.lost import NOTHING_LOST, LostNodes
from lnqtools.labels.training import NODE
from lnqtools.metrics.columns import column_of
from lnqtools.metrics.lesions import SIDES, detection_table, finding, lesion_table
from lnqtools.metrics.masks import PRESETS, described_row
from lnqtools.metrics.pairs import MaskPair
from lnqtools.report.markup import rounded
from lnqtools.report.slices import (
    Marks,
    Part,
    Spot,
    find_spots,
    gray_strips,
    mark,
    shown_box,
)


@dataclass(frozen=True)
class Definitions:
    """How the numbers of a report are defined; see `metrics.masks` and `metrics.lesions`."""

    tolerances_mm: Sequence[float] = (1.0, 2.0)
    edge: str = "surface"
    preset: str | None = None
    connectivity: int = 6
    metric: str = "ellipsoid"
    least_iou: float = 0.5
    enlarged_mm: float = 10.0
    instances: bool = False


@dataclass(frozen=True)
class Looks:
    """How slices are drawn."""

    window_hu: tuple[float, float] = MEDIASTINAL_WINDOW_HU
    quality: int = 70
    whole: bool = False


@dataclass(frozen=True, eq=False)
class CaseContent:
    """One case of a report.

    Attributes
    ----------
    row : dict
        The case's row of the table, with its name as ``case``.
    lesions : list of str
        Lines of a table of its components, the names of its columns first; as text, that many cases
        fit into memory.
    detection : list of dict
        Rows of `lnqtools.metrics.lesions.detection_table`; none of a label.
    label : LabeledVolume or None
        Of a label.
    view : dict
        What the page's script needs to show the slices.
    pictures : list of bytes
        JPEG files that ``view`` takes slices from.
    records : dict
        What is an image of the case ('prediction', …) → what its header says of its making.
    """

    row: Row
    lesions: list[str]
    detection: list[Row] = field(default_factory=list)
    label: LabeledVolume | None = None
    view: Row = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)
    records: dict[str, Row | None] = field(default_factory=dict)


def compare_case(
    name: str,
    prediction: npt.NDArray,
    reference: npt.NDArray,
    hu: npt.NDArray,
    grid: Grid,
    definitions: Definitions,
    looks: Looks,
) -> CaseContent:
    """Measure a predicted mask against its reference, and make the slices that show both.

    Parameters
    ----------
    name : str
    prediction, reference, hu : (z, y, x) ndarray
        Masks and CT numbers, stored in one way.
    grid : Grid
        Of all three.
    definitions : Definitions
    looks : Looks

    Raises
    ------
    LnqError
        As `lnqtools.metrics.masks.evaluate` and `lnqtools.report.slices.gray_strips`.
    """
    masks = _pair(prediction, reference, grid, definitions)
    row = described_row(masks, definitions.tolerances_mm, definitions.preset)
    lesions = lesion_table(masks.lesions)
    detection = detection_table(masks.lesions, definitions.metric, least_iou=definitions.least_iou)
    part = _part(hu, grid, [side.components for side in masks.lesions], looks)
    numbers = [part.numbers(side.components) for side in masks.lesions]
    shown_hu = part.of(hu)
    lines = []
    for side_name, side, of_side in zip(SIDES, masks.lesions, numbers, strict=True):
        spots = find_spots(of_side, side.components.count, shown_hu)
        rows = [lesion for lesion in lesions if lesion["side"] == side_name]
        hits = side.hits(definitions.least_iou).tolist()
        lines += [
            _lesion_line(_compared_cells(lesion, hit, spot.mean_hu, definitions), spot)
            for lesion, hit, spot in zip(rows, hits, spots, strict=True)
        ]
    marks = _named(mark(*numbers), [side.components.ids for side in masks.lesions])
    view, pictures = _view(part, shown_hu, marks, lines, looks)
    view["first"] = fullest_slices((numbers[0] != 0) | (numbers[1] != 0))[0]
    return CaseContent(
        {"case": name, **row},
        _lesion_lines(name, lesions, grid),
        [{"case": name, **line} for line in detection],
        None,
        view,
        pictures,
    )


def describe_label_case(
    name: str,
    label: npt.NDArray,
    hu: npt.NDArray,
    grid: Grid,
    definitions: Definitions,
    looks: Looks,
    lost: LostNodes = NOTHING_LOST,
) -> CaseContent:
    """Describe a label of 0 background, 1 node, 2 unknown, and make the slices that show it.

    By ``definitions.instances`` it is a mask of numbered nodes instead.

    Parameters and errors are those of `compare_case`, with what was ``lost`` on the way to the
    label; the row is that of `lnqtools.labels.cohorts.case_rows` without its set.
    """
    if definitions.instances:
        nodes, of_nodes = find_instances(label, grid), label
        label = (label != 0).astype(np.uint8)
    else:
        nodes = find_components(label == NODE, grid, definitions.connectivity)
        of_nodes = None
    described = cohorts.describe_label(
        *(label, grid, definitions.metric, definitions.connectivity), lost=lost, numbers=of_nodes
    )
    (row,) = cohorts.case_rows({"": {name: described}}, definitions.enlarged_mm)
    del row["set"]
    lesions = component_table(nodes)
    part = _part(hu, grid, [nodes], looks)
    numbers, shown_hu = part.numbers(nodes), part.of(hu)
    lines = [
        _lesion_line(_label_cells(lesion, spot.mean_hu, definitions.metric), spot)
        for lesion, spot in zip(lesions, find_spots(numbers, nodes.count, shown_hu), strict=True)
    ]
    marks = _named(mark(part.of(label), numbers), [None, nodes.ids])
    view, pictures = _view(part, shown_hu, marks, lines, looks)
    view["first"] = fullest_slices(numbers)[0]
    return CaseContent(row, _lesion_lines(name, lesions, grid), [], described, view, pictures)


def _named(marks: Marks, ids: Sequence[npt.NDArray | None]) -> Marks:
    """Return marks that tell components by their ids, where there are any for an image."""
    names = [None if of_image is None else [0, *of_image.tolist()] for of_image in ids]
    first, second = names
    kinds = [
        (a if first is None else first[a], b if second is None else second[b])
        for a, b in marks.kinds
    ]
    return Marks(kinds, marks.slices)


def _lesion_lines(name: str, lesions: list[Row], grid: Grid) -> list[str]:
    """Return the lines of the table of a case's components."""
    return list(table_lines({"case": name, **in_world(lesion, grid)} for lesion in lesions))


def _pair(
    prediction: npt.NDArray, reference: npt.NDArray, grid: Grid, definitions: Definitions
) -> MaskPair:
    """Return both masks, to be measured by these definitions."""
    preset = definitions.preset
    return MaskPair(
        prediction,
        reference,
        grid,
        edge=PRESETS[preset].edge if preset else definitions.edge,
        connectivity=definitions.connectivity,
        instances=definitions.instances,
    )


def _part(hu: npt.NDArray, grid: Grid, drawn: Sequence[Components], looks: Looks) -> Part:
    """Return the part of a case to show."""
    return Part(grid, Box.whole(hu.shape) if looks.whole else shown_box(hu, grid, drawn))


def _view(
    part: Part, hu: npt.NDArray, marks: Marks, lesions: list[Row], looks: Looks
) -> tuple[Row, list[bytes]]:
    """Return what the script needs of a case, and the pictures of its CT."""
    strips = gray_strips(hu, looks.window_hu, looks.quality)
    view = {
        "size": list(hu.shape),
        "spacing": list(part.spacing_mm),
        "stored": list(part.stored_slices()),
        "slicesEach": strips.slices_each,
        "rowsEach": strips.rows_each,
        "lesions": lesions,
        "kinds": marks.kinds,
        "marks": marks.slices,
    }
    return view, strips.pictures


def _lesion_line(cells: list[list[str]], spot: Spot) -> Row:
    """Return a line of a case's table of lesions."""
    return {"cells": cells, "slice": spot.slice, "box": list(spot.box)}


_SIZES = (column_of("diameter_mm").heading, column_of("volume_ml").heading)
COMPARED_LESIONS = ("lesion", "which is", *_SIZES, "overlap", column_of("iou").heading)
LABEL_LESIONS = ("number", *_SIZES)
FIRST_OF_LESION, LAST_OF_LESION = "slice", "mean HU"
"""Headings of a case's table of lesions: between the last two stand those of its mode."""


def _compared_cells(
    lesion: Row, hit: bool, mean_hu: float, definitions: Definitions
) -> list[list[str]]:
    """Return the cells of a lesion of either mask: texts and their classes."""
    return [
        [f"{lesion['side']} {lesion['id']}", "text"],
        [finding(lesion, definitions.least_iou), "text" if hit else "text bad"],
        *_size_cells(lesion, definitions.metric),
        [rounded("overlap", lesion["overlap"]), ""],
        [rounded("iou", lesion["iou"]), ""],
        [f"{mean_hu:.0f}", ""],
    ]


def _label_cells(lesion: Row, mean_hu: float, metric: str) -> list[list[str]]:
    """Return the cells of a node of a label."""
    return [[str(lesion["id"]), ""], *_size_cells(lesion, metric), [f"{mean_hu:.0f}", ""]]


def _size_cells(lesion: Row, metric: str) -> list[list[str]]:
    """Return a component's diameter, undefined where it is 0, and volume."""
    diameter = lesion[column_name(metric)]
    return [
        [rounded("diameter_mm", diameter or None), ""],
        [rounded("volume_ml", lesion["volume_mm3"] / 1000), ""],
    ]


@dataclass(frozen=True)
class Entry:
    """A case as the page lists it.

    Attributes
    ----------
    name : str
        Without characters that cannot be shown.
    number : str
        What its files are named by.
    content : CaseContent or None
        None if it failed.
    warnings : sequence of str
    error : str or None
        Why it failed.
    data_set : str
        Of a label.
    """

    name: str
    number: str
    content: CaseContent | None
    warnings: Sequence[str] = ()
    error: str | None = None
    data_set: str = ""


@dataclass(frozen=True)
class Report:
    """What a report says about itself.

    Attributes
    ----------
    title : str
    definitions : Definitions
    level, resamples, seed
        Of the intervals, see `lnqtools.report.summary.with_intervals`.
    made_with : dict
        The tool's version, options and packages.
    model : dict or None
        Content of a model's ``lnq-train.json``.
    tables : sequence of str
        Files of tables beside the page.
    figures : sequence of (str, str)
        Place and name of each picture.
    notices : sequence of str
        What is odd about the whole.
    """

    title: str
    definitions: Definitions
    level: float = 0.95
    resamples: int = 10000
    seed: int = 0
    made_with: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] | None = None
    tables: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    notices: Sequence[str] = ()
