"""Statistics of data sets, against hand counts and independent libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label as scipy_label
from skimage.measure import label as skimage_label
from skimage.measure import regionprops

from lnqtools.labels.cohorts import (
    LabeledVolume,
    case_rows,
    data_set_rows,
    data_set_text,
    describe_label,
    diameter_rows,
    plain_text,
    voxel_rows,
    voxel_text,
)
from lnqtools.labels.lost import NOTHING_LOST, LostNodes
from lnqtools.labels.training import LabelCounts
from tests.grids import sliced_across

FULL = LabelCounts(foreground=1, background=3, unknown=0)
NAN = float("nan")


def volume(
    *diameters: float, voxels: LabelCounts = FULL, lost: LostNodes = NOTHING_LOST
) -> LabeledVolume:
    return LabeledVolume(voxels, np.array(diameters, float), lost)


def label_with(*cubes: tuple[slice, ...], shape=(20, 20, 20), rest: int = 0) -> np.ndarray:
    label = np.full(shape, rest, np.uint8)
    for cube in cubes:
        label[cube] = 1
    return label


# One label


def test_a_label_is_counted_and_its_nodes_are_measured():
    cube = np.s_[2:6, 2:6, 2:6]  # centers have the variance 15/12 along each axis: 5 mm
    sheet = np.s_[10, 2:12, 2:12]
    label = label_with(cube, sheet, rest=2)
    label[15:] = 0
    described = describe_label(label, (1.0, 1.0, 1.0))
    assert described.voxels == LabelCounts(64 + 100, 5 * 400, 15 * 400 - 164)
    np.testing.assert_allclose(described.diameters_mm, [5, NAN])
    assert (described.components, described.degenerate) == (2, 1)
    assert not described.fully_labeled


def test_unknown_voxels_join_no_nodes():
    label = label_with(np.s_[5, 5, 4:6], np.s_[5, 5, 7:9])
    label[5, 5, 6] = 2
    assert describe_label(label, (1.0, 1.0, 1.0), "sphere").components == 2


@pytest.mark.parametrize(("connectivity", "count"), [(6, 3), (18, 2), (26, 1)])
def test_neighbors_join_as_the_connectivity_says(connectivity, count):
    label = label_with(np.s_[1:3, 1:3, 1:3], np.s_[1:3, 3:5, 3:5], np.s_[3:5, 5:7, 5:7])
    assert describe_label(label, (1.0, 1.0, 1.0), connectivity=connectivity).components == count


def test_diameters_follow_spacing_and_metric():
    label = label_with(np.s_[2:6, 2:6, 2:6])
    thin = describe_label(label, (1.0, 2.0, 3.0), "feret-min")
    np.testing.assert_allclose(thin.diameters_mm, [4])
    as_one = describe_label(label, (1.0, 2.0, 3.0), "sphere")
    np.testing.assert_allclose(as_one.diameters_mm, [(6 * 64 * 6 / np.pi) ** (1 / 3)])


def test_axial_slices_lie_across_the_axial_axis():
    label = label_with(np.s_[2:18, 2:6, 2:6])
    grids = [sliced_across(axis, label.shape) for axis in (0, 1)]
    caliper = [describe_label(label, grid, "recist-caliper").diameters_mm for grid in grids]
    np.testing.assert_allclose(caliper, [[4], [4]])
    across, along = (describe_label(label, grid, "recist").diameters_mm[0] for grid in grids)
    assert across == pytest.approx(32**0.5)
    assert along == pytest.approx(2 * 16 * 4 / (16**2 + 4**2) ** 0.5)


@pytest.mark.parametrize("metric", ["ellipsoid", "recist"])
def test_a_flat_node_has_no_ellipsoid_but_other_diameters(metric):
    described = describe_label(label_with(np.s_[3, 2:14, 2:14]), (1.0, 1.0, 1.0), metric)
    assert described.components == 1
    assert described.degenerate == (metric == "ellipsoid")
    assert described.enlarged(10) == (metric == "recist")


def test_counts_and_diameters_are_those_of_scipy_and_skimage():
    rng = np.random.default_rng(4)
    spacing = (3.0, 0.93, 0.93)
    label = rng.choice([0, 1, 2], (12, 24, 24), p=[0.4, 0.25, 0.35]).astype(np.uint8)
    label[2:8, 2:20, 3:19] = 1
    described = describe_label(label, spacing)
    assert described.components == scipy_label(label == 1)[1]
    assert described.voxels == LabelCounts(*(int((label == value).sum()) for value in (1, 0, 2)))
    regions = regionprops(skimage_label(label == 1, connectivity=1), spacing=spacing)
    of_skimage = [_minor_axis(region) for region in regions]
    assert described.enlarged(2) == sum(diameter >= 2 for diameter in of_skimage) > 2
    np.testing.assert_allclose(
        sorted(np.nan_to_num(described.diameters_mm)), sorted(of_skimage), atol=1e-4
    )


def _minor_axis(region) -> float:
    """The paper's diameter; skimage takes the root of a negative rounding error where it is 0."""
    largest, middle, least = region.inertia_tensor_eigvals
    return (10 * max(middle + least - largest, 0)) ** 0.5


