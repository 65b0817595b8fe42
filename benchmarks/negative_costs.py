"""What corrections and negatives cost: `python -m benchmarks.negatives --quick`.

Two trainers of a pair take turns in one process, A B and then B A, so that whatever else the machine does meets both;
an overhead is the median over neighbouring turns, less one. Each stack has a process of its own. Towers 64 -> 512 ->
256 -> 128, width 128, batch 1,024, Adam, ids by a popularity law, so that accidental hits happen. The bank is measured
with heavier towers too, 256 -> 2,048 -> 1,024 -> 128: its cost is that of its own products, whatever the towers cost.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, train_throughput
from retrieval_contract import config as c
from retrieval_contract.arrays import Batch, Int32Array
from retrieval_contract.sampling.streaming import StreamingFrequency
from retrieval_contract.stack import Stack

NAME = "negative_costs"
STACKS = ("tfrs_models", "torch_reference")
BATCH_SIZE = 1_024
NUM_CANDIDATES = 10_000
NUM_BATCHES = 16
"""Different batches that a trainer is given in turn, and batches in the bank."""
FIRST_ROW = 2
"""Vocabulary row of entity row 0: before it stand padding and unknown."""
PLAIN, CORRECTED, BANK = "plain", "corrected", "bank"
SECONDS = 18.0
"""Time for the turns of a pair."""
TURNS = 200
STREAMING_BATCHES = 2_000
STREAMING_ROWS = 1_000_000
"""Candidates of the streaming estimator: with so many, drawn evenly, hardly two rows of a batch are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two ways of training whose step times are compared."""

    without: str
    """What the other is measured against."""
    along: str
    """What costs something more."""
    width: int = 64
    """Width of the ids' embeddings."""
    hidden_dims: tuple[int, ...] = (512, 256)
    """Hidden layers of both towers."""
    steps_a_turn: int = train_throughput.STEPS_A_TURN

    @property
    def towers(self) -> str:
        """The towers' widths in one word."""
        return "->".join(str(width) for width in (self.width, *self.hidden_dims, 128))


PAIRS: dict[str, Pair] = {
    "log_q_overhead": Pair(without=PLAIN, along=CORRECTED),
    "bank_overhead": Pair(without=CORRECTED, along=BANK),
    "bank_overhead_heavy_towers": Pair(
        without=CORRECTED, along=BANK, width=256, hidden_dims=(2_048, 1_024), steps_a_turn=1
    ),
}
"""By the figure that comes of it."""


def run_config(pair: Pair, kind: str) -> c.RunConfig:
    """What is trained: neither correction nor masks, both, or both and a full bank."""
    base = train_throughput.run_config()
    corrected = kind != PLAIN
    loss = {"log_q": "exact" if corrected else "none", "remove_accidental_hits": corrected}
    towers = {
        side: c.Tower(features=(c.IdFeature(name=f"{side}_id", width=pair.width),), hidden_dims=pair.hidden_dims)
        for side in ("query", "candidate")
    }
    tree = base.model_dump()
    tree["loss"] |= loss
    tree["negatives"]["bank"]["num_batches"] = NUM_BATCHES if kind == BANK else 0
    return c.RunConfig.model_validate({**tree, **{side: tower.model_dump() for side, tower in towers.items()}})


def draw_batches(*, corrected: bool, seed: int) -> list[Batch]:
    """Batches whose candidates follow a law of popularity, one in the rank, and whose queries are drawn evenly."""
    generator = np.random.default_rng(seed)
    probability_N = 1 / np.arange(1, NUM_CANDIDATES + 1)
    probability_N /= probability_N.sum()
    log_q_N = np.log(probability_N).astype(np.float32) if corrected else np.zeros(NUM_CANDIDATES, np.float32)
    return [_batch(generator, probability_N, log_q_N) for _ in range(NUM_BATCHES)]


def _batch(generator: np.random.Generator, probability_N: np.ndarray, log_q_N: np.ndarray) -> Batch:
    candidate_rows: Int32Array = generator.choice(NUM_CANDIDATES, BATCH_SIZE, p=probability_N).astype(np.int32)
    query_rows: Int32Array = generator.integers(0, NUM_CANDIDATES, BATCH_SIZE).astype(np.int32)
    return Batch(
        query_features={"query_id": query_rows + np.int32(FIRST_ROW)},
        candidate_features={"candidate_id": candidate_rows + np.int32(FIRST_ROW)},
        query_rows=query_rows,
        candidate_rows=candidate_rows,
        log_q=log_q_N[candidate_rows],
        weights=np.ones(BATCH_SIZE, np.float32),
    )


def measure(name: str, *, pairs: Mapping[str, Pair], turns: int, seconds: float, results: Path) -> dict[str, Any]:
    """Measure one stack in this process, write its lines, and sum them up."""
    stack: Stack = importlib.import_module(f"{name}.stack").STACK
    figures = {}
    for figure, pair in pairs.items():
        times = _timed(stack, pair, turns=turns, seconds=seconds)
        record.append(results / f"{NAME}.jsonl", [_line(name, figure, pair, kind, times[kind]) for kind in times])
        figures[figure] = summary(times[pair.without], times[pair.along], pair)
    return figures


