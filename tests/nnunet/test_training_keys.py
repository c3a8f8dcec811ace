"""Trainings by other keys than nnU-Net's: resumed, unknown voxels that count, and not mirrored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lnqtools.errors import LnqError
from lnqtools.nnunet.dataset import TrainingCase
from lnqtools.nnunet.recipes import find_recipe
from lnqtools.nnunet.settings import Listeners, RunSettings, TrainingData
from tests.conftest import affine, load, save, succeed
from tests.nnunet_data import volume, write_bright_nodes

pytest.importorskip("nnunetv2")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

QUICK = ("fold=all", "patch=16", "iterations=2", "validation_iterations=1")
OTHERS = (
    *("optimizer=adamw", "learning_rate=0.01", "schedule=cosine", "warmup=3", "batch_dice=true"),
    *("augmentation=intensity", "mirror=false", "deep_supervision=false", "loss=tversky_ce"),
    "unknown=0.3",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    write_bright_nodes(folder, 2)
    return folder


def learn(folder: Path, model: Path, *settings: str, labels: str = "label", **heard) -> Path:
    """Train on the cases of a folder; what is told is given to whom ``heard`` names."""
    from lnqtools.nnunet.train import train

    cases = [
        TrainingCase(path.name.removesuffix(".nii.gz"), path, folder / labels / path.name)
        for path in sorted((folder / "ct").iterdir())
    ]
    run = RunSettings(existing="keep", device="cpu", threads=1)
    recipe = find_recipe("smoke").with_settings([*QUICK, *settings])
    return train(TrainingData(cases), model, recipe, run, Listeners(**heard))


def checkpoint_of(model: Path) -> dict:
    from lnqtools.nnunet.checkpoint import load_checkpoint

    return load_checkpoint(model / "fold_all" / "checkpoint_final.pth")


class Stopped(BaseException):
    """What ends a training from within, as a signal would."""


@pytest.fixture(scope="module")
def resumed(folder) -> Path:
    """Return a model of other keys that was stopped in the midst of its warm-up, and resumed."""

    def stop(*_):
        raise Stopped

    with pytest.raises(Stopped):
        learn(folder, folder / "model", *OTHERS, "epochs=3", progress=stop)
    return learn(folder, folder / "model", *OTHERS, "epochs=3")


def test_a_resumed_training_ends_as_one_that_was_not_stopped(folder, resumed, tmp_path):
    import torch

    straight = checkpoint_of(learn(folder, tmp_path / "m", *OTHERS, "epochs=3"))
    gone_on = checkpoint_of(resumed)
    assert gone_on["current_epoch"] == 3
    for name, weight in straight["network_weights"].items():
        assert torch.equal(weight, gone_on["network_weights"][name])
    # Of the batches 0, 2 and 4 of a warm-up of 3: 1/3, 1 and 1, by the cosine of thirds.
    assert gone_on["logging"]["lrs"] == pytest.approx([0.01 / 3, 0.01 * 0.75, 0.01 * 0.25])


def test_a_model_says_what_it_was_trained_with(resumed):
    made = json.loads((resumed / "lnq-train.json").read_text())["made_with"]["recipe"]
    assert made == find_recipe("smoke").with_settings([*QUICK, *OTHERS, "epochs=3"]).learned()
    assert (made["mirror"], made["unknown"], made["optimizer"]) == (False, 0.3, "adamw")
    plans = json.loads((resumed / "plans.json").read_text())["configurations"]["3d_fullres"]
    assert plans["batch_dice"] is True
    assert checkpoint_of(resumed)["inference_allowed_mirroring_axes"] is None


def test_what_was_not_mirrored_is_predicted_from_each_patch_once(folder, resumed, tmp_path):
    from lnqtools.nnunet.predict import Predictor

    predictor = Predictor(resumed, device="cpu", threads=1)
    seen = []
    predictor._model.network.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    ct = volume(load(folder / "ct" / "case 0.nii.gz"), (1.5, 1.0, 1.0))
    predictor.predict(ct)
    assert sum(seen) == predictor.patch_count(ct.grid) > 1
    command = ["lnq-infer", folder / "ct" / "case 0.nii.gz", "-m", resumed, "--device", "cpu"]
    for option in ("--mirror", "--no-mirror"):
        succeed(*command, "--lungs", "none", option, "-o", tmp_path / f"{option}.nii.gz")
    first, second = (load(tmp_path / f"{option}.nii.gz") for option in ("--mirror", "--no-mirror"))
    assert np.array_equal(first, second)
    assert 0 < first.mean() < 1


def test_some_axes_are_mirrored_in_both(folder, tmp_path):
    from lnqtools.nnunet.predict import Predictor

    model = learn(folder, tmp_path / "m", "mirror=z,x", "epochs=1", "augmentation=da5")
    assert checkpoint_of(model)["inference_allowed_mirroring_axes"] == (0, 2)
    assert Predictor(model, device="cpu").evaluations_per_patch == 4


def test_unknown_voxels_of_weight_1_are_background(folder, tmp_path):
    """Of labels that know nodes alone, which nothing else would let anybody train on."""
    import torch

    for case in (folder / "label").iterdir():
        nodes = load(case) == 1
        for kind, rest in (("nodes", 2), ("background", 0)):
            label = np.where(nodes, 1, rest).astype(np.uint8)
            save(tmp_path / kind / case.name, label, affine((1.0, 1.0, 1.5)))
        save(tmp_path / "ct" / case.name, load(folder / "ct" / case.name), affine((1.0, 1.0, 1.5)))
    with pytest.raises(LnqError, match="no voxel of a case is labeled background"):
        learn(tmp_path, tmp_path / "refused", labels="nodes")
    told: list[str] = []
    weights = [
        checkpoint_of(
            learn(
                tmp_path,
                tmp_path / f"of {labels}",
                *("epochs=1", "augmentation=none", f"unknown={unknown}"),
                labels=labels,
                notify=told.append,
            )
        )["network_weights"]
        for labels, unknown in (("nodes", 1), ("background", "ignore"))
    ]
    assert not [line for line in told if "background," in line or "no patch" in line]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-5)
