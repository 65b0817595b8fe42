import pytest
import torch

from torch_reference.layers.dropout import SeededDropout


def drawn(rate, seed, training=True, x=None):
    layer = SeededDropout(rate).train(training)
    return layer(torch.ones(200, 100) if x is None else x, torch.Generator().manual_seed(seed))


def test_kept_numbers_are_scaled_so_that_the_mean_stays():
    y = drawn(0.4, 0)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (y == 0).float().mean() == pytest.approx(0.4, abs=0.02)
    assert y.mean() == pytest.approx(1, abs=0.03)


def test_the_generator_alone_decides():
    torch.manual_seed(1)
    first = drawn(0.4, 7)
    torch.manual_seed(2)
    assert torch.equal(first, drawn(0.4, 7))
    assert not torch.equal(first, drawn(0.4, 8))


def test_evaluation_and_rate_zero_change_nothing_and_draw_nothing():
    x, generator = torch.randn(5, 4), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert SeededDropout(0.0).train()(x, generator) is x
    assert SeededDropout(0.9).eval()(x, generator) is x
    assert torch.equal(generator.get_state(), before)


def test_gradient_passes_where_the_number_passed():
    x = torch.ones(30, 10, requires_grad=True)
    y = drawn(0.5, 0, x=x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
