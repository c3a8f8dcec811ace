"""Volumes, and the files that hold them: all images are read and written here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from isal import igzip

from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output
from lnqtools.images.grid import NO_AXES, Grid
from lnqtools.images.itk import itk_digest, read_itk, read_itk_grid
from lnqtools.images.nifti import (
    Extension,
    named_labels,
    read_nifti,
    read_nifti_grid,
    write_nifti,
    write_to_standard_output,
)
from lnqtools.images.seg_nrrd import SUFFIX as SEGMENTATION
from lnqtools.images.seg_nrrd import write_segmentation


class NegativeLabelError(LnqError):
    """What should be a label image holds negative values, as a CT does."""

    def __init__(self, value: float):
        super().__init__(f"a label image cannot hold the negative value {value:g}")


Read = tuple[np.ndarray, Grid, tuple[str, ...], tuple[Extension, ...], str]
"""What `Volume` holds of a file, in its order."""


class Format(NamedTuple):
    """Files of a kind: what they are called, and how they are read."""

    suffixes: tuple[str, ...]
    """Suffixes, in lower case; of two that end alike the longer one first."""
    read: Callable[[str | Path], Read]
    read_geometry: Callable[[str | Path], tuple[Grid, tuple[str, ...]]]
    """Reads the grid and what is odd about it, from the header alone."""
    digest: Callable[[str | Path], str] | None = None
    """Digests a file's content as ``read`` gives it; None if its unpacked bytes are digested."""


NIFTI = Format((".nii.gz", ".nii"), read_nifti, read_nifti_grid)
FORMATS = (
    NIFTI,
    Format(
        (".seg.nrrd", ".seg.nhdr", ".nrrd", ".nhdr", ".mha", ".mhd"),
        read_itk,
        read_itk_grid,
        itk_digest,
    ),
)
"""A new format is a module that reads it and a line here; tools then know its suffixes."""

MAX_ROUNDING = 0.01001
"""How far the values of a label may be from whole numbers, as rescaling leaves them: 0.01, and a
hair for what float32 makes of it."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their place in the world.

    Parameters
    ----------
    array : (z, y, x) ndarray
    grid : Grid
    notes : tuple of str
        What was odd about the file it came from, a sentence each.
    extensions : tuple of (int, bytes)
        Codes and contents of the NIfTI header extensions of that file; they are written again,
        except the record of how the file was made.
    content : str
        Digest of the bytes that were read, of NIfTI unpacked; see
        `lnqtools.images.content.has_content`. Empty if it came from no file.
    """

    array: np.ndarray
    grid: Grid
    notes: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = field(default=(), repr=False)
    content: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of voxel centers along z, y, x, in mm."""
        return self.grid.spacing

    def assuming(self, letters: str | None) -> Volume:
        """Return the volume with axes that run as said, as ``LPS``, if its own are unknown.

        See `lnqtools.images.grid.Grid.assuming`; what was assumed is among the notes.
        """
        if letters is None:
            return self
        return replace(self, grid=self.grid.assuming(letters), notes=assumed(self.notes, letters))


def read_volume(
    path: str | Path, replace_nan: float | None = None, *, any_geometry: bool = False
) -> Volume:
    """Read an image.

    Parameters
    ----------
    path : str or Path
        ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha``; ``-`` reads NIfTI from standard input.
    replace_nan : float, optional
        Value for voxels that are not finite; without it such an image is refused.
    any_geometry : bool
        Whether a NIfTI file whose header does not say soundly where its voxels lie is read, too,
        with voxels of 1 mm and a note: for those who know it from elsewhere.

    Returns
    -------
    Volume
        Integer images keep an integer type, also after a whole-numbered rescale; a real one
        makes them float32.

    Raises
    ------
    LnqError
        If the file is not a whole, readable image of three dimensions.
    """
    form = format_of(path)
    read = partial(read_nifti, any_geometry=True) if any_geometry and form is NIFTI else form.read
    volume = Volume(*read(path))
    if volume.array.dtype.kind != "f":
        return volume
    finite = np.isfinite(volume.array)
    if finite.all():
        return volume
    if replace_nan is None:
        raise LnqError(f"{np.count_nonzero(~finite)} voxels are NaN or infinite")
    return replace(
        volume, array=np.where(finite, volume.array, volume.array.dtype.type(replace_nan))
    )


def read_label(path: str | Path, *, any_geometry: bool = False) -> Volume:
    """Read a label image: whole numbers from 0 on. Parameters are those of `read_volume`.

    Returns
    -------
    Volume
        Of type uint8 where the values allow it, else the smallest unsigned type.

    Raises
    ------
    LnqError
        As `read_volume`, or if a value is a fraction, negative or NaN.
    """
    volume = read_volume(path, any_geometry=any_geometry)
    whole, deviation = _rounded(volume.array)
    notes = volume.notes
    if deviation:
        notes += (f"values off whole numbers by up to {deviation:.2g} were rounded",)
    return replace(volume, array=as_label(whole), notes=notes)


def as_label(array: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 on in the smallest unsigned type.

    Values within `MAX_ROUNDING` of a whole number are rounded, so that -1e-7 is 0.

    Raises
    ------
    LnqError
        If a value is another fraction, negative, NaN, or a number of more than 32 bits.
    """
    if array.dtype == np.uint8:
        return array
    array, _ = _rounded(array)
    low, high = array.min(), array.max()
    if low < 0:
        raise NegativeLabelError(low)
    if high > np.iinfo(np.uint32).max:
        raise LnqError(f"label {high:g} is too large")
    return array.astype(np.min_scalar_type(int(high)), copy=False)


