"""Everyone is asked the same, and who answers wrongly is noticed before a time is written."""

import importlib

import numpy as np
import pytest

from benchmarks import index_measuring
from benchmarks.index_measuring import K, check, measure, settings_of
from benchmarks.index_planted import NUM_QUERIES, planted, setting
from benchmarks.index_structures import Searcher, Structure, built


@pytest.fixture(scope="module")
def asked():
    return planted()


def test_an_answer_is_worth_its_recall(asked):
    truth = asked.truth
    assert check(setting("right", lambda at: truth[at], is_exact=True, library="here"), asked) == {
        "recall@10": 1.0,
        "recall@100": 1.0,
    }
    found = check(setting("near", lambda at: np.append(truth[at, 3:K], truth[at, K : K + 3])), asked)
    assert found == pytest.approx({"recall@10": 0.7, "recall@100": 0.97})


def test_wrong_answers_are_noticed(asked):
    truth = asked.truth
    swapped = truth[:, [1, 0, *range(2, 200)]]
    assert check(setting("swapped", lambda at: swapped[at], is_exact=True), asked)["recall@100"] == 1.0
    for wrong, said in (
        (setting("twice", lambda at: np.append(truth[at, :99], truth[at, :1])), "a row twice"),
        (setting("outside", lambda at: np.append(truth[at, :99], 1_500).astype(np.int32)), "does not exist"),
        (setting("misses", lambda at: truth[at, 3:], is_exact=True), "is exact and misses"),
        (setting("swapped", lambda at: swapped[at], is_exact=True, library="here"), "ranks otherwise than the truth"),
    ):
        with pytest.raises(AssertionError, match=said):
            check(wrong, asked)
    apart = setting("apart", lambda at: truth[at])
    apart.batch_rows[0] = truth[:, 5 : 5 + K]
    with pytest.raises(AssertionError, match=r"and 0\.9\d* in a batch"):
        check(apart, asked)


def test_searches_take_turns_query_by_query_on_one_thread_and_batches_on_all(asked, monkeypatch):
    importlib.import_module("torch_reference")
    monkeypatch.setattr(index_measuring, "num_cores", lambda: 3)
    calls = []

    def structure(name):
        def search(queries, k, width, threads):
            calls.append((name, len(queries), threads))
            return np.tile(np.arange(k, dtype=np.int32), (len(queries), 1))

        make = lambda values: Searcher(search=search, save=None)  # noqa: E731
        return Structure(name=name, library="x", settings={}, widths=({"w": 1}, {"w": 2}), build=make)

    settings = settings_of([built(structure(name), asked.candidates) for name in "ab"])
    measure(settings, asked)
    each = [name for name in "aabb" for _ in range(2)]
    assert [call[0] for call in calls[: 8 * NUM_QUERIES]] == each * NUM_QUERIES
    assert {call[1:] for call in calls[: 8 * NUM_QUERIES]} == {(1, 1)}
    assert [call[0] for call in calls[8 * NUM_QUERIES :]] == list("aabb") * 4
    assert {call[1:] for call in calls[8 * NUM_QUERIES :]} == {(NUM_QUERIES, 3)}
    for each in settings:
        assert len(each.latency.wall) == len(each.rows) == NUM_QUERIES
        assert len(each.throughput.wall) == 3 and len(each.batch_rows) == 1
