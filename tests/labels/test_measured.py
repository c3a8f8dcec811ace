"""Nodes of which diameters are known: what a table may say, and what it makes of the voxels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lnqtools.components.labeling import find_components
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.labels.measured import (
    CENTER_COLUMNS,
    CORE,
    RING,
    end_columns,
    implied,
    label_of_measured,
    located,
    measurements_by_case,
)
from lnqtools.labels.weak import Coat
from lnqtools.phantom import make_phantom
from tests.grids import SIGNED_PERMUTATIONS, make_grid, stored, turned_grid

GRID = make_grid((41, 41, 41), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
"""World (x, y, z) is index (x, y, z)."""


def by_ends(*points, case="a", unit="mm") -> dict:
    """Return a row of the ends (x, y, z) of the long and the short axis."""
    return {"case": case, **dict(zip(end_columns(unit), np.ravel(points).tolist(), strict=True))}


def by_center(*center, short, long=None, case="a") -> dict:
    row = {"case": case, **dict(zip(CENTER_COLUMNS, (*center, short), strict=True))}
    return row if long is None else {**row, "long_axis_mm": long}


def masks(*rows, grid=GRID) -> tuple[np.ndarray, np.ndarray]:
    """Return core and reach of the nodes in the rows of one case."""
    (measurements,) = measurements_by_case(rows).values()
    return implied([located(m, grid) for m in measurements], grid)


def refusal(row, grid=GRID) -> str:
    with pytest.raises(LnqError) as caught:
        masks(row, grid=grid)
    return str(caught.value)


NODE = ((10, 20, 20), (30, 20, 20), (20, 15, 20), (20, 25, 20))
"""A long axis of 20 mm along x, and a short one of 10 mm along y, through (20, 20, 20)."""


# What a measurement implies


def test_columns_of_the_ends():
    assert end_columns()[:7] == (
        *("long_x1_mm", "long_y1_mm", "long_z1_mm", "long_x2_mm", "long_y2_mm", "long_z2_mm"),
        "short_x1_mm",
    )
    assert end_columns("voxel")[-1] == "short_z2_voxel"
    assert len(set(end_columns())) == 12


def test_a_small_sphere_by_hand():
    """Of 4 mm: the core's radius is 1.4 mm, that of the reach 3 mm."""
    core, reach = masks(by_center(20, 20, 20, short=4, long=4))
    z, y, x = np.indices(GRID.shape) - 20
    squared = z**2 + y**2 + x**2
    np.testing.assert_array_equal(core, squared <= 1)
    np.testing.assert_array_equal(reach, squared <= 9)
    assert (core.sum(), reach.sum()) == (7, 123)


def test_axes_span_an_ellipsoid_whose_third_diameter_is_unknown():
    """For the core it is the short axis, for the reach the long one."""
    z, y, x = np.indices(GRID.shape) - 20
    core, reach = masks(by_ends(*NODE))
    np.testing.assert_array_equal(core, (x / 7) ** 2 + (y / 3.5) ** 2 + (z / 3.5) ** 2 <= 1)
    np.testing.assert_array_equal(reach, (x / 15) ** 2 + (y / 7.5) ** 2 + (z / 15) ** 2 <= 1)


def test_volumes_are_those_of_the_ellipsoids():
    grid = make_grid((120, 120, 120), (0.5, 0.5, 0.5), (-10.0, -10.0, -10.0))
    core, reach = masks(by_ends(*NODE), grid=grid)
    assert core.sum() / 8 == pytest.approx(4 / 3 * np.pi * CORE**3 * 10 * 5 * 5, rel=0.02)
    assert reach.sum() / 8 == pytest.approx(4 / 3 * np.pi * RING**3 * 10 * 5 * 10, rel=0.01)


