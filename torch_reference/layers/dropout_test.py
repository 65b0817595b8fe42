import pytest
import torch

from torch_reference.layers.dropout import BulkDropout, SeededDropout


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bulk_dropout_keeps_the_mean_and_about_the_asked_share(dtype):
    dropout, x = BulkDropout(0.2), torch.ones(401, 499, dtype=dtype)
    dropped = dropout(x, torch.Generator().manual_seed(1))
    kept = dropped != 0
    assert kept.double().mean().item() == pytest.approx(0.8, abs=4 * (0.16 / x.numel()) ** 0.5)
    assert dropped[kept].unique().tolist() == [torch.tensor(dropout.scale, dtype=dtype).item()]
    assert dropout.scale == pytest.approx(1.25, rel=1e-4)
    # Numbers that one 64-bit word decides over are independent of one another.
    pairs = (kept.flatten()[: 4 * 50_000].view(-1, 4)).double()
    assert torch.corrcoef(pairs.T).sub(torch.eye(4, dtype=torch.float64)).abs().max() < 0.02


def test_bulk_dropout_is_a_function_of_the_generator_in_training_only():
    dropout, x = BulkDropout(0.5), torch.randn(7, 3)
    first, same, other = (dropout(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert dropout.eval()(x) is x
    assert BulkDropout(0.0)(x) is x
