#!/usr/bin/env python3
"""Where models see nodes that are none: false positives by organ and in tumors.

Usage: false_positives.py PREDICTED TEST

PREDICTED holds MODEL/seedN/CASE.nii.gz, TEST the phantoms: truth, anatomy and tumour. A voxel that
is predicted and no node counts in the tumor if it lies in one, else in its structure of the
anatomy, else as elsewhere. The table has ml per case, means over the test cases, of each place in
which a model saw anything.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from lnqtools import LnqError, read_label
from lnqtools.images.names import names_in_header

TUMOR, ELSEWHERE = "tumor", "elsewhere"
COLUMNS = ("model", "seed", "place", "ml")


def places_of(test: Path, case: str) -> tuple[np.ndarray, list[str], float]:
    """Return where each voxel lies (−1: in a node), the places' names, and ml per voxel."""
    truth, anatomy, tumor = (
        read_label(test / kind / f"{case}.nii.gz") for kind in ("truth", "anatomy", "tumour")
    )
    of_number = names_in_header(anatomy)
    count = max(of_number, default=0)
    names = [ELSEWHERE, *(of_number.get(i, ELSEWHERE) for i in range(1, count + 1)), TUMOR]
    place = np.where(tumor.array > 0, len(names) - 1, anatomy.array.astype(np.int16))
    place[truth.array > 0] = -1
    return place, names, float(np.prod(truth.spacing)) / 1000


def add_case(totals: dict, folders: list[Path], test: Path, case: str) -> None:
    """Add a case's false positives in ml to the totals of (model, seed, place)."""
    place, names, voxel_ml = places_of(test, case)
    for folder in folders:
        predicted = read_label(folder / f"{case}.nii.gz").array > 0
        where = place[predicted]
        counts = np.bincount(where[where >= 0], minlength=len(names))
        for name, voxels in zip(names, counts, strict=True):
            totals[folder.parent.name, folder.name.removeprefix("seed"), name] += voxels * voxel_ml


def main() -> None:
    """Read the masks and write the table."""
    if len(sys.argv) != 3:
        sys.exit("usage: false_positives.py PREDICTED TEST")
    predicted, test = map(Path, sys.argv[1:])
    folders = sorted(predicted.glob("*/seed*"))
    cases = sorted(path.name.removesuffix(".nii.gz") for path in test.glob("truth/*.nii.gz"))
    if not folders or not cases:
        sys.exit(f"false_positives.py: no prediction in {predicted}, or no truth in {test}")
    totals: dict[tuple[str, str, str], float] = defaultdict(float)
    try:
        for case in cases:
            add_case(totals, folders, test, case)
    except (LnqError, ValueError) as error:
        sys.exit(f"false_positives.py: {case}: {error}")
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*key, f"{ml / len(cases):.4f}") for key, ml in totals.items() if ml)


if __name__ == "__main__":
    main()
