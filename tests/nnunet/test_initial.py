"""lnq-train --init: what comes along of weights and plans, what is refused, and how it goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet.dataset import TrainingCase
from lnqtools.nnunet.folds import Folds
from lnqtools.nnunet.initial import (
    OUTPUTS,
    Start,
    fit_to,
    initial_file,
    load_initial,
    write_initial,
)
from lnqtools.nnunet.recipes import find_recipe
from lnqtools.nnunet.settings import Listeners, RunSettings, TrainingData
from tests.conftest import run, succeed
from tests.nnunet_data import Trap, as_before_2_3, random_model, residual, write_bright_nodes

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
SHORT = ["iterations=1", "validation_iterations=1", "epochs=2"]


class Stopped(BaseException):
    """What ends a training from within, as a signal would."""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Return a folder of three bright-node cases."""
    folder = tmp_path_factory.mktemp("initial")
    write_bright_nodes(folder, 3)
    return folder


def data_of(root: Path, count: int = 2) -> TrainingData:
    cases = [
        TrainingCase(f"case {k}", *(root / kind / f"case {k}.nii.gz" for kind in ("ct", "label")))
        for k in range(count)
    ]
    return TrainingData(cases, folds=Folds(2))


def begin(root, model, init, monkeypatch, *changes, fold="0"):
    """Prepare a training up to its first step; return its trainer and what was said."""
    from lnqtools.nnunet.train import train
    from lnqtools.nnunet.trainer import LNQTrainer

    trainers, said = [], []

    def stop(trainer):
        trainer.initialize()
        trainers.append(trainer)
        raise Stopped

    monkeypatch.setattr(LNQTrainer, "run_training", stop)
    recipe = find_recipe("smoke").with_settings([*SHORT, f"fold={fold}", *changes])
    on_cpu = RunSettings(device="cpu", threads=1, init=init)
    with pytest.raises(Stopped):
        train(data_of(root), model, recipe, on_cpu, Listeners(notify=said.append))
    return trainers[0], said


def source_of(folder: Path, fold: str = "0"):
    """Return the plans' configuration and the weights of a model that `random_model` wrote."""
    plans = json.loads((folder / "plans.json").read_text())
    weights = torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
    return plans, weights["network_weights"]


def planned(model: Path) -> dict:
    """Return the plans that a training was begun with."""
    return json.loads(next(model.rglob("nnUNetPlans.json")).read_text())


def outputs_of(network, patch):
    torch.manual_seed(0)
    network.eval()
    with torch.inference_mode():
        return network(torch.randn(2, 1, *patch))


@pytest.mark.parametrize("change", [None, residual, as_before_2_3])
def test_the_first_outputs_are_those_of_the_model(root, tmp_path, monkeypatch, change):
    from lnqtools.nnunet.predict import Predictor

    spacing = (3.0, 1.3, 1.1)
    source = random_model(
        tmp_path / "source", spacing=spacing, transpose=(2, 0, 1), change_plans=change
    )
    trainer, said = begin(root, tmp_path / "m", source, monkeypatch)
    plans, _ = source_of(source)
    theirs = plans["configurations"]["3d_fullres"]
    made = planned(tmp_path / "m")
    ours = made["configurations"]["3d_fullres"]
    for key in ("patch_size", "spacing", "normalization_schemes", "batch_size"):
        assert ours[key] == theirs[key], key
    assert made["transpose_forward"] == [2, 0, 1]
    statistics = "foreground_intensity_properties_per_channel"
    assert made[statistics] == plans[statistics]
    model = Predictor(source, device="cpu", mirroring=False)
    patch = theirs["patch_size"]
    network = trainer.network.to(memory_format=torch.contiguous_format)  # another one rounds else
    network.decoder.deep_supervision = False
    found, wanted = outputs_of(network, patch), outputs_of(model._model.network, patch)
    assert wanted.std() > 0.1
    np.testing.assert_array_equal(found, wanted)
    [told] = [line for line in said if line.startswith("starts from")]
    record = json.loads((tmp_path / "m" / "lnq-train.json").read_text())
    recorded = record["runs"][-1]["init"]
    count = len(list(trainer.network.parameters()))
    assert (recorded["tensors"], recorded["of"], recorded["new_head"]) == (count, count, False)
    assert f"fold_0/checkpoint_final.pth: {count} of {count} tensors came along; network" in told
    assert record["made_with"]["init"] == recorded["digest"]


