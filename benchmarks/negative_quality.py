"""The table of `benchmarks.negatives`: every strategy tuned on validation and measured on test, line by line.

A line is written as soon as its run is done, and a run whose line is there is not repeated: the table can be stopped
and started again.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.negative_datasets import Dataset, shared
from benchmarks.negative_strategies import STRATEGIES, Strategy
from benchmarks.negative_training import Scored, Trained, score, train
from retrieval_contract.config import RunConfig
from retrieval_contract.data.prepare import Part, PreparedData, prepare
from retrieval_contract.errors import RunError
from retrieval_contract.runs.checkpoints import weights_of
from retrieval_contract.runs.training import first_state
from retrieval_contract.stack import Stack

NAME = "negatives"
CHOSEN_BY = "recall@100"
"""Validation metric that decides: what a retrieval stage hands on is a hundred candidates or more."""
BASELINES = "baselines"
"""Stands in place of a strategy in the lines of popularity and the linear model."""
FIRST_SEED = 0
"""Seed of the grid, and the first of test."""
Line = Mapping[str, Any]


@dataclass(slots=True)
class Lines:
    """Raw lines of a file, and which runs they stand for."""

    path: Path
    again: bool = False
    """Take no line that was there before for done."""
    _known: dict[tuple[str, int], Line] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists() and not self.again:
            self._known = {(line["digest"], line["seed"]): line for line in record.read(self.path)}

    def find(self, settings: Mapping[str, Any], seed: int) -> Line | None:
        """The line of a run, or None."""
        return self._known.get((record.digest(settings), seed))

    def add(self, line: Line) -> Line:
        """Write a line."""
        record.append(self.path, [line])
        self._known[line["digest"], line["seed"]] = line
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A data set made ready, on a stack."""

    stack: Stack
    dataset: Dataset
    base: RunConfig
    prepared: PreparedData
    lines: Lines

    def settings(self, strategy: str, part: Part, config: RunConfig, **more: Any) -> dict[str, Any]:
        """Everything that decides what a line says."""
        return {
            "stack": self.stack.name,
            "dataset": self.dataset.name,
            "strategy": strategy,
            "part": part,
            "steps": self.dataset.steps,
            "batch_size": config.training.batch_size,
            "config": config.digest(),
            **more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One strategy on one data set."""

    bench: Bench
    name: str
    strategy: Strategy
    kept: dict[tuple[float, int], Trained] = field(default_factory=dict)
    """Trainings of this process by value and seed, so that test does not repeat what validation has trained."""

    def line(self, value: float, seed: int, part: Part) -> Line:
        """Find the line of a run, or train, measure and write it."""
        bench, config = self.bench, self.strategy.configured(self.bench.base, value=value, seed=seed)
        settings = bench.settings(self.name, part, config, knob=self.strategy.knob, value=value)
        found = bench.lines.find(settings, seed)
        if found is not None:
            return found
        trained = self.kept.get((value, seed)) or train(bench.stack, config, bench.prepared, steps=bench.dataset.steps)
        self.kept[value, seed] = trained
        scored, failed = _scored(bench, config, trained, part)
        case = f"{bench.dataset.name}, {self.name}, {self.strategy.knob} {value}, {part}"
        figures = {**trained.figures, **_figures(scored), "failed": failed}
        line = bench.lines.add(record.line(NAME, case, trained.times, settings=settings, seed=seed, **figures))
        say(line)
        return line


def run_table(
    stack: Stack, datasets: Sequence[Dataset], strategies: Sequence[str], lines: Lines, *, seeds: int
) -> dict[str, Any]:
    """Fill the table, data set by data set.

    Args:
        stack: trains and encodes.
        datasets: whose files have been looked for.
        strategies: names in `STRATEGIES`.
        lines: what is there already.
        seeds: runs at the chosen value; the grid is run with the first seed alone.

    Returns:
        Seconds, test lines by data set, and the cases that failed.

    Raises:
        UserError: data or configuration that is refused.
    """
    began, done = time.monotonic(), []
    for dataset in datasets:
        base = dataset.config()
        bench = Bench(stack=stack, dataset=dataset, base=base, prepared=prepare(base), lines=lines)
        measure_baselines(bench)
        for name in strategies:
            done += tuned(Job(bench=bench, name=name, strategy=STRATEGIES[name]), seeds=seeds)
    return {
        "test_lines": sum(line["settings"]["part"] == "test" for line in done),
        "failed": [line["case"] for line in done if line["failed"]],
        "seconds": round(time.monotonic() - began, 1),
    }


def tuned(job: Job, *, seeds: int) -> list[Line]:
    """Choose the knob's value on validation with the first seed, then measure it on test with every seed.

    Returns:
        All lines, found or written; without test where every value failed.
    """
    grid = [job.line(value, FIRST_SEED, "validation") for value in job.strategy.values]
    best = chosen(grid)
    if best is None:
        return grid
    value = best["settings"]["value"]
    return grid + [job.line(value, seed, "test") for seed in range(FIRST_SEED, FIRST_SEED + seeds)]


def chosen(lines: Iterable[Line]) -> Line | None:
    """The validation line with the largest `CHOSEN_BY`, the first of equals; None where all failed."""
    able = [line for line in lines if line["metrics"] is not None]
    return max(able, key=lambda line: line["metrics"][CHOSEN_BY]["value"], default=None)


def measure_baselines(bench: Bench) -> Line:
    """Find or write the line of popularity and the linear model on test; they need no trained towers."""
    settings = bench.settings(BASELINES, "test", bench.base)
    found = bench.lines.find(settings, FIRST_SEED)
    if found is not None:
        return found
    scored: list[Scored] = []
    weights = weights_of(first_state(bench.base, bench.prepared))
    times = record.Times().take(
        lambda: scored.append(score(bench.stack, bench.base, bench.prepared, weights, "test", baselines=True))
    )
    figures = {
        "baselines": scored[0].baselines,
        "num_queries": scored[0].num_queries,
        "num_candidates": len(bench.prepared.candidates.ids),
        "num_train_positives": len(bench.prepared.train_positives),
        "notes": [note.replace(f"{shared()}/", "") for note in bench.prepared.notes],
        "failed": "",
    }
    case = f"{bench.dataset.name}, {BASELINES}, test"
    return bench.lines.add(record.line(NAME, case, times, settings=settings, seed=FIRST_SEED, **figures))


def say(line: Line) -> None:
    """Print a line of progress at once."""
    metrics = line["metrics"]
    shown = (
        line["failed"]
        or f"{CHOSEN_BY} {metrics[CHOSEN_BY]['value']:.4f}, recall@10 {metrics['recall@10']['value']:.4f}"
    )
    print(f"{line['case']}, seed {line['seed']}: {shown} ({line['wall_seconds'][0]:.1f} s)", flush=True)


def _scored(bench: Bench, config: RunConfig, trained: Trained, part: Part) -> tuple[Scored | None, str]:
    """Measure what was trained, or say why not."""
    if trained.failed:
        return None, trained.failed
    try:
        return score(bench.stack, config, bench.prepared, trained.weights, part), ""
    except RunError as error:
        return None, str(error)


def _figures(scored: Scored | None) -> dict[str, Any]:
    if scored is None:
        return {"metrics": None, "resampled": {}, "num_queries": None}
    return {"metrics": scored.metrics, "resampled": scored.resampled, "num_queries": scored.num_queries}
