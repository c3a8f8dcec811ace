import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as ndimage_label

from lnqtools.errors import LnqError
from lnqtools.images.layers import Layers
from lnqtools.labels import fill
from lnqtools.labels.training import count_labels

SHAPE = (3, 4, 5)
labels = arrays(np.uint8, SHAPE, elements=st.integers(0, 2))
masks = arrays(bool, SHAPE)


def by_anatomy(label: np.ndarray, structures: np.ndarray) -> fill.Filled:
    """Fill a label from structures alone."""
    return fill.fill_unknown(label, [fill.Verdict(None, structures, structures)], (1, 1, 1))


def test_only_unknown_voxels_of_structures_change():
    label = np.array([[[0, 1, 2, 0, 1, 2]]], np.uint8)
    structures = np.array([[[True, True, True, False, False, False]]])
    filled = by_anatomy(label, structures)
    assert filled.label.tolist() == [[[0, 1, 0, 0, 1, 2]]]
    assert label.tolist() == [[[0, 1, 2, 0, 1, 2]]]
    assert filled.outcomes == (fill.Outcome(background=1, vetoed=0, covered=1),)


@given(labels, masks)
def test_nodes_and_background_stay_and_unknown_only_shrinks(label, structures):
    result = by_anatomy(label, structures).label
    np.testing.assert_array_equal(result == 1, label == 1)
    np.testing.assert_array_equal(result[label == 0], 0)
    np.testing.assert_array_equal(result == 2, (label == 2) & ~structures)


def test_a_verdict_fills_what_those_before_it_leave_and_all_vetoes_hold_for_all():
    label = row(2, 2, 2, 2, 2, 1, dtype=np.uint8)
    first = fill.Verdict(node=row(1, 1, 0, 0, 0, 0, dtype=bool))
    second = fill.Verdict(
        node=row(0, 0, 0, 1, 1, 0, dtype=bool),
        background=row(1, 1, 1, 0, 0, 1, dtype=bool),
        veto=row(0, 1, 0, 1, 0, 0, dtype=bool),
    )
    third = fill.Verdict(veto=row(0, 0, 0, 0, 1, 0, dtype=bool))
    filled = fill.fill_unknown(label, [first, second, third], (1, 1, 1))
    assert filled.label.tolist() == [[[1, 0, 0, 2, 2, 1]]]
    assert filled.outcomes == (
        fill.Outcome(node=1, vetoed=1),
        fill.Outcome(background=2, vetoed=2, covered=1),
        fill.Outcome(vetoed=0),
    )
    assert fill.fill_unknown(label, [], (1, 1, 1)).label.tolist() == label.tolist()


@given(labels, st.lists(st.tuples(masks, masks, masks), max_size=3), st.floats(0, 6))
def test_the_counts_are_those_of_the_filled_label(label, said, least_mm3):
    verdicts = [fill.Verdict(node, background & ~node, veto) for node, background, veto in said]
    filled = fill.fill_unknown(label, verdicts, (1, 1, 1), min_volume_mm3=least_mm3)
    assert filled.counts(count_labels(label)) == count_labels(filled.label)


@given(labels, st.lists(st.tuples(masks, masks, masks), min_size=1, max_size=3))
def test_masks_may_be_made_a_layer_at_a_time(label, said):
    whole = [fill.Verdict(node, background & ~node, veto) for node, background, veto in said]
    layers = [
        fill.Verdict(
            *(Layers(len(mask), mask.__getitem__) for mask in (v.node, v.background, v.veto))
        )
        for v in whole
    ]
    expected = fill.fill_unknown(label, whole, (1, 1, 1))
    found = fill.fill_unknown(label, layers, (1, 1, 1))
    np.testing.assert_array_equal(found.label, expected.label)
    assert found.outcomes == expected.outcomes


