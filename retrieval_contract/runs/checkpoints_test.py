"""Checkpoints: the newest few stay, damage is named, another configuration is refused."""

import numpy as np
import pytest

from retrieval_contract.config_text import with_settings
from retrieval_contract.errors import UserError
from retrieval_contract.presets import preset
from retrieval_contract.runs.checkpoints import (
    check_same_run,
    checkpoint_paths,
    read_checkpoint,
    write_checkpoint,
)


def state_at(step: int) -> dict[str, np.ndarray]:
    return {"weights/a": np.full((3, 2), step, np.float32), "step": np.asarray(step, np.int64)}


def test_the_newest_is_read_and_old_ones_go(tmp_path):
    for step in (1, 2, 10, 9_000_000):
        write_checkpoint(tmp_path, state_at(step), config_digest="d")
    assert [path.name for path in checkpoint_paths(tmp_path)] == [
        "step_000000010.safetensors",
        "step_009000000.safetensors",
    ]
    state = read_checkpoint(tmp_path)
    assert int(state["step"]) == 9_000_000
    np.testing.assert_array_equal(state["weights/a"], state_at(9_000_000)["weights/a"])


def test_a_damaged_newest_names_the_one_before(tmp_path):
    for step in (1, 2):
        path = write_checkpoint(tmp_path, state_at(step), config_digest="d")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"step_000000002.*resume from step_000000001"):
        read_checkpoint(tmp_path)


def test_no_checkpoint_is_said(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        read_checkpoint(tmp_path / "none")


def test_only_more_epochs_may_change(tmp_path):
    config, saved = preset("simulated"), tmp_path / "config.yaml"
    saved.write_text(config.to_yaml())
    check_same_run(saved, with_settings(config, ["training.epochs=99", "source.data_dir=/moved"]))
    with pytest.raises(UserError, match=r"optimizer\.learning_rate"):
        check_same_run(saved, with_settings(config, ["optimizer.learning_rate=0.5"]))
