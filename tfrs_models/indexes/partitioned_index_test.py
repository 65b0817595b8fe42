import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.conformance import IndexConformance
from retrieval_contract.indexes.planted import DIGEST, clustered, vectors_of
from tfrs_models.indexes.partitioned_index import PartitionedIndex, num_partitions, num_searched


def _settings(**more):
    return config.Index(backend="partitioned", **more)


class TestPartitioned(IndexConformance):
    index_class = PartitionedIndex
    settings = _settings()
    least_recall = 0.95
    least_recall_sift = 0.9


def test_partitions_follow_from_the_number_of_candidates_unless_given():
    sizes = (1, 9, 10_000, 200_000, 1_000_000)
    assert [num_partitions(_settings(), size) for size in sizes] == [1, 9, 400, 3_125, 8_000]
    assert num_partitions(_settings(partitioned_partitions=50), 30) == 30
    assert [num_searched(_settings(), partitions) for partitions in (1, 400, 4_000)] == [1, 20, 63]
    assert num_searched(_settings(partitioned_searched=7), 5) == 5


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_saved_in_any_storage_it_proposes_the_same(storage, tmp_path):
    values, queries = clustered(2_000, 5)
    index = PartitionedIndex.build(vectors_of(values), _settings(partitioned_storage=storage))
    index.save(tmp_path / "saved")
    loaded = PartitionedIndex.load(tmp_path / "saved")
    for own, other in zip(index._propose(queries, 30, None).rows, loaded._propose(queries, 30, None).rows, strict=True):
        assert set(own.tolist()) == set(other.tolist())
    np.testing.assert_array_equal(index._scan.blocks().codes, loaded._scan.blocks().codes)
    assert loaded._scan.blocks().codes.dtype.name == storage
    assert index.num_bytes == loaded.num_bytes > 4 * values.size


def test_another_number_of_searched_partitions_needs_no_other_structure():
    values, queries = clustered(6_000, 40)
    index = PartitionedIndex.build(vectors_of(values), _settings(partitioned_rescore=1))
    narrow = index.with_settings(_settings(partitioned_rescore=1, partitioned_searched=1))
    best = (queries @ values.T).argmax(axis=1)
    found = [(each._propose(queries, 1, None).rows[:, 0] == best).mean() for each in (narrow, index)]
    assert found[0] < found[1]


def test_what_is_forgotten_is_proposed_no_more_and_what_is_masked_is_not_proposed():
    values, queries = clustered(6_000, 4)
    index = PartitionedIndex.build(vectors_of(values), _settings())
    best = index.search(queries, 20, weights_digest=DIGEST).rows
    allowed = ~np.isin(np.arange(6_000), best[:, ::2])
    assert not np.isin(index._propose(queries, 20, allowed).rows, best[:, ::2]).any()
    assert index.forget(np.unique(best[:, ::2]).astype(np.int32))
    proposed = index._propose(queries, 20, None).rows
    assert not np.isin(proposed, best[:, ::2]).any() and np.isin(best[:, 1::2], proposed).mean() > 0.9


def test_few_axes_choose_nearly_as_all_do_and_scores_stay_exact():
    values, queries = clustered(6_000, 20, dim=32)
    flat = values @ np.diag(np.r_[np.ones(8), np.full(24, 0.05)]).astype(np.float32)
    settings = {"partitioned_searched": 40, "store": "float32"}
    each = [_settings(partitioned_variance=share, **settings) for share in (1, 0.95)]
    whole, few = (PartitionedIndex.build(vectors_of(flat), own) for own in each)
    assert few.num_bytes < whole.num_bytes - 16 * 6_000, "codes of 8 dimensions and not of 32"
    tops = [index.search(queries, 10, weights_digest=index.weights_digest) for index in (whole, few)]
    both = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(tops[0].rows, tops[1].rows, strict=True)]
    assert np.mean(both) > 9.5
    scores = np.take_along_axis(queries @ flat.T, tops[1].rows.astype(np.int64), 1)
    np.testing.assert_allclose(tops[1].scores, scores, rtol=1e-4)


def test_few_axes_need_vectors_to_score_by():
    values, _ = clustered(300, 1)
    with pytest.raises(UserError, match="partitioned_variance"):
        PartitionedIndex.build(vectors_of(values), _settings(partitioned_variance=0.9, store="none"))


def test_a_query_alone_is_proposed_what_it_is_proposed_among_others():
    values, queries = clustered(6_000, 5)
    index = PartitionedIndex.build(vectors_of(values), _settings())
    together = index._propose(queries, 30, None)
    for place in range(5):
        alone = index._propose(queries[place : place + 1], 30, None)
        assert set(alone.rows[0].tolist()) == set(together.rows[place].tolist())


def test_more_partitions_are_searched_where_the_best_ones_hold_too_few():
    values, queries = clustered(6_000, 1)
    index = PartitionedIndex.build(vectors_of(values), _settings())
    rows, _ = index._scan.some(queries[0], 1, 200)
    assert (rows.numpy() >= 0).sum() > index._scan.some(queries[0], 1, 1)[0].shape[0]
