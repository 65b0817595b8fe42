import numpy as np
import pytest
import torch

from retrieval_contract.config import (
    AffinityFeature,
    CategoricalFeature,
    ComiRecPooling,
    CrossFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
    Tower,
)
from torch_reference.layers.features import FeatureCombiner

LISTS = torch.tensor([[2, 3, 0], [0, 0, 0], [4, 0, 0], [2, 2, 3]])
KINDS = {"categorical": CategoricalFeature, "multivalent": MultivalentFeature, "history": HistoryFeature}


def planted(kind, dtype="float32", width=2, **fields):
    tower = Tower(features=(KINDS[kind](name="x", width=width),), **fields)
    combiner = FeatureCombiner(tower, {"x": 5}, dtype)
    weight = torch.arange(5.0 * width).reshape(5, width)
    weight[0] = 0
    table(combiner).weight.data = weight
    return combiner


def table(combiner):
    return combiner.histories["x"].tables[""] if combiner.histories else combiner.tables["x"]


def test_parts_are_put_together_in_the_order_of_the_configuration():
    features = (
        NumericFeature(name="age"),
        CategoricalFeature(name="b", width=2),
        IdFeature(name="a", width=3),
    )
    combiner = FeatureCombiner(Tower(features=features), {"a": 3, "b": 4})
    combiner.tables["a"].weight.data = torch.arange(9.0).reshape(3, 3)
    combiner.tables["b"].weight.data = -torch.arange(8.0).reshape(4, 2)
    combined = combiner({"a": torch.tensor([1, 2]), "b": torch.tensor([3, 0]), "age": torch.tensor([0.5, 0.25])})
    assert combined.tolist() == [[0.5, -6, -7, 3, 4, 5], [0.25, 0, -1, 6, 7, 8]]


def test_numbers_of_every_kind():
    features = (
        CategoricalFeature(name="device", encoding="one_hot", width=3),
        NumericFeature(name="watched", missing_flag=True),
        TimeFeature(name="day", part="weekday_cycle"),
        TimeFeature(name="age", part="age"),
        DenseFeature(name="raw", width=2),
        DenseFeature(name="mapped", width=2, projection=1),
        AffinityFeature(name="taste", of="category", width=2),
    )
    combiner = FeatureCombiner(Tower(features=features), {})
    assert not combiner.tables
    combiner.projections["mapped"].data = torch.tensor([[10.0], [100]])
    pairs = torch.tensor([[0.25, 1], [2, 0], [3, 0], [4, 0]])
    given = dict.fromkeys(("watched", "day", "raw", "mapped", "taste"), pairs)
    combined = combiner({"device": torch.tensor([0, 1, 2, 4]), "age": torch.tensor([5.0, 6, 7, 8]), **given})
    assert combined[0].tolist() == [0, 0, 0, 0.25, 1, 0.25, 1, 5, 0.25, 1, 102.5, 0.25, 1]
    assert combined[:, :3].tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert combined[3].tolist() == [0, 0, 1, 4, 0, 4, 0, 8, 4, 0, 40, 4, 0]


def test_rows_of_every_kind_are_looked_up():
    features = (
        NumericFeature(name="age", scaling="buckets", edges=(18.0,), width=2),
        TimeFeature(name="hour", part="hour", width=2),
        CrossFeature(name="both", of=("age", "hour"), width=2),
    )
    combiner = FeatureCombiner(Tower(features=features), {"age": 4, "hour": 26, "both": 9})
    for number, module in enumerate(combiner.tables.values()):
        module.weight.data = torch.arange(module.weight.numel(), dtype=torch.float32).view(-1, 2) + 100 * number
    rows = {"age": torch.tensor([2]), "hour": torch.tensor([25]), "both": torch.tensor([8])}
    assert combiner(rows).tolist() == [[4, 5, 150, 151, 216, 217]]


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt_n", "max"])
@pytest.mark.parametrize("kind", [MultivalentFeature, TextFeature])
def test_lists_are_pooled_as_the_feature_says(kind, pooling):
    combiner = FeatureCombiner(Tower(features=(kind(name="x", width=1, pooling=pooling),)), {"x": 5})
    combiner.tables["x"].weight.data = torch.arange(5.0).view(5, 1)
    divisor = {"mean": 2, "sum": 1, "sqrt_n": 2**0.5, "max": 1}[pooling]
    expected = [3.0 if pooling == "max" else 5 / divisor, 0.0]
    torch.testing.assert_close(combiner({"x": LISTS[:2]}).squeeze(1), torch.tensor(expected))


