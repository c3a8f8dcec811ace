"""What a training draws, records, validates and refuses: cohorts, threads, memory, GPUs."""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet.cohorts import (
    aligned,
    cohort_rows,
    patch_shares,
    short_of_background,
    short_of_full_patches,
)
from lnqtools.nnunet.dataset import TrainingCase, case_facts, fingerprint
from lnqtools.nnunet.folds import Folds
from lnqtools.nnunet.recipes import find_recipe
from lnqtools.nnunet.runs import FoldRun
from lnqtools.nnunet.sampling import CaseDraw, guaranteed_here, guaranteed_patches
from lnqtools.nnunet.settings import Listeners, RunSettings, TrainingData
from lnqtools.nnunet.threads import allotted_cores, fastest_threads
from lnqtools.nnunet.validate import annotated_overlap
from tests.conftest import WITHOUT_PRIVILEGE, affine, left_by_a_killed_run, load, save
from tests.nnunet_data import write_bright_nodes

pytest.importorskip("nnunetv2")

# Which cases a batch has


@pytest.mark.parametrize(
    ("share", "batch", "count"),
    [(0, 2, 0), (0.5, 2, 1), (0.34, 2, 1), (0.5, 5, 3), (1, 4, 4), (0.3, 10, 3), (0.01, 2, 1)],
)
def test_a_share_is_rounded_up_to_patches(share, batch, count):
    assert guaranteed_patches(share, batch) == count


@given(st.floats(0, 1), st.lists(st.integers(1, 5), min_size=1, max_size=9))
def test_gpus_together_have_what_the_batch_must_have(share, sizes):
    parts = [guaranteed_here(share, sizes, rank) for rank in range(len(sizes))]
    assert sum(parts) == guaranteed_patches(share, sum(sizes))
    assert all(part <= size for part, size in zip(parts, sizes, strict=True))


def drawn(draw: CaseDraw, batches: int, size: int) -> list[list[str]]:
    np.random.seed(0)  # noqa: NPY002  the generator that nnU-Net seeds
    return [list(draw(size)) for _ in range(batches)]


def test_batches_hold_the_guaranteed_patches_in_any_place():
    draw = CaseDraw(["f", "w1", "w2"], [1, 1, 1], [True, False, False], guaranteed=1)
    batches = drawn(draw, 3000, 2)
    assert all("f" in batch for batch in batches)
    counts = Counter(case for batch in batches for case in batch)
    # One half is f, the other half any of three: 0.5 + 0.5 / 3.
    assert counts["f"] / 6000 == pytest.approx(2 / 3, abs=0.02)
    first = sum(batch[0] == "f" and batch[1] != "f" for batch in batches)
    last = sum(batch[1] == "f" and batch[0] != "f" for batch in batches)
    assert first / (first + last) == pytest.approx(0.5, abs=0.05)


def test_weights_are_those_of_a_case():
    draw = CaseDraw(["f", "w1", "w2"], [6, 1, 1], [True, False, False])
    counts = Counter(case for batch in drawn(draw, 4000, 2) for case in batch)
    assert counts["f"] / 8000 == pytest.approx(6 / 8, abs=0.02)
    assert counts["w1"] / 8000 == pytest.approx(1 / 8, abs=0.02)


def test_nothing_is_guaranteed_where_nothing_is_complete():
    with pytest.raises(LnqError, match="no case to train on is fully annotated"):
        CaseDraw(["w"], [1], [False], guaranteed=1)


# The table of cohorts


def facts(name: str, cohort: str, label: np.ndarray, spacing=(3.0, 2.0, 1.0)):
    image = np.where(label == 1, 100, np.where(label == 2, -500, 40)).astype(np.int16)
    return case_facts(name, image, label, spacing, cohort)


@pytest.fixture
def two_cohorts():
    """Return a case of 4 × 5 × 6 voxels with a node of 8, and two half unknown ones."""
    full = np.zeros((4, 5, 6), np.uint8)
    full[:2, :2, :2] = 1
    weak = full.copy()
    weak[2:] = 2
    nodes = np.zeros((10, 20, 20), np.uint8)
    nodes[1:9, 3:17, 3:17] = 1  # 24 × 28 × 14 mm
    return [
        facts("a", "full", full),
        facts("b", "weak", weak),
        facts("c", "weak", weak, (1.0, 1.0, 1.0)),
        facts("d", "large", nodes),
    ]


