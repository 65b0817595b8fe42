import math

import numpy as np
import pytest
import torch

from torch_reference.losses.softmax import (
    catalogue_cross_entropy,
    positives_and_negatives,
    refined_softmax,
    softmax_cross_entropy,
    weighted_mean,
)

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
LOG_Q = torch.tensor([0.2, 0.3, 0.05], dtype=torch.float64).log()
DIAGONAL = torch.arange(2)


def ones(number):
    return torch.ones(number, dtype=torch.float64)


def test_values():
    first = math.log(math.exp(1) + math.exp(2) + math.exp(0.5)) - 1
    second = math.log(math.exp(0) + math.exp(-1) + math.exp(3)) + 1
    assert first == pytest.approx(1.4643688, abs=1e-7)
    assert softmax_cross_entropy(LOGITS, ones(2)).item() == pytest.approx((first + second) / 2, rel=1e-14)
    weighted = softmax_cross_entropy(LOGITS, torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert weighted.item() == pytest.approx((3 * first + second) / 4, rel=1e-14)


def test_the_positive_may_stand_in_any_column():
    order = torch.tensor([2, 0, 1])
    moved = softmax_cross_entropy(LOGITS[:, order], ones(2), torch.tensor([1, 2]))
    assert moved.item() == pytest.approx(softmax_cross_entropy(LOGITS, ones(2)).item(), rel=1e-14)


def test_rows_of_a_larger_batch_are_divided_by_its_weight():
    weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
    parts = [
        softmax_cross_entropy(LOGITS[i : i + 1], weights[i : i + 1], DIAGONAL[i : i + 1], weights.sum())
        for i in range(2)
    ]
    assert sum(parts).item() == pytest.approx(softmax_cross_entropy(LOGITS, weights).item(), rel=1e-14)


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


# ---------------------------------------------------------------- refined


def refined(logits, weights=None, positives=DIAGONAL, log_q=LOG_Q, total=None):
    return refined_softmax(logits, ones(len(logits)) if weights is None else weights, positives, total, log_q_N=log_q)


def by_hand(i, positive):
    """The paper's formula: weight by q' of each negative, loss by its sum."""
    s, q = LOGITS[i].numpy(), LOG_Q.exp().numpy()
    negatives = [d for d in range(3) if d != positive]
    corrected = np.array([s[d] - math.log(q[d] / (1 - q[positive])) for d in negatives])
    weight = 1 - math.exp(s[positive]) / (math.exp(s[positive]) + np.exp(corrected).mean())
    return weight, -(s[positive] - math.log(np.exp(corrected).sum()))


def test_refined_values():
    (first_weight, first), (second_weight, second) = by_hand(0, 0), by_hand(1, 1)
    # 0.2 -> 0.8 for the others: q' = 0.375 and 0.0625; s - log q' = 2.98083 and 3.27259.
    assert first == pytest.approx(math.log(math.exp(2.98083) + math.exp(3.27259)) - 1, abs=1e-5)
    assert first_weight == pytest.approx(1 - math.e / (math.e + (math.exp(2.98083) + math.exp(3.27259)) / 2), abs=1e-5)
    assert refined(LOGITS).item() == pytest.approx((first_weight * first + second_weight * second) / 2, rel=1e-13)
    moved = refined(LOGITS, positives=torch.tensor([0, 2])).item()
    assert moved == pytest.approx((first_weight * first + math.prod(by_hand(1, 2))) / 2, rel=1e-13)


def test_refined_with_columns_of_the_rows_own():
    assert refined(LOGITS, log_q=LOG_Q.expand(2, -1)).item() == pytest.approx(refined(LOGITS).item(), rel=1e-14)
    other = torch.stack([LOG_Q, LOG_Q.flip(0)])
    swapped = refined(LOGITS[1:], positives=DIAGONAL[1:], log_q=LOG_Q.flip(0)).item()
    whole = (refined(LOGITS[:1], positives=DIAGONAL[:1]).item() + swapped) / 2
    assert refined(LOGITS, log_q=other).item() == pytest.approx(whole, rel=1e-14)


def test_refined_masked_equals_deleted():
    masked = LOGITS.clone()
    masked[:, 2] = -math.inf
    assert refined(masked).item() == pytest.approx(refined(LOGITS[:, :2], log_q=LOG_Q[:2]).item(), rel=1e-14)
    assert refined(LOGITS).item() != pytest.approx(refined(masked).item(), rel=1e-3)


def test_refined_gradient_holds_the_weight_still():
    logits = LOGITS.clone().requires_grad_()
    weights = torch.tensor([0.7, 1.9], dtype=torch.float64)
    refined(logits, weights).backward()
    shares = [by_hand(i, i)[0] for i in range(2)]

    def held(logits):
        corrected = (logits - LOG_Q).masked_fill(torch.eye(2, 3, dtype=torch.bool), -math.inf)
        gaps = corrected.logsumexp(1) - logits.diagonal()
        return (weights * torch.tensor(shares) * gaps).sum() / weights.sum()

    again = LOGITS.clone().requires_grad_()
    held(again).backward()
    torch.testing.assert_close(logits.grad, again.grad, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(held, LOGITS.clone().requires_grad_())
    moving = LOGITS.clone().requires_grad_()  # a weight that is not held has another gradient
    gaps = (moving - LOG_Q).masked_fill(torch.eye(2, 3, dtype=torch.bool), -math.inf).logsumexp(1)
    gaps = gaps + torch.log1p(-LOG_Q[:2].exp()) - moving.diagonal()
    (weights * torch.sigmoid(gaps - math.log(2)) * gaps).sum().div(weights.sum()).backward()
    assert not torch.allclose(moving.grad, logits.grad, rtol=1e-2)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_refined_large_logits_stay_finite(scale):
    logits = (LOGITS * scale).requires_grad_()
    loss = refined(logits)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    if scale > 0:  # first row: 2e4 against 1e4; second: 3e4 against -1e4
        assert loss.item() == pytest.approx((1e4 + 4e4) / 2, rel=1e-3)


def test_refined_without_negatives_or_weights_gives_zero_and_no_gradient():
    alone = torch.full((2, 3), -math.inf, dtype=torch.float64).fill_diagonal_(0.3)
    for logits, weights, log_q in (
        (alone, None, LOG_Q),
        (LOGITS[:, :1], None, 0 * LOG_Q[:1]),
        (LOGITS, 0 * ones(2), LOG_Q),
    ):
        logits = logits.clone().requires_grad_()
        loss = refined(logits, weights, DIAGONAL if logits.shape[1] > 1 else 0 * DIAGONAL, log_q)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.abs().sum() == 0


def test_refined_stays_finite_where_the_positives_probability_rounds_to_one():
    logits = LOGITS.float().clone().requires_grad_()
    loss = refined(logits, ones(2).float(), log_q=torch.tensor([0.0, -20.0, -18.0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [softmax_cross_entropy, refined])
def test_a_row_of_weight_zero_may_hold_anything(loss):
    for nothing in (math.nan, math.inf, -math.inf):
        logits = LOGITS.clone()
        logits[1] = nothing
        logits.requires_grad_()
        value = loss(logits, torch.tensor([2.0, 0.0], dtype=torch.float64))
        value.backward()
        assert value.item() == pytest.approx(loss(LOGITS[:1], ones(1), DIAGONAL[:1]).item(), rel=1e-14)
        assert logits.grad[1].tolist() == [0, 0, 0]
        assert logits.grad[0].isfinite().all()


@pytest.mark.parametrize("loss", [softmax_cross_entropy, refined])
def test_dtypes_stay(loss):
    assert loss(LOGITS, ones(2)).dtype == torch.float64
    single = {"log_q": LOG_Q.float()} if loss is refined else {}
    assert loss(LOGITS.float(), ones(2).float(), DIAGONAL, **single).dtype == torch.float32


# ---------------------------------------------------------------- what all losses take

MASKED = torch.tensor([[1.0, 2.0, -math.inf], [0.5, -1.0, 3.0]], dtype=torch.float64)


def test_positives_leave_the_negatives_and_masked_columns_are_not_counted():
    positive, negatives, number = positives_and_negatives(MASKED, ones(2), torch.tensor([1, 0]))
    assert positive.tolist() == [[2], [0.5]]
    assert negatives.tolist() == [[1, -math.inf, -math.inf], [-math.inf, -1, 3]]
    assert number.tolist() == [1, 2]
    assert MASKED[0, 1] == 2


def test_only_silent_rows_are_silenced():
    weights = torch.tensor([0.0, 1e-30], dtype=torch.float64)
    positive, negatives, number = positives_and_negatives(MASKED, weights, DIAGONAL)
    assert positive.tolist() == [[0], [-1]]
    assert negatives.tolist() == [[-math.inf, 0, 0], [0.5, -math.inf, 3]]
    assert number.tolist() == [2, 2]


def test_the_mean_is_by_the_rows_own_weight_or_by_a_given_total():
    losses, weights = torch.tensor([2.0, 4.0]), torch.tensor([3.0, 1.0])
    assert weighted_mean(losses, weights).item() == 2.5
    assert weighted_mean(losses, weights, torch.tensor(20.0)).item() == 0.5
    assert (
        weighted_mean(losses, 0 * weights).item() == weighted_mean(losses, 0 * weights, torch.tensor(0.0)).item() == 0
    )


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_catalogues_loss_is_the_softmax_of_its_logits_block_by_block(monkeypatch, dtype, has_bias):
    monkeypatch.setattr("torch_reference.losses.softmax._BLOCK", 15)
    generator = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    query, candidate = (torch.randn(n, 2, generator=generator, dtype=kind, requires_grad=True) for n in (8, 5))
    bias = torch.randn(5, generator=generator, dtype=kind, requires_grad=True) if has_bias else None
    weights = torch.rand(8, generator=generator, dtype=kind).index_fill(0, torch.tensor([4]), 0)
    positives = torch.tensor([0, 4, 2, 2, 1, 3, 0, 4])
    gone = torch.tensor([0, 0, 3, 6]), torch.tensor([1, 3, 4, 2])
    arguments = (weights, positives, torch.tensor(9.0, dtype=kind))
    inputs = [query, candidate, *([bias] if has_bias else [])]
    loss = catalogue_cross_entropy(query, candidate, bias, *arguments, gone=gone)
    found = torch.autograd.grad(3 * loss, inputs)
    logits = query @ candidate.T if bias is None else query @ candidate.T + bias
    expected = softmax_cross_entropy(logits.index_put(gone, torch.tensor(-math.inf, dtype=kind)), *arguments)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(found, torch.autograd.grad(3 * expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)
    masked_out = catalogue_cross_entropy(query, candidate, bias, *arguments)
    assert not torch.isclose(masked_out, loss)


def test_the_catalogues_loss_stands_large_logits_and_rows_that_do_not_count():
    query = torch.tensor([[1000.0], [-1000.0], [math.nan]], requires_grad=True)
    candidate = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    weights, positives = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 0, 1])
    loss = catalogue_cross_entropy(query, candidate, None, weights, positives)
    loss.backward()
    assert loss.item() == 1000
    assert query.grad.tolist() == [[0], [-1], [0]]
    assert candidate.grad.isfinite().all()
    nothing = catalogue_cross_entropy(query, candidate, None, 0 * weights, positives)
    assert nothing.item() == 0
