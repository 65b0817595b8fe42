import math

import pytest
import torch

from torch_reference.losses.pointwise import gbce, sigmoid

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
POSITIVES = torch.tensor([0, 1])
BIAS = torch.tensor([-0.5], dtype=torch.float64)
LOSSES = {
    "sigmoid": lambda *arguments: sigmoid(*arguments, bias=BIAS.to(arguments[0].dtype)),
    "gbce": lambda *arguments: gbce(*arguments, num_candidates=6, t=0.75),
}
EVERY = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def ones(number):
    return torch.ones(number, dtype=torch.float64)


def softplus(x):
    return math.log1p(math.exp(x))


def test_sigmoid_values():
    first = softplus(-0.5) + softplus(1.5) + softplus(0.0)
    second = softplus(1.5) + softplus(-0.5) + softplus(2.5)
    assert first == pytest.approx(2.8686374, abs=1e-7)
    weighted = LOSSES["sigmoid"](LOGITS, torch.tensor([3.0, 1.0], dtype=torch.float64), POSITIVES)
    assert weighted.item() == pytest.approx((3 * first + second) / 4, rel=1e-14)


def test_gbce_values():
    # alpha = 2/5, beta = 0.4 (0.75 (1 - 2.5) + 2.5) = 0.55
    first = (0.55 * softplus(-1) + softplus(2) + softplus(0.5)) / 3
    second = (0.55 * softplus(1) + softplus(0) + softplus(3)) / 3
    assert LOSSES["gbce"](LOGITS, ones(2), POSITIVES).item() == pytest.approx((first + second) / 2, rel=1e-14)


def test_gbce_probabilities_are_the_papers():
    # log sigma(s)^beta with beta = alpha (t (1 - 1/alpha) + 1/alpha), and log(1 - sigma(s)).
    for t, number in ((0.0, 4), (0.75, 4), (1.0, 9)):
        alpha = 2 / (number - 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        probabilities = torch.sigmoid(LOGITS[0])
        wanted = -(math.log(probabilities[0] ** beta) + torch.log(1 - probabilities[1:]).sum()) / 3
        found = gbce(LOGITS[:1], ones(1), POSITIVES[:1], num_candidates=number, t=t)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_gbce_counts_each_rows_own_negatives_and_no_more_than_there_are():
    masked = LOGITS.clone()
    masked[0, 2] = -math.inf
    rows = [gbce(row[None], ones(1), POSITIVES[i : i + 1], num_candidates=3, t=1.0) for i, row in enumerate(masked)]
    assert rows[0].item() == pytest.approx((0.5 * softplus(-1) + softplus(2)) / 2)  # alpha = 1/2 = beta
    assert rows[1].item() == pytest.approx((softplus(1) + softplus(0) + softplus(3)) / 3)
    together = gbce(masked, ones(2), POSITIVES, num_candidates=3, t=1.0)
    assert together.item() == pytest.approx((rows[0] + rows[1]).item() / 2)
    crowded = gbce(LOGITS, ones(2), POSITIVES, num_candidates=2, t=1.0)  # alpha is 1 at most
    assert crowded.item() == pytest.approx(gbce(LOGITS, ones(2), POSITIVES, num_candidates=3, t=1.0).item())


@EVERY
def test_masked_equals_deleted(loss):
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits.masked_fill(torch.tensor([False, False, True]), -math.inf), ones(2), POSITIVES)
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
    spoiled[1] = math.inf
    spoiled.requires_grad_()
    value = loss(spoiled, torch.tensor([3.0, 0.0], dtype=torch.float64), POSITIVES)
    value.backward()
    assert value.item() == pytest.approx(loss(LOGITS[:1], ones(1), POSITIVES[:1]).item(), rel=1e-14)
    assert spoiled.grad[1].tolist() == [0, 0, 0]


@EVERY
def test_without_negatives_the_positives_term_stays(loss):
    logits = torch.full((2, 3), -math.inf, dtype=torch.float64).scatter(1, POSITIVES[:, None], 0.3).requires_grad_()
    value = loss(logits, ones(2), POSITIVES)
    value.backward()
    wanted = softplus(0.2) if loss is LOSSES["sigmoid"] else 0.25 * softplus(-0.3)  # beta = 1 - t
    assert value.item() == pytest.approx(wanted, rel=1e-14)
    assert value.item() == loss(torch.full((2, 1), 0.3, dtype=torch.float64), ones(2), 0 * POSITIVES).item()
    assert logits.grad.isfinite().all()


@EVERY
def test_weights_all_zero_give_zero_and_no_gradient(loss):
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, 0 * ones(2), POSITIVES)
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().sum() == 0


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_logits_do_not_overflow_and_dtypes_stay(loss, dtype):
    logits = (LOGITS * 1e4).to(dtype).requires_grad_()
    value = loss(logits, ones(2).to(dtype), POSITIVES)
    value.backward()
    sums = (2.5e4, 4e4) if loss is LOSSES["sigmoid"] else (2.5e4 / 3, (0.55 + 3) * 1e4 / 3)
    assert value.item() == pytest.approx(sum(sums) / 2, rel=1e-4)
    assert value.dtype == dtype
    assert logits.grad.isfinite().all()


@EVERY
def test_gradient(loss):
    weights = torch.tensor([0.7, 1.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda logits, weights: loss(logits, weights, POSITIVES), (LOGITS.clone().requires_grad_(), weights)
    )


def test_gradient_by_the_sigmoids_bias():
    bias = BIAS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda bias: sigmoid(LOGITS, ones(2), POSITIVES, bias=bias), (bias,))