# Table 1


def test_table_1_by_hand():
    weak = LabelCounts(foreground=1, background=0, unknown=9)
    data_sets = {
        "full": {
            "a": volume(4.0, 10.0, 25.0, lost=LostNodes(2, 1, 90, 0.5)),
            "b": volume(lost=LostNodes(3, 0, 3, 0.1)),
            "c": volume(9.99, NAN),
        },
        "mixed": {"a": volume(11.0), "b": volume(12.0, voxels=weak)},
        "weak": {"a": volume(voxels=weak)},
    }
    columns = [
        *("set", "volumes", "components", "components_enlarged", "components_degenerate"),
        *("volumes_fully_labeled", "fully_labeled", "components_lost", "components_cut"),
    ]
    expected = [
        ["full", 3, 5, 2, 1, 3, True, 5, 1],
        ["mixed", 2, 2, 2, 0, 1, False, 0, 0],
        ["weak", 1, 0, 0, 0, 0, False, 0, 0],
    ]
    rows = data_set_rows(data_sets)
    assert [list(row) for row in rows] == [columns] * 3
    assert [list(row.values()) for row in rows] == expected
    at_12 = data_set_rows(data_sets, enlarged_mm=12)
    assert [row["components_enlarged"] for row in at_12] == [1, 1, 0]


def test_single_precision_does_not_settle_what_is_enlarged():
    """Five voxels of 1.9 mm, in a header of float32, are 9.4999999 mm."""
    just = volume(5 * float(np.float32(1.9)), 9.49998)
    assert just.diameters_mm[0] < 9.5
    assert just.enlarged(9.5) == 1


# Table 2


def test_table_2_by_hand():
    """Ratios per volume: 10/90 and 30/10; their mean is not 40/100."""
    step = {
        "a": volume(voxels=LabelCounts(foreground=4, background=6, unknown=90)),
        "b": volume(voxels=LabelCounts(foreground=0, background=30, unknown=10)),
    }
    (row,) = voxel_rows({"crop": step})
    per_unlabeled, per_total = (100 * 10 / 90, 300.0), (10.0, 75.0)
    assert row == {
        "set": "crop",
        "volumes": 2,
        "voxels_mean": 70,
        "voxels_sd": pytest.approx(60 / 2**0.5),  # of two values: their distance / √2
        "labeled_per_unlabeled_percent_mean": pytest.approx(sum(per_unlabeled) / 2),
        "labeled_per_unlabeled_percent_sd": pytest.approx((300 - 100 / 9) / 2**0.5),
        "labeled_per_total_percent_mean": pytest.approx(sum(per_total) / 2),
        "labeled_per_total_percent_sd": pytest.approx(65 / 2**0.5),
        "volumes_without_unlabeled": 0,
    }


