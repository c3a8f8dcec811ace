"""Components and diameters against hand counts, analytic shapes and independent libraries."""

import warnings

import cc3d
import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.spatial import ConvexHull
from skimage.measure import regionprops

from lnqtools.choices import METRICS
from lnqtools.cli import filter_diameter
from lnqtools.components import diameters
from lnqtools.components.diameters import (
    AXIAL_METRICS,
    LENGTHS,
    ONE_BY_ONE,
    degenerate,
    diameters_by_metric,
    diameters_mm,
)
from lnqtools.components.labeling import find_components, foreground_indices, keep, label_runs
from lnqtools.components.rows import component_table
from lnqtools.components.sizes import at_least, bin_columns, bin_numbers, large_enough, strata
from lnqtools.errors import LnqError
from lnqtools.images.box import Box
from lnqtools.images.grid import Grid, place
from tests.grids import SIGNED_PERMUTATIONS, make_grid, sliced_across, stored, turned_grid

SPACING = (3.0, 0.93, 0.93)

shapes = st.tuples(*[st.integers(1, 9)] * 3)
seeds = st.integers(0, 2**32 - 1)
densities = st.sampled_from([0.02, 0.1, 0.3, 0.5, 0.9, 1.0])
spacings = st.sampled_from([(1.0, 1.0, 1.0), SPACING, (0.7, 2.5, 1.3)])


def random_mask(shape, seed, density):
    """Mask of independent voxels."""
    return np.random.default_rng(seed).random(shape) < density


def blob(seed, shape=(7, 12, 12)):
    """One solid random component, a few voxels across, as uint8."""
    random = np.random.default_rng(seed)
    position = np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2
    stretch = position @ random.normal(size=(3, 3)) / 5
    labels = cc3d.connected_components((stretch**2).sum(-1) < 1, connectivity=6)
    if not labels.any():
        labels[tuple(n // 2 for n in shape)] = 1
    return (labels == 1).astype(np.uint8)


def frame(corners, side):
    """All edges between some voxels of a cube, 26-connected."""
    mask = np.zeros((side, side, side), bool)
    for a in np.array(corners):
        for b in np.array(corners):
            for t in np.linspace(0, 1, 2 * side):
                mask[tuple(np.rint((1 - t) * a + t * b).astype(int))] = True
    return mask


# --- foreground ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint64, ">i2"]
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 4, 8), (1, 1, 9), (0, 3, 3)])
def test_foreground_is_flatnonzero_for_every_dtype_and_odd_sizes(dtype, shape):
    values = np.random.default_rng(0).integers(0, 3, shape).astype(dtype)
    np.testing.assert_array_equal(foreground_indices(values), np.flatnonzero(values))


def test_foreground_of_views_is_in_their_own_order():
    values = np.random.default_rng(1).integers(0, 2, (6, 7, 11)).astype(np.uint8)
    for view in (values.T, values[::-1], values[1:, ::2, 1:], np.asfortranarray(values)):
        np.testing.assert_array_equal(foreground_indices(view), np.flatnonzero(view))


def test_foreground_sees_negative_labels_and_high_bytes():
    values = np.zeros(9, np.int32)
    values[[2, 5, 8]] = -1, 256, 2**24
    assert foreground_indices(values).tolist() == [2, 5, 8]


def test_a_float_array_is_not_a_mask():
    with pytest.raises(LnqError, match="whole numbers, not float32"):
        foreground_indices(np.zeros((2, 2, 2), np.float32))


# --- labeling ----------------------------------------------------------------------------------


@given(shapes, seeds, densities, st.sampled_from([6, 18, 26]))
@settings(max_examples=150, deadline=None)
def test_labels_agree_with_cc3d(shape, seed, density, connectivity):
    mask = random_mask(shape, seed, density)
    components = find_components(mask, (1, 1, 1), connectivity)
    # cc3d 4.1.1 fails on the booleans [1, 0, 1] for 26 neighbors.
    expected = cc3d.connected_components(mask.view(np.uint8), connectivity=connectivity)
    ours = components.label_map(np.int32)
    assert components.count == expected.max(initial=0)
    # The same partition: each of our labels meets one of theirs, and the other way round.
    assert len(np.unique(np.stack([ours[mask], expected[mask]]), axis=1).T) == components.count
    assert not ours[~mask].any()


@pytest.mark.parametrize(
    ("second", "counts"),
    [
        ((0, 0, 1), (1, 1, 1)),
        ((0, 1, 1), (2, 1, 1)),
        ((1, 1, 0), (2, 1, 1)),
        ((1, 1, 1), (2, 2, 1)),
    ],
    ids=["face", "edge", "edge-z", "corner"],
)
def test_neighbors_by_face_edge_and_corner(second, counts):
    for flip in ((), (0,), (1,), (2,), (0, 1), (1, 2)):
        mask = np.zeros((2, 2, 2), bool)
        mask[0, 0, 0] = mask[second] = True
        mask = np.flip(mask, flip)
        assert tuple(find_components(mask, (1, 1, 1), c).count for c in (6, 18, 26)) == counts


