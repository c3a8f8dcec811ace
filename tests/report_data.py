"""Cases for the tests of the report: masks whose every voxel is known, and a way to unfold them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np

from tests.conftest import affine, save

SHAPE = (20, 40, 48)
MATRIX = affine((1.0, 1.0, 2.5), (10.0, -20.0, 30.0))

FOUND = np.s_[4:9, 10:16, 20:26]
SEEN = np.s_[4:9, 10:16, 22:28]
"""What the prediction has of `FOUND`."""
MISSED = np.s_[12:15, 30:35, 5:9]
FALSE = np.s_[16:18, 4:8, 40:44]

HOSTILE = "<script>window.hacked=1<script>\"'&amp; né 中 " + "x" * 150


def make_cases(folder: Path, names: tuple[str, ...] = ("a", "b"), matrix=MATRIX) -> Path:
    """Write ct, pred, truth and label of each name; each has more voxels than the one before."""
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        images = {
            "ct": rng.normal(0, 60, SHAPE).astype(np.int16),
            "pred": np.zeros(SHAPE, np.uint8),
            "truth": np.zeros(SHAPE, np.uint8),
            "label": np.full(SHAPE, 2, np.uint8),
        }
        images["truth"][FOUND] = images["truth"][MISSED] = 1
        images["pred"][SEEN] = images["pred"][FALSE] = 1
        images["pred"][4:9, 10:16, 28 : 28 + number] = 1
        images["label"][:, :5] = 0
        images["label"][FOUND] = 1
        for kind, array in images.items():
            save(folder / kind / f"{name}.nii.gz", array, matrix)
    return folder


def unfold(text: str, count: int, size: int) -> np.ndarray:
    """Undo the coding of a slice, a byte at a time."""
    unfolded = np.zeros(size, np.int64)
    at = run = shift = 0
    for byte in base64.b64decode(text):
        run |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            length, number = divmod(run, count)
            unfolded[at : at + length] = number
            at += length
            run = shift = 0
    assert shift == 0
    assert at <= size
    return unfolded


def view_of(report: Path, number: str = "0001") -> dict:
    """Return what a report's script of a case says."""
    text = (report / "cases" / f"{number}.js").read_text(encoding="ascii")
    called = re.fullmatch(r'lnqCase\("([\dm-]+)",(\{.*\})\);\n', text)
    assert called
    assert called[1] == number
    return json.loads(called[2])


def marks_of(view: dict) -> np.ndarray:
    """Return the two numbers of each voxel of a view, (slices, rows, columns, 2)."""
    _, rows, columns = view["size"]
    kinds = np.array(view["kinds"])
    slices = [unfold(text, len(kinds), rows * columns) for text in view["marks"]]
    return kinds[np.stack(slices).reshape(view["size"])]
