import math

import pytest
import torch

from torch_reference.negatives import bank as bank_module
from torch_reference.negatives.bank import NegativeBank, log_sum
from torch_reference.negatives.columns import Columns


def columns(first, number, *, bias=True, dtype=torch.float32):
    values = torch.arange(first, first + number, dtype=dtype)
    vectors = torch.stack([values, -values], dim=1)
    return Columns(vectors, values.to(torch.int64), -values / 8, values / 2 if bias else None)


def filled(num_places, *numbers, bias=True):
    bank, first = NegativeBank(num_places, 2, bias), 0
    for number in numbers:
        bank.enqueue(columns(first, number, bias=bias))
        first += number
    return bank


def assert_columns(found, wanted):
    for name in ("vectors_ND", "rows_N", "log_q_N", "bias_N"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert (one is None and other is None) or torch.equal(one, other)


def test_it_begins_empty_and_gives_only_what_is_filled():
    assert_columns(filled(6).columns(), columns(0, 0))
    assert_columns(filled(6, 2, 3).columns(), columns(0, 5))
    assert_columns(filled(6, 2, 3, bias=False).columns(), columns(0, 5, bias=False))
    assert filled(6, 2, 3).tensors["enqueued"].item() == 5
    assert (filled(6, 2, 3).tensors["vectors"][5:] == 0).all()


def test_the_newest_take_the_places_of_the_oldest():
    bank = filled(6, 4, 4)  # numbers 6 and 7 lie where 0 and 1 lay
    assert bank.columns().rows_N.tolist() == [6, 7, 2, 3, 4, 5]
    assert bank.columns().log_q_N.tolist() == [-6 / 8, -7 / 8, -2 / 8, -3 / 8, -4 / 8, -5 / 8]
    bank.enqueue(columns(8, 6))
    assert sorted(bank.columns().rows_N.tolist()) == list(range(8, 14))
    assert all(number % 6 == place for place, number in enumerate(bank.columns().rows_N.tolist()))


def test_more_than_it_holds_leaves_the_last():
    bank = filled(3, 2, 5)
    assert bank.tensors["enqueued"].item() == 7
    assert bank.columns().rows_N.tolist() == [6, 4, 5]


def test_what_it_holds_is_detached_and_its_own():
    vectors = torch.ones(2, 2, requires_grad=True)
    given = Columns(vectors * 3, torch.arange(2), torch.zeros(2), None)
    bank = NegativeBank(4, 2, False)
    bank.enqueue(given)
    with torch.no_grad():
        vectors.zero_()
    assert not bank.columns().vectors_ND.requires_grad
    assert bank.columns().vectors_ND.tolist() == [[3, 3], [3, 3]]


def test_a_reset_ring_is_noticed():
    whole, reset = filled(4, 2, 2), NegativeBank(4, 2, True)
    reset.enqueue(columns(2, 2))
    assert whole.columns().rows_N.tolist() != reset.columns().rows_N.tolist()


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_is_stored_where_there_is_one_and_only_there(bias):
    assert ("bias" in NegativeBank(4, 2, bias).tensors) == bias
    with pytest.raises(AssertionError, match="bias"):
        NegativeBank(4, 2, bias).enqueue(columns(0, 2, bias=not bias))


def test_no_places_are_no_bank():
    with pytest.raises(AssertionError):
        NegativeBank(0, 2, False)


# ---------------------------------------------------------------- the sum over a bank

NUM_QUERIES, NUM_PLACES, DIM = 7, 23, 3


def drawn(seed=0, *, num_queries=NUM_QUERIES, num_places=NUM_PLACES, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    query = scale * torch.randn(num_queries, DIM, dtype=dtype, generator=generator)
    vectors = torch.randn(num_places, DIM, dtype=dtype, generator=generator)
    added = torch.randn(num_places, dtype=dtype, generator=generator)
    gone = torch.rand(num_queries, num_places, generator=generator) < 0.2
    return query.requires_grad_(), vectors, added, gone


def plainly(query, vectors, added, gone):
    return (query @ vectors.T + added).masked_fill(gone, -math.inf).logsumexp(dim=1)


def both_ways(query, vectors, added, gone):
    """Value and gradient of the sum and of the plain formula."""
    found = []
    for summed in (log_sum(query, vectors, added, gone.nonzero(as_tuple=True)), plainly(query, vectors, added, gone)):
        weights = torch.linspace(0.5, 2, len(summed), dtype=summed.dtype)
        part = summed.masked_fill(summed == -math.inf, 0)
        (gradient,) = torch.autograd.grad((weights * part).sum(), query)
        found += [summed.detach(), gradient]
    return found


@pytest.mark.parametrize("block", [(3, 4), (7, 23), (100, 100), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sum_is_the_logsumexp_and_its_gradient_whatever_the_blocks(monkeypatch, block, dtype):
    monkeypatch.setattr(bank_module, "_BLOCK", block)
    value, gradient, plain, plain_gradient = both_ways(*drawn(dtype=dtype))
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(value, plain, rtol=rtol, atol=rtol)
    torch.testing.assert_close(gradient, plain_gradient, rtol=rtol, atol=rtol)
    assert value.dtype == gradient.dtype == dtype


def test_the_blocks_of_a_real_size_meet_at_their_edges():
    rows, columns = (size + 3 for size in bank_module._BLOCK)
    value, gradient, plain, plain_gradient = both_ways(*drawn(num_queries=rows, num_places=2 * columns))
    torch.testing.assert_close(value, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-10, atol=1e-13)


def test_gradcheck():
    query, vectors, added, gone = drawn()
    pairs = gone.nonzero(as_tuple=True)
    assert torch.autograd.gradcheck(lambda query: log_sum(query, vectors, added, pairs), query)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_logits_neither_overflow_nor_vanish(monkeypatch, scale):
    monkeypatch.setattr(bank_module, "_BLOCK", (3, 4))
    for dtype in (torch.float32, torch.float64):
        value, gradient, plain, plain_gradient = both_ways(*drawn(dtype=dtype, scale=scale))
        torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient, plain_gradient, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_left_the_sum_is_minus_infinity_without_a_gradient(monkeypatch):
    monkeypatch.setattr(bank_module, "_BLOCK", (3, 4))
    query, vectors, added, gone = drawn()
    gone[2], gone[5, :8] = True, True  # all places of one query; the first two blocks of another
    value, gradient, plain, plain_gradient = both_ways(query, vectors, added, gone)
    assert value[2] == -math.inf
    torch.testing.assert_close(value, plain, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, plain_gradient.nan_to_num(0), rtol=1e-12, atol=1e-15)
    assert gradient[2].tolist() == [0, 0, 0]
    sums = log_sum(query, vectors, added, gone.nonzero(as_tuple=True))
    torch.cat([torch.zeros(NUM_QUERIES, 1), sums[:, None]], dim=1).logsumexp(dim=1).sum().backward()
    assert query.grad.isfinite().all()


def test_a_query_without_a_part_in_the_loss_may_hold_anything():
    query, vectors, added, gone = drawn()
    with torch.no_grad():
        query[3] = math.nan
    sums = log_sum(query, vectors, added, gone.nonzero(as_tuple=True))
    sums[torch.arange(NUM_QUERIES) != 3].sum().backward()
    assert query.grad[3].tolist() == [0, 0, 0]
    assert query.grad.isfinite().all()


def test_inputs_are_not_written():
    query, vectors, added, gone = drawn()
    before = [tensor.detach().clone() for tensor in (query, vectors, added)]
    log_sum(query, vectors, added, gone.nonzero(as_tuple=True)).sum().backward()
    assert all(torch.equal(*pair) for pair in zip((query, vectors, added), before, strict=True))


def test_a_place_that_is_not_left_out_is_noticed():
    query, vectors, added, gone = drawn()
    kept = torch.zeros(0, dtype=torch.int64)
    whole = log_sum(query, vectors, added, (kept, kept))
    assert not torch.allclose(whole, plainly(query, vectors, added, gone), rtol=1e-3)
