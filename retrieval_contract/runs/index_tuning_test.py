"""A run tuned on its own queries: what is measured, what is left behind, and what stays when nothing holds."""

import json

import numpy as np
import pytest

from retrieval_contract.arrays import TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs.choice import forget_choice, read_choice, write_choice
from retrieval_contract.runs.held_out import held_out_queries
from retrieval_contract.runs.index_tuning import tune_index
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir

EXACT = {"exact": ExactIndex}
ASKED = {"target": 1.0, "k": 5, "max_bytes": None}


@pytest.fixture
def opened(tmp_path):
    workdir = Workdir(tmp_path / "w")
    train_run(PlantedStack(), planted_run(), workdir, resume=False, overwrite=False)
    return open_run(PlantedStack(), planted_run(), workdir)


def test_queries_are_those_of_the_evaluation_in_another_order(opened):
    rows, times = opened.prepared.evaluation_times("test")
    features = opened.prepared.query_features(rows, times, opened.prepared.evaluation_requests("test"), part="test")
    vectors = opened.encoders.encode_queries(features)
    found, what = held_out_queries(opened, 1_000)
    assert sorted(map(bytes, found)) == sorted(map(bytes, vectors)) and (found != vectors).any()
    assert what == f"{len(rows)} queries of the test part"
    few, _ = held_out_queries(opened, 7)
    np.testing.assert_array_equal(few, found[:7])


def test_without_held_out_rows_all_queries_are_taken_and_it_is_said(opened, monkeypatch):
    monkeypatch.setattr(type(opened.prepared), "evaluation_requests", lambda self, part: np.empty(0, np.int64))
    found, what = held_out_queries(opened, 1_000)
    every = opened.query_vectors(np.arange(40, dtype=np.int32))
    assert sorted(map(bytes, found)) == sorted(map(bytes, every))
    assert what == "40 queries, whether held out or not: the test part has none"


def test_a_query_of_zeros_measures_nothing(opened, monkeypatch):
    encode = opened.encoders.encode_queries
    monkeypatch.setattr(opened.encoders, "encode_queries", lambda features: encode(features) * [[0]])
    assert held_out_queries(opened, 1_000)[0].shape == (0, 4)


def test_the_index_is_kept_with_what_was_measured_and_becomes_the_runs(opened):
    kept, tried = tune_index(opened, EXACT, **ASKED)
    assert kept is tried.kept and kept.checked.value == 1.0
    saved = ExactIndex.load(opened.workdir.index("exact"))
    assert saved.measured["recall"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (saved.measured["k"], saved.measured["num_queries"]) == (5, kept.checked.num_queries)
    assert saved.measured["queries"].endswith("queries of the test part")
    assert read_choice(opened.workdir) == "exact"
    line = json.loads((opened.workdir.indexes / "tuning.jsonl").read_text().splitlines()[0])
    assert line["target"] == 1.0 and line["checked"]["value"] == 1.0 and line["k"] == 5


class _Blind(ExactIndex):
    """Proposes the first candidates whatever is asked."""

    def _propose(self, queries_BD, depth, allowed_N):
        rows = np.broadcast_to(np.arange(10, dtype=np.int32), (len(queries_BD), 10))
        return TopK(rows=rows, scores=np.zeros(rows.shape, np.float32))


def test_where_nothing_holds_the_best_is_named_and_the_old_index_stays(opened):
    tune_index(opened, EXACT, **ASKED)
    before = (opened.workdir.index("exact") / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"no setting reaches recall@1 0\.98; nearest: exact 0\.[0-6]") as none:
        tune_index(opened, {"exact": _Blind}, target=0.98, k=1, max_bytes=None)
    assert " ms and 800 bytes [" in str(none.value) and "lower --target_recall or raise --max_bytes" in str(none.value)
    with pytest.raises(UserError, match=r"within 400 bytes; nearest: exact \(store float16\) 0"):
        tune_index(opened, {"exact": _Blind}, target=0.98, k=1, max_bytes=400)
    assert (opened.workdir.index("exact") / "manifest.json").read_bytes() == before
    assert read_choice(opened.workdir) == "exact"
    assert "within 400 bytes" in (opened.workdir.indexes / "tuning.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 0.0}, "a recall of 0 cannot be"),
        ({"target": 1.01}, "a recall of 1.01 cannot be"),
        ({"target": float("nan")}, "a recall of nan cannot be"),
        ({"k": 51}, "k is 51, the catalogue holds 50"),
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"max_bytes": 10}, "none of 1 settings could be built"),
    ],
)
def test_what_cannot_be_is_refused(opened, changes, message):
    with pytest.raises(UserError, match=message):
        tune_index(opened, EXACT, **{**ASKED, **changes})
    assert not opened.workdir.index("exact").exists() and read_choice(opened.workdir) is None


def test_a_choice_is_forgotten_with_its_own_index_only(tmp_path):
    workdir = Workdir(tmp_path)
    assert read_choice(workdir) is None and not forget_choice(workdir, "exact")
    write_choice(workdir, "faiss")
    assert read_choice(workdir) == "faiss" and not forget_choice(workdir, "exact")
    assert forget_choice(workdir, "faiss") and read_choice(workdir) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"faiss"'])
def test_a_damaged_choice_is_refused(tmp_path, text):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "chosen.json").write_text(text)
    with pytest.raises(UserError, match=r"cannot read what was chosen.*chosen\.json"):
        read_choice(Workdir(tmp_path))
