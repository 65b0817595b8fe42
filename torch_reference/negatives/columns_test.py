import pytest
import torch

from torch_reference.negatives.columns import Columns, joined


def columns(first, number, *, bias=True):
    values = torch.arange(first, first + number, dtype=torch.float64)
    return Columns(torch.stack([values, -values], dim=1), values.to(torch.int64), -values, values / 2 if bias else None)


def test_parts_stand_behind_each_other_in_all_four_fields():
    whole, wanted = joined([columns(0, 2), columns(2, 3)]), columns(0, 5)
    for name in ("vectors_ND", "rows_N", "log_q_N", "bias_N"):
        assert torch.equal(getattr(whole, name), getattr(wanted, name))
        assert getattr(whole, name).dtype == getattr(wanted, name).dtype


def test_one_part_is_itself_and_an_empty_part_adds_nothing():
    part = columns(0, 2)
    assert joined([part]) is part
    assert torch.equal(joined([part, columns(5, 0)]).vectors_ND, part.vectors_ND)


def test_the_bias_is_of_all_parts_or_of_none():
    assert joined([columns(0, 2, bias=False), columns(2, 1, bias=False)]).bias_N is None
    with pytest.raises(AssertionError, match="some have none"):
        joined([columns(0, 2), columns(2, 1, bias=False)])


def test_gradients_reach_their_part():
    first = torch.ones(2, 2, requires_grad=True)
    parts = [Columns(first, torch.arange(2), torch.zeros(2), None), columns(0, 1, bias=False)]
    (joined(parts).vectors_ND.float() * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    assert first.grad.tolist() == [[1, 1], [2, 2]]
