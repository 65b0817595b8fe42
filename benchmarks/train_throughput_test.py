"""Turns, batches and the last line, on tables small enough for a test."""

import json

import numpy as np
import pytest

from benchmarks import record, train_throughput
from retrieval_contract.stack import StepResult


class _Trainer:
    def __init__(self, log, name, loss=1.0):
        self._log, self._name, self._loss = log, name, loss

    def step(self, batches, *, learning_rate):
        assert len(batches) == 1 and learning_rate > 0
        self._log.append(self._name)
        return StepResult(loss=self._loss, gradient_norm=1.0, temperature=1.0)

    def state(self):
        return {}


def test_trainers_take_turns_after_warming_up():
    log = []
    batches = {rows: train_throughput.draw_batches(rows, 4, seed=0) for rows in (10, 20)}
    trainers = {rows: _Trainer(log, rows) for rows in (10, 20)}
    times = train_throughput.take_turns(trainers, batches, turns=4, seconds=60)
    warm = train_throughput.WARM_UP
    turns = log[2 * warm :: train_throughput.STEPS_A_TURN]
    assert turns == [10, 20, 20, 10, 10, 20, 20, 10]
    assert all(len(taken.wall) == 4 for taken in times.values())


def test_loss_that_is_not_finite_stops_the_benchmark():
    batches = {10: train_throughput.draw_batches(10, 4, seed=0)}
    with pytest.raises(AssertionError, match="trainer 10"):
        train_throughput.take_turns({10: _Trainer([], 10, loss=np.nan)}, batches, turns=1, seconds=1)


def test_summary_divides_large_by_small():
    times = {10: record.Times(wall=[1.0, 1.0], cpu=[]), 20: record.Times(wall=[2.0, 2.0], cpu=[])}
    figures = train_throughput.summary(times, {10: 400.0, 20: 200.0})
    assert figures["ratio"] == 0.5 and figures["ratio_of_medians"] == 0.5


def test_batches_are_in_the_vocabulary_and_differ():
    batches = train_throughput.draw_batches(50, 64, seed=0)
    rows = np.concatenate([batch.query_features["query_id"] for batch in batches])
    assert rows.min() >= 2 and rows.max() == 49 and rows.dtype == np.int32
    assert not np.array_equal(batches[0].candidate_rows, batches[1].candidate_rows)


@pytest.mark.parametrize("stack", train_throughput.STACKS)
def test_measures_a_real_stack(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(train_throughput, "LEAST_TURNS", 1)
    figures = train_throughput.measure(stack, sizes=[40, 80], turns=1, seconds=0, results=tmp_path)
    json.dumps(figures)
    assert set(figures["examples_per_second"]) == {"40", "80"}
    lines = record.read(tmp_path / "train_throughput.jsonl")
    assert [line["settings"]["rows"] for line in lines] == [40, 80]


def test_main_compares_ours_with_others_and_keeps_the_ratio(capsys, monkeypatch):
    asked = []

    def process(script, *words):
        asked.append((script, *words[:3]))
        return {"ratio": 0.9 if "tfrs_models" in words else 0.8}

    monkeypatch.setattr(train_throughput, "_in_a_process", process)
    train_throughput.main(["--quick"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["ratio_1m_rows_to_10k_rows"] == 0.8
    assert asked[2:] == [("train_contenders", family, "adam", "10000") for family in ("tensorflow", "torch")]
    train_throughput.main([])
    assert len(asked) == 4 + 2 + 2 * len(train_throughput.RUNS) + 2
    assert [words[:2] for words in asked[-2:]] == [("train_repeats", "tensorflow"), ("train_repeats", "torch")]
