"""Which labels or regions of a model are lymph nodes; masks are made of the maps' numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from tests.nnunet.test_nnunet import image, nnunets_own
from tests.nnunet_data import random_model, volume

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from nnunetv2.utilities.label_handling.label_handling import LabelManager  # noqa: E402

from lnqtools.nnunet.node_label import (  # noqa: E402
    NodeLabel,
    find_node_label,
    is_node_name,
)
from lnqtools.nnunet.predict import Ensemble, Predictor  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


# Names


def found(labels: dict, wanted=None, order=None, **options) -> NodeLabel:
    return find_node_label(labels, LabelManager(labels, order), wanted, **options)


def labels(*names: str) -> dict:
    return {name: value for value, name in enumerate(("background", *names))}


@pytest.mark.parametrize(
    "name",
    [
        *("lymph_node", "Lymph-Nodes", "lymphnode", "mediastinal_lymph_nodes", "lymph nodal GTV"),
        *("LN", "lns", "LN_4R", "mediastinal LN", "ln2", "node", "Nodes", "lymph_node_7"),
    ],
)
def test_names_that_say_lymph_node(name):
    assert is_node_name(name)
    assert found(labels("aorta", name)) == NodeLabel((name,), (2,), 3, False, True)


@pytest.mark.parametrize(
    "name", ["GTVn", "nodule", "AV node", "colon", "lymphoma", "kln", "aln", "lnx", "nodes_etc"]
)
def test_names_that_do_not(name):
    assert not is_node_name(name)
    with pytest.raises(LnqError, match="none of the model's labels is called lymph_node"):
        found(labels("aorta", name))


def test_the_only_label_is_taken_and_not_certain():
    assert found(labels("GTVn")) == NodeLabel(("GTVn",), (1,), 2, False, certain=False)
    assert found(labels("GTVn"), ["GTVn"]).certain


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("GTVp", "GTVn"), r": GTVp, GTVn; say which it is with --label GTVn$"),
        (("liver", "spleen"), r": liver, spleen; say which it is with --label NAME$"),
        (
            ("lymph_node_4R", "aorta", "lymph_node_7"),
            r"^2 of the model's labels could be the lymph nodes: lymph_node_4R, lymph_node_7; .* "
            r"--label lymph_node_4R or, for their union, --label lymph_node_4R,lymph_node_7$",
        ),
        (("node", "lymph_node"), "2 of the model's labels could be the lymph nodes: node, lymph_n"),
        ([f"part {k}" for k in range(117)], r"part 18, part 19 and 97 more; say"),
        ((), "no label but the background"),
    ],
)
def test_what_could_be_another_is_refused_and_listed(names, message):
    with pytest.raises(LnqError, match=message):
        found(labels(*names))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["gtvn"], r"^has no label gtvn, did you mean GTVn\? Its labels are GTVp, GTVn$"),
        (["GTVn", "heart"], r"^has no label heart; its labels are GTVp, GTVn$"),
        (["background"], "has no label background"),
    ],
)
def test_a_label_that_the_model_lacks_is_told_with_those_it_has(wanted, message):
    with pytest.raises(LnqError, match=message):
        found(labels("GTVp", "GTVn"), wanted)


def test_another_model_may_have_the_other_labels_but_not_all():
    node = found(labels("GTVp", "GTVn"), ["LN", "GTVn"], elsewhere=True)
    assert (node.names, node.channels) == (("GTVn",), (2,))
    with pytest.raises(LnqError, match="has no label LN;"):
        found(labels("GTVp", "GTVn"), ["LN", "heart"], elsewhere=True)


def test_regions_are_counted_without_background_and_ignore():
    regions = {"background": 0, "chest": [1, 2, 3], "ignore": 4, "LN": [2, 3], "core": 3}
    node = found(regions, order=[1, 2, 3])
    assert node == NodeLabel(("LN",), (1,), 3, regions=True, certain=True)
    assert found(regions, ["core", "LN"], [1, 2, 3]).channels == (1, 2)


def test_two_names_of_one_label_count_once():
    assert found({"background": 0, "a": 1, "b": 1}, ["a", "b"]).channels == (1,)


# Probabilities of a union


def test_probabilities_of_labels_add_up_and_of_regions_the_largest_counts():
    of_each = torch.tensor([[0.25, 0.5], [0.5, 0.125], [0.25, 0.375]])[:, None, None]
    union = NodeLabel(("a", "b"), (1, 2), 3, regions=False, certain=True)
    assert union.probability(of_each).tolist() == [[[0.75, 0.5]]]
    union = NodeLabel(("a", "b"), (0, 2), 3, regions=True, certain=True)
    assert union.probability(union.needed(of_each)).tolist() == [[[0.25, 0.5]]]


def test_of_several_labels_the_most_probable_wins_of_one_or_a_region_a_half():
    logits = torch.tensor([[0.0, 3.0], [2.0, 0.0], [1.0, 2.0]])[:, None, None]
    for channels, mask in (((1,), [1, 0]), ((2,), [0, 0]), ((1, 2), [1, 0])):
        node = NodeLabel(("a",), channels, 3, regions=False, certain=True)
        assert node.most_probable(logits).tolist() == [[mask]]
        assert node.most_probable_wins
    assert not NodeLabel(("a",), (1,), 2, regions=False, certain=True).most_probable_wins
    assert not NodeLabel(("a",), (1,), 3, regions=True, certain=True).most_probable_wins


# Masks, maps and thresholds, of every kind of model

NESTED = {"background": 0, "lymph_node": [1, 2], "necrosis": 2}
OVERLAPPING = {"background": 0, "chest": [1, 2], "nodes": [2, 3], "LN 7": [1, 3]}
OF_THREE = {"background": 0, "LN": 1, "vessel": 2}
KINDS = {
    "two classes": {},
    "two classes, two folds": {"folds": ("0", "1")},
    "three classes": {"labels": OF_THREE},
    "three classes, two folds": {"labels": OF_THREE, "folds": ("0", "1")},
    "three classes, two of them": {"labels": OF_THREE, "wanted": ["vessel", "LN"]},
    "nested regions": {"labels": NESTED, "order": [1, 2]},
    "nested regions, two folds": {"labels": NESTED, "order": [1, 2], "folds": ("0", "1")},
    "overlapping regions": {"labels": OVERLAPPING, "order": [1, 2, 3], "wanted": ["nodes"]},
    "two of the regions": {"labels": OVERLAPPING, "order": [1, 2, 3], "wanted": ["nodes", "LN 7"]},
}
SPACINGS = {"alike": (2.0, 1.3, 1.0), "slices apart": (5.0, 0.9, 0.9)}
SHAPE = (14, 22, 20)


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory):
    """Return what makes a model of a kind once, and its folder."""

    @cache
    def make(kind: str) -> tuple[Ensemble, list]:
        if kind == "ensemble":
            made = [make(name) for name in ("two classes, two folds", "three classes")]
            return Ensemble([one for part, _ in made for one in part.models]), []
        options = {**KINDS[kind]}
        wanted, order = options.pop("wanted", None), options.pop("order", None)
        extra = {"regions_class_order": order} if order else {}
        folder = tmp_path_factory.mktemp("kinds") / "m"
        random_model(folder, extra=extra, eagerness=0.3, **options)
        model = Predictor(folder, device="cpu", threads=1, mirroring=False, label=wanted)
        return Ensemble([model]), [folder, tuple(map(int, options.get("folds", "0")))]

    return make


@pytest.fixture(scope="module")
def maps(ensembles):
    """Return what predicts with a model of a kind once: its map, and its masks by threshold."""

    @cache
    def predicted(kind: str, spacing: str):
        array = image(SHAPE)
        array[:, :3] = 0  # cropped off by nnU-Net
        ct = volume(array, SPACINGS[spacing])
        ensemble, origin = ensembles(kind)

        def mask(threshold: float | None, **more) -> np.ndarray:
            return ensemble.predict(ct, threshold=threshold, **more).mask

        whole = ensemble.predict(ct, with_probability=True)
        return array, whole, mask, ensemble.models[0].node, origin

    return predicted


each_spacing = pytest.mark.parametrize("spacing", SPACINGS)


@each_spacing
@pytest.mark.parametrize("kind", [*KINDS, "ensemble"])
@settings(max_examples=4)
@given(share=st.floats(0.02, 0.98), of_values=st.booleans())
@example(share=0.5, of_values=False)
def test_a_mask_is_where_the_map_is_above_the_threshold(maps, kind, spacing, share, of_values):
    _, whole, mask, *_ = maps(kind, spacing)
    found = whole.probability
    threshold = float(np.quantile(found[found > 0], share, method="lower")) if of_values else share
    made = mask(threshold)
    np.testing.assert_array_equal(made == 1, found > np.float32(threshold))
    assert made.dtype == np.uint8
    if of_values:  # which holds of no mask of all voxels or none
        assert 0 < made.mean() < 1


@each_spacing
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_threshold_it_is_plain_nnunets(maps, kind, spacing):
    array, whole, mask, node, (folder, folds) = maps(kind, spacing)
    segmentation, probabilities = nnunets_own(folder, array, SPACINGS[spacing], False, folds)
    if node.most_probable_wins:
        expected = np.isin(segmentation, node.channels)  # of which the values are those
    elif node.regions:
        expected = (probabilities[list(node.channels)] > 0.5).any(0)
    else:
        expected = segmentation == 1
    assert 0.02 < expected.mean() < 0.98
    if kind.startswith("two classes") and spacing == "alike":  # resampled before it is rounded
        assert (expected != whole.mask).mean() < 1e-3
    else:
        np.testing.assert_array_equal(whole.mask == 1, expected)
    np.testing.assert_array_equal(mask(None), whole.mask)
    if not node.most_probable_wins:
        np.testing.assert_array_equal(whole.mask == 1, whole.probability > 0.5)


def test_the_kinds_differ_in_what_they_are_made_for(maps):
    """The most probable of three need not be above ½, and a nested region no value of the map."""
    _, whole, mask, *_ = maps("three classes", "alike")
    assert (whole.mask != mask(0.5)).mean() > 0.005
    array, whole, _, node, (folder, _) = maps("nested regions", "alike")
    segmentation = nnunets_own(folder, array, SPACINGS["alike"], False)[0]
    assert ((segmentation == 1) != whole.mask).mean() > 0.02
    assert node.channels == (0,)


def test_the_union_of_regions_is_that_of_their_masks(maps, ensembles):
    array, whole, *_, (folder, _) = maps("two of the regions", "alike")
    ct = volume(array, SPACINGS["alike"])
    options = {"device": "cpu", "threads": 1, "mirroring": False}
    masks = [
        Predictor(folder, label=[name], **options).predict(ct, threshold=0.6)
        for name in ("nodes", "LN 7")
    ]
    union = ensembles("two of the regions")[0].predict(ct, threshold=0.6)
    np.testing.assert_array_equal(union.mask, masks[0].mask | masks[1].mask)
    assert all(one.mask.sum() < union.mask.sum() for one in masks)
    assert whole.mask.sum() > union.mask.sum()
