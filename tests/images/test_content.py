"""Whether a file still has a content: what is looked at, and what another content is."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given
from hypothesis import strategies as st

from lnqtools.anatomy.maps import read_map
from lnqtools.errors import LnqError
from lnqtools.images.content import grid_digest, has_content
from lnqtools.images.names import names_table_path
from lnqtools.images.volume import read_grid, read_volume
from tests.conftest import affine, save
from tests.grids import as_stored, grids

ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def digest(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}-{len(content)}"


@pytest.fixture
def packed(tmp_path):
    return save(tmp_path / "a.nii.gz", ARRAY)


def test_a_volume_knows_what_was_read_and_packing_does_not_count(packed):
    content = gzip.decompress(packed.read_bytes())
    plain = packed.with_name("a.nii")
    plain.write_bytes(content)
    assert read_volume(packed).content == read_volume(plain).content == digest(content)
    assert has_content(plain, digest(content))
    assert has_content(packed, digest(content))


def test_another_content_is_told(packed):
    before = read_volume(packed).content
    for place, value in ((0, 7), (-1, 7)):  # of the voxels the first and the last
        other = ARRAY.copy()
        other.flat[place] = value
        assert not has_content(save(packed.with_name("b.nii.gz"), other), before)
        assert not has_content(save(packed.with_name("b.nii"), other), before)
    longer = packed.with_name("c.nii")
    longer.write_bytes(gzip.decompress(packed.read_bytes()) + b"0")
    assert not has_content(longer, before)


def test_of_gzip_the_end_alone_is_read_where_it_fits(packed):
    content = gzip.decompress(packed.read_bytes())
    spoiled = bytearray(packed.read_bytes())
    spoiled[20:-8] = b"\xff" * (len(spoiled) - 28)
    packed.write_bytes(spoiled)
    assert has_content(packed, digest(content))
    with pytest.raises(LnqError, match="damaged"):
        has_content(packed, digest(content + b"more"))


MEMBERS = st.lists(st.binary(max_size=40), min_size=1, max_size=4)


@given(members=MEMBERS, padding=st.integers(0, 20), other=MEMBERS)
def test_members_of_gzip_are_one_content(tmp_path_factory, members, padding, other):
    """As of bgzip, whose last member is empty, of pigz, and of files written in blocks."""
    path = tmp_path_factory.getbasetemp() / "members.nii.gz"
    path.write_bytes(b"".join(map(gzip.compress, members)) + bytes(padding))
    content, another = b"".join(members), b"".join(other)
    assert has_content(path, digest(content))
    assume(another != members[-1])  # see has_content
    assert has_content(path, digest(another)) == (another == content)


def test_the_last_of_two_whole_images_does_not_stand_for_both(packed):
    """Their lengths are equal, so that the end of the file looks like that of one image."""
    other = save(packed.with_name("b.nii.gz"), ARRAY + 1)
    both = packed.with_name("both.nii.gz")
    both.write_bytes(packed.read_bytes() + other.read_bytes())
    made_from = read_volume(both).content
    assert has_content(both, made_from)
    changed = save(packed, ARRAY + 2)
    both.write_bytes(changed.read_bytes() + other.read_bytes())
    assert not has_content(both, made_from)


@pytest.mark.parametrize("name", ["a.nrrd", "a.seg.nrrd", "a.mha", "a.nhdr", "a.mhd"])
def test_files_of_itk_count_with_their_voxels(tmp_path, name):
    def write(array) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / name)

    write(ARRAY)
    files = sorted(tmp_path.iterdir())
    assert len(files) == (2 if name.endswith(("hd", "hdr")) else 1)
    before = read_volume(tmp_path / name).content
    write(ARRAY)
    assert has_content(tmp_path / name, before)
    write(ARRAY + 1)
    assert not has_content(tmp_path / name, before)


@given(grid=grids(), axis=st.integers(0, 2), moved=st.floats(1e-3, 100))
def test_a_grid_is_told_from_one_that_is_moved_or_larger(grid, axis, moved):
    stored = as_stored(grid)
    assert grid_digest(as_stored(stored)) == grid_digest(stored)
    origin, shape = list(stored.origin), list(stored.shape)
    origin[axis] += moved
    assert grid_digest(replace(stored, origin=tuple(origin))) != grid_digest(stored)
    shape[axis] += 1
    assert grid_digest(replace(stored, shape=tuple(shape))) != grid_digest(stored)


def test_of_a_grid_the_place_counts_and_not_the_voxels(tmp_path):
    first = save(tmp_path / "a.nii.gz", ARRAY, affine((1, 2, 3), (4, 5, 6)))
    grid = grid_digest(read_grid(first))
    assert has_content(save(tmp_path / "b.nii.gz", ARRAY + 1, affine((1, 2, 3), (4, 5, 6))), grid)
    assert not has_content(save(tmp_path / "c.nii", ARRAY, affine((1, 2, 3), (4, 5, 7))), grid)
    assert not has_content(save(tmp_path / "d.nii", ARRAY[:2], affine((1, 2, 3), (4, 5, 6))), grid)


def test_a_map_counts_with_the_table_that_names_its_structures(tmp_path):
    path = save(tmp_path / "a.nii.gz", ARRAY.astype(np.uint8))
    nameless = read_map(path).content
    table = names_table_path(path)
    table.write_text("index\tname\tvoxels\n1\taorta\t1\n")
    named = read_map(path).content
    assert has_content(path, nameless)
    assert has_content(path, named)
    table.write_text("index\tname\tvoxels\n1\theart\t1\n")
    assert has_content(path, nameless)
    assert not has_content(path, named)
    table.unlink()
    assert not has_content(path, named)


@pytest.mark.parametrize(
    "odd", ["", "-", "x", "00000000-", "0000-12", "00000000-1x", f"00000000-{'9' * 5000}", "grid-"]
)
def test_what_is_not_a_digest_is_that_of_nothing(packed, odd):
    assert not has_content(packed, odd)
    sitk.WriteImage(sitk.ReadImage(packed), packed.with_name("a.nrrd"))
    assert not has_content(packed.with_name("a.nrrd"), odd)
