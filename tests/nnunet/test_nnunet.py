from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lnqtools.errors import LnqError
from lnqtools.images.grid import Grid
from lnqtools.images.volume import Volume
from lnqtools.nnunet import dataset as data
from lnqtools.nnunet.folds import Folds
from lnqtools.nnunet.recipes import find_recipe
from lnqtools.nnunet.settings import Listeners, RunSettings, TrainingData
from tests.conftest import BIN, affine, left_by_a_killed_run, load, save
from tests.nnunet_data import Trap, lps_grid, random_model, volume, write_bright_nodes

pytest.importorskip("nnunetv2")

SPACING = (2.0, 1.0, 1.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def facts(image, label) -> data.CaseFacts:
    return data.case_facts("a", np.asarray(image), np.asarray(label), SPACING)


# Cases and fingerprint


def test_unknown_voxels_are_not_in_the_fingerprint():
    image = np.full((4, 5, 6), -1000, np.int16)
    label = np.full((4, 5, 6), 2, np.uint8)
    label[0, 0, :4], image[0, 0, :4] = 1, (10, 20, 30, 40)
    label[1], image[1] = 0, 500
    case = facts(image, label)
    assert case.node_hu.tolist() == [10, 20, 30, 40]
    statistics = data.fingerprint([case])["foreground_intensity_properties_per_channel"]["0"]
    assert statistics["mean"] == 25
    assert statistics["std"] == pytest.approx(np.sqrt(125))
    assert (statistics["min"], statistics["median"], statistics["max"]) == (10, 25, 40)
    assert (statistics["percentile_00_5"], statistics["percentile_99_5"]) == (10, 40)


def test_shape_is_that_of_the_box_of_non_zero_voxels():
    image = np.zeros((6, 8, 10), np.int16)
    image[1:5, 2:8, 3:7] = -20
    case = facts(image, np.zeros(image.shape, np.uint8))
    assert case.shape == (4, 6, 4)
    assert case.cropped_share == pytest.approx(4 * 6 * 4 / 480)
    with pytest.raises(LnqError, match="nothing but 0"):
        facts(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))


def test_each_case_weighs_the_same_whatever_its_nodes_size():
    def case(value, count):
        return facts(np.full((10, 10, 10), value), np.arange(1000).reshape(10, 10, 10) < count)

    values = data.foreground_hu([case(10, 2), case(10, 0), case(90, 998)])
    assert values.mean() == pytest.approx(50)


def test_window_clips_before_mean_and_sd():
    statistics = data.intensity_statistics(np.array([-400.0, -100, 100, 900]), (-150, 350))
    values = np.array([-150.0, -100, 100, 350])
    assert statistics["mean"] == values.mean()
    assert statistics["std"] == values.std()
    assert (statistics["percentile_00_5"], statistics["percentile_99_5"]) == (-150, 350)


def test_label_2_becomes_the_ignore_label_only_if_a_case_has_it():
    known, unknown = (
        facts(np.ones((2, 2, 2)), [[[0, 1]] * 2] * 2),
        facts(np.ones((2, 2, 2)), [[[2, 1]] * 2] * 2),
    )
    assert data.dataset_json([known])["labels"] == {"background": 0, "lymph_node": 1}
    assert data.dataset_json([known, unknown])["labels"]["ignore"] == 2


def case_files(folder: Path, name: str, label: np.ndarray, **label_grid) -> data.TrainingCase:
    image = save(folder / "ct" / f"{name}.nii.gz", np.full((4, 4, 4), 7, np.int16))
    return data.TrainingCase(name, image, save(folder / "l" / f"{name}.nii", label, **label_grid))


