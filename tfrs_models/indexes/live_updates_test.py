import pytest

from retrieval_contract import config
from retrieval_contract.indexes.live_conformance import LiveConformance
from tfrs_models.indexes.partitioned_index import PartitionedIndex
from tfrs_models.indexes.scann_index import ScannIndex, scann_available

needs_scann = pytest.mark.skipif(not scann_available(), reason="the package scann exists for Linux only")
# Builds do not repeat: with 300 rescored most of 60 find 0.981 and some 1.0, further apart than what churn may cost;
# with so many all find 1.0.
TREE = config.Index(
    backend="scann",
    scann_brute_force_below=1,
    scann_hash_only_below=1,
    scann_leaves_to_search=16,
    scann_rescore=590,
    scann_soar=False,
)


@needs_scann
class TestScannTree(LiveConformance):
    index_class = ScannIndex
    settings = TREE
    least_recall = 0.95
    rebalances = ("rebalanced", "compacted")


@needs_scann
class TestScannSoar(LiveConformance):
    """What can grow and cannot forget: it goes on proposing what was removed."""

    index_class = ScannIndex
    settings = TREE.model_copy(update={"scann_soar": True})
    least_recall = 0.95
    rebalances = ("rebalanced", "compacted")


class TestPartitioned(LiveConformance):
    """What can forget and cannot grow."""

    index_class = PartitionedIndex
    settings = config.Index(backend="partitioned")
    num_candidates = 2_000
    least_recall = 0.95
    rebalances = ("compacted",)
