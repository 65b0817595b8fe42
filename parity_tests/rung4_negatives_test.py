"""Rung 4 over negatives and losses: every kind of column, every mask, every loss, drawn combinations, and chunks."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from parity_tests.cases import DRAWN_NEGATIVES, NEGATIVES, STRATA
from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_loss, tf_loss, torch_loss
from parity_tests.judging import DTYPES, assert_agree, assert_same_losses
from parity_tests.planted_batches import WEIGHTS, make_bank, make_batch, repeated, rows_of
from parity_tests.problems import problem, with_log_q, with_settings, with_weight
from parity_tests.tolerances import rule
from retrieval_contract.arrays import KnownPositives
from retrieval_contract.weights.names import LOG_TEMPERATURE

MATRIX = [(case, "varied") for case in NEGATIVES]
MATRIX += [(case, "some_zero") for case in NEGATIVES if case.endswith(("_all", "_bank"))]
ALL_ZERO = ("refined_all", "bpr_all", "triplet_bank", "contrastive_all", "sigmoid_all", "gbce_all", "full_softmax_all")
LOSSES = ("plain", "refined", "full_softmax", "bpr", "triplet", "contrastive", "sigmoid", "gbce")
CHUNKED = (
    "plain",
    "columns_all",
    "bank_all",
    "refined_all",
    "triplet_bank",
    "contrastive_all",
    "sigmoid_all",
    "gbce_all",
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "weights"), MATRIX)
def test_loss_and_gradients(case, weights, dtype):
    loss, _ = assert_agree(problem(case, weights=weights), dtype)
    assert np.isfinite(loss)


@pytest.mark.parametrize("case", ALL_ZERO)
def test_weights_all_zero_give_zero(case):
    loss, gradients = assert_agree(problem(case, weights="all_zero"), "float32")
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("case", DRAWN_NEGATIVES)
def test_drawn_configurations(case):
    """Options combined at random, with a batch of the number's own."""
    number = list(DRAWN_NEGATIVES).index(case)
    loss, _ = assert_agree(problem(case, weights=list(WEIGHTS)[number % 2], seed=number // 2), "float64")
    assert np.isfinite(loss)


def test_the_draws_meet_every_option():
    trees = DRAWN_NEGATIVES.values()
    assert Counter((tree["loss"]["kind"], tree["loss"]["log_q"]) for tree in trees) == dict.fromkeys(STRATA, 5)
    for option in ("mask_known_positives", "mask_not_yet_seen", "hardest", "sampled", "impressions", "bank"):
        counts = Counter(str(tree["negatives"][option]) for tree in trees)
        assert len(counts) > 1, option
        assert min(counts.values()) >= 5, option
    assert {tree["training"]["chunk_size"] for tree in trees} == {None, 1, 4, 6}
    assert {tree["loss"]["learn_temperature"] for tree in trees} == {True, False}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk_size", [1, 4, 6])
@pytest.mark.parametrize("case", CHUNKED)
def test_cached_gradients_are_the_gradients(case, chunk_size, dtype):
    """Four divides neither the batch of six, nor its eleven columns, nor its twelve impressions and all together."""
    assert_agree(with_settings(problem(case), "training", chunk_size=chunk_size), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_entries", [0, 1, 12])
@pytest.mark.parametrize("case", ["bank_bias", "bank_all", "refined_bank"])
def test_a_bank_of_any_filling(case, num_entries, dtype):
    small = problem(case)
    assert_agree(replace(small, bank=make_bank(small.config, seed=3, num_entries=num_entries)), dtype)


@pytest.mark.parametrize("case", ["bank_bias", "refined_bank"])
def test_a_bank_and_a_batch_that_fill_no_whole_number_of_blocks(case):
    """Stacks may take large arrays block by block, of a thousand rows or some hundred columns."""
    small = with_settings(problem(case), "negatives", mask_known_positives=True)
    batch = repeated(make_batch(small.config, seed=0), 1_030)
    bank = make_bank(small.config, seed=3, num_entries=1_100)
    assert_agree(replace(small, batch=batch, bank=bank), "float64")


@pytest.mark.parametrize("case", ["bank_bias", "sigmoid_all"])
def test_a_configured_bank_that_has_no_columns_yet(case):
    assert_agree(replace(problem(case), bank=None), "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", ["below", "low", "high", "above"])
def test_a_temperature_on_its_bounds_and_beyond(place, dtype):
    small = problem("learned_temperature")
    low, high = small.config.loss.log_temperature_range
    theta = {"below": low - 1, "low": low, "high": high, "above": high + 1}[place]
    _, gradients = assert_agree(with_weight(small, LOG_TEMPERATURE, theta), dtype)
    assert gradients[LOG_TEMPERATURE].any() == (place in ("low", "high"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
def test_no_row_has_a_negative(case, dtype):
    """Every query knows every candidate."""
    small = with_settings(problem(case), "negatives", mask_known_positives=True)
    places, rows = np.nonzero(np.ones((6, 7), bool))
    everything = KnownPositives(places=places.astype(np.int32), rows=rows.astype(np.int32))
    loss, gradients = assert_agree(replace(small, batch=replace(small.batch, known_positives=everything)), dtype)
    assert np.isfinite(loss)
    if case not in ("contrastive", "sigmoid", "gbce"):
        assert loss == 0
        assert not any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES)
def test_a_batch_of_one(case, dtype):
    small = problem(case)
    loss, _ = assert_agree(replace(small, batch=rows_of(small.batch, slice(1))), dtype)
    assert np.isfinite(loss)


@pytest.mark.parametrize("dtype", DTYPES)
def test_refined_where_a_positive_is_all_that_is_drawn(dtype):
    """Its log_q is 0, or rounds to it: nothing is left for the others, and the row's loss has the limit 0."""
    small = problem("refined")
    log_q = small.batch.log_q.copy()
    log_q[[3, 4]] = 0, -1e-9
    loss, gradients = assert_agree(replace(small, batch=with_log_q(small.batch, log_q)), dtype)
    assert loss > 0
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("case", [case for case in LOSSES if case != "contrastive"])
def test_logits_of_thousands(case):
    """Vectors a hundred times as long: logits of ten thousand, and nothing overflows.

    In float32 two logits of 1e4 are rounded at 1e-3, so where they compete a gradient is right to a thousandth only,
    and is asked to be finite.
    """
    small = problem(case)
    small = replace(small, weights={name: 100 * array for name, array in small.weights.items()})
    loss, _ = assert_agree(small, "float64")
    assert loss > 100
    for value, gradients in (tf_loss(small, "float32"), torch_loss(small, "float32")):
        assert_same(value, value, loss, rule("loss_of_thousands", "float32"))
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("case", ["plain", "refined", "bpr", "triplet", "sigmoid", "gbce"])
def test_a_row_of_weight_zero_is_as_good_as_deleted(case):
    """Its logits overflow: a masked loss times a weight of zero would be NaN."""
    small = problem(case, weights="some_zero")
    rows, table = small.batch.query_features["query_id"].copy(), small.weights["query.embedding.query_id"].copy()
    rows[3], table[5] = 5, 3e38
    batch = replace(small.batch, query_features={"query_id": rows})
    truth = oracle_loss(small)
    small = replace(small, weights=small.weights | {"query.embedding.query_id": table}, batch=batch)
    for dtype in DTYPES:
        assert_same_losses(tf_loss(small, dtype), torch_loss(small, dtype), truth, dtype)
