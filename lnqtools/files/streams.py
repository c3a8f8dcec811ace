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

from isal import igzip_lib
from isal.isal_zlib import IsalError, crc32

from lnqtools.errors import LnqError

GZIP_FIRST_BYTE = b"\x1f"
GZIP_MAGIC = b"\x1f\x8b"
MAX_DEFLATE_RATIO = 1032
"""No deflate stream unpacks to more than this many times its size."""
MAX_EXTRA_BYTES = 16 << 20
CHUNK = 4 << 20
PACKED_CHUNK = 256 << 10

DAMAGED: tuple[type[Exception], ...] = (IsalError, zlib.error)  # type: ignore[assignment]

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
        _require_regular_file(Path(path).stat().st_mode)
        with Path(path).open("rb") as raw:
            yield raw
    except EOFError:
        raise LnqError("ends early: the file is truncated") from None
    except DAMAGED as error:
        raise LnqError(f"the compressed data are damaged ({error})") from None
    except OSError as error:
        raise LnqError(f"cannot be read: {error.strerror or error}") from None


class DirectoryError(LnqError):
    """A directory is where a file should be."""


def _require_regular_file(mode: int) -> None:
    """Raise LnqError for what cannot be read again and again, as images are."""
    if stat.S_ISDIR(mode):
        raise DirectoryError("is a directory")
    if stat.S_ISFIFO(mode):
        raise LnqError(
            "is a pipe: give it on standard input, with - as IMAGE; what an option names must be "
            "a file"
        )
    if not stat.S_ISREG(mode):
        raise LnqError("is not a regular file")


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
    yield io.BufferedReader(_Gunzipped(buffered)) if first == GZIP_FIRST_BYTE else buffered


class _Gunzipped(io.RawIOBase):
    """The content of gzip members one after the other, as gzip(1) gives it.

    Zeros may follow a member. Anything else that is not a member ends the content, and
    ``followed`` says so; isal's own reader takes that for a file that was cut.
    """

    def __init__(self, packed: Stream):
        self._packed = packed
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._ended = False
        self.followed = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ended:
            content = self._unpack(len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0

    def _unpack(self, most: int) -> bytes:
        """Return some of the content, or nothing between members and at the end."""
        if self._member.eof:
            return self._next_member(most)
        packed = self._packed.read(PACKED_CHUNK) if self._member.needs_input else b""
        if self._member.needs_input and not packed:
            raise EOFError
        return self._member.decompress(packed, most)

    def _next_member(self, most: int) -> bytes:
        rest = self._member.unused_data.lstrip(b"\0")
        while len(rest) < len(GZIP_MAGIC) and (more := self._packed.read(PACKED_CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        self._ended = not rest.startswith(GZIP_MAGIC)
        self.followed = self._ended and bool(rest)
        if self._ended:
            return b""
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return self._member.decompress(rest, most)


def notes_of(stream: Stream) -> tuple[str, ...]:
    """Return what is odd about a stream of `unpacked` that was read to its end."""
    raw = getattr(stream, "raw", None)
    if isinstance(raw, _Gunzipped) and raw.followed:
        return ("what follows the compressed data is not gzip, and was ignored",)
    return ()


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
