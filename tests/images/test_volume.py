"""Reading odd and damaged files, and writing whole ones."""

from __future__ import annotations

import gzip
import io
import os
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnqtools.cli._names import case_name, files_by_case
from lnqtools.errors import LnqError
from lnqtools.images import nifti as niftis
from lnqtools.images import volume as volumes
from lnqtools.images.box import Box
from lnqtools.images.content import has_content
from lnqtools.images.grid import Grid, difference
from lnqtools.images.nifti import provenance_of, read_provenance
from lnqtools.images.volume import (
    Volume,
    as_label,
    image_suffix,
    read_geometry,
    read_grid,
    read_label,
    read_volume,
    write_volume,
)
from tests.conftest import BIN
from tests.corpus import nifti as odd_files
from tests.corpus.nifti import AFFINE, BASE, PACKED, PLAIN
from tests.grids import grids

pytestmark = pytest.mark.filterwarnings("error")

OWN_WAY = ("extension too long", "sheared by 0.05 mm", "quaternion a hair too long")
OWN_WAY += ("4-D, of size 0", "5-D, of sizes 1 and 0")
AGREED = [odd for odd in odd_files.READABLE if not odd.notes and odd.name not in OWN_WAY]
"""Files that nibabel reads too, and reads alike."""
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
OBLIQUE = odd_files.turned(
    odd_files.turned(AFFINE, odd_files.rotation(15)), odd_files.rotation(-12, axis=0)
)


def volume(array=BASE, affine=AFFINE, **rest) -> Volume:
    return Volume(array, Grid.from_affine(array.shape, affine), **rest)


def extremes(dtype: str) -> np.ndarray:
    """Return random voxels of a type, its smallest and its largest value among them."""
    bits = np.random.default_rng(2).bytes(BASE.size * np.dtype(dtype).itemsize)
    array = np.frombuffer(bits, dtype).reshape(BASE.shape).copy()
    if array.dtype.kind == "f":
        array[~np.isfinite(array)] = 0.1
        limits = np.finfo(dtype)
    else:
        limits = np.iinfo(dtype)
    array[0, 0, :2] = limits.min, limits.max
    return array


def nibabel_array(path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj).T


@contextmanager
def no_longer_than(seconds: int):
    """Raise what no test expects if a block hangs."""

    def hangs(*_):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Odd files


@pytest.mark.parametrize("odd", odd_files.READABLE, ids=lambda odd: odd.name)
def test_readable_odd_file(odd, tmp_path):
    read = read_volume(odd.write(tmp_path))
    assert read.array.dtype == odd.array.dtype
    assert read.array.dtype.isnative
    np.testing.assert_array_equal(read.array, odd.array)
    assert read.notes == odd.notes
    assert read.grid.oriented == odd.oriented
    if odd.oriented:
        assert difference(read.grid, Grid.from_affine(odd.array.shape, odd.affine)) is None
        np.testing.assert_allclose(read.grid.affine, odd.affine, atol=1e-4)


@pytest.fixture
def mapped(monkeypatch) -> None:
    """Let files of any size be mapped into memory; those of the corpus are too small."""
    monkeypatch.setattr(niftis, "LEAST_MAPPED_BYTES", 0)


@pytest.mark.parametrize("odd", odd_files.ALL, ids=lambda odd: odd.name)
def test_a_file_that_is_mapped_is_read_as_any_other(odd, tmp_path, monkeypatch):
    path = odd.write(tmp_path)

    def found():
        try:
            return read_volume(path)
        except LnqError as error:
            return str(error)

    plain = found()
    monkeypatch.setattr(niftis, "LEAST_MAPPED_BYTES", 0)
    of_map = found()
    if isinstance(plain, str):
        assert of_map == plain
        return
    assert of_map.array.dtype == plain.array.dtype
    np.testing.assert_array_equal(of_map.array, plain.array)
    assert (of_map.notes, of_map.content) == (plain.notes, plain.content)
    assert (of_map.grid, of_map.extensions) == (plain.grid, plain.extensions)


@pytest.mark.usefixtures("mapped")
def test_what_is_done_to_a_mapped_file_and_its_array_does_not_meet(tmp_path):
    path = tmp_path / "a.nii"
    write_volume(volume(), path)
    before = path.read_bytes()
    array = read_volume(path).array
    array[0] = 7
    assert path.read_bytes() == before
    write_volume(volume(BASE + 1), path)  # a new file in its place
    np.testing.assert_array_equal(array[1:], BASE[1:])
    np.testing.assert_array_equal(read_volume(path).array, BASE + 1)


BOX_OF_A_LARGE_FILE = """
import resource, sys
from lnqtools.images.volume import read_volume

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
volume = read_volume(sys.argv[1])
assert volume.array[200:210, :10, :10].sum() == 1000
print(peak() - before)
"""


def test_a_box_of_a_plain_file_takes_the_memory_of_the_box(tmp_path):
    """160 MB, of which 1000 voxels are looked at; the file has a hole in place of the others."""
    path = tmp_path / "a.nii"
    write_volume(
        Volume(np.ones((1, 500, 500), np.int16), Grid.of_spacing((1, 500, 500), (1, 1, 1))), path
    )
    content = bytearray(path.read_bytes())
    content[46:48] = (320).to_bytes(2, "little")  # slices
    start = len(content) - 500_000
    with path.open("wb") as file:
        file.write(content[:start])
        for z in range(320):
            file.seek(start + 500_000 * z)
            file.write(content[start:] if 200 <= z < 210 else b"")
        file.truncate(start + 500_000 * 320)
    done = subprocess.run(
        [sys.executable, "-c", BOX_OF_A_LARGE_FILE, path],
        capture_output=True,
        check=True,
        text=True,
    )
    assert float(done.stdout) < 20  # MB


