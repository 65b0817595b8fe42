from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import IdFeature, NumericFeature, Tower
from retrieval_contract.data import prepare as prepare_module
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.prepare import prepare, prepare_raw
from retrieval_contract.errors import UserError

BY_COLUMN = {"split": {"kind": "column"}}


def written_out(**columns):
    """Query q0 trains on c0 (twice) and c1, and meets c1, c2 (twice) and c0 again in test; q1 has less, q2 nothing."""
    base = {
        "query_id": ["q0", "q0", "q0", "q1", "q0", "q0", "q0", "q0", "q1"],
        "candidate_id": ["c0", "c0", "c1", "c0", "c1", "c2", "c2", "c0", "c2"],
        "time": [1, 2, 3, 4, 9, 7, 8, 6, 5],
        "rating": [5.0, 5.0, 1.0, 5.0, 5.0, 5.0, 5.0, 1.0, 5.0],
        "split": ["train"] * 4 + ["test"] * 4 + ["validation"],
    }
    return replace(planted_raw(num_queries=3, num_candidates=4), interactions=pa.table({**base, **columns}))


def ids_only(**rooms):
    query = Tower(features=(IdFeature(name="query_id"), NumericFeature(name="age")))
    candidate = Tower(features=(NumericFeature(name="year"),))
    positives = {"rule": "rating_at_least", "rating_at_least": 4.0}
    return planted_config(query=query, candidate=candidate, **{"positives": positives, **BY_COLUMN, **rooms})


def rows_of(matrix):
    assert matrix.dtype == np.bool_
    assert matrix.has_canonical_format
    return [line.indices.tolist() for line in matrix]


@pytest.fixture
def prepared():
    return prepare_raw(written_out(), ids_only())


def test_counts_are_of_train_positives(prepared):
    assert prepared.train_positives.tolist() == [0, 1, 3]
    assert prepared.candidate_counts().tolist() == [3, 0, 0, 0]
    assert prepared.candidate_counts().dtype == np.int64


def test_seen_are_all_train_rows_positive_or_not(prepared):
    assert rows_of(prepared.seen()) == [[0, 1], [0], []]
    assert prepared.seen().shape == (3, 4)


def test_known_positives_are_train_positives_once_each(prepared):
    assert rows_of(prepared.known_positives()) == [[0], [0], []]
    assert prepared.known_positives().shape == (3, 4)


def test_relevant_are_held_out_positives_once_each(prepared):
    assert rows_of(prepared.relevant("test", exclude_seen=False)) == [[1, 2], [], []]
    assert rows_of(prepared.relevant("test", exclude_seen=True)) == [[2], [], []]
    assert rows_of(prepared.relevant("validation", exclude_seen=True)) == [[], [2], []]


def test_held_out_rows_keep_duplicates(prepared):
    query_rows, candidate_rows = prepared.held_out_rows("test")
    assert (query_rows.tolist(), candidate_rows.tolist()) == ([0, 0, 0], [1, 2, 2])


def test_queries_are_asked_at_their_earliest_held_out_positive(prepared):
    query_rows, times = prepared.evaluation_times("test")
    assert (query_rows.tolist(), times.tolist()) == ([0], [7])
    assert query_rows.dtype == np.int32


def test_evaluation_rows_agree_with_a_plain_count():
    prepared = prepare_raw(planted_raw(), planted_config())
    rows, (test_queries, test_candidates) = prepared.interactions, prepared.held_out_rows("test")
    wanted = {query: set() for query in range(30)}
    for query, candidate in zip(test_queries.tolist(), test_candidates.tolist(), strict=True):
        wanted[query].add(candidate)
    for place in prepared.split.train:
        wanted[int(rows.query_rows[place])].discard(int(rows.candidate_rows[place]))
    assert rows_of(prepared.relevant("test", exclude_seen=True)) == [sorted(wanted[query]) for query in range(30)]
    assert sum(map(len, wanted.values())) > 0


def test_query_features_follow_the_rows_asked_for():
    prepared = prepare_raw(planted_raw(), planted_config())
    rows = np.array([4, 4, 29], np.int32)
    features = prepared.query_features(rows, np.array([0, 2_000_000_000, 2_000_000_000]))
    assert list(features) == ["query_id", "history", "country", "age"]
    assert all(len(values) == 3 for values in features.values())
    assert features["query_id"][0] == features["query_id"][1] != features["query_id"][2]
    assert features["history"].shape == (3, 5)
    assert features["history"].dtype == np.int32
    assert features["history"][0].tolist() == [0] * 5
    assert (features["history"][1] > 1).all()
    now = prepared.query_features(rows, None)
    assert now["history"][1].tolist() == features["history"][1].tolist() == now["history"][0].tolist()


