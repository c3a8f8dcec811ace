"""Tables, read back with the standard library."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.choices import FORMATS
from lnqtools.components.rows import in_world
from lnqtools.errors import LnqError
from lnqtools.files.tables import cell_text, read_table, table_lines
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid

ROWS = [
    {"case": "a", "voxels": 12, "dice": 0.5, "kept": True},
    {"case": "b", "voxels": 0, "dice": None, "kept": False},
]


def test_tsv_by_hand():
    assert list(table_lines(ROWS)) == [
        "case\tvoxels\tdice\tkept",
        "a\t12\t0.5\t1",
        "b\t0\t\t0",
    ]


def test_csv_by_hand():
    assert list(table_lines(ROWS, "csv")) == ["case,voxels,dice,kept", "a,12,0.5,1", "b,0,,0"]


def test_json_lines_by_hand():
    assert [json.loads(line) for line in table_lines(ROWS, "jsonl")] == ROWS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "1"),
        (np.bool_(False), "0"),
        (3, "3"),
        (np.int64(-3), "-3"),
        (2**70, str(2**70)),
        (0.1, "0.1"),
        (np.float32(0.5), "0.5"),
        (1 / 3, "0.3333333333"),
        (1e-12, "1e-12"),
        (float("nan"), "nan"),
        ("text", "text"),
    ],
)
def test_cells(value, text):
    assert cell_text(value) == text


def test_numpy_numbers_are_plain_in_json():
    row = {"a": np.int64(1), "b": np.float32(0.5), "c": np.bool_(True), "d": None}
    assert list(table_lines([row], "jsonl")) == ['{"a": 1, "b": 0.5, "c": true, "d": null}']


def test_json_has_no_word_for_what_is_not_a_number():
    row = {"a": float("nan"), "b": np.float64("inf"), "c": 1.5}
    (line,) = table_lines([row], "jsonl")
    assert json.loads(line, parse_constant=pytest.fail) == {"a": None, "b": None, "c": 1.5}


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_any_text_comes_back_from_csv(pairs):
    lines = list(table_lines([{"a": a, "b": b} for a, b in pairs], "csv"))
    read = list(csv.reader(io.StringIO("\r\n".join(lines), newline="")))
    assert read == [["a", "b"], *map(list, pairs)]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_any_text_comes_back_from_tsv(pairs):
    lines = list(table_lines([{"a": a, "b": b} for a, b in pairs]))
    assert len(lines) == len(pairs) + 1
    assert not any("\n" in line or "\r" in line for line in lines)
    read = [tuple(map(without_escapes, line.split("\t"))) for line in lines[1:]]
    assert read == pairs


def without_escapes(cell: str) -> str:
    """Return what a cell of the TSV says: its escapes are read from left to right."""
    meant = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
    text, letters = "", iter(cell)
    for letter in letters:
        text += meant[next(letters)] if letter == "\\" else letter
    return text


@pytest.mark.parametrize("form", FORMATS)
def test_no_rows(form):
    assert list(table_lines([], form)) == []
    names = {"tsv": ["a\tb"], "csv": ["a,b"], "jsonl": []}
    assert list(table_lines([], form, ("a", "b"))) == names[form]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("other", [{"b": 1}, {"a": 1, "b": 2}, {}])
def test_rows_of_other_columns_are_a_mistake(form, other):
    with pytest.raises(ValueError, match="a row has the columns"):
        list(table_lines([{"a": 1}, other], form))


def test_rows_are_written_as_they_come():
    def rows():
        yield ROWS[0]
        raise AssertionError("asked for too much")

    lines = table_lines(rows())
    assert [next(lines), next(lines)] == ["case\tvoxels\tdice\tkept", "a\t12\t0.5\t1"]


def test_components_in_the_world():
    # array axes z, y, x run to the left, backwards and up
    direction = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    grid = Grid((9, 9, 9), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0), direction)
    row = {"id": 1, "centroid": (1.0, 2.5, 4.0), "box": Box.of((0, 2, 4), (3, 4, 5)), "kept": True}
    assert in_world(row, grid) == {
        "id": 1,
        "centroid_x_mm": 7.0,
        "centroid_y_mm": 15.0,
        "centroid_z_mm": 34.0,
        "x_start": 4,
        "x_stop": 5,
        "y_start": 2,
        "y_stop": 4,
        "z_start": 0,
        "z_stop": 3,
        "kept": True,
    }
    assert in_world({"id": 1}, grid) == {"id": 1}


# Reading

texts = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("form", FORMATS)
@given(st.lists(st.tuples(texts, texts), min_size=1))
def test_what_was_written_is_read(form, pairs):
    rows = [{"case": f"c{a}", "note b": b or None} for a, b in pairs]
    assert read_table("\n".join([*table_lines(rows, form), ""])) == rows


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_and_blanks_are_read(form):
    text = "\n".join(table_lines(ROWS, form))
    first, second = read_table(text)
    assert [float(first[name]) for name in ("voxels", "dice", "kept")] == [12, 0.5, 1]
    assert (second["case"], second["dice"]) == ("b", None)


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\r\n1\t2\r\n\r\n",
        "\ufeffa\tb\n1\t2",
        "a,b\r\n1,2\r\n",
        'a,"b"\n1,"2"\n\n',
        '\n{"a": "1", "b": "2"}\r\n\n',
    ],
)
def test_tables_of_other_programs(text):
    assert read_table(text) == [{"a": "1", "b": "2"}]


def test_a_backslash_alone_is_itself():
    assert read_table("a\tb\nx\\y\tC:\\\\temp") == [{"a": "x\\y", "b": "C:\\temp"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("a\tb\n", "has names of columns but no row"),
        ("\n,\v\n\n1,2\n", "has no column with a name"),
        ('{"": 1, " ": 2}\n', "has no column with a name"),
        ("a\tb\n1\t2\n3\n", "line 3 has 1 cells instead of 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 cells instead of 2"),
        ("a\tb\ta\n1\t2\t3\n", "two columns named a"),
        ('a,b\n1,"2\n', "line 2 is not CSV"),
        ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ('{"a": 1}\n[1]\n', "line 2 is not a JSON object"),
    ],
)
def test_tables_that_are_refused(text, message):
    with pytest.raises(LnqError, match=message):
        read_table(text)
