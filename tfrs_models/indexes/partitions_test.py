import numpy as np
import pytest

from retrieval_contract.indexes.planted import clustered
from tfrs_models.indexes import partitions
from tfrs_models.indexes.partitions import ROWS_IN_BLOCK, laid_out, nearest, partition


def _members(parts):
    """Candidate rows of each partition, in the order they lie."""
    for first, last in zip(parts.starts[:-1], parts.starts[1:], strict=True):
        rows = parts.rows[first:last].ravel()
        yield rows[rows >= 0]


def _num_mixed(num_seeds):
    """Partitions that hold several of 12 planted clusters, of which one holds most; 24 are asked for, by each seed."""
    generator = np.random.default_rng(0)
    cluster = np.repeat(np.arange(12), [800] + [20] * 11)
    centres = 10 * generator.standard_normal((12, 8))
    values = (centres[cluster] + 0.01 * generator.standard_normal((len(cluster), 8))).astype(np.float32)
    found = [rows for seed in range(num_seeds) for rows in _members(partition(values, 24, seed))]
    return sum(len(set(cluster[rows].tolist())) > 1 for rows in found)


def test_planted_clusters_are_seldom_mixed(monkeypatch):
    assert _num_mixed(5) <= 5
    monkeypatch.setattr(partitions, "DOUBLINGS", 0)
    assert _num_mixed(5) >= 10, "drawn evenly, the first centres miss small clusters, and rounds do not mend that"


def test_every_candidate_lies_in_one_place_of_its_nearest_partition():
    values, _ = clustered(3_000, 1)
    parts = partition(values, 100)
    members = list(_members(parts))
    assert sorted(np.concatenate(members).tolist()) == list(range(3_000))
    assert all((np.diff(rows) > 0).all() for rows in members)
    for place, rows in enumerate(members):
        np.testing.assert_allclose(parts.centroids[place], values[rows].mean(axis=0), rtol=1e-4, atol=1e-5)
        spread = np.sqrt(((values[rows] - values[rows].mean(axis=0)) ** 2).mean())
        np.testing.assert_allclose(parts.spreads[place], spread, rtol=1e-4, atol=1e-6)
    # After the last assignment the means moved once more: nearly all are nearest to their own.
    of = np.empty(3_000, np.int32)
    for place, rows in enumerate(members):
        of[rows] = place
    assert (nearest(values, parts.centroids)[0] == of).mean() > 0.95


def test_the_same_seed_gives_the_same_partitions_and_another_gives_others():
    values, _ = clustered(2_000, 1)
    first, again, other = (partition(values, 40, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.centroids, again.centroids)
    assert first.rows.shape != other.rows.shape or (first.rows != other.rows).any()


@pytest.mark.parametrize(("size", "wanted"), [(1, 1), (2, 2), (17, 5), (100, 100)])
def test_few_candidates(size, wanted):
    values = np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32)
    parts = partition(values, wanted)
    assert sorted(np.concatenate(list(_members(parts))).tolist()) == list(range(size))
    assert 1 <= len(parts.centroids) <= wanted


def test_equal_candidates_share_a_partition_and_none_is_empty():
    values = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0)
    parts = partition(values, 20)
    assert [len(set((rows // 30).tolist())) for rows in _members(parts)] == [1] * 4
    constant = partition(np.ones((50, 4), np.float32), 7)
    assert len(constant.centroids) == 1 and constant.spreads == [0]


def test_partitions_are_runs_of_whole_blocks_filled_up_with_nothing():
    parts = laid_out(np.zeros((ROWS_IN_BLOCK + 4, 2), np.float32), np.array([7] * (ROWS_IN_BLOCK + 1) + [3] * 3))
    np.testing.assert_array_equal(parts.starts, [0, 1, 3])
    np.testing.assert_array_equal(parts.rows[0, :4], [ROWS_IN_BLOCK + 1, ROWS_IN_BLOCK + 2, ROWS_IN_BLOCK + 3, -1])
    np.testing.assert_array_equal(parts.rows[1], np.arange(ROWS_IN_BLOCK))
    np.testing.assert_array_equal(parts.rows[2, :2], [ROWS_IN_BLOCK, -1])


def test_nearest_is_the_same_in_small_chunks(monkeypatch):
    values, _ = clustered(500, 1)
    whole = nearest(values, values[:30])
    squares = ((values[:, None] - values[None, :30]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(whole[0], squares.argmin(axis=1))
    np.testing.assert_allclose(whole[1], squares.min(axis=1), rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(partitions, "CHUNK_BYTES", 4 * 30 * 7)
    np.testing.assert_array_equal(nearest(values, values[:30])[0], whole[0])
