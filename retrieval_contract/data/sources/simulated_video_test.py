"""The video service: rows follow the stated law, statistics know nothing of the log, running numbers only the past."""

import numpy as np
import pyarrow.compute as pc
import pytest

from retrieval_contract.config import Positives, SimulatedVideoSource
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.sources import load
from retrieval_contract.data.sources.population import COLD_FROM, SPAN, START
from retrieval_contract.data.sources.video_choice import BUSY_HOURS, periods
from retrieval_contract.data.sources.video_population import COLD_RELEASES, DEVICES, RELEASES
from retrieval_contract.errors import UserError

SMALL = SimulatedVideoSource(
    kind="simulated_video",
    num_queries=30,
    num_candidates=40,
    num_interactions=150_000,
    num_creators=10,
    drift=1.0,
    context_strength=1.0,
    cold_candidate_fraction=0.2,
)
TINY = SimulatedVideoSource(
    kind="simulated_video", num_queries=50, num_candidates=60, num_interactions=2_000, missing_fraction=0.2
)


def rows_of(raw):
    queries = {name: row for row, name in enumerate(raw.queries["query_id"].to_pylist())}
    candidates = {name: row for row, name in enumerate(raw.truth.candidate_ids)}
    query_rows = np.array([queries[name] for name in raw.interactions["query_id"].to_pylist()])
    candidate_rows = np.array([candidates[name] for name in raw.interactions["candidate_id"].to_pylist()])
    devices = np.array([DEVICES.index(name) for name in raw.interactions["device"].to_pylist()])
    return query_rows, candidate_rows, raw.interactions["time"].to_numpy(), devices


def chi_square_per_degree(raw, cells_of, law):
    """Pearson's statistic over (cell, candidate), 1 on average where each row's candidate is drawn from `law`."""
    query_rows, candidate_rows, times, devices = rows_of(raw)
    cells, num_cells = cells_of(query_rows, times, devices)
    num_candidates = len(raw.truth.candidate_ids)
    observed = np.bincount(cells * num_candidates + candidate_rows, minlength=num_cells * num_candidates)
    expected = np.zeros((num_cells, num_candidates))
    np.add.at(expected, cells, law(query_rows, times, devices))
    observed, usual = observed.reshape(num_cells, num_candidates), expected >= 5
    return ((observed - expected)[usual] ** 2 / expected[usual]).sum() / (usual.sum() - num_cells)


@pytest.fixture(scope="module")
def small():
    return load(SMALL, seed=3)


@pytest.fixture(scope="module")
def tiny():
    return load(TINY, seed=5)


def by_viewer(query_rows, times, devices):
    return query_rows, 30


