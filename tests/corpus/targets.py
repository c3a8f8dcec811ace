"""What must hold of any bytes: for the fuzzer, and for the tests that replay what it found.

Each target takes bytes, gives them to a parser, and raises AssertionError if that breaks a promise:
only LnqError comes out, or what the bytes say, and nothing is written to standard error. It returns
whether the parser took them: a target that takes none of its seeds tries nothing.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from lnqtools.comparison.tables import read_model
from lnqtools.errors import LnqError
from lnqtools.files.tables import read_table, table_lines
from lnqtools.images.grid import MAX_SHEAR_MM
from lnqtools.images.names import names_in_header
from lnqtools.images.nifti import read_provenance
from lnqtools.images.volume import Volume, as_label, read_grid, read_volume
from lnqtools.nnunet.folds import Folds, checked_splits, make_splits
from lnqtools.nnunet.recipes import parse_recipe
from tests.corpus import images, itk, nifti, tables

FINDINGS = Path(__file__).parent / "findings"
SEED_BYTES = 20_000


@contextmanager
def file_of(content: bytes, suffix: str) -> Iterator[Path]:
    """Give a file in memory, and check that nobody speaks of it on standard error."""
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.NamedTemporaryFile(dir=where, suffix=suffix) as file,
        tempfile.TemporaryFile(dir=where) as said,
    ):
        file.write(content)
        file.flush()
        before = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield Path(file.name)
        finally:
            os.dup2(before, 2)
            os.close(before)
        assert said.tell() == 0, "something was written to standard error"


def _check_sentence(message: str) -> None:
    assert message
    assert "\n" not in message


def check_volume(volume: Volume, content_bytes: int) -> None:
    """Check that what was read is a place in the world and numbers, of no more than was there."""
    assert volume.array.shape == volume.grid.shape
    assert volume.array.dtype.kind in "iuf"
    assert volume.array.dtype.isnative
    assert volume.array.size <= 1100 * content_bytes
    assert np.isfinite(volume.array).all()
    assert np.isfinite(volume.spacing).all()
    if volume.grid.oriented:
        assert np.isfinite(volume.grid.affine).all()
    cosines = np.array(volume.grid.direction)
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-9)
    names_in_header(volume)
    try:
        label = as_label(volume.array)
    except LnqError:
        return
    assert label.dtype.kind == "u"
    assert np.abs(label - volume.array.astype(float)).max() <= 0.0101


def read_nifti(content: bytes) -> bool:
    """Read a NIfTI file as tools do, and as nibabel does where nibabel does."""
    with file_of(content, ".nii.gz") as path, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            volume = read_volume(path)
        except LnqError as error:
            _check_sentence(str(error))
            return False
        assert read_grid(path) == volume.grid
        read_provenance(path)
    check_volume(volume, len(content))
    if not volume.notes:
        agree_with_nibabel(content, volume)
    return True


def agree_with_nibabel(content: bytes, volume: Volume) -> None:
    """Check voxels and place against nibabel, if it takes the file."""
    plain = gzip.decompress(content) if content[:1] == b"\x1f" else content
    kind = nib.Nifti2Image if plain[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else nib.Nifti1Image
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            image = kind.from_stream(io.BytesIO(plain))
            scaled = np.asanyarray(image.dataobj).T.reshape(volume.array.shape)
            slope, inter = image.dataobj.slope, image.dataobj.inter
            raw = np.asanyarray(image.dataobj.get_unscaled()).T.reshape(volume.array.shape)
    except Exception:  # noqa: BLE001  nibabel raises what it happens to
        return
    if np.isfinite(scaled).all():
        size = np.abs(raw.astype(float)) * abs(slope) + abs(inter)  # before what cancels out
        off = np.abs(volume.array.astype(float) - scaled.astype(float))
        assert (off <= 1e-6 * size + 1e-30).all(), "other voxels than nibabel's"
    header = kind.header_class(plain[: kind.header_class.sizeof_hdr], check=False)
    if {int(header["sform_code"]), int(header["qform_code"])} - set(range(5)):
        return  # the standard takes any above 0; nibabel only those that it knows
    z, y, x = volume.grid.shape
    corners = np.array(list(np.ndindex(2, 2, 2))) * [x - 1, y - 1, z - 1]
    theirs = nib.affines.apply_affine(image.affine, corners)
    ours = nib.affines.apply_affine(volume.grid.affine, corners)
    most = MAX_SHEAR_MM + 1e-5 * np.abs(theirs).max()
    assert np.linalg.norm(ours - theirs, axis=1).max() <= most, "another place than nibabel's"


def _read_text_image(content: bytes, suffix: str) -> bool:
    with file_of(content, suffix) as path:
        try:
            volume = read_volume(path)
        except LnqError as error:
            _check_sentence(str(error))
            return False
    check_volume(volume, len(content) + (1 << 20))  # it may name another file
    return True


def read_nrrd(content: bytes) -> bool:
    return _read_text_image(content, ".nrrd")


def read_meta(content: bytes) -> bool:
    return _read_text_image(content, ".mha")


def read_rows(content: bytes) -> bool:
    """Read a table; what was read can be written, and is read again as it was."""
    text = content.decode(errors="surrogateescape")
    try:
        rows = read_table(text)
    except LnqError:
        return False
    assert rows
    try:
        model = read_model(rows, ["dice"])
    except LnqError:
        pass
    else:
        assert len(model.values) == len(rows)
    if all(list(row) == list(rows[0]) for row in rows) and all(
        isinstance(cell, str | None) for row in rows for cell in row.values()
    ):
        # A tab among the names says that a table is TSV.
        csv = () if any("\t" in name for name in rows[0]) else ("csv",)
        cells = [{name: cell or None for name, cell in row.items()} for row in rows]  # JSON's ""
        for form in (*csv, "tsv") if len(rows[0]) > 1 else ():
            assert read_table("\n".join(table_lines(rows, form)) + "\n") == cells
    return True


def read_recipe(content: bytes) -> bool:
    """Read a recipe; as a file it is written as it was read."""
    try:
        recipe = parse_recipe("fuzzed", content.decode())
    except (LnqError, UnicodeDecodeError):
        return False
    assert parse_recipe("fuzzed", recipe.as_toml()) == recipe
    return True


def read_splits(content: bytes) -> bool:
    try:
        parts = checked_splits(json.loads(content))
    except (LnqError, ValueError, RecursionError):
        return False
    names = [name for part in parts for name in part["val"]]
    assert len(set(names)) == len(names)
    try:
        again = make_splits(names, Folds(len(parts), kept=parts))
    except LnqError:  # a fold without a case, or too few of them
        return True
    assert [part["val"] for part in again] == [sorted(part["val"]) for part in parts]
    return True


def _whole_splits() -> list[bytes]:
    """Return splits that are taken, of one to five folds, for a fuzzer to change."""
    names = [f"case {number} é" for number in range(6)]
    made = []
    for count in (1, 2, 5):
        parts = [names[fold::count] for fold in range(count)]
        folds = [{"train": [n for n in names if n not in part], "val": part} for part in parts]
        made.append(json.dumps(folds, ensure_ascii=count == 2).encode())
    return made


def _contents(odds) -> list[bytes]:
    found = [odd.content for odd in odds if isinstance(odd.content, bytes)]
    return [content for content in found if len(content) < SEED_BYTES]


TARGETS: dict[str, tuple[Callable[[bytes], bool], Callable[[], list[bytes]]]] = {
    "nifti": (read_nifti, lambda: _contents(nifti.ALL)),
    "nrrd": (read_nrrd, lambda: [c for c in _contents(itk.files()) if c.startswith(b"NRRD")]),
    "meta": (read_meta, lambda: [c for c in _contents(itk.files()) if c.startswith(b"Object")]),
    "table": (read_rows, lambda: _contents(tables.metrics_tables())),
    "recipe": (
        read_recipe,
        lambda: [*_contents(tables.recipes()), *(p.read_bytes() for p in images.RECIPES)],
    ),
    "splits": (read_splits, lambda: [*_whole_splits(), *_contents(tables.splits())]),
}
"""Name → what is tried, and the bytes that a fuzzer begins with."""
