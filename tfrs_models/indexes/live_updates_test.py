import pytest

from retrieval_contract import config
from retrieval_contract.indexes.live_conformance import LiveConformance
from tfrs_models.indexes.scann_index import ScannIndex, scann_available


@pytest.mark.skipif(not scann_available(), reason="the package scann exists for Linux only")
class TestScannTree(LiveConformance):
    index_class = ScannIndex
    settings = config.Index(backend="scann", scann_brute_force_below=1, scann_leaves_to_search=20)
    least_recall = 0.95
    rebalances = ("rebalanced", "compacted")
