"""lnq-infer's own options, on an untrained model; trained ones: tests/nnunet/test_nnunet.py."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click
import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from lnqtools.images.nifti import read_provenance
from tests.cli.cohort import MATRIX, SHAPE, make_cohort
from tests.cli.helpers import usage_error
from tests.conftest import BIN, load, matrix_of, run, save, succeed

if TYPE_CHECKING:
    from lnqtools.cli._batch import Batch

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


def test_slicers_file_has_the_same_mask_by_name(cohort, model, predicted):
    import SimpleITK as sitk

    arguments = ["-m", model, "--no-mirror", "--lungs", cohort / "lungs"]
    path = cohort / "x.seg.nrrd"
    call = ("lnq-infer", cohort / "ct" / "plain.nii.gz", *arguments, "-o", path)
    assert succeed(*call).lines == [str(path)]
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), predicted[0])
    assert image.GetMetaData("Segment0_Name") == "lymph node"
    assert "SCT^59441001^Lymph node" in image.GetMetaData("Segment0_Tags")
    first = path.read_bytes()
    assert succeed(*call, "-s").err == ""
    assert "was made with" in run(*call, "-s", "--threshold", "0.4").err
    assert path.read_bytes() == first


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
    assert "--threshold unset, now 0.25" in other.err


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_a_mask_by_other_plans_or_labels_is_not_kept(cohort, model, tmp_path, name):
    models = [tmp_path / "a", tmp_path / "b"]
    for folder in models:
        shutil.copytree(model, folder)
    arguments = [cohort / "ct" / "plain.nii.gz", "--no-mirror", "--lungs", cohort / "lungs"]
    arguments += ["-m", models[0], "-m", models[1], "-o", tmp_path / "out.nii.gz"]
    succeed("lnq-infer", *arguments)
    assert succeed("lnq-infer", *arguments, "-s").err == ""
    content = json.loads((models[1] / name).read_text())
    (models[1] / name).write_text(json.dumps(content, indent=7))  # the same
    assert succeed("lnq-infer", *arguments, "-s").err == ""
    (models[1] / name).write_text(json.dumps({**content, "changed": 1}))
    result = run("lnq-infer", *arguments, "-s")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"lnq-infer: {arguments[0]}: {tmp_path}/out.nii.gz exists and was made from another "
        f"--model {models[1]}; -f replaces it\n"
    )


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


# How a CT's axes are stored

CODES = ("LPS", "RAI", "PIR", "SAL")


@pytest.fixture(scope="module")
def stored(cohort) -> list[Path]:
    """Return files of one CT whose axes are stored in four ways."""
    image = nib.load(cohort / "ct" / "plain.nii.gz")
    (cohort / "stored").mkdir()
    for code in CODES:
        nib.save(turned(image, code), cohort / "stored" / f"{code}.nii.gz")
    return [cohort / "stored" / f"{code}.nii.gz" for code in CODES]


def turned(image: nib.Nifti1Image, code: str) -> nib.Nifti1Image:
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(code)))


def in_lps(path: Path, code: str) -> np.ndarray:
    """Return the voxels of an image that is stored in an orientation, as those of its LPS."""
    image = nib.load(path)
    assert nib.aff2axcodes(image.affine) == tuple(code)
    return np.asanyarray(turned(image, "LPS").dataobj)


def test_a_ct_has_one_mask_however_its_axes_are_stored(cohort, model, stored):
    arguments = ["-m", model, "--no-mirror", "--no-crop", "-O", cohort / "one mask"]
    result = succeed("lnq-infer", *stored, *arguments, "--probabilities", cohort / "one p")
    assert result.err == ""
    for folder in ("one mask", "one p"):
        paths = {code: cohort / folder / f"{code}.nii.gz" for code in CODES}
        expected = in_lps(paths["LPS"], "LPS")
        assert 0 < expected.mean() < 1
        for code, path in paths.items():
            np.testing.assert_array_equal(in_lps(path, code), expected)
            np.testing.assert_allclose(
                matrix_of(path), matrix_of(cohort / "stored" / path.name), atol=1e-6
            )
            assert set(read_provenance(path)) == {"tool", "version", "options", "made_from"}


def test_a_ct_that_is_turned_without_the_models_word_is_told(cohort, model, stored):
    """Of a model of nnU-Net's own, slices are last, as most CTs are stored."""
    silent, out = cohort / "silent", cohort / "silent out"
    shutil.copytree(model, silent)
    plans = json.loads((silent / "plans.json").read_text())
    assert plans.pop("lnq_orientation") == "LPS"
    (silent / "plans.json").write_text(json.dumps(plans))
    arguments = [*stored, "-m", silent, "--no-mirror", "--no-crop", "-O", out]
    result = succeed("lnq-infer", *arguments)
    sentence = (
        "warning: its axes are stored as {}, and the model does not say how those that it was "
        "trained on were: it sees them as {}, slices last (see --orientation)"
    )
    assert result.err.splitlines() == [
        f"lnq-infer: {cohort}/stored/PIR.nii.gz: {sentence.format('PIR', 'RPI')}",
        f"lnq-infer: {cohort}/stored/SAL.nii.gz: {sentence.format('SAL', 'LAS')}",
    ]
    records = {code: read_provenance(out / f"{code}.nii.gz") for code in CODES}
    assert {code: record.get("turned") for code, record in records.items()} == {
        "LPS": None,
        "RAI": None,
        "PIR": "PIR to RPI",
        "SAL": "SAL to LAS",
    }
    as_lps = in_lps(cohort / "one mask" / "LPS.nii.gz", "LPS")
    np.testing.assert_array_equal(in_lps(out / "LPS.nii.gz", "LPS"), as_lps)
    # PIR to RPI is LPS with x and z turned round, and this is what the network sees
    mirrored = nib.load(cohort / "ct" / "plain.nii.gz")
    array = np.asanyarray(mirrored.dataobj)[::-1, :, ::-1]
    nib.save(nib.Nifti1Image(array, mirrored.affine), cohort / "mirrored.nii.gz")
    succeed("lnq-infer", cohort / "mirrored.nii.gz", *arguments[4:-2], "-o", cohort / "m.nii")
    expected = in_lps(cohort / "m.nii", "LPS")[::-1, :, ::-1]
    np.testing.assert_array_equal(in_lps(out / "PIR.nii.gz", "PIR"), expected)
    before = [path.read_bytes() for path in sorted(out.iterdir())]
    assert succeed("lnq-infer", *arguments, "-f").err == result.err
    assert [path.read_bytes() for path in sorted(out.iterdir())] == before
    assert succeed("lnq-infer", *arguments, "-s").err == ""

    other = run("lnq-infer", *arguments, "-s", "--orientation", "stored")
    assert other.status == 1
    assert "was made with --orientation unset, now stored" in other.err
    for wanted in ("stored", "pir"):
        where = cohort / f"as {wanted}.nii"
        command = [stored[2], *arguments[4:-2], "--orientation", wanted, "-o", where]
        assert succeed("lnq-infer", *command).err == ""
    assert read_provenance(cohort / "as pir.nii")["options"]["orientation"] == "PIR"
    np.testing.assert_array_equal(load(cohort / "as stored.nii"), load(cohort / "as pir.nii"))
    assert (load(cohort / "as stored.nii") != load(out / "PIR.nii.gz")).mean() > 0.01


