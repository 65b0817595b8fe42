"""The training problem that every contender is given: towers, weights and batches as arrays, and what a step costs.

Both towers 64 -> 512 -> 256 -> 128 over an id embedding of width 64, rectified between, batches of 1,024 ids drawn
evenly, softmax over the batch without temperature or corrections: what the stock tutorials train. No framework here.
"""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WIDTHS = (64, 512, 256, 128)
BATCH_SIZE = 1_024
NUM_BATCHES = 16
LEARNING_RATES = {"sgd": 0.01, "adagrad": 0.01, "adam": 1e-3}
"""By optimiser."""
SLOTS = {"sgd": 0, "adagrad": 1, "adam": 2}
"""Numbers that an optimiser keeps for each weight."""
SPARE_BYTES = 1_500_000_000
"""Memory beside tables: the framework, a temporary or two."""
LOSS_TOLERANCE = 1e-5
"""Relative difference of the first losses: same weights, same batch, another order of float32 additions."""
LATER_TOLERANCE = 0.02
"""Relative difference of the losses in the warm-up. Stock optimisers put epsilon elsewhere, and dense Adam moves rows
that the batch does not hold, so they drift apart."""
ROUGH, ROUGH_TOLERANCE = "bfloat16", 0.05
"""What the name of a contender with rough products holds, and its relative difference."""
FLOPS_A_STEP = 3 * BATCH_SIZE * 2 * (2 * sum(a * b for a, b in itertools.pairwise(WIDTHS)) + BATCH_SIZE * 128)
"""Additions and multiplications of a step's matrix products: both towers and the scores of the batch, forward and,
twice as many, backward."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Some steps that a contender took."""

    wall: float
    """Seconds on the clock."""
    cpu: float
    """Seconds of all cores."""
    losses: list[float]
    """Before each step, nats per query."""


def timed(take: Callable[[], list[float]]) -> Turn:
    """Time what gives the losses of some steps."""
    wall, cpu = time.perf_counter(), time.process_time()
    losses = take()
    return Turn(time.perf_counter() - wall, time.process_time() - cpu, losses)


def draw_weights(num_rows: int, *, seed: int) -> dict[str, Array]:
    """Draw a tower pair's weights by canonical name.

    Tables are standard normal and kernels keep the scale, so that scores are far from 0 and a wrong loss shows.
    """
    generator = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for side in ("query", "candidate"):
        weights[f"{side}.embedding.{side}_id"] = generator.standard_normal((num_rows, WIDTHS[0]), np.float32)
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
            kernel = generator.standard_normal((inputs, outputs), np.float32)
            weights[f"{side}.dense.{layer}.kernel"] = kernel * np.float32(1 / np.sqrt(inputs))
            weights[f"{side}.dense.{layer}.bias"] = np.zeros(outputs, np.float32)
    return weights


def draw_rows(num_rows: int, batch_size: int, *, seed: int) -> Array:
    """Rows of queries and candidates, drawn evenly [NUM_BATCHES, 2, B] int32; 0 and 1 are padding and unknown."""
    return np.random.default_rng(seed).integers(2, num_rows, (NUM_BATCHES, 2, batch_size)).astype(np.int32)


def bytes_needed(num_rows: int, optimizer: str, *, num_models: int) -> int:
    """Memory at the most of some models with both tables and their slots.

    While they are built, the arrays that they start from are held, and half of them once more on their way. Stock
    models make a gradient as large as their tables; without it counted, ours and stock TFRS by SGD with 10 million rows
    were ended by the system with 21 GB free.

    Args:
        num_rows: of each table.
        optimizer: by name.
        num_models: held at once.
    """
    tables = 2 * num_rows * WIDTHS[0] * 4
    stock_gradients = tables * (num_models - 1)
    return SPARE_BYTES + tables * num_models * (1 + SLOTS[optimizer]) + tables * 3 // 2 + stock_gradients


def bytes_free() -> int:
    """Memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1_024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_losses(losses: dict[str, list[float]]) -> None:
    """Compare contenders' losses on the same weights and batches, in nats per query, by step.

    Raises:
        AssertionError: the first ones differ, or later ones drift apart.
    """
    reference, *others = losses
    for name in others:
        for step, (ours, theirs) in enumerate(zip(losses[reference], losses[name], strict=True)):
            tolerance = ROUGH_TOLERANCE if ROUGH in name else LATER_TOLERANCE if step else LOSS_TOLERANCE
            assert np.isclose(theirs, ours, rtol=tolerance, atol=0), (
                f"step {step + 1}: loss {theirs} of {name}, {ours} of {reference}"
            )
