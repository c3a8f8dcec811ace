"""What a report says of each case: numbers by the modules that other tools use, and its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from lnqtools.components.intensity import hu_columns
from lnqtools.components.labeling import Components, find_components, find_instances
from lnqtools.components.rows import column_name, component_table, in_world
from lnqtools.components.sizes import MM3_PER_ML
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
from lnqtools.report.markup import UNDEFINED, rounded
from lnqtools.report.slices import (
    Marks,
    Part,
    Spot,
    Strips,
    find_spots,
    gray_scale,
    gray_strips,
    mark,
    shown_box,
    thumbnail,
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
    quality: int = 85
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
        JPEG files that ``view`` takes slices from; of the first model of a case.
    thumbnail : bytes
        JPEG file of its fullest slice, small.
    records : dict
        What is an image of the case ('prediction', …) → what its header says of its making.
    """

    row: Row
    lesions: list[str]
    detection: list[Row] = field(default_factory=list)
    label: LabeledVolume | None = None
    view: Row = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)
    thumbnail: bytes = b""
    records: dict[str, Row | None] = field(default_factory=dict)


def compare_models(
    name: str,
    predictions: Mapping[str, npt.NDArray],
    reference: npt.NDArray,
    hu: npt.NDArray,
    grid: Grid,
    definitions: Definitions,
    looks: Looks,
) -> list[CaseContent]:
    """Measure each model's mask against the reference, and make the slices that show both.

    Parameters
    ----------
    name : str
        Of the case.
    predictions : mapping
        Model → its mask, stored as the others; an only model may have no name, which no row has
        then.
    reference, hu : (z, y, x) ndarray
        Mask and CT numbers, stored in one way.
    grid : Grid
        Of all of them.
    definitions : Definitions
    looks : Looks

    Returns
    -------
    list of CaseContent
        One for each model; the first has the pictures of the CT, which all share.

    Raises
    ------
    LnqError
        As `lnqtools.metrics.masks.evaluate` and `lnqtools.report.slices.gray_strips`.
    """
    pairs = {
        model: _pair(prediction, reference, grid, definitions)
        for model, prediction in predictions.items()
    }
    drawn = [side.components for pair in pairs.values() for side in pair.lesions]
    scene = _Scene.of(hu, grid, drawn, looks)
    contents = [_compared(_named_by(name, m), pairs[m], scene, definitions) for m in pairs]
    return _with_pictures(contents, scene)


def compare_case(
    name: str,
    prediction: npt.NDArray,
    reference: npt.NDArray,
    hu: npt.NDArray,
    grid: Grid,
    definitions: Definitions,
    looks: Looks,
) -> CaseContent:
    """Do `compare_models` for one."""
    (content,) = compare_models(name, {"": prediction}, reference, hu, grid, definitions, looks)
    return content


def _named_by(name: str, model: str) -> Row:
    """Return the cells that name a row: its case, and its model if that has a name."""
    return {"case": name, "model": model} if model else {"case": name}


def _compared(named: Row, masks: MaskPair, scene: _Scene, definitions: Definitions) -> CaseContent:
    """Return what is known of one model's mask of a case, without pictures of the CT."""
    row = described_row(masks, definitions.tolerances_mm, definitions.preset)
    lesions = scene.with_hu(lesion_table(masks.lesions), *(s.components for s in masks.lesions))
    detection = detection_table(masks.lesions, definitions.metric, least_iou=definitions.least_iou)
    numbers = [scene.part.numbers(side.components) for side in masks.lesions]
    lines = []
    for side_name, side, of_side in zip(SIDES, masks.lesions, numbers, strict=True):
        spots = find_spots(of_side, side.components.count)
        rows = [lesion for lesion in lesions if lesion["side"] == side_name]
        hits = side.hits(definitions.least_iou).tolist()
        lines += [
            _lesion_line(_compared_cells(lesion, hit, definitions), spot)
            for lesion, hit, spot in zip(rows, hits, spots, strict=True)
        ]
    marks = _marked(mark(*numbers), [side.components.ids for side in masks.lesions])
    return CaseContent(
        {**named, **row},
        _lesion_lines(named, lesions, scene.part.grid),
        [{**named, **line} for line in detection],
        view=scene.view(marks, lines, fullest_slices((numbers[0] != 0) | (numbers[1] != 0))),
        thumbnail=scene.thumbnail(*numbers),
    )


