"""SHA-256 of files, and lists of them as sha256sum(1) writes and reads them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from lnqtools.errors import LnqError

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *]([^\0]+)", re.DOTALL)
_ESCAPES = {rb"\\": b"\\", rb"\n": b"\n", rb"\r": b"\r"}


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, which is read piece by piece; OSError if it cannot be."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sums(path: str | Path) -> dict[str, str]:
    """Return the files of a list, by their names there, and their SHA-256.

    Raises
    ------
    OSError
        If it cannot be read.
    LnqError
        If a line is not of such a list, or two of them contradict each other.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise LnqError(f"line {number} is not a SHA-256 and a name, as sha256sum writes them")
        escaped, digest, name = found.groups()
        if escaped:
            name = re.sub(rb"\\[\\nr]", lambda one: _ESCAPES[one[0]], name)
        of_file = os.fsdecode(name)
        if sums.setdefault(of_file, digest.decode().lower()) != digest.decode().lower():
            raise LnqError(f"line {number} gives {of_file} another SHA-256 than a line before")
    return sums
