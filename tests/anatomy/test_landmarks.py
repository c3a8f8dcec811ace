"""The midline between the lungs, and the carina, on arrays that can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.anatomy.landmarks import (
    NoCarinaError,
    carina_columns,
    find_carina,
    find_midline,
    side_columns,
)
from lnqtools.anatomy.lungs import NoLungsError
from lnqtools.anatomy.region import OneLungError
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from tests.conftest import REAL
from tests.grids import SIGNED_PERMUTATIONS, stored, turned_grid

SHAPE = (12, 10, 21)
GRID = Grid(SHAPE, (5.0, 4.0, 3.0), (30.0, 20.0, -10.0), ((0, 0, -1), (0, -1, 0), (1, 0, 0)))
"""LPS: x = 30 - 3 k, to the left; y = 20 - 4 j, to the back; z = -10 + 5 i, to the head."""
storages = pytest.mark.parametrize("way", SIGNED_PERMUTATIONS[::5], ids=str)


def lungs() -> np.ndarray:
    """Return two lungs with columns 9, 10 and 11 between them; 10 is the middle of 1 to 19."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 2:8, 1:9] = 1
    mask[2:10, 2:8, 12:20] = 2
    return mask


def trachea() -> np.ndarray:
    """Return a trachea down to slice 6, and two bronchi in slices 3 to 5, 3 columns apart."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[6:, 4:6, 9:12] = 1
    mask[3:6, 4:6, 7:9] = mask[3:6, 4:6, 11:14] = 1
    mask[5, 4:6, 9] = 1  # the right one is a column wider at its top: 7 to 9
    return mask


def in_world(z: float, y: float, x: float) -> list[float]:
    return [30 - 3 * x, 20 - 4 * y, -10 + 5 * z]


@storages
def test_the_midline_is_the_same_plane_however_it_is_stored(way):
    grid = turned_grid(GRID, way)
    midline = find_midline(stored(lungs(), GRID, grid), grid)
    points = np.array([in_world(0, 0, 10), in_world(5, 3, 12), in_world(11, 9, 9.5)])
    assert midline.left_mm(points) == pytest.approx([0, 6, -1.5])
    cells = side_columns(points, midline)
    assert [row["midline_side"] for row in cells] == ["midline", "left", "right"]
    assert [row["midline_mm"] for row in cells] == pytest.approx([0, 6, -1.5])


def test_a_lung_that_collapsed_in_part_moves_the_midline_little():
    mask = lungs()
    mask[:, :, 16:] = 0
    mask[6:] *= mask[6:] == 1
    assert find_midline(mask, GRID).column in (9, 10, 11)
    mask[mask == 2] = 0
    with pytest.raises(OneLungError):
        find_midline(mask, GRID)
    with pytest.raises(NoLungsError):
        find_midline(np.zeros(SHAPE, np.uint8), GRID)


@storages
def test_the_carina_lies_between_the_first_two_bronchi(way):
    grid = turned_grid(GRID, way)
    carina = find_carina(stored(trachea(), GRID, grid), grid)
    # in slice 5, from column 9 to 11, in both rows: the middle of 4 and 5
    assert carina == pytest.approx(in_world(5, 4.5, 10))
    points = np.array([in_world(5, 4.5, 11), in_world(3, 3.5, 10)])
    distances = [row["carina_mm"] for row in carina_columns(points, carina)]
    assert distances == pytest.approx([3, (10**2 + 4**2) ** 0.5])


def test_specks_are_no_bronchi():
    mask = trachea()
    mask[10, 0, 0] = 1  # apart from the trachea
    mask[9, 4, 12] = mask[8, 4, 13] = mask[8, 4, 12] = 0
    mask[8, 3, 13] = mask[7, 4, 12] = mask[7, 3, 13] = 1  # beside it: joined by corners
    mask[7, 4, 12] = 0
    assert find_carina(mask, GRID) == pytest.approx(in_world(5, 4.5, 10))
    small = trachea()
    small[3:6, :, 7:10] = 0
    small[3:6, 4, 8] = 1  # one voxel of 12 mm²
    with pytest.raises(NoCarinaError, match="does not part into two bronchi"):
        find_carina(small, GRID)
    wide = Grid(SHAPE, (5.0, 5.0, 4.0), GRID.origin, GRID.direction)
    small[6, 4:6, 8] = 1  # one of 20 mm²
    assert find_carina(small, wide) is not None


def test_without_a_trachea_there_is_no_carina():
    with pytest.raises(NoCarinaError):
        find_carina(np.zeros(SHAPE, np.uint8), GRID)
    alone = np.zeros(SHAPE, np.uint8)
    alone[3:, 4:6, 9:12] = 1
    with pytest.raises(NoCarinaError):
        find_carina(alone, GRID)


def test_unknown_directions_are_said():
    unknown = Grid.of_spacing(SHAPE, GRID.spacing)
    for find, mask in ((find_midline, lungs()), (find_carina, trachea())):
        with pytest.raises(LnqError, match="--assume-orientation"):
            find(mask, unknown)


def test_what_is_not_known_is_none():
    points = np.zeros((2, 3))
    assert side_columns(points, None) == [{"midline_side": None, "midline_mm": None}] * 2
    assert carina_columns(points, None) == [{"carina_mm": None}] * 2
    assert side_columns(points[:0], find_midline(lungs(), GRID)) == []


@given(st.lists(st.tuples(*[st.integers(-200, 200)] * 3), min_size=1, max_size=5))
def test_sides_and_distances_of_any_points(points):
    at = np.array(points, float)
    midline, carina = find_midline(lungs(), GRID), find_carina(trachea(), GRID)
    for point, side, distance in zip(
        at, side_columns(at, midline), carina_columns(at, carina), strict=True
    ):
        assert side["midline_mm"] == pytest.approx(0 - point[0], abs=1e-6)  # column 10 is x = 0
        expected = "left" if point[0] < 0 else "right" if point[0] > 0 else "midline"
        assert side["midline_side"] == expected
        assert distance["carina_mm"] == pytest.approx(np.linalg.norm(point - carina))


def test_the_midline_of_a_real_chest_is_near_the_spinal_cord():
    from lnqtools.images.volume import read_label

    place = REAL / "nsclc-radiomics"
    if not place.is_dir():
        pytest.skip("without shared/real")
    left, right, cord = (
        read_label(place / f"LUNG1-003_{name}.nii.gz")
        for name in ("Lung-Left", "Lung-Right", "Spinal-Cord")
    )
    midline = find_midline(left.array | right.array, left.grid)
    middles = cord.grid.world(np.argwhere(cord.array))
    assert abs(midline.left_mm(middles).mean()) < 10
    for lung, side in ((left, 1), (right, -1)):
        at = midline.left_mm(lung.grid.world(np.argwhere(lung.array)))
        assert (side * at > 0).mean() > 0.99
