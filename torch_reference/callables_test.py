from dataclasses import replace

import numpy as np
import pytest
import torch

from retrieval_contract.config import Loss, Negatives
from retrieval_contract.errors import RunError, UserError
from torch_reference import callables
from torch_reference.callables import TwoTowerEncoders, loss_and_gradients


def encoders(example, **changes):
    return TwoTowerEncoders(example.config, example.sizes, {**example.weights, **changes}, "cpu")


def test_vectors_are_float32_of_a_float64_computation(make_example):
    example, batch = make_example(), make_example().batch(0)
    queries = encoders(example).encode_queries(batch.query_features)
    candidates = encoders(example).encode_candidates(batch.candidate_features)
    assert queries.dtype == candidates.dtype == np.float32
    assert queries.shape == candidates.shape == (8, example.config.vector_dim)
    np.testing.assert_array_equal(queries[:, -1], 1)
    rows = batch.candidate_features["candidate_id"]
    np.testing.assert_array_equal(candidates[:, -1], 0.5 * example.weights["candidate.bias"][rows, 0])
    np.testing.assert_allclose(np.linalg.norm(candidates[:, :-1].astype(float), axis=1), 1, atol=3e-8)
    np.testing.assert_array_equal(candidates[:, :-1], candidate_formula(example, batch).astype(np.float32))


