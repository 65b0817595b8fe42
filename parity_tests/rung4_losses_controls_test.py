"""Negative controls of rung 4 over losses, temperature, bank and chunks: each fault must be noticed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logsumexp, softmax

from parity_tests.corners import oracle_loss
from parity_tests.judging import assert_fault_noticed, assert_noticed
from parity_tests.oracles import logits, losses, towers
from parity_tests.oracles.losses import Value
from parity_tests.planted_batches import candidate_features, log_q_of, rows_of
from parity_tests.problems import Problem, problem, with_settings, with_weight
from retrieval_contract.arrays import BankColumns, Batch, SampledColumns
from retrieval_contract.weights.names import LOG_TEMPERATURE


def test_rung4_notices_refined_with_the_positive_in_the_denominator():
    def inside(row):
        if not len(row.negatives):
            return Value(loss=0.0, by_positive=0.0, by_negatives=np.zeros(0))
        corrected = row.negatives - (row.log_q - np.log1p(-np.exp(row.log_q_positive)))
        every = np.append(corrected, row.positive)
        w = losses.refined_weight(row.positive, logsumexp(corrected), len(corrected))
        p = softmax(every)
        return Value(loss=w * (logsumexp(every) - row.positive), by_positive=w * (p[-1] - 1), by_negatives=w * p[:-1])

    assert_fault_noticed(problem("refined"), losses, "refined_softmax", inside)


def test_rung4_notices_a_refined_weight_that_is_not_under_stop_gradient():
    """The same loss with another gradient."""
    right = losses.refined_softmax

    def through_the_weight(row):
        value = right(row)
        if not len(row.negatives):
            return value
        w, share = -value.by_positive, value.by_negatives / -value.by_positive
        by_x = w - w * (1 - w) * (-value.loss / w)
        return Value(loss=value.loss, by_positive=-by_x, by_negatives=by_x * share)

    assert_fault_noticed(problem("refined"), losses, "refined_softmax", through_the_weight)


def test_rung4_notices_refined_without_the_missing_mass_of_the_positive():
    """q instead of q' = q / (1 - q_p): only the weight of a row sees it."""
    right = losses.refined_softmax
    assert_fault_noticed(
        problem("refined"), losses, "refined_softmax", lambda row: right(replace(row, log_q_positive=-np.inf))
    )


def test_rung4_notices_a_mean_for_the_sum_of_sigmoid():
    def mean(row):
        share = 1 / (1 + len(row.negatives))
        loss = share * (losses.softplus(-row.positive) + losses.softplus(row.negatives).sum())
        slopes = share * expit(row.negatives)
        return Value(loss=loss, by_positive=-share * expit(-row.positive), by_negatives=slopes)

    assert_fault_noticed(problem("sigmoid"), losses, "sigmoid", mean)


def test_rung4_notices_beta_on_the_wrong_term_of_gbce():
    def on_the_negatives(row, *, num_candidates, t):
        n = len(row.negatives)
        beta = losses.gbce_beta(n, num_candidates=num_candidates, t=t)
        loss = (losses.softplus(-row.positive) + beta * losses.softplus(row.negatives).sum()) / (n + 1)
        slopes = beta * expit(row.negatives) / (n + 1)
        return Value(loss=loss, by_positive=-expit(-row.positive) / (n + 1), by_negatives=slopes)

    assert_fault_noticed(problem("gbce"), losses, "gbce", on_the_negatives)


def test_rung4_notices_gbce_by_the_configured_number_of_negatives():
    """The sampling rate is that of the negatives that are left, row by row."""
    right = losses.gbce_beta
    assert_fault_noticed(problem("gbce"), losses, "gbce_beta", lambda _, **settings: right(5, **settings))


@pytest.mark.parametrize("case", ["bpr", "triplet"])
def test_rung4_notices_a_sum_for_the_mean_over_pairs(case):
    def total(losses_n, slopes_n):
        return Value(loss=losses_n.sum(), by_positive=-slopes_n.sum(), by_negatives=slopes_n)

    assert_fault_noticed(problem(case), losses, "_mean", total)


def test_rung4_notices_bpr_the_wrong_way_round():
    right = losses.bpr
    assert_fault_noticed(
        problem("bpr"), losses, "bpr", lambda row: right(replace(row, positive=-row.positive, negatives=-row.negatives))
    )


def test_rung4_notices_a_triplet_margin_of_the_wrong_sign():
    small = problem("triplet")
    margin = -small.config.loss.margin
    assert_noticed(small, oracle_loss(with_settings(small, "loss", margin=margin)))


