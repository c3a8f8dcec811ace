"""Hold lung boxes against lobes, side by side, in mm: python -m bench.lungs [OPTION]...

Boxes from the CT numbers alone (HU), and from TotalSegmentator --fast, against the true lobes of
phantoms in three orientations, the lungs that experts drew, and the lobes of a real map; where a
CT has none of these, TotalSegmentator's box against that from HU. A number is positive where the
box reaches beyond the reference and negative where it cuts it.

Without --weights TotalSegmentator runs on stand-ins. They see CT numbers (-930 to -700 HU, where
most of the neighborhood has them), not anatomy: a table's foam is lung to them, lung that is
denser or emptier is none, and a box ends a voxel or two inside. So their rows show that a box
finds its way from the CT through TotalSegmentator and back, not how well that finds lungs.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from lnqtools.anatomy.lungs import LungBox, find_lungs
from lnqtools.anatomy.maps import lung_mask
from lnqtools.errors import LnqError
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import Grid
from lnqtools.images.resampling import resample
from lnqtools.images.volume import Volume, read_label, read_volume
from lnqtools.phantom import make_phantom
from lnqtools.totalseg.segmenter import Segmenter
from lnqtools.totalseg.weights import require_totalsegmentator, require_weights

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
REAL_CTS: tuple[tuple[str, list[str], str], ...] = (
    (
        "nsclc-radiomics/LUNG1-003_ct.nii.gz",
        [f"nsclc-radiomics/LUNG1-003_Lung-{side}.nii.gz" for side in ("Left", "Right")],
        "experts' lungs",
    ),
    (
        "totalsegmentator/example_ct_sm.nii.gz",
        ["totalsegmentator/example_seg.nii.gz"],
        "real lobes (lung bases only)",
    ),
    ("lidc-idri/LIDC-IDRI-0001_ct.nii.gz", [], "HU"),
    ("totalsegmentator/ct_cropped.nii.gz", [], "HU"),
    ("cip/ct-64.nrrd", [], "HU"),
)
"""CT, files of its lungs, and what these are."""
SIDES = ("left", "right", "posterior", "anterior", "inferior", "superior")


@dataclass(frozen=True)
class Image:
    """A CT, and the box of its lungs if it is known from elsewhere."""

    group: str
    case: str
    ct: Volume
    known: Box | None
    against: str


@dataclass(frozen=True)
class Row:
    """How far a box reaches beyond the reference on each of `SIDES`, in mm; () without a box."""

    image: Image
    lungs_from: str
    outward_mm: tuple[float, ...]
    remark: str


def phantoms(number: int, size: str) -> Iterator[Image]:
    """Make phantoms, each of a cohort of its own, in three orientations."""
    for seed in range(number):
        phantom = make_phantom(seed, seed, size=size)
        for orientation, grid in orientations(phantom.grid).items():
            ct = resample(phantom.ct, phantom.grid, grid, "linear", -1024)
            anatomy = resample(phantom.anatomy, phantom.grid, grid, "nearest", 0)
            lobes = bounding_box(lung_mask(Volume(anatomy, grid), "v2"))
            group = f"{size} phantoms, {orientation}"
            yield Image(group, f"phantom{seed}-{seed:04}", Volume(ct, grid), lobes, "true lobes")


def orientations(lps: Grid) -> dict[str, Grid]:
    """Return a phantom's grid; the same mirrored; and a wider one, turned by 15° and 10°."""
    slices, rows, columns = lps.shape
    mirrored = np.array(lps.direction) * (1, -1, -1)
    ras = placed(lps, mirrored, lps.world(np.array([0, rows - 1, columns - 1])))
    wide = replace(lps, shape=(int(1.3 * slices), int(1.3 * rows), int(1.3 * columns)))
    direction = Rotation.from_euler("zx", [15, 10], degrees=True).as_matrix() @ lps.direction
    center = lps.world((np.array(lps.shape) - 1) / 2)
    origin = center - (direction * lps.spacing) @ ((np.array(wide.shape) - 1) / 2)
    return {"LPS": lps, "RAS": ras, "oblique": placed(wide, direction, origin)}


def placed(grid: Grid, direction: np.ndarray, origin: np.ndarray) -> Grid:
    """Return a grid elsewhere."""
    affine = np.eye(4)
    affine[:3, :3] = (direction * grid.spacing)[:, ::-1]
    affine[:3, 3] = origin
    return Grid.from_affine(grid.shape, affine)


def real_cts(folder: Path) -> Iterator[Image]:
    """Read the real CTs that are there."""
    for name, references, against in REAL_CTS:
        path = folder / name
        if not path.is_file():
            print(f"left out: there is no {path}", file=sys.stderr)
            continue
        lungs = [lung_mask(read_label(folder / reference)) for reference in references]
        known = bounding_box(np.logical_or.reduce(lungs)) if lungs else None
        case = path.name.split(".")[0]
        yield Image(path.parent.name, case, read_volume(path), known, against)


