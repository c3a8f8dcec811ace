"""Lung boxes of analytic thoraces, whose boxes are known, and of real CTs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnqtools.anatomy.lungs import (
    LungBox,
    NoLungsError,
    _block_factors,
    _block_mean,
    _Component,
    extent_warnings,
    lung_mask_from_hu,
    lungs_from_hu,
    lungs_from_mask,
)
from lnqtools.errors import LnqError
from lnqtools.images.box import Box, bounding_box
from lnqtools.images.grid import Grid, carry_box
from lnqtools.images.orientation import oriented, turned
from lnqtools.images.volume import Volume, read_label, read_volume
from tests.conftest import REAL
from tests.grids import SIGNED_PERMUTATIONS, stored, turned_grid

FIELD_OF_VIEW_MM = (300, 270, 390)
BODY = ((150, 135, 195), (1e4, 105, 165))  # center and half axes, mm
LUNGS = {"one": ((150, 135, 120), (110, 75, 55)), "other": ((150, 135, 270), (110, 75, 55))}
LUNGS_MM = ((40, 260), (60, 210), (65, 325))
SPACINGS = ((3, 3, 3), (3, 1.5, 2))
LUNGS_ML = 2 * 4 / 3 * np.pi * 110 * 75 * 55 / 1000


def coordinates(spacing, extent_mm=FIELD_OF_VIEW_MM):
    """Return the positions of voxel centers, in mm, along each axis, ready to broadcast."""
    lengths = [int(e / s) for e, s in zip(extent_mm, spacing, strict=True)]
    grids = np.ogrid[tuple(slice(0, n) for n in lengths)]
    return [(g + 0.5) * s for g, s in zip(grids, spacing, strict=True)]


def ellipsoid(position, center, half_axes):
    """Mark the voxels whose centers lie in an ellipsoid."""
    parts = zip(position, center, half_axes, strict=True)
    return sum(((p - c) / h) ** 2 for p, c, h in parts) <= 1


def tube(position, center_yx, radius_mm, from_mm, to_mm):
    """Mark a tube along z."""
    z, y, x = position
    in_circle = (y - center_yx[0]) ** 2 + (x - center_yx[1]) ** 2 <= radius_mm**2
    return in_circle & (z >= from_mm) & (z < to_mm)


def chest(spacing=(3, 3, 3), opaque=(), lung_hu=-850):
    """Return a thorax: body, two lungs, a trachea to the top slice joined to them by bronchi."""
    position = coordinates(spacing)
    z, y, x = position
    ct = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), -1000, np.int16)
    ct[ellipsoid(position, *BODY)] = 40
    for name, lung in LUNGS.items():
        ct[ellipsoid(position, *lung)] = 30 if name in opaque else lung_hu
    ct[tube(position, (120, 195), 9, 150, 300)] = -1000
    ct[((z - 150) ** 2 + (y - 120) ** 2 <= 7**2) & (np.abs(x - 195) <= 60)] = -1000
    return ct


CHESTS = {spacing: chest(spacing) for spacing in SPACINGS}


def abdomen():
    """Return a body that holds no air but three liters of bowel gas, with a little stool."""
    position = coordinates((3, 3, 3))
    ct = np.full((100, 90, 130), -1000, np.int16)
    ct[ellipsoid(position, *BODY)] = 40
    ct[ellipsoid(position, (150, 120, 195), (120, 60, 100))] = -990
    ct[ellipsoid(position, (150, 120, 195), (30, 20, 20))] = -300
    return ct


def noisy(ct, sd, seed=0):
    """Add Gaussian noise and clip to the scanner's range."""
    noise = np.random.default_rng(seed).normal(0, sd, ct.shape)
    return np.clip(np.rint(ct + noise), -1024, 3071).astype(np.int16)


def outward_mm(box, spacing, truth_mm=LUNGS_MM):
    """Return how far each side of a box lies outside the truth, in mm: (3, 2)."""
    return np.array(
        [
            (low - side.start * s, side.stop * s - high)
            for side, s, (low, high) in zip(box, spacing, truth_mm, strict=True)
        ]
    )


