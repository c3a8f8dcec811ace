"""Ensembles, odd model folders, hostile ones, and images that do not fit in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lnqtools.errors import LnqError
from tests.conftest import ROOT
from tests.nnunet.test_nnunet import assert_same, image, nnunets_own
from tests.nnunet_data import (
    Trap,
    as_before_2_3,
    lps_grid,
    predictor,
    random_model,
    residual,
    volume,
)

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from lnqtools.nnunet import window  # noqa: E402
from lnqtools.nnunet.predict import Ensemble, Predictor, Workload  # noqa: E402

SPACING = (2.0, 1.3, 1.0)


pytestmark = pytest.mark.usefixtures("one_thread")


# Ensembles


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    """Return models of unlike spacing, patch, axes and labels; the second has two folds."""
    root = tmp_path_factory.mktemp("ensemble")
    first = random_model(root / "a", eagerness=0.5)
    labels = {"background": 0, "vessel": 1, "lymph node": 2}
    second = random_model(
        root / "b",
        spacing=(1.5, 1.2, 1.4),
        patch=(16, 16, 24),
        transpose=(1, 0, 2),
        folds=("0", "1"),
        labels=labels,
    )
    return first, second


def test_an_ensemble_is_the_mean_of_nnunets_probabilities(two):
    array = image()
    array[:, :7] = 0
    result = Ensemble([predictor(model) for model in two]).predict(
        volume(array, SPACING), threshold=0.4, with_probability=True
    )
    first = nnunets_own(two[0], array, SPACING, False)[1][1]
    second = nnunets_own(two[1], array, SPACING, False, (0, 1))[1][2]
    mean = (first + second) / 2
    assert np.abs(first - second).max() > 0.2  # otherwise either alone would do
    assert_same(result, mean > 0.4, mean)
    np.testing.assert_array_equal(result.mask, result.probability > np.float32(0.4))


def test_one_model_gives_what_it_gives_alone(two):
    model = predictor(two[1])
    array = image((16, 24, 24))
    for threshold in (0.5, 0.3):  # at 0.5 the most probable of three labels counts
        alone = model.predict(volume(array, SPACING), threshold=threshold)
        mask = Ensemble([model]).predict(volume(array, SPACING), threshold=threshold).mask
        np.testing.assert_array_equal(mask, alone.mask)


def test_work_is_counted_before_and_told_while_it_is_done(two):
    ensemble = Ensemble([predictor(model) for model in two])
    shape = (30, 44, 40)
    # 30 × 57 × 40 voxels of (2, 1, 1) mm in patches of 16 × 24 × 24; with y and z exchanged
    # 38 × 50 × 29 of (1.5, 1.2, 1.4) mm in patches of 16 × 16 × 24, twice for two folds.
    patches = (3 * 4 * 3, 4 * 6 * 2)
    size = (16 * 24 * 24, 16 * 16 * 24)
    counted = ensemble.workload(lps_grid(shape, SPACING))
    passes = (patches[0], 2 * patches[1])
    assert counted == Workload(sum(patches), sum(passes), int(np.dot(passes, size)))
    told: list[int] = []
    ensemble.predict(volume(image(shape), SPACING), progress=told.append)
    assert told == [size[0]] * passes[0] + [size[1]] * passes[1]


def test_mirrored_versions_count_as_passes(tmp_path):
    model = Predictor(random_model(tmp_path / "m"), device="cpu", threads=1)
    told: list[int] = []
    model.predict(volume(image((16, 24, 24)), (2.0, 1.0, 1.0)), progress=told.append)
    assert told == [8 * 16 * 24 * 24]
    assert model.workload(lps_grid((16, 24, 24), (2.0, 1.0, 1.0))) == Workload(
        1, 8, 8 * 16 * 24 * 24
    )


@pytest.mark.parametrize("threshold", [0, 1, -0.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(two, threshold):
    ensemble = Ensemble([predictor(model) for model in two])
    with pytest.raises(LnqError, match="between 0 and 1"):
        ensemble.predict(volume(image((4, 4, 4)), SPACING), threshold=threshold)


def test_a_script_predicts_in_three_lines(two, tmp_path):
    from lnqtools.images.volume import Volume, read_volume, write_volume

    write_volume(volume(image((16, 24, 24)), SPACING), tmp_path / "ct.nii.gz")

    ct = read_volume(tmp_path / "ct.nii.gz")
    found = Predictor(str(two[1]), label="lymph node", device="cpu", mirroring=False).predict(ct)
    write_volume(Volume(found.mask, ct.grid), tmp_path / "mask.nii.gz")

    mask = read_volume(tmp_path / "mask.nii.gz")
    expected = predictor(two[1]).predict(volume(image((16, 24, 24)), SPACING)).mask
    np.testing.assert_array_equal(mask.array, expected)
    assert 0 < expected.sum() < expected.size
    assert mask.grid == ct.grid


# Several patches at once


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"change_plans": residual}, id="residual"),
        pytest.param({"transpose": (2, 0, 1), "eagerness": -1.0}, id="turned"),
    ],
)
def test_patches_seen_together_make_the_same_masks_but_for_a_voxel_at_one_half(
    tmp_path, monkeypatch, options
):
    model = Predictor(random_model(tmp_path / "m", **options), device="cpu", threads=1)
    array = volume(image((30, 44, 25)), SPACING)
    assert model.patch_count(array.grid) % 4 == 0
    found = {}
    for together in (1, 2, 4):
        monkeypatch.setattr(window, "TOGETHER", together)
        found[together] = model.predict(array, with_probability=True)
    assert 0.01 < found[1].mask.mean() < 0.99
    # Sums in half precision may be rounded otherwise, which at a border may decide a voxel.
    other = found[2].mask != found[1].mask
    assert np.count_nonzero(other) <= 1
    assert np.abs(found[2].probability[other] - 0.5).max(initial=0) < 2e-3
    assert np.abs(found[2].probability - found[1].probability).max() < 2e-3
    np.testing.assert_array_equal(found[4].probability, found[2].probability)


def test_large_networks_see_one_patch_at_a_time():
    small, large = (torch.nn.Sequential(torch.nn.Conv3d(1, n, 3)) for n in (32, 33))
    patch = (64, 64, 128)  # 32 maps of it in float32 are 64 MiB
    cpu = torch.device("cpu")
    assert window.patches_at_once(small, patch, cpu) == 2
    assert window.patches_at_once(large, patch, cpu) == 1
    assert window.patches_at_once(small, patch, torch.device("cuda")) == 1


# Folders as they are found


@pytest.mark.parametrize("change", [residual, as_before_2_3], ids=lambda change: change.__name__)
def test_other_plans_run_as_in_nnunet(tmp_path, monkeypatch, change):
    # One patch at a time, as nnU-Net: large outputs in half precision show the last bits of others.
    monkeypatch.setattr(window, "TOGETHER", 1)
    model = random_model(tmp_path / "m", change_plans=change)
    array = image((20, 30, 30))
    spacing = (2.0, 1.0, 1.0)  # the model's: nnU-Net resamples in half precision, we do not
    result = predictor(model).predict(volume(array, spacing), with_probability=True)
    segmentation, probabilities = nnunets_own(model, array, spacing, False)
    assert_same(result, segmentation == 1, probabilities[1])


def test_a_published_folder_runs(tmp_path):
    """As lnq-segmenter's: metadata one level up, files of .nrrd, residual, only the best kept."""
    array = image((16, 24, 24))
    extra = {"file_ending": ".nrrd", "overwrite_image_reader_writer": "SimpleITKIO"}
    plain = random_model(
        tmp_path / "Dataset_LN" / "nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres",
        change_plans=residual,
        folds=("0", "1", "2"),
        extra=extra,
    )
    segmentation, probabilities = nnunets_own(plain, array, SPACING, False, (0, 1, 2))
    for name in ("plans.json", "dataset.json"):
        (plain / name).rename(plain.parent / name)
    for fold in plain.glob("fold_*"):
        (fold / "checkpoint_final.pth").rename(fold / "checkpoint_best.pth")
    for folder in (tmp_path, tmp_path / "Dataset_LN", plain):
        model = predictor(folder)
        assert model.checkpoints == tuple(f"fold_{k}/checkpoint_best.pth" for k in range(3))
        result = model.predict(volume(array, SPACING), with_probability=True)
        assert_same(result, segmentation == 1, probabilities[1])


