"""What cases are called, and which files are theirs by their names."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from unicodedata import normalize

import click

from lnqtools.cli._values import Formed
from lnqtools.errors import os_errors

STREAM = "-"
BY_FOLDER = "([^/]+)/[^/]*$"
"""The pattern that calls a case as the folder that its file is in."""
MAX_NEAR = 3
_CHANNEL = re.compile(r"(.*)_([0-9]{4})\.[^/]*")
MAX_COMPARED = 1000
"""Names among which one is looked for: for each case without companion, which may be all."""
MANY_NAMES = 100
"""Of a folder: from so many on it is listed, which may cost more than a look at each."""


class CasePattern(Formed):
    """A regular expression that finds the name of a case in a path."""

    name = "regex"
    form = "REGEX"

    def parse(self, value: str, param, ctx):
        r"""Compile ``case_\d+``."""
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is not a regular expression: {error}", param, ctx)


@cache
def _suffixes() -> Callable[[str], str]:
    """Return what finds the suffix of an image; an import takes longer than that of one name."""
    from lnqtools.images.volume import image_suffix

    return image_suffix


def not_plain_files(paths: Iterable[str]) -> Iterator[str]:
    """Yield some paths, less those that are plain files as their folders' lists say.

    A folder of which many are asked is listed: to look at each of 100 000 takes several times as
    long.
    """
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        by_folder.setdefault(folder + slash, []).append(name)
    for folder, names in by_folder.items():
        plain = _plain_files(folder or ".") if len(names) >= MANY_NAMES else set()
        yield from (folder + name for name in names if name not in plain)


def _plain_files(folder: str) -> set[str]:
    """Return the names of a folder's files, without links; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    except OSError:  # what is wrong with it is said later
        return set()


def case_name(path: str, pattern: re.Pattern[str] | None = None) -> str:
    """Return the name of a case, from the path of its file.

    That is the file's name without its image suffix and nnU-Net's ``_0000``; or what a pattern
    finds in the path: its group ``case``, else its first group that matches, else all of the
    match. The name is empty where the pattern finds nothing, or more than a name: a slash.
    """
    if path == STREAM:
        return "stdin"
    if pattern is None:
        name = path.rpartition("/")[2]
        if name in ("", "."):
            name = Path(path).name
        return name.removesuffix(_suffixes()(name)).removesuffix("_0000") or name
    found = pattern.search(path)
    if found is None:
        return ""
    groups = [found["case"]] if "case" in pattern.groupindex else [*found.groups(), found[0]]
    name = next(filter(None, groups), "")
    return "" if "/" in name else name


def name_of(path: str, pattern: re.Pattern[str] | None) -> str:
    """Return the name of a case, or raise click.UsageError where --case-pattern finds none.

    See `case_name`.
    """
    name = case_name(path, pattern)
    if not name and pattern is not None:
        raise click.UsageError(
            f"--case-pattern {pattern.pattern} finds no name in {path} (a name has no slash)"
        )
    return name


def same_name(name: str) -> str:
    """Return one spelling for names that read the same: an accent may be one character or two."""
    return normalize("NFC", name)


@cache
def files_by_case(folder: str, pattern: re.Pattern[str] | None = None) -> dict[str, list[Path]]:
    """Return the images of a directory by case name, in one spelling.

    With a pattern these are the images in its folders too, as far as the pattern finds a name.
    """
    from lnqtools.images.volume import image_suffix

    found: dict[str, list[Path]] = {}
    with os_errors(f"{folder} cannot be read"):
        paths = sorted(Path(folder).iterdir() if pattern is None else files_below(folder))
    for path in paths:
        is_image = image_suffix(path) and not path.name.startswith(".")
        if is_image and (name := case_name(str(path), pattern)):
            found.setdefault(same_name(name), []).append(path)
    return found