def assert_box(found, spacing=(3, 3, 3), truth_mm=LUNGS_MM, inward=2.0, outward=6.0):
    """Assert that a box holds the lungs, but for a tip of 2 mm, and is at most 6 mm too wide."""
    sides = outward_mm(found.box, spacing, truth_mm)
    assert sides.min() >= -inward, sides
    assert sides.max() <= outward, sides


# --- from the CT numbers


@pytest.mark.parametrize("spacing", [(3, 3, 3), (5, 1.5, 1.5), (2.5, 2, 2), (1, 3, 3), (3.3, 1, 1)])
def test_box_of_a_clean_chest(spacing):
    found = lungs_from_hu(chest(spacing), spacing)
    assert_box(found, spacing, outward=6.0 if spacing[0] < 5 else 10.0)
    assert found.warnings == ()
    assert found.volume_ml == pytest.approx(LUNGS_ML, rel=0.06)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64, ">i2"])
def test_type_does_not_matter_and_the_input_is_left_alone(dtype):
    ct = noisy(chest(), 30)
    other = ct.astype(dtype)
    assert lungs_from_hu(other, (3, 3, 3)) == lungs_from_hu(ct, (3, 3, 3))
    np.testing.assert_array_equal(other, ct)


@pytest.fixture(scope="module")
def cut_chest():
    """Return a CT of blocks of 1 x 2 x 2 voxels with a voxel left over, and its lungs."""
    spacing = (5, 1.5, 1.3)
    ct = noisy(chest(spacing)[:, 4:175, 10:299], 20)
    grid = Grid.of_slices(ct.shape, spacing)
    found = lungs_from_hu(ct, spacing)
    assert [s.start for s in found.box] != [0, 0, 0]
    return ct, grid, found


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
def test_any_orientation_gives_the_same_box(cut_chest, way):
    ct, grid, expected = cut_chest
    target = turned_grid(grid, way)
    found = lungs_from_hu(stored(ct, grid, target), target)
    assert carry_box(found.box, target, grid) == expected.box
    assert found.volume_ml == pytest.approx(expected.volume_ml)
    assert found.warnings == expected.warnings


def test_table_of_foam_is_no_lung():
    ct = chest()
    ct[:, 81:] = 60  # carbon, touching the back
    ct[:, 82:89] = -910  # foam: 2.4 liters
    assert_box(lungs_from_hu(ct, (3, 3, 3)))


def test_blanket_with_air_under_it_is_no_lung():
    position = coordinates((3, 3, 3))
    ct = chest()
    blanket = ellipsoid(position, (150, 135, 195), (1e4, 130, 190)) & ~ellipsoid(
        position, (150, 135, 195), (1e4, 124, 184)
    )
    ct[blanket] = -300
    under = ellipsoid(position, (150, 135, 195), (1e4, 124, 184)) & (ct == -1000)
    under &= ~ellipsoid(position, *BODY)
    ct[under & (position[1] < 120)] = -900  # fluff
    found = lungs_from_hu(ct, (3, 3, 3))
    assert_box(found)


def test_bowel_gas_is_no_lung():
    ct = chest()
    position = coordinates((3, 3, 3))
    colon = ellipsoid(position, (10, 135, 195), (70, 80, 110))  # around the lungs' lower tips
    near_lungs = np.logical_or.reduce(
        [ellipsoid(position, c, np.add(h, 9)) for c, h in LUNGS.values()]
    )
    colon &= ~near_lungs
    assert 900 < np.count_nonzero(colon) * 0.027 < 2000
    ct[colon] = -1000
    assert_box(lungs_from_hu(ct, (3, 3, 3)))


