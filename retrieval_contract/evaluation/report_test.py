"""The whole report against counting by hand in plain Python, and its promises."""

import dataclasses
import json
import math

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

from retrieval_contract import config as c
from retrieval_contract.data.prepare import prepare, prepare_raw
from retrieval_contract.data.sources.raw import RawData
from retrieval_contract.errors import RunError, UserError
from retrieval_contract.evaluation import report as report_module
from retrieval_contract.evaluation.planted import exact_scores, full_ranking
from retrieval_contract.evaluation.report import evaluate

CUTOFFS = (1, 3, 7)


def _config(**evaluation):
    settings = {"cutoffs": CUTOFFS, "bootstrap_samples": 50} | evaluation
    return c.RunConfig(
        source=c.SimulatedSource(num_queries=60, num_candidates=40, num_interactions=1_500),
        split=c.SplitRule(kind="column"),
        query=c.Tower(features=(c.IdFeature(name="query_id"),)),
        candidate=c.Tower(features=(c.IdFeature(name="candidate_id"),)),
        evaluation=c.Evaluation(**settings),
    )


def _raw(rows):
    queries, candidates, parts = zip(*rows, strict=True)
    times = pa.array(range(len(rows)), pa.int64())
    interactions = pa.table({"query_id": queries, "candidate_id": candidates, "time": times, "split": parts})
    table = pa.table({"candidate_id": [f"c{row}" for row in range(12)]})
    return RawData(interactions=interactions, queries=None, candidates=table, truth=None, has_timestamps=True, notes=())


def _draw_rows(seed):
    """Repeats among train and among held-out rows, held-out rows that were seen, queries of one part only."""
    generator = np.random.default_rng(seed)
    rows = [(f"q{query}", f"c{candidate}", "train") for query, candidate in generator.integers(0, (9, 8), (40, 2))]
    rows += [(f"q{query}", f"c{candidate}", "test") for query, candidate in generator.integers((2, 0), 12, (60, 2))]
    return [*rows, (*rows[0][:2], "test"), ("q20", "c1", "train"), ("q30", "c1", "train"), ("q30", "c1", "test")]


def _by_hand(prepared, scores, exclude_seen):
    """Every metric by loops over queries and rows."""
    rows, part = prepared.interactions, prepared.split.test
    train = {(int(rows.query_rows[i]), int(rows.candidate_rows[i])) for i in prepared.split.train}
    held = [(int(rows.query_rows[i]), int(rows.candidate_rows[i])) for i in part]
    found: dict[str, list[float]] = {}
    excluded = 0
    ranking_of = {}
    for query in sorted({q for q, _ in held}):
        relevant = {k for q, k in held if q == query and not (exclude_seen and (q, k) in train)}
        ranking = full_ranking(scores[query : query + 1])[0]
        ranking = [k for k in ranking if not (exclude_seen and (query, k) in train)]
        ranking_of[query] = ranking
        if not relevant:
            excluded += 1
            continue
        at = [rank for rank, k in enumerate(ranking, 1) if k in relevant]
        found.setdefault("mrr", []).append(1 / at[0])
        for k in CUTOFFS:
            hits = [rank for rank in at if rank <= k]
            best = min(k, len(relevant))
            values = {
                "recall": len(hits) / len(relevant),
                "hit_rate": float(bool(hits)),
                "precision": len(hits) / k,
                "ndcg": sum(1 / math.log2(r + 1) for r in hits) / sum(1 / math.log2(r + 1) for r in range(1, best + 1)),
                "map": sum(n / r for n, r in enumerate(hits, 1)) / best,
            }
            for name, value in values.items():
                found.setdefault(f"{name}@{k}", []).append(value)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    for k in CUTOFFS:
        means[f"accuracy@{k}"] = float(np.mean([(pair[1] in ranking_of[pair[0]][:k]) for pair in held]))
    return means, excluded


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_counting_by_hand(seed, exclude_seen):
    config = _config(exclude_seen=exclude_seen)
    prepared = prepare_raw(_raw(_draw_rows(seed)), config)
    generator = np.random.default_rng(seed)
    query_vectors, candidate_vectors = (
        generator.integers(-2, 3, (count, 3)).astype(np.float32) for count in (len(prepared.queries.ids), 12)
    )
    # Vectors in an order of their own.
    order = generator.permutation(len(query_vectors)).astype(np.int32)
    tree = evaluate(config, prepared, query_vectors[order], candidate_vectors, query_rows=order).tree
    expected, excluded = _by_hand(prepared, exact_scores(query_vectors, candidate_vectors), exclude_seen)
    assert {name: tree["metrics"][name]["value"] for name in expected} == pytest.approx(expected)
    assert tree["num_excluded"] == excluded and tree["exclude_seen"] is exclude_seen
    assert exclude_seen == (excluded > 0), "the case must hold queries with nothing relevant"


