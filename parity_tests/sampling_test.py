"""The contract's sampling probabilities against the oracles: streaming estimator, mixture, and their faults."""

import numpy as np
import pytest

from parity_tests.comparing import assert_same
from parity_tests.oracles.proposals import mixture_log_q as mixture_by_hand
from parity_tests.oracles.streaming import Estimator
from parity_tests.tolerances import rule
from retrieval_contract.config import Streaming
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare
from retrieval_contract.sampling.frequency import exact_log_q
from retrieval_contract.sampling.proposals import (
    Proposal,
    mixture_log_q,
    popularity_probability,
    uniform_probability,
)
from retrieval_contract.sampling.streaming import GAP, StreamingFrequency

LOG_Q = rule("log_q", "float32")
NUM_CANDIDATES, BATCH, NUM_STEPS = 40, 16, 120
SETTINGS = {
    "one_hash": Streaming(rate=0.05, num_buckets=10_000),
    "collisions": Streaming(rate=0.05, num_buckets=11),
    "hashes": Streaming(rate=0.1, num_buckets=13, num_hashes=3, start_gap=20.0),
}

RUN = {
    "source": {"kind": "simulated", "num_queries": 60, "num_candidates": NUM_CANDIDATES, "num_interactions": 1_000},
    "query": {"features": [{"name": "query_id", "kind": "id"}]},
    "candidate": {"features": [{"name": "candidate_id", "kind": "id"}]},
    "loss": {"log_q": "streaming", "streaming": {"rate": 0.05, "num_buckets": 31, "num_hashes": 2}},
    "optimizer": {"accumulation_steps": 2},
    "training": {"batch_size": 16},
}


def batches():
    generator = np.random.default_rng(5)
    p = np.arange(1, NUM_CANDIDATES + 1) ** 2.0
    return generator.choice(NUM_CANDIDATES, (NUM_STEPS, BATCH), p=p / p.sum()).astype(np.int32)


def buckets(settings):
    """Bucket of every candidate under every hash, found by looking at what an update of it alone moves [N, m]."""
    found = np.empty((NUM_CANDIDATES, settings.num_hashes), np.int64)
    for row in range(NUM_CANDIDATES):
        estimator = StreamingFrequency(settings)
        estimator.update(np.array([row], np.int32))
        hashes, moved = np.nonzero(estimator.state()[GAP] != settings.start_gap)
        assert hashes.tolist() == list(range(settings.num_hashes))
        found[row] = moved
    return found


def by_hand(settings, make=Estimator):
    hashes = [column.tolist().__getitem__ for column in buckets(settings).T]
    return make(hashes, rate=settings.rate, start_gap=settings.start_gap)


def log_q_after(settings, estimator, *, num_steps=NUM_STEPS):
    for batch in batches()[:num_steps]:
        estimator.update(batch.tolist())
    return np.array([estimator.log_q(row) for row in range(NUM_CANDIDATES)])


def contract_log_q(settings, *, num_steps=NUM_STEPS):
    estimator = StreamingFrequency(settings)
    for batch in batches()[:num_steps]:
        estimator.update(batch)
    return estimator.log_q(np.arange(NUM_CANDIDATES, dtype=np.int32))


@pytest.mark.parametrize("num_steps", [0, 1, NUM_STEPS])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_streaming_estimator_is_the_papers(name, num_steps):
    settings = SETTINGS[name]
    got = contract_log_q(settings, num_steps=num_steps)
    assert_same(got, got, log_q_after(settings, by_hand(settings), num_steps=num_steps), LOG_Q)


def test_the_settings_have_collisions_and_hashes_that_differ():
    assert len(np.unique(buckets(SETTINGS["one_hash"]))) == NUM_CANDIDATES
    assert len(np.unique(buckets(SETTINGS["collisions"]))) <= 11
    columns = buckets(SETTINGS["hashes"]).T.tolist()
    assert columns[0] != columns[1] != columns[2]


