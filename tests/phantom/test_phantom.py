"""Phantoms: determinism, consistency of the images, believable HU, and calibration."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lnqtools.components.diameters import diameters_mm
from lnqtools.components.labeling import find_instances
from lnqtools.errors import LnqError
from lnqtools.images.grid import grid_of
from lnqtools.phantom import NodeRow, axial_axes, make_phantom, scan, short_axis_mm
from lnqtools.phantom import labels as ids
from lnqtools.phantom.annotation import EachByChance, FewLargeOnes, PartOfEnlarged
from lnqtools.phantom.case import _draw_scene, _largest_piece
from lnqtools.phantom.patient import PROFILES, draw_patient
from lnqtools.phantom.shapes import (
    Brick,
    Column,
    Difference,
    Ellipsoid,
    Grown,
    Intersection,
    Lattice,
    Union,
    tube,
)
from lnqtools.phantom.tumor import TUMOR, paint_tumor

CASES = 6
IMAGES = ("ct", "truth", "instances", "weak", "tumor", "anatomy")
LUNG_LOBES = range(ids.LUNG_UPPER_LOBE_LEFT, ids.LUNG_LOWER_LOBE_RIGHT + 1)


@pytest.fixture(scope="module")
def realistic():
    return [make_phantom(7, i) for i in range(CASES)]


@pytest.fixture(scope="module")
def easy():
    return [make_phantom(7, i, profile="easy") for i in range(CASES)]


@pytest.fixture(scope="module")
def phantoms(realistic, easy):
    return realistic + easy


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in IMAGES)


def interior(mask):
    """Voxels whose neighbors are all in the mask: free of partial volume."""
    return ndimage.binary_erosion(mask, np.ones((3, 3, 3)))


# --- which case it is ------------------------------------------------------------------------


def test_case_is_the_same_when_made_alone(realistic):
    again = make_phantom(7, 3)
    assert same(again, realistic[3])
    assert again.grid == realistic[3].grid
    assert again.nodes == realistic[3].nodes


def test_cases_seeds_and_profiles_differ(realistic, easy):
    other = make_phantom(8, 3)
    for a, b in itertools.combinations([*realistic, *easy, other], 2):
        assert a.ct.shape != b.ct.shape or not np.array_equal(a.ct, b.ct)


def test_slabs_do_not_show(monkeypatch, realistic):
    monkeypatch.setattr(scan, "SLAB_VOXELS", 7 * 112 * 144)
    assert same(make_phantom(7, 0), realistic[0])


def test_profiles_share_the_patient(realistic, easy):
    assert realistic[0].grid == easy[0].grid
    lungs = [np.isin(c.anatomy, LUNG_LOBES) for c in (realistic[0], easy[0])]
    assert 2 * (lungs[0] & lungs[1]).sum() / (lungs[0].sum() + lungs[1].sum()) > 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "hard"}, "no phantom profile 'hard'; choose from realistic, easy"),
        ({"size": "huge"}, "no phantom size 'huge'; choose from small, full"),
        ({"phase": "late"}, "no contrast phase 'late'; choose from none, weak, high"),
        ({"seed": -1}, "must be 0 or more"),
        ({"index": -1}, "must be 0 or more"),
    ],
)
def test_unusable_arguments_are_named(arguments, message):
    with pytest.raises(LnqError, match=message):
        make_phantom(**({"seed": 0, "index": 0} | arguments))


# --- arrays and geometry ---------------------------------------------------------------------


def test_dtypes_and_shapes(phantoms):
    kinds = dict.fromkeys(IMAGES, "uint8") | {"ct": "int16", "instances": "uint16"}
    for case in phantoms:
        for name, kind in kinds.items():
            assert getattr(case, name).dtype == kind
            assert getattr(case, name).shape == case.grid.shape
        assert case.grid.shape[1:] == (112, 144)
        assert 80 <= case.grid.shape[0] <= 125
        assert case.spacing == case.grid.spacing
        assert 3 <= case.spacing[0] <= 3.4
        assert case.spacing[1] == case.spacing[2]
        assert 2.2 < case.spacing[1] < 3.3


def test_spacing_varies(realistic):
    assert len({case.spacing for case in realistic}) == CASES


def test_axes_run_to_head_back_and_left(phantoms):
    """The world is RAS: the heart lies left of the spine's middle and in front of it."""
    for case in phantoms:
        assert case.grid.direction == ((0, 0, -1), (0, -1, 0), (1, 0, 0))
        place = {
            name: case.grid.world(np.argwhere(case.anatomy == number).mean(axis=0))
            for name, number in (
                ("heart", ids.HEART),
                ("spine", ids.VERTEBRAE_T1 - 6),
                ("liver", ids.LIVER),
                ("trachea", ids.TRACHEA),
            )
        }
        assert place["heart"][0] < -5 < 5 < place["liver"][0]
        assert abs(place["spine"][0]) < 5
        assert place["heart"][1] > place["spine"][1] + 40
        assert place["trachea"][2] > place["heart"][2] > place["liver"][2]


