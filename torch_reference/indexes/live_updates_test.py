from retrieval_contract import config
from retrieval_contract.indexes.live_conformance import LiveConformance
from torch_reference.indexes.faiss_index import FaissIndex


class TestIvf(LiveConformance):
    index_class = FaissIndex
    settings = config.Index(backend="faiss", faiss_factory="IVF50,Flat", faiss_nprobe=20)
    least_recall = 0.9
    rebalances = ("rebalanced", "compacted")


class TestHnsw(LiveConformance):
    """What can grow and cannot forget: it goes on proposing what was removed."""

    index_class = FaissIndex
    settings = config.Index(backend="faiss", faiss_factory="HNSW16")
    least_recall = 0.95
    rebalances = ("rebalanced", "compacted")
