"""Tables of several models on the command line: NAME=FILE, read and compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lnqtools.choices import EMPTY, MISSING, RANKINGS
from lnqtools.cli._contract import read_bytes
from lnqtools.cli._names import STREAM
from lnqtools.cli._rules import option
from lnqtools.cli._tool import say
from lnqtools.cli._values import Pair, empty_policy
from lnqtools.errors import LnqError, os_errors

if TYPE_CHECKING:
    from lnqtools.comparison.tables import ModelTable, Scores

Content = TypeVar("Content")
Key = TypeVar("Key")

WHERE_OPTION = option(
    "--where",
    multiple=True,
    type=Pair("COLUMN=VALUE", may_be_empty=True),
    help="Compare only rows in which COLUMN is VALUE; given several times, all must fit.",
)
MISSING_OPTION = option(
    "--missing",
    type=click.Choice(MISSING),
    default="error",
    help="Cases that a table lacks and another has: refuse them, leave them out for all models "
    "(drop), or let the worst value stand for them (worst).",
)
NAMED_TABLES = click.argument("tables", nargs=-1, metavar="NAME=FILE...", type=Pair("NAME=FILE"))
EMPTY_OPTION = option(
    "--empty",
    type=empty_policy(EMPTY),
    default="drop",
    help="What stands for distances that are undefined because a mask is empty: nothing (drop), "
    "the largest of any model (worst), or MM; of fractions the worst there can be.",
)
RANK_BY_OPTION = option(
    "--rank-by",
    type=click.Choice(RANKINGS),
    default="mean",
    help="What to rank: means, medians, mean ranks within the cases (ranks), or those over all "
    "metrics together (cases), as the LNQ2023 challenge.",
)
INTERSECT_OPTION = option(
    "--intersect", is_flag=True, help="Leave out cases that a table lacks; without it, refuse them."
)


def named_tables(
    tables: Sequence[tuple[str, str]], reserved: Collection[str] = ()
) -> dict[str, str]:
    """Return model → path of its table.

    Parameters
    ----------
    tables : sequence of (str, str)
        Names and paths.
    reserved : collection of str
        Names that no model may have, because they are names of columns.

    Raises
    ------
    click.UsageError
        If there is no table, a name is given twice or reserved, or standard input is named twice.
    """
    if not tables:
        raise click.UsageError("no input: name tables as NAME=FILE")
    paths: dict[str, str] = {}
    for name, path in tables:
        if name in reserved:
            raise click.UsageError(f"{name} is the name of a column; give the model another name")
        if name in paths:
            raise click.UsageError(f"two tables are named {name}")
        paths[name] = path
    if list(paths.values()).count(STREAM) > 1:
        raise click.UsageError("standard input can be read only once")
    return paths


def read_tables(
    tool: str, paths: Mapping[Key, str], content: Callable[[list[dict[str, Any]]], Content]
) -> dict[Key, Content]:
    """Read all tables; name every one that is bad.

    Parameters
    ----------
    tool : str
        For messages.
    paths : mapping
        Name → path.
    content : callable
        Takes the rows of a table and returns what is needed of them, or raises LnqError.

    Raises
    ------
    click.exceptions.Exit
        If any table cannot be read, with status 1.
    """
    from lnqtools.files.tables import read_table

    contents = {}
    for name, path in paths.items():
        try:
            contents[name] = content(read_table(read_text(path)))
        except LnqError as error:
            say(tool, str(error), "standard input" if path == STREAM else path)
    if len(contents) < len(paths):
        raise click.exceptions.Exit(1)
    return contents


def read_models(
    tool: str,
    paths: Mapping[str, str],
    metrics: Sequence[str],
    where: Sequence[tuple[str, str]] = (),
) -> dict[str, ModelTable]:
    """Read the tables of models, one row per case; name every one that is bad.

    Raises
    ------
    click.exceptions.Exit
        If any table cannot be read, with status 1.
    """
    from lnqtools.comparison.tables import read_model, select_rows

    return read_tables(tool, paths, lambda rows: read_model(select_rows(rows, where), metrics))


def read_text(path: str) -> str:
    """Read a file of text; names of cases keep the bytes they have on disk.

    Raises
    ------
    LnqError
        If it cannot be read or is not text.
    """
    with os_errors("cannot be read"):
        content = read_bytes(path)
    if b"\0" in content:
        raise LnqError("is not text in UTF-8, as a table is")
    return content.decode(errors="surrogateescape")


def warn(tool: str, models: Mapping[str, ModelTable], rule: str) -> None:
    """Warn of cases that some models lack, and of tables that hardly belong together.

    Parameters
    ----------
    tool : str
    models : mapping
        Name → table.
    rule : str
        What becomes of the cases, see `lnqtools.comparison.tables.align`.
    """
    from lnqtools.comparison.tables import describe_missing, differing_references, missing_cases
    from lnqtools.errors import listed

    missing = missing_cases(models)
    if missing and rule != "error":
        becomes = {"drop": "left out for all", "worst": "the worst value stands for that"}[rule]
        say(tool, f"warning: {describe_missing(missing)}; {becomes}")
    if differ := differing_references(models):
        say(
            tool,
            "warning: the volume of the reference differs between tables, as if of different "
            f"references, in {listed(differ)}",
        )
    if len(set().union(*(model.presets for model in models.values()))) > 1:
        say(tool, "warning: the tables were not made with one --preset and --edge of lnq-metrics")


def undefined_words(scores: Scores) -> str:
    """Say how many values of each model are undefined; nothing if all are defined."""
    from lnqtools.comparison.tables import undefined_counts

    counts = undefined_counts(scores)
    cases = len(scores.cases)
    named = ", ".join(f"{n} of {cases} cases of {model}" for model, n in counts.items())
    verb = "is" if sum(counts.values()) == 1 else "are"
    return f"{scores.metric}: {named} {verb} undefined and left out" if counts else ""