def test_stool_below_the_lungs_is_no_lung():
    ct = chest()
    ct = np.concatenate([np.repeat(ct[:1], 40, axis=0), ct])  # 120 mm more below
    stool = ellipsoid(coordinates((3, 3, 3), (420, 270, 390)), (70, 135, 195), (55, 70, 100))
    assert np.count_nonzero(stool) * 0.027 > 1500
    ct[stool] = -600
    lifted_mm = ((160, 380), *LUNGS_MM[1:])
    assert_box(lungs_from_hu(ct, (3, 3, 3)), truth_mm=lifted_mm)


def test_pocket_of_air_in_front_of_the_lungs_is_no_lung():
    ct = chest()
    ct[ellipsoid(coordinates((3, 3, 3)), (80, 60, 195), (24, 24, 24))] = -700  # 58 ml
    assert_box(lungs_from_hu(ct, (3, 3, 3)))


@pytest.mark.parametrize(
    ("what", "volume_ml", "tissue_share", "hu_percentiles", "is_lung"),
    [
        # measured on the real CTs: LUNG1, LIDC, the downsampled chest, example_ct
        ("lung", 1393, 0.94, (-760, -614), True),
        ("both lungs, joined", 3063, 0.99, (-877, -802), True),
        ("lungs, overinflated", 3755, 0.99, (-930, -844), True),
        ("foam of the table", 3806, 0.00, (-928, -918), False),
        ("air between arms and trunk", 3887, 0.23, (-981, -899), False),
        ("gas between jaw and shoulder", 427, 0.45, (-999, -983), False),
        ("colon", 94, 0.94, (-981, -961), False),
        # thought of
        ("small emphysematous lung with vessels", 400, 0.95, (-960, -880), True),
        ("large emphysematous lung", 2000, 0.95, (-970, -935), True),
        ("large gas pocket, half wrapped", 1500, 0.70, (-980, -960), False),
        # at the limits
        ("half wrapped", 1500, 0.50, (-850, -700), False),
        ("gas", 400, 0.95, (-951, -901), False),
        ("middle not of gas", 400, 0.95, (-950, -901), True),
        ("dense part not of gas", 400, 0.95, (-951, -900), True),
        ("emphysema", 801, 0.81, (-989, -905), True),
        ("too small for emphysema", 800, 0.81, (-989, -905), False),
        ("too bare for emphysema", 801, 0.80, (-989, -905), False),
        ("too thin for emphysema", 801, 0.81, (-990, -905), False),
        ("colon blown up for an examination", 1500, 0.95, (-998, -985), False),
    ],
)
def test_what_is_lung(what, volume_ml, tissue_share, hu_percentiles, is_lung):
    box = Box.whole((1, 1, 1))
    assert _Component(1, box, volume_ml, tissue_share, hu_percentiles).is_lung == is_lung, what


def test_blocks_are_of_about_3_mm_along_each_axis():
    assert _block_factors((60, 512, 512), (5.0, 0.7, 1.4)) == [1, 4, 2]
    assert _block_factors((2, 3, 512), (1.0, 0.5, 3.0)) == [2, 3, 1]


def test_a_block_is_the_mean_of_its_voxels_and_padding_is_air():
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    expected = array[:4, :6, :6].reshape(2, 2, 2, 3, 3, 2).mean(axis=(1, 3, 5))
    for stored_as in (array, np.asfortranarray(array)):
        np.testing.assert_allclose(_block_mean(stored_as, [2, 3, 2]), expected, rtol=1e-6)
    ends = np.array([[[-1500, -1501]]], np.int16)
    assert _block_mean(ends, [1, 1, 1]).tolist() == [[[-1500, -1024]]]
    assert _block_mean(ends, [1, 1, 2]).tolist() == [[[-1262]]]


def test_trachea_does_not_lift_the_box():
    without = chest()
    without[tube(coordinates((3, 3, 3)), (120, 195), 10, 150, 300)] = 40
    assert lungs_from_hu(chest(), (3, 3, 3)).box[0] == lungs_from_hu(without, (3, 3, 3)).box[0]


