"""A pair of masks: what is found in it is what others find, and it is found once."""

from __future__ import annotations

import numpy as np
import pytest

from lnqtools.components import labeling
from lnqtools.components.labeling import find_components, find_instances
from lnqtools.components.matching import find_lesions
from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.metrics import masks, pairs, surfaces
from lnqtools.metrics.pairs import MaskPair
from tests.conftest import affine

SPACING = (2.5, 1.0, 0.5)


def numbered() -> tuple[np.ndarray, np.ndarray]:
    """Two nodes that touch, 1 and 2, and one apart, 3; the prediction has two of them."""
    reference = np.zeros((6, 8, 10), np.uint8)
    reference[1:3, 1:4, 1:4], reference[1:3, 1:4, 4:6], reference[5, 6:8, 8:10] = 1, 2, 3
    prediction = np.where(reference == 1, 4, 0).astype(np.uint8)
    prediction[1:3, 1:4, 4:7] = 7
    return prediction, reference


@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("grid", [SPACING, Grid.from_affine((6, 8, 10), affine((0.5, 1, 2.5)))])
def test_components_and_partners_are_those_of_find_lesions(grid, instances):
    pair = MaskPair(*numbered(), grid, instances=instances)
    for ours, theirs in zip(
        pair.lesions, find_lesions(*numbered(), grid, instances=instances), strict=True
    ):
        for name in ("ids", "voxel_counts", "boxes", "centroids", "run_starts", "run_offsets"):
            here, there = (getattr(side.components, name) for side in (ours, theirs))
            np.testing.assert_array_equal(here, there)
        np.testing.assert_array_equal(ours.partners, theirs.partners)
        np.testing.assert_array_equal(ours.ious, theirs.ious)
    counts = (2, 3) if instances else (1, 2)
    assert (pair.predicted.component_count, pair.true.component_count) == counts
    find = find_instances if instances else find_components
    assert pair.true.components.count == find(numbered()[1], grid).count


def test_volumes_and_voxels_by_hand():
    pair = MaskPair(*numbered(), SPACING)
    assert (pair.predicted.voxels, pair.true.voxels, pair.common_voxels) == (36, 34, 30)
    assert pair.true.voxel_ml == 0.00125
    assert (pair.predicted.volume_ml, pair.true.volume_ml) == (36 * 0.00125, 34 * 0.00125)


@pytest.mark.parametrize(
    ("drawn", "status"),
    [
        ((True, True), "ok"),
        ((False, True), "empty_prediction"),
        ((True, False), "empty_reference"),
        ((False, False), "both_empty"),
    ],
)
def test_which_masks_are_empty(drawn, status):
    arrays = [np.full((2, 2, 2), is_drawn) for is_drawn in drawn]
    assert MaskPair(*arrays, SPACING).status == status


def test_all_that_is_asked_of_a_pair_is_found_once(monkeypatch):
    calls = []

    def counted(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, **named: calls.append(name) or function(*given, **named)
        )

    for module, name in (
        (surfaces, "foreground_indices"),
        (labeling, "foreground_indices"),
        (pairs, "label_runs"),
        (labeling, "label_runs"),
        (pairs, "distances_between"),
        (pairs, "compare_components"),
    ):
        counted(module, name)
    pair = MaskPair(*numbered(), SPACING)
    assert calls == []
    rows = [masks.described_row(pair, (1.0, 2.0)) for _ in range(2)]
    assert rows[0] == rows[1]
    assert pair.lesions is pair.lesions
    assert (pair.status, pair.predicted.components.count) == ("ok", 1)
    assert sorted(calls) == [
        "compare_components",
        "distances_between",
        *["foreground_indices"] * 2,
        *["label_runs"] * 2,
    ]


def test_a_preset_refuses_a_pair_with_another_edge():
    pair = MaskPair(*numbered(), SPACING)
    with pytest.raises(LnqError, match="preset lnq2023 takes the image edge for open, not surface"):
        masks.row_as("lnq2023", pair)


def test_a_grid_of_another_size_is_refused():
    with pytest.raises(LnqError, match="differ in size"):
        MaskPair(*numbered(), Grid.of_spacing((6, 8, 9), SPACING))
