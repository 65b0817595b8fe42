"""The columns and masks of a batch: who stands where, with what log_q, and that every draw can be repeated."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import IdFeature, Tower
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.negative_sources import earlier_positives
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.sampling.frequency import exact_log_q

SOME_POSITIVE = {"rule": "rating_at_least", "rating_at_least": 3.0}
MINED = {"per_example": 2, "hard_fraction": 0.5, "first_rank": 1, "last_rank": 5}
B = 16


@pytest.fixture(scope="module")
def prepared():
    return prepare_raw(planted_raw(), planted_config(positives=SOME_POSITIVE))


def batches(prepared, *, loss=None, seed=0, optimizer=None, **negatives):
    config = planted_config(
        positives=SOME_POSITIVE, negatives=negatives, loss=loss or {}, seed=seed, optimizer=optimizer or {}
    )
    return TrainingBatches(prepared, config)


def all_batches(source, num_epochs=1):
    return [batch for epoch in range(num_epochs) for step in source.epoch(epoch) for batch in step]


def planted_mined(num_queries=30, num_candidates=20, width=4):
    """Four candidates for most queries, fewer for some, none for every fifth."""
    draw = np.random.default_rng(7)
    mined = np.stack([draw.permutation(num_candidates)[:width] for _ in range(num_queries)]).astype(np.int32)
    mined[draw.random(mined.shape) < 0.3] = -1
    mined[::5] = -1
    return mined


# ---------------------------------------------------------------- sampled


@pytest.mark.parametrize("sampled_from", ["uniform", "popularity"])
def test_sampled_columns_follow_their_proposal(prepared, sampled_from):
    source = batches(prepared, sampled=50, sampled_from=sampled_from)
    rows = np.concatenate([batch.sampled.rows for batch in all_batches(source, 20)])
    counts = prepared.candidate_counts()
    share = np.full(20, 0.05) if sampled_from == "uniform" else counts / counts.sum()
    expected = share * len(rows)
    assert (np.abs(np.bincount(rows, minlength=20) - expected) < 5 * np.sqrt(expected)).all()


def test_features_of_sampled_columns_belong_to_their_rows(prepared):
    catalogue = prepared.candidate_features()
    for batch in all_batches(batches(prepared, sampled=9)):
        assert batch.sampled.rows.shape == batch.sampled.log_q.shape == (9,)
        assert (batch.sampled.rows.dtype, batch.sampled.log_q.dtype) == (np.int32, np.float32)
        for name, values in catalogue.items():
            assert (batch.sampled.features[name] == values[batch.sampled.rows]).all()


def test_the_first_draws_stay_what_they_are(prepared):
    source = batches(prepared, seed=1, sampled=4, impressions=2)
    batch = next(source.epoch(0))[0]
    assert batch.sampled.rows.tolist() == SAMPLED_ROWS
    assert batch.impressions.rows[:2].tolist() == IMPRESSION_ROWS


SAMPLED_ROWS = [18, 5, 4, 19]
IMPRESSION_ROWS = [[7, 7], [1, 0]]


def test_every_batch_of_a_step_has_draws_of_its_own(prepared):
    source = batches(prepared, sampled=8, impressions=2, optimizer={"accumulation_steps": 2})
    drawn = [batch.sampled.rows.tobytes() for step in source.epoch(0) for batch in step]
    drawn += [batch.sampled.rows.tobytes() for step in source.epoch(1) for batch in step]
    assert len(set(drawn)) == len(drawn)
    one, other = (next(batches(prepared, sampled=8, seed=seed).epoch(0))[0] for seed in (0, 1))
    assert one.sampled.rows.tolist() != other.sampled.rows.tolist()


def test_columns_leave_the_positives_as_they_were(prepared):
    plain = all_batches(batches(prepared))
    rich = all_batches(batches(prepared, sampled=5, impressions=2, mask_known_positives=True))
    for one, other in zip(plain, rich, strict=True):
        assert one.candidate_rows.tobytes() == other.candidate_rows.tobytes()
        assert one.query_features["history"].tobytes() == other.query_features["history"].tobytes()
        assert one.sampled is one.impressions is one.known_positives is one.allowed is None


# ---------------------------------------------------------------- mined


def test_before_the_first_mining_all_columns_are_of_the_catalogue(prepared):
    source = batches(prepared, sampled=3, mined=MINED)
    before = [batch.sampled.rows.copy() for batch in all_batches(source)]
    assert before[0].shape == (3 + 2 * B,)
    source.set_mined(planted_mined())
    assert any((a != b.sampled.rows).any() for a, b in zip(before, all_batches(source), strict=True))
    source.set_mined(None)
    assert all((a == b.sampled.rows).all() for a, b in zip(before, all_batches(source), strict=True))


def test_mined_columns_belong_to_the_examples_in_turn(prepared):
    mined = planted_mined()
    source = batches(prepared, sampled=3, mined={**MINED, "per_example": 5})
    source.set_mined(mined)
    random = batches(prepared, sampled=3, mined={**MINED, "per_example": 5})
    hard, drawn, fallen_back = slice(3, 3 + 40), set(), 0
    for batch, plain in zip(all_batches(source), all_batches(random), strict=True):
        rows = batch.sampled.rows
        assert rows.shape == (3 + 5 * B,)
        outside = np.delete(np.arange(len(rows)), np.r_[hard])
        assert (rows[outside] == plain.sampled.rows[outside]).all()
        for column in range(40):
            query = batch.query_rows[column % B]
            wanted = set(mined[query].tolist()) - {-1}
            if wanted:
                assert rows[3 + column] in wanted
                drawn.add((int(query), int(rows[3 + column])))
            else:
                assert rows[3 + column] == plain.sampled.rows[3 + column]
                fallen_back += 1
    assert fallen_back > 20
    train_queries = set(prepared.interactions.query_rows[prepared.train_positives].tolist())
    assert drawn == {(q, int(c)) for q in train_queries for c in mined[q] if c >= 0}


def test_without_mining_configured_mined_negatives_change_nothing(prepared):
    source, plain = (batches(prepared, sampled=4) for _ in range(2))
    source.set_mined(planted_mined())
    for one, other in zip(all_batches(source), all_batches(plain), strict=True):
        assert one.sampled.rows.tobytes() == other.sampled.rows.tobytes()
        assert one.log_q.tobytes() == other.log_q.tobytes()


@pytest.mark.parametrize("wrong", [np.full((29, 2), 0), np.full((30, 2), 20), np.full((30, 2), -2), np.zeros(30)])
def test_mined_negatives_of_another_run_are_our_own_fault(prepared, wrong):
    with pytest.raises(AssertionError):
        batches(prepared, mined=MINED).set_mined(wrong.astype(np.int32))


# ---------------------------------------------------------------- impressions and masks


def test_impressions_are_the_querys_own_and_never_its_positives(prepared):
    rows, train = prepared.interactions, prepared.split.train
    shown = {query: [] for query in range(30)}
    for place in train[~rows.positive[train]]:
        if not prepared.known_positives()[rows.query_rows[place], rows.candidate_rows[place]]:
            shown[int(rows.query_rows[place])].append(int(rows.candidate_rows[place]))
    catalogue, seen = prepared.candidate_features(), {query: set() for query in range(30)}
    for batch in all_batches(batches(prepared, impressions=3), 10):
        given = batch.impressions
        assert given.rows.shape == given.allowed.shape == given.log_q.shape == (B, 3)
        assert (given.rows.dtype, given.allowed.dtype, given.log_q.dtype) == (np.int32, np.bool_, np.float32)
        for query, line, allowed in zip(batch.query_rows.tolist(), given.rows.tolist(), given.allowed, strict=True):
            assert allowed.tolist() == [bool(shown[query])] * 3
            seen[query] |= set(line) if shown[query] else set()
        assert (given.rows == batch.candidate_rows[:, None])[~given.allowed].all()
        for name, values in catalogue.items():
            assert (given.features[name] == values[given.rows.reshape(-1)]).all()
    assert seen == {query: set(line) for query, line in shown.items()}


def test_a_query_without_impressions_has_none_allowed():
    raw = planted_raw(num_queries=200, num_candidates=50)
    config = planted_config(positives=SOME_POSITIVE, negatives={"impressions": 2})
    allowed = np.concatenate(
        [batch.impressions.allowed for (batch,) in TrainingBatches(prepare_raw(raw, config), config).epoch(0)]
    )
    assert 0.05 < (~allowed).mean() < 0.5
    assert (allowed[:, 0] == allowed[:, 1]).all()


def test_known_positives_are_those_of_each_row(prepared):
    matrix = prepared.known_positives()
    for batch in all_batches(batches(prepared, mask_known_positives=True)):
        known = batch.known_positives
        assert (known.places.dtype, known.rows.dtype) == (np.int32, np.int32)
        assert (np.diff(known.places) >= 0).all()
        for place, query in enumerate(batch.query_rows):
            mine = known.rows[known.places == place]
            assert sorted(mine.tolist()) == matrix[query].indices.tolist()
            assert batch.candidate_rows[place] in mine


def met_earlier(prepared, query, train_row):
    """Candidates of the query's train positives before the moment of one of them."""
    rows, train = prepared.interactions, prepared.train_positives
    earlier = (rows.query_rows[train] == query) & (rows.times[train] < rows.times[train[train_row]])
    return np.unique(rows.candidate_rows[train[earlier]]).tolist()