@pytest.mark.parametrize("odd", odd_files.REFUSED, ids=lambda odd: odd.name)
def test_refused_odd_file_in_bounded_memory(odd, tmp_path):
    path = odd.write(tmp_path)
    if odd.name == "unreadable" and os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    tracemalloc.start()
    try:
        with pytest.raises(LnqError, match=odd.error) as caught:
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert path.name not in str(caught.value)
    assert peak < 32 << 20


@pytest.mark.parametrize("odd", AGREED, ids=lambda odd: odd.name)
def test_voxels_and_affine_agree_with_nibabel(odd, tmp_path):
    image = nib.Nifti1Image if b"n+1" in gzip_or_plain(odd.content)[:400] else nib.Nifti2Image
    peer = image.from_bytes(gzip_or_plain(odd.content))
    read = read_volume(odd.write(tmp_path))
    scaled = np.asanyarray(peer.dataobj).T.reshape(read.array.shape)
    np.testing.assert_allclose(read.array, scaled, rtol=1e-6)
    np.testing.assert_allclose(read.grid.affine, peer.affine, atol=1e-4)


def gzip_or_plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


@pytest.mark.parametrize("content", [PLAIN, PACKED], ids=["nii", "gz"])
def test_every_prefix_is_refused(content, tmp_path):
    path = tmp_path / "cut.nii.gz"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(LnqError, match=r"is empty|ends early|more than the file can hold"):
            read_volume(path)


def test_every_flipped_bit_of_gzip_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "flipped.nii.gz"
    whole = volume()
    refused = 0
    last = len(PACKED) - 9
    flips = [(at, bit) for at in range(len(PACKED)) for bit in range(8)]
    flips = [(at, bit) for at, bit in flips if bit == at % 8 or not 12 < at < last]
    for at, bit in flips:
        path.write_bytes(odd_files.flip(PACKED, at, bit))
        try:
            read = read_volume(path)
        except LnqError:
            refused += 1
        else:
            np.testing.assert_array_equal(read.array, whole.array)
            assert read.grid == whole.grid
    assert refused > 0.75 * len(flips)  # some bits of gzip's header mean nothing


@given(
    st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=12),
    st.booleans(),
)
def test_any_header_is_read_or_refused_without_a_warning(tmp_path_factory, changes, packed):
    content = bytearray(PLAIN)
    for at, value in changes:
        content[at] = value
    path = tmp_path_factory.getbasetemp() / "any.nii"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read = read_volume(path)
        except LnqError:
            return
    assert np.isfinite(read.spacing).all()
    assert not read.grid.oriented or np.isfinite(read.grid.affine).all()
    cosines = np.array(read.grid.direction)
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-9)


def test_small_shear_is_straightened_and_a_larger_one_refused(tmp_path):
    path = tmp_path / "sheared.nii"
    affine = odd_files.sheared(AFFINE, 0.01)
    path.write_bytes(odd_files.nifti(affine=affine, codes=(1, 0)))
    read = read_volume(path)  # 4 slices of 1.25 mm: half of 0.05 mm to each side
    cosines = np.array(read.grid.direction)
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-12)
    sheared = Grid.from_affine(BASE.shape, affine)
    apart = read.grid.world(read.grid.corners()) - sheared.world(sheared.corners())
    assert 0.01 < np.linalg.norm(apart, axis=1).max() < 0.1
    many = np.zeros((40, 4, 3), np.uint8)  # the same angle, ten times as many slices
    path.write_bytes(odd_files.nifti(many, affine, codes=(1, 0)))
    with pytest.raises(LnqError, match=r"not at right angles, by 0.2 mm at the corners"):
        read_volume(path)


def test_nan_is_replaced_on_request(tmp_path):
    holes = BASE.astype(np.float32)
    holes[0, 0, 0], holes[1, 2, 1] = np.nan, -np.inf
    path = tmp_path / "holes.nii"
    path.write_bytes(odd_files.nifti(holes))
    read = read_volume(path, replace_nan=-1024)
    assert read.array.dtype == np.float32
    assert read.array[0, 0, 0] == read.array[1, 2, 1] == -1024
    np.testing.assert_array_equal(read.array[2:], holes[2:])
    with pytest.raises(LnqError, match="NaN"):
        read_label(path)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe.nii.gz"
    os.mkfifo(pipe)
    folder = tmp_path / "folder.nii.gz"
    folder.mkdir()
    cases = {
        pipe: "^is a pipe: give it on standard input, with - as IMAGE; what an option names must",
        "/dev/null": "^is not a regular file$",
        folder: "^is a directory$",
        tmp_path / "missing.nii": "^cannot be read: No such file or directory$",
        pipe / "below": "cannot be read: Not a directory",
    }
    for path, message in cases.items():
        for read in (read_volume, read_label, read_grid, read_provenance):
            with no_longer_than(5), pytest.raises(LnqError, match=message):
                read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "locked.nii"
    path.write_bytes(PLAIN)
    path.chmod(0)
    with pytest.raises(LnqError, match="cannot be read: Permission denied"):
        read_volume(path)


def test_grid_and_provenance_need_the_header_alone(tmp_path):
    path = tmp_path / "whole.nii"
    write_volume(volume(affine=OBLIQUE), path, {"tool": "lnq-test", "options": {"a": 1}})
    header = path.read_bytes()[: -BASE.nbytes]
    path.write_bytes(gzip.compress(header))
    assert difference(read_grid(path), volume(affine=OBLIQUE).grid) is None
    assert read_provenance(path) == {"tool": "lnq-test", "options": {"a": 1}}
    with pytest.raises(LnqError, match="ends early"):
        read_volume(path)