def _timed(stack: Stack, pair: Pair, *, turns: int, seconds: float) -> dict[str, record.Times]:
    num_rows = NUM_CANDIDATES + FIRST_ROW
    kinds = (pair.without, pair.along)
    return train_throughput.take_turns(
        {kind: train_throughput.make_trainer(stack, run_config(pair, kind), num_rows) for kind in kinds},
        {kind: draw_batches(corrected=kind != PLAIN, seed=0) for kind in kinds},
        turns=turns,
        seconds=seconds,
        # The bank is full then, and has been used.
        warm_up=NUM_BATCHES + train_throughput.WARM_UP,
        steps_a_turn=pair.steps_a_turn,
    )


def _line(name: str, figure: str, pair: Pair, kind: str, times: record.Times) -> dict[str, Any]:
    settings = {
        "stack": name,
        "figure": figure,
        "kind": kind,
        "towers": pair.towers,
        "batch_size": BATCH_SIZE,
        "bank": NUM_BATCHES * BATCH_SIZE if kind == BANK else 0,
        "steps_a_turn": pair.steps_a_turn,
        "openmp": {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ},
        "config": run_config(pair, kind).digest(),
    }
    rate = pair.steps_a_turn * BATCH_SIZE / statistics.median(times.wall)
    return record.line(NAME, f"{name}, {figure}, {kind}", times, settings=settings, seed=0, examples_per_second=rate)


def summary(without: record.Times, along: record.Times, pair: Pair) -> dict[str, Any]:
    """What the one costs over the other, pair of neighbouring turns by pair, and how far the pairs lie apart."""
    overheads = [b / a - 1 for a, b in zip(without.wall, along.wall, strict=True)]
    low, _, high = statistics.quantiles(overheads, n=4)
    step = {kind: statistics.median(times.wall) / pair.steps_a_turn for kind, times in _named(pair, without, along)}
    return {
        "overhead": round(statistics.median(overheads), 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "pairs": len(overheads),
        "step_milliseconds": {kind: round(1_000 * seconds, 2) for kind, seconds in step.items()},
        "towers": pair.towers,
    }


def _named(pair: Pair, without: record.Times, along: record.Times) -> list[tuple[str, record.Times]]:
    return [(pair.without, without), (pair.along, along)]


def measure_streaming(*, num_batches: int, results: Path) -> dict[str, Any]:
    """Updates a second of the streaming estimator with its default settings, on one core.

    An update is one row of a batch given to `update`. Rows are drawn evenly from a million candidates, so that nearly
    all of a batch differ and few are in the cache.
    """
    _on_one_core()
    settings = c.Streaming()
    estimator = StreamingFrequency(settings)
    rows = np.random.default_rng(0).integers(0, STREAMING_ROWS, (64, BATCH_SIZE)).astype(np.int32)
    block = 100
    """Batches timed together."""

    def update() -> None:
        for nth in range(block):
            estimator.update(rows[nth % len(rows)])

    update()
    times = record.Times()
    for _ in range(max(1, num_batches // block)):
        times.take(update)
    rate = block * BATCH_SIZE / statistics.median(times.wall)
    told = {"hashes": settings.num_hashes, "buckets": settings.num_buckets, "batch_size": BATCH_SIZE, "batches": block}
    case = f"streaming updates, {settings.num_hashes} hash"
    record.append(
        results / f"{NAME}.jsonl", [record.line(NAME, case, times, settings=told, seed=0, updates_per_second=rate)]
    )
    return {"updates_per_second": round(rate), "hashes": settings.num_hashes, "cores": 1}


def _on_one_core() -> None:
    """Keep this process to one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def from_lines(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Sum up the last lines of every pair again: figure, stack, summary."""
    last = {tuple(line["settings"].get(key) for key in ("figure", "stack", "kind")): line for line in lines}
    times = {key: record.Times(wall=line["wall_seconds"], cpu=line["cpu_seconds"]) for key, line in last.items()}
    return [
        (figure, stack, summary(times[figure, stack, pair.without], times[figure, stack, pair.along], pair))
        for figure, pair in PAIRS.items()
        for stack in STACKS
        if (figure, stack, pair.along) in times
    ]


def streaming_rate(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Updates a second of the last line of the streaming estimator."""
    return next((line["updates_per_second"] for line in reversed(lines) if "updates_per_second" in line), None)


def measure_all(results: Path, *, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure everything, each stack and the estimator in a process of its own; the worst stack's figures in front."""
    stacks = {name: _in_a_process(name, results, seconds) for name in STACKS}
    streaming = _in_a_process("streaming", results, seconds)
    worst = {figure: max(found[figure]["overhead"] for found in stacks.values()) for figure in PAIRS}
    return {
        **worst,
        "streaming_updates_per_second": streaming["updates_per_second"],
        "streaming": streaming,
        **stacks,
    }


def part(name: str, results: Path, *, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure one stack, or `streaming`, in this process."""
    if name == "streaming":
        return measure_streaming(num_batches=STREAMING_BATCHES, results=results)
    return measure(name, pairs=PAIRS, turns=TURNS, seconds=seconds, results=results)


def _in_a_process(name: str, results: Path, seconds: float) -> dict[str, Any]:
    """Measure a part in a fresh process; its last line is its summary."""
    command = [sys.executable, "-m", "benchmarks.negatives", "--part", name, "--results", str(results)]
    command.append(f"--seconds={seconds}")
    began = time.monotonic()
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}, {time.monotonic() - began:.0f} s: {json.dumps(figures)}", file=sys.stderr, flush=True)
    return figures
