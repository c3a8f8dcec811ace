"""Files fetched from a URL: whole and the right ones, or not at all; what broke off goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lnqtools import __version__
from lnqtools.errors import LnqError, os_errors
from lnqtools.files.sums import sha256_of

SCHEMES = ("http", "https", "file")
TIMEOUT_S = 60.0
BLOCK = 1 << 20
LARGEST_CATALOGUE = 16 << 20
BEYOND_THE_END = 416
"""What a server answers that has no more bytes than were asked to be left out."""


def read_url(url: str) -> bytes:
    """Return what a URL serves, if that is short, as a catalogue.

    Raises
    ------
    LnqError
        If it cannot be had, or is too long.
    """
    with _opened(url) as response:
        content: bytes = response.read(LARGEST_CATALOGUE + 1)
    if len(content) > LARGEST_CATALOGUE:
        raise LnqError(f"{url} is longer than any catalogue")
    return content


def fetch_file(url: str, target: Path, size: int, sha256: str, tell: Callable[[int], None]) -> None:
    """Fetch a file of which size and hash are known.

    What an earlier try left in ``target.part`` is gone on from, where the server can do that. If
    the whole is wrong then, it is fetched once more from the beginning.

    Parameters
    ----------
    url : str
    target : Path
        Gets its name once all is right.
    size : int
        Bytes.
    sha256 : str
    tell : callable
        Is told how many bytes are there.

    Raises
    ------
    LnqError
        If it breaks off, or is not the file that it should be; nothing wrong is kept.
    """
    half = target.with_name(f"{target.name}.part")
    with os_errors(f"cannot write {half}"):
        begun = half.stat().st_size if half.is_file() else 0
    for start in [begun, 0] if 0 < begun <= size else [0]:
        with half.open("r+b" if start else "wb") as file:
            try:
                _fetch(url, file, start, size, tell)
            except WrongFileError:
                file.truncate(0)
                raise
            except LnqError as error:
                there = file.seek(0, os.SEEK_END)
                done = f"{there / 1e6:.1f} of {size / 1e6:.1f} MB are there"
                way_on = f"; {done}, and the same command goes on from them" if there else ""
                raise LnqError(f"{error}{way_on}") from None
        if sha256_of(half) == sha256:
            half.replace(target)
            return
    half.unlink()
    raise WrongFileError(
        f"{url} is not the file of the catalogue: its SHA-256 is another, so it is damaged or "
        "swapped; nothing of it was kept"
    )


class WrongFileError(LnqError):
    """What a URL serves is not what a catalogue says."""


def _fetch(url: str, file: BinaryIO, start: int, size: int, tell: Callable[[int], None]) -> None:
    """Write what a URL serves to a file, from a byte on."""
    if start == size:
        return
    with _opened(url, start) as response:
        begins = start if getattr(response, "status", None) == 206 else 0
        length = response.headers.get("Content-Length")
        if length is not None and length.isdecimal() and begins + int(length) != size:
            raise WrongFileError(_other_size(url, f"{begins + int(length)} bytes", size))
        file.seek(begins)
        file.truncate()
        done = begins
        tell(done)
        while done < size and (block := response.read(min(BLOCK, size - done))):
            with os_errors(f"cannot write {file.name}"):
                file.write(block)
            done += len(block)
            tell(done)
        if done == start > 0:  # what an earlier try took for broken off was the end
            raise WrongFileError(_other_size(url, f"{done} bytes", size))
        if done < size:
            raise LnqError(f"{url} broke off")
        if response.read(1):
            raise WrongFileError(_other_size(url, "more", size))


def _other_size(url: str, found: str, size: int) -> str:
    return (
        f"{url} has {found} instead of the {size} bytes of the catalogue: it is cut off or another "
        "file; nothing of it was kept"
    )


@contextmanager
def _opened(url: str, start: int = 0) -> Iterator[Any]:
    """Open what a URL serves, from a byte on if the server can; its errors become LnqError."""
    import http.client
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": f"lnqtools/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = Request(url, headers=headers)
        with urlopen(request, timeout=TIMEOUT_S) as response:
            yield response
    except HTTPError as error:
        error.close()
        if error.code == BEYOND_THE_END:
            raise WrongFileError(
                f"{url} has no more than {start} bytes, fewer than the catalogue says: it is cut "
                "off or another file; nothing of it was kept"
            ) from None
        raise LnqError(f"{url} cannot be fetched: {error.code} {error.reason}") from None
    except URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise LnqError(f"{url} cannot be fetched: {reason}") from None
    except (http.client.HTTPException, ValueError) as error:  # the latter of what is no URL
        raise LnqError(f"{url} cannot be fetched: {type(error).__name__} {error}") from None
    except OSError as error:
        raise LnqError(f"{url} cannot be fetched: {error.strerror or error}") from None