# Labels


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([0, 2], np.uint8), "u1"),
        (np.array([0, 255], np.int16), "u1"),
        (np.array([0, 256], np.int16), "u2"),
        (np.array([0, 65536], np.int64), "u4"),
        (np.array([0.0, 3.0], np.float32), "u1"),
        (np.array([-0.0, 1.0]), "u1"),
        (np.array([False, True]), "u1"),
        (np.array([2**32 - 1], np.uint64), "u4"),
        (np.array([2.0**32 - 1]), "u4"),
    ],
)
def test_label_takes_the_smallest_unsigned_type(values, dtype):
    label = as_label(values)
    assert label.dtype == dtype
    np.testing.assert_array_equal(label, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0, -1], np.int16), "cannot hold the negative value -1"),
        (np.array([0.0, 0.5]), "must hold whole numbers, this one holds 0.5$"),
        (np.array([0.99, 1.02, 2.005]), "must hold whole numbers, this one holds 1.02$"),
        (np.array([0.0, -0.02]), "must hold whole numbers, this one holds -0.02$"),
        (np.array([0.0, -0.999999]), "cannot hold the negative value -1$"),
        (np.array([0.0, 123456.75], np.float32), "this one holds 123456.8$"),
        (np.array([0.0, np.nan]), "must hold whole numbers, this one holds nan$"),
        (np.array([0, 2**32], np.uint64), r"label 4.29497e\+09 is too large"),
        (np.array([np.inf]), "label inf is too large"),
    ],
)
def test_what_cannot_be_a_label_is_refused(values, message):
    with pytest.raises(LnqError, match=message):
        as_label(values)


@pytest.mark.parametrize(
    ("values", "label", "deviation"),
    [
        ([0, 254 / 255, 508 / 255], [0, 1, 2], "0.0078"),
        ([0, 254 / 255], [0, 1], "0.0039"),
        ([0, 1.0000153], [0, 1], "1.5e-05"),
        ([0, 0.9999999], [0, 1], "1.2e-07"),
        ([-1e-7, 1], [0, 1], "1e-07"),
        ([-0.0099, 3], [0, 3], "0.0099"),
        ([0.99, 1.01, 299.99], [1, 1, 300], "0.01"),
        ([0, 3], [0, 3], None),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_values_off_whole_numbers_by_rounding_are_rounded_with_a_word(
    values, label, deviation, dtype, tmp_path
):
    array = np.array(values, dtype).reshape(1, 1, -1)
    path = tmp_path / "off.nii"
    path.write_bytes(odd_files.nifti(array))
    read = read_label(path)
    assert read.array.dtype.kind == "u"
    assert read.array.ravel().tolist() == label
    np.testing.assert_array_equal(as_label(array), read.array)
    if dtype == "f8" and deviation == "1.2e-07":
        deviation = "1e-07"
    notes = () if deviation is None else (f"values off whole numbers by up to {deviation} were",)
    assert [n.removesuffix(" rounded") for n in read.notes] == [*notes]


# Files that do not say how their axes lie


NO_CODES = odd_files.nifti(codes=(0, 0))


@pytest.mark.parametrize(
    "letters", ["".join(nib.orientations.ornt2axcodes(o)) for o in odd_files.ALL_ORIENTATIONS]
)
def test_an_assumed_orientation_is_nibabels(letters, tmp_path):
    path = tmp_path / "no codes.nii"
    path.write_bytes(NO_CODES)
    read = read_volume(path).assuming(letters)
    assert nib.aff2axcodes(read.grid.affine) == tuple(letters)
    assert read.grid.letters == letters
    np.testing.assert_allclose(nib.affines.voxel_sizes(read.grid.affine), (0.75, 0.75, 1.25))
    assert read.notes == (odd_files.NO_AXES.partition(":")[0] + f": {letters} was assumed",)
    assert (
        read_volume(odd_files.READABLE[0].write(tmp_path)).assuming(letters).grid.letters == "LPS"
    )


def test_what_is_unknown_is_refused_and_not_written(tmp_path):
    path = tmp_path / "no codes.nii"
    path.write_bytes(NO_CODES)
    read = read_volume(path)
    assert (read.spacing, read.array.shape) == ((1.25, 0.75, 0.75), BASE.shape)
    origin = np.zeros(3)
    asked = (
        lambda grid: grid.affine,
        lambda grid: grid.world(origin),
        lambda grid: grid.index(origin),
        lambda grid: grid.anatomical_axes(),
        lambda grid: grid.letters,
        lambda grid: grid.with_spacing((1.0, 1.0, 1.0)).affine,
        lambda grid: grid.cropped(Box.of((1, 1, 1), (2, 2, 2))).affine,
    )
    for ask in asked:
        with pytest.raises(LnqError, match=r"does not say how its axes .*--assume-orientation LPS"):
            ask(read.grid)
    assert read.grid.axial_axis is None
    for volume, codes in ((read, (0, 0)), (read.assuming("RAS"), (1, 1))):
        write_volume(volume, tmp_path / "again.nii")
        header = nib.load(tmp_path / "again.nii").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == codes
        np.testing.assert_allclose(header.get_zooms(), (0.75, 0.75, 1.25))
        np.testing.assert_array_equal(nibabel_array(tmp_path / "again.nii"), BASE)
    np.testing.assert_allclose(header.get_best_affine(), np.diag([0.75, 0.75, 1.25, 1]))


def test_a_quaternion_that_is_too_long_by_rounding_is_the_unit_one(tmp_path):
    """The header of image-5-headers.sh, at both ends of what is taken."""
    path = tmp_path / "long.nii"
    unit = np.array([0.6, 0.64, 0.48])
    turn = nib.quaternions.quat2mat([0, *unit])
    expected = nib.affines.from_matvec(turn @ np.diag([0.8, 0.8, 3.0]), (150, 120, -300))
    content = odd_files.nifti(affine=expected, codes=(0, 1))
    for excess, is_read in ((1e-6, True), (9.9e-6, True), (1.1e-5, False)):
        long = unit * (1 + excess)
        path.write_bytes(odd_files.patch(content, odd_files.QUATERNION, "3f", *long))
        if is_read:
            np.testing.assert_allclose(read_volume(path).grid.affine, expected, atol=1e-4)
            continue
        with pytest.raises(LnqError, match="neither a usable sform nor qform"):
            read_volume(path)


@pytest.mark.parametrize("packed", [False, True])
def test_half_of_a_pair_names_what_makes_one_file_of_it(packed, tmp_path):
    nib.save(nib.Nifti1Pair(BASE.T, AFFINE), tmp_path / "x.img")
    if packed:
        for name in ("x.img", "x.hdr"):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
            (tmp_path / name).unlink()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(LnqError, match=r"is half of an .hdr/.img pair: .*nib-convert"):
            read_volume(path)
    if not packed:
        subprocess.run([BIN / "nib-convert", "x.hdr", "x.nii.gz"], cwd=tmp_path, check=True)
        np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, BASE)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_foreign_content_is_named_under_any_suffix(suffix, tmp_path):
    for odd in odd_files.foreign():
        if odd.name in ("NRRD", "MetaImage", "tar, packed"):
            continue
        path = tmp_path / f"x{suffix}"
        path.write_bytes(odd.content)
        with pytest.raises(LnqError, match=odd.error):
            read_volume(path)
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        for endianness in "<>":
            path.write_bytes(odd_files.nifti(kind=kind, endianness=endianness))
            with pytest.raises(LnqError, match="is a NIfTI file: call it"):
                read_volume(path)


# NRRD and MetaImage


def itk_image(array=BASE) -> sitk.Image:
    """Return an oblique image with voxels of three sizes."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.75, 1.5, 2.5))
    image.SetOrigin((10, -20, 30))
    turn = odd_files.rotation(20) @ odd_files.rotation(30, axis=1)
    image.SetDirection(turn[:, [1, 0, 2]].ravel().tolist())  # left-handed as well
    return image


def assert_same_places(grid: Grid, image: sitk.Image) -> None:
    """Check the world positions of corner voxels against SimpleITK's, which are LPS."""
    for index in grid.corners().tolist():
        x, y, z = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(grid.world(np.array(index)), (-x, -y, z), atol=1e-3)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
def test_nrrd_and_metaimage_as_simpleitk_reads_them(suffix, packed, tmp_path):
    path = tmp_path / f"sp ace{suffix}"
    for dtype in ("u1", "i2", "f4", "f8"):
        image = itk_image(BASE.astype(dtype))
        sitk.WriteImage(image, str(path), packed)
        read = read_volume(path)
        assert read.array.dtype == dtype
        np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(image))
        assert_same_places(read.grid, image)
        assert read_grid(path) == read.grid
        assert read.array.flags.writeable


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
def test_a_grid_is_not_read_of_a_header_that_claims_too_much(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    if suffix == ".mha":
        sitk.WriteImage(itk_image(BASE), str(path))
        sizes = b" ".join(b"%d" % n for n in BASE.shape[::-1])
        assert sizes in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(sizes, b"30000 30000 30000"))
    else:
        content = bytearray(PLAIN)
        content[42:48] = (30_000).to_bytes(2, "little") * 3
        path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(LnqError, match=r"claims .*voxels.* than the file can hold"):
        read_grid(path)


