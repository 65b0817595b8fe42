import numpy as np

from retrieval_contract import config
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.planted import DIGEST, clustered, vectors_of


def test_smoke(tmp_path):
    values, queries = clustered(1000, 5)
    ExactIndex.build(vectors_of(values), config.Index()).save(tmp_path / "i")
    live = LiveIndex.open(tmp_path / "i", ExactIndex)
    live.add(["a", "b"], queries[:2] * 3)
    assert live.size == 1002 and "a" in live
    found = live.search(queries, 3, weights_digest=DIGEST)
    assert found.ids[0][0] == "a"
    live.remove(["a"])
    live.update([live.ids[0]], queries[3:4] * 5)
    again = LiveIndex.open(tmp_path / "i", ExactIndex)
    assert again.search(queries, 3, weights_digest=DIGEST).ids == live.search(queries, 3, weights_digest=DIGEST).ids
    before = live.search(queries, 1001, weights_digest=DIGEST)
    assert live.rebalance() == "rebalanced"
    after = live.search(queries, 1001, weights_digest=DIGEST)
    assert before.ids == after.ids
    np.testing.assert_array_equal(before.scores, after.scores)
    live.add(["a"], queries[:1])
    live.compact()
    assert LiveIndex.open(tmp_path / "i", ExactIndex).ids == live.ids
    assert live.index.size == 1002