def test_names_that_raise_doubts_are_noted(tmp_path):
    labels = {"background": 0, "liver": 1}
    extra = {"channel_names": {"0": "T2"}}
    model = random_model(tmp_path / "m", labels=labels, extra=extra)
    channel, label = predictor(model).notes
    assert "channel is called T2, not CT" in channel
    assert "only label is called liver" in label
    usual = random_model(tmp_path / "usual", labels={"background": 0, "Lymph-Nodes": 1})
    assert predictor(usual).notes == ()


# Models that would run code


def change_network(model: Path, **changes) -> None:
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"] |= changes
    (model / "plans.json").write_text(json.dumps(plans))


def test_plans_cannot_call_what_is_no_network(tmp_path):
    """torch.hub.load takes any keywords, and runs the hubconf.py that its arguments name."""
    trap = tmp_path / "made by hubconf.py"
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(
        f"import pathlib\ndef net(**k):\n    pathlib.Path({str(trap)!r}).mkdir()\n"
    )
    model = random_model(tmp_path / "m")
    arguments = {"repo_or_dir": str(tmp_path / "hub"), "model": "net", "source": "local"}
    for way in (
        "torch.hub.load",
        "dynamic_network_architectures.architectures.unet.torch.hub.load",
        "torch.nn.functional.torch.hub.load",
    ):
        change_network(model, network_class_name=way, arch_kwargs=arguments, _kw_requires_import=[])
        with pytest.raises(LnqError, match=rf"names {way} .*could run any code"):
            predictor(model)
        assert not trap.exists()
    with pytest.raises(LnqError, match="cannot read the network"):  # hubconf.py returns none
        predictor(model, trust=True)
    assert trap.exists()