def test_earlier_positives_are_those_before_each_train_positive(prepared):
    lists, counts = earlier_positives(prepared)
    rows, repeats = prepared.interactions, 0
    for train_row, place in enumerate(prepared.train_positives):
        query = rows.query_rows[place]
        _, mine = lists.pairs(np.array([query]), counts[[train_row]])
        assert sorted(mine.tolist()) == met_earlier(prepared, query, train_row)
        repeats += rows.candidate_rows[place] in mine
    assert repeats, "another seed is needed: a candidate met again counts once, from the first time"


def test_a_batch_masks_what_was_met_earlier(prepared):
    rows, train = prepared.interactions, prepared.train_positives
    source = batches(prepared, mask_known_positives=True, known_positives="earlier")
    places, unlike = {}, 0
    for train_row, place in enumerate(train):
        places.setdefault((int(rows.query_rows[place]), int(rows.candidate_rows[place])), []).append(train_row)
    for batch in all_batches(source):
        known = batch.known_positives
        assert (np.diff(known.places) >= 0).all()
        for row, pair in enumerate(zip(batch.query_rows.tolist(), batch.candidate_rows.tolist(), strict=True)):
            mine = sorted(known.rows[known.places == row].tolist())
            assert mine in [met_earlier(prepared, pair[0], train_row) for train_row in places[pair]]
            unlike += mine != prepared.known_positives()[pair[0]].indices.tolist()
    assert unlike > B, "nearly every row masks less than with all of them"


