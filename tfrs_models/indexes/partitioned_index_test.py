import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.indexes.conformance import IndexConformance
from retrieval_contract.indexes.planted import DIGEST, clustered, recall, vectors_of
from tfrs_models.indexes.partitioned_index import PartitionedIndex, num_partitions, num_searched


def _settings(**more):
    return config.Index(backend="partitioned", **more)


class TestPartitioned(IndexConformance):
    index_class = PartitionedIndex
    settings = _settings()
    least_recall = 0.95
    least_recall_sift = 0.9