def test_full_labels_have_no_ratio_to_unlabeled_voxels():
    some = volume(voxels=LabelCounts(foreground=1, background=0, unknown=4))
    none, one, two = voxel_rows(
        {
            "none": {"a": volume(), "b": volume()},
            "one": {"a": volume(), "b": some},
            "two": {"a": some, "b": some, "c": volume()},
        }
    )
    names = ("labeled_per_unlabeled_percent_mean", "labeled_per_unlabeled_percent_sd")
    assert [none[name] for name in (*names, "volumes_without_unlabeled")] == [None, None, 2]
    assert [one[name] for name in (*names, "volumes_without_unlabeled")] == [25, None, 1]
    assert [two[name] for name in (*names, "volumes_without_unlabeled")] == [25, 0, 1]
    assert [none["labeled_per_total_percent_mean"], none["labeled_per_total_percent_sd"]] == [
        100,
        0,
    ]
    assert one["labeled_per_total_percent_mean"] == 60


def test_one_volume_has_no_standard_deviation():
    (row,) = voxel_rows({"one": {"a": volume(voxels=LabelCounts(1, 1, 2))}})
    assert [row[name] for name in row if name.endswith("_sd")] == [None] * 3
    assert [row[name] for name in row if name.endswith("_mean")] == [4, 100, 50]


# Figure 2


def test_bins_hold_their_lower_bound_and_all_sets_have_the_same():
    data_sets = {
        "a": {"1": volume(2.49, 2.5, 2.6), "2": volume(0.5, NAN)},
        "b": {"1": volume(7.5)},
        "none": {"1": volume()},
    }
    rows = diameter_rows(data_sets)
    assert [list(row) for row in rows[:1]] == [["set", "bin", "from_mm", "to_mm", "components"]]
    assert [tuple(row.values()) for row in rows[:5]] == [
        ("a", "0-2.5mm", 0, 2.5, 2),
        ("a", "2.5-5mm", 2.5, 5, 2),
        ("a", "5-7.5mm", 5, 7.5, 0),
        ("a", "7.5-10mm", 7.5, 10, 0),
        ("a", "degenerate", None, None, 1),
    ]
    assert [row["components"] for row in rows[5:]] == [0, 0, 0, 1, 0, *[0] * 5]
    assert [row["bin"] for row in rows[5:10]] == [row["bin"] for row in rows[:5]]
    assert [row["set"] for row in rows[5:]] == ["b"] * 5 + ["none"] * 5


def test_no_component_leaves_no_bin_but_the_degenerate():
    assert diameter_rows({"a": {"1": volume()}}) == [
        {"set": "a", "bin": "degenerate", "from_mm": None, "to_mm": None, "components": 0}
    ]
    (row,) = diameter_rows({"a": {"1": volume(NAN, NAN)}})
    assert row["components"] == 2


@given(
    st.lists(st.floats(0, 100), max_size=30),
    st.sampled_from([0.5, 1.0, 2.5, 10.0]),
    st.integers(0, 3),
)
def test_bins_lose_no_component_and_agree_with_what_is_enlarged(diameters, width, flat):
    found = volume(*diameters, *[NAN] * flat)
    rows = diameter_rows({"a": {"1": found}}, width)
    assert sum(row["components"] for row in rows) == len(diameters) + flat
    *bins, degenerate = rows
    assert degenerate["components"] == flat
    for row in bins:
        above = sum(other["components"] for other in bins if other["from_mm"] >= row["from_mm"])
        assert above == (found.enlarged(row["from_mm"]) if row["from_mm"] else len(diameters))
    assert not bins or bins[-1]["components"] > 0


def test_bins_are_numpys_histogram():
    diameters = np.random.default_rng(0).uniform(0, 40, 500)
    rows = diameter_rows({"a": {"1": volume(*diameters)}})[:-1]
    edges = [row["from_mm"] for row in rows] + [rows[-1]["to_mm"]]
    assert [row["components"] for row in rows] == np.histogram(diameters, edges)[0].tolist()


# Per case