def test_histories_hold_train_positives_before_the_moment_and_no_others():
    prepared = prepare_raw(planted_raw(), planted_config())
    rows, train = prepared.interactions, prepared.train_positives
    values = np.array(["", "?", *prepared.features.query[1].values])
    query_rows, times = prepared.evaluation_times("test")
    history = prepared.query_features(query_rows, times)["history"]
    assert (history != 0).any()
    for query, time, got in zip(query_rows, times, history, strict=True):
        mine = train[(rows.query_rows[train] == query) & (rows.times[train] < time)]
        mine = mine[np.argsort(rows.times[mine], kind="stable")][-5:]
        assert values[got[got != 0]].tolist() == [prepared.candidates.ids[row] for row in rows.candidate_rows[mine]]


def test_candidate_features_are_the_whole_catalogue():
    features = prepare_raw(planted_raw(), planted_config()).candidate_features()
    assert {name: values.shape for name, values in features.items()} == {
        "candidate_id": (20,), "genres": (20, 2), "year": (20,)
    }  # fmt: skip


def test_a_run_is_evaluated_from_its_state_without_fitting_again():
    fitted = prepare_raw(planted_raw(seed=0), planted_config())
    loaded = prepare_raw(planted_raw(seed=1), planted_config(), features_json=fitted.features.to_json())
    assert loaded.features == fitted.features
    assert prepare_raw(planted_raw(seed=1), planted_config()).features != fitted.features


def test_the_state_of_another_run_is_refused():
    text = prepare_raw(planted_raw(), planted_config()).features.to_json()
    with pytest.raises(UserError, match="another run"):
        prepare_raw(planted_raw(), ids_only(), features_json=text)


def test_sources_are_keyed_by_the_splits_seed_and_not_by_the_runs(monkeypatch):
    seeds = []

    def load(source, *, seed):
        seeds.append(seed)
        return planted_raw()

    monkeypatch.setattr(prepare_module, "load", load)
    first, second = (prepare(planted_config(seed=seed, split={"kind": "random", "seed": 5})) for seed in (1, 2))
    assert seeds == [5, 5]
    assert first.split.test.tolist() == second.split.test.tolist()


def test_titles(prepared):
    assert prepared.titles == ("Title 0", "Title 1", "Title 2", "Title 3")
    raw = planted_raw()
    assert prepare_raw(replace(raw, candidates=raw.candidates.drop_columns(["title"])), planted_config()).titles is None


def test_query_ids_are_found_and_unknown_ones_refused(prepared):
    assert prepared.query_rows_of(["q2", "q0", "q2"]).tolist() == [2, 0, 2]
    assert prepared.query_rows_of([]).dtype == np.int32
    with pytest.raises(UserError, match=r"unknown query id 'q9' and 1 more \[3 queries\]: nearest: q"):
        prepared.query_rows_of(["q1", "q9", "zzzzzz"])
    with pytest.raises(UserError, match="nearest: q0, q1, q2"):
        prepared.query_rows_of(["zzzzzz"])


def test_too_few_train_positives_are_refused():
    with pytest.raises(UserError, match="1 train positives"):
        prepare_raw(written_out(rating=[5.0, 1, 1, 1, 5, 5, 5, 5, 5]), ids_only())


def test_weights_that_are_all_zero_in_training_are_refused():
    raw = written_out(w=[0.0] * 4 + [1.0] * 5)
    rule = {"rule": "all", "weight_column": "w"}
    with pytest.raises(UserError, match=r"all 4 train positives weigh 0 .*column w"):
        prepare_raw(raw, ids_only(positives=rule))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_an_evaluated_part_without_positives_is_refused(part):
    rating = [5.0] * 4 + ([1.0] * 4 + [5.0] if part == "test" else [5.0] * 4 + [1.0])
    with pytest.raises(UserError, match=f"no positive to evaluate among . {part} rows"):
        prepare_raw(written_out(rating=rating), ids_only(evaluation={"part": part}))
