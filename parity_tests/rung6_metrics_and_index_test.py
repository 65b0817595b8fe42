"""Rung 6: from the same weights both stacks give the same report and the same best candidates, whatever the index.

The data is simulated; candidates that never occur in training share the unknown row, so their scores are equal, and the
order among them is the one that the contract defines: the smaller row first.
"""

import functools
import json
from dataclasses import dataclass

import numpy as np
import pytest

import tfrs_models.callables
import torch_reference.callables
from parity_tests.comparing import assert_same
from parity_tests.oracles import metrics, model
from parity_tests.tolerances import rule
from retrieval_contract.arrays import Vectors
from retrieval_contract.config import RunConfig
from retrieval_contract.config_text import config_from_tree
from retrieval_contract.data.prepare import PreparedData, prepare
from retrieval_contract.data.vocabulary import UNKNOWN_ROW
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs.opened import evaluate_encoders
from retrieval_contract.weights.archive import weights_digest
from retrieval_contract.weights.names import initial_weights, parameter_table
from tfrs_models.stack import STACK as TF_STACK
from torch_reference.stack import STACK as TORCH_STACK

ENCODERS = {"tf": tfrs_models.callables.TwoTowerEncoders, "torch": torch_reference.callables.TwoTowerEncoders}
INDEXES = {
    "tf exact": ("tf", ExactIndex),
    "torch exact": ("torch", ExactIndex),
    "scann": ("tf", TF_STACK.indexes["scann"]),
    "faiss": ("torch", TORCH_STACK.indexes["faiss"]),
}
CUTOFFS = (1, 5, 10)
K = 10
QUERY_ID = {"name": "query_id", "kind": "id", "width": 8}
CANDIDATE_ID = {"name": "candidate_id", "kind": "id", "width": 8}


def _several(pooling, **settings):
    shared = {"name": "history", "kind": "history", "width": 8, "max_length": 6, "shares": True}
    return shared | {"pooling": {"kind": pooling, **settings}}


CASES = {
    "ids": {
        "query": {"features": [QUERY_ID]},
        "candidate": {"features": [CANDIDATE_ID]},
        "model": {"dim": 8, "candidate_bias": True},
    },
    "layers": {
        "query": {
            "features": [QUERY_ID, {"name": "history", "kind": "history", "width": 8, "max_length": 6}],
            "hidden_dims": [12],
        },
        "candidate": {"features": [CANDIDATE_ID, {"name": "genres", "kind": "multivalent", "width": 4}]},
        "model": {"dim": 8, "normalize": True},
        "loss": {"temperature": 0.1},
        "evaluation": {"exclude_seen": False, "part": "validation"},
    },
    "mind": {
        "query": {"features": [_several("mind", num_interests=3), QUERY_ID], "hidden_dims": [12]},
        "candidate": {"features": [CANDIDATE_ID]},
        "model": {"dim": 8, "candidate_bias": True},
    },
    "comirec": {
        "query": {"features": [_several("comirec", num_interests=4)]},
        "candidate": {"features": [CANDIDATE_ID]},
        "model": {"dim": 8, "normalize": True},
        "evaluation": {"known": "train_and_validation"},
    },
}
INTERESTS = ("mind", "comirec")


@dataclass(frozen=True)
class Scene:
    """Data, weights, and what each stack makes of them."""

    config: RunConfig
    prepared: PreparedData
    weights: dict
    encoders: dict

    @functools.cached_property
    def question(self):
        """Query rows to evaluate and the moments they are asked at."""
        return self.prepared.evaluation_times(self.config.evaluation.part)

    def vectors(self, stack):
        """(query vectors [Q, D], candidate vectors [N, D]) of a stack, or of the oracle."""
        queries = self.prepared.query_features(*self.question, part=self.config.evaluation.part)
        candidates = self.prepared.candidate_features()
        if stack == "oracle":
            sides = (("query", queries), ("candidate", candidates))
            return tuple(model.served_vectors(side, self.config, self.weights, features) for side, features in sides)
        encoders = self.encoders[stack]
        return encoders.encode_queries(queries), encoders.encode_candidates(candidates)


