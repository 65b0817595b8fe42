"""Raw rows of JSON through NumPy, through TensorFlow ops and as columns of a table: 2,000 of everything awkward.

A server encodes requests by the first, an exported model by the second, training by the third: the arrays are equal to
the byte where the first and the third are compared, floats of the graph by the rule for what is rounded once. Each
control is a plausible mistake that the comparison must notice. Letters: B rows.
"""

import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from parity_tests.awkward_rows import (
    CANDIDATE,
    CONTEXT,
    QUERY,
    SCRIPTS,
    candidate_columns,
    entities_of,
    interactions_of,
    one_of,
    query_columns,
)
from parity_tests.comparing import assert_same
from parity_tests.tolerances import rule
from retrieval_contract.arrays import FeatureArrays, Split
from retrieval_contract.config import TextFeature, Tower
from retrieval_contract.data.features import fit_features
from retrieval_contract.data.past import Past
from retrieval_contract.data.planted import planted_config
from retrieval_contract.data.requests import Requests
from retrieval_contract.serving import raw_pasts, raw_values
from retrieval_contract.serving.raw_features import RawCandidateEncoder, RawQueryEncoder
from tfrs_models.preprocessing import MISSING_MOMENT, MISSING_TEXT, FeaturePreprocessor

NUM_ROWS, NUM_CANDIDATES, NUM_ITEMS = 2_000, 300, 12_000
IDS = [f"c{row} {SCRIPTS[row % len(SCRIPTS)]}" for row in range(NUM_CANDIDATES)]
# A column that is read as a number and as text, so that its inputs have names of their own.
MORE = TextFeature(name="number_words", column="creator", num_buckets=50)


@dataclass(frozen=True)
class Case:
    """Rows as JSON has them, what training makes of them, and the two that must make the same."""

    rows: dict[str, list[Any]]
    expected: FeatureArrays
    encoder: RawQueryEncoder | RawCandidateEncoder
    preprocessor: FeaturePreprocessor


@pytest.fixture(scope="module")
def fitted():
    draw = np.random.default_rng(2)
    candidates = entities_of(candidate_columns(draw, NUM_CANDIDATES, tame=True), IDS, "candidate_id")
    queries = entities_of(query_columns(draw, 200, tame=True), [f"q{row}" for row in range(200)], "query_id")
    drawn = (draw.integers(200, size=900), draw.integers(250, size=900), 1_100_000_000 + draw.integers(10**6, size=900))
    interactions = interactions_of(draw, *drawn, tame=True)
    candidate = Tower(features=(*CANDIDATE.features, MORE), hidden_dims=(4,))
    config = planted_config(query=QUERY, context=CONTEXT, candidate=candidate)
    nothing = np.zeros(0, np.int64)
    split = Split(train=np.arange(900), validation=nothing, test=nothing)
    features = fit_features(config, interactions, queries, candidates, split)
    return features, features.encode_entities("candidate", candidates)


@pytest.fixture(scope="module")
def candidates(fitted):
    features, _ = fitted
    draw = np.random.default_rng(3)
    columns = candidate_columns(draw, NUM_ROWS, tame=False)
    ids = [one_of(draw, IDS, 1)[0] if row % 2 else f"new {row}" for row in range(NUM_ROWS)]
    expected = features.encode_entities("candidate", entities_of(columns, ids, "candidate_id"))
    rows = as_json({"candidate_id": ids, **columns})
    return Case(rows, expected, RawCandidateEncoder(features), FeaturePreprocessor(features, "candidate"))