def test_every_problem_of_every_case_is_told_at_once(tmp_path):
    ones = np.ones((4, 4, 4), np.uint8)
    good = case_files(tmp_path, "good", ones)
    other_size = case_files(tmp_path, "size", np.ones((4, 4, 5), np.uint8))
    moved = case_files(tmp_path, "moved", ones, matrix=affine(origin=(0, 0, 1)))
    values = case_files(tmp_path, "values", ones * 3)
    torn = case_files(tmp_path, "torn", ones)
    torn.image.write_bytes(torn.image.read_bytes()[:60])
    missing = data.TrainingCase("missing", tmp_path / "no.nii", good.label)
    cases = [good, other_size, moved, values, torn, missing, good]
    with pytest.raises(data.InvalidCasesError) as caught:
        data.survey_cases(cases)
    told = {path: message for path, message in caught.value.problems}
    assert set(told) == {
        *(good.image, other_size.label, moved.label, values.label, torn.image, missing.image)
    }
    assert "sizes are" in told[other_size.label]
    assert "1 mm apart" in told[moved.label]
    assert told[values.label].startswith("holds the value 3")
    assert "another case is called good" in told[good.image]


def test_a_name_that_makes_no_file_of_nnunets_is_told(tmp_path):
    ones = np.ones((4, 4, 4), np.uint8)
    longest, longer = (case_files(tmp_path, "é" * n, ones) for n in (123, 124))
    problems = data._unusable_names([longest, longer])
    assert [path for path, _ in problems] == [longer.image]
    assert len(f"{longest.name}_seg.b2nd".encode()) == 255


def test_a_case_larger_than_the_memory_is_named(tmp_path):
    from lnqtools.nnunet.prepare import _require_memory

    case = case_files(tmp_path, "meters", np.ones((4, 4, 4), np.uint8))
    grid = Grid.from_affine((4, 4, 4), np.diag([1e3, 1e3, 1e3, 1]))
    image = Volume(np.ones((4, 4, 4), np.int16), grid)
    _require_memory(case, image, (0, 1, 2), (500, 500, 500))
    with pytest.raises(LnqError, match=r"ct/meters\.nii\.gz: would measure 40000 × 40000 × "):
        _require_memory(case, image, (0, 1, 2), (0.1, 0.1, 0.1))


def test_cases_where_all_is_unknown_are_left_out(tmp_path):
    ones = np.ones((4, 4, 4), np.uint8)
    survey = data.survey_cases(
        [case_files(tmp_path, "b", ones * 2), case_files(tmp_path, "a", ones)]
    )
    assert survey.names == ["a"]
    assert survey.left_out == ("b",)


def test_what_is_odd_about_a_file_that_is_read_is_told(tmp_path):
    case = case_files(tmp_path, "a", np.ones((4, 4, 4), np.uint8))
    content = gzip.decompress(case.image.read_bytes())
    case.image.write_bytes(gzip.compress(content + b"more"))
    told: list[str] = []
    data.survey_cases([case], notify=told.append)
    assert told == [f"{case.image}: warning: 4 bytes after the voxels were ignored"]


def test_no_node_anywhere_is_an_error(tmp_path):
    with pytest.raises(LnqError, match="nothing to learn from"):
        data.survey_cases([case_files(tmp_path, "a", np.zeros((4, 4, 4), np.uint8))])


# Plans


