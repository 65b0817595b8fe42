"""Pairs differ in what they measure and in nothing else; overheads are medians over neighbouring turns."""

import json

import numpy as np
import pytest

from benchmarks import negative_costs, record, train_throughput
from benchmarks.negative_costs import BANK, CORRECTED, PAIRS, PLAIN, Pair, draw_batches, run_config, summary

SMALL = Pair(without=CORRECTED, along=BANK, width=8, hidden_dims=(8,), steps_a_turn=1)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_pair_differs_in_loss_or_bank_alone(pair):
    without, along = (run_config(pair, kind).model_dump() for kind in (pair.without, pair.along))
    differing = {room for room in without if without[room] != along[room]}
    assert differing == ({"loss"} if pair.along == CORRECTED else {"negatives"})
    assert pair.towers.endswith("->128") and without["training"]["batch_size"] == negative_costs.BATCH_SIZE


def test_kinds_are_what_they_are_called():
    pair = PAIRS["log_q_overhead"]
    plain, corrected, bank = (run_config(pair, kind) for kind in (PLAIN, CORRECTED, BANK))
    assert (plain.loss.log_q, plain.loss.remove_accidental_hits) == ("none", False)
    assert (corrected.loss.log_q, corrected.loss.remove_accidental_hits) == ("exact", True)
    assert bank.loss == corrected.loss and bank.negatives.bank.num_batches == 16


def test_batches_hold_accidental_hits_and_their_log_q():
    plain, corrected = (draw_batches(corrected=kind, seed=0) for kind in (False, True))
    assert len(corrected) == 16 and all(np.all(batch.log_q == 0) for batch in plain)
    for batch, other in zip(corrected, plain, strict=True):
        np.testing.assert_array_equal(batch.candidate_rows, other.candidate_rows)
        assert len(np.unique(batch.candidate_rows)) < 0.8 * len(batch.candidate_rows)
    probability = {row: log_q for b in corrected for row, log_q in zip(b.candidate_rows, b.log_q, strict=True)}
    assert probability[0] - probability[1] == pytest.approx(np.log(2), rel=1e-5)


def test_overhead_is_the_median_of_neighbours():
    without = record.Times(wall=[1.0, 2.0, 4.0], cpu=[])
    along = record.Times(wall=[1.1, 2.4, 4.0], cpu=[])
    found = summary(without, along, SMALL)
    assert found["overhead"] == pytest.approx(0.1) and found["pairs"] == 3
    assert found["step_milliseconds"] == {CORRECTED: 2_000, BANK: 2_400}


@pytest.mark.parametrize("stack", negative_costs.STACKS)
def test_measures_a_real_stack(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(train_throughput, "LEAST_TURNS", 2)
    monkeypatch.setattr(negative_costs, "BATCH_SIZE", 32)
    pairs = {"bank_overhead": SMALL}
    figures = negative_costs.measure(stack, pairs=pairs, turns=2, seconds=0, results=tmp_path)
    json.dumps(figures)
    assert figures["bank_overhead"]["pairs"] == 2
    lines = record.read(tmp_path / "negative_costs.jsonl")
    assert [line["settings"]["kind"] for line in lines] == [CORRECTED, BANK]
    assert [found[:2] for found in negative_costs.from_lines(lines)] == [("bank_overhead", stack)]


def test_streaming_counts_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(negative_costs, "_on_one_core", lambda: None)
    figures = negative_costs.measure_streaming(num_batches=300, results=tmp_path)
    (line,) = record.read(tmp_path / "negative_costs.jsonl")
    assert figures["updates_per_second"] == pytest.approx(102_400 / np.median(line["wall_seconds"]), rel=0.01)
    assert len(line["wall_seconds"]) == 3 and negative_costs.streaming_rate([line]) == line["updates_per_second"]


def test_the_worst_stack_stands_in_front(tmp_path, monkeypatch):
    def part(name, results, seconds):
        if name == "streaming":
            return {"updates_per_second": 9}
        overhead = {"tfrs_models": 0.1, "torch_reference": 0.2}[name]
        return {figure: {"overhead": overhead} for figure in PAIRS}

    monkeypatch.setattr(negative_costs, "_in_a_process", part)
    found = negative_costs.measure_all(tmp_path)
    assert found["log_q_overhead"] == found["bank_overhead"] == 0.2 and found["streaming_updates_per_second"] == 9