def by_moment(query_rows, times, devices):
    return ((times // 3_600) % 24 * 7 + (times // 86_400 + 3) % 7) * 4 + devices, 24 * 7 * 4


@pytest.mark.parametrize("cells_of", [by_viewer, by_moment])
def test_rows_follow_the_stated_law_of_viewer_moment_and_device(small, cells_of):
    truth = small.truth

    def law(query_rows, times, devices, shift=0):
        at = periods(times)
        interests_BK = truth.interests(query_rows, times + shift, np.roll(devices, shift))
        return np.einsum("bk,bkn->bn", interests_BK, truth.tables.given_PKN[at])

    assert chi_square_per_degree(small, cells_of, law) == pytest.approx(1.0, abs=0.16)
    if cells_of is by_moment:
        # Half a day off, and another row's device: the statistic must notice.
        assert chi_square_per_degree(small, cells_of, lambda *row: law(*row, shift=43_200)) > 2


def test_the_truth_is_the_law_averaged_over_the_viewers_devices(small):
    truth, time = small.truth, START + int(0.4 * SPAN)
    ids = ["q03", "q11"]
    log_p = truth.log_probabilities(ids, time)
    assert log_p.dtype == np.float32 and log_p.shape == (2, 40)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    query_rows, _, _, devices = rows_of(small)
    shares = np.bincount(devices[query_rows == 3], minlength=4) / (query_rows == 3).sum()
    times = np.full(4, time)
    given_KN = truth.tables.given_PKN[periods(times)[0]]
    by_device = truth.interests(np.full(4, 3), times, np.arange(4)) @ given_KN
    np.testing.assert_allclose(np.exp(log_p[0]), shares @ by_device, atol=0.01)
    assert np.abs(np.exp(log_p[0]) - by_device[3]).max() > 0.02


def test_an_unknown_viewer_is_refused(small):
    with pytest.raises(UserError, match="'nobody'"):
        small.truth.log_probabilities(["q03", "nobody"], START)


def test_videos_that_come_out_during_the_log_do_so_in_steps_and_have_no_past(small):
    candidates, (_, candidate_rows, times, _) = small.candidates, rows_of(small)
    uploaded = candidates["uploaded_at"].to_numpy()
    late, cold = uploaded > START, uploaded >= START + COLD_FROM * SPAN
    assert cold.sum() == 8 and late.sum() > 8 and len(set(uploaded[cold])) > 1
    assert set(uploaded[late]) <= {START + int(np.ceil(share * SPAN)) for share in RELEASES}
    assert (times >= uploaded[candidate_rows]).all()
    assert np.isin(np.flatnonzero(late), candidate_rows).all()
    for name in ("views", "likes", "dislikes", "like_ratio"):
        assert not candidates[name].to_numpy()[late].any(), name
        assert candidates[name].to_numpy()[~late].any(), name
    assert pc.is_null(candidates["completion_rate"]).to_numpy()[late].all()
    moment = START + int((COLD_RELEASES[1] + 0.001) * SPAN)
    absent = np.isneginf(small.truth.log_probabilities(["q00"], moment)[0])
    assert (absent == (uploaded > moment)).all() and 0 < absent.sum() < 8


def test_statistics_do_not_depend_on_the_log():
    longer = load(TINY.model_copy(update={"num_interactions": 5_000}), seed=5)
    assert longer.candidates.equals(load(TINY, seed=5).candidates)
    assert "before the log" in longer.notes[0]


def test_running_numbers_tell_of_earlier_rows_only(tiny):
    query_rows, _, times, _ = rows_of(tiny)
    watched = tiny.interactions["watch_seconds"].to_numpy().astype(float)
    mean, recent = tiny.interactions["average_watch_seconds"], tiny.interactions["videos_7d"].to_numpy()
    for row in [*range(40), *range(1_500, 1_540)]:
        earlier = (query_rows == query_rows[row]) & (times < times[row])
        assert recent[row] == (earlier & (times >= times[row] - 7 * 86_400)).sum()
        expected = watched[earlier].mean() if earlier.any() else None
        assert mean[row].as_py() == (None if expected is None else pytest.approx(expected, rel=1e-6))
    assert recent.max() > 3 and mean.null_count == len(set(query_rows.tolist()))


def test_tables_are_canonical_and_some_attributes_are_missing(tiny):
    interactions, candidates, queries = tiny.interactions, tiny.candidates, tiny.queries
    assert interactions.column_names[:3] == ["query_id", "candidate_id", "time"]
    assert np.all(np.diff(interactions["time"].to_numpy()) >= 0)
    watched = interactions["watched_fraction"].to_numpy()
    assert 0 < watched.min() < watched.max() < 1 and interactions["watch_seconds"].to_numpy().min() >= 0
    assert ((watched >= 0.9) == interactions["completed"].to_numpy()).all()
    built, _, _ = build_entities(tiny, Positives(rule="engaged", weight_column="watch_seconds"))
    assert 0.4 < built.positive.mean() < 0.8
    for table, names in ((queries, ("age", "country", "language")), (candidates, ("category", "title"))):
        for name in names:
            assert 0 < table[name].null_count < table.num_rows / 2, name
    vectors = candidates["title_vector"]
    assert pc.is_null(vectors).equals(pc.is_null(candidates["title"]))
    assert set(pc.list_value_length(pc.drop_null(vectors)).to_pylist()) == {128}
    ids = candidates["candidate_id"].to_pylist()
    assert ids == sorted(set(ids)) and tiny.truth.candidate_ids == tuple(ids)
    for name in ("age", "country", "language"):
        assert load(TINY.model_copy(update={"missing_fraction": 0.0}), seed=5).queries[name].null_count == 0


def test_titles_and_their_vectors_tell_of_interests(tiny):
    raw = load(SimulatedVideoSource(kind="simulated_video", num_interactions=1_000, missing_fraction=0.0), seed=1)
    vectors = np.array(raw.candidates["title_vector"].to_pylist())
    titles, categories = raw.candidates["title"].to_pylist(), raw.candidates["category"].to_pylist()
    assert all(category in title for title, category in zip(titles, categories, strict=True))
    assert len(set(titles)) == len(titles)
    alike = np.array(categories)[:, None] == np.array(categories)
    cosines = vectors @ vectors.T
    assert cosines[alike].mean() > cosines[~alike].mean() + 0.1
    counts, views = np.bincount(rows_of(tiny)[1], minlength=60), tiny.candidates["views"].to_numpy()
    assert np.corrcoef(np.log1p(counts[views > 0]), np.log1p(views[views > 0]))[0, 1] > 0.3


def test_same_seed_same_bytes_another_seed_another_set_whatever_the_chunk_size(tiny, monkeypatch):
    assert load(TINY, seed=6).interactions["candidate_id"].to_pylist() != tiny.interactions["candidate_id"].to_pylist()
    monkeypatch.setattr("retrieval_contract.data.sources.simulated_video.CHUNK_CELLS", 12 * 77)
    again = load(TINY, seed=5)
    assert again.interactions.equals(tiny.interactions) and again.candidates.equals(tiny.candidates)
    assert again.queries.equals(tiny.queries)


def test_requests_keep_the_hours_of_the_day(small):
    hours = np.bincount((rows_of(small)[2] // 3_600) % 24, minlength=24)
    # The span's hours begin at 13 past, so that each holds some of the next one.
    assert np.corrcoef(hours, BUSY_HOURS)[0, 1] > 0.95


def test_countries_have_a_long_tail():
    queries = load(SimulatedVideoSource(kind="simulated_video", num_queries=20_000, num_interactions=1_000), seed=0)
    counts = pc.value_counts(pc.drop_null(queries.queries["country"])).field("counts").to_numpy()
    assert len(counts) == 60 and counts.max() > 50 * counts.min()