def test_other_labels_make_a_new_head_and_all_else_comes_along(root, tmp_path, monkeypatch):
    labels = {"background": 0, "vessel": 1, "LN": 2}
    source = random_model(tmp_path / "source", labels=labels)
    trainer, said = begin(root, tmp_path / "m", source, monkeypatch)
    _, theirs = source_of(source)
    for name, tensor in trainer.network.state_dict().items():
        if "seg_layers" in name:
            assert tensor.shape[0] == 2
        else:
            assert torch.equal(tensor, theirs[name]), name
    count = len(list(trainer.network.parameters()))
    heads = 2 * len(trainer.network.decoder.seg_layers)
    [told] = [line for line in said if line.startswith("starts from")]
    assert f"{count - heads} of {count} tensors came along; the head is new" in told


def test_a_checkpoint_says_itself_what_it_was_trained_with(root, tmp_path, monkeypatch):
    source = random_model(tmp_path / "source", spacing=(2.5, 1.5, 1.5))
    plans, weights = source_of(source)
    content = torch.load(source / "fold_0" / "checkpoint_final.pth", weights_only=False)
    dataset = json.loads((source / "dataset.json").read_text())
    content["init_args"] |= {"plans": plans, "dataset_json": dataset}
    torch.save(content, tmp_path / "alone.pth")
    trainer, said = begin(root, tmp_path / "m", tmp_path / "alone.pth", monkeypatch)
    assert planned(tmp_path / "m")["configurations"]["3d_fullres"]["spacing"] == [2.5, 1.5, 1.5]
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert any("alone.pth: " in line for line in said)


def test_the_outputs_of_regions_are_no_head_for_labels(root, tmp_path, monkeypatch):
    labels = {"background": 0, "chest": [1, 2], "lymph_node": [2]}
    source = random_model(tmp_path / "source", labels=labels, extra={"regions_class_order": [1, 2]})
    _, said = begin(root, tmp_path / "m", source, monkeypatch)
    assert any("the head is new" in line for line in said)


