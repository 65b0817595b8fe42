"""The fitted features as TensorFlow ops against NumPy: 10,000 rows of everything awkward, for every kind of feature.

Whole numbers must be equal, floats by the rule for what is computed in float64 and rounded once. Each control is a
plausible mistake that the comparison must notice. Letters: B rows.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tokenizers

from parity_tests.awkward_rows import (
    CANDIDATE,
    CONTEXT,
    QUERY,
    SCRIPTS,
    candidate_columns,
    draw_texts,
    entities_of,
    interactions_of,
    one_of,
    query_columns,
    table_of,
)
from parity_tests.comparing import assert_same
from parity_tests.tolerances import rule
from retrieval_contract.arrays import Entities, Split
from retrieval_contract.config import TextFeature
from retrieval_contract.data.features import FittedFeatures, fit_features
from retrieval_contract.data.past import Past
from retrieval_contract.data.planted import planted_config
from retrieval_contract.data.requests import Requests
from retrieval_contract.data.texts import fit_text
from tfrs_models.preprocessing import MISSING_TEXT, FeaturePreprocessor, encoding, histories, rows, texts

NUM_ROWS = 10_000
NUM_CANDIDATES = 300
IDS = [f"c{row} {SCRIPTS[row % len(SCRIPTS)]}" for row in range(NUM_CANDIDATES)]


@pytest.fixture(scope="module")
def catalogue():
    """Candidates whose numbers are tame enough to be fitted."""
    return entities_of(candidate_columns(np.random.default_rng(1), NUM_CANDIDATES, tame=True), IDS, "candidate_id")


@pytest.fixture(scope="module")
def fitted(catalogue):
    draw = np.random.default_rng(2)
    queries = entities_of(query_columns(draw, 200, tame=True), [f"q{row}" for row in range(200)], "query_id")
    drawn = (draw.integers(200, size=900), draw.integers(250, size=900), 1_100_000_000 + draw.integers(10**6, size=900))
    interactions = interactions_of(draw, *drawn, tame=True)
    config = planted_config(query=QUERY, context=CONTEXT, candidate=CANDIDATE)
    nothing = np.zeros(0, np.int64)
    split = Split(train=np.arange(900), validation=nothing, test=nothing)
    return fit_features(config, interactions, queries, catalogue, split)


def text_tensor(values):
    return tf.constant([MISSING_TEXT if value is None else value.encode() for value in values])


def ragged_texts(values):
    lists = [[] if items is None else items for items in values]
    flat = [MISSING_TEXT if item is None else item.encode() for items in lists for item in items]
    return tf.RaggedTensor.from_row_lengths(tf.constant(flat, tf.string), [len(items) for items in lists])


def ragged_numbers(values, dtype=tf.float64):
    flat = np.concatenate([np.asarray(items, dtype.as_numpy_dtype) for items in values])
    return tf.RaggedTensor.from_row_lengths(tf.constant(flat), [len(items) for items in values])


def assert_equal(graph, arrays):
    """Names, types, shapes and whole numbers are equal; floats by the rule."""
    graph = {name: tensor.numpy() for name, tensor in graph.items()}
    assert {name: values.dtype for name, values in graph.items()} == {n: v.dtype for n, v in arrays.items()}
    whole = {name for name, values in arrays.items() if values.dtype.kind == "i"}
    for names, how in ((whole, rule("batches", "bytes")), (set(arrays) - whole, rule("encoders", "float32"))):
        expected = {name: arrays[name] for name in names}
        assert_same({name: graph[name] for name in names}, expected, expected, how)


@dataclass(frozen=True)
class Rows:
    """Raw inputs, and what NumPy makes of them."""

    preprocessor: FeaturePreprocessor
    raw: dict
    expected: dict

    def encode(self):
        """In a graph of its own, traced now."""
        signature = [self.preprocessor.input_signature()]
        return tf.function(self.preprocessor, input_signature=signature, autograph=False)(self.raw)


@pytest.fixture(scope="module")
def candidates(fitted):
    draw = np.random.default_rng(3)
    columns = candidate_columns(draw, NUM_ROWS, tame=False)
    edges = fitted.feature("candidate", "number_quantiles").edges
    columns["number"][: len(edges)] = edges
    ids = [one_of(draw, IDS, 1)[0] if row % 2 else f"new {row}" for row in range(NUM_ROWS)]
    expected = fitted.encode_entities("candidate", entities_of(columns, ids, "candidate_id"))
    raw = {
        "candidate_id": text_tensor(ids),
        **{name: text_tensor(columns[name]) for name in ("category", "creator", "title")},
        **{name: ragged_texts(columns[name]) for name in ("genres", "tags")},
        "genre_weights": ragged_numbers(columns["genre_weights"]),
        **{name: tf.constant(columns[name]) for name in ("number", "moment")},
        "vector": tf.constant([[np.nan] * 3 if row is None else row for row in columns["vector"]], tf.float32),
    }
    return Rows(FeaturePreprocessor(fitted, "candidate"), raw, expected)


@pytest.fixture(scope="module")
def queries(fitted, catalogue):
    """10,000 queries, one request each, with pasts of no item to dozens; moments from before Christ to far ahead."""
    draw = np.random.default_rng(4)
    columns = query_columns(draw, NUM_ROWS, tame=False)
    ids = [f"q{row % 400}" if row % 3 else f"new {row}" for row in range(NUM_ROWS)]
    everyone = np.arange(NUM_ROWS)
    centres = np.where(draw.random(NUM_ROWS) < 0.2, draw.integers(-(10**11), 10**12, NUM_ROWS), 1_100_000_000)
    at = centres + draw.integers(10**6, size=NUM_ROWS)
    requests = interactions_of(draw, everyone, everyone % NUM_CANDIDATES, at, tame=False)
    # Few queries have many items; a fifth of the items is too late, and some come in one moment.
    met_by = (NUM_ROWS * draw.random(60_000) ** 2).astype(np.int64)
    spans = np.floor(10 ** draw.uniform(0, 8, 60_000)) * np.where(draw.random(60_000) < 0.2, 1, -1)
    times = at[met_by] + spans.astype(np.int64) // 600 * 600
    past = interactions_of(draw, met_by, draw.integers(NUM_CANDIDATES, size=60_000), times, tame=True)
    entities = entities_of(columns, ids, "query_id")
    raw = {
        "query_id": text_tensor(ids),
        "likes": ragged_texts(columns["likes"]),
        "number": tf.constant(columns["number"]),
        "time": tf.constant(at),
        "device": text_tensor(requests.table["device"].to_pylist()),
        "load": tf.constant(requests.table["load"].to_numpy()),
        **raw_pasts(past, at),
    }
    features = fitted.encode_entities("candidate", catalogue)
    preprocessor = FeaturePreprocessor(fitted, "query", candidate_ids=IDS, candidate_features=features)
    return Rows(preprocessor, raw, query_arrays(fitted, features, entities, requests, past))


def query_arrays(fitted, catalogue_features, entities, requests, past):
    """What the NumPy side gives for one request of every query."""
    everyone, rows_R = np.arange(NUM_ROWS, dtype=np.int32), np.arange(len(past.times))
    encoded = fitted.encode_entities("query", entities)
    known = Past(fitted, past, rows_R, num_queries=NUM_ROWS, candidate_ids=IDS, catalogue=catalogue_features)
    ends = known.rows.ends_before(everyone, requests.times)
    asked = Requests(fitted, requests, encoded).known(everyone.astype(np.int64))
    return {**encoded, **asked, **known.encode(everyone, ends, requests.times)}


def raw_pasts(past, at):
    """All items of each query before its request, oldest first, as a client would send them."""
    order = np.lexsort((np.arange(len(past.times)), past.times, past.query_rows))
    order = order[past.times[order] < at[past.query_rows[order]]]
    lengths = np.bincount(past.query_rows[order], minlength=NUM_ROWS)
    ids = tf.constant([IDS[row].encode() for row in past.candidate_rows[order]])
    return {
        name: tf.RaggedTensor.from_row_lengths(values, lengths)
        for name, values in {
            "history": ids,
            "history_weights": tf.constant(past.weights[order].astype(np.float64)),
            "history_times": tf.constant(past.times[order]),
        }.items()
    }


def test_candidates_are_encoded_alike(candidates):
    assert_equal(candidates.encode(), candidates.expected)


def test_queries_requests_and_pasts_are_encoded_alike(queries):
    assert_equal(queries.encode(), queries.expected)


def test_lists_in_a_text_column_are_encoded_alike(fitted):
    columns = candidate_columns(np.random.default_rng(6), NUM_ROWS, tame=False)
    columns["tags"] = [text and text.replace("e", "|").replace("-", "||") for text in columns["title"]]
    table = table_of(columns, text=("tags",))
    expected = fitted.encode_entities("candidate", Entities(ids=("c",) * NUM_ROWS, table=table))
    encoded = FeaturePreprocessor(fitted, "candidate")({"tags": text_tensor(columns["tags"])})
    assert_equal({"tags": encoded["tags"]}, {"tags": expected["tags"]})


def test_an_infinity_counts_as_the_largest_number(candidates):
    """NumPy refuses it, so what it makes of the largest number stands in for it."""
    infinite = {"number": [np.inf, -np.inf], "moment": [np.inf, -np.inf]}
    largest = {name: [np.finfo(np.float64).max, -np.finfo(np.float64).max] for name in infinite}
    encode = candidates.preprocessor
    graph, expected = (
        encode({name: tf.constant(values, tf.float64) for name, values in columns.items()})
        for columns in (infinite, largest)
    )
    assert_equal(graph, {name: values.numpy() for name, values in expected.items()})
    assert all(np.isfinite(values.numpy()).all() for values in graph.values())


def test_tokens_are_encoded_alike(tmp_path, fitted):
    """The ids come from outside the graph: the tokenizer is run here as a client would run it."""
    vocabulary = {token: number for number, token in enumerate(["<unk>", "the", "The", "日本", "10", "é", "\u0301"])}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    tree = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    tree |= {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    spec = TextFeature(name="title", tokens="tokenizer", tokenizer="tokenizer.json", num_buckets=7, max_length=3)
    state = FittedFeatures(query=fitted.query[:1], candidate=(fitted.candidate[0], fit_text(spec, tmp_path)))
    texts = draw_texts(np.random.default_rng(5), NUM_ROWS)
    entities = Entities(ids=("c",) * NUM_ROWS, table=pa.table({"title": texts}))
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = [tokenizer.encode(text or "", add_special_tokens=False).ids for text in texts]
    raw = {"candidate_id": tf.fill([NUM_ROWS], "c"), "title": ragged_numbers(ids, tf.int64)}
    expected = state.encode_entities("candidate", entities, data_dir=tmp_path)
    assert_equal(FeaturePreprocessor(state, "candidate")(raw), expected)


def test_what_is_saved_and_loaded_encodes_alike(tmp_path, candidates, queries):
    for name, case in {"candidate": candidates, "query": queries}.items():
        signature = [case.preprocessor.input_signature()]
        module = tf.Module()
        module.preprocessor = case.preprocessor
        module.encode = tf.function(case.preprocessor, input_signature=signature)
        tf.saved_model.save(module, tmp_path / name)
        (tmp_path / name).rename(tmp_path / f"moved {name}")
        loaded = tf.saved_model.load(str(tmp_path / f"moved {name}"))
        assert_equal(loaded.encode(case.raw), case.expected)


# ---------------------------------------------------------------- controls


def notices(case, names):
    """True where the comparison finds a difference in each of the arrays, one at a time."""
    graph = case.encode()
    for name in names:
        with pytest.raises(AssertionError):
            assert_equal({name: graph[name]}, {name: case.expected[name]})
    return True


HASHED = ("creator", "tags", "title_words", "title_letters", "cross")


def test_preprocessing_notices_another_hash_key(monkeypatch, candidates):
    monkeypatch.setattr(rows, "HASH_KEYS", rows.HASH_KEYS[::-1])
    assert notices(candidates, HASHED)


def test_preprocessing_notices_edges_that_belong_to_the_bucket_below(monkeypatch, candidates):
    searchsorted = tf.searchsorted
    monkeypatch.setattr(tf, "searchsorted", lambda edges, values, side: searchsorted(edges, values, side="left"))
    assert notices(candidates, ("number_buckets", "number_quantiles"))


def test_preprocessing_notices_lower_case_beyond_ascii(candidates):
    lowered = [text.decode().lower() if text != MISSING_TEXT else None for text in candidates.raw["title"].numpy()]
    changed = Rows(candidates.preprocessor, candidates.raw | {"title": text_tensor(lowered)}, candidates.expected)
    assert notices(changed, ("title_words", "title_letters"))


def test_preprocessing_notices_bytes_for_characters(monkeypatch, candidates):
    monkeypatch.setattr(tf.strings, "unicode_split", lambda values, encoding: tf.strings.bytes_split(values))
    assert notices(candidates, ("title_letters",))


def test_preprocessing_notices_lists_cut_at_the_wrong_end(monkeypatch, candidates, queries):
    first_ones, last_ones = encoding.padded, histories.windows
    for room in (encoding, texts):
        monkeypatch.setattr(room, "padded", lambda lists, length: first_ones(lists[:, -length:], length))
    monkeypatch.setattr(histories, "windows", lambda lists, length: last_ones(lists[:, :length], length))
    assert notices(candidates, ("genres", "genres.weights", "tags", "title_words"))
    assert notices(queries, ("latest", "latest.genres", "aged.ages", "fading.weights", "genre_affinity"))


def test_preprocessing_notices_moments_cut_towards_zero(monkeypatch, candidates):
    """Moments before 1970 would fall into the wrong hour and day."""
    monkeypatch.setattr(tf.math, "floordiv", lambda x, y: tf.cast(tf.cast(x / y, tf.int64), tf.float64))
    assert notices(candidates, ("moment_hour", "moment_weekday"))


def test_preprocessing_notices_unknown_values_that_count(monkeypatch, queries):
    monkeypatch.setattr(histories, "FIRST_ROW", 1)
    assert notices(queries, ("genre_affinity",))
