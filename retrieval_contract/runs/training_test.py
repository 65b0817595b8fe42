"""A run from configuration to report, with the planted stack: what it leaves, and what it goes on from."""

import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from retrieval_contract.runs.checkpoints import checkpoint_paths, read_checkpoint
from retrieval_contract.runs.opened import evaluate_encoders, open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.weights.archive import read_arrays

LEARNED = {"learn_temperature": True, "temperature": 0.5}


class KilledError(Exception):
    """Stands for kill -9."""


def train(folder, run, *, stack=None, **flags):
    return train_run(stack or PlantedStack(), run, Workdir(folder), **{"resume": False, "overwrite": False, **flags})


def scalars(folder):
    """Steps and values by name, read from the event file's records (length, its check, the event, its check)."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_a_learned_temperature_is_logged_at_every_step_and_shown(tmp_path, capsys):
    train(tmp_path / "w", planted_run(loss=LEARNED))
    logged = scalars(tmp_path / "w")
    num_steps = int(read_checkpoint(tmp_path / "w" / "checkpoints")["step"])
    assert list(logged["train/temperature"]) == list(range(1, num_steps + 1))
    assert logged["train/temperature"][1] == pytest.approx(0.5)
    assert logged["train/temperature"][3] == pytest.approx(0.5 * 0.980198673)
    assert list(logged["train/loss"]) == [*range(10, num_steps, 10), num_steps]


def test_a_fixed_temperature_is_not_logged(tmp_path):
    train(tmp_path / "w", planted_run())
    assert "train/loss" in scalars(tmp_path / "w") and "train/temperature" not in scalars(tmp_path / "w")


def test_the_progress_line_shows_a_learned_temperature(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("retrieval_contract.runs.progress.SECONDS_BETWEEN_LINES", 0.0)
    train(tmp_path / "w", planted_run(loss=LEARNED))
    assert "epoch 1, loss 0.0000, temperature 0.5000" in capsys.readouterr().err


def test_the_report_says_what_the_loss_learned_and_evaluating_again_says_the_same(tmp_path):
    run = planted_run(loss=LEARNED)
    report = train(tmp_path / "w", run)
    weights, _ = read_arrays(tmp_path / "w" / "weights.safetensors")
    num_steps = int(read_checkpoint(tmp_path / "w" / "checkpoints")["step"])
    assert weights["loss.log_temperature"].shape == (1,)
    notes = json.loads(report.to_json())["notes"]
    assert notes[-1] == f"learned temperature {0.5 * 0.990049834**num_steps:.4g}" and notes[-1] in report.to_text()
    opened = open_run(PlantedStack(), run, Workdir(tmp_path / "w"))
    again = evaluate_encoders(run, opened.prepared, opened.encoders, learned=opened.learned)
    assert again.to_json() == report.to_json() == (tmp_path / "w" / "metrics.json").read_text()


def test_streaming_counts_go_into_checkpoints_and_not_into_the_weights_and_are_resumed(tmp_path):
    streaming = {"log_q": "streaming", "streaming": {"num_buckets": 97, "num_hashes": 2}}
    run = planted_run(loss=streaming, optimizer={"accumulation_steps": 2}, training={"checkpoint_every_steps": 4})
    train(tmp_path / "whole", run)
    last = checkpoint_paths(tmp_path / "whole" / "checkpoints")[-1]
    assert any(name.startswith("sampling/") for name in read_arrays(last)[0])
    assert all(
        name.startswith(("query.", "candidate.")) for name in read_arrays(tmp_path / "whole" / "weights.safetensors")[0]
    )

    def on_step(step):
        if step == 10:
            raise KilledError

    with pytest.raises(KilledError):
        train(tmp_path / "w", run, stack=PlantedStack(on_step=on_step))
    train(tmp_path / "w", run, resume=True)
    assert (tmp_path / "w" / "checkpoints" / last.name).read_bytes() == last.read_bytes()


def test_a_mistake_found_in_the_data_leaves_the_run_that_was_to_be_overwritten(tmp_path):
    train(tmp_path / "w", planted_run())
    before = (tmp_path / "w" / "weights.safetensors").read_bytes()
    with pytest.raises(ValueError, match="999"):
        train(tmp_path / "w", planted_run(evaluation={"cutoffs": (10, 999)}), overwrite=True)
    assert (tmp_path / "w" / "weights.safetensors").read_bytes() == before
    assert (tmp_path / "w" / "config.yaml").exists()