def test_recipe_reaches_the_plans():
    from lnqtools.nnunet.prepare import make_plans

    case = data.CaseFacts(
        "a", (3.0, 0.9, 0.9), (40, 90, 130), 1.0, True, True, np.array([-400.0, 100, 900])
    )
    changes = {"patch": (20, 60, 100), "batch": 3, "spacing_mm": (4.0, 1.0, 1.0), "epochs": 11}
    recipe = find_recipe("challenge").with_changes(changes | {"gpu_memory_gb": 1})
    plans = make_plans([case], recipe, seed=5)
    assert list(plans["configurations"]) == ["3d_fullres"]
    configuration = plans["configurations"]["3d_fullres"]
    network = configuration["architecture"]["arch_kwargs"]
    assert configuration["spacing"] == [4.0, 1.0, 1.0]
    assert configuration["batch_size"] == 3
    assert configuration["batch_dice"] is False  # nnU-Net's choice for images of this size
    asked = recipe.with_settings(["batch_dice=true"])
    assert make_plans([case], asked, 5)["configurations"]["3d_fullres"]["batch_dice"] is True
    halvings = np.prod(network["strides"], axis=0)
    assert (np.array(configuration["patch_size"]) % halvings == 0).all()
    assert (np.array(configuration["patch_size"]) - (20, 60, 100) >= 0).all()
    assert (np.array(configuration["patch_size"]) - (20, 60, 100) < halvings).all()
    assert len(network["features_per_stage"]) == network["n_stages"] == len(network["strides"])
    assert configuration["lnq_hparams"] == {
        "num_epochs": 11,
        "num_iterations_per_epoch": 250,
        "num_val_iterations_per_epoch": 50,
        "initial_lr": 1e-3,
        "momentum": 0.99,
        "weight_decay": 3e-5,
        "oversample_foreground_percent": 0.33,
        "full_share": 0.0,
        "optimizer_name": "sgd",
        "schedule": "poly",
        "warmup": 0,
        "augmentation": "nnunet",
        "mirror": True,
        "enable_deep_supervision": True,
        "loss_name": "dice_ce",
        "alpha": 0.3,
        "beta": 0.7,
        "unknown": "ignore",
        "cohort_weights": {},
        "save_every": 10,
        "seed": 5,
    }
    hu = plans["foreground_intensity_properties_per_channel"]["0"]
    assert (hu["percentile_00_5"], hu["percentile_99_5"]) == (-150, 350)
    assert hu["mean"] == pytest.approx(100, abs=0.1)  # of -150, 100, 350


# Checkpoints


def test_a_checkpoint_that_runs_code_is_refused(tmp_path):
    import torch

    from lnqtools.nnunet.checkpoint import load_checkpoint

    trap = tmp_path / "made by the pickle"
    torch.save({"network_weights": {}, "logging": Trap(trap)}, tmp_path / "c.pth")
    with pytest.raises(LnqError, match=r"posix\.mkdir.*could run any code"):
        load_checkpoint(tmp_path / "c.pth")
    assert not trap.exists()
    load_checkpoint(tmp_path / "c.pth", trust=True)
    assert trap.exists()


def test_a_torn_checkpoint_is_named(tmp_path):
    import torch

    from lnqtools.nnunet.checkpoint import load_checkpoint

    torch.save({"network_weights": torch.zeros(10_000)}, tmp_path / "c.pth")
    (tmp_path / "c.pth").write_bytes((tmp_path / "c.pth").read_bytes()[:20_000])
    with pytest.raises(LnqError, match=r"c\.pth is not a readable checkpoint"):
        load_checkpoint(tmp_path / "c.pth")


def test_digest_tells_checkpoints_apart(tmp_path):
    import torch

    from lnqtools.nnunet.checkpoint import checkpoint_digest

    for name, value in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        torch.save({"w": torch.full((50,), value)}, tmp_path / name)
    a, b, c = (checkpoint_digest([tmp_path / name]) for name in "abc")
    assert a != c
    assert a == checkpoint_digest([tmp_path / "a"])
    assert len({a, b}) <= 2


# Prediction against nnU-Net's own


def image(shape=(30, 44, 40), seed=0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), 2)
    return np.rint(noise / noise.std() * 150 + 40).astype(np.int16)


