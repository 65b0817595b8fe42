"""What is searched in the comparisons of indexes: vectors, queries, and the truth of the first of these.

model      the catalogue and the queries of a model that is trained here, in seconds, on simulated data: `MODEL`
clustered  `serving_vectors.draw`, of a stated latent dimension
sift-5k    4,800 real vectors, nearest neighbours as inner products, from the folder that TWO_TOWER_SHARED names

Letters: N candidates, Q queries, D width, T true rows.
"""

import importlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.index_neighbours import packed_truth
from benchmarks.index_truth import true_rows
from benchmarks.serving_vectors import CLUSTER_SIZE, LATENT, NOISE, SPREAD, draw
from retrieval_contract import config, presets
from retrieval_contract.arrays import Float32Array, Int32Array
from retrieval_contract.indexes.planted import SIFT, Case, sift_case
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir

DIM, SEED = 128, 0
NUM_QUERIES, DEPTH = 200, 200
"""Queries whose neighbours are kept, and true rows of each: deeper than asked for, see `index_neighbours`."""
BATCH = 500
"""Queries of a batch, where there are so many."""
MODEL = config.SimulatedSource(num_queries=3_000, num_candidates=10_000, num_interactions=100_000, num_interests=24)
"""What the model is trained on."""
MODEL_EPOCHS = 2
LEAST_AGREEING = 0.995
"""Share of the true neighbours that come with `sift-5k` that must be found true here: equal distances may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Candidates, and what is asked of them."""

    name: str
    candidates: Float32Array
    """[N, D]."""
    queries: Float32Array
    """[Q, D], distinct."""
    truth: Int32Array
    """Rows of the best of each query, best first [Q, T]."""
    truth_seconds: float
    """What finding them took."""
    batch: Float32Array
    """Queries for throughput, the same law [any, D]."""
    facts: Mapping[str, Any]
    """What it was made by."""


def dataset(name: str, candidates: Float32Array, queries: Float32Array, facts: Mapping[str, Any]) -> Dataset:
    """Find the truth; the first queries are those whose neighbours are kept."""
    began = time.perf_counter()
    asked = np.ascontiguousarray(queries[:NUM_QUERIES])
    truth = true_rows(candidates, asked, min(DEPTH, len(candidates)))
    return Dataset(
        name=name,
        candidates=candidates,
        queries=asked,
        truth=truth,
        truth_seconds=time.perf_counter() - began,
        batch=np.ascontiguousarray(queries[:BATCH]),
        facts={"candidates": len(candidates), "dim": candidates.shape[1], **facts},
    )


def truth_line(benchmark: str, dataset: Dataset, k: int) -> dict[str, Any]:
    """The true rows as a raw line of a benchmark whose searches are asked for K; once for each data set."""
    return record.line(
        benchmark,
        f"truth, {dataset.name}",
        record.Times([dataset.truth_seconds]),
        settings={"dataset": dataset.name, "k": k, **dataset.facts},
        seed=SEED,
        num_queries=len(dataset.queries),
        neighbours=packed_truth(dataset.truth),
    )


def clustered(num_candidates: int, dim: int = DIM) -> Dataset:
    """Unit vectors in clusters, of 24 dimensions but for noise."""
    drawn = draw(num_candidates, BATCH, dim, seed=SEED)
    facts = {"latent": LATENT, "cluster_size": CLUSTER_SIZE, "spread": SPREAD, "noise": NOISE}
    return dataset(f"clustered, {num_candidates:,}", drawn.candidates, drawn.queries, facts)


def sift() -> Dataset | None:
    """The vectors of `sift-5k`, or None where the folder is absent.

    Raises:
        AssertionError: the truth found here is not the one that came with them.
    """
    if not SIFT.is_dir():
        return None
    kept: list[Float32Array] = []

    def keep(values_ND: Float32Array, queries_QD: Float32Array) -> Case:
        kept.extend([values_ND, queries_QD])
        return Case(None, values_ND, queries_QD)  # type: ignore[arg-type]

    _, given_QT = sift_case(keep)
    values_ND, queries_QD = kept
    found = dataset("sift-5k", values_ND, queries_QD, {"source": "real"})
    same = np.mean(
        [len(set(a) & set(b)) for a, b in zip(given_QT.tolist(), found.truth[:, :100].tolist(), strict=True)]
    )
    assert same >= LEAST_AGREEING * given_QT.shape[1], f"{same} of {given_QT.shape[1]} true neighbours agree"
    return found


def model(num_candidates: int = MODEL.num_candidates, dim: int = DIM) -> Dataset:
    """Train the PyTorch towers on simulated data, and embed both sides."""
    stack = importlib.import_module("torch_reference.stack").STACK
    source = MODEL.model_copy(update={"num_candidates": num_candidates})
    more = {
        "name": "simulated_large",
        "source": source,
        "model": config.Model(dim=dim),
        "training": config.Training(epochs=MODEL_EPOCHS, batch_size=1_024),
        "evaluation": config.Evaluation(ease_max_candidates=1),
    }
    run = config.RunConfig.model_validate(presets.simulated().model_copy(update=more).model_dump())
    with tempfile.TemporaryDirectory() as folder:
        workdir = Workdir(Path(folder) / "run")
        train_run(stack, run, workdir, resume=False, overwrite=False)
        opened = open_run(stack, run, workdir)
        queries = opened.query_vectors(np.arange(BATCH, dtype=np.int32))
        vectors = opened.candidate_vectors()
    facts = {"preset": "simulated", "epochs": MODEL_EPOCHS, "interactions": source.num_interactions}
    return dataset("model", vectors.values, queries, facts)
