"""A mask in the order of its CT's slices, and what is said of it, before it is an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnqtools.dicom.export import Algorithm, Export, _say_how_deidentified, prepared
from lnqtools.dicom.frames import stored_frames
from lnqtools.dicom.numbering import Numbering
from lnqtools.dicom.series import find_series
from lnqtools.dicom.stacks import Stack
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume
from tests.dicom_data import (
    Dataset,
    ExplicitVRLittleEndian,
    ct_of,
    enhanced_ct,
    matrix_of_series,
    slices_of,
    write,
    write_ct,
    write_one,
)

HU = ct_of((4, 5, 6))
MANUAL = Algorithm("MANUAL")


def stack_in(folder: Path) -> Stack:
    (series,) = find_series([folder]).series
    (stack,) = series.stacks
    return stack


def exported(stack: Stack, mask: np.ndarray | None = None, description: str = "nodes") -> Export:
    """Return a mask of a CT, by default of one voxel in slice 0, two in slice 1, and so on."""
    if mask is None:
        mask = np.zeros(HU.shape, np.uint8)
        for k in range(len(mask)):
            mask[k, 1, : k + 1] = 1
    volume = Volume(mask, stack.grid)
    numbered = Numbering(False, False, 6).numbers(volume)
    return prepared(volume, stack, numbered, MANUAL, description)


def without(*keywords: str, **values):
    """Return an edit of slices that takes elements away and sets others."""

    def edit(image, k):
        for keyword in keywords:
            if keyword in image:
                delattr(image, keyword)
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return edit


@pytest.mark.parametrize("backwards", [False, True])
def test_frames_are_in_the_order_of_the_one_file_that_has_them(backwards, tmp_path):
    write_one(tmp_path / "e.dcm", enhanced_ct(HU, backwards), ExplicitVRLittleEndian)
    export = exported(stack_in(tmp_path))
    assert len(export.sources) == 1
    counts = [int((frame != 0).sum()) for frame in export.frames]
    assert counts == ([4, 3, 2, 1] if backwards else [1, 2, 3, 4])


def test_frames_of_single_files_are_in_the_order_of_the_slices(tmp_path):
    write(tmp_path, slices_of(HU)[::-1])
    export = exported(stack_in(tmp_path))
    assert [header.InstanceNumber for header in export.sources] == [1, 2, 3, 4]
    assert [int((frame != 0).sum()) for frame in export.frames] == [1, 2, 3, 4]


def test_what_must_be_in_a_header_is_there_and_empty(tmp_path):
    write_ct(tmp_path, HU, edit=without("AccessionNumber", "PatientBirthDate"))
    header = exported(stack_in(tmp_path)).sources[0]
    assert (header.AccessionNumber, header.PatientBirthDate) == ("", "")
    assert (header.PatientID, header.StudyID) == ("P1", "S1")


def test_a_ct_without_frame_of_reference_is_refused(tmp_path):
    write_ct(tmp_path, HU, edit=without("FrameOfReferenceUID"))
    with pytest.raises(LnqError, match="has no Frame of Reference UID"):
        exported(stack_in(tmp_path)).sources  # noqa: B018


def test_a_mask_elsewhere_is_refused_and_a_cropped_one_told_the_way(tmp_path):
    write_ct(tmp_path, HU)
    stack = stack_in(tmp_path)
    numbered = Numbering(False, False, 6)
    for shape, spacing, way in (
        ((3, 5, 6), (3.0, 0.75, 0.5), "; lnq-crop --label --like CT pastes it back"),
        ((4, 5, 6), (3.0, 1.5, 0.5), ""),
    ):
        grid = Grid.from_affine(shape, matrix_of_series(spacing, (-12.5, -20.25, -37.0)))
        volume = Volume(np.ones(shape, np.uint8), grid)
        with pytest.raises(LnqError) as refused:
            prepared(volume, stack, numbered.numbers(volume), MANUAL, "nodes")
        said = str(refused.value)
        assert said.startswith("does not lie on the grid of its CT series: ")
        assert said.endswith("back") == bool(way)
        assert way in said


def test_numbers_and_times_are_those_of_the_ct(tmp_path):
    write_ct(tmp_path / "a", HU, series=3)
    export = exported(stack_in(tmp_path / "a"))
    assert [export.series_number(kind) for kind in ("SEG", "RTSTRUCT", "SR")] == [1003, 1004, 1005]
    assert export.time() == {"date": "20240506", "time": "101112"}
    edit = without("SeriesNumber", "StudyTime", SeriesDate="20240507")
    write_ct(tmp_path / "b", HU, edit=edit)
    export = exported(stack_in(tmp_path / "b"))
    assert export.series_number("SEG") == 1000
    assert export.time() == {"date": "20240507", "time": "000000"}
    write_ct(tmp_path / "c", HU, edit=without("StudyDate"))
    assert exported(stack_in(tmp_path / "c")).time() == {"date": "19000101", "time": "000000"}


def test_uids_are_those_of_the_voxels_and_of_what_is_said(tmp_path):
    write_ct(tmp_path, HU)
    stack = stack_in(tmp_path)
    other = np.zeros(HU.shape, np.uint8)
    made = [exported(stack), exported(stack), exported(stack, other), exported(stack, None, "LN")]
    uids = [export.uid("series") for export in made]
    assert uids[0] == uids[1]
    assert len({*uids, made[0].uid("instance")}) == 4


def test_how_a_patient_was_deidentified_is_said_as_the_ct_says_it():
    source, made = Dataset(), Dataset()
    made.PatientIdentityRemoved = "YES"
    _say_how_deidentified(made, source)
    assert "PatientIdentityRemoved" not in made
    source.DeidentificationMethod, source.PatientIdentityRemoved = "dates shifted", "YES"
    _say_how_deidentified(made, source)
    assert (made.DeidentificationMethod, made.PatientIdentityRemoved) == ("dates shifted", "YES")


def test_the_frames_of_a_file_are_its_stored_values(tmp_path):
    write_one(tmp_path / "e.dcm", enhanced_ct(HU), ExplicitVRLittleEndian)
    stored = np.stack([*stored_frames(tmp_path / "e.dcm")])
    assert np.array_equal(stored, HU + np.arange(4)[:, None, None])
    (tmp_path / "x.dcm").write_bytes(b"no DICOM")
    with pytest.raises(LnqError, match=r"has no voxels|cut off or damaged"):
        [*stored_frames(tmp_path / "x.dcm")]


def test_a_file_that_describes_fewer_frames_than_it_has_is_damaged(tmp_path):
    image = enhanced_ct(HU)
    del image.PerFrameFunctionalGroupsSequence[-1]
    write_one(tmp_path / "e.dcm", image, ExplicitVRLittleEndian)
    with pytest.raises(LnqError, match="describes 3 of its 4 frames: it is damaged"):
        stack_in(tmp_path)
