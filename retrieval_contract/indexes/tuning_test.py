import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.arrays import TopK
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.planted import clustered, vectors_of
from retrieval_contract.indexes.tuning import Recall, Trial, choose, found_of, frontier, measure, recall_of


def trial(ms, low, *, value=None, num_bytes=100, checked=None):
    """A planted trial whose every query took `ms`."""

    def recall(bottom):
        return Recall(value=bottom + 0.01 if value is None else value, low=bottom, high=bottom + 0.02, num_queries=10)

    return Trial(
        settings=config.Index(),
        k=10,
        recall=recall(low),
        checked=None if checked is None else recall(checked),
        milliseconds=(ms,) * 3,
        num_bytes=num_bytes,
        build_seconds=1.0,
    )


def test_the_fastest_that_holds_is_chosen_and_what_is_worse_in_all_is_not():
    quick_and_bad, good, dominated = trial(0.1, 0.5), trial(1.0, 0.985), trial(2.0, 0.98)
    for order in ([quick_and_bad, good, dominated], [dominated, good, quick_and_bad]):
        assert choose(order, target=0.98) is good


def test_the_interval_and_not_the_value_must_reach_the_target():
    lucky, sure = trial(1.0, 0.975, value=0.99), trial(2.0, 0.981)
    assert choose([lucky, sure], target=0.98) is sure
    assert choose([lucky], target=0.98) is None
    assert choose([trial(1.0, 0.98)], target=0.98) is not None, "at the target is enough"


def test_what_fails_its_check_is_not_chosen():
    lucky, sure = trial(1.0, 0.99, checked=0.97), trial(2.0, 0.985, checked=0.985)
    assert choose([lucky, sure], target=0.98) is sure
    assert choose([lucky], target=0.98) is None


def test_memory_bounds_the_choice_and_breaks_ties_of_time():
    large, small = trial(1.0, 0.99, num_bytes=1_000), trial(3.0, 0.99, num_bytes=100)
    assert choose([large, small], target=0.98) is large
    assert choose([large, small], target=0.98, max_bytes=999) is small
    assert choose([large, small], target=0.98, max_bytes=100) is small
    assert choose([large, small], target=0.98, max_bytes=99) is None
    first, second = trial(1.0, 0.99), trial(1.0, 0.99, num_bytes=50)
    assert choose([first, second], target=0.98) is second
    assert choose([first, trial(1.0, 0.99)], target=0.98) is first, "else the first tried"


def test_times_that_noise_may_order_count_as_equal_and_others_do_not():
    assert choose([trial(1.001, 0.99, num_bytes=10), trial(1.0, 0.99)], target=0.9).num_bytes == 10
    assert choose([trial(1.2, 0.99, num_bytes=10), trial(1.0, 0.99)], target=0.9).num_bytes == 100


def test_nothing_tried_nothing_chosen():
    assert choose([], target=0.5) is None and frontier([]) == []


def test_the_frontier_leaves_out_what_is_slower_and_not_better():
    a, b, c, d = trial(1.0, 0.5), trial(2.0, 0.4), trial(2.0, 0.9), trial(3.0, 0.9)
    assert frontier([d, c, b, a]) == [a, c]


def test_found_counts_each_true_row_once():
    rows = np.array([[3, 1, 2], [4, -1, -1], [7, 8, 9]], np.int32)
    true = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3]], np.int32)
    assert found_of(rows, true).tolist() == [3, 1, 0]


def test_recall_has_the_interval_of_a_mean():
    found = np.random.default_rng(0).integers(90, 101, 2_000)
    recall = recall_of(found, 100, num_samples=500, seed=3)
    error = 1.96 * found.std() / 100 / np.sqrt(2_000)
    assert recall.value == pytest.approx(found.mean() / 100)
    assert [recall.value - recall.low, recall.high - recall.value] == pytest.approx([error, error], rel=0.15)
    assert recall_of(np.full(50, 100), 100, num_samples=50, seed=0).low == 1.0


@pytest.mark.parametrize("num_interests", [1, 3])
def test_measure_counts_what_the_index_returns_and_times_single_queries(num_interests):
    values_ND, queries_BD = clustered(500, 12)
    queries = queries_BD if num_interests == 1 else queries_BD.reshape(-1, 3, values_ND.shape[1])
    index = ExactIndex.build(vectors_of(values_ND), config.Index())
    truth = index.search(queries, 10, weights_digest=index.weights_digest)
    assert (measure(index, queries, truth, 10).found == 10).all()
    half = TopK(rows=np.where(np.arange(10) < 5, truth.rows, -1), scores=truth.scores)
    measured = measure(index, queries, half, 10)
    assert (measured.found == 5).all()
    assert len(measured.milliseconds) == len(queries) and min(measured.milliseconds) > 0
