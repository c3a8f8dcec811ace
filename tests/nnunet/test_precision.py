"""The numbers that a network computes in."""

from contextlib import contextmanager

import numpy as np
import pytest

from lnqtools.errors import LnqError
from lnqtools.images.nifti import read_provenance
from lnqtools.nnunet import precision
from lnqtools.nnunet.precision import check_precision, computes_in, processor_flags
from tests.conftest import affine, run, save, succeed
from tests.nnunet_data import predictor, random_model, trainer_by, volume

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")
CPU = torch.device("cpu")


@pytest.fixture
def with_bfloat(monkeypatch):
    """Let any processor pass for one with instructions for it: torch computes all the same."""
    monkeypatch.setattr(precision, "processor_flags", lambda: {"fpu", "amx_bf16"})


def test_flags_are_read_of_x86_and_of_arm(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16\n\nFeatures\t: fp bf16\n")
    assert processor_flags(told) == {"fpu", "avx512_bf16", "fp", "bf16"}
    assert processor_flags(tmp_path / "nowhere") == set()


def test_what_a_processor_cannot_do_is_refused(monkeypatch):
    monkeypatch.setattr(precision, "processor_flags", lambda: {"fpu", "avx512f"})
    with pytest.raises(LnqError, match=r"no instructions for it \(amx_bf16 or avx512_bf16\)"):
        check_precision("bf16", CPU)
    with pytest.raises(LnqError, match="CPUs do not compute in it; use bf16 or fp32"):
        check_precision("fp16", CPU)
    check_precision("fp32", CPU)
    check_precision("auto", CPU)


def test_a_processor_that_can_is_believed(with_bfloat):
    check_precision("bf16", CPU)


@pytest.mark.parametrize(("name", "inside"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_layers_compute_in_it_and_outputs_are_single(name, inside):
    layer = torch.nn.Linear(3, 2)
    seen = []

    def network(patches):
        out = layer(patches)
        seen.append(out.dtype)
        return [out, out[:1]]

    patches = torch.randn(4, 3)
    fine, coarse = computes_in(network, name, CPU)(patches)
    assert seen == [inside]
    assert (fine.dtype, coarse.dtype, layer.weight.dtype) == (torch.float32,) * 3
    expected = (
        layer(patches)
        if name == "fp32"
        else torch.nn.functional.linear(
            patches.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16()
        ).float()
    )
    torch.testing.assert_close(fine, expected, rtol=1e-2 if name == "bf16" else 0, atol=1e-2)
    assert computes_in(network, "auto", CPU) is network


def test_single_precision_on_a_gpu_is_not_rounded_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    computes_in(torch.nn.Linear(3, 2), "fp16", torch.device("cuda"))
    assert torch.backends.cudnn.allow_tf32
    computes_in(torch.nn.Linear(3, 2), "fp32", torch.device("cuda"))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32  # by default


def test_the_gpu_is_asked_that_will_compute(monkeypatch):
    current = [0]

    @contextmanager
    def chosen(device):
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", chosen)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: current[-1] == 1)
    check_precision("bf16", torch.device("cuda:1"))
    with pytest.raises(LnqError, match="this GPU does not compute in it"):
        check_precision("bf16", torch.device("cuda:0"))


def test_a_prediction_in_bfloat_is_nearly_that_in_single(with_bfloat, tmp_path):
    model = random_model(tmp_path / "m")
    ct = np.random.default_rng(0).integers(-200, 300, (20, 30, 30)).astype(np.int16)
    found = {
        name: predictor(model, precision=name).predict(
            volume(ct, (2.0, 1.0, 1.0)), with_probability=True
        )
        for name in ("auto", "fp32", "bf16")
    }
    np.testing.assert_array_equal(found["fp32"].probability, found["auto"].probability)
    off = np.abs(found["bf16"].probability - found["fp32"].probability)
    assert 0 < off.max() < 0.2  # of an untrained network
    assert off.mean() < 0.02
    assert (found["bf16"].mask != found["fp32"].mask).mean() < 0.05


def test_a_training_step_in_bfloat_moves_single_weights(tmp_path, monkeypatch):
    gradients = {}
    for name in ("auto", "bf16"):
        trainer = trainer_by(tmp_path / name)
        trainer.precision = name
        trainer.initialize()
        size = (2, 1, *trainer.configuration_manager.patch_size)
        data = torch.randn(size, generator=torch.Generator().manual_seed(0))
        outputs = trainer.network(data)
        target = [(output[:, :1] > 0).float() for output in outputs]
        loss = trainer.loss(outputs, target)
        assert {output.dtype for output in outputs} == {loss.dtype} == {torch.float32}
        loss.backward()
        weights = list(trainer.network.parameters())
        assert {w.dtype for w in weights} == {torch.float32}
        gradients[name] = torch.cat([w.grad.ravel() for w in weights if w.grad is not None])
    assert not torch.equal(gradients["auto"], gradients["bf16"])
    alike = torch.cosine_similarity(gradients["auto"], gradients["bf16"], dim=0)
    assert alike > 0.9


def test_the_tools_record_it_and_refuse_what_is_not_there(tmp_path):
    model = random_model(tmp_path / "m")
    ct = np.random.default_rng(0).integers(-200, 300, (8, 20, 20)).astype(np.int16)
    path = save(tmp_path / "ct.nii.gz", ct, affine((1.0, 1.0, 2.0)))
    call = ("lnq-infer", path, "-m", model, "--no-crop", "--device", "cpu", "-O", tmp_path / "out")
    refused = run(*call, "--precision", "fp16")
    assert (refused.status, refused.out) == (1, "")
    sentence = "lnq-infer: --precision fp16: CPUs do not compute in it; use bf16 or fp32\n"
    assert refused.err.endswith(sentence)
    assert not (tmp_path / "out" / "ct.nii.gz").exists()
    made = succeed(*call).lines[0]
    assert "precision" not in read_provenance(made)["options"]
    assert succeed(*call, "-s").lines == [made]
    other = run(*call, "-s", "--precision", "fp32")
    assert other.status == 1
    assert "precision" in other.err
    succeed(*call, "-f", "--precision", "fp32")
    assert read_provenance(made)["options"]["precision"] == "fp32"
