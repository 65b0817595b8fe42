from dataclasses import replace

import numpy as np
import pytest

from parity_tests.cases import CASES, DRAWN, DRAWN_NEGATIVES, NEGATIVES
from parity_tests.comparing import assert_same
from parity_tests.oracles import losses, model
from parity_tests.planted_batches import CANDIDATE_ROWS, make_bank
from parity_tests.problems import problem, with_settings, with_weight
from parity_tests.tolerances import rule
from retrieval_contract.weights.names import LOG_TEMPERATURE

STEP = 1e-5
NUM_DIRECTIONS = 3


MATRIX = [(case, weights) for case in (*CASES, *NEGATIVES) for weights in ("varied", "some_zero", "all_zero")]
MATRIX += [(case, "varied") for case in (*DRAWN, *DRAWN_NEGATIVES)]


def ask(small, weights=None):
    return model.loss_and_gradients(
        small.config, weights or small.weights, small.batch, catalogue=small.catalogue, bank=small.bank
    )


def hold_refined_weights(monkeypatch, small):
    """The weight of a refined row stands under a stop-gradient: hold each row's at its value of now."""
    held, weight = [], losses.refined_weight
    with monkeypatch.context() as patch:
        patch.setattr(losses, "refined_weight", lambda *row: held.append(weight(*row)) or held[-1])
        ask(small)
    turn = iter(held * 10_000)
    monkeypatch.setattr(losses, "refined_weight", lambda *_: next(turn))


def slopes_along(small, start, name, directions):
    """Central differences of the loss along directions of one parameter."""
    slopes = []
    for direction in directions:
        ends = [ask(small, start | {name: start[name] + sign * STEP * direction})[0] for sign in (1, -1)]
        slopes.append((ends[0] - ends[1]) / (2 * STEP))
    return slopes


@pytest.mark.parametrize(("case", "weights"), MATRIX)
def test_gradient_is_the_central_difference(monkeypatch, case, weights):
    """Along random directions of each parameter: a wrong coordinate shows in all of them."""
    small = problem(case, weights=weights)
    start = {name: array.astype(np.float64) for name, array in small.weights.items()}
    _, gradients = ask(small, start)
    hold_refined_weights(monkeypatch, small)
    generator = np.random.default_rng(0)
    for name, array in start.items():
        directions = generator.standard_normal((NUM_DIRECTIONS, *array.shape))
        got = [(gradients[name] * direction).sum() for direction in directions]
        wanted = slopes_along(small, start, name, directions)
        assert_same(got, got, wanted, rule("central_difference", "float64"))


def test_central_differences_notice_one_wrong_coordinate():
    small = problem("columns_all")
    start = {name: array.astype(np.float64) for name, array in small.weights.items()}
    name = "candidate.embedding.genres"
    gradient = ask(small, start)[1][name].copy()
    gradient[2, 1] *= 1.001
    directions = np.random.default_rng(0).standard_normal((1, *gradient.shape))
    got = [(gradient * directions[0]).sum()]
    with pytest.raises(AssertionError):
        assert_same(got, got, slopes_along(small, start, name, directions), rule("central_difference", "float64"))


@pytest.mark.parametrize("case", ["everything", "columns_all"])
def test_padding_row_has_no_gradient(case):
    for name, gradient in ask(problem(case))[1].items():
        if ".embedding." in name:
            assert not gradient[0].any(), name
        assert gradient.any(), name


def test_outside_its_range_a_temperature_does_not_move_and_on_its_bounds_it_does():
    small = problem("learned_temperature")
    low, high = small.config.loss.log_temperature_range
    for theta, moves in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
        assert ask(with_weight(small, LOG_TEMPERATURE, theta))[1][LOG_TEMPERATURE].any() == moves


