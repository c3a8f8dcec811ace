"""lnq-crop: the lungs' box, another image's grid, another spacing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.helpers import (
    OBLIQUE,
    TURNED,
    columns_of,
    indices_of,
    numbered,
    numbers,
    rows_of,
    usage_error,
    values_where,
    with_names,
)
from tests.conftest import affine, load, matrix_of, run, save, shell, succeed
from tests.grids import SIGNED_PERMUTATIONS

SHAPE = (20, 24, 28)
SPACING = (1.0, 2.0, 4.0)  # x, y, z
ORIGIN = (10.0, -20.0, 30.0)
MATRIX = affine(SPACING, ORIGIN)
LABEL_NEEDS = "--label needs --like, --take-geometry, --lungs FILE|DIR or --lungs none"
LUNGS = np.s_[4:14, 6:16, 3:25]
"""Where the lungs of these tests lie."""
LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)


def lung_mask() -> np.ndarray:
    """Return two lungs that do not touch, bowel below them and a speck beside them."""
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[4:14, 6:16, 3:12] = 1
    lungs[5:13, 7:15, 15:25] = 2
    lungs[0:2, 0:6, 4:16] = 1
    lungs[8, 23, 27] = 1
    return lungs


def lobe_map(labels: tuple[int, ...], other: int) -> np.ndarray:
    """Return a map in which the lungs are five lobes, amid something else."""
    lobes = np.full(SHAPE, other, np.uint8)
    lobes[:, :, :2] = 0
    lungs = lobes[LUNGS]
    for label, part in zip(labels, np.array_split(lungs, 5), strict=True):
        part[:] = label
    return lobes


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return save(tmp_path / "ct.nii.gz", numbered(SHAPE), MATRIX)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return save(tmp_path / "mask.nii.gz", lung_mask(), MATRIX)


def box_of_map(ct: Path, array: np.ndarray, *options, names=None):
    """Crop to the lungs of a map; return how it ended and what was written."""
    path = save(ct.with_name("map.nii.gz"), array, MATRIX)
    if names:
        with_names(path, names)
    out = ct.with_name("out.nii.gz")
    result = run("lnq-crop", ct, "--lungs", path, *options, "-q", "-o", out)
    return result, out


# Lungs


def test_box_of_a_lung_mask_leaves_out_specks_and_bowel(ct, mask, tmp_path):
    out = tmp_path / "out.nii.gz"
    result = succeed("lnq-crop", ct, "--lungs", mask, "-o", out)
    assert load(out).dtype == np.int16
    np.testing.assert_array_equal(load(out), load(ct)[LUNGS])
    # LPS: x and y fall with the index.
    np.testing.assert_allclose(
        matrix_of(out), affine(SPACING, (10 - 3 * 1, -20 - 6 * 2, 30 + 4 * 4))
    )
    assert result.err.splitlines() == [
        f"lnq-crop: {ct}: warning: the lungs extend 40 mm superior-inferior; 180-360 mm is usual",
        f"lnq-crop: {ct}: warning: the lungs extend 20 mm anterior-posterior; 130-300 mm is usual",
        f"lnq-crop: {ct}: warning: the lungs extend 22 mm left-right; 200-390 mm is usual",
    ]


def test_box_keeps_its_place_in_any_orientation(tmp_path):
    matrices = {"lps": MATRIX, "ras": np.diag([1, 2, 4, 1.0]), "turned": TURNED, "oblique": OBLIQUE}
    sources = []
    for name, matrix in matrices.items():
        sources.append(save(tmp_path / "ct" / f"{name}.nii.gz", numbered(SHAPE), matrix))
        save(tmp_path / "lungs" / f"{name}.nii.gz", lung_mask(), matrix)
    out = tmp_path / "out"
    succeed("lnq-crop", *sources, "--lungs", tmp_path / "lungs", "-q", "-O", out)
    for source in sources:
        np.testing.assert_array_equal(load(out / source.name), load(source)[LUNGS])
        np.testing.assert_array_equal(
            load(out / source.name), values_where(source, out / source.name)
        )


def test_one_margin_is_mm_on_every_axis_and_clipped(ct, mask, tmp_path):
    out = tmp_path / "out.nii.gz"
    succeed("lnq-crop", ct, "--lungs", mask, "--margin", 5, "-q", "-o", out)
    # 5 mm: 2 voxels of 4 mm along z, 3 of 2 mm along y, 5 of 1 mm along x, where only 3 are left.
    np.testing.assert_array_equal(load(out), load(ct)[2:16, 3:19, 0:28])
    np.testing.assert_array_equal(load(out), values_where(ct, out))


def test_three_margins_are_x_y_z_and_boxes_are_told(ct, mask, tmp_path):
    out, table = tmp_path / "out.nii.gz", tmp_path / "boxes.tsv"
    options = ["--margin", "1,4,0", "--boxes", table, "-q"]
    succeed("lnq-crop", ct, "--lungs", mask, *options, "-o", out)
    np.testing.assert_array_equal(load(out), load(ct)[4:14, 4:18, 2:26])
    assert columns_of(table.read_text()) == [
        "case",
        *("x_start", "x_stop", "y_start", "y_stop", "z_start", "z_stop"),
        *("x_extent_mm", "y_extent_mm", "z_extent_mm"),
        *("origin_x_mm", "origin_y_mm", "origin_z_mm"),
    ]
    (row,) = rows_of(table.read_text())
    assert row.pop("case") == "ct"
    origin = matrix_of(out)[:3, 3].tolist()
    assert [float(cell) for cell in row.values()] == [2, 26, 4, 18, 4, 14, 24, 28, 40, *origin]
    assert origin == [8, -28, 46]


def test_boxes_to_standard_output_are_the_only_output_there(ct, mask, tmp_path):
    options = ["--boxes", "-", "--format", "jsonl", "-q", "-o", tmp_path / "out.nii"]
    (row,) = rows_of(succeed("lnq-crop", ct, "--lungs", mask, *options).out, "jsonl")
    assert [row["case"], row["x_start"], row["x_stop"], row["x_extent_mm"]] == ["ct", 3, 25, 22.0]


def test_lungs_at_the_border_of_the_image_are_told(ct, tmp_path):
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[2:20, 3:20, 4:20] = 1
    place = save(tmp_path / "mask.nii.gz", lungs, MATRIX)
    result = succeed("lnq-crop", ct, "--lungs", place, "-o", tmp_path / "out.nii")
    assert "the lungs reach the image border (superior-inferior) and may be cut" in result.err


def test_lobes_of_a_map_by_the_names_in_its_header(ct):
    names = dict(zip((7, 9, 21, 33, 101), LOBES, strict=True)) | {12: "heart"}
    result, out = box_of_map(ct, lobe_map((7, 9, 21, 33, 101), 12), names=names)
    assert result.status == 0
    np.testing.assert_array_equal(load(out), load(ct)[LUNGS])


@pytest.mark.parametrize(("version", "first"), [("v1", 13), ("v2", 10)])
def test_lobes_of_a_map_by_version(ct, version, first):
    lobes = lobe_map(tuple(range(first, first + 5)), 52)
    result, out = box_of_map(ct, lobes, "--classes", version)
    assert result.status == 0
    np.testing.assert_array_equal(load(out), load(ct)[LUNGS])


def test_a_map_of_which_the_version_cannot_be_told_is_refused(ct):
    result, out = box_of_map(ct, lobe_map((10, 11, 12, 13, 14), 52))
    assert result.status == 1
    assert f"lnq-crop: {ct}: --lungs {ct.with_name('map.nii.gz')}: does not name its" in result.err
    assert "say --classes v1 or v2" in result.err
    assert not out.exists()


def test_a_number_that_is_no_class_is_refused(ct):
    result, _ = box_of_map(ct, lobe_map((10, 11, 12, 13, 14), 118), "--classes", "v2")
    assert result.status == 1
    assert "holds label 118, which is not a class of TotalSegmentator" in result.err


def test_an_empty_lung_mask_fails_by_name(ct):
    result, out = box_of_map(ct, np.zeros(SHAPE, np.uint8))
    assert result.status == 1
    assert "map.nii.gz: no lungs found: the lung mask is empty" in result.err
    assert not out.exists()


def test_lungs_found_from_hu_lie_where_the_lobes_do(phantoms, tmp_path):
    boxes = {}
    for how in ("hu", phantoms / "anatomy"):  # the phantoms' maps name their classes
        options = ["--lungs", how, "--boxes", "-", "-q", "-O", tmp_path / Path(how).name]
        sources = sorted((phantoms / "ct").iterdir())
        boxes[Path(how).name] = rows_of(succeed("lnq-crop", *sources, *options).out)
    for by_hu, by_lobes in zip(boxes["hu"], boxes["anatomy"], strict=True):
        lobes = load(phantoms / "anatomy" / f"{by_lobes['case']}.nii.gz")
        at = np.argwhere((lobes >= 10) & (lobes <= 14))
        starts, stops = at.min(axis=0)[::-1], at.max(axis=0)[::-1] + 1
        assert numbers(by_lobes, "x_start", "y_start", "z_start") == starts.tolist()
        assert numbers(by_lobes, "x_stop", "y_stop", "z_stop") == stops.tolist()
        for side in by_lobes.keys() - {"case"}:
            if side.endswith(("_start", "_stop")):  # voxels of 2.6 to 3.2 mm
                assert abs(int(by_hu[side]) - int(by_lobes[side])) <= 2, side


def test_a_scan_without_lungs_fails_and_the_others_go_on(phantoms, tmp_path):
    water = np.full((40, 60, 60), -1000, np.int16)
    water[:, 10:50, 10:50] = 40
    source = save(tmp_path / "water.nii.gz", water, affine((4, 4, 4)))
    chest = phantoms / "ct" / "phantom0-0000.nii.gz"
    out, table = tmp_path / "out", tmp_path / "boxes.tsv"
    result = run("lnq-crop", source, chest, "-O", out, "--boxes", table)
    assert result.status == 1
    assert f"lnq-crop: {source}: no lungs found: " in result.err
    assert result.lines == [str(out / chest.name)]
    assert [path.name for path in out.iterdir()] == [chest.name]
    assert [row["case"] for row in rows_of(table.read_text())] == ["phantom0-0000"]


# Another image's grid


def test_like_pastes_a_crop_back_exactly(ct, mask, tmp_path):
    part, back, filled = (tmp_path / f"{name}.nii.gz" for name in ("part", "back", "filled"))
    succeed("lnq-crop", ct, "--lungs", mask, "-q", "-o", part)
    assert succeed("lnq-crop", part, "--like", ct, "-o", back).err == ""
    succeed("lnq-crop", part, "--like", ct, "--fill", -3000, "-o", filled)
    for path, fill in ((back, -1024), (filled, -3000)):
        expected = np.full(SHAPE, fill, np.int16)
        expected[LUNGS] = load(ct)[LUNGS]
        np.testing.assert_array_equal(load(path), expected)
        assert load(path).dtype == np.int16
        np.testing.assert_allclose(matrix_of(path), MATRIX)


def test_like_finds_the_voxels_of_swapped_and_mirrored_axes(ct, tmp_path):
    """A grid that lies partly outside, with other axes, is filled by place."""
    inside = nib.load(ct).slicer[2:20, 3:17, 4:12]
    turned = inside.as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, tmp_path / "turned.nii.gz")
    assert turned.shape == (14, 8, 18)
    out, back = tmp_path / "out.nii.gz", tmp_path / "back.nii.gz"
    assert succeed("lnq-crop", ct, "--like", tmp_path / "turned.nii.gz", "-o", out).err == ""
    np.testing.assert_array_equal(load(out), load(tmp_path / "turned.nii.gz"))
    np.testing.assert_allclose(matrix_of(out), turned.affine)
    np.testing.assert_array_equal(load(out), values_where(ct, out))
    succeed("lnq-crop", out, "--like", ct, "-o", back)
    expected = np.full(SHAPE, -1024, np.int16)
    expected[4:12, 3:17, 2:20] = load(ct)[4:12, 3:17, 2:20]
    np.testing.assert_array_equal(load(back), expected)


def test_of_like_the_grid_alone_counts(ct, mask, tmp_path):
    like, out = tmp_path / "like.nii.gz", tmp_path / "out.nii.gz"
    shutil.copy(ct, like)
    arguments = ["--label", mask, "--like", like, "-o", out]
    succeed("lnq-crop", *arguments)
    save(like, load(ct) + 1, MATRIX)
    assert succeed("lnq-crop", *arguments, "-s").lines == [str(out)]
    save(like, load(ct)[1:], MATRIX)
    result = run("lnq-crop", *arguments, "-s")
    assert result.status == 1
    assert result.err == (
        f"lnq-crop: {mask}: {out} exists and was made from another --like {like}; -f replaces it\n"
    )


def test_a_file_may_be_like_itself_with_a_warning(ct, tmp_path):
    """Its folder may not: there another file was meant."""
    out = tmp_path / "o" / "out.nii.gz"
    out.parent.mkdir()
    for more in ([], ["-s"], ["-f"]):
        done = succeed("lnq-crop", ct, "--like", ct, "-o", out, *more)
        said = f"lnq-crop: {ct}: warning: --like {ct} is the input itself\n"
        assert done.err == ("" if more == ["-s"] else said)
    np.testing.assert_array_equal(load(out), load(ct))
    result = run("lnq-crop", ct, "--like", ct.parent, "-o", out, "-f")
    assert result.status == 1
    assert "the only image of that name there is the input itself" in result.err


def test_like_fills_labels_with_0_and_takes_companions_by_case_name(mask, tmp_path):
    image = nib.load(mask)
    nib.save(image.slicer[2:20, 3:17, 4:12], tmp_path / "mask_0000.nii.gz")
    (tmp_path / "ct").mkdir()
    shutil.copy(mask, tmp_path / "ct" / "mask.nii.gz")
    part, out = tmp_path / "mask_0000.nii.gz", tmp_path / "out"
    succeed("lnq-crop", "--label", part, "--like", tmp_path / "ct", "-O", out)
    expected = np.zeros(SHAPE, np.uint8)
    expected[4:12, 3:17, 2:20] = load(mask)[4:12, 3:17, 2:20]
    assert expected.any()
    np.testing.assert_array_equal(load(out / "mask.nii.gz"), expected)


def test_like_passes_on_what_is_odd_about_the_header(ct, tmp_path):
    image = nib.load(ct)
    other = image.affine.copy()
    other[0, 3] += 10
    image.set_qform(other, code=1)
    image.set_sform(image.affine, code=1)
    nib.save(image, tmp_path / "odd.nii.gz")
    result = succeed("lnq-crop", ct, "--like", tmp_path / "odd.nii.gz", "-o", tmp_path / "o.nii")
    assert result.err == (
        f"lnq-crop: {ct}: warning: {tmp_path / 'odd.nii.gz'}: sform and qform differ by up to "
        "10.0 mm, the sform was taken\n"
    )


def test_a_companion_whose_path_the_system_refuses_is_named(ct, tmp_path):
    result = run("lnq-crop", ct, "--like", "x" * 300, "-o", tmp_path / "out.nii")
    assert (result.status, result.lines) == (1, [])
    assert result.err == f"lnq-crop: {ct}: {'x' * 300}: File name too long\n"


def test_like_of_another_lattice_interpolates_and_says_so(tmp_path):
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32) * 10, (5, 6, 8))
    source = save(tmp_path / "ramp.nii.gz", np.ascontiguousarray(ramp))
    # Half a voxel further along x, and two voxels more.
    shifted = affine(origin=(-0.5, 0, 0))
    target = save(tmp_path / "like.nii.gz", np.zeros((5, 6, 10), np.uint8), shifted)
    out, nearest = tmp_path / "out.nii", tmp_path / "nearest.nii"
    result = succeed("lnq-crop", source, "--like", target, "--fill", -7, "-o", out)
    assert result.err == (
        f"lnq-crop: {source}: warning: its voxels and those of --like do not meet: "
        "interpolated (linear)\n"
    )
    np.testing.assert_allclose(load(out)[2, 3, :7], np.arange(7) * 10 + 5)
    assert load(out)[2, 3, 8:].tolist() == [-7, -7]
    np.testing.assert_allclose(matrix_of(out), matrix_of(target))
    succeed("lnq-crop", source, "--like", target, "--interpolation", "nearest", "-q", "-o", nearest)
    assert np.isin(load(nearest)[..., :7], range(0, 80, 10)).all()


def test_a_fill_that_the_voxels_cannot_hold_is_refused(mask, tmp_path):
    out = tmp_path / "out.nii"
    around = matrix_of(mask) @ nib.affines.from_matvec(np.eye(3), [-1, -1, -1])
    larger = save(tmp_path / "larger.nii.gz", np.pad(load(mask), 1), around)
    inside = ["lnq-crop", mask, "--like", mask, "-o", tmp_path / "same.nii"]
    succeed(*inside)  # the fill of CTs does not fit uint8, but nothing is filled
    result = run("lnq-crop", "--label", mask, "--like", larger, "--fill", 300, "-o", out)
    assert result.status == 1
    assert "voxels of type uint8 cannot hold the fill value 300" in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    "other",
    [
        ("--lungs", "hu"),
        ("--margin", 3),
        ("--keep", "mask.nii.gz"),
        ("--spacing", 2),
        ("--classes", "v2"),
    ],
    ids=lambda other: other[0],
)
def test_like_excludes_what_would_be_ignored(ct, other, tmp_path):
    complaint = usage_error("lnq-crop", ct, "--like", ct, *other, "-o", tmp_path / "out.nii")
    assert complaint == f"--like and {other[0]} exclude each other"


# What an annotation does not cover


def with_record(path: Path) -> dict:
    """Return what an image says of its making."""
    (record,) = (e.get_content() for e in nib.load(path).header.extensions if e.get_code() == 6)
    return json.loads(record if isinstance(record, str) else record.decode())


def names_of(path: Path) -> list:
    return [e.get_content() for e in nib.load(path).header.extensions if e.get_code() == 0]


def part_of(path: Path, box: tuple[slice, slice, slice], to: Path) -> Path:
    """Write the part of an image in a box (z, y, x), as dcmqi and Slicer save annotations."""
    to.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.load(path).slicer[box[::-1]], to)
    return to


SLAB = np.s_[5:12, 0:24, 2:28]
NODES = {(6, 8, 9): 1, (6, 8, 10): 1, (10, 20, 27): 1}


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    array = np.zeros(SHAPE, np.uint8)
    for at, value in NODES.items():
        array[at] = value
    return save(tmp_path / "case.nii.gz", array, MATRIX)


@pytest.mark.parametrize("strategy", ["mask", "coat", "full", "noisy"])
def test_around_a_training_label_all_is_unknown(annotation, ct, strategy, tmp_path):
    slab = part_of(annotation, SLAB, tmp_path / "slab" / "case.nii.gz")
    whole, part, out = (tmp_path / f"{name}.nii.gz" for name in ("whole", "part", "out"))
    succeed("lnq-weaklabel", annotation, "--strategy", strategy, "-o", whole)
    succeed("lnq-weaklabel", slab, "--strategy", strategy, "-o", part)
    result = succeed("lnq-crop", "--label", part, "--like", ct, "-o", out)
    expected = np.full(SHAPE, 2, np.uint8)
    expected[SLAB] = load(whole)[SLAB]
    np.testing.assert_array_equal(load(out), expected)
    assert names_of(out) == names_of(whole) != []
    assert "lost" not in with_record(out)
    added = int(np.prod(SHAPE)) - load(part).size
    complete = (
        f"lnq-crop: {part}: warning: it was labeled completely; {added} voxels outside it are "
        "unknown now (if the whole image was annotated, lnq-weaklabel --like --uncovered "
        "background says so)\n"
    )
    assert result.err == (complete if strategy in ("full", "noisy") else "")


def test_a_fill_overrides_what_is_around_a_training_label(annotation, ct, tmp_path):
    slab = part_of(annotation, SLAB, tmp_path / "slab" / "case.nii.gz")
    part, out = tmp_path / "part.nii.gz", tmp_path / "out.nii.gz"
    succeed("lnq-weaklabel", slab, "--strategy", "full", "-o", part)
    result = succeed("lnq-crop", "--label", part, "--like", ct, "--fill", 0, "-o", out)
    assert result.err == ""
    np.testing.assert_array_equal(load(out), load(annotation))


def test_of_a_label_that_does_not_name_its_2_nothing_is_known(annotation, ct, tmp_path):
    foreign = np.full(SHAPE, 2, np.uint8)
    foreign[6:8] = load(annotation)[6:8]
    source = save(tmp_path / "all.nii.gz", foreign, MATRIX)
    slab = part_of(source, SLAB, tmp_path / "slab" / "case.nii.gz")
    for options, around, warning in (
        ((), 0, "around it stands 0, background; if its 2 means unknown, say --fill 2"),
        (("--fill", 2), 2, None),
    ):
        out = tmp_path / f"out{around}.nii.gz"
        result = succeed("lnq-crop", "--label", slab, "--like", ct, *options, "-o", out)
        expected = np.full(SHAPE, around, np.uint8)
        expected[SLAB] = foreign[SLAB]
        np.testing.assert_array_equal(load(out), expected)
        assert result.err == (f"lnq-crop: {slab}: warning: {warning}\n" if warning else "")
    inside = succeed("lnq-crop", "--label", source, "--like", slab, "--fill", 2, "-o", out, "-f")
    assert inside.err == ""  # no 1 is lost, though many 2 are


def test_a_training_label_is_cropped_as_a_label(annotation, mask, tmp_path):
    label = tmp_path / "label.nii.gz"
    succeed("lnq-weaklabel", annotation, "--strategy", "mask", "-o", label)
    result = run("lnq-crop", label, "--lungs", mask, "-o", tmp_path / "out.nii")
    assert (result.status, result.err) == (
        1,
        f"lnq-crop: {label}: is a training label: say --label\n",
    )


def test_of_a_slab_as_much_is_known_as_of_the_whole(phantoms, tmp_path):
    """The README's order: dcmqi's slices are labeled as far as the annotation of the whole CT."""
    name = "phantom0-0000.nii.gz"
    weak = phantoms / "weak" / name
    drawn = np.flatnonzero(load(weak).any(axis=(1, 2)))
    slices = np.s_[int(drawn.min()) : int(drawn.max()) + 1, 0:10000, 0:10000]
    slab = part_of(weak, slices, tmp_path / "slab" / name)
    assert 0 < len(load(slab)) < len(load(weak)) - 2
    succeed("lnq-crop", phantoms / "ct" / name, "-q", "-O", tmp_path / "cropped")
    for kind, source in (("slab", slab), ("whole", weak)):
        options = f"--strategy mask -O {tmp_path}/{kind}-mask"
        crop = f"--label --like {tmp_path}/cropped -O {tmp_path}/{kind}-cropped"
        assert (
            shell(f"lnq-weaklabel {source} {options} | lnq-crop -T - {crop}", tmp_path).status == 0
        )
    labels = [load(tmp_path / f"{kind}-cropped" / name) for kind in ("slab", "whole")]
    assert (labels[0] == 1).any()
    np.testing.assert_array_equal(*labels)


# Drawn nodes that are lost


def field_case(tmp_path: Path) -> tuple[Path, Path]:
    """Return a mask of two nodes, of 90 and 18 voxels, and a CT without the larger's place."""
    node = np.zeros((20, 36, 40), np.uint8)
    node[15:18, 28:33, 30:36] = 1
    node[2:4, 3:6, 3:6] = 1
    matrix = affine((0.8, 0.8, 3), (16, 14, -30))
    source = save(tmp_path / "case.nii.gz", node, matrix)
    hu = np.full((10, 18, 20), 40, np.int16)
    return source, save(tmp_path / "crop" / "case.nii.gz", hu, matrix)