@functools.cache
def scene(case) -> Scene:
    tree = {
        "source": {"kind": "simulated", "num_queries": 90, "num_candidates": 400, "num_interactions": 2_000},
        "training": {"device": "cpu"},
    }
    evaluation = {"cutoffs": list(CUTOFFS), "bootstrap_samples": 20} | CASES[case].get("evaluation", {})
    config = config_from_tree(tree | CASES[case] | {"evaluation": evaluation}, where=case)
    prepared = prepare(config)
    sizes = prepared.features.sizes
    weights = initial_weights(parameter_table(config, sizes), seed=3, embedding_stddev=1.0)
    generator = np.random.default_rng(0)
    for name in weights:
        if name.endswith("bias"):
            weights[name] = generator.standard_normal(weights[name].shape).astype(np.float32)
    if "candidate.bias" in weights:
        weights["candidate.bias"][UNKNOWN_ROW] = 3  # high enough for equals to be among the best
    encoders = {stack: make(config, sizes, weights, device="cpu") for stack, make in ENCODERS.items()}
    return Scene(config, prepared, weights, encoders)


@functools.cache
def report(case, stack):
    """The text of metrics.json."""
    return evaluate_encoders(scene(case).config, scene(case).prepared, scene(case).encoders[stack]).to_json()


def model_metrics(case, stack):
    return {name: entry["value"] for name, entry in json.loads(report(case, stack))["metrics"].items()}


@functools.cache
def by_hand(case, *, cutoffs=CUTOFFS, reverse_ties=False, excludes=True, score=model.served_scores):
    """Every metric of the report by brute force, from scores as an index serves them: float64, rounded to float32."""
    here = scene(case)
    query_rows, _ = here.question
    # The vectors leave a stack as float32, and a score is their inner product.
    query_QD, candidate_ND = (vectors.astype(np.float64) for vectors in here.vectors("torch"))
    scores_QN = score(query_QD, candidate_ND).astype(np.float32)
    part = here.config.evaluation.part
    seen = here.prepared.seen(part).toarray()
    removes = here.config.evaluation.exclude_seen and excludes
    num_candidates = scores_QN.shape[1]
    held_out: dict[int, list[int]] = {row: [] for row in query_rows.tolist()}
    for query, candidate in zip(*(rows.tolist() for rows in here.prepared.held_out_rows(part)), strict=True):
        held_out[query].append(candidate)
    rankings, relevants, pairs = [], [], []
    for place, query in enumerate(query_rows.tolist()):
        excluded = set(np.flatnonzero(seen[query]).tolist()) if removes else set()
        scores_N = scores_QN[place][::-1] if reverse_ties else scores_QN[place]
        flip = (lambda row: num_candidates - 1 - row) if reverse_ties else (lambda row: row)
        rankings.append([flip(row) for row in metrics.ranking(scores_N, {flip(row) for row in excluded})])
        relevants.append(set(held_out[query]) - excluded)
        pairs += [(place, row) for row in held_out[query]]
    counts = here.prepared.candidate_counts().tolist()
    return averages(rankings, relevants, pairs, counts, cutoffs)


def averages(rankings, relevants, pairs, counts, cutoffs):
    """Metrics by the report's names; the names are those of CUTOFFS, whatever the cutoffs are."""
    asked = [(ranked, relevant) for ranked, relevant in zip(rankings, relevants, strict=True) if relevant]
    kept = [ranked for ranked, _ in asked]
    percentiles = metrics.popularity_percentiles(counts)
    found = {"mrr": np.mean([metrics.mrr(*pair) for pair in asked])}
    by_name = {
        "recall": metrics.recall,
        "hit_rate": metrics.hit_rate,
        "precision": metrics.precision,
        "ndcg": metrics.ndcg,
        "map": metrics.average_precision,
    }
    for name_k, k in zip(CUTOFFS, cutoffs, strict=True):
        found |= {f"{name}@{name_k}": np.mean([metric(*pair, k) for pair in asked]) for name, metric in by_name.items()}
        found[f"accuracy@{name_k}"] = metrics.accuracy(rankings, pairs, k)
        found[f"coverage@{name_k}"] = metrics.coverage(kept, len(counts), k)
        found[f"gini@{name_k}"] = metrics.gini(kept, len(counts), k)
        found[f"popularity_percentile@{name_k}"] = np.mean(
            [metrics.mean_percentile(ranked, percentiles, k) for ranked in kept]
        )
    return found


@functools.cache
def found(case, name):
    """The best candidates of every query from one index, over the vectors of the stack that it belongs to."""
    here = scene(case)
    stack, kind = INDEXES[name]
    queries, candidates = here.vectors(stack)
    digest = weights_digest(here.weights)
    vectors = Vectors(ids=here.prepared.candidates.ids, values=candidates, weights_digest=digest)
    return kind.build(vectors, here.config.index).search(queries, K, weights_digest=digest)


