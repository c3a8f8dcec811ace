"""CT numbers of components against numpy, voxel by voxel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnqtools.components.intensity import hu_columns
from lnqtools.components.labeling import find_components
from lnqtools.errors import LnqError

SHAPE = (3, 5, 6)


@given(
    arrays(bool, SHAPE, elements=st.booleans()),
    arrays(np.int16, SHAPE, elements=st.integers(-1024, 3071)),
    st.permutations(range(3)),
)
def test_mean_and_sample_deviation_of_each_component(mask, hu, order):
    found = find_components(mask, (1, 1, 1))
    stored = np.ascontiguousarray(hu.transpose(order)).transpose(np.argsort(order))  # as turned
    rows = hu_columns(found, stored)
    assert len(rows) == found.count
    labels = found.label_map()
    for k, row in enumerate(rows, start=1):
        values = hu[labels == k].astype(float)
        assert row["hu_mean"] == pytest.approx(values.mean())
        if values.size == 1:
            assert row["hu_sd"] is None
        else:
            assert row["hu_sd"] == pytest.approx(values.std(ddof=1), abs=1e-9)


def test_a_ct_of_another_size_is_refused():
    found = find_components(np.ones((1, 1, 2), np.uint8), (1, 1, 1))
    with pytest.raises(LnqError, match="differ in size"):
        hu_columns(found, np.zeros((1, 1, 3)))
    nothing = find_components(np.zeros((1, 1, 2), np.uint8), (1, 1, 1))
    assert hu_columns(nothing, np.zeros((1, 1, 2))) == []