LOST_COLUMNS = [
    *("components_drawn", "components_lost", "components_cut"),
    *("voxels_lost", "volume_lost_ml"),
]


def test_a_lost_node_is_told_counted_and_recorded(tmp_path):
    source, like = field_case(tmp_path)
    out, table = tmp_path / "out.nii.gz", tmp_path / "boxes.tsv"
    arguments = ["--label", source, "--like", like.parent, "--boxes", table, "-o", out]
    result = succeed("lnq-crop", *arguments)
    assert result.err == (
        f"lnq-crop: {source}: warning: 90 of 108 drawn voxels (0.173 ml) lie outside the grid of "
        f"--like {like.parent} (of 2 components, 1 lost)\n"
    )
    assert load(out).sum() == 18
    (row,) = rows_of(table.read_text())
    assert list(row)[-5:] == LOST_COLUMNS
    assert numbers(row, *LOST_COLUMNS) == [2, 1, 0, 90, 0.1728]
    sides = [row[f"{axis}_{end}"] for axis in "xyz" for end in ("start", "stop")]
    assert sides == ["0", "20", "0", "18", "0", "10"]
    lost = {"components": 1, "cut": 0, "voxels": 90, "volume_ml": 0.1728}
    assert with_record(out)["lost"] == lost
    assert with_record(out)["options"]["like"] == str(like.parent)
    first = out.read_bytes()
    again = succeed("lnq-crop", *arguments, "-s")
    assert again.lines == [str(out)]
    assert out.read_bytes() == first
    succeed("lnq-crop", *arguments, "-f", "-q")
    assert out.read_bytes() == first


