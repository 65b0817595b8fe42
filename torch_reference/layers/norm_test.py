import numpy as np
import pytest
import torch

from torch_reference.layers.norm import BatchNorm, LayerNorm


def built(kind, width=3):
    norm = kind(width, "float64")
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([1.0, -2, 0.5]))
        norm.offset.copy_(torch.tensor([0.25, 0, -3]))
    return norm


def test_layer_norm_by_hand_with_the_population_variance():
    x = np.random.default_rng(0).standard_normal((5, 3))
    scale, offset = np.array([1, -2, 0.5]), np.array([0.25, 0, -3])
    expected = scale * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6) + offset
    np.testing.assert_allclose(built(LayerNorm)(torch.tensor(x)).detach().numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("kind", [LayerNorm, BatchNorm])
def test_equal_numbers_give_the_offset_and_finite_gradients(kind):
    norm, x = built(kind), torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    out = norm(x)
    torch.testing.assert_close(out, norm.offset.expand(4, 3))
    out.square().sum().backward()
    assert x.grad.isfinite().all()


def test_batch_norm_in_training_takes_the_batch_and_its_gradient_goes_through_the_statistics():
    x = np.random.default_rng(0).standard_normal((5, 3))
    norm = built(BatchNorm)
    scale, offset = np.array([1, -2, 0.5]), np.array([0.25, 0, -3])
    expected = scale * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) + offset
    np.testing.assert_allclose(norm(torch.tensor(x)).detach().numpy(), expected, rtol=1e-13)
    rows = torch.tensor(x, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (rows,))


def test_moving_statistics_move_when_committed_and_serve():
    norm, x = built(BatchNorm), torch.randn(6, 3, dtype=torch.float64)
    norm(x)
    assert norm.mean.tolist() == [0, 0, 0], "a step that is thrown away leaves no trace"
    for _ in range(2):
        norm.commit()  # the second has nothing to add
    torch.testing.assert_close(norm.mean, 0.01 * x.mean(0))
    torch.testing.assert_close(norm.variance, 0.99 + 0.01 * x.var(0, unbiased=False))
    norm.eval()
    expected = norm.scale * (x - norm.mean) / (norm.variance + 1e-3).sqrt() + norm.offset
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x[:1]), expected[:1])
    norm.commit()
    torch.testing.assert_close(norm.mean, 0.01 * x.mean(0))