def test_both_spellings_of_a_nrrds_data_file(tmp_path):
    path = tmp_path / "x.nhdr"
    sitk.WriteImage(itk_image(BASE), str(path))
    header = path.read_bytes()
    assert b"data file:" in header
    path.write_bytes(header.replace(b"data file:", b"datafile:"))
    np.testing.assert_array_equal(read_volume(path).array, BASE)


@pytest.mark.parametrize("header_size", [0, 16, -1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_metaimage_with_a_foreign_header_before_its_voxels(header_size, order, tmp_path):
    """SimpleITK says what these fields mean; without a place the axes are the world's."""
    path = tmp_path / "x.mhd"
    path.write_text(
        "NDims = 3\nDimSize = 3 4 5\nElementType = MET_SHORT\n"
        f"ElementByteOrderMSB = {order == '>'}\nHeaderSize = {header_size}\n"
        "ElementSize = 1 2 3\nPosition = 4 5 6\nElementDataFile = x.raw\n"
    )
    before = b"foreign header.." * (header_size != 0)
    (tmp_path / "x.raw").write_bytes(before + BASE.astype(f"{order}i2").tobytes())
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, BASE)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), BASE)
    assert_same_places(read.grid, image)
    assert read.array.dtype.isnative


def local_meta(*fields: str, spacing: str = "ElementSpacing = 1 1 1") -> bytes:
    """Return a MetaImage whose voxels begin at byte 512, after the header."""
    lines = ("NDims = 3", "DimSize = 3 4 5", "ElementType = MET_SHORT", spacing, *fields)
    text = "\n".join((*lines, "ElementDataFile = LOCAL\n"))
    return f"Comment = {'.' * (501 - len(text))}\n{text}".encode() + BASE.tobytes()


@pytest.mark.parametrize("fields", [(), ("HeaderSize = 512",), ("HeaderSize = -1",)])
@pytest.mark.parametrize("after", [b"", b"." * 512])
def test_the_header_of_a_metaimage_is_counted_from_the_beginning(fields, after, tmp_path):
    path = tmp_path / "x.mha"
    path.write_bytes(local_meta(*fields) + after)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read_volume(path).array, image)
    assert np.array_equal(image, BASE) or (after and fields == ("HeaderSize = -1",))


@pytest.mark.parametrize("size", [1, 511, -2])
def test_a_header_of_a_metaimage_that_ends_in_itself_is_refused(size, tmp_path):
    path = tmp_path / "x.mha"
    path.write_bytes(local_meta(f"HeaderSize = {size}"))
    with pytest.raises(LnqError, match="the field headersize of its header is damaged"):
        read_volume(path)