def nnunets_own(folder: Path, array: np.ndarray, spacing, mirroring=True, folds=(0,)):
    """Return segmentation and probabilities (class, z, y, x) as nnU-Net makes them."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    properties = {"spacing": list(spacing)}
    return predictor.predict_single_npy_array(
        array[np.newaxis].astype(np.float32), properties, None, None, True
    )


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def assert_same(prediction, mask, probability, tolerance=2e-3):
    assert 0.01 < mask.mean() < 0.99  # otherwise agreement says nothing
    assert dice(prediction.mask == 1, mask) >= 0.999
    assert np.abs(prediction.probability - probability).max() <= tolerance


@pytest.mark.parametrize(
    ("spacing", "options"),
    [
        pytest.param((2.0, 1.0, 1.0), {}, id="same spacing"),
        pytest.param((1.4, 1.2, 0.8), {}, id="resampled"),
        pytest.param((5.0, 0.9, 0.9), {}, id="thick slices apart"),
        pytest.param((1.3, 0.9, 1.9), {"transpose": (2, 0, 1)}, id="turned"),
        pytest.param((2.0, 1.3, 1.0), {"folds": ("0", "1")}, id="two folds"),
        pytest.param(
            (2.0, 1.3, 1.0),
            {"labels": {"background": 0, "vessel": 1, "LN": 2}},
            id="three classes",
        ),
    ],
)
def test_prediction_equals_nnunets(tmp_path, spacing, options):
    from lnqtools.nnunet.predict import Predictor

    model = random_model(tmp_path / "m", **options)
    array = image()
    array[:, :7] = array[28:] = 0  # cropped off by nnU-Net
    predictor = Predictor(model, mirroring=False, device="cpu", threads=1)
    result = predictor.predict(volume(array, spacing), with_probability=True)
    folds = tuple(int(fold) for fold in options.get("folds", ("0",)))
    segmentation, probabilities = nnunets_own(model, array, spacing, False, folds)
    value = 2 if "labels" in options else 1
    assert_same(result, segmentation == value, probabilities[value])
    assert result.mask.dtype == np.uint8
    assert result.probability.dtype == np.float32
    assert not result.mask[:, :7].any()
    assert not result.probability[28:].any()


def test_large_logits_are_resampled_without_a_second_rounding(tmp_path):
    import torch
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from skimage.transform import resize

    from lnqtools.nnunet import prediction
    from lnqtools.nnunet.predict import Predictor

    rng = np.random.default_rng(0)
    common, apart = (gaussian_filter(rng.normal(0, 1, (12, 18, 18)), 2) for _ in range(2))
    common, apart = 40 * common / common.std(), 6 * apart / apart.std()
    logits = torch.from_numpy(np.stack([common - apart / 2, common + apart / 2])).half()
    shape = (19, 26, 24)
    properties = {
        "shape_after_cropping_and_before_resampling": shape,
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, n] for n in shape],
    }
    predictor = Predictor(random_model(tmp_path / "m"), device="cpu")
    _, ours = prediction._by_difference(predictor._model, logits, properties, 0.5, True)
    exact = [
        resize(of_class.double().numpy(), shape, 1, mode="edge", anti_aliasing=False)
        for of_class in logits
    ]
    exact = 1 / (1 + np.exp(exact[0] - exact[1]))
    assert np.abs(ours - exact).max() < 1e-5
    spacings = ([19.0 / 12, 26.0 / 18, 24.0 / 18], [1.0, 1.0, 1.0])
    theirs = resample_data_or_seg_to_shape(logits, shape, *spacings, is_seg=False, order=1)
    theirs = torch.softmax(torch.as_tensor(theirs).float(), 0)[1].numpy()
    assert 1e-3 < np.abs(theirs - exact).max() < 0.02


def test_regions_are_predicted_as_nnunet_does(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    labels = {"background": 0, "chest": [1, 2], "lymph_node": [2]}
    model = random_model(tmp_path / "m", labels=labels, extra={"regions_class_order": [1, 2]})
    array = image()
    predictor = Predictor(model, mirroring=False, device="cpu")
    result = predictor.predict(volume(array, (2.0, 1.3, 1.0)), with_probability=True)
    segmentation, probabilities = nnunets_own(model, array, (2.0, 1.3, 1.0), False)
    assert_same(result, segmentation == 2, probabilities[1])


def test_mirroring_is_nnunets_and_counted(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    model = random_model(tmp_path / "m")
    array = image((16, 24, 24))
    predictor = Predictor(model, device="cpu")
    assert predictor.evaluations_per_patch == 8
    result = predictor.predict(volume(array, SPACING), with_probability=True)
    segmentation, probabilities = nnunets_own(model, array, SPACING)
    assert_same(result, segmentation == 1, probabilities[1])


def test_threshold_is_one_of_probability(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    predictor = Predictor(random_model(tmp_path / "m"), mirroring=False, device="cpu")
    array = image((16, 24, 24))
    for threshold in (0.2, 0.9):
        result = predictor.predict(
            volume(array, SPACING), threshold=threshold, with_probability=True
        )
        assert 0.01 < result.mask.mean() < 0.99
        clear = np.abs(result.probability - threshold) > 1e-6
        assert ((result.probability > threshold) == result.mask)[clear].all()


def test_patch_count_is_what_the_window_takes(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    predictor = Predictor(random_model(tmp_path / "m"), mirroring=False, device="cpu")
    passes = []
    predictor._model.network.register_forward_hook(lambda *told: passes.extend(told[-1]))
    predictor.predict(volume(image((20, 50, 30)), (3.0, 1.0, 1.5)))
    # 30 × 50 × 45 voxels of (2, 1, 1) mm in patches of 16 × 24 × 24, steps of at most half.
    assert (
        predictor.patch_count(lps_grid((20, 50, 30), (3.0, 1.0, 1.5))) == 3 * 4 * 3 == len(passes)
    )


def test_an_empty_image_has_no_nodes(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    predictor = Predictor(random_model(tmp_path / "m"), device="cpu")
    result = predictor.predict(
        volume(np.zeros((4, 5, 6), np.int16), SPACING), with_probability=True
    )
    assert result.mask.shape == result.probability.shape == (4, 5, 6)
    assert not result.mask.any()
    assert not result.probability.any()


def test_metadata_may_lie_one_level_up_and_a_single_model_is_found(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    inner = random_model(tmp_path / "set" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    for name in ("plans.json", "dataset.json"):
        (inner / name).rename(tmp_path / "set" / name)
    assert Predictor(inner, device="cpu").checkpoints == ("fold_0/checkpoint_final.pth",)
    assert (
        Predictor(tmp_path / "set", device="cpu").patch_count(lps_grid((16, 24, 24), SPACING)) == 1
    )


def test_which_folds_and_checkpoints_are_taken(tmp_path):
    from lnqtools.nnunet.model_folder import find_checkpoints

    for name in (
        *("0/checkpoint_best", "0/checkpoint_latest", "3/checkpoint_final", "all/other"),
        "0_backup/checkpoint_final",
    ):
        path = tmp_path / f"fold_{name}.pth"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def taken(*arguments):
        paths = find_checkpoints(tmp_path, *arguments)
        return [str(path.relative_to(tmp_path)) for path in paths]

    assert taken() == ["fold_0/checkpoint_best.pth", "fold_3/checkpoint_final.pth"]
    assert taken(["3"]) == ["fold_3/checkpoint_final.pth"]
    assert taken(None, "checkpoint_latest.pth") == ["fold_0/checkpoint_latest.pth"]
    assert taken(None, "other.pth") == ["fold_all/other.pth"]
    with pytest.raises(LnqError, match="fold_1"):
        taken(["1"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra": {"channel_names": {"0": "CT", "1": "PET"}}}, r"2 input channels \(CT, PET\)"),
        ({"labels": {"background": 0, "liver": 1, "spleen": 2}}, "or the like: liver, spleen; say"),
    ],
)
def test_models_for_something_else_are_refused(tmp_path, options, message):
    from lnqtools.nnunet.predict import Predictor

    with pytest.raises(LnqError, match=message):
        Predictor(random_model(tmp_path / "m", **options), device="cpu")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from lnqtools.nnunet.predict import Predictor

    model = random_model(tmp_path / "m")
    plans = json.loads((model / "plans.json").read_text())
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network["features_per_stage"][0] = 9
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(LnqError, match="do not fit"):
        Predictor(model, device="cpu")


def test_an_unknown_trainer_is_noted(tmp_path):
    import torch

    from lnqtools.nnunet.checkpoint import load_checkpoint
    from lnqtools.nnunet.predict import Predictor

    model = random_model(tmp_path / "m")
    path = model / "fold_0" / "checkpoint_final.pth"
    content = dict(load_checkpoint(path)) | {"trainer_name": "nnUNetTrainerOfTheirs"}
    path.unlink()  # its tensors are still mapped
    torch.save(content, path)
    assert "nnUNetTrainerOfTheirs" in Predictor(model, device="cpu").notes[0]


# Training

CASES, EPOCHS = 4, 3
FOLDS = Folds(CASES)


def training_cases(folder: Path) -> list[data.TrainingCase]:
    return [
        data.TrainingCase(path.name.removesuffix(".nii.gz"), path, folder / "label" / path.name)
        for path in sorted((folder / "ct").iterdir())
    ]


class Stopped(BaseException):
    """What ends a training from within, as a signal would."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_thread):
    """Return the folder of a cohort and of a model that was stopped and resumed."""
    from lnqtools.nnunet.train import train

    root = tmp_path_factory.mktemp("training")
    write_bright_nodes(root, CASES + 1)
    learned = TrainingData(training_cases(root)[:CASES], folds=FOLDS)
    recipe = find_recipe("smoke").with_changes({"epochs": EPOCHS, "iterations": 25})
    seen = []

    def stop_after_two(epoch, *rest):
        seen.append(epoch)
        if epoch == 2:
            raise Stopped

    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(Stopped):
        train(
            learned,
            root / "model",
            recipe,
            RunSettings(device="cpu"),
            Listeners(progress=stop_after_two),
        )
    train(
        learned,
        root / "model",
        recipe,
        RunSettings(existing="resume", device="cpu"),
        Listeners(progress=lambda epoch, *_: seen.append(epoch)),
    )
    assert not [name for name in os.environ if name.startswith("nnUNet")]
    assert said.getvalue() == ""
    assert seen == [1, 2, 3]
    return root


