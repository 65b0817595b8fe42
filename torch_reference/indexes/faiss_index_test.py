from retrieval_contract import config
from retrieval_contract.indexes.conformance import IndexConformance
from torch_reference.indexes.faiss_index import FaissIndex


class TestFlat(IndexConformance):
    index_class = FaissIndex
    settings = config.Index(backend="faiss", faiss_factory="Flat")


class TestIvf(IndexConformance):
    index_class = FaissIndex
    settings = config.Index(backend="faiss", faiss_factory="IVF50,Flat", faiss_nprobe=16)
    smallest = 50


class TestHnsw(IndexConformance):
    index_class = FaissIndex
    settings = config.Index(backend="faiss", faiss_factory="HNSW16")


class TestIvfPq(IndexConformance):
    index_class = FaissIndex
    settings = config.Index(backend="faiss", faiss_factory="IVF20,PQ8", faiss_nprobe=10)
    smallest = 256
