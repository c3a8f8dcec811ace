"""lnq-crop: the lungs' box, another image's grid, another spacing."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.helpers import (
    OBLIQUE,
    TURNED,
    columns_of,
    numbered,
    numbers,
    rows_of,
    usage_error,
    values_where,
    with_names,
)
from tests.conftest import affine, load, matrix_of, run, save, succeed

SHAPE = (20, 24, 28)
SPACING = (1.0, 2.0, 4.0)  # x, y, z
ORIGIN = (10.0, -20.0, 30.0)
MATRIX = affine(SPACING, ORIGIN)
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
    assert "holds label 118, which is no class of TotalSegmentator" in result.err


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
        ("--spacing", 2),
        ("--boxes", "boxes.tsv"),
        ("--classes", "v2"),
    ],
    ids=lambda other: other[0],
)
def test_like_excludes_what_would_be_ignored(ct, other, tmp_path):
    complaint = usage_error("lnq-crop", ct, "--like", ct, *other, "-o", tmp_path / "out.nii")
    assert complaint == f"--like and {other[0]} exclude each other"


# Another spacing


def test_spacing_keeps_the_extent_and_interpolates(tmp_path):
    z, y = np.indices((6, 8, 10), dtype=np.int16)[:2]
    source = save(tmp_path / "ct.nii.gz", 80 * z + y, affine((1, 2, 4), ORIGIN))
    out = tmp_path / "out.nii.gz"
    options = ["--lungs", "none", "--spacing", "2,2,1", "-o", out]
    assert succeed("lnq-crop", source, *options).err == ""
    # Extents share their centre: voxels of 2 mm begin half an old voxel further in along x,
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
    label[4, 4, 6] = 5  # lost among its neighbours
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
        (("--label",), "a label does not show the lungs"),
        (("--label", "--lungs", "hu"), "a label does not show the lungs"),
        (("--lungs", "none"), "--lungs none leaves nothing to do without --spacing"),
        (
            ("--label", "--lungs", "none", "--spacing", 2, "--interpolation", "bspline"),
            "bspline makes values that are no label",
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
