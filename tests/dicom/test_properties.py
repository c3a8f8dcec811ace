"""What holds of any series and any mask."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnqtools.components.diameters import recist_axes_mm
from lnqtools.components.labeling import find_components
from lnqtools.dicom.export import Algorithm, prepared, write_object
from lnqtools.dicom.kinds import make_object
from lnqtools.dicom.numbering import Numbering
from lnqtools.dicom.objects import find_drawings, require_drawings
from lnqtools.dicom.outlines import outlines_of
from lnqtools.dicom.overview import safe_name, volumes_of
from lnqtools.dicom.record import read_record
from lnqtools.dicom.rtstruct import filled
from lnqtools.dicom.segments import Segment, chosen_segments
from lnqtools.dicom.series import content_of_ct, find_series, has_content, read_one_ct
from lnqtools.dicom.straightening import resampled
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.nifti import named_labels
from lnqtools.images.seg_nrrd import color_of, read_layers, write_segmentation
from lnqtools.images.seg_nrrd import read_record as read_nrrd_record
from lnqtools.images.volume import Volume, read_label, write_volume
from tests.dicom_data import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    box_outline,
    ct_of,
    enhanced_ct,
    matrix_of_series,
    slices_of,
    write,
    write_one,
    write_rtstruct,
    write_seg,
)

SHAPE = (4, 7, 6)
FEW = settings(max_examples=8)
"""Each writes a series of files."""


def masks(shape=SHAPE, highest=1):
    return arrays(np.uint8, shape, elements=st.integers(0, highest))


@FEW
@given(st.permutations(range(4)), st.sampled_from(["north", "south"]), st.integers(-3, 4))
def test_the_order_of_files_changes_nothing(order, vendor, shift):
    hu = ct_of(SHAPE) + np.int16(shift)
    with TemporaryDirectory() as name:
        folder = Path(name)
        images = slices_of(hu, vendor=vendor)
        write(folder, [images[k] for k in order])
        volume = read_one_ct(folder)
        assert np.array_equal(volume.array, hu)
        assert volume.grid.affine == pytest.approx(matrix_of_series())
        assert content_of_ct(folder) == volume.content
        assert has_content(folder, volume.content)
        (found,) = volumes_of(find_series([folder]).series, (), None, "patient")
        assert found.name == "P1"


@FEW
@given(masks(), st.sampled_from(["seg", "rtstruct"]), st.booleans())
def test_any_mask_comes_back_from_what_it_was_exported_to(mask, kind, per_node):
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "ct", slices_of(ct_of(SHAPE)))
        (series,) = find_series([folder / "ct"]).series
        (stack,) = series.stacks
        volume = Volume(mask, stack.grid)
        numbered = Numbering(per_node, False, 6).numbers(volume)
        made = prepared(volume, stack, numbered, Algorithm("MANUAL"), "nodes")
        record = {"tool": "test", "options": {}}
        path = folder / "out" / "x.dcm"
        path.parent.mkdir()
        write_object(make_object(kind, made), made, path, record, replace=True)
        assert read_record(path) == record
        drawings, archive = find_drawings([folder / "out"])
        require_drawings(drawings, archive)
        if numbered.nodes:
            rules = {"instances": True, "uncovered": "background"}
            assert np.array_equal(
                drawings[0].mask(stack.grid, ["*"], **rules).array, numbered.array
            )


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[Path]:
    """Return files of many shapes, each alone in its folder."""
    place = tmp_path_factory.mktemp("objects")
    slices = slices_of(ct_of(SHAPE))
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:4, 2:5] = 1
    (place / "enhanced").mkdir()
    write_one(place / "enhanced" / "e.dcm", enhanced_ct(ct_of(SHAPE)), ExplicitVRLittleEndian)
    write(place / "plain", slices[:1], ImplicitVRLittleEndian)
    return [
        *(place / "enhanced" / "e.dcm", place / "plain" / "000.dcm"),
        write_seg(place / "seg" / "s.dcm", slices, {"a": mask}),
        write_rtstruct(
            place / "rtstruct" / "r.dcm", slices, {"a": [box_outline(1, (0.5, 3.5), (1.5, 4.5))]}
        ),
    ]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3), st.floats(0, 1, exclude_max=True), st.binary(max_size=3), st.booleans())
def test_a_damaged_file_is_refused_in_a_sentence_or_read(objects, which, at, content, cut):
    path = objects[which]
    whole = path.read_bytes()
    place = 132 + int(at * (len(whole) - 132))
    path.write_bytes(whole[:place] + content + (b"" if cut else whole[place + len(content) :]))
    grid = Grid.from_affine(SHAPE, matrix_of_series())
    rules = {"instances": False, "uncovered": "unknown", "resample": True}
    said = ""
    try:
        for drawing in find_drawings([path.parent])[0]:
            assert drawing.mask(grid, ["*"], **rules).array.shape == SHAPE
        read_one_ct(path.parent, resample=True)
    except LnqError as error:
        said = str(error)
    finally:
        path.write_bytes(whole)
    assert "\n" not in said


@given(masks((1, 9, 8)))
def test_outlines_enclose_the_pixels_of_any_picture(mask):
    outlines = outlines_of(mask[0])
    if mask.any():
        back, outside = filled(outlines, mask.shape[1:])
        assert np.array_equal(back, mask[0] != 0)
        assert outside == 0
    else:
        assert outlines == []


@given(masks(highest=3), st.dictionaries(st.integers(1, 3), st.text(max_size=9)))
def test_any_label_comes_back_from_slicers_file(mask, names):
    grid = Grid.from_affine(SHAPE, matrix_of_series())
    with TemporaryDirectory() as name:
        path = Path(name) / "x.seg.nrrd"
        stream = BytesIO()
        write_segmentation(mask, grid, names, stream, {"tool": "test"})
        path.write_bytes(stream.getvalue())
        layers = read_layers(path)
        assert np.array_equal(layers.array[0], mask)
        assert layers.grid.affine == pytest.approx(grid.affine)
        assert {s.value for s in layers.segments} == set(
            np.unique(mask[mask > 0]) if mask.any() else [1]
        )
        assert read_nrrd_record(path) == {"tool": "test"}
        write_volume(Volume(mask, grid), path)
        assert np.array_equal(read_label(path).array, mask)


@given(masks())
def test_the_long_axis_is_not_shorter_than_the_short_one(mask):
    grid = Grid.from_affine(SHAPE, matrix_of_series())
    long_mm, short_mm = recist_axes_mm(find_components(mask, grid, 6))
    assert (long_mm >= short_mm * (1 - 1e-9)).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True))
def test_segments_are_found_by_their_numbers(numbers):
    segments = [Segment(number, f"node {number}") for number in numbers]
    wanted = numbers[: len(numbers) // 2 + 1]
    found = chosen_segments(segments, [str(number) for number in wanted])
    assert [segment.number for segment in found] == sorted(wanted)


@given(st.text())
def test_a_safe_name_is_one_part_of_a_path_and_stays_itself(text):
    name = safe_name(text)
    assert safe_name(name) == name
    assert "/" not in name
    assert not name.startswith((".", "-"))


@given(st.integers(1, 40))
def test_colors_of_segments_differ(count):
    colors = [color_of(k, count) for k in range(count)]
    assert len(set(colors)) == count
    assert all(0 <= part <= 1 for color in colors for part in color)


@given(st.lists(st.floats(1, 3), min_size=3, max_size=6))
def test_uneven_slices_of_a_linear_image_are_interpolated_exactly(gaps):
    depths = np.concatenate([[0.0], np.cumsum(gaps)])
    array = np.broadcast_to(depths[:, None, None], (len(depths), 2, 3)).astype(np.float32)
    even, affine = resampled(array, np.diag([1.0, 1.0, 2.0, 1.0]), depths)
    assert affine[2, 2] == pytest.approx(min(gaps))
    assert even[:, 0, 0] == pytest.approx(np.arange(len(even)) * min(gaps), abs=1e-4)


def test_labels_without_names_have_none():
    assert named_labels(()) == {}