def test_body_is_surrounded_by_air_and_lungs_are_whole(phantoms):
    for case in phantoms:
        body = ndimage.binary_opening(case.ct > -150, iterations=2)
        for face in (body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1]):
            assert not face.any()
        lungs = np.isin(case.anatomy, LUNG_LOBES)
        assert not lungs[0].any()
        assert not lungs[-1].any()
        assert 2.5e6 < lungs.sum() * np.prod(case.spacing) < 8e6


def test_lungs_are_the_gas_inside_the_body(phantoms):
    """Lobes and airways agree with what a threshold finds in the box of the lobes."""
    for case in phantoms:
        lungs = np.isin(case.anatomy, LUNG_LOBES)
        gas = ndimage.gaussian_filter(case.ct.astype(float), 0.7) < -500
        pieces, _ = ndimage.label(gas & ~ndimage.binary_dilation(case.anatomy == ids.TRACHEA))
        outside = np.unique([pieces[:, 0], pieces[:, -1]])
        inside = (pieces > 0) & ~np.isin(pieces, outside)
        assert 2 * (inside & lungs).sum() / (inside.sum() + lungs.sum()) > 0.9


# --- anatomy ---------------------------------------------------------------------------------


def test_class_numbers_are_those_of_totalsegmentator():
    tables = pytest.importorskip("totalsegmentator.map_to_binary")
    names = tables.class_map["total"]
    constants = {k.lower(): v for k, v in vars(ids).items() if isinstance(v, int) and v}
    assert len(constants) > 30
    assert [names[number].lower() for number in constants.values()] == list(constants)


def test_every_case_has_the_organs_of_a_chest(phantoms):
    ribs = set(range(ids.RIB_LEFT_1 + 1, ids.RIB_LEFT_1 + 10))
    ribs |= set(range(ids.RIB_RIGHT_1 + 1, ids.RIB_RIGHT_1 + 10))
    vertebrae = set(range(ids.VERTEBRAE_T1 - 10, ids.VERTEBRAE_T1 + 1))
    others = {v for v in vars(ids).values() if isinstance(v, int) and v} - {ids.RIB_LEFT_1}
    known = others | ribs | vertebrae | {ids.RIB_LEFT_1}
    for case in phantoms:
        present = set(np.unique(case.anatomy).tolist())
        assert (others - {ids.RIB_RIGHT_1, ids.THYROID_GLAND}) | ribs | vertebrae <= present
        # beyond: first and last ribs, C6, C7, T12, L1
        assert present - known - {0, 31, 32, 44, 45, 102, 103, 114, 115} == set()


def test_anatomy_leaves_nodes_free(phantoms):
    for case in phantoms:
        assert not case.anatomy[case.truth > 0].any()


def test_labeled_part_of_the_lung_box_is_as_in_the_paper(realistic):
    """Paper: 55.05 ± 3.31 % of the lung box once TotalSegmentator's classes are added."""
    for case in realistic:
        box = ndimage.find_objects(np.isin(case.anatomy, LUNG_LOBES).astype(int))[0]
        labeled = ((case.anatomy > 0) | (case.weak > 0))[box].mean()
        assert 0.52 < labeled < 0.64


EXPECTED_HU = {
    # class: lowest and highest mean HU without contrast, and with the strongest
    ids.LUNG_LOWER_LOBE_LEFT: (-920, -740, -740),
    ids.TRACHEA: (-1024, -900, -900),
    ids.AORTA: (25, 60, 310),
    ids.SUPERIOR_VENA_CAVA: (25, 60, 210),
    ids.HEART: (25, 70, 250),
    ids.LIVER: (40, 75, 130),
    ids.AUTOCHTHON_LEFT: (30, 70, 70),
    ids.VERTEBRAE_T1 - 6: (120, 420, 420),
}


