import numpy as np
import pytest
import torch

from torch_reference.layers.mind import MindPooling


def built(planted_layer, num_iterations=3):
    return planted_layer(MindPooling(4, 5, 2, num_iterations, "float64"))


def softmax(x):
    shares = np.exp(x - x.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def squash(z):
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return length / (1 + length**2) * z


@pytest.mark.parametrize("num_iterations", [1, 3])
def test_each_history_by_hand_and_an_empty_one_is_zeros(planted_layer, items, num_iterations):
    pooling, (values, real) = built(planted_layer, num_iterations), items()
    kernel, routing = (pooling.parts[name][0].detach().numpy() for name in ("kernel", "routing"))
    found = pooling(values, real).detach().numpy()
    for row, (history, kept) in enumerate(zip(values.numpy(), real.numpy(), strict=True)):
        u = history[kept] @ kernel
        logits = routing[: len(u)][::-1]
        capsules = np.zeros((2, 4))
        for _ in range(num_iterations if len(u) else 0):
            capsules = squash(softmax(logits).T @ u)
            logits = logits + u @ capsules.T
        np.testing.assert_allclose(found[row], capsules, rtol=1e-12, atol=1e-14)


def test_padding_never_leaks(planted_layer, assert_padding_never_leaks):
    assert_padding_never_leaks(built(planted_layer))


def test_the_gradient_goes_through_the_last_iteration_only(planted_layer, items):
    pooling, (values, real) = built(planted_layer), items()
    values.requires_grad_()
    pooling(values, real).square().sum().backward()
    with torch.no_grad():  # the shares of the last iteration, as constants
        mapped, logits = values @ pooling.kernel, pooling._start(real, None)
        for _ in range(2):
            shares = torch.where(real.unsqueeze(2), logits.softmax(2), 0)
            z = shares.mT @ mapped
            length = z.norm(dim=2, keepdim=True)
            logits = logits + mapped @ (z * length / (1 + length**2)).nan_to_num().mT
        shares = torch.where(real.unsqueeze(2), logits.softmax(2), 0)
    again, kernel = values.detach().clone().requires_grad_(), pooling.kernel.detach().clone().requires_grad_()
    z = (shares.mT @ (again @ kernel))[:4]
    length = z.norm(dim=2, keepdim=True)
    (z * length / (1 + length**2)).square().sum().backward()
    torch.testing.assert_close(pooling.kernel.grad, kernel.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(values.grad, again.grad, rtol=1e-10, atol=1e-12)


def test_training_draws_the_start_anew_from_the_generator(planted_layer, items):
    pooling, (values, real) = built(planted_layer).train(), items()
    first, same, other = (pooling(values, real, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    fixed = pooling(values, real)
    assert not torch.equal(first, fixed)
    assert torch.equal(pooling.eval()(values, real, torch.Generator().manual_seed(1)), fixed)


def test_a_capsule_of_zeros_has_a_gradient_of_zeros(planted_layer):
    pooling = built(planted_layer)
    values = torch.zeros(1, 3, 4, dtype=torch.float64, requires_grad=True)
    pooling(values, torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert values.grad.isfinite().all()
    assert pooling.kernel.grad.isfinite().all()