def test_a_model_that_normalizes_each_image_is_told_of_on_a_crop(cohort, tmp_path):
    from tests.nnunet_data import random_model

    def by_image(plans: dict) -> None:
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["ZScoreNormalization"]

    model = random_model(tmp_path / "m", change_plans=by_image)
    source = cohort / "ct" / "plain.nii.gz"
    arguments = [source, "-m", model, "--no-mirror", "-o", tmp_path / "a.nii", "-f"]
    assert succeed("lnq-infer", *arguments, "--lungs", "none").err == ""
    cropped = succeed("lnq-infer", *arguments, "--lungs", cohort / "lungs")
    assert cropped.err.splitlines()[0] == (
        f"lnq-infer: warning: {model}: normalizes each image by its own values, here those of "
        "the lungs' box; a model that was trained on whole CTs needs --lungs none"
    )


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
    assert "is not a list of names" in usage_error("lnq-infer", *case, "--label", "LN,,node")
    assert "-m" in usage_error("lnq-infer", "ct.nii.gz", "-O", "out")
    wrong = usage_error("lnq-infer", *case, "--orientation", "XYZ")
    assert "'XYZ' is not an orientation" in wrong
    assert "such as LPS; or auto, or stored" in wrong
    assert "m/./ is given twice" in usage_error("lnq-infer", *case, "-m", "m", "-m", "m/./")


