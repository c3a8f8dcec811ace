"""The words that options choose between stand in one place, and who acts on them knows each."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import click
import numpy as np
import pytest
from matplotlib.figure import Figure

from lnqtools import choices
from lnqtools.anatomy.maps import structure_names
from lnqtools.cli.lnq import completion_of
from lnqtools.comparison.paired import adjust_p_values, signed_rank_test
from lnqtools.comparison.ranking import case_ranks, rank_rows
from lnqtools.comparison.summaries import summary_rows
from lnqtools.comparison.tables import Scores, align, fill, read_model
from lnqtools.components.diameters import diameters_mm
from lnqtools.components.labeling import find_components
from lnqtools.components.sizes import filter_diameters_mm
from lnqtools.errors import LnqError
from lnqtools.figures.style import picture_bytes
from lnqtools.files.tables import table_lines
from lnqtools.files.typeset import typeset_lines
from lnqtools.images.grid import grid_of
from lnqtools.images.names import label_table
from lnqtools.images.resampling import resample
from lnqtools.images.volume import Volume
from lnqtools.labels.weak import Coat, weak_label
from lnqtools.metrics.masks import PRESETS, evaluate, row_as
from lnqtools.metrics.pairs import MaskPair
from lnqtools.metrics.summaries import summarize
from lnqtools.metrics.sweep import best_point
from lnqtools.nnunet.precision import computing_in
from lnqtools.nnunet.view import model_orientation
from lnqtools.phantom.patient import PHASES, PROFILES
from lnqtools.phantom.scan import SIZES
from tests.conftest import ROOT
from tests.suite import COMMANDS, options

WORDS = {name: value for name, value in vars(choices).items() if name.isupper()}
BOX = np.zeros((4, 5, 6), bool)
BOX[1:3, 1:4, 1:5] = True
GRID = grid_of(BOX.shape, (1, 1, 1))
NAMELESS = Volume(BOX.astype(np.uint8), GRID)
NAMED = replace(NAMELESS, extensions=(label_table({1: "heart"}),))
COMPONENTS = find_components(BOX, GRID)
SCORES = Scores(
    *("dice", "higher", ("a", "b"), ("x", "y", "z")),
    np.array([[0.1, 0.2, 0.3], [0.3, 0.5, 0.2]]),
    np.zeros((2, 3), bool),
)
ONE = read_model([{"case": "x", "dice": 0.5}], ["dice"])
POINT = {"threshold": 0.5, "min_diameter_mm": 0, "dice": 1, "dice_pooled": 1, "lesion_f1": 1}

ACTING: dict[str, Callable[[Any], object]] = {
    "SHELLS": lambda word: completion_of(word, "lnq-crop"),
    "FORMATS": lambda word: list(table_lines([{"case": "a"}], word)),
    "PAPER_FORMATS": lambda word: list(typeset_lines([[["case"], ["a"]]], word)),
    "CONNECTIVITIES": lambda number: find_components(BOX, GRID, number),
    "METRICS": lambda word: diameters_mm(COMPONENTS, word),
    "DEGENERATE": lambda word: filter_diameters_mm(COMPONENTS, flat=word),
    "INTERPOLATIONS": lambda word: resample(
        BOX.astype(np.uint8), GRID, grid_of((2, 2, 3), (2, 2, 2)), word, 0
    ),
    "CLASSES": lambda word: structure_names(NAMED if word == "auto" else NAMELESS, word),
    "ORIENTATIONS": lambda word: model_orientation({}, {}, word),
    "PICTURES": lambda word: picture_bytes(Figure(), word),
    "STRATEGIES": lambda word: weak_label(BOX, word, Coat((1, 1, 1), 1, 6)),
    "EDGES": lambda word: evaluate(BOX, BOX, (1, 1, 1), edge=word),
    "PRESETS": lambda word: row_as(word, MaskPair(BOX, BOX, (1, 1, 1), edge=PRESETS[word].edge)),
    "EMPTY": lambda word: fill(SCORES, word),
    "EMPTY_IN_IMAGES": lambda word: summarize([{"case": "a", "assd_mm": None}], word, [1.0]),
    "SCORES": lambda word: best_point([POINT], word),
    "METHODS": lambda word: signed_rank_test(np.arange(5.0), method=word),
    "ZEROS": lambda word: signed_rank_test(np.arange(5.0), zeros=word),
    "ADJUSTMENTS": lambda word: adjust_p_values(np.array([0.1, 0.2]), word),
    "MISSING": lambda word: align({"a": ONE}, "dice", missing=word),
    "SPREADS": lambda word: summary_rows(SCORES, spread=word),
    "TIES": lambda word: case_ranks([SCORES], word),
    "RANKINGS": lambda word: rank_rows(SCORES, by=word, resamples=2),
    "PRECISIONS": lambda word: computing_in(word, pytest.importorskip("torch").device("cpu")),
    "PROFILES": lambda word: PROFILES[word],
    "PHASES": lambda word: PHASES[word],
    "SIZES": lambda word: SIZES[word],
}
"""What acts on the words."""
OF_THE_COMMAND_LINE = (
    *("ALL_FORMATS", "RESAMPLINGS", "UNCOVERED", "STATISTICS", "COMPARISONS"),
    *("SERIES_NAMES", "DRAWING_NAMES", "DRAWINGS", "HOW_DRAWN"),
)
"""Words that tools themselves act on."""
LENIENT = {"FORMATS", "PAPER_FORMATS", "EMPTY"}


def test_choices_imports_nothing():
    tree = ast.parse((ROOT / "lnqtools" / "choices.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def choosing() -> Iterator[tuple[str, click.Option]]:
    for name in COMMANDS:
        for option in options(name):
            if isinstance(option.type, click.Choice):
                yield name, option


def test_every_choice_is_one_of_them():
    known = {tuple(map(str, words)) for words in WORDS.values()}
    found = [(name, option.opts[0], tuple(option.type.choices)) for name, option in choosing()]
    assert len(found) > 30
    assert [each for each in found if each[2] not in known] == []


def test_no_tool_writes_them_again():
    for path in (ROOT / "lnqtools" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.Choice":
                texts = [n for n in ast.walk(node) if isinstance(getattr(n, "value", None), str)]
                assert texts == [], f"{path.name}:{node.lineno}"


def test_somebody_acts_on_each():
    assert WORDS.keys() - ACTING.keys() - {"TASKS"} == set(OF_THE_COMMAND_LINE)


@pytest.mark.parametrize(("name", "word"), [(n, w) for n in ACTING for w in WORDS[n]])
def test_each_word_is_known(name, word):
    ACTING[name](word)


@pytest.mark.parametrize("name", sorted(ACTING.keys() - LENIENT))
def test_another_word_is_not(name):
    with pytest.raises((LnqError, ValueError, KeyError, FileNotFoundError)):
        ACTING[name]("made-up")


def test_tables_by_word_have_no_other():
    assert tuple(PRESETS) == choices.PRESETS
    assert tuple(PROFILES) == choices.PROFILES
    assert tuple(PHASES) == choices.PHASES
    assert tuple(SIZES) == choices.SIZES


def test_each_task_is_totalsegmentators():
    pytest.importorskip("totalsegmentator")
    from lnqtools.totalseg.weights import classes_of

    assert all(classes_of(task) for task in choices.TASKS)
