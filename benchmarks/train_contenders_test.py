"""Contenders that do not train the same are noticed before a time is taken; those that do agree."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import keras_rs_environment, record, train_contenders, train_problem
from benchmarks.train_problem import Turn, check_losses, draw_rows, draw_weights


class _Contender:
    def __init__(self, seconds, loss=8.0):
        self._seconds, self._loss, self.asked = seconds, loss, []

    def turn(self, num_steps):
        self.asked.append(num_steps)
        return Turn(self._seconds * num_steps, 0.0, [self._loss] * num_steps)


def _compete(**contenders):
    return train_contenders.compete(contenders, lambda: 1e9, seconds=0, batch_size=train_problem.BATCH_SIZE)


def test_turns_are_as_long_whoever_is_slow():
    fast, slow = _Contender(0.02), _Contender(0.4)
    times, figures = _compete(fast=fast, slow=slow)
    assert figures["fast"]["steps_a_turn"] == 12 and figures["slow"]["steps_a_turn"] == 1
    assert [len(taken.wall) for taken in times.values()] == [train_contenders.LEAST_TURNS] * 3
    assert figures["fast"]["examples_per_second"] == pytest.approx(1_024 / 0.02)
    peak = figures[train_contenders.PEAK]["flops_per_second"]
    assert figures["fast"]["share_of_peak"] == pytest.approx(train_problem.FLOPS_A_STEP / 0.02 / peak)


def test_another_loss_stops_the_benchmark():
    with pytest.raises(AssertionError, match="of theirs"):
        _compete(ours=_Contender(0.1), theirs=_Contender(0.1, loss=8.001))


def test_losses_may_drift_later_and_be_rough_where_the_name_says_so():
    check_losses({"ours": [8.0, 7.0], "theirs": [8.00001, 7.1], "ours, bfloat16": [8.1, 7.1]})
    with pytest.raises(AssertionError, match="step 2"):
        check_losses({"ours": [8.0, 7.0], "theirs": [8.0, 7.2]})


def test_flops_of_a_step_are_those_of_its_products():
    tower = 64 * 512 + 512 * 256 + 256 * 128
    assert 6 * (1_024 * 2 * tower + 1_024 * 1_024 * 128) == train_problem.FLOPS_A_STEP


@pytest.mark.parametrize(
    ("family", "optimizer"), [("tensorflow", "adam"), ("torch", "sgd"), ("torch", "adagrad"), ("torch", "adam")]
)
def test_contenders_of_a_family_train_the_same(family, optimizer):
    weights, rows = draw_weights(50, seed=0), draw_rows(50, 16, seed=0)
    if family == "tensorflow":
        from benchmarks.train_stock_tfrs import StockTfrs as Stock
    else:
        from benchmarks.train_plain_torch import PlainTorch as Stock
    from benchmarks.train_ours import Ours

    stack = {"tensorflow": "tfrs_models", "torch": "torch_reference"}[family]
    losses = {
        "ours": Ours(stack, optimizer, weights, rows).turn(3).losses,
        "stock": Stock(optimizer, weights, rows).turn(3).losses,
    }
    check_losses(losses)
    assert abs(losses["ours"][2] - losses["ours"][0]) > 1e-3, "nothing was learnt, so nothing was compared"
    dropped = weights | {"candidate.dense.1.kernel": np.zeros_like(weights["candidate.dense.1.kernel"])}
    with pytest.raises(AssertionError, match="step 1"):
        check_losses(losses | {"stock": Stock(optimizer, dropped, rows).turn(3).losses})


def test_what_does_not_fit_is_skipped_with_the_reason(capsys, monkeypatch):
    monkeypatch.setattr(train_contenders, "bytes_free", lambda: 2_000_000_000)
    train_contenders.main(["torch", "adam", "10000000"])
    printed = capsys.readouterr()
    assert "GB" in json.loads(printed.out)["skipped"] and "skipped" in printed.err


def test_ours_is_measured_alone_where_both_do_not_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_contenders, "LEAST_TURNS", 1)
    monkeypatch.setattr(train_contenders, "MOST_ROWS_ROUGH", 0)
    needed = [train_problem.bytes_needed(40, "adam", num_models=number) for number in (1, 2)]
    monkeypatch.setattr(train_contenders, "bytes_free", lambda: sum(needed) // 2)
    train_contenders.main(["torch", "adam", "40", "--seconds=0", "--batch_size=16", f"--results={tmp_path}"])
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)["examples_per_second"]) == {"torch_reference"} and "ours alone" in printed.err


def test_lines_of_a_family(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_contenders, "LEAST_TURNS", 2)
    train_contenders.main(["torch", "sgd", "40", "--seconds=0", "--batch_size=16", f"--results={tmp_path}"])
    rates = json.loads(capsys.readouterr().out.splitlines()[-1])["examples_per_second"]
    assert set(rates) == {"torch_reference", "plain PyTorch", "torch_reference, bfloat16"}
    lines = record.read(tmp_path / "train_throughput.jsonl")
    assert {line["settings"]["contender"] for line in lines} == {*rates, train_contenders.PEAK}


def test_environment_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(keras_rs_environment.NotAvailableError, match="could not be installed"):
        keras_rs_environment.python(tmp_path / "environment", "./no-such-package")


def test_process_that_ends_is_an_error():
    contender = keras_rs_environment.KerasRs(Path(shutil.which("false")), "adam", 10, 0)
    with pytest.raises(RuntimeError, match="ended with"):
        contender.turn(1)


def test_what_was_ended_for_memory_is_not_tried_again():
    """With 21.4 GB free ours alone by Adagrad went through with ten million rows; ours and stock by SGD did not."""
    alone = train_problem.bytes_needed(10_000_000, "adagrad", num_models=1)
    both = train_problem.bytes_needed(10_000_000, "sgd", num_models=2)
    assert alone < 21_400_000_000 < both
