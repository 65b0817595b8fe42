"""The estimator by hand, on planted intervals, and in the paper's own simulation, each beside what must not pass."""

import numpy as np
import pytest

from retrieval_contract.config import Streaming
from retrieval_contract.errors import UserError
from retrieval_contract.sampling.streaming import MOST_BUCKETS, StreamingFrequency
from retrieval_contract.sampling.streams import stream, uniforms


def estimator(kind=StreamingFrequency, **settings):
    return kind(Streaming(**{"num_buckets": 5_000, **settings}))


def rows(*numbers):
    return np.array(numbers, np.int32)


def probability(source, *numbers):
    return np.exp(source.log_q(rows(*numbers)).astype(np.float64))


# ---------------------------------------------------------------- by hand


def test_values_by_hand():
    source = estimator(rate=0.5, start_gap=4.0)
    source.update(rows(3))
    assert source.log_q(rows(3)) == np.float32(-np.log(0.5 * 4 + 0.5 * 1))
    source.update(rows(7, 8))
    source.update(rows(3, 9))
    np.testing.assert_allclose(probability(source, 3, 7), [1 / (0.5 * 2.5 + 0.5 * 2), 1 / (0.5 * 4 + 0.5 * 2)], 1e-6)


def test_a_candidate_that_never_came_has_the_starting_gap():
    source = estimator(start_gap=40.0, num_hashes=3)
    source.update(rows(1))
    log_q = source.log_q(rows(2, 2))
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(log_q, -np.log(40), rtol=1e-6)


def test_duplicates_in_a_batch_are_one_update():
    once, often = (estimator(num_hashes=2) for _ in range(2))
    for batch in ([3, 5], [4], [3, 4]):
        once.update(rows(*batch))
        often.update(rows(*batch, *batch, batch[0]))
    assert_same_state(once, often)


def test_a_bucket_that_two_candidates_hit_moves_once_in_a_step():
    shared, alone = (estimator(num_buckets=1) for _ in range(2))
    for _ in range(5):
        shared.update(rows(1, 2, 3))
        alone.update(rows(9))
    assert_same_state(shared, alone)


def test_reading_counts_nothing():
    source = estimator()
    source.update(rows(1))
    before = source.state()
    source.log_q(rows(1, 2))
    assert all((source.state()[name] == array).all() for name, array in before.items())


def test_an_empty_batch_is_a_step():
    source = estimator(rate=0.5, start_gap=1.0)
    source.update(rows())
    source.update(rows(5))
    assert probability(source, 5) == pytest.approx(1 / 1.5)


@pytest.mark.parametrize("interval", [1, 7, 60])
def test_a_constant_interval_is_learned(interval):
    source = estimator(rate=0.05)
    for step in range(1, 401 * interval):
        source.update(rows(1) if step % interval == 0 else rows(0))
    assert probability(source, 1) == pytest.approx(1 / interval, rel=1e-5)


def test_a_probability_of_one_in_a_hundred_million_is_not_clipped():
    source = estimator(num_hashes=2)
    source.restore({**source.state(), "sampling/gap": np.full((2, 5_000), 1e8)})
    np.testing.assert_allclose(source.log_q(rows(3)), -8 * np.log(10), rtol=1e-7)


def test_the_rarest_estimate_of_several_hashes_counts():
    one, two = estimator(num_buckets=40), estimator(num_buckets=40, num_hashes=2)
    for step in range(300):
        batch = np.arange(step % 3, 100, 3, dtype=np.int32)[:20]
        one.update(batch)
        two.update(batch)
    everyone = np.arange(100, dtype=np.int32)
    # The first hash of both is the same, so the second can only make a candidate rarer, and sometimes does.
    assert (two.log_q(everyone) <= one.log_q(everyone)).all()
    assert (two.log_q(everyone) < one.log_q(everyone)).sum() > 10


# ---------------------------------------------------------------- state


def assert_same_state(first, second):
    for (name, array), other in zip(first.state().items(), second.state().values(), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=name)


def test_a_restored_estimator_goes_on_to_the_same_bytes():
    whole, begun, resumed = (estimator(num_hashes=3, num_buckets=50) for _ in range(3))
    batches = np.random.default_rng(0).integers(0, 200, (40, 16)).astype(np.int32)
    for number, batch in enumerate(batches):
        whole.update(batch)
        if number < 15:
            begun.update(batch)
    saved = begun.state()
    begun.update(batches[0])
    resumed.restore({"weights/of something else": np.zeros(3), **saved})
    for batch in batches[15:]:
        resumed.update(batch)
    assert_same_state(whole, resumed)
    assert whole.log_q(batches[0]).tobytes() == resumed.log_q(batches[0]).tobytes()


def test_state_is_a_copy_of_fixed_types():
    source = estimator(num_hashes=2)
    state = source.state()
    assert {name: (array.dtype.name, array.shape) for name, array in state.items()} == {
        "sampling/gap": ("float64", (2, 5_000)),
        "sampling/last_step": ("int32", (2, 5_000)),
        "sampling/step": ("int64", ()),
    }
    source.restore(state)
    source.update(rows(1, 2, 3))
    assert state["sampling/step"] == 0 and (state["sampling/gap"] == 100).all()