@pytest.mark.parametrize("opaque", ["one", "other"])
def test_one_opaque_lung_mirrors_the_other(opaque):
    found = lungs_from_hu(chest(opaque=[opaque]), (3, 3, 3))
    assert_box(found)
    assert found.warnings == (
        "only one lung holds air; its box was mirrored on the body's midline",
    )
    assert found.volume_ml == pytest.approx(LUNGS_ML / 2, rel=0.08)


def boxes_in_a_body(columns, *lungs, lung_hu=-850):
    """Return a CT in blocks of one voxel of 3 mm: a body of straight sides, boxes of air in it."""
    ct = np.full((80, 70, 110), -1000, np.int16)
    ct[:, 5:65, slice(*columns)] = 40
    for z, x in lungs:
        ct[slice(*z), 12:52, slice(*x)] = lung_hu
    return ct


def test_air_is_below_400_hu_under_0_and_its_rim_below_250():
    lungs = (((10, 70), (15, 45)), ((10, 70), (55, 85)))
    with pytest.raises(NoLungsError):
        lungs_from_hu(boxes_in_a_body((10, 90), *lungs, lung_hu=-400), (3, 3, 3))
    for rim_hu, rim in ((-250, 0), (-251, 1)):
        ct = boxes_in_a_body((10, 90), *lungs, lung_hu=rim_hu)
        for _, (left, right) in lungs:
            ct[11:69, 13:51, left + 1 : right - 1] = -401
        found = lungs_from_hu(ct, (3, 3, 3))
        assert found.box == (
            slice(11 - rim, 69 + rim),
            slice(13 - rim, 51 + rim),
            slice(16 - rim, 84 + rim),
        )


@pytest.mark.parametrize(
    ("columns", "lung", "box"),
    [
        ((10, 90), (15, 40), (15, 85)),  # midline between columns 49 and 50
        ((10, 91), (15, 40), (15, 86)),  # in the middle of column 50
        ((11, 90), (15, 40), (15, 86)),
        ((10, 90), (60, 85), (15, 85)),
        ((10, 91), (60, 85), (16, 85)),
        ((30, 110), (35, 60), (35, 105)),
        ((0, 60), (5, 25), (5, 55)),
    ],
)
def test_one_lungs_box_is_mirrored_to_the_voxel(columns, lung, box):
    found = lungs_from_hu(boxes_in_a_body(columns, ((10, 70), lung)), (3, 3, 3))
    assert found.box == (slice(10, 70), slice(12, 52), slice(*box))
    assert any("only one lung holds air" in warning for warning in found.warnings)
    assert found.volume_ml == pytest.approx(60 * 40 * (lung[1] - lung[0]) * 0.027)


@pytest.mark.parametrize(
    ("first", "slices", "second", "mirrored"),
    [
        ((15, 40), (10, 22), (55, 80), False),  # 12 of 60 slices
        ((15, 40), (10, 21), (55, 80), True),
        ((15, 39), (10, 22), (50, 75), False),  # 12 * 24 of 60 * 24 voxels a row,
        ((15, 27), (10, 21), (50, 64), True),  # 11 * 13 of 60 * 12: the middle column is of no side
    ],
)
def test_a_side_with_a_fifth_of_the_others_air_is_not_mirrored(first, slices, second, mirrored):
    ct = boxes_in_a_body((10, 91), ((10, 70), first), (slices, second))
    found = lungs_from_hu(ct, (3, 3, 3))
    assert found.box[2] == (slice(15, 86) if mirrored else slice(15, second[1]))


@pytest.mark.parametrize(("shared", "beside"), [(5, False), (6, True)])
def test_a_second_lung_shares_more_than_three_tenths_of_its_slices_with_the_first(shared, beside):
    """Of the 10 slices that an erosion leaves of it, 3 and 4 of those that are left of the first.

    Otherwise it is not a lung, and the box of the other is mirrored.
    """
    ct = boxes_in_a_body((10, 91), ((10, 30), (15, 40)), ((30 - shared, 42 - shared), (55, 80)))
    found = lungs_from_hu(ct, (3, 3, 3))
    assert found.box[2] == slice(15, 80 if beside else 86)
    assert found.box[0] == slice(10, 42 - shared if beside else 30)


