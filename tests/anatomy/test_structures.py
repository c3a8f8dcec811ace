"""A folder with one mask per structure is read as a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnqtools.anatomy.maps import LOBES, class_names, lung_mask, structure_names
from lnqtools.anatomy.structures import LUNGS, is_structure_folder, read_anatomy
from lnqtools.errors import LnqError
from lnqtools.images.content import has_content
from tests.conftest import affine, save

MATRIX = affine((1.0, 2.0, 3.0))
SHAPE = (2, 3, 4)
V2 = class_names("v2")


def write(folder: Path, **voxels: tuple[int, int, int] | list) -> Path:
    """Write a mask of each structure, 1 in the voxels given."""
    folder.mkdir(exist_ok=True)
    for name, where in voxels.items():
        mask = np.zeros(SHAPE, np.uint8)
        for index in where if isinstance(where, list) else [where]:
            mask[index] = 1
        save(folder / f"{name}.nii.gz", mask, MATRIX)
    return folder


def lobes(**more) -> dict:
    return {name: (0, 0, 0) if k == 0 else (1, 1, k % 4) for k, name in enumerate(LOBES)} | more


def test_structures_have_the_numbers_of_the_newer_version_that_has_them_all(tmp_path):
    folder = write(tmp_path / "case", aorta=(0, 0, 1), trachea=(1, 2, 3), heart=[(0, 1, 0)])
    volume = read_anatomy(folder)
    expected = np.zeros(SHAPE, np.uint8)
    expected[0, 0, 1], expected[1, 2, 3], expected[0, 1, 0] = 52, 16, 51
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == np.uint8
    assert structure_names(volume) == {16: "trachea", 51: "heart", 52: "aorta"}
    assert structure_names(volume, "v2") == class_names("v2")
    assert volume.notes == ()
    assert volume.spacing == (3.0, 2.0, 1.0)


def test_a_structure_of_version_1_alone_makes_it_a_map_of_that(tmp_path):
    folder = write(tmp_path / "case", aorta=(0, 0, 1), heart_atrium_left=(0, 0, 2))
    assert structure_names(read_anatomy(folder)) == {7: "aorta", 45: "heart_atrium_left"}
    with pytest.raises(LnqError, match=r"^holds heart_atrium_left, which is not a class of v2$"):
        read_anatomy(folder, classes="v2")


def test_the_version_that_is_given_numbers_what_both_have(tmp_path):
    folder = write(tmp_path / "case", aorta=(0, 0, 1))
    assert read_anatomy(folder, classes="v1").array[0, 0, 1] == 7
    assert read_anatomy(folder, classes="v2").array[0, 0, 1] == 52


def test_structures_of_both_versions_are_numbered_by_name(tmp_path):
    folder = write(tmp_path / "case", heart_atrium_left=(0, 0, 1), sternum=(0, 0, 2))
    assert structure_names(read_anatomy(folder)) == {1: "heart_atrium_left", 2: "sternum"}


def test_of_a_folder_of_several_tasks_each_has_its_own(tmp_path):
    folder = write(
        tmp_path / "case", **lobes(lung_vessels=(0, 0, 0), abdominal_cavity=(0, 2, 2), ct=(0, 0, 3))
    )
    (folder / "statistics.json").write_text("{}")
    (folder / "._aorta.nii.gz").write_text("of a Mac")
    assert set(structure_names(read_anatomy(folder)).values()) == set(LOBES)
    assert structure_names(read_anatomy(folder, "lung_vessels")) == {1: "lung_vessels"}
    assert structure_names(read_anatomy(folder, "trunk_cavities")) == {1: "abdominal_cavity"}


def test_lungs_are_read_of_their_five_files_alone(tmp_path):
    folder = write(tmp_path / "case", **lobes())
    (folder / "aorta.nii.gz").write_bytes(b"not looked at")
    volume = read_anatomy(folder, LUNGS)
    np.testing.assert_array_equal(np.argwhere(lung_mask(volume) != 0)[:, 0], [0, 1, 1, 1, 1])
    (folder / f"{LOBES[2]}.nii.gz").unlink()
    with pytest.raises(LnqError, match=f"^is a folder without {LOBES[2]}, of the five lobes"):
        read_anatomy(folder, LUNGS)


@settings(max_examples=30)
@given(hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 10, 16, 51, 52, 117])))
def test_a_map_parted_into_its_structures_is_read_as_it_was(tmp_path_factory, array):
    folder = tmp_path_factory.mktemp("parted")
    names = {number: V2[number] for number in np.unique(array).tolist() if number}
    for number, name in names.items():
        save(folder / f"{name}.nii.gz", (array == number).astype(np.uint8) * 255, MATRIX)
    assert is_structure_folder(folder) == bool(names)
    if names:
        volume = read_anatomy(folder)
        np.testing.assert_array_equal(volume.array, array)
        assert structure_names(volume) == names
        assert has_content(folder, volume.content)


def test_where_structures_overlap_the_first_by_number_counts_and_that_is_told(tmp_path):
    both = [(0, 0, 1), (0, 0, 2)]
    folder = write(tmp_path / "case", trachea=both, aorta=[*both, (1, 0, 0)])
    volume = read_anatomy(folder)
    assert volume.array[0, 0, 1] == volume.array[0, 0, 2] == 16
    assert volume.array[1, 0, 0] == 52
    assert volume.notes == (
        "2 voxels are of several structures, and count for the first by number: aorta",
    )


def test_folders_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    other = write(tmp_path / "other", ct=(0, 0, 0))
    assert not is_structure_folder(tmp_path / "empty")
    assert not is_structure_folder(other)
    assert not is_structure_folder(tmp_path / "nowhere")
    assert is_structure_folder(write(tmp_path / "case", aorta=(0, 0, 0)))
    with pytest.raises(LnqError, match=r"^is a folder without the file of a structure of the task"):
        read_anatomy(other)
    with pytest.raises(LnqError, match=r"of a lung lobe, as lung_lower_lobe_left.nii.gz; it holds"):
        read_anatomy(other, LUNGS)


def test_files_on_two_grids_and_damaged_ones_are_named(tmp_path):
    folder = write(tmp_path / "case", aorta=(0, 0, 1), trachea=(0, 0, 2))
    save(folder / "aorta.nii.gz", np.zeros((2, 3, 5), np.uint8), MATRIX)
    with pytest.raises(LnqError) as caught:
        read_anatomy(folder)
    assert str(caught.value) == (
        "trachea.nii.gz and aorta.nii.gz do not lie on one grid: their sizes are 4 × 3 × 2 and "
        "5 × 3 × 2 voxels"
    )
    (folder / "aorta.nii.gz").write_bytes(b"no image")
    with pytest.raises(LnqError, match=r"^aorta\.nii\.gz: "):
        read_anatomy(folder)


def test_a_folder_has_its_content_until_a_file_of_it_changes(tmp_path):
    folder = write(tmp_path / "case", aorta=(0, 0, 1), trachea=(0, 0, 2))
    content = read_anatomy(folder).content
    assert has_content(folder, content)
    assert not has_content(folder / "aorta.nii.gz", content)
    write(folder, aorta=(0, 0, 3))
    assert not has_content(folder, content)
    write(folder, aorta=(0, 0, 1))
    assert has_content(folder, content)
    write(folder, heart=(1, 1, 1))  # it would have had a part in the map
    assert not has_content(folder, content)
    (folder / "heart.nii.gz").unlink()
    (folder / "trachea.nii.gz").unlink()
    assert not has_content(folder, content)