@pytest.mark.slow
def test_trained_model_finds_nodes_of_a_case_it_has_not_seen(trained):
    from lnqtools.nnunet.predict import Predictor

    predictor = Predictor(trained / "model", device="cpu", mirroring=False)
    result = predictor.predict(
        volume(load(trained / "ct" / f"case {CASES}.nii.gz"), (1.5, 1.0, 1.0))
    )
    truth = load(trained / "truth" / f"case {CASES}.nii.gz") == 1
    assert dice(result.mask == 1, truth) > 0.6


@pytest.mark.slow
def test_resumed_training_ends_as_one_that_was_not_stopped(trained):
    import torch

    from lnqtools.nnunet.checkpoint import load_checkpoint
    from lnqtools.nnunet.train import train

    recipe = find_recipe("smoke").with_changes({"epochs": EPOCHS, "iterations": 25})
    learned = TrainingData(training_cases(trained)[:CASES], folds=FOLDS)
    train(learned, trained / "straight", recipe, RunSettings(device="cpu"))
    straight, resumed = (
        load_checkpoint(trained / name / "fold_0" / "checkpoint_final.pth")
        for name in ("straight", "model")
    )
    assert straight["current_epoch"] == resumed["current_epoch"] == EPOCHS
    for key, weight in straight["network_weights"].items():
        assert torch.equal(weight, resumed["network_weights"][key])


