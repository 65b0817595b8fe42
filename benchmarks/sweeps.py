"""What do temperature, batch size and embedding width each buy, on real data?

    python -m benchmarks.sweeps [--quick] [--results FOLDER]

One model, summed embeddings compared by cosine with exact log q, is trained on the same number of examples again and
again, one of the three changed at a time; recall and MRR are of the test part, over the whole catalogue, with 95 %
intervals over queries. In `torch_reference` alone: from the same bytes and batches `tfrs_models` ends on the same
digits but for dropout, and here there is none. One seed. The rate follows the root of the batch size.

MovieLens 100K (random split) and MovieTweetings (temporal), from `data/` in the folder that TWO_TOWER_SHARED names;
what is absent is named, and the simulator stands in where nothing is there. `--quick`: a few points, simulated, a tenth
of the examples. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when PyTorch is loaded: threads that spin while they wait cost small batches several times their work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks import record
from benchmarks.negative_datasets import shared
from benchmarks.negative_training import score, train
from retrieval_contract import config as c
from retrieval_contract.data.prepare import PreparedData, prepare
from retrieval_contract.presets import PRESETS
from torch_reference.stack import STACK

NAME = "sweeps"
SIMULATED = "simulated"
DATASETS = {"ml-100k": "movielens_100k_files", "movietweetings-100k": "movietweetings_100k"}
"""Preset by folder: source, split, and which features there are."""
EXAMPLES, QUICK_EXAMPLES = 400_000, 40_000
"""That every point is trained on, in whole batches: about five passes."""
LEARNING_RATE, RATE_BATCH = 0.01, 512
METRICS = ("recall@10", "recall@100", "mrr")


@dataclass(frozen=True, slots=True)
class Point:
    """What is changed."""

    temperature: float = 0.1
    batch_size: int = 512
    width: int = 64

    examples: int = EXAMPLES

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return max(1, round(self.examples / self.batch_size))


REFERENCE = Point()
SWEEPS: dict[str, tuple[float, ...]] = {
    "temperature": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    "batch_size": (64, 256, 512, 2_048, 8_192, 16_384),
    "width": (16, 32, 64, 128, 256, 512),
}
"""Values of each, the reference's among them."""
QUICK: dict[str, tuple[float, ...]] = {"temperature": (0.02, 0.1, 0.5), "batch_size": (512, 2_048), "width": (16, 64)}


def points(sweeps: dict[str, tuple[float, ...]], examples: int) -> list[Point]:
    """Every point once, the reference first."""
    reference = dataclasses.replace(REFERENCE, examples=examples)
    changes: list[dict[str, Any]] = [{field: value} for field, values in sweeps.items() for value in values]
    changed = [dataclasses.replace(reference, **change) for change in changes]
    return list(dict.fromkeys([reference, *changed]))


def run_config(dataset: str, point: Point) -> c.RunConfig:
    """The run of a point: the preset's data and features, everything else the same for all."""
    base = PRESETS[DATASETS.get(dataset, SIMULATED)]()
    towers = {
        side: tower.model_copy(update={"features": _widened(tower, point.width), "feature_dropout": 0.0})
        for side, tower in (("query", base.query), ("candidate", base.candidate))
    }
    source = base.source
    if dataset in DATASETS:
        source = source.model_copy(update={"data_dir": str(shared() / dataset)})
    rate = LEARNING_RATE * math.sqrt(point.batch_size / RATE_BATCH)
    optimizer = c.Optimizer(
        kind="adamw", learning_rate=rate, weight_decay=0.1, warmup_steps=point.steps // 20, schedule="cosine"
    )
    changes = {
        "name": f"{NAME}_{dataset}",
        "source": source,
        **towers,
        "model": c.Model(dim=point.width, normalize=True),
        "loss": c.Loss(temperature=point.temperature),
        "optimizer": optimizer,
        "training": c.Training(epochs=1, batch_size=point.batch_size),
        "evaluation": c.Evaluation(cutoffs=(10, 100), baselines=(), bootstrap_samples=1_000),
    }
    return base.model_copy(update=changes)


def _widened(tower: c.Tower, width: int) -> tuple[c.Feature, ...]:
    return tuple(feature.model_copy(update={"width": width}) for feature in tower.features)


def measure(dataset: str, point: Point, prepared: PreparedData) -> dict[str, Any]:
    """Train and score a point, and compose its raw line.

    Raises:
        AssertionError: the training stopped, or a metric is not between 0 and 1.
    """
    config = run_config(dataset, point)
    trained = train(STACK, config, prepared, steps=point.steps)
    assert not trained.failed, f"{dataset}, {point}: {trained.failed}"
    scored = score(STACK, config, prepared, trained.weights, "test")
    metrics = {name: scored.metrics[name] for name in METRICS}
    for name, entry in metrics.items():
        low, value, high = (entry[end] for end in ("low", "value", "high"))
        assert low is not None and value is not None and high is not None and 0 <= low <= value <= high <= 1, (
            f"{dataset}, {point}: {name} {entry}"
        )
    settings = {"dataset": dataset, **dataclasses.asdict(point)}
    return record.line(
        NAME,
        f"{dataset}, temperature {point.temperature}, batch {point.batch_size}, width {point.width}",
        trained.times,
        settings=settings,
        seed=config.seed,
        metrics=metrics,
        steps=point.steps,
        num_queries=scored.num_queries,
    )


def present(wanted: Sequence[str]) -> list[str]:
    """Data sets that are there, of those wanted; the absent are named on stderr."""
    found = []
    for dataset in wanted:
        source = PRESETS[DATASETS[dataset]]().source
        assert isinstance(source, c.FilesSource)
        path = shared() / dataset / source.interactions
        if path.is_file():
            found.append(dataset)
        else:
            print(f"{dataset}: left out, there is no {path}", file=sys.stderr)
    return found or [SIMULATED]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every point, write its line, and print what was best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few points on simulated data")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--dataset", choices=tuple(DATASETS), action="append", help="both by default")
    flags = parser.parse_args(arguments)
    best: dict[str, Any] = {}
    for dataset in [SIMULATED] if flags.quick else present(flags.dataset or tuple(DATASETS)):
        prepared = prepare(run_config(dataset, REFERENCE))
        recalls = {}
        for point in points(*((QUICK, QUICK_EXAMPLES) if flags.quick else (SWEEPS, EXAMPLES))):
            line = measure(dataset, point, prepared)
            record.append(flags.results / f"{NAME}.jsonl", [line])
            recalls[line["case"]] = line["metrics"]["recall@10"]["value"]
            print(f"{line['case']}: {json.dumps(line['metrics'])}, {line['wall_seconds'][0]:.1f} s", file=sys.stderr)
        best[dataset] = max(recalls, key=lambda case: recalls[case])
    print(json.dumps({"best_recall_at_10": best}))


if __name__ == "__main__":
    main()