@pytest.fixture(scope="module")
def queries(fitted):
    """One request each, with pasts of no item to dozens; moments from before Christ to far ahead."""
    features, catalogue = fitted
    draw = np.random.default_rng(4)
    columns = query_columns(draw, NUM_ROWS, tame=False)
    ids = [f"q{row % 400}" if row % 3 else f"new {row}" for row in range(NUM_ROWS)]
    everyone = np.arange(NUM_ROWS)
    centres = np.where(draw.random(NUM_ROWS) < 0.2, draw.integers(-(10**11), 10**12, NUM_ROWS), 1_100_000_000)
    at = centres + draw.integers(10**6, size=NUM_ROWS)
    requests = interactions_of(draw, everyone, everyone % NUM_CANDIDATES, at, tame=False)
    met_by = (NUM_ROWS * draw.random(NUM_ITEMS) ** 2).astype(np.int64)
    times = at[met_by] - np.floor(10 ** draw.uniform(0, 8, NUM_ITEMS)).astype(np.int64) // 600 * 600 - 1
    past = interactions_of(draw, met_by, draw.integers(NUM_CANDIDATES, size=NUM_ITEMS), times, tame=True)
    entities = entities_of(columns, ids, "query_id")
    encoded = features.encode_entities("query", entities)
    everything = np.arange(NUM_ITEMS)
    known = Past(features, past, everything, num_queries=NUM_ROWS, candidate_ids=IDS, catalogue=catalogue)
    ends = known.rows.ends_before(everyone, requests.times)
    asked = Requests(features, requests, encoded).known(everyone)
    asked_table = {name: requests.table[name].to_pylist() for name in ("device", "load")}
    raw = {"query_id": ids, **columns, "time": at.tolist(), **asked_table, **pasts(past, known.rows)}
    known_catalogue = {"candidate_ids": IDS, "candidate_features": catalogue}
    return Case(
        as_json(raw),
        {**encoded, **asked, **known.encode(everyone, ends, requests.times)},
        RawQueryEncoder(features, **known_catalogue),
        FeaturePreprocessor(features, "query", **known_catalogue),
    )


def pasts(past, sorted_rows):
    """All items of each query, oldest first, as a client would send them."""
    order, bounds = sorted_rows.order, sorted_rows.starts
    lists = [order[begin:end] for begin, end in itertools.pairwise(bounds)]
    return {
        "history": [[IDS[row] for row in past.candidate_rows[at]] for at in lists],
        "history_weights": [past.weights[at].tolist() for at in lists],
        "history_times": [past.times[at].tolist() for at in lists],
    }


def as_json(columns):
    """Columns as they come out of a request's text; NaN is null."""
    plain = {
        name: np.asarray(values).tolist() if hasattr(values, "dtype") else values for name, values in columns.items()
    }
    nulls = {name: [None if value != value else value for value in values] for name, values in plain.items()}
    return json.loads(json.dumps(nulls, allow_nan=False))


def as_tensors(inputs, rows):
    """The same rows as an exported model takes them, lists ragged."""
    return {name: tensor_of(inputs[name], values) for name, values in rows.items()}


def tensor_of(raw, values):
    if raw.form == "text":
        return texts(values)
    if raw.form == "number":
        return tf.constant([np.nan if value is None else value for value in values], tf.float64)
    if raw.form == "moment":
        return tf.constant([MISSING_MOMENT if value is None else value for value in values], tf.int64)
    if raw.form == "vector":
        return tf.constant([[np.nan] * raw.width if vector is None else vector for vector in values], tf.float32)
    lists = [values or [] for values in values]
    flat, lengths = [value for row in lists for value in row], [len(row) for row in lists]
    kinds = {
        "texts": texts,
        "numbers": lambda x: tf.constant(x, tf.float64),
        "moments": lambda x: tf.constant(x, tf.int64),
    }
    return tf.RaggedTensor.from_row_lengths(kinds[raw.form](flat), lengths)


def texts(values):
    return tf.constant([MISSING_TEXT if value is None else value.encode() for value in values], tf.string)


def assert_equal(graph, arrays, expected):
    """All three, each with each: names, types and whole numbers equal, floats by the rule; NumPy's to the byte."""
    graph = {name: tensor.numpy() for name, tensor in graph.items()}
    assert {name: values.dtype for name, values in arrays.items()} == {n: v.dtype for n, v in expected.items()}
    assert_same(arrays, arrays, dict(expected), rule("batches", "bytes"))
    whole = {name for name, values in expected.items() if values.dtype.kind == "i"}
    for names, how in ((whole, rule("batches", "bytes")), (set(expected) - whole, rule("encoders", "float32"))):
        assert_same(*({name: part[name] for name in names} for part in (graph, arrays, expected)), how)


@pytest.mark.parametrize("side", ["candidates", "queries"])
def test_rows_of_json_are_encoded_as_by_the_graph_and_by_training(side, request):
    case = request.getfixturevalue(side)
    assert list(case.encoder.inputs.items()) == list(case.preprocessor.inputs.items())
    arrays = case.encoder.encode(case.rows, lists="exact")
    graph = case.preprocessor(as_tensors(case.preprocessor.inputs, case.rows))
    assert list(graph) == list(arrays)
    assert_equal(graph, arrays, case.expected)


