"""Resampling by matrices against the function of nnU-Net in whose place it stands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.nnunet.resampling import FastResampling, across_slices, resample_splines, zoom_matrix

pytest.importorskip("nnunetv2")

THICK, EVEN = (5.0, 1.0, 1.0), (1.0, 1.0, 1.0)
NEW = (2.0, 1.2, 0.8)


def nnunet(data, *given, **how):
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    return resample_data_or_seg_to_shape(data, *given, **how)


def noise(shape, dtype=np.float32, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def ulps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return by how many steps of their type numbers differ."""
    assert one.dtype == other.dtype
    step = np.spacing(np.maximum(np.abs(one), np.abs(other)))
    return np.abs(one.astype(np.float64) - other) / step


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("before", "shape", "order_z"),
    [
        (EVEN, (17, 23, 40), 0),
        (THICK, (17, 23, 40), 0),
        (THICK, (5, 23, 40), 0),
        (THICK, (17, 23, 40), 1),
        (THICK, (5, 40, 23), 3),
        (THICK, (9, 23, 40), 0),
        (THICK, (17, 30, 31), 0),
        ((1.0, 5.0, 1.0), (17, 23, 40), 0),
        ((1.0, 1.0, 5.0), (17, 23, 40), 0),
        (THICK, (1, 1, 1), 0),
    ],
)
def test_the_values_are_those_of_nnunet(before, shape, order_z, order, dtype):
    data = noise((2, 9, 30, 31), dtype)
    how = {"order": order, "order_z": order_z, "force_separate_z": None}
    ours = resample_splines(data, shape, before, NEW, **how)
    theirs = nnunet(data, shape, before, NEW, **how)
    off = ulps(ours, theirs)
    # Where a sum lies between two numbers of the type, either is as near.
    assert off.max() <= 1
    assert (off > 0).mean() < 2e-3


def test_each_thick_slice_is_clipped_to_its_own_range():
    data = noise((1, 4, 12, 12))
    data[0, 1] *= 100
    new = resample_splines(data, (8, 25, 25), THICK, NEW, order=3, force_separate_z=None)
    for z, layer in enumerate(new[0]):
        assert data[0, z // 2].min() <= layer.min() <= layer.max() <= data[0, z // 2].max()


def test_what_keeps_its_shape_is_not_touched():
    data = noise((1, 4, 5, 6))
    assert resample_splines(data, (4, 5, 6), THICK, NEW, force_separate_z=None) is data


def test_a_label_is_left_to_nnunet():
    label = (noise((1, 6, 20, 20)) > 0).astype(np.int8)
    given = ((9, 30, 10), THICK, NEW)
    how = {"is_seg": True, "order": 1, "force_separate_z": None}
    np.testing.assert_array_equal(
        resample_splines(label, *given, **how), nnunet(label, *given, **how)
    )


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 1, 3]))
def test_weights_of_a_new_voxel_sum_to_one(length, new_length, order):
    for matrix in (zoom_matrix, across_slices):
        weights = matrix(length, new_length, order)
        assert weights.shape == (new_length, length)
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_an_even_image_stays_even_and_a_range_is_kept(z, y, x, seed):
    data = noise((1, 3, 8, 7), seed=seed)
    new = resample_splines(data, (z, y, x), EVEN, NEW)
    assert data.min() <= new.min() <= new.max() <= data.max()
    even = resample_splines(np.full_like(data, 0.3), (z, y, x), EVEN, NEW)
    np.testing.assert_array_equal(even, np.float32(0.3))


class Planned:
    """What `FastResampling` needs of nnU-Net's class."""

    spacing = (1, 1, 1)
    configuration = {  # noqa: RUF012
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"order": 1, "force_separate_z": False},
        "resampling_fn_probabilities": "resample_torch_fornnunet",
    }
    resampling_fn_probabilities = "nnU-Net's"
    resampling_fn_seg = "nnU-Net's"


def test_a_configuration_keeps_what_is_resampled_in_another_way():
    fast = FastResampling(Planned(), to_train=False)
    assert fast.spacing == (1, 1, 1)
    data = noise((1, 3, 8, 7))
    np.testing.assert_array_equal(
        fast.resampling_fn_data(data, (6, 8, 7), THICK, NEW),
        resample_splines(data, (6, 8, 7), THICK, NEW, order=1),
    )
    assert fast.resampling_fn_probabilities == "nnU-Net's"
    assert FastResampling(Planned(), to_train=True).resampling_fn_seg == "nnU-Net's"


def test_to_predict_no_label_is_resampled():
    fast = FastResampling(Planned(), to_train=False)
    label = np.full((1, 3, 8, 7), -1, np.int8)
    empty = fast.resampling_fn_seg(label, np.array([6, 8, 7]), THICK, NEW)
    assert (empty.shape, empty.dtype, empty.any()) == ((1, 6, 8, 7), np.int8, False)