def test_small_second_lung_is_kept():
    ct = chest()
    shrunk = ellipsoid(coordinates((3, 3, 3)), *LUNGS["one"])
    shrunk[40:] = False  # only the lowest third of it holds air
    ct[ellipsoid(coordinates((3, 3, 3)), *LUNGS["one"]) & ~shrunk] = 30
    ct[49:52, 35:45, 40:60] = 40  # and its bronchus is closed
    found = lungs_from_hu(ct, (3, 3, 3))
    assert found.warnings == ()
    assert_box(found)


def test_tight_field_of_view_reaches_the_border_and_says_so():
    ct = chest()[:, 25:65, 30:100]  # 75-195 of 60-210 mm, 90-300 of 65-325 mm
    found = lungs_from_hu(ct, (3, 3, 3))
    assert found.box[1:] == (slice(0, 40), slice(0, 70))
    assert found.warnings[0] == (
        "the lungs reach the image border (anterior-posterior, left-right) and may be cut there"
    )
    assert found.warnings[1:] == (
        "the lungs extend 120 mm anterior-posterior; 130-300 mm is usual",
    )


@pytest.mark.parametrize("width", [138, 139, 140])
def test_lungs_in_the_voxels_beyond_the_last_block(width):
    spacing = (3, 1, 1)  # blocks of 1 x 3 x 3
    ct = chest(spacing)[:, :, 100 : 100 + width]
    found = lungs_from_hu(ct, spacing)
    assert found.box[2] == slice(0, width)


@pytest.mark.parametrize("padding", [-3024, -2000])
def test_padding_around_the_circle_of_reconstruction(padding):
    spacing = (3, 1.5, 1.5)
    ct = noisy(chest(spacing), 20)
    expected = lungs_from_hu(ct, spacing)
    _, y, x = coordinates(spacing)
    corners = np.broadcast_to((y - 135) ** 2 + (x - 195) ** 2 > 190**2, ct.shape)
    ct[corners] = padding
    found = lungs_from_hu(ct, spacing)
    assert found.box == expected.box
    assert found.warnings == ()


def test_padding_that_cuts_the_lungs_is_plain_air():
    spacing = (3, 1.3, 1.3)  # blocks of 1 x 2 x 2
    ct = noisy(chest(spacing), 20)
    _, y, x = coordinates(spacing)
    ct[np.broadcast_to((y - 135) ** 2 + (x - 195) ** 2 > 100**2, ct.shape)] = -1024
    expected = lungs_from_hu(ct, spacing)
    ct[ct == -1024] = -3024
    assert lungs_from_hu(ct, spacing) == expected


@pytest.mark.parametrize(("spacing", "sd"), [((3, 1.5, 1.5), 200), ((3, 3, 3), 80)])
def test_noise(spacing, sd):
    assert_box(lungs_from_hu(noisy(chest(spacing), sd), spacing), spacing, inward=3.0)


@pytest.mark.parametrize("vessels", [0, 0.12])
@pytest.mark.parametrize("open_airway", [False, True])
def test_emphysema_is_lung(open_airway, vessels):
    ct = chest(lung_hu=-975)
    ct[(np.random.default_rng(0).random(ct.shape) < vessels) & (ct == -975)] = -700
    if open_airway:
        ct[95:] = -1000
    assert_box(lungs_from_hu(ct, (3, 3, 3)))


def nothing(hu):
    return np.full((60, 60, 60), hu, np.int16)


@pytest.mark.parametrize(
    ("ct", "reason"),
    [
        (abdomen(), "the air in the body is pure gas, as in the bowel"),
        (chest()[:24], "only 2.. ml of air-filled lung, as in an image of the abdomen"),
        (chest(opaque=["one", "other"])[:50], "the image shows no air inside a body"),
        (nothing(-1000), "the image shows no air inside a body"),
        (nothing(-3024), "the image shows no air inside a body"),
        (nothing(-800), "the only air is outside the body"),
        (nothing(0), "the image shows no air inside a body"),
        (nothing(3000), "the image shows no air inside a body"),
        (np.zeros((1, 1, 1), np.uint8), "the image shows no air inside a body"),
        (np.eye(60, dtype=np.uint8)[None].repeat(60, 0), "the image shows no air inside a body"),
    ],
)
def test_no_lungs(ct, reason):
    with pytest.raises(NoLungsError, match=f"^no lungs found: {reason}$"):
        lungs_from_hu(ct, (3, 3, 3))