def test_rows_that_follow_in_memory_do_not_touch():
    mask = np.zeros((2, 2, 3), bool)
    mask[0, 0, 2] = mask[0, 1, 0] = True  # flat indices 2 and 3
    mask[0, 1, 2] = mask[1, 0, 0] = True  # 5 and 6
    assert find_components(mask, (1, 1, 1), 6).voxel_counts.tolist() == [2, 1, 1]


def test_components_are_numbered_in_raster_order_of_their_first_voxel():
    mask = np.zeros((3, 4, 6), np.uint8)
    mask[0, 0, 5] = 1
    mask[0, 2, 0:3] = 1  # component 2, joined to the next through z = 1
    mask[1, 2, 0] = mask[1, 3, 0] = 1
    mask[2, 0, 3:5] = 1
    components = find_components(mask, (3, 1, 0.5))
    assert components.count == 3
    assert components.voxel_counts.tolist() == [1, 5, 2]
    assert components.volumes_mm3.tolist() == [1.5, 7.5, 3.0]
    assert components.boxes.tolist() == [
        [[0, 1], [0, 1], [5, 6]],
        [[0, 2], [2, 4], [0, 3]],
        [[2, 3], [0, 1], [3, 5]],
    ]
    np.testing.assert_allclose(
        components.centroids, [[0, 0, 5], [2 / 5, 11 / 5, 3 / 5], [2, 0, 3.5]], atol=1e-15
    )
    assert components.voxels_of(2).tolist() == [12, 13, 14, 36, 42]
    assert components.labels.tolist() == [1, 2, 2, 2, 2, 2, 3, 3]
    assert components.crop(2).astype(int).tolist() == [
        [[1, 1, 1], [0, 0, 0]],
        [[1, 0, 0], [1, 0, 0]],
    ]


@pytest.mark.parametrize("way", SIGNED_PERMUTATIONS, ids=str)
def test_however_a_mask_is_stored_they_are_numbered_from_feet_to_head_front_to_back(way):
    mask = np.zeros((3, 4, 6), np.uint8)  # in LPS order
    mask[0, 0, 5] = 1
    mask[0, 2, 1] = mask[1, 2, 1:4] = 1  # component 2 by its first voxel, whatever comes later
    mask[0, 3, 0] = 1
    mask[2, 0, 3:5] = mask[2, 3, 5] = 1
    grid = Grid.of_slices(mask.shape, (3, 1, 0.5))
    target = turned_grid(grid, way)
    components = find_components(stored(mask, grid, target), target)
    expected = [[0, 0, 5], [3 / 4, 2, 7 / 4], [0, 3, 0], [2, 0, 3.5], [2, 3, 5]]
    np.testing.assert_allclose(grid.index(target.world(components.centroids)), expected, atol=1e-12)
    assert components.voxel_counts.tolist() == [1, 4, 1, 2, 1]
    labels = place(components.label_map(), target, grid, 0)
    assert [labels[0, 0, 5], labels[1, 2, 3], labels[0, 3, 0], labels[2, 0, 4]] == [1, 2, 3, 4]
    assert components.axial_axis == np.abs(way[0]).argmax()


def test_a_spacing_alone_means_lps_order():
    mask = random_mask((4, 5, 6), 2, 0.3)
    alone = find_components(mask, SPACING)
    assert alone.spacing == alone.grid.spacing == SPACING
    assert alone.shape == mask.shape
    assert nibabel.aff2axcodes(alone.grid.affine) == ("L", "P", "S")
    assert alone.axial_axis == 0


def test_only_the_diameters_of_axial_slices_ask_which_these_are(monkeypatch):
    components = find_components(blob(1), SPACING)
    monkeypatch.delattr(Grid, "anatomical_axes")
    for metric in METRICS:
        if metric.startswith("recist"):
            with pytest.raises(AttributeError):
                diameters_mm(components, metric)
        else:
            assert diameters_mm(components, metric)[0] > 0


def test_an_empty_mask_has_no_component():
    components = find_components(np.zeros((3, 4, 5), np.uint8), SPACING)
    assert components.count == 0
    assert components.boxes.shape == (0, 3, 2)
    assert components.centroids.shape == (0, 3)
    assert not components.label_map().any()
    assert not keep(components, []).any()
    assert component_table(components) == []
    for metric in METRICS:
        assert diameters_mm(components, metric).shape == (0,)
        assert degenerate(components, metric).shape == (0,)


