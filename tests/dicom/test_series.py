"""Series: in order and as HU by header, or refused with the reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from lnqtools.dicom.series import content_of_ct, find_series, has_content, read_one_ct
from lnqtools.errors import LnqError
from tests import dicom_data as data
from tests.conftest import BIN, load
from tests.dicom_data import (
    ORIGIN,
    SPACING,
    ct_of,
    enhanced_ct,
    matrix_of_series,
    pydicom,
    slices_of,
    write,
    write_ct,
    write_one,
)

UIDS = pydicom.uid
SYNTAXES = {
    "implicit": UIDS.ImplicitVRLittleEndian,
    "explicit": UIDS.ExplicitVRLittleEndian,
    "big-endian": UIDS.ExplicitVRBigEndian,
    "deflated": UIDS.DeflatedExplicitVRLittleEndian,
    "rle": UIDS.RLELossless,
    "jpeg-ls": UIDS.JPEGLSLossless,
    "jpeg-2000": UIDS.JPEG2000Lossless,
    "jpeg-lossless": UIDS.JPEGLosslessSV1,
}
PLAIN = UIDS.ExplicitVRLittleEndian


def read(folder: Path, **how):
    """Read a folder's one CT; its place is where SimpleITK sees its first slice's neighbors."""
    return read_one_ct(folder, **how)


def is_ct_of(volume, hu: np.ndarray) -> bool:
    return np.array_equal(volume.array, hu) and np.allclose(
        volume.grid.affine, matrix_of_series(), atol=1e-6
    )


@pytest.mark.parametrize("vendor", ["north", "south"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_of_two_vendors_gives_the_same_hu(vendor, syntax, tmp_path):
    write(tmp_path, slices_of(ct_of(), vendor=vendor), SYNTAXES[syntax])
    written = pydicom.dcmread(tmp_path / "000.dcm", stop_before_pixels=True)
    assert written.file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    volume = read(tmp_path)
    assert is_ct_of(volume, ct_of())
    assert volume.array.dtype == np.int16
    assert volume.notes == ()


@pytest.mark.parametrize("vendor", ["north", "south"])
def test_files_without_preamble_are_read(vendor, tmp_path):
    write(tmp_path, slices_of(ct_of(), vendor=vendor), preamble=False, name="IM{}")
    assert (tmp_path / "IM0").read_bytes()[128:132] != b"DICM"
    assert is_ct_of(read(tmp_path), ct_of())


@pytest.mark.parametrize("backwards", [False, True])
def test_an_enhanced_ct_is_ordered_and_rescaled_by_frame(backwards, tmp_path):
    write_one(tmp_path / "one.dcm", enhanced_ct(ct_of(), backwards), PLAIN)
    assert is_ct_of(read(tmp_path), ct_of())


def test_simpleitk_and_dcm2niix_see_the_same_ct(tmp_path):
    import nibabel as nib
    import SimpleITK as sitk

    write(tmp_path / "s", slices_of(ct_of(), vendor="south"))
    volume = read(tmp_path / "s")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.array)
    x, y, z = image.GetOrigin()
    assert volume.grid.origin == pytest.approx((-x, -y, z))
    if (BIN / "dcm2niix").exists():
        command = [BIN / "dcm2niix", "-z", "n", "-f", "x", "-o", tmp_path, tmp_path / "s"]
        subprocess.run(command, check=True, capture_output=True)
        theirs = nib.load(tmp_path / "x.nii")
        ours = np.moveaxis(volume.array, (0, 1, 2), (2, 1, 0))[:, ::-1]
        assert np.array_equal(np.asanyarray(theirs.dataobj), ours)


def test_order_is_that_of_positions_not_of_names_or_numbers(tmp_path):
    images = slices_of(ct_of())
    for k, image in enumerate(images):
        image.InstanceNumber = [5, 1, 4, 6, 2, 3][k]
    write(tmp_path, [images[k] for k in (3, 0, 5, 1, 4, 2)])
    assert is_ct_of(read(tmp_path), ct_of())


def test_slices_of_their_own_times_and_acquisition_numbers_are_one_volume(tmp_path):
    def edit(image, k):
        image.AcquisitionNumber, image.AcquisitionTime = k + 1, f"10{k:02}00"
        image.ContentTime = f"11{k:02}00"

    write_ct(tmp_path, edit=edit)
    assert is_ct_of(read(tmp_path), ct_of())


def test_slope_and_intercept_are_those_of_each_slice(tmp_path):
    hu = ct_of()

    def edit(image, k):
        stored = (hu[k].astype(int) + 1000 * k) // (k + 1)
        image.RescaleSlope, image.RescaleIntercept = k + 1, -1000 * k
        image.PixelData = stored.astype("<i2").tobytes()

    write_ct(tmp_path, edit=edit)
    wanted = np.stack(
        [
            (plane.astype(int) + 1000 * k) // (k + 1) * (k + 1) - 1000 * k
            for k, plane in enumerate(hu)
        ]
    )
    assert np.array_equal(read(tmp_path).array, wanted)


def test_a_fractional_slope_makes_reals_and_a_large_one_wider_numbers(tmp_path):
    def half(image, k):
        image.RescaleSlope = "0.5"

    write_ct(tmp_path / "half", edit=half)
    volume = read(tmp_path / "half")
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, ct_of() * 0.5)

    def large(image, k):
        image.RescaleSlope = 100

    write_ct(tmp_path / "large", edit=large)
    volume = read(tmp_path / "large")
    assert volume.array.dtype == np.int32
    assert np.array_equal(volume.array, ct_of().astype(np.int32) * 100)


def test_overlays_in_spare_bits_are_left_out_and_others_are_refused(tmp_path):
    def edit(image, k):
        bits = np.frombuffer(image.PixelData, "<u2") | 0xF000
        image.PixelData = bits.astype("<u2").tobytes()

    def with_overlay(image, k):
        edit(image, k)
        image.add_new(0x60000102, "US", 12)

    write_ct(tmp_path / "old", vendor="south", edit=with_overlay)
    assert is_ct_of(read(tmp_path / "old"), ct_of())
    write_ct(tmp_path / "odd", vendor="south", edit=edit)
    with pytest.raises(LnqError, match="do not fit the 12 bits"):
        read(tmp_path / "odd")


def test_oblique_slices_lie_where_they_were_taken(tmp_path):
    angle = np.radians(20)
    rows = (0.0, np.cos(angle), np.sin(angle))
    write_ct(tmp_path, orientation=(1, 0, 0, *rows))
    volume = read(tmp_path)
    normal = np.cross((1, 0, 0), rows)
    last = np.array(ORIGIN) + 5 * SPACING[0] * normal
    assert volume.grid.world([5, 0, 0]) == pytest.approx(last * [-1, -1, 1], abs=1e-4)
    assert np.array_equal(volume.array, ct_of())


def move(axis: int, by):
    """Return an edit that moves slices along an axis by what a function says of their number."""

    def edit(image, k):
        position = list(image.ImagePositionPatient)
        position[axis] = float(position[axis]) + by(k)
        image.ImagePositionPatient = position

    return edit


def set_to(**elements):
    def edit(image, k):
        for keyword, value in elements.items():
            value = value(k) if callable(value) else value
            if value is None:
                del image[keyword]
            else:
                setattr(image, keyword, value)

    return edit


def write_without(folder: Path, *numbers: int) -> None:
    write(folder, [image for k, image in enumerate(slices_of(ct_of())) if k not in numbers])


ODD = {
    "slice missing": (lambda f: write_without(f, 2), r"6 mm between .* \(1 missing\)"),
    "three missing": (lambda f: write_without(f, 1, 2, 3), "not evenly spaced"),
    "uneven": (lambda f: write_ct(f, edit=move(2, lambda k: k * k / 10)), "not evenly spaced"),
    "tilted": (lambda f: write_ct(f, edit=move(1, lambda k: k * 0.6)), r"tilted by 11\.3°"),
    "shifted": (
        lambda f: write_ct(f, edit=move(0, lambda k: 2 * (k % 2))),
        "shifted against each other",
    ),
    "one slice": (lambda f: write_without(f, 1, 2, 3, 4, 5), "a single slice"),
    "one place": (
        lambda f: write_ct(f, edit=move(2, lambda k: -3 * k)),
        "lie at one place, as those that watch for contrast",
    ),
    "two sizes": (
        lambda f: write(f, slices_of(ct_of()) + _placed(slices_of(ct_of((1, 4, 5)), series=1), 6)),
        "of different sizes",
    ),
    "two pixel sizes": (
        lambda f: write_ct(f, edit=set_to(PixelSpacing=lambda k: [0.75, 0.5 + k])),
        "pixels of different sizes",
    ),
    "not parallel": (
        lambda f: write_ct(
            f,
            edit=set_to(
                ImageOrientationPatient=lambda k: [1, 0, 0, 0, 0 if k else 1, -1 if k else 0]
            ),
        ),
        "do not lie parallel",
    ),
    "not at right angles": (
        lambda f: write_ct(f, edit=set_to(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
        "not two directions at a right angle",
    ),
    "two frames of reference": (
        lambda f: write_ct(f, edit=set_to(FrameOfReferenceUID=lambda k: f"1.2.{k % 2}")),
        "different frames of reference",
    ),
    "no position": (
        lambda f: write_ct(f, edit=set_to(ImagePositionPatient=None)),
        r"000\.dcm: has no Image Position Patient",
    ),
    "damaged position": (
        lambda f: write_ct(f, edit=set_to(ImagePositionPatient=[1, 2])),
        "damaged Image Position Patient",
    ),
    "no spacing": (lambda f: write_ct(f, edit=set_to(PixelSpacing=None)), "no Pixel Spacing"),
    "no rescale": (lambda f: write_ct(f, edit=set_to(RescaleSlope=None)), "no Rescale Slope"),
    "not HU": (lambda f: write_ct(f, edit=set_to(RescaleType="ED")), r"not HU \(Rescale Type ED\)"),
    "MR": (lambda f: write_ct(f, edit=data.as_mr), "no CT, but MR"),
    "localizer": (
        lambda f: write_ct(f, edit=set_to(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        "no CT, but a localizer",
    ),
    "projection": (
        lambda f: write_ct(f, edit=set_to(ImageType=["DERIVED", "SECONDARY", "MIP"])),
        "is a projection",
    ),
    "two CTs": (
        lambda f: [write_ct(f / str(n), series=n) for n in (1, 2)],
        r"2 CT series, not one: series 1 \(CHEST, 6 files\), series 2",
    ),
    "two patients": (
        lambda f: [write_ct(f / n, patient=n) for n in ("P1", "P2")],
        "2 CT series, not one",
    ),
    "empty folder": (lambda f: f.mkdir(), "no DICOM file"),
    "other files": (lambda f: (f.mkdir(), (f / "a.txt").write_text("x")), "no DICOM file"),
    "not DICOM": (
        lambda f: (write_ct(f), (f / "x.dcm").write_text("x")),
        "is not a DICOM file, though it is called so",
    ),
    "cut off in its header": (lambda f: _cut(f, 300), "damaged"),
    "cut off in its voxels": (lambda f: _cut(f, -20), "cut off or damaged"),
    "no voxels": (lambda f: write_ct(f, edit=set_to(PixelData=None)), "has no voxels"),
    "one UID twice": (
        lambda f: write_ct(f, edit=lambda image, k: setattr(image, "SOPInstanceUID", "1.2.3")),
        "have one SOP Instance UID and differ",
    ),
    "voxels beyond their bits": (
        lambda f: write_ct(f, edit=set_to(BitsStored=8, HighBit=7)),
        "do not fit the 8 bits",
    ),
    "bits above others": (
        lambda f: write_ct(f, vendor="south", edit=set_to(HighBit=15)),
        "its 12 bits end at bit 15",
    ),
    "values beyond 32 bits": (
        lambda f: write_ct(f, edit=set_to(RescaleSlope=10**8)),
        "has values beyond 32 bits",
    ),
    "no distance of columns": (
        lambda f: write_ct(f, edit=set_to(PixelSpacing=[0.75, 0])),
        r"damaged Pixel Spacing \(0\.75\\0\)",
    ),
    "HU by a table": (
        lambda f: write_ct(f, edit=set_to(ModalityLUTSequence=[data.Dataset()])),
        "by a table",
    ),
    "floats": (
        lambda f: write_ct(f, edit=set_to(FloatPixelData=bytes(480))),
        "voxels of type float",
    ),
    "in color": (
        lambda f: write_ct(f, edit=set_to(SamplesPerPixel=3)),
        "in color",
    ),
    "acquisitions that nothing tells apart": (lambda f: _phases(f, {}), "nothing tells its"),
}


def _placed(images: list, k: int) -> list:
    for n, image in enumerate(images):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k + n}"
        image.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + (k + n) * SPACING[0]]
    return images


def _cut(folder: Path, size: int) -> None:
    write_ct(folder)
    path = folder / "003.dcm"
    path.write_bytes(path.read_bytes()[:size])


def _phases(folder: Path, second: dict) -> np.ndarray:
    """Write two volumes of one series at the same places; return the second's HU."""
    brighter = ct_of() + 50
    images = slices_of(brighter, edit=set_to(AcquisitionTime="101112", **second))
    for k, image in enumerate(images):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
    write(folder, slices_of(ct_of(), edit=set_to(AcquisitionTime="101112")))
    write(folder, images, name="second{}.dcm")
    return brighter