def test_no_lungs_is_an_error_for_the_user():
    assert issubclass(NoLungsError, LnqError)


# --- from a mask


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(SPACINGS), st.sampled_from(["LPS", "RAI", "PIR", "SAL"]))
def test_a_mask_from_hu_has_the_box_of_the_lungs_however_stored(spacing, code):
    grid = Grid.of_slices(CHESTS[spacing].shape, spacing)
    ct = turned(Volume(CHESTS[spacing], grid), oriented(grid, code))
    mask = lung_mask_from_hu(ct.array, ct.grid)
    found = lungs_from_hu(ct.array, ct.grid)
    assert bounding_box(mask) == found.box
    volume_ml = np.count_nonzero(mask) * np.prod(spacing) / 1000
    assert volume_ml == pytest.approx(found.volume_ml)
    assert np.count_nonzero(mask & (ct.array == -850)) > 0.9 * np.count_nonzero(mask)


def test_a_mask_from_hu_reaches_the_voxels_beyond_the_last_block():
    """Lungs that the image cuts: 139 columns are 69 blocks of two, and one more voxel."""
    ct = chest((3, 3, 1.5))[:, :, :139]
    mask = lung_mask_from_hu(ct, (3, 3, 1.5))
    np.testing.assert_array_equal(mask[:, :, 138], mask[:, :, 137])
    np.testing.assert_array_equal(mask[:, :, :138:2], mask[:, :, 1:138:2])


def two_blocks():
    """Return a mask of two lungs of 100 x 60 x 40 voxels, 20 apart."""
    mask = np.zeros((140, 100, 140), np.uint8)
    mask[20:120, 20:80, 20:60] = 1
    mask[20:120, 20:80, 80:120] = 2
    return mask


TWO_BLOCKS = (slice(20, 120), slice(20, 80), slice(20, 120))


def test_mask_box_is_exact():
    found = lungs_from_mask(two_blocks(), (2, 2.5, 2.5))
    assert found == LungBox(TWO_BLOCKS, pytest.approx(2 * 100 * 60 * 40 * 12.5 / 1000), ())


def test_specks_do_not_count():
    mask = two_blocks()
    mask[60:70, 90:, 130:] = 3  # table: 1000 voxels
    mask[0:8, 40:60, 40:60] = 1  # bowel, below the lungs: 3200 of 240000 voxels
    mask[0, 0, 0] = 1
    found = lungs_from_mask(mask, (2, 2.5, 2.5))
    assert found.box == TWO_BLOCKS
    assert found.volume_ml == pytest.approx(2 * 100 * 60 * 40 * 12.5 / 1000)
    assert found.warnings == ()


def test_collapsed_lung_is_kept():
    mask = two_blocks()
    mask[..., 70:] = 0
    mask[20:40, 30:70, 90:115] = 1  # a twelfth of the other
    found = lungs_from_mask(mask, (2, 2.5, 2.5))
    assert found.box == (slice(20, 120), slice(20, 80), slice(20, 115))


def test_large_component_below_the_lungs_does_not_count():
    mask = two_blocks()
    mask[0:15, 10:90, 10:90] = 1
    assert lungs_from_mask(mask, (2, 2.5, 2.5)).box == TWO_BLOCKS


