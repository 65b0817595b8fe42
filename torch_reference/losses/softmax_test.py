import math

import pytest
import torch

from torch_reference.losses.softmax import softmax_cross_entropy

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)


def ones(number):
    return torch.ones(number, dtype=torch.float64)


def test_values():
    first = math.log(math.exp(1) + math.exp(2) + math.exp(0.5)) - 1
    second = math.log(math.exp(0) + math.exp(-1) + math.exp(3)) + 1
    assert first == pytest.approx(1.4643688, abs=1e-7)
    assert softmax_cross_entropy(LOGITS, ones(2)).item() == pytest.approx((first + second) / 2, rel=1e-14)
    weighted = softmax_cross_entropy(LOGITS, torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert weighted.item() == pytest.approx((3 * first + second) / 4, rel=1e-14)


def test_scale_of_the_weights_does_not_matter_and_a_weight_of_zero_deletes_the_row():
    weights = torch.tensor([0.2, 0.0], dtype=torch.float64)
    assert softmax_cross_entropy(LOGITS, weights).item() == pytest.approx(
        softmax_cross_entropy(LOGITS[:1], ones(1)).item(), rel=1e-14
    )


def test_masked_equals_deleted():
    masked = LOGITS.clone()
    masked[:, 2] = -math.inf
    assert softmax_cross_entropy(masked, ones(2)) == softmax_cross_entropy(LOGITS[:, :2], ones(2))


def test_only_the_positive_left_gives_zero_with_a_finite_gradient():
    logits = torch.full((2, 2), -math.inf, dtype=torch.float64).fill_diagonal_(0.3).requires_grad_()
    loss = softmax_cross_entropy(logits, ones(2))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == [[0, 0], [0, 0]]


def test_weights_all_zero_give_zero_and_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss = softmax_cross_entropy(logits, 0 * ones(2))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_large_logits_do_not_overflow():
    assert softmax_cross_entropy(LOGITS * 1e4, ones(2)).item() == pytest.approx((1e4 + 4e4) / 2)


def test_gradient_by_logits_and_weights():
    weights = torch.tensor([0.7, 1.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax_cross_entropy, (LOGITS.clone().requires_grad_(), weights))
