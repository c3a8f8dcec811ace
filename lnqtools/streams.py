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
from isal.isal_zlib import IsalError, crc32

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


class Digested(io.BufferedIOBase):
    """A stream that keeps a digest of what was read of it: its CRC-32, and how long it is."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self._crc = self.length = 0

    @property
    def digest(self) -> str:
        """What tells these bytes apart from others."""
        return f"{self._crc:08x}-{self.length}"

    def read(self, size=-1, /) -> bytes:
        """Read as many bytes, or to the end."""
        content = self._stream.read(size)
        self._add(content)
        return content

    def readinto(self, buffer, /) -> int:
        """Read into a buffer; return the number of bytes."""
        count = self._stream.readinto(buffer)
        self._add(memoryview(buffer)[:count])
        return count

    def _add(self, content) -> None:
        self._crc = crc32(content, self._crc)
        self.length += len(content)


def digest_to_end(stream: Stream, most: int | None = None) -> str:
    """Return the digest of a stream, which is read to its end, or till it is longer than that."""
    digested = Digested(stream)
    while digested.read(CHUNK) and (most is None or digested.length <= most):
        pass
    return digested.digest


def read_to_end(stream: Stream) -> int:
    """Read to the end, where gzip's length and checksum are; return the bytes found there."""
    extra = 0
    while content := stream.read(CHUNK):
        extra += len(content)
        if extra > MAX_EXTRA_BYTES:
            raise LnqError("holds far more data than its header says")
    return extra
