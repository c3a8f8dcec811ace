"""Tools on files that hold the same voxels in other orders: what they write and tell is the same.

Files are turned, and outputs turned back, by nibabel. tests/test_storage.py has all 48 orders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.cli.helpers import OBLIQUE, rows_of
from tests.conftest import succeed
from tests.report_data import view_of
from tests.test_storage import SHAPE, assert_same_rows, blobs, ct_of

CODES = ("LPS", "RAS", "LAI", "PSR", "IRA", "SPL")
"""Where x, y, z of the files lead: ends of each axis, and each axis in each place."""
IN_VOXELS = [f"{axis}_{end}" for axis in "xyz" for end in ("start", "stop")]


def turn(image: nib.Nifti1Image, code: str) -> nib.Nifti1Image:
    way = ornt_transform(io_orientation(image.affine), axcodes2ornt(code))
    return image.as_reoriented(way)


def write(folder: Path, array: np.ndarray, matrix: np.ndarray = OBLIQUE, codes=CODES) -> Path:
    """Write an array (z, y, x) in each order, by name of the order; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for code in codes:
        image = nib.Nifti1Image(array.transpose(2, 1, 0), matrix)
        nib.save(turn(image, code), folder / f"{code}.nii.gz")
    return folder


def read(path: Path) -> np.ndarray:
    """Read an array (z, y, x) in LPS order."""
    return np.asanyarray(turn(nib.load(path), "LPS").dataobj).transpose(2, 1, 0)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def assert_same_images(folder: Path) -> np.ndarray:
    """Assert that files hold the same values at the same places; return them, in LPS order."""
    first, *others = files(folder)
    expected, matrix = read(first), turn(nib.load(first), "LPS").affine
    assert others
    for path in others:
        np.testing.assert_array_equal(read(path), expected, path.name)
        np.testing.assert_allclose(turn(nib.load(path), "LPS").affine, matrix, atol=1e-4)
    return expected


def same_rows(rows: Iterable[dict[str, str]], without: Iterable[str] = ()) -> list[dict]:
    """Return the rows of one case; assert that the others have the same in the same order.

    Headers hold places in 32 bits: about a hundred-thousandth of a mm here. The slice of the long
    axis is counted as each file stores them.
    """
    by_case: dict[str, list[dict]] = {}
    for row in rows:
        kept = {
            name: cell(row[name]) for name in row.keys() - {"case", "long_axis_slice", *without}
        }
        by_case.setdefault(row["case"], []).append(kept)
    first, *others = by_case.values()
    assert len(others) == len(CODES) - 1
    for table in others:
        assert_same_rows(table, first, rel=1e-6, tolerance=1e-4)
    return first