def test_allowed_are_candidates_met_by_the_examples_time(prepared):
    rows, train = prepared.interactions, prepared.split.train
    config = planted_config(
        positives={**SOME_POSITIVE, "weight_column": "weight"}, negatives={"mask_not_yet_seen": True, "sampled": 6}
    )
    weighted = prepare_raw(planted_raw(), config)
    time_of = {float(weighted.interactions.weights[place]): rows.times[place] for place in train}
    hidden = 0
    for (batch,) in TrainingBatches(weighted, config).epoch(0):
        assert batch.allowed.shape == (B, B + 6) and batch.allowed.dtype == np.bool_
        assert batch.allowed[np.arange(B), np.arange(B)].all()
        columns = [*batch.candidate_rows.tolist(), *batch.sampled.rows.tolist()]
        for place, weight in enumerate(batch.weights.tolist()):
            met = set(rows.candidate_rows[train[rows.times[train] <= time_of[weight]]].tolist())
            assert batch.allowed[place].tolist() == [column in met for column in columns]
        hidden += (~batch.allowed).sum()
    assert hidden > 10


def test_a_query_that_knows_every_candidate_has_only_its_positives_left():
    table = planted_raw().interactions
    everything = {"query_id": ["q0"] * 20, "candidate_id": [f"c{row}" for row in range(20)]}
    rest = {name: table[name].slice(0, 20) for name in table.column_names if name not in everything}
    more = pa.table({**everything, **rest}).select(table.column_names)
    raw = replace(planted_raw(), interactions=pa.concat_tables([table, more]))
    split = {"kind": "random", "validation_fraction": 0.0, "test_fraction": 0.01}
    config = planted_config(split=split, negatives={"mask_known_positives": True, "sampled": 40, "mined": MINED})
    prepared = prepare_raw(raw, config)
    query = prepared.query_rows_of(["q0"])[0]
    assert prepared.known_positives()[query].nnz == 20, "another seed is needed"
    source, met = TrainingBatches(prepared, config), 0
    source.set_mined(np.where(np.arange(30)[:, None] == query, np.int32(-1), planted_mined()))
    for batch in all_batches(source):
        for place in np.flatnonzero(batch.query_rows == query):
            mine = batch.known_positives.rows[batch.known_positives.places == place]
            assert sorted(mine.tolist()) == list(range(20))
            met += 1
        assert np.isfinite(batch.log_q).all() and np.isfinite(batch.sampled.log_q).all()
    assert met > 10


