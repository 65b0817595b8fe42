"""Tuning with planted backends: one proposes at random, one proposes from its partitions, one cannot be built."""

import json
import time

import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.arrays import TopK, Vectors
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.indexes.planted import clustered, vectors_of
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.indexes.tuning import Trial, choose
from retrieval_contract.indexes.tuning_report import NAMES, measured, table, write_report
from retrieval_contract.indexes.tuning_trials import Asked, Goal, try_all

NUM, K = 3_000, 10


class _Planted(Index):
    """Does nothing but propose."""

    masks = False
    built = 0

    def _build(self, values_ND):
        type(self).built += 1
        self._values_ND = values_ND

    def _append(self, values_MD):
        return False

    def _forget(self, rows_M):
        return False

    def _structure_bytes(self):
        return 1_000

    def _save(self, folder):
        """Nothing."""

    def _load(self, folder):
        """Nothing."""

    @classmethod
    def _versions(cls):
        return {}

    def _scored(self, queries_BD, rows_BM):
        scores_BM = np.einsum("bd,bmd->bm", queries_BD, self._values_ND[rows_BM])
        return TopK(rows=rows_BM.astype(np.int32), scores=scores_BM)


class _AtRandom(_Planted):
    """The broken one: quick, and what it proposes has nothing to do with the query."""

    backend = "faiss"

    def _propose(self, queries_BD, depth, allowed_N):
        rows_BM = np.random.default_rng(depth).integers(self.size, size=(len(queries_BD), depth))
        return self._scored(queries_BD, rows_BM)


class _Sieve(_Planted):
    """Looks at the first `scann_leaves_to_search` of 100 parts of the candidates; slower the more it looks at."""

    backend = "scann"

    def _propose(self, queries_BD, depth, allowed_N):
        share = self.settings.scann_leaves_to_search
        time.sleep(share * 2e-5 if len(queries_BD) == 1 else 0)
        rows_M = np.flatnonzero(np.arange(self.size) % 100 < share)
        scores_BM = queries_BD @ self._values_ND[rows_M].T
        best_BM = np.argsort(-scores_BM, axis=1)[:, : 2 * depth]
        return TopK(rows=rows_M[best_BM].astype(np.int32), scores=np.take_along_axis(scores_BM, best_BM, axis=1))


class _Unbuilt(_Planted):
    """Cannot be built."""

    backend = "partitioned"

    def _build(self, values_ND):
        raise UserError("no such thing here", todo="try another")

    def _propose(self, queries_BD, depth, allowed_N):
        raise AssertionError("never built")


CLASSES = {"exact": ExactIndex, "faiss": _AtRandom, "scann": _Sieve, "partitioned": _Unbuilt}


def _goal(**changes):
    return Goal(**{"target": 0.8, "k": K, "max_bytes": None, "num_samples": 100, "seed": 0, **changes})


def _sieve(share):
    return config.Index(backend="scann", scann_leaves_to_search=share)


@pytest.fixture(scope="module")
def problem():
    values_ND, queries_BD = clustered(NUM, 120)
    vectors = vectors_of(values_ND)
    return vectors, Asked(vectors, queries_BD, K)


def _try(problem, grid, **goal):
    vectors, asked = problem
    return try_all(grid, CLASSES, vectors, None, asked, _goal(**goal))


def test_a_backend_that_proposes_at_random_is_never_chosen_however_quick(problem):
    grid = [config.Index(backend="faiss"), _sieve(60), _sieve(95), config.Index()]
    tried = _try(problem, grid)
    broken, low, high, exact = tried.trials
    assert broken.recall.value < 0.2 and broken.p50_ms < high.p50_ms
    assert low.recall.value == pytest.approx(0.6, abs=0.1) and exact.recall.low == 1.0
    assert tried.kept in (high, exact) and tried.index.settings == tried.kept.settings
    assert _try(problem, grid[:1]).kept is None
    assert choose(tried.trials, target=0.0) is broken, "the control: only its recall stood against it"