def test_the_origin_of_a_metaimage_comes_before_its_offset(tmp_path):
    path = tmp_path / "x.mha"
    names = ("Position = 7 8 9", "Offset = 4 5 6", "Origin = 1 2 3", "ImagePosition = 10 20 30")
    for count, origin in ((2, (-4, -5, 6)), (3, (-1, -2, 3)), (4, (-10, -20, 30))):
        path.write_bytes(local_meta(*names[:count]))
        assert_same_places(read_grid(path), sitk.ReadImage(str(path)))
        assert read_grid(path).origin == origin


PLACED = ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 0 0 0")
NO_AXES = "its header names no patient's axes: LPS was taken"
NO_ORIGIN = "its header gives no origin: 0 was taken"


@pytest.mark.parametrize(
    ("fields", "notes"),
    [
        (PLACED, ()),
        (PLACED[1:], (NO_AXES,)),
        (PLACED[:1], (NO_ORIGIN,)),
        (("Rotation = 1 0 0 0 1 0 0 0 1", "Position = 0 0 0"), ()),
        ((*PLACED, "DistanceUnits = mm", "ElementToIntensityFunctionSlope = 1"), ()),
        ((*PLACED, "DataFile = other.raw", "Encoding = none"), ()),
        (
            (*PLACED, "ElementToIntensityFunctionOffset = -1024"),
            ("its intensity function was not applied: the voxels were taken as they are",),
        ),
    ],
)
def test_what_a_metaimage_leaves_open_is_noted(fields, notes, tmp_path):
    path = tmp_path / "x.mha"
    path.write_bytes(local_meta(*fields))
    assert read_volume(path).notes == read_geometry(path)[1] == notes
    path.write_bytes(local_meta(*fields) + b"abc")
    assert read_volume(path).notes == (*notes, "3 bytes after the voxels were ignored")


@pytest.mark.parametrize(
    ("fields", "spacing", "message"),
    [
        ((), "", "does not say how large its voxels are"),
        ((), "elementspacing = 1 1 1", "spells the field ElementSpacing as elementspacing"),
        (("DistanceUnits = cm",), "ElementSize = 1 1 1", "gives lengths in cm, which are not mm"),
        (
            ("ElementByteOrderMSB = True", "BinaryDataByteOrderMSB = False"),
            "ElementSize = 1 1 1",
            "names two byte orders",
        ),
    ],
)
def test_what_a_metaimage_must_not_leave_open_is_refused(fields, spacing, message, tmp_path):
    path = tmp_path / "x.mha"
    path.write_bytes(local_meta(*fields, spacing=spacing or "Comment2 = none"))
    for read in (read_volume, read_grid):
        with pytest.raises(LnqError, match=message):
            read(path)


def nrrd(*fields: str) -> bytes:
    """Return a NRRD file."""
    lines = ("NRRD0005", "type: short", "dimension: 3", "sizes: 3 4 5", "endian: little")
    return "\n".join((*lines, "encoding: raw", *fields, "\n")).encode() + BASE.tobytes()


DIRECTIONS = "space directions: (1,0,0) (0,1,0) (0,0,2)"


@pytest.mark.parametrize(
    ("fields", "notes"),
    [
        (("space: LPS", DIRECTIONS, "space origin: (0,0,0)"), ()),
        (("space: LPS", DIRECTIONS), (NO_ORIGIN,)),
        (("space: scanner-xyz", DIRECTIONS, "space origin: (0,0,0)"), (NO_AXES,)),
        (("spacings: 1 1 2",), (NO_AXES, NO_ORIGIN)),
        (("space: RAS", DIRECTIONS, "space origin: (0,0,0)", 'space units: "mm" "mm" "mm"'), ()),
        (("space: LPS", DIRECTIONS, "space origin: (0,0,0)", "data file:=x", "encoding:=gz"), ()),
        (
            ("space: LPS", DIRECTIONS, "space origin: (0,0,0)", "elementdatafile:=LOCAL"),
            (),
        ),
    ],
)
def test_what_a_nrrd_leaves_open_is_noted(fields, notes, tmp_path):
    path = tmp_path / "x.nrrd"
    path.write_bytes(nrrd(*fields))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, BASE)
    assert volume.spacing == (2, 1, 1)
    assert volume.notes == read_geometry(path)[1] == notes
    path.write_bytes(nrrd(*fields) + b"abc")
    assert read_volume(path).notes == (*notes, "3 bytes after the voxels were ignored")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((), "does not say how large its voxels are"),
        (("spacings: 1 1 nan",), "does not say how large its voxels are"),
        (("space: LPS", "space directions: (1,0,0) (0,1,0) none"), "does not say how large"),
        (("axis mins: 1 2 3", "axis maxs: 7 12 43"), "does not say how large"),
        (("space: RAST", DIRECTIONS), "lies in the space rast, which is not read"),
        (("space: LPS", DIRECTIONS, 'space units: "cm" "cm" "cm"'), "gives lengths in cm"),
        (("spacings: 1 1 2", 'units: "um" "um" "um"'), "gives lengths in um"),
        (("space: LPS", DIRECTIONS, "space origin: (nan,0,0)"), "space origin .* is damaged"),
    ],
)
def test_what_a_nrrd_must_not_leave_open_is_refused(fields, message, tmp_path):
    path = tmp_path / "x.nrrd"
    path.write_bytes(nrrd(*fields))
    for read in (read_volume, read_grid):
        with pytest.raises(LnqError, match=message):
            read(path)


@pytest.mark.parametrize("handedness", [2, 0.7, 0, float("nan")])
def test_a_handedness_that_is_not_minus_one_is_one(handedness, tmp_path):
    """As nibabel and SimpleITK take it."""
    path = tmp_path / "x.nii"
    image = nib.Nifti1Image(BASE.T, None)
    image.set_qform(np.diag([-1.0, -1, 2, 1]), 1)
    image.set_sform(None, 0)
    raw = bytearray(image.to_bytes())
    raw[76:80] = np.float32(handedness).tobytes()
    path.write_bytes(raw)
    np.testing.assert_allclose(read_grid(path).affine, np.diag([-1.0, -1, 2, 1]))


