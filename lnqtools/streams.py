"""Files and pipes as streams of bytes, gzipped or not."""

from __future__ import annotations

import io
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from isal import igzip
from isal.isal_zlib import IsalError

from lnqtools.errors import LnqError

GZIP_FIRST_BYTE = b"\x1f"
MAX_DEFLATE_RATIO = 1032
"""No deflate stream unpacks to more than this many times its size."""
MAX_EXTRA_BYTES = 16 << 20
CHUNK = 4 << 20

DAMAGED: tuple[type[Exception], ...] = (
    igzip.BadGzipFile,
    IsalError,  # type: ignore[assignment]
    zlib.error,
)

Stream = io.BufferedIOBase


@contextmanager
def open_input(path: str | Path) -> Iterator[Stream]:
    """Open a regular file, or standard input for '-', and turn its troubles into LnqError."""
    try:
        if str(path) == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise LnqError("standard input is closed or a terminal; pipe an image in")
            yield cast(Stream, sys.stdin.buffer)
            return
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            raise LnqError("is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
        with Path(path).open("rb") as raw:
            yield raw
    except EOFError:
        raise LnqError("ends early: the file is truncated") from None
    except DAMAGED as error:
        raise LnqError(f"the compressed data are damaged ({error})") from None
    except OSError as error:
        raise LnqError(f"cannot be read: {error.strerror or error}") from None


@contextmanager
def unpacked(raw: Stream) -> Iterator[Stream]:
    """Go by the first byte, not by the name, whether a stream is gzipped.

    A pipe may hold no more than one byte yet, and no NIfTI header begins like gzip.
    """
    buffered = (
        raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
    )
    first = buffered.peek(1)[:1]
    if not first:
        raise LnqError("is empty")
    if first == GZIP_FIRST_BYTE:
        with igzip.IGzipFile(fileobj=buffered, mode="rb") as stream:
            yield stream
    else:
        yield buffered


def read_to_end(stream: Stream) -> int:
    """Read to the end, where gzip's length and checksum are; return the bytes found there."""
    extra = 0
    while content := stream.read(CHUNK):
        extra += len(content)
        if extra > MAX_EXTRA_BYTES:
            raise LnqError("holds far more data than its header says")
    return extra
