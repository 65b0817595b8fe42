"""Checkpoints: the whole trainer state in the canonical form, written beside and renamed; the newest few are kept."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from retrieval_contract.arrays import AnyArray, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import read_config
from retrieval_contract.errors import UserError
from retrieval_contract.stack import TrainerState
from retrieval_contract.weights.archive import read_arrays, write_arrays

KEPT = 2
"""Checkpoints that stay; one more than the newest, in case the newest is damaged."""
WEIGHTS = "weights/"
"""Prefix of a state's weights."""
SAMPLING = "sampling/"
"""Prefix of what the batches keep beside the trainer: the counts of a streaming estimator."""
_NAME = re.compile(r"step_(\d{9})\.safetensors")


def write_checkpoint(folder: Path, state: TrainerState, *, config_digest: str) -> Path:
    """Write the state and remove checkpoints older than the newest `KEPT`.

    Raises:
        UserError: the disk is full or the folder cannot be written; older checkpoints stay.
    """
    path = folder / f"step_{int(state['step']):09d}.safetensors"
    write_arrays(path, {name: np.asarray(array) for name, array in state.items()}, {"config_digest": config_digest})
    for old in checkpoint_paths(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def weights_of(state: TrainerState) -> dict[str, Float32Array]:
    """The weights of a state by canonical name."""
    return {
        name.removeprefix(WEIGHTS): np.asarray(array, np.float32)
        for name, array in state.items()
        if name.startswith(WEIGHTS)
    }


def parted(state: Mapping[str, AnyArray]) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    """Part a checkpoint into what is the trainer's and what is the batches'."""
    sampling = {name: array for name, array in state.items() if name.startswith(SAMPLING)}
    return {name: array for name, array in state.items() if name not in sampling}, sampling


def checkpoint_paths(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first; empty where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """Read the newest checkpoint.

    Raises:
        UserError: there is none, or it is damaged (then an older one, where there is one, is named).
    """
    paths = checkpoint_paths(folder)
    if not paths:
        raise UserError("no checkpoint to resume from", where=str(folder), todo="train without --resume")
    try:
        state, _ = read_arrays(paths[-1])
    except UserError as error:
        todo = f"remove it and resume from {paths[-2].name}" if len(paths) > 1 else "train again with --overwrite"
        raise UserError(error.what, where=str(paths[-1]), todo=todo) from None
    return state


def check_same_run(saved: Path, config: RunConfig) -> None:
    """Refuse to resume a run under another configuration; only `training.epochs` may change.

    Raises:
        UserError: the fields that differ are named.
    """
    old, new = (tree.model_dump(mode="json") for tree in (read_config(saved), config))
    if same_run_digest(read_config(saved)) != same_run_digest(config):
        fields = [f"{a} ({old_value!r} -> {new_value!r})" for a, old_value, new_value in _differences(old, new)]
        todo = "resume with the same settings, or train into another workdir"
        raise UserError(f"the configuration changed: {', '.join(fields[:5])}", where=str(saved), todo=todo)


def same_run_digest(config: RunConfig) -> str:
    """What two configurations share where one may resume the other's run: all but the number of epochs."""
    return config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})}).digest()


def _differences(old: object, new: object, path: str = "") -> list[tuple[str, object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [item for key in keys for item in _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if old == new else [(path, old, new)]