@cache
def folders_by_case(folder: str) -> dict[str, list[Path]]:
    """Return the folders in a directory by case name, in one spelling, without hidden ones."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            found.setdefault(same_name(case_name(path.name)), []).append(path)
    return found


def images_in(folder: str, pattern: re.Pattern[str] | None = None) -> list[str]:
    """Return the images of a directory, sorted; LnqError if it cannot be read.

    See `files_by_case`.
    """
    return sorted(str(path) for of in files_by_case(folder, pattern).values() for path in of)


def refuse_channels(images: Iterable[str]) -> None:
    """Raise click.UsageError if images differ in their last digits alone, of which one has 0000.

    nnU-Net calls the channels of a case so, and a second channel is not a case.

    Parameters
    ----------
    images : iterable of str
        Paths, sorted.
    """
    first: dict[str, str] = {}
    for image in images:  # that of 0000 comes before its others
        if found := _CHANNEL.fullmatch(image):
            name, number = found.groups()
            if number == "0000":
                first[name] = image
            elif name in first:
                raise click.UsageError(
                    f"{first[name]} and {image} look like channels of one case: name those that "
                    "are meant, as *_0000.nii.gz, or say --case-pattern '[^/]+_[0-9]{4}' if each "
                    "is a case"
                )


def why_no_image(folder: str, pattern: re.Pattern[str] | None = None) -> str:
    """Say why a directory that is an input stands for no image."""
    if holds_dicom(folder):
        return "is a directory of DICOM files: lnq-dicom makes images or masks of it"
    if pattern is not None:
        return "is a directory without an image whose path --case-pattern fits"
    why = "is a directory without images (.nii.gz, .nii, .nrrd, .mha, ...)"
    deeper = any(path.is_dir() and images_in(str(path)) for path in Path(folder).iterdir())
    return f"{why}; --case-pattern '{BY_FOLDER}' takes those of its folders" if deeper else why


def holds_dicom(folder: str) -> bool:
    """Tell whether a directory, or a folder in it, has a DICOM file."""
    from lnqtools.files.foreign import HEAD_BYTES, is_dicom

    for path in files_below(folder):
        with suppress(OSError):
            if path.is_file():  # a pipe would wait
                with path.open("rb") as stream:
                    if is_dicom(stream.read(HEAD_BYTES)):
                        return True
    return False


def _raise(error: OSError) -> None:
    raise error


def files_below(folder: str, onerror: Callable[[OSError], None] = _raise) -> Iterator[Path]:
    """Yield the files in a directory and in its folders, but not in hidden ones.

    What cannot be listed is an error, or is told to ``onerror``.
    """
    seen: set[object] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=onerror):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (identity := inode_of(place)) in seen:  # a link to one above
            folders.clear()
            continue
        seen.add(identity)
        yield from (Path(place, name) for name in files)


def near_names(name: str, others: Collection[str]) -> list[str]:
    """Return a few of the names that hold a name or lie in it, else of those spelled like it.

    Another number is another case, and not near.
    """
    if len(others) > MAX_COMPARED:
        return []
    inside = [other for other in others if _is_in(other, name) or _is_in(name, other)]
    if inside:
        return sorted(inside, key=lambda other: abs(len(other) - len(name)))[:MAX_NEAR]
    alike = [other for other in others if _numbers_in(other) == _numbers_in(name)]
    return get_close_matches(name, alike, MAX_NEAR)


def _numbers_in(name: str) -> list[str]:
    """Return the numbers in a name, without zeros before them."""
    return [number.lstrip("0") for number in re.findall(r"\d+", name)]


def _is_in(part: str, name: str) -> bool:
    """Tell whether a name lies in another, and not a number in a longer one."""
    before = r"(?<!\d)" if part[0].isdecimal() else ""
    after = r"(?!\d)" if part[-1].isdecimal() else ""
    return part in name and re.search(before + re.escape(part) + after, name) is not None


def naming_hint(one: str, other: str) -> str:
    """Say how two inputs of one name in different folders get names of their own."""
    folders = Path(one).absolute().parent, Path(other).absolute().parent
    if folders[0] == folders[1]:
        return ""
    if "/" in one and "/" in other and folders[0].name != folders[1].name:
        return f"; --case-pattern '{BY_FOLDER}' names them by their folders"
    return "; --case-pattern REGEX names them by more of their paths"


def inode_of(path: str | Path) -> tuple[int, int] | None:
    """Return what all paths and links to a file have in common, None if there is no such file."""
    try:
        status = os.fstat(sys.stdin.fileno()) if str(path) == STREAM else Path(path).stat()
    except (OSError, ValueError, AttributeError):  # standard input may be closed
        return None
    return status.st_dev, status.st_ino


def is_one_file(path: str | Path, other: str | Path) -> bool:
    """Tell whether two paths lead to one file."""
    identity = inode_of(path)
    return identity is not None and identity == inode_of(other)