def test_comparison_by_hand_notices_what_was_seen():
    prepared = prepare_raw(_raw(_draw_rows(0)), _config())
    scores = np.random.default_rng(0).standard_normal((len(prepared.queries.ids), 12)).astype(np.float32)
    with_seen, without = _by_hand(prepared, scores, False)[0], _by_hand(prepared, scores, True)[0]
    assert any(with_seen[name] != pytest.approx(without[name]) for name in with_seen)


@pytest.fixture(scope="module")
def simulated():
    config = _config().model_copy(update={"split": c.SplitRule()})
    prepared = prepare(config)
    generator = np.random.default_rng(0)
    rows, _ = prepared.evaluation_times("test")
    query_vectors, candidate_vectors = (
        generator.standard_normal((count, 5)).astype(np.float32) for count in (len(rows), len(prepared.candidates.ids))
    )
    return config, prepared, query_vectors, candidate_vectors, rows.astype(np.int32)


def _evaluate(simulated, **evaluation):
    config, prepared, query_vectors, candidate_vectors, rows = simulated
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=evaluation)})
    return evaluate(config, prepared, query_vectors, candidate_vectors, query_rows=rows)


def test_same_vectors_give_the_same_bytes(simulated):
    assert _evaluate(simulated).to_json() == _evaluate(simulated).to_json()
    assert _evaluate(simulated).to_text() == _evaluate(simulated).to_text()


def test_json_has_the_agreed_names_and_no_nan(simulated):
    tree = json.loads(_evaluate(simulated).to_json(), parse_constant=lambda word: pytest.fail(word))
    names = {"recall", "hit_rate", "precision", "accuracy", "ndcg", "map", "coverage", "popularity_percentile", "gini"}
    expected = {f"{name}@{k}" for name in names for k in CUTOFFS} | {"mrr"}
    assert set(tree["metrics"]) == expected
    assert set(tree["baselines"]) == {"popularity", "ease", "oracle"}
    assert all(set(table) == expected for table in tree["baselines"].values())
    assert set(tree["slices"]) == {"cold_queries", "cold_candidates", "head", "tail"}
    assert tree["num_queries"] + tree["num_excluded"] == len(simulated[4])
    assert tree["config_digest"] == simulated[0].digest()
    for name, entry in tree["metrics"].items():
        assert set(entry) == {"value", "low", "high"}
        if name.startswith(("coverage", "gini")):
            assert entry["low"] is None
        else:
            assert entry["low"] <= entry["value"] <= entry["high"], name


def test_oracle_is_the_best_row_and_attained_is_the_share_of_it(simulated):
    tree = _evaluate(simulated).tree
    oracle, model = tree["baselines"]["oracle"]["recall@7"]["value"], tree["metrics"]["recall@7"]["value"]
    assert oracle > tree["baselines"]["popularity"]["recall@7"]["value"] > model
    assert tree["attained"]["recall@7"] == model / oracle


def test_baselines_are_those_configured(simulated):
    assert set(_evaluate(simulated, baselines=()).tree["baselines"]) == {"oracle"}
    linear = _evaluate(simulated, baselines=("ease",), ease_max_candidates=39).tree["baselines"]
    assert set(linear) == {"item_item_cosine", "oracle"}


def test_memory_bound_changes_no_value(simulated):
    trees = [_evaluate(simulated, max_bytes=size).tree for size in (256_000_000, 1_000_000)]
    wide, narrow = ({name: entry["value"] for name, entry in tree["metrics"].items()} for tree in trees)
    assert wide == narrow


