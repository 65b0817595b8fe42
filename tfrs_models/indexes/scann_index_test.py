from retrieval_contract import config
from retrieval_contract.indexes.conformance import IndexConformance
from tfrs_models.indexes.scann_index import ScannIndex


class TestBruteForce(IndexConformance):
    index_class = ScannIndex
    settings = config.Index(backend="scann")


class TestTree(IndexConformance):
    index_class = ScannIndex
    settings = config.Index(backend="scann", scann_brute_force_below=1)
