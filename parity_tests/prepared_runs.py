"""Batches of prepared data, with every kind of feature, whole sequences and several interests; no framework needed."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from numpy.typing import NDArray

from retrieval_contract.arrays import Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.planted_past import past_config, past_raw
from retrieval_contract.data.prepare import PreparedData, prepare_raw

SMALL: dict[str, Any] = {"training": {"batch_size": 24}}
NEGATIVES: dict[str, Any] = {"negatives": {"sampled": 7, "mask_known_positives": True}}
CANDIDATE: dict[str, Any] = {"features": [{"name": "candidate_id", "kind": "id", "width": 8}]}


def _sequential(pooling: dict[str, Any]) -> dict[str, Any]:
    history = {"name": "past", "kind": "history", "width": 8, "max_length": 6, "shares": True, "pooling": pooling}
    return {"query": {"features": [history]}, "context": None, "candidate": CANDIDATE, "model": {"dim": 8}}


RUNS: dict[str, tuple[Callable[[], Any], Callable[[], RunConfig], dict[str, Any]]] = {
    "kinds": (kinds_raw, kinds_config, NEGATIVES),
    "past": (past_raw, past_config, NEGATIVES),
    "places": (
        past_raw,
        past_config,
        {**_sequential({"kind": "transformer"}), "training": {"batch_size": 8, "positions": "all"}},
    ),
    "interests": (past_raw, past_config, _sequential({"kind": "mind", "num_interests": 3})),
}


@functools.cache
def prepared_run(name: str) -> tuple[RunConfig, PreparedData]:
    """Configuration and data of a run."""
    make_raw, make_config, rooms = RUNS[name]
    tree = make_config().model_dump(mode="json") | SMALL | rooms | {"seed": 3}
    tree["training"] = {"device": "cpu", **tree["training"]}
    config = config_from_tree(tree, where=name)
    return config, prepare_raw(make_raw(), config)


@functools.cache
def batches(name: str) -> list[Batch]:
    """The first two batches."""
    config, prepared = prepared_run(name)
    steps = TrainingBatches(prepared, config).epoch(0)
    return [batch for _, step in zip(range(2), steps, strict=False) for batch in step]


def flat(nest: Any) -> dict[str, NDArray[Any]]:
    """Leaves by their path; fields that are None left out."""
    if is_dataclass(nest):
        nest = {field.name: getattr(nest, field.name) for field in fields(nest)}
    leaves: dict[str, NDArray[Any]] = {}
    for name, value in nest.items():
        if value is None:
            continue
        deeper = flat(value) if isinstance(value, dict) or is_dataclass(value) else None
        leaves |= {name: value} if deeper is None else {f"{name}/{key}": leaf for key, leaf in deeper.items()}
    return leaves


def digests(name: str) -> dict[str, str]:
    """Digest of every array of the first batches, by place and path."""
    return {
        f"{number}/{path}": digest(array)
        for number, batch in enumerate(batches(name))
        for path, array in flat(batch).items()
    }


def digest(array: NDArray[Any]) -> str:
    """SHA-256 of dtype, shape and bytes."""
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
