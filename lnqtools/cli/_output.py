"""Files that are not images, and the directories of all: whole, or not written at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from lnqtools.cli._names import STREAM
from lnqtools.cli._tool import emit
from lnqtools.errors import LnqError, os_errors

STANDARD_OUTPUTS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def check_table_place(table: str, inputs: Iterable[str], *, replace: bool) -> None:
    """Refuse a file for a table that is an input, exists, or cannot be written."""
    if table == STREAM:
        return
    from lnqtools.files.atomic import is_pipe

    if table in STANDARD_OUTPUTS:
        raise click.UsageError(f"{table}: say - for standard output")
    if is_pipe(table):
        return
    if os.path.realpath(table) in map(os.path.realpath, inputs):
        raise click.UsageError(f"{table} is an input and would be overwritten")
    if not Path(table).parent.is_dir():
        raise click.UsageError(f"{table}: there is no such directory")
    if os.path.lexists(table) and not replace:
        raise click.UsageError(f"{table} exists; -f replaces it")
    check_writable(Path(table).parent)


def write_table(
    rows: Iterable[dict],
    path: str,
    form: str = "tsv",
    columns: tuple[str, ...] = (),
    **rules: bool,
) -> None:
    """Write rows to a file, whole or not at all, or to standard output; see `write_lines`."""
    from lnqtools.files.tables import table_lines

    write_lines(table_lines(rows, form, columns), path, **rules)


def write_lines(lines: Iterable[str], path: str, *, replace: bool, follow: bool) -> None:
    """Write lines to a file, whole or not at all, or to standard output.

    Raises
    ------
    LnqError
        If it cannot be written, or, without ``replace``, exists by now.
    """
    if path == STREAM:
        for line in lines:
            emit(line, cells=True)
        return
    content = b"".join(os.fsencode(line) + b"\n" for line in lines)
    write_file(content, path, replace=replace, follow=follow)


def write_file(content: bytes, path: str, *, replace: bool, follow: bool) -> None:
    """Write a file, whole or not at all, or into a pipe.

    Raises
    ------
    LnqError
        If it cannot be written, or, without ``replace``, exists by now.
    """
    from lnqtools.files.atomic import (
        atomic_output,
        is_pipe,
        remove_stale_temporaries,
        write_into_pipe,
    )

    if is_pipe(path):
        write_into_pipe(content, path)
        return
    remove_stale_temporaries(Path(path).parent)
    try:
        with atomic_output(path, replace=replace, follow=follow) as file:
            file.write(content)
    except FileExistsError:
        raise LnqError(f"{path} was made by another process meanwhile") from None


def check_directory(folder: Path) -> None:
    """Raise unless a directory is there or can be made, and can be written to."""
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise click.UsageError(f"{place} is not a directory")
    check_writable(place)


def check_writable(folder: Path) -> None:
    """Raise LnqError unless a directory is there and can be written to."""
    if not folder.is_dir():
        raise LnqError(f"{folder}: there is no such directory")
    if not os.access(folder, os.W_OK):
        raise LnqError(f"{folder} cannot be written to")


def make_directory(folder: Path) -> None:
    """Make a directory if it is not there, and remove what killed runs left in it."""
    from lnqtools.files.atomic import remove_stale_temporaries

    with os_errors(f"cannot make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(folder)
