"""Mined negatives: the right ranks of the right queries, positives out, and refusals before anything is trained."""

import numpy as np
import pytest

from retrieval_contract.data.prepare import prepare
from retrieval_contract.errors import RunError, UserError
from retrieval_contract.runs import mining
from retrieval_contract.runs.checkpoints import weights_of
from retrieval_contract.runs.mining import check_mining, mine
from retrieval_contract.runs.planted import CANDIDATE, QUERY, PlantedStack, planted_run
from retrieval_contract.runs.training import first_state


def mined(**changes):
    return {"mined": {"per_example": 1, "first_rank": 3, "last_rank": 8, **changes}}


@pytest.fixture(scope="module")
def prepared():
    return prepare(planted_run())


@pytest.fixture(scope="module")
def weights(prepared):
    return weights_of(first_state(planted_run(training={"embedding_stddev": 1.0}), prepared))


def by_hand(prepared, weights, row, first, last):
    """Ranks first to last of one query, by sorting the whole catalogue."""
    train, rows = prepared.train_positives, prepared.interactions
    known = set(rows.candidate_rows[train][rows.query_rows[train] == row].tolist())
    query = weights[QUERY][prepared.query_features(np.asarray([row], np.int32), None)["query_id"][0]]
    values = weights[CANDIDATE][prepared.candidate_features()["candidate_id"]]
    scores = (values.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
    order = [int(place) for place in np.argsort(-scores, kind="stable") if int(place) not in known]
    return (order[first - 1 : last] + [-1] * last)[: last - first + 1], known


def test_the_ranks_are_those_of_the_catalogue_without_known_positives(prepared, weights):
    rows_QM = mine(PlantedStack(), planted_run(negatives=mined()), prepared, weights)
    assert rows_QM.shape == (40, 6) and rows_QM.dtype == np.int32
    trained = np.unique(prepared.interactions.query_rows[prepared.train_positives]).tolist()
    for row in trained:
        expected, known = by_hand(prepared, weights, row, 3, 8)
        assert known and rows_QM[row].tolist() == expected
    untrained = sorted(set(range(40)) - set(trained))
    assert untrained, "the data has queries without a train positive"
    assert (rows_QM[untrained] == -1).all()


def test_fewer_candidates_than_ranks_leave_minus_one(prepared, weights):
    rows_QM = mine(PlantedStack(), planted_run(negatives=mined(first_rank=1, last_rank=49)), prepared, weights)
    row = int(prepared.interactions.query_rows[prepared.train_positives[0]])
    expected, known = by_hand(prepared, weights, row, 1, 49)
    assert rows_QM[row].tolist() == expected
    assert (rows_QM[row] == -1).sum() == len(known) - 1


class SeveralVectors(PlantedStack):
    """Queries have their own vector and its negative."""

    def encoders(self, config, sizes, weights):
        towers = super().encoders(config, sizes, weights)
        alone = towers.encode_queries
        towers.encode_queries = lambda features: np.stack([alone(features), -alone(features)], axis=1)
        return towers


def test_of_several_vectors_the_largest_score_counts(prepared, weights):
    rows_QM = mine(SeveralVectors(), planted_run(negatives=mined()), prepared, weights)
    train, rows = prepared.train_positives, prepared.interactions
    values = weights[CANDIDATE][prepared.candidate_features()["candidate_id"]].astype(np.float64)
    queries = weights[QUERY][prepared.query_features(np.arange(40, dtype=np.int32), None)["query_id"]]
    scores = np.abs(values @ queries.astype(np.float64).T).T.astype(np.float32)
    for row in np.unique(rows.query_rows[train]).tolist():
        known = set(rows.candidate_rows[train][rows.query_rows[train] == row].tolist())
        order = [place for place in np.argsort(-scores[row], kind="stable").tolist() if place not in known]
        assert rows_QM[row].tolist() == order[2:8]


def test_chunks_change_nothing(prepared, weights, monkeypatch):
    config = planted_run(negatives=mined())
    whole = mine(PlantedStack(), config, prepared, weights)
    monkeypatch.setattr(mining, "MOST_QUERIES", 7)
    np.testing.assert_array_equal(mine(PlantedStack(), config, prepared, weights), whole)


def test_weights_that_are_not_finite_are_the_runs_fault(prepared, weights):
    broken = {**weights, CANDIDATE: np.full_like(weights[CANDIDATE], np.inf)}
    with pytest.raises(RunError, match="NaN or infinity"):
        mine(PlantedStack(), planted_run(negatives=mined()), prepared, broken)


def test_a_backend_that_is_not_here_is_refused():
    config = planted_run(negatives=mined(), index={"backend": "faiss"})
    with pytest.raises(UserError, match=r"mined from an index, and planted has no backend 'faiss'.*to one of exact"):
        check_mining(PlantedStack(), config)
    check_mining(PlantedStack(), planted_run(index={"backend": "faiss"}))


def test_a_run_that_would_never_mine_is_refused():
    with pytest.raises(UserError, match="after every 4 epochs, and the run ends after 4"):
        check_mining(PlantedStack(), planted_run(negatives=mined(every_epochs=4)))
    check_mining(PlantedStack(), planted_run(negatives=mined(every_epochs=3)))
    check_mining(PlantedStack(), planted_run(negatives=mined(every_epochs=9, per_example=0)))