@given(labels, masks, masks)
def test_background_may_be_filled_in_place(label, first, second):
    verdicts = [fill.Verdict(background=first, veto=first), fill.Verdict(background=second)]
    before = label.copy()
    expected = fill.fill_unknown(label, verdicts, (1, 1, 1))
    np.testing.assert_array_equal(label, before)
    found = fill.fill_unknown(label, verdicts, (1, 1, 1), in_place=True)
    assert found.label is label
    np.testing.assert_array_equal(label, expected.label)
    assert found.outcomes == expected.outcomes


def test_dense_voxels_of_the_lobes_are_not_used():
    structures = np.array([[[True, True, True, True]]])
    lobes = np.array([[[True, True, True, False]]])
    ct = np.array([[[-800, -300, -299, 50]]], np.int16)
    kept = fill.without_dense_lung(structures, lobes, ct, -300)
    assert kept.tolist() == [[[True, True, False, True]]]


def test_erosion_of_nothing_keeps_all():
    structures = np.ones(SHAPE, bool)
    structures[1, 2, 2] = False
    np.testing.assert_array_equal(fill.eroded(structures, 0.0, (1.0, 1.0, 1.0)), structures)
    with pytest.raises(LnqError, match=r"an erosion of 0\.9 mm reaches no voxel"):
        fill.eroded(structures, 0.9, (1.0, 1.0, 1.0))


def test_erosion_takes_what_is_near_the_outside_in_mm():
    structures = np.ones((5, 5, 5), bool)
    structures[2, 2, 2] = False
    eroded = fill.eroded(structures, 1.0, (3.0, 1.0, 1.0))
    lost = structures & ~eroded
    assert sorted(map(tuple, np.argwhere(lost))) == [(2, 1, 2), (2, 2, 1), (2, 2, 3), (2, 3, 2)]


@given(arrays(bool, (9, 6, 7)), st.floats(0.8, 4), st.sampled_from([1, 2, 4, 64]))
def test_erosion_agrees_with_distances_whatever_the_slab(structures, erode_mm, slab):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "SLAB", slab)
        check_erosion(structures, erode_mm)


def check_erosion(structures, erode_mm):
    spacing = (2.0, 1.0, 0.8)
    eroded = fill.eroded(structures, erode_mm, spacing)
    if structures.all():
        assert eroded.all()  # structures go on beyond the image's edge
    else:
        far = distance_transform_edt(structures, sampling=spacing) > erode_mm + 1e-5
        np.testing.assert_array_equal(eroded, structures & far)


# Teachers


def row(*values: float, dtype: type = np.float32) -> np.ndarray:
    """Return an array of one row."""
    return np.array([[values]], dtype)


@pytest.mark.parametrize(
    ("values", "range_"),
    [((-0.25, 0.5), "-0.25 to 0.5"), ((0.5, 1.001), "0.5 to 1"), ((-7.5, 12), "-7.5 to 12")],
)
def test_logits_are_no_probabilities(values, range_):
    with pytest.raises(LnqError, match=f"holds values from {range_}; probabilities lie between"):
        fill.check_probabilities(row(*values))


def test_a_mask_is_no_map_of_probabilities():
    with pytest.raises(LnqError, match="holds whole numbers, as a mask does"):
        fill.check_probabilities(row(0, 1, dtype=np.uint8))


def test_nan_is_no_probability():
    with pytest.raises(LnqError, match="probabilities lie between 0 and 1"):
        fill.check_probabilities(row(0.5, np.nan))


def test_probabilities_reach_from_0_to_1():
    fill.check_probabilities(row(0, 1))


def test_a_teacher_is_sure_above_and_below_not_at_the_limits():
    verdict = fill.teachers_verdict(
        [row(0, 0.25, 0.26, 0.74, 0.75, 1)], node_above=0.74, background_below=0.26, agree=1
    )
    assert verdict.node.tolist() == [[[False, False, False, False, True, True]]]
    assert verdict.background.tolist() == [[[True, True, False, False, False, False]]]


def test_the_extreme_limits_find_nothing():
    verdict = fill.teachers_verdict([row(0, 0.5, 1)], node_above=1, background_below=0, agree=1)
    assert not verdict.node.any()
    assert not verdict.background.any()


