"""Whether a file still has the content that something was made from, told at little cost.

The digest of a content is its CRC-32 and its length, with which a gzip file ends: a look at eight
bytes shows whether it is the same, and ``a.nii.gz`` has that of the ``a.nii`` of the same bytes.
Neither name nor time of a file has a part in it.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from lnqtools.files.streams import GZIP_FIRST_BYTE, Stream, digest_to_end, open_input, unpacked
from lnqtools.images.grid import Grid
from lnqtools.images.names import WITH_TABLE, names_table_path
from lnqtools.images.volume import format_of, image_suffix, read_grid

GRID = "grid-"
"""How the digest of a grid begins."""
FOLDER = "folder:"
"""How the digest of a map begins that was made from the images of a directory."""


def has_content(path: str | Path, digest: str) -> bool:
    """Tell whether an image file has a content.

    Parameters
    ----------
    path : str or Path
    digest : str
        Of the content, as :attr:`lnqtools.images.volume.Volume.content` has it; or what
        `grid_digest` gave, if nothing else of the file counts.

    Raises
    ------
    LnqError
        If the file cannot be read as far as it has to be.
    """
    image, sign, table = digest.partition(WITH_TABLE)
    if sign:
        names = names_table_path(path)
        return names.is_file() and _is_made_of(names, table) and has_content(path, image)
    if digest.startswith(GRID):
        return grid_digest(read_grid(path)) == digest
    if digest.startswith(FOLDER):
        return _is_folder_of(Path(path), digest)
    digest_of = format_of(path).digest
    return digest_of(path) == digest if digest_of else _is_made_of(path, digest)


def grid_digest(grid: Grid) -> str:
    """Return what tells where an image's voxels lie."""
    known = (grid.oriented, grid.placed)
    numbers = [*grid.shape, *grid.matrix.ravel().tolist(), *grid.origin, *known]
    text = " ".join(f"{round(number, 6) + 0.0:.6f}" for number in numbers)  # no -0, no last bits
    return f"{GRID}{zlib.crc32(text.encode()):08x}"


def images_by_name(folder: str | Path) -> dict[str, Path]:
    """Return the images of a directory by their names without suffixes, hidden ones left out."""
    return {
        path.name.removesuffix(image_suffix(path)): path
        for path in sorted(Path(folder).iterdir())
        if image_suffix(path) and not path.name.startswith(".")
    }


def folder_digest(folder: str | Path, digests: Mapping[str, str]) -> str:
    """Return the digest of a map that was made from some of the images of a directory.

    Parameters
    ----------
    folder : str or Path
    digests : mapping
        File name → digest of each of these images. Of the others their names count: one that
        comes later might have had a part, too.
    """
    others = sorted(
        path.name for path in images_by_name(folder).values() if path.name not in digests
    )
    parts = [f"{name}={digest}" for name, digest in digests.items()]
    return FOLDER + ",".join([f"{zlib.crc32(os.fsencode(chr(0).join(others))):08x}", *parts])


def _is_folder_of(folder: Path, digest: str) -> bool:
    """Tell whether a directory has what `folder_digest` tells of it."""
    if not folder.is_dir():
        return False
    _, *parts = digest.removeprefix(FOLDER).split(",")
    digests = dict(part.partition("=")[::2] for part in parts)
    return folder_digest(folder, digests) == digest and all(
        (folder / name).is_file() and has_content(folder / name, of) for name, of in digests.items()
    )


def _is_made_of(path: str | Path, digest: str) -> bool:
    """Tell whether the bytes of a file, unpacked if it is gzipped, have a digest.

    The end of a gzip file is that of its last member alone, before which there may be others, as
    of bgzip and pigz, and after which padding: where it does not fit, all is read. (Another member
    in front of all that there was would be overlooked: no image is so made.)
    """
    parts = re.fullmatch(r"([0-9a-f]{8})-(\d{1,20})", digest)
    if parts is None:
        return False
    crc, length = int(parts[1], 16), int(parts[2])
    with open_input(path) as raw:
        if length and _last_bytes_of_gzip(raw) == struct.pack("<II", crc, length % 2**32):
            return True  # padding looks as the end of nothing
        raw.seek(0)
        with unpacked(raw) as stream:
            return digest_to_end(stream, length) == digest


def _last_bytes_of_gzip(raw: Stream) -> bytes:
    """Return the last eight bytes of a gzip file, nothing of another."""
    if raw.read(1) != GZIP_FIRST_BYTE or raw.seek(0, os.SEEK_END) < 18:
        return b""
    raw.seek(-8, os.SEEK_END)
    return raw.read(8)
