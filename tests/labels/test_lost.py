"""Drawn nodes that a grid leaves out, counted by hand and by other means."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label as scipy_label

from lnqtools.anatomy.lungs import widened_box
from lnqtools.errors import LnqError
from lnqtools.images import grid as grids
from lnqtools.images.box import Box
from lnqtools.images.names import label_table
from lnqtools.images.nifti import COMMENT_CODE
from lnqtools.images.resampling import resample
from lnqtools.images.volume import Volume
from lnqtools.labels.lost import (
    MAX_NODES_ML,
    NOTHING_LOST,
    LostNodes,
    Passage,
    node_finder,
    passage,
    recorded,
)
from lnqtools.labels.training import LABEL_NAMES, is_training_label
from lnqtools.labels.weak import unknown_outside
from tests.grids import boxes, make_grid, turned_grids
from tests.grids import grids as any_grids

few = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def two_nodes() -> np.ndarray:
    """Return the two nodes of a case from the field: of 90 and of 18 voxels."""
    mask = np.zeros((20, 36, 40), np.uint8)
    mask[15:18, 28:33, 30:36] = 1
    mask[2:4, 3:6, 3:6] = 1
    return mask


GRID = make_grid((20, 36, 40), (3.0, 0.8, 0.8))
VOXEL_ML = 3 * 0.8 * 0.8 / 1000


def cropped(mask: np.ndarray, grid: grids.Grid, sides: tuple[slice, ...]) -> Passage:
    return passage(mask, grid, mask[sides], grid.cropped(Box(sides)))


def test_a_node_outside_is_lost_and_one_across_the_edge_is_cut():
    assert cropped(two_nodes(), GRID, np.s_[0:10, 0:18, 0:20]) == Passage(
        2, 108, 1, LostNodes(1, 0, 90, pytest.approx(90 * VOXEL_ML))
    )
    cut = cropped(two_nodes(), GRID, np.s_[0:20, 0:36, 0:34])  # 4 of 6 columns of the larger
    assert cut == Passage(2, 108, 2, LostNodes(0, 1, 30, pytest.approx(30 * VOXEL_ML)))
    assert cropped(two_nodes(), GRID, np.s_[3:16, 0:36, 0:36]) == Passage(
        2, 108, 2, LostNodes(0, 2, 9 + 60, pytest.approx(69 * VOXEL_ML))
    )
    assert cropped(two_nodes(), GRID, np.s_[5:10, 0:36, 0:40]).left == 0
    assert cropped(two_nodes(), GRID, np.s_[2:18, 3:33, 3:36]) == Passage(2, 108, 2, NOTHING_LOST)


def test_what_is_lost_is_told_in_one_sentence():
    told = cropped(two_nodes(), GRID, np.s_[3:16, 0:36, 0:36]).sentence("the lungs' box")
    assert told == (
        "69 of 108 drawn voxels (0.132 ml) lie outside the lungs' box (of 2 components, 2 cut)"
    )
    told = cropped(two_nodes(), GRID, np.s_[3:15, 0:36, 0:36]).sentence("it")
    assert (
        told == "99 of 108 drawn voxels (0.19 ml) lie outside it (of 2 components, 1 lost, 1 cut)"
    )
    one = Passage(1, 5, 0, LostNodes(1, 0, 5, 0.01)).sentence("it")
    assert one == "5 of 5 drawn voxels (0.01 ml) lie outside it (of 1 component, 1 lost)"
    between = Passage(3, 9, 1, LostNodes(2, 0, 0, 0.0)).sentence("the new grid")
    assert between == "2 of 3 drawn components are lost between the voxels of the new grid"


def test_small_nodes_are_lost_between_the_voxels_of_a_coarser_grid():
    mask = np.zeros((1, 1, 8), np.uint8)
    mask[0, 0, 2] = mask[0, 0, 6:8] = 1
    source = make_grid(mask.shape, (1.0, 1.0, 1.0))
    # Its voxels lie at 1.5 and 5.5, and x runs to the right: the one more to the left is taken.
    target = source.with_spacing((1.0, 1.0, 4.0))
    left = resample(mask, source, target, "nearest", 0)
    assert left.tolist() == [[[0, 0]]]
    assert passage(mask, source, left, target) == Passage(2, 3, 0, LostNodes(2, 0, 0, 0.0))
    mask[0, 0, 5] = 1
    left = resample(mask, source, target, "nearest", 0)
    assert passage(mask, source, left, target) == Passage(2, 4, 1, LostNodes(1, 0, 0, 0.0))


@given(turned_grids(), st.data(), seeds)
@few
def test_on_a_turned_part_of_the_lattice_the_counts_are_scipys(pair, data, seed):
    source, turned, _ = pair
    mask = (np.random.default_rng(seed).random(source.shape) < 0.4).astype(np.uint8)
    target = turned.cropped(data.draw(boxes(turned.shape)))
    numbers, count = scipy_label(mask)
    before = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    kept = grids.place(numbers, source, target, 0)
    after = np.bincount(kept.ravel(), minlength=count + 1)[1:]
    found = passage(mask, source, kept != 0, target)
    assert (found.drawn, found.drawn_voxels) == (count, mask.sum())
    assert found.left == (after > 0).sum()
    assert found.lost == LostNodes(
        int((after == 0).sum()),
        int(((after > 0) & (after < before)).sum()),
        int((before - after).sum()),
        pytest.approx((before - after).sum() * np.prod(source.spacing) / 1000, abs=1e-6),
    )


@given(any_grids(oblique=False), st.tuples(*[st.floats(0.5, 3)] * 3), seeds)
@few
def test_on_another_lattice_what_is_left_is_what_the_numbered_nodes_leave(source, factors, seed):
    mask = (np.random.default_rng(seed).random(source.shape) < 0.3).astype(np.int32)
    numbers, count = scipy_label(mask)
    spacing = tuple(s * f for s, f in zip(source.spacing, factors, strict=True))
    target = source.with_spacing(spacing)
    left = resample(numbers.astype(np.int32), source, target, "nearest", 0)
    found = passage(mask, source, left, target)
    survivors = np.count_nonzero(np.unique(left))
    assert (found.drawn, found.left, found.lost.components) == (
        count,
        survivors,
        count - survivors,
    )


@given(any_grids(), any_grids(), seeds)
@few
def test_a_voxel_is_outside_where_its_index_on_the_other_grid_is(source, target, seed):
    mask = np.random.default_rng(seed).random(source.shape) < 0.5
    index = target.index(source.world(np.argwhere(mask)))
    beyond = (index < -0.5 - 1e-6) | (index > np.array(target.shape) - 0.5 + 1e-6)
    within = (index > -0.5 + 1e-6) & (index < np.array(target.shape) - 0.5 - 1e-6)
    found = grids.outside(np.nonzero(mask), source, target)
    assert found[beyond.any(axis=1)].all()
    assert not found[within.all(axis=1)].any()
    everywhere = np.nonzero(np.ones(source.shape))
    assert grids.reaches_beyond(source, target) == grids.outside(everywhere, source, target).any()


@given(any_grids(), st.tuples(*[st.floats(1.1, 2)] * 3))
@few
def test_other_lattices_are_told_apart_in_words(source, factors):
    spacing = tuple(s * f for s, f in zip(source.spacing, factors, strict=True))
    assert grids.lattice_difference(source, source.with_spacing(spacing)).startswith(
        "their spacings are "
    )
    moved = make_grid(
        source.shape,
        source.spacing,
        tuple(source.world([0.5, 0, 0]).tolist()),
        np.array(source.direction),
    )
    assert grids.lattice_difference(source, moved) == "their voxels do not meet"


# Records


def image(array: np.ndarray, *extensions, spacing=(1.0, 1.0, 1.0)) -> Volume:
    return Volume(array, make_grid(array.shape, spacing), (), extensions)


def with_record(lost) -> Volume:
    record = {"tool": "lnq-crop", "options": {}, "lost": lost}
    return image(np.zeros((1, 1, 1), np.uint8), (COMMENT_CODE, json.dumps(record).encode()))


counts = st.integers(0, 10**6)


@given(st.builds(LostNodes, counts, counts, counts, st.floats(0, 1e6)))
@few
def test_a_record_is_read_as_it_was_written(lost):
    record = lost.record()
    assert bool(record) == bool(lost) == (lost != NOTHING_LOST)
    assert recorded(with_record(record.get("lost"))) == lost


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(["components", "cut", "voxels", "volume_ml", "x"]), inside, max_size=4
        )
    ),
    max_leaves=6,
)


@given(JSON)
def test_a_record_of_another_kind_says_nothing(value):
    found = recorded(with_record(value))
    assert all(type(n) is int and n >= 0 for n in (found.components, found.cut, found.voxels))
    assert 0 <= found.volume_ml < float("inf")
    wrong = {"components": -1, "cut": 1, "voxels": 1, "volume_ml": 1.0}
    assert recorded(with_record(wrong)) == NOTHING_LOST
    assert recorded(with_record({**wrong, "components": True})) == NOTHING_LOST


def test_steps_add_up():
    assert LostNodes(1, 2, 3, 0.1) + LostNodes(4, 0, 5, 0.2) == LostNodes(5, 2, 8, 0.3)
    assert recorded(image(np.zeros((1, 1, 1), np.uint8))) == NOTHING_LOST


# What is a node


def nodes_of(volume: Volume, unknown=None) -> list[int] | None:
    finder = node_finder(volume, unknown)
    return finder(volume.array).ravel().astype(bool).tolist() if finder else None


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3), elements=st.integers(0, 2)))
@few
def test_nodes_are_1_in_a_training_label_and_all_but_0_in_a_mask(array):
    ones, drawn = (array == 1).ravel().tolist(), (array != 0).ravel().tolist()
    assert nodes_of(image(array, LABEL_NAMES)) == ones
    assert is_training_label(image(array, LABEL_NAMES))
    assert nodes_of(image(array)) == drawn
    assert not is_training_label(image(array))
    assert nodes_of(image(array), unknown=2) == ones
    assert nodes_of(image(array), unknown=0) == drawn
    assert nodes_of(image(array, label_table({1: "heart", 2: "aorta"}))) is None


def test_a_mask_of_more_than_nodes_can_be_is_of_something_else():
    full = np.ones((2, 10, 10), np.uint8)  # 200 voxels of 10 ml
    assert MAX_NODES_ML == 2000
    assert node_finder(image(full, spacing=(100.0, 10.0, 10.0))) is not None
    assert node_finder(image(full, spacing=(100.1, 10.0, 10.0))) is None
    label = image(full, LABEL_NAMES, spacing=(100.1, 10.0, 10.0))
    assert node_finder(label) is not None


# Boxes


@given(turned_grids(), st.data(), seeds)
@few
def test_a_widened_box_is_the_least_that_holds_the_lungs_and_what_is_drawn(pair, data, seed):
    image_grid, turned, _ = pair
    source = turned.cropped(data.draw(boxes(turned.shape)))
    drawn = np.random.default_rng(seed).random(source.shape) < 0.2
    lungs = data.draw(boxes(image_grid.shape))
    margin = data.draw(st.tuples(*[st.floats(0, 6)] * 3))
    box, lost = widened_box(lungs, drawn, source, image_grid, margin)
    assert lost == 0  # the mask lies in the image
    at = np.argwhere(grids.place(drawn, source, image_grid, False))
    if not at.size:
        assert box == lungs
        return
    own = Box.of(at.min(axis=0), at.max(axis=0) + 1)
    around = own.widened(margin, image_grid.spacing, image_grid.shape)
    assert box == Box.joined([lungs, around])
    for side, one, other in zip(box, lungs, around, strict=True):
        assert (side.start, side.stop) == (min(one.start, other.start), max(one.stop, other.stop))


def test_what_is_drawn_outside_the_image_is_counted():
    image_grid = make_grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    larger = make_grid((4, 4, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    drawn = np.zeros(larger.shape, np.uint8)
    drawn[1, 1, 3:6] = 1
    whole = Box.whole((1, 1, 1))
    assert widened_box(whole, drawn, larger, image_grid) == (np.s_[0:2, 0:2, 0:4], 2)
    drawn[..., :4] = 0
    with pytest.raises(LnqError, match="what is drawn in it lies outside the image"):
        widened_box(whole, drawn, larger, image_grid)
    other = make_grid((4, 4, 4), (2.0, 1.0, 1.0))
    with pytest.raises(LnqError, match=r"another lattice: their spacings are .*; lnq-crop --label"):
        widened_box(whole, np.zeros((4, 4, 4)), other, image_grid)


@given(hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2)), boxes((3, 4, 5)))
def test_a_label_is_unknown_outside_what_was_annotated(label, box):
    inside = np.zeros(label.shape, bool)
    inside[box] = True
    expected = np.where(inside, label, 2)
    np.testing.assert_array_equal(unknown_outside(label, box), expected)
    nowhere = (slice(0, 0), *box[1:])
    assert (unknown_outside(label, nowhere) == 2).all()