@pytest.mark.parametrize("name", ODD)
def test_an_odd_series_is_refused_with_its_reason(name, tmp_path):
    make, why = ODD[name]
    make(tmp_path / "series")
    with pytest.raises(LnqError, match=why):
        read(tmp_path / "series")


def test_two_acquisitions_of_a_series_are_two_volumes(tmp_path):
    brighter = _phases(tmp_path, {"AcquisitionNumber": 2})
    (series,) = find_series([tmp_path]).series
    first, second = series.stacks
    assert (first.part, second.part) == ("acquisition 1", "acquisition 2")
    assert np.array_equal(first.read().array, ct_of())
    assert np.array_equal(second.read().array, brighter)
    with pytest.raises(LnqError, match="2 volumes"):
        read(tmp_path)


def test_acquisitions_that_lie_between_each_other_are_not_mixed(tmp_path):
    later = slices_of(ct_of() + 50, edit=move(2, lambda k: 1))
    for k, image in enumerate(later):
        image.AcquisitionNumber = 2
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
    write_ct(tmp_path)
    write(tmp_path, later, name="later{}.dcm")
    (series,) = find_series([tmp_path]).series
    assert [stack.part for stack in series.stacks] == ["acquisition 1", "acquisition 2"]
    assert np.array_equal(series.stacks[1].read(resample=True).array, ct_of() + 50)