def test_a_record_of_lost_nodes_stays_whatever_is_made_of_the_label(tmp_path):
    source, like = field_case(tmp_path)
    lost = {"components": 1, "cut": 0, "voxels": 90, "volume_ml": 0.1728}
    cropped, weak, filled, back, kept = (
        tmp_path / name / "case.nii.gz" for name in ("cropped", "weak", "filled", "back", "kept")
    )
    succeed("lnq-crop", "--label", source, "--like", like, "-q", "-O", cropped.parent)
    succeed("lnq-weaklabel", cropped, "--strategy", "mask", "-O", weak.parent)
    anatomy = save(tmp_path / "map.nii.gz", np.full((10, 18, 20), 51, np.uint8), matrix_of(like))
    options = ["--anatomy", anatomy, "--classes", "v2", "-q"]
    succeed("lnq-pseudolabel", weak, *options, "-O", filled.parent)
    succeed("lnq-crop", "--label", filled, "--like", source, "-q", "-O", back.parent)
    succeed("lnq-filter-diameter", cropped, "--min", 0, "-O", kept.parent)
    for path in (cropped, weak, filled, back, kept):
        assert with_record(path)["lost"] == lost, path
    # Another crop cuts the smaller node: 2 of its 3 rows are left out.
    smaller = part_of(like, np.s_[0:10, 0:4, 0:20], tmp_path / "small" / "case.nii.gz")
    succeed("lnq-crop", "--label", filled, "--like", smaller, "-q", "-O", tmp_path / "again")
    assert with_record(tmp_path / "again" / "case.nii.gz")["lost"] == {
        **{"components": 1, "cut": 1, "voxels": 90 + 12},
        "volume_ml": pytest.approx(102 * 3 * 0.64 / 1000),
    }


