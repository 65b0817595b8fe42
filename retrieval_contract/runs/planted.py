"""A stack in a few lines of NumPy, for tests of runs: every weight a step leaves depends on all that came before it.

It learns nothing. Queries and candidates are rows of their id embeddings; a step moves those of its batches, sampled
columns included, by amounts that the rows alone decide.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_contract.arrays import AnyArray, Batch, FeatureArrays, Float32Array
from retrieval_contract.config import IdFeature, RunConfig, Tower
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.presets import preset
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.stack import StepResult, TrainerState
from retrieval_contract.weights.names import LOG_TEMPERATURE, VocabularySizes

QUERY, CANDIDATE = "query.embedding.query_id", "candidate.embedding.candidate_id"


class PlantedTrainer:
    """Moves embeddings by amounts that the batches decide."""

    def __init__(self, state: TrainerState, *, on_step: Callable[[int], None] = lambda step: None) -> None:
        self._state = {name: np.array(array) for name, array in state.items()}
        self._on_step = on_step

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        """Move; the loss is the number of the step."""
        step = int(self._state["step"])
        self._on_step(step)
        for batch in batches:
            self._move("weights/" + QUERY, batch.query_features["query_id"], batch.log_q, learning_rate)
            self._move("weights/" + CANDIDATE, batch.candidate_features["candidate_id"], batch.log_q, learning_rate)
            if batch.sampled is not None:
                ids_E = batch.sampled.features["candidate_id"]
                self._move("weights/" + CANDIDATE, ids_E, batch.sampled.log_q, -learning_rate)
        temperature = 1.0
        theta = self._state.get("weights/" + LOG_TEMPERATURE)
        if theta is not None:
            temperature = float(np.exp(theta[0]))
            theta -= np.float32(0.01)
        self._state["step"] = np.asarray(step + 1, np.int64)
        return StepResult(loss=float(step), gradient_norm=1.0, temperature=temperature)

    def state(self) -> dict[str, AnyArray]:
        """Copies."""
        return {name: np.array(array) for name, array in self._state.items()}

    def _move(self, name: str, rows: AnyArray, log_q: Float32Array, rate: float) -> None:
        table = self._state[name]
        towards = np.sin(np.arange(len(rows)) + log_q)[:, None] * np.cos(np.arange(table.shape[1]))
        np.add.at(table, rows, (rate * towards).astype(np.float32))


class PlantedEncoders:
    """Rows of the id embeddings."""

    def __init__(self, weights: Mapping[str, Float32Array]) -> None:
        self._weights = weights

    def encode_queries(self, features: FeatureArrays) -> Float32Array:
        """Rows of the query embedding."""
        return self._weights[QUERY][features["query_id"]]

    def encode_candidates(self, features: FeatureArrays) -> Float32Array:
        """Rows of the candidate embedding."""
        return self._weights[CANDIDATE][features["candidate_id"]]


class PlantedStack:
    """One process; the trainers that it has made, and what it was asked, are kept."""

    name = "planted"
    indexes: Mapping[str, type[Index]] = {"exact": ExactIndex}

    def __init__(self, *, on_step: Callable[[int], None] = lambda step: None) -> None:
        self.trainers: list[PlantedTrainer] = []
        self.num_encoders = 0
        self._on_step = on_step

    def replica(self) -> tuple[int, int]:
        """Alone."""
        return 0, 1

    def any_replica(self, flag: bool) -> bool:
        """Never asked where one process is alone."""
        raise AssertionError("one process needs nobody's word")

    def trainer(
        self, config: RunConfig, sizes: VocabularySizes, state: TrainerState, catalogue: FeatureArrays
    ) -> PlantedTrainer:
        """At the given state."""
        strange = [name for name in state if not name.startswith(("weights/", "slots/", "step"))]
        assert not strange, f"no trainer knows {strange}"
        assert len(catalogue["candidate_id"]) >= 2
        self.trainers.append(PlantedTrainer(state, on_step=self._on_step))
        return self.trainers[-1]

    def encoders(
        self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]
    ) -> PlantedEncoders:
        """Of the weights."""
        self.num_encoders += 1
        return PlantedEncoders(weights)

    def export(self, opened: OpenedRun, kind: str, folder: Path) -> dict[str, Any]:
        """The digest of the weights, in a sub-folder."""
        (folder / "variables").mkdir()
        (folder / "variables" / "digest").write_text(opened.weights_digest)
        return {"needs": "nothing"}


class PlantedReplica(PlantedStack):
    """One of several that live as threads of one process."""

    def __init__(self, number: int, meeting: "Meeting", *, on_step: Callable[[int], None] = lambda step: None) -> None:
        super().__init__(on_step=on_step)
        self._number, self._meeting = number, meeting

    def replica(self) -> tuple[int, int]:
        """One of those that meet."""
        return self._number, self._meeting.num_replicas

    def any_replica(self, flag: bool) -> bool:
        """Ask the others."""
        return self._meeting.any(flag)


class Meeting:
    """Where threads agree."""

    def __init__(self, num_replicas: int) -> None:
        self.num_replicas = num_replicas
        self._barrier = threading.Barrier(num_replicas, timeout=30)
        self._flags: list[bool] = []

    def any(self, flag: bool) -> bool:
        """True for all where one says so."""
        self._flags.append(flag)
        self._barrier.wait()
        said = any(self._flags)
        if self._barrier.wait() == 0:
            self._flags.clear()
        self._barrier.wait()
        return said


def planted_run(**rooms: dict[str, Any]) -> RunConfig:
    """A run of seconds: the simulated source at its smallest, id features only; `rooms` update branches."""
    tree = preset("simulated").model_dump()
    small = {
        "source": {"num_interactions": 1_000, "num_queries": 40, "num_candidates": 50},
        "query": Tower(features=(IdFeature(name="query_id", width=4),)).model_dump(),
        "candidate": Tower(features=(IdFeature(name="candidate_id", width=4),)).model_dump(),
        "model": {"dim": 4, "candidate_bias": False},
        "evaluation": {"bootstrap_samples": 10, "baselines": ("popularity",), "cutoffs": (1, 10)},
        "training": {"epochs": 4, "batch_size": 64},
    }
    for changes in (small, rooms):
        for room, fields in changes.items():
            tree[room] = {**tree[room], **fields}
    return RunConfig.model_validate(tree)