# ---------------------------------------------------------------- log_q


SOURCES = {
    "sampled": {"sampled": 8},
    "popular": {"sampled": 8, "sampled_from": "popularity"},
    "mined": {"mined": {**MINED, "per_example": 1}},
    "popular and mined": {"sampled": 3, "sampled_from": "popularity", "mined": MINED},
    "impressions": {"impressions": 6},
    "all": {"sampled": 8, "mined": MINED, "impressions": 6},
}


def met_columns(source, num_epochs):
    """How often each candidate stands in a column that counts for a row, over all rows [N], and the rows."""
    counts, num_rows = np.zeros(20), 0
    for batch in all_batches(source, num_epochs):
        counts += B * np.bincount(batch.candidate_rows, minlength=20)
        if batch.sampled is not None:
            counts += B * np.bincount(batch.sampled.rows, minlength=20)
        if batch.impressions is not None:
            counts += np.bincount(batch.impressions.rows[batch.impressions.allowed], minlength=20)
        num_rows += B
    return counts, num_rows


def log_q_of(source):
    """log_q of each candidate that a few epochs bring, by whatever column, as one number."""
    found = np.full(20, np.nan, np.float32)
    for batch in all_batches(source, 3):
        parts = [(batch.candidate_rows, batch.log_q)]
        if batch.sampled is not None:
            parts.append((batch.sampled.rows, batch.sampled.log_q))
        if batch.impressions is not None:
            parts.append((batch.impressions.rows, batch.impressions.log_q))
        for rows, log_q in parts:
            assert ((found[rows] == log_q) | np.isnan(found[rows])).all(), "a candidate with two corrections"
            found[rows] = log_q
    assert np.isfinite(found).all()
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_log_q_is_the_share_of_columns_that_hold_a_candidate(prepared, name):
    source = batches(prepared, **SOURCES[name])
    source.set_mined(planted_mined())
    counts, num_rows = met_columns(source, 60)
    settings = SOURCES[name]
    width = B + settings.get("sampled", 0) + settings.get("mined", {}).get("per_example", 0) * B
    share = counts / num_rows / (width + settings.get("impressions", 0))
    expected = np.exp(log_q_of(source).astype(np.float64))
    np.testing.assert_allclose(share, expected, rtol=0.06)
    if name != "popular":
        wrong = np.exp(exact_log_q(prepared.candidate_counts()).astype(np.float64))
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(share, wrong, rtol=0.06)


def test_the_correction_changes_when_there_is_something_mined(prepared):
    source = batches(prepared, mined=MINED)
    before = log_q_of(source)
    counts = prepared.candidate_counts()
    np.testing.assert_allclose(np.exp(before), (B * counts / counts.sum() + 2 * B / 20) / (3 * B), rtol=1e-6)
    source.set_mined(planted_mined())
    assert np.abs(log_q_of(source) - before).max() > 0.05
    source.set_mined(None)
    assert (log_q_of(source) == before).all()