def describe_predictions(
    name: str,
    predictions: Mapping[str, npt.NDArray],
    hu: npt.NDArray,
    grid: Grid,
    definitions: Definitions,
    looks: Looks,
) -> list[CaseContent]:
    """Describe each model's mask of a case without reference, as `compare_models` does with one.

    The columns of a row are ``components``, ``components_enlarged``, ``components_degenerate`` and
    ``volume_prediction_ml``.
    """
    found = {
        model: find_instances(mask, grid)
        if definitions.instances
        else find_components(mask != 0, grid, definitions.connectivity)
        for model, mask in predictions.items()
    }
    scene = _Scene.of(hu, grid, list(found.values()), looks)
    return _with_pictures(
        [_predicted(_named_by(name, m), found[m], scene, definitions) for m in found], scene
    )


def _predicted(
    named: Row, nodes: Components, scene: _Scene, definitions: Definitions
) -> CaseContent:
    """Return what is known of a mask without reference, without pictures of the CT."""
    numbers = scene.part.numbers(nodes)
    lesions, lines = _described_nodes(nodes, numbers, scene, definitions)
    diameters = [lesion[column_name(definitions.metric)] or 0 for lesion in lesions]
    row = {
        "components": nodes.count,
        "components_enlarged": sum(d >= definitions.enlarged_mm for d in diameters),
        "components_degenerate": diameters.count(0),
        "volume_prediction_ml": float(nodes.volumes_mm3.sum() / MM3_PER_ML),
    }
    return CaseContent(
        {**named, **row},
        _lesion_lines(named, lesions, scene.part.grid),
        view=scene.view(
            _marked(mark(np.zeros_like(numbers), numbers), [None, nodes.ids]),
            lines,
            fullest_slices(numbers),
        ),
        thumbnail=scene.thumbnail(numbers, numbers),
    )


def _described_nodes(
    nodes: Components, numbers: npt.NDArray, scene: _Scene, definitions: Definitions
) -> tuple[list[Row], list[Row]]:
    """Return the rows of the nodes of one mask, and the lines that the page shows of them."""
    lesions = scene.with_hu(component_table(nodes), nodes)
    lines = [
        _lesion_line(_label_cells(lesion, definitions.metric), spot)
        for lesion, spot in zip(lesions, find_spots(numbers, nodes.count), strict=True)
    ]
    return lesions, lines


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
    scene = _Scene.of(hu, grid, [nodes], looks)
    numbers = scene.part.numbers(nodes)
    lesions, lines = _described_nodes(nodes, numbers, scene, definitions)
    marks = _marked(mark(scene.part.of(label), numbers), [None, nodes.ids])
    content = CaseContent(
        row,
        _lesion_lines({"case": name}, lesions, grid),
        [],
        described,
        scene.view(marks, lines, fullest_slices(numbers)),
        thumbnail=scene.thumbnail(numbers, numbers),
    )
    return _with_pictures([content], scene)[0]


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is shown of a case's CT, whatever is drawn over it."""

    part: Part
    whole: npt.NDArray
    hu: npt.NDArray
    looks: Looks
    strips: Strips

    @classmethod
    def of(cls, hu: npt.NDArray, grid: Grid, drawn: Sequence[Components], looks: Looks) -> _Scene:
        box = Box.whole(hu.shape) if looks.whole else shown_box(hu, grid, drawn)
        part = Part(grid, box)
        shown = part.of(hu)
        return cls(part, hu, shown, looks, gray_strips(shown, looks.window_hu, looks.quality))

    def with_hu(self, lesions: list[Row], *found: Components) -> list[Row]:
        """Return the rows of components with their HU, as ``lnq-metrics --ct`` has it."""
        cells = chain.from_iterable(hu_columns(components, self.whole) for components in found)
        return [lesion | more for lesion, more in zip(lesions, cells, strict=True)]

    def view(self, marks: Marks, lesions: list[Row], first: Sequence[int]) -> Row:
        """Return what the script needs of a case."""
        low, high = self.looks.window_hu
        hu, grays = gray_scale(self.looks.window_hu)
        return {
            "size": list(self.hu.shape),
            "spacing": list(self.part.spacing_mm),
            "stored": self.part.stored_slices(),
            "slicesEach": self.strips.slices_each,
            "rowsEach": self.strips.rows_each,
            "scale": {"hu": hu, "grays": grays},
            "window": [(low + high) / 2, high - low],
            "first": list(first),
            "lesions": lesions,
            "kinds": marks.kinds,
            "marks": marks.slices,
        }

    def thumbnail(self, first: npt.NDArray, second: npt.NDArray) -> bytes:
        """Return the small picture of the fullest slice of two masks."""
        k = fullest_slices((first != 0) | (second != 0))[0]
        _, *spacing = self.part.spacing_mm
        return thumbnail(self.hu[k], first[k], second[k], tuple(spacing), self.looks.window_hu)  # type: ignore[arg-type]