def test_a_negative_length_beside_a_sform_is_noted(tmp_path):
    """SimpleITK mirrors such an axis."""
    path = tmp_path / "x.nii"
    raw = bytearray(nib.Nifti1Image(BASE.T, np.diag([-1.0, -1, 2, 1])).to_bytes())
    raw[88:92] = np.float32(-2).tobytes()
    path.write_bytes(raw)
    assert read_volume(path).notes == ("pixdim disagrees with the affine, the affine was taken",)


def test_directions_of_a_metaimage_that_stretch_are_refused(tmp_path):
    path = tmp_path / "x.mha"
    path.write_bytes(local_meta("TransformMatrix = .71 .71 0 -.71 .71 0 0 0 1"))  # rounded
    assert read_grid(path).spacing == pytest.approx((1, 1, 1))
    path.write_bytes(local_meta("TransformMatrix = 2 0 0 0 2 0 0 0 2"))
    with pytest.raises(LnqError, match="gives directions that are not of length 1"):
        read_grid(path)


def test_nrrd_in_ras_lies_where_it_says(tmp_path):
    path = tmp_path / "ras.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(BASE), str(path))
    content = path.read_bytes().replace(b"(0,0,0)", b"(10,20,30)")
    path.write_bytes(content)
    assert read_grid(path).origin == (-10, -20, 30)
    path.write_bytes(content.replace(b"left-posterior-superior", b"right-anterior-superior"))
    assert read_grid(path).origin == (10, 20, 30)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("packed", [False, True])
def test_prefixes_of_nrrd_and_metaimage_are_refused(suffix, packed, tmp_path):
    path = tmp_path / f"whole{suffix}"
    sitk.WriteImage(itk_image(), str(path), packed)
    content = path.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in {*range(0, len(content), 4), *range(len(content) - 12, len(content))}:
        cut.write_bytes(content[:length])
        with pytest.raises(LnqError):
            read_volume(cut)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_flipped_bits_of_packed_voxels_are_noticed_or_harmless(suffix, tmp_path):
    path = tmp_path / f"whole{suffix}"
    sitk.WriteImage(itk_image(), str(path), True)
    content = path.read_bytes()
    begin = content.index(b"LOCAL\n") + 6 if suffix == ".mha" else content.index(b"\n\n") + 12
    refused = 0
    for at in range(begin, len(content)):
        path.write_bytes(odd_files.flip(content, at, at % 8))
        try:
            np.testing.assert_array_equal(read_volume(path).array, BASE)
        except LnqError:
            refused += 1
    assert refused >= len(content) - begin - 2  # bits that pad a deflate stream mean nothing


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        (".nrrd", b"sizes: 3 4 5", b"sizes: 1024 1024 4000", "ends early"),
        (".mha", b"DimSize = 3 4 5", b"DimSize = 1024 1024 4000", "ends early"),
        (".mha", b"DimSize = 3 4 5", b"DimSize = 3 4 0", "impossible dimensions"),
        (".mha", b"DimSize = 3 4 5", b"DimSize = 3 4 4", "holds more than the 96 bytes of voxels"),
        (".mha", b"CompressedDataSize = ", b"CompressedDataSize = 1", "it is damaged"),
        (".nrrd", b"(1,0,0) (0,1,0)", b"(1,0,0) (.3,1,0)", "not at right angles"),
        (".mha", b"= 1 0 0 0 1 0", b"= 1 0 0 .3 1 0", "not at right angles"),
        (".mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 0 1", "measure 1 × 0 × 1 mm"),
        (".mha", b"LOCAL", b"other.zraw", "its data file other.zraw is missing"),
        (".nrrd", b"NRRD", b"ABCD", "neither a NRRD nor a MetaImage file"),
        (".nrrd", b"NRRD", b"NRRDX", "cannot be read: its header is damaged"),
    ],
)
def test_odd_nrrd_and_metaimage_are_refused(suffix, old, new, message, tmp_path):
    path = tmp_path / f"odd{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(BASE), str(path), True)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(LnqError, match=message):
        read_volume(path)


def test_nrrd_of_other_dimensions_is_refused(tmp_path):
    image = itk_image()
    path = tmp_path / "odd.nrrd"
    sitk.WriteImage(sitk.JoinSeries([image]), str(path))
    np.testing.assert_array_equal(read_volume(path).array, BASE)
    cases = {
        "it is 3 × 4 × 5 × 2 with 1": sitk.JoinSeries([image, image]),
        "it is 3 × 4 with 1 numbers": image[:, :, 0],
        "it is 3 × 4 × 5 with 2 numbers per voxel": sitk.Compose(image, image),
    }
    for message, other in cases.items():
        sitk.WriteImage(other, str(path))
        with pytest.raises(LnqError, match=message):
            read_volume(path)


def test_nrrd_with_a_name_that_is_not_utf_8_is_refused(tmp_path):
    good = tmp_path / "good.nrrd"
    sitk.WriteImage(itk_image(), str(good))
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.nrrd")
    good.rename(bad)
    with pytest.raises(LnqError, match="not UTF-8"):
        read_volume(bad)


def test_text_named_like_an_image_is_refused_quietly(tmp_path, capfd):
    for suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        path = tmp_path / f"text{suffix}"
        for content in ("hello world\n" * 100, ""):
            path.write_text(content)
            with pytest.raises(LnqError, match="is empty, truncated, or neither a NRRD nor"):
                read_volume(path)
    assert capfd.readouterr() == ("", "")


# Writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_written_image_is_read_back_by_everybody(dtype, suffix, tmp_path):
    path = tmp_path / f"written{suffix}"
    written = volume(extremes(dtype), OBLIQUE)
    write_volume(written, path, {"tool": "lnq-test"})
    read = read_volume(path)
    assert read.array.dtype == dtype
    assert read.notes == ()
    assert difference(read.grid, written.grid) is None
    image = sitk.ReadImage(str(path))
    assert_same_places(written.grid, image)
    for array in (read.array, nibabel_array(path), sitk.GetArrayFromImage(image)):
        np.testing.assert_array_equal(array, written.array)
    np.testing.assert_allclose(nib.load(path).affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE, np.diag([-1, 1, 1, 1]) @ OBLIQUE])
