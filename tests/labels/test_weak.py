import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, distance_transform_edt, generate_binary_structure

from lnqtools.choices import STRATEGIES
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume
from lnqtools.labels.training import (
    BACKGROUND,
    LABEL_NAMES,
    NODE,
    check_label,
    count_labels,
    refuse_unknown,
    with_background,
)
from lnqtools.labels.weak import Coat, drawn_nodes, weak_label

SPACING = (3.0, 0.93, 0.93)
masks = arrays(bool, st.tuples(*[st.integers(1, 9)] * 3), elements=st.booleans())
sparse_masks = arrays(
    bool, st.tuples(*[st.integers(1, 12)] * 3), elements=st.integers(0, 30).map(lambda n: n == 0)
)


def one_voxel(shape=(5, 5, 5)) -> np.ndarray:
    nodes = np.zeros(shape, bool)
    nodes[2, 2, 2] = True
    return nodes


def test_mask_is_node_or_unknown():
    label = weak_label(one_voxel(), "mask")
    assert label.dtype == np.uint8
    assert label[2, 2, 2] == 1
    assert np.count_nonzero(label == 2) == 124


@pytest.mark.parametrize("strategy", ["full", "noisy"])
def test_full_and_noisy_have_no_unknown(strategy):
    label = weak_label(one_voxel(), strategy)
    assert label.sum() == 1
    assert label[2, 2, 2] == 1
    assert label.max() == 1


@pytest.mark.parametrize(("connectivity", "hull"), [(6, 6), (18, 18), (26, 26)])
def test_coat_of_one_step_around_one_voxel(connectivity, hull):
    label = weak_label(one_voxel(), "coat", Coat(SPACING, 1, connectivity))
    assert np.count_nonzero(label == 0) == hull
    assert label[2, 2, 2] == 1
    assert label[2, 2, 3] == 0
    assert label[2, 2, 4] == 2


def test_coat_in_mm_reaches_by_distance_not_by_voxels():
    coat = Coat(SPACING, distance_mm=2.0)
    label = weak_label(one_voxel((5, 7, 7)), "coat", coat)
    assert not (label[[0, 1, 3, 4]] != 2).any()  # the next slice is 3 mm away
    # 0.93 mm steps within 2 mm: (±1, 0), (0, ±1), (±1, ±1), (±2, 0), (0, ±2)
    assert np.count_nonzero(label == 0) == 12


def test_a_coat_reaches_whole_voxels_along_each_axis_as_float32_spacings_tell():
    assert Coat((3.0, 0.93, 1.5), distance_mm=3.0).reach == (1, 3, 2)
    assert Coat((3.0, 0.93, 1.5), distance_mm=2.99).reach == (0, 3, 1)
    rounded_up = float(np.float32(0.7)) + 1e-8
    assert Coat((rounded_up,) * 3, distance_mm=1.4).reach == (2, 2, 2)
    assert Coat((3.0, 0.93, 1.5), steps=2).reach == (2, 2, 2)


def test_coat_in_mm_that_reaches_nothing_is_an_error():
    with pytest.raises(LnqError, match=r"a coat of 0\.5 mm reaches no voxel"):
        Coat(SPACING, distance_mm=0.5)


@given(sparse_masks, st.integers(1, 3), st.sampled_from([6, 18, 26]))
def test_coat_is_exactly_the_dilation_minus_the_nodes(nodes, margin, connectivity):
    label = weak_label(nodes, "coat", Coat(SPACING, margin, connectivity))
    structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    dilated = binary_dilation(nodes, structure, iterations=margin)
    np.testing.assert_array_equal(label == 1, nodes)
    np.testing.assert_array_equal(label == 0, dilated & ~nodes)
    np.testing.assert_array_equal(label == 2, ~dilated)


@given(sparse_masks, st.floats(0.93, 6))
def test_coat_in_mm_is_all_that_lies_within_the_distance(nodes, margin_mm):
    label = weak_label(nodes, "coat", Coat(SPACING, distance_mm=margin_mm))
    if nodes.any():
        near = distance_transform_edt(~nodes, sampling=SPACING) <= margin_mm + 1e-6
    else:
        near = nodes
    np.testing.assert_array_equal(label == 0, near & ~nodes)


@given(masks, masks, st.sampled_from(STRATEGIES))
def test_a_drawn_node_is_never_lost(nodes, background, strategy):
    label = weak_label(nodes, strategy, Coat(SPACING))
    assert (label[nodes] == NODE).all()
    if background.shape == nodes.shape:
        label = with_background(label, background)
        assert (label[nodes] == NODE).all()
        assert (label[background & ~nodes] == BACKGROUND).all()


def test_background_leaves_its_input_alone():
    label = weak_label(one_voxel(), "mask")
    with_background(label, np.ones(label.shape, bool))
    assert np.count_nonzero(label == 2) == 124


def test_every_value_is_a_node_unless_some_are_chosen():
    annotation = np.array([[[0, 1, 2, 7]]], np.uint8)
    assert drawn_nodes(annotation).tolist() == [[[False, True, True, True]]]
    chosen = drawn_nodes(annotation, frozenset({2, 7}))
    assert chosen.tolist() == [[[False, False, True, True]]]
    assert not drawn_nodes(annotation, frozenset()).any()


def test_counts_and_ratios():
    label = np.array([[[1, 0, 0, 2, 2, 2, 2, 2, 2, 2]]], np.uint8)
    assert count_labels(label).row() == {
        "voxels_foreground": 1,
        "voxels_background": 2,
        "voxels_unknown": 7,
        "labeled_per_unlabeled_percent": pytest.approx(300 / 7),
        "labeled_per_total_percent": pytest.approx(30),
    }


def test_no_unknown_voxel_leaves_the_ratio_undefined():
    counts = count_labels(np.zeros((2, 2, 2), np.uint8))
    assert counts.labeled_per_unlabeled_percent is None
    assert counts.labeled_per_total_percent == 100


def test_other_values_are_no_training_label():
    check_label(np.array([[[0, 1, 2]]], np.uint8))
    with pytest.raises(LnqError, match="holds the value 3"):
        check_label(np.array([[[0, 1, 3]]], np.uint8))


def label_volume(values: list[int], *extensions) -> Volume:
    eye = tuple(tuple(float(v) for v in row) for row in np.eye(3))
    grid = Grid((1, 1, len(values)), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), eye)
    return Volume(np.array([[values]], np.uint8), grid, (), extensions)


def test_unknown_voxels_are_not_taken_for_nodes():
    with pytest.raises(LnqError, match="training label with unknown voxels"):
        refuse_unknown(label_volume([0, 1, 2], LABEL_NAMES))
    refuse_unknown(label_volume([0, 1], LABEL_NAMES))
    refuse_unknown(label_volume([0, 1, 2]))  # instances