def _with_pictures(contents: list[CaseContent], scene: _Scene) -> list[CaseContent]:
    """Return the contents of a case, the first with the pictures of its CT."""
    return [replace(contents[0], pictures=scene.strips.pictures), *contents[1:]]


def _marked(marks: Marks, ids: Sequence[npt.NDArray | None]) -> Marks:
    """Return marks that tell components by their ids, where there are any for an image."""
    names = [None if of_image is None else [0, *of_image.tolist()] for of_image in ids]
    first, second = names
    kinds = [
        (a if first is None else first[a], b if second is None else second[b])
        for a, b in marks.kinds
    ]
    return Marks(kinds, marks.slices)


def _lesion_lines(named: Row, lesions: list[Row], grid: Grid) -> list[str]:
    """Return the lines of the table of a case's components."""
    return list(table_lines({**named, **in_world(lesion, grid)} for lesion in lesions))


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


def _lesion_line(cells: list[list[str]], spot: Spot) -> Row:
    """Return a line of a case's table of lesions."""
    return {"cells": cells, "at": list(spot.at), "box": spot.box}


_SIZES = (column_of("diameter_mm").heading, column_of("volume_ml").heading)
COMPARED_LESIONS = ("lesion", "verdict", *_SIZES, "overlap", column_of("iou").heading)
LABEL_LESIONS = ("number", *_SIZES)
FIRST_OF_LESION, LAST_OF_LESION = "slice", "mean HU"
"""Headings of a case's table of lesions: between the last two stand those of its mode."""


def _compared_cells(lesion: Row, hit: bool, definitions: Definitions) -> list[list[str]]:
    """Return the cells of a lesion of either mask: texts and their classes."""
    return [
        [f"{lesion['side']} {lesion['id']}", "text"],
        [finding(lesion, definitions.least_iou), "text" if hit else "text bad"],
        *_size_cells(lesion, definitions.metric),
        [f"{100 * lesion['overlap']:.0f} %", ""],
        [rounded("iou", lesion["iou"]), ""],
        [str(round(lesion["hu_mean"])), ""],
    ]


def _label_cells(lesion: Row, metric: str) -> list[list[str]]:
    """Return the cells of a node of a single mask."""
    return [
        [str(lesion["id"]), ""],
        *_size_cells(lesion, metric),
        [str(round(lesion["hu_mean"])), ""],
    ]


def _size_cells(lesion: Row, metric: str) -> list[list[str]]:
    """Return a component's diameter, undefined where it is 0, and volume."""
    diameter = lesion[column_name(metric)]
    return [
        [f"{diameter:.1f}" if diameter else UNDEFINED, ""],
        [rounded("volume_ml", lesion["volume_mm3"] / MM3_PER_ML), ""],
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
    model : str
        Whose prediction it is, if there are several.
    """

    name: str
    number: str
    content: CaseContent | None
    warnings: Sequence[str] = ()
    error: str | None = None
    data_set: str = ""
    model: str = ""


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
    models : sequence of str
        Whose predictions are shown, if there are several.
    model : dict or None
        Content of a model's ``lnq-train.json``.
    folds : sequence of dict
        Rows of its ``cross-validation.tsv``.
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
    models: Sequence[str] = ()
    model: Mapping[str, Any] | None = None
    folds: Sequence[Row] = ()
    tables: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    notices: Sequence[str] = ()
