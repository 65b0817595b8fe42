"""The comparison compares the same thing, and says so in its last line."""

import json

import numpy as np
import pytest

from benchmarks import evaluation_speed, record

SIZES = ["--queries=300", "--candidates=150"]


@pytest.fixture(scope="module")
def case():
    return evaluation_speed.draw(300, 150, 8, seed=0)


def test_drawn_vectors_are_exact_in_float32(case):
    wide = case.query_vectors.astype(np.float64) @ case.candidate_vectors.T.astype(np.float64)
    assert np.abs(evaluation_speed.draw(500, 500, 64, seed=0).query_vectors).max() <= evaluation_speed.LARGEST
    np.testing.assert_array_equal(case.query_vectors @ case.candidate_vectors.T, wide)


def test_accuracies_equal_counting(case):
    scores = case.query_vectors @ case.candidate_vectors.T
    own = scores[np.arange(300), case.positives][:, None]
    expected = [np.mean((scores > own).sum(axis=1) < k) for k in evaluation_speed.KS]
    assert evaluation_speed.accuracies(case, evaluation_speed.ask(case)) == pytest.approx(expected)


def test_disagreement_stops_the_benchmark(case, monkeypatch):
    right = evaluation_speed.accuracies(case, evaluation_speed.ask(case))
    monkeypatch.setattr(evaluation_speed, "factorized_top_k", lambda _: lambda: right)
    evaluation_speed.measure_all(case, rounds=0, seconds=0)
    monkeypatch.setattr(evaluation_speed, "factorized_top_k", lambda _: lambda: right[::-1])
    with pytest.raises(AssertionError, match="TFRS"):
        evaluation_speed.measure_all(case, rounds=0, seconds=0)


def test_last_line_and_raw_lines(tmp_path, capsys):
    evaluation_speed.main(["--quick", f"--results={tmp_path}", *SIZES])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["ratio_to_factorized_top_k"] > 0 and figures["ratio_full_report"] > 0
    lines = record.read(tmp_path / "evaluation_speed.jsonl")
    assert [line["case"].split(",")[0] for line in lines] == [
        "FactorizedTopK", "accuracies", "full report", "with intervals",
    ]  # fmt: skip
    assert all(line["wall_seconds"] and line["settings"]["dim"] == 32 for line in lines)


def test_the_large_case_is_measured_without_quick(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation_speed, "measure_all", lambda *_, **__: ({}, [0.0] * 5))
    monkeypatch.setattr(evaluation_speed, "summary", lambda _: {"ratio_to_factorized_top_k": 1.0})
    evaluation_speed.main([f"--results={tmp_path}", *SIZES, "--large", "70", "17000"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["share_of_bound"] > 0 and figures["share_of_bound_search"] > 0
    lines = record.read(tmp_path / "evaluation_speed.jsonl")
    assert {line["case"] for line in lines} == {f"large: {name}" for name in figures["large_seconds"]}
    assert all(line["queries_verified"] == 20 for line in lines)
