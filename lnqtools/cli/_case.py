"""A case at work: its images are read, and what is made of them is written, through it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnqtools.cli._companions import Companions
from lnqtools.cli._making import INPUT, Contents, Making, option_of, parameter_of
from lnqtools.cli._names import STREAM, holds_dicom, is_one_file, why_no_image
from lnqtools.cli._plan import IMAGE, Planned
from lnqtools.cli._tool import about, accident
from lnqtools.errors import LnqError

if TYPE_CHECKING:
    import numpy as np

    from lnqtools.images.grid import Grid
    from lnqtools.images.volume import Volume


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is the same for every case of a run.

    Parameters
    ----------
    making : Making
        What its images say of their making.
    companions : Companions
        How images that belong to a case are found.
    force, skip : bool
        Whether outputs that exist are replaced, or kept.
    reads_files : bool
        Whether the sources are files; those of lnq-phantom are names alone.
    assume_orientation : str, optional
        How the axes of images run whose headers do not say it, as ``LPS``.
    """

    making: Making
    companions: Companions = field(default_factory=Companions)
    force: bool = False
    skip: bool = False
    reads_files: bool = True
    assume_orientation: str | None = None


class Case:
    """One case at work, in whatever thread or process.

    Parameters
    ----------
    planned : Planned
    rules : Rules

    Attributes
    ----------
    name, source : str
        As planned.
    kept : bool
        Its outputs are there and stay (``-s``): it may be computed again for a table, but nothing
        is written.
    unproven : bool
        It is kept though nothing says what content it was made from.
    warnings : list of str
        What is odd about it; told when it is done.
    """

    def __init__(self, planned: Planned, rules: Rules):
        self.planned, self.rules = planned, rules
        self.name, self.source = planned.name, planned.source
        self.kept = self.unproven = False
        self.warnings: list[str] = []
        self._replaces = rules.force  # also what another process makes meanwhile
        self._seen: Contents = {}

    def warn(self, message: str) -> None:
        """Keep a warning; it is shown when the case is done."""
        self.warnings.append(message)

    # What is there already

    def why_not(self) -> str | None:
        """Decide whether to make or to keep its outputs; say why neither can be.

        Outputs are kept if all are there, and each says that it was made in the same way from the
        same content. If some are missing, as of a run that was broken off, it is made again.
        """
        existing = [t for t in self.planned.targets if t != STREAM and os.path.lexists(t)]
        if self.rules.force or not existing:
            return None
        if not self.rules.skip:
            return f"{existing[0]} exists; -f replaces it, -s keeps it"
        try:
            for target in existing:
                if why := self._made_otherwise(target):
                    return f"{target} exists and {why}; -f replaces it"
        except LnqError as error:
            return str(error)
        except OSError as error:  # as of a name that is too long
            return accident(error)
        if self.source != STREAM:  # what that is made from is known when it has been read
            self.kept = len(existing) == len(self.planned.outputs)
            self._replaces = not self.kept
            self.unproven = self.kept and self.rules.reads_files and INPUT not in self._seen
        self._seen = {}
        return None

    def _made_otherwise(self, target: str) -> str | None:
        """Say how an existing output was made differently; LnqError if an image is unreadable."""
        try:
            record = _record_of(target)
        except LnqError as error:
            return f"cannot be kept: {error}"
        if difference := self.rules.making.difference(record):
            return difference
        other = self._other_content((record or {}).get("made_from", {}))
        return other and f"was made from another {other}"

    def _other_content(self, made_from: Mapping[str, Any]) -> str | None:
        """Name the input, companion or model whose content is not what a record says."""
        for name, recorded in made_from.items():
            digests = recorded if isinstance(recorded, list) else [recorded]
            places = [self.source] if name == INPUT else self.rules.making.places(name)
            for place, digest in zip(places, map(str, digests), strict=False):
                if not self._has_content(name, place, digest):
                    return name if name == INPUT else f"{option_of(name)} {self._path(name, place)}"
        return None

    def _has_content(self, name: str, place: str, digest: str) -> bool:
        """Tell whether what a record names has this content; True where that cannot be known."""
        seen = (self.rules.making.contents | self._seen).get(name, {}).get(place)
        if seen is not None:
            return seen == digest
        if place == STREAM:
            return True
        path = self._path(name, place)
        with nullcontext() if name == INPUT else about(path):
            same = holds(path, digest)
        if same:
            self._note(name, place, digest)
        return same

    def _path(self, name: str, place: str) -> Path:
        """Return the file at the place that a record calls by a name."""
        if name == INPUT or name in self.rules.making.contents:
            return Path(place)
        return self.rules.companions.find(self.planned, place, option_of(name))

    def _note(self, name: str, place: str, digest: str) -> None:
        """Keep the digest of what the case is made from."""
        self._seen.setdefault(name, {})[place] = digest

    def made_from(self, option: str, place: str, digest: str) -> None:
        """Record the content of what an option names, and what is no image of its own."""
        self._note(parameter_of(option), place, digest)

    # Its image, and its companions

    def read(
        self, reader: Callable[[str], Volume], series: Callable[[str], Volume] | None = None
    ) -> Volume:
        """Read the case's own image and pass on what is odd about it.

        Parameters
        ----------
        reader : callable
            Reads a file.
        series : callable, optional
            Reads a folder of DICOM files; without it, one is an error.
        """
        from lnqtools.files.streams import DirectoryError

        if series is not None and Path(self.source).is_dir() and holds_dicom(self.source):
            reader = series
        try:
            volume = reader(self.source).assuming(self.rules.assume_orientation)
        except DirectoryError:
            pattern = self.rules.companions.pattern
            raise LnqError(why_no_image(self.source, pattern)) from None
        self.warnings.extend(volume.notes)
        self._note(INPUT, self.source, volume.content)
        return volume

    def companion(self, place: str, option: str) -> Path:
        """Return the path of the image that belongs to the case, which is not its own.

        See `Companions.find`.
        """
        return self.rules.companions.other_than_input(self.planned, place, option)

    def read_companion(
        self, place: str, option: str, reader: Callable[[Path], Volume], grid: Grid | None = None
    ) -> Volume:
        """Read the image that belongs to the case, and bring it onto the case's grid.

        That changes no voxel: its axes may be permuted and mirrored, and its voxels lie up to half
        a voxel off, with a warning.

        Raises
        ------
        LnqError
            If there is none or more than one, it cannot be read, or it lies on another grid.
        """
        path = self.companion(place, option)
        volume = self._read_named(path, place, option, reader)
        if grid is None:
            return volume
        from lnqtools.images.grid import CLOSE_VOXELS, difference, one_to_one

        with about(f"{option} {path}"):
            way = one_to_one(volume.grid, grid, CLOSE_VOXELS)
        if way is None:
            how = difference(grid, volume.grid)
            raise LnqError(
                f"does not lie on the grid of {option} {path}: {how}; "
                f"{self._way_onto(path, option)}"
            )
        if way.oddity:
            self.warn(f"{option} {path}: {way.oddity}")
        return replace(volume, array=way.turned(volume.array), grid=grid)

    def read_covering(
        self, place: str, option: str, reader: Callable[[Path], Volume], grid: Grid
    ) -> tuple[Volume, np.ndarray]:
        """Read a companion on a grid of the same lattice, as large or larger.

        Lattices are the same as `read_companion` says.

        Returns
        -------
        whole : Volume
            The companion as it is.
        part : (z, y, x) ndarray
            Its values on ``grid``.

        Raises
        ------
        LnqError
            As `read_companion`, or if it does not cover ``grid``.
        """
        from lnqtools.images.grid import CLOSE_VOXELS, OtherLatticeError, cut_out, lattice_map

        path = self.companion(place, option)
        whole = self._read_named(path, place, option, reader)
        with about(f"{option} {path}"):
            try:
                part = cut_out(whole.array, whole.grid, grid)
            except OtherLatticeError as error:
                raise LnqError(f"{error}; {self._way_onto(path, option)}") from None
        way = lattice_map(whole.grid, grid, CLOSE_VOXELS)
        if way is not None and way.oddity:
            self.warn(f"{option} {path}: {way.oddity}")
        return whole, part

    def read_companion_grid(self, place: str, option: str) -> Grid:
        """Read where the image that belongs to the case lies, and pass on what is odd about that.

        A file may be the input itself, which then stays where it is.
        """
        from lnqtools.images.content import grid_digest
        from lnqtools.images.volume import assumed, read_geometry

        path = self.rules.companions.find(self.planned, place, option)
        if is_one_file(path, self.source):
            self.warn(f"{option} {path} is the input itself")
        with about(path):
            grid, notes = read_geometry(path)
        self._note(parameter_of(option), place, grid_digest(grid))
        if letters := self.rules.assume_orientation:
            grid, notes = grid.assuming(letters), assumed(notes, letters)
        self.warnings.extend(f"{path}: {note}" for note in notes)
        return grid

    def _read_named(
        self, path: Path, place: str, option: str, reader: Callable[[Path], Volume]
    ) -> Volume:
        """Read an image that an option names; its errors and oddities carry its path."""
        with about(path):
            volume = reader(path).assuming(self.rules.assume_orientation)
        self.warnings.extend(f"{path}: {note}" for note in volume.notes)
        self._note(parameter_of(option), place, volume.content)
        return volume

    def _way_onto(self, path: Path, option: str) -> str:
        """Say how to bring a companion onto the case's grid."""
        label = "" if option in ("--ct", "--teacher") else "--label "
        return f"lnq-crop {label}--like {self.source} {path} -o FILE interpolates it onto that"

    # Its outputs

    def write(
        self, volume: Volume, what: str = IMAGE, facts: Mapping[str, Any] | None = None
    ) -> bool:
        """Write one of its outputs.

        Parameters
        ----------
        volume : Volume
        what : str
            Name of the output.
        facts : mapping, optional
            What the record says of this image alone, beside how all are made; -s does not compare
            it.

        Returns
        -------
        bool
            Whether it was written; if not, one that may be kept is there.

        Raises
        ------
        LnqError
            If it cannot be written, another process made one that may not be kept, or the one that
            is kept for a table is another image.
        """
        from lnqtools.images.volume import write_volume

        if self.kept:
            _check_kept(volume, self.planned.outputs[what])
            return False
        return self.write_file(partial(write_volume, volume), what, facts)

    def write_file(
        self,
        write: Callable[..., None],
        what: str = IMAGE,
        facts: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write one of its outputs by a function; see `write`.

        Parameters
        ----------
        write : callable
            Takes the path, the record of its making, and ``replace`` and ``follow`` as
            `lnqtools.images.volume.write_volume`.
        what, facts
            As of `write`.
        """
        target = self.planned.outputs[what]
        record = self.rules.making.record(self._seen, facts or {})
        try:
            write(target, record, replace=self._replaces, follow=self.rules.force)
        except FileExistsError:
            why = self._made_otherwise(target) if self.rules.skip else "exists"
            if why and self.source == STREAM and self.rules.skip:
                raise LnqError(f"{target} exists and {why}; -f replaces it") from None
            if why:
                raise LnqError(f"{target} {why}: another process made it meanwhile") from None
            return False
        return True


def _record_of(target: str) -> dict | None:
    """Return what says how an output was made, None if nothing does."""
    if target.lower().endswith(".dcm"):
        from lnqtools.dicom.record import read_record
    elif target.lower().endswith(".seg.nrrd"):
        from lnqtools.images.seg_nrrd import read_record
    else:
        from lnqtools.images.nifti import read_provenance as read_record
    return read_record(target)


def holds(path: Path, digest: str) -> bool:
    """Tell whether an image file, or the DICOM files at a place, have a content."""
    if digest.startswith("dicom-"):
        from lnqtools.dicom.series import has_content
    else:
        from lnqtools.images.content import has_content
    return has_content(path, digest)


def _check_kept(volume: Volume, target: str) -> None:
    """Raise LnqError if a kept file does not hold the image that a table would describe."""
    import numpy as np

    from lnqtools.images.grid import difference
    from lnqtools.images.volume import read_volume

    with about(target):
        kept = read_volume(target)
    if difference(kept.grid, volume.grid) or not np.array_equal(kept.array, volume.array):
        raise LnqError(
            f"{target} exists and is not what is made now, which the table would tell of; "
            "-f replaces it"
        )
