from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import GruPooling, HistoryFeature, IdFeature, MultivalentFeature, Tower
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.batches_test import arrays_of, digest
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.data.shards import shard
from retrieval_contract.errors import UserError

LENGTH = 4


def sequence_config(*, history=None, training=None, **rooms):
    query = Tower(
        features=(HistoryFeature(name="past", width=8, max_length=LENGTH, pooling=GruPooling(), **(history or {})),)
    )
    rooms = {"query": query, "positives": {"weight_column": "weight"}, **rooms}
    return planted_config(**rooms, training={"batch_size": 5, "positions": "all", **(training or {})})


def sequences(raw=None, **rooms):
    config = sequence_config(**rooms)
    return TrainingBatches(prepare_raw(raw or planted_raw(), config), config)


def brute_force(prepared):
    """Each query's inputs and targets, from the definition: [(inputs, [(place, train positive)])] by query row."""
    rows, found = prepared.interactions, {}
    for query in range(len(prepared.queries.ids)):
        mine = [int(place) for place in prepared.train_positives if rows.query_rows[place] == query]
        mine = sorted(mine, key=lambda place: (rows.times[place], place))[-LENGTH - 1 :]
        targets = [
            (at, mine[at + 1]) for at in range(len(mine) - 1) if rows.times[mine[at]] != rows.times[mine[at + 1]]
        ]
        if targets:
            found[query] = mine[:-1], targets
    return found