@pytest.mark.slow
def test_the_model_and_its_checkpoint_say_in_which_orientation_it_sees(trained):
    from lnqtools.nnunet.checkpoint import load_checkpoint

    plans = json.loads((trained / "model" / "plans.json").read_text())
    checkpoint = load_checkpoint(trained / "model" / "fold_0" / "checkpoint_final.pth")
    assert plans["lnq_orientation"] == "LPS"
    assert checkpoint["init_args"]["plans"]["lnq_orientation"] == "LPS"


@pytest.mark.slow
def test_model_folder_is_whole_and_what_runs_it_holds_no_paths(trained):
    model = trained / "model"
    names = {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()}
    names = {name for name in names if "training_log" not in name}
    assert names == {
        *("plans.json", "dataset.json", "dataset_fingerprint.json", "lnq-train.json"),
        *("splits_final.json", "cohorts.tsv"),
        *(f"fold_0/{name}" for name in ("checkpoint_final.pth", "checkpoint_best.pth")),
        *(f"fold_0/training.{kind}" for kind in ("tsv", "png")),
    }
    for name in names - {"lnq-train.json"}:
        assert str(trained).encode() not in (model / name).read_bytes(), name
    header, *rows = (model / "fold_0" / "training.tsv").read_text().splitlines()
    assert header.split("\t")[:2] == ["epoch", "learning_rate"]
    assert [row.split("\t")[0] for row in rows] == [str(k + 1) for k in range(EPOCHS)]
    record = json.loads((model / "lnq-train.json").read_text())
    assert record["made_with"]["recipe"]["iterations"] == 25
    assert len(record["runs"]) == 2  # stopped and resumed
    for run in record["runs"]:
        assert set(run["versions"]) >= {"lnq-tools", "nnunetv2", "torch"}
        assert (run["fold"], run["device"], run["recipe"]["name"]) == ("0", "cpu", "smoke")