@pytest.mark.parametrize(
    ("agree", "node", "background"),
    [
        (1, [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]),
        (2, [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]),
        (3, [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]),
    ],
)
def test_so_many_teachers_must_agree_and_not_as_many_on_the_contrary(agree, node, background):
    teachers = [
        row(0.9, 0.9, 0.9, 0.9, 0.1, 0.1),
        row(0.9, 0.9, 0.9, 0.1, 0.1, 0.1),
        row(0.9, 0.5, 0.1, 0.1, 0.5, 0.1),
    ]
    verdict = fill.teachers_verdict(
        iter(teachers), node_above=0.8, background_below=0.2, agree=agree
    )
    assert verdict.node.astype(int).tolist() == [[node]]
    assert verdict.background.astype(int).tolist() == [[background]]


def test_votes_are_counted_to_255():
    maps = [row(0.9)] * 255
    verdict = fill.teachers_verdict(maps, node_above=0.5, background_below=0, agree=255)
    assert verdict.node.all()
    with pytest.raises(LnqError, match="there are more than 255 teachers"):
        fill.teachers_verdict([*maps, row(0.9)], node_above=0.5, background_below=0, agree=1)


def test_only_unknown_voxels_are_filled():
    label = row(0, 1, 2, 0, 1, 2, 2, dtype=np.uint8)
    node = row(1, 1, 1, 0, 0, 0, 0, dtype=bool)
    background = row(0, 0, 0, 1, 1, 1, 0, dtype=bool)
    filled = fill.fill_unknown(label, [fill.Verdict(node, background)], (1, 1, 1))
    assert filled.label.tolist() == [[[0, 1, 1, 0, 1, 0, 2]]]
    assert label.tolist() == [[[0, 1, 2, 0, 1, 2, 2]]]
    assert filled.outcomes == (fill.Outcome(1, 1, covered=1),)


def test_no_voxel_becomes_node_where_it_is_vetoed():
    label = row(2, 2, 2, 2, 1, dtype=np.uint8)
    verdict = fill.Verdict(row(1, 1, 0, 0, 1, dtype=bool), row(0, 0, 1, 1, 0, dtype=bool))
    veto = row(1, 0, 1, 0, 1, dtype=bool)
    filled = fill.fill_unknown(label, [verdict, fill.Verdict(veto=veto)], (1, 1, 1))
    assert filled.label.tolist() == [[[2, 1, 0, 0, 1]]]
    assert filled.outcomes[0] == fill.Outcome(node=1, background=2, vetoed=1)


def test_a_new_node_is_as_large_as_what_it_joins():
    """Runs of 1, 2 and 3 voxels; the first two touch drawn voxels, so they are 2 and 5 long."""
    label = row(1, 2, 0, 2, 2, 1, 1, 1, 0, 2, 2, 2, dtype=np.uint8)
    verdict = fill.Verdict(label == 2, np.zeros(label.shape, bool))

    def filled(min_volume_mm3: float) -> fill.Filled:
        return fill.fill_unknown(label, [verdict], (2, 1, 1), min_volume_mm3=min_volume_mm3)

    assert filled(4).label.tolist() == [[[1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1]]]
    assert filled(5).label.tolist() == [[[1, 2, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1]]]
    assert filled(7).label.tolist() == [[[1, 2, 0, 1, 1, 1, 1, 1, 0, 2, 2, 2]]]
    assert filled(11).label.tolist() == label.tolist()
    assert fill.teacher_columns(filled(7).outcomes[0]) == {
        "voxels_teacher_foreground": 2,
        "voxels_teacher_background": 0,
        "voxels_teacher_small": 4,
        "voxels_teacher_vetoed": None,
    }


def test_voxels_that_a_veto_cuts_off_are_judged_alone():
    label = row(2, 2, 2, 2, 2, dtype=np.uint8)
    verdict = fill.Verdict(np.ones(label.shape, bool), veto=row(0, 1, 0, 0, 0, dtype=bool))
    filled = fill.fill_unknown(label, [verdict], (1, 1, 1), min_volume_mm3=3)
    assert filled.label.tolist() == [[[2, 2, 1, 1, 1]]]
    assert filled.outcomes[0].small == 1


