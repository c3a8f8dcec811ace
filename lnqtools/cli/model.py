"""lnq-model: trained models by name: what is known of them, fetched, verified, described."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnqtools.cli._contract import VOICE_OPTIONS
from lnqtools.cli._rules import option
from lnqtools.cli._tool import (
    ToolGroup,
    about,
    after_ctrl_c,
    clear_progress,
    command,
    emit,
    help_end,
    say,
    show_progress,
)
from lnqtools.cli._values import PATH
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    from lnqtools.models.catalogue import Entry
    from lnqtools.models.store import Fetched

TOOL = "lnq-model"
COLUMNS = ("name", "version", "license", "mb", "state", "title")

CATALOGUE_OPTION = option(
    "--catalogue",
    "catalogues",
    multiple=True,
    metavar="FILE|URL",
    help="Another catalogue, whose models go before those that come with lnqtools; may be given "
    "several times.",
)
NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME...")


@command(
    TOOL,
    ToolGroup,
    example="lnq-model fetch mediastinal-v1",
    no_args_is_help=False,
    subcommand_metavar="COMMAND [ARGS]...",
)
def main() -> None:
    """List, fetch and verify published models, and describe your own.

    What was fetched is a model for lnq-infer -m NAME. Each COMMAND has arguments and options of
    its own: lnq-model COMMAND --help.
    """


def voiced(function: Callable) -> Callable:
    """Give a command the options of the voice."""
    for each in reversed(VOICE_OPTIONS):
        function = each(function)
    return function


@main.command("list", epilog=help_end("lnq-model list"))
@CATALOGUE_OPTION
@voiced
def list_models(catalogues: tuple[str, ...], quiet: bool, verbose: bool) -> None:
    """List the models of the catalogues, and those that were fetched, as a table."""
    known = _read(catalogues)
    emit("\t".join(COLUMNS), cells=True)
    shown: set[str] = set()
    for entries in known:
        for entry in entries:
            if entry.name not in shown:
                shown.add(entry.name)
                emit("\t".join(_row(entry)), cells=True)


def _row(entry: Entry) -> list[str]:
    """Return what the list says of a model."""
    size = f"{entry.size / 1e6:.1f}" if entry.size else ""
    said = [entry.line("license") or "", size, _state(entry), entry.line("title") or ""]
    return [entry.name, entry.version, *said]


def _state(entry: Entry) -> str:
    """Return in a word or two whether a model is here."""
    from lnqtools.models.store import home, read_fetched

    try:
        fetched = read_fetched(home() / entry.name)
    except LnqError:
        return "damaged"
    if fetched is None:
        return "no files known" if entry.why_not() else "not fetched"
    if not fetched.is_of(entry):
        return f"another fetched: {fetched.entry.version}"
    return "damaged" if fetched.flaw(thorough=False) else "fetched"


@main.command("info", epilog=help_end("lnq-model info mediastinal-v1"))
@NAMES
@CATALOGUE_OPTION
@voiced
def info(names: tuple[str, ...], catalogues: tuple[str, ...], quiet: bool, verbose: bool) -> None:
    """Show what is known of models: license, labels, what not to test on, files."""
    entries = _find(names, catalogues)
    for number, entry in enumerate(entries):
        if number:
            emit("")
        for line in _lines(entry):
            emit(line)


def _lines(entry: Entry) -> list[str]:
    """Return all that is known of a model, one thing a line."""
    from lnqtools.models.catalogue import LINES
    from lnqtools.models.store import home

    said = {words: entry.line(key) or "not stated" for key, words in LINES.items()}
    reason = entry.why_not()
    known = {
        "name": entry.name,
        "version": entry.version,
        **said,
        "catalogue": entry.place,
        "state": f"{_state(entry)}{f': {reason}' if reason else ''}",
        "folder": str(home() / entry.name),
    }
    lines = [f"{words}: {value}" for words, value in known.items()]
    lines += [f"training case: {' '.join(name.split())}" for name in entry.training_cases]
    for part in entry.parts:
        size = "of unknown size" if part.size is None else f"{part.size} bytes"
        lines.append(f"file: {part.url or part.path}, {size}, SHA-256 {part.sha256 or 'unknown'}")
    return lines


@main.command("fetch", epilog=help_end("lnq-model fetch mediastinal-v1"))
@NAMES
@CATALOGUE_OPTION
@option("-f", "--force", is_flag=True, help="Replace another model of that name.")
@voiced
def fetch_models(
    names: tuple[str, ...],
    catalogues: tuple[str, ...],
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Fetch models over the network, or what of them is damaged, and verify every file."""
    from lnqtools.models.store import fetch

    failed = False
    for entry in _find(names, catalogues):
        try:
            if not quiet and entry.why_not() is None:
                say(TOOL, f"{entry}: {entry.terms()}")
            with after_ctrl_c(TOOL, lambda: "the same command goes on", quiet):
                folder = fetch(entry, partial(_show, entry, quiet), force=force)
            clear_progress()
            emit(str(folder))
        except LnqError as error:
            say(TOOL, str(error), entry.name)
            failed = True
    if failed:
        raise click.exceptions.Exit(1)