@pytest.mark.parametrize("name", ["sampling/gap", "sampling/last_step", "sampling/step"])
def test_a_state_of_other_settings_is_refused(name):
    state = estimator().state()
    without = {other: array for other, array in state.items() if other != name}
    with pytest.raises(UserError, match=f"{name} is missing"):
        estimator().restore(without)
    with pytest.raises(UserError, match=f"does not fit: {name}"):
        estimator().restore({**state, name: state[name].astype(np.float32)})
    with pytest.raises(UserError, match="sampling/gap"):
        estimator(num_hashes=2).restore(state)


def test_more_buckets_than_memory_are_refused():
    with pytest.raises(UserError, match=r"2 x 2,147,483,648 buckets would take 48 GiB.*num_buckets"):
        estimator(num_hashes=2, num_buckets=2**31)
    assert Streaming().num_buckets * 16 <= MOST_BUCKETS


# ---------------------------------------------------------------- hashes


def test_buckets_stay_what_they_are():
    places = estimator(num_hashes=3, num_buckets=1_000_000)._places(rows(0, 1, 2, 2**31 - 1))
    assert (places - np.arange(3)[:, None] * 1_000_000).tolist() == GOLDEN


GOLDEN = [[138354, 941014, 722170, 741158], [255948, 472949, 560991, 355793], [734331, 656072, 468082, 498287]]
"""What was computed when this was written, on another machine or version still."""


def test_buckets_are_even_and_hashes_independent():
    num_rows, num_buckets = 40_000, 1_000
    places = estimator(num_hashes=16, num_buckets=num_buckets)._places(np.arange(num_rows, dtype=np.int32))
    buckets = places - np.arange(16)[:, None] * num_buckets
    assert buckets.min() == 0 and buckets.max() == num_buckets - 1
    for line in buckets:
        counts = np.bincount(line, minlength=num_buckets)
        # Chi-square of 999 degrees of freedom: 999 with a deviation of 45. Even steps would give about 0.
        assert 750 < ((counts - 40) ** 2 / 40).sum() < 1_250
    for first in range(16):
        for second in range(first):
            # Rows whose buckets agree under both hashes by chance: 40 in 40,000, deviation 6.
            assert (buckets[first] == buckets[second]).sum() < 80


# ---------------------------------------------------------------- the paper's simulation

M, B, SWITCH, NUM_STEPS = 1_000, 128, 10_000, 20_000
READ_AT = (1, SWITCH, SWITCH + 1, NUM_STEPS)
"""Just begun; settled; just switched; settled again."""


@pytest.fixture(scope="module")
def drawn():
    """Batches [steps, B]: candidate i with probability ~ i^2, from the switch on ~ (M - 1 - i)^2."""
    share = np.arange(M) ** 2.0
    cumulative = np.cumsum(share / share.sum())
    places = np.searchsorted(cumulative, uniforms(stream(2019), NUM_STEPS * B), "right").astype(np.int32)
    batches = np.minimum(places, M - 1).reshape(NUM_STEPS, B)
    batches[SWITCH:] = M - 1 - batches[SWITCH:]
    return batches


def simulated_errors(drawn, kind, num_hashes):
    """Error at `READ_AT`: the L1 distance of the estimates and the true probabilities of being in a batch."""
    share = np.arange(M) ** 2.0
    truth = 1 - (1 - share / share.sum()) ** B
    source, errors = estimator(kind, num_hashes=num_hashes), []
    for step, batch in enumerate(drawn, start=1):
        source.update(batch)
        if step in READ_AT:
            now = truth if step <= SWITCH else truth[::-1]
            errors.append(np.abs(probability(source, *range(M)) - now).sum())
    return errors


def assert_follows(errors):
    begun, settled, switched, settled_again = errors
    assert settled < 0.3 * begun, "the error does not fall"
    assert switched > 1.5 * begun, "the error does not rise at the switch"
    assert settled_again < 0.3 * switched, "the error does not fall again"


def assert_hashes_help(one, two, five):
    for place in (1, 3):
        assert one[place] > 1.5 * two[place] > 1.5 * five[place], "more hashes do not help"


def test_the_simulation_of_the_paper(drawn):
    errors = [simulated_errors(drawn, StreamingFrequency, num_hashes) for num_hashes in (1, 2, 5)]
    for line in errors:
        assert_follows(line)
    assert_hashes_help(*errors)


class LeastGap(StreamingFrequency):
    """Wrong: the most frequent estimate of the hashes."""

    def log_q(self, candidate_rows_B):
        places = self._places(candidate_rows_B)
        return -np.log(self._gap.reshape(-1).take(places).min(axis=0)).astype(np.float32)


class NeverMet(StreamingFrequency):
    """Wrong: does not keep when a bucket was last hit, so that gaps are times since the beginning."""

    def update(self, candidate_rows_B):
        super().update(candidate_rows_B)
        self._last_step[:] = 0


def test_the_simulation_notices_a_last_step_that_is_not_kept(drawn):
    with pytest.raises(AssertionError, match="does not fall"):
        assert_follows(simulated_errors(drawn, NeverMet, 1))


def test_the_simulation_notices_the_least_gap_in_place_of_the_largest(drawn):
    errors = [simulated_errors(drawn, LeastGap, num_hashes) for num_hashes in (1, 2, 5)]
    with pytest.raises(AssertionError, match="more hashes"):
        assert_hashes_help(*errors)
