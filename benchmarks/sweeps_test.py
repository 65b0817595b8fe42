"""One thing changes at a time, every point trains on as much, and a line holds what was measured."""

import json

import pytest

from benchmarks import record, sweeps
from retrieval_contract import config as c
from retrieval_contract.data.prepare import prepare


def test_a_point_differs_from_the_reference_in_one_thing():
    found = sweeps.points(sweeps.SWEEPS, 1_000)
    assert len(found) == 16 and found[0] == sweeps.Point(examples=1_000)
    fields = ("temperature", "batch_size", "width")
    for point in found[1:]:
        assert sum(getattr(point, field) != getattr(found[0], field) for field in fields) == 1


def test_the_run_of_a_point():
    point = sweeps.Point(temperature=0.02, batch_size=2_048, width=16, examples=20_480)
    config = sweeps.run_config("movietweetings-100k", point)
    assert point.steps == 10 and config.loss.temperature == 0.02 and config.training.batch_size == 2_048
    assert config.optimizer.learning_rate == pytest.approx(2 * sweeps.LEARNING_RATE)
    assert {feature.width for tower in (config.query, config.candidate) for feature in tower.features} == {16}
    assert config.model == c.Model(dim=16, normalize=True)
    assert [feature.name for feature in config.query.features] == ["history"]


def test_a_point_is_measured(tmp_path):
    point = sweeps.Point(batch_size=64, width=8, examples=640)
    line = sweeps.measure("simulated", point, prepare(sweeps.run_config("simulated", point)))
    record.append(tmp_path / "sweeps.jsonl", [line])
    assert line["steps"] == 10 and line["settings"]["width"] == 8
    assert set(line["metrics"]) == {"recall@10", "recall@100", "mrr"}
    assert line["metrics"]["recall@10"]["value"] < line["metrics"]["recall@100"]["value"]


def test_main_says_which_point_was_best(tmp_path, capsys, monkeypatch):
    def measure(dataset, point, prepared):
        recall = 1 / point.width
        entry = {"low": recall, "value": recall, "high": recall}
        settings = {"width": point.width, "temperature": point.temperature, "batch": point.batch_size}
        times = record.Times(wall=[1.0], cpu=[1.0])
        return record.line("sweeps", str(settings), times, settings=settings, seed=0, metrics={"recall@10": entry})

    monkeypatch.setattr(sweeps, "measure", measure)
    monkeypatch.setattr(sweeps, "prepare", lambda config: None)
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path))
    sweeps.main([f"--results={tmp_path}"])
    printed = capsys.readouterr()
    assert "'width': 16" in json.loads(printed.out)["best_recall_at_10"]["simulated"]
    assert "ml-100k: left out" in printed.err
    assert len(record.read(tmp_path / "sweeps.jsonl")) == 16
