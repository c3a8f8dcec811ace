"""lnq-check: folders → which files are still what their records say."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lnqtools.cli._contract import FORCE_OPTION, JOBS_OPTION, TABLE_OUTPUT_OPTION, VOICE_OPTIONS
from lnqtools.cli._forecast import Teller
from lnqtools.cli._names import files_below
from lnqtools.cli._options import FORMAT_OPTION
from lnqtools.cli._output import check_table_place, write_table
from lnqtools.cli._parallel import WorkerLostError, in_children
from lnqtools.cli._rules import option
from lnqtools.cli._tool import accident, clear_progress, command, say, show_traceback
from lnqtools.cli._values import PATH, Pair, Pairs
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.cli._inputs import Found, Inputs
    from lnqtools.files.tables import Row
    from lnqtools.integrity.claims import Claim
    from lnqtools.integrity.verdicts import Verdict

TOOL = "lnq-check"
COLUMNS = ("path", "kind", "state", "inputs", "tool", "version", "why")


@dataclass(frozen=True)
class Thing:
    """A file that is checked: where it is, what it is part of, and what records say of it."""

    path: Path
    kind: str
    owner: Path | None = None
    """The record of the model or report that it is part of."""
    claims: list[Claim] = field(default_factory=list)
    spoiled: Verdict | None = None
    """Of a record that cannot be used: why."""


@command(TOOL, example="lnq-check cropped labels model predicted")
@click.argument("paths", nargs=-1, required=True, metavar="DIR|FILE...", type=PATH)
@option(
    "--inputs",
    multiple=True,
    type=Pair("MADE=DIR"),
    help="The images in MADE were made from those of DIR: there an input of a case's name, but of "
    "another content, has changed; may be given several times.",
)
@option(
    "--bad",
    is_flag=True,
    help="Leave out of the table what does not count against the exit status.",
)
@option(
    "--strict",
    is_flag=True,
    help="What is unknown, or whose inputs have changed, counts against the exit status, too.",
)
@FORMAT_OPTION
@TABLE_OUTPUT_OPTION
@FORCE_OPTION
@JOBS_OPTION
@VOICE_OPTIONS[0]
@VOICE_OPTIONS[1]
def main(
    paths: tuple[str, ...],
    inputs: Pairs,
    bad: bool,
    strict: bool,
    form: str,
    table: str,
    force: bool,
    jobs: int,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compare files with what the records in them and beside them say.

    Images, models and reports are looked for in each DIR and in its folders, and so are lists of
    sha256sum (.sha256), as the workflow leaves them. The table has a row per file: whole, changed,
    missing or unknown, because nothing says what should be in it.
    """
    if "" in paths:
        raise click.UsageError("a path is empty (an unset variable?)")
    for folder in (folder for pair in inputs for folder in pair):
        if not Path(folder).is_dir():
            raise click.UsageError(f"--inputs {folder}: no such directory")
    tally = Tally(strict)
    things = things_of(list(_files_at(paths, tally)))
    check_table_place(table, [str(thing.path) for thing in things], replace=force)
    teller = Teller(TOOL, quiet=quiet)

    def rows() -> Iterator[Row]:
        work = partial(_checked, inputs=_inputs_among(things, inputs))
        for number, checked in enumerate(_worked_through(work, things, jobs), start=1):
            if tally.counts_against(checked) or not bad:
                yield checked.row
            if checked.traceback and verbose:
                show_traceback(checked.traceback)
            if number < len(things):
                teller.tell(f"{number} of {len(things)}")

    write_table(rows(), table, form, COLUMNS, replace=force, follow=force)
    clear_progress()
    if not quiet:
        say(TOOL, str(tally))
    if tally.failed:
        raise click.exceptions.Exit(1)


class Checked(NamedTuple):
    """The row of a thing, whether it could not be read, and where an accident was."""

    row: Row
    unreadable: bool = False
    traceback: str | None = None


class Tally:
    """What was found so far, and whether anything of it is wrong.

    Parameters
    ----------
    strict : bool
        Whether what is unknown, and what has other inputs now, is wrong, too.
    """

    def __init__(self, strict: bool):
        self.failed = False
        self._strict = strict
        self._counts: Counter[str] = Counter()

    def complain(self, message: str, path: str | Path) -> None:
        """Tell what could not be checked, which is wrong."""
        self.failed = True
        say(TOOL, message, path)

    def counts_against(self, checked: Checked) -> bool:
        """Count a thing; tell whether it is wrong."""
        state, stale = checked.row["state"], checked.row["inputs"] == "changed"
        self._counts[state] += 1
        self._counts["stale"] += stale
        if checked.unreadable:
            self.complain(checked.row["why"], checked.row["path"])
        wrong = state in ("changed", "missing") or checked.unreadable
        wrong |= self._strict and (state == "unknown" or stale)
        self.failed |= wrong
        return wrong

    def __str__(self) -> str:
        """Return ``5 whole, 1 changed, 0 missing, 2 unknown``, and whether inputs changed."""
        states = ("whole", "changed", "missing", "unknown")
        parts = [f"{self._counts[state]} {state}" for state in states]
        if stale := self._counts["stale"]:
            parts.append(f"{stale} made from what has changed since")
        return ", ".join(parts)


