import threading

import pytest

from retrieval_contract.serving.batching import Batcher
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.question import Answer, Question
from retrieval_contract.serving.refusal import Refusal

VERSION = planted_version(num_candidates=8)


def question(num_rows=1):
    return Question(version=VERSION, operation="retrieve", num_rows=num_rows, query_rows=[1] * num_rows, k=2)


class Held:
    """Answers nothing before it is let go, and keeps the sizes of the batches."""

    def __init__(self):
        self.sizes, self.gate, self.entered = [], threading.Event(), threading.Event()

    def __call__(self, questions):
        self.sizes.append([question.num_rows for question in questions])
        self.entered.set()
        assert self.gate.wait(10)
        return [Answer(ids=[[]]) for _ in questions]


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def batcher_of(held):
    made = []

    def make(**limits):
        made.append(Batcher(Limits(**limits), answer=held))
        return made[-1]

    yield make
    held.gate.set()
    for batcher in made:
        batcher.close()


def filled(batcher, held, *sizes):
    """Submit questions while the thread is busy with a first one."""
    first = batcher.submit(question())
    assert held.entered.wait(10)
    return [first, *(batcher.submit(question(size)) for size in sizes)]


def test_what_waits_is_answered_together_up_to_the_bound(batcher_of, held):
    batcher = batcher_of(batch_rows=4, wait_ms=0)
    futures = filled(batcher, held, 1, 2, 1, 3, 1, 9, 1)
    held.gate.set()
    assert all(future.result(10).ids == [[]] for future in futures)
    assert held.sizes == [[1], [1, 2, 1], [3, 1], [9], [1]]


def test_a_batch_waits_for_others_no_longer_than_stated(batcher_of, held):
    held.gate.set()
    batcher = batcher_of(batch_rows=3, wait_ms=60_000)
    futures = [batcher.submit(question()) for _ in range(3)]
    assert [future.result(10) is not None for future in futures] == [True] * 3, "full, so nothing is waited for"
    assert held.sizes == [[1, 1, 1]]
    late = batcher.submit(question())
    assert not late.done()
    batcher.close()
    assert late.result(10).ids == [[]], "the last ones are answered when the server stops"


def test_a_wait_of_nothing_answers_one_alone(batcher_of, held):
    held.gate.set()
    assert batcher_of(wait_ms=0.1).submit(question()).result(10).ids == [[]]


def test_more_than_may_wait_is_refused_until_there_is_room(batcher_of, held):
    batcher = batcher_of(waiting_rows=5, wait_ms=0)
    futures = filled(batcher, held, 3)
    with pytest.raises(Refusal, match="overloaded") as refused:
        batcher.submit(question(2))
    assert refused.value.status == 503 and refused.value.headers == {"Retry-After": "1"}
    futures.append(batcher.submit(question(1)))
    held.gate.set()
    for future in futures:
        future.result(10)
    batcher.submit(question(50)).result(10), "one that is larger than the queue is answered when nothing else waits"


def test_what_was_given_up_is_not_computed(batcher_of, held):
    batcher = batcher_of(wait_ms=0, batch_rows=1)
    futures = filled(batcher, held, 1, 1)
    assert futures[1].cancel()
    held.gate.set()
    assert futures[2].result(10) and held.sizes == [[1], [1]] and batcher.waiting_rows == 0


def test_a_stopping_server_says_so(batcher_of, held):
    held.gate.set()
    batcher = batcher_of()
    batcher.close()
    with pytest.raises(Refusal, match="stopping"):
        batcher.submit(question())


def test_answers_and_faults_come_back_to_those_who_asked():
    observed = []
    batcher = Batcher(Limits(), observe=lambda questions, answers, waited: observed.extend(waited))
    good, wrong = question(), Question(version=VERSION, operation="retrieve", num_rows=1, columns={"age": ["x"]}, k=1)
    futures = [batcher.submit(good), batcher.submit(wrong)]
    assert futures[0].result(10).ids == [["c5", "c1"]]
    with pytest.raises(ValueError, match="age"):
        futures[1].result(10)
    batcher.close()
    assert len(observed) == 2 and not batcher.is_alive
