"""Shards put one behind the other are the batch, and each is a batch of its own that counts from 0."""

from dataclasses import fields, replace

import numpy as np
import pytest

from retrieval_contract.arrays import KnownPositives
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.data.shards import shard
from retrieval_contract.errors import UserError

EVERYTHING = {
    "mask_known_positives": True,
    "mask_not_yet_seen": True,
    "sampled": 7,
    "impressions": 3,
    "mined": {"per_example": 1, "first_rank": 1, "last_rank": 5},
}


def batch_of(**rooms):
    config = planted_config(positives={"rule": "rating_at_least", "rating_at_least": 3.0}, **rooms)
    return next(TrainingBatches(prepare_raw(planted_raw(), config), config).epoch(0))[0]


@pytest.fixture(scope="module")
def batch():
    return batch_of(negatives=EVERYTHING)


def joined(first, second, size):
    """Two batches, or parts of such, put one behind the other; what replicas share is compared."""
    if first is None:
        assert second is None
        return None
    if isinstance(first, dict):
        return {name: np.concatenate([first[name], second[name]]) for name in first}
    if isinstance(first, np.ndarray):
        return np.concatenate([first, second])
    if isinstance(first, KnownPositives):
        places = np.concatenate([first.places, second.places + np.int32(size)])
        return KnownPositives(places=places, rows=np.concatenate([first.rows, second.rows]))
    parts = {field.name: (getattr(first, field.name), getattr(second, field.name)) for field in fields(first)}
    if "sampled" in parts:
        assert_same(*parts["sampled"])
    return replace(first, **{name: a if name == "sampled" else joined(a, b, size) for name, (a, b) in parts.items()})


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert (first.dtype, first.shape, first.tobytes()) == (second.dtype, second.shape, second.tobytes())
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif first is not None:
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))


@pytest.mark.parametrize("num_replicas", [1, 2, 4, 16])
def test_shards_joined_again_are_the_batch(batch, num_replicas):
    shards = [shard(batch, replica, num_replicas) for replica in range(num_replicas)]
    whole = shards[0]
    for number, part in enumerate(shards[1:], start=1):
        whole = joined(whole, part, number * 16 // num_replicas)
    assert_same(whole, batch)


def test_shards_of_a_plain_batch():
    plain = batch_of()
    assert plain.sampled is plain.impressions is plain.known_positives is plain.allowed is None
    assert_same(joined(shard(plain, 0, 2), shard(plain, 1, 2), 8), plain)


def test_the_test_notices_a_shard_that_is_not_its_own(batch):
    with pytest.raises(AssertionError):
        assert_same(joined(shard(batch, 0, 2), shard(batch, 0, 2), 8), batch)


def test_a_shard_counts_from_its_own_first_row(batch):
    part = shard(batch, 1, 2)
    for place in range(8):
        mine = part.known_positives.rows[part.known_positives.places == place]
        assert mine.tolist() == batch.known_positives.rows[batch.known_positives.places == 8 + place].tolist()
        assert part.candidate_rows[place] in mine
    assert part.known_positives.places.dtype == np.int32
    assert part.allowed.shape == (8, 16 + 7 + 16), "columns of all replicas"
    assert part.impressions.rows.shape == (8, 3)
    ids = part.impressions.features["candidate_id"].reshape(8, 3)
    assert (ids == batch.impressions.features["candidate_id"].reshape(16, 3)[8:]).all()


def test_a_batch_that_cannot_be_divided_is_refused(batch):
    with pytest.raises(UserError, match=r"a batch of 16 cannot be divided evenly among 3 replicas.*batch_size"):
        shard(batch, 0, 3)


@pytest.mark.parametrize(("replica", "num_replicas"), [(2, 2), (-1, 2), (0, 0)])
def test_a_replica_that_there_is_not_is_our_own_fault(batch, replica, num_replicas):
    with pytest.raises(AssertionError):
        shard(batch, replica, num_replicas)