def test_written_header_is_canonical(affine, tmp_path):
    path = tmp_path / "written.nii"
    write_volume(volume(affine=affine), path)
    header = nib.load(path).header
    raw = np.frombuffer(path.read_bytes()[:348], header.template_dtype)[0]
    assert (raw["scl_slope"], raw["scl_inter"]) == (1, 0)
    assert (raw["sform_code"], raw["qform_code"]) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-4)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-4)
    np.testing.assert_allclose(header.get_zooms(), (0.75, 0.75, 1.25))
    assert path.stat().st_size == 352 + BASE.nbytes


def test_the_same_volume_makes_the_same_bytes(tmp_path):
    record = {"tool": "lnq-test", "options": {"b": 2, "a": 1}}
    first, second = tmp_path / "first.nii.gz", tmp_path / "second.nii.gz"
    write_volume(volume(affine=OBLIQUE), first, record)
    write_volume(volume(affine=OBLIQUE), second, dict(reversed(record.items())))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[3:8] == bytes(5)  # gzip's header holds no name and no time


@pytest.mark.parametrize(
    "view",
    [
        BASE[::-1, :, ::-1],
        BASE.transpose(2, 0, 1),
        BASE[1:3, ::2, :2],
        np.asfortranarray(BASE),
        BASE.astype(">i2"),
        np.broadcast_to(BASE[:1], BASE.shape),
    ],
    ids=["flipped", "transposed", "cropped", "column-major", "big-endian", "repeated"],
)
def test_any_view_is_written_as_it_looks(view, tmp_path):
    path = tmp_path / "view.nii.gz"
    write_volume(volume(view), path)
    np.testing.assert_array_equal(nibabel_array(path), view)


def test_extensions_are_carried_over_and_the_record_is_renewed(tmp_path):
    source, target = tmp_path / "source.nii", tmp_path / "target.nii.gz"
    note, other = (6, b"a note".ljust(8, b"\0")), (-2, b"1234567890".ljust(24, b"\0"))
    source.write_bytes(
        odd_files.with_extensions(
            odd_files.nifti(endianness=">"),
            *(odd_files.extension(*e, order=">") for e in (note, other)),
            order=">",
        )
    )
    read = read_volume(source)
    assert read.extensions == (note, other)
    assert provenance_of(read.extensions) is None
    write_volume(read, target, {"tool": "lnq-one"})
    assert read_provenance(target) == {"tool": "lnq-one"}
    assert provenance_of(read_volume(target).extensions) == {"tool": "lnq-one"}
    write_volume(read_volume(target), target, {"tool": "lnq-two", "options": {"x": "é"}})
    again = read_volume(target)
    assert again.extensions[1:] == (note, other)
    assert read_provenance(target) == {"tool": "lnq-two", "options": {"x": "é"}}
    assert len(nib.load(target).header.extensions) == 3
    write_volume(again, target)
    assert read_volume(target).extensions == (note, other)


