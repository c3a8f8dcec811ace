"""What happens on another device than the CPU, on tensors of the CPU that say they are elsewhere.

`OnDevice` says that it is on a GPU and is a tensor of this process; so its numbers go through what
a GPU's go through. `make gpu-test` is what shows that a real one does the same.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnqtools.errors import LnqError
from lnqtools.nnunet import environment
from lnqtools.nnunet.environment import is_out_of_memory, why_not_compiled
from lnqtools.nnunet.resampling import resample_splines, resample_there
from tests.nnunet.test_nnunet import image
from tests.nnunet.test_resampling import EVEN, NEW, THICK, noise, ulps
from tests.nnunet_data import predictor, random_model, trainer_by, volume

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")

from lnqtools.nnunet import prediction, trainer  # noqa: E402
from lnqtools.nnunet.runs import told_of_children  # noqa: E402
from lnqtools.totalseg.worker import _message  # noqa: E402

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
    plain = model._window.logits

    def there(*given):
        logits, notes = plain(*given)
        return logits.as_subclass(OnDevice), notes

    with monkeypatch.context() as patch:
        patch.setattr(model._window, "logits", there)
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
    plain = model._window._summed
    tried = []

    def full(*given):
        tried.append(given)
        return plain(*given) if len(tried) > 1 else no_memory()

    monkeypatch.setattr(model._window, "_summed", full)
    monkeypatch.setattr(model._window, "sums_there", True)
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


@pytest.fixture
def held():
    """Return what each try of a network has taken of the memory, and whether that is still held."""
    gc.disable()  # what only a collector frees is still there when the next try begins
    yield []
    gc.enable()


def full_at(model, monkeypatch, held, fails):
    """Let a model's network run out of memory at some of its passes."""
    plain = model._model.network.forward

    def forward(patches):
        taken = patches + 1
        alive = [one() is not None for one, _ in held]
        held.append((weakref.ref(taken), alive))
        if len(held) - 1 in fails:
            no_memory()
        return plain(patches)

    monkeypatch.setattr(model._model.network, "forward", forward)
    monkeypatch.setattr(model._window, "sums_there", True)


def test_the_second_try_finds_the_memory_of_the_first_free(tmp_path, monkeypatch, held):
    model = predictor(random_model(tmp_path / "m", eagerness=0.5))
    ct = volume(image((20, 30, 30)), SPACING)
    before = model.predict(ct)
    full_at(model, monkeypatch, held, {0})
    found = model.predict(ct)
    np.testing.assert_array_equal(found.mask, before.mask)
    assert held[1][1] == [False]


def test_the_next_image_finds_the_memory_free(tmp_path, monkeypatch, held):
    model = predictor(random_model(tmp_path / "m", eagerness=0.5))
    ct = volume(image((20, 30, 30)), SPACING)
    full_at(model, monkeypatch, held, {0, 1})
    with pytest.raises(LnqError, match=r"^memory ran out \(cpu\): crop the image$"):
        model.predict(ct)
    assert model.predict(ct).mask.any()
    assert held[2][1] == [False, False]


@pytest.mark.parametrize(
    ("words", "memory"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("GET was unable to find an engine to execute this computation", True),
        ("CUDA error: device-side assert triggered", False),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
    ],
)
def test_lack_of_memory_is_known_by_its_words(words, memory):
    assert is_out_of_memory(RuntimeError(words)) == memory


def test_of_a_gpus_error_the_line_is_told_that_says_what_is_wrong():
    told = "CUDA error: an illegal memory access was encountered"
    after = "\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with …\n"
    assert _message(RuntimeError(told + after)) == told
    assert _message(RuntimeError("first\nlast")) == "last"
    assert _message(RuntimeError()) == "RuntimeError"


# Training


def test_compiling_is_left_where_something_for_it_is_missing(monkeypatch):
    monkeypatch.setattr(environment, "find_spec", lambda name: object())
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(environment.sysconfig, "get_path", lambda name: "/nowhere")
    assert why_not_compiled() == "Python's headers are not installed"
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert why_not_compiled() == "there is no C compiler"
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert why_not_compiled() == "triton is not installed"


def test_a_network_is_bare_before_and_after_it_is_wrapped(tmp_path):
    made = trainer_by(tmp_path)
    made.is_ddp = True  # the optimizer is made before the network is wrapped
    bare = made.network = torch.nn.Linear(2, 2)
    assert made._bare_network() is bare
    made.network = torch.compile(bare)
    assert made._bare_network() is bare
    made.network = torch.nn.DataParallel(made.network)  # which calls it what DDP does
    assert made._bare_network() is bare


def test_an_error_in_a_child_is_told_as_its_sentence():
    raised = torch.multiprocessing.ProcessRaisedException
    told = "lnqtools.errors.LnqError: the training diverged: lower --lr"
    with pytest.raises(LnqError, match=r"^the training diverged: lower --lr$"), told_of_children():
        raise raised(f"Traceback …\n{told}", 0, 9)
    with pytest.raises(raised, match="ValueError"), told_of_children():
        raise raised(f"Traceback …\nValueError: {told}", 0, 9)


def test_what_augments_ends_with_the_training():
    reading, writing = os.pipe()
    if not (training := os.fork()):
        here = os.getpid()
        if not os.fork():
            trainer.end_with_parent(here)
            os.write(writing, b"works")
        signal.pause()
    os.close(writing)
    assert os.read(reading, 5) == b"works"
    os.kill(training, signal.SIGKILL)
    os.waitpid(training, 0)
    assert os.read(reading, 5) == b""  # nobody is left who could write


def test_processes_that_augment_draw_numbers_of_their_own(monkeypatch):
    monkeypatch.setattr(trainer, "end_with_parent", lambda parent: None)
    loader = trainer.DrawingLoader.__new__(trainer.DrawingLoader)
    loader._made_by = 0
    drawn = []
    for seed in (1, 2, 1):
        np.random.seed(seed)  # noqa: NPY002  as nnU-Net does
        loader.set_thread_id(0)
        drawn.append((torch.rand(1).item(), random.random()))
    assert drawn[0] == drawn[2] != drawn[1]
