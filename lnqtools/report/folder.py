"""The folder that holds a report: complete or not there, and never somebody else's files."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from lnqtools import __version__
from lnqtools.errors import LnqError, os_errors
from lnqtools.files.atomic import atomic_folder, remove_files, remove_stale_temporaries
from lnqtools.files.records import REPORT_RECORD, SUMS, leads_out
from lnqtools.files.sums import sha256_of
from lnqtools.files.tables import table_lines
from lnqtools.report.contents import CaseContent, Entry, Report
from lnqtools.report.page import hidden_columns, render

INDEX = "index.html"
CASES, FIGURES = "cases", "figures"
STATIC = ("report.css", "report.js")

MAX_FIGURE_BYTES = 50 << 20
BEGINNINGS = {
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".gif": (b"GIF87a", b"GIF89a"),
    ".webp": (b"RIFF",),
    ".svg": (b"<?xml", b"<svg", b"<!DOCTYPE svg", b"<!--"),
}
"""How pictures that browsers show begin, by suffix."""


@contextmanager
def new_report(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a folder to fill, which becomes the report when it is complete.

    With ``replace`` a report that is there is replaced, and stays until then.

    Raises
    ------
    LnqError
        As `check_folder`, or if the folder cannot be written.
    """
    check_folder(path)
    place = path.resolve()
    with os_errors(f"cannot make {path.parent}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(place.parent)
        for old in place.parent.glob(f".{glob.escape(place.name)}.*.old"):
            remove_files(old, files_of_report(old))  # a run was killed while it did so
    with atomic_folder(path, files_of_report if replace else None) as folder:
        (folder / CASES).mkdir()
        yield folder
        for name in STATIC:
            (folder / name).write_bytes((files("lnqtools.report") / name).read_bytes())
        made = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
        listing = {
            "tool": "lnq-report",
            "version": __version__,
            "files": sorted([*made, REPORT_RECORD]),
            SUMS: {name: sha256_of(made[name]) for name in sorted(made)},
        }
        (folder / REPORT_RECORD).write_text(json.dumps(listing, indent=1) + "\n")


def check_folder(path: Path) -> None:
    """Refuse a place for a report that is not a folder, or holds files that no report made.

    Raises
    ------
    LnqError
        If it is one of these.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise LnqError(f"{path} is not a folder")
    listed = _listed(path / REPORT_RECORD)
    searched = path.rglob("*") if listed else path.iterdir()  # not all of somebody's disk
    there = {str(file.relative_to(path)) for file in searched if not (listed and _is_folder(file))}
    if foreign := sorted(there - listed):
        raise LnqError(
            f"{path} holds files that lnq-report did not make, as {foreign[0]}: move them, or "
            "name another folder"
        )


def files_of_report(path: Path) -> list[str]:
    """Return what a report's list names, the list itself last: it tells whose the others are."""
    return sorted(_listed(path / REPORT_RECORD), key=lambda name: (name == REPORT_RECORD, name))


def _listed(path: Path) -> set[str]:
    """Return the files that a report's list names; none if it is not such a list."""
    try:
        names = {str(name) for name in json.loads(path.read_text())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    inside = all(Path(name).parts and not leads_out(name) for name in names)
    return names if inside else set()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def number_of(number: str, model: int) -> str:
    """Return what the files of one model's prediction of a case are named by."""
    return f"{number}-m{model}" if model else number


def write_case(folder: Path, number: str, contents: Sequence[CaseContent]) -> None:
    """Write the pictures of a case, and the scripts that tell the page what is in it.

    ``contents`` are those of its models; the first has the pictures.
    """
    pictures = contents[0].pictures
    names = [f"{CASES}/{number}-{k}.jpg" for k in range(len(pictures))]
    try:
        for name, picture in zip(names, pictures, strict=True):
            (folder / name).write_bytes(picture)
        for model, content in enumerate(contents):
            own = number_of(number, model)
            view = {**content.view, "strips": names}
            call = f"lnqCase({script_json(own)},{script_json(view)});\n"
            (folder / CASES / f"{own}.js").write_text(call, encoding="ascii")
            (folder / CASES / f"{own}.jpg").write_bytes(content.thumbnail)
    except OSError as error:
        for path in (folder / CASES).glob(f"{number}[-.]*"):
            path.unlink()  # no part of a case in a report of the others
        raise LnqError(f"cannot write its slices: {error.strerror or error}") from None


COLUMNS = "columns.js"
TABLES = {
    "compared": ("metrics.tsv", "lesions.tsv"),
    "predicted": ("cases.tsv", "lesions.tsv"),
    "labels": ("cases.tsv", "lesions.tsv"),
}
"""Files of the rows of the cases and of their components."""


def write_report(
    folder: Path,
    mode: str,
    entries: Sequence[Entry],
    report: Report,
    figures: Sequence[tuple[Path, str]],
) -> None:
    """Write the tables, the figures and last the page.

    Parameters
    ----------
    folder : Path
        Where the cases are already.
    mode, entries, report
        As `lnqtools.report.page.render`, which is told of tables and figures.
    figures : sequence of (Path, str)
        Pictures to copy, and what they are called.
    """
    contents = [entry.content for entry in entries if entry.content]
    cases = list(table_lines(content.row for content in contents))
    lesions = [content.lesions for content in contents if content.lesions]
    names = lesions[0][:1] if lesions else []  # those of all: the columns are the same
    places = _copy_figures(folder, [path for path, _ in figures])
    report = replace(
        report,
        tables=TABLES[mode],
        figures=[(place, name) for place, (_, name) in zip(places, figures, strict=True)],
    )
    page = render(mode, entries, report).encode("utf-8", "backslashreplace")
    with os_errors(f"cannot write {folder}"):
        of_lesions = chain(names, *(lines[1:] for lines in lesions))
        for name, lines in zip(TABLES[mode], (cases, of_lesions), strict=True):
            with (folder / name).open("wb") as file:
                file.writelines(os.fsencode(line) + b"\n" for line in lines)
        call = f"lnqColumns({script_json(hidden_columns(entries))});\n"
        (folder / COLUMNS).write_text(call, encoding="ascii")
        (folder / INDEX).write_bytes(page)


def script_json(content: Any) -> str:
    """Return JSON that is safe in a script, wherever it stands: ASCII, and no ``<``."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def check_figure(path: Path) -> None:
    """Refuse a picture that a browser would not show.

    Raises
    ------
    LnqError
        If it has another suffix, cannot be read, is too large, or begins as its kind never does.
    """
    beginnings = BEGINNINGS.get(path.suffix.lower())
    if beginnings is None:
        known = ", ".join(BEGINNINGS)
        raise LnqError(f"{path}: browsers show pictures named {known}; convert it")
    with os_errors(f"{path} cannot be read"):
        if not path.is_file():
            raise LnqError(f"{path} is not a file" if path.exists() else f"{path}: no such file")
        if path.stat().st_size > MAX_FIGURE_BYTES:
            raise LnqError(f"{path} has more than {MAX_FIGURE_BYTES >> 20} MB")
        with path.open("rb") as file:
            begin = file.read(64)
    if path.suffix.lower() == ".svg":
        begin = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begin.startswith(beginnings):
        raise LnqError(f"{path} does not hold what its name says")


def _copy_figures(folder: Path, pictures: list[Path]) -> list[str]:
    """Copy pictures into a report; return where they are in it."""
    names = [f"{FIGURES}/{k}{path.suffix.lower()}" for k, path in enumerate(pictures, start=1)]
    for name, path in zip(names, pictures, strict=True):
        with os_errors(f"cannot copy {path}"):
            (folder / FIGURES).mkdir(exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
    return names
