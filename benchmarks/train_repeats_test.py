"""Batches repeat rows as the data does; contenders that do not train the same are noticed; lines and the last line."""

import json

import numpy as np
import pytest

from benchmarks import record, train_contenders, train_repeats
from benchmarks.train_problem import NUM_BATCHES
from retrieval_contract import config as c
from retrieval_contract.presets import PRESETS


@pytest.fixture
def few_interactions(monkeypatch, tmp_path):
    """No data but the simulator's, and of that little."""
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path))
    base = PRESETS["simulated"]()
    source = c.SimulatedSource(num_queries=60, num_candidates=40, num_interactions=2_000)
    monkeypatch.setitem(PRESETS, "simulated", lambda: base.model_copy(update={"source": source}))


def test_batches_repeat_rows_and_are_in_the_vocabulary(few_interactions):
    data, rows = train_repeats.draw_repeated_rows(64)
    assert data == "simulated" and rows.dtype == np.int32
    assert rows.shape[1:] == (2, 64) and 1 < len(rows) <= NUM_BATCHES
    assert rows.min() >= train_repeats.FIRST and rows.max() < train_repeats.FIRST + 60
    shares = train_repeats.distinct_shares(rows)
    assert 0 < shares["candidate"] <= 40 / 64 and 0 < shares["query"] <= 60 / 64
    assert not np.array_equal(rows[0], rows[1])


def test_shares_are_means_over_batches():
    rows = np.asarray([[[2, 2, 2, 2], [2, 3, 4, 5]], [[2, 2, 3, 3], [2, 3, 4, 4]]])
    assert train_repeats.distinct_shares(rows) == {"query": 1.5 / 4, "candidate": 3.5 / 4}


def test_another_loss_at_a_later_step_is_noticed():
    train_repeats.check_same([8.0, 7.0], [8.0, 7.00001])
    with pytest.raises(AssertionError, match="without"):
        train_repeats.check_same([8.0, 7.0], [8.0, 7.001])


def test_lines_of_a_family_and_its_last_line(few_interactions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_contenders, "LEAST_TURNS", 1)
    monkeypatch.setattr(train_contenders, "MOST_STEPS", 1)
    monkeypatch.setattr(train_repeats, "ROWS", 70)
    results = tmp_path / "results"
    train_repeats.main(["torch", "--optimizer=sgd", "--seconds=0", "--batch_size=64", f"--results={results}"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = [f"torch_reference, {train_repeats.ONCE}", "torch_reference", "plain PyTorch"]
    assert list(last["examples_per_second"]["sgd"]) == names
    lines = record.read(results / "train_throughput.jsonl")
    assert [line["settings"]["contender"] for line in lines] == names
    assert all(line["distinct"] == last["distinct"] and line["settings"]["batches_of"] == "simulated" for line in lines)
    assert lines[0]["losses"][0] == pytest.approx(lines[2]["losses"][0], rel=1e-5)
