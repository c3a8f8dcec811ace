"""The models that a comparison is of: a table each, long tables of several, seeds of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from lnqtools.cli._models import read_tables
from lnqtools.cli._names import STREAM
from lnqtools.cli._tool import about, say
from lnqtools.errors import LnqError, listed

if TYPE_CHECKING:
    from lnqtools.comparison.tables import ModelTable

Rows = list[Mapping[str, Any]]
Part = tuple[str, Rows]
"""Rows, and the path of the table that they are from."""


@dataclass(frozen=True)
class Compared:
    """The rows of each model, in each group.

    Parameters
    ----------
    parts : dict
        Group → model → its rows.
    column : str, optional
        What the groups are: --group.
    """

    parts: Mapping[str, Mapping[str, Part]]
    column: str | None = None

    @property
    def groups(self) -> list[str]:
        """The groups; one without a name if --group was not given."""
        return list(self.parts)

    @property
    def models(self) -> list[str]:
        """The models, in the order of the command line."""
        return list(next(iter(self.parts.values())))

    def have_column(self, name: str) -> bool:
        """Tell whether each model's rows have a column."""
        parts = [part for of_group in self.parts.values() for part in of_group.values()]
        return all(_has(rows, name) for _, rows in parts)

    def read(self, tool: str, metrics: Sequence[str], case_column: str) -> dict[str, ModelTable]:
        """Return what is compared of each model in each group, by what to call it.

        Raises
        ------
        click.exceptions.Exit
            If rows do not fit, with status 1; each table is named.
        """
        from lnqtools.comparison.tables import read_model

        tables = {}
        problems: dict[tuple[str, str], None] = {}  # of the models of one table often the same
        parts = [(g, m, part) for g, of_group in self.parts.items() for m, part in of_group.items()]
        for group, model, (path, rows) in parts:
            name = model if self.column is None else f"{model} ({self.column} {group})"
            try:
                tables[name] = read_model(rows, metrics, case_column)
            except LnqError as error:
                problems[_place(path), str(error)] = None
        for place, message in problems:
            say(tool, message, place)
        if problems:
            raise click.exceptions.Exit(1)
        return tables


def find_models(
    tool: str,
    tables: Sequence[tuple[str, str]],
    *,
    where: Sequence[tuple[str, str]] = (),
    by: str | None = None,
    group: str | None = None,
    reserved: Collection[str] = (),
) -> Compared:
    """Read the tables of a command line, and find the models and groups in them.

    Parameters
    ----------
    tool : str
        For messages.
    tables : sequence of (str, str)
        Names and paths; a table without a name holds several models.
    where : sequence of (str, str)
        Rows to keep, see `lnqtools.comparison.tables.select_rows`.
    by : str, optional
        Column of the models' names in tables without a name.
    group : str, optional
        Column of groups, as seeds. Tables of one model that have no such column are its groups, in
        their order.
    reserved : collection of str
        Names that no model may have, because they are names of columns.

    Raises
    ------
    click.UsageError
        If names, tables and options do not fit together.
    click.exceptions.Exit
        If a table cannot be read, with status 1; each is named.
    LnqError
        If names in the tables do not fit together.
    """
    from lnqtools.comparison.tables import select_rows, split_rows

    check_names(tables, by, group, reserved)
    paths = {path: path for _, path in tables}
    contents: dict[str, Rows] = read_tables(tool, paths, lambda rows: select_rows(rows, where))
    parts: dict[str, list[Part]] = {}
    for name, path in tables:
        with about(_place(path)):
            found = {name: contents[path]} if name else split_rows(contents[path], by or "")
        for model, rows in found.items():
            parts.setdefault(model, []).append((path, rows))
    _refuse_reserved(parts, reserved)
    return Compared(_in_groups(parts, group), group)


def check_names(
    tables: Sequence[tuple[str, str]],
    by: str | None,
    group: str | None,
    reserved: Collection[str],
) -> None:
    """Refuse names and paths that the options do not allow.

    Raises
    ------
    click.UsageError
        If there is no table, a name is missing without --by, given twice without --group or
        reserved, or standard input is named twice.
    """
    names = [name for name, _ in tables]
    nameless = [path for name, path in tables if not name]
    if not tables:
        raise click.UsageError("no input: name tables as NAME=FILE")
    if nameless and by is None:
        raise click.UsageError(
            f"{nameless[0]!r} is not NAME=FILE; of a table of several models --by says in which "
            "column their names are"
        )
    if by is not None and not nameless:
        raise click.UsageError("--by is for a FILE without NAME=, which holds several models")
    _refuse_reserved(names, reserved)
    repeated = [name for name in names if name and names.count(name) > 1]
    if repeated and group is None:
        raise click.UsageError(
            f"two tables are named {repeated[0]}; with --group they are groups of one model"
        )
    if [path for _, path in tables].count(STREAM) > 1:
        raise click.UsageError("standard input can be read only once")


def _refuse_reserved(models: Iterable[str], reserved: Collection[str]) -> None:
    if taken := [model for model in models if model in reserved]:
        raise click.UsageError(f"{taken[0]} is the name of a column; give the model another name")


def _in_groups(
    parts: Mapping[str, Sequence[Part]], column: str | None
) -> dict[str, dict[str, Part]]:
    """Return group → model → rows, of models that have the same groups."""
    if column is None:
        if several := [model for model, of_model in parts.items() if len(of_model) > 1]:
            raise LnqError(f"two tables hold a model named {several[0]}")
        return {"": {model: of_model[0] for model, of_model in parts.items()}}
    of_models = {model: _groups_of(model, of_model, column) for model, of_model in parts.items()}
    first, groups = next(iter(of_models.items()))
    for model, its in of_models.items():
        if its.keys() != groups.keys():
            raise LnqError(
                f"{first} has the {column} {listed(list(groups))}, {model} {listed(list(its))}: "
                "models are compared on the same ones"
            )
    return {group: {model: of_models[model][group] for model in parts} for group in groups}


def _groups_of(model: str, parts: Sequence[Part], column: str) -> dict[str, Part]:
    """Part one model's rows by the column; tables without it are a group each."""
    from lnqtools.comparison.tables import split_rows

    groups: dict[str, Part] = {}
    for number, (path, rows) in enumerate(parts, 1):
        with about(_place(path)):
            if not _has(rows, column) and len(parts) == 1:
                raise LnqError(
                    f"has no column named {column}, and is the only table of {model}: nothing "
                    "says what its groups are"
                )
            found = split_rows(rows, column) if _has(rows, column) else {str(number): rows}
        for group, its in found.items():
            if group in groups:
                raise LnqError(f"{model}: two tables have the {column} {group}")
            groups[group] = (path, its)
    return groups


def _has(rows: Rows, column: str) -> bool:
    return any(column in row for row in rows)


def _place(path: str) -> str:
    return "standard input" if path == STREAM else path
