"""Odd images of each kind that tools take, and what each kind may hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, save
from tests.corpus import itk, nifti
from tests.corpus.nifti import AFFINE, BASE, Odd

RNG = np.random.default_rng(2)
KINDS = {
    "ct": BASE,
    "mask": (BASE > 500).astype(np.uint8),
    "label": RNG.integers(0, 3, BASE.shape).astype(np.uint8),
    "probability": RNG.random(BASE.shape, np.float32),
}
"""What an image is to a tool → voxels of a good one."""
COMPANION = {
    "ct": BASE[::-1].copy(),
    "mask": (BASE > 0).astype(np.uint8),
    "label": np.where(BASE > 0, 1, 2).astype(np.uint8),
    "anatomy": np.where(BASE > 1000, 52, 0).astype(np.uint8),
    "lobe": np.where(BASE < -100, 10, 0).astype(np.uint8),
    "lungs": np.ones(BASE.shape, np.uint8),
    "probability": (BASE > 0).astype(np.float32),
}
"""Good images that stand beside an odd one, on the grid that it should be read with."""
GOOD = ("good-1", "good 2", "zz-good-3")
"""Names of good images among the odd ones."""
ROUNDED = 0.0101
"""Nothing in the corpus is between 0.01, up to which labels are rounded, and this."""
RECIPES = sorted((ROOT / "lnqtools" / "data" / "recipes").glob("*.toml"))


def odd_images(kind: str) -> list[Odd]:
    """Return all odd images with a kind's voxels, and those with voxels of their own.

    Of a mask or label the array has whole numbers where they were meant.
    """
    voxels = KINDS[kind]
    odds = [*nifti.files(voxels), *itk.files(voxels)]
    return [rounded(odd) for odd in odds] if kind in ("mask", "label") else odds


def rounded(odd: Odd) -> Odd:
    """Return an odd image as a label is read: within 0.01 of whole numbers it holds these."""
    distance = distance_to_whole(odd.array)
    if odd.error or not 0 < distance <= ROUNDED:
        return odd
    note = f"values off whole numbers by up to {distance:.2g} were rounded"
    return replace(odd, array=np.rint(odd.array), notes=(*odd.notes, note))


def distance_to_whole(array: np.ndarray) -> float:
    """Return how far a value may be from a whole number, at most."""
    return float(np.abs(array - np.rint(array)).max()) if array.dtype.kind == "f" else 0.0


def promise(kind: str, odd: Odd) -> str | None:
    """Return a pattern of the refusal of an image of a kind; None: it is read.

    A CT holds anything finite; a mask whole numbers from 0 on, or nearly so, where all but 0 are
    one; a label nothing but 0, 1 and 2; probabilities are fractions from 0 to 1.
    """
    if odd.error or kind == "ct":
        return odd.error
    array = odd.array
    low, high = array.min(), array.max()
    if kind == "probability":
        if array.dtype.kind != "f":
            return "holds whole numbers, as a mask does"
        return None if low >= 0 and high <= 1 else "holds values from .* lie between 0 and 1"
    if distance_to_whole(array) > ROUNDED:
        return "must hold whole numbers, this one holds"
    if low < 0:
        return "cannot hold the negative value"
    if high >= 1 << 32:
        return "is too large"
    if kind == "label" and high > 2:
        return f"holds the value {high:.0f}"
    return None


def write_images(folder: Path, kinds: Iterable[str] = KINDS) -> None:
    """Write KIND/, odd and good images, and beside/COMPANION/, good ones of the same names."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for odd in odd_images(kind):
            odd.write(folder / kind)
        for name in GOOD:
            save(folder / kind / f"{name}.nii.gz", KINDS[kind], AFFINE)
    for companion in COMPANION:
        for odd in [*odd_images("mask"), *(Odd(name, b"") for name in GOOD)]:
            # By the short suffix, with which the longest name still is a name.
            path = save(folder / "beside" / companion / "x.nii", beside(companion, odd), odd.affine)
            path.rename(path.with_name(f"{odd.case}.nii"))


def is_plain(kind: str, odd: Odd) -> bool:
    """Tell whether an image holds a good one's voxels at its place, however they are stored."""
    return np.array_equal(odd.array, KINDS[kind]) and np.array_equal(odd.affine, AFFINE)


def beside(companion: str, odd: Odd) -> np.ndarray:
    """Return the voxels of the good image that stands beside an odd one."""
    z, y, x = odd.array.shape
    return COMPANION[companion][:z, :y, :x]


def expected(kind: str) -> list[dict[str, str]]:
    """Return what is promised of each odd image of a kind, as rows of a table."""
    return [
        {
            "kind": kind,
            "file": odd.file,
            "promise": promise(kind, odd) or "read",
            "warnings": "; ".join(odd.notes),
        }
        for odd in odd_images(kind)
    ]


def refuses(pattern: str, message: str) -> bool:
    """Say whether a message, after the path, is the refusal that was promised."""
    return re.search(pattern.removeprefix("^"), message) is not None
