"""The recall of an export is counted against exact search, over queries that are named."""

import numpy as np
import pytest

from retrieval_contract.runs import export_recall
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("run") / "w")
    train_run(PlantedStack(), planted_run(), workdir, resume=False, overwrite=False)
    return open_run(PlantedStack(), planted_run(), workdir)


def exact(opened):
    vectors = opened.candidate_vectors().values

    def search(queries, k):
        return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k].astype(np.int32)

    return search


def test_recall_is_the_share_of_the_truth(opened, monkeypatch):
    monkeypatch.setattr(export_recall, "K", 4)
    search = exact(opened)
    found = export_recall.export_recall(opened, search)["recall"]
    assert (found["value"], found["low"], found["high"], found["k"]) == (1.0, 1.0, 1.0, 4)
    assert found["queries"].startswith(f"{found['num_queries']:,} queries of the test part")

    def half(queries, k):
        rows = search(queries, 2 * k)
        return np.concatenate([rows[:, : k // 2], rows[:, k : k + k // 2]], axis=1)

    assert export_recall.export_recall(opened, half)["recall"]["value"] == pytest.approx(0.5)


def test_where_nothing_can_be_asked_nothing_is_said(opened, monkeypatch):
    monkeypatch.setattr(export_recall, "held_out_queries", lambda opened, at_most: (np.empty((0, 4), np.float32), ""))
    assert export_recall.export_recall(opened, exact(opened)) == {}