@pytest.mark.parametrize(
    "comment",
    [
        *(b"", b"text", b"[" * 100_000, b'"tool"', b'{"a": 1}', b"\xff\xfe", b"1" * 5000),
        *(b'{"tool": "x", "options": [1]}', b'{"tool": "x", "options": 5}'),
        b'{"tool": "x", "made_with": ' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)
def test_a_comment_that_is_no_record_is_left_alone(comment, tmp_path):
    path = tmp_path / "comment.nii"
    path.write_bytes(odd_files.with_extensions(PLAIN, odd_files.extension(6, comment)))
    assert read_provenance(path) is None
    write_volume(read_volume(path), path)
    assert read_volume(path).extensions[0][1].rstrip(b"\0") == comment


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 1, 40_000), np.uint8), "cannot be written as NIfTI: 40000 × 1 × 1 voxels"),
        (np.zeros((3, 0, 3), np.uint8), "cannot be written as NIfTI: 3 × 0 × 3 voxels"),
        (np.zeros((2, 2, 2), bool), "cannot be written as NIfTI"),
        (np.zeros((2, 2, 2), np.float16), "cannot be written as NIfTI"),
    ],
)
def test_what_nifti_cannot_hold_is_refused(array, message, tmp_path):
    with pytest.raises(LnqError, match=message):
        write_volume(volume(array), tmp_path / "x.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_targets_that_are_not_regular_files_are_refused(tmp_path):
    pipe, folder, file = tmp_path / "pipe.nii", tmp_path / "folder.nii", tmp_path / "file"
    os.mkfifo(pipe)
    folder.mkdir()
    file.touch()
    device = tmp_path / "device.nii"
    device.symlink_to("/dev/null")
    cases = {
        pipe: "exists and is not a regular file",
        folder: "exists and is not a regular file",
        device: "exists and is not a regular file",
        tmp_path / "none" / "x.nii": "cannot write .*No such file or directory",
        file / "x.nii": "cannot write .*Not a directory",
        tmp_path / f"{'x' * 300}.nii": "cannot write .*name too long",
        tmp_path / "x.nrrd": "an image must be named .nii.gz or .nii",
    }
    for path, message in cases.items():
        with no_longer_than(5), pytest.raises(LnqError, match=message):
            write_volume(volume(), path)
    left = {"pipe.nii", "folder.nii", "file", "device.nii"}
    assert {p.name for p in tmp_path.iterdir()} == left
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_long_name_and_a_link_are_written(tmp_path):
    long = tmp_path / f"{'漢' * 80}.nii"  # 240 bytes
    link = tmp_path / "link.nii"
    link.symlink_to(long)
    write_volume(volume(), link, follow=True)
    assert link.is_symlink()
    np.testing.assert_array_equal(nibabel_array(long), BASE)
    assert {p.name for p in tmp_path.iterdir()} == {long.name, "link.nii"}


def test_a_full_disk_leaves_the_target_as_it_was(tmp_path):
    for name in ("x.nii", "x.nii.gz"):
        (tmp_path / name).write_bytes(b"before")
    script = """
import resource, signal, sys
import numpy as np
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume, write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64)).astype(np.uint8)
volume = Volume(noise, Grid.from_affine(noise.shape, np.eye(4)))
for path in sys.argv[1:]:
    try:
        write_volume(volume, path)
    except LnqError as error:
        print(error)
"""
    paths = sorted(str(p) for p in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"cannot write {p}: File too large" for p in paths]
    assert sorted(str(p) for p in tmp_path.iterdir()) == paths
    assert {Path(p).read_bytes() for p in paths} == {b"before"}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask_rules_the_mode(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        write_volume(volume(), tmp_path / "x.nii.gz")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.nii.gz").stat().st_mode) == mode


# Standard streams

COPY = """
import sys
from lnqtools.errors import LnqError
from lnqtools.images.volume import read_volume, write_volume
try:
    write_volume(read_volume("-"), "-", {"tool": "lnq-copy"})
except LnqError as error:
    sys.exit(str(error))
"""


def test_standard_input_to_standard_output(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", COPY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(PACKED[:1])  # the first byte may come alone
        process.stdin.flush()
        time.sleep(0.1)
        out = process.communicate(PACKED[1:], timeout=60)[0]
    assert process.returncode == 0
    path = tmp_path / "out.nii"
    path.write_bytes(out)
    np.testing.assert_array_equal(nibabel_array(path), BASE)
    assert read_provenance(path) == {"tool": "lnq-copy"}


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ("<&-", "standard input is closed or a terminal; pipe an image in"),
        ("< cut.nii.gz", "ends early: the file is truncated"),
        ("< whole.nii.gz >&-", "standard output is closed or a terminal; redirect it"),
        (
            "< whole.nii.gz > /dev/full",
            "cannot write to standard output: No space left on device",
        ),
    ],
)
def test_troubles_of_standard_streams(streams, message, tmp_path):
    (tmp_path / "whole.nii.gz").write_bytes(PACKED)
    (tmp_path / "cut.nii.gz").write_bytes(PACKED[:-9])
    (tmp_path / "through.py").write_text(COPY)
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" through.py {streams}'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode in (1, 120)  # 120: the interpreter could not flush either
    assert done.stderr.splitlines()[0] == message


def test_images_are_not_exchanged_with_a_terminal(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(PLAIN)))
    monkeypatch.setattr(sys, "stdout", Terminal(io.BytesIO()))
    with pytest.raises(LnqError, match="a terminal; pipe an image in"):
        read_volume("-")
    with pytest.raises(LnqError, match="a terminal; redirect it"):
        write_volume(volume(), "-")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("a.nii", ".nii"),
        ("A.NII.GZ", ".NII.GZ"),
        ("dir.nii/a", ""),
        (".nii.gz", ""),
        ("a.b.nrrd", ".nrrd"),
        ("a.gz", ""),
        ("-", ""),
    ],
)
def test_image_suffix(name, suffix):
    assert image_suffix(name) == suffix


def test_volume_knows_its_spacing_and_can_be_replaced():
    given = volume(notes=("odd",), extensions=((6, b"x"),))
    assert given.spacing == (1.25, 0.75, 0.75)
    assert replace(given, array=BASE > 0).extensions == ((6, b"x"),)


@given(grids(), st.sampled_from(DTYPES), st.sampled_from([".nii", ".nii.gz"]), st.data())
def test_any_volume_is_read_as_it_was_written(tmp_path_factory, grid, dtype, suffix, data):
    finite = {"allow_nan": False, "allow_infinity": False} if dtype[0] == "f" else {}
    array = data.draw(
        hnp.arrays(dtype, grid.shape, elements=hnp.from_dtype(np.dtype(dtype), **finite))
    )
    path = tmp_path_factory.mktemp("volume") / f"any{suffix}"
    write_volume(Volume(array, grid), path, None)
    found = read_volume(path)
    assert found.array.dtype == array.dtype
    assert np.array_equal(found.array, array)
    assert not difference(found.grid, grid)


# Formats


def test_a_made_up_format_needs_its_reader_and_a_line(tmp_path, monkeypatch):
    """It is then read, has a grid and a digest, and tools know its suffix."""
    grid = Grid.from_affine(BASE.shape, AFFINE)

    def read(path) -> volumes.Read:
        array = np.frombuffer(Path(path).read_bytes(), BASE.dtype).reshape(grid.shape)
        return array, grid, ("it is made up",), (), read_digest(path)

    def read_digest(path) -> str:
        return f"{len(Path(path).read_bytes())} bytes"

    made_up = volumes.Format((".odd",), read, lambda _: (grid, ("odd",)), read_digest)
    path = tmp_path / "case_0000.Odd"
    path.write_bytes(BASE.tobytes())
    assert image_suffix(path) == ""
    with pytest.raises(LnqError):
        read_volume(path)
    monkeypatch.setattr(volumes, "FORMATS", (*volumes.FORMATS, made_up))
    found = read_volume(path)
    np.testing.assert_array_equal(found.array, BASE)
    assert (found.grid, found.notes) == (grid, ("it is made up",))
    assert read_geometry(path) == (grid, ("odd",))
    assert has_content(path, found.content)
    assert not has_content(path, "1 bytes")
    assert case_name(str(path)) == "case"
    assert files_by_case(str(tmp_path)) == {"case": [path]}
    write_volume(found, tmp_path / "case.nii")
    np.testing.assert_array_equal(nibabel_array(tmp_path / "case.nii"), BASE)