def _rounded(array: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the whole numbers nearest to a label's values, and the largest distance to them."""
    if array.dtype.kind != "f":
        return array, 0.0
    whole = np.rint(array)
    if (whole == array).all():
        return whole, 0.0
    with np.errstate(invalid="ignore"):
        distance = np.abs(array - whole)
    farthest = np.argmax(distance)
    deviation = float(distance.flat[farthest])
    if not deviation <= MAX_ROUNDING:
        raise LnqError(
            f"a label image must hold whole numbers, this one holds {array.flat[farthest]:.7g}"
        )
    return whole, deviation


def read_grid(path: str | Path) -> Grid:
    """Read where an image's voxels lie, from its header alone."""
    return read_geometry(path)[0]


def read_geometry(path: str | Path) -> tuple[Grid, tuple[str, ...]]:
    """Read where an image's voxels lie, and what is odd about that, from its header alone.

    Raises
    ------
    LnqError
        If the header is not that of a 3-D image, or claims more voxels than the file can hold.
        Whether the voxels are there is not checked.
    """
    return format_of(path).read_geometry(path)


def image_suffix(path: str | Path) -> str:
    """Return the suffix of an image file name as written, or ''."""
    name = path if isinstance(path, str) and "/" not in path else Path(path).name
    lower = name.lower()
    for form in FORMATS:
        for suffix in form.suffixes:
            if lower.endswith(suffix) and len(name) > len(suffix):
                return name[-len(suffix) :]
    return ""


def format_of(path: str | Path) -> Format:
    """Return the format that a file's name says; NIfTI for other names, as of pipes."""
    suffix = image_suffix(path).lower()
    return next((form for form in FORMATS if suffix in form.suffixes), NIFTI)


def assumed(notes: tuple[str, ...], letters: str) -> tuple[str, ...]:
    """Return notes on a header in which that on unknown axes says what they were taken for."""
    return tuple(f"{NO_AXES}: {letters} was assumed" if NO_AXES in n else n for n in notes)


# Writing


def write_volume(
    volume: Volume,
    path: str | Path,
    provenance: dict[str, Any] | None = None,
    *,
    replace: bool = True,
    follow: bool = False,
) -> None:
    """Write a NIfTI-1 image, or labels as a .seg.nrrd of 3D Slicer, whole or not at all.

    The bytes go to a temporary file beside the target, are synced, and take its name at the
    end. The same volume and provenance always make the same bytes.

    Parameters
    ----------
    volume : Volume
    path : str or Path
        ``.nii.gz`` (compressed), ``.nii`` or ``.seg.nrrd``; ``-`` writes uncompressed NIfTI to
        standard output.
    provenance : dict, optional
        Recorded as JSON in a header extension.
    replace : bool
        Whether a file that is there, or that another process makes meanwhile, is replaced.
    follow : bool
        Whether a link is written through, rather than replaced.

    Raises
    ------
    FileExistsError
        If there is such a file, without ``replace``.
    LnqError
        If the target is something else than a regular file or has another suffix, or the write
        fails.
    """
    if str(path) == "-":
        write_to_standard_output(volume, provenance)
        return
    suffix = image_suffix(path).lower()
    if suffix not in (*NIFTI.suffixes, SEGMENTATION):
        raise LnqError(f"cannot write {path}: an image must be named .nii.gz or .nii")
    if suffix == SEGMENTATION:
        names = named_labels(volume.extensions)
        with atomic_output(path, replace=replace, follow=follow) as raw:
            write_segmentation(volume.array, volume.grid, names, raw, provenance)
        return
    with atomic_output(path, replace=replace, follow=follow) as raw:
        if str(path).lower().endswith(".gz"):
            level = 1 if volume.array.dtype.itemsize == 1 else 2
            packed = igzip.IGzipFile(
                filename="", fileobj=raw, mode="wb", compresslevel=level, mtime=0
            )
            with packed as stream:
                write_nifti(volume, stream, provenance)
        else:
            write_nifti(volume, raw, provenance)