def test_the_least_diameter_is_in_mm_by_the_metric():
    """A cube of 3 voxels a side; spacing 3 × 1 × 1 mm: inscribed 4, RECIST √ 18, sphere 5.37."""
    label = np.full((7, 7, 7), 2, np.uint8)
    node = np.zeros(label.shape, bool)
    node[2:5, 2:5, 2:5] = True
    verdict = fill.Verdict(node, np.zeros(label.shape, bool))
    for metric, diameter in (
        ("inscribed", 4),
        ("recist", np.sqrt(18)),
        ("sphere", np.cbrt(6 * 81 / np.pi)),
    ):
        for factor, count in ((0.999, 27), (1.001, 0)):
            filled = fill.fill_unknown(
                label, [verdict], (3.0, 1.0, 1.0), min_mm=factor * diameter, metric=metric
            )
            assert filled.outcomes == (fill.Outcome(count, small=27 - count),), metric
            np.testing.assert_array_equal(filled.label == 1, node & (count > 0))


probabilities = arrays(np.float32, SHAPE, elements=st.sampled_from([0, 0.1, 0.3, 0.5, 0.9, 1]))


@given(
    labels,
    st.lists(probabilities, min_size=1, max_size=3),
    masks,
    st.sampled_from([(0.5, 0.5), (0.8, 0.2), (0.9, 0.1), (1, 0.5), (0.5, 0)]),
    st.integers(1, 3),
    st.floats(0, 6),
)
def test_filling_keeps_its_promises(label, maps, veto, limits, agree, min_mm):
    spacing = (2.0, 1.0, 1.5)
    agree = min(agree, len(maps))
    fg, bg = limits
    verdict = fill.teachers_verdict(maps, node_above=fg, background_below=bg, agree=agree)
    verdicts = [fill.Verdict(veto=veto), verdict]
    filled = fill.fill_unknown(label, verdicts, spacing, min_mm=min_mm, metric="sphere")
    result, stack = filled.label, np.stack(maps)
    np.testing.assert_array_equal(result[label != 2], label[label != 2])
    new = (label == 2) & (result == 1)
    for_node, for_background = (stack > fg).sum(axis=0), (stack < bg).sum(axis=0)
    assert not (new & veto).any()
    assert (for_node[new] >= agree).all()
    wanted = (label == 2) & ~veto & (for_node >= agree) & (for_background < agree)
    np.testing.assert_array_equal(
        (label == 2) & (result == 0),
        (label == 2) & (for_background >= agree) & (for_node < agree),
    )
    parts, count = ndimage_label(wanted | (label == 1))
    for number in range(1, count + 1):
        part = parts == number
        large = (6 * part.sum() * 3 / np.pi) ** (1 / 3) >= min_mm * (1 - 1e-6)
        np.testing.assert_array_equal(new[part], wanted[part] & large)
    outcome = filled.outcomes[1]
    assert (outcome.node, outcome.small) == (new.sum(), (wanted & ~new).sum())
    assert outcome.background == ((label == 2) & (result == 0)).sum()
    assert outcome.vetoed == ((label == 2) & verdict.node & veto).sum()
    again = fill.fill_unknown(result, verdicts, spacing, min_mm=min_mm, metric="sphere")
    np.testing.assert_array_equal(again.label, result)


@given(labels, st.lists(probabilities, min_size=3, max_size=3), st.permutations([0, 1, 2]))
def test_all_of_more_teachers_agree_on_less_in_any_order(label, maps, order):
    def filled(chosen: list[np.ndarray]) -> np.ndarray:
        verdict = fill.teachers_verdict(
            chosen, node_above=0.8, background_below=0.2, agree=len(chosen)
        )
        return fill.fill_unknown(label, [verdict], (1, 1, 1)).label

    three = filled(maps)
    np.testing.assert_array_equal(filled([maps[k] for k in order]), three)
    two = filled(maps[:2])
    np.testing.assert_array_equal(three[three != 2], two[three != 2])
