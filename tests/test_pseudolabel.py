import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from lnqtools import pseudolabel
from lnqtools.errors import LnqError

SHAPE = (3, 4, 5)
labels = arrays(np.uint8, SHAPE, elements=st.integers(0, 2))
masks = arrays(bool, SHAPE)


def test_only_unknown_voxels_of_structures_change():
    label = np.array([[[0, 1, 2, 0, 1, 2]]], np.uint8)
    structures = np.array([[[True, True, True, False, False, False]]])
    assert pseudolabel.apply_anatomy(label, structures).tolist() == [[[0, 1, 0, 0, 1, 2]]]
    assert label.tolist() == [[[0, 1, 2, 0, 1, 2]]]
    assert pseudolabel.covered_node_voxels(label, structures) == 1


@given(labels, masks)
def test_nodes_and_background_stay_and_unknown_only_shrinks(label, structures):
    result = pseudolabel.apply_anatomy(label, structures)
    np.testing.assert_array_equal(result == 1, label == 1)
    np.testing.assert_array_equal(result[label == 0], 0)
    np.testing.assert_array_equal(result == 2, (label == 2) & ~structures)


def test_dense_voxels_of_the_lobes_are_not_used():
    structures = np.array([[[True, True, True, True]]])
    lobes = np.array([[[True, True, True, False]]])
    ct = np.array([[[-800, -300, -299, 50]]], np.int16)
    kept = pseudolabel.without_dense_lung(structures, lobes, ct, -300)
    assert kept.tolist() == [[[True, True, False, True]]]


def test_erosion_of_nothing_keeps_all():
    structures = np.ones(SHAPE, bool)
    structures[1, 2, 2] = False
    np.testing.assert_array_equal(pseudolabel.eroded(structures, 0.0, (1.0, 1.0, 1.0)), structures)
    with pytest.raises(LnqError, match=r"an erosion of 0\.9 mm reaches no voxel"):
        pseudolabel.eroded(structures, 0.9, (1.0, 1.0, 1.0))


def test_erosion_takes_what_is_near_the_outside_in_mm():
    structures = np.ones((5, 5, 5), bool)
    structures[2, 2, 2] = False
    eroded = pseudolabel.eroded(structures, 1.0, (3.0, 1.0, 1.0))
    lost = structures & ~eroded
    assert sorted(map(tuple, np.argwhere(lost))) == [(2, 1, 2), (2, 2, 1), (2, 2, 3), (2, 3, 2)]


@given(arrays(bool, (9, 6, 7)), st.floats(0.8, 4), st.sampled_from([1, 2, 4, 64]))
def test_erosion_agrees_with_distances_whatever_the_slab(structures, erode_mm, slab):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudolabel, "SLAB", slab)
        check_erosion(structures, erode_mm)


def check_erosion(structures, erode_mm):
    spacing = (2.0, 1.0, 0.8)
    eroded = pseudolabel.eroded(structures, erode_mm, spacing)
    if structures.all():
        assert eroded.all()  # structures go on beyond the image's edge
    else:
        far = distance_transform_edt(structures, sampling=spacing) > erode_mm + 1e-5
        np.testing.assert_array_equal(eroded, structures & far)