def _files_at(paths: Iterable[str], tally: Tally) -> Iterator[Path]:
    """Yield the files at some paths, without hidden ones in folders."""

    def complain(error: OSError) -> None:
        tally.complain(_why(error), error.filename)

    for place in paths:
        if not os.path.isdir(place):  # noqa: PTH112  as everywhere where paths are words
            if os.path.lexists(place):
                yield Path(place)
            else:
                tally.complain("no such file or directory", place)
            continue
        empty = True
        for path in files_below(place, complain):
            if not path.name.startswith("."):
                empty = False
                yield path
        if empty:
            tally.complain("holds no file to check", place)


def _why(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def things_of(files: Sequence[Path]) -> list[Thing]:
    """Return what is to be checked: files, and what their records name, each once, by its path.

    A file that links lead to is called by its own path, if that is among them. Records that can
    be used are not things themselves.
    """
    from lnqtools.integrity.claims import LIST, claims_of, kind_of_record
    from lnqtools.integrity.verdicts import CHANGED, UNKNOWN, Verdict

    by_place: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (path.is_symlink(), str(path))):
        by_place.setdefault(os.path.realpath(path), path)
    records = {
        place: kind
        for place, path in by_place.items()
        if (kind := kind_of_record(path)) and path.is_file()  # a pipe would wait
    }
    claims: dict[str, list[Claim]] = {}
    spoiled: dict[str, Verdict] = {}
    for record in records:
        try:
            for claim in claims_of(by_place[record]):
                place = os.path.realpath(claim.path)
                by_place.setdefault(place, claim.path)
                claims.setdefault(place, []).append(claim)
        except LnqError as error:
            spoiled[record] = Verdict(CHANGED, str(error))
        except OSError as error:
            spoiled[record] = Verdict(UNKNOWN, _why(error), unreadable=True)
    owner_of = _owners(record for record, kind in records.items() if kind != LIST)
    things = []
    for place, path in by_place.items():
        if place in records and not (place in claims or place in spoiled):
            continue
        owner = owner_of(place)
        kind = records.get(place) or (records[owner] if owner else _kind_of(path))
        above = by_place[owner] if owner else None
        things.append(Thing(path, kind, above, claims.get(place, []), spoiled.get(place)))
    return sorted(things, key=lambda thing: str(thing.path))


def _owners(records: Iterable[str]) -> Callable[[str], str | None]:
    """Return what finds the record of the model or report that a file is part of."""
    by_folder = {os.path.dirname(record): record for record in records}  # noqa: PTH120

    @cache
    def owner_of(place: str) -> str | None:
        folder = os.path.dirname(place)  # noqa: PTH120
        return by_folder.get(folder) or (None if folder == place else owner_of(folder))

    return owner_of


def _kind_of(path: Path) -> str:
    """Return of what kind a file is by its name."""
    from lnqtools.images.volume import image_suffix
    from lnqtools.integrity.verdicts import FILE, IMAGE

    return IMAGE if image_suffix(path) or path.suffix.lower() == ".dcm" else FILE


def _inputs_among(things: Iterable[Thing], folders: Pairs) -> Inputs:
    """Return where inputs are looked for: among what is checked, and in folders."""
    from lnqtools.cli._inputs import Inputs
    from lnqtools.images.volume import image_suffix
    from lnqtools.integrity.claims import MODEL

    images = [thing.path for thing in things if image_suffix(thing.path)]
    models = {thing.owner.parent for thing in things if thing.kind == MODEL and thing.owner}
    return Inputs(images, folders, models)


def _worked_through(work: Any, things: Sequence[Thing], jobs: int) -> Iterator[Checked]:
    """Yield what became of all things, in order."""
    if jobs == 1 or len(things) < 2:
        yield from map(work, things)
        return
    for thing, found in zip(things, in_children(work, things, jobs), strict=True):
        lost = isinstance(found, WorkerLostError)
        yield Checked(_row(thing, "unknown", why=str(found)), True) if lost else found


def _checked(thing: Thing, inputs: Inputs) -> Checked:
    """Return what became of a thing."""
    from lnqtools.integrity.verdicts import judge

    try:
        verdict = thing.spoiled or judge(thing.path, thing.kind, thing.claims)
        found = _inputs_of(thing, verdict, inputs)
    except Exception as error:  # noqa: BLE001  an accident must not stop the others
        row = _row(thing, "unknown", why=accident(error))
        return Checked(row, True, traceback.format_exc())
    made = next(((c.tool, c.version) for c in thing.claims if c.tool), ("", ""))
    if verdict.record:
        made = str(verdict.record.get("tool", "")), str(verdict.record.get("version", ""))
    words = {one.word for one in found}
    word = next((word for word in ("changed", "not found", "same") if word in words), "")
    stale = [f"was made from another {one.what}" for one in found if one.word == "changed"]
    why = "; ".join(filter(None, [verdict.why, *stale]))
    return Checked(_row(thing, verdict.state, word, *made, why=why), verdict.unreadable)


def _inputs_of(thing: Thing, verdict: Verdict, inputs: Inputs) -> list[Found]:
    """Return what became of what an image, or the weights of a model, were made from."""
    from lnqtools.cli._inputs import of_model

    if verdict.record is not None:
        return inputs.of_image(thing.path, verdict.record)
    if thing.path.suffix == ".pth" and thing.kind == "model" and thing.owner is not None:
        return of_model(thing.owner)
    return []


def _row(
    thing: Thing, state: str, inputs: str = "", tool: str = "", version: str = "", *, why: str
) -> Row:
    values = (str(thing.path), thing.kind, state, inputs, tool, version, why)
    return {name: value or None for name, value in zip(COLUMNS, values, strict=True)}