class SmallestGap(Estimator):
    """The most frequent estimate of all hashes for the rarest."""

    def log_q(self, candidate_row):
        pairs = zip(self.hashes, self.gaps, strict=True)
        return -np.log(min(gaps.get(hash_of(candidate_row), self.start_gap) for hash_of, gaps in pairs))


class ForgetsWhenItWasSeen(Estimator):
    """A is never written."""

    def update(self, candidate_rows):
        super().update(candidate_rows)
        self.last_seen = [{} for _ in self.hashes]


class CountsEveryCopy(Estimator):
    """A bucket moves as often as the batch holds it."""

    def update(self, candidate_rows):
        for row in candidate_rows:
            self.step -= 1
            super().update([row])
        self.step += 1


class OneStepLate(Estimator):
    """Steps are counted from 0."""

    def update(self, candidate_rows):
        self.step = self.step or -1
        super().update(candidate_rows)


@pytest.mark.parametrize("fault", [SmallestGap, ForgetsWhenItWasSeen, CountsEveryCopy, OneStepLate])
def test_sampling_notices_another_estimator(fault):
    settings = SETTINGS["hashes"]
    got = contract_log_q(settings)
    with pytest.raises(AssertionError):
        assert_same(got, got, log_q_after(settings, by_hand(settings, fault)), LOG_Q)


def test_a_batch_carries_the_estimate_that_counts_itself():
    """Step t updates and then reads, and the state goes on from batch to batch and over the end of an epoch."""
    config = config_from_tree(RUN, where="test")
    made = TrainingBatches(prepare(config), config)
    settings = config.loss.streaming
    estimator = by_hand(settings)
    for batch in (batch for epoch in range(2) for step in made.epoch(epoch) for batch in step):
        estimator.update(batch.candidate_rows.tolist())
        truth = [estimator.log_q(row) for row in batch.candidate_rows.tolist()]
        assert_same(batch.log_q, batch.log_q, truth, LOG_Q)
    assert estimator.step > 20


# ---------------------------------------------------------------- mixture

COUNTS = np.array([50, 20, 7, 1, 0, 22], np.int64)
SHARES = COUNTS / COUNTS.sum()
MARGINAL = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.0])
SOURCES = {
    "uniform": [(6, uniform_probability(6))],
    "popularity": [(6, popularity_probability(COUNTS))],
    "mined_and_impressions": [(3, uniform_probability(6)), (2, MARGINAL), (1, MARGINAL[::-1])],
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_mixture_has_the_probability_of_its_columns(name):
    sources = SOURCES[name]
    proposals = [Proposal(num_columns=num, probability=probability) for num, probability in sources]
    got = mixture_log_q(COUNTS, num_positives=8, proposals=proposals)
    truth = mixture_by_hand([(8, SHARES), *sources])
    drawn = np.isfinite(truth)
    assert_same(got[drawn], got[drawn], truth[drawn], LOG_Q)


def test_without_another_source_it_is_the_exact_one_to_the_bit():
    got = mixture_log_q(COUNTS, num_positives=8, proposals=[])
    assert got.tobytes() == exact_log_q(COUNTS).tobytes()
    truth = mixture_by_hand([(8, SHARES)])
    drawn = COUNTS > 0
    assert_same(got[drawn], got[drawn], truth[drawn], LOG_Q)


def test_sampling_notices_a_mixture_that_forgets_a_source():
    sources = SOURCES["mined_and_impressions"]
    proposals = [Proposal(num_columns=num, probability=probability) for num, probability in sources]
    got = mixture_log_q(COUNTS, num_positives=8, proposals=proposals)
    for left_out in range(len(sources)):
        truth = mixture_by_hand([(8, SHARES), *sources[:left_out], *sources[left_out + 1 :]])
        with pytest.raises(AssertionError):
            assert_same(got, got, truth, LOG_Q)