@pytest.mark.parametrize("number", EXPECTED_HU)
def test_hu_by_structure(phantoms, number):
    low, high_plain, high_contrast = EXPECTED_HU[number]
    for case in phantoms:
        hu = case.ct[interior(case.anatomy == number)].mean()
        assert low < hu < (high_plain if case.phase == "none" else high_contrast)


def test_contrast_shows_in_the_aorta(realistic):
    limits = {"none": (25, 60), "weak": (65, 130), "high": (150, 310)}
    assert {case.phase for case in realistic} == set(limits)
    for case in realistic:
        low, high = limits[case.phase]
        assert low < case.ct[interior(case.anatomy == ids.AORTA)].mean() < high


def test_noise_has_the_planned_strength(easy, realistic):
    def noise(case):
        liver = interior(case.anatomy == ids.LIVER)
        return case.ct[liver].std()

    assert all(4 < noise(case) < 11 for case in easy)
    assert all(9 < noise(case) < 30 for case in realistic)


# --- nodes -----------------------------------------------------------------------------------


def test_truth_weak_and_instances_agree(phantoms):
    for case in phantoms:
        assert np.array_equal(case.truth, case.instances > 0)
        assert [row.id for row in case.nodes] == list(range(1, case.instances.max() + 1))
        annotated = [row.id for row in case.nodes if row.annotated]
        assert annotated
        assert np.array_equal(case.weak, np.isin(case.instances, annotated))
        assert 0 < case.weak.sum() <= case.truth.sum()


def test_only_enlarged_nodes_are_annotated(phantoms):
    for case in phantoms:
        assert all(row.enlarged for row in case.nodes if row.annotated)


def test_each_node_is_one_piece_of_the_stated_volume(phantoms):
    for case in phantoms:
        for row in case.nodes:
            mask = case.instances == row.id
            assert ndimage.label(mask)[1] == 1
            assert row.volume_mm3 == pytest.approx(mask.sum() * np.prod(case.spacing))


def test_enlarged_agrees_with_the_voxels(phantoms):
    """Compare with the narrowest caliper width in the axial slice with the most voxels."""
    for case in phantoms:
        for row in case.nodes:
            mask = case.instances == row.id
            y, x = np.nonzero(mask[np.argmax(mask.sum(axis=(1, 2)))])
            angles = np.linspace(0, np.pi, 36, endpoint=False)[:, None]
            along = np.cos(angles) * y + np.sin(angles) * x
            width = (np.ptp(along, axis=1) + 1).min() * case.spacing[1]
            assert row.enlarged == (row.short_axis_mm >= 10)
            assert row.short_axis_mm == pytest.approx(width, abs=2 + 0.25 * width)


def test_short_axis_of_a_disc_and_of_a_pixel():
    y, x = np.mgrid[-20:21, -20:21] * 0.8
    disc = (y**2 + x**2 <= 7**2)[None]
    assert short_axis_mm(disc, (3, 0.8, 0.8)) == pytest.approx(14, abs=0.2)
    ellipse = ((y / 5) ** 2 + (x / 10) ** 2 <= 1)[None]
    assert short_axis_mm(ellipse, (3, 0.8, 0.8)) == pytest.approx(10, abs=0.3)
    pixel = np.ones((1, 1, 1), bool)
    assert short_axis_mm(pixel, (3, 2, 2)) == pytest.approx(4 * np.sqrt(4 / 12))


