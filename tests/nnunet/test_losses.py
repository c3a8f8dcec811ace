"""The recipe's losses: against float64, against nnU-Net's, and what unknown voxels do to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nnunetv2")

import torch

from lnqtools.nnunet.losses import OverlapAndEntropy, weight_of_unknown
from tests.nnunet_data import trainer_by

pytestmark = pytest.mark.usefixtures("one_thread")
SMOOTH = 1e-5


def reference(logits, target, w, alpha, beta, batch) -> float:
    """Return the loss of arrays (patch, class, z, y, x) and (patch, 1, z, y, x), voxel by voxel."""
    logits = np.asarray(logits, np.float64)
    entropy = weight = 0.0
    sums = np.zeros((len(logits), logits.shape[1], 3))  # true and false positives, false negatives
    for patch, *place in np.ndindex(*target.shape[:1], *target.shape[2:]):
        value = target[patch, 0, *place]
        truth, its = (0, w) if value == 2 else (int(value), 1.0)
        odds = np.exp(logits[patch, :, *place] - logits[patch, :, *place].max())
        chances = odds / odds.sum()
        entropy -= its * np.log(chances[truth])
        weight += its
        for k, p in enumerate(chances):
            sums[patch, k] += its * np.array([p, 0, 1 - p] if k == truth else [0, p, 0])
    sums = (sums.sum(0, keepdims=True) if batch else sums)[:, 1:]
    tp, fp, fn = (sums[..., k] for k in range(3))
    overlap = (2 * tp + SMOOTH) / (2 * tp + 2 * alpha * fp + 2 * beta * fn + SMOOTH)
    return (entropy / weight if weight else 0.0) - overlap.mean()


def example(classes=2, size=4, seed=0, patches=2):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (patches, classes, size, size, size))
    target = rng.choice([0, 1, 2], (patches, 1, size, size, size), p=[0.4, 0.2, 0.4])
    return torch.tensor(logits), torch.tensor(target)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7), (1.0, 0.1)])
@pytest.mark.parametrize("w", [0.0, 0.25, 1.0])
def test_the_loss_is_that_of_a_plain_loop_in_float64(w, weights, batch):
    logits, target = example()
    loss = OverlapAndEntropy(w, *weights, batch)(logits, target)
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(
        reference(logits.numpy(), target.numpy(), w, *weights, batch), rel=1e-12
    )
    half = OverlapAndEntropy(w, *weights, batch)(logits.half(), target.half())
    assert half.dtype == torch.float32  # as nnU-Net sums, whatever the network computes in
    assert float(half) == pytest.approx(float(loss), abs=2e-3)


def test_a_loss_that_can_be_counted_by_hand():
    """Four voxels: a node and background, both told apart by 3 to 1, and two unknown at 1 to 1."""
    logits = torch.tensor([[0.0, np.log(3), 0, 0], [np.log(3), 0, 0, 0]]).view(1, 2, 1, 1, 4)
    target = torch.tensor([1, 0, 2, 2]).view(1, 1, 1, 1, 4)
    # TP 3/4, FP 1/4 + 2 w / 2, FN 1/4.
    for w, overlap in ((0.0, 1.5 / 2), (0.5, 1.5 / 2.5), (1.0, 1.5 / 3)):
        entropy = (2 * np.log(4 / 3) + 2 * w * np.log(2)) / (2 + 2 * w)
        assert float(OverlapAndEntropy(w)(logits, target)) == pytest.approx(
            entropy - overlap, abs=1e-5
        )
    tversky = 1.5 / (1.5 + 2 * 0.2 * 0.25 + 2 * 0.8 * 0.25)
    assert float(OverlapAndEntropy(0.0, 0.2, 0.8)(logits, target)) == pytest.approx(
        np.log(4 / 3) - tversky, abs=1e-5
    )


def nnunets(batch: bool, ignored: bool):
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": batch, "smooth": SMOOTH, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(
        dice, {}, ignore_label=2 if ignored else None, dice_class=MemoryEfficientSoftDiceLoss
    )


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("w", [0, 1])
def test_weights_of_0_and_1_are_nnunets_loss_of_ignored_and_of_background_voxels(w, batch):
    logits, target = example(size=6)
    ours, theirs = (logits.float().requires_grad_() for _ in range(2))
    labels = target.masked_fill(target == 2, 0) if w else target
    losses = (
        OverlapAndEntropy(float(w), batch=batch)(ours, target),
        nnunets(batch, ignored=not w)(theirs, labels),
    )
    for loss in losses:
        loss.backward()
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_where_the_weight_is_0_the_gradient_is_0_and_else_that_of_the_loss(alpha):
    logits, target = example(size=2)
    for w in (0.0, 0.3):
        loss = OverlapAndEntropy(w, alpha, 1 - alpha)
        its = logits.clone().requires_grad_()
        loss(its, target).backward()
        assert its.grad is not None
        unknown = (target == 2).expand_as(its)
        assert bool((its.grad[~unknown] != 0).all())
        assert bool((its.grad[unknown] == 0).all()) == (w == 0)
        assert torch.autograd.gradcheck(
            lambda x, loss=loss: loss(x, target), logits.clone().requires_grad_()
        )


def test_a_batch_of_which_nothing_is_known_teaches_nothing():
    logits, _ = example(size=2)
    logits.requires_grad_()
    loss = OverlapAndEntropy(0.0)(logits, torch.full((2, 1, 2, 2, 2), 2))
    loss.backward()
    assert float(loss.detach()) == -1  # an overlap of nothing with nothing, as nnU-Net's Dice
    assert not logits.grad.any()


@given(
    st.integers(0, 99), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1)
)
def test_any_loss_is_that_of_the_loop_and_rises_with_the_weight_of_what_is_wrong(
    seed, w, alpha, beta, more
):
    logits, target = example(size=2, seed=seed, patches=1)
    loss = float(OverlapAndEntropy(w, alpha, beta)(logits, target))
    assert loss == pytest.approx(
        reference(logits.numpy(), target.numpy(), w, alpha, beta, False), rel=1e-9
    )
    assert float(OverlapAndEntropy(w, alpha + more, beta)(logits, target)) >= loss
    assert float(OverlapAndEntropy(w, alpha, beta + more)(logits, target)) >= loss


@given(st.one_of(st.just("ignore"), st.floats(0, 1)))
def test_what_is_ignored_weighs_nothing(unknown):
    assert weight_of_unknown(unknown) == (0 if unknown == "ignore" else unknown)


# The trainer's


@pytest.mark.parametrize(
    ("settings", "w", "weights", "batch"),
    [
        (["unknown=0.3"], 0.3, (0.5, 0.5), False),
        (["unknown=1", "batch_dice=true"], 1, (0.5, 0.5), True),
        (["loss=tversky_ce"], 0, (0.3, 0.7), False),
        (["loss=tversky_ce", "alpha=0.9", "beta=0.2", "unknown=0.1"], 0.1, (0.9, 0.2), False),
    ],
)
def test_each_scale_has_its_own_unknown_voxels_and_its_weight(
    tmp_path, settings, w, weights, batch
):
    """Three levels: the network's output, and one of half the size, by nnU-Net's weights."""
    trainer = trainer_by(tmp_path, "features=4,4,4,4", "patch=32", *settings)
    outputs, targets = zip(*(example(size=8 // 2**k, seed=k) for k in range(3)), strict=True)
    loss = float(trainer._build_loss()(outputs, targets))
    by_scale = [
        reference(x.numpy(), t.numpy(), w, *weights, batch)
        for x, t in zip(outputs, targets, strict=True)
    ]
    assert loss == pytest.approx((by_scale[0] + by_scale[1] / 2) / 1.5, rel=1e-12)
    alone = trainer_by(tmp_path, "patch=16", "deep_supervision=false", *settings)._build_loss()
    assert float(alone(outputs[0], targets[0])) == pytest.approx(by_scale[0], rel=1e-12)


@pytest.mark.parametrize("unknown", ["ignore", "0", "0.0"])
def test_without_a_weight_the_loss_is_nnunets_own(tmp_path, unknown):
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss

    for batch in (False, True):
        setting = f"batch_dice={str(batch).lower()}"
        loss = trainer_by(tmp_path, f"unknown={unknown}", setting)._build_loss().loss
        assert type(loss) is DC_and_CE_loss
        assert (loss.ignore_label, loss.dc.batch_dice, loss.dc.smooth) == (2, batch, SMOOTH)