def test_rung4_notices_contrastive_without_its_half():
    right = losses.contrastive

    def whole(row, *, margin):
        value = right(row, margin=margin)
        return Value(loss=2 * value.loss, by_positive=2 * value.by_positive, by_negatives=2 * value.by_negatives)

    assert_fault_noticed(problem("contrastive"), losses, "contrastive", whole)


def test_rung4_notices_full_softmax_over_the_batch_alone():
    small = problem("full_softmax")
    in_batch = with_settings(small, "loss", kind="softmax")
    assert_noticed(small, oracle_loss(in_batch))


# ---------------------------------------------------------------- learned temperature, bank, chunks


@pytest.mark.parametrize("beyond", [-1, 1])
def test_rung4_notices_a_clip_that_lets_gradients_through_outside(beyond):
    small = problem("learned_temperature")
    bounds = small.config.loss.log_temperature_range
    outside = with_weight(small, LOG_TEMPERATURE, (bounds[0] if beyond < 0 else bounds[1]) + beyond)
    assert_fault_noticed(outside, logits, "clip_slope", lambda *_: 1.0)


def test_rung4_notices_a_temperature_whose_gradient_takes_the_bias_along():
    """The bias is added after the division: the sum of flow times bias does not belong to the temperature."""
    small = problem("learned_temperature")
    loss, gradients = oracle_loss(small)
    along = (gradients["candidate.bias"] * small.weights["candidate.bias"]).sum()
    assert_noticed(small, (loss, gradients | {LOG_TEMPERATURE: gradients[LOG_TEMPERATURE] - along}))


def test_rung4_notices_a_gradient_by_the_temperature_for_its_log():
    small = problem("learned_temperature")
    loss, gradients = oracle_loss(small)
    tau = logits.temperature(small.config, small.weights)
    assert_noticed(small, (loss, gradients | {LOG_TEMPERATURE: gradients[LOG_TEMPERATURE] / tau}))


def fresh_bank(small: Problem) -> tuple[Problem, Batch]:
    """A bank whose entries are the vectors of today, and the batch that has them as sampled columns instead."""
    rows = np.array([3, 6, 0, 2, 5], np.int32)
    features = candidate_features(small.config, rows)
    drawn = SampledColumns(features=features, rows=rows, log_q=log_q_of(small.config, rows))
    vectors = towers.encode_candidate(small.config, small.weights, features, training=True).vectors.value
    bank = BankColumns(vectors=vectors.astype(np.float32), rows=rows, log_q=drawn.log_q, bias=None)
    return replace(small, bank=bank), replace(small.batch, sampled=drawn)


def test_rung4_notices_a_bank_with_a_gradient():
    """Id embeddings are float32, so vectors stored as float32 are those of today, and the loss is the same."""
    small, with_gradient = fresh_bank(problem("bank"))
    wrong = oracle_loss(replace(small, bank=None, batch=with_gradient))
    assert wrong[0] == oracle_loss(small)[0]
    assert_noticed(small, wrong)


def test_rung4_notices_an_empty_place_of_the_bank_as_a_column():
    small = problem("bank")
    bank = small.bank
    padded = BankColumns(
        vectors=np.pad(bank.vectors, ((0, 5), (0, 0))),
        rows=np.pad(bank.rows, (0, 5)),
        log_q=np.pad(bank.log_q, (0, 5)),
        bias=None,
    )
    assert_noticed(small, oracle_loss(replace(small, bank=padded)))


def test_rung4_notices_chunks_with_negatives_of_their_own_only():
    small = with_settings(problem("every_parameter"), "training", chunk_size=4)
    total, wrong_loss, wrong = small.batch.weights.sum(), 0.0, {}
    for part in (slice(0, 4), slice(4, 6)):
        share = small.batch.weights[part].sum() / total
        loss, gradients = oracle_loss(replace(small, batch=rows_of(small.batch, part)))
        wrong_loss += share * loss
        wrong = {name: wrong.get(name, 0) + share * gradient for name, gradient in gradients.items()}
    assert_noticed(small, (wrong_loss, wrong))


def test_rung4_notices_a_last_chunk_left_out():
    small = with_settings(problem("every_parameter"), "training", chunk_size=4)
    loss, gradients = oracle_loss(small)
    name = "query.embedding.query_id"
    kept = gradients[name].copy()
    kept[small.batch.query_features["query_id"][4]] = 0
    assert_noticed(small, (loss, gradients | {name: kept}))