def test_where_no_node_is_left_the_case_fails_unless_that_is_allowed(tmp_path):
    source, like = field_case(tmp_path)
    between = part_of(source, np.s_[6:12, 0:36, 0:40], tmp_path / "between.nii.gz")
    out = tmp_path / "out.nii.gz"
    told = (
        f"108 of 108 drawn voxels (0.207 ml) lie outside the grid of --like {between} "
        "(of 2 components, 2 lost)"
    )
    result = run("lnq-crop", "--label", source, "--like", between, "-o", out)
    assert (result.status, result.lines) == (1, [])
    assert result.err == f"lnq-crop: {source}: {told}: none is left; --allow-empty goes on\n"
    assert not out.exists()
    result = succeed("lnq-crop", "--label", source, "--like", between, "--allow-empty", "-o", out)
    assert result.err == f"lnq-crop: {source}: warning: {told}\n"
    assert not load(out).any()
    assert "allow_empty" not in with_record(out)["options"]
    empty = save(tmp_path / "empty.nii.gz", np.zeros((20, 36, 40), np.uint8), matrix_of(source))
    assert succeed("lnq-crop", "--label", empty, "--like", like, "-o", out, "-f").err == ""


def test_a_label_elsewhere_is_all_unknown_if_that_is_allowed(annotation, ct, tmp_path):
    label, out = tmp_path / "label.nii.gz", tmp_path / "out.nii.gz"
    succeed("lnq-weaklabel", annotation, "--strategy", "mask", "-o", label)
    above = part_of(label, np.s_[10:12, 0:24, 0:28], tmp_path / "above.nii.gz")
    below = part_of(ct, np.s_[0:4, 0:24, 0:28], tmp_path / "below.nii.gz")
    result = run("lnq-crop", "--label", above, "--like", below, "-o", out)
    assert (result.status, "lies outside the grid of --like" in result.err) == (1, True)
    arguments = ["--allow-empty", "--boxes", "-", "--format", "jsonl", "-o", out]
    result = succeed("lnq-crop", "--label", above, "--like", below, *arguments)
    (row,) = rows_of(result.out, "jsonl")
    assert [row[name] for name in LOST_COLUMNS[:4]] == [1, 1, 0, 1]
    assert row["z_extent_mm"] == 0
    np.testing.assert_array_equal(load(out), np.full((4, 24, 28), 2))


