import numpy as np
import pytest
import torch

from torch_reference.callables import TwoTowerEncoders
from torch_reference.conftest import rich_query_features
from torch_reference.exported_program.programs import candidate_program, query_program
from torch_reference.inputs import feature_tensors

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
"""Sums of tens of terms of size 1 in float32, against float64."""


def queries_of(example, features):
    """The query's program, traced with features of which nothing but names and shapes is looked at."""
    return query_program(example.config, example.sizes, example.weights, features)


def candidates_of(example):
    return candidate_program(example.config, example.sizes, example.weights, example.catalogue)


def assert_encodes(program, encode, features):
    vectors = program.module()(feature_tensors(features)).numpy()
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, encode(features), **TOLERANCE)


def cut(features, num_rows, length):
    return {
        name: values[:num_rows, :length] if name.startswith("history") else values[:num_rows]
        for name, values in features.items()
    }


@pytest.mark.parametrize("pooling", ["gru", "transformer", "mind"])
def test_a_program_equals_its_tower_for_any_batch_and_length(pooling, make_rich_example, tmp_path):
    """With a context tower, shared tables, crosses, norms; one row and one item, though torch was shown more.

    ComiRec, and means, are `torch_reference.export_test`'s.
    """
    example = make_rich_example(pooling=pooling)
    draw = np.random.default_rng(0)
    traced = queries_of(example, rich_query_features(draw, 5))
    encoders = TwoTowerEncoders(example.config, example.sizes, example.weights, "cpu")
    path = tmp_path / "query.pt2"
    torch.export.save(traced, path)
    program = torch.export.load(path)
    features = rich_query_features(draw, 7)
    for num_rows, length in ((7, 4), (1, 4), (7, 2), (3, 1), (1, 1)):
        assert_encodes(program, encoders.encode_queries, cut(features, num_rows, length))
    wide = features | {"history.genres": np.pad(features["history.genres"], [(0, 0), (0, 0), (0, 2)])}
    assert_encodes(program, encoders.encode_queries, wide)
    vectors = program.module()(feature_tensors(features | {"history": features["history"][::-1]})).numpy()
    assert not np.allclose(vectors, encoders.encode_queries(features), **TOLERANCE), "another history is noticed"


def test_a_history_beyond_its_length_is_refused_by_the_program(make_example):
    example = make_example()
    features = example.batch(0).query_features
    program = queries_of(example, features)
    long = features | {"history": np.pad(features["history"], [(0, 0), (0, 1)])}
    with pytest.raises((AssertionError, RuntimeError), match="4"):
        program.module()(feature_tensors(long))


def test_a_program_holds_its_own_side_and_no_values_it_was_shown(make_example):
    example = make_example()
    features = example.batch(0).query_features
    queries, candidates = queries_of(example, features), candidates_of(example)
    encoders = TwoTowerEncoders(example.config, example.sizes, example.weights, "cpu")
    for num_rows in (1, 7):
        assert_encodes(queries, encoders.encode_queries, cut(features, num_rows, 4))
        some = {name: values[:num_rows] for name, values in example.catalogue.items() if name != "vector"}
        assert_encodes(candidates, encoders.encode_candidates, some)
    assert not any(name.startswith("towers.candidate.") for name in queries.state_dict)
    assert not any(name.startswith("towers.query.") for name in candidates.state_dict)
    assert not any(values.any() for values in queries.example_inputs[0][0].values())
