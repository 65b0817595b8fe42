"""What does encoding each distinct row of a batch once win, where rows repeat as they do in real interactions?

    python -m benchmarks.train_repeats FAMILY [--optimizer NAME ...] [--seconds S] [--results FOLDER]

Ours with `training.encode_once`, ours without, and the stock loop of the same framework, by turns in one process as in
`train_contenders`: same towers, weights and batches of 1,024, tables of 10,000 rows. The batches are what training
draws from MovieLens 100K (`data/ml-100k` in the folder that TWO_TOWER_SHARED names), or from the simulator where that
is absent. Before a time is printed the first losses of all three are the same, and those of ours step by step.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, train_contenders
from benchmarks.negative_datasets import shared
from benchmarks.train_contenders import FAMILIES, PEAK, PEAK_SIZE, Contender, compete
from benchmarks.train_problem import BATCH_SIZE, LEARNING_RATES, LOSS_TOLERANCE, NUM_BATCHES, Array, draw_weights
from retrieval_contract import config as c
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import prepare
from retrieval_contract.presets import PRESETS

ROWS = 10_000
"""Rows of each table, as in the comparison with evenly drawn rows; the first of them are what the data holds."""
FIRST = 2
"""Vocabulary row of entity row 0: padding and unknown stand before it."""
ONCE = "distinct rows once"
"""What the name of a contender ends with that encodes so."""
TURN_SECONDS = 0.12
"""Shorter turns than there, so that three contenders have enough of them in the time."""
SOURCES = {"MovieLens 100K": ("movielens_100k_files", "ml-100k"), "simulated": ("simulated", "")}
"""Preset and folder by what reports call the data."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one family, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--optimizer", choices=tuple(LEARNING_RATES), action="append", help="all by default")
    parser.add_argument("--seconds", type=float, default=4.0, help="of turns, for each optimiser")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE)
    flags = parser.parse_args(arguments)
    data, rows = draw_repeated_rows(flags.batch_size)
    rates = {}
    for optimizer in flags.optimizer or list(LEARNING_RATES):
        lines = measure(flags.family, optimizer, data, rows, seconds=flags.seconds)
        record.append(flags.results / f"{train_contenders.NAME}.jsonl", lines)
        rates[optimizer] = {line["settings"]["contender"]: round(line["examples_per_second"]) for line in lines}
        print(f"{flags.family}, {optimizer}, batches of {data}: {rates[optimizer]}", file=sys.stderr, flush=True)
    print(json.dumps({"batches_of": data, "distinct": distinct_shares(rows), "examples_per_second": rates}))


def draw_repeated_rows(batch_size: int) -> tuple[str, Array]:
    """Vocabulary rows of the first batches of an epoch, as `train` would draw them.

    Args:
        batch_size: examples B.

    Returns:
        What the data is called, and rows of queries and candidates [NUM_BATCHES or fewer, 2, B] int32.
    """
    data = next(name for name, (_, folder) in SOURCES.items() if not folder or (shared() / folder).is_dir())
    preset, folder = SOURCES[data]
    base = PRESETS[preset]()
    towers = {side: c.Tower(features=(c.IdFeature(name=f"{side}_id"),)) for side in ("query", "candidate")}
    changes: dict[str, Any] = {**towers, "training": c.Training(batch_size=batch_size)}
    if folder:
        changes["source"] = base.source.model_copy(update={"data_dir": str(shared() / folder)})
    config = base.model_copy(update=changes)
    steps = islice(TrainingBatches(prepare(config), config).epoch(0), NUM_BATCHES)
    pairs = [(batch.query_rows, batch.candidate_rows) for step in steps for batch in step]
    return data, (np.asarray(pairs) + FIRST).astype(np.int32)


def distinct_shares(rows: Array) -> dict[str, float]:
    """Share of a batch's rows that are distinct, the mean over batches, by side."""
    sides = {"query": rows[:, 0], "candidate": rows[:, 1]}
    return {
        side: float(np.mean([len(np.unique(row)) for row in found])) / rows.shape[2] for side, found in sides.items()
    }


def measure(family: str, optimizer: str, data: str, rows: Array, *, seconds: float) -> list[dict[str, Any]]:
    """Let three contenders of a family take turns, and compose their lines.

    Args:
        family: `tensorflow` or `torch`.
        optimizer: by name.
        data: what the rows are of.
        rows: from `draw_repeated_rows`.
        seconds: of turns.

    Raises:
        AssertionError: contenders do not train the same.
    """
    batch_size = rows.shape[2]
    contenders, product = _contenders(family, optimizer, rows)
    times, figures = compete(contenders, product, seconds=seconds, batch_size=batch_size, turn_seconds=TURN_SECONDS)
    once, plain, _ = contenders
    check_same(figures[once]["losses"], figures[plain]["losses"])
    settings = {"family": family, "optimizer": optimizer, "rows": ROWS, "batch": batch_size, "batches_of": data}
    return [
        record.line(
            train_contenders.NAME,
            f"{name}, {family}, {optimizer}, batches of {data}",
            times[name],
            settings=settings | {"contender": name},
            seed=0,
            distinct=distinct_shares(rows),
            **{key: value for key, value in figures[name].items() if key != "share_of_peak"},
        )
        for name in times
        if name != PEAK
    ]


def check_same(once: Sequence[float], every: Sequence[float]) -> None:
    """Compare ours with ours, step by step: both train the same, but for the order of float32 additions.

    Raises:
        AssertionError: they differ.
    """
    assert np.allclose(once, every, rtol=LOSS_TOLERANCE, atol=0), f"losses {once} with {ONCE}, {every} without"


def _contenders(family: str, optimizer: str, rows: Array) -> tuple[Mapping[str, Contender], Any]:
    weights = draw_weights(ROWS, seed=0)
    name = {"tensorflow": "tfrs_models", "torch": "torch_reference"}[family]
    if family == "tensorflow":
        from benchmarks.train_ours import Ours
        from benchmarks.train_stock_tfrs import StockTfrs, product

        stock: dict[str, Contender] = {"stock TFRS": StockTfrs(optimizer, weights, rows)}
    else:
        import torch_reference  # noqa: F401  (sets what PyTorch reads when it is loaded)
        from benchmarks.train_ours import Ours
        from benchmarks.train_plain_torch import PlainTorch, product

        stock = {"plain PyTorch": PlainTorch(optimizer, weights, rows)}
    ours = {
        f"{name}, {ONCE}": Ours(name, optimizer, weights, rows, encode_once=True),
        name: Ours(name, optimizer, weights, rows),
    }
    return ours | stock, lambda: product(PEAK_SIZE)


if __name__ == "__main__":
    main()