def check_batches(prepared, made):
    """Compare every batch with the definition; says how many sequences and places were met."""
    wanted, rows = brute_force(prepared), prepared.interactions
    vocabulary = prepared.candidate_features()["candidate_id"]
    met, num_places = [], 0
    for batch in made:
        longest = batch.query_features["past"].shape[1]
        by_sequence = {}
        for place, query in zip(batch.places.tolist(), batch.query_rows.tolist(), strict=True):
            assert by_sequence.setdefault(place // longest, query) == query
        assert sorted(by_sequence) == list(range(len(batch.query_features["past"])))
        assert longest == max(len(wanted[query][0]) for query in by_sequence.values())
        expected_places, expected_rows = [], []
        for sequence, query in sorted(by_sequence.items()):
            inputs, targets = wanted[query]
            line = batch.query_features["past"][sequence].tolist()
            assert line == [int(vocabulary[rows.candidate_rows[at]]) for at in inputs] + [0] * (longest - len(inputs))
            expected_places += [sequence * longest + at for at, _ in targets]
            expected_rows += [row for _, row in targets]
            met.append(query)
        assert batch.places.tolist() == expected_places
        assert batch.candidate_rows.tolist() == rows.candidate_rows[expected_rows].tolist()
        assert batch.weights.tolist() == rows.weights[expected_rows].tolist()
        assert (batch.candidate_features["candidate_id"] == vocabulary[batch.candidate_rows]).all()
        num_places += len(expected_rows)
    return met, num_places


def uneven_raw(seed=0):
    """Queries with 0 to 12 rows, many in one moment: some are shorter than L, some longer, some are no examples."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 13, size=40)
    queries = np.repeat(np.arange(40), lengths)
    num = len(queries)
    columns = {
        "query_id": [f"q{row}" for row in queries],
        "candidate_id": [f"c{row}" for row in draw.integers(20, size=num)],
        "time": 1_000_000_000 + draw.integers(5, size=num),
        "weight": draw.random(num) + 0.5,
        "rating": draw.integers(1, 6, size=num).astype(np.float64),
    }
    order = draw.permutation(num)
    table = pa.table({name: np.array(values)[order] for name, values in columns.items()})
    return replace(planted_raw(num_queries=40), interactions=table)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sort_by_length", [None, 1, 2, 100])
def test_batches_are_the_definitions(seed, sort_by_length):
    config = sequence_config(training={"sort_by_length": sort_by_length})
    prepared = prepare_raw(uneven_raw(seed), config)
    made = TrainingBatches(prepared, config)
    wanted = brute_force(prepared)
    assert len(wanted) < len(np.unique(prepared.interactions.query_rows[prepared.train_positives])), "no query is left"
    assert made.num_examples == len(wanted)
    assert made.steps_per_epoch == len(wanted) // 5
    for epoch in range(2):
        met, num_places = check_batches(prepared, [batch for (batch,) in made.epoch(epoch)])
        assert len(set(met)) == len(met) == 5 * made.steps_per_epoch
        assert num_places < sum(len(wanted[query][0]) for query in met), "no target shares a moment"


def test_the_check_notices_a_target_of_the_items_own_moment():
    config = sequence_config()
    prepared = prepare_raw(uneven_raw(), config)
    made = TrainingBatches(prepared, config)
    made._sequences._is_target_T = np.ones_like(made._sequences._is_target_T)
    with pytest.raises(AssertionError):
        check_batches(prepared, [batch for (batch,) in made.epoch(0)])


def test_shapes_and_types():
    (batch,) = next(sequences().epoch(0))
    named = arrays_of(batch)
    num = len(batch.places)
    assert named["places"].dtype == np.int32 and named["query.past"].shape == (5, LENGTH)
    assert named["query.past"].dtype == np.int32
    assert num <= 5 * LENGTH
    assert all(len(values) == num for name, values in named.items() if not name.startswith("query."))


def test_fields_follow_the_items():
    config = sequence_config(history={"fields": ("genres", "year")})
    prepared = prepare_raw(uneven_raw(), config)
    wanted, rows, catalogue = brute_force(prepared), prepared.interactions, prepared.candidate_features()
    for (batch,) in TrainingBatches(prepared, config).epoch(0):
        longest = batch.query_features["past"].shape[1]
        for place, query in zip(batch.places.tolist(), batch.query_rows.tolist(), strict=True):
            inputs, _ = wanted[query]
            for name in ("genres", "year"):
                line = batch.query_features[f"past.{name}"][place // longest]
                assert (line[: len(inputs)] == catalogue[name][rows.candidate_rows[inputs]]).all()
                assert not line[len(inputs) :].any()


def test_sorting_by_length_pads_less_and_keeps_the_examples():
    def padding(sort_by_length):
        steps = [batch for (batch,) in sequences(uneven_raw(2), training={"sort_by_length": sort_by_length}).epoch(3)]
        return sum((batch.query_features["past"] == 0).sum() for batch in steps), {
            int(query) for batch in steps for query in batch.query_rows
        }

    (plain, same), (sorted_, others) = padding(None), padding(100)
    assert sorted_ < plain
    assert same == others


def test_batches_of_one_length_do_not_come_in_order_of_length():
    made = sequences(planted_raw(num_rows=900, num_queries=300), training={"sort_by_length": 1000})
    longest = [batch.query_features["past"].shape[1] for (batch,) in made.epoch(0)]
    assert len(set(longest)) > 1
    assert longest != sorted(longest)


@pytest.mark.parametrize("start_step", [0, 1, 3])
def test_an_epoch_entered_late_goes_on_exactly(start_step):
    def source():
        negatives = {
            "mask_known_positives": True,
            "mask_not_yet_seen": True,
            "sampled": 5,
            "impressions": 2,
            "mined": {"per_example": 2, "hard_fraction": 0.5, "first_rank": 1, "last_rank": 3},
        }
        made = sequences(
            candidate=Tower(features=(IdFeature(name="candidate_id", width=8, unknown_rate=0.3),)),
            positives={"rule": "rating_at_least", "rating_at_least": 2.0, "weight_column": "weight"},
            negatives=negatives,
            training={"sort_by_length": 2},
            optimizer={"accumulation_steps": 2},
        )
        made.set_mined(np.arange(90, dtype=np.int32).reshape(30, 3) % 20)
        return made

    whole = list(source().epoch(1))
    assert len(whole) == 3
    assert {"sampled.rows", "impressions.allowed", "known_positives.places", "allowed"} < arrays_of(whole[0][0]).keys()
    assert digest(source().epoch(1, start_step=start_step)) == digest(whole[start_step:])
    assert digest(source().epoch(2)) != digest(whole)


def test_known_positives_and_masks_have_a_row_for_each_place():
    made = sequences(negatives={"mask_known_positives": True, "mask_not_yet_seen": True, "sampled": 3})
    known = made._prepared.known_positives()
    for (batch,) in made.epoch(0):
        num = len(batch.places)
        assert batch.allowed.shape == (num, num + 3) and batch.allowed[np.arange(num), np.arange(num)].all()
        for row, query in enumerate(batch.query_rows):
            mine = batch.known_positives.rows[batch.known_positives.places == row]
            assert sorted(mine.tolist()) == known[query].indices.tolist()


def test_earlier_positives_are_those_before_each_place():
    made = sequences(negatives={"mask_known_positives": True, "known_positives": "earlier"})
    rows, train = made._prepared.interactions, made._prepared.train_positives
    for (batch,) in made.epoch(0):
        for row, query in enumerate(batch.query_rows):
            mine = set(batch.known_positives.rows[batch.known_positives.places == row].tolist())
            own = train[rows.query_rows[train] == query]
            times = rows.times[own[rows.candidate_rows[own] == batch.candidate_rows[row]]]
            assert mine in [set(rows.candidate_rows[own[rows.times[own] < time]].tolist()) for time in times]


def columns_met(made, num_epochs):
    """Share of a row's columns that hold each candidate [N], over all rows, and what the batches subtract."""
    counts, num_columns, found = np.zeros(20), 0, np.full(20, -np.inf)
    for epoch in range(num_epochs):
        for (batch,) in made.epoch(epoch):
            columns = batch.candidate_rows if batch.sampled is None else np.r_[batch.candidate_rows, batch.sampled.rows]
            counts += np.bincount(columns, minlength=20)
            num_columns += len(columns)
            found[batch.candidate_rows] = batch.log_q
    return counts / num_columns, np.exp(found)


@pytest.mark.parametrize("sampled", [0, 30])
def test_log_q_is_the_share_of_what_is_predicted(sampled):
    # Batches of all examples, so that nothing is left out and all have one size.
    made = sequences(uneven_raw(1), training={"batch_size": 1000}, negatives={"sampled": sampled})
    share, corrected = columns_met(made, 400 if sampled else 1)
    met = corrected > 0
    assert met.sum() > 15
    np.testing.assert_allclose(corrected[met], share[met], rtol=0.1 if sampled else 1e-5)
    counts = made._prepared.candidate_counts()
    if not sampled:
        assert np.abs(counts / counts.sum() - share).max() > 0.005, "all train positives would do as well"


def test_the_mixture_counts_the_batchs_own_number_of_rows():
    made = sequences(uneven_raw(1), negatives={"sampled": 10})
    counts = np.bincount(
        made._prepared.interactions.candidate_rows[made._prepared.train_positives[made._sequences.targets]],
        minlength=20,
    )
    sizes = set()
    for (batch,) in made.epoch(0):
        num = len(batch.places)
        sizes.add(num)
        expected = (num * counts / counts.sum() + 10 / 20) / (num + 10)
        np.testing.assert_allclose(np.exp(batch.log_q), expected[batch.candidate_rows], rtol=1e-6)
        np.testing.assert_allclose(np.exp(batch.sampled.log_q), expected[batch.sampled.rows], rtol=1e-6)
    assert len(sizes) > 1


def test_shards_are_refused():
    (batch,) = next(sequences().epoch(0))
    with pytest.raises(UserError, match=r"sequences with \d+ places cannot be divided among 5 replicas"):
        shard(batch, 0, 5)


def test_fewer_sequences_than_a_batch_make_one_batch_and_a_note():
    made = sequences(training={"batch_size": 1000})
    assert (made.num_examples, made.batch_size, made.steps_per_epoch) == (30, 30, 1)
    assert made.notes == ("batch size 1,000 lowered to 30, the sequences there are",)


def test_queries_of_one_moment_are_refused():
    raw, split = planted_raw(num_moments=1), {"kind": "random"}
    with pytest.raises(UserError, match="none of 30 queries has two train positives of different moments"):
        sequences(raw, split=split)


@pytest.mark.parametrize(
    ("rooms", "message"),
    [
        ({"history": {"age_buckets": 3}}, "'past' has age_buckets=3"),
        ({"negatives": {"bank": {"num_batches": 1}}}, "bank.num_batches=1 keeps"),
    ],
)
def test_what_means_one_row_a_query_is_refused(rooms, message):
    with pytest.raises(UserError, match=message):
        sequences(**rooms)


def test_no_later_row_changes_what_a_place_is_shown():
    """The inputs up to each place, and its target, are the same whatever comes after the target."""
    config = sequence_config(
        candidate=Tower(features=(IdFeature(name="candidate_id"), MultivalentFeature(name="genres")))
    )
    prepared = prepare_raw(uneven_raw(), config)
    rows = prepared.interactions
    for (batch,) in TrainingBatches(prepared, config).epoch(0):
        longest = batch.query_features["past"].shape[1]
        wanted = brute_force(prepared)
        for place, query in zip(batch.places.tolist(), batch.query_rows.tolist(), strict=True):
            inputs, targets = wanted[query]
            at = place % longest
            target = dict(targets)[at]
            assert max(rows.times[inputs[: at + 1]]) < rows.times[target]
