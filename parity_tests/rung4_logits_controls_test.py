"""Negative controls of rung 4 over log_q and masks: each fault is put into the oracle, and must be noticed."""

from dataclasses import replace

import numpy as np
import pytest

from parity_tests.corners import oracle_loss
from parity_tests.judging import assert_fault_noticed, assert_noticed
from parity_tests.oracles import logits, losses, model, negatives
from parity_tests.planted_batches import candidate_features, log_q_of
from parity_tests.problems import problem, with_settings
from retrieval_contract.arrays import SampledColumns

RIGHT_LOG_Q = logits.subtracted_log_q
RIGHT_HITS = negatives.accidental_hits
RIGHT_KNOWN = negatives.known
EVERY_MASK = ("plain", "known_positives", "not_yet_seen", "impressions")


# ---------------------------------------------------------------- log_q


@pytest.mark.parametrize("case", ["columns_all", "bank_bias"])
def test_rung4_notices_the_wrong_sign_of_log_q(case):
    assert_fault_noticed(problem(case), logits, "subtracted_log_q", lambda *arguments: -RIGHT_LOG_Q(*arguments))


@pytest.mark.parametrize("case", ["columns_all", "bank_bias"])
def test_rung4_notices_log_q_divided_by_the_temperature(case):
    small = problem(case)
    tau = logits.temperature(small.config, small.weights)
    assert_fault_noticed(small, logits, "subtracted_log_q", lambda *arguments: RIGHT_LOG_Q(*arguments) / tau)


@pytest.mark.parametrize(("case", "start", "end"), [("sampled", 6, 11), ("bank_bias", 6, 13), ("impressions", 6, 8)])
def test_rung4_notices_columns_that_are_not_corrected(case, start, end):
    def forgotten(config, log_q_BN):
        columns = np.arange(log_q_BN.shape[1])
        return RIGHT_LOG_Q(config, log_q_BN) * ~((columns >= start) & (columns < end))

    assert_fault_noticed(problem(case), logits, "subtracted_log_q", forgotten)


def test_rung4_notices_refined_corrected_twice():
    assert_fault_noticed(problem("refined"), logits, "subtracted_log_q", lambda _, log_q_BN: log_q_BN)


def test_rung4_notices_todays_log_q_in_the_bank():
    small = problem("bank_bias")
    today = replace(small.bank, log_q=log_q_of(small.config, small.bank.rows))
    assert_noticed(small, oracle_loss(replace(small, bank=today)))


def test_rung4_notices_todays_bias_in_the_bank():
    small = problem("bank_bias")
    ids = candidate_features(small.config, small.bank.rows)["candidate_id"]
    today = replace(small.bank, bias=small.weights["candidate.bias"][ids, 0])
    assert_noticed(small, oracle_loss(replace(small, bank=today)))


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("case", EVERY_MASK)
def test_rung4_notices_a_multiplied_mask(case):
    assert_fault_noticed(problem(case), negatives, "select", lambda logits_BN, out_BN: logits_BN * ~out_BN)


@pytest.mark.parametrize("case", EVERY_MASK)
def test_rung4_notices_a_mask_that_adds_1e_40(case):
    assert_fault_noticed(problem(case), negatives, "select", lambda logits_BN, out_BN: logits_BN + 1e-40 * out_BN)


@pytest.mark.parametrize("case", ["plain", "known_positives", "full_softmax_all"])
def test_rung4_notices_the_own_positive_masked_away(case):
    assert_fault_noticed(problem(case), negatives, "but_the_positive", lambda out_BN, _: out_BN)


@pytest.mark.parametrize("case", ["sampled", "bank", "impressions"])
def test_rung4_notices_accidental_hits_kept_in_columns_that_are_no_positives(case):
    def of_the_batch(rows_BN, positives_B):
        return RIGHT_HITS(rows_BN, positives_B) & (np.arange(rows_BN.shape[1]) < 6)

    assert_fault_noticed(problem(case), negatives, "accidental_hits", of_the_batch)


@pytest.mark.parametrize("case", ["bank_all", "sigmoid_all", "hardest_one_of_all"])
def test_rung4_notices_known_positives_kept_in_columns_that_are_no_positives(case):
    def of_the_batch(rows_BN, positives_B, pairs):
        return RIGHT_KNOWN(rows_BN, positives_B, pairs) & (np.arange(rows_BN.shape[1]) < 6)

    assert_fault_noticed(problem(case), negatives, "known", of_the_batch)


def test_rung4_notices_known_positives_of_the_row_before():
    small = problem("known_positives")
    pairs = small.batch.known_positives
    moved = replace(pairs, places=(pairs.places + 1) % 6)
    assert_noticed(small, oracle_loss(replace(small, batch=replace(small.batch, known_positives=moved))))


@pytest.mark.parametrize("columns", [slice(0, 6), slice(6, 11)], ids=["positives", "sampled"])
def test_rung4_notices_the_explicit_mask_dropped(columns):
    small = problem("not_yet_seen")
    allowed = small.batch.allowed.copy()
    allowed[:, columns] = True
    assert_noticed(small, oracle_loss(replace(small, batch=replace(small.batch, allowed=allowed))))


def test_rung4_notices_impressions_that_other_rows_see():
    small = problem("impressions")
    shown = small.batch.impressions
    seen = SampledColumns(features=shown.features, rows=shown.rows.reshape(-1), log_q=shown.log_q.reshape(-1))
    assert_noticed(small, oracle_loss(replace(small, batch=replace(small.batch, impressions=None, sampled=seen))))


def test_rung4_notices_the_features_of_an_absent_impression():
    small = problem("impressions")
    shown = replace(small.batch.impressions, allowed=np.ones((6, 2), bool))
    assert_noticed(small, oracle_loss(replace(small, batch=replace(small.batch, impressions=shown))))


def test_rung4_notices_the_smallest_kept_for_the_hardest():
    assert_fault_noticed(problem("hardest"), negatives, "ranked", lambda logits_N: np.argsort(logits_N, kind="stable"))


def test_rung4_notices_a_positive_among_the_hardest():
    """One of the K is the positive: K - 1 negatives are left."""
    assert_noticed(problem("hardest"), oracle_loss(with_settings(problem("hardest"), "negatives", hardest=1)))


def test_rung4_notices_the_hardest_taken_before_the_masks():
    """What is masked then has had a place among the K."""
    small = problem("hardest", seed=2)
    early = with_settings(small, "loss", remove_accidental_hits=False)
    passed = model.forward(early.config, early.weights, early.batch)
    hits_BN = RIGHT_HITS(passed.kinds[0].rows, passed.positives)
    kept_BN = np.where(hits_BN, -np.inf, passed.logits)
    weights_B, log_q_BN = small.batch.weights.astype(np.float64), passed.log_q
    loss, flow_BN = losses.weighted_mean(losses.cross_entropy, kept_BN, log_q_BN, weights_B, passed.positives)
    assert_noticed(small, (loss, model.pulled_back(small.config, small.weights, passed, flow_BN)))
