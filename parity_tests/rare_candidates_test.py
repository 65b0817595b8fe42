"""At popularities of one in a hundred million the correction is still exact, and stock TFRS's is not.

Stock TFRS clips a sampling probability at 1e-6 before its logarithm, so that every rarer candidate is corrected as if
it were exactly that; the wrong variant here does the same and must be noticed.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from parity_tests.comparing import assert_same
from parity_tests.corners import oracle_forward, oracle_loss
from parity_tests.judging import DTYPES, assert_agree, assert_noticed
from parity_tests.problems import problem, with_log_q
from parity_tests.tolerances import rule
from retrieval_contract.sampling.frequency import exact_log_q

COUNTS = {
    "rare": np.array([1, 1, 2, 39_999_996, 60_000_000, 0, 0], np.int64),
    "one_has_all_but_five": np.array([1, 1, 1, 1, 1, 0, 99_999_995], np.int64),
}
ROWS = {"rare": (0, 1, 2, 3, 4, 0), "one_has_all_but_five": (0, 1, 6, 2, 4, 6)}
CLIP = 1e-6


def rare_problem(case, counts):
    """A batch of candidates that come once in a hundred million, beside some that come all the time."""
    small = problem(case)
    rows = np.array(ROWS[counts], np.int32)
    ids = np.array([2, 3, 4, 5, 1, 1, 6], np.int32)[rows]
    log_q = exact_log_q(COUNTS[counts])[rows]
    batch = replace(small.batch, candidate_rows=rows, candidate_features={"candidate_id": ids}, log_q=log_q)
    return replace(small, batch=batch)


def clipped(small):
    """The same problem corrected as stock TFRS does."""
    return replace(small, batch=with_log_q(small.batch, np.log(np.clip(np.exp(small.batch.log_q), CLIP, 1.0))))


def test_the_counts_have_a_popularity_of_one_in_a_hundred_million():
    log_q = exact_log_q(COUNTS["rare"])
    assert_same(log_q[0], log_q[0], -8 * np.log(10.0), rule("log_q", "float32"))
    assert COUNTS["one_has_all_but_five"].sum() == COUNTS["rare"].sum() == 10**8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("case", ["plain", "temperature", "refined"])
def test_three_corners_agree(case, counts, dtype):
    loss, _ = assert_agree(rare_problem(case, counts), dtype)
    assert np.isfinite(loss)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("case", ["plain", "refined"])
def test_rung4_notices_a_probability_clipped_at_one_in_a_million(case, counts):
    small = rare_problem(case, counts)
    assert_noticed(small, oracle_loss(clipped(small)))


def stock_loss(small):
    """Mean over the batch of stock `tfrs.tasks.Retrieval`, in float32, accidental hits removed."""
    vectors = oracle_forward(small)
    task = tfrs.tasks.Retrieval(
        temperature=small.config.loss.temperature,
        remove_accidental_hits=True,
        loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.NONE),
    )
    losses = task(
        tf.constant(vectors["query"], tf.float32),
        tf.constant(vectors["candidate"], tf.float32),
        candidate_sampling_probability=tf.constant(np.exp(small.batch.log_q), tf.float32),
        candidate_ids=tf.constant(small.batch.candidate_rows),
        compute_metrics=False,
        compute_batch_metrics=False,
    )
    return np.average(losses.numpy(), weights=small.batch.weights)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("case", ["plain", "temperature"])
def test_stock_tfrs_is_the_wrong_variant(case, counts):
    small = rare_problem(case, counts)
    stock, (wrong, _), (right, _) = stock_loss(small), oracle_loss(clipped(small)), oracle_loss(small)
    assert_same(stock, stock, wrong, rule("loss", "float32"))
    with pytest.raises(AssertionError):
        assert_same(stock, stock, right, rule("loss", "float32"))


def test_above_the_clip_stock_tfrs_is_right():
    small = problem("plain")
    stock = stock_loss(small)
    assert_same(stock, stock, oracle_loss(small)[0], rule("loss", "float32"))
