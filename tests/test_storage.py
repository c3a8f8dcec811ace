"""How a file stores its axes changes no result: 48 orders of the same voxels, oblique ones too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from itertools import product
from math import isclose

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.transform import Rotation

from lnqtools.anatomy.lungs import NoLungsError, lungs_from_mask
from lnqtools.choices import INTERPOLATIONS, METRICS
from lnqtools.components.labeling import find_components, keep
from lnqtools.components.matching import find_lesions
from lnqtools.components.rows import component_table, in_world
from lnqtools.components.sizes import large_enough
from lnqtools.figures import cases, slices
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, carry_box, place, turn_to
from lnqtools.images.resampling import resample
from lnqtools.images.volume import Volume
from lnqtools.labels.cohorts import describe_label
from lnqtools.labels.fill import Outcome, Verdict, eroded, fill_unknown
from lnqtools.labels.training import with_background
from lnqtools.labels.weak import Coat, weak_label
from lnqtools.metrics.lesions import detection_table, lesion_table
from lnqtools.metrics.masks import evaluate
from lnqtools.metrics.sweep import case_rows, sweep_case
from lnqtools.report.contents import Definitions, Looks, compare_case, describe_label_case
from tests.grids import SIGNED_PERMUTATIONS, make_grid, stored, turned_grid

SHAPE = (15, 24, 30)
SPACING = (3.0, 1.3, 0.8)
TILTS = {
    "straight": np.eye(3),
    "oblique": Rotation.from_euler("xyz", (20, -15, 10), degrees=True).as_matrix(),
    "half way": Rotation.from_euler("x", 45, degrees=True).as_matrix(),
    "half way between three": Rotation.from_rotvec(np.pi / 3 / np.sqrt(3) * np.ones(3)).as_matrix(),
}
"""How a grid lies in the world; of the last two no axis is nearest to a direction."""
tilted = pytest.mark.parametrize("grid", TILTS, indirect=True)
few = settings(max_examples=60, deadline=None)
small = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=5))


def lying(tilt: str, shape=SHAPE, spacing=SPACING) -> Grid:
    """Return a grid of slices that lies in the world as `TILTS` says."""
    slices_ = Grid.of_slices(shape, spacing)
    return make_grid(shape, spacing, (10.0, -20.0, 30.0), TILTS[tilt] @ slices_.direction)


@pytest.fixture
def grid(request) -> Grid:
    return lying(getattr(request, "param", "straight"))


def storages(grid: Grid) -> Iterator[Grid]:
    """Yield the grids of the same voxels in all 48 orders of axes; ten of them if oblique."""
    straight = np.isin(np.abs(grid.direction), (0, 1)).all()
    return (turned_grid(grid, way) for way in SIGNED_PERMUTATIONS[:: 1 if straight else 5])


def blobs(seed: int, share: float = 0.1) -> np.ndarray:
    """Return a mask of several components of different sizes, and of two that are equal."""
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    smooth = ndimage.gaussian_filter(noise, (1.0, 1.8, 2.4))
    mask = smooth > np.quantile(smooth, 1 - share)
    mask[:, :, :4] = mask[:2] = False
    mask[0, 2:6, 10:14] = mask[0, 12:16, 20:24] = True
    mask[4:9, 10, 1] = True
    return mask.astype(np.uint8)


def flat_row(row: dict, target: Grid, grid: Grid) -> dict:
    """Return a component's row with its centroid in the world and its box on another grid."""
    if "box" in row:
        row = {**row, "box": carry_box(row["box"], target, grid)}
    return in_world({**row, "long_axis_slice": _from_the_feet(row, target)}, target)


def _from_the_feet(row: dict, grid: Grid) -> int:
    """Return the number of the slice of a component's long axis, however slices are stored."""
    axis = grid.axial_axis
    rises = grid.direction[2][axis] > 0
    return row["long_axis_slice"] if rises else grid.shape[axis] - 1 - row["long_axis_slice"]


