import math

import numpy as np
import pytest
import torch

from torch_reference.layers.pooling import at_last_item, pool_list, softmax_over_real, steps_back

POOLINGS = ("mean", "sum", "sqrt_n", "max")
ALLOWED = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]], bool)


def by_hand(values, allowed, pooling, weights=None):
    rows = []
    for list_values, kept, list_weights in zip(values, allowed, weights, strict=True):
        h, w = list_values[kept], list_weights[kept]
        if not len(h) or (pooling in ("mean", "sqrt_n") and not w.sum()):
            rows.append(np.zeros(values.shape[2]))
        elif pooling == "max":
            rows.append(h.max(axis=0))
        else:
            divisor = {"mean": w.sum(), "sum": 1, "sqrt_n": math.sqrt((w**2).sum())}[pooling]
            rows.append((w[:, None] * h).sum(axis=0) / divisor)
    return np.array(rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_values(pooling, weighted):
    generator = np.random.default_rng(0)
    values, weights = generator.standard_normal((4, 3, 2)), generator.uniform(0, 2, (4, 3))
    weights[3, 1:] = 0
    given = torch.tensor(weights) if weighted else None
    found = pool_list(torch.tensor(values), torch.tensor(ALLOWED), pooling, given)
    expected = by_hand(values, ALLOWED, pooling, weights if weighted else np.ones((4, 3)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_not_allowed_has_no_influence_and_a_gradient_of_zero(pooling):
    values = torch.randn(4, 3, 2, dtype=torch.float64)
    allowed = torch.tensor(ALLOWED)
    spoiled = values.masked_fill(~allowed.unsqueeze(2), math.nan).requires_grad_()
    found = pool_list(spoiled, allowed, pooling)
    assert torch.equal(found, pool_list(values, allowed, pooling))
    found.square().sum().backward()
    assert spoiled.grad.isfinite().all()
    assert not spoiled.grad[~allowed].any()
    assert spoiled.grad[allowed].any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_more_padding_changes_nothing_and_lists_may_be_nested(pooling):
    values, allowed = torch.randn(4, 3, 2, dtype=torch.float64), torch.tensor(ALLOWED)
    weights = torch.rand(4, 3, dtype=torch.float64)
    found = pool_list(values, allowed, pooling, weights)
    longer = [
        torch.nn.functional.pad(x, pad) for x, pad in ((values, (0, 0, 0, 2)), (allowed, (0, 2)), (weights, (0, 2)))
    ]
    torch.testing.assert_close(pool_list(longer[0], longer[1], pooling, longer[2]), found, rtol=1e-15, atol=1e-15)
    nested = [x.view(2, 2, *x.shape[1:]) for x in (values, allowed, weights)]
    assert torch.equal(pool_list(nested[0], nested[1], pooling, nested[2]).view(4, 2), found)


def test_sqrt_n_takes_very_small_and_very_large_weights():
    values, allowed = torch.ones(2, 2, 1), torch.ones(2, 2, dtype=torch.bool)
    weights = torch.tensor([[1e-30, 1e-30], [1e30, 1e30]])
    torch.testing.assert_close(pool_list(values, allowed, "sqrt_n", weights), torch.full((2, 1), math.sqrt(2)))


def test_softmax_is_over_the_real_places_and_an_empty_list_has_no_share_and_no_gradient():
    real = torch.tensor([[True, True, False], [False, False, False]])
    scores = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    shares = softmax_over_real(scores, real)
    expected = scores[0, :2].softmax(dim=0)
    torch.testing.assert_close(shares[0, :2], expected)
    assert not shares[0, 2].any()
    assert not shares[1].any()
    shares.square().sum().backward()
    assert scores.grad.isfinite().all()
    assert not scores.grad[1].any()
    assert not scores.grad[0, 2].any()


def test_places_are_counted_back_from_the_newest_item():
    real = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert steps_back(real).tolist() == [[2, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    vectors = torch.arange(12.0).view(3, 4, 1) + 1
    assert at_last_item(vectors, real).tolist() == [[3], [5], [0]]