def test_by_hand_a_mined_candidate_counts_by_the_examples_of_its_queries(prepared):
    mined = np.full((30, 3), -1, np.int32)
    mined[4] = [7, 2, 7]
    source = batches(prepared, mined={**MINED, "hard_fraction": 1.0})
    source.set_mined(mined)
    counts, queries = prepared.candidate_counts(), prepared.interactions.query_rows[prepared.train_positives]
    own = (queries == 4).mean()
    hard = (1 - own) / 20 + own * np.array([{7: 2 / 3, 2: 1 / 3}.get(row, 0) for row in range(20)])
    np.testing.assert_allclose(np.exp(log_q_of(source)), (counts / counts.sum() + 2 * hard) / 3, rtol=1e-6)


@pytest.mark.parametrize("log_q", ["exact", "refined"])
def test_without_other_sources_the_correction_is_exact_to_the_bit(prepared, log_q):
    source = batches(prepared, loss={"log_q": log_q}, mask_known_positives=True, bank={"num_batches": 2})
    exact = exact_log_q(prepared.candidate_counts())
    for batch in all_batches(source):
        assert batch.log_q.tobytes() == exact[batch.candidate_rows].tobytes()


def test_the_refined_loss_is_given_the_mixtures_correction(prepared):
    refined, exact = (
        log_q_of(batches(prepared, loss={"log_q": log_q}, **SOURCES["sampled"])) for log_q in ("refined", "exact")
    )
    assert (refined == exact).all()


def test_no_correction_is_zero_everywhere(prepared):
    source = batches(prepared, loss={"log_q": "none"}, **SOURCES["all"])
    source.set_mined(planted_mined())
    assert not log_q_of(source).any()


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize("name", SOURCES)
def test_a_candidate_of_count_zero_is_finite_wherever_it_is_drawn(name):
    raw = planted_raw(num_candidates=200, num_rows=300)
    settings = SOURCES[name]
    config = planted_config(positives=SOME_POSITIVE, negatives=settings)
    prepared = prepare_raw(raw, config)
    cold = prepared.candidate_counts() == 0
    assert cold.any()
    source = TrainingBatches(prepared, config)
    met = 0
    for mined in (None, planted_mined(num_candidates=200, width=9)):
        source.set_mined(mined)
        for batch in all_batches(source, 3):
            for part in (batch, batch.sampled, batch.impressions):
                if part is not None:
                    assert np.isfinite(part.log_q).all() and (part.log_q < 0).all()
            if batch.sampled is not None:
                met += cold[batch.sampled.rows].sum()
            if batch.impressions is not None:
                met += cold[batch.impressions.rows].sum()
    assert (met > 0) == (name != "popular")


def test_a_catalogue_of_two_candidates():
    # Each query takes one candidate and is shown the other; the test rows come last.
    pairs = [(query, candidate) for _ in range(6) for query in range(4) for candidate in range(2)]
    interactions = {
        "query_id": [f"q{query}" for query, _ in pairs],
        "candidate_id": [f"c{candidate}" for _, candidate in pairs],
        "time": list(range(len(pairs))),
        "rating": [5.0 if query % 2 == candidate else 1.0 for query, candidate in pairs],
    }
    raw = replace(planted_raw(num_queries=4, num_candidates=2), interactions=pa.table(interactions))
    ids = [Tower(features=(IdFeature(name=name),)) for name in ("query_id", "candidate_id")]
    mined = {"per_example": 2, "first_rank": 1, "last_rank": 1}
    config = planted_config(
        query=ids[0],
        candidate=ids[1],
        positives=SOME_POSITIVE,
        negatives={"sampled": 5, "impressions": 2, "mined": mined, "mask_known_positives": True, "hardest": 3},
        training={"batch_size": 2},
    )
    source = TrainingBatches(prepare_raw(raw, config), config)
    source.set_mined(np.array([[1], [0], [-1], [0]], np.int32))
    for batch in all_batches(source):
        assert batch.sampled.rows.shape == (9,) and set(batch.sampled.rows.tolist()) <= {0, 1}
        assert batch.impressions.allowed.all()
        assert (batch.impressions.rows == 1 - batch.candidate_rows[:, None]).all()
        assert batch.known_positives.rows.tolist() == batch.candidate_rows.tolist()
        assert np.isfinite(batch.log_q).all() and np.isfinite(batch.sampled.log_q).all()
