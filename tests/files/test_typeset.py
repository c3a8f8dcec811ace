"""Markdown and LaTeX of tables, by hand."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.files.typeset import Bold, typeset_lines

TABLE = [
    ["model", "dice ↑", "p"],
    ["A|B", Bold("0.665 ± 0.143"), "1.5e-10"],
    ["M_1 & co", "-0.50", "–"],
]


def test_markdown_by_hand():
    assert list(typeset_lines([TABLE], "markdown")) == [
        "| model | dice ↑ | p |",
        "| --- | ---: | ---: |",
        r"| A\|B | **0.665 ± 0.143** | 1.5e-10 |",
        "| M_1 & co | -0.50 | – |",
    ]


def test_latex_by_hand():
    assert list(typeset_lines([TABLE], "latex")) == [
        r"\begin{tabular}{lrr}  % \usepackage{booktabs}",
        r"\toprule",
        r"model & dice $\uparrow$ & p \\",
        r"\midrule",
        r"A\textbar{}B & \textbf{0.665 $\pm$ 0.143} & $1.5 \times 10^{-10}$ \\",
        r"M\_1 \& co & $-0.50$ & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("text", "markdown", "latex"),
    [
        ("assd_mm", "assd_mm", r"assd\_mm"),
        ("_a_", r"\_a\_", r"\_a\_"),
        ("a * b `c` <d> [e", r"a \* b \`c\` \<d> \[e", None),
        ("two\nlines", "two lines", "two lines"),
        ("", "", ""),
        (Bold(""), "", ""),
        ("100 %", "100 %", r"100 \%"),
        ("a\\b~^{}$#", None, r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}\{\}\$\#"),
        ("[x] *", None, "{[}x] {*}"),
        ("2e+03", "2e+03", r"$2 \times 10^{3}$"),
        ("+0.12", "+0.12", "$+0.12$"),
        ("12", "12", "12"),
        ("1e5x", "1e5x", "1e5x"),
        ("5 ↓", "5 ↓", r"5 $\downarrow$"),
    ],
)
def test_cells(text, markdown, latex):
    for form, expected in (("markdown", markdown), ("latex", latex)):
        line = list(typeset_lines([[["x"], [text]]], form))[2 if form == "markdown" else 4 - 1 + 1]
        cell = line[2:-2] if form == "markdown" else line.removesuffix(r" \\")
        if expected is not None:
            assert cell == expected


def test_tables_stand_apart():
    small = [["x"], ["1"]]
    assert list(typeset_lines([small, small], "markdown")) == [
        *("| x |", "| --- |", "| 1 |"),
        "",
        *("| x |", "| --- |", "| 1 |"),
    ]


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_no_text_breaks_a_table(cells):
    table = [["a", "b"], cells]
    row = list(typeset_lines([table], "markdown"))[2]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3
    assert not re.search(r"[\r\n]", row)
    row = list(typeset_lines([table], "latex"))[4].removesuffix(r" \\")
    assert len(re.findall(r"(?<!\\)&", row)) == 1
    assert not re.search(r"(?<!\\)[%#_]", row)
