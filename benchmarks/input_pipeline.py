"""How fast training batches are made, and how much memory a large data set takes until they come.

    python -m benchmarks.input_pipeline --quick

1,000,000 interactions of 10,000 queries, a history of 50, batches of 1,024 and 8,192: `ids` reads ids of query, history
and candidate with a category each and a number; `ages`, `weights` (halved with age) and `affinity` add one thing;
`everything` has all of them, fields of the items and a context tower. An epoch is timed whole, from the order of its
examples to its last batch, in the thread that asks and with two threads that make batches ahead. 10,000,000
interactions are then prepared and batched in a process of its own, whose peak memory the system tells. The last line is
one JSON object; `examples_per_second` is of `ids` in batches of 1,024, one thread.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.input_data import HISTORY, VARIANTS, draw, run_config
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare_raw

NAME = "input_pipeline"
BATCH_SIZES, THREADS = (1_024, 8_192), (0, 2)
STEPS_FOR_MEMORY = 100
STATUS = Path("/proc/self/status")
"""Where Linux tells a process its peak memory."""
HEADLINE = "ids, batch 1,024"


def measure(
    variant: str, *, num_interactions: int, num_candidates: int, rounds: int, seconds: float
) -> dict[str, tuple[record.Times, int, dict[str, Any]]]:
    """Time epochs of one variant.

    Args:
        variant: what the query tower reads.
        num_interactions: rows.
        num_candidates: candidates.
        rounds: epochs of each case, at most.
        seconds: no epoch but the first of a case begins after so many.

    Returns:
        By case: raw times of its epochs, examples in each, settings.
    """
    raw = draw(num_interactions, num_candidates=num_candidates, seed=0)
    prepared = prepare_raw(raw, run_config(variant, batch_size=BATCH_SIZES[0]))
    found = {}
    for batch_size, num_threads in itertools.product(BATCH_SIZES, THREADS):
        batches = TrainingBatches(prepared, run_config(variant, batch_size=batch_size))
        # What is gathered once is not counted.
        next(batches.epoch(0))
        times, until = record.Times(), time.monotonic() + seconds
        for epoch in range(rounds):
            if epoch and time.monotonic() > until:
                break
            times.take(lambda b=batches, e=epoch, n=num_threads: _go_through(b, e, n))  # type: ignore[misc]
        settings = {
            "interactions": num_interactions,
            "candidates": num_candidates,
            "history": HISTORY,
            "variant": variant,
            "batch_size": batches.batch_size,
            "threads": num_threads,
        }
        ahead = f", {num_threads} threads ahead" if num_threads else ""
        num_examples = batches.steps_per_epoch * batches.batch_size
        found[f"{variant}, batch {batch_size:,}{ahead}"] = times, num_examples, settings
    return found


def _go_through(batches: TrainingBatches, epoch: int, num_threads: int) -> None:
    for _ in batches.epoch(epoch, num_threads=num_threads):
        pass


def peak_memory(variant: str, *, num_interactions: int, num_candidates: int) -> dict[str, Any]:
    """Prepare and batch in a process of its own.

    Returns:
        What the process says: `peak_bytes`, and seconds of each phase.

    Raises:
        subprocess.CalledProcessError: it failed; its message is on stderr.
    """
    sizes = [f"--interactions={num_interactions}", f"--candidates={num_candidates}"]
    command = [sys.executable, "-m", "benchmarks.input_pipeline", f"--memory_of={variant}", *sizes]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def say_memory(variant: str, *, num_interactions: int, num_candidates: int) -> dict[str, Any]:
    """Do in this process what `peak_memory` asks of another one."""
    clock = [time.perf_counter()]
    raw = draw(num_interactions, num_candidates=num_candidates, seed=0)
    clock.append(time.perf_counter())
    config = run_config(variant, batch_size=BATCH_SIZES[0])
    prepared = prepare_raw(raw, config)
    del raw
    clock.append(time.perf_counter())
    batches = TrainingBatches(prepared, config)
    for _ in itertools.islice(batches.epoch(0), STEPS_FOR_MEMORY):
        pass
    clock.append(time.perf_counter())
    phases = zip(("draw", "prepare", "batch"), itertools.pairwise(clock), strict=True)
    return {"peak_bytes": peak_bytes(), "seconds": {name: round(b - a, 2) for name, (a, b) in phases}}


def peak_bytes() -> int:
    """Largest memory that this process has had, in bytes."""
    # Not getrusage: its peak is inherited from the process that started this one.
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the raw lines, print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two variants, in under two minutes on a quiet machine")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--most", type=int, default=10_000_000, help="interactions whose memory is measured")
    parser.add_argument("--candidates", type=int, default=50_000)
    parser.add_argument("--memory_of", choices=VARIANTS, help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.memory_of:
        sizes = {"num_interactions": flags.interactions, "num_candidates": flags.candidates}
        print(json.dumps(say_memory(flags.memory_of, **sizes)))
        return
    rates = _speed(flags)
    memory = _memory(flags)
    figures = {
        "examples_per_second": rates[HEADLINE]["examples_per_second"],
        "peak_gib": round(memory["peak_bytes"] / 2**30, 2),
        "interactions_of_peak": flags.most,
        "cases": rates,
    }
    print(json.dumps(figures))


def _speed(flags: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Rates by case, their raw lines written."""
    rates: dict[str, dict[str, int]] = {}
    for variant in ("ids", "everything") if flags.quick else VARIANTS:
        found = measure(
            variant,
            num_interactions=flags.interactions,
            num_candidates=flags.candidates,
            rounds=3 if flags.quick else 10,
            seconds=5 if flags.quick else 60,
        )
        lines = [
            record.line(NAME, case, times, settings=settings, seed=0, examples=num_examples)
            for case, (times, num_examples, settings) in found.items()
        ]
        record.append(flags.results / f"{NAME}.jsonl", lines)
        rates |= {case: _rates(times, num_examples) for case, (times, num_examples, _) in found.items()}
        print(f"{variant}: {json.dumps(rates)}", file=sys.stderr)
    return rates


def _rates(times: record.Times, num_examples: int) -> dict[str, int]:
    return {
        "examples_per_second": round(num_examples / statistics.median(times.wall)),
        "examples_per_cpu_second": round(num_examples / statistics.median(times.cpu)),
    }


def _memory(flags: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of `everything`, its raw line written."""
    times = record.Times()
    said: dict[str, Any] = {}
    times.take(
        lambda: said.update(peak_memory("everything", num_interactions=flags.most, num_candidates=flags.candidates))
    )
    settings = {"interactions": flags.most, "candidates": flags.candidates, "variant": "everything"}
    entry = record.line(NAME, f"memory of {flags.most:,}", times, settings=settings, seed=0, **said)
    record.append(flags.results / f"{NAME}.jsonl", [entry])
    return said


if __name__ == "__main__":
    main()
