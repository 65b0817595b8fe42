"""The evaluation report: a model beside its baselines on the same split, with intervals and slices.

A pure function of (config, data, vectors): the same give the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.config import RunConfig
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.evaluation import baselines, report_text
from retrieval_contract.evaluation.bootstrap import LEVEL, intervals
from retrieval_contract.evaluation.measuring import Fractions, Measured, measure, measure_slice
from retrieval_contract.evaluation.question import Question, ask
from retrieval_contract.evaluation.scorers import Scorer, VectorScorer
from retrieval_contract.evaluation.slices import COLD_CANDIDATES, chance, slice_pairs

ORACLE_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Moments of the held-out period at which the oracle is asked, as quantiles of its rows' times."""
MODEL, ORACLE = "model", "oracle"

Table = Mapping[str, Mapping[str, float | None]]
"""By metric: `value`, and `low` and `high` of the 95 % interval, None for a metric without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an evaluation found."""

    tree: Mapping[str, Any]
    """What metrics.json holds; no NaN."""

    def to_json(self) -> str:
        """The text of metrics.json, full floats."""
        return json.dumps(self.tree, indent=2, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """The tables that are printed, four digits."""
        return report_text.tables(self.tree)


def evaluate(
    config: RunConfig,
    prepared: PreparedData,
    query_vectors: Float32Array,
    candidate_vectors: Float32Array,
    *,
    query_rows: Int32Array,
    notes: Sequence[str] = (),
) -> Report:
    """Evaluate vectors on the configured held-out part, over the whole catalogue.

    Args:
        config: the run; `config.evaluation` says what is reported.
        prepared: its data.
        query_vectors: [E, D], or [E, I, D] of queries with several vectors.
        candidate_vectors: [N, D], the whole catalogue in its order.
        query_rows: entity row of each query vector [E], distinct; every query with a held-out positive is among them.
        notes: lines about the model for the report's reader, behind those about the data.

    Raises:
        UserError: a cutoff beyond the catalogue, nothing relevant left, or too little memory allowed for one query.
        RunError: vectors that are not finite.
    """
    question = ask(config.evaluation, prepared)
    places = _places(query_rows, question.query_rows, len(prepared.queries.ids))
    assert len(candidate_vectors) == len(prepared.candidates.ids), "one vector for each candidate of the catalogue"
    scorers = {MODEL: VectorScorer(query_vectors[places], candidate_vectors)} | _baselines(config, prepared, question)
    measured = {name: measure(scorer, question) for name, scorer in scorers.items()}
    pairs = slice_pairs(
        question.query_rows[question.pair_queries],
        question.relevant.indices,
        seen=prepared.seen(),
        counts=prepared.candidate_counts(),
        head_fraction=config.evaluation.head_fraction,
    )
    groups: dict[tuple[str, ...], Fractions] = {
        (name, kind): fractions for name, result in measured.items() for kind, fractions in _fractions(result)
    }
    groups |= {
        (name, "slice", scorer): measure_slice(measured[scorer].ranks, members, question)
        for name, members in pairs.items()
        for scorer in (measured if name == COLD_CANDIDATES else (MODEL,))
        if members.any()
    }
    tables = _with_intervals(groups, config, question)
    tree = _tree(config, prepared, question, measured, pairs, tables)
    return Report(tree=tree | {"notes": [*prepared.notes, *_known_notes(config, prepared), *notes]})


def _known_notes(config: RunConfig, prepared: PreparedData) -> list[str]:
    """What queries are known by, where it is more than train rows."""
    if not prepared.knows_validation(config.evaluation.part):
        return []
    return [
        "Known of a query are its train and validation rows (evaluation.known=train_and_validation): in histories and "
        "affinities, among the seen candidates, and in the linear baseline's profiles; all weights and popularity are "
        "of train rows alone."
    ]


def _places(query_rows: Int32Array, wanted: Int64Array, num_queries: int) -> Int64Array:
    """Where the vectors of the ranked queries are."""
    place_of = np.full(num_queries, -1, np.int64)
    place_of[query_rows] = np.arange(len(query_rows))
    places = place_of[wanted]
    assert (places >= 0).all(), "every query with a held-out positive has a vector"
    return places


def _baselines(config: RunConfig, prepared: PreparedData, question: Question) -> dict[str, Scorer]:
    """The configured baselines, and the oracle where the truth is known."""
    settings = config.evaluation
    scorers: dict[str, Scorer] = {}
    if "popularity" in settings.baselines:
        scorers["popularity"] = baselines.popularity(prepared.candidate_counts())
    if "ease" in settings.baselines:
        is_ease = len(prepared.candidates.ids) <= settings.ease_max_candidates
        scorers["ease" if is_ease else "item_item_cosine"] = baselines.linear(
            baselines.train_matrix(prepared),
            baselines.known_matrix(prepared, settings.part)[question.query_rows],
            l2=settings.ease_l2,
            ease_max_candidates=settings.ease_max_candidates,
        )
    if prepared.truth is not None:
        held_out = getattr(prepared.split, settings.part)
        times = prepared.interactions.times[held_out[prepared.interactions.positive[held_out]]]
        moments = np.quantile(times, ORACLE_QUANTILES, method="nearest").astype(np.int64)
        ids = [prepared.queries.ids[row] for row in question.query_rows.tolist()]
        scorers[ORACLE] = baselines.oracle(prepared.truth, ids, moments.tolist())
    return scorers


def _fractions(measured: Measured) -> list[tuple[str, Fractions]]:
    return [("by_query", measured.by_query), ("by_row", measured.by_row)]


def _with_intervals(
    groups: Mapping[tuple[str, ...], Fractions], config: RunConfig, question: Question
) -> dict[tuple[str, ...], Table]:
    """Divide the sums, and bound the ratios by one set of resamples."""
    parts = list(groups.values())
    above_PC = np.stack([array for part in parts for array in part.above.values()], axis=1)
    below_PG = np.stack([part.below for part in parts], axis=1)
    kinds_C = np.repeat(np.arange(len(parts)), [len(part.above) for part in parts])
    low_C, high_C = intervals(
        above_PC,
        below_PG,
        kinds_C,
        num_samples=config.evaluation.bootstrap_samples,
        # The split's seed and not the run's: runs of several seeds share the resamples, too.
        seed=config.split.seed % 2**63,
        max_bytes=question.max_bytes,
    )
    values_C = above_PC.sum(axis=0) / below_PG.sum(axis=0)[kinds_C]
    rows = iter(zip(values_C.tolist(), low_C.tolist(), high_C.tolist(), strict=True))
    return {key: {name: _entry(*next(rows)) for name in part.above} for key, part in groups.items()}


def _entry(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": value, "low": low if np.isfinite(low) else None, "high": high if np.isfinite(high) else None}


def _tree(
    config: RunConfig,
    prepared: PreparedData,
    question: Question,
    measured: Mapping[str, Measured],
    pairs: Mapping[str, BoolArray],
    tables: Mapping[tuple[str, ...], Table],
) -> dict[str, Any]:
    """Compose what metrics.json holds."""
    rows = {name: _row(result, name, tables) for name, result in measured.items()}
    model = rows.pop(MODEL)
    tree: dict[str, Any] = {"metrics": model, "baselines": rows}
    if ORACLE in rows:
        tree["attained"] = _attained(model, rows[ORACLE])
    return tree | {
        "slices": {name: _slice(name, members, question, tables) for name, members in pairs.items()},
        "num_queries": len(question.query_rows),
        "num_excluded": question.num_part_queries - len(question.query_rows),
        "num_held_out_rows": len(question.row_queries),
        "num_candidates": len(question.percentiles),
        "part": config.evaluation.part,
        "exclude_seen": config.evaluation.exclude_seen,
        "interval": {"level": LEVEL, "samples": config.evaluation.bootstrap_samples},
        "name": config.name,
        "config_digest": config.digest(),
    }


def _row(measured: Measured, name: str, tables: Mapping[tuple[str, ...], Table]) -> dict[str, Any]:
    """One scorer's metrics, metric by metric."""
    alone = {metric: {"value": value, "low": None, "high": None} for metric, value in measured.overall.items()}
    return {**tables[name, "by_query"], **tables[name, "by_row"], **alone}


def _attained(model: Table, oracle: Table) -> dict[str, float]:
    """The model's share of what the oracle reaches, where the oracle reaches anything."""
    shares = {}
    for name, entry in oracle.items():
        value, best = model[name]["value"], entry["value"]
        if name.startswith("recall@") and value is not None and best:
            shares[name] = value / best
    return shares


def _slice(
    name: str, members: BoolArray, question: Question, tables: Mapping[tuple[str, ...], Table]
) -> dict[str, Any]:
    """A slice's counts and metrics, and what stands beside it; no metrics where nothing is in it."""
    queries, num_relevant_Q = np.unique(question.pair_queries[members], return_counts=True)
    rows = {key[2]: dict(table) for key, table in tables.items() if key[:2] == (name, "slice")}
    counts = {"num_queries": len(queries), "num_relevant": int(members.sum())}
    tree = {**counts, "metrics": rows.pop(MODEL, {})}
    if not rows:
        return tree
    excluded_Q = 0 if question.excluded is None else np.diff(question.excluded.indptr)[queries]
    num_ranked_Q = len(question.percentiles) - np.asarray(excluded_Q, np.int64)
    by_chance = chance(num_relevant_Q, np.broadcast_to(num_ranked_Q, queries.shape), question.cutoffs)
    return tree | {"baselines": rows, "chance": {metric: {"value": value} for metric, value in by_chance.items()}}