@given(shapes, seeds, densities, spacings)
@settings(max_examples=40, deadline=None)
def test_shape_agrees_with_itk(shape, seed, density, spacing):
    components = find_components(random_mask(shape, seed, density), spacing, 26)
    image = SimpleITK.GetImageFromArray(components.label_map(np.uint16))
    image.SetSpacing(spacing[::-1])
    itk = SimpleITK.LabelShapeStatisticsImageFilter()
    itk.Execute(image)
    assert itk.GetNumberOfLabels() == components.count
    spheres = diameters_mm(components, "sphere")
    for k in range(components.count):
        x, y, z, size_x, size_y, size_z = itk.GetBoundingBox(k + 1)
        assert components.boxes[k].tolist() == [[z, z + size_z], [y, y + size_y], [x, x + size_x]]
        assert components.voxel_counts[k] == itk.GetNumberOfPixels(k + 1)
        np.testing.assert_allclose(components.volumes_mm3[k], itk.GetPhysicalSize(k + 1))
        np.testing.assert_allclose(spheres[k], itk.GetEquivalentSphericalRadius(k + 1) * 2)
        np.testing.assert_allclose(
            components.centroids[k] * spacing, itk.GetCentroid(k + 1)[::-1], atol=1e-12
        )


@given(shapes, seeds, densities)
@settings(max_examples=30, deadline=None)
def test_keep_writes_exactly_the_selected(shape, seed, density):
    mask = random_mask(shape, seed, density)
    components = find_components(mask, (1, 1, 1))
    selected = np.random.default_rng(seed).random(components.count) < 0.5
    kept = keep(components, selected)
    expected = np.isin(components.label_map(), np.flatnonzero(selected) + 1)
    np.testing.assert_array_equal(kept, expected.astype(np.uint8))
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(keep(components, np.ones(components.count)), mask)


def test_what_cannot_be_done_is_said():
    mask = np.zeros((3, 3, 3), np.uint8)
    mask[1, 1, 1] = 1
    components = find_components(mask, (1, 1, 1))
    with pytest.raises(LnqError, match="three axes"):
        find_components(mask[0], (1, 1, 1))
    with pytest.raises(LnqError, match="above 0 mm"):
        find_components(mask, (1, 0, 1))
    with pytest.raises(LnqError, match="above 0 mm"):
        find_components(mask, (1, 1, float("nan")))
    with pytest.raises(LnqError, match="6, 18, 26"):
        label_runs(np.zeros(0, np.int64), (3, 3, 3), 8)
    with pytest.raises(LnqError, match="2 choices for 1 components"):
        keep(components, [True, False])
    with pytest.raises(LnqError, match="diameter 'least' is not one of ellipsoid"):
        diameters_mm(components, "least")
    with pytest.raises(LnqError, match="diameter 'least'"):
        degenerate(components, "least")
    with pytest.raises(LnqError, match=r"mask \(3, 3, 3\) and grid \(4, 5, 6\) differ in size"):
        find_components(mask, make_grid())
    with pytest.raises(LnqError, match="differ in size"):
        components.overlap_voxels(mask[:2])
    checkerboard = np.indices((8, 8, 16)).sum(0) % 2
    with pytest.raises(LnqError, match="512 components do not fit into uint8"):
        find_components(checkerboard, (1, 1, 1)).label_map(np.uint8)


# --- diameters ----------------------------------------------------------------------------------


def positions_mm():
    """Distances in mm (z, y, x) of the voxels of a grid from its voxel [8, 32, 32]."""
    z, y, x = np.ogrid[:17, :65, :65]
    return (z - 8) * SPACING[0], (y - 32) * SPACING[1], (x - 32) * SPACING[2]


def field_shapes():
    """Shapes of the table in FIELD.md, each centered on a voxel."""
    z, y, x = positions_mm()
    radius = np.sqrt(z**2 + y**2 + x**2)
    corner = np.zeros((5, 40, 40), bool)
    # 8 mm are 3 slices or 8 voxels, 24 mm are 25 voxels.
    corner[1:4, 5:13, 5:30] = corner[1:4, 5:30, 5:13] = True
    # Centers 7.72 mm apart, found by trial: at 8 mm the voxels give 7.73 instead of 7.77.
    touching = [z**2 + y**2 + (x - side) ** 2 <= 16 for side in (-3.86, 3.86)]
    return {
        "sphere 10": radius <= 5,
        "sphere 20": radius <= 10,
        "ellipsoid": (z / 4) ** 2 + (y / 6) ** 2 + (x / 10) ** 2 <= 1,
        "axial L": corner,
        "two touching": touching[0] | touching[1],
        "disk": (z == 0) & (y**2 + x**2 <= 36),
        "voxel": radius == 0,
    }


FIELD_TABLE = {
    # name: ellipsoid, inscribed, recist, recist-caliper, feret-min
    "sphere 10": (10.01, 10.02, 10.60, 10.23, 9.00),
    "sphere 20": (19.88, 20.00, 21.08, 19.53, 19.53),
    "ellipsoid": (9.27, 11.07, 13.27, 12.09, 9.00),
    "axial L": (10.95, 9.30, 21.70, 21.70, 9.00),
    "two touching": (7.77, 7.89, 10.02, 8.37, 8.37),
    "disk": (0, 6.00, 13.22, 12.09, 3.00),
    "voxel": (0, 1.86, 1.32, 0.93, 0.93),
}


