"""The command line: what is missing is said, what is asked for is done, and the last line is JSON."""

import json

import pytest

from benchmarks import negative_costs, negatives, planted, record
from benchmarks.negative_datasets import DATASETS


def test_absent_data_is_said_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit) as stopped:
        negatives.main(["--results", str(tmp_path)])
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and "nowhere" in told and "TWO_TOWER_SHARED" in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_report_without_lines_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        negatives.main(["--report", "--results", str(tmp_path)])
    assert stopped.value.code == 2 and "negatives.jsonl" in capsys.readouterr().err


def test_table_then_report(tmp_path, monkeypatch, capsys):
    dataset = planted.write_dataset(tmp_path, name="ml-1m")
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path))
    monkeypatch.setitem(DATASETS, "ml-1m", dataset)
    results = tmp_path / "results"
    chosen = ["--dataset=ml-1m", "--strategy=exact", "--strategy=mixed", f"--results={results}"]
    negatives.main(chosen)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["test_lines"] == 2 and len(record.read(results / "negatives.jsonl")) == 11
    negatives.main(["--report", f"--results={results}"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures["verdicts"]["recall@10"]["mixed"]) == {"ml-1m"}
    assert "## Planted" in (results / "negatives.md").read_text()


def test_quick_needs_no_data_and_ends_with_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path / "nowhere"))
    monkeypatch.setattr(negative_costs, "measure_all", lambda results, seconds: {"log_q_overhead": 0.01})
    negatives.main(["--quick"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"log_q_overhead": 0.01}