def test_the_columns_stand_in_their_order():
    small = problem("bank_all")
    passed = model.forward(small.config, small.weights, small.batch, bank=small.bank)
    rows = np.concatenate([kind.rows for kind in passed.kinds], axis=1)
    wanted = [*CANDIDATE_ROWS, *small.batch.sampled.rows, *small.bank.rows, *small.batch.impressions.rows[4]]
    assert rows[4].tolist() == wanted
    assert passed.positives.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_problem_has_the_corners_that_it_promises():
    """A row whose query knows every candidate, one that may use none, one without an impression; impressions apart."""
    small = problem("columns_all")
    left = ~np.isneginf(model.forward(small.config, small.weights, small.batch).logits)
    assert left.sum(axis=1)[[0, 2]].tolist() == [1, 1], "rows of the query that knows every candidate"
    assert left[1, 11:].sum() == 0, "row without an impression"
    assert left[4, :11].sum() == 1, "row that is allowed nothing of the batch"
    assert left[5, 11:].sum() > 0
    assert left.sum(axis=1)[[1, 3, 5]].min() > 2


def test_full_softmax_scores_the_catalogue():
    small = problem("full_softmax")
    passed = model.forward(small.config, small.weights, small.batch, catalogue=small.catalogue)
    assert passed.logits.shape == (6, 7)
    assert passed.positives.tolist() == list(CANDIDATE_ROWS)
    assert np.isfinite(passed.logits).all()


@pytest.mark.parametrize("case", ["bank_all", "sigmoid_all", "contrastive_all"])
def test_an_empty_bank_is_none(case):
    small = problem(case)
    empty = ask(replace(small, bank=make_bank(small.config, seed=0, num_entries=0)))
    none = ask(replace(small, bank=None))
    assert_same(empty[1], empty[1], none[1], rule("gradient", "float64"))
    assert_same(empty[0], empty[0], none[0], rule("loss", "float64"))


def test_served_scores_rank_as_the_uncorrected_logits():
    small = with_settings(problem("everything"), "loss", remove_accidental_hits=False)
    query = model.served_vectors("query", small.config, small.weights, small.batch.query_features)
    candidate = model.served_vectors("candidate", small.config, small.weights, small.batch.candidate_features)
    logits = model.forward(small.config, small.weights, small.batch).logits
    wanted = (logits + small.batch.log_q) * small.config.loss.temperature
    assert_same(query @ candidate.T, query @ candidate.T, wanted, rule("forward", "float64"))


def test_a_served_bias_is_multiplied_by_the_learned_temperature():
    small = with_weight(problem("learned_temperature"), LOG_TEMPERATURE, 0.5)
    features = small.batch.candidate_features
    served = model.served_vectors("candidate", small.config, small.weights, features)[:, -1]
    wanted = np.exp(0.5) * small.weights["candidate.bias"].astype(np.float64)[features["candidate_id"], 0]
    assert_same(served, served, wanted, rule("forward", "float64"))


def test_looked_up_rows_are_distinct_and_span_the_batches():
    small = problem("everything")
    rows = model.looked_up_rows(small.config, [small.batch, small.batch])
    assert rows["candidate.bias"].tolist() == [1, 3, 5]
    assert rows["query.embedding.query_id"].tolist() == [1, 2, 3, 4]
    assert rows["query.embedding.history"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert set(rows) == {name for name, entry in small.table.items() if entry.sparse}


def test_columns_of_every_kind_are_looked_up():
    small = problem("columns_all")
    rows = model.looked_up_rows(small.config, [replace(small.batch, impressions=None)])
    assert rows["candidate.bias"].tolist() == [1, 2, 3, 5, 6], "positives and sampled"
    rows = model.looked_up_rows(small.config, [small.batch])
    assert rows["candidate.bias"].tolist() == [1, 2, 3, 4, 5, 6], "impressions, the absent ones too"


def test_full_softmax_looks_up_the_catalogue():
    small = problem("full_softmax")
    rows = model.looked_up_rows(small.config, [small.batch], small.catalogue)
    assert rows["candidate.embedding.candidate_id"].tolist() == [1, 2, 3, 4, 5, 6]