def test_of_a_center_alone_the_long_axis_is_twice_the_short_one():
    short_alone = masks(by_center(20, 20, 20, short=6))
    both = masks(by_center(20, 20, 20, short=6, long=12))
    for one, other in zip(short_alone, both, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_core_of_a_cluster_is_not_larger_than_that_of_a_node():
    """Of short axes above 12 / 0.7 mm it is 12 mm, and in proportion along the others."""
    ends = ((5, 20, 20), (35, 20, 20), (20, 10, 20), (20, 30, 20))  # 30 and 20 mm
    core, reach = masks(by_ends(*ends))
    z, y, x = np.indices(GRID.shape) - 20
    np.testing.assert_array_equal(core, (x / 9) ** 2 + (y / 6) ** 2 + (z / 6) ** 2 <= 1)
    np.testing.assert_array_equal(
        reach, (x / 22.5) ** 2 + (y / 15) ** 2 + (z / 22.5) ** 2 <= 1 + 1e-9
    )


def test_the_center_is_that_of_the_rectangle_around_the_axes():
    """RECIST's short axis rarely crosses the long one in its middle."""
    ends = ((10, 20, 20), (30, 20, 20), (14, 18, 20), (14, 28, 20))
    (measurement,) = measurements_by_case([by_ends(*ends)])["a"]
    node = located(measurement, GRID)
    assert node.center.tolist() == [20, 23, 20]
    assert node.least_mm.tolist() == [20, 10, 10]
    assert node.most_mm.tolist() == [20, 10, 20]
    assert np.abs(node.axes).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_node_below_a_voxel_has_the_voxels_at_its_center():
    grid = make_grid((5, 5, 5), (9.0, 9.0, 9.0), (0.0, 0.0, 0.0))
    core, reach = masks(by_center(19, 19, 19, short=1.5), grid=grid)
    assert np.argwhere(core).tolist() == np.argwhere(reach).tolist() == [[2, 2, 2]]
    core, _ = masks(by_center(22.5, 18, 18, short=1.5), grid=grid)  # between two
    assert np.argwhere(core).tolist() == [[2, 2, 2], [2, 2, 3]]


def test_a_node_at_the_edge_is_cut():
    core, reach = masks(by_center(0, 20, 40, short=10))
    assert np.argwhere(core).max(axis=0).tolist() == [40, 23, 3]
    assert reach[25:, :, :15].any()
    assert not reach[:, :, 16:].any()


def test_cores_and_drawn_nodes_stay_within_anothers_ring():
    rows = by_center(15, 20, 20, short=6, long=6), by_center(22, 20, 20, short=6, long=6)
    core, reach = masks(*rows)
    drawn = np.zeros(GRID.shape, bool)
    drawn[20, 20, 18] = drawn[5, 5, 5] = True
    for strategy, rest in (("full", 0), ("noisy", 0), ("mask", 2)):
        label = label_of_measured(drawn, core, reach, strategy)
        assert label[20, 20, 8:30].tolist() == [
            *(rest, rest, rest),  # 8 to 10
            *(2, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 2),  # 11 to 26, of which 18 is drawn
            *(rest, rest, rest),
        ]
        assert label[5, 5, 5] == 1
        assert (label == 1).sum() == (core | drawn).sum()
        assert (label == rest).sum() == (rest == 2) * (reach & ~core & ~drawn).sum() + (
            ~reach & ~drawn
        ).sum()


def test_a_coat_lies_around_the_ring():
    core, reach = masks(by_center(20, 20, 20, short=4, long=4))
    label = label_of_measured(np.zeros_like(core), core, reach, "coat", Coat((1, 1, 1), 2))
    assert label[20, 20, 13:28].tolist() == [2, 2, 0, 0, 2, 2, 1, 1, 1, 2, 2, 0, 0, 2, 2]


def test_measurements_of_phantoms_have_cores_in_the_nodes():
    """Of 100 phantoms it was 99.7 %."""
    inside = total = 0
    for index in range(4):
        case = make_phantom(77, index)
        rows = [by_ends(*row.long_axis, *row.short_axis) for row in case.nodes]
        core, reach = masks(*rows, grid=case.grid)
        inside, total = inside + (core & (case.truth > 0)).sum(), total + core.sum()
        assert (reach & (case.truth > 0)).sum() > 0.9 * case.truth.sum()
        found = find_components(core, case.grid, connectivity=26).count
        assert found == pytest.approx(len(rows), abs=2)
    assert inside > 0.99 * total
    assert total > 200


# Tables


def test_cases_keep_the_order_of_the_rows():
    rows = [by_center(1, 2, 3, short=5, case=case) for case in "abacb"]
    found = measurements_by_case(rows)
    assert {case: [m.row for m in of] for case, of in found.items()} == {
        **{"a": [1, 3], "b": [2, 5]},
        "c": [4],
    }


def test_cells_may_be_text_as_in_tsv():
    row = {name: str(cell) for name, cell in by_ends(*NODE, case="7").items()}
    for one, other in zip(masks(row), masks(by_ends(*NODE)), strict=True):
        np.testing.assert_array_equal(one, other)


VOXELS = by_ends(*NODE, unit="voxel")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, **by_ends(*NODE), "case": None}, "row 1 has no case"),
        ({**by_ends(*NODE), "long_y2_mm": "left"}, "row 1: long_y2_mm is 'left', not a finite num"),
        ({**by_ends(*NODE), "long_y2_mm": math.nan}, "row 1: long_y2_mm is nan, not a finite num"),
        ({**by_ends(*NODE), "short_z1_mm": None}, "row 1: short_z1_mm is empty"),
        (by_ends(*NODE) | VOXELS, "columns of more than one kind: long_x1_mm and long_x1_voxel"),
        ({k: v for k, v in VOXELS.items() if k != "long_z2_voxel"}, "has no column long_z2_voxel"),
        ({"case": "a", "centroid_x_mm": 3}, "has no column centroid_y_mm: a node is given by its"),
        ({"case": "a", "diameter": 3}, "has no column long_x1_mm: a node is given by its end"),
        ({k: v for k, v in VOXELS.items() if k != "case"}, "has no column case"),
        (by_center(20, 20, 41, short=5), "row 1: the point (20, 20, 41) lies outside the image"),
        (by_center(-1, 20, 20, short=5), "in mm, x to the right, y to the front"),
        (
            by_ends((10, 20, 20), (45, 20, 20), *NODE[2:], unit="voxel"),
            "row 1: the point (45, 20, 20) lies outside the image, in voxels",
        ),
        (by_center(20, 20, 20, short=0), "row 1: its short axis is 0 mm, which a node's cannot be"),
        (by_center(20, 20, 20, short=9, long=250), "its long axis is 250 mm, which a node's"),
        (
            by_center(20, 20, 20, short=9, long=8),
            "short axis, 9 mm, is longer than its long one, 8",
        ),
        (by_ends(*NODE[2:], *NODE[:2]), "its short axis, 20 mm, is longer than its long one, 10"),
        (
            by_ends(*NODE[:2], (15, 15, 20), (20, 20, 20)),
            "row 1: its axes are at 45° to each other, not perpendicular",
        ),
        (
            by_ends(*NODE[:2], (20, 30, 20), (20, 38, 20)),
            "row 1: its axes do not cross: their middles are 14 mm apart",
        ),
    ],
)
def test_what_cannot_be_a_node_is_told_with_its_row(row, message):
    assert message in refusal(row)