@pytest.mark.parametrize(
    ("slices", "columns", "kept"),
    [
        ((20, 120), (100, 102), True),  # a twentieth of the large one
        ((20, 119), (100, 102), False),
        ((119, 129), (100, 120), True),  # shares a slice with it
        ((120, 130), (100, 120), False),
        ((11, 21), (100, 120), True),
        ((10, 20), (100, 120), False),
    ],
)
def test_a_part_of_the_lungs_is_large_and_beside_them(slices, columns, kept):
    mask = np.zeros((140, 100, 140), np.uint8)
    mask[20:120, 20:80, 20:60] = 1
    mask[slice(*slices), 20:80, slice(*columns)] = 1
    found = lungs_from_mask(mask, (2, 2.5, 2.5))
    around = Box.of((min(20, slices[0]), 20, 20), (max(120, slices[1]), 80, columns[1]))
    assert found.box == (around if kept else Box.of((20, 20, 20), (120, 80, 60)))


def test_lobes_that_do_not_touch_are_kept():
    z, y, _ = np.ogrid[:140, :100, :140]
    mask = two_blocks()
    mask[np.broadcast_to(np.abs(z - 20 - y) <= 2, mask.shape)] = 0  # an oblique fissure
    assert lungs_from_mask(mask, (2, 2.5, 2.5)).box == TWO_BLOCKS


def test_single_lung_is_kept():
    mask = two_blocks()
    mask[..., :70] = 0
    found = lungs_from_mask(mask, (2, 2.5, 2.5))
    assert found.box == (slice(20, 120), slice(20, 80), slice(80, 120))
    assert found.warnings == ("the lungs extend 100 mm left-right; 200-390 mm is usual",)


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
def test_mask_in_any_orientation(way):
    mask = two_blocks()
    mask[0:15, 10:90, 10:90] = 1
    grid = Grid.of_slices(mask.shape, (2, 2.5, 2.5))
    target = turned_grid(grid, way)
    found = lungs_from_mask(stored(mask, grid, target), target)
    assert carry_box(found.box, target, grid) == TWO_BLOCKS
    assert found.warnings == ()


def test_mask_at_the_border_warns():
    mask = two_blocks()[20:, :, :120]
    assert lungs_from_mask(mask, (2, 2.5, 2.5)).warnings == (
        "the lungs reach the image border (superior-inferior, left-right) and may be cut there",
    )


def test_full_mask():
    found = lungs_from_mask(np.ones((4, 5, 6), bool), (1, 1, 1))
    assert found.box == Box.whole((4, 5, 6))
    assert found.volume_ml == pytest.approx(0.12)


def test_empty_mask():
    with pytest.raises(NoLungsError, match=r"^no lungs found: the lung mask is empty$"):
        lungs_from_mask(np.zeros((5, 6, 7), np.uint8), (1, 1, 1))


# --- extents


def test_the_usual_extents_hold_their_limits():
    for shape, direction in (
        ((180, 130, 200), None),
        ((360, 300, 390), None),
        ((179, 130, 200), "179 mm superior-inferior; 180-360"),
        ((361, 130, 200), "361 mm superior-inferior; 180-360"),
        ((180, 129, 200), "129 mm anterior-posterior; 130-300"),
        ((180, 301, 200), "301 mm anterior-posterior; 130-300"),
        ((180, 130, 199), "199 mm left-right; 200-390"),
        ((180, 130, 391), "391 mm left-right; 200-390"),
    ):
        told = () if direction is None else (f"the lungs extend {direction} mm is usual",)
        assert extent_warnings(Box.whole(shape), (1, 1, 1)) == told


def test_extents():
    box = Box.of((0, 0, 50), (100, 150, 250))
    assert extent_warnings(box, (2, 1, 1)) == ()
    assert extent_warnings(box, (1.8, 0.9, 1.9)) == ()
    assert extent_warnings(box, (1, 2.5, 2)) == (
        "the lungs extend 100 mm superior-inferior; 180-360 mm is usual",
        "the lungs extend 375 mm anterior-posterior; 130-300 mm is usual",
        "the lungs extend 400 mm left-right; 200-390 mm is usual",
    )


# --- real CTs


