"""Every way of a search against sorting everything, with a structure that proposes the best and notes what is asked."""

import numpy as np
import pytest

from retrieval_contract.arrays import TopK
from retrieval_contract.indexes import routes
from retrieval_contract.indexes.excluded import Excluded
from retrieval_contract.indexes.planted import assert_same
from retrieval_contract.indexes.routes import Routes
from retrieval_contract.indexes.stored import StoredVectors

SIZE, DIM, K = 2_000, 8, 10
VALUES = np.random.default_rng(0).integers(-8, 9, (SIZE, DIM)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((6, DIM)).astype(np.float32)
SHARES = {"all": None, "most": 0.9, "half": 0.4, "few": 0.02, "fewer than k": 0.003, "none": 0.0}
NOTHING = Excluded.from_rows(None, num_queries=6, size=SIZE)


def _allowed(share):
    return None if share is None else np.random.default_rng(2).random(SIZE) < share


def _truth(allowed, excluded):
    scores = np.einsum("bd,nd->bn", QUERIES.astype(np.float64), VALUES.astype(np.float64)).astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    for place, rows in enumerate(excluded):
        scores[place, rows] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :K].astype(np.int32)
    scores = np.take_along_axis(scores, rows, axis=1)
    return TopK(rows=np.where(np.isneginf(scores), -1, rows), scores=scores)


class _Structure:
    """Proposes the best, of all or of those that are allowed."""

    def __init__(self, masks):
        self.masks, self.asked = masks, []

    def propose(self, queries, depth, allowed):
        self.asked.append(depth)
        scores = queries @ VALUES.T
        if self.masks and allowed is not None:
            scores[:, ~allowed] = -np.inf
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth].astype(np.int32)
        return TopK(rows=rows, scores=np.take_along_axis(scores, rows, axis=1))

    def search(self, allowed, excluded=NOTHING, store="float32"):
        stored = StoredVectors.keep(VALUES, store)
        return Routes(stored=stored, propose=self.propose, masks=self.masks).search(QUERIES, K, excluded, allowed)


@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("share", SHARES)
def test_every_route_gives_what_sorting_gives(share, masks, few, monkeypatch):
    monkeypatch.setattr(routes, "FEW", few)
    allowed = _allowed(SHARES[share])
    best = _truth(allowed, []).rows
    # Some of the best, and some that the filter leaves out anyway.
    other = np.empty(0, np.int32) if allowed is None else np.flatnonzero(~allowed)[::3].astype(np.int32)
    excluded = [np.concatenate([row[row >= 0][:place], other]) for place, row in enumerate(best)]
    pairs = Excluded.from_rows(excluded, num_queries=6, size=SIZE)
    assert_same(_Structure(masks).search(allowed, pairs), _truth(allowed, excluded))


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("share", SHARES)
def test_without_stored_vectors_k_come_while_k_exist(share, masks):
    allowed = _allowed(SHARES[share])
    found, true = _Structure(masks).search(allowed, store="none"), _truth(allowed, [])
    np.testing.assert_array_equal(found.rows >= 0, true.rows >= 0)
    np.testing.assert_allclose(found.scores, true.scores, rtol=1e-5)
    assert allowed is None or allowed[found.rows[found.rows >= 0]].all()


def test_a_structure_that_does_not_mask_is_asked_for_more(monkeypatch):
    monkeypatch.setattr(routes, "FEW", 0)
    asked = {}
    for masks in (False, True):
        structure = _Structure(masks)
        structure.search(_allowed(0.4))
        asked[masks] = structure.asked
    assert asked == {False: [32], True: [16]}


def test_few_allowed_candidates_need_no_structure():
    structure = _Structure(False)
    structure.search(_allowed(0.4))
    assert structure.asked == []