def cell(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Return folders of images in six orders each."""
    folder = tmp_path_factory.mktemp("storage")
    truth = blobs(0)
    pred = np.roll(truth, (0, 1, 1), (0, 1, 2)) | blobs(1, 0.02)
    noise = np.random.default_rng(2).random(SHAPE)
    label = np.where(blobs(3, 0.04) != 0, 1, 2).astype(np.uint8)
    label[:, :4] = 0
    images = {
        "truth": truth,
        "pred": pred,
        "label": label,
        "weak": blobs(3, 0.04),
        "map": (0.5 * pred + 0.5 * noise).astype(np.float32),
        "anatomy": np.where(blobs(4, 0.4) != 0, 52, 0).astype(np.uint8),
        "ct": ct_of(5),
    }
    for kind, array in images.items():
        write(folder / kind, array)
    return folder


def test_components_and_the_filter(cohort, tmp_path):
    options = ["--metric", "recist", "--min", 6, "--degenerate", "recist"]
    out, table = tmp_path / "out", tmp_path / "table.tsv"
    succeed("lnq-filter-diameter", *files(cohort / "truth"), *options, "-O", out, "--table", table)
    assert 0 < assert_same_images(out).sum() < blobs(0).sum()
    rows = rows_of(table.read_text())
    first = same_rows(rows, IN_VOXELS)
    assert {row["kept"] for row in first} == {0, 1}
    for row in rows:  # boxes are those of the file
        inverse = np.linalg.inv(nib.load(cohort / "truth" / f"{row['case']}.nii.gz").affine)
        place = [float(row[f"centroid_{axis}_mm"]) for axis in "xyz"]
        index = nib.affines.apply_affine(inverse, place)
        box = np.array([float(row[name]) for name in IN_VOXELS]).reshape(3, 2)
        assert (index > box[:, 0] - 0.501).all()
        assert (index < box[:, 1] - 0.499).all()


@pytest.mark.parametrize("options", [[], ["--lesions"], ["--detection", "--metric", "recist"]])
def test_metrics(cohort, options):
    call = ["lnq-metrics", *files(cohort / "pred"), "--reference", cohort / "truth", *options]
    same_rows(rows_of(succeed(*call).out))


def test_metrics_of_one_reference_and_predictions_in_all_orders(cohort):
    reference = ["--reference", cohort / "truth" / "PSR.nii.gz"]
    how = ["--lesions", "--resample-prediction", "nearest", "-q"]
    made = succeed("lnq-metrics", *files(cohort / "pred"), *reference, *how)
    same_rows(rows_of(made.out))


def test_thresholds(cohort):
    points = ["--thresholds", "0.4,0.6", "--min-diameters", "0,4", "--metric", "recist", "--cases"]
    call = ["lnq-threshold", *files(cohort / "map"), "--reference", cohort / "label", *points]
    assert len({row["lesions_fp"] for row in same_rows(rows_of(succeed(*call).out))}) > 2


def test_statistics(cohort):
    how = ["--name", "all", "--table", "cases", "--metric", "recist-caliper", "--enlarged-mm", 5]
    rows = rows_of(succeed("lnq-stats", *files(cohort / "label"), *how).out)
    (row,) = same_rows(rows)
    assert 0 < row["components_enlarged"] < row["components"]


@pytest.mark.parametrize(
    "options",
    [
        ["--strategy", "mask"],
        ["--strategy", "coat", "--margin", 2, "--connectivity", 18],
        ["--strategy", "coat", "--margin-mm", 3],
    ],
    ids=str,
)
def test_weak_labels(cohort, tmp_path, options):
    how = [*options, "--background", cohort / "anatomy"]
    succeed("lnq-weaklabel", *files(cohort / "weak"), *how, "-O", tmp_path / "out")
    assert set(np.unique(assert_same_images(tmp_path / "out"))) == {0, 1, 2}


def test_pseudo_labels(cohort, tmp_path):
    structures = ["--anatomy", cohort / "anatomy", "--classes", "v2", "--erode", 2]
    teacher = ["--teacher", cohort / "map", "--fg", 0.6, "--bg", 0.1]
    size = ["--min-diameter", 6, "--metric", "recist", "--table", tmp_path / "table.tsv"]
    call = ["lnq-pseudolabel", *files(cohort / "label"), *structures, *teacher, *size, "-q"]
    succeed(*call, "-O", tmp_path / "out")
    assert_same_images(tmp_path / "out")
    (row,) = same_rows(rows_of((tmp_path / "table.tsv").read_text()))
    assert min(row[f"voxels_teacher_{n}"] for n in ("foreground", "background", "small")) > 0


def test_crops_to_the_lungs(phantoms, tmp_path):
    """Margins and spacings are along the patient's axes, rounded by other voxels on each."""
    name = files(phantoms / "ct")[0].name
    whole = nib.load(phantoms / "ct" / name)
    array = np.asanyarray(whole.dataobj).transpose(2, 1, 0)[:, 3:, 2:-1]  # blocks need not fit
    shift = whole.affine @ [2, 3, 0, 0]
    matrix = whole.affine + np.outer(shift, [0, 0, 0, 1])
    cts = write(tmp_path / "ct", array, matrix)
    boxes = ["--boxes", tmp_path / "boxes.tsv", "--margin", "3,9,15", "-q"]
    succeed("lnq-crop", *files(cts), *boxes, "-O", tmp_path / "box")
    found = assert_same_images(tmp_path / "box")
    assert found.size < array.size / 2
    assert len({row["case"] for row in rows_of((tmp_path / "boxes.tsv").read_text())}) == 6
    succeed("lnq-crop", *files(cts), "--spacing", "5,4,6", "-q", "-O", tmp_path / "spacing")
    assert_same_images(tmp_path / "spacing")
    zooms = turn(nib.load(tmp_path / "spacing" / "PSR.nii.gz"), "LPS").header.get_zooms()
    assert zooms == pytest.approx((5, 4, 6))


def test_other_grids_and_spacings_of_labels(cohort, tmp_path):
    label = ["--label", *files(cohort / "label")]
    halves = ["--lungs", "none", "--spacing", "3,2,6"]  # of 1.5, 2 and 3 mm
    succeed("lnq-crop", *label, *halves, "-O", tmp_path / "coarse")
    coarse = assert_same_images(tmp_path / "coarse")
    assert coarse.shape[1:] == (24, 15)
    for target in ("LPS", "IRA"):
        out = tmp_path / target
        place = tmp_path / "coarse" / f"{target}.nii.gz"
        succeed("lnq-crop", *label, "--like", place, "-q", "-O", out)
        np.testing.assert_array_equal(assert_same_images(out), coarse)


def test_the_report(cohort, tmp_path):
    out = tmp_path / "report"
    known = ["--reference", cohort / "truth", "--ct", cohort / "ct", "--metric", "recist"]
    succeed("lnq-report", *files(cohort / "pred"), *known, "-q", "-O", out)
    views = [view_of(out, f"{number:04}") for number in range(1, len(CODES) + 1)]
    pictures = [[(out / name).read_bytes() for name in view.pop("strips")] for view in views]
    assert {json.dumps(view.pop("stored")[0]) for view in views} > {"[14, -1]"}
    assert views[1:] == views[:-1]
    assert pictures[1:] == pictures[:-1]
    for table in ("metrics.tsv", "lesions.tsv"):
        same_rows(rows_of((out / table).read_text()))


def test_pictures(cohort, tmp_path):
    pytest.importorskip("skimage")
    (tmp_path / "table.tsv").write_text("case\tdice\nLPS\t0.5\n")
    made = []
    for code in ("LPS", "PSR", "IRA"):
        row = ["--row", "a", *(cohort / kind / f"{code}.nii.gz" for kind in ("ct", "label"))]
        picture = tmp_path / f"{code}.png"
        succeed("lnq-plot", "preprocess", *row, "-o", picture, "--dpi", 80)
        folders: list[str | Path] = []
        for option, kind in (("--ct", "ct"), ("--prediction", "pred"), ("--reference", "truth")):
            place = tmp_path / code / kind
            place.mkdir(parents=True)
            (place / "LPS.nii.gz").symlink_to(cohort / kind / f"{code}.nii.gz")
            folders += [option, place]
        surfaces = tmp_path / f"{code}-cases.png"
        call = ["lnq-plot", "cases", tmp_path / "table.tsv", *folders, "-o", surfaces, "--dpi", 80]
        succeed(*call)
        made.append((picture.read_bytes(), surfaces.read_bytes()))
    assert made[1:] == made[:-1]