def test_axes_lie_in_the_widest_slice_across_each_other(realistic):
    y, x = np.mgrid[-20:21, -20:21] * 0.8
    mask = np.zeros((3, 41, 41), bool)
    mask[1] = ((y - 4) / 5) ** 2 + ((x + 2) / 10) ** 2 <= 1
    short, long = axial_axes(mask, grid_of(mask.shape, (3, 0.8, 0.8)).in_its_own_world())
    middle = 0.8 * -20 + 2, 0.8 * -20 - 4, 3  # x and y of the world run the other way
    for axis, direction, length in ((short, (0, 1, 0), 10), (long, (1, 0, 0), 20)):
        start, end = np.array(axis)
        assert np.linalg.norm(end - start) == pytest.approx(length, abs=0.3)
        assert np.abs(end - start) == pytest.approx(length * np.array(direction), abs=0.3)
        assert (start + end) / 2 == pytest.approx(middle, abs=0.05)
    for case in realistic:
        for row in case.nodes:
            (a, b), (c, d) = np.array(row.long_axis), np.array(row.short_axis)
            assert np.linalg.norm(b - a) == pytest.approx(row.long_axis_mm)
            assert np.linalg.norm(d - c) == pytest.approx(row.short_axis_mm)
            assert (a + b) / 2 == pytest.approx((c + d) / 2)
            assert (b - a) @ (d - c) == pytest.approx(0, abs=1e-6)
            at = np.argwhere(case.instances == row.id)
            k = round(case.grid.index((a + b) / 2)[0])
            assert (at[:, 0] == k).sum() == np.bincount(at[:, 0]).max()


def test_the_least_axis_is_the_papers_diameter(realistic):
    case = realistic[0]
    expected = diameters_mm(find_instances(case.instances, case.grid), "ellipsoid")
    assert [row.diameter_ellipsoid_mm for row in case.nodes] == pytest.approx(expected, abs=1e-6)


def test_short_axis_takes_the_slice_with_the_most_pixels():
    mask = np.zeros((2, 8, 12), bool)
    mask[0, 0:2, 0:10] = True  # 20 pixels, 2 rows
    mask[1, 0:5, 0:5] = True  # 25 pixels, 5 rows
    assert short_axis_mm(mask, (1, 1, 1)) == pytest.approx(4 * np.sqrt(25 / 12))


def test_largest_piece():
    mask = np.array([[[1, 1, 0, 1, 1, 1, 0, 1]]], bool)
    assert _largest_piece(mask).tolist() == [[[False] * 3 + [True] * 3 + [False] * 2]]


def test_node_counts_and_sizes_are_as_calibrated(realistic):
    """Paper: 8.45 components a case, 34 % of them enlarged."""
    rows: list[NodeRow] = [row for case in realistic for row in case.nodes]
    assert 7 <= len(rows) / CASES <= 12
    assert 0.2 < np.mean([row.enlarged for row in rows]) < 0.5
    assert 0.2 < sum(r.annotated for r in rows) / sum(r.enlarged for r in rows) < 0.6
    assert len({row.station for row in rows}) >= 6


def test_realistic_nodes_are_soft_tissue(realistic):
    for case in realistic:
        hu = case.ct[interior(case.truth > 0)].mean()
        assert 5 < hu < 85


def test_easy_nodes_are_found_by_a_threshold(easy):
    for case in easy:
        bone = case.anatomy >= ids.SCAPULA_LEFT
        bone |= (case.anatomy >= ids.VERTEBRAE_T1 - 16) & (case.anatomy <= ids.VERTEBRAE_T1 + 2)
        bright = (case.ct > 115) & ~ndimage.binary_dilation(bone, iterations=2)
        found = bright & (np.abs(case.grid.world(_indices(case))[..., 0]) < 80)
        overlap = 2 * (found & (case.truth > 0)).sum() / (found.sum() + case.truth.sum())
        assert overlap > 0.85
        assert case.truth.sum() * np.prod(case.spacing) > 1e4


def _indices(case):
    return np.stack(np.indices(case.grid.shape), axis=-1)


# --- cohorts of the paper ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohorts():
    names = ("ct-lymph-nodes", "lnq2023", "nsclc")
    return {name: [make_phantom(7, i, profile=name) for i in range(3)] for name in names}


def in_case(seed, **arguments):
    """Return a phantom of the clinical profile, whose tumor and phase are chosen."""
    return make_phantom(7, seed, profile="lnq2023", **arguments)


def test_cohorts_have_the_images_of_any_phantom(cohorts):
    for name, cases in cohorts.items():
        for case in cases:
            assert np.array_equal(case.truth, case.instances > 0)
            annotated = [row.id for row in case.nodes if row.annotated]
            assert np.array_equal(case.weak, np.isin(case.instances, annotated))
            assert bool(annotated) == (name != "nsclc")
            assert not case.anatomy[case.truth > 0].any()
            assert not case.anatomy[case.tumor > 0].any()
            assert not (case.truth & case.tumor).any()


