"""lnq-crop --take-geometry: the voxels of one image, the header of another."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lnqtools.images.names import names_in_header
from lnqtools.images.volume import read_volume
from tests.cli.helpers import with_names
from tests.conftest import affine, load, matrix_of, run, save, succeed
from tests.corpus.nifti import nifti, patch, sheared
from tests.grids import SIGNED_PERMUTATIONS

SHAPE = (4, 5, 6)
CT = affine((0.8, 0.8, 2.5), (-120.0, 80.0, 30.0))
LOST = np.eye(4)
MASK = np.arange(120, dtype=np.uint8).reshape(SHAPE) % 7


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return save(tmp_path / "ct" / "case.nii.gz", np.zeros(SHAPE, np.int16), CT)


def take(source: Path, ct: Path, *options):
    out = source.parent / "out.nii.gz"
    return out, succeed("lnq-crop", source, "--take-geometry", ct, *options, "-f", "-o", out)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_the_voxels_stay_and_the_header_is_that_of_the_other(ct, tmp_path, dtype):
    source = save(tmp_path / "case.nii.gz", MASK.astype(dtype), LOST)
    out, result = take(source, ct)
    np.testing.assert_array_equal(load(out), MASK)
    assert load(out).dtype == dtype
    np.testing.assert_allclose(matrix_of(out), CT, atol=1e-5)
    assert result.err == (
        f"lnq-crop: {source}: warning: --take-geometry {ct} changes: spacing 1 × 1 × 1 → 0.8 × 0.8 "
        "× 2.5 mm; axes RAS → LPS; first voxel at 0, 0, 0 → -120, 80, 30 mm\n"
    )
    assert take(source, ct, "-q")[1].err == ""


def test_it_is_what_copy_information_of_itk_gives(ct, tmp_path):
    source = save(tmp_path / "case.nii.gz", MASK, LOST)
    out, _ = take(source, ct)
    expected = sitk.ReadImage(str(source))
    expected.CopyInformation(sitk.ReadImage(str(ct)))
    made = sitk.ReadImage(str(out))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(made.GetOrigin(), expected.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(made.GetSpacing(), expected.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(made.GetDirection(), expected.GetDirection(), atol=1e-6)


def test_only_what_differs_is_told(ct, tmp_path):
    moved = CT.copy()
    moved[:3, 3] += (0, 0, 5)
    turned = CT.copy()
    cosine, sine = np.cos(np.pi / 60), np.sin(np.pi / 60)  # 3 degrees
    turned[:3, :3] = [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]] @ CT[:3, :3]
    same = "nothing, it lies there already"
    for matrix, said in (
        (CT, same),
        (moved, "first voxel at -120, 80, 35 → -120, 80, 30 mm"),
        (turned, "axes turned by 3 degrees"),
        (CT @ np.diag([1, 1, 2, 1]), "spacing 0.8 × 0.8 × 5 → 0.8 × 0.8 × 2.5 mm"),
    ):
        source = save(tmp_path / "case.nii.gz", MASK, matrix)
        out, result = take(source, ct)
        assert result.err.endswith(f"--take-geometry {ct} changes: {said}\n")
        np.testing.assert_allclose(matrix_of(out), CT, atol=1e-4)


def test_names_of_labels_and_training_labels_stay_what_they_are(ct, tmp_path):
    source = with_names(save(tmp_path / "case.nii.gz", MASK, LOST), {1: "aorta", 3: "heart"})
    out, _ = take(source, ct, "--label")
    assert names_in_header(read_volume(out)) == {1: "aorta", 3: "heart"}
    masks = save(tmp_path / "node" / "case.nii.gz", (MASK == 1).astype(np.uint8), LOST)
    succeed("lnq-weaklabel", masks, "--strategy", "mask", "-O", tmp_path / "weak")
    weak = tmp_path / "weak" / "case.nii.gz"
    for option in ((), ("--label",)):
        out, _ = take(weak, ct, *option)
        np.testing.assert_array_equal(load(out), np.where(MASK == 1, 1, 2))
        assert names_in_header(read_volume(out)) == {1: "lymph_node", 2: "unknown"}


def test_a_label_gets_the_type_of_labels(ct, tmp_path):
    source = save(tmp_path / "case.nii.gz", MASK.astype(np.float32), LOST)
    assert load(take(source, ct, "--label")[0]).dtype == np.uint8
    save(source, MASK + np.float32(0.5), LOST)
    result = run("lnq-crop", source, "--take-geometry", ct, "--label", "-o", tmp_path / "x.nii")
    assert "a label image must hold whole numbers" in result.err


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((6, 5, 4), True), ((4, 6, 5), True), ((4, 5, 7), False), ((3, 5, 6), False)],
)
def test_another_size_is_refused_and_axes_in_another_order_are_suspected(ct, tmp_path, shape, hint):
    source = save(tmp_path / "case.nii.gz", np.zeros(shape, np.uint8), LOST)
    result = run("lnq-crop", source, "--take-geometry", ct, "-o", tmp_path / "out.nii.gz")
    assert result.status == 1
    z, y, x = shape
    transposed = ": with its axes in another order it would fit; was it saved transposed?"
    assert result.err == (
        f"lnq-crop: {source}: is not of the size of --take-geometry {ct}: their sizes are {x} × "
        f"{y} × {z} and 6 × 5 × 4 voxels{transposed if hint else ''}\n"
    )
    assert not (tmp_path / "out.nii.gz").exists()


def test_headers_that_make_no_sense_are_mended(ct, tmp_path):
    broken = {
        "leaning": nifti(MASK, sheared(CT, 0.4), codes=(1, 0)),
        "nowhere": patch(nifti(MASK, CT, codes=(1, 0)), 280, "12f", *[0] * 12),  # srow
        "flat": patch(nifti(MASK, CT, codes=(0, 0)), 80, "3f", 0, 0, 0),  # pixdim
    }
    for name, content in broken.items():
        source = tmp_path / f"{name}.nii"
        source.write_bytes(content)
        assert run("lnq-crop", source, "--like", ct, "-o", tmp_path / "x.nii").status == 1
        out, result = take(source, ct)
        np.testing.assert_array_equal(load(out), MASK)
        np.testing.assert_allclose(matrix_of(out), CT, atol=1e-5)
        assert f"{source}: warning: its own geometry was not used: " in result.err
        assert "axes unknown → LPS" in result.err


def test_a_header_that_says_nothing_is_taken_as_it_is(ct, tmp_path):
    source = save(tmp_path / "case.nii.gz", MASK, CT)
    unknown = tmp_path / "unknown.nii"
    unknown.write_bytes(nifti(MASK, CT, codes=(0, 0)))
    out, result = take(source, unknown)
    header = nib.load(out).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
    assert "axes LPS → unknown" in result.err


@pytest.mark.parametrize("axes", SIGNED_PERMUTATIONS[::7])
def test_voxels_are_taken_as_they_are_stored(tmp_path, axes):
    """However the axes of the other run: it is the order in the file that counts."""
    turn = np.eye(4)
    turn[:3, :3] = axes
    ct = save(tmp_path / "ct.nii.gz", np.zeros(SHAPE, np.int16), turn @ CT)
    out, _ = take(save(tmp_path / "case.nii.gz", MASK, LOST), ct)
    np.testing.assert_array_equal(load(out), MASK)
    np.testing.assert_allclose(matrix_of(out), turn @ CT, atol=1e-4)


def test_a_folder_of_cts_and_skip(tmp_path, ct):
    source = save(tmp_path / "mask" / "case.nii.gz", MASK, LOST)
    arguments = ["mask", "--take-geometry", "ct", "-q", "-O", "out"]
    made = succeed("lnq-crop", *arguments, cwd=tmp_path)
    assert made.lines == ["out/case.nii.gz"]
    save(ct, np.ones(SHAPE, np.int16), CT)  # other voxels, the same grid
    assert succeed("lnq-crop", *arguments, "-s", cwd=tmp_path).lines == made.lines
    save(ct, np.ones(SHAPE, np.int16), LOST)
    again = run("lnq-crop", *arguments, "-s", cwd=tmp_path)
    assert again.err == (
        f"lnq-crop: {source.relative_to(tmp_path)}: out/case.nii.gz exists and was made from "
        "another --take-geometry ct/case.nii.gz; -f replaces it\n"
    )


@pytest.mark.parametrize(
    "other",
    [
        *(["--like", "x"], ["--lungs", "hu"], ["--margin", "3"], ["--spacing", "1"]),
        *(["--boxes", "b.tsv"], ["--keep", "x"], ["--classes", "v2"]),
    ],
)
def test_it_excludes_what_moves_voxels(ct, other):
    result = run("lnq-crop", ct, "--take-geometry", ct, *other, "-o", "x.nii")
    assert result.status == 2
    assert "exclude each other" in result.err
