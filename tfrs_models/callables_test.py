import dataclasses

import numpy as np
import pytest

import tfrs_models.callables as callables
from retrieval_contract.arrays import BankColumns
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


def test_long_lists_are_encoded_fewer_at_a_time(problem, monkeypatch):
    features = {name: np.concatenate([values] * 5) for name, values in problem.batches[0].query_features.items()}
    encoders = _encoders(problem)
    whole, sizes = encoders.encode_queries(features), []
    cut = callables.feature_tensors
    monkeypatch.setattr(callables, "feature_tensors", lambda arrays: sizes.append(len(arrays["age"])) or cut(arrays))
    monkeypatch.setattr(callables, "_CHUNK_PLACES", 21)
    np.testing.assert_array_equal(encoders.encode_queries(features), whole)
    assert sizes == [7, 7, 7, 7, 2]


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


EVERYTHING = {"mask_known_positives": True, "sampled": 4, "impressions": 2}
CASES = {
    "softmax": {},
    "all sources": {"negatives": {**EVERYTHING, "mask_not_yet_seen": True, "hardest": 5}},
    "learned temperature": {"loss": {"learn_temperature": True}, "negatives": EVERYTHING},
    "refined": {"loss": {"log_q": "refined"}, "negatives": EVERYTHING},
    "bank": {"negatives": {"bank": {"num_batches": 2}}},
    "bank, refined": {"loss": {"log_q": "refined"}, "negatives": {"bank": {"num_batches": 2}}},
    "bank, masks": {
        "loss": {"learn_temperature": True},
        "negatives": {"bank": {"num_batches": 2}, "mask_known_positives": True},
    },
    "bank, hardest": {"negatives": {"bank": {"num_batches": 2}, "hardest": 3}},
    "bank, no bias": {"model": {"candidate_bias": False}, "negatives": {"bank": {"num_batches": 2}}},
    "everything": {
        "loss": {"log_q": "none", "remove_accidental_hits": False},
        "negatives": {**EVERYTHING, "bank": {"num_batches": 2}},
    },
    "full softmax": {
        "loss": {"kind": "full_softmax", "log_q": "none", "learn_temperature": True},
        "negatives": {"mask_known_positives": True},
    },
    **{
        kind: {"loss": {"kind": kind, "log_q": "none"}, "negatives": {**EVERYTHING, "bank": {"num_batches": 2}}}
        for kind in ("bpr", "triplet", "sigmoid", "gbce")
    },
    "contrastive": {
        "loss": {"kind": "contrastive", "log_q": "none", "temperature": 1.0},
        "model": {"candidate_bias": False},
        "negatives": EVERYTHING,
    },
}


def _find(problem, make_bank, weights=None, dtype="float64"):
    bank = make_bank(problem.config) if problem.config.negatives.bank.num_batches else None
    return loss_and_gradients(
        problem.config,
        problem.sizes,
        problem.weights if weights is None else weights,
        problem.batches[0],
        dtype=dtype,
        catalogue=problem.catalogue,
        bank=bank,
    )


@pytest.mark.parametrize("case", [case for case in CASES if "refined" not in case])
def test_gradients_numerically_for_every_configuration(make_problem, make_bank, case):
    """Along one direction through all parameters; the refined loss has a weight without gradient, and is left out."""
    problem = make_problem(**CASES[case])
    weights = {name: array.astype(np.float64) for name, array in problem.weights.items()}
    _, gradients = _find(problem, make_bank, weights)
    assert gradients.keys() == weights.keys()
    generator = np.random.default_rng(1)
    direction = {name: generator.normal(size=array.shape) for name, array in weights.items()}
    for padded in ("query.embedding.history", "candidate.embedding.genres"):
        direction[padded][0] = 0
    ends = [
        _find(problem, make_bank, {name: array + h * direction[name] for name, array in weights.items()})[0]
        for h in (1e-6, -1e-6)
    ]
    along = sum((gradients[name] * direction[name]).sum() for name in weights)
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("case", "chunk_size"),
    [("everything", 1), ("softmax", 6), *((case, 4) for case in CASES if case != "full softmax")],
)
def test_cached_gradients_are_those_of_the_batch_at_once(make_problem, make_bank, case, chunk_size):
    whole = _find(make_problem(**CASES[case]), make_bank)
    chunks = _find(make_problem(**CASES[case], training={"chunk_size": chunk_size}), make_bank)
    np.testing.assert_allclose(chunks[0], whole[0], rtol=1e-13)
    for name, gradient in whole[1].items():
        np.testing.assert_allclose(chunks[1][name], gradient, rtol=1e-9, atol=1e-14, err_msg=name)


def test_a_bank_is_more_columns(make_problem, make_bank):
    """A bank of the batch's own sampled candidates is those, without their gradient."""
    problem = make_problem(negatives={"sampled": 4}, loss={"log_q": "exact"})
    batch = problem.batches[0]
    encoders = TwoTowerEncoders(problem.config, problem.sizes, problem.weights)
    served = encoders.encode_candidates(batch.sampled.features)
    bank = BankColumns(
        vectors=served[:, :-1],
        rows=batch.sampled.rows,
        log_q=batch.sampled.log_q,
        bias=problem.weights["candidate.bias"][batch.sampled.features["candidate_id"], 0],
    )
    arguments = (problem.config, problem.sizes, problem.weights)
    sampled, sampled_gradients = loss_and_gradients(*arguments, batch, dtype="float64")
    alone = dataclasses.replace(batch, sampled=None)
    banked, banked_gradients = loss_and_gradients(*arguments, alone, dtype="float64", bank=bank)
    np.testing.assert_allclose(banked, sampled, rtol=1e-7)
    for name, gradient in sampled_gradients.items():
        if name.startswith("query."):
            np.testing.assert_allclose(banked_gradients[name], gradient, atol=1e-6)
    assert np.abs(banked_gradients["candidate.bias"] - sampled_gradients["candidate.bias"]).max() > 1e-3


def test_a_loss_that_needs_the_catalogue_says_so(make_problem):
    problem = make_problem(loss={"kind": "gbce", "log_q": "none"})
    with pytest.raises(AssertionError, match="catalogue"):
        loss_and_gradients(problem.config, problem.sizes, problem.weights, problem.batches[0], dtype="float32")
