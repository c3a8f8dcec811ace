"""What nnU-Net makes of a model: trainers of one's own, classes that are missing, weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lnqtools.errors import LnqError
from lnqtools.nnunet.loading import nnunet_reads
from tests.nnunet.test_nnunet import image, nnunets_own
from tests.nnunet_data import predictor, random_model, volume

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")


SPACING = (2.0, 1.3, 1.0)
TRAINER = "nnUNetTrainerMine"


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), SystemExit("at\nonce")])
def test_whatever_is_raised_at_the_door_is_one_sentence(error):
    with pytest.raises(LnqError) as caught, nnunet_reads("it", "do that"):
        raise error
    words = {"KeyError": "KeyError: 'x'", "AssertionError": "AssertionError"}
    said = words.get(type(error).__name__, "SystemExit: at")
    assert str(caught.value).endswith(f" cannot read it ({said}): do that")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [LnqError("no"), MemoryError(), KeyboardInterrupt()])
def test_what_is_a_sentence_or_no_fault_of_the_model_passes_the_door(error):
    with pytest.raises(type(error)) as caught, nnunet_reads("it"):
        raise error
    assert caught.value is error


# Trainers


def of_trainer(model: Path, name: str = TRAINER) -> Path:
    """Let a model be one of another trainer."""
    path = model / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(path, weights_only=False) | {"trainer_name": name}, path)
    return model


HEAD = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
OLD_SIGNATURE = f"""{HEAD}
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
class {TRAINER}(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(architecture_class_name, arch_init_kwargs,
            arch_init_kwargs_req_import, num_input_channels, num_output_channels,
            enable_deep_supervision=True):
        halved = [n // 2 for n in arch_init_kwargs["features_per_stage"]]
        return get_network_from_plans(architecture_class_name,
            arch_init_kwargs | {{"features_per_stage": halved}}, arch_init_kwargs_req_import,
            num_input_channels, num_output_channels, deep_supervision=enable_deep_supervision)
"""
NEW_SIGNATURE = f"""{HEAD}
class {TRAINER}(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, num_input_channels,
            num_output_channels, enable_deep_supervision=True):
        network = configuration_manager.configuration["architecture"]["arch_kwargs"]
        network["features_per_stage"] = [n // 2 for n in network["features_per_stage"]]
        return nnUNetTrainer.build_network_architecture(plans_manager, configuration_manager,
            num_input_channels, num_output_channels, enable_deep_supervision)
"""


@pytest.fixture
def own_trainers(tmp_path, monkeypatch) -> Path:
    """Return a folder that nnU-Net looks for trainers in, behind one that is not there."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path / "none"), str(folder)]))
    return folder


def twice_the_features(model: Path) -> Path:
    """Let plans.json describe a network of which a trainer builds the half."""
    plans = json.loads((model / "plans.json").read_text())
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [2 * n for n in network["features_per_stage"]]
    (model / "plans.json").write_text(json.dumps(plans))
    return model


@pytest.mark.filterwarnings("ignore:Trainer .* uses the old:DeprecationWarning")
@pytest.mark.parametrize("source", [OLD_SIGNATURE, NEW_SIGNATURE], ids=["before 2.8", "since"])
def test_a_trainer_of_ones_own_builds_the_network_as_in_nnunet(tmp_path, own_trainers, source):
    (own_trainers / "mine.py").write_text(source)
    model = twice_the_features(of_trainer(random_model(tmp_path / "m", eagerness=0.3)))
    array = image((20, 30, 30))
    found = predictor(model)
    assert found.notes == ()
    result = found.predict(volume(array, SPACING), with_probability=True)
    segmentation, probabilities = nnunets_own(model, array, SPACING, False)
    assert 0.05 < segmentation.mean() < 0.95
    assert (result.mask != segmentation).mean() < 1e-3
    np.testing.assert_allclose(result.probability, probabilities[1], atol=5e-3)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
        ("exit(3)", "SystemExit: 3"),
        ("def (:", "SyntaxError: invalid syntax"),
    ],
)
def test_a_trainers_file_that_cannot_be_imported_is_named(tmp_path, own_trainers, source, said):
    (own_trainers / "broken.py").write_text(f"{source}\n{HEAD}")
    model = of_trainer(random_model(tmp_path / "m"))
    with pytest.raises(LnqError) as caught:
        predictor(model)
    told = str(caught.value)
    assert f"cannot read the trainer {TRAINER} ({said}" in told
    assert f", in {own_trainers}/broken.py): install what it needs, or unset nnUNet_ext" in told


def test_a_trainer_that_is_nowhere_is_noted_or_the_reason_that_weights_do_not_fit(tmp_path):
    model = of_trainer(random_model(tmp_path / "m"))
    (note,) = predictor(model).notes
    assert note == f"this nnU-Net has no trainer {TRAINER}: the network of plans.json is used"
    with pytest.raises(LnqError, match=rf"do not fit .*no trainer {TRAINER}.*nnUNet_extTrainer"):
        predictor(twice_the_features(model))


@pytest.mark.parametrize("name", ["join", "MetaLogger", "os"])
def test_a_trainer_that_is_something_else_of_nnunets_is_refused(tmp_path, name):
    with pytest.raises(LnqError, match=f"cannot read the trainer {name}"):
        predictor(of_trainer(random_model(tmp_path / "m"), name))


# Weights and classes


def test_the_fold_whose_weights_do_not_fit_is_named_before_any_image(tmp_path):
    model = random_model(tmp_path / "m", folds=("0", "1"))
    path = model / "fold_1" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    name = next(iter(content["network_weights"]))
    content["network_weights"][name] = torch.zeros(3, 2)
    torch.save(content, path)
    with pytest.raises(LnqError, match=rf"1 of its parts differ, {name} is \(3, 2\) in fold_1 and"):
        predictor(model)
    del content["network_weights"][name]
    torch.save(content, path)
    with pytest.raises(LnqError, match=rf"{name} is missing in fold_1"):
        predictor(model)
    assert predictor(model, folds=["0"]).checkpoints == ("fold_0/checkpoint_final.pth",)


@pytest.mark.parametrize(("more", "outputs"), [({"aorta": 2}, 3), ({"a": 2, "b": 3}, 4)])
def test_labels_that_the_network_has_no_output_for_are_told(tmp_path, more, outputs):
    model = random_model(tmp_path / "m")
    dataset = json.loads((model / "dataset.json").read_text())
    dataset["labels"] |= more
    (model / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(LnqError, match=f"make {outputs} outputs of the network, but fold_0 has 2"):
        predictor(model)


def test_a_network_that_is_not_installed_is_told_also_if_trusted(tmp_path):
    model = random_model(tmp_path / "m")
    plans = json.loads((model / "plans.json").read_text())
    network = plans["configurations"]["3d_fullres"]["architecture"]
    network["network_class_name"] = "nnunetv2.nets.UMambaBot_3d.UMambaBot"
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(LnqError, match=r"names nnunetv2\.nets.*could run any code"):
        predictor(model)
    with pytest.raises(LnqError, match=r"the network of plans\.json .*ImportError: .*install"):
        predictor(model, trust=True)


def test_the_dataset_of_nnunet_v1_is_told_how_to_be_written(tmp_path):
    model = random_model(tmp_path / "m")
    labels = {"0": "background", "1": "lymph_node"}
    (model / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": labels}))
    with pytest.raises(LnqError, match=r'write its labels as \{"background": 0, "lymph_node": 1\}'):
        predictor(model)
