"""The worked example of the seed domain, raw: requests through TensorFlow ops as through NumPy, lists as rectangles."""

import numpy as np
import pytest
import tensorflow as tf

from parity_tests.comparing import assert_same
from parity_tests.tolerances import rule
from retrieval_contract.data.prepare import prepare
from retrieval_contract.feature_presets import video_context
from tfrs_models.preprocessing import MISSING_TEXT, FeaturePreprocessor

SMALL = {"num_queries": 200, "num_candidates": 300, "num_interactions": 6_000}


@pytest.fixture(scope="module")
def prepared():
    config = video_context()
    return prepare(config.model_copy(update={"source": config.source.model_copy(update=SMALL)}))


def text(values):
    return tf.constant([MISSING_TEXT if value is None else value for value in values])


def number(values):
    return tf.constant([np.nan if value is None else value for value in values], tf.float64)


def vector(values):
    return tf.constant([[np.nan] * 128 if value is None else value for value in values], tf.float32)


def columns(preprocessor, *tables):
    """Every column that the preprocessor asks for and a table has, as it asks for it."""
    read = {"text": text, "number": number, "vector": vector}
    found = {name: table for table in tables for name in table.column_names if name in preprocessor.inputs}
    return {name: read[preprocessor.inputs[name].form](table[name].to_pylist()) for name, table in found.items()}


def assert_equal(graph, arrays):
    assert list(graph) == list(arrays)
    graph = {name: tensor.numpy() for name, tensor in graph.items()}
    assert_same(graph, arrays, arrays, rule("encoders", "float32"))
    for name, values in arrays.items():
        assert graph[name].dtype == values.dtype
        assert values.dtype.kind == "f" or (graph[name] == values).all(), name


def test_the_catalogue_of_the_video_service(prepared):
    expected = prepared.features.encode_entities("candidate", prepared.candidates)
    encode = FeaturePreprocessor(prepared.features, "candidate")
    assert_equal(encode(columns(encode, prepared.candidates.table)), expected)


def test_the_requests_of_the_video_service(prepared):
    """Every interaction is the target of a request; its past comes as a rectangle that empty texts pad."""
    known, length = prepared.interactions, 60
    rows, times, requests = known.query_rows, known.times, np.arange(len(known.times))
    catalogue = prepared.features.encode_entities("candidate", prepared.candidates)
    encode = FeaturePreprocessor(
        prepared.features, "query", candidate_ids=prepared.candidates.ids, candidate_features=catalogue
    )
    past = prepared.past(None).rows
    windows = past.windows(rows, past.ends_before(rows, times), 50)
    ids = np.array([*prepared.candidates.ids, ""], object)
    places = np.where(windows.real, windows.of(past.candidate_rows, zeros=False), len(ids) - 1)
    raw = {
        **columns(encode, prepared.queries.table.take(rows), known.table),
        "time": tf.constant(times),
        "history": tf.constant(np.pad(ids[places], [(0, 0), (0, length - 50)], constant_values="").tolist()),
        "history_weights": tf.constant(np.pad(windows.of(past.weights), [(0, 0), (0, length - 50)]).astype(np.float64)),
    }
    assert raw.keys() == encode.inputs.keys()
    function = tf.function(encode, input_signature=[encode.input_signature(lists="padded")], autograph=False)
    assert_equal(function(raw), prepared.query_features(rows, times, requests))