def test_what_is_asked_for_stays_the_recipes(root, tmp_path, monkeypatch):
    source = random_model(tmp_path / "source")
    asked = ["patch=[21, 18, 17]", "spacing_mm=[1.5, 2, 3]", "batch=3", "window_hu=[-100, 200]"]
    begin(root, tmp_path / "m", source, monkeypatch, *asked, "features=[8, 16, 32]")
    made = planned(tmp_path / "m")
    ours = made["configurations"]["3d_fullres"]
    theirs = source_of(source)[0]["configurations"]["3d_fullres"]
    assert ours["architecture"] == theirs["architecture"]
    halved = np.prod(theirs["architecture"]["arch_kwargs"]["strides"], axis=0)
    wanted = np.array([17, 18, 21])
    assert ours["patch_size"] == (-(-wanted // halved) * halved).tolist() != wanted.tolist()
    assert (ours["spacing"], ours["batch_size"]) == ([3, 2, 1.5], 3)
    numbers = made["foreground_intensity_properties_per_channel"]["0"]
    assert (numbers["percentile_00_5"], numbers["percentile_99_5"]) == (-100, 200)


def test_a_bare_encoder_comes_along_by_its_names(root, tmp_path, monkeypatch):
    plain, _ = begin(root, tmp_path / "plain", None, monkeypatch, "patch=16")
    encoder = {
        f"module.{name}": torch.full_like(tensor, 0.25)
        for name, tensor in plain.network.encoder.state_dict().items()
    }
    lost = [name for name in encoder if name.endswith("stages.1.0.convs.0.conv.weight")]
    encoder[lost[0]] = torch.zeros(1, 2, 3)
    torch.save({"state_dict": encoder, "epoch": 3}, tmp_path / "encoder.pt")
    trainer, said = begin(root, tmp_path / "m", tmp_path / "encoder.pt", monkeypatch, "patch=16")
    named = dict(trainer.network.named_parameters())
    came = [name for name in named if name.startswith("encoder.") and "stages.1.0" not in name]
    assert len(came) > 5
    assert all((named[name] == 0.25).all() for name in came)
    stayed = dict(plain.network.named_parameters())
    for name in named.keys() - set(came):
        if name.startswith("decoder."):
            assert torch.equal(named[name], stayed[name]), name
    [told] = [line for line in said if line.startswith("starts from")]
    # The other name of the same weight fits all the same: nothing is lost.
    counted = len([name for name in named if name.startswith("encoder.")])
    assert f"encoder.pt: {counted} of {len(named)} tensors came along; the head is new" in told


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict:
    """Return plans, the weights of their network, and a folder."""
    folder = tmp_path_factory.mktemp("small")
    plans, weights = source_of(random_model(folder / "m"))
    return {"plans": plans, "weights": weights, "folder": folder}


@settings(max_examples=20)
@given(drawn=st.data())
def test_what_has_the_name_and_the_size_of_a_tensor_comes_along_and_nothing_else(small, drawn):
    names = [name for name in small["weights"] if "all_modules" not in name]
    names = [name for name in names if not name.startswith("decoder.encoder.")]
    first = "encoder.stages.0.0.convs.0.conv.weight"
    kept = drawn.draw(st.sets(st.sampled_from(names))) | {first}
    cut = drawn.draw(st.sets(st.sampled_from(names))) - {first}
    strange = drawn.draw(st.sets(st.text(max_size=9), max_size=3)) - set(small["weights"])
    weights = {name: small["weights"][name] for name in kept}
    weights |= {name: small["weights"][name][:1, None] for name in cut}
    weights |= {name: torch.zeros(2) for name in strange}
    wanted = {name: weights[name] for name in kept - cut}
    transfer = fit_to(Start("some", Path("some"), "", weights), small["plans"], OUTPUTS)
    assert transfer.weights.keys() == wanted.keys()
    assert transfer.tensors == len(names)
    assert transfer.new_head == any("seg_layers" in name for name in set(names) - set(wanted))
    write_initial(transfer, initial_file(small["folder"], 0))
    network = network_of(small["plans"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_initial(network, initial_file(small["folder"], "0"))
    for name, tensor in network.state_dict().items():
        if name in names:
            assert torch.equal(tensor, wanted.get(name, before[name])), name


def network_of(plans: dict):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    network = plans["configurations"]["3d_fullres"]["architecture"]
    words = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    return get_network_from_plans(*(network[word] for word in words), 1, 2, deep_supervision=True)


def test_the_fold_of_the_same_name_is_taken(root, tmp_path, monkeypatch):
    source = random_model(tmp_path / "source", folds=("0", "1"))
    trainer, said = begin(root, tmp_path / "m", source, monkeypatch, fold="1")
    _, theirs = source_of(source, "1")
    assert torch.equal(
        trainer.network.state_dict()["encoder.stages.0.0.convs.0.conv.weight"],
        theirs["encoder.stages.0.0.convs.0.conv.weight"],
    )
    assert any("source, fold_1/checkpoint_final.pth" in line for line in said)
    again, _ = begin(root, tmp_path / "m", source, monkeypatch, fold="0")
    _, theirs = source_of(source, "0")
    assert torch.equal(
        again.network.state_dict()["encoder.stages.0.0.convs.0.conv.weight"],
        theirs["encoder.stages.0.0.convs.0.conv.weight"],
    )
    with pytest.raises(LnqError, match="has fold_0, fold_1, not fold_all: give a checkpoint"):
        refused(root, tmp_path / "n", source, "fold=all")


def refused(root, model, init, *changes):
    from lnqtools.nnunet.train import train

    recipe = find_recipe("smoke").with_settings([*SHORT, *changes])
    on_cpu = RunSettings(device="cpu", threads=1, init=init, existing="replace")
    train(data_of(root), model, recipe, on_cpu)


def flat(plans: dict) -> None:
    configuration = plans["configurations"]["3d_fullres"]
    configuration["patch_size"] = configuration["patch_size"][1:]


def test_what_does_not_fit_is_refused_before_anything_is_made(root, tmp_path):
    source = random_model(tmp_path / "source")
    for setting, words in (
        ("features=[4, 8]", "its network is 8,16,32, but features is 4,8,8: leave the key out"),
        ("convolutions=2", "its network is 1,1,1, but convolutions is 2,2,2"),
        ("network=resenc-m", "its network is plain, but network is resenc-m"),
    ):
        with pytest.raises(LnqError, match=words):
            refused(root, tmp_path / "m", source, setting)
    two = {"channel_names": {"0": "CT", "1": "PET"}}
    other = random_model(tmp_path / "two", extra=two)
    with pytest.raises(LnqError, match=r"--init .*two: the model takes 2 input channels"):
        refused(root, tmp_path / "m", other)
    plans = json.loads((source / "plans.json").read_text())
    flat(plans)
    shutil.copytree(source, tmp_path / "flat")
    (tmp_path / "flat" / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(LnqError, match="was trained on slices"):
        refused(root, tmp_path / "m", tmp_path / "flat")
    with pytest.raises(LnqError, match=r"--init .*none: there is no such model folder or archive"):
        refused(root, tmp_path / "m", tmp_path / "none")
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(
        LnqError, match="no convolution of the network's encoder is among its 1 tensors"
    ):
        refused(root, tmp_path / "m", tmp_path / "a.pth")
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(LnqError, match="holds no weights by their names"):
        refused(root, tmp_path / "m", tmp_path / "b.pth")
    torch.save({"a": Trap(tmp_path / "trapped")}, tmp_path / "c.pth")
    with pytest.raises(LnqError, match=r"could run any code: only weights are taken"):
        refused(root, tmp_path / "m", tmp_path / "c.pth")
    assert not (tmp_path / "trapped").exists()
    assert not (tmp_path / "m").exists()
    with pytest.raises(LnqError, match="is of the model to be trained: use another -m"):
        refused(root, source, source / "fold_0" / "checkpoint_final.pth")
    assert (source / "fold_0" / "checkpoint_final.pth").is_file()


def test_a_resumed_training_goes_on_from_its_own_weights(root, tmp_path):
    from lnqtools.nnunet.checkpoint import load_checkpoint
    from lnqtools.nnunet.train import train

    source = random_model(tmp_path / "source.d")
    shutil.make_archive(str(tmp_path / "source"), "zip", source)
    recipe = find_recipe("smoke").with_settings(SHORT)
    on_cpu = RunSettings(device="cpu", threads=1, existing="keep", init=tmp_path / "source.zip")

    def stop(*_):
        raise Stopped

    train(data_of(root), tmp_path / "straight", recipe, on_cpu)
    with pytest.raises(Stopped):
        train(data_of(root), tmp_path / "m", recipe, on_cpu, Listeners(progress=stop))
    [initial] = (tmp_path / "m").rglob("initial_fold_0.pth")
    weights = torch.load(initial)
    torch.save({name: torch.zeros_like(tensor) for name, tensor in weights.items()}, initial)
    said: list[str] = []
    train(data_of(root), tmp_path / "m", recipe, on_cpu, Listeners(notify=said.append))
    assert not any("starts from" in line for line in said)
    straight, resumed = (
        load_checkpoint(tmp_path / name / "fold_0" / "checkpoint_final.pth")
        for name in ("straight", "m")
    )
    for name, weight in straight["network_weights"].items():
        assert torch.equal(weight, resumed["network_weights"][name])
    runs = json.loads((tmp_path / "m" / "lnq-train.json").read_text())["runs"]
    assert ["init" in one for one in runs] == [True, False]
    without = replace(on_cpu, init=None)
    with pytest.raises(LnqError, match=r"init .* there, none now"):
        train(data_of(root), tmp_path / "m", recipe, without)


def test_cases_are_added_to_a_finished_model(root, tmp_path):
    for count, name in ((2, "two"), (3, "three")):
        for kind in ("ct", "label"):
            (tmp_path / name / kind).mkdir(parents=True)
            for k in range(count):
                shutil.copy(root / kind / f"case {k}.nii.gz", tmp_path / name / kind)

    def command(cases, model, *options):
        folder = tmp_path / cases
        given = ["lnq-train", "--images", folder / "ct", "--labels", folder / "label"]
        given += ["--recipe", "smoke", "--patch", "16", "--threads", "1", "--folds", "2"]
        return [*given, *(w for s in SHORT for w in ("--set", s)), "-m", tmp_path / model, *options]

    succeed(*command("two", "first", "-s"))
    changed = run(*command("three", "first", "-s"))
    assert changed.status == 1
    assert "1 cases not there" in changed.err
    assert f"to start from its weights with --init {tmp_path / 'first'}" in changed.err
    splits = tmp_path / "first" / "splits_final.json"
    start = ("--init", tmp_path / "first")
    added = succeed(*command("three", "second", *start, "--splits", splits, "-s"))
    count = json.loads((tmp_path / "second" / "lnq-train.json").read_text())["runs"][0]["init"]
    words = f"{count['tensors']} of {count['tensors']} tensors came along"
    assert f"starts from {tmp_path / 'first'}, fold_0/checkpoint_final.pth: {words}" in added.err
    assert "flatters" not in added.err
    curve = (tmp_path / "second" / "fold_0" / "training.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve[1:]] == ["1", "2"]
    flattered = succeed(*command("two", "third", *start, "--fold", "1"))
    assert "it was trained on 1 of the 1 cases that validate fold 1" in flattered.err