def test_nodes_outside_the_lungs_box_are_told(annotation, mask, tmp_path):
    out = tmp_path / "out.nii.gz"
    options = ["--label", "--lungs", mask, "--boxes", "-", "-o", out]
    result = succeed("lnq-crop", annotation, *options)
    assert (
        f"lnq-crop: {annotation}: warning: 1 of 3 drawn voxels (0.008 ml) lie outside the lungs' "
        "box (of 2 components, 1 lost)\n"
    ) in result.err
    (row,) = rows_of(result.out)
    assert numbers(row, *LOST_COLUMNS) == [2, 1, 0, 1, 0.008]


def test_nodes_between_the_voxels_of_a_coarser_grid_are_told(tmp_path):
    array = np.zeros(SHAPE, np.uint8)
    array[6, 8:10, 8:12] = array[10, 20, 27] = 1
    source, out = save(tmp_path / "case.nii.gz", array, MATRIX), tmp_path / "out.nii.gz"
    options = ["--label", "--lungs", "none", "--spacing", 4, "--boxes", "-", "-o", out]
    result = succeed("lnq-crop", source, *options)
    # Of four voxels of 1 mm along x, and of two of 2 mm along y, the one after the middle is taken.
    np.testing.assert_array_equal(load(out), array[:, 1::2, 2::4])
    assert indices_of(load(out)) == {(6, 4, 2)}
    assert result.err == (
        f"lnq-crop: {source}: warning: 1 of 2 drawn components is lost between the voxels of the "
        "new grid\n"
    )
    (row,) = rows_of(result.out)
    assert numbers(row, *LOST_COLUMNS) == [2, 1, 0, 0, 0]