def test_text_says_whether_seen_candidates_are_left_out(simulated):
    text = _evaluate(simulated).to_text()
    assert "left out of the ranking" in text and "attained" in text and "nan" not in text.lower()
    assert "kept in the ranking" in _evaluate(simulated, exclude_seen=False).to_text()
    value = _evaluate(simulated).tree["metrics"]["ndcg@7"]["value"]
    assert f"{value:.4f}" in text


def test_notes_on_the_model_stand_behind_those_on_the_data(simulated):
    config, prepared, query_vectors, candidate_vectors, rows = simulated
    noted = dataclasses.replace(prepared, notes=("of the data",))
    report = evaluate(config, noted, query_vectors, candidate_vectors, query_rows=rows, notes=("of the model",))
    assert report.tree["notes"] == ["of the data", "of the model"]
    assert "of the data\nof the model\n" in report.to_text()


def test_empty_slice_has_counts_and_no_metrics():
    rows = [("q0", "c0", "train"), ("q1", "c1", "train"), ("q0", "c1", "test"), ("q1", "c0", "test")]
    config = _config(exclude_seen=True)
    prepared = prepare_raw(_raw(rows), config)
    vectors = np.ones((12, 2), np.float32)
    report = evaluate(config, prepared, vectors[:2], vectors, query_rows=np.arange(2, dtype=np.int32))
    assert report.tree["slices"]["cold_queries"] == {"num_queries": 0, "num_relevant": 0, "metrics": {}}
    assert "cold_queries" in report.to_text()


