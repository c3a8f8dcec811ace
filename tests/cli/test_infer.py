"""lnq-infer's own options, on an untrained model; trained ones are in tests/test_nnunet.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.cohort import MATRIX, SHAPE, make_cohort
from tests.cli.helpers import usage_error
from tests.conftest import load, matrix_of, run, save, succeed

pytestmark = pytest.mark.slow
LUNG_BOX = (slice(2, 11), slice(3, 12), slice(1, 15))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, model) -> Path:
    return make_cohort(tmp_path_factory.mktemp("infer"))


@pytest.fixture(scope="module")
def predicted(cohort, model) -> tuple[np.ndarray, np.ndarray]:
    """Return mask and probabilities of one case inside its lungs' box."""
    arguments = ["-m", model, "--no-mirror", "--lungs", cohort / "lungs", "-O", cohort / "made"]
    succeed(
        "lnq-infer", cohort / "ct" / "plain.nii.gz", *arguments, "--probabilities", cohort / "p"
    )
    return load(cohort / "made" / "plain.nii.gz"), load(cohort / "p" / "plain.nii.gz")


def test_mask_and_probabilities_lie_on_the_ct_and_are_0_outside_the_box(cohort, predicted):
    mask, probability = predicted
    assert (mask.shape, mask.dtype) == (SHAPE, np.uint8)
    assert (probability.shape, probability.dtype) == (SHAPE, np.float32)
    np.testing.assert_allclose(matrix_of(cohort / "made" / "plain.nii.gz"), MATRIX)
    outside = np.ones(SHAPE, bool)
    outside[LUNG_BOX] = False
    assert not mask[outside].any()
    assert not probability[outside].any()
    assert 0 < mask.sum() < mask[LUNG_BOX].size
    np.testing.assert_array_equal(mask[LUNG_BOX], probability[LUNG_BOX] > 0.5)


def test_prediction_is_that_of_nnunet_on_the_cropped_ct(cohort, model, predicted):
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    ct = load(cohort / "ct" / "plain.nii.gz")[LUNG_BOX].astype(np.float32)
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    properties = {"spacing": [2.0, 1.5, 1.5]}
    mask, probabilities = predictor.predict_single_npy_array(ct[None], properties, None, None, True)
    np.testing.assert_allclose(predicted[1][LUNG_BOX], probabilities[1], atol=1e-3)
    assert (predicted[0][LUNG_BOX] != mask).mean() < 1e-3


def test_threshold_is_a_probability(cohort, model, predicted):
    middle = float(np.median(predicted[1][LUNG_BOX]))
    arguments = ["-m", model, "--no-mirror", "--lungs", cohort / "lungs", "--threshold", middle]
    target = cohort / "threshold.nii.gz"
    succeed("lnq-infer", cohort / "ct" / "plain.nii.gz", *arguments, "-o", target)
    np.testing.assert_array_equal(load(target)[LUNG_BOX], predicted[1][LUNG_BOX] > middle)


def test_a_missing_probability_map_is_made_again(cohort, model, predicted):
    arguments = ["-m", model, "--no-mirror", "--lungs", cohort / "lungs", "-O", cohort / "made"]
    arguments += ["--probabilities", cohort / "p", cohort / "ct" / "plain.nii.gz"]
    (cohort / "p" / "plain.nii.gz").unlink()
    succeed("lnq-infer", *arguments, "-s")
    np.testing.assert_array_equal(load(cohort / "p" / "plain.nii.gz"), predicted[1])
    other = run("lnq-infer", *arguments, "-s", "--threshold", "0.25")
    assert other.status == 1
    assert "--threshold 0.5, now 0.25" in other.err


def test_without_a_crop_the_whole_ct_is_seen(cohort, model):
    target = cohort / "whole.nii.gz"
    source = cohort / "ct" / "plain.nii.gz"
    succeed("lnq-infer", source, "-m", model, "--no-mirror", "--no-crop", "-o", target)
    mask = load(target)
    outside = np.ones(SHAPE, bool)
    outside[LUNG_BOX] = False
    assert mask[outside].any()
    kept = succeed(
        "lnq-infer", source, "-m", model, "--no-mirror", "--lungs", "none", "-o", target, "-s"
    )
    assert kept.lines == [str(target)]


def test_a_ct_turned_and_mirrored_is_predicted_in_its_place(cohort, model):
    """nnU-Net reads arrays as they are stored; the mask must lie where its CT lies."""
    turned = np.diag([2.0, 1.5, 1.5, 1.0])[[1, 2, 0, 3]] * [1, -1, 1, 1]
    source = save(cohort / "turned.nii.gz", load(cohort / "ct" / "plain.nii.gz"), turned)
    target = cohort / "turned-mask.nii.gz"
    succeed("lnq-infer", source, "-m", model, "--no-mirror", "--no-crop", "-o", target)
    assert nib.load(target).shape == nib.load(source).shape
    np.testing.assert_allclose(matrix_of(target), turned, atol=1e-6)


def test_models_that_are_none_are_refused_once_for_all_inputs(cohort, model):
    sources = sorted((cohort / "ct").iterdir())
    empty = cohort / "empty"
    empty.mkdir()
    result = run("lnq-infer", *sources, "-m", empty, "-O", cohort / "none")
    assert result.status == 1
    assert result.err == (
        f"lnq-infer: {empty}: is not an nnU-Net results folder: there is no fold_* in it\n"
    )
    damaged = cohort / "damaged"
    shutil.copytree(model, damaged)
    checkpoint = damaged / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    result = run("lnq-infer", *sources, "-m", damaged, "-O", cohort / "none")
    assert result.status == 1
    assert result.err.startswith(f"lnq-infer: {damaged}: ")
    assert "checkpoint_final.pth" in result.err
    assert result.err.count("\n") == 1
    missing = run("lnq-infer", *sources, "-m", model, "--folds", "3", "-O", cohort / "none")
    assert missing.status == 1
    assert "fold_3 does not exist" in missing.err


def test_wrong_values_are_usage_errors():
    case = ["ct.nii.gz", "-O", "out", "-m", "model"]
    assert "0<x<1" in usage_error("lnq-infer", *case, "--threshold", "1")
    assert "not a finite" in usage_error("lnq-infer", *case, "--threshold", "nan")
    assert "step-size" in usage_error("lnq-infer", *case, "--step-size", "0")
    assert "is not a list" in usage_error("lnq-infer", *case, "--folds", "a,b")
    assert "-m" in usage_error("lnq-infer", "ct.nii.gz", "-O", "out")
