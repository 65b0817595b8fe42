from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.arrays import TopK
from retrieval_contract.indexes import routes
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.live import LiveIndex
from retrieval_contract.indexes.live_conformance import LiveConformance, Pair
from retrieval_contract.indexes.protocol import Index


class ShortIndex(Index):
    """Proposes by the first numbers of a vector alone, and cannot change."""

    backend: ClassVar[str] = "exact"
    masks: ClassVar[bool] = False

    def _build(self, values_ND):
        self._short = values_ND[:, :20].copy()

    def _propose(self, queries_BD, depth, allowed_N):
        scores_BN = queries_BD[:, :20] @ self._short.T
        rows_BM = np.argpartition(-scores_BN, depth, axis=1)[:, : 2 * depth].astype(np.int32)
        return TopK(rows=rows_BM, scores=np.take_along_axis(scores_BN, rows_BM, axis=1))

    def _append(self, values_MD):
        return False

    def _forget(self, rows_M):
        return False

    def _structure_bytes(self):
        return self._short.nbytes

    def _save(self, folder):
        np.save(folder / "short.npy", self._short)

    def _load(self, folder):
        self._short = np.load(folder / "short.npy")

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {}


@final
class DeafIndex(ShortIndex):
    """Says that it has taken more rows in, and never proposes them."""

    def _append(self, values_MD):
        return True

    def _forget(self, rows_M):
        return True


class TestExact(LiveConformance):
    index_class = ExactIndex
    settings = config.Index()


class TestWhatCannotChange(LiveConformance):
    index_class = ShortIndex
    settings = config.Index()
    least_recall = 0.7
    rebalances = ("compacted",)


def test_the_churn_notices_a_structure_that_overlooks_what_is_new(tmp_path, monkeypatch):
    conformance = LiveConformance()
    conformance.index_class, conformance.settings, conformance.least_recall = DeafIndex, config.Index(), 0.7
    monkeypatch.setattr(LiveIndex, "_still_finds", lambda *_: True)
    pair = Pair(tmp_path / "index", DeafIndex, config.Index(), conformance.num_candidates)
    with pytest.raises(AssertionError, match="in the big index"):
        conformance.test_recall_is_kept_through_churn(pair, monkeypatch)


@pytest.mark.parametrize("asked", [False, True])
def test_so_does_rebalance_which_builds_anew_then(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(routes, "FEW", 0)
    pair = Pair(tmp_path / "index", DeafIndex, config.Index(), 4_000)
    if asked:
        pair.search(10)
    pair.add(400)
    assert pair.live.rebalance() == "compacted"
    pair.remove(1)
    assert pair.live.rebalance() == "rebalanced"