# Against nnU-Net's own commands, archives and ensembles included

INNER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(scope="module")
def results(cohort, model) -> Path:
    """Return a folder as $nnUNet_results, of two models that nnU-Net's commands find by number."""
    from tests.nnunet_data import random_model

    folder = cohort / "results"
    shutil.copytree(model, folder / "Dataset001_A" / INNER)
    random_model(
        folder / "Dataset002_B" / INNER,
        spacing=(2.5, 1.2, 1.2),
        patch=(16, 16, 24),
        folds=("0", "1"),
        eagerness=-3.0,
    )
    for fold in folder.glob("*/*/fold_*"):  # the export wants these
        (fold / "validation").mkdir()
        for name in ("progress.png", "validation/summary.json"):
            (fold / name).write_bytes(b"")
    for inner in folder.glob("*/*"):
        (inner / "dataset_fingerprint.json").write_text("{}")
    return folder


def nnunet(command: str, results: Path, *arguments) -> None:
    """Run one of nnU-Net's own commands."""
    variables = {
        "nnUNet_results": str(results),
        "nnUNet_raw": str(results.parent / "raw"),
        "nnUNet_preprocessed": str(results.parent / "preprocessed"),
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [BIN / f"nnUNetv2_{command}", *map(str, arguments)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def archive(cohort, results) -> Path:
    """Return what nnUNetv2_export_model_to_zip makes of the second model."""
    options = ("-d", 2, "-o", cohort / "b.zip", "-c", "3d_fullres", "-f", 0, 1)
    nnunet("export_model_to_zip", results, *options)
    return cohort / "b.zip"


@pytest.fixture(scope="module")
def theirs(cohort, results) -> Path:
    """Return what nnU-Net predicts on the cropped CT: folders a, b and their ensemble ab."""
    source = cohort / "ct" / "plain.nii.gz"
    crop = cohort / "crop" / "plain_0000.nii.gz"
    crop.parent.mkdir()
    succeed("lnq-crop", source, "--lungs", cohort / "lungs", "-o", crop)
    for number, name, folds in ((1, "a", (0,)), (2, "b", (0, 1))):
        nnunet(
            "predict",
            results,
            *("-d", number, "-c", "3d_fullres", "-f", *folds, "-i", crop.parent),
            *("-o", cohort / "theirs" / name, "--save_probabilities", "--disable_tta"),
            *("-npp", 1, "-nps", 1, "-device", "cpu"),
        )
    both = [cohort / "theirs" / name for name in "ab"]
    arguments = ("-i", *both, "-o", cohort / "theirs" / "ab", "--save_npz", "-np", 1)
    nnunet("ensemble", results, *arguments)
    return cohort / "theirs"


def assert_equal_nnunet(ours: tuple[np.ndarray, np.ndarray], folder: Path) -> None:
    mask, probability = (array[LUNG_BOX] for array in ours)
    expected = load(folder / "plain.nii.gz") == 1
    assert 0.05 < expected.mean() < 0.95
    both = np.count_nonzero(expected & (mask == 1))
    assert 2 * both / (np.count_nonzero(expected) + np.count_nonzero(mask)) >= 0.999
    probabilities = np.load(folder / "plain.npz")["probabilities"][1]
    np.testing.assert_allclose(probability, probabilities, atol=1e-3)


def infer(cohort: Path, name: str, *models: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return mask and probabilities by some models, written under a name."""
    places = [cohort / "ours" / name, cohort / "ours" / f"{name} p"]
    arguments = [part for model in models for part in ("-m", model)]
    arguments += ["--no-mirror", "--lungs", cohort / "lungs", "-O", places[0]]
    arguments += ["--probabilities", places[1]]
    succeed("lnq-infer", cohort / "ct" / "plain.nii.gz", *arguments)
    mask, probability = (load(place / "plain.nii.gz") for place in places)
    return mask, probability


def test_one_model_is_nnunets_own_prediction(predicted, theirs):
    assert_equal_nnunet(predicted, theirs / "a")


def test_an_exported_archive_runs_and_leaves_nothing(
    cohort, archive, theirs, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert_equal_nnunet(infer(cohort, "zip", archive), theirs / "b")
    assert list(tmp_path.glob(".lnq-model.*")) == []


def test_two_models_are_nnunets_own_ensemble(cohort, results, archive, theirs):
    models = [results / "Dataset001_A", archive]
    assert_equal_nnunet(infer(cohort, "ab", *models), theirs / "ab")
    # The record holds each model's digest, so -s tells models apart and folders not.
    again = ["--no-mirror", "--lungs", cohort / "lungs", "-O", cohort / "ours" / "ab", "-s"]
    again += ["--probabilities", cohort / "ours" / "ab p", cohort / "ct" / "plain.nii.gz"]
    inner = archive / "Dataset002_B" / INNER
    kept = succeed("lnq-infer", "-m", results / "Dataset001_A", "-m", inner, *again)
    assert kept.lines == [str(cohort / "ours" / "ab" / "plain.nii.gz")]
    assert kept.err == ""
    other = run("lnq-infer", "-m", results / "Dataset001_A", *again)
    assert other.status == 1
    found = re.search(r"made with --model (\w{16}),(\w{16}), now (\w{16});", other.err)
    assert found, other.err
    assert found[3] == found[1] != found[2]


# What is not a model for this, or not to be trusted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"extra": {"channel_names": {"0": "CT", "1": "PET"}}},
            "the model takes 2 input channels (CT, PET), not one CT",
        ),
        (
            {"labels": {"background": 0, "liver": 1, "spleen": 2}},
            "none of the model's labels is called lymph_node or the like: liver, spleen; say which "
            "it is with --label NAME",
        ),
    ],
    ids=["channels", "labels"],
)
def test_a_model_for_something_else_is_refused_in_a_sentence(cohort, tmp_path, options, message):
    from tests.nnunet_data import random_model

    other = random_model(tmp_path / "m", **options)
    result = run("lnq-infer", *(cohort / "ct").iterdir(), "-m", other, "-O", tmp_path / "out")
    assert (result.status, result.out) == (1, "")
    assert result.err == f"lnq-infer: {other}: {message}\n"


# Which label is lymph node


@pytest.fixture(scope="module")
def stations(tmp_path_factory) -> Path:
    """Return a model of two stations and a vessel."""
    from tests.nnunet_data import random_model

    labels = {"background": 0, "lymph_node_4R": 1, "lymph_node_7": 2, "vessel": 3}
    return random_model(tmp_path_factory.mktemp("stations") / "m", labels=labels, eagerness=0.5)


def test_label_says_which_are_lymph_nodes_and_is_recorded(cohort, stations, tmp_path):
    source = cohort / "ct" / "plain.nii.gz"
    options = [source, "-m", stations, "--no-mirror", "--no-crop"]
    two = run("lnq-infer", *options, "-o", tmp_path / "none.nii")
    assert (two.status, two.out) == (1, "")
    assert two.err == (
        f"lnq-infer: {stations}: 2 of the model's labels could be the lymph nodes: lymph_node_4R, "
        "lymph_node_7; say which with --label, as --label lymph_node_4R or, for their union, "
        "--label lymph_node_4R,lymph_node_7\n"
    )
    made = {}
    for name in ("lymph_node_4R", "lymph_node_7", "lymph_node_4R,lymph_node_7"):
        places = ["-O", tmp_path / name, "--probabilities", tmp_path / f"{name} p"]
        succeed("lnq-infer", *options, "--label", name, *places)
        made[name] = [load(tmp_path / part / "plain.nii.gz") for part in (name, f"{name} p")]
    (one, p_one), (other, p_other), (both, p_both) = made.values()
    np.testing.assert_array_equal(both, one | other)  # each where it is the most probable
    assert both.sum() == one.sum() + other.sum()
    assert one.any()
    assert other.any()
    np.testing.assert_allclose(p_both, p_one + p_other, atol=1e-6)
    again = [*options, "-O", tmp_path / "lymph_node_7", "--probabilities"]
    again += [tmp_path / "lymph_node_7 p", "-s"]
    succeed("lnq-infer", *again, "--label", "lymph_node_7")
    changed = run("lnq-infer", *again, "--label", "lymph_node_4R,lymph_node_7")
    assert "made with --label lymph_node_7, now lymph_node_4R,lymph_node_7;" in changed.err


def test_of_several_models_each_takes_its_own_of_the_labels(cohort, stations, model, tmp_path):
    source = cohort / "ct" / "plain.nii.gz"
    options = [source, "-m", stations, "-m", model, "--no-mirror", "--no-crop"]
    options += ["-O", tmp_path / "o", "--probabilities", tmp_path / "p", "-f", "--label"]
    succeed("lnq-infer", *options, "lymph_node_7,lymph_node")
    mean = load(tmp_path / "p" / "plain.nii.gz")
    mask = load(tmp_path / "o" / "plain.nii.gz")
    np.testing.assert_array_equal(mask, mean > np.float32(0.5))
    parts = []
    for one, name in ((stations, "lymph_node_7"), (model, "lymph_node")):
        alone = [source, "-m", one, "--no-mirror", "--no-crop", "-f", "--label", name]
        succeed("lnq-infer", *alone, "-O", tmp_path / "o", "--probabilities", tmp_path / "p")
        parts.append(load(tmp_path / "p" / "plain.nii.gz"))
    np.testing.assert_allclose(mean, (parts[0] + parts[1]) / 2, atol=1e-6)
    lacking = run("lnq-infer", *options, "lymph_node_7")
    assert lacking.err.startswith(f"lnq-infer: {model}: has no label lymph_node_7, did you mean ")
    unknown = run("lnq-infer", *options, "lymph_node_7,lymph_node,heart")
    assert unknown.err == "lnq-infer: --label heart: none of the models has such a label\n"


def test_a_device_that_is_not_there_is_not_the_models_fault(cohort, model, tmp_path):
    options = ["-m", model, "--no-crop", "-O", tmp_path / "o", "--device", "cuda:99"]
    result = run("lnq-infer", cohort / "ct" / "plain.nii.gz", *options)
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "lnq-infer: torch finds no device 'cuda:99' on this machine; use --device cpu or auto\n"
    )


@pytest.mark.parametrize("part", ["fold_0", "fold_0/checkpoint_final.pth"])
def test_a_part_of_a_model_says_what_to_give(cohort, model, tmp_path, part):
    options = ["-m", model / part, "--no-crop", "-O", tmp_path / "o"]
    result = run("lnq-infer", cohort / "ct" / "plain.nii.gz", *options)
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert result.err.startswith(f"lnq-infer: {model / part}: is ")
    assert "give the folder above" in result.err


def test_a_checkpoint_with_code_runs_only_if_trusted(cohort, model, tmp_path):
    import torch

    from tests.nnunet_data import Trap

    trapped, trap = tmp_path / "m", tmp_path / "made by the pickle"
    shutil.copytree(model, trapped)
    path = trapped / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(path, weights_only=False) | {"logging": Trap(trap)}, path)
    arguments = [cohort / "ct" / "plain.nii.gz", "-m", trapped, "--no-mirror", "--no-crop"]
    result = run("lnq-infer", *arguments, "-o", tmp_path / "a.nii")
    assert result.status == 1
    assert result.err.startswith(f"lnq-infer: {trapped}: checkpoint_final.pth holds more than")
    assert "posix.mkdir" in result.err
    assert result.err.endswith("use --trust-model\n")
    assert not trap.exists()
    succeed("lnq-infer", *arguments, "-o", tmp_path / "a.nii", "--trust-model")
    assert trap.exists()
    assert load(tmp_path / "a.nii").any()


def test_an_archive_that_writes_elsewhere_is_refused(cohort, model, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as opened:
        for path in (p for p in model.rglob("*") if p.is_file()):
            opened.write(path, Path("m") / path.relative_to(model))
        opened.writestr("../plans.json", "{}")
    source = cohort / "ct" / "plain.nii.gz"
    result = run("lnq-infer", source, "-m", tmp_path / "m.zip", "-O", tmp_path / "out")
    assert result.status == 1
    assert result.err == (
        f"lnq-infer: {tmp_path}/m.zip: the archive holds '../plans.json', a link or a path that "
        "could leave its folder: do not trust it\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["m.zip"]


# Folders and files as others keep them


def test_a_folder_as_published_and_a_ct_as_nrrd(cohort, model, predicted, tmp_path):
    import SimpleITK as sitk

    inner = tmp_path / "Dataset009_LN" / INNER
    shutil.copytree(model, inner)
    for name in ("plans.json", "dataset.json"):
        (inner / name).rename(inner.parent / name)
    dataset = (inner.parent / "dataset.json").read_text()
    (inner.parent / "dataset.json").write_text(dataset.replace(".nii.gz", ".nrrd"))
    (inner / "fold_0" / "checkpoint_final.pth").rename(inner / "fold_0" / "checkpoint_best.pth")
    source = tmp_path / "plain.nrrd"
    sitk.WriteImage(sitk.ReadImage(cohort / "ct" / "plain.nii.gz"), source)
    arguments = ["-m", tmp_path, "--no-mirror", "--lungs", cohort / "lungs", "-O", tmp_path / "o"]
    succeed("lnq-infer", source, *arguments)
    np.testing.assert_array_equal(load(tmp_path / "o" / "plain.nii.gz"), predicted[0])


# The next case


def test_the_next_case_is_read_while_one_is_predicted_and_a_bad_one_is_passed_over(tmp_path):
    """Each case ends only when the next one has been read; the second cannot be read."""
    from lnqtools.cli._batch import end
    from lnqtools.errors import LnqError

    loaded = {name: threading.Event() for name in "abc"}
    following = {"a": "b", "b": "c", "c": "c"}
    done = []

    def load(case):
        loaded[case.name].set()
        if case.name == "b":
            raise LnqError("is corrupt")
        return case.name.upper()

    def process(case, content):
        assert loaded[following[case.name]].wait(60)
        done.append(content)

    cases = three_cases(tmp_path).run(process, load=load)
    assert [one.error for one in cases] == [None, "is corrupt", None]
    assert done == ["A", "C"]
    with pytest.raises(click.exceptions.Exit) as ended:
        end(cases)
    assert ended.value.exit_code == 1


def three_cases(folder: Path) -> Batch:
    from lnqtools.cli._batch import Batch
    from lnqtools.cli._making import Making
    from lnqtools.cli._plan import make_plan

    plan = make_plan([f"{name}.nii" for name in "abc"], folders={"image": str(folder)})
    return Batch(plan=plan, making=Making("lnq-infer"))


def test_a_case_is_ended_while_the_next_is_predicted_and_its_error_is_its_own(tmp_path):
    """The end of each case but the last waits till the next one is at work; the second's fails."""
    from lnqtools.cli._batch import Later
    from lnqtools.errors import LnqError

    at_work = {name: threading.Event() for name in "abc"}
    following = {"a": "b", "b": "c", "c": "c"}
    inside: list[str] = []
    most = 0

    def load(case):
        inside.append(case.name)
        return case.name.upper()

    def process(case, content):
        nonlocal most
        at_work[case.name].set()
        most = max(most, len(inside))

        def rest(case):
            assert at_work[following[case.name]].wait(60)
            case.warn("told at the end")
            inside.remove(case.name)
            if case.name == "b":
                raise LnqError("the disk is full")
            return content

        return Later(rest)

    cases = three_cases(tmp_path).run(process, load=load)
    assert [one.error for one in cases] == [None, "the disk is full", None]
    assert [one.result for one in cases] == ["A", None, "C"]
    assert [one.warnings for one in cases] == [["told at the end"]] * 3
    assert most <= 3  # one that is read, one at work, one that ends


INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from lnqtools.cli._batch import Later
from lnqtools.cli._contract import image_tool
from lnqtools.cli._tool import command
from lnqtools.files.atomic import atomic_output

@command("lnq-infer", example="lnq-infer")
@image_tool(parallel=False)
def main(batch):
    \"\"\"Read, predict and write without end.\"\"\"
    writing = threading.Event()

    def rest(case):
        with atomic_output(Path(sys.argv[-1]) / "half.nii.gz") as file:
            file.write(b"half")
            writing.set()
            time.sleep(600)

    def load(case):
        if case.name == "c":
            time.sleep(600)

    def process(case, loaded):
        if case.name == "a":
            return Later(rest)
        writing.wait()
        print("ready", file=sys.stderr, flush=True)
        time.sleep(600)

    batch.run(process, load=load)

main()
"""


def test_ctrl_c_waits_neither_for_what_is_read_nor_for_what_is_written(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.nii").touch()
    out = tmp_path / "out"
    cases = [str(tmp_path / f"{name}.nii") for name in "abc"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *cases, "-O", str(out)], stderr=subprocess.PIPE
    )
    with process:
        assert process.stderr.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
    assert list(out.iterdir()) == []


def test_a_step_that_the_cpu_did_is_told_of_its_case(cohort, model, tmp_path, monkeypatch, capfd):
    from lnqtools.cli.infer import main
    from lnqtools.nnunet import predict

    plain = predict.predict_from_logits

    def noted(*arguments):
        return replace(plain(*arguments), notes=("the CPU did that",))

    monkeypatch.setattr(predict, "predict_from_logits", noted)
    ct = str(cohort / "ct" / "plain.nii.gz")
    options = ["-m", str(model), "--no-crop", "--no-mirror", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([ct, *options, "-o", str(tmp_path / "mask.nii.gz")])
    assert ended.value.code == 0
    assert f"{ct}: warning: the CPU did that\n" in capfd.readouterr().err


@pytest.mark.parametrize("elsewhere", [False, True])
def test_beside_another_device_the_mask_is_written_later(cohort, model, elsewhere):
    import torch

    from lnqtools.cli._batch import Later
    from lnqtools.cli.infer import Inference, Loaded
    from lnqtools.images.box import Box
    from lnqtools.nnunet.predict import Ensemble, Prediction
    from tests.nnunet_data import lps_grid, predictor

    grid = lps_grid((4, 5, 6), (1, 1, 1))
    loaded = predictor(model)
    if elsewhere:
        loaded.device = torch.device("cuda")
    loaded.predict_prepared = lambda *_, **__: Prediction(np.ones((2, 2, 2), np.uint8))
    written = []
    case = SimpleNamespace(
        planned=SimpleNamespace(outputs={"image": "a"}),
        warn=written.append,
        write=lambda volume, what, facts: written.append(volume.array),
    )
    box = Box((slice(1, 3), slice(0, 2), slice(2, 4)))
    ensemble = Ensemble([loaded])
    progress = SimpleNamespace(begin=lambda *_: None)
    inference = Inference(lambda: ensemble, None, None, None, True, None, progress)
    after = inference.segment(case, Loaded(grid, box, grid.cropped(box), [None]))
    if elsewhere:
        assert isinstance(after, Later)
        assert not written
        after.work(case)
    (mask,) = written
    assert mask.shape == grid.shape
    assert mask.sum() == mask[box].sum() == 8


# Progress


def on_terminal(command: list[str]) -> str:
    """Return what a command writes to a terminal that is its standard error."""
    ours, its = pty.openpty()
    process = subprocess.Popen(command, stderr=its, stdout=subprocess.DEVNULL)
    os.close(its)
    said = b""
    try:
        while chunk := os.read(ours, 4096):
            said += chunk
    except OSError:  # the terminal closes with its last writer
        pass
    os.close(ours)
    assert process.wait() == 0, said
    return said.decode()


def test_patches_and_time_are_told_on_a_terminal_alone(model, tmp_path):
    """24³ voxels of the model's size in patches of 16³, half a patch apart: 2 × 2 × 2."""
    rng = np.random.default_rng(0)
    for name in "ab":
        save(tmp_path / f"{name}.nii", rng.integers(-500, 500, (24, 24, 24), np.int16), MATRIX)
    command = ["lnq-infer", str(tmp_path / "a.nii"), str(tmp_path / "b.nii"), "-m", str(model)]
    command += ["--no-mirror", "--no-crop", "-O"]
    assert succeed(*command, tmp_path / "silent").err == ""
    command[0] = str(BIN / "lnq-infer")
    assert "patches" not in on_terminal([*command, str(tmp_path / "quiet"), "-q"])
    said = on_terminal([*command, str(tmp_path / "shown")])
    shown = [line for line in said.split("\r\x1b[K") if "patches" in line]
    heads = [
        f"lnq-infer: {k} of 2: {name}: 8 patches, 8 passes: " for k, name in ((1, "a"), (2, "b"))
    ]
    assert [line.partition("passes: ")[0] + "passes: " for line in shown] == [
        head for head in heads for _ in range(9)
    ]
    tails = [line.partition("passes: ")[2] for line in shown]
    shares = [f"{patch / 8:.0%}".replace("%", " %") for patch in range(9)]
    assert [tail.partition(",")[0] for tail in tails] == shares * 2
    timed = [re.fullmatch(r"\d+ %, 0:00:\d\d left", tail) is not None for tail in tails]
    assert timed == [False] * 2 + [True] * 16  # the second case's from its start