def test_ct_lymph_nodes_are_thin_slices_with_contrast_little_noise_and_many_nodes(cohorts):
    cases = cohorts["ct-lymph-nodes"]
    for case in cases:
        assert 2 <= case.spacing[0] <= 2.2
        assert case.phase in ("weak", "high")
        assert case.ct[interior(case.anatomy == ids.LIVER)].std() < 14
        assert not case.tumor.any()
    assert 14 <= np.mean([len(case.nodes) for case in cases]) <= 24
    thin = make_phantom(7, 0, profile="ct-lymph-nodes").grid.spacing[1:]
    assert thin == make_phantom(7, 0).grid.spacing[1:]  # of the same patient


def test_weak_annotations_hold_one_or_a_few_enlarged_nodes(cohorts):
    test_only_enlarged_nodes_are_annotated(cohorts["lnq2023"])
    counts = [sum(row.annotated for row in case.nodes) for case in cohorts["lnq2023"]]
    assert 1 <= np.mean(counts) <= 2.5


def test_phases_are_drawn_as_the_profile_says_or_chosen():
    def phases(profile):
        rng = np.random.default_rng(5)
        return [draw_patient(rng, PROFILES[profile]).phase for _ in range(3000)]

    for profile, shares in (
        ("lnq2023", (1 / 3, 1 / 3, 1 / 3)),
        ("nsclc", (1 / 3, 1 / 3, 1 / 3)),
        ("ct-lymph-nodes", (0, 0.3, 0.7)),
    ):
        drawn = phases(profile)
        found = [drawn.count(phase) / 3000 for phase in ("none", "weak", "high")]
        assert found == pytest.approx(shares, abs=0.04)
    plain, high = (in_case(0, phase=phase) for phase in ("none", "high"))
    assert (plain.phase, high.phase) == ("none", "high")
    aorta = interior(plain.anatomy == ids.AORTA)
    assert np.array_equal(plain.truth, high.truth)
    assert plain.ct[aorta].mean() < 60
    assert high.ct[aorta].mean() > 150


def test_tumors_change_nothing_but_the_lungs_around_them():
    for index in range(2):
        without = in_case(index, tumor_probability=0)
        with_tumor = in_case(index, tumor_probability=1)
        inside = with_tumor.tumor > 0
        assert not without.tumor.any()
        assert without.nodes == with_tumor.nodes
        assert np.array_equal(without.instances, with_tumor.instances)
        away_mm = ndimage.distance_transform_edt(~inside, sampling=without.spacing)
        far = away_mm > 15  # vessels hide some of it
        assert np.array_equal(without.ct[far], with_tumor.ct[far])
        assert np.array_equal(without.anatomy[far], with_tumor.anatomy[far])


def test_tumors_look_like_nodes(cohorts):
    for case in cohorts["nsclc"]:
        inside = ndimage.binary_erosion(case.tumor > 0)
        nodes = interior(case.truth > 0)
        assert inside.sum() > 10
        assert abs(case.ct[inside].mean() - case.ct[nodes].mean()) < 35


def test_a_patient_with_a_tumor_has_it_at_every_higher_probability():
    def with_tumor(probability):
        profile = replace(PROFILES["lnq2023"], tumor_probability=probability)
        scenes = (_draw_scene(7, index, profile, None)[0] for index in range(10))
        return [any(paint.node == TUMOR for paint in scene.paints) for scene in scenes]

    rarely, often = with_tumor(0.25), with_tumor(0.75)
    assert all(low <= high for low, high in zip(rarely, often, strict=True))
    assert 0 < sum(rarely) < sum(often) < 10


