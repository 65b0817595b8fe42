import pytest
import torch

from torch_reference.towers.context import ContextMerge


def vectors():
    return torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)


def test_sum_has_no_weights():
    merge, (query, context) = ContextMerge(3, "sum", "float64"), vectors()
    assert torch.equal(merge(query, context), query + context)
    assert not list(merge.parameters())


def test_the_gate_chooses_for_each_number():
    merge, (query, context) = ContextMerge(3, "gate", "float64"), vectors()
    gate = torch.sigmoid(torch.cat([query, context], dim=1) @ merge.gate.weight.T + merge.gate.bias)
    torch.testing.assert_close(merge(query, context), gate * query + (1 - gate) * context)
    with torch.no_grad():
        merge.gate.bias[:] = torch.tensor([1e3, -1e3, 1e3])
    assert torch.equal(merge(query, context), torch.stack([query[:, 0], context[:, 1], query[:, 2]], dim=1))


@pytest.mark.parametrize("kind", ["sum", "gate"])
def test_every_interest_meets_the_same_context(kind):
    merge, (query, context) = ContextMerge(3, kind, "float64"), vectors()
    interests = torch.stack([query, 2 * query], dim=1)
    merged = merge(interests, context)
    for interest in range(2):
        torch.testing.assert_close(merged[:, interest], merge(interests[:, interest], context))