@pytest.mark.slow
def test_statistics_are_those_of_annotated_nodes(trained):
    plans = json.loads((trained / "model" / "plans.json").read_text())
    statistics = plans["foreground_intensity_properties_per_channel"]["0"]
    nodes = [load(case.image)[load(case.label) == 1] for case in training_cases(trained)[:CASES]]
    assert statistics["mean"] == pytest.approx(np.mean([v.mean() for v in nodes]), abs=0.1)
    assert statistics["mean"] > 100  # with unknown voxels it would lie near -40


@pytest.mark.slow
def test_logits_of_unknown_voxels_do_not_move_the_loss(trained, tmp_path):
    import torch

    from lnqtools.nnunet.environment import environment
    from lnqtools.nnunet.prepare import CONFIGURATION, nnunet_folders
    from lnqtools.nnunet.trainer import LNQTrainer

    plans, description = (
        json.loads((trained / "model" / name).read_text())
        for name in ("plans.json", "dataset.json")
    )
    with environment(nnunet_folders(tmp_path)):
        trainer = LNQTrainer(plans, CONFIGURATION, 0, description, torch.device("cpu"))
    loss = trainer._build_loss()
    target = torch.randint(0, 3, (2, 1, 16, 16, 16)).float()
    steps = [2**level for level in range(len(trainer._get_deep_supervision_scales()))]
    targets = [target[..., ::step, ::step, ::step].clone() for step in steps]
    logits = [torch.randn(2, 2, *labels.shape[2:]) for labels in targets]

    def with_other_logits_at(value):
        return [
            torch.where(t == value, x + 3 * torch.randn_like(x), x)
            for t, x in zip(targets, logits, strict=True)
        ]

    before = loss(logits, [t.clone() for t in targets])
    assert torch.equal(loss(with_other_logits_at(2), [t.clone() for t in targets]), before)
    assert not torch.equal(loss(with_other_logits_at(0), [t.clone() for t in targets]), before)