def test_tumors_lie_from_the_hilum_to_the_periphery_and_are_irregular():
    lattice = Lattice(*(np.arange(-125, 126, 2, dtype=np.float32) for _ in range(3)))
    patient = draw_patient(np.random.default_rng(1), PROFILES["nsclc"])
    radii, aside, filled = [], [], []
    for seed in range(60):
        solid = paint_tumor(np.random.default_rng(seed), patient, []).solid
        part = lattice.cut(lattice.window(solid.bounds))
        at = np.argwhere(solid.distance(part) < 0)
        radii.append((3 * 8 * len(at) / 4 / np.pi) ** (1 / 3))
        aside.append(part.x[at[:, 2]].mean())
        filled.append(len(at) / np.prod(np.ptp(at, axis=0) + 1))
        assert -80 < part.z[at[:, 0]].mean() < 70
    assert 7 < min(radii) < 11
    assert 20 < max(radii) < 27
    assert sum(x < 0 for x in aside) == pytest.approx(30, abs=12)
    assert np.quantile(np.abs(aside), (0.1, 0.9)) == pytest.approx((58, 88), abs=6)
    assert np.mean(filled) < 0.5  # of a ball: .52


def rows_with(*short_axes, diameters=None):
    """Return rows of nodes with these short axes."""
    point = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    return [
        NodeRow(i, "7", short, 1.0, short >= 10, False, diameter, short, point, point)
        for i, (short, diameter) in enumerate(
            zip(short_axes, diameters or short_axes, strict=True), start=1
        )
    ]


def chosen(annotation, rows, draws=2000):
    rng = np.random.default_rng(3)
    return [annotation.choose(rng, rows) for _ in range(draws)]


def share_of(number, drawn):
    return sum(number in ids for ids in drawn) / len(drawn)


def test_standard_annotations_draw_each_node_by_its_diameter():
    """The ratios of Table 1: 244/414 and 50/989; the diameter counts, not the axial short axis."""
    rows = rows_with(12, 12, 6, 6, 30, diameters=(12, 9, 6, 11, 30))
    drawn = chosen(EachByChance(0.59, 0.05), rows)
    shares = [share_of(row.id, drawn) for row in rows]
    assert shares[:4] == pytest.approx((0.59, 0.05, 0.05, 0.59), abs=0.035)
    assert shares[4] > 0.65  # it is drawn, too, where no other is
    assert all(drawn)


def test_weak_annotations_draw_few_and_large_ones():
    rows = rows_with(9, 10, 20, 40, 12)
    drawn = chosen(FewLargeOnes(mean_more=0.42, exponent=2.5), rows)
    assert np.mean([len(ids) for ids in drawn]) == pytest.approx(1.42, abs=0.05)
    assert [len(set(ids)) for ids in drawn] == [len(ids) for ids in drawn]
    assert share_of(1, drawn) == 0
    first = [ids[0] for ids in drawn if len(ids) == 1]
    weights = np.array([10, 20, 40, 12]) ** 2.5
    expected = weights / weights.sum()
    shares = [first.count(row.id) / len(first) for row in rows[1:]]
    assert shares == pytest.approx(expected, abs=0.04)
    assert chosen(FewLargeOnes(100, 1), rows, draws=1) != [[]]
    assert sorted(chosen(FewLargeOnes(100, 1), rows, draws=1)[0]) == [2, 3, 4, 5]


@pytest.mark.parametrize("annotation", [PartOfEnlarged((0.2, 0.4)), FewLargeOnes(0.4, 2)])
def test_without_an_enlarged_node_the_largest_is_drawn(annotation):
    assert chosen(annotation, rows_with(6, 9, 8), draws=20) == [[2]] * 20


def test_a_part_of_the_enlarged_is_drawn_at_least_one():
    drawn = chosen(PartOfEnlarged((0.5, 0.5)), rows_with(*[12] * 8, 5), draws=50)
    assert {len(ids) for ids in drawn} == {4}
    assert {len(ids) for ids in chosen(PartOfEnlarged((0.1, 0.1)), rows_with(12, 12))} == {1}


# --- shapes ----------------------------------------------------------------------------------

LATTICE = Lattice(*(np.linspace(-20, 20, 81, dtype=np.float32) for _ in range(3)))