def test_a_structure_is_built_once_for_all_its_searches(problem):
    _Sieve.built = 0
    shares = (60, 90, 95)
    tried = _try(problem, [_sieve(share) for share in shares])
    assert _Sieve.built == 1
    assert [trial.settings.scann_leaves_to_search for trial in tried.trials] == list(shares)
    recalls = [trial.recall.value for trial in tried.trials]
    assert recalls == sorted(recalls) and recalls[0] < recalls[-1]


def test_only_what_would_be_chosen_is_checked_and_on_other_queries(problem):
    tried = _try(problem, [_sieve(95), _sieve(60), _sieve(100)])
    kept, low, slower = tried.trials
    assert kept is tried.kept and kept.checked.num_queries == 60
    assert low.checked is None and slower.checked is None
    assert kept.checked.value != kept.recall.value


def test_what_only_seemed_to_hold_falls_at_its_check(problem):
    vectors, asked = problem
    lucky = Asked(vectors, asked.choosing, K)
    # The half that settings are chosen by is made easy: its truth is what the sieve lets through.
    sieve = _Sieve.build(vectors, _sieve(60))
    lucky.choosing_truth = sieve.search(lucky.choosing, K, weights_digest=sieve.weights_digest)
    grid = [_sieve(60)]
    tried = try_all(grid, CLASSES, vectors, None, lucky, _goal())
    assert tried.trials[0].recall.value == 1.0 and tried.trials[0].checked.value < 0.8
    assert tried.kept is None and tried.index is None


def test_what_cannot_be_built_is_noted_and_the_rest_goes_on(problem):
    said = []
    vectors, asked = problem
    grid = [config.Index(backend="partitioned"), config.Index()]
    tried = try_all(grid, CLASSES, vectors, None, asked, _goal(), seen=said.append)
    assert [type(each).__name__ for each in said] == ["Failure", "Trial"]
    assert tried.failures[0].reason == "no such thing here: try another"
    assert tried.kept is tried.trials[0]


def test_too_large_is_not_chosen(problem):
    vectors, _ = problem
    tried = _try(problem, [_sieve(100), config.Index()], max_bytes=vectors.values.nbytes)
    assert tried.kept.settings.backend == "exact", "the structure's bytes count too"
    assert _try(problem, [_sieve(100)], max_bytes=vectors.values.nbytes).kept is None


def test_one_query_is_too_few(problem):
    vectors, asked = problem
    with pytest.raises(UserError, match="1 queries to measure by"):
        Asked(vectors, asked.choosing[:1], K)


def test_the_report_holds_every_raw_time_and_reads_well(problem, tmp_path):
    grid = [config.Index(backend="partitioned"), _sieve(60), config.Index(store="int8")]
    tried, goal = _try(problem, grid, max_bytes=10**6), _goal(max_bytes=10**6)
    write_report(tmp_path, tried, goal, queries="120 planted queries")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    lines = [json.loads(line) for line in (tmp_path / "tuning.jsonl").read_text().splitlines()]
    assert [line["settings"]["backend"] for line in lines] == ["scann", "exact", "partitioned"]
    assert len(lines[0]["milliseconds"]) == 60 and lines[2]["reason"].startswith("no such thing")
    text = (tmp_path / "tuning.md").read_text()
    assert "recall@10 of at least 0.8 within 1,000,000 bytes, on 120 planted queries" in text
    assert "| scann | scann_leaves_to_search 60 |" in text and "below the target" in text
    assert "| exact | store int8 |" in text and "| kept |" in text and "* partitioned" in text
    svg = (tmp_path / "tuning.svg").read_bytes()
    write_report(tmp_path, tried, goal, queries="120 planted queries")
    assert svg.startswith(b"<?xml") and (tmp_path / "tuning.svg").read_bytes() == svg


def test_what_travels_with_the_index_is_the_checked_recall(problem, tmp_path):
    tried = _try(problem, [config.Index()])
    told = measured(tried.kept, _goal(), queries="planted")
    assert told["recall"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (told["k"], told["num_queries"], told["target"]) == (K, 60, 0.8)
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    tried.index.save(tmp_path / "saved", measured=told)
    assert ExactIndex.load(tmp_path / "saved").measured == told
    assert isinstance(tried.kept, Trial) and isinstance(problem[0], Vectors)
    assert "kept" in table(tried, _goal())