def test_structures_of_a_map_are_lost_without_a_word(ct, tmp_path):
    """A crop to the lungs is meant to lose legs; but a map of which nothing is left is odd."""
    array = np.zeros(SHAPE, np.uint8)
    array[0:3, 0:9, 0:9], array[15:18, 2:9, 2:9] = 51, 79
    anatomy = save(tmp_path / "map.nii.gz", array, MATRIX)
    with_names(anatomy, {51: "heart", 79: "spinal_cord"})
    upper = part_of(ct, np.s_[10:20, 0:24, 0:28], tmp_path / "upper.nii.gz")
    middle = part_of(ct, np.s_[5:10, 0:24, 0:28], tmp_path / "middle.nii.gz")
    arguments = ["--label", anatomy, "--boxes", "-", "-o", tmp_path / "out.nii.gz"]
    result = succeed("lnq-crop", *arguments, "--like", upper)
    assert result.err == ""
    (row,) = rows_of(result.out)
    assert [row[name] for name in LOST_COLUMNS] == [""] * 5
    result = run("lnq-crop", *arguments, "--like", middle, "-f")
    assert (result.status, result.err) == (
        1,
        f"lnq-crop: {anatomy}: nothing in it lies in the grid of --like {middle}; --allow-empty "
        "goes on\n",
    )
    succeed("lnq-crop", *arguments, "--like", middle, "-f", "--allow-empty")


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS[::5])
def test_lost_nodes_do_not_depend_on_how_axes_are_stored(way, tmp_path):
    source, like = field_case(tmp_path)
    ornt = [[int(np.abs(column).argmax()), int(column.sum())] for column in way.T]
    for path in (source, like):
        nib.save(
            nib.load(path).as_reoriented(np.array(ornt)),
            tmp_path / f"turned-{path.parent.name}.nii.gz",
        )
    turned, turned_like = (tmp_path / f"turned-{p.parent.name}.nii.gz" for p in (source, like))
    for one, other in ((turned, like), (source, turned_like)):
        options = ["--boxes", "-", "-q", "-f", "-o", tmp_path / "out.nii.gz"]
        (row,) = rows_of(succeed("lnq-crop", "--label", one, "--like", other, *options).out)
        assert numbers(row, *LOST_COLUMNS) == [2, 1, 0, 90, 0.1728]


# A box that keeps what is drawn


