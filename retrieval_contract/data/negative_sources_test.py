"""What the data has to offer, against loops over its rows; and settings that it cannot serve."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.negative_sources import first_train_times, impressions, known_positives
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.errors import UserError

SOME_POSITIVE = {"rule": "rating_at_least", "rating_at_least": 3.0}


@pytest.fixture(scope="module")
def prepared():
    return prepare_raw(planted_raw(), planted_config(positives=SOME_POSITIVE))


def train_rows(prepared):
    rows = prepared.interactions
    for place in prepared.split.train:
        yield int(rows.query_rows[place]), int(rows.candidate_rows[place]), bool(rows.positive[place])


def lists(grouped, num_queries=30):
    places, rows = grouped.pairs(np.arange(num_queries, dtype=np.int32))
    return [rows[places == query].tolist() for query in range(num_queries)]


def test_known_positives_are_distinct_and_of_train_rows_only(prepared):
    wanted = [set() for _ in range(30)]
    for query, candidate, positive in train_rows(prepared):
        if positive:
            wanted[query].add(candidate)
    assert lists(known_positives(prepared)) == [sorted(line) for line in wanted]


def test_impressions_are_shown_and_never_taken(prepared):
    taken = {(query, candidate) for query, candidate, positive in train_rows(prepared) if positive}
    wanted = [[] for _ in range(30)]
    repented = 0
    for query, candidate, positive in train_rows(prepared):
        if not positive and (query, candidate) not in taken:
            wanted[query].append(candidate)
        repented += not positive and (query, candidate) in taken
    assert lists(impressions(prepared)) == wanted
    assert repented > 10, "the data has no row that the known positives take out"


def test_first_train_times(prepared):
    rows, wanted = prepared.interactions, {}
    for place in prepared.split.train:
        candidate = int(rows.candidate_rows[place])
        wanted[candidate] = min(wanted.get(candidate, 2**62), int(rows.times[place]))
    first = first_train_times(prepared)
    assert first.tolist() == [wanted.get(candidate, 2**63 - 1) for candidate in range(20)]


def test_a_candidate_without_a_train_row_comes_first_never():
    prepared = prepare_raw(planted_raw(num_candidates=400), planted_config())
    unmet = prepared.seen().sum(axis=0) == 0
    assert unmet.any()
    assert (first_train_times(prepared)[np.asarray(unmet)[0]] == np.iinfo(np.int64).max).all()


# ---------------------------------------------------------------- what is refused


def batches(raw=None, **rooms):
    config = planted_config(**rooms)
    return TrainingBatches(prepare_raw(raw or planted_raw(), config), config)


def test_a_bank_larger_than_the_data_is_refused():
    # 480 train positives.
    assert batches(negatives={"bank": {"num_batches": 30}}).num_examples == 480
    with pytest.raises(UserError, match=r"a bank of 31 batches of 16 is larger than the data: 480 .*bank.num_batches"):
        batches(negatives={"bank": {"num_batches": 31}})
    with pytest.raises(UserError, match="a bank of 1 batches of 481"):
        batches(negatives={"bank": {"num_batches": 1}}, training={"batch_size": 481})


@pytest.mark.parametrize("taken_too", [False, True])
def test_impressions_without_any_are_refused(taken_too):
    raw = planted_raw()
    if taken_too:
        # Every row once as a positive and once not: all that was shown was taken as well.
        table = raw.interactions
        ratings = [table.set_column(3, "rating", pa.array([rating] * len(table))) for rating in (5.0, 1.0)]
        raw = replace(raw, interactions=pa.concat_tables(ratings))
    with pytest.raises(UserError, match=r"no impression among .* train rows.*negatives.impressions.*positives.rule"):
        batches(raw, negatives={"impressions": 2}, positives=SOME_POSITIVE if taken_too else {})


def test_ranks_that_the_catalogue_does_not_have_are_refused():
    mined = {"per_example": 5, "first_rank": 1}
    batches(negatives={"mined": {**mined, "last_rank": 19}})
    batches(negatives={"mined": {"per_example": 0, "last_rank": 20}})
    with pytest.raises(UserError, match=r"ranks 1 to 20 of a catalogue of 20 candidates.*mined.last_rank"):
        batches(negatives={"mined": {**mined, "last_rank": 20}})


def test_a_share_of_hard_negatives_that_rounds_to_none_is_refused():
    mined = {"per_example": 1, "first_rank": 1, "last_rank": 5}
    batches(negatives={"mined": {**mined, "hard_fraction": 0.04}})
    with pytest.raises(UserError, match=r"0.03 of 16 columns rounds to no mined one.*hard_fraction"):
        batches(negatives={"mined": {**mined, "hard_fraction": 0.03}})


def test_a_mask_by_time_needs_times_that_differ():
    raw = planted_raw(num_moments=1)
    split = {"kind": "random"}
    batches(raw, split=split)
    with pytest.raises(UserError, match=r"all 480 train rows have the same time.*negatives.mask_not_yet_seen"):
        batches(raw, split=split, negatives={"mask_not_yet_seen": True})


def test_a_mask_by_order_is_noted():
    raw = replace(planted_raw(), has_timestamps=False)
    source = batches(raw, split={"kind": "random"}, negatives={"mask_not_yet_seen": True})
    assert source.notes == (
        "negatives.mask_not_yet_seen compares the source's order of rows, across queries, instead of times",
    )
    assert batches(negatives={"mask_not_yet_seen": True}).notes == ()