def test_cohorts_are_counted(two_cohorts):
    rows = {row["cohort"]: row for row in cohort_rows(two_cohorts, {"full": 3.0}, 0, 2)}
    assert list(rows) == ["full", "weak", "large"]
    full, weak, large = rows.values()
    assert (full["cases"], full["cases_full"], full["weight"]) == (1, 1, 3)
    assert (weak["cases"], weak["cases_full"], weak["weight"]) == (2, 0, 1)
    assert (full["spacing_mm"], full["size"]) == ("1.00,2.00,3.00", "6,5,4")
    assert weak["spacing_mm"] == "1.00,1.50,2.00"
    assert full["node_percent"] == pytest.approx(100 * 8 / 120)
    assert weak["node_percent"] == pytest.approx(100 * 8 / 120)
    assert weak["unknown_percent"] == pytest.approx(50)
    assert weak["background_percent"] == pytest.approx(100 * 52 / 120)
    assert (weak["components"], weak["components_enlarged"]) == (2, 0)
    assert (large["components"], large["components_enlarged"]) == (1, 1)
    assert [full["patches_percent"], weak["patches_percent"]] == pytest.approx([50, 100 / 3])
    lines = aligned(list(rows.values()))
    assert lines[0].split() == list(full)
    assert lines[2].split()[:4] == ["weak", "1", "2", "0"]


def test_expected_shares_are_those_that_are_drawn(two_cohorts):
    weights = {"full": 2.0, "weak": 1.0, "large": 0.5}
    shares = patch_shares(two_cohorts, weights, 1, 2)
    assert shares.sum() == pytest.approx(1)
    by_case = [weights[case.cohort] for case in two_cohorts]
    names = [case.name for case in two_cohorts]
    draw = CaseDraw(names, by_case, [case.full for case in two_cohorts], 1)
    counts = Counter(case for batch in drawn(draw, 6000, 2) for case in batch)
    assert [counts[name] / 12000 for name in names] == pytest.approx(list(shares), abs=0.02)


def labeled(cohort: str, nodes: int, background: int) -> list:
    """Return a case of 1000 voxels, of which so many are known."""
    label = np.full(1000, 2, np.uint8)
    label[:nodes], label[nodes : nodes + background] = 1, 0
    image, label = np.ones((10, 10, 10)), label.reshape(10, 10, 10)
    return [case_facts(cohort, image, label, (1.0, 1.0, 1.0), cohort)]


@given(nodes=st.integers(0, 500), background=st.integers(0, 500))
@example(nodes=90, background=0)
@example(nodes=91, background=9)
@example(nodes=90, background=10)
@example(nodes=0, background=0)
def test_cohorts_of_whose_known_voxels_less_than_a_tenth_are_background_are_named(
    nodes, background
):
    if 9 * background == nodes and (nodes, background) != (90, 10):
        return  # a tenth to the last bit
    cases = labeled("weak", nodes, background) + labeled("full", 5, 995)
    said = short_of_background(cohort_rows(cases, {}, 0, 2))
    if 9 * background >= nodes:
        assert said == []
    else:
        share = f"{background / (nodes + background):.1%}"
        assert [sentence.partition(" of its")[0] for sentence in said] == [
            f"cohort weak: only {share}"
        ]
        assert "lnq-pseudolabel --anatomy or lnq-weaklabel --strategy coat" in said[0]


def test_the_share_of_a_cohort_is_that_of_all_its_cases():
    cases = labeled("weak", 90, 0) + labeled("weak", 10, 50)
    assert short_of_background(cohort_rows(cases, {}, 0, 2)) == []


def test_without_a_full_case_the_shares_are_those_of_the_weights():
    cases = labeled("a", 5, 5) + labeled("b", 5, 5)
    np.testing.assert_allclose(patch_shares(cases, {"a": 3.0}, 1, 2), [0.75, 0.25])


def test_nnunets_statistics_take_unknown_voxels_for_nodes(two_cohorts):
    weak = two_cohorts[1:2]  # 8 voxels of 100 HU, 60 unknown ones of -500

    def mean(statistics):
        found = fingerprint(weak, statistics)["foreground_intensity_properties_per_channel"]
        return found["0"]["mean"]

    assert mean("annotated") == 100
    assert mean("nnunet") == pytest.approx((8 * 100 - 60 * 500) / 68, abs=1)