def assert_same_rows(rows: list[dict], expected: list[dict], rel=1e-9, tolerance=1e-9) -> None:
    """Assert that tables are equal, row by row, real numbers nearly."""
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if isinstance(value, float):
                assert isclose(value, other[name], rel_tol=rel, abs_tol=tolerance), name
            else:
                assert value == other[name], name


# Grids


@tilted
def test_the_nearest_axes_are_the_same_lines_in_the_world(grid):
    lines = [grid.matrix[:, axis] for axis in grid.anatomical_axes()]
    for target in storages(grid):
        for axis, line in zip(target.anatomical_axes(), lines, strict=True):
            np.testing.assert_allclose(np.abs(target.matrix[:, axis] @ line), line @ line)
        turned = turn_to(target, "LPS").turned_grid(target)
        expected = turn_to(grid, "LPS").turned_grid(grid)
        np.testing.assert_allclose(turned.affine, expected.affine, atol=1e-9)
        assert turned.shape == expected.shape


# Components and lesions


@tilted
def test_components_have_the_same_numbers_places_and_diameters(grid):
    mask = blobs(0)
    found = find_components(mask, grid, 26)
    assert len(set(found.voxel_counts.tolist())) > 4
    rows = [flat_row(row, grid, grid) for row in component_table(found)]
    for target in storages(grid):
        there = find_components(stored(mask, grid, target), target, 26)
        table = [flat_row(row, target, grid) for row in component_table(there)]
        assert_same_rows(table, rows)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("flat", ["drop", "keep", "recist"])
def test_the_filter_keeps_the_same_voxels(grid, metric, flat):
    def kept(target: Grid) -> np.ndarray:
        found = find_components(stored(mask, grid, target), target)
        return place(keep(found, large_enough(found, 4.0, metric, flat, 5.0)), target, grid, 0)

    mask = blobs(1)
    expected = kept(grid)
    assert 0 < expected.sum() < mask.sum()
    for target in storages(grid):
        np.testing.assert_array_equal(kept(target), expected)


@tilted
def test_lesions_have_the_same_partners_and_counts(grid):
    def tables(target: Grid) -> tuple[list[dict], ...]:
        pair = [stored(mask, grid, target) for mask in (prediction, reference)]
        found = find_lesions(*pair, target)
        return (
            [flat_row(row, target, grid) for row in lesion_table(found)],
            detection_table(found, "recist", least_iou=0.1),
            detection_table(found, least_iou=0),
            [evaluate(*pair, target.spacing)],
        )

    reference = blobs(2)
    prediction = np.roll(reference, (0, 1, 1), (0, 1, 2)) | (blobs(3, 0.02) & ~reference)
    expected = tables(grid)
    assert {row["hit"] for row in expected[0]} == {True, False}
    for target in storages(grid):
        for rows, others in zip(tables(target), expected, strict=True):
            assert_same_rows(rows, others)


@st.composite
def pairs_of_masks(draw):
    mask = draw(small)
    return mask, draw(hnp.arrays(bool, mask.shape))


@given(pairs_of_masks(), st.sampled_from(sorted(TILTS)), st.sampled_from(SIGNED_PERMUTATIONS))
@few
def test_ties_are_settled_alike(pair, tilt, way):
    """Equal sizes, equal IoUs, equally long axes, equally full slices."""
    grid = lying(tilt, pair[0].shape, (1.0, 1.0, 1.0))
    target = turned_grid(grid, way)
    turned = [stored(mask, grid, target) for mask in pair]
    here, there = find_lesions(*pair, grid), find_lesions(*turned, target)
    assert_same_rows(
        [flat_row(row, target, grid) for row in lesion_table(there)],
        [flat_row(row, grid, grid) for row in lesion_table(here)],
    )
    for mask, other in zip(pair, turned, strict=True):
        expected = slices.center_of_largest(mask, grid)
        np.testing.assert_allclose(slices.center_of_largest(other, target), expected, atol=1e-9)


