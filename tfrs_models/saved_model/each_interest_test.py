import numpy as np
import pytest
import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.indexes.planted import clustered
from tfrs_models.indexes.partitioned_search import PartitionedSearch
from tfrs_models.saved_model.each_interest import EachInterest
from tfrs_models.saved_model.exact_search import ExactSearch

SIZE = 400
ALL = config.Index(partitioned_partitions=10, partitioned_searched=10, partitioned_rescore=SIZE)


@pytest.mark.parametrize("num_interests", [1, 3])
def test_where_all_partitions_are_searched_answers_are_exact(num_interests):
    values, queries = clustered(SIZE, 12)
    queries = tf.reshape(tf.constant(queries), [-1, num_interests, values.shape[1]])
    generator = np.random.default_rng(0)
    excluded = generator.integers(-1, SIZE, (len(queries), 30)).astype(np.int32)
    allowed = generator.random((len(queries), SIZE)) < 0.3
    search, exact = EachInterest(PartitionedSearch.from_vectors(values, ALL)), ExactSearch(values)
    for k, restricted in ((7, ()), (7, (excluded, allowed)), (200, (excluded, allowed))):
        found, expected = (x(queries, tf.constant(k), *map(tf.constant, restricted)) for x in (search, exact))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_max_ulp(np.nan_to_num(found[1].numpy()), np.nan_to_num(expected[1].numpy()), maxulp=1)
    assert search(queries[:0], tf.constant(5))[0].shape == (0, 5)
