import numpy as np
import pyarrow.compute as pc
import pytest

from retrieval_contract.config import SimulatedSource
from retrieval_contract.data.sources import load
from retrieval_contract.data.sources.population import COLD_FROM, SPAN, START
from retrieval_contract.errors import UserError

BUCKETS = 40
"""Slices of the span in which drift is taken as constant; the last tenth begins at a boundary."""
SMALL = SimulatedSource(num_queries=30, num_candidates=40, num_interactions=150_000, drift=1.0, cold_query_fraction=0.1)


def rows_of(raw):
    queries = {name: row for row, name in enumerate(raw.queries["query_id"].to_pylist())}
    candidates = {name: row for row, name in enumerate(raw.truth.candidate_ids)}
    query_rows = np.array([queries[name] for name in raw.interactions["query_id"].to_pylist()])
    candidate_rows = np.array([candidates[name] for name in raw.interactions["candidate_id"].to_pylist()])
    return query_rows, candidate_rows, raw.interactions["time"].to_numpy()


def chi_square_per_degree(raw, stated):
    """Pearson's statistic over (query, candidate) cells, 1 on average where counts follow `stated(ids, time)`."""
    ids = raw.queries["query_id"].to_pylist()
    query_rows, candidate_rows, times = rows_of(raw)
    bucket = np.minimum((times - START) * BUCKETS // SPAN, BUCKETS - 1)
    observed = np.zeros((len(ids), len(raw.truth.candidate_ids)))
    np.add.at(observed, (query_rows, candidate_rows), 1)
    expected = np.zeros_like(observed)
    for number in range(BUCKETS):
        rows_here = np.bincount(query_rows[bucket == number], minlength=len(ids))
        expected += rows_here[:, None] * np.exp(stated(ids, START + int((number + 0.5) * SPAN / BUCKETS)))
    cells = expected >= 5
    return ((observed - expected)[cells] ** 2 / expected[cells]).sum() / (cells.sum() - len(ids))


@pytest.fixture(scope="module")
def small():
    return load(SMALL, seed=3)


def test_rows_follow_the_stated_probabilities(small):
    # About 1,100 cells: the statistic's standard deviation is about 0.04.
    assert chi_square_per_degree(small, small.truth.log_probabilities) == pytest.approx(1.0, abs=0.16)


def test_the_check_notices_a_wrong_query_a_missing_drift_and_another_population(small):
    truth = small.truth
    assert chi_square_per_degree(small, lambda ids, time: truth.log_probabilities(ids[1:] + ids[:1], time)) > 3
    # The last tenth stays apart, so that only drift is missing.
    frozen = {False: START, True: START + int(0.95 * SPAN)}
    still = lambda ids, time: truth.log_probabilities(ids, frozen[time >= START + COLD_FROM * SPAN])  # noqa: E731
    assert chi_square_per_degree(small, still) > 1.5
    other = load(SMALL.model_copy(update={"num_interactions": 1_000}), seed=4).truth
    assert chi_square_per_degree(small, lambda ids, time: np.maximum(other.log_probabilities(ids, time), -20)) > 3


def test_probabilities_sum_to_one_and_cold_candidates_do_not_exist_before_the_last_tenth(small):
    before = small.truth.log_probabilities(["q00", "q07"], START + int(0.5 * SPAN))
    after = small.truth.log_probabilities(["q00", "q07"], START + int(0.95 * SPAN))
    assert before.dtype == np.float32 and before.shape == (2, 40)
    np.testing.assert_allclose(np.exp(before).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(after).sum(axis=1), 1, rtol=1e-5)
    cold = np.isneginf(before[0])
    assert cold.sum() == int(0.05 * 40) and not np.isneginf(after).any()
    _, candidate_rows, times = rows_of(small)
    seen = np.isin(candidate_rows, np.flatnonzero(cold))
    assert seen.any() and times[seen].min() >= START + COLD_FROM * SPAN


def test_cold_queries_appear_only_in_the_last_tenth(small):
    query_rows, _, times = rows_of(small)
    first = np.array([times[query_rows == row].min() for row in range(30)])
    assert (first >= START + COLD_FROM * SPAN).sum() == int(0.1 * 30)


def test_unknown_query_is_refused(small):
    with pytest.raises(UserError, match="'nobody'"):
        small.truth.log_probabilities(["q00", "nobody"], START)


def test_tables_are_canonical(small):
    interactions, candidates = small.interactions, small.candidates
    assert interactions.column_names[:3] == ["query_id", "candidate_id", "time"]
    assert interactions.num_rows == 150_000 and interactions["time"].null_count == 0
    assert np.all(np.diff(interactions["time"].to_numpy()) >= 0)
    assert set(interactions["rating"].to_pylist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    watched = interactions["watched_fraction"].to_numpy()
    assert 0 <= watched.min() < watched.max() <= 1
    assert 0 < pc.sum(interactions["shared"]).as_py() < pc.sum(interactions["liked"]).as_py() < 75_000
    assert tuple(candidates["candidate_id"].to_pylist()) == small.truth.candidate_ids
    assert set(pc.list_value_length(candidates["genres"]).to_pylist()) == {1, 2, 3}
    assert small.queries.column_names == ["query_id", "gender", "age", "country"]
    assert small.has_timestamps and small.notes == ()


def test_ids_and_titles_are_distinct_and_sorted_at_any_size():
    raw = load(SimulatedSource(num_queries=1_500, num_candidates=1_001, num_interactions=1_000), seed=0)
    ids = raw.candidates["candidate_id"].to_pylist()
    assert ids == sorted(set(ids)) and raw.queries["query_id"].to_pylist()[-1] == "q1499"
    assert len(set(raw.candidates["title"].to_pylist())) == 1_001


def test_same_seed_same_bytes_another_seed_another_set():
    source = SimulatedSource(num_queries=50, num_candidates=20, num_interactions=1_000)
    first, again, other = load(source, seed=1), load(source, seed=1), load(source, seed=2)
    assert first.interactions.equals(again.interactions) and first.candidates.equals(again.candidates)
    assert first.queries.equals(again.queries) and not first.interactions.equals(other.interactions)


def test_rows_do_not_depend_on_the_chunk_size(monkeypatch):
    source = SimulatedSource(num_queries=50, num_candidates=20, num_interactions=1_000)
    whole = load(source, seed=1)
    monkeypatch.setattr("retrieval_contract.data.sources.simulated.CHUNK_CELLS", 8 * 77)
    assert load(source, seed=1).interactions["candidate_id"].equals(whole.interactions["candidate_id"])


def test_without_preference_only_zipf_is_left():
    source = SimulatedSource(num_queries=10, num_candidates=200, num_interactions=1_000, preference_strength=0.0)
    log_p = load(source, seed=5).truth.log_probabilities(["q0", "q9"], START + SPAN)
    np.testing.assert_allclose(log_p[0], log_p[1], atol=1e-5)
    slope = np.polyfit(np.log(np.arange(1, 201)), np.sort(log_p[0])[::-1], 1)[0]
    assert slope == pytest.approx(-0.8, abs=1e-3)


@pytest.mark.parametrize(("drift", "moves"), [(0.0, False), (0.5, True)])
def test_interests_move_only_with_drift(drift, moves):
    truth = load(SimulatedSource(num_queries=20, num_interactions=1_000, drift=drift), seed=5).truth
    start, end = (truth.log_probabilities(["q01"], START + int(share * SPAN)) for share in (0.0, 0.89))
    there = np.isfinite(start)
    assert (np.abs(start[there] - end[there]).max() > 0.1) == moves


def test_demographics_and_genres_tell_of_interests():
    raw = load(SimulatedSource(num_queries=400, num_interactions=1_000, cold_candidate_fraction=0.0), seed=6)
    log_p = raw.truth.log_probabilities(raw.queries["query_id"].to_pylist(), START)
    country = raw.queries["country"].to_numpy(zero_copy_only=False)
    by_query = np.corrcoef(log_p - log_p.mean(axis=0))
    same = (country[:, None] == country) & ~np.eye(400, dtype=bool)
    assert by_query[same].mean() > by_query[country[:, None] != country].mean() + 0.05
    genres = raw.candidates["genres"].to_pylist()
    has = np.array(
        [[name in names for name in sorted({name for names in genres for name in names})] for names in genres], float
    )
    shared = has @ has.T
    by_candidate = np.corrcoef((log_p - log_p.mean(axis=0)).T)
    assert by_candidate[(shared > 0) & ~np.eye(1_000, dtype=bool)].mean() > by_candidate[shared == 0].mean() + 0.1


def mean_rating_goes_with_popularity(exposure_bias):
    source = SimulatedSource(num_queries=300, num_candidates=50, num_interactions=30_000, exposure_bias=exposure_bias)
    raw = load(source, seed=7)
    _, candidate_rows, _ = rows_of(raw)
    counts = np.bincount(candidate_rows, minlength=50)
    ratings = np.bincount(candidate_rows, raw.interactions["rating"].to_numpy(), minlength=50) / counts
    return np.corrcoef(np.log(counts), ratings)[0, 1]


def test_exposure_bias_parts_popularity_from_appeal():
    assert mean_rating_goes_with_popularity(0.0) > mean_rating_goes_with_popularity(1.0) + 0.3


def recall_at_10(scores, seen, wanted):
    top = np.argsort(-np.where(seen, -np.inf, scores), axis=1, kind="stable")[:, :10]
    asked = wanted.any(axis=1)
    return (np.take_along_axis(wanted, top, 1).sum(axis=1)[asked] / wanted.sum(axis=1)[asked]).mean()


def test_with_the_defaults_the_oracle_beats_popularity_by_far():
    raw = load(SimulatedSource(), seed=0)
    query_rows, candidate_rows, times = rows_of(raw)
    cut = int(0.9 * len(times))
    seen, wanted = np.zeros((2, 2_000, 1_000), bool)
    seen[query_rows[:cut], candidate_rows[:cut]] = True
    wanted[query_rows[cut:], candidate_rows[cut:]] = True
    wanted &= ~seen
    oracle = raw.truth.log_probabilities(raw.queries["query_id"].to_pylist(), int(np.median(times[cut:])))
    popularity = np.bincount(candidate_rows[:cut], minlength=1_000)[None].repeat(2_000, axis=0)
    assert recall_at_10(oracle, seen, wanted) > 1.6 * recall_at_10(popularity.astype(float), seen, wanted)
