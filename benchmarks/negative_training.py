"""One run of `benchmarks.negatives`: a number of steps timed, then its vectors measured on a held-out part.

Letters: P queries of the part, C metrics compared, S resamples.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any

import numpy as np

from benchmarks import record
from retrieval_contract.arrays import Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import Part, PreparedData
from retrieval_contract.evaluation.measuring import Fractions, measure
from retrieval_contract.evaluation.question import ask
from retrieval_contract.evaluation.report import evaluate
from retrieval_contract.evaluation.scorers import VectorScorer
from retrieval_contract.runs.checkpoints import weights_of
from retrieval_contract.runs.mining import mine
from retrieval_contract.runs.schedule import learning_rate
from retrieval_contract.runs.training import first_state
from retrieval_contract.stack import Stack, StepResult

MININGS = 3
"""Hard negatives are mined so many times, at even distances: epochs here are longer than the budget."""
COMPARED = ("recall@10", "recall@100", "mrr")
"""Metrics whose resampled values are kept, so that lines of one data set can be compared query by query."""
REPORTED = (*COMPARED, "coverage@100", "popularity_percentile@100")
SAMPLES = 200
"""Resamples kept: the standard error of a difference is known to 5 %."""
BOOTSTRAP_SAMPLES = 1_000
DIGITS = 6
ENDS = ("value", "low", "high")

Weights = dict[str, Float32Array]
Row = Mapping[str, Mapping[str, float | None]]
"""By metric: value, low, high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training left behind."""

    weights: Weights
    """Canonical; of the last step that moved."""
    times: record.Times
    """Of the whole training, as one raw time."""
    figures: Mapping[str, Any]
    """What its line says of it."""
    failed: str
    """Why it stopped early; empty where it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What was found on a held-out part."""

    metrics: Row
    """Each of `REPORTED`."""
    baselines: Mapping[str, Row]
    """The same of each baseline asked for."""
    resampled: Mapping[str, list[float]]
    """S values of each of `COMPARED`; empty for validation."""
    num_queries: int
    """Queries that had something relevant."""


def train(stack: Stack, config: RunConfig, prepared: PreparedData, *, steps: int) -> Trained:
    """Take the steps, whatever an epoch is, with the learning rate's schedule over them.

    Seconds an epoch are those of the second half of the steps, where a bank is full and everything is compiled, plus an
    epoch's share of mining; making batches is in them, preparing data and building the model are not.
    """
    batches = TrainingBatches(prepared, config)
    trainer = stack.trainer(
        config, prepared.features.sizes, first_state(config, prepared), prepared.candidate_features()
    )
    mines_at = _mining_steps(steps) if config.negatives.mined.per_example else ()
    drawn = islice(chain.from_iterable(map(batches.epoch, count())), steps)
    mining, failed = 0.0, ""
    began, cpu = time.perf_counter(), time.process_time()
    half = began
    for done, step_batches in enumerate(drawn, 1):
        rate = learning_rate(config.optimizer, step=done - 1, num_steps=steps)
        result = trainer.step(step_batches, learning_rate=rate)
        failed = _fault(result, done)
        if failed:
            break
        if done in mines_at:
            paused = time.perf_counter()
            batches.set_mined(mine(stack, config, prepared, weights_of(trainer.state())))
            mining += time.perf_counter() - paused
        if done == steps // 2:
            half = time.perf_counter() - mining
    ended = time.perf_counter()
    step_seconds = (ended - mining - half) / (steps - steps // 2)
    figures = {
        "seconds_per_epoch": round(batches.steps_per_epoch * (step_seconds + mining / steps), 3),
        "mining_seconds": round(mining, 3),
        "steps_per_epoch": batches.steps_per_epoch,
        "last_temperature": None if failed else round(result.temperature, DIGITS),
    }
    times = record.Times(wall=[ended - began], cpu=[time.process_time() - cpu])
    return Trained(weights=weights_of(trainer.state()), times=times, figures=figures, failed=failed)


def score(
    stack: Stack, config: RunConfig, prepared: PreparedData, weights: Weights, part: Part, *, baselines: bool = False
) -> Scored:
    """Rank the whole catalogue, exactly.

    Args:
        stack: encodes.
        config: the run.
        prepared: its data.
        weights: of the towers.
        part: `test` comes with intervals and resampled values, `validation` without.
        baselines: measure popularity and a linear model too.

    Raises:
        RunError: vectors that are not finite.
    """
    asked = _asked(config, part, baselines=baselines)
    encoders = stack.encoders(config, prepared.features.sizes, weights)
    query_rows, times = prepared.evaluation_times(part)
    query_vectors = encoders.encode_queries(prepared.query_features(query_rows, times))
    candidate_vectors = encoders.encode_candidates(prepared.candidate_features())
    tree = evaluate(asked, prepared, query_vectors, candidate_vectors, query_rows=query_rows).tree
    values: Mapping[str, list[float]] = {}
    if part == "test":
        question = ask(asked.evaluation, prepared)
        places = np.searchsorted(query_rows, question.query_rows)
        measured = measure(VectorScorer(query_vectors[places], candidate_vectors), question)
        values = resampled(measured.by_query, seed=config.split.seed)
    return Scored(
        metrics=_reported(tree["metrics"], bounded=part == "test"),
        baselines={name: _reported(row, bounded=True) for name, row in tree["baselines"].items()},
        resampled=values,
        num_queries=tree["num_queries"],
    )


def resampled(fractions: Fractions, *, seed: int) -> dict[str, list[float]]:
    """Compute the metrics of resampled queries, drawn with replacement.

    The draws depend on the seed and the number of queries alone, so that two models' values of one resample are of the
    same queries, and the spread of their differences is that of the difference.

    Args:
        fractions: by query [P].
        seed: the split's.

    Returns:
        S values of each of `COMPARED`.
    """
    above_PC = np.stack([fractions.above[name] for name in COMPARED], axis=1)
    num_queries = len(above_PC)
    values_SC = np.empty((SAMPLES, len(COMPARED)))
    for sample in range(SAMPLES):
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, sample])))
        times_P = np.bincount(generator.integers(0, num_queries, num_queries), minlength=num_queries)
        values_SC[sample] = times_P @ above_PC / np.maximum(times_P @ fractions.below, 1)
    return {name: np.round(values_SC[:, place], DIGITS).tolist() for place, name in enumerate(COMPARED)}


def _mining_steps(steps: int) -> tuple[int, ...]:
    return tuple(steps * nth // (MININGS + 1) for nth in range(1, MININGS + 1))


def _fault(result: StepResult, step: int) -> str:
    if math.isfinite(result.loss) and math.isfinite(result.gradient_norm):
        return ""
    return f"loss {result.loss}, gradient norm {result.gradient_norm} at step {step}"


def _asked(config: RunConfig, part: Part, *, baselines: bool) -> RunConfig:
    changes = {
        "part": part,
        "baselines": ("popularity", "ease") if baselines else (),
        "bootstrap_samples": BOOTSTRAP_SAMPLES if part == "test" else 1,
    }
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})


def _reported(row: Row, *, bounded: bool) -> Row:
    """The metrics wanted, rounded; without `bounded` there was nothing to resample, and the bounds mean nothing."""
    return {name: {end: _rounded(row[name][end], end == "value" or bounded) for end in ENDS} for name in REPORTED}


def _rounded(value: float | None, kept: bool) -> float | None:
    return round(value, DIGITS) if kept and value is not None else None