@pytest.mark.parametrize(
    ("solid", "volume"),
    [
        (Ellipsoid((1, 2, 3), (6, 8, 10)), 4 / 3 * np.pi * 480),
        (Ellipsoid((0, 0, 0), (6, 8, 10), ((0, 1, 0), (-1, 0, 0), (0, 0, 1))), 4 / 3 * np.pi * 480),
        (Brick((0, 0, 0), (4.2, 5.2, 6.2), 30), 8 * 4.2 * 5.2 * 6.2),
        (Column((0, 0, 0), (5.1, 8.2), 6.25), np.pi * 5.1 * 8.2 * 12.5),
        (tube([(0.2, 0.1, -8), (0.2, 0.1, 8)], 5), np.pi * 25 * 16 + 4 / 3 * np.pi * 125),
        (Grown(Ellipsoid((0, 0, 0), (6, 6, 6)), 2), 4 / 3 * np.pi * 512),
        (
            Union((Brick((-6, 0, 0), (3.25, 5.25, 5.25)), Brick((6, 0, 0), (3.25, 5.25, 5.25)))),
            16 * 3.25 * 5.25**2,
        ),
        (
            Difference(Ellipsoid((0, 0, 0), (9, 9, 9)), Ellipsoid((0, 0, 0), (6, 6, 6))),
            4 / 3 * np.pi * (729 - 216),
        ),
        (
            Intersection(Ellipsoid((0, 0, 0), (9, 9, 9)), Ellipsoid((0, 0, 0), (6, 6, 6))),
            4 / 3 * np.pi * 216,
        ),
    ],
)
def test_solids_have_their_analytic_volume_within_their_bounds(solid, volume):
    inside = solid.distance(LATTICE) < 0
    assert inside.sum() * 0.5**3 == pytest.approx(volume, rel=0.02)
    window = LATTICE.window(solid.bounds, margin=0.5)
    assert inside[window].sum() == inside.sum()
    assert (solid.distance(LATTICE.cut(window)) < 0).sum() == inside.sum()


def test_distance_of_a_sphere_is_right_near_its_surface():
    distance = Ellipsoid((0, 0, 0), (8, 8, 8)).distance(LATTICE)
    z, y, x = np.meshgrid(LATTICE.z, LATTICE.y, LATTICE.x, indexing="ij")
    assert np.allclose(distance, np.sqrt(x**2 + y**2 + z**2) - 8, atol=1e-3)


def test_tube_passes_through_its_points_and_agrees_with_the_point_distance():
    points = [(-10, 0, -8), (0, 5, 0), (10, 0, 8)]
    solid = tube(points, (2, 3, 2))
    assert [solid.distance_to(np.array(p)) for p in points] == pytest.approx([-2, -3, -2], abs=0.1)
    distance = solid.distance(LATTICE)
    near = np.argwhere(distance < 4)[::500]
    assert len(near) > 5
    for k, j, i in near:
        position = np.array((LATTICE.x[i], LATTICE.y[j], LATTICE.z[k]))
        assert solid.distance_to(position) == pytest.approx(distance[k, j, i], abs=1e-3)


def test_window_outside_the_lattice_is_none():
    assert LATTICE.window(Ellipsoid((0, 0, 30), (5, 5, 5)).bounds) is None


# --- size ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_full_size_shows_the_same_patient():
    small, full = make_phantom(5, 4), make_phantom(5, 4, size="full")
    assert full.ct.shape[1:] == (512, 512)
    assert full.phase == small.phase
    assert [r.station for r in full.nodes if r.enlarged and r.volume_mm3 > 2000] == [
        r.station for r in small.nodes if r.enlarged and r.volume_mm3 > 2000
    ]
    volumes = [
        np.bincount(c.anatomy.ravel(), minlength=118) * np.prod(c.spacing) for c in (small, full)
    ]
    for number in (*LUNG_LOBES, ids.AORTA, ids.HEART, ids.LIVER):
        assert volumes[1][number] == pytest.approx(volumes[0][number], rel=0.05)


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.sampled_from(["realistic", "easy"]))
@settings(max_examples=8)
def test_the_images_of_any_patient_agree(seed, index, profile):
    case = make_phantom(seed, index, profile=profile)
    test_truth_weak_and_instances_agree([case])
    test_only_enlarged_nodes_are_annotated([case])
    test_anatomy_leaves_nodes_free([case])


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.sampled_from(["ct-lymph-nodes", "nsclc"]))
@settings(max_examples=4)
def test_the_images_of_any_patient_of_a_cohort_agree(seed, index, profile):
    case = make_phantom(seed, index, profile=profile)
    test_cohorts_have_the_images_of_any_phantom({profile: [case]})
    assert case.tumor.any() == (profile == "nsclc")
