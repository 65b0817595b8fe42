import math

import numpy as np
import pytest
from scipy.special import logsumexp

from parity_tests.comparing import assert_same
from parity_tests.oracles import losses
from parity_tests.oracles.losses import Row
from parity_tests.tolerances import rule

LOSS, DIFFERENCE = rule("loss", "float64"), rule("central_difference", "float64")
STEP = 1e-5
ROW_LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "refined_softmax": losses.refined_softmax,
    "bpr": losses.bpr,
    "triplet": lambda row: losses.triplet(row, margin=0.7),
    "contrastive": lambda row: losses.contrastive(row, margin=0.7),
    "sigmoid": losses.sigmoid,
    "gbce": lambda row: losses.gbce(row, num_candidates=9, t=0.75),
    "gbce_every_negative": lambda row: losses.gbce(row, num_candidates=3, t=0.75),
}
WITHOUT_A_NEGATIVE = {
    "cross_entropy": 0.0,
    "refined_softmax": 0.0,
    "bpr": 0.0,
    "triplet": 0.0,
    "contrastive": (1 - 2.0) ** 2 / 2,
    "sigmoid": math.log1p(math.exp(-2.0)),
    "gbce": 0.25 * math.log1p(math.exp(-2.0)),
    "gbce_every_negative": 0.25 * math.log1p(math.exp(-2.0)),
}


def a_row(positive, *negatives, log_q_positive=-1.0, log_q=None):
    log_q = [-2.0] * len(negatives) if log_q is None else log_q
    return Row(positive=positive, negatives=np.array(negatives), log_q_positive=log_q_positive, log_q=np.array(log_q))


def same(got, wanted, tolerance=LOSS):
    assert_same(got, got, wanted, tolerance)


@pytest.mark.parametrize("name", ROW_LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_slopes_are_the_central_differences(monkeypatch, name, seed):
    """The refined weight stands under a stop-gradient: it is held at its value."""
    generator = np.random.default_rng(seed)
    start = generator.standard_normal(5)
    log_q = -3 * generator.random(4) - 0.5

    def value(logits):
        return ROW_LOSSES[name](a_row(logits[0], *logits[1:], log_q=log_q))

    slopes = value(start)
    x = logsumexp(start[1:] - log_q + np.log1p(-np.exp(-1.0)))
    held = losses.refined_weight(start[0], x, 4)
    monkeypatch.setattr(losses, "refined_weight", lambda *_: held)
    differences = [(value(start + e).loss - value(start - e).loss) / (2 * STEP) for e in STEP * np.eye(5)]
    same([slopes.by_positive, *slopes.by_negatives], differences, DIFFERENCE)


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_a_row_without_a_negative(name):
    value = ROW_LOSSES[name](a_row(2.0))
    same(value.loss, WITHOUT_A_NEGATIVE[name])
    assert value.by_negatives.shape == (0,)
    assert np.isfinite(value.by_positive)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ROW_LOSSES)
def test_logits_of_ten_thousand_are_finite(name, sign):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value = ROW_LOSSES[name](a_row(sign * 1e4, -sign * 1e4, 0.0))
    assert np.isfinite([value.loss, value.by_positive, *value.by_negatives]).all()


def test_cross_entropy_to_digits():
    value = losses.cross_entropy(a_row(0.0, math.log(3.0)))
    same(value.loss, math.log(4.0))
    same([value.by_positive, *value.by_negatives], [-0.75, 0.75])


def test_refined_to_digits():
    """q_p = 1/2, so q' = 2 q; e^x = (1/4) / (2/4) + (1/4) / (2/8) = 3/2; w = 1 - 1 / (1 + 3/4) with s_p = 0."""
    value = losses.refined_softmax(
        a_row(0.0, math.log(0.25), math.log(0.25), log_q_positive=math.log(0.5), log_q=np.log([0.25, 0.125]))
    )
    same(value.loss, 3 / 7 * math.log(1.5))
    same([value.by_positive, *value.by_negatives], [-3 / 7, 1 / 7, 2 / 7])


