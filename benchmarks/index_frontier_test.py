"""Lines hold what a reader needs to compute everything again, and the report says what they say."""

import json

import numpy as np
import pytest

from benchmarks import index_datasets, index_frontier, index_frontier_report, index_here, record
from benchmarks.index_found import by_dataset, pareto, quickest
from benchmarks.index_measuring import K
from benchmarks.index_planted import NUM_QUERIES, planted, setting


@pytest.fixture(scope="module")
def asked():
    return planted()


def _lines(monkeypatch, asked):
    """What is written of an exact search, a near and quick one, and a bad and quicker one."""
    truth = asked.truth

    def near(at):
        return np.append(truth[at, 3:K], truth[at, K : K + 3])

    settings = [
        setting("exact", lambda at: truth[at], library="here", is_exact=True, milliseconds=20),
        setting("ScaNN tree 39, AH, SOAR, reorder bfloat16", near, library="ScaNN", milliseconds=0.19),
        setting("ScaNN tree 39, AH, reorder bfloat16", lambda at: truth[at, 50:150], library="ScaNN", milliseconds=0.1),
        setting("FAISS IVF39,Flat", near, milliseconds=0.2, width=8),
    ]
    monkeypatch.setattr(index_frontier, "_built", lambda dataset, full, quick: [])
    monkeypatch.setattr(index_frontier, "settings_of", lambda everyone: settings)
    monkeypatch.setattr(index_frontier, "measure", lambda settings, dataset: None)
    return list(index_frontier.measured(asked))


def test_lines_hold_times_neighbours_and_truth(monkeypatch, asked, tmp_path):
    record.append(tmp_path / "x.jsonl", _lines(monkeypatch, asked))
    lines = record.read(tmp_path / "x.jsonl")
    assert len({line["digest"] for line in lines}) == len(lines) == 5
    found = by_dataset(lines)["clustered, 1,500"]
    assert [each.mean() for each in found] == pytest.approx([1, 0.97, 0.5, 0.97])
    assert found[1].mean(10) == pytest.approx(0.7) and found[0].rate == NUM_QUERIES / 0.5
    assert quickest(found, 0.95) is found[1] and quickest(found, 2) is None
    assert index_frontier.quickest(lines)["ScaNN"]["setting"] == "ScaNN tree 39, AH, SOAR, reorder bfloat16, nprobe 7"
    lines[2]["recall"]["recall@100"] = 0.98
    with pytest.raises(AssertionError, match=r"by its neighbours 0\.97"):
        by_dataset(lines)
    with pytest.raises(AssertionError, match="no line of its truth"):
        by_dataset(lines[1:])


def test_the_report_names_the_quickest_and_does_not_tell_equals_apart(monkeypatch, asked, tmp_path):
    lines = _lines(monkeypatch, asked)
    text = index_frontier_report.section(lines, tmp_path)
    first = (tmp_path / "index_frontier_latency.svg").read_bytes()
    assert text.startswith("## ") and index_frontier_report.section(lines, tmp_path) == text
    assert (tmp_path / "index_frontier_latency.svg").read_bytes() == first
    assert "of what finds 0.95 of the best 100, ScaNN tree 39, AH, SOAR, reorder bfloat16, nprobe 7 is quickest" in text
    assert "FAISS IVF39,Flat, nprobe 8: no difference" in text
    assert "ScaNN tree 39, AH, reorder bfloat16, nprobe 7 (finds less)" in text
    (option,) = (row for row in text.splitlines() if "| SOAR |" in row)
    assert "+0.470" in option
    assert "Not measured on clustered, 1,500" in text and "hnswlib M 16" in text
    assert "seen elsewhere" not in text, "that is said at a million only"


def test_pareto():
    assert pareto([(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (4, 0.9)]) == [(1, 0.5), (2, 0.7), (3, 0.9)]


def test_data_sets_of_the_issue(monkeypatch, tmp_path):
    assert list(index_frontier.datasets(quick=True)) == ["sift-5k", "clustered, 10,000"]
    assert list(index_frontier.datasets(quick=False)) == [
        "sift-5k",
        "model",
        *(f"clustered, {size}" for size in ("10,000", "100,000", "1,000,000")),
    ]
    monkeypatch.setattr(index_datasets, "SIFT", tmp_path / "none")
    assert index_datasets.sift() is None


def test_sift_comes_with_the_truth_that_is_found_here():
    found = index_datasets.sift()
    if found is None:
        pytest.skip(f"{index_datasets.SIFT} is absent; TWO_TOWER_SHARED names its folder")
    assert found.candidates.shape == (4_800, 136) and found.truth.shape == (200, 200)


def test_a_model_is_trained_for_its_vectors(monkeypatch):
    monkeypatch.setattr(index_datasets, "MODEL", index_datasets.MODEL.model_copy(update={"num_interactions": 4_000}))
    found = index_datasets.model(num_candidates=300, dim=16)
    assert found.candidates.shape == (300, 16) and found.batch.shape == (500, 16)
    norms = np.linalg.norm(found.candidates, axis=1)
    assert norms.std() > 0.05, "as the towers leave them, not of unit length"


def test_absent_data_is_said_and_the_last_line_is_json(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(index_frontier, "load_frameworks", lambda: None)
    monkeypatch.setattr(index_datasets, "SIFT", tmp_path / "none")
    monkeypatch.setattr(index_datasets, "clustered", lambda size: planted())
    monkeypatch.setattr(index_frontier, "lineup", lambda size, dim, full, quick: [index_here.exact()])
    index_frontier.main(["--quick", f"--results={tmp_path}"])
    told = capsys.readouterr()
    assert "sift-5k is not measured" in told.err
    figures = json.loads(told.out.splitlines()[-1])["clustered, 1,500"]["here"]
    assert figures["recall@100"] == 1 and figures["p50_ms"] > 0 and figures["queries_per_second"] > 0
    truth, line = record.read(tmp_path / "index_frontier.jsonl")
    assert truth["case"] == "truth, clustered, 1,500" and line["case"] == "clustered, 1,500, exact"
    assert len(line["wall_seconds"]) == NUM_QUERIES and len(line["throughput_seconds"]) == 3
