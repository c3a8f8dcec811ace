"""What the tests of single tools share: tables, voxels by their place, small images."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from pathlib import Path

import click
import nibabel as nib
import numpy as np
import pytest

from tests.conftest import BIN, load, matrix_of, save
from tests.suite import command

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-1.5, -2.0, 3.0]), [5, -7, 11]
)
TURNED = np.array([[0, 0, 3, 5], [1.5, 0, 0, -7], [0, -2, 0, 11], [0, 0, 0, 1.0]])
"""Array axes z, y, x run to the right, to the feet and to the front."""


def usage_error(tool: str, *arguments) -> str:
    """Return what is wrong with a command line, found without starting a process."""
    with (
        pytest.raises(click.UsageError) as caught,
        command(tool).make_context(tool, list(map(str, arguments))) as context,
    ):
        command(tool).invoke(context)
    return caught.value.format_message()


QUIETLY_BY_SIGPIPE = (-signal.SIGPIPE, b"")


def end_without_reader(tool: str, *arguments, cwd: Path | None = None) -> tuple[int, bytes]:
    """Run a tool whose results nobody reads; return its status and what it said."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [BIN / tool, *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=cwd, check=False)
    os.close(writer)
    return done.returncode, done.stderr


def boxes(shape: tuple[int, int, int], *places, rest: int = 0) -> np.ndarray:
    """Return a mask of boxes, or a label with other values elsewhere."""
    made = np.full(shape, rest, np.uint8)
    for place in places:
        made[place] = 1
    return made


def write_pairs(place: Path, matrix: np.ndarray, **pairs: tuple) -> list:
    """Write masks (prediction, reference), where there are any; return lnq-metrics' arguments."""
    for name, pair in pairs.items():
        for folder, array in zip(("prediction", "reference"), pair, strict=True):
            if array is not None:
                save(place / folder / f"{name}.nii.gz", array, matrix)
    predictions = [place / "prediction" / f"{name}.nii.gz" for name in pairs]
    return [*filter(Path.exists, predictions), "--reference", place / "reference"]


def rows_of(table: str, form: str = "tsv") -> list[dict]:
    """Return the rows of a table as other programs read it."""
    if form == "jsonl":
        return [json.loads(line) for line in table.splitlines()]
    return list(
        csv.DictReader(io.StringIO(table), dialect="excel-tab" if form == "tsv" else "excel")
    )


def columns_of(table: str) -> list[str]:
    """Return the names of a TSV table's columns."""
    return table.splitlines()[0].split("\t")


def numbers(row: dict[str, str], *names: str) -> list[float]:
    """Return some cells of a row as numbers."""
    return [float(row[name]) for name in names]


def indices_of(array: np.ndarray) -> set[tuple[int, ...]]:
    """Return where an array is not zero."""
    return set(map(tuple, np.argwhere(array).tolist()))


def where(path: Path, index) -> np.ndarray:
    """Return the world position (x, y, z) of indices (z, y, x), by nibabel's affine."""
    return nib.affines.apply_affine(matrix_of(path), np.asarray(index)[..., ::-1])


def values_where(source: Path, target: Path) -> np.ndarray:
    """Return an image's values at the places of another's voxels, which must meet its own."""
    places = where(target, np.moveaxis(np.indices(load(target).shape), 0, -1))
    at = nib.affines.apply_affine(np.linalg.inv(matrix_of(source)), places)
    assert np.abs(at - np.rint(at)).max() < 1e-3
    x, y, z = np.moveaxis(np.rint(at).astype(int), -1, 0)
    assert min(x.min(), y.min(), z.min()) >= 0
    return load(source)[z, y, x]


def numbered(shape: tuple[int, int, int]) -> np.ndarray:
    """Return a CT in which no two voxels are equal."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 500


def with_names(path: Path, names: dict[int, str]) -> Path:
    """Write label names into a map's header, as TotalSegmentator does."""
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
    labels = "".join(
        f'<Label Key="{key}" Red="0.1" Green="0.2" Blue="0.3" Alpha="1"><![CDATA[{name}]]></Label>'
        for key, name in names.items()
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <Date><![CDATA[2013-07-14]]>'
        '</Date>   <VolumeInformation Index="0">   <LabelTable>'
        f"{labels}</LabelTable></VolumeInformation></CaretExtension>"
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml.encode()))
    nib.save(image, path)
    return path
