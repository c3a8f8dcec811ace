"""Numbered nodes: each value of a mask is one component, and what masks of many values say."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt
from skimage.measure import regionprops

from lnqtools.choices import METRICS
from lnqtools.components.diameters import diameters_mm
from lnqtools.components.labeling import find_components, find_instances, foreground_indices, keep
from lnqtools.components.matching import find_lesions
from lnqtools.components.rows import component_table
from lnqtools.components.sizes import large_enough
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume
from lnqtools.labels.cohorts import describe_label
from lnqtools.labels.masks import (
    as_mask,
    listed_values,
    read_mask,
    values_of,
    with_numbers,
    with_values,
)
from lnqtools.labels.training import LABEL_NAMES
from lnqtools.metrics.lesions import detection_table, lesion_table
from lnqtools.metrics.masks import evaluate
from lnqtools.metrics.sweep import sweep_case
from tests.conftest import save

SPACING = (3.0, 0.93, 0.93)
ONE_MM = (1.0, 1.0, 1.0)

numbered_masks = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16, np.uint32]),
    st.tuples(*[st.integers(1, 7)] * 3),
    elements=st.sampled_from([0, 0, 0, 1, 2, 3, 7, 200]),
)


def touching() -> np.ndarray:
    """Return two boxes that share a face: number 3 of 4 × 4 × 4 voxels, 1 of 6 × 6 × 6."""
    mask = np.zeros((10, 10, 16), np.uint8)
    mask[2:6, 2:6, 1:5] = 3
    mask[2:8, 2:8, 5:11] = 1
    return mask


# --- components -----------------------------------------------------------------------------


def test_touching_boxes_keep_their_own_diameters():
    """By hand: a cube of n voxels of 1 mm has an ellipsoid of sqrt(20 (n² - 1) / 12)."""
    found = find_instances(touching(), ONE_MM)
    assert found.ids.tolist() == [1, 3]
    assert found.voxel_counts.tolist() == [216, 64]
    assert found.boxes.tolist() == [[[2, 8], [2, 8], [5, 11]], [[2, 6], [2, 6], [1, 5]]]
    assert found.centroids.tolist() == [[4.5, 4.5, 7.5], [3.5, 3.5, 2.5]]
    for metric, expected in {
        "ellipsoid": [(20 * 35 / 12) ** 0.5, 5],
        "recist-caliper": [6, 4],
        "recist": [72**0.5, 32**0.5],
        "inscribed": [6, 4],
        "feret-min": [6, 4],
    }.items():
        assert diameters_mm(found, metric) == pytest.approx(expected), metric
    assert find_components(touching(), ONE_MM).count == 1


def test_rows_and_runs_part_where_the_value_changes():
    mask = np.array([[[1, 1, 2, 0, 1], [2, 2, 2, 2, 2]]], np.uint8)
    found = find_instances(mask, ONE_MM)
    assert found.run_starts.tolist() == [0, 4, 2, 5]
    assert found.run_lengths.tolist() == [2, 1, 1, 5]
    assert found.voxels_of(1).tolist() == [0, 1, 4]
    assert found.voxels_of(2).tolist() == [2, 5, 6, 7, 8, 9]


@given(numbered_masks, st.sampled_from([ONE_MM, SPACING]))
def test_each_value_is_what_it_is_alone(mask, spacing):
    """Against scikit-image, which takes a value for a region, and against each value by itself."""
    found = find_instances(mask, spacing)
    regions = regionprops(mask.astype(np.int64))
    assert found.ids.tolist() == [region.label for region in regions]
    assert found.voxel_counts.tolist() == [region.num_pixels for region in regions]
    assert [box.T.ravel().tolist() for box in found.boxes] == [list(r.bbox) for r in regions]
    np.testing.assert_allclose(found.centroids, [r.centroid for r in regions] or np.zeros((0, 3)))
    inside = np.pad(mask, 1)
    for k, number in enumerate(found.ids.tolist()):
        np.testing.assert_array_equal(found.voxels_of(k + 1), np.flatnonzero(mask == number))
        alone = find_instances((mask == number).astype(np.uint8), spacing)
        for metric in METRICS:
            assert diameters_mm(found, metric)[k] == pytest.approx(diameters_mm(alone, metric)[0])
        depth = distance_transform_edt(inside == number, sampling=spacing).max()
        assert diameters_mm(found, "inscribed")[k] == pytest.approx(2 * depth)


@given(numbered_masks)
def test_of_one_connected_piece_each_they_are_the_connected_components(mask):
    pieces = find_components(mask, SPACING, 26)
    again = find_instances(pieces.label_map(np.uint16), SPACING)
    assert component_table(again) == component_table(pieces)
    np.testing.assert_array_equal(again.voxels, pieces.voxels)


@given(numbered_masks, st.integers(0, 2**32 - 1))
def test_what_takes_components_takes_numbered_ones(mask, seed):
    found = find_instances(mask, SPACING)
    chosen = np.random.default_rng(seed).random(found.count) < 0.5
    kept = np.isin(mask, found.ids[chosen]) & (mask != 0)
    np.testing.assert_array_equal(keep(found, chosen), kept)
    np.testing.assert_array_equal(found.overlap_voxels(kept), found.voxel_counts * chosen)
    places = np.concatenate([[0], found.ids])
    np.testing.assert_array_equal(places[found.label_map(np.uint32)], mask)


def test_views_booleans_and_empty_masks():
    mask = touching()
    for view in (mask.T, mask[::-1], np.asfortranarray(mask)):
        assert find_instances(view, ONE_MM).voxel_counts.tolist() == [216, 64]
    assert find_instances(mask != 0, ONE_MM).voxel_counts.tolist() == [280]
    nothing = find_instances(mask * 0, ONE_MM)
    assert nothing.count == 0
    assert component_table(nothing) == []
    for wrong in (mask.astype(float), mask[0]):
        with pytest.raises(LnqError):
            find_instances(wrong, ONE_MM)
    with pytest.raises(LnqError, match="spacing"):
        find_instances(mask, (1, 0, 1))


def test_the_volume_is_read_once_and_pieces_far_apart_cost_no_volume(monkeypatch):
    """100 numbered nodes, each of two voxels in opposite corners of 8 million."""
    mask = np.zeros((32, 512, 512), np.uint16)
    numbers = np.arange(1, 101)
    mask.reshape(-1)[numbers] = mask.reshape(-1)[-1 - numbers] = numbers
    reads = []
    reader = foreground_indices
    monkeypatch.setattr(
        "lnqtools.components.labeling.foreground_indices", lambda m: reads.append(1) or reader(m)
    )
    tracemalloc.start()
    rows = component_table(find_instances(mask, ONE_MM))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reads == [1]
    assert peak < mask.size  # bytes: a mask of one component's box would already be larger
    assert [row["id"] for row in rows] == numbers.tolist()
    assert {row["diameter_inscribed_mm"] for row in rows} == {2.0}


# --- what is made of them -----------------------------------------------------------------


def test_the_filter_judges_each_number():
    found = find_instances(touching(), ONE_MM)
    assert large_enough(found, 5.5).tolist() == [True, False]


def test_lesions_by_number_have_their_numbers_as_ids():
    reference = touching()
    prediction = np.where(reference == 3, 8, 0).astype(np.uint8)
    prediction[2:8, 2:8, 8:11] = 5  # half of number 1
    prediction[0, 0, 0] = 9
    pair = find_lesions(prediction, reference, ONE_MM, instances=True)
    rows = lesion_table(pair, ["sphere"])
    told = [(r["side"], r["id"], r["voxels"], r["overlap"], r["partner"], r["iou"]) for r in rows]
    assert told == [
        ("reference", 1, 216, 0.5, 5, 0.5),
        ("reference", 3, 64, 1.0, 8, 1.0),
        ("prediction", 5, 108, 1.0, 1, 0.5),
        ("prediction", 8, 64, 1.0, 3, 1.0),
        ("prediction", 9, 1, 0.0, None, None),
    ]
    every = detection_table(pair)[0]
    assert (every["tp"], every["fn"], every["fp"], every["sq"]) == (2, 0, 1, 0.75)
    as_one = find_lesions(prediction, reference, ONE_MM)
    assert [side.components.count for side in as_one] == [1, 3]


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@given(st.integers(0, 2**32 - 1))
def test_partners_by_number_are_those_of_brute_force(seed):
    random = np.random.default_rng(seed)
    reference, prediction = random.integers(0, 4, (2, 3, 4, 5)).astype(np.uint8)
    reference[0, 0, 0] = prediction[0, 0, 0] = 1
    pair = find_lesions(prediction, reference, ONE_MM, instances=True)
    rows = lesion_table(pair, ["sphere"])
    ious = {
        (a, b): _iou(reference == a, prediction == b)
        for a in np.unique(reference[reference > 0]).tolist()
        for b in np.unique(prediction[prediction > 0]).tolist()
    }
    found = {(r["id"], r["partner"]): r["iou"] for r in rows if r["side"] == "reference"}
    for (a, b), iou in ious.items():
        if iou > 0.5:
            assert found[a, b] == iou
    for (a, b), iou in found.items():
        assert b is None or iou == ious[a, b]


def test_only_the_counts_of_a_case_depend_on_the_numbers():
    mask = touching()
    by_number = evaluate(mask, mask, ONE_MM, instances=True)
    by_voxels = evaluate(mask, mask, ONE_MM)
    assert by_number.pop("components_prediction") == by_number.pop("components_reference") == 2
    assert by_voxels.pop("components_prediction") == by_voxels.pop("components_reference") == 1
    assert by_number == by_voxels


def test_a_data_set_counts_numbered_nodes():
    mask = touching()
    described = describe_label((mask != 0).astype(np.uint8), ONE_MM, numbers=mask)
    assert described.diameters_mm.tolist() == pytest.approx([(20 * 35 / 12) ** 0.5, 5])
    assert described.voxels.foreground == 280


def test_a_sweep_finds_numbered_nodes_one_by_one():
    """A map that has one of two touching nodes: half of what counts as one is found otherwise."""
    mask = touching()
    probability = np.where(mask == 3, 0.9, 0.1).astype(np.float32)
    one_by_one = sweep_case(probability, mask, ONE_MM, [0.5], instances=True)
    assert (one_by_one.lesions_reference, one_by_one.lesions_hit.tolist()) == (2, [[1]])
    assert one_by_one.voxels_unknown == 0
    as_one = sweep_case(probability, (mask != 0).astype(np.uint8), ONE_MM, [0.5])
    assert (as_one.lesions_reference, as_one.lesions_hit.tolist()) == (1, [[0]])
    assert as_one.voxels_overlap == one_by_one.voxels_overlap == [[64]]


# --- masks as files hold them -------------------------------------------------------------


def image(array: np.ndarray, *extensions: tuple[int, bytes]) -> Volume:
    return Volume(array, Grid.from_affine(array.shape, np.eye(4)), ("odd",), extensions)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([3], "the value 3"),
        ([1, 2], "the values 1 and 2"),
        ([1, 2, 3, 4, 5, 6, 7], "the values 1 to 7"),
        ([1, 3, 9], "the values 1, 3 and 9"),
        ([1, 2, 3, 4, 5, 70], "6 values from 1 to 70"),
    ],
)
def test_values_are_named(values, words):
    assert listed_values(np.array(values, np.uint8)) == words


@given(numbered_masks, st.sets(st.sampled_from([1, 2, 3, 7, 200, 4000]), min_size=1))
def test_values_are_picked(mask, chosen):
    assert values_of(mask).tolist() == np.unique(mask[mask > 0]).tolist()
    expected = np.where(np.isin(mask, list(chosen)), mask, 0)
    for picked in (with_values(mask, sorted(chosen)), with_values(mask.T, sorted(chosen)).T):
        assert picked.dtype == mask.dtype
        np.testing.assert_array_equal(picked, expected)


@given(
    numbered_masks,
    st.none() | st.sets(st.sampled_from([1, 2, 3, 7, 200]), min_size=1).map(sorted),
    st.booleans(),
)
def test_a_mask_of_a_file_is_what_was_asked_for(mask, values, instances):
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "mask.nii", mask)
        read = read_mask(path, values, instances)
    chosen = mask != 0 if values is None else np.isin(mask, values)
    np.testing.assert_array_equal(read.array != 0, chosen)
    keeps_numbers = values is None or instances
    np.testing.assert_array_equal(read.array, np.where(chosen, mask if keeps_numbers else 1, 0))
    many = values is None and not instances and np.unique(mask[mask > 0]).size > 1
    warned = [note for note in read.notes if "taken as one mask" in note]
    assert len(warned) == many
    assert read.notes[-1:] == as_mask(image(mask), values, instances).notes[1:][-1:]


@given(numbered_masks, st.sampled_from([6, 18, 26]))
def test_numbers_are_given_to_masks_of_one_value_alone(mask, connectivity):
    one_value = (mask > 2).astype(np.uint8) * 5
    given_numbers = find_instances(with_numbers(one_value, SPACING, connectivity), SPACING)
    pieces = find_components(one_value, SPACING, connectivity)
    assert given_numbers.voxel_counts.tolist() == pieces.voxel_counts.tolist()
    np.testing.assert_array_equal(given_numbers.voxels, pieces.voxels)
    if np.unique(mask[mask > 0]).size > 1:
        np.testing.assert_array_equal(with_numbers(mask, SPACING, connectivity), mask)


@given(st.sets(st.integers(1, 2**32 - 1), min_size=1).map(sorted))
def test_named_values_begin_and_end_with_the_first_and_last(values):
    named = [int(word) for word in re.findall(r"\d+", listed_values(values))]
    assert named[-1] == values[-1]
    assert named == values if len(values) < 3 else values[0] in named
    assert len(named) <= 5


def test_many_values_are_noted_once_unless_something_is_said():
    note = (
        "holds the values 1 and 3: taken as one mask; --instances keeps numbered nodes apart, "
        "--values picks"
    )
    assert as_mask(image(touching())).notes == ("odd", note)
    assert as_mask(image(touching()), instances=True).notes == ("odd",)
    assert as_mask(image(touching()), [3]).notes == ("odd",)
    assert as_mask(image((touching() != 0).astype(np.uint8) * 255)).notes == ("odd",)


def test_a_choice_is_0_and_1_and_numbers_stay_with_instances():
    only = (touching() == 3).astype(np.uint8)
    np.testing.assert_array_equal(as_mask(image(touching()), [3]).array, only)
    np.testing.assert_array_equal(as_mask(image(touching()), [3], True).array, only * 3)
    np.testing.assert_array_equal(as_mask(image(touching()), instances=True).array, touching())


def test_a_choice_of_nothing_is_noted():
    (_, note) = as_mask(image(touching()), [2, 4]).notes
    assert note == "holds the values 1 and 3, of which --values picks none"
    assert as_mask(image(touching() * 0), [2]).notes == ("odd",)


def test_one_value_of_several_parts_is_noted_with_instances():
    mask = touching()
    mask[mask == 1] = 0
    mask[9, 9, 14:] = 3
    found = as_mask(image(mask), instances=True)
    assert found.notes[1:] == ("its 2 separate parts are all 3: one node by --instances",)
    assert as_mask(image(mask), instances=True, binary=True).notes == ("odd",)
    apart = with_numbers(mask, ONE_MM, 6)
    assert [np.count_nonzero(apart == k) for k in (1, 2, 3)] == [64, 2, 0]
    assert with_numbers(touching(), ONE_MM, 6) is not None
    np.testing.assert_array_equal(with_numbers(touching(), ONE_MM, 6), touching())


def test_unknown_voxels_never_become_a_node_but_may_be_left_out():
    label = image(np.where(touching() == 3, 1, 2).astype(np.uint8), LABEL_NAMES)
    for how in ({}, {"instances": True}, {"values": [1, 2]}):
        with pytest.raises(LnqError, match="unknown voxels"):
            as_mask(label, **how)
    nodes = as_mask(label, [1])
    assert nodes.array.sum() == 64
    assert nodes.notes[1:] == ("is a training label: its unknown voxels count as background",)
