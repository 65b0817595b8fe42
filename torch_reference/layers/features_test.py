import numpy as np
import pytest
import torch

from retrieval_contract.config import CategoricalFeature, Feature, IdFeature, MultivalentFeature, NumericFeature, Tower
from torch_reference.layers.features import FeatureCombiner

LISTS = torch.tensor([[2, 3, 0], [0, 0, 0], [4, 0, 0], [2, 2, 3]])


def planted(kind, dtype="float32", width=2, **fields):
    combiner = FeatureCombiner(Tower(features=(Feature(name="x", kind=kind, width=width),), **fields), {"x": 5}, dtype)
    table = torch.arange(5.0 * width).reshape(5, width)
    table[0] = 0
    combiner.tables["x"].weight.data = table
    return combiner


def test_parts_are_put_together_in_the_order_of_the_configuration():
    features = (
        NumericFeature(name="age"),
        CategoricalFeature(name="b.c", width=2),
        IdFeature(name="a", width=3),
    )
    combiner = FeatureCombiner(Tower(features=features), {"a": 3, "b.c": 4})
    combiner.tables["a"].weight.data = torch.arange(9.0).reshape(3, 3)
    combiner.tables["b.c"].weight.data = -torch.arange(8.0).reshape(4, 2)
    combined = combiner({"a": torch.tensor([1, 2]), "b.c": torch.tensor([3, 0]), "age": torch.tensor([0.5, 0.25])})
    assert combined.tolist() == [[0.5, -6, -7, 3, 4, 5], [0.25, 0, -1, 6, 7, 8]]


def test_sum():
    features = (IdFeature(name="a", width=2), MultivalentFeature(name="b", width=2))
    combiner = FeatureCombiner(Tower(features=features, combine="sum"), {"a": 3, "b": 3})
    combiner.tables["a"].weight.data = torch.tensor([[0.0, 0], [1, 2], [3, 4]])
    combiner.tables["b"].weight.data = torch.tensor([[0.0, 0], [10, 20], [30, 40]])
    assert combiner({"a": torch.tensor([1, 2]), "b": torch.tensor([[1, 2], [2, 0]])}).tolist() == [[21, 32], [33, 44]]


@pytest.mark.parametrize("kind", ["multivalent", "history"])
def test_lists_are_averaged_and_an_empty_one_is_zeros(kind):
    combined = planted(kind)({"x": LISTS})
    expected = [[5.0, 6.0], [0.0, 0.0], [8.0, 9.0], [14 / 3, 17 / 3]]
    torch.testing.assert_close(combined, torch.tensor(expected))


def test_masked_equals_deleted_whatever_the_padding_row_holds():
    combiner = planted("history")
    short = combiner({"x": LISTS[:1, :2]})
    combiner.tables["x"].weight.data[0] = float("nan")
    assert torch.equal(combiner({"x": LISTS[:1]}), short)
    assert combiner({"x": LISTS[1:2]}).tolist() == [[0, 0]]


def test_gradient_of_the_table_is_sparse_numerically_right_and_never_reaches_padding():
    combiner = planted("history", "float64").double()
    table, weights = combiner.tables["x"].weight, torch.arange(1.0, 9.0, dtype=torch.float64).reshape(4, 2)

    def loss():
        return (combiner({"x": LISTS}) ** 2 * weights).sum()

    loss().backward()
    assert table.grad.is_sparse
    assert sorted(set(table.grad.coalesce().indices()[0].tolist())) == [2, 3, 4]
    step, numeric = 1e-6, torch.zeros_like(table)
    for place in np.ndindex(5, 2):
        kept = table.data[place].item()
        table.data[place] = kept + step
        up = loss().item()
        table.data[place] = kept - step
        numeric[place] = (up - loss().item()) / (2 * step)
        table.data[place] = kept
    torch.testing.assert_close(table.grad.to_dense(), numeric, rtol=1e-7, atol=1e-7)


def test_single_values_do_not_give_padding_a_gradient_either():
    combiner = planted("categorical")
    combiner({"x": torch.tensor([0, 2, 2])}).sum().backward()
    assert combiner.tables["x"].weight.grad.to_dense()[:, 0].tolist() == [0, 0, 2, 0, 0]


def test_a_batch_of_empty_lists_has_a_gradient_without_rows():
    combiner = planted("history")
    combiner({"x": torch.zeros(3, 2, dtype=torch.int64)}).sum().backward()
    assert combiner.tables["x"].weight.grad.coalesce().indices().shape == (1, 0)


def test_float64_averages_float32_tables_in_float64():
    values = torch.tensor([[0.0], [0.1], [1e8], [0.3], [0.7]])
    combiner = planted("history", "float64", width=1)
    combiner.tables["x"].weight.data = values
    rows = torch.tensor([[1, 2, 3, 4]])
    exact = values[1:].double().mean()
    assert combiner.tables["x"].weight.dtype == torch.float32
    assert combiner({"x": rows}).item() == exact.item()
    assert planted_float32_mean(values) != exact.item()


def planted_float32_mean(values):
    combiner = planted("history", width=1)
    combiner.tables["x"].weight.data = values
    return combiner({"x": torch.tensor([[1, 2, 3, 4]])}).item()