def candidate_formula(example, batch):
    """The candidate tower of the example in float64 NumPy."""
    weights = {name: array.astype(np.float64) for name, array in example.weights.items()}
    rows, genres = batch.candidate_features["candidate_id"], batch.candidate_features["genres"]
    total = (weights["candidate.embedding.genres"][genres] * (genres != 0)[:, :, None]).sum(axis=1)
    mean = total / np.maximum((genres != 0).sum(axis=1), 1)[:, None]
    x = np.concatenate([weights["candidate.embedding.candidate_id"][rows], mean], axis=1)
    for layer in range(3):
        x = x @ weights[f"candidate.dense.{layer}.kernel"] + weights[f"candidate.dense.{layer}.bias"]
        x = np.tanh(x) if layer < 2 else x
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_chunks_and_an_empty_catalogue_change_nothing(make_example, monkeypatch):
    example = make_example()
    features = example.batch(0).query_features
    whole = encoders(example).encode_queries(features)
    monkeypatch.setattr(callables, "CHUNK_ROWS", 3)
    np.testing.assert_array_equal(encoders(example).encode_queries(features), whole)
    nobody = {name: array[:0] for name, array in features.items()}
    assert encoders(example).encode_queries(nobody).shape == (0, 6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_encodes_what_the_cpu_does(make_example):
    example = make_example()
    features = example.batch(0).candidate_features
    on_gpu = TwoTowerEncoders(example.config, example.sizes, example.weights, "cuda").encode_candidates(features)
    np.testing.assert_allclose(on_gpu, encoders(example).encode_candidates(features), rtol=1e-6, atol=1e-7)


def test_dropout_is_off(make_example):
    plain, dropped = make_example(), make_example(dropout=0.5)
    features = plain.batch(0).query_features
    np.testing.assert_array_equal(encoders(plain).encode_queries(features), encoders(dropped).encode_queries(features))


def test_leftovers_raise(make_example):
    with pytest.raises(UserError, match="left over: extra"):
        encoders(make_example(), extra=np.zeros(1, np.float32))


def test_vectors_that_are_not_finite_do_not_leave(make_example):
    example = make_example()
    features = {**example.batch(0).query_features, "age": np.full(8, np.nan, np.float32)}
    with pytest.raises(RunError, match="not finite"):
        encoders(example).encode_queries(features)


GRADIENTS = {
    "softmax": {},
    "learned temperature": {"loss": Loss(temperature=0.5, learn_temperature=True)},
    "bpr": {"loss": Loss(kind="bpr", log_q="none")},
    "triplet": {"loss": Loss(kind="triplet", log_q="none")},
    "contrastive": {"loss": Loss(kind="contrastive", log_q="none", margin=0.9), "candidate_bias": False},
    "sigmoid": {"loss": Loss(kind="sigmoid", log_q="none", sigmoid_bias=-1.0)},
    "gbce": {"loss": Loss(kind="gbce", log_q="none")},
    "hardest": {"negatives": Negatives(hardest=2)},
    "full softmax": {"loss": Loss(kind="full_softmax", log_q="none")},
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients_are_numerically_right_in_the_canonical_layout(make_example, case):
    example = make_example(**GRADIENTS[case])
    whole = case == "full softmax"
    batch, bank = (example.batch(0), None) if whole else (example.rich_batch(0), example.bank(0))
    weights = {name: array.astype(np.float64) for name, array in example.weights.items()}

    def computed(weights):
        settings = {"dtype": "float64", "catalogue": example.catalogue, "bank": bank}
        return loss_and_gradients(example.config, example.sizes, weights, batch, **settings)

    def loss_at(name, place, value):
        changed = weights[name].copy()
        changed[place] = value
        return computed({**weights, name: changed})[0]

    loss, gradients = computed(weights)
    assert list(gradients) == list(weights)
    generator, step = np.random.default_rng(0), 1e-5
    for name, gradient in gradients.items():
        assert gradient.shape == weights[name].shape
        assert gradient.dtype == np.float64
        assert np.abs(gradient).max() > 1e-4, f"{name}: nothing to compare"
        # The places with the largest gradient and a few at random, untouched rows among them.
        largest = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        for place in [largest, *(tuple(generator.integers(0, gradient.shape)) for _ in range(3))]:
            if "embedding" in name and place[0] == 0:
                continue
            value = weights[name][place]
            numeric = (loss_at(name, place, value + step) - loss_at(name, place, value - step)) / (2 * step)
            assert gradient[place] == pytest.approx(numeric, rel=1e-6, abs=1e-9), (name, place)
    for name in gradients:
        assert "embedding" not in name or (gradients[name][0] == 0).all()
    assert loss > 0


def test_the_bank_gives_columns_and_takes_no_gradient(make_example):
    example = make_example()
    arguments = (example.config, example.sizes, example.weights, example.batch(0))
    without, _ = loss_and_gradients(*arguments, dtype="float64")
    bank = example.bank(0)
    with_bank, gradients = loss_and_gradients(*arguments, dtype="float64", bank=bank)
    assert with_bank > without + 0.1
    far = replace(bank, log_q=np.full(7, 1e4, np.float32))  # logits of -1e4: no part of the sum
    assert loss_and_gradients(*arguments, dtype="float64", bank=far)[0] == pytest.approx(without, rel=1e-12)
    hits = replace(bank, rows=np.full(7, 99, np.int32))
    assert loss_and_gradients(*arguments, dtype="float64", bank=hits)[0] > with_bank
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("kind", ["full_softmax", "gbce"])
def test_a_loss_that_needs_the_catalogue_says_so(make_example, kind):
    example = make_example(loss=Loss(kind=kind, log_q="none"))
    with pytest.raises(AssertionError, match="needs the catalogue"):
        loss_and_gradients(example.config, example.sizes, example.weights, example.batch(0), dtype="float64")


def test_float32_is_close_to_float64_and_weights_scale_out(make_example):
    example, batch = make_example(), make_example().batch(0)
    single, double = (
        loss_and_gradients(example.config, example.sizes, example.weights, batch, dtype=dtype)
        for dtype in ("float32", "float64")
    )
    assert single[0] == pytest.approx(double[0], rel=1e-6)
    for name, gradient in single[1].items():
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, double[1][name], rtol=1e-3, atol=1e-6)
    doubled = replace(batch, weights=2 * batch.weights)
    again = loss_and_gradients(example.config, example.sizes, example.weights, doubled, dtype="float64")
    assert again[0] == pytest.approx(double[0], rel=1e-12)