def real(name):
    """Return the path of a real CT, or skip the test."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def box_of_real(name):
    """Return a real CT and its lung box."""
    ct = read_volume(real(name))
    return ct, lungs_from_hu(ct.array, ct.grid)


def test_real_lung1_agrees_with_the_expert_lungs():
    ct, found = box_of_real("nsclc-radiomics/LUNG1-003_ct.nii.gz")
    left, right = (
        read_label(real(f"nsclc-radiomics/LUNG1-003_Lung-{side}.nii.gz")).array
        for side in ("Left", "Right")
    )
    expert = lungs_from_mask((left > 0) | (right > 0), ct.spacing)
    assert expert.box == (slice(2, 77), slice(101, 334), slice(126, 404))
    truth_mm = [(s.start * m, s.stop * m) for s, m in zip(expert.box, ct.spacing, strict=True)]
    # the dense lung at the back and the contours' overshoot at the sides: inward 4 and 3 mm
    assert_box(found, ct.spacing, truth_mm, inward=4.0, outward=3.1)
    assert found.volume_ml == pytest.approx(expert.volume_ml, rel=0.05)
    assert found.warnings == expert.warnings == ()


def assert_box_in_voxels(ct, found, seen):
    """Assert that a box lies within about one block of what the slices show."""
    truth_mm = [(low * m, high * m) for (low, high), m in zip(seen, ct.spacing, strict=True)]
    assert_box(found, ct.spacing, truth_mm, inward=4.2, outward=4.2)


# Seen: the extent of the full-resolution component below -500 HU that holds the lungs, less
# the slices at the top in which it is the trachea alone.


def test_real_lidc():
    ct, found = box_of_real("lidc-idri/LIDC-IDRI-0001_ct.nii.gz")
    assert found.warnings == ()
    assert found.volume_ml == pytest.approx(3700, rel=0.05)
    assert_box_in_voxels(ct, found, seen=((20, 126), (126, 398), (78, 439)))


def test_real_downsampled_chest():
    ct, found = box_of_real("cip/ct-64.nrrd")
    assert found.warnings == ()
    assert found.volume_ml == pytest.approx(4630, rel=0.05)
    assert_box_in_voxels(ct, found, seen=((8, 76), (9, 52), (3, 61)))


@pytest.mark.parametrize("name", ["example_ct", "example_ct_sm"])
def test_real_abdomen_holds_only_the_bases_of_the_lungs(name):
    with pytest.raises(NoLungsError, match=r"only [12].. ml of air-filled lung"):
        box_of_real(f"totalsegmentator/{name}.nii.gz")


def test_real_cropped_chest_reaches_every_border():
    ct, found = box_of_real("totalsegmentator/ct_cropped.nii.gz")
    assert found.box == (slice(6, 164), slice(6, 126), slice(0, 120))
    assert ct.array.shape == (164, 126, 120)
    assert found.warnings == (
        "the lungs reach the image border (superior-inferior, anterior-posterior, left-right) "
        "and may be cut there",
        "the lungs extend 180 mm left-right; 200-390 mm is usual",
    )


@given(
    hnp.arrays(
        np.int16,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=12),
        elements=st.sampled_from([-3024, -1024, -1000, -850, -500, 0, 40, 3000, 32767]),
    ),
    st.tuples(*[st.sampled_from([0.5, 3.0, 12.0, 40.0])] * 3),
)
def test_any_ct_has_a_box_within_it_or_no_lungs(array, spacing):
    try:
        found = lungs_from_hu(array, spacing)
    except NoLungsError:
        return
    for side, length in zip(found.box, array.shape, strict=True):
        assert 0 <= side.start < side.stop <= length


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_a_masks_box_lies_within_it_and_no_side_is_empty(mask):
    if not mask.any():
        with pytest.raises(NoLungsError):
            lungs_from_mask(mask, (1.0, 1.0, 1.0))
        return
    found = mask[lungs_from_mask(mask, (1.0, 1.0, 1.0)).box]
    for axis in range(3):
        sides = np.moveaxis(found, axis, 0)
        assert sides[0].any()
        assert sides[-1].any()
