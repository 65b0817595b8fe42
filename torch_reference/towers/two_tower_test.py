import math

import numpy as np
import pytest
import torch

from retrieval_contract.config import IdFeature, Loss, Model, RunConfig, Tower
from retrieval_contract.weights.names import parameter_table
from torch_reference.conftest import SIZES
from torch_reference.inputs import batch_tensors
from torch_reference.negatives.in_batch import in_batch_logits
from torch_reference.towers.two_tower import TwoTower
from torch_reference.weights import assign, parameters_by_name


@pytest.fixture
def towers_and_batch(make_example):
    example = make_example()
    towers = TwoTower(example.config, example.sizes, "float64").eval()
    assign(towers, example.weights)
    return towers, batch_tensors(example.batch(0), "float64"), example


def test_served_scores_are_the_logits_times_the_temperature(towers_and_batch):
    towers, batch, example = towers_and_batch
    query, candidate = batch["query_features"], batch["candidate_features"]
    served = towers.query_vectors(query) @ towers.candidate_vectors(candidate).T
    logits = in_batch_logits(
        towers.encode_query(query),
        towers.encode_candidate(candidate),
        temperature=example.config.loss.temperature,
        bias_N=towers.candidate_bias(candidate),
    )
    torch.testing.assert_close(served, logits * example.config.loss.temperature, rtol=1e-12, atol=1e-12)
    assert served.dtype == torch.float64
    assert towers.query_vectors(query).shape == (8, example.config.vector_dim)


def test_the_bias_is_the_one_of_the_candidates_row(towers_and_batch):
    towers, batch, example = towers_and_batch
    rows = batch["candidate_features"]["candidate_id"].numpy()
    bias = towers.candidate_bias(batch["candidate_features"]).detach().numpy()
    np.testing.assert_array_equal(bias, example.weights["candidate.bias"][rows, 0])


def test_without_bias_and_layers_the_embedding_is_the_vector():
    tower = {"query": "query_id", "candidate": "candidate_id"}
    config = RunConfig(
        **{side: Tower(features=(IdFeature(name=name, width=3),)) for side, name in tower.items()},
        model=Model(dim=3),
    )
    towers = TwoTower(config, {"query": {"query_id": 4}, "candidate": {"candidate_id": 5}})
    table = torch.arange(12.0).reshape(4, 3)
    towers.query.combiner.tables["query_id"].weight.data = table
    features = {"query_id": torch.tensor([3, 1])}
    assert torch.equal(towers.query_vectors(features), table[[3, 1]])
    assert towers.candidate_bias({"candidate_id": torch.tensor([2])}) is None


def test_parameters_have_the_canonical_names(make_example):
    example = make_example()
    table = parameter_table(example.config, example.sizes)
    variables = parameters_by_name(TwoTower(example.config, example.sizes))
    assert list(variables) == list(table)
    assert all(variables[name].numel() == np.prod(parameter.shape) for name, parameter in table.items())


def test_a_fixed_temperature_is_a_number_and_has_no_parameter(make_example):
    towers = TwoTower(make_example().config, SIZES)
    assert towers.temperature() == 0.5
    assert towers.log_temperature is None
    assert towers.sigmoid_bias is None


@pytest.mark.parametrize(("theta", "tau", "slope"), [(-0.5, math.exp(-0.5), math.exp(-0.5)), (-9, 0.01, 0), (9, 10, 0)])
def test_a_learned_temperature_is_clipped_and_flat_outside(make_example, theta, tau, slope):
    config = make_example(loss=Loss(learn_temperature=True)).config
    towers = TwoTower(config, SIZES, "float64")
    with torch.no_grad():
        towers.log_temperature.fill_(theta)
    towers.temperature().backward()
    assert towers.temperature().item() == pytest.approx(tau, rel=1e-6)
    assert towers.log_temperature.grad.item() == pytest.approx(slope)
    assert towers.temperature().dtype == torch.float64


def test_on_its_bounds_the_temperature_has_a_gradient(make_example):
    loss = Loss(learn_temperature=True)
    for bound in loss.log_temperature_range:
        for dtype in ("float32", "float64"):
            towers = TwoTower(make_example(loss=loss).config, SIZES, dtype)
            with torch.no_grad():
                towers.log_temperature.fill_(bound)
            towers.temperature().backward()
            assert towers.log_temperature.grad.item() > 0


def test_served_vectors_use_the_learned_temperature(make_example):
    example = make_example(loss=Loss(learn_temperature=True))
    example.weights["loss.log_temperature"][:] = math.log(0.2)
    towers = TwoTower(example.config, example.sizes, "float64").eval()
    assign(towers, example.weights)
    features = batch_tensors(example.batch(0), "float64")["candidate_features"]
    served = towers.candidate_vectors(features)[:, -1]
    torch.testing.assert_close(served, 0.2 * towers.candidate_bias(features), rtol=1e-6, atol=0)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "comirec"])
def test_the_contexts_vector_joins_the_querys_and_the_sum_is_normalised(make_rich_example, pooling, normalize):
    example = make_rich_example(pooling=pooling, normalize=normalize)
    towers = TwoTower(example.config, example.sizes, "float64").eval()
    assign(towers, example.weights)
    features = batch_tensors(example.rich_features_batch(0), "float64")["query_features"]
    merged = towers.merge(towers.query(features), towers.context(features))
    expected = merged / merged.norm(dim=-1, keepdim=True) if normalize else merged
    encoded = towers.encode_query(features)
    torch.testing.assert_close(encoded, expected)
    served = towers.query_vectors(features)
    assert torch.equal(served[..., :-1], encoded)
    assert (served[..., -1] == 1).all()


def test_a_table_that_is_shared_is_one_table(make_rich_example):
    example = make_rich_example()
    towers = TwoTower(example.config, example.sizes)
    own = towers.candidate.combiner.tables["candidate_id"].weight
    assert sum(parameter is own for parameter in towers.parameters()) == 1
    batch = batch_tensors(example.rich_features_batch(0))
    towers.encode_query(batch["query_features"]).sum().backward()
    assert own.grad is not None, "the history and the feature `liked` look it up"
