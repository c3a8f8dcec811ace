"""SEG, RTSTRUCT and .seg.nrrd: to the voxel what was drawn, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnqtools.dicom.objects import find_drawings
from lnqtools.dicom.rtstruct import filled
from lnqtools.dicom.segments import Segment, chosen_segments
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.names import names_in_header
from tests.dicom_data import (
    box_outline,
    ct_of,
    matrix_of_series,
    pydicom,
    shuffle_frames,
    slices_of,
    write_rtstruct,
    write_seg,
)

SHAPE = (6, 10, 12)
GRID = Grid.from_affine(SHAPE, matrix_of_series())


def box(z: slice, y: slice, x: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[z, y, x] = 1
    return mask


ONE = box(slice(1, 3), slice(2, 6), slice(3, 7))
TWO = box(slice(4, 5), slice(6, 9), slice(8, 11))
NODES = {"node a": ONE, "node b": TWO}
SLICES = slices_of(ct_of(SHAPE))


def mask_of(path: Path, wanted=None, grid: Grid = GRID, **how):
    (drawing,), _ = find_drawings([path])
    rules = {"instances": False, "uncovered": "background"}
    return drawing.mask(grid, wanted, **{**rules, **how})


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("omit_empty", [True, False])
def test_a_seg_of_any_kind_gives_its_voxels(kind, omit_empty, tmp_path):
    path = write_seg(tmp_path / "s.dcm", SLICES, NODES, kind=kind, omit_empty=omit_empty)
    assert np.array_equal(mask_of(path).array, ONE | TWO)
    numbered = mask_of(path, instances=True)
    assert np.array_equal(numbered.array, ONE + 2 * TWO)
    assert names_in_header(numbered) == {1: "node a", 2: "node b"}
    covered = mask_of(path, uncovered="unknown").array
    held = (ONE | TWO).any(axis=(1, 2)) if omit_empty else np.ones(6, bool)
    assert np.array_equal((covered != 2).all(axis=(1, 2)), held)
    assert np.array_equal(covered == 1, (ONE | TWO) == 1)


def test_frames_may_come_in_any_order_and_slices_too(tmp_path):
    path = write_seg(tmp_path / "s.dcm", SLICES, NODES, edit=shuffle_frames)
    assert np.array_equal(mask_of(path, instances=True).array, ONE + 2 * TWO)
    path = write_seg(tmp_path / "r.dcm", SLICES[::-1], {k: v[::-1] for k, v in NODES.items()})
    assert np.array_equal(mask_of(path, instances=True).array, ONE + 2 * TWO)


def test_fractions_count_from_the_threshold_on(tmp_path):
    fractions = np.where(ONE, 0.4, 0) + np.where(TWO, 0.8, 0)
    path = write_seg(tmp_path / "s.dcm", SLICES, {"a": fractions}, kind="FRACTIONAL")
    assert np.array_equal(mask_of(path).array, TWO)
    assert np.array_equal(mask_of(path, threshold=0.3).array, ONE | TWO)


def test_a_seg_of_some_slices_covers_these_alone(tmp_path):
    path = write_seg(tmp_path / "s.dcm", SLICES[1:3], {"a": ONE[1:3]})
    covered = mask_of(path, uncovered="unknown").array
    assert (covered[[0, 3, 4, 5]] == 2).all()
    assert np.array_equal(covered[1:3], ONE[1:3])


@pytest.mark.parametrize("letters", ["RAS", "SPL", "LIA"])
def test_the_order_of_the_cts_axes_changes_nothing(letters, tmp_path):
    from lnqtools.images.grid import place, turn_to

    turned = turn_to(GRID, letters).turned_grid(GRID)
    paths = [
        write_seg(tmp_path / "s.dcm", SLICES, NODES),
        write_rtstruct(tmp_path / "r.dcm", SLICES, {"a": [box_outline(1, (2, 5), (3, 6))]}),
    ]
    for path in paths:
        mask = mask_of(path, grid=turned)
        back = place(mask.array, mask.grid, GRID, 0)
        assert np.array_equal(back, mask_of(path).array)


def test_voxels_that_are_not_the_cts_are_refused(tmp_path):
    other = slices_of(ct_of(SHAPE), spacing=(3.0, 0.8, 0.5))
    with pytest.raises(LnqError, match="not lie on the voxels of the CT: their spacings"):
        mask_of(write_seg(tmp_path / "a.dcm", other, {"a": ONE}))
    far = slices_of(ct_of(SHAPE), origin=(-12.5 + 100, -20.25, -40.0))
    with pytest.raises(LnqError, match="lies outside the CT"):
        mask_of(write_seg(tmp_path / "b.dcm", far, {"a": ONE}))
    thick = slices_of(ct_of(SHAPE), spacing=(9.0, 0.75, 0.5))
    with pytest.raises(LnqError, match="on slices 9 mm apart, the CT's are 3 mm apart"):
        mask_of(write_seg(tmp_path / "c.dcm", thick, {"a": ONE}))


def test_voxels_that_are_not_the_cts_are_taken_if_that_is_asked_for(tmp_path):
    """Pixels of half the size, and slices of twice the distance: by nearest centers."""
    fine = slices_of(
        ct_of((6, 20, 24)), spacing=(3.0, 0.375, 0.25), origin=(-12.625, -20.4375, -40)
    )
    path = write_seg(tmp_path / "f.dcm", fine, {"a": ONE.repeat(2, 1).repeat(2, 2)})
    found = mask_of(path, resample=True)
    assert np.array_equal(found.array, ONE)
    assert found.notes == ("its voxels are not those of the CT: the nearest ones were taken",)
    thick = slices_of(ct_of((3, 10, 12)), spacing=(6.0, 0.75, 0.5), origin=(-12.5, -20.25, -38.5))
    path = write_seg(tmp_path / "t.dcm", thick, {"a": TWO[::2]})
    assert np.array_equal(mask_of(path, resample=True).array, np.repeat(TWO[::2], 2, axis=0))
    unknown = mask_of(path, resample=True, uncovered="unknown").array
    assert np.array_equal((unknown == 2).all(axis=(1, 2)), [1, 1, 1, 1, 0, 0])


def test_voxels_beyond_the_ct_are_counted(tmp_path):
    small = Grid.from_affine((2, *SHAPE[1:]), matrix_of_series())
    mask = mask_of(write_seg(tmp_path / "s.dcm", SLICES, {"a": ONE}), grid=small)
    assert np.array_equal(mask.array, ONE[:2])
    assert mask.notes == ("16 of its voxels lie outside the CT and were left out",)


def test_voxels_of_two_segments_are_told_and_the_last_has_them(tmp_path):
    path = write_seg(tmp_path / "s.dcm", SLICES, {"a": ONE, "b": ONE})
    mask = mask_of(path, instances=True)
    assert np.array_equal(mask.array, 2 * ONE)
    assert mask.notes[0].startswith("32 voxels lie in several segments")
    assert mask.notes[1] == "1 of its 2 segments have no voxel of their own"


def test_segments_are_chosen_by_name_number_or_code():
    segments = [
        Segment(1, "Lymph node 1", "59441001"),
        Segment(2, "lymph node 2", "59441001"),
        Segment(3, "Heart", "80891009"),
    ]

    def chosen(*words):
        return [segment.number for segment in chosen_segments(segments, words)]

    assert chosen("lymph*") == chosen("59441001") == chosen("SCT:59441001") == [1, 2]
    assert chosen("HEART") == chosen("3") == [3]
    assert chosen("heart", "1") == [1, 3]
    with pytest.raises(LnqError, match="no segment spleen: it holds 1 Lymph node 1"):
        chosen("spleen")
    with pytest.raises(LnqError, match=r"which segments are nodes.*--segments picks"):
        chosen_segments(segments, None)
    assert len(chosen_segments(segments[:2], None)) == 2


# Contours


def outline_mask(outlines, shape=(5, 6)) -> np.ndarray:
    return filled([np.array(outline, float) for outline in outlines], shape)[0].astype(int)


def test_pixels_whose_center_is_inside_are_filled():
    assert outline_mask([[(0.6, 0.6), (0.6, 3.4), (2.4, 3.4), (2.4, 0.6)]]).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_a_contour_within_another_is_a_hole_and_so_is_one_joined_by_a_bridge():
    outer = [(-0.5, -0.5), (-0.5, 4.5), (3.5, 4.5), (3.5, -0.5)]
    inner = [(0.5, 0.5), (0.5, 2.5), (2.5, 2.5), (2.5, 0.5)]
    wanted = np.zeros((5, 6), int)
    wanted[:4, :5] = 1
    wanted[1:3, 1:3] = 0
    assert np.array_equal(outline_mask([outer, inner]), wanted)
    keyhole = [*outer, outer[0], *inner[::-1], inner[-1], outer[0]]
    assert np.array_equal(outline_mask([keyhole]), wanted)


def test_scikit_image_fills_the_same():
    draw = pytest.importorskip("skimage.draw")
    random = np.random.default_rng(1)
    for _ in range(50):
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        radii = random.uniform(3, 14, 9)
        outline = np.stack([15 + radii * np.sin(angles), 16 + radii * np.cos(angles)], axis=1)
        theirs = draw.polygon2mask((32, 34), outline)
        assert np.array_equal(filled([outline], (32, 34))[0], theirs)


def test_an_rtstruct_gives_the_boxes_that_its_contours_enclose(tmp_path):
    rois = {
        "gtv": [box_outline(k, (1.5, 5.5), (2.5, 6.5)) for k in (1, 2)],
        "other": [box_outline(4, (5.5, 8.5), (7.5, 10.5))],
    }
    path = write_rtstruct(tmp_path / "r.dcm", SLICES, rois)
    assert np.array_equal(mask_of(path, ["GTV"]).array, ONE)
    assert np.array_equal(mask_of(path, ["*"], instances=True).array, ONE + 2 * TWO)
    with pytest.raises(LnqError, match="it holds 1 gtv, 2 other"):
        mask_of(path)
    unknown = mask_of(path, ["other"], uncovered="unknown").array
    assert (unknown[[0, 1, 2, 3, 5]] == 2).all()
    assert np.array_equal(unknown[4], TWO[4])


def test_contours_that_are_not_in_slices_or_enclose_nothing_are_refused(tmp_path):
    sagittal = [(0.0, y, z) for y, z in ((-15, -38), (-15, -30), (-18, -30))]
    with pytest.raises(LnqError, match="do not lie in axial slices"):
        mask_of(write_rtstruct(tmp_path / "a.dcm", SLICES, {"a": [sagittal]}))
    between = box_outline(1.5, (1.5, 5.5), (2.5, 6.5))
    with pytest.raises(LnqError, match=r"between the CT's slices, 0\.5 of their distance"):
        mask_of(write_rtstruct(tmp_path / "b.dcm", SLICES, {"a": [between]}))
    flat = box_outline(1, (1.5, 5.5), (2.5, 6.5))
    with pytest.raises(LnqError, match="OPEN_PLANAR, which enclose nothing"):
        mask_of(write_rtstruct(tmp_path / "c.dcm", SLICES, {"a": [flat]}, "OPEN_PLANAR"))
    with pytest.raises(LnqError, match=r"damaged contour \(2 points\)"):
        mask_of(write_rtstruct(tmp_path / "d.dcm", SLICES, {"a": [flat[:2]]}))
    far = box_outline(40, (1.5, 5.5), (2.5, 6.5))
    with pytest.raises(LnqError, match="lies outside the CT"):
        mask_of(write_rtstruct(tmp_path / "e.dcm", SLICES, {"a": [far]}))
    points = write_rtstruct(tmp_path / "f.dcm", SLICES, {"a": [flat[:1]]}, "POINT")
    assert "the mask is empty" in mask_of(points).notes


def test_a_damaged_seg_says_so(tmp_path):
    path = write_seg(tmp_path / "s.dcm", SLICES, NODES)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData[:4]
    dataset.save_as(tmp_path / "cut.dcm")
    with pytest.raises(LnqError, match="cut off or damaged"):
        mask_of(tmp_path / "cut.dcm")
    del dataset.PerFrameFunctionalGroupsSequence[0]
    dataset.save_as(tmp_path / "frames.dcm")
    with pytest.raises(LnqError, match="describes 2 of its 3 frames"):
        mask_of(tmp_path / "frames.dcm")
    del dataset.SegmentationType
    dataset.save_as(tmp_path / "kind.dcm")
    with pytest.raises(LnqError, match="segments of type unknown"):
        mask_of(tmp_path / "kind.dcm")


# Slicer's


def write_layers(path: Path, layers: np.ndarray, segments: list[dict]) -> Path:
    """Write a .seg.nrrd by SimpleITK as Slicer does: several layers are components of a voxel."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(
        np.moveaxis(layers, 0, -1) if len(layers) > 1 else layers[0], isVector=len(layers) > 1
    )
    z, y, x = GRID.spacing
    image.SetSpacing((x, y, z))
    image.SetOrigin((-GRID.origin[0], -GRID.origin[1], GRID.origin[2]))
    for k, segment in enumerate(segments):
        image.SetMetaData(f"Segment{k}_ID", f"Segment_{k}")
        for key, value in segment.items():
            image.SetMetaData(f"Segment{k}_{key}", str(value))
    sitk.WriteImage(image, str(path), True)
    return path


