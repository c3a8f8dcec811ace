"""A folder of DICOM files as IMAGE: its one CT, in the tools that take CTs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import load, matrix_of, run, save, succeed
from tests.dicom_data import as_mr, ct_of, matrix_of_series, slices_of, write, write_ct

SHAPE = (6, 10, 12)
LUNGS = np.zeros(SHAPE, np.uint8)
LUNGS[1:5, 2:8, 2:5] = LUNGS[1:5, 2:8, 7:11] = 1


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with two patients' series below dicom, and masks of their lungs."""
    for patient, vendor in (("p1", "north"), ("p2", "south")):
        place = tmp_path / "dicom" / patient / "study"
        write(place, slices_of(ct_of(), patient=patient, vendor=vendor), name="IM{:04}")
        save(tmp_path / "lungs" / f"{patient}.nii.gz", LUNGS, matrix_of_series())
    return tmp_path


def test_a_folder_is_its_ct_and_called_as_the_folder(folder):
    crop = ("--lungs", "lungs", "-q", "-O", "out")
    done = succeed("lnq-crop", "dicom/p1", "dicom/p2/", *crop, cwd=folder)
    assert done.lines == ["out/p1.nii.gz", "out/p2.nii.gz"]
    for path in sorted((folder / "out").iterdir()):
        np.testing.assert_array_equal(load(path), ct_of()[1:5, 2:8, 2:11])
        assert load(path).dtype == np.int16
        expected = matrix_of_series() @ [2, 2, 1, 1]  # where the first voxel of the box lies
        np.testing.assert_allclose(matrix_of(path)[:, 3], expected, atol=1e-5)


def test_it_is_what_lnq_dicom_makes_of_it(folder):
    succeed("lnq-dicom", "images", "dicom", "-O", "ct", cwd=folder)
    spacing = ("--lungs", "none", "--spacing", "1", "-q")
    succeed("lnq-crop", "ct", *spacing, "-O", "a", cwd=folder)
    succeed("lnq-crop", "dicom/p1", "dicom/p2", *spacing, "-O", "b", cwd=folder)
    names = sorted(path.name for path in (folder / "b").iterdir())
    assert len(names) == 2
    for made, name in zip(sorted((folder / "a").iterdir()), names, strict=True):
        np.testing.assert_array_equal(load(made), load(folder / "b" / name))
        np.testing.assert_allclose(matrix_of(made), matrix_of(folder / "b" / name))


def test_skip_goes_by_the_content_of_the_series(folder):
    crop = ("dicom/p1", "--lungs", "lungs", "-q", "-O", "out")
    first = succeed("lnq-crop", *crop, cwd=folder)
    assert succeed("lnq-crop", *crop, "-s", cwd=folder).lines == first.lines
    write(folder / "dicom" / "p1" / "study", slices_of(ct_of() + 1, patient="p1"), name="IM{:04}")
    changed = run("lnq-crop", *crop, "-s", cwd=folder)
    assert changed.err == (
        "lnq-crop: dicom/p1: out/p1.nii.gz exists and was made from another input; -f replaces it\n"
    )


@pytest.mark.slow
def test_inference_on_a_series_is_that_on_its_image(folder, model):
    succeed("lnq-dicom", "images", "dicom/p1", "-o", "p1.nii.gz", cwd=folder)
    options = ("-m", model, "--no-mirror", "--lungs", "none", "--trust-hu", "-q")
    succeed("lnq-infer", "dicom/p1", *options, "-o", "a.nii.gz", cwd=folder)
    succeed("lnq-infer", "p1.nii.gz", *options, "-o", "b.nii.gz", cwd=folder)
    np.testing.assert_array_equal(load(folder / "a.nii.gz"), load(folder / "b.nii.gz"))
    np.testing.assert_allclose(matrix_of(folder / "a.nii.gz"), matrix_of_series(), atol=1e-5)


def test_what_is_not_one_ct_is_told_and_the_others_go_on(folder):
    write_ct(folder / "dicom" / "p1" / "more", patient="p1", series=2)
    write(folder / "dicom" / "mr", slices_of(ct_of(), patient="mr", edit=as_mr))
    (folder / "dicom" / "empty").mkdir()
    for name in ("mr", "empty"):
        save(folder / "lungs" / f"{name}.nii.gz", LUNGS, matrix_of_series())
    places = [f"dicom/{name}" for name in ("p1", "mr", "empty", "p2")]
    result = run("lnq-crop", *places, "--lungs", "lungs", "-q", "-O", "out", cwd=folder)
    assert (result.status, result.lines) == (1, ["out/p2.nii.gz"])
    two, mr, empty = result.err.splitlines()
    assert two.startswith("lnq-crop: dicom/p1: holds 2 CT series, not one: ")
    assert mr == "lnq-crop: dicom/mr: holds no CT, but MR"
    assert empty.startswith("lnq-crop: dicom/empty: is a directory without images")


def test_a_folder_of_patients_is_not_one_case(folder):
    result = run("lnq-crop", "dicom", "--lungs", "lungs", "-q", "-O", "out", cwd=folder)
    assert result.status == 1
    assert "dicom: holds 2 CT series, not one: " in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["lnq-crop", "--label", "--like", "lungs"],
        ["lnq-weaklabel", "--strategy", "mask"],
        ["lnq-filter-diameter"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_takes_masks_sends_to_lnq_dicom(folder, arguments):
    tool, *options = arguments
    result = run(tool, "dicom/p1", *options, "-O", "out", cwd=folder)
    assert result.status == 1
    assert result.err == (
        f"{tool}: dicom/p1: is a directory of DICOM files: lnq-dicom makes images or masks of it\n"
    )
