"""Every variant makes what it is called after, and the last line says how fast."""

import json

import numpy as np
import pytest

from benchmarks import input_pipeline, record
from benchmarks.input_data import HISTORY, VARIANTS, draw, run_config
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare_raw

ADDED = {
    "ids": set(),
    "ages": {"history.ages"},
    "weights": {"history.weights"},
    "affinity": {"tags"},
    "everything": {
        "history.ages", "history.weights", "tags", "history.tag", "history.length", "context.device", "context.hour",
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_reads_what_it_is_called_after(variant):
    config = run_config(variant, batch_size=256)
    prepared = prepare_raw(draw(5_000, num_candidates=200, seed=0), config)
    (batch,) = next(TrainingBatches(prepared, config).epoch(0))
    assert set(batch.query_features) == {"query_id", "country", "history"} | ADDED[variant]
    assert batch.query_features["history"].shape == (256, HISTORY)
    lengths = (batch.query_features["history"] > 0).sum(axis=1)
    assert lengths.min() < HISTORY == lengths.max() and lengths.mean() > 0.6 * HISTORY
    assert len(np.unique(batch.weights)) > 200


def test_last_line_and_raw_lines(tmp_path, capsys):
    sizes = ["--interactions=20000", "--most=30000", "--candidates=500"]
    input_pipeline.main(["--quick", f"--results={tmp_path}", *sizes])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["examples_per_second"] > 0 and 0.05 < figures["peak_gib"] < 4
    lines = record.read(tmp_path / "input_pipeline.jsonl")
    assert [line["case"] for line in lines] == [*figures["cases"], "memory of 30,000"]
    for line in lines[:-1]:
        assert line["wall_seconds"] and line["examples"] > 10_000 and line["settings"]["history"] == HISTORY
    assert lines[-1]["peak_bytes"] > 50_000_000 and set(lines[-1]["seconds"]) == {"draw", "prepare", "batch"}


def test_memory_is_what_the_process_has_had():
    before = input_pipeline.peak_bytes()
    # As much again as there ever was, beside what is held now.
    held = np.ones(before, np.uint8)
    assert input_pipeline.peak_bytes() - before > 30_000_000
    assert held.all()