def test_layers_of_slicer_are_told_apart(tmp_path):
    segments = [
        {"Name": "node a", "Layer": 0, "LabelValue": 1},
        {"Name": "node b", "Layer": 1, "LabelValue": 1},
        {"Name": "Heart", "Layer": 0, "LabelValue": 2},
    ]
    layers = np.stack([ONE + 2 * TWO, ONE | TWO]).astype(np.uint8)
    path = write_layers(tmp_path / "x.seg.nrrd", layers, segments)
    assert np.array_equal(mask_of(path, ["node a"]).array, ONE)
    assert np.array_equal(mask_of(path, ["node b"]).array, ONE | TWO)
    assert np.array_equal(mask_of(path, ["heart"]).array, TWO)
    assert np.array_equal(mask_of(path, ["2"]).array, ONE | TWO)  # values repeat: by their order
    with pytest.raises(LnqError, match="it holds 1 node a, 2 node b, 3 Heart"):
        mask_of(path)


def test_layers_in_a_header_as_slicer_writes_it_are_read_and_told_by_other_readers(tmp_path):
    """Slicer calls the first axis a list, and gives it no direction."""
    from lnqtools.images.volume import read_label

    layers = np.stack([ONE, TWO], axis=-1)
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\n"
        "sizes: 2 12 10 6\nspace directions: none (0.5,0,0) (0,0.75,0) (0,0,3)\n"
        "kinds: list domain domain domain\nencoding: raw\nspace origin: (-12.5,-20.25,-40)\n"
        "Segment0_ID:=a\nSegment0_Name:=node a\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
        "Segment1_ID:=b\nSegment1_Name:=node b\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n\n"
    )
    path = tmp_path / "x.seg.nrrd"
    path.write_bytes(header.encode() + layers.tobytes())
    assert np.array_equal(mask_of(path, ["node a"]).array, ONE)
    assert np.array_equal(mask_of(path, ["node*"], instances=True).array, ONE + 2 * TWO)
    with pytest.raises(LnqError, match=r"2 layers.*lnq-dicom masks makes a mask"):
        read_label(path)


