"""A stack whose trainer is measured on validation as it goes; what is found lies in the workdir and outlives a stop."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from retrieval_contract.arrays import AnyArray, Batch, FeatureArrays, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.files import write_text
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.runs.checkpoints import weights_of
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.stack import Encoders, Stack, StepResult, Trainer, TrainerState
from retrieval_contract.weights.names import VocabularySizes

Weights = Mapping[str, Float32Array]
Point = Mapping[str, Any]
Measure = Callable[[Weights], Mapping[str, float]]
"""Weights -> validation metrics."""


@final
class Curve:
    """Points of one run: step, mean loss since the point before, seconds of training so far, metrics."""

    def __init__(self, path: Path, measure: Measure, *, every_steps: int) -> None:
        """Keep where points go.

        Args:
            path: file of one JSON line a point.
            measure: gives a point its metrics.
            every_steps: optimiser steps between points.
        """
        self._path, self._measure, self._every_steps = path, measure, every_steps
        self._step, self._losses = 0, list[float]()
        self._wall = self._cpu = 0.0
        self._begun = time.monotonic(), time.process_time()

    def begin(self, step: int) -> None:
        """Start at a step; points behind it, of a session that was stopped later, are forgotten."""
        kept = [point for point in points(self._path) if point["step"] <= step]
        write_text(self._path, "".join(json.dumps(point) + "\n" for point in kept))
        self._step = step
        self._wall, self._cpu = (kept[-1]["seconds"], kept[-1]["cpu_seconds"]) if kept else (0.0, 0.0)
        self._begun = time.monotonic(), time.process_time()

    def add(self, result: StepResult, weights: Callable[[], Weights]) -> None:
        """Count a step, and measure where a point is due."""
        self._step += 1
        self._losses.append(result.loss)
        if self._step % self._every_steps == 0:
            self._pause()
            point = {
                "step": self._step,
                "loss": round(sum(self._losses) / len(self._losses), 5),
                "seconds": round(self._wall, 1),
                "cpu_seconds": round(self._cpu, 1),
                "metrics": {name: round(value, 6) for name, value in self._measure(weights()).items()},
            }
            self._losses.clear()
            before = self._path.read_text(encoding="utf-8")
            write_text(self._path, before + json.dumps(point, allow_nan=False) + "\n")
            print(f"step {self._step:,}: {json.dumps(point)}", flush=True)
            self._begun = time.monotonic(), time.process_time()

    def _pause(self) -> None:
        wall, cpu = self._begun
        self._wall += time.monotonic() - wall
        self._cpu += time.process_time() - cpu


def points(path: Path) -> list[Point]:
    """Points of a run, oldest first; none where it has no file."""
    if not path.exists():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@final
class WatchedStack:
    """A stack that tells a curve of every step, and does all else as it did."""

    def __init__(self, stack: Stack, curve: Curve) -> None:
        """Keep both."""
        self._stack, self._curve = stack, curve
        self.name = stack.name
        self.indexes: Mapping[str, type[Index]] = stack.indexes

    def replica(self) -> tuple[int, int]:
        """As the stack says."""
        return self._stack.replica()

    def any_replica(self, flag: bool) -> bool:
        """As the stack says."""
        return self._stack.any_replica(flag)

    def trainer(
        self, config: RunConfig, sizes: VocabularySizes, state: TrainerState, catalogue: FeatureArrays
    ) -> Trainer:
        """Build the stack's trainer, watched from its step on."""
        self._curve.begin(int(state["step"]))
        return _WatchedTrainer(self._stack.trainer(config, sizes, state, catalogue), self._curve)

    def encoders(self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]) -> Encoders:
        """As the stack says."""
        return self._stack.encoders(config, sizes, weights)

    def export(self, opened: OpenedRun, kind: str, folder: Path) -> Mapping[str, Any]:
        """As the stack says."""
        return self._stack.export(opened, kind, folder)


@final
class _WatchedTrainer:
    def __init__(self, trainer: Trainer, curve: Curve) -> None:
        self._trainer, self._curve = trainer, curve

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        result = self._trainer.step(batches, learning_rate=learning_rate)
        self._curve.add(result, lambda: weights_of(self._trainer.state()))
        return result

    def state(self) -> dict[str, AnyArray]:
        return self._trainer.state()
