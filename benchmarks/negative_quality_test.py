"""The table: the value that validation chooses is the one that test measures, and nothing is run twice."""

import json

import pytest

from benchmarks import negative_quality, planted, record
from benchmarks.negative_quality import Bench, Job, Lines, run_table, tuned
from benchmarks.negative_strategies import STRATEGIES
from benchmarks.negative_training import REPORTED, SAMPLES, Scored, Trained
from retrieval_contract.errors import RunError


class _Stack:
    name = "some_stack"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Training notes what it is asked; validation likes temperature 0.15 best, test the smaller ones."""
    folder = tmp_path / "shared"
    dataset = planted.write_dataset(folder)
    monkeypatch.setenv("TWO_TOWER_SHARED", str(folder))
    asked = []

    def train(stack, config, prepared, *, steps):
        asked.append((config.loss.temperature, config.seed, steps))
        failed = "loss nan at step 2" if config.loss.temperature == 0.03 else ""
        times = record.Times(wall=[1.0], cpu=[1.0])
        return Trained(weights={"t": config.loss.temperature}, times=times, figures={"a": 1}, failed=failed)

    def score(stack, config, prepared, weights, part):
        if weights["t"] == 0.3:
            raise RunError("vectors that are not finite")
        value = weights["t"] if part == "validation" else 1 - weights["t"]
        metrics = {name: {"value": value, "low": value, "high": value} for name in REPORTED}
        return Scored(metrics=metrics, baselines={}, resampled={"mrr": [value] * SAMPLES}, num_queries=5)

    monkeypatch.setattr(negative_quality, "train", train)
    monkeypatch.setattr(negative_quality, "score", score)

    def make(again=False):
        lines = Lines(tmp_path / "results" / "negatives.jsonl", again=again)
        bench = Bench(stack=_Stack(), dataset=dataset, base=dataset.config(), prepared=None, lines=lines)
        return Job(bench=bench, name="exact", strategy=STRATEGIES["exact"])

    return make, asked, tmp_path / "results" / "negatives.jsonl"


def test_validation_chooses_test_measures_and_the_first_seed_trains_once(job):
    make, asked, path = job
    lines = tuned(make(), seeds=2)
    assert asked == [(value, 0, 4) for value in (0.03, 0.07, 0.15, 0.3)] + [(0.15, 1, 4)]
    tests = [line for line in lines if line["settings"]["part"] == "test"]
    assert [(line["settings"]["value"], line["seed"]) for line in tests] == [(0.15, 0), (0.15, 1)]
    assert tests[0]["metrics"]["mrr"]["value"] == 0.85 and len(tests[0]["resampled"]["mrr"]) == SAMPLES
    written = record.read(path)
    assert written == json.loads(json.dumps(lines)) and len(written) == 6
    assert [line["failed"] != "" for line in written] == [True, False, False, True, False, False]


def test_lines_that_are_there_are_not_run_again_unless_asked(job):
    make, asked, path = job
    tuned(make(), seeds=1)
    asked.clear()
    tuned(make(), seeds=2)
    assert asked == [(0.15, 1, 4)]
    asked.clear()
    tuned(make(again=True), seeds=1)
    assert [value for value, _, _ in asked] == list(STRATEGIES["exact"].values)
    assert len(record.read(path)) == 6 + 5


def test_a_stopped_table_goes_on_with_what_is_missing(job):
    make, asked, path = job
    tuned(make(), seeds=1)
    written = path.read_text().splitlines(keepends=True)
    path.write_text("".join(written[:2]))
    asked.clear()
    tuned(make(), seeds=1)
    assert [value for value, _, _ in asked] == [0.15, 0.3]
    assert len(record.read(path)) == 5


def test_no_value_that_works_leaves_no_test_line(job, monkeypatch):
    make, _, _ = job

    def score(*_):
        raise RunError("vectors that are not finite")

    monkeypatch.setattr(negative_quality, "score", score)
    lines = tuned(make(), seeds=1)
    assert len(lines) == 4 and all(line["failed"] and line["metrics"] is None for line in lines)


def test_table_with_baselines_on_a_real_stack(tmp_path, monkeypatch, capsys):
    import torch_reference.stack

    dataset = planted.write_dataset(tmp_path)
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path))
    path = tmp_path / "results" / "negatives.jsonl"
    stack = torch_reference.stack.STACK
    found = run_table(stack, [dataset], ["exact", "none"], Lines(path), seeds=1)
    assert found["test_lines"] == 2 and not found["failed"]
    lines = record.read(path)
    assert len(lines) == 1 + 2 * 5 and set(lines[0]["baselines"]) == {"popularity", "ease"}
    assert "none, temperature 0.3, validation" in capsys.readouterr().out
    assert run_table(stack, [dataset], ["exact", "none"], Lines(path), seeds=1)["test_lines"] == 2
    assert len(record.read(path)) == len(lines)
