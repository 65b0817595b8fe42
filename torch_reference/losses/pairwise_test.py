import math

import pytest
import torch

from torch_reference.losses.pairwise import bpr, contrastive, triplet

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
POSITIVES = torch.tensor([0, 1])
COSINES = torch.tensor([[0.9, 0.85, -0.3], [0.7, 0.2, 0.95]], dtype=torch.float64)


def ones(number):
    return torch.ones(number, dtype=torch.float64)


def softplus(x):
    return math.log1p(math.exp(x))


LOSSES = {
    "bpr": lambda *arguments: bpr(*arguments),
    "triplet": lambda *arguments: triplet(*arguments, margin=0.7),
    "contrastive": lambda *arguments: contrastive(*arguments, margin=0.4),
}
EVERY = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def test_bpr_values():
    first = (softplus(1) + softplus(-0.5)) / 2
    second = (softplus(1) + softplus(4)) / 2
    assert first == pytest.approx(0.8936694, abs=1e-7)
    assert bpr(LOGITS, ones(2), POSITIVES).item() == pytest.approx((first + second) / 2, rel=1e-14)
    weighted = bpr(LOGITS, torch.tensor([3.0, 1.0], dtype=torch.float64), POSITIVES)
    assert weighted.item() == pytest.approx((3 * first + second) / 4, rel=1e-14)


def test_triplet_values():
    # Row 0: 0.7 + 1 and 0.7 - 0.5; row 1: 0.7 + 1 and 0.7 + 4.
    wanted = ((1.7 + 0.2) / 2 + (1.7 + 4.7) / 2) / 2
    assert triplet(LOGITS, ones(2), POSITIVES, margin=0.7).item() == pytest.approx(wanted, rel=1e-14)
    assert triplet(LOGITS[:1], ones(1), POSITIVES[:1], margin=0.5).item() == pytest.approx(1.5 / 2, rel=1e-14)


def test_contrastive_values():
    # Row 0: positive 0.9, negatives 0.85 (distance 0.15) and -0.3 (1.3, far); row 1: 0.2; 0.7 (0.3) and 0.95 (0.05).
    first = (0.1**2 + (0.25**2 + 0) / 2) / 2
    second = (0.8**2 + (0.1**2 + 0.35**2) / 2) / 2
    assert contrastive(COSINES, ones(2), POSITIVES, margin=0.4).item() == pytest.approx((first + second) / 2, rel=1e-13)


@EVERY
def test_masked_equals_deleted(loss):
    logits = LOGITS.clone().requires_grad_()
    masked = logits.masked_fill(torch.tensor([False, False, True]), -math.inf)
    value = loss(masked, ones(2), POSITIVES)
    value.backward()
    deleted = LOGITS[:, :2].clone().requires_grad_()
    loss(deleted, ones(2), POSITIVES).backward()
    assert value.item() == pytest.approx(loss(deleted, ones(2), POSITIVES).item(), rel=1e-14)
    assert value.item() != pytest.approx(loss(LOGITS, ones(2), POSITIVES).item(), rel=1e-3)
    assert torch.equal(logits.grad, torch.cat([deleted.grad, torch.zeros(2, 1)], dim=1))


@EVERY
def test_rows_of_a_larger_batch_and_rows_of_weight_zero(loss):
    weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
    parts = [loss(LOGITS[i : i + 1], weights[i : i + 1], POSITIVES[i : i + 1], weights.sum()).item() for i in range(2)]
    assert sum(parts) == pytest.approx(loss(LOGITS, weights, POSITIVES).item(), rel=1e-14)
    spoiled = LOGITS.clone()
    spoiled[1] = math.nan
    spoiled.requires_grad_()
    value = loss(spoiled, torch.tensor([3.0, 0.0], dtype=torch.float64), POSITIVES)
    value.backward()
    assert value.item() == pytest.approx(loss(LOGITS[:1], ones(1), POSITIVES[:1]).item(), rel=1e-14)
    assert spoiled.grad[1].tolist() == [0, 0, 0]


@EVERY
def test_without_negatives(loss):
    logits = torch.full((2, 3), -math.inf, dtype=torch.float64).scatter(1, POSITIVES[:, None], 0.3).requires_grad_()
    value = loss(logits, ones(2), POSITIVES)
    value.backward()
    one_column = loss(torch.full((2, 1), 0.3, dtype=torch.float64), ones(2), 0 * POSITIVES).item()
    if loss is LOSSES["contrastive"]:
        assert value.item() == pytest.approx(0.7**2 / 2) == one_column
        assert logits.grad.gather(1, POSITIVES[:, None]).flatten().tolist() == pytest.approx([-0.35, -0.35])
    else:
        assert value.item() == one_column == 0
        assert logits.grad.abs().sum() == 0
    assert logits.grad.isfinite().all()


@EVERY
def test_weights_all_zero_give_zero_and_no_gradient(loss):
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, 0 * ones(2), POSITIVES)
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_logits_do_not_overflow_and_dtypes_stay(dtype):
    logits = (LOGITS * 1e4).to(dtype)
    # Row 0: 1e4 too high and 5e3 below; row 1: 1e4 and 4e4 too high.
    for loss in (bpr, lambda *arguments: triplet(*arguments, margin=0.0)):
        scaled = logits.clone().requires_grad_()
        value = loss(scaled, ones(2).to(dtype), POSITIVES)
        value.backward()
        assert value.item() == pytest.approx((1e4 / 2 + 5e4 / 2) / 2, rel=1e-6)
        assert value.dtype == dtype
        assert scaled.grad[0].tolist() == pytest.approx([-0.25, 0.25, 0], abs=1e-12)


def test_bpr_between_20_and_40_is_exact():
    # torch's own softplus leaves out log1p(exp(-x)) above 20.
    logits = torch.tensor([[0.0, 20.5]], dtype=torch.float64)
    assert bpr(logits, ones(1), POSITIVES[:1]).item() - 20.5 == pytest.approx(math.exp(-20.5), rel=1e-4)


def test_triplet_on_its_kink_and_with_equal_logits():
    logits = torch.tensor([[1.0, 0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    triplet(logits, ones(1), POSITIVES[:1], margin=0.5).backward()  # margin + s_1 - s_0 = 0
    assert logits.grad.tolist() == [[-0.5, 0, 0.5]]


@EVERY
def test_gradient(loss):
    weights = torch.tensor([0.7, 1.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda logits, weights: loss(logits, weights, POSITIVES), (LOGITS.clone().requires_grad_(), weights)
    )
