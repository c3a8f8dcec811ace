"""The stand-ins for TotalSegmentator's weights do what tests of real runs take for granted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.totalseg_data import PATCH, TASK_IDS, write_surrogate_weights

pytest.importorskip("totalsegmentator")

LOBE, AORTA, VERTEBRA = 11, 52, 39


def labels_by(model: Path, patches: np.ndarray) -> np.ndarray:
    """Return what a model makes of patches of HU: as nnU-Net does, from its files alone."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans = json.loads((model / "plans.json").read_text())
    labels = json.loads((model / "dataset.json").read_text())["regions_class_order"]
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    network = get_network_from_plans(*architecture.values(), 1, len(labels), deep_supervision=False)
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=True)
    network.load_state_dict(checkpoint["network_weights"])
    with torch.inference_mode():
        logits = network(torch.from_numpy(patches.astype(np.float32))[:, None]).numpy()
    found = np.zeros(patches.shape, int)
    for channel, label in enumerate(labels):
        found[logits[:, channel] > 0] = label
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return the folder of each model by its task id."""
    folder = tmp_path_factory.mktemp("weights")
    write_surrogate_weights(folder, TASK_IDS)
    checkpoints = folder.glob("Dataset*/*/fold_0/checkpoint_final.pth")
    return {int(c.parts[-4][7:10]): c.parent.parent for c in checkpoints}


@pytest.mark.parametrize(
    ("task_id", "labels"),
    [
        (297, [0, LOBE, LOBE, 0, 0, AORTA, AORTA, VERTEBRA, VERTEBRA, VERTEBRA]),
        (298, [0, LOBE, LOBE, 0, 0, AORTA, AORTA, VERTEBRA, VERTEBRA, VERTEBRA]),
        (291, [0, 11, 11, 0, 0, 0, 0, 0, 0, 0]),
        (292, [0, 0, 0, 0, 0, 0, 0, 15, 15, 15]),
        (293, [0, 0, 0, 0, 0, 2, 2, 0, 0, 0]),
        (294, [0] * 10),
        (295, [0] * 10),
        (117, [0, 0, 0, 0, 0, 3, 3, 3, 0, 0]),
        (343, [0, 2, 2, 0, 4, 0, 0, 0, 0, 0]),
    ],
)
def test_bands_end_where_they_say(models, task_id, labels):
    hu = [-931, -930, -701, -700, 109, 110, 199, 200, 250, 3071]
    patches = np.stack([np.full((24, 24, 24), value) for value in hu])
    found = labels_by(models[task_id], patches)
    assert found[:, 12, 12, 12].tolist() == labels


@pytest.mark.parametrize("task_id", [297, 298, 291])
def test_a_rim_of_lung_hu_between_gas_and_flesh_is_not_lung(models, task_id):
    patch = np.full((1, *PATCH), 40)
    patch[:, :22] = -1000
    patch[:, 22] = -800
    assert not (labels_by(models[task_id], patch) == LOBE).any()
    patch[:, 22:40] = -800
    found = labels_by(models[task_id], patch)[0, :, 24, 24]
    assert found[24:37].tolist() == [LOBE] * 13
    assert not found[:22].any()