@pytest.mark.parametrize("name", FIELD_TABLE)
def test_the_table_of_shortest_diameters(name):
    components = find_components(field_shapes()[name], SPACING)
    assert components.count == 1
    columns = ("ellipsoid", "inscribed", "recist", "recist-caliper", "feret-min")
    measured = [diameters_mm(components, metric)[0] for metric in columns]
    assert measured == pytest.approx(FIELD_TABLE[name], abs=0.00501)


def test_diameters_of_a_box_by_hand():
    mask = np.zeros((8, 9, 12), np.uint8)
    mask[2:6, 3:6, 4:12] = 1  # 4 x 3 x 8 voxels = 8 x 3 x 4 mm
    components = find_components(mask, (2.0, 1.0, 0.5))
    value = {metric: diameters_mm(components, metric)[0] for metric in METRICS}
    assert value["ellipsoid"] == pytest.approx(np.sqrt(20 * (3**2 - 1) / 12))
    assert value["ellipsoid-corrected"] == pytest.approx(np.sqrt(20 * 3**2 / 12))
    # Longest axis of the 3 x 4 mm slice: its diagonal, 5 mm; the other corners are 2 * 12 / 5
    # apart across it.
    assert value["recist"] == pytest.approx(24 / 5)
    assert value["recist-caliper"] == pytest.approx(3)
    assert value["inscribed"] == pytest.approx(4)  # middle row, 2 voxels of 1 mm to the outside
    assert value["feret-min"] == pytest.approx(3)
    assert value["sphere"] == pytest.approx((6 * 96 / np.pi) ** (1 / 3))


def test_least_width_across_two_edges_of_a_tetrahedron():
    # Voxels at alternate corners of a cube of 201 voxels: nearly a regular tetrahedron, whose
    # least width (edge / sqrt 2 = the cube's side) lies across two opposite edges, not a face
    # (which gives 1.155 times as much). The hull of the voxel boxes is a voxel wider at most.
    corners = [(0, 0, 0), (0, 200, 200), (200, 0, 200), (200, 200, 0)]
    components = find_components(frame(corners, 201), (0.1, 0.1, 0.1), 26)
    assert components.count == 1
    assert diameters_mm(components, "feret-min")[0] == pytest.approx(20.1, abs=1e-9)


