"""What the correction is for: with it scores order candidates as log p(y|x) does, without it as log p(y|x) - log p(y).

Data of known probabilities, in which popularity varies a hundredfold, and a model of full rank, so that scores can take
any value. Both stacks' own trainers run until the scores fit; per query, the scores of all candidates are correlated
with either truth, and intervals come from resampling queries. A correction of the wrong sign does neither.

Source: Yi et al., RecSys 2019, section 4; that an uncorrected in-batch softmax learns the pointwise mutual information:
van den Oord et al. 2018, section 2.3. `pytest -s` prints the table.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats

from parity_tests.tolerances import ORDERING_CORRELATION
from retrieval_contract.arrays import Batch
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.evaluation.bootstrap import intervals
from retrieval_contract.sampling.frequency import exact_log_q
from retrieval_contract.weights.names import initial_weights, parameter_table
from tfrs_models.stack import STACK as TF_STACK
from torch_reference.stack import STACK as TORCH_STACK

STACKS = {"tf": TF_STACK, "torch": TORCH_STACK}
NUM_QUERIES, NUM_CANDIDATES, DIM = 24, 32, 32
BATCH, NUM_STEPS, RATE = 256, 700, 0.02
NUM_RESAMPLES = 1_000
CORRECTIONS = {"corrected": ("exact", 1), "uncorrected": ("none", 0), "wrong_sign": ("exact", -1)}
"""Name -> loss.log_q, and what the batches' log_q is multiplied by."""
COEFFICIENTS = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}


@dataclass(frozen=True)
class Population:
    """Log probabilities, and pairs in random order, each as often as its probability says."""

    log_p_QN: np.ndarray
    log_popularity_N: np.ndarray
    query_rows: np.ndarray
    candidate_rows: np.ndarray

    @property
    def truths(self):
        """What scores may learn, by name [Q, N]."""
        return {"log p(y|x)": self.log_p_QN, "log p(y|x) - log p(y)": self.log_p_QN - self.log_popularity_N}


@functools.cache
def population():
    generator = np.random.default_rng(0)
    appeal_N = -1.2 * np.log(generator.permutation(NUM_CANDIDATES) + 1.0)
    logits_QN = appeal_N + 0.8 * generator.standard_normal((NUM_QUERIES, NUM_CANDIDATES))
    log_p_QN = scipy.special.log_softmax(logits_QN, axis=1)
    p_QN = np.exp(log_p_QN) / NUM_QUERIES
    # One draw from each of equally wide parts of the distribution function: no more noise than whole numbers need.
    num_pairs = NUM_STEPS * BATCH
    places = (np.arange(num_pairs) + generator.random()) / num_pairs
    pairs = np.searchsorted(p_QN.cumsum() / p_QN.sum(), places, side="right")
    query_rows, candidate_rows = np.divmod(generator.permutation(pairs).astype(np.int32), NUM_CANDIDATES)
    return Population(log_p_QN, np.log(p_QN.sum(axis=0)), query_rows, candidate_rows)


def make_batches(sign):
    """Batches as a run has them, their log_q times a sign."""
    data = population()
    log_q_N = sign * exact_log_q(np.bincount(data.candidate_rows, minlength=NUM_CANDIDATES))
    for start in range(0, len(data.query_rows), BATCH):
        part = slice(start, start + BATCH)
        query_rows, candidate_rows = data.query_rows[part], data.candidate_rows[part]
        yield Batch(
            query_features={"query_id": query_rows + 2},
            candidate_features={"candidate_id": candidate_rows + 2},
            query_rows=query_rows,
            candidate_rows=candidate_rows,
            log_q=log_q_N[candidate_rows],
            weights=np.ones(BATCH, np.float32),
        )


def run_config(log_q):
    tree = {
        "query": {"features": [{"name": "query_id", "kind": "id", "width": DIM}]},
        "candidate": {"features": [{"name": "candidate_id", "kind": "id", "width": DIM}]},
        "model": {"dim": DIM},
        "loss": {"log_q": log_q},
        "optimizer": {"kind": "adam"},
        "training": {"batch_size": BATCH, "device": "cpu"},
    }
    return config_from_tree(tree, where="test")