def test_keep_widens_the_box_by_what_is_drawn_and_its_margin(ct, mask, tmp_path):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[17, 20, 5] = 3
    keep = save(tmp_path / "keep" / "ct.nii.gz", drawn, MATRIX)
    out, table = tmp_path / "out.nii.gz", tmp_path / "boxes.tsv"
    shared = [ct, "--lungs", mask, "--keep", keep.parent, "-q", "-o", out]
    succeed("lnq-crop", *shared, "--boxes", table)
    np.testing.assert_array_equal(load(out), load(ct)[4:18, 6:21, 3:25])
    assert with_record(out)["options"]["keep"] == str(keep.parent)
    (row,) = rows_of(table.read_text())
    widened = [f"{axis}_widened_mm" for axis in "xyz"]
    assert list(row)[-3:] == widened
    assert numbers(row, *widened) == [0, 5 * 2, 4 * 4]
    # 4 mm: 4 voxels of 1 mm, 2 of 2 mm, 1 of 4 mm, around lungs and node.
    succeed("lnq-crop", *shared, "--margin", 4, "--boxes", table, "-f")
    np.testing.assert_array_equal(load(out), load(ct)[3:19, 4:23, 0:28])
    (row,) = rows_of(table.read_text())
    assert numbers(row, *widened) == [0, 5 * 2, 4 * 4]


def test_keep_takes_any_grid_of_the_lattice(ct, mask, tmp_path):
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[17, 20, 5] = 1
    whole = save(tmp_path / "whole.nii.gz", drawn, MATRIX)
    slab = part_of(whole, np.s_[16:19, 18:24, 0:9], tmp_path / "slab.nii.gz")
    turned = tmp_path / "turned.nii.gz"
    nib.save(nib.load(slab).as_reoriented([[2, -1], [0, 1], [1, -1]]), turned)
    label = tmp_path / "label.nii.gz"
    succeed("lnq-weaklabel", slab, "--strategy", "mask", "-o", label)  # its 2 is not drawn
    for keep in (whole, slab, turned, label):
        out = tmp_path / "out.nii.gz"
        succeed("lnq-crop", ct, "--lungs", mask, "--keep", keep, "-q", "-f", "-o", out)
        np.testing.assert_array_equal(load(out), load(ct)[4:18, 6:21, 3:25])


def test_keep_of_what_lies_elsewhere(ct, mask, tmp_path):
    out = tmp_path / "out.nii.gz"
    shared = ["lnq-crop", ct, "--lungs", mask, "-f", "-o", out, "--keep"]
    nothing = save(tmp_path / "nothing.nii.gz", np.zeros(SHAPE, np.uint8), MATRIX)
    assert "--keep" not in succeed(*shared, nothing).err
    np.testing.assert_array_equal(load(out), load(ct)[LUNGS])
    around = matrix_of(ct) @ nib.affines.from_matvec(np.eye(3), [-1, -1, -1])
    drawn = np.zeros(tuple(n + 2 for n in SHAPE), np.uint8)
    drawn[0:3, 9, 9] = 1  # two of three voxels lie in the CT
    partly = save(tmp_path / "partly.nii.gz", drawn, around)
    warning = f"1 drawn voxels of --keep {partly} lie outside the image"
    assert f"lnq-crop: {ct}: warning: {warning}\n" in succeed(*shared, partly).err
    np.testing.assert_array_equal(load(out), load(ct)[0:14, 6:16, 3:25])
    drawn[1:3] = 0
    beyond = save(tmp_path / "beyond.nii.gz", drawn, around)
    result = run(*shared, beyond)
    assert result.status == 1
    assert result.err.endswith(f"--keep {beyond}: what is drawn in it lies outside the image\n")
    other = save(tmp_path / "other.nii.gz", drawn, affine((1, 2, 3)))
    result = run(*shared, other)
    assert result.status == 1
    assert f"--keep {other}: lies on another lattice: their spacings are 1 × 2 × 3" in result.err
    assert result.err.endswith("lnq-crop --label --like puts it onto the image's grid\n")
    result = run(*shared, tmp_path / "keep")
    assert f"--keep {tmp_path / 'keep'}: no such file or directory" in result.err


def test_a_node_above_the_lungs_is_kept_from_ct_to_label(phantoms, tmp_path):
    name = "phantom0-0000.nii.gz"
    ct = phantoms / "ct" / name
    drawn = np.zeros(load(ct).shape, np.uint8)
    drawn[-4:-1, 10:14, 10:14] = 1  # the last slices, far above the lungs
    weak = save(tmp_path / "weak" / name, drawn, matrix_of(ct))
    options = ["--keep", weak.parent, "-q", "-O", tmp_path / "cropped", "--boxes", "-"]
    (row,) = rows_of(succeed("lnq-crop", ct, *options).out)
    assert int(row["z_stop"]) == len(drawn) - 1
    assert float(row["z_widened_mm"]) > 0
    crop = f"--label --like {tmp_path}/cropped -O {tmp_path}/labels"
    done = shell(
        f"lnq-weaklabel {weak} --strategy mask -O {tmp_path}/masked | lnq-crop -T - {crop}",
        tmp_path,
    )
    assert (done.status, done.err) == (0, "")
    assert (load(tmp_path / "labels" / name) == 1).sum() == 48


# Another spacing