def test_beside_cold_candidates_stand_the_baselines_and_chance():
    # Candidates 8 and above have no train row; the vectors point queries at candidate 9.
    rows = [(f"q{row % 4}", f"c{row % 8}", "train") for row in range(16)]
    rows += [("q0", "c9", "test"), ("q1", "c9", "test"), ("q1", "c11", "test"), ("q2", "c1", "test")]
    config = _config(exclude_seen=True)
    prepared = prepare_raw(_raw(rows), config)
    candidate_vectors = np.zeros((12, 2), np.float32)
    candidate_vectors[9] = 1
    vectors = np.ones((4, 2), np.float32)
    tree = evaluate(config, prepared, vectors, candidate_vectors, query_rows=np.arange(4, dtype=np.int32)).tree
    part = tree["slices"]["cold_candidates"]
    assert (part["num_queries"], part["num_relevant"]) == (2, 3)
    assert part["metrics"]["hit_rate@1"]["value"] == 1 and part["metrics"]["recall@1"]["value"] == 0.75
    assert set(part["baselines"]) == {"popularity", "ease"}
    assert part["baselines"]["popularity"]["hit_rate@3"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    # Each query has met 2 of the 12.
    assert part["chance"]["recall@1"]["value"] == pytest.approx(0.1)
    assert part["chance"]["hit_rate@1"]["value"] == pytest.approx((0.1 + 0.2) / 2)
    assert "baselines" not in tree["slices"]["head"]


def test_cutoff_beyond_the_catalogue_is_refused(simulated):
    with pytest.raises(UserError, match=r"41.*40 candidates.*evaluation.cutoffs"):
        _evaluate(simulated, cutoffs=(1, 41))


def test_nothing_relevant_left_is_refused():
    rows = [("q0", "c0", "train"), ("q1", "c1", "train"), ("q0", "c0", "test")]
    config = _config()
    prepared = prepare_raw(_raw(rows), config)
    vectors = np.ones((12, 2), np.float32)
    with pytest.raises(UserError, match="exclude_seen=false"):
        evaluate(config, prepared, vectors[:2], vectors, query_rows=np.arange(2, dtype=np.int32))


def test_vectors_with_nan_are_refused(simulated):
    config, prepared, query_vectors, candidate_vectors, rows = simulated
    broken = query_vectors.copy()
    broken[3, 2] = np.nan
    with pytest.raises(RunError, match="not finite"):
        evaluate(config, prepared, broken, candidate_vectors, query_rows=rows)


def test_missing_query_vector_is_our_own_fault(simulated):
    config, prepared, query_vectors, candidate_vectors, rows = simulated
    with pytest.raises(AssertionError, match="has a vector"):
        evaluate(config, prepared, query_vectors[1:], candidate_vectors, query_rows=rows[1:])


def test_oracle_is_asked_at_times_of_the_held_out_period(simulated, monkeypatch):
    config, prepared, *_ = simulated
    asked = []
    monkeypatch.setattr(report_module.baselines, "oracle", lambda truth, ids, times: asked.append(times))
    report_module._baselines(config, prepared, report_module.ask(config.evaluation, prepared))
    held_out = prepared.interactions.times[prepared.split.test]
    assert all(held_out.min() <= time <= held_out.max() for time in asked[0]) and asked[0] == sorted(asked[0])


KNOWN_ROWS = [
    *((f"q{query}", f"c{candidate}", "train") for query in range(4) for candidate in (query, query + 1)),
    *((f"q{query}", f"c{query + 2}", "validation") for query in range(4)),
    *((f"q{query}", f"c{query + 3}", "test") for query in range(4)),
]


@pytest.mark.parametrize("known", ["train", "train_and_validation"])
def test_known_rows_are_left_out_and_are_the_linear_baselines_profile(known):
    config = _config(known=known, exclude_seen=True, baselines=("popularity", "ease"))
    prepared = prepare_raw(_raw(KNOWN_ROWS), config)
    question = report_module.ask(config.evaluation, prepared)
    both = known == "train_and_validation"
    candidate = {name: row for row, name in enumerate(prepared.candidates.ids)}
    for place, query in enumerate(question.query_rows.tolist()):
        first = int(prepared.queries.ids[query][1:])
        seen = {candidate[f"c{first + step}"] for step in range(3 if both else 2)}
        assert set(question.excluded[place].indices.tolist()) == seen
    scorers = report_module._baselines(config, prepared, question)
    train, profiles = np.zeros((4, 12)), np.zeros((4, 12))
    for name, candidate_name, part in KNOWN_ROWS:
        place = prepared.queries.ids.index(name), candidate[candidate_name]
        train[place] = part == "train" or train[place]
        profiles[place] = part == "train" or (both and part == "validation") or profiles[place]
    weights = report_module.baselines.ease_weights(scipy.sparse.csr_matrix(train), config.evaluation.ease_l2)
    np.testing.assert_allclose(scorers["ease"].scores(np.arange(4)), profiles[question.query_rows] @ weights, atol=1e-6)
    np.testing.assert_array_equal(scorers["popularity"].scores(np.array([0]))[0], train.sum(axis=0))
    vectors = np.ones((12, 2), np.float32)
    report = evaluate(config, prepared, vectors[:4], vectors, query_rows=np.arange(4, dtype=np.int32))
    assert any("train and validation rows" in note for note in report.tree["notes"]) == both


def test_validation_rows_are_evaluated_from_train_rows_alone():
    config = _config(known="train_and_validation", part="validation", exclude_seen=True)
    prepared = prepare_raw(_raw(KNOWN_ROWS), config)
    question = report_module.ask(config.evaluation, prepared)
    assert question.excluded.sum(axis=1).tolist() == [[2]] * 4
    assert not report_module._known_notes(config, prepared)


def test_queries_with_several_vectors_are_evaluated_by_their_largest_score(simulated):
    config, prepared, query_vectors, candidate_vectors, rows = simulated
    several = np.stack([query_vectors, np.roll(query_vectors, 3, axis=0), -query_vectors], axis=1)
    tree = evaluate(config, prepared, several, candidate_vectors, query_rows=rows).tree
    copies = np.repeat(query_vectors[:, None], 3, axis=1)
    alone = _evaluate(simulated).tree
    assert evaluate(config, prepared, copies, candidate_vectors, query_rows=rows).tree == alone
    assert tree["metrics"] != alone["metrics"]
    scores = exact_scores(several, candidate_vectors)
    by_table, excluded = _by_hand(prepared, _by_query(prepared, scores, rows), config.evaluation.exclude_seen)
    assert {name: tree["metrics"][name]["value"] for name in by_table} == pytest.approx(by_table)
    assert tree["num_excluded"] == excluded


def _by_query(prepared, scores, rows):
    """Scores of all queries, zeros where nothing is asked."""
    table = np.zeros((len(prepared.queries.ids), scores.shape[1]), np.float32)
    table[rows] = scores
    return table