@functools.cache
def scores(stack, correction):
    """Inner products after training, uncorrected, as they are served [Q, N]."""
    log_q, sign = CORRECTIONS[correction]
    config = run_config(log_q)
    sizes = {"query": {"query_id": NUM_QUERIES + 2}, "candidate": {"candidate_id": NUM_CANDIDATES + 2}}
    weights = initial_weights(parameter_table(config, sizes), seed=0, embedding_stddev=0.1)
    state = {f"weights/{name}": array for name, array in weights.items()} | {"step": np.asarray(0, np.int64)}
    catalogue = {"candidate_id": np.arange(2, NUM_CANDIDATES + 2, dtype=np.int32)}
    trainer = STACKS[stack].trainer(config, sizes, state, catalogue)
    for step, batch in enumerate(make_batches(sign)):
        trainer.step([batch], learning_rate=RATE * min(1.0, 2 * (1 - step / NUM_STEPS)))
    end = trainer.state()
    query_QD, candidate_ND = (end[f"weights/{side}.embedding.{side}_id"][2:] for side in ("query", "candidate"))
    return query_QD @ candidate_ND.T


@functools.cache
def correlations(stack, correction, coefficient):
    """Mean over queries with its interval: with each truth, and the first less the second [3 of (mean, low, high)]."""
    scores_QN, correlate = scores(stack, correction), COEFFICIENTS[coefficient]
    by_truth = [
        [correlate(row, truth)[0] for row, truth in zip(scores_QN, truth_QN, strict=True)]
        for truth_QN in population().truths.values()
    ]
    values_QC = np.column_stack([*by_truth, np.subtract(*by_truth)])
    below_QG, kinds_C = np.ones((NUM_QUERIES, 1)), np.zeros(3, np.int64)
    low_C, high_C = intervals(values_QC, below_QG, kinds_C, num_samples=NUM_RESAMPLES, seed=0)
    found = list(zip(values_QC.mean(axis=0), low_C, high_C, strict=True))
    cells = "  ".join(f"{mean:7.3f} [{low:6.3f}, {high:6.3f}]" for mean, low, high in found)
    print(f"\n{stack:6}{correction:12}{coefficient:9}{cells}", end="")
    return found


def orders_as(truth, stack, correction, coefficient):
    """Scores follow one truth closely, and significantly more closely than the other."""
    *by_truth, (_, low, high) = correlations(stack, correction, coefficient)
    followed = list(population().truths).index(truth)
    more_closely = low > 0 if followed == 0 else high < 0
    return by_truth[followed][1] >= ORDERING_CORRELATION and more_closely


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("stack", STACKS)
def test_with_correction_scores_order_as_the_log_probability(stack, coefficient):
    assert orders_as("log p(y|x)", stack, "corrected", coefficient)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("stack", STACKS)
def test_without_correction_scores_order_as_the_log_probability_less_popularity(stack, coefficient):
    assert orders_as("log p(y|x) - log p(y)", stack, "uncorrected", coefficient)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("stack", STACKS)
def test_the_ordering_notices_a_correction_of_the_wrong_sign(stack, coefficient):
    assert not orders_as("log p(y|x)", stack, "wrong_sign", coefficient)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("stack", STACKS)
def test_the_ordering_notices_a_dropped_correction_and_one_too_many(stack, coefficient):
    assert not orders_as("log p(y|x)", stack, "uncorrected", coefficient)
    assert not orders_as("log p(y|x) - log p(y)", stack, "corrected", coefficient)


def test_the_population_tells_the_truths_apart():
    """Popularity varies by more than fifty, and the two truths are far from the same order."""
    data = population()
    assert np.ptp(data.log_popularity_N) > np.log(50)
    one, other = data.truths.values()
    between = [scipy.stats.spearmanr(*pair)[0] for pair in zip(one, other, strict=True)]
    assert np.mean(between) < ORDERING_CORRELATION - 0.2
