"""How much faster is exact evaluation here than `tfrs.metrics.FactorizedTopK`, in one process, on the same vectors?

    python -m benchmarks.evaluation_speed [--quick] [--results FOLDER]

20,000 queries with one relevant candidate each, 1,682 candidates. TFRS's metric is used as its tutorial does:
candidates in batches of 128, default ks, queries in batches of 4,096. `accuracies` computes the same numbers here,
`full report` every metric at every cutoff, `with intervals` the bootstrap too. They take turns, so that whatever else
the machine does meets both.

Without `--quick` also 10,000 queries x 1,000,000 candidates of width 64 against the matrix product alone
(`matrix_bound`). The last line is one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

import tfrs_models  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)
from benchmarks import matrix_bound, record
from benchmarks.spread import paired_ratio
from retrieval_contract.arrays import Float32Array, Int64Array
from retrieval_contract.evaluation.bootstrap import intervals
from retrieval_contract.evaluation.measuring import Measured, accuracy, measure
from retrieval_contract.evaluation.metrics import popularity_percentiles
from retrieval_contract.evaluation.question import Question
from retrieval_contract.evaluation.ranking import rank_relevant
from retrieval_contract.evaluation.scorers import VectorScorer

KS = (1, 5, 10, 50, 100)
"""TFRS's defaults."""
CANDIDATE_BATCH, QUERY_BATCH = 128, 4_096
LARGEST = 800
"""Largest entry of a vector. Sums of 64 products of such integers stay below 2^24: exact in float32 in any order."""
TURNS_OF_OURS = 3
"""Runs of ours for each of TFRS's, which takes much longer."""
LEAST_ROUNDS = 3
LARGE = (10_000, 1_000_000)
"""Queries and candidates of the comparison with the matrix product."""
LARGE_DIM = 64
NAME = "evaluation_speed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is evaluated."""

    query_vectors: Float32Array
    """[Q, D]."""
    candidate_vectors: Float32Array
    """[N, D]."""
    positives: Int64Array
    """Each query's relevant candidate [Q]."""


def draw(num_queries: int, num_candidates: int, dim: int, *, seed: int) -> Case:
    """Draw vectors of integers, queries leaning towards their relevant candidate.

    Integers, because TFRS computes the positive's score by another sum than all scores: in general the two differ in
    their last bit, and a positive ranked first then counts as second.
    """
    generator = np.random.default_rng(seed)
    candidate_vectors = generator.uniform(-LARGEST, LARGEST, (num_candidates, dim))
    positives = generator.integers(0, num_candidates, num_queries)
    noise = generator.uniform(-LARGEST, LARGEST, (num_queries, dim))
    query_vectors = np.rint(0.3 * candidate_vectors[positives] + 0.7 * noise)
    return Case(
        query_vectors=query_vectors.astype(np.float32),
        candidate_vectors=np.rint(candidate_vectors).astype(np.float32),
        positives=positives,
    )


def factorized_top_k(case: Case) -> Callable[[], list[float]]:
    """TFRS's metric, ready to run: its accuracies at `KS`."""
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    candidates = tf.data.Dataset.from_tensor_slices(case.candidate_vectors).batch(CANDIDATE_BATCH)
    metric = tfrs.metrics.FactorizedTopK(candidates)
    starts = range(0, len(case.positives), QUERY_BATCH)
    batches = [
        (
            tf.constant(case.query_vectors[start : start + QUERY_BATCH]),
            tf.constant(case.candidate_vectors[case.positives[start : start + QUERY_BATCH]]),
        )
        for start in starts
    ]

    def run() -> list[float]:
        metric.reset_states()
        for queries, positives in batches:
            metric.update_state(queries, positives)
        return [float(result) for result in metric.result()]

    # What it traces and allocates once is not counted.
    metric.update_state(*batches[0])
    return run


def ask(case: Case) -> Question:
    """The same question in this project's words."""
    num_queries, num_candidates = len(case.positives), len(case.candidate_vectors)
    places = np.arange(num_queries)
    relevant = scipy.sparse.csr_matrix(
        (np.ones(num_queries, np.bool_), case.positives.astype(np.int32), np.arange(num_queries + 1)),
        shape=(num_queries, num_candidates),
    )
    return Question(
        cutoffs=KS,
        max_bytes=256_000_000,
        query_rows=places,
        ranked=places,
        num_part_queries=num_queries,
        relevant=relevant,
        excluded=None,
        row_queries=places,
        row_pairs=places,
        percentiles=popularity_percentiles(np.bincount(case.positives, minlength=num_candidates)),
    )


def accuracies(case: Case, question: Question) -> list[float]:
    """What FactorizedTopK computes."""
    ranks = rank_relevant(VectorScorer(case.query_vectors, case.candidate_vectors), question.relevant)
    return [float(above.sum() / len(ranks)) for above in accuracy(ranks, question).above.values()]


