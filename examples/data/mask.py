#!/usr/bin/env python3
"""Masks as converters leave them → one mask of 0 and 1 that is known to fit its CT.

``union`` joins masks (instances, segments, ROIs) and mirrors them if asked; ``fit`` looks whether
a mask on its CT's grid is whole and lies in soft tissue, and passes it on if so; ``segments``
prints the files of the DICOM segments of some name that segimage2itkimage wrote, NUL-ended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from lnqtools import __version__
from lnqtools.errors import LnqError
from lnqtools.files.atomic import atomic_output
from lnqtools.images.grid import Grid, difference
from lnqtools.images.volume import Volume, read_label, read_volume, write_volume

SOFT_TISSUE_HU = (-100, 300)
"""Fat and what lies in it, enhanced vessels; neither lung nor bone."""
CLEARLY_BETTER = 0.05
"""By how much more of a mirrored mask must lie in soft tissue to make the mask a suspect."""
LEAST_KEPT = 0.9
"""Share of a mask's volume that must be left on the CT's grid."""
MIRRORS = ["".join(axes) for n in range(4) for axes in combinations("xyz", n)]


def union(paths: list[Path]) -> Volume:
    """Return where any of some labels on one grid is not 0, as 0 and 1.

    Raises
    ------
    LnqError
        If they lie on different grids or nothing is drawn.
    """
    first, *others = (read_label(path) for path in paths)
    drawn = first.array != 0
    for path, other in zip(paths[1:], others, strict=True):
        if how := difference(first.grid, other.grid):
            raise LnqError(f"does not lie on the grid of {path}: {how}")
        drawn |= other.array != 0
    if not drawn.any():
        raise LnqError("nothing is drawn in it")
    return replace(first, array=drawn.astype(np.uint8))


def array_axes(axes: str, grid: Grid) -> tuple[int, ...]:
    """Return the array axes nearest to axes x, y, z of the world."""
    head_foot, front_back, left_right = grid.anatomical_axes()
    nearest = {"x": left_right, "y": front_back, "z": head_foot}
    return tuple(nearest[axis] for axis in axes)


def soft_tissue_shares(hu: np.ndarray, mask: np.ndarray, grid: Grid) -> dict[str, float]:
    """Return the share of a mask's voxels in soft tissue, as it is and mirrored.

    Parameters
    ----------
    hu : (z, y, x) ndarray
        The CT.
    mask : (z, y, x) ndarray
        Not empty.
    grid : Grid
        Where both lie.

    Returns
    -------
    dict of str to float
        By the axes that are mirrored about the middle of the grid: '', 'x' … 'xyz'.
    """
    indices = np.argwhere(mask)
    last = np.array(mask.shape) - 1
    low, high = SOFT_TISSUE_HU
    shares = {}
    for axes in MIRRORS:
        turned = indices.copy()
        for axis in array_axes(axes, grid):
            turned[:, axis] = last[axis] - turned[:, axis]
        values = hu[tuple(turned.T)]
        shares[axes] = float(((values >= low) & (values <= high)).mean())
    return shares


def check_whole(placed: Volume, drawn: Volume) -> None:
    """Raise LnqError if a mask lost more than a little on its way onto the CT's grid."""
    volumes_mm3 = [int(v.array.astype(bool).sum()) * np.prod(v.spacing) for v in (placed, drawn)]
    kept = volumes_mm3[0] / volumes_mm3[1]
    if kept < LEAST_KEPT:
        raise LnqError(
            f"only {kept:.0%} of what is drawn lies on the CT; they do not belong together"
        )