def test_rows_of_cases_add_up_to_those_of_sets():
    data_sets = {
        "a": {
            "1": volume(10.0, 5.0, NAN, lost=LostNodes(2, 1, 90, 0.5)),
            "2": volume(voxels=LabelCounts(1, 1, 2)),
        },
        "b": {"1": volume(20.0)},
    }
    rows = case_rows(data_sets)
    assert rows[:2] == [
        {
            **{"set": "a", "case": "1", "voxels": 4},
            **{"voxels_foreground": 1, "voxels_background": 3, "voxels_unknown": 0},
            **{"labeled_per_unlabeled_percent": None, "labeled_per_total_percent": 100},
            **{"components": 3, "components_enlarged": 1, "components_degenerate": 1},
            **{"fully_labeled": True, "components_lost": 2, "components_cut": 1},
            **{"voxels_lost": 90, "volume_lost_ml": 0.5},
        },
        {
            **{"set": "a", "case": "2", "voxels": 4},
            **{"voxels_foreground": 1, "voxels_background": 1, "voxels_unknown": 2},
            **{"labeled_per_unlabeled_percent": 100, "labeled_per_total_percent": 50},
            **{"components": 0, "components_enlarged": 0, "components_degenerate": 0},
            **{"fully_labeled": False, "components_lost": 0, "components_cut": 0},
            **{"voxels_lost": 0, "volume_lost_ml": 0},
        },
    ]
    for of_set in data_set_rows(data_sets):
        of_cases = [row for row in rows if row["set"] == of_set["set"]]
        for name in (
            *("components", "components_enlarged", "components_degenerate"),
            *("components_lost", "components_cut"),
        ):
            assert of_set[name] == sum(row[name] for row in of_cases)
    assert case_rows(data_sets, enlarged_mm=5)[0]["components_enlarged"] == 2


# As the paper prints them


def test_table_1_as_the_paper_prints_it():
    weak = LabelCounts(1, 0, 9)
    data_sets = {
        "LNQ": {"a": volume(12.0, 3.0, voxels=weak)},
        "mixed": {"a": volume(voxels=weak), "b": volume()},
        "CTLN": {"a": volume()},
    }
    headings = ["data set", "volumes", "labeled LNs", "labeled enlarged LNs", "fully labeled"]
    lines = [
        ["LNQ", "1", "2", "1", "no"],
        ["mixed", "2", "0", "0", "1 of 2"],
        ["CTLN", "1", "0", "0", "yes"],
    ]
    assert data_set_text(data_set_rows(data_sets)) == [headings, *lines]
    flat = data_set_rows({**data_sets, "flat": {"a": volume(NAN)}})
    assert data_set_text(flat) == [
        [*headings, "without diameter"],
        *([*line, "0"] for line in lines),
        ["flat", "1", "1", "0", "yes", "1"],
    ]
    lost = data_set_rows({"lost": {"a": volume(lost=LostNodes(2, 1, 90, 0.5))}})
    assert data_set_text(lost) == [
        [*headings, "lost LNs", "cut LNs"],
        ["lost", "1", "0", "0", "yes", "2", "1"],
    ]


def test_table_2_as_the_paper_prints_it():
    """The paper's 38.2 ± 24.5 million voxels and 0.02 ± 0.03 %, of two volumes."""
    half = 24.5e6 / 2**0.5
    raw = {}
    for case, total, percent in (("a", 38.2e6 - half, 0.04), ("b", 38.2e6 + half, 0.0)):
        labeled = round(total * percent / 100)
        raw[case] = volume(voxels=LabelCounts(labeled, 0, round(total) - labeled))
    (headings, line, full) = voxel_text(voxel_rows({"Raw data": raw, "full": {"a": volume()}}))
    assert headings == [
        *("statistics per volume", "total voxels [million]", "labeled/unlabeled [%]"),
        *("labeled/total [%]", "volumes"),
    ]
    assert line == ["Raw data", "38.2 ± 24.5", "0.02 ± 0.03", "0.02 ± 0.03", "2"]
    assert full == ["full", "0.0 ± –", "– ± –", "100.00 ± –", "1"]


def test_other_tables_are_printed_as_they_are():
    assert plain_text([{"set": "a", "from_mm": 2.5, "to_mm": None, "n": True}]) == [
        ["set", "from_mm", "to_mm", "n"],
        ["a", "2.5", "", "1"],
    ]
