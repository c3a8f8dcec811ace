"""What happens on another device than the CPU, on tensors of the CPU that say they are elsewhere.

`OnDevice` says that it is on a GPU and is a tensor of this process; so its numbers go through what
a GPU's go through. `make gpu-test` is what shows that a real one does the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.nnunet import environment
from lnqtools.nnunet.resampling import resample_splines, resample_there
from tests.nnunet.test_nnunet import image
from tests.nnunet.test_resampling import EVEN, NEW, THICK, noise, ulps
from tests.nnunet_data import predictor, random_model, volume

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from lnqtools.nnunet import predict as module  # noqa: E402
from lnqtools.nnunet import prediction  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SPACING = (2.0, 1.3, 1.0)
GPU = torch.device("cuda")


class OnDevice(torch.Tensor):
    """A tensor that says it is on a GPU; numpy cannot read it there."""

    copied = 0

    @property
    def device(self):
        return GPU

    def to(self, device):
        assert device == GPU
        return self

    def cpu(self):
        OnDevice.copied += self.numel() * self.element_size()
        return self.as_subclass(torch.Tensor)

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@contextmanager
def on_a_gpu(model, monkeypatch):
    """Let a model's network leave its output on a GPU."""
    plain = model._predictor.predict_sliding_window_return_logits
    with monkeypatch.context() as patch:
        patch.setattr(
            model._predictor,
            "predict_sliding_window_return_logits",
            lambda data: plain(data).as_subclass(OnDevice),
        )
        patch.setattr(OnDevice, "copied", 0)
        yield


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("before", "shape", "order_z", "thick"),
    [
        (EVEN, (17, 23, 40), 0, None),
        (THICK, (17, 23, 40), 0, 0),
        (THICK, (5, 40, 23), 1, 0),
        (THICK, (9, 23, 40), 0, 0),
        ((1.0, 5.0, 1.0), (17, 23, 40), 0, 1),
        ((1.0, 1.0, 5.0), (17, 23, 40), 3, 2),
    ],
)
def test_resampling_there_gives_the_numbers_of_the_cpu(before, shape, order_z, thick, order, dtype):
    data = noise((2, 9, 30, 31), dtype)
    there = resample_there(torch.from_numpy(data), shape, order, order_z, thick).numpy()
    here = resample_splines(
        data, shape, before, NEW, order=order, order_z=order_z, force_separate_z=None
    )
    off = ulps(there, here)
    assert off.max() <= 1  # where a sum lies between two numbers of the type, either is as near
    assert (off > 0).mean() < (2e-2 if dtype == np.float16 else 2e-3)


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([None, 0, 1, 2]),
)
def test_a_range_is_kept_and_what_is_even_stays_even(shape, new_shape, order, thick):
    data = torch.from_numpy(noise((1, *shape)))
    new = resample_there(data, new_shape, order, 0, thick)
    assert new.shape == (1, *new_shape)
    assert data.min() <= new.min()
    assert new.max() <= data.max()
    even = resample_there(torch.full_like(data, 0.3), new_shape, order, 0, thick)
    np.testing.assert_array_equal(even, np.float32(0.3))


def test_a_tensor_elsewhere_is_resampled_there_and_stays_there():
    data = torch.from_numpy(noise((1, 4, 5, 6))).as_subclass(OnDevice)
    new = resample_splines(data, (6, 8, 7), THICK, NEW, order=1, force_separate_z=None)
    assert new.device == GPU
    assert new.shape == (1, 6, 8, 7)
    assert resample_splines(data, (4, 5, 6), THICK, NEW, force_separate_z=None) is data