def test_a_cropped_segmentation_covers_its_own_box_alone(tmp_path):
    import SimpleITK as sitk

    whole = write_layers(
        tmp_path / "w.seg.nrrd", ONE[None], [{"Name": "a", "Layer": 0, "LabelValue": 1}]
    )
    image = sitk.ReadImage(str(whole))[2:8, 1:7, 1:3]
    for key, value in (("ID", "S"), ("Name", "a"), ("LabelValue", "1"), ("Layer", "0")):
        image.SetMetaData(f"Segment0_{key}", value)
    sitk.WriteImage(image, str(tmp_path / "c.seg.nrrd"))
    found = mask_of(tmp_path / "c.seg.nrrd", uncovered="unknown").array
    wanted = np.full(SHAPE, 2)
    wanted[1:3, 1:7, 2:8] = ONE[1:3, 1:7, 2:8]
    assert np.array_equal(found, wanted)


def test_a_seg_nrrd_that_names_nothing_or_is_cut_off_is_refused(tmp_path):
    path = write_layers(tmp_path / "x.seg.nrrd", ONE[None], [])
    with pytest.raises(LnqError, match="names no segment"):
        mask_of(path)
    whole = write_layers(
        tmp_path / "y.seg.nrrd", ONE[None], [{"Name": "a", "Layer": 3, "LabelValue": 1}]
    )
    with pytest.raises(LnqError, match="1 layers, and segment a lies in another"):
        mask_of(whole)
    whole.write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(LnqError):
        mask_of(whole)