@given(seeds, spacings)
@settings(max_examples=15, deadline=None)
def test_least_width_is_the_minimum_over_directions(seed, spacing):
    mask = blob(seed)
    corners = (np.argwhere(mask)[:, None] + np.indices((2, 2, 2)).reshape(3, -1).T) * spacing
    points = np.unique(corners.reshape(-1, 3), axis=0)

    def width(direction):
        return np.ptp(points @ direction) / np.linalg.norm(direction)

    directions = np.concatenate(
        [np.random.default_rng(seed).normal(size=(3000, 3)), ConvexHull(points).equations[:, :3]]
    )
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    widths = np.ptp(points @ directions.T, axis=0)
    started = directions[np.argsort(widths)[:12]]
    refined = min(
        minimize(width, d, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun
        for d in started
    )
    exact = diameters_mm(find_components(mask, spacing), "feret-min")[0]
    assert exact <= widths.min() + 1e-9
    assert exact == pytest.approx(refined, rel=2e-3)
    assert exact <= refined + 1e-9


@given(seeds, spacings)
@settings(max_examples=30, deadline=None)
def test_least_width_is_the_least_over_all_pairs_of_edges(seed, spacing):
    # A random tetrahedron: in about a third of them the least width lies across two edges.
    mask = frame(np.random.default_rng(seed).integers(0, 9, (4, 3)), 9)
    corners = np.argwhere(mask)[:, None] + np.indices((2, 2, 2)).reshape(3, -1).T
    points = np.unique(corners.reshape(-1, 3), axis=0) * spacing
    triangles = points[ConvexHull(points).simplices]
    edges = (triangles - triangles[:, [1, 2, 0]]).reshape(-1, 3)
    normals = np.cross(edges[:, None], edges).reshape(-1, 3)
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    least = min(np.ptp(points @ some.T, axis=0).min() for some in np.array_split(normals, 100))
    exact = diameters_mm(find_components(mask, spacing, 26), "feret-min")
    assert exact == pytest.approx([least], rel=1e-9)


@given(seeds, spacings)
@settings(max_examples=60, deadline=None)
def test_ellipsoid_agrees_with_skimage(seed, spacing):
    mask = blob(seed)
    expected = regionprops(mask, spacing=spacing)[0].axis_minor_length
    components = find_components(mask, spacing)
    # skimage takes the difference of its eigenvalues, which leaves 1e-7 mm for a flat component.
    assert diameters_mm(components, "ellipsoid")[0] == pytest.approx(expected, abs=2e-6)


def test_ellipsoid_is_exact_far_from_the_origin():
    mask = blob(3)
    far = np.zeros((407, 612, 12), np.uint8)
    far[400:, 600:] = mask
    near = diameters_mm(find_components(mask, SPACING), "ellipsoid")
    assert diameters_mm(find_components(far, SPACING), "ellipsoid") == pytest.approx(
        near, rel=1e-13
    )


def recist_by_definition(mask, spacing):
    """All corners of all slices, by brute force: longest axis, then the extent across it."""
    longest, across = 0.0, 0.0
    for plane in mask:
        voxels = np.argwhere(plane)
        if not len(voxels):
            continue
        points = (voxels[:, None] + np.indices((2, 2)).reshape(2, -1).T).reshape(-1, 2)
        points = np.unique(points, axis=0) * spacing[1:]
        difference = points[:, None] - points
        length = np.hypot(*np.moveaxis(difference, -1, 0))
        for axis in difference[length > length.max() * (1 - 1e-9)]:
            normal = np.array([axis[1], -axis[0]]) / np.hypot(*axis)
            extent = np.ptp(points @ normal)
            if length.max() > longest * (1 + 1e-9):
                longest, across = length.max(), extent
            elif length.max() > longest * (1 - 1e-9):
                across = max(across, extent)
    return across


@given(seeds, spacings)
@settings(max_examples=30, deadline=None)
def test_recist_agrees_with_brute_force(seed, spacing):
    mask = blob(seed)
    measured = diameters_mm(find_components(mask, spacing), "recist")[0]
    assert measured == pytest.approx(recist_by_definition(mask, spacing))


def test_recist_takes_the_slice_with_the_longest_axis_not_the_largest_short_axis():
    mask = np.zeros((2, 20, 20), np.uint8)
    mask[0, 2:4, 2:18] = 1  # 16 x 2: longest axis sqrt(260) = 16.1
    mask[1, 2:12, 2:12] = 1  # 10 x 10: 14.1
    components = find_components(mask, (1, 1, 1))
    assert diameters_mm(components, "recist-caliper")[0] == pytest.approx(2)
    assert diameters_mm(components, "recist")[0] == pytest.approx(2 * 32 / np.sqrt(260))


def longest_diameters(mask, grid) -> list[list[float]]:
    """Return long axis, its slice and the maximum diameter of each component."""
    found = diameters_by_metric(find_components(mask, grid, 26), LENGTHS)
    return np.stack([found[name] for name in LENGTHS], axis=1).tolist()


def test_the_long_axis_its_slice_and_the_maximum_diameter_by_hand():
    mask = np.zeros((4, 20, 20), np.uint8)
    mask[1, 2:5, 2:6] = 1  # 3 x 4: a diagonal of 5
    mask[2, 2:4, 2:4] = 1  # 2 x 2
    mask[3, 2, 2] = 1
    # from the lower end of one corner to the upper end of the opposite one in each slice
    (measured,) = longest_diameters(mask, (10.0, 1.0, 1.0))
    # from (1, 5, 6), an end of the first slice, to (4, 2, 2), the other end of the last voxel
    assert measured == pytest.approx([5, 1, (30**2 + 3**2 + 4**2) ** 0.5])


def test_of_equal_long_axes_the_wider_slice_counts_and_then_the_one_nearer_to_the_feet():
    mask = np.zeros((6, 12, 12), np.uint8)
    mask[1:4, 2:5, 2:6] = 1  # three slices of 3 x 4
    grid = Grid.of_slices(mask.shape, (3.0, 1.0, 1.0))
    assert longest_diameters(mask, grid)[0][1] == 1
    head_first = Grid(mask.shape, grid.spacing, grid.origin, ((0, 0, -1), (0, -1, 0), (-1, 0, 0)))
    assert head_first.letters == "LPI"
    assert longest_diameters(mask, head_first)[0][1] == 3
    thin = mask.copy()
    thin[1] = thin[3] = 0
    thin[1, 2, 2:7] = thin[3, 2, 2:7] = 1  # 5.099 long
    assert longest_diameters(thin, grid)[0][:2] == pytest.approx([26**0.5, 1])
    thin[3, 6, 6] = 1  # a wider one, joined by a corner to no other of its slice
    thin[3, 3:6, 6] = 1
    assert longest_diameters(thin, grid)[0][1] == 3


@given(seeds, spacings)
@settings(max_examples=30, deadline=None)
def test_longest_diameters_agree_with_brute_force(seed, spacing):
    mask = random_mask((4, 5, 6), seed, 0.35)
    components = find_components(mask, spacing, 26)
    for k, (long_axis, at, most) in enumerate(longest_diameters(mask, spacing), start=1):
        voxels = np.stack(np.unravel_index(components.voxels_of(k), mask.shape), axis=1)
        corners = (voxels[:, None] + np.indices((2, 2, 2)).reshape(3, -1).T).reshape(-1, 3)
        points = np.unique(corners, axis=0) * spacing
        assert most == pytest.approx(np.linalg.norm(points[:, None] - points, axis=-1).max())
        alone = np.zeros(mask.shape, bool)
        alone[tuple(voxels.T)] = True
        lengths = {z: longest_by_definition(plane, spacing[1:]) for z, plane in enumerate(alone)}
        assert long_axis == pytest.approx(max(lengths.values()))
        assert lengths[int(at)] == pytest.approx(long_axis)


def caliper_by_definition(plane, spacing):
    """Least width of a slice's corners, over the directions of all pairs of them."""
    corners = (np.argwhere(plane)[:, None] + np.indices((2, 2)).reshape(2, -1).T).reshape(-1, 2)
    points = np.unique(corners, axis=0) * spacing
    difference = (points[:, None] - points).reshape(-1, 2)
    difference = difference[np.abs(difference).max(axis=1) > 0]
    normals = np.stack([difference[:, 1], -difference[:, 0]])
    normals /= np.linalg.norm(normals, axis=0)
    return np.ptp(points @ normals, axis=0).min()


@given(seeds, st.sampled_from([0, 1, 2]), st.sampled_from([6, 26]))
@settings(max_examples=40, deadline=None)
def test_recist_of_several_components_agrees_with_brute_force(seed, axial, connectivity):
    """Sizes from one voxel on, whatever the axis that slices lie across."""
    spacing = np.array([2.5, 0.7, 1.3])
    mask = random_mask((5, 6, 7), seed, 0.3)
    components = find_components(mask, sliced_across(axial, mask.shape, spacing), connectivity)
    in_plane = np.delete(spacing, axial)
    short_axes, calipers = [], []
    for number in range(1, components.count + 1):
        alone = np.moveaxis(components.label_map() == number, axial, 0)
        short_axes.append(recist_by_definition(alone, (0, *in_plane)))
        lengths = [longest_by_definition(plane, in_plane) for plane in alone]
        longest = [
            plane for plane, n in zip(alone, lengths, strict=True) if n > max(lengths) - 1e-9
        ]
        calipers.append(max(caliper_by_definition(plane, in_plane) for plane in longest))
    assert diameters_mm(components, "recist") == pytest.approx(short_axes)
    assert diameters_mm(components, "recist-caliper") == pytest.approx(calipers)


def longest_by_definition(plane, spacing):
    """Longest distance of two corners of a slice, 0 of an empty one."""
    corners = (np.argwhere(plane)[:, None] + np.indices((2, 2)).reshape(2, -1).T).reshape(-1, 2)
    points = corners * spacing
    return np.linalg.norm(points[:, None] - points, axis=-1).max(initial=0)


@given(seeds, st.permutations([0, 1, 2]), st.sets(st.integers(0, 2)), st.sampled_from(METRICS))
@settings(max_examples=60, deadline=None)
def test_diameters_do_not_depend_on_storage(seed, order, flipped, metric):
    mask, spacing = blob(seed), (2.5, 0.7, 1.3)
    moved = np.flip(mask, tuple(flipped)).transpose(order)
    grid = sliced_across(order.index(0), moved.shape, [spacing[axis] for axis in order])
    measured = diameters_mm(find_components(moved, grid), metric)
    expected = diameters_mm(find_components(mask, spacing), metric)
    assert measured == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(seeds, st.sampled_from(METRICS), st.floats(1e-3, 10))
@settings(max_examples=30, deadline=None)
def test_diameters_scale_with_the_spacing(seed, metric, factor):
    mask = blob(seed)
    once = diameters_mm(find_components(mask, SPACING), metric)
    scaled = diameters_mm(find_components(mask, np.multiply(SPACING, factor)), metric)
    assert scaled == pytest.approx(factor * once, rel=1e-9, abs=1e-6)


def test_each_component_is_measured_alone():
    mask = np.zeros((10, 12, 40), np.uint8)
    parts = [blob(seed, (10, 12, 12)) for seed in (5, 6, 7)]
    for k, part in enumerate(parts):
        mask[:, :, 13 * k : 13 * k + 12] = part
    together = find_components(mask, SPACING)
    by_column = np.argsort(together.boxes[:, 2, 0])
    for metric in METRICS:
        alone = [diameters_mm(find_components(part, SPACING), metric)[0] for part in parts]
        assert diameters_mm(together, metric)[by_column] == pytest.approx(alone, rel=1e-12)


def test_inscribed_counts_the_image_edge_as_outside():
    components = find_components(np.ones((5, 5, 5), np.uint8), (1, 1, 1))
    assert diameters_mm(components, "inscribed")[0] == 6


def test_the_correction_removes_the_bias_of_small_spheres():
    # MEASURED: true 10 mm spheres at random positions, 9.77 plain and 9.95 corrected.
    random = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(60):
        shift = random.uniform(-0.5, 0.5, 3) * SPACING
        mask = sum((p - s) ** 2 for p, s in zip(positions_mm(), shift, strict=True)) <= 25
        components = find_components(mask, SPACING)
        plain.append(diameters_mm(components, "ellipsoid")[0])
        corrected.append(diameters_mm(components, "ellipsoid-corrected")[0])
    assert np.mean(plain) == pytest.approx(9.77, abs=0.05)
    assert np.mean(corrected) == pytest.approx(9.95, abs=0.05)


def test_flat_components_are_degenerate_for_the_ellipsoid_alone():
    mask = np.zeros((6, 20, 20), np.uint8)
    mask[0, 0, 0] = 1  # voxel
    mask[0, 2:6, 2:9] = 1  # one slice
    mask[2:5, 10:13, 10:14] = 1  # solid
    mask[range(6), range(6), 18] = mask[range(6), range(6), 19] = 1  # oblique plane
    components = find_components(mask, SPACING, 26)
    assert components.voxel_counts.tolist() == [1, 12, 28, 36]
    assert degenerate(components, "ellipsoid").tolist() == [True, True, True, False]
    assert diameters_mm(components, "ellipsoid")[:3].tolist() == [0, 0, 0]
    assert (diameters_mm(components, "ellipsoid-corrected") > 0.93).all()
    for metric in METRICS[1:]:
        assert not degenerate(components, metric).any()


def test_no_diameter_warns_and_none_exceeds_the_box():
    mask = random_mask((9, 9, 9), 4, 0.3)
    components = find_components(mask, SPACING, 26)
    diagonal = np.linalg.norm(np.diff(components.boxes)[..., 0] * SPACING, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in set(METRICS) - {"inscribed", "sphere", "ellipsoid-corrected", "ellipsoid"}:
            measured = diameters_mm(components, metric)
            assert (measured > 0).all()
            assert (measured <= diagonal * (1 + 1e-12)).all()
    feret = diameters_mm(components, "feret-min")
    assert (feret <= (np.diff(components.boxes)[..., 0] * SPACING).min(axis=1) + 1e-9).all()


def test_the_table_has_one_plain_row_per_component():
    mask = np.zeros((4, 6, 6), np.uint8)
    mask[0:2, 0:2, 0:2] = 1
    mask[3, 5, 5] = 1
    components = find_components(mask, (1, 1, 1))
    rows = component_table(components, ["inscribed", "recist-caliper"])
    assert rows == [
        {
            "id": 1,
            "voxels": 8,
            "volume_mm3": 8.0,
            "diameter_inscribed_mm": 2.0,
            "diameter_recist_caliper_mm": 2.0,
            "long_axis_mm": pytest.approx(8**0.5),
            "long_axis_slice": 0,
            "max_diameter_mm": pytest.approx(12**0.5),
            "centroid": (0.5, 0.5, 0.5),
            "box": Box.of((0, 0, 0), (2, 2, 2)),
        },
        {
            "id": 2,
            "voxels": 1,
            "volume_mm3": 1.0,
            "diameter_inscribed_mm": 2.0,
            "diameter_recist_caliper_mm": 1.0,
            "long_axis_mm": pytest.approx(2**0.5),
            "long_axis_slice": 3,
            "max_diameter_mm": pytest.approx(3**0.5),
            "centroid": (3.0, 5.0, 5.0),
            "box": Box.of((3, 5, 5), (4, 6, 6)),
        },
    ]
    assert len(component_table(components)[0]) == 5 + len(METRICS) + 3
    assert len(component_table(components, longest=False)[0]) == 5 + len(METRICS)


def test_large_enough_keeps_what_reaches_the_least_diameter():
    mask = np.zeros((9, 9, 20), np.uint8)
    mask[2:7, 2:7, 2:7] = 1  # 5 mm cube
    mask[4, 4, 12] = 1  # one voxel: no ellipsoid
    mask[1, 2:7, 14:19] = 1  # flat square of 5 mm
    found = find_components(mask, (1.0, 1.0, 1.0))
    cube = float(diameters_mm(found, "ellipsoid")[1])
    assert found.voxel_counts.tolist() == [25, 125, 1]
    assert large_enough(found, cube).tolist() == [False, True, False]  # exactly that: kept
    assert large_enough(found, cube * (1 + 1e-7)).tolist() == [False, True, False]  # a float32's
    assert large_enough(found, cube * (1 + 2e-6)).tolist() == [False, False, False]
    assert large_enough(found, 4, flat="keep").tolist() == [True, True, True]
    assert large_enough(found, 4, flat="recist").tolist() == [True, True, False]
    assert large_enough(found, 0, min_volume_mm3=25).tolist() == [True, True, False]
    with pytest.raises(LnqError, match="drop, keep or recist"):
        large_enough(found, 4, flat="perhaps")


def test_a_made_up_diameter_needs_a_name_and_a_function(monkeypatch):
    """It can then be chosen, measured and judged by, and has a column."""
    monkeypatch.setattr(diameters, "METRICS", (*METRICS, "shortest-side"))
    monkeypatch.setitem(
        diameters._MEASURES,
        "shortest-side",
        lambda components: (np.diff(components.boxes)[..., 0] * components.spacing).min(axis=1),
    )
    mask = np.zeros((4, 6, 6), np.uint8)
    mask[0:2, 0:2, 0:5] = mask[3, 5, 5] = 1
    found = find_components(mask, (3.0, 0.75, 0.5))
    sides = diameters_mm(found, "shortest-side")
    assert sides.tolist() == [1.5, 0.5]
    assert large_enough(found, 1, "shortest-side").tolist() == [True, False]
    rows = component_table(found, ["sphere", "shortest-side"])
    assert [row["diameter_shortest_side_mm"] for row in rows] == sides.tolist()


def test_every_diameter_can_be_chosen_and_measured():
    (option,) = (param for param in filter_diameter.main.params if param.name == "metric")
    assert tuple(option.type.choices) == METRICS
    shared = {*diameters._AXIAL, *diameters._FERETS}
    assert shared | diameters._MEASURES.keys() == {*METRICS, *LENGTHS}
    assert shared > AXIAL_METRICS


# --- sizes --------------------------------------------------------------------------------------


def test_a_length_reaches_a_threshold_that_it_misses_by_a_millionth():
    lengths = np.array([10, 10 - 9e-6, 10 - 11e-6, 0, np.nan, np.inf])
    assert at_least(lengths, 10).tolist() == [True, True, False, False, False, True]


def test_a_bin_holds_its_lower_end_and_not_its_upper_one():
    lengths = np.array([0, 2.4, 2.5 - 1e-6, 2.5, 4.999, 5, 10 - 1e-6])
    assert bin_numbers(lengths, 2.5).tolist() == [0, 0, 1, 1, 1, 2, 4]
    assert bin_columns(1, 2.5) == {"bin": "2.5-5mm", "from_mm": 2.5, "to_mm": 5.0}
    assert bin_columns(-1, 2.5) == {"bin": "degenerate", "from_mm": None, "to_mm": None}


def test_strata_hold_their_lower_ends_and_each_length_is_in_one():
    lengths = np.array([0, 1e-3, 9.999, 10 - 1e-6, 14.999, 15 - 1e-6, 80])
    members = {name: np.flatnonzero(found).tolist() for name, found in strata(lengths).items()}
    assert members == {
        "all": [0, 1, 2, 3, 4, 5, 6],
        "<10mm": [1, 2],
        "10-15mm": [3, 4],
        ">=15mm": [5, 6],
        "degenerate": [0],
    }


# --- several components in slices across the last axis --------------------------------------------


def test_recist_of_two_components_whose_slices_lie_across_the_last_axis():
    """Of a rectangle of sides a and b the axis is the diagonal d, and 2 a b / d lies across it."""
    mask = np.zeros((9, 20, 4), np.uint8)  # front to back, right to left, feet to head
    mask[1:4, 1:5, 0:2] = 1  # 3 × 4 in two slices,
    mask[1:4, 1:3, 2] = 1  # 3 × 2 in another
    mask[5:8, 1:13, 2] = 1  # 3 × 12, one end of which goes on into both slices beside it
    mask[5:8, 1, 1:4] = 1
    grid = make_grid(mask.shape, (0.5, 2.0, 3.0), turn=[[0, -1, 0], [-1, 0, 0], [0, 0, 1]])
    found = find_components(mask, grid)
    assert (found.axial_axis, found.voxel_counts.tolist()) == (2, [30, 42])
    sides = np.array([[1.5, 8.0], [1.5, 24.0]])
    across = 2 * sides.prod(axis=1) / np.linalg.norm(sides, axis=1)
    assert diameters_mm(found, "recist") == pytest.approx(across)
    assert diameters_mm(found, "recist-caliper") == pytest.approx([1.5, 1.5])


@given(arrays(bool, (4, 6, 7), elements=st.booleans()), st.integers(0, 3), st.integers(0, 3))
def test_components_alike_in_shape_are_measured_alike(mask, dy, dx):
    """Those of two copies side by side, one of them moved."""
    both = np.zeros((4, 10, 24), bool)
    both[:, :6, :7] = mask
    both[:, dy : dy + 6, 10 + dx : 17 + dx] = mask
    found = find_components(both, (2.5, 0.75, 0.8))
    first, same = found.by_shape()
    assert sorted(set(same.tolist())) == list(range(len(first)))
    assert len(first) <= found.count // 2
    for row in range(found.count):
        alike = first[same[row]]
        np.testing.assert_array_equal(found.crop(row + 1), found.crop(alike + 1))
    metrics = sorted(ONE_BY_ONE)
    measured = diameters_by_metric(found, metrics)
    for metric, each in diameters._of_all(found, metrics).items():
        np.testing.assert_allclose(measured[metric], each, rtol=1e-12)


def test_some_components_are_what_they_are_among_all():
    mask = np.random.default_rng(3).random((5, 9, 11)) > 0.7
    found = find_components(mask, (2.0, 1.0, 1.0))
    rows = np.array([7, 2, 4])
    some = found.only(rows)
    assert some.count == 3
    for k, row in enumerate(rows):
        np.testing.assert_array_equal(some.voxels_of(k + 1), found.voxels_of(row + 1))
        np.testing.assert_array_equal(some.crop(k + 1), found.crop(row + 1))
    np.testing.assert_array_equal(some.ids, found.ids[rows])
    np.testing.assert_array_equal(some.volumes_mm3, found.volumes_mm3[rows])