@pytest.mark.slow
def test_finished_model_is_kept_and_another_recipe_refused(trained):
    from lnqtools.nnunet.train import train

    learned = TrainingData(training_cases(trained)[:CASES], folds=FOLDS)
    recipe = find_recipe("smoke").with_changes({"epochs": EPOCHS, "iterations": 25})
    final = trained / "model" / "fold_0" / "checkpoint_final.pth"
    before = final.stat().st_mtime_ns
    told: list[str] = []
    left = left_by_a_killed_run(final.with_name("training.png"))
    left.touch()
    for existing in ("keep", "resume"):
        train(
            learned,
            trained / "model",
            recipe,
            RunSettings(existing=existing),
            Listeners(notify=told.append),
        )
    assert final.stat().st_mtime_ns == before
    assert not left.exists()
    assert len(told) == 2
    assert "trained already" in told[0]
    keep = RunSettings(existing="keep")
    with pytest.raises(LnqError, match="has been trained"):
        train(TrainingData(learned.cases), trained / "model", recipe)
    with pytest.raises(LnqError, match="epochs 3 there, 4 now"):
        train(learned, trained / "model", recipe.with_changes({"epochs": 4}), keep)
    with pytest.raises(LnqError, match="1 cases missing now"):
        train(replace(learned, cases=learned.cases[1:]), trained / "model", recipe, keep)
    other = recipe.with_changes({"epochs": 4, "fold": "1"})
    with pytest.raises(LnqError, match=r"fold_0 of .* was trained with other settings"):
        train(learned, trained / "model", other, RunSettings(existing="replace"))
    assert final.stat().st_mtime_ns == before


def test_what_cannot_be_trained_leaves_no_trace(tmp_path):
    from lnqtools.nnunet.train import train

    model = tmp_path / "m"

    def on_cpu(cases, *, recipe="smoke", folds=None, existing="refuse"):
        learned = TrainingData(cases, folds=folds or Folds())
        train(learned, str(model), recipe, RunSettings(existing=existing, device="cpu"))

    with pytest.raises(LnqError, match="there are no cases"):
        on_cpu([])
    with pytest.raises(data.InvalidCasesError):
        on_cpu([case_files(tmp_path, "a", np.full((4, 4, 4), 3, np.uint8))])
    good = case_files(tmp_path, "b", np.ones((4, 4, 4), np.uint8))
    with pytest.raises(LnqError, match="no checkpoint to resume"):
        on_cpu([good], existing="resume")
    with pytest.raises(LnqError, match="a single case cannot be split"):
        on_cpu([good])
    other = case_files(tmp_path, "c", np.ones((4, 4, 4), np.uint8))
    with pytest.raises(LnqError, match="2 cases are fewer than 5 folds: use --folds 2"):
        on_cpu([good, other])
    third = find_recipe("smoke").with_changes({"fold": "2"})
    with pytest.raises(LnqError, match="no fold 2: there are 2 folds"):
        on_cpu([good, other], recipe=third, folds=Folds(2))
    assert not model.exists()
    model.mkdir()
    (model / "somebody's").touch()
    with pytest.raises(LnqError, match="give a new folder"):
        on_cpu([good], existing="replace")
    assert [path.name for path in model.iterdir()] == ["somebody's"]


@pytest.mark.slow
def test_plain_nnunet_runs_the_model(trained, tmp_path):
    from lnqtools.nnunet.predict import Predictor

    name = f"case {CASES}.nii.gz"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "new_0000.nii.gz").symlink_to(trained / "ct" / name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("nnUNet")}
    subprocess.run(
        [
            BIN / "nnUNetv2_predict_from_modelfolder",
            *("-i", tmp_path / "in", "-o", tmp_path / "out", "-m", trained / "model"),
            *("-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta"),
            *("--save_probabilities", "--disable_progress_bar"),
        ],
        env=environment | {"nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    predictor = Predictor(trained / "model", device="cpu", mirroring=False)
    result = predictor.predict(
        volume(load(trained / "ct" / name), (1.5, 1.0, 1.0)), with_probability=True
    )
    theirs = np.load(tmp_path / "out" / "new.npz")["probabilities"][1]
    assert_same(result, load(tmp_path / "out" / "new.nii.gz") == 1, theirs)


def test_libraries_do_not_reach_standard_output(tmp_path, capfd):
    from lnqtools.nnunet.predict import Predictor

    model = random_model(tmp_path / "m")
    capfd.readouterr()  # what making the model said
    Predictor(model, device="cpu").predict(volume(image((16, 24, 24)), (5.0, 0.9, 0.9)))
    assert capfd.readouterr() == ("", "")