def rows_of(image: Image, segmenter: Segmenter | None, model: str) -> Iterator[Row]:
    """Find the lungs in an image in both ways, and hold the boxes against what is known."""
    by_hu = found_lungs(image.ct)
    if image.known:
        yield row_of(image, "HU", by_hu, image.known)
    if segmenter:
        reference = by_hu.box if isinstance(by_hu, LungBox) else None
        yield row_of(image, model, found_lungs(image.ct, segmenter), image.known or reference)


def found_lungs(ct: Volume, segmenter: Segmenter | None = None) -> LungBox | LnqError:
    """Return the lungs as lnq-crop finds them, or the error it would end with."""
    try:
        return find_lungs(ct, segmenter.segment(ct, low_resolution=True) if segmenter else None)
    except LnqError as error:
        return error


def row_of(image: Image, way: str, found: LungBox | LnqError, reference: Box | None) -> Row:
    if isinstance(found, LnqError):
        return Row(image, way, (), str(found))
    outward = tuple(outward_mm(found.box, reference, image.ct.grid)) if reference else ()
    return Row(image, way, outward, "; ".join(found.warnings))


def outward_mm(box: Box, reference: Box, grid: Grid) -> Iterator[float]:
    """Yield how far a box reaches beyond a reference on each of `SIDES`."""
    for world, axis in enumerate(reversed(grid.anatomical_axes())):
        low = (reference[axis].start - box[axis].start) * grid.spacing[axis]
        high = (box[axis].stop - reference[axis].stop) * grid.spacing[axis]
        yield from (low, high) if grid.direction[world][axis] > 0 else (high, low)


def write_table(rows: Iterable[Row]) -> None:
    """Write one line per row, tab-separated, as they come."""
    table = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    table.writerow(
        ["images", "case", "lungs_from", "against", *(f"{side}_mm" for side in SIDES), "remark"]
    )
    for row in rows:
        image, outward = row.image, [f"{mm:.1f}" for mm in row.outward_mm] or [""] * len(SIDES)
        table.writerow(
            [image.group, image.case, row.lungs_from, image.against, *outward, row.remark]
        )
        sys.stdout.flush()


def write_summary(rows: Iterable[Row]) -> None:
    """Write a Markdown table: the median and the range of each side over a group of images."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = (row.image.group, row.lungs_from, row.image.against)
        groups.setdefault(key, []).append(row)
    print(f"| images | lungs from | against | cases | {' | '.join(SIDES)} | remark |")
    print("|---" * (len(SIDES) + 5) + "|")
    for key, members in groups.items():
        boxes = [row.outward_mm for row in members if row.outward_mm]
        sides = [spread(side) for side in zip(*boxes, strict=True)] or ["–"] * len(SIDES)
        remarks = "; ".join(sorted({row.remark for row in members if row.remark}))
        print(f"| {' | '.join([*key, str(len(members)), *sides, remarks])} |")


def spread(values: tuple[float, ...]) -> str:
    """Return the median and, of several values, the range."""
    median = f"{statistics.median(values):.1f}"
    return median if len(values) == 1 else f"{median} ({min(values):.1f} to {max(values):.1f})"


def prepare_totalsegmentator(weights: Path | None, folder: Path) -> str:
    """Point TotalSegmentator to its weights or to stand-ins in a folder; say which these are."""
    require_totalsegmentator()
    if weights is None:
        from tests.totalseg_data import write_surrogate_weights

        write_surrogate_weights(folder, [297])
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(weights or folder)
    require_weights("total", fast=True)
    return "TotalSegmentator" if weights else "TotalSegmentator on stand-in weights"


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("bench.lungs", description=__doc__, formatter_class=raw)
    parser.add_argument("--phantoms", type=int, default=6, metavar="N", help="how many; 6")
    parser.add_argument("--size", choices=("small", "full"), default="small", help="of phantoms")
    parser.add_argument("--real", type=Path, default=REAL, metavar="DIR", help="real CTs")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="TotalSegmentator's own")
    parser.add_argument("--markdown", action="store_true", help="medians of groups, not each case")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        segmenter, model = None, ""
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            model = prepare_totalsegmentator(arguments.weights, folder)
            segmenter = stack.enter_context(Segmenter(fast=True))
        except LnqError as error:
            print(f"left out: TotalSegmentator: {error}", file=sys.stderr)
        write = write_summary if arguments.markdown else write_table
        write(
            row
            for images in (phantoms(arguments.phantoms, arguments.size), real_cts(arguments.real))
            for image in images
            for row in rows_of(image, segmenter, model)
        )


if __name__ == "__main__":
    main()