def test_a_sweep_has_the_same_scores(grid):
    def rows(target: Grid) -> list[dict]:
        arrays = [stored(array, grid, target) for array in (probability, reference)]
        points = ((0.3, 0.5, 0.7), (0.0, 3.0, 5.0))
        sweep = sweep_case(*arrays, target, *points, metric="recist", least_iou=0.1)
        return case_rows(sweep, *points)

    reference = blobs(4)
    noise = np.random.default_rng(5).random(SHAPE)
    probability = (0.8 * ndimage.gaussian_filter(reference * 1.0, 0.8) + 0.2 * noise).astype("f4")
    reference[:, 20:] = 2
    expected = rows(grid)
    assert len({row["lesions_tp"] for row in expected}) > 2
    for target in storages(grid):
        assert_same_rows(rows(target), expected)


def test_the_statistics_of_a_label_are_the_same(grid):
    label = np.where(blobs(6) != 0, 1, 2).astype(np.uint8)
    label[:, :5] = 0
    expected = describe_label(label, grid, "recist")
    for target in storages(grid):
        found = describe_label(stored(label, grid, target), target, "recist")
        assert found.voxels == expected.voxels
        np.testing.assert_allclose(found.diameters_mm, expected.diameters_mm, rtol=1e-9)


# Labels


@pytest.mark.parametrize(
    ("strategy", "coat"),
    [
        ("full", {}),
        ("noisy", {}),
        ("mask", {}),
        ("coat", {"steps": 2, "connectivity": 6}),
        ("coat", {"steps": 1, "connectivity": 18}),
        ("coat", {"steps": 2, "connectivity": 26}),
        ("coat", {"distance_mm": 2.6}),
        ("coat", {"distance_mm": 3.0}),
    ],
    ids=str,
)
def test_weak_labels_are_the_same(grid, strategy, coat):
    def label(target: Grid) -> np.ndarray:
        made = weak_label(
            stored(nodes, grid, target),
            strategy,
            Coat(target.spacing, **coat) if coat else None,
        )
        made = with_background(made, stored(tumour, grid, target))
        return place(made, target, grid, 9)

    nodes, tumour = blobs(7, 0.03) != 0, blobs(8, 0.05) != 0
    expected = label(grid)
    for target in storages(grid):
        np.testing.assert_array_equal(label(target), expected)


@pytest.mark.parametrize("metric", ["ellipsoid", "recist"])
def test_pseudo_labels_are_the_same(grid, metric):
    def filled(target: Grid) -> tuple[np.ndarray, Outcome]:
        drawn, inside, node, background = (
            stored(array, grid, target) for array in (label, structures, sure, nothing)
        )
        shrunk = eroded(inside, 1.6, target.spacing)
        verdict = Verdict(node, background, shrunk)
        made = fill_unknown(drawn, [verdict], target, min_mm=4.5, metric=metric)
        return place(made.label, target, grid, 9), made.outcomes[0]

    label = np.where(blobs(9, 0.03) != 0, 1, 2).astype(np.uint8)
    structures, sure = blobs(10, 0.3) != 0, blobs(11) != 0
    nothing = ~sure & (blobs(12, 0.4) != 0)
    expected, outcome = filled(grid)
    assert min(astuple(outcome)) > 0
    for target in storages(grid):
        found, other = filled(target)
        np.testing.assert_array_equal(found, expected)
        assert other == outcome


# Lungs: from HU see test_lungs.py


@given(small, st.sampled_from(SIGNED_PERMUTATIONS))
@few
def test_the_lungs_of_a_mask_are_the_same_however_many_are_as_large(mask, way):
    def box(array: np.ndarray, grid: Grid) -> Box | str:
        try:
            return lungs_from_mask(array, grid).box
        except NoLungsError as error:
            return str(error)

    grid = Grid.of_slices(mask.shape, SPACING)
    target = turned_grid(grid, way)
    found, expected = box(stored(mask, grid, target), target), box(mask, grid)
    assert (found if isinstance(found, str) else carry_box(found, target, grid)) == expected


# Resampling