def test_copies_of_files_and_of_slices_are_taken_once_and_said(tmp_path):
    write_ct(tmp_path / "files")
    copy = tmp_path / "files" / "copy.dcm"
    copy.write_bytes((tmp_path / "files" / "002.dcm").read_bytes())
    volume = read(tmp_path / "files")
    assert is_ct_of(volume, ct_of())
    assert volume.notes == ("1 files that are there twice were taken once",)
    write_ct(tmp_path / "slices")
    write(tmp_path / "slices", _placed(slices_of(ct_of()[2:3]), 2), name="again{}.dcm")
    volume = read(tmp_path / "slices")
    assert is_ct_of(volume, ct_of())
    assert volume.notes == ("1 slices that are there twice, alike, were taken once",)


def test_a_localizer_among_slices_is_left_out_and_said(tmp_path):
    images = slices_of(ct_of())
    localizer = slices_of(
        ct_of((1, 4, 5)), edit=set_to(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    )
    write(tmp_path, [*_placed(localizer, 50), *images])
    volume = read(tmp_path)
    assert is_ct_of(volume, ct_of())
    assert volume.notes == ("1 of its images were left out: a localizer",)


def test_other_modalities_beside_the_ct_are_passed_over(tmp_path):
    write_ct(tmp_path / "ct")
    write_ct(tmp_path / "mr", series=2, edit=data.as_mr)
    (tmp_path / "LICENSE").write_text("text")
    assert is_ct_of(read(tmp_path), ct_of())


def test_positions_of_one_decimal_are_even(tmp_path):
    images = slices_of(ct_of(), spacing=(1.25, 0.75, 0.5))
    for image in images:
        image.ImagePositionPatient = [round(float(x), 1) for x in image.ImagePositionPatient]
    write(tmp_path, images)
    assert read(tmp_path).spacing[0] == pytest.approx(1.25, abs=0.02)


def test_uneven_slices_are_interpolated_if_that_is_asked_for(tmp_path):
    hu = np.stack([np.full((4, 5), 100 * k, np.int16) for k in range(5)])
    images = slices_of(hu)
    write(tmp_path, [images[k] for k in (0, 1, 3, 4)])
    volume = read(tmp_path, resample=True)
    assert volume.array[:, 0, 0].tolist() == [0, 100, 200, 300, 400]
    assert volume.spacing[0] == pytest.approx(3)
    assert "resampled" in volume.notes[-1]


def test_a_tilted_stack_is_straightened_if_that_is_asked_for(tmp_path):
    """HU that are a linear function of the place stay that, under any linear interpolation."""
    shape = (8, 20, 16)
    images = slices_of(np.zeros(shape, np.int16), edit=move(1, lambda k: k * 0.9))
    for image in images:
        x, y, z = map(float, image.ImagePositionPatient)
        rows, columns = np.mgrid[: shape[1], : shape[2]]
        hu = 10 * (x + 0.5 * columns) + 20 * (y + 0.75 * rows) + 30 * z
        image.PixelData = np.rint(hu).astype("<i2").tobytes()
    write(tmp_path, images)
    volume = read(tmp_path, resample=True)
    matrix = np.array(volume.grid.direction)
    assert matrix.T @ matrix == pytest.approx(np.eye(3), abs=1e-9)
    index = np.argwhere(volume.array != -1024)
    assert len(index) > 0.7 * np.prod(shape)
    x, y, z = (volume.grid.world(index) * [-1, -1, 1]).T
    inside = volume.array[tuple(index.T)]
    off = np.abs(inside - (10 * x + 20 * y + 30 * z))
    assert np.quantile(off, 0.95) < 1.5


def test_the_content_is_that_of_the_files_whatever_they_are_called(tmp_path):
    write_ct(tmp_path / "a")
    write(tmp_path / "b", slices_of(ct_of())[::-1], name="x{}")
    content = read(tmp_path / "a").content
    assert content == content_of_ct(tmp_path / "a") == content_of_ct(tmp_path / "b")
    assert has_content(tmp_path / "b", content)
    path = tmp_path / "b" / "x0"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert not has_content(tmp_path / "b", content)


def test_a_real_series_is_what_dcm2niix_made_of_it(real, tmp_path):
    archive = real / "nsclc-radiomics" / "LUNG1-003_dicom.tar.xz"
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    volume = read(tmp_path)
    theirs = load(real / "nsclc-radiomics" / "LUNG1-003_ct.nii.gz")
    assert volume.grid.letters == "LPS"
    from lnqtools.images.grid import place
    from lnqtools.images.volume import read_volume

    other = read_volume(real / "nsclc-radiomics" / "LUNG1-003_ct.nii.gz")
    assert np.array_equal(place(volume.array, volume.grid, other.grid, 0), theirs)