def _show(entry: Entry, quiet: bool, number: int, done: int) -> None:
    """Show how far the file at work is."""
    if not quiet:
        size = entry.parts[number].size or done
        show_progress(
            f"{TOOL}: {entry.name}: file {number + 1} of {len(entry.parts)}: "
            f"{done / 1e6:.1f} of {size / 1e6:.1f} MB"
        )


@main.command("verify", epilog=help_end("lnq-model verify mediastinal-v1"))
@click.argument("models", nargs=-1, metavar="[NAME|DIR|ZIP]...", type=PATH)
@CATALOGUE_OPTION
@voiced
def verify(
    models: tuple[str, ...], catalogues: tuple[str, ...], quiet: bool, verbose: bool
) -> None:
    """Verify that models are whole: by the catalogue's hashes, or by what they say themselves.

    Without a name, all models that were fetched.
    """
    from lnqtools.models.store import fetched_names, home

    known = _read(catalogues)
    places = models or [str(home() / name) for name in fetched_names()]
    if not places:
        raise click.UsageError("no model was fetched yet: name one, or a folder")
    failed = False
    for place in places:
        try:
            emit(_verify(place, known, quiet))
        except LnqError as error:
            say(TOOL, str(error))
            failed = True
    if failed:
        raise click.exceptions.Exit(1)


def _verify(model: str, catalogues: Sequence[Sequence[Entry]], quiet: bool) -> str:
    """Return the path of a model; raise LnqError if it is not whole."""
    from lnqtools.models.describe import check_whole
    from lnqtools.models.store import read_fetched, resolve

    place = resolve(model)
    with about(place):
        fetched = read_fetched(Path(place))
        if fetched is None:
            hashes = check_whole(Path(place))
        else:
            hashes = True
            _verify_fetched(fetched, catalogues)
    if not hashes and not quiet:
        say(TOOL, "no hashes are known of it: it is whole by its own checksums", place)
    return place


def _verify_fetched(fetched: Fetched, catalogues: Sequence[Sequence[Entry]]) -> None:
    """Raise LnqError if a fetched model is not what a catalogue says, or was not so."""
    from lnqtools.models.catalogue import find_entry

    name = fetched.entry.name
    entry = find_entry(name, catalogues)
    if entry is not None and not entry.why_not() and not fetched.is_of(entry):
        raise LnqError(
            f"is {fetched.entry} of {fetched.entry.place}, and {entry.place} has other files for "
            f"{entry}: lnq-model fetch -f {name} replaces it"
        )
    if (flaw := fetched.flaw(thorough=True)) is not None:
        raise LnqError(f"{flaw}: lnq-model fetch {name} repairs it")


@main.command("describe", epilog=help_end("lnq-model describe model --license 'CC BY 4.0'"))
@click.argument("model", metavar="DIR|ZIP", type=PATH)
@option("--name", metavar="NAME", help="Name of the model.  [default: the folder's]")
@option("--model-version", "version", default="1", metavar="TEXT", help="Its version.")
@option("--license", "license_", metavar="TEXT", help="Its license.")
@voiced
def describe_model(
    model: str,
    name: str | None,
    version: str,
    license_: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write a catalogue with the entry of a trained model, to publish it.

    The catalogue belongs beside the model, on any server of files.
    """
    from lnqtools.models.describe import describe

    with about(model):
        entry = describe(Path(model), name, version, license_)
    emit(json.dumps({"models": [entry]}, indent=2))
    if not quiet:
        for note in _left_to_do(entry):
            say(TOOL, note)


def _left_to_do(entry: Mapping[str, Any]) -> Iterator[str]:
    """Say what is left to do before an entry is handed on."""
    empty = [key for key in ("license", "citation") if entry[key] is None]
    yield f"for you to fill in: {', '.join(empty)}"
    if entry["training_cases"]:
        yield "it names the training cases: look whether these names may be handed on"


def _read(catalogues: Sequence[str]) -> list[list[Entry]]:
    """Return the entries of the catalogues: those given, lnqtools' own, and of what was fetched."""
    from lnqtools.models.catalogue import read_catalogue
    from lnqtools.models.store import fetched_models

    of_fetched = [fetched.entry for fetched in fetched_models()]
    return [*map(read_catalogue, catalogues), read_catalogue(), of_fetched]


def _find(names: Sequence[str], catalogues: Sequence[str]) -> list[Entry]:
    """Return the entries of models by their names."""
    from lnqtools.models.catalogue import find_entry

    known = _read(catalogues)
    found = []
    for name in names:
        entry = find_entry(name, known)
        if entry is None:
            raise click.UsageError(
                f"no catalogue has a model {name}: lnq-model list shows those there are, and "
                "--catalogue names another catalogue"
            )
        found.append(entry)
    return found