@functools.cache
def best_by_hand(case):
    """Rows and scores of the best K of every query."""
    query_QD, candidate_ND = (vectors.astype(np.float64) for vectors in scene(case).vectors("torch"))
    scores_QN = model.served_scores(query_QD, candidate_ND).astype(np.float32)
    rows_QK = np.array([metrics.ranking(scores_N)[:K] for scores_N in scores_QN], np.int32)
    return rows_QK, np.take_along_axis(scores_QN, rows_QK, axis=1)


@pytest.mark.parametrize("case", CASES)
def test_vectors_agree_with_the_oracle(case):
    here = scene(case)
    for tf, torch, truth in zip(*(here.vectors(stack) for stack in ("tf", "torch", "oracle")), strict=True):
        assert_same(tf, torch, truth, rule("encoders", "float32"))


@pytest.mark.parametrize("case", CASES)
def test_reports_are_the_same_to_the_byte(case):
    assert report(case, "tf") == report(case, "torch")


@pytest.mark.parametrize("case", CASES)
def test_the_report_is_what_brute_force_counts(case):
    assert_same(model_metrics(case, "tf"), model_metrics(case, "torch"), by_hand(case), rule("metrics", "float64"))


def test_ties_occur():
    """Otherwise nothing here would tell one order of equals from another."""
    _, scores_QK = best_by_hand("ids")
    assert (np.diff(scores_QK, axis=1) == 0).any()


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("case", CASES)
def test_every_index_finds_the_same_candidates(case, name):
    rows_QK, scores_QK = best_by_hand(case)
    got = found(case, name)
    assert np.array_equal(got.rows, rows_QK)
    assert_same(got.scores, found(case, "torch exact").scores, scores_QK, rule("scores", "float32"))


def fails(case, wrong):
    """`wrong` metrics are noticed in the place of either stack's."""
    tf, torch, truth = model_metrics(case, "tf"), model_metrics(case, "torch"), by_hand(case)
    for corners in ((wrong, torch, truth), (tf, wrong, truth)):
        with pytest.raises(AssertionError):
            assert_same(*corners, rule("metrics", "float64"))


def test_rung6_notices_swapped_cutoffs():
    fails("layers", by_hand("layers", cutoffs=(1, 10, 5)))


def test_rung6_notices_ties_by_the_larger_row():
    fails("ids", by_hand("ids", reverse_ties=True))


def test_rung6_notices_seen_candidates_kept():
    fails("ids", by_hand("ids", excludes=False))


def test_rung6_notices_a_cutoff_off_by_one():
    fails("ids", by_hand("ids", cutoffs=tuple(k + 1 for k in CUTOFFS)))


@pytest.mark.parametrize("case", INTERESTS)
def test_several_interests_find_no_candidate_twice(case):
    """Searched once for each interest, then merged: the best of several lists that share candidates."""
    assert scene(case).vectors("tf")[0].ndim == 3
    for name in INDEXES:
        assert all(len(set(rows.tolist())) == K for rows in found(case, name).rows), name


@pytest.mark.parametrize("case", INTERESTS)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda query, candidates: (query @ candidates.T).mean(axis=1),
        lambda query, candidates: query[:, 0] @ candidates.T,
        lambda query, candidates: (query @ candidates.T).sum(axis=1),
    ],
    ids=["mean", "first", "sum"],
)
def test_rung6_notices_another_merge_of_interests(case, wrong):
    fails(case, by_hand(case, score=wrong))


def test_rung6_notices_interests_averaged_into_one_vector():
    here = scene("mind")
    queries, candidates = here.vectors("tf")
    digest = weights_digest(here.weights)
    vectors = Vectors(ids=here.prepared.candidates.ids, values=candidates, weights_digest=digest)
    got = ExactIndex.build(vectors, here.config.index).search(queries.mean(axis=1), K, weights_digest=digest)
    assert not np.array_equal(got.rows, best_by_hand("mind")[0])


def test_rung6_notices_a_missing_candidate_bias():
    """Without its last dimension the index ranks otherwise."""
    queries, candidates = (vectors[:, :-1] for vectors in scene("ids").vectors("tf"))
    vectors = Vectors(
        ids=scene("ids").prepared.candidates.ids, values=np.ascontiguousarray(candidates), weights_digest="x"
    )
    got = ExactIndex.build(vectors, scene("ids").config.index).search(queries, K, weights_digest="x")
    rows_QK, _ = best_by_hand("ids")
    assert not np.array_equal(got.rows, rows_QK)