def test_weights_weigh():
    combiner = planted("multivalent")
    weights = torch.tensor([[1.0, 3, 0], [0, 0, 0], [2, 0, 0], [0, 0, 0]])
    found = combiner({"x": LISTS, "x.weights": weights})
    assert found.tolist() == [[5.5, 6.5], [0, 0], [8, 9], [0, 0]]


def test_a_shared_table_is_the_candidates_and_gradients_of_both_uses_add_up():
    candidate = FeatureCombiner(Tower(features=(CategoricalFeature(name="category", width=2),)), {"category": 5})
    liked = CategoricalFeature(name="liked", width=2, shares="category")
    query = FeatureCombiner(Tower(features=(liked,)), {}, candidate=candidate)
    assert query.tables == {}
    candidate.tables["category"].weight.data = torch.arange(10.0).view(5, 2)
    one = query({"liked": torch.tensor([3, 3])})
    other = candidate({"category": torch.tensor([3, 2])})
    assert one.tolist() == [[6, 7], [6, 7]]
    (one.sum() + 10 * other.sum()).backward()
    assert candidate.tables["category"].weight.grad.is_sparse
    assert candidate.tables["category"].weight.grad.to_dense()[:, 0].tolist() == [0, 0, 10, 12, 0]


def test_features_of_the_context_have_their_prefix():
    combiner = FeatureCombiner(Tower(features=(NumericFeature(name="load", at="request"),)), {}, side="context")
    assert combiner({"load": torch.zeros(1), "context.load": torch.ones(1)}).tolist() == [[1]]


def test_everything_else_is_repeated_for_each_interest():
    history = HistoryFeature(name="history", width=2, pooling=ComiRecPooling(num_interests=3))
    combiner = FeatureCombiner(Tower(features=(NumericFeature(name="age"), history)), {"history": 5})
    for parameter in combiner.parameters():
        torch.nn.init.normal_(parameter)
    given = {"age": torch.tensor([0.5, 2.0]), "history": LISTS[:2]}
    combined = combiner(given)
    assert combined.shape == (2, 3, 3)
    assert combined[:, :, 0].tolist() == [[0.5] * 3, [2.0] * 3]
    assert torch.equal(combined[:, :, 1:], combiner.histories["history"](given))


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
    table(combiner).weight.data[0] = float("nan")
    assert torch.equal(combiner({"x": LISTS[:1]}), short)
    assert combiner({"x": LISTS[1:2]}).tolist() == [[0, 0]]


def test_gradient_of_the_table_is_sparse_numerically_right_and_never_reaches_padding():
    combiner = planted("history", "float64").double()
    weight, weights = table(combiner).weight, torch.arange(1.0, 9.0, dtype=torch.float64).reshape(4, 2)

    def loss():
        return (combiner({"x": LISTS}) ** 2 * weights).sum()

    loss().backward()
    assert weight.grad.is_sparse
    assert sorted(set(weight.grad.coalesce().indices()[0].tolist())) == [2, 3, 4]
    step, numeric = 1e-6, torch.zeros_like(weight)
    for place in np.ndindex(5, 2):
        kept = weight.data[place].item()
        weight.data[place] = kept + step
        up = loss().item()
        weight.data[place] = kept - step
        numeric[place] = (up - loss().item()) / (2 * step)
        weight.data[place] = kept
    torch.testing.assert_close(weight.grad.to_dense(), numeric, rtol=1e-7, atol=1e-7)


def test_single_values_do_not_give_padding_a_gradient_either():
    combiner = planted("categorical")
    combiner({"x": torch.tensor([0, 2, 2])}).sum().backward()
    assert table(combiner).weight.grad.to_dense()[:, 0].tolist() == [0, 0, 2, 0, 0]


def test_a_batch_of_empty_lists_has_a_gradient_without_rows():
    combiner = planted("history")
    combiner({"x": torch.zeros(3, 2, dtype=torch.int64)}).sum().backward()
    assert table(combiner).weight.grad.coalesce().indices().shape == (1, 0)


def test_float64_averages_float32_tables_in_float64():
    values = torch.tensor([[0.0], [0.1], [1e8], [0.3], [0.7]])
    combiner = planted("history", "float64", width=1)
    table(combiner).weight.data = values
    rows = torch.tensor([[1, 2, 3, 4]])
    exact = values[1:].double().mean()
    assert table(combiner).weight.dtype == torch.float32
    assert combiner({"x": rows}).item() == exact.item()
    assert planted_float32_mean(values) != exact.item()


def planted_float32_mean(values):
    combiner = planted("history", width=1)
    table(combiner).weight.data = values
    return combiner({"x": torch.tensor([[1, 2, 3, 4]])}).item()
