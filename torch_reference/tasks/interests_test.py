import numpy as np
import pytest
import torch

from torch_reference.tasks.interests import attend_label, choose_interest


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    interests = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    return interests, torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("power", [0.5, 1, 2, 5])
def test_attention_by_hand(power):
    interests, positive = problem()
    found = attend_label(interests, positive, power).detach().numpy()
    for k, v, row in zip(interests.detach().numpy(), positive.detach().numpy(), found, strict=True):
        s = k @ v
        shares = np.exp(np.sign(s) * np.abs(s) ** power)
        np.testing.assert_allclose(row, shares @ k / shares.sum(), rtol=1e-12)


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_gradient_goes_to_both_through_the_scores(power):
    assert torch.autograd.gradcheck(lambda k, v: attend_label(k, v, power), problem())


@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_scores_of_zero_have_finite_gradients(power):
    interests = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    positive = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    attend_label(interests, positive, power).sum().backward()
    assert interests.grad.tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    assert positive.grad.tolist() == [[0, 0]]


def test_a_large_power_is_no_infinity():
    interests, positive = problem()
    found = attend_label(100 * interests, positive, 500.0)
    found.sum().backward()
    assert found.isfinite().all()
    assert interests.grad.isfinite().all()
    assert positive.grad.isfinite().all()


def test_the_best_interest_is_taken_whole_and_of_equals_the_first():
    interests, positive = problem()
    interests.data[0] = 1.0
    chosen = choose_interest(interests, positive)
    best = [(k @ v).argmax().item() for k, v in zip(interests.detach().numpy(), positive.detach().numpy(), strict=True)]
    assert best[0] == 0
    assert torch.equal(chosen, interests[torch.arange(4), best])
    chosen.sum().backward()
    expected = torch.zeros(4, 3, 2, dtype=torch.float64)
    expected[torch.arange(4), best] = 1
    assert torch.equal(interests.grad, expected)
    assert positive.grad is None