def test_residual_network_is_nnunets_resenc_m(two_cohorts):
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    from lnqtools.nnunet.prepare import make_plans

    label = np.zeros((40, 80, 80), np.uint8)
    label[5:9, 5:9, 5:9] = 1
    cases = [facts("a", "full", label, (3.0, 1.0, 1.0))]
    plans = make_plans(cases, find_recipe("resenc"), 0)
    network = plans["configurations"]["3d_fullres"]["architecture"]
    assert network["network_class_name"].endswith("ResidualEncoderUNet")
    assert network["arch_kwargs"]["n_blocks_per_stage"][:4] == [1, 3, 4, 6]
    small = find_recipe("resenc").with_settings(["patch=32", "features=4,8", "convolutions=1"])
    architecture = make_plans(cases, small, 0)["configurations"]["3d_fullres"]["architecture"]
    built = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        2,
        deep_supervision=False,
    )
    assert built(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)


# Validation


def test_unknown_voxels_are_of_no_account():
    label = np.array([0, 0, 1, 1, 1, 2, 2, 2], np.uint8).reshape(2, 2, 2)
    prediction = np.array([1, 0, 1, 1, 0, 1, 1, 0], np.uint8).reshape(2, 2, 2)
    row = annotated_overlap(prediction, label, (1, 1, 1))
    assert row == {
        "status": "ok",
        "annotated_percent": 62.5,
        "dice_annotated": pytest.approx(2 * 2 / (3 + 3)),
        "precision_annotated": pytest.approx(2 / 3),
        "recall_annotated": pytest.approx(2 / 3),
        "voxels_prediction_annotated": 3,
        "voxels_reference": 3,
        "voxels_overlap": 2,
        "voxels_prediction_unknown": 2,
    }


def test_of_a_full_case_it_is_the_plain_dice():
    from lnqtools.metrics.masks import evaluate

    rng = np.random.default_rng(0)
    label, prediction = (rng.integers(0, 2, (6, 7, 8)).astype(np.uint8) for _ in range(2))
    row = annotated_overlap(prediction, label, (1, 1, 1))
    plain = evaluate(prediction, label, (1, 1, 1))
    for key in ("dice", "precision", "recall"):
        assert row[f"{key}_annotated"] == plain[key]


# Threads


