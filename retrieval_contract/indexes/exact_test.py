from retrieval_contract import config
from retrieval_contract.indexes.conformance import IndexConformance
from retrieval_contract.indexes.exact import ExactIndex


class TestExact(IndexConformance):
    index_class = ExactIndex
    settings = config.Index(backend="exact")
    proposes = False
