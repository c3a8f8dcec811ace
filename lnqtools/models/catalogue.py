"""Catalogues of trained models: JSON files that say what a model is and where its files are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from lnqtools.errors import LnqError, os_errors
from lnqtools.files.records import leads_out
from lnqtools.models.download import SCHEMES, read_url

MODELS = "models"
"""Under this name a catalogue has its entries."""
RECEIPT = "lnq-model.json"
"""In a fetched model's folder: its entry, and the hash of each file as it came."""
SHIPPED = "the catalogue of lnqtools"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What a model may be called: the name is that of its folder, too."""
HASH = r"[0-9a-f]{64}"
LINES = {
    "title": "title",
    "license": "license",
    "labels": "labels",
    "channels": "channels",
    "training_count": "training cases",
    "do_not_test_on": "do not test on",
    "citation": "citation",
    "source": "source",
}
"""What an entry may say for people, in this order, and under which words it is shown."""


@dataclass(frozen=True)
class Part:
    """A file that a model, or a piece of it, comes in.

    Parameters
    ----------
    url, sha256, size
        None where it is not known.
    path : str or None
        Where it goes in the model's folder; None for a zip archive that is unpacked there.
    """

    url: str | None
    sha256: str | None
    size: int | None
    path: str | None

    def recorded(self) -> dict[str, Any]:
        """Return the part as a catalogue has it."""
        how = {"unpack": True} if self.path is None else {"path": self.path}
        known = {"url": self.url, "sha256": self.sha256, "size": self.size, **how}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Entry:
    """What a catalogue says of a model.

    Parameters
    ----------
    name, version : str
    said : mapping
        All that stands there.
    parts : sequence of Part
    place : str
        The catalogue.
    """

    name: str
    version: str
    said: Mapping[str, Any]
    parts: Sequence[Part]
    place: str

    def recorded(self) -> dict[str, Any]:
        """Return the entry as another catalogue could have it, wherever that lies."""
        return {**self.said, "files": [part.recorded() for part in self.parts]}

    def __str__(self) -> str:
        """Return name and version."""
        return f"{self.name} {self.version}"

    @property
    def size(self) -> int:
        """Return how many bytes its files have, as far as it is known."""
        return sum(part.size or 0 for part in self.parts)

    def line(self, key: str) -> str | None:
        """Return what it says under a key, in one line; None where it says nothing."""
        value = self.said.get(key)
        if key == "training_count" and value is None and self.training_cases:
            value = len(self.training_cases)
        if value in (None, "", [], {}):
            return None
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number}" for name, number in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        return " ".join(str(value).split())

    @property
    def training_cases(self) -> list[str]:
        """Return the cases that it was trained on, where they are named."""
        cases = self.said.get("training_cases")
        return list(map(str, cases)) if isinstance(cases, list) else []

    def terms(self) -> str:
        """Return in one line what whoever uses the model must know."""
        license_ = self.line("license") or "not stated: ask its makers"
        avoid = self.line("do_not_test_on")
        if avoid is None:
            number = self.line("training_count")
            avoid = f"its training cases{f' ({number})' if number else ''}"
        return f"license: {license_}; do not test on {avoid}"

    def why_not(self) -> str | None:
        """Say why the model cannot be fetched and verified, or return None if it can."""
        unknown = [
            what
            for what, values in (
                ("where its files are", [part.url for part in self.parts] or [None]),
                ("their hashes", [part.sha256 for part in self.parts]),
                ("their sizes", [part.size for part in self.parts]),
            )
            if None in values
        ]
        if not unknown:
            return None
        source = self.line("source")
        get_it = f"get it from {source}" if source else "get it from its makers"
        return (
            f"{self.place} does not say {' or '.join(unknown)}, so it can be shown, but neither "
            f"fetched nor verified: {get_it} and give its folder to -m"
        )


def read_catalogue(place: str | None = None) -> list[Entry]:
    """Read a catalogue.

    Parameters
    ----------
    place : str, optional
        A file, or a URL that begins with http, https or file. Without it, the one that comes with
        the package.

    Raises
    ------
    LnqError
        If it cannot be read, or is not one.
    """
    if place is None:
        text = files("lnqtools").joinpath("data", "models.json").read_bytes()
        return list(_entries(text, SHIPPED, ""))
    if is_url(place):
        return list(_entries(read_url(place), place, place))
    with os_errors(place):
        text = Path(place).read_bytes()
    return list(_entries(text, place, Path(place).absolute().as_uri()))


def is_url(place: str) -> bool:
    """Tell whether a place is a URL that can be read."""
    return place.lower().startswith(tuple(f"{scheme}:" for scheme in SCHEMES))


def find_entry(name: str, catalogues: Iterable[Sequence[Entry]]) -> Entry | None:
    """Return the entry of a name in the first catalogue that has it."""
    return next((e for entries in catalogues for e in entries if e.name == name), None)


def parse_entry(said: Any, place: str, base: str = "") -> Entry:
    """Return an entry of what stands in a catalogue.

    Parameters
    ----------
    said : object
    place : str
        The catalogue, for messages.
    base : str
        The URL that others in the entry are relative to.

    Raises
    ------
    LnqError
        If it is not one.
    """
    given = said.get("name") if isinstance(said, dict) else None
    if not isinstance(given, str) or not re.fullmatch(NAME, given):
        raise LnqError(
            f"{place}: an entry has no name, or one that is not of letters, digits, '.', '-', '_'"
        )
    name, version, listed = given, said.get("version"), said.get("files", [])
    if not isinstance(version, str) or not version.strip():
        raise LnqError(f"{place}: {name} has no version")
    if not isinstance(listed, list):
        raise LnqError(f"{place}: {name}: its files are not a list")
    parts = [_part(part, f"{place}: {name}", base) for part in listed]
    return Entry(name, " ".join(version.split()), said, parts, place)


def _entries(text: bytes, place: str, base: str) -> Iterator[Entry]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LnqError(f"{place} is not a catalogue of models: {error}") from None
    listed = content.get(MODELS) if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise LnqError(f"{place} is not a catalogue of models: it has no list of '{MODELS}'")
    names = set()
    for said in listed:
        entry = parse_entry(said, place, base)
        if entry.name in names:
            raise LnqError(f"{place}: there are two entries for {entry.name}")
        names.add(entry.name)
        yield entry


def _part(said: Any, whose: str, base: str) -> Part:
    """Return a file of an entry."""
    known = said if isinstance(said, dict) else {}
    url, digest, size, path = (known.get(key) for key in ("url", "sha256", "size", "path"))
    if (path is None) != (known.get("unpack") is True):
        raise LnqError(f"{whose}: a file has neither 'path' nor 'unpack', or both")
    if path is not None and (not isinstance(path, str) or not _may_be(path)):
        raise LnqError(f"{whose}: {path!r} is not a path within the model's folder")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch(HASH, digest)):
        raise LnqError(f"{whose}: {digest!r} is not a SHA-256 in lowercase")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise LnqError(f"{whose}: {size!r} is not the size of a file")
    return Part(None if url is None else _address(url, whose, base), digest, size, path)


def _address(url: Any, whose: str, base: str) -> str:
    """Return the URL of a file, whole."""
    try:
        whole = urljoin(base, url) if isinstance(url, str) else repr(url)
        scheme = urlsplit(whole).scheme
    except ValueError:
        raise LnqError(f"{whose}: {url!r} is not a URL") from None
    if scheme not in SCHEMES:
        raise LnqError(f"{whose}: {whole} begins with none of {', '.join(SCHEMES)}")
    if scheme == "file" and base.startswith("http"):
        raise LnqError(f"{whose}: {whole} is a file of this machine, named by another one")
    return whole


def _may_be(path: str) -> bool:
    """Tell whether a file may have a path in a model's folder."""
    return Path(path).name not in ("", RECEIPT) and not leads_out(path)