def test_the_fastest_number_of_threads_is_found(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def machine(seconds):
        tried = []

        def step(threads):
            tried.append(threads)
            clock[0] += seconds[threads]

        return step, tried

    step, tried = machine({1: 0.4, 2: 0.2, 4: 0.12, 6: 0.13})
    assert fastest_threads(step, 6) == 4
    assert list(dict.fromkeys(tried)) == [1, 2, 4, 6]
    step, tried = machine({1: 0.1, 2: 0.3, 4: 0.01})
    assert fastest_threads(step, 4) == 1
    assert 4 not in tried
    step, _ = machine({1: 0.1, 2: 0.095})
    assert fastest_threads(step, 2) == 1  # not clearly faster
    step, tried = machine({1: 9.0, 2: 5.0})
    assert fastest_threads(step, 2) == 2
    assert tried == [1, 2]  # a long step is timed once
    assert fastest_threads(step, 1) == 1


def test_cores_are_those_allotted(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert allotted_cores() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert allotted_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cores", "gpus", "workers"),
    [(1, 1, 1), (2, 1, 1), (8, 1, 7), (17, 1, 16), (128, 1, 16), (16, 2, 7), (4, 8, 1)],
)
def test_a_gpu_has_all_cores_but_one_for_augmentation(monkeypatch, cores, gpus, workers):
    import torch

    from lnqtools.nnunet.recipes import Recipe

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of one process, as many clusters set it

    def run(device: str, **settings) -> FoldRun:
        asked = RunSettings(gpus=gpus, **settings)
        return FoldRun(Path(), Recipe("a"), asked, Listeners(), torch.device(device))

    assert run("cuda").workers == workers
    assert run("cuda", workers=40).workers == 40
    assert run("cpu").workers == 0


# A real training of two cohorts


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Return a folder of six cases, two of them fully annotated."""
    folder = tmp_path_factory.mktemp("cohort")
    write_bright_nodes(folder, 6)
    for number in range(2):
        name = f"case {number}.nii.gz"
        save(folder / "label" / name, load(folder / "truth" / name), affine((1.0, 1.0, 1.5)))
    return folder


def cases_of(folder: Path) -> list[TrainingCase]:
    return [
        TrainingCase(f"case {k}", *(folder / kind / f"case {k}.nii.gz" for kind in kinds), cohort)
        for k, cohort in enumerate(["full"] * 2 + ["weak"] * 4)
        for kinds in [("ct", "label")]
    ]


def data_of(folder: Path) -> TrainingData:
    """Return the cases in two folds, the full ones drawn four times as often."""
    return TrainingData(cases_of(folder), {"full": 4.0, "weak": 1.0}, Folds(2))


class Stopped(BaseException):
    """What ends a training from within, as a signal would."""


@pytest.fixture(scope="module")
def begun(cohort, tmp_path_factory) -> Path:
    """Return a model of which an epoch of fold 0 is trained, its cases still preprocessed."""
    from lnqtools.nnunet.train import train

    model = tmp_path_factory.mktemp("model") / "m"
    recipe = find_recipe("smoke").with_settings(
        ["patch=16", "iterations=2", "validation_iterations=1", "full_share=0.5"]
    )

    def stop(*_):
        raise Stopped

    with pytest.raises(Stopped):
        train(
            data_of(cohort),
            model,
            recipe,
            RunSettings(device="cpu", threads=1),
            Listeners(progress=stop),
        )
    return model


def trainer_of(model: Path, monkeypatch):
    import torch

    from lnqtools.nnunet.model_state import PREPARED
    from lnqtools.nnunet.prepare import CONFIGURATION, PLANS, dataset_folder, nnunet_folders
    from lnqtools.nnunet.trainer import LNQTrainer

    for name, value in nnunet_folders(model / PREPARED).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    dataset = dataset_folder(model / PREPARED)
    plans, description = (
        json.loads((dataset / name).read_text()) for name in (f"{PLANS}.json", "dataset.json")
    )
    return LNQTrainer(plans, CONFIGURATION, 0, description, torch.device("cpu"))


@pytest.mark.slow
def test_nnunets_loader_draws_by_cohort_and_guarantees_a_full_patch(begun, monkeypatch):
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module

    trainer = trainer_of(begun, monkeypatch)
    trainer.initialize()
    loader, validating = trainer.get_dataloaders()
    assert module.nnUNetDataLoader is nnUNetDataLoader  # ours was there for a moment only
    batches = [next(loader) for _ in range(60)]
    full = {"case 0", "case 1"}
    assert all(full & set(batch["keys"]) for batch in batches)
    trained_on = set(trainer.do_split()[0])
    seen = Counter(str(key) for batch in batches for key in batch["keys"])
    assert set(seen) <= trained_on
    splits = json.loads((begun / "splits_final.json").read_text())
    assert trained_on == set(splits[0]["train"])
    in_full, others = len(full & trained_on), len(trained_on - full)
    expected = 0.5 + 0.5 * 4 * in_full / (4 * in_full + others)
    assert sum(seen[name] for name in full) / 120 == pytest.approx(expected, abs=0.1)
    for batch in batches:  # a patch of a full case has no unknown voxel in it
        for key, target in zip(batch["keys"], batch["target"][0], strict=True):
            if key in full:
                assert not (target == 2).any()
    assert getattr(validating.data_loader._data, "draw", None) is None


@pytest.mark.slow
def test_a_training_that_diverged_ends_before_anything_is_kept(begun, monkeypatch):
    trainer = trainer_of(begun, monkeypatch)
    trainer.initialize()
    trainer.logger.log("train_losses", 0.5, 0)
    next(trainer.network.parameters()).data.fill_(float("nan"))
    with pytest.raises(LnqError, match=r"the training diverged in epoch 1: .*lower learning rate"):
        trainer.on_train_epoch_end([{"loss": np.float32("nan")}])


def test_a_network_of_two_levels_has_a_loss(begun, monkeypatch):
    """nnU-Net alone divides its only weight, 0, by the sum of them."""
    trainer = trainer_of(begun, monkeypatch)
    monkeypatch.setattr(trainer, "_get_deep_supervision_scales", lambda: [[1.0, 1.0, 1.0]])
    assert trainer._build_loss().weight_factors == (1.0,)
    monkeypatch.undo()
    assert trainer_of(begun, monkeypatch)._build_loss().weight_factors == (1.0, 0.0)


def test_equal_weights_leave_the_drawing_to_nnunet(begun, monkeypatch):
    trainer = trainer_of(begun, monkeypatch)
    trainer.full_share, trainer.cohort_weights = 0.0, {"full": 1.0, "weak": 1.0}
    trainer.initialize()
    loader, _ = trainer.get_dataloaders()
    trainer._seed_everything(7)
    ours = [str(key) for key in loader.data_loader.get_indices()]
    trainer._seed_everything(7)
    assert ours == [str(key) for key in np.random.choice(loader.data_loader.indices, 2)]  # noqa: NPY002


@pytest.mark.slow
def test_the_table_of_cohorts_is_left_in_the_model(begun):
    from lnqtools.files.tables import read_table

    full, weak = read_table((begun / "cohorts.tsv").read_text())
    assert (full["cohort"], full["cases"], full["weight"]) == ("full", "2", "4")
    assert (weak["cohort"], weak["cases_full"]) == ("weak", "0")
    # Half of a batch of two is full; the other half by weights of 2 × 4 and 4 × 1.
    assert float(full["patches_percent"]) == pytest.approx(100 * (0.5 + 0.5 * 8 / 12))
    assert float(weak["unknown_percent"]) > 50
    assert (full["stored"], weak["stored"]) == ("LPS:2", f"LPS:{weak['cases']}")


@pytest.mark.parametrize(
    ("full", "batch", "told"), [(0, 2, ""), (2, 2, "44%"), (3, 7, "1%"), (4, 7, ""), (6, 3, "")]
)
def test_batches_without_a_full_patch_are_told_of_where_there_are_some(full, batch, told):
    label = np.ones((3, 3, 3), np.uint8)
    weak = np.where(np.arange(3) == 1, 2, label)
    facts = [
        case_facts(f"{k}", label, label if k < full else weak, (1.0, 1.0, 1.0)) for k in range(6)
    ]
    said = short_of_full_patches(facts, {}, batch)
    assert (said or "").partition(" of the batches will have no patch")[0] == told


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.floats(0.1, 10), st.integers(1, 4))
def test_the_share_without_a_full_patch_is_that_of_all_batches_that_may_be_drawn(
    full, weight, size
):
    case = facts("a", "weak", np.ones((1, 1, 1), np.uint8))
    kinds = {True: replace(case, cohort="full"), False: replace(case, has_unknown=True)}
    cases = [kinds[its] for its in full]
    weights = [weight if its else 1.0 for its in full]
    without = sum(
        math.prod(weights[k] for k in batch) / sum(weights) ** size
        for batch in itertools.product(range(len(full)), repeat=size)
        if not any(full[k] for k in batch)
    )
    said = short_of_full_patches(cases, {"full": weight}, size)
    if not any(full) or without < 0.0049:
        assert said is None
    elif without > 0.0051:
        assert said is not None
        assert float(said.partition("%")[0]) == pytest.approx(100 * without, abs=0.51)


@pytest.mark.slow
def test_other_weights_cannot_go_on(begun, cohort):
    from lnqtools.nnunet.train import train

    recipe = find_recipe("smoke").with_settings(
        ["patch=16", "iterations=2", "validation_iterations=1", "full_share=0.5"]
    )
    data = TrainingData(cases_of(cohort), folds=Folds(3))
    with pytest.raises(LnqError, match=r"weight of full 4\.0 there, 1\.0 now.*folds 2 there, 3"):
        train(data, begun, recipe, RunSettings(existing="keep", device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(("fold", "full"), [("0", {"case 0"}), ("1", {"case 1"}), ("all", set())])
def test_background_and_full_cases_are_looked_for_in_what_the_fold_trains_on(
    cohort, tmp_path, fold, full
):
    """Of four cases one in each fold is full; the label of the other knows nodes alone."""
    from lnqtools.nnunet.train import train

    cases = []
    for case in cases_of(cohort)[:4]:
        if case.name not in full:
            nodes = np.where(load(case.label) == 1, 1, 2).astype(np.uint8)
            label = save(tmp_path / case.name / "l.nii.gz", nodes, affine((1.0, 1.0, 1.5)))
            case = replace(case, label=label)
        cases.append(replace(case, cohort=case.name))
    validated = [["case 0", "case 2"], ["case 1", "case 3"]]
    splits = [{"train": validated[1 - k], "val": validated[k]} for k in range(2)]
    recipe = replace(
        find_recipe("smoke").with_settings([f"fold={fold}", "patch=16", "iterations=1"]),
        full_share=0.5,
        asked=frozenset(),
    )
    said: list[str] = []
    where = "" if fold == "all" else f" that fold {fold} trains on"
    with pytest.raises(LnqError, match=rf"^no voxel of a case{where} is labeled background"):
        train(
            TrainingData(cases, folds=Folds(2, None, splits)),
            tmp_path / "m",
            recipe,
            RunSettings(device="cpu"),
            Listeners(notify=said.append),
        )
    assert said == [
        f"warning: full_share 0.5 of the recipe smoke has no effect: no case{where} is fully "
        "annotated"
    ]
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_full_patches_are_refused_where_no_case_is_full(cohort, tmp_path):
    from lnqtools.nnunet.train import train

    recipe = find_recipe("smoke").with_settings(["full_share=0.5"])
    data = TrainingData(cases_of(cohort)[2:], folds=Folds(2))
    with pytest.raises(LnqError, match=r"full_share is 0\.5, but no case .*--set full_share=0"):
        train(data, tmp_path / "m", recipe, RunSettings(device="cpu"))
    assert not (tmp_path / "m").exists()


# Memory, threads and GPUs


@pytest.fixture
def begun_copy(begun, tmp_path) -> Path:
    import shutil

    return shutil.copytree(begun, tmp_path / "m", symlinks=True)


def go_on(cohort: Path, model: Path, fold: str = "0", **options):
    from lnqtools.nnunet.train import train

    recipe = find_recipe("smoke").with_settings(
        ["patch=16", "iterations=2", "validation_iterations=1", "full_share=0.5", f"fold={fold}"]
    )
    options = {"device": "cpu", "existing": "resume"} | options
    return train(data_of(cohort), model, recipe, RunSettings(**options))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "allocator", "python"])
def test_too_little_memory_says_what_to_lower(begun_copy, cohort, monkeypatch, kind):
    import torch

    from lnqtools.nnunet.trainer import LNQTrainer

    error = {
        "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        "allocator": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
        "python": MemoryError(),
    }[kind]

    def fail(self):
        raise error

    monkeypatch.setattr(LNQTrainer, "run_training", fail)
    with pytest.raises(LnqError, match=r"2 patches of 16×16×16 voxels: lower --batch or --patch"):
        go_on(cohort, begun_copy)


@pytest.mark.slow
def test_a_full_disk_is_told_and_other_errors_are_not_put_down_to_it(
    begun_copy, cohort, monkeypatch
):
    import errno
    import shutil

    from lnqtools.nnunet.trainer import LNQTrainer

    used = shutil.disk_usage(begun_copy)

    def go_on_with(error: Exception, free: int):
        def fail(self):
            raise error

        monkeypatch.setattr(LNQTrainer, "run_training", fail)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: used._replace(free=free))
        go_on(cohort, begun_copy)

    enforced = RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
    full = rf"the disk of {begun_copy} is full: make room, then -s goes on"
    with pytest.raises(LnqError, match=full):
        go_on_with(enforced, 1 << 20)
    with pytest.raises(LnqError, match=full):
        go_on_with(OSError(errno.ENOSPC, "No space left on device"), 1 << 40)
    with pytest.raises(RuntimeError, match="unexpected pos"):
        go_on_with(enforced, 1 << 30)


@pytest.mark.slow
def test_threads_are_measured_once_and_kept_for_the_fold(begun_copy, cohort, monkeypatch):
    import torch

    from lnqtools.nnunet import runs as module
    from lnqtools.nnunet.trainer import LNQTrainer

    before = torch.get_num_threads()
    used = []
    monkeypatch.setattr(LNQTrainer, "run_training", lambda _: used.append(torch.get_num_threads()))
    monkeypatch.setattr(module, "allotted_cores", lambda: 2)

    def fastest(step, most):
        step(1)  # the network runs
        return most

    monkeypatch.setattr(module, "fastest_threads", fastest)
    go_on(cohort, begun_copy)  # as many as when it was begun
    record = json.loads((begun_copy / "lnq-train.json").read_text())
    record["runs"] = []
    (begun_copy / "lnq-train.json").write_text(json.dumps(record))
    go_on(cohort, begun_copy)  # measured
    go_on(cohort, begun_copy)  # as measured before
    go_on(cohort, begun_copy, threads=1)
    assert used == [1, 2, 2, 1]
    assert torch.get_num_threads() == before
    runs = json.loads((begun_copy / "lnq-train.json").read_text())["runs"]
    assert [run["threads"] for run in runs] == [2, 2, 1]


@pytest.mark.slow
def test_more_gpus_than_there_are_are_refused(begun_copy, cohort, monkeypatch):
    import torch

    with pytest.raises(LnqError, match="--device cpu does not fit"):
        go_on(cohort, begun_copy, gpus=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(LnqError, match="--gpus 3: torch finds only 2"):
        go_on(cohort, begun_copy, gpus=3, device="cuda")
    with pytest.raises(LnqError, match="--device cuda:1 does not fit"):
        go_on(cohort, begun_copy, gpus=2, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(LnqError, match="batch of 2 cannot be spread over 4 GPUs"):
        go_on(cohort, begun_copy, gpus=4, device="cuda")


IN_A_CHILD = """
import json, sys, torch
from nnunetv2.run.run_training import get_trainer_from_args
dataset, configuration, fold, name, plans = json.loads(sys.argv[1])
trainer = get_trainer_from_args(
    dataset, configuration, fold, name, plans, True, device=torch.device("cpu")
)
kind = type(trainer)
print(json.dumps([kind.__module__, kind.__name__, trainer.num_iterations_per_epoch,
                  trainer.full_share, trainer.cohort_weights, trainer.output_folder]))
"""


@pytest.mark.slow
def test_several_gpus_are_nnunets_own_distributed_training(begun_copy, cohort, monkeypatch, capfd):
    import torch
    from nnunetv2.run import run_training as nnunet

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    called, children = [], []

    def spawn(function, args, nprocs, join):
        called.append((function, args, nprocs, join, os.environ["MASTER_ADDR"]))
        assert int(os.environ["MASTER_PORT"]) > 0
        sys.stdout.write("chatter")
        done = subprocess.run(
            [sys.executable, "-c", IN_A_CHILD, json.dumps(args[:5])],
            capture_output=True,
            text=True,
            check=True,
        )
        children.append(json.loads(done.stdout.splitlines()[-1]))
        os.write(1, b"a child writes to its standard output")

    monkeypatch.setattr(nnunet.mp, "spawn", spawn)
    before = dict(os.environ)
    go_on(cohort, begun_copy, gpus=2, device="cuda")
    assert dict(os.environ) == before
    ((function, args, processes, join, address),) = called
    assert function is nnunet.run_ddp
    assert args[:5] == ("Dataset001_LNQ", "3d_fullres", 0, "LNQTrainer", "nnUNetPlans")
    assert args[6] is True  # goes on from the checkpoint
    assert (processes, join, address) == (2, True, "localhost")
    module, name, iterations, full_share, weights, folder = children[0]
    assert (module, name) == ("lnqtools.nnunet.trainer", "LNQTrainer")
    assert (iterations, full_share, weights) == (2, 0.5, {"full": 4.0, "weak": 1.0})
    assert Path(folder).resolve() == (begun_copy / "fold_0").resolve()
    assert capfd.readouterr().out == ""
    run = json.loads((begun_copy / "lnq-train.json").read_text())["runs"][-1]
    assert (run["gpus"], run["device"]) == (2, "cuda")


@pytest.mark.slow
def test_memory_that_runs_out_in_a_child_is_told_alike(begun_copy, cohort, monkeypatch):
    import torch
    from nnunetv2.run import run_training as nnunet

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def spawn(*_, **__):
        raise torch.multiprocessing.ProcessRaisedException(
            "-- Process 1 terminated with the following error:\ntorch.OutOfMemoryError: …", 1, 2
        )

    monkeypatch.setattr(nnunet.mp, "spawn", spawn)
    with pytest.raises(LnqError, match="the GPU's memory is too small for 2 patches"):
        go_on(cohort, begun_copy, gpus=2, device="cuda")


@pytest.mark.slow
def test_a_fold_with_other_settings_leaves_one_in_training_alone(begun_copy, cohort):
    from lnqtools.nnunet.model_state import lock_fold

    for path in (begun_copy / "fold_0").glob("checkpoint_*"):
        path.unlink()  # it is in its first epoch
    before = sorted(begun_copy.rglob("*"))
    other = r"/fold_0 is being trained with other settings: seed 0 there, 1 now"
    with lock_fold(begun_copy / "fold_0"), pytest.raises(LnqError, match=other):
        go_on(cohort, begun_copy, fold="1", existing="refuse", seed=1)
    assert [path for path in before if not path.exists()] == []


def test_tidying_up_leaves_a_fold_in_training_alone(tmp_path):
    """What it writes seems to be of a process that has ended: it may run on another machine."""
    from lnqtools.nnunet.model_state import lock_fold, tidy_up

    left = []
    for name in ("fold_0", "fold_1"):
        (tmp_path / name).mkdir()
        left.append(left_by_a_killed_run(tmp_path / name / "checkpoint_latest.pth"))
        left[-1].write_bytes(b"half")
    with lock_fold(tmp_path / "fold_1"):
        tidy_up(tmp_path, keep_preprocessed=False)
    assert [path.exists() for path in left] == [False, True]


def test_a_training_anew_empties_folders_on_other_disks(tmp_path):
    from lnqtools.nnunet.checkpoint import newest_checkpoint
    from lnqtools.nnunet.model_state import PREPARED, clear

    model = tmp_path / "model"
    for name, file in (("fold_0", "checkpoint_final.pth"), (PREPARED, "Dataset001_LNQ/a.pkl")):
        (tmp_path / "disk" / name / file).parent.mkdir(parents=True)
        (tmp_path / "disk" / name / file).touch()
        model.mkdir(exist_ok=True)
        (model / name).symlink_to(tmp_path / "disk" / name)
    clear(model, model / "fold_0", prepared=True, this_fold=True)
    assert newest_checkpoint(model / "fold_0") is None
    assert [[*(model / name).iterdir()] for name in ("fold_0", PREPARED)] == [[], []]
    assert (model / "fold_0").is_symlink()


def test_a_finished_model_of_somebody_else_is_left_as_it_is(tmp_path):
    """In a folder that one may only read, without and with the lock that a killed run left."""
    from lnqtools.nnunet.model_state import LOCK

    tidy_up = (
        "import sys; from pathlib import Path; from lnqtools.nnunet.model_state import tidy_up\n"
        "tidy_up(Path(sys.argv[1]), keep_preprocessed=False)"
    )
    left = left_by_a_killed_run(tmp_path / "plans.json")
    left.touch()
    for there in ([left], [left, tmp_path / LOCK]):
        there[-1].touch(mode=0o444)
        tmp_path.chmod(0o555)
        command = [*WITHOUT_PRIVILEGE, sys.executable, "-c", tidy_up, tmp_path]
        subprocess.run(command, check=True)
        tmp_path.chmod(0o755)
        assert sorted(tmp_path.iterdir()) == sorted(there)


def test_the_table_of_all_folds_forgets_a_fold_that_is_gone(tmp_path):
    from lnqtools.nnunet.validate import FOLD_TABLE, TABLE, gather_tables

    for fold in ("0", "1"):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / FOLD_TABLE).write_text(f"case\tfold\nc{fold}\t{fold}\n")
    gather_tables(tmp_path)
    assert (tmp_path / TABLE).read_text() == "case\tfold\nc0\t0\nc1\t1\n"
    for forget in (lambda table: table.write_text("\n"), Path.unlink):  # of no case, or none
        forget(tmp_path / "fold_0" / FOLD_TABLE)
        gather_tables(tmp_path)
        assert (tmp_path / TABLE).read_text() == "case\tfold\nc1\t1\n"
    (tmp_path / "fold_1" / FOLD_TABLE).unlink()
    gather_tables(tmp_path)
    assert not (tmp_path / TABLE).exists()


def test_an_epoch_without_nodes_is_not_the_best_for_ever(monkeypatch):
    pytest.importorskip("nnunetv2")
    from lnqtools.nnunet.trainer import LNQTrainer, nnUNetTrainer

    seen = []
    monkeypatch.setattr(nnUNetTrainer, "on_epoch_end", lambda self: seen.append(self._best_ema))
    trainer = LNQTrainer.__new__(LNQTrainer)
    for best in (None, float("nan"), 0.5):
        trainer._best_ema = best
        trainer.on_epoch_end()
    assert seen == [None, None, 0.5]


@pytest.mark.slow
def test_a_fold_that_another_process_trains_is_left_alone(begun_copy, cohort, monkeypatch):
    """flock(2) knows no processes, but open files: this one stands for another process."""
    from lnqtools.nnunet.trainer import LNQTrainer

    stamps = {path: path.stat().st_mtime_ns for path in begun_copy.rglob("*") if path.is_file()}
    folder = os.open(begun_copy / ".fold_0.lock", os.O_RDWR | os.O_CREAT)

    def try_to_hold() -> None:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)

    try_to_hold()
    with pytest.raises(LnqError, match=r"/fold_0 is being trained by another process: wait"):
        go_on(cohort, begun_copy)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    fcntl.flock(folder, fcntl.LOCK_UN)

    def train_while_another_tries(self):
        with pytest.raises(BlockingIOError):
            try_to_hold()
        raise Stopped

    monkeypatch.setattr(LNQTrainer, "run_training", train_while_another_tries)
    with pytest.raises(Stopped):
        go_on(cohort, begun_copy)
    try_to_hold()
    os.close(folder)


def test_a_folder_of_hidden_files_is_that_of_a_new_model(tmp_path):
    from lnqtools.nnunet.record import read_record

    for name in (".fold_0.lock", ".lnq-train.json.host.1.tmp", ".snakemake_timestamp"):
        (tmp_path / name).touch()
    assert read_record(tmp_path) is None
    (tmp_path / "notes.txt").touch()
    with pytest.raises(LnqError, match=r"holds files but no lnq-train\.json: give a new folder"):
        read_record(tmp_path)