MODELS = {
    "two classes": {"eagerness": 0.5},
    "thick slices": {"eagerness": 0.5, "spacing": (4.0, 1.0, 1.2), "patch": (8, 24, 24)},
    "two folds": {"eagerness": 0.5, "folds": ("0", "1")},
    "three labels": {"labels": {"background": 0, "vessel": 1, "lymph node": 2}},
    "regions": {
        "labels": {"background": 0, "all": [1, 2], "lymph node": [2]},
        "extra": {"regions_class_order": [1, 2]},
    },
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_mask_is_decided_where_the_logits_are(kind, tmp_path, monkeypatch):
    model = predictor(random_model(tmp_path / "m", **MODELS[kind]))
    ct = volume(image((20, 30, 30)), SPACING)
    for threshold in (None, 0.4):
        here = model.predict(ct, threshold=threshold, with_probability=True)
        assert 0 < here.mask.mean() < 1
        with on_a_gpu(model, monkeypatch):
            alone = model.predict(ct, threshold=threshold)
            assert OnDevice.copied == ct.array.size  # the mask, a byte each
            there = model.predict(ct, threshold=threshold, with_probability=True)
            assert OnDevice.copied == ct.array.size * (1 + 1 + 4)
        assert there.notes == here.notes == ()
        off = np.abs(there.probability - here.probability)  # resampled logits have half precision
        assert (off > 2e-6).mean() < 5e-2
        assert off.max() < 2e-3
        differ = np.count_nonzero(there.mask != here.mask)
        assert differ <= 1e-4 * ct.array.size
        np.testing.assert_array_equal(alone.mask, there.mask)


# Memory


def no_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


def test_what_the_memory_of_a_gpu_does_not_hold_is_resampled_on_the_cpu(tmp_path, monkeypatch):
    model = predictor(random_model(tmp_path / "m", **MODELS["thick slices"]))
    ct = volume(image((20, 30, 30)), SPACING)
    before = model.predict(ct)
    plain = prediction._by_resampled_logits

    def full(model, logits, *more):
        return no_memory() if logits.device == GPU else plain(model, logits, *more)

    monkeypatch.setattr(prediction, "_by_resampled_logits", full)
    with on_a_gpu(model, monkeypatch):
        found = model.predict(ct)
    assert found.notes == (
        "the memory of cuda ran out while resampling its output: the CPU did that",
    )
    np.testing.assert_array_equal(found.mask, before.mask)


def test_other_errors_there_are_not_tried_again(tmp_path, monkeypatch):
    model = predictor(random_model(tmp_path / "m", eagerness=0.5))

    def fail(*_):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(prediction, "_by_difference", fail)
    with on_a_gpu(model, monkeypatch), pytest.raises(RuntimeError, match="device-side assert"):
        model.predict(volume(image((20, 30, 30)), SPACING))


def test_sums_that_the_memory_of_a_gpu_does_not_hold_are_kept_on_the_cpu(tmp_path, monkeypatch):
    model = predictor(random_model(tmp_path / "m", eagerness=0.5))
    ct = volume(image((20, 30, 30)), SPACING)
    before = model.predict(ct)
    plain = module.predict_patches

    def full(predictor, on_patch, data, slicers, there):
        return no_memory() if there else plain(predictor, on_patch, data, slicers, there)

    monkeypatch.setattr(module, "predict_patches", full)
    monkeypatch.setattr(model._predictor, "perform_everything_on_device", True)
    found = model.predict(ct)
    assert found.notes == (
        "the memory of cpu ran out while summing up the network's output: the CPU did that",
    )
    np.testing.assert_array_equal(found.mask, before.mask)


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("cuda:1", 1, "cuda:1 (Some GPU) with 24.0 GiB of memory"),
        ("cuda", 4, "4 GPUs (Some GPU), each with 24.0 GiB of memory"),
        ("cpu", 1, "cpu with 3.5 GiB of memory"),
    ],
)
def test_a_device_is_told_with_its_memory(monkeypatch, name, count, words):
    gpu = SimpleNamespace(name="Some GPU", total_memory=24 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(environment, "machine_bytes", lambda: 7 << 29)
    assert environment.device_words(torch.device(name), count) == words


def test_a_gpu_that_says_nothing_of_itself_has_its_name(monkeypatch):
    def silent(device):
        raise RuntimeError("no driver")

    monkeypatch.setattr(torch.cuda, "get_device_properties", silent)
    assert environment.device_words(GPU) == "cuda"
    assert environment.device_words(GPU, 4) == "4 GPUs"
