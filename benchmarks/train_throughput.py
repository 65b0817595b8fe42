"""Does a training step cost what its batch touches, or what the embedding tables hold?

    python -m benchmarks.train_throughput [--quick] [--results FOLDER]

Both towers 64 -> 512 -> 256 -> 128 over an id embedding of width 64, batch 1,024, Adam, rows drawn evenly. A trainer
with tables of 10,000 rows and one of 1,000,000 take turns in one process, so that whatever else the machine does meets
both; each stack has a process of its own. Then ours take turns with others (`train_contenders`), and, without --quick,
on batches that repeat rows as real ones do (`train_repeats`). The last line is one JSON object; its ratio is the worse
stack's.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks import record, train_contenders
from benchmarks.spread import paired_ratio
from retrieval_contract import config as c
from retrieval_contract.arrays import Batch
from retrieval_contract.stack import Stack, Trainer
from retrieval_contract.weights.names import initial_weights, parameter_table

NAME = "train_throughput"
STACKS = ("tfrs_models", "torch_reference")
SMALL, LARGE = 10_000, 1_000_000
NUM_BATCHES = 16
"""Different batches that a trainer is given in turn."""
STEPS_A_TURN = 4
WARM_UP = 3
LEAST_TURNS = 4
LEARNING_RATE = 1e-3
MIDDLE, HUGE = 5_000_000, 10_000_000
RUNS = (
    *((SMALL, optimizer) for optimizer in ("adam", "adagrad", "sgd")),
    *((LARGE, optimizer) for optimizer in ("adam", "adagrad", "sgd")),
    *((HUGE, optimizer) for optimizer in ("adam", "adagrad", "sgd")),
)
"""Rows and optimisers that ours are compared with others at, most telling first."""
FAMILY_SECONDS, QUICK_FAMILY_SECONDS = 6, 3
"""Of turns, in each process that compares."""
Key = TypeVar("Key", int, str)
"""What tells the trainers apart that take turns: rows of their tables, or a name."""


def run_config() -> c.RunConfig:
    """What is trained."""
    towers = {
        side: c.Tower(features=(c.IdFeature(name=f"{side}_id", width=64),), hidden_dims=(512, 256))
        for side in ("query", "candidate")
    }
    return c.RunConfig(
        name=NAME,
        query=towers["query"],
        candidate=towers["candidate"],
        model=c.Model(dim=128, normalize=True),
        loss=c.Loss(temperature=0.05),
        optimizer=c.Optimizer(kind="adam", learning_rate=LEARNING_RATE),
        training=c.Training(batch_size=1_024),
    )


def draw_batches(num_rows: int, batch_size: int, *, seed: int) -> list[Batch]:
    """Batches of ids drawn evenly over a vocabulary; rows 0 and 1 are padding and unknown."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(2, num_rows, (NUM_BATCHES, 2, batch_size)).astype(np.int32)
    return [
        Batch(
            query_features={"query_id": query_rows},
            candidate_features={"candidate_id": candidate_rows},
            query_rows=query_rows,
            candidate_rows=candidate_rows,
            log_q=np.full(batch_size, -np.log(num_rows), np.float32),
            weights=np.ones(batch_size, np.float32),
        )
        for query_rows, candidate_rows in rows
    ]


def make_trainer(stack: Stack, config: c.RunConfig, num_rows: int) -> Trainer:
    """A trainer at step 0 whose tables have `num_rows` rows."""
    sizes = {"query": {"query_id": num_rows}, "candidate": {"candidate_id": num_rows}}
    weights = initial_weights(parameter_table(config, sizes), seed=0, embedding_stddev=0.05)
    state = {f"weights/{name}": array for name, array in weights.items()}
    catalogue = {"candidate_id": np.arange(2, num_rows, dtype=np.int32)}
    return stack.trainer(config, sizes, {**state, "step": np.array(0, np.int64)}, catalogue)


def take_turns(
    trainers: dict[Key, Trainer],
    batches: dict[Key, list[Batch]],
    *,
    turns: int,
    seconds: float,
    warm_up: int = WARM_UP,
    steps_a_turn: int = STEPS_A_TURN,
) -> dict[Key, record.Times]:
    """Time turns of a few steps, each trainer in its turn, until the turns are done or the time is up.

    Args:
        trainers: who takes turns.
        batches: what each is given, over and over.
        turns: of each, at most.
        seconds: after which no turn is begun, the first few excepted.
        warm_up: steps of each before the clock starts.
        steps_a_turn: steps timed together.

    Returns:
        Raw times of the turns of each.

    Raises:
        AssertionError: a loss is not finite.
    """
    times = {key: record.Times() for key in trainers}
    done = dict.fromkeys(trainers, 0)

    def turn(key: Key, steps: int) -> None:
        for _ in range(steps):
            result = trainers[key].step([batches[key][done[key] % len(batches[key])]], learning_rate=LEARNING_RATE)
            assert np.isfinite(result.loss), f"loss {result.loss} of trainer {key}"
            done[key] += 1

    for key in trainers:
        turn(key, warm_up)
    until = time.monotonic() + seconds
    for count in range(turns):
        if count >= LEAST_TURNS and time.monotonic() > until:
            break
        # A B, then B A: neither always comes after the other.
        for key in sorted(trainers, reverse=bool(count % 2)):
            times[key].take(partial(turn, key, steps_a_turn))
    return times