@pytest.mark.parametrize("name", ["subprocess.Popen", "antigravity", "torch.nonsense", "eval"])
def test_parts_of_the_network_are_module_classes(tmp_path, name):
    model = random_model(tmp_path / "m")
    plans = json.loads((model / "plans.json").read_text())
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    change_network(model, arch_kwargs=arguments | {"nonlin": name})
    with pytest.raises(LnqError, match=rf"names {name} as part of the network"):
        predictor(model)
    assert "antigravity" not in sys.modules


def test_a_checkpoint_that_runs_code_is_refused_with_the_model(tmp_path):
    model = random_model(tmp_path / "m")
    path = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    trap = tmp_path / "made by the pickle"
    torch.save(content | {"logging": Trap(trap)}, path)
    with pytest.raises(LnqError, match=r"checkpoint_final\.pth holds more .*could run any code"):
        predictor(model)
    assert not trap.exists()
    result = predictor(model, trust=True).predict(volume(image((16, 24, 24)), SPACING))
    assert trap.exists()
    assert 0 < result.mask.mean() < 1


@pytest.mark.parametrize("width", [1, 2])
def test_an_image_that_vanishes_on_the_networks_grid_is_refused(width, tmp_path):
    """nnU-Net cuts off what is 0: of voxels of 1 mm a single layer is less than half one of 2.4."""
    ct = np.zeros((16, 24, 24), np.int16)
    ct[5 : 5 + width] = 40
    model = predictor(random_model(tmp_path / "m", spacing=(2.4, 1.0, 1.0)))
    if width == 1:
        with pytest.raises(
            LnqError, match=r"too small for the network: .* half a voxel of the network \(2\.4"
        ):
            model.predict(volume(ct, (1.0, 1.0, 1.0)))
    else:
        assert model.predict(volume(ct, (1.0, 1.0, 1.0))).mask.shape == ct.shape


def test_an_image_that_memory_does_not_hold_on_the_networks_grid_is_refused(tmp_path):
    """Voxels of a meter, for which a header in meters is read: 8000 × 24 000 × 24 000 in all."""
    model = predictor(random_model(tmp_path / "m", spacing=(2.0, 1.0, 1.0)))
    with pytest.raises(LnqError, match=r"would measure 8000 × 24000 × 24000 voxels .* 46080 GB"):
        model.predict(volume(image((16, 24, 24)), (1000.0, 1000.0, 1000.0)))


def test_a_network_that_returns_nan_makes_no_empty_mask(tmp_path):
    model = random_model(tmp_path / "m")
    path = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    next(iter(content["network_weights"].values())).fill_(float("nan"))
    torch.save(content, path)
    with pytest.raises(LnqError, match="the network returned NaN: its training diverged"):
        predictor(model).predict(volume(image((16, 24, 24)), SPACING))


# Memory


def test_out_of_memory_in_the_network_ends_the_case_alone(tmp_path):
    model = predictor(random_model(tmp_path / "m"))
    array = image((20, 30, 30))
    before = model.predict(volume(array, SPACING)).mask
    hungry = model._model.network.register_forward_pre_hook(
        lambda *_: torch.empty(1 << 60, dtype=torch.uint8)
    )
    threads = threading.active_count()
    with pytest.raises(LnqError, match=r"^memory ran out \(cpu\): crop the image$"):
        model.predict(volume(array, SPACING))
    hungry.remove()
    assert threading.active_count() == threads
    np.testing.assert_array_equal(model.predict(volume(array, SPACING)).mask, before)


def test_other_errors_of_torch_are_not_called_memory(tmp_path):
    model = predictor(random_model(tmp_path / "m"))

    def fail(*_):
        raise RuntimeError("sizes do not match")

    model._model.network.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        model.predict(volume(image((16, 24, 24)), SPACING))


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from lnqtools.errors import LnqError
from lnqtools.nnunet.predict import Predictor
from tests.nnunet_data import volume
from tests.nnunet.test_nnunet import image

model = Predictor(Path(sys.argv[1]), device="cpu", threads=1, mirroring=False)
small, large = image((16, 24, 24)), np.tile(image((16, 24, 24)), (12, 12, 12))
before = model.predict(volume(small, (2, 1, 1))).mask
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
try:
    model.predict(volume(large, (2, 1, 1)))
except LnqError as error:
    print(error)
print((model.predict(volume(small, (2, 1, 1))).mask == before).all())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_an_image_beyond_the_memory_limit_does_not_stop_the_next(tmp_path):
    """16 M voxels: 40 MB are too few to preprocess it."""
    model = random_model(tmp_path / "m")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(model), str(40 * 10**6)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.splitlines() == ["memory ran out (cpu): crop the image", "True"], done.stderr
