"""Our trainers beside what people use today, on the same weights and batches, by turns in one process.

    python -m benchmarks.train_contenders FAMILY OPTIMIZER ROWS --seconds=10 --results=FOLDER

FAMILY is `tensorflow` (ours, stock TFRS, keras-rs in a process of its own) or `torch` (ours, ours with products in
bfloat16, a plain loop). Every contender's first loss must be the same, and those after it near, before a time is taken.
Between the turns stands a float32 matrix product of the same framework: the machine's peak.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, final

from benchmarks import keras_rs_environment, record
from benchmarks.train_problem import (
    BATCH_SIZE,
    FLOPS_A_STEP,
    ROUGH,
    Array,
    Turn,
    bytes_free,
    bytes_needed,
    check_losses,
    draw_rows,
    draw_weights,
)

NAME = "train_throughput"
FAMILIES = ("tensorflow", "torch")
WARM_UP = 4
"""Steps whose losses are compared, and which are not timed."""
TURN_SECONDS, MOST_STEPS = 0.25, 16
"""A turn's length, and steps in it at most."""
LEAST_TURNS = 4
PEAK_SIZE = 2_048
"""Rows and columns of the matrices whose product is the peak."""
PEAK = "matrix product"
MOST_ROWS_ROUGH = 10_000
"""Rows of the tables up to which products in bfloat16 are measured: they are the same for all."""


class Contender(Protocol):
    """Who trains."""

    def turn(self, num_steps: int) -> Turn:
        """Take steps on batches in their order."""
        ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one family, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("optimizer", choices=("sgd", "adagrad", "adam"))
    parser.add_argument("rows", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE)
    parser.add_argument("--keras_rs", action="store_true", help="with keras-rs, in build/keras_rs")
    flags = parser.parse_args(arguments)
    what = f"{flags.family}, {flags.optimizer}, {flags.rows:,} rows"
    needed = {number: bytes_needed(flags.rows, flags.optimizer, num_models=number) for number in (1, 2)}
    free = bytes_free()
    flags.alone = needed[2] > free
    if flags.alone:
        reason = (
            f"ours and stock need {needed[2] / 1e9:.1f} GB, ours alone {needed[1] / 1e9:.1f}, {free / 1e9:.1f} are free"
        )
        done = "skipped" if needed[1] > free else "ours alone"
        print(f"{what}: {done}, {reason}", file=sys.stderr)
        if done == "skipped":
            print(json.dumps({"skipped": reason}))
            return
    weights = draw_weights(flags.rows, seed=0)
    rows = draw_rows(flags.rows, flags.batch_size, seed=0)
    families: dict[str, Callable[..., Any]] = {"tensorflow": _tensorflow, "torch": _torch}
    contenders, product = families[flags.family](flags, weights, rows)
    weights.clear()
    times, figures = compete(contenders, product, seconds=flags.seconds, batch_size=flags.batch_size)
    settings = {"family": flags.family, "optimizer": flags.optimizer, "rows": flags.rows, "batch": flags.batch_size}
    lines = [
        record.line(NAME, f"{name}, {what}", taken, settings=settings | {"contender": name}, seed=0, **figures[name])
        for name, taken in times.items()
    ]
    record.append(flags.results / f"{NAME}.jsonl", lines)
    rates = {name: round(found["examples_per_second"]) for name, found in figures.items() if name != PEAK}
    print(f"{what}: {rates}", file=sys.stderr)
    print(json.dumps({"examples_per_second": rates}))


def compete(
    contenders: Mapping[str, Contender],
    product: Callable[[], float],
    *,
    seconds: float,
    batch_size: int,
    turn_seconds: float = TURN_SECONDS,
) -> tuple[dict[str, record.Times], dict[str, dict[str, Any]]]:
    """Compare the first losses, then take turns until the time is up.

    Args:
        contenders: by name, ours first.
        product: multiplies once; floating-point operations that it took.
        seconds: after which no round is begun, the first few excepted.
        batch_size: of a step.
        turn_seconds: a turn's length.

    Returns:
        Raw times of the turns by name, and what each did.

    Raises:
        AssertionError: contenders do not train the same.
    """
    losses = {name: contender.turn(WARM_UP).losses for name, contender in contenders.items()}
    check_losses(losses)
    steps = {name: _steps_a_turn(contender, turn_seconds) for name, contender in contenders.items()}
    times = {name: record.Times() for name in (*contenders, PEAK)}
    flops = product()
    until = time.monotonic() + seconds
    for count in range(1_000):
        if count >= LEAST_TURNS and time.monotonic() > until:
            break
        for name in sorted(contenders, key=list(contenders).index, reverse=bool(count % 2)):
            turn = contenders[name].turn(steps[name])
            times[name].wall.append(turn.wall)
            times[name].cpu.append(turn.cpu)
        times[PEAK].take(product)
    peak = flops / statistics.median(times[PEAK].wall)
    figures: dict[str, dict[str, Any]] = {PEAK: {"flops": flops, "flops_per_second": peak}}
    for name in contenders:
        rate = steps[name] / statistics.median(times[name].wall)
        figures[name] = {
            "steps_a_turn": steps[name],
            "examples_per_second": rate * batch_size,
            "share_of_peak": rate * FLOPS_A_STEP / peak if batch_size == BATCH_SIZE else None,
            "losses": losses[name],
        }
    return times, figures


def _steps_a_turn(contender: Contender, seconds: float) -> int:
    return max(1, min(MOST_STEPS, int(2 * seconds / contender.turn(2).wall)))


def _tensorflow(flags: argparse.Namespace, weights: dict[str, Array], rows: Array) -> tuple[Any, Any]:
    from benchmarks.train_ours import Ours
    from benchmarks.train_stock_tfrs import StockTfrs, product

    contenders: dict[str, Contender] = {"tfrs_models": Ours("tfrs_models", flags.optimizer, weights, rows)}
    if not flags.alone:
        contenders["stock TFRS"] = StockTfrs(flags.optimizer, weights, rows)
    if flags.keras_rs:
        try:
            interpreter = keras_rs_environment.python()
            contenders["keras-rs"] = keras_rs_environment.KerasRs(interpreter, flags.optimizer, flags.rows, seed=0)
        except keras_rs_environment.NotAvailableError as reason:
            print(f"keras-rs: skipped, {reason}", file=sys.stderr)
    return contenders, lambda: product(PEAK_SIZE)


def _torch(flags: argparse.Namespace, weights: dict[str, Array], rows: Array) -> tuple[Any, Any]:
    import torch_reference  # noqa: F401  (sets what PyTorch reads when it is loaded)
    from benchmarks.train_ours import Ours
    from benchmarks.train_plain_torch import PlainTorch, product

    contenders: dict[str, Contender] = {"torch_reference": Ours("torch_reference", flags.optimizer, weights, rows)}
    if not flags.alone:
        contenders["plain PyTorch"] = PlainTorch(flags.optimizer, weights, rows)
    if flags.rows <= MOST_ROWS_ROUGH:
        trainer = Ours("torch_reference", flags.optimizer, weights, rows)
        contenders[f"torch_reference, {ROUGH}"] = Rough(trainer)
    return contenders, lambda: product(PEAK_SIZE)


@final
class Rough:
    """A contender of PyTorch whose float32 matrices are multiplied in bfloat16, where the processor can."""

    def __init__(self, contender: Contender) -> None:
        """Wrap another."""
        self._contender = contender

    def turn(self, num_steps: int) -> Turn:
        """Take steps."""
        import torch

        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            return self._contender.turn(num_steps)
        finally:
            torch.set_float32_matmul_precision(before)


if __name__ == "__main__":
    main()
