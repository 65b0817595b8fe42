"""A small data set in files, and raw lines with known differences, for the tests of `benchmarks.negatives`."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks import record
from benchmarks.negative_datasets import Dataset
from benchmarks.negative_strategies import STRATEGIES
from benchmarks.negative_training import COMPARED, REPORTED, SAMPLES
from retrieval_contract import config as c

NUM_QUERIES, NUM_CANDIDATES, NUM_GROUPS, ROWS_A_QUERY = 700, 130, 5, 9
"""Enough train rows for a bank of several batches, enough candidates for a cutoff and ranks of 100."""


def write_dataset(folder: Path, *, name: str = "planted", steps: int = 4) -> Dataset:
    """Write files under a folder that TWO_TOWER_SHARED may name: each query likes one group of candidates."""
    generator = np.random.default_rng(0)
    queries = np.repeat(np.arange(NUM_QUERIES), ROWS_A_QUERY)
    groups = queries % NUM_GROUPS
    candidates = groups + NUM_GROUPS * (generator.beta(0.7, 1.5, len(queries)) * (NUM_CANDIDATES // NUM_GROUPS)).astype(
        np.int64
    )
    place = folder / "data" / name
    place.mkdir(parents=True)
    rows = {"user": queries, "item": candidates, "nth": np.tile(np.arange(ROWS_A_QUERY), NUM_QUERIES)}
    pyarrow.parquet.write_table(pa.table(rows), place / "rows.parquet")
    pyarrow.parquet.write_table(pa.table({"item": np.arange(NUM_CANDIDATES)}), place / "items.parquet")
    return Dataset(
        name=name,
        title="Planted, leave one out",
        steps=steps,
        source=c.FilesSource(
            kind="files",
            interactions="rows.parquet",
            candidates="items.parquet",
            columns={"query_id": "user", "candidate_id": "item", "order": "nth"},
            candidate_columns={"candidate_id": "item"},
        ),
        split="leave_one_out",
        query=c.Tower(features=(c.HistoryFeature(name="history", width=64),)),
        candidate=c.Tower(features=(c.IdFeature(name="candidate_id", width=64),)),
    )


def settings(
    strategy: str, value: float, part: str, *, dataset: str = "ml-1m", steps: int = 900, **more: Any
) -> dict[str, Any]:
    """What a line of the table says of its run."""
    names = {"stack": "torch_reference", "dataset": dataset, "strategy": strategy, "part": part, "steps": steps}
    return {**names, "batch_size": 512, "config": "c", "knob": STRATEGIES[strategy].knob, "value": value, **more}


def run_line(
    strategy: str,
    shift: float = 0.0,
    *,
    value: float | None = None,
    part: str = "test",
    seed: int = 0,
    spread: float = 0.001,
    failed: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A line whose metrics are 0.2 and a shift; its resampled differences to another have about `spread`."""
    value = STRATEGIES[strategy].values[1] if value is None else value
    told = settings(strategy, value, part, **more)
    shared = np.random.default_rng(1).normal(0, 0.05, SAMPLES)
    own = np.random.default_rng([2, seed, *strategy.encode()]).normal(0, spread, SAMPLES)
    metric = {"value": 0.2 + shift, "low": 0.1 + shift, "high": 0.3 + shift}
    return record.line(
        "negatives",
        f"{told['dataset']}, {strategy}, {part}",
        record.Times(wall=[1.5], cpu=[2.5]),
        settings=told,
        seed=seed,
        seconds_per_epoch=3.0,
        steps_per_epoch=2 * told["steps"],
        metrics=None if failed else dict.fromkeys(REPORTED, metric),
        resampled={name: (0.2 + shift + shared + own).tolist() for name in COMPARED} if part == "test" else {},
        num_queries=100,
        failed=failed,
    )


def baselines_line(*, dataset: str = "ml-1m", steps: int = 900) -> dict[str, Any]:
    """The line of popularity and EASE."""
    told = {"stack": "torch_reference", "dataset": dataset, "strategy": "baselines", "part": "test", "steps": steps}
    row = {name: {"value": 0.1, "low": 0.05, "high": 0.15} for name in REPORTED}
    return record.line(
        "negatives",
        f"{dataset}, baselines, test",
        record.Times(wall=[1.0], cpu=[1.0]),
        settings={**told, "batch_size": 512, "config": "c"},
        seed=0,
        baselines={"popularity": row, "ease": row},
        num_queries=100,
        num_candidates=1_000,
        num_train_positives=10_000,
        notes=[],
        failed="",
    )