def measure(name: str, *, sizes: Sequence[int], turns: int, seconds: float, results: Path) -> dict[str, Any]:
    """Measure one stack in this process, write its lines, and sum them up."""
    stack: Stack = importlib.import_module(f"{name}.stack").STACK
    config = run_config()
    batch_size = config.training.batch_size
    batches = {rows: draw_batches(rows, batch_size, seed=rows) for rows in sizes}
    trainers = {rows: make_trainer(stack, config, rows) for rows in sizes}
    times = take_turns(trainers, batches, turns=turns, seconds=seconds)
    rates = {rows: rate(taken, batch_size) for rows, taken in times.items()}
    settings = {
        "stack": name,
        "batch_size": batch_size,
        "steps_a_turn": STEPS_A_TURN,
        "openmp": {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ},
        "config": config.digest(),
    }
    record.append(
        results / f"{NAME}.jsonl",
        [
            record.line(
                NAME,
                f"{name}, {rows:,} rows",
                taken,
                settings=settings | {"rows": rows},
                seed=0,
                examples_per_second=rates[rows],
            )
            for rows, taken in times.items()
        ],
    )
    return summary(times, rates)


def rate(times: record.Times, batch_size: int) -> float:
    """Median examples a second."""
    return STEPS_A_TURN * batch_size / statistics.median(times.wall)


def summary(times: dict[int, record.Times], rates: dict[int, float]) -> dict[str, Any]:
    """One stack's rates, and the ratio of the largest tables' to the smallest's.

    The ratio is the median over pairs of neighbouring turns, so that a machine whose speed drifts meets both sides of a
    pair; the ratio of the two medians stands beside it.
    """
    small, large = min(rates), LARGE if LARGE in rates else max(rates)
    turn_by_turn = [a / b for a, b in zip(times[small].wall, times[large].wall, strict=True)]
    return {
        "examples_per_second": {f"{rows:,}": round(rates[rows]) for rows in sorted(rates)},
        "ratio": round(statistics.median(turn_by_turn), 3),
        "ratio_of_medians": round(rates[large] / rates[small], 3),
        "turns": len(turn_by_turn),
    } | (
        {"ratio_5m_rows_to_10k_rows": round(paired_ratio(times[small].wall, times[MIDDLE].wall).value, 3)}
        if MIDDLE in rates
        else {}
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both stacks and print the worse ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="in under a minute")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--sizes", type=int, nargs="+", help="rows of the tables")
    parser.add_argument("--stack", choices=STACKS, help="measure this one in this process")
    parser.add_argument("--alone", action="store_true", help="our stacks alone, without the others")
    flags = parser.parse_args(arguments)
    turns, seconds = (50, 6.0) if flags.quick else (200, 25.0)
    flags.sizes = flags.sizes or ([SMALL, LARGE] if flags.quick else [SMALL, LARGE, MIDDLE])
    if flags.stack:
        figures = measure(flags.stack, sizes=flags.sizes, turns=turns, seconds=seconds, results=flags.results)
        print(json.dumps(figures))
        return
    quick = ["--quick"] if flags.quick else []
    words = ["--results", str(flags.results), "--sizes", *map(str, flags.sizes), *quick]
    found = {name: _in_a_process("train_throughput", "--stack", name, *words) for name in STACKS}
    beside = {} if flags.alone else _beside_others(flags)
    worst = min(part["ratio"] for part in found.values())
    print(json.dumps({"ratio_1m_rows_to_10k_rows": worst, **found, "beside_others": beside}))


def _beside_others(flags: argparse.Namespace) -> dict[str, Any]:
    """Compare ours with others; rates by what was trained."""
    more = ["--results", str(flags.results), "--seconds", str(QUICK_FAMILY_SECONDS if flags.quick else FAMILY_SECONDS)]
    found = {}
    for rows, optimizer in RUNS[:1] if flags.quick else RUNS:
        for family in train_contenders.FAMILIES:
            # Another process of its own does not fit beside two models of ten million rows.
            keras_rs = ["--keras_rs"] if not flags.quick and rows < HUGE else []
            words = [family, optimizer, str(rows), *more, *keras_rs]
            found[f"{family}, {optimizer}, {rows:,} rows"] = _in_a_process("train_contenders", *words)
    for family in () if flags.quick else train_contenders.FAMILIES:
        words = [family, "--results", str(flags.results)]
        found[f"{family}, rows that repeat"] = _in_a_process("train_repeats", *words)
    return found


def _in_a_process(script: str, *words: str) -> dict[str, Any]:
    """Run a script in a fresh process; its last line is its summary."""
    command = [sys.executable, "-m", f"benchmarks.{script}", *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{' '.join(words[:3])}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    main()
