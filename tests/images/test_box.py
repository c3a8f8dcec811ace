"""Boxes of voxels."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.images.box import Box, bounding_box
from tests.grids import boxes

SHAPE = (4, 5, 6)


def test_a_box_is_an_index_with_ends_and_lengths():
    box = Box.of((1, 0, 2), (3, 5, 6))
    assert box == (slice(1, 3), slice(0, 5), slice(2, 6))
    assert (box.start, box.stop, box.shape, box.size) == ((1, 0, 2), (3, 5, 6), (2, 5, 4), 40)
    assert box.extent_mm((3.0, 0.5, 2.0)) == (6.0, 2.5, 8.0)
    assert np.arange(120).reshape(SHAPE)[box].ravel()[[0, -1]].tolist() == [32, 89]
    assert repr(box) == "Box.of((1, 0, 2), (3, 5, 6))"
    assert pickle.loads(pickle.dumps(box)) == box
    assert box.columns() == {
        "x_start": 2,
        "x_stop": 6,
        "y_start": 0,
        "y_stop": 5,
        "z_start": 1,
        "z_stop": 3,
    }


def test_bounding_box():
    mask = np.zeros(SHAPE, np.uint8)
    assert bounding_box(mask) is None
    mask[1, 2, 3] = 1
    assert bounding_box(mask) == (slice(1, 2), slice(2, 3), slice(3, 4))
    mask[3, 0, 5] = 7
    assert bounding_box(mask) == (slice(1, 4), slice(0, 3), slice(3, 6))
    assert bounding_box(np.ones(SHAPE, bool)) == Box.whole(SHAPE)
    assert Box.whole(SHAPE) == (slice(0, 4), slice(0, 5), slice(0, 6))


@given(boxes(SHAPE), boxes(SHAPE))
def test_boxes_meet_and_join_as_their_voxels_do(one, other):
    first, second = np.zeros((2, *SHAPE), bool)
    first[one] = second[other] = True
    both = one.intersect(other)
    there = np.zeros(SHAPE, bool)
    there[both] = True
    np.testing.assert_array_equal(there, first & second)
    assert both.size == there.sum()
    assert Box.joined([one, other]) == bounding_box(first | second)


@given(boxes(SHAPE), st.data())
def test_a_box_of_a_part_lies_shifted_in_the_whole(box, data):
    inner = data.draw(boxes(box.shape))
    voxels = np.arange(120).reshape(SHAPE)
    np.testing.assert_array_equal(voxels[box][inner], voxels[inner.shifted(box.start)])


def test_a_box_grows_to_the_edge():
    assert Box.of((1, 2, 3), (2, 4, 4)).grown((2, 1, 0), SHAPE) == Box.of((0, 1, 3), (4, 5, 4))


# Margins


def test_margin_is_rounded_outward_and_clipped():
    widened = Box.of((5, 10, 2), (20, 20, 9)).widened((6, 5, 4), (3, 2, 0.9), (30, 22, 100))
    assert widened == (slice(3, 22), slice(7, 22), slice(0, 14))


def test_margin_forgives_float32_spacings():
    spacing = (float(np.float32(0.1)) - 1e-9,) * 3
    box = Box.of((50,) * 3, (60,) * 3)
    assert box.widened((1, 1, 1), spacing, (100,) * 3) == (slice(40, 70),) * 3


@given(
    st.tuples(st.integers(0, 40), st.integers(1, 40), st.integers(0, 40)),
    st.floats(0, 100),
    st.floats(0.1, 10),
)
def test_margin_holds_the_box_and_the_margin(parts, margin, step):
    before, length, after = parts
    size = before + length + after
    side = slice(before, before + length)
    box = Box((side,) * 3)
    (wide, *_) = box.widened((margin,) * 3, (step,) * 3, (size,) * 3)
    assert 0 <= wide.start <= side.start < side.stop <= wide.stop <= size
    for voxels, room in ((side.start - wide.start, before), (wide.stop - side.stop, after)):
        assert voxels == room or margin <= voxels * step + 1e-4 < margin + step + 2e-4
    assert box.widened((0,) * 3, (step,) * 3, (size,) * 3) == box
