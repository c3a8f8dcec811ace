"""Optimizers and learning rates: against torch's and nnU-Net's, and over a resume."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nnunetv2")

import torch

from lnqtools.nnunet.optimizer import (
    LearningRate,
    falling_share,
    make_optimizer,
    rising_share,
)
from tests.nnunet_data import trainer_by


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([2.0]))


def after_steps(name: str, gradients: list[float], momentum=0.9) -> float:
    its = weight()
    optimizer = make_optimizer(name, [its], 0.1, 0.01, momentum)
    for gradient in gradients:
        its.grad = torch.tensor([gradient])
        optimizer.step()
    return float(its.detach())


def test_steps_that_can_be_counted_by_hand():
    # Nesterov: gradient with decay 0.5 + 0.01 × 2 = 0.52, and 0.9 × the same.
    assert after_steps("sgd", [0.5]) == pytest.approx(2 - 0.1 * 0.52 * 1.9)
    assert after_steps("sgd", [0.5], momentum=0) == pytest.approx(2 - 0.1 * 0.52)
    # Adam's first step is the learning rate itself; AdamW draws to 0 beside it, Adam in it.
    assert after_steps("adamw", [0.5]) == pytest.approx(2 * (1 - 0.1 * 0.01) - 0.1)
    assert after_steps("adam", [0.5]) == pytest.approx(2 - 0.1)
    assert after_steps("adamw", [0.0]) == pytest.approx(2 * (1 - 0.1 * 0.01))
    assert after_steps("adam", [0.0]) == pytest.approx(2 - 0.1)


@pytest.mark.parametrize("epochs", [1, 7])
def test_schedules_are_nnunets_and_torchs(epochs):
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    theirs = torch.optim.SGD([weight()], 0.3)
    poly = PolyLRScheduler(theirs, 0.3, epochs)
    for epoch in range(epochs):
        poly.step(epoch)
        assert 0.3 * falling_share("poly", epoch, epochs) == theirs.param_groups[0]["lr"]
    theirs = torch.optim.SGD([weight()], 0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, epochs)
    for epoch in range(epochs):
        share = falling_share("cosine", epoch, epochs)
        assert 0.3 * share == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        cosine.step()


@given(st.sampled_from(["poly", "cosine"]), st.integers(1, 1000), st.data())
def test_it_falls_from_epoch_to_epoch_from_1_toward_0(schedule, epochs, data):
    epoch = data.draw(st.integers(0, epochs - 1))
    assert falling_share(schedule, 0, epochs) == 1
    now, later = (falling_share(schedule, k, epochs) for k in (epoch, epoch + 1))
    assert 0 <= later < now <= 1
    assert falling_share(schedule, epochs, epochs) == pytest.approx(0)


@given(st.integers(0, 500), st.integers(1, 200))
def test_it_rises_evenly_over_the_warm_up(batch, warmup):
    assert rising_share(batch, 0) == 1
    assert rising_share(batch, warmup) == min(batch + 1, warmup) / warmup


def rates(schedule: LearningRate, optimizer, epochs, iterations) -> list[float]:
    """Return the learning rate of each batch, with that at the start of each epoch before them."""
    found = []
    for epoch in epochs:
        schedule.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
        for _ in range(iterations):
            schedule.next_batch()
            found.append(optimizer.param_groups[0]["lr"])
    return found


def test_batches_of_the_warm_up_rise_within_the_falling_epochs():
    optimizer = torch.optim.SGD([weight()], 0.4)
    schedule = LearningRate(optimizer, 0.4, "cosine", epochs=2, iterations=3, warmup=4)
    half = (1 + math.cos(math.pi / 2)) / 2
    expected = [0.1, 0.1, 0.2, 0.3, 0.4 * half, 0.4 * half, 0.4 * half, 0.4 * half]
    assert rates(schedule, optimizer, range(2), 3) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 7])
def test_a_resumed_training_has_the_rates_of_one_that_was_not_interrupted(tmp_path, warmup):
    trainer = trainer_by(tmp_path, "epochs=4", "iterations=3", f"warmup={warmup}")
    trainer.initialize()
    whole = rates(trainer.lr_scheduler, trainer.optimizer, range(4), 3)
    again = trainer_by(tmp_path, "epochs=4", "iterations=3", f"warmup={warmup}")
    again.initialize()
    assert rates(again.lr_scheduler, again.optimizer, range(2, 4), 3) == whole[8:]
    assert len(set(whole)) == (4 if not warmup else 8)


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam"])
def test_the_trainer_has_the_recipes_optimizer(tmp_path, name):
    trainer = trainer_by(tmp_path, f"optimizer={name}", "learning_rate=0.002", "weight_decay=0.1")
    trainer.initialize()
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    assert type(trainer.optimizer) is kind
    (group,) = trainer.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.002, 0.1)
    assert len(group["params"]) == len(list(trainer.network.parameters()))
    assert group.get("momentum") == (0.9 if name == "sgd" else None)


def test_without_deep_supervision_one_output_is_trained(tmp_path):
    trainer = trainer_by(tmp_path, "deep_supervision=false", "patch=16")
    trainer.initialize()
    output = trainer.network(torch.zeros(2, 1, 16, 16, 16))
    assert output.shape == (2, 2, 16, 16, 16)
    output.sum().backward()
    without = {name for name, p in trainer.network.named_parameters() if p.grad is None}
    assert without == {f"decoder.seg_layers.0.{kind}" for kind in ("weight", "bias")}
    assert without == {n for n, p in trainer.network.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize(("features", "is_last"), [("8,16", True), ("16,16", False)])
def test_narrow_networks_keep_channels_together_on_a_cpu(tmp_path, features, is_last):
    trainer = trainer_by(tmp_path, f"features={features}")
    trainer.initialize()
    kernels = [p for p in trainer.network.parameters() if p.ndim == 5 and p.shape[1] > 1]
    assert len(kernels) > 2
    form = torch.channels_last_3d
    kernels = [p for p in kernels if min(p.shape[2:]) > 1]  # of one voxel both forms are the same
    assert {p.is_contiguous(memory_format=form) for p in kernels} == {is_last}