@pytest.mark.parametrize("grid", ["straight", "oblique"], indirect=True)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_another_spacing_gives_the_same_voxels(grid, interpolation):
    """Of these spacings some new voxels lie half way between two old ones."""
    labels = interpolation in ("nearest", "label-gaussian")
    array = np.random.default_rng(0).integers(0, 3 if labels else 4000, SHAPE).astype(np.int16)
    coarse = grid.with_spacing((6.0, 1.3, 1.6))
    expected = resample(array, grid, coarse, interpolation, -1)
    for target in storages(grid):
        there = target.with_spacing(target.in_array_order((6.0, 1.3, 1.6)))
        found = resample(stored(array, grid, target), target, there, interpolation, -1)
        np.testing.assert_array_equal(place(found, there, coarse, -2), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_another_grid_gives_the_same_voxels(grid, interpolation):
    """The target is shifted by half a voxel: its voxels lie between, its outer ones on faces."""
    labels = interpolation in ("nearest", "label-gaussian")
    array = np.random.default_rng(1).integers(0, 3 if labels else 4000, SHAPE).astype(np.int16)
    origin = tuple(grid.world(np.array([-1.5, 2.5, 3.25])).tolist())
    goal = make_grid((17, 22, 27), grid.spacing, origin, grid.direction)
    expected = resample(array, grid, goal, interpolation, -1)
    for way, target in product(SIGNED_PERMUTATIONS[::16], storages(grid)):
        turned = turned_grid(goal, way)
        found = resample(stored(array, grid, target), target, turned, interpolation, -1)
        np.testing.assert_array_equal(place(found, turned, goal, -2), expected)


# Pictures


def ct_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 80, SHAPE).astype(np.int16)


def pixels(figure) -> list[np.ndarray]:
    return [np.asarray(panel.images[0].get_array()) for panel in figure.axes if panel.images]


@tilted
def test_figures_of_images_show_the_same(grid):
    pytest.importorskip("skimage")

    def shown(target: Grid) -> list[np.ndarray]:
        hu, true, predicted = (
            stored(array, grid, target) for array in (ct_of(1), reference, prediction)
        )
        ct = Volume(hu, target)
        step = slices.Step("", ct, Volume(true, target))
        case = cases.ShownCase("", ct, predicted, true)
        return pixels(slices.preprocess([step])) + pixels(cases.cases([case]))

    reference = blobs(13, 0.05)
    prediction = np.roll(reference, 1, 2)
    expected = shown(grid)
    assert len(expected) == 3 * 2 + 1  # views, and a text
    for target in list(storages(grid))[::4]:
        for picture, other in zip(shown(target), expected, strict=True):
            np.testing.assert_array_equal(picture, other)


def test_two_ct_s_of_other_voxels_show_the_same_place():
    """The place lies half way between two slices of the second CT, in each direction."""
    fine = Grid.of_slices((8, 8, 8), (1.0, 1.0, 1.0))
    coarse = fine.with_spacing((2.0, 2.0, 2.0))
    world = coarse.world(np.array([0.5, 1.5, 2.5]))
    expected = slices.slices_through(coarse, world)
    assert expected == (3, 2, 3)  # from the head; of two the second as seen
    for target in storages(coarse):
        assert slices.slices_through(target, world) == expected


@tilted
def test_the_page_of_a_case_is_the_same(grid):
    def contents(target: Grid) -> list:
        hu, true, predicted, drawn = (
            stored(array, grid, target) for array in (ct_of(2), reference, prediction, label)
        )
        made = [
            compare_case("a", predicted, true, hu, target, Definitions(metric="recist"), Looks()),
            describe_label_case("a", drawn, hu, target, Definitions(), Looks()),
        ]
        for content in made:
            content.view.pop("stored")  # what the file calls the slices
        return made

    reference = blobs(14)
    prediction = np.roll(reference, (0, 1, 1), (0, 1, 2))
    label = np.where(reference != 0, 1, 2).astype(np.uint8)
    label[:, :5] = 0
    expected = contents(grid)
    for target in storages(grid):
        for found, other in zip(contents(target), expected, strict=True):
            assert found.view == other.view
            assert found.pictures == other.pictures
            assert_same_rows([found.row, *found.detection], [other.row, *other.detection])
            assert len(found.lesions) == len(other.lesions)
