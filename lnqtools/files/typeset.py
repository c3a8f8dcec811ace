r"""Tables for a paper or a web page: Markdown and LaTeX.

Cells are text as a person would write it; ``±``, ``↑``, ``↓`` and numbers like ``1.5e-10`` come
out as each form writes them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

_LATEX_ESCAPES = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "{}$&#%_"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
        **{"[": "{[}", "*": "{*}"},  # after the end of a row they would be arguments of it
        **{"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--"},
    }
)
_SIGNED_OR_SMALL = re.compile(r"([+-]?)(\d+(?:\.\d+)?)(?:e([+-]\d+))?")


class Bold(str):
    """Text that stands out."""

    __slots__ = ()


def typeset_lines(tables: Iterable[Sequence[Sequence[str]]], form: str) -> Iterator[str]:
    """Yield tables as lines without line ends, with an empty line between any two.

    The first column is set to the left, all others to the right. LaTeX is a ``tabular`` with the
    rules of the package booktabs.

    Parameters
    ----------
    tables : iterable of sequence of sequence of str
        Each is rows of cells, the headings first; `Bold` text is set in bold.
    form : str
        One of `lnqtools.choices.PAPER_FORMATS`.
    """
    for number, table in enumerate(tables):
        if number:
            yield ""
        yield from _markdown(table) if form == "markdown" else _latex(table)


def _markdown(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table of GitHub's Markdown."""
    headings, *rows = [[_markdown_cell(cell) for cell in row] for row in table]
    for line in (headings, ["---", *["---:"] * (len(headings) - 1)], *rows):
        yield f"| {' | '.join(line)} |"


def _markdown_cell(text: str) -> str:
    """Return text that Markdown shows as it is; underscores within words are not markup."""
    escaped = re.sub(r"[\\|`*<\[]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))
    return f"**{escaped}**" if isinstance(text, Bold) and escaped else escaped


def _latex(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a tabular."""
    headings, *rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table]
    yield rf"\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}  % \usepackage{{booktabs}}"
    yield from (r"\toprule", headings, r"\midrule", *rows, r"\bottomrule")
    yield r"\end{tabular}"


def _latex_cell(text: str) -> str:
    """Return text that LaTeX shows as it is; signed and very small numbers as formulae."""
    number = _SIGNED_OR_SMALL.fullmatch(text)
    if number and (number[1] or number[3]):
        power = rf" \times 10^{{{int(number[3])}}}" if number[3] else ""
        escaped = f"${number[1]}{number[2]}{power}$"
    else:
        escaped = " ".join(text.split()).translate(_LATEX_ESCAPES)
    return rf"\textbf{{{escaped}}}" if isinstance(text, Bold) and escaped else escaped
