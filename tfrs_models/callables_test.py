import numpy as np
import pytest

import tfrs_models.callables as callables
from retrieval_contract.errors import UserError
from tfrs_models.callables import TwoTowerEncoders, loss_and_gradients


def _encoders(problem, **arguments):
    return TwoTowerEncoders(problem.config, problem.sizes, problem.weights, **arguments)


def test_vectors_are_float32_of_the_served_width(problem):
    encoders, batch = _encoders(problem), problem.batches[0]
    query, candidate = (
        encoders.encode_queries(batch.query_features),
        encoders.encode_candidates(batch.candidate_features),
    )
    assert query.shape == candidate.shape == (6, problem.config.vector_dim)
    assert query.dtype == candidate.dtype == np.float32
    np.testing.assert_array_equal(query[:, -1], 1)
    bias = problem.weights["candidate.bias"][batch.candidate_features["candidate_id"], 0]
    np.testing.assert_allclose(candidate[:, -1], 0.5 * bias, rtol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(query[:, :-1], axis=1), 1, rtol=1e-6)


def test_chunks_change_nothing(problem, monkeypatch):
    features = {name: np.concatenate([values] * 5) for name, values in problem.batches[0].query_features.items()}
    whole = _encoders(problem).encode_queries(features)
    monkeypatch.setattr(callables, "CHUNK_ROWS", 7)
    np.testing.assert_array_equal(_encoders(problem).encode_queries(features), whole)
    assert len(whole) == 30


def test_one_and_none(problem):
    encoders, features = _encoders(problem), problem.batches[0].candidate_features
    whole = encoders.encode_candidates(features)
    one = encoders.encode_candidates({name: values[2:3] for name, values in features.items()})
    np.testing.assert_array_equal(one, whole[2:3])
    none = encoders.encode_candidates({name: values[:0] for name, values in features.items()})
    assert (none.shape, none.dtype) == ((0, 5), np.float32)


def test_encoding_is_done_in_float64(make_problem):
    """Two float32 numbers whose float32 sum of products would lose the small one."""
    problem = make_problem(model={"normalize": False})
    weights = {name: np.zeros_like(array) for name, array in problem.weights.items()}
    weights["candidate.embedding.candidate_id"][2] = [1e8, 1.0, -1e8, 0.0]
    weights["candidate.dense.0.kernel"][:3] = 1
    weights["candidate.dense.1.kernel"][:] = 0.2
    batch = problem.batches[0]
    vectors = TwoTowerEncoders(problem.config, problem.sizes, weights).encode_candidates(batch.candidate_features)
    np.testing.assert_allclose(vectors[0, :4], 0.8413447460685429, rtol=1e-6)


def test_leftovers_raise(problem):
    with pytest.raises(UserError, match="extra is left over"):
        TwoTowerEncoders(problem.config, problem.sizes, {**problem.weights, "extra": np.zeros(1, np.float32)})


def test_cuda_without_a_gpu_is_the_users_mistake(problem, monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    with pytest.raises(UserError, match="sees no GPU"):
        _encoders(problem, device="cuda")


def test_gradients_numerically_for_every_parameter(problem):
    weights = {name: array.astype(np.float64) for name, array in problem.weights.items()}
    arguments, batch = (problem.config, problem.sizes), problem.batches[0]
    _, gradients = loss_and_gradients(*arguments, weights, batch, dtype="float64")
    assert gradients.keys() == weights.keys()
    generator = np.random.default_rng(0)
    for name, array in weights.items():
        direction = generator.normal(size=array.shape)
        if "history" in name or "genres" in name:
            direction[0] = 0
        ends = [
            loss_and_gradients(*arguments, weights | {name: array + h * direction}, batch, dtype="float64")[0]
            for h in (1e-5, -1e-5)
        ]
        np.testing.assert_allclose((gradients[name] * direction).sum(), (ends[0] - ends[1]) / 2e-5, atol=1e-8)


def test_float32_and_float64_agree_and_are_what_they_say(problem):
    arguments = (problem.config, problem.sizes, problem.weights, problem.batches[0])
    narrow, wide = (loss_and_gradients(*arguments, dtype=dtype) for dtype in ("float32", "float64"))
    np.testing.assert_allclose(narrow[0], wide[0], rtol=1e-5)
    assert narrow[0] != wide[0]
    for name in problem.weights:
        assert (narrow[1][name].dtype, wide[1][name].dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(narrow[1][name], wide[1][name], atol=1e-5)


def test_padding_gets_no_gradient(problem):
    _, gradients = loss_and_gradients(
        problem.config, problem.sizes, problem.weights, problem.batches[0], dtype="float32"
    )
    for name in ("query.embedding.history", "candidate.embedding.genres"):
        assert not gradients[name][0].any()
        assert gradients[name][2].any()
