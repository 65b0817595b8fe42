"""The run's index: the built one where it belongs to these weights and candidates, else a new one."""

from dataclasses import replace

import pytest

from retrieval_contract.config import Index
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("run") / "w")
    train_run(PlantedStack(), planted_run(), workdir, resume=False, overwrite=False)
    opened = open_run(PlantedStack(), planted_run(), workdir)
    # Built with other settings than the run's: so it is seen which of the two is taken.
    ExactIndex.build(opened.candidate_vectors(), Index(store="int8")).save(workdir.index("exact"))
    return opened


def test_the_index_that_was_built_is_taken(opened):
    assert opened.config.index.store != "int8"
    assert opened.index(ExactIndex).settings.store == "int8"


def test_an_index_of_other_weights_or_candidates_is_not_taken(opened, monkeypatch):
    others = [
        replace(opened, weights_digest="0" * 64),
        replace(
            opened, prepared=replace(opened.prepared, candidates=replace(opened.prepared.candidates, ids=("new",)))
        ),
    ]

    def encode(self):
        raise LookupError

    monkeypatch.setattr(type(opened), "candidate_vectors", encode)
    for other in others:
        with pytest.raises(LookupError):
            other.index(ExactIndex)