def full_report(case: Case, question: Question) -> Measured:
    """Every metric at every cutoff, coverage, popularity percentile and Gini included."""
    return measure(VectorScorer(case.query_vectors, case.candidate_vectors), question)


def with_intervals(case: Case, question: Question) -> tuple[Any, Any]:
    """Every metric, and 1,000 resamples of all that are means."""
    measured = full_report(case, question)
    parts = [measured.by_query, measured.by_row]
    return intervals(
        np.stack([above for part in parts for above in part.above.values()], axis=1),
        np.stack([part.below for part in parts], axis=1),
        np.repeat([0, 1], [len(part.above) for part in parts]),
        num_samples=1_000,
        seed=0,
    )


def measure_all(case: Case, *, rounds: int, seconds: float) -> tuple[dict[str, record.Times], list[float]]:
    """Take turns until the rounds are done or the time is up.

    Returns:
        Raw times by case, and the accuracies at `KS`.

    Raises:
        AssertionError: TFRS and we differ.
    """
    theirs, question = factorized_top_k(case), ask(case)
    ours: dict[str, Callable[[Case, Question], object]] = {
        "accuracies": accuracies,
        "full report": full_report,
        "with intervals": with_intervals,
    }
    expected, found = theirs(), accuracies(case, question)
    assert np.allclose(expected, found, rtol=0, atol=1e-6), f"TFRS {expected}, we {found}"
    times = {name: record.Times() for name in ("FactorizedTopK", *ours)}
    until = time.monotonic() + seconds
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.monotonic() > until:
            break
        times["FactorizedTopK"].take(theirs)
        for name, run in ours.items():
            for _ in range(TURNS_OF_OURS):
                times[name].take(lambda run=run: run(case, question))  # type: ignore[misc]
    return times, found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the raw lines, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="width 32 alone, in under a minute")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, default=1_682)
    parser.add_argument("--large", type=int, nargs=2, default=LARGE, metavar=("QUERIES", "CANDIDATES"))
    flags = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    for dim in (32,) if flags.quick else (64, 32):
        case = draw(flags.queries, flags.candidates, dim, seed=0)
        times, found = measure_all(case, rounds=5 if flags.quick else 15, seconds=25 if flags.quick else 60)
        settings = {"queries": flags.queries, "candidates": flags.candidates, "dim": dim, "ks": list(KS)}
        record.append(
            flags.results / f"{NAME}.jsonl",
            [
                record.line(NAME, f"{name}, width {dim}", taken, settings=settings, seed=0, accuracies=found)
                for name, taken in times.items()
            ],
        )
        figures = summary(times) | {
            "dim": dim,
            "accuracies": dict(zip([f"accuracy@{k}" for k in KS], found, strict=True)),
        }
        print(f"width {dim}: {json.dumps(figures)}", file=sys.stderr)
    if not flags.quick:
        num_queries, num_candidates = flags.large
        figures |= against_the_product(num_queries, num_candidates, flags.results)
    print(json.dumps(figures))


def against_the_product(num_queries: int, num_candidates: int, results: Path) -> dict[str, Any]:
    """Measure evaluation and search over a large catalogue, write the raw lines, and say the ratios."""
    case = matrix_bound.draw(num_queries, num_candidates, LARGE_DIM, seed=0)
    times, verified = matrix_bound.measure(case, turns=7, seconds=120)
    settings = {"queries": num_queries, "candidates": num_candidates, "dim": LARGE_DIM, "k": matrix_bound.K}
    record.append(
        results / f"{NAME}.jsonl",
        [
            record.line(NAME, f"large: {name}", taken, settings=settings, seed=0, queries_verified=verified)
            for name, taken in times.items()
        ],
    )
    bound = times[matrix_bound.BOUND].wall
    return {
        "share_of_bound": round(paired_ratio(bound, times[matrix_bound.EVALUATION].wall).value, 3),
        "share_of_bound_search": round(paired_ratio(bound, times[matrix_bound.SEARCH].wall).value, 3),
        "large_seconds": {name: round(statistics.median(taken.wall), 3) for name, taken in times.items()},
    }


def summary(times: dict[str, record.Times]) -> dict[str, Any]:
    """Ratios of medians."""
    medians = {name: statistics.median(taken.wall) for name, taken in times.items()}
    theirs = medians["FactorizedTopK"]
    return {
        "ratio_to_factorized_top_k": round(theirs / medians["accuracies"], 1),
        "ratio_full_report": round(theirs / medians["full report"], 1),
        "ratio_with_intervals": round(theirs / medians["with intervals"], 1),
        "median_seconds": {name: round(value, 5) for name, value in medians.items()},
    }


if __name__ == "__main__":
    main()