def test_refined_of_a_positive_that_is_all_that_is_drawn_is_the_limit():
    rarer = losses.refined_softmax(a_row(0.0, 1.0, log_q_positive=-1e-14))
    value = losses.refined_softmax(a_row(0.0, 1.0, log_q_positive=0.0))
    assert [value.loss, value.by_positive, *value.by_negatives] == [0, 0, 0]
    same([value.loss, *value.by_negatives], [rarer.loss, *rarer.by_negatives], rule("limit", "float64"))


def test_bpr_to_digits():
    value = losses.bpr(a_row(1.0, 1.0, 1.0 + math.log(3.0)))
    same(value.loss, math.log(8.0) / 2)
    same([value.by_positive, *value.by_negatives], [-0.625, 0.25, 0.375])


def test_triplet_to_digits():
    value = losses.triplet(a_row(1.0, 0.75, 0.5, 2.0), margin=0.5)
    same(value.loss, (0.25 + 0.0 + 1.5) / 3)
    same([value.by_positive, *value.by_negatives], [-2 / 3, 1 / 3, 0, 1 / 3])


def test_contrastive_to_digits():
    """Distances 0.5, and 0.25 and 1: the second is outside a margin of 0.75."""
    value = losses.contrastive(a_row(0.5, 0.75, 0.0), margin=0.75)
    same(value.loss, (0.25 + 0.25 / 2) / 2)
    same([value.by_positive, *value.by_negatives], [-0.5, 0.25, 0])


def test_sigmoid_to_digits():
    value = losses.sigmoid(a_row(0.0, 0.0, math.log(3.0)))
    same(value.loss, 2 * math.log(2.0) + math.log(4.0))
    same([value.by_positive, *value.by_negatives], [-0.5, 0.5, 0.75])


@pytest.mark.parametrize(("t", "beta"), [(0.0, 1.0), (1.0, 0.25), (0.5, 0.625)])
def test_gbce_to_digits(t, beta):
    """Two negatives of a catalogue of nine: alpha = 1/4."""
    value = losses.gbce(a_row(0.0, 0.0, math.log(3.0)), num_candidates=9, t=t)
    same(value.loss, (beta * math.log(2.0) + math.log(8.0)) / 3)
    same([value.by_positive, *value.by_negatives], [-beta / 6, 1 / 6, 1 / 4])


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [0, 1, 5, 8, 20])
def test_gbce_beta_is_linear_in_alpha(n, t):
    same(losses.gbce_beta(n, num_candidates=9, t=t), 1 - t * (1 - min(1, n / 8)))


def test_the_mean_is_weighted_and_deletes_what_is_masked():
    logits = np.array([[0.0, math.log(3.0), -np.inf], [-np.inf, 5.0, -np.inf], [np.nan, np.inf, 1.0]])
    positives, weights = np.array([0, 1, 2]), np.array([1.0, 3.0, 0.0])
    loss, flow = losses.weighted_mean(losses.cross_entropy, logits, np.zeros((3, 3)), weights, positives)
    same(loss, math.log(4.0) / 4)
    same(flow, [[-0.1875, 0.1875, 0], [0, 0, 0], [0, 0, 0]])


def test_the_mean_hands_each_column_its_log_q():
    seen = []

    def spy(row):
        seen.append((row.log_q_positive, row.log_q.tolist()))
        return losses.cross_entropy(row)

    logits = np.array([[-np.inf, 1.0, 2.0, 3.0]])
    losses.weighted_mean(spy, logits, np.array([[1.0, 2.0, 3.0, 4.0]]), np.ones(1), np.array([2]))
    assert seen == [(3.0, [2.0, 4.0])]


def test_weights_all_zero_give_zero():
    loss, flow = losses.weighted_mean(losses.bpr, np.ones((2, 2)), np.zeros((2, 2)), np.zeros(2), np.arange(2))
    assert loss == 0
    assert not flow.any()