def test_rectangles_of_json_are_encoded_as_by_the_graph(queries, candidates):
    """Lists filled with empty texts in front, within and behind, as the clients of a SavedModel send them."""
    for case in (queries, candidates):
        rows = {name: values[:50] for name, values in case.rows.items()}
        filled = {name: filled_up(values, case.encoder.inputs[name].form) for name, values in rows.items()}
        tensors = as_tensors(case.encoder.inputs, rows) | {
            name: tensor_of(case.encoder.inputs[name], values).to_tensor()
            for name, values in filled.items()
            if case.encoder.inputs[name].form in ("texts", "numbers", "moments")
        }
        graph = case.preprocessor(tensors)
        arrays = case.encoder.encode(filled)
        assert_equal(graph, arrays, arrays)


def filled_up(values, form):
    fill = {"texts": "", "numbers": 9.5, "moments": 7}.get(form)
    if fill is None:
        return values
    longest = max(len(row or []) for row in values)
    return [[fill, *(row or []), *[fill] * (longest - len(row or []))] for row in values]


def test_missing_values_of_a_past_count_as_in_the_graph(queries):
    """Without weights, without times, without the request's time; and items with one of them missing."""
    rows = {name: values[:200] for name, values in queries.rows.items()}
    for left_out in ("history_weights", "history_times", "time"):
        given = {name: values for name, values in rows.items() if name != left_out}
        graph = queries.preprocessor(as_tensors(queries.preprocessor.inputs, given))
        arrays = queries.encoder.encode(given, lists="exact")
        assert_equal(graph, arrays, arrays)
    holes = rows | {
        "history_times": [[None if i % 3 else time for i, time in enumerate(row)] for row in rows["history_times"]],
        "history": [[None if i % 4 == 1 else id_ for i, id_ in enumerate(row)] for row in rows["history"]],
    }
    times = [[MISSING_MOMENT if time is None else time for time in row] for row in holes["history_times"]]
    graph = queries.preprocessor(as_tensors(queries.preprocessor.inputs, holes | {"history_times": times}))
    arrays = queries.encoder.encode(holes, lists="exact")
    assert_equal(graph, arrays, arrays)


# ---------------------------------------------------------------- controls


def assert_noticed(case, rows, names):
    """The comparison fails in each of the arrays, one at a time."""
    arrays = case.encoder.encode(rows, lists="exact")
    for name in names:
        with pytest.raises(AssertionError):
            assert_same(arrays[name], arrays[name], case.expected[name], rule("encoders", "float32"))


def test_raw_features_notices_a_past_turned_round(queries):
    turned = {name: [row[::-1] for row in queries.rows[name]] for name in ("history", "history_weights")}
    assert_noticed(queries, queries.rows | turned, ("latest", "latest.genres", "aged", "fading.weights"))


def test_raw_features_notices_the_first_items_kept(queries, monkeypatch):
    windows = raw_pasts._windows
    first = lambda begins, lengths, length: windows(begins, np.minimum(lengths, length), length)  # noqa: E731
    monkeypatch.setattr(raw_pasts, "_windows", first)
    assert_noticed(queries, queries.rows, ("latest", "fading.weights", "genre_affinity"))


def test_raw_features_notices_null_read_as_empty_text(candidates):
    texts = {name: [value or "" for value in candidates.rows[name]] for name in ("creator", "category")}
    assert_noticed(candidates, candidates.rows | texts, ("creator", "category"))


def test_raw_features_notices_null_read_as_zero(candidates):
    zeros = {name: [value or 0 for value in candidates.rows[name]] for name in ("number", "moment")}
    assert_noticed(candidates, candidates.rows | zeros, ("number_z_score", "number_zero", "moment_hour"))


def test_raw_features_notices_booleans_of_another_case(candidates, monkeypatch):
    """Training reads them through Arrow, as words in lower case."""
    rows = {"category": [True, False, 7]}
    graph = candidates.preprocessor({"category": tf.constant(["true", "false", "7"])})
    arrays = candidates.encoder.encode(rows)
    assert_equal({"category": graph["category"]}, {"category": arrays["category"]}, {"category": arrays["category"]})
    hashed = candidates.encoder.encode({"creator": [True]})["creator"]
    monkeypatch.setattr(raw_values, "_as_text", lambda value, place, field: str(value))
    assert candidates.encoder.encode({"creator": [True]})["creator"] != hashed