def test_axes_may_lean_by_some_degrees():
    for degrees, fits in ((14, True), (16, False)):
        angle = np.deg2rad(90 - degrees)
        tip = 5 * np.array((np.cos(angle), np.sin(angle), 0))
        row = by_ends(*NODE[:2], np.array((20, 20, 20)) - tip, np.array((20, 20, 20)) + tip)
        if fits:
            assert masks(row)[0].any()
        else:
            assert "at 74° to each other" in refusal(row)


def test_mm_need_an_image_that_says_where_it_lies():
    nowhere = Grid.of_spacing(GRID.shape, GRID.spacing)
    assert "is unknown where the image lies" in refusal(by_ends(*NODE), nowhere)
    turned = replace(nowhere, placed=True)
    assert "does not say how its axes lie" in refusal(by_ends(*NODE), turned)
    core, _ = masks(VOXELS, grid=nowhere)
    np.testing.assert_array_equal(core, masks(by_ends(*NODE))[0])


# Properties


@st.composite
def measured(draw):
    """Return a grid of any storage and lean, and the ends of a node's axes in it."""
    way = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    lean = Rotation.from_euler("xyz", draw(st.tuples(*[st.integers(-40, 40)] * 3)), degrees=True)
    spacing = draw(st.tuples(*[st.sampled_from((0.7, 1.0, 2.5))] * 3))
    grid = make_grid((24, 26, 28), spacing, (-5.0, 7.0, 100.0), lean.as_matrix() @ way)
    center = grid.world(np.array(draw(st.tuples(*[st.floats(9, 15)] * 3))))
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.integers(-90, 90)] * 3)), degrees=True)
    long = draw(st.floats(2, 8))
    short = draw(st.floats(1.5, long)) if long > 1.5 else long
    along, across, _ = turn.as_matrix()
    ends = [center + s * d / 2 for d in (long * along, short * across) for s in (-1, 1)]
    return grid, np.array(ends)


@given(measured(), st.sampled_from(SIGNED_PERMUTATIONS))
@settings(max_examples=40)
def test_neither_unit_nor_storage_nor_the_order_of_ends_change_the_voxels(drawn, way):
    grid, ends = drawn
    core, reach = masks(by_ends(*ends), grid=grid)
    assert core.any()
    assert not (core & ~reach).any()
    in_voxels = by_ends(*grid.index(ends)[:, ::-1], unit="voxel")
    swapped = by_ends(*ends[[1, 0, 3, 2]])
    for row in (in_voxels, swapped):
        for again, before in zip(masks(row, grid=grid), (core, reach), strict=True):
            np.testing.assert_array_equal(again, before)
    target = turned_grid(grid, way)
    for again, before in zip(masks(by_ends(*ends), grid=target), (core, reach), strict=True):
        np.testing.assert_array_equal(again, stored(before, grid, target))


@given(measured(), st.sampled_from(["full", "noisy", "mask", "coat"]))
@settings(max_examples=20)
def test_a_label_is_node_in_the_core_and_unknown_in_the_ring(drawn, strategy):
    grid, ends = drawn
    core, reach = masks(by_ends(*ends), grid=grid)
    label = label_of_measured(np.zeros_like(core), core, reach, strategy, Coat(grid.spacing))
    assert ((label == 1) == core).all()
    assert (label[reach & ~core] == 2).all()
    values = {"mask": {2}, "coat": {0, 2}}.get(strategy, {0})
    assert set(np.unique(label[~reach])) <= values