def test_spacing_keeps_the_extent_and_interpolates(tmp_path):
    z, y = np.indices((6, 8, 10), dtype=np.int16)[:2]
    source = save(tmp_path / "ct.nii.gz", 80 * z + y, affine((1, 2, 4), ORIGIN))
    out = tmp_path / "out.nii.gz"
    options = ["--lungs", "none", "--spacing", "2,2,1", "-o", out]
    assert succeed("lnq-crop", source, *options).err == ""
    # Extents share their center: voxels of 2 mm begin half an old voxel further in along x,
    # those of 1 mm 1.5 mm further out along z.
    np.testing.assert_allclose(matrix_of(out), affine((2, 2, 1), (10 - 0.5, -20, 30 - 1.5)))
    # Four new voxels a slice, at -3/8, -1/8, 1/8 and 3/8 of it; the outermost take the edge.
    at = np.clip((np.arange(24) - 1.5) / 4, 0, 5)
    expected = np.broadcast_to(80 * at[:, None, None] + np.arange(8)[:, None], (24, 8, 5))
    np.testing.assert_array_equal(load(out), expected)
    assert load(out).dtype == np.int16


def test_interpolated_integers_are_rounded_not_cut_off(tmp_path):
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(8, dtype=np.int16), (4, 4, 8)))
    source = save(tmp_path / "ct.nii.gz", ramp)
    out = tmp_path / "out.nii.gz"
    succeed("lnq-crop", source, "--lungs", "none", "--spacing", "0.5,1,1", "-o", out)
    # at -1/4 (the edge), 1/4, 3/4, 5/4, ...
    np.testing.assert_array_equal(load(out)[1, 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])


def test_a_grid_that_memory_does_not_hold_is_refused_at_once(tmp_path):
    """40 × 40 × 40 mm in cubes of a micrometer, and on the grid of a terabyte."""
    source = save(tmp_path / "ct.nii", np.full((40, 40, 40), -1000, np.int16))
    huge, out = tmp_path / "huge.nii", tmp_path / "out.nii.gz"
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine()).header
    header.set_data_shape((10_000, 10_000, 10_000))
    with huge.open("wb") as file:
        header.write_to(file)
        file.truncate(352 + 10**12)  # a hole: it takes no room
    for options, voxels in (
        (("--spacing", 0.001, "--lungs", "none"), "40000 × 40000 × 40000"),
        (("--like", huge), "10000 × 10000 × 10000"),
    ):
        result = run("lnq-crop", source, *options, "-o", out)
        assert result.status == 1
        assert f"{source}: would measure {voxels} voxels on the new grid, " in result.err
        assert "more than this machine's memory: ask for larger voxels, or for fewer" in result.err
        assert not out.exists()


def test_spacing_comes_after_the_crop_and_labels_stay_labels(ct, mask, tmp_path):
    labels = (numbered(SHAPE) % 7).astype(np.uint8)
    source = save(tmp_path / "label.nii.gz", labels, MATRIX)
    out = tmp_path / "out.nii.gz"
    options = ["--label", "--lungs", mask, "--spacing", "0.5,2,2", "-q", "-o", out]
    succeed("lnq-crop", source, *options)
    assert load(out).dtype == np.uint8
    doubled = labels[LUNGS].repeat(2, axis=0).repeat(2, axis=2)
    np.testing.assert_array_equal(load(out), doubled)


def test_a_smooth_label_takes_the_majority(tmp_path):
    label = np.zeros((8, 8, 8), np.uint8)
    label[:, :, :4] = 3
    label[4, 4, 6] = 5  # lost among its neighbors
    source = save(tmp_path / "label.nii.gz", label)
    out = tmp_path / "out.nii.gz"
    options = ["--lungs", "none", "--spacing", 4, "--interpolation", "label-gaussian", "-o", out]
    succeed("lnq-crop", "--label", source, *options)
    expected = np.zeros((2, 2, 2), np.uint8)
    expected[:, :, 0] = 3
    np.testing.assert_array_equal(load(out), expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--label",), LABEL_NEEDS),
        (("--label", "--lungs", "hu"), LABEL_NEEDS),
        (("--lungs", "none"), "--lungs none needs --spacing"),
        (
            ("--lungs", "none", "--spacing", 2, "--keep", "m"),
            "--keep and --lungs none exc",
        ),
        (("--allow-empty",), "--allow-empty is for --label"),
        (
            ("--label", "--lungs", "none", "--spacing", 2, "--interpolation", "bspline"),
            "--interpolation bspline and --label exclude each other",
        ),
        (("--margin", "1,2"), "'1,2' must be three numbers x,y,z"),
        (("--margin", "-1"), "'-1' must not be below 0"),
        (("--spacing", "0"), "'0' must not be below 0.001"),
        (("--spacing", "wide"), "'wide' is not one number or three"),
        (("--replace-nan", "nan"), "'nan' is not a finite number"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_usage_errors(ct, options, sentence, tmp_path):
    assert sentence in usage_error("lnq-crop", ct, *options, "-o", tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


# Voxels


def test_nan_is_refused_unless_replaced(tmp_path):
    array = numbered((4, 5, 6)).astype(np.float32)
    array[1, 2, 3], array[3, 4, 5] = np.nan, -np.inf
    source = save(tmp_path / "ct.nii.gz", array)
    out = tmp_path / "out.nii.gz"
    result = run("lnq-crop", source, "--like", source, "-o", out)
    assert result.status == 1
    assert result.err == f"lnq-crop: {source}: 2 voxels are NaN or infinite\n"
    assert not out.exists()
    succeed("lnq-crop", source, "--like", source, "--replace-nan", -1000, "-o", out)
    array[1, 2, 3] = array[3, 4, 5] = -1000
    np.testing.assert_array_equal(load(out), array)


def test_fractions_are_no_label(tmp_path):
    source = save(tmp_path / "soft.nii.gz", np.full((3, 3, 3), 0.5, np.float32))
    result = run("lnq-crop", "--label", source, "--like", source, "-o", tmp_path / "out.nii")
    assert result.status == 1
    assert "a label image must hold whole numbers" in result.err