def fit(options: argparse.Namespace) -> None:
    """Write a mask on, and the row of its check; refuse one that does not fit."""
    placed, ct = read_label(options.mask), read_volume(options.ct)
    if how := difference(placed.grid, ct.grid):
        raise LnqError(f"does not lie on the grid of {options.ct}: {how}")
    check_whole(placed, read_label(options.drawn))
    shares = soft_tissue_shares(ct.array, placed.array, ct.grid)
    best = max(shares, key=lambda axes: shares[axes])
    suspect = options.check == "mirror" and shares[best] > shares[""] + CLEARLY_BETTER
    status = "suspect" if suspect else f"mirrored {options.mirrored}".strip()
    row = {
        "case": options.case,
        "status": status if suspect or options.mirrored else "ok",
        "voxels": np.count_nonzero(placed.array),
        "volume_ml": f"{np.count_nonzero(placed.array) * np.prod(ct.spacing) / 1000:.3f}",
        "soft_tissue_share": f"{shares['']:.3f}",
        "best_mirror": best or "-",
        "best_mirror_share": f"{shares[best]:.3f}",
    }
    with atomic_output(options.row) as stream:
        for cells in (row, row.values()):
            stream.write(("\t".join(map(str, cells)) + "\n").encode())
    if suspect:
        raise LnqError(
            f"{shares['']:.0%} of it lies in soft tissue, but {shares[best]:.0%} if mirrored "
            f"along {best}: look at it, then give it with -f"
        )
    write_volume(placed, options.output, record("fit", mirrored=options.mirrored))


def record(command: str, **settings: str) -> dict:
    """Return what an image says of how it was made."""
    return {"tool": f"mask.py {command}", "version": __version__, "options": settings}


def join(options: argparse.Namespace) -> None:
    """Write the union of masks, mirrored along axes of the world."""
    if options.mirror not in MIRRORS:
        raise LnqError(f"mirrors along {options.mirror!r}; axes are some of x, y, z in this order")
    joined = union(options.masks)
    mirrored = np.flip(joined.array, array_axes(options.mirror, joined.grid))
    names = ",".join(path.name for path in options.masks)
    made = record("union", masks=names, mirror=options.mirror)
    write_volume(replace(joined, array=mirrored), options.output, made)


def matching(groups: Iterable[Iterable[dict]], name: str) -> list[int]:
    """Return the numbers of segments whose name matches a regular expression, in any case.

    Raises
    ------
    LnqError
        If none does; it tells what names there are.
    """
    segments = [segment for group in groups for segment in group]
    found = [s["labelID"] for s in segments if re.fullmatch(name, s["SegmentLabel"], re.IGNORECASE)]
    if not found:
        names = ", ".join(repr(segment["SegmentLabel"]) for segment in segments)
        raise LnqError(f"no segment is named {name}; there are {names}")
    return found


def segments(options: argparse.Namespace) -> None:
    """Print the files of the segments that are meant."""
    meta = json.loads(options.meta.read_text())
    numbers = matching(meta["segmentAttributes"], options.name)
    if options.one and len(numbers) != 1:
        raise LnqError(f"{len(numbers)} segments are named {options.name}, not one")
    for number in numbers:
        path = options.meta.with_name(f"segment-{number}.nii.gz")
        sys.stdout.buffer.write(os.fsencode(path) + b"\0")


def main() -> int:
    """Run as a program; 1 if the mask is refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("union")
    command.set_defaults(run=join)
    command.add_argument("masks", type=Path, nargs="+")
    command.add_argument("--mirror", default="", help="axes of the world, some of xyz")
    command.add_argument("-o", dest="output", type=Path, required=True)

    command = commands.add_parser("fit")
    command.set_defaults(run=fit)
    command.add_argument("mask", type=Path)
    command.add_argument("--drawn", type=Path, required=True, help="the mask before it was placed")
    command.add_argument("--ct", type=Path, required=True)
    command.add_argument("--case", required=True)
    command.add_argument("--check", choices=["mirror", "world", "given"], required=True)
    command.add_argument("--mirrored", default="", help="axes that were mirrored")
    command.add_argument("--row", type=Path, required=True)
    command.add_argument("-o", dest="output", type=Path, required=True)

    command = commands.add_parser("segments")
    command.set_defaults(run=segments)
    command.add_argument("meta", type=Path)
    command.add_argument("--case", required=True)
    command.add_argument("--name", required=True, help="regular expression")
    command.add_argument("--one", action="store_true", help="refuse more than one")

    options = parser.parse_args()
    what = getattr(options, "case", None) or options.masks[0]
    try:
        options.run(options)
    except LnqError as error:
        sys.stderr.write(f"mask.py: {what}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
