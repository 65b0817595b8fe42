import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from retrieval_contract.config import AffinityFeature, HistoryFeature, TextFeature, Tower, WeightedMeanPooling
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.features import fit_features
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.split import split_interactions
from retrieval_contract.errors import UserError
from tfrs_models.preprocessing import MISSING_MOMENT, MISSING_TEXT, FeaturePreprocessor
from tfrs_models.preprocessing.inputs import missing

CANDIDATE_INPUTS = [
    *("candidate_id", "creator", "genres", "genre_weights", "year", "uploaded", "text", "title", "vector"),
]
QUERY_INPUTS = [
    *("query_id", "country", "age", "likes", "joined", "device", "time", "load"),
    *("history", "history_weights", "history_times"),
]


@pytest.fixture(scope="module")
def fitted():
    """Every kind of feature, and a catalogue."""
    base = kinds_config()
    more = (
        TextFeature(name="letters", column="country", tokens="characters", ngrams=(2,)),
        HistoryFeature(name="fading", pooling=WeightedMeanPooling(half_life_days=2.0)),
        AffinityFeature(name="spread", of="genres", width=4),
    )
    query = Tower(features=(*base.query.features, *more), hidden_dims=(3,))
    config = kinds_config(query=query)
    interactions, queries, candidates = build_entities(kinds_raw(), config.positives)
    split = split_interactions(interactions, config.split)
    features = fit_features(config, interactions, queries, candidates, split)
    return features, candidates, features.encode_entities("candidate", candidates)


@pytest.fixture(scope="module")
def preprocessors(fitted):
    features, candidates, encoded = fitted
    query = FeaturePreprocessor(features, "query", candidate_ids=candidates.ids, candidate_features=encoded)
    return {"query": query, "candidate": FeaturePreprocessor(features, "candidate")}


RAGGED = {
    "query_id": tf.constant(["q1", "new", MISSING_TEXT]),
    "country": tf.constant(["de", "", "Straße"]),
    "age": tf.constant([30.0, np.nan, np.inf], tf.float64),
    "likes": tf.ragged.constant([["Crime", "Drama", "日本"], [], ["?"]]),
    "joined": tf.constant([1e9, np.nan, -5.0], tf.float64),
    "device": tf.constant(["tv", MISSING_TEXT, "watch"]),
    "time": tf.constant([1_000_000_500, 0, -(10**10)], tf.int64),
    "load": tf.constant([0.5, np.nan, -np.inf], tf.float64),
    "history": tf.ragged.constant([["c1", "gone", "c3"], [], ["c5"]]),
    "history_weights": tf.ragged.constant([[1.0, 2.0, 0.5], [], [1.0]], dtype=tf.float64),
    "history_times": tf.ragged.constant([[1_000_000_000, 1_000_000_400, 1_000_000_499], [], [0]], dtype=tf.int64),
}
PADDED = RAGGED | {
    "likes": tf.constant([["Crime", "Drama", "日本"], ["", "", ""], ["?", "", ""]]),
    "history": tf.constant([["c1", "gone", "", "c3"], [""] * 4, ["c5", "", "", ""]]),
    "history_weights": tf.constant([[1.0, 2.0, 9.0, 0.5], [9.0] * 4, [1.0, 9.0, 9.0, 9.0]], tf.float64),
    "history_times": tf.constant([[1_000_000_000, 1_000_000_400, 0, 1_000_000_499], [0] * 4, [0] * 4], tf.int64),
}


def assert_equal(first, second):
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name].numpy(), second[name].numpy(), err_msg=name)
        assert first[name].dtype == second[name].dtype


def test_inputs_are_the_columns(preprocessors):
    assert list(preprocessors["candidate"].inputs) == CANDIDATE_INPUTS
    assert list(preprocessors["query"].inputs) == QUERY_INPUTS


def test_results_are_called_as_the_towers_read_them(fitted, preprocessors):
    features = fitted[0]
    names = [feature.name for feature in features.query] + [f"context.{feature.name}" for feature in features.context]
    encoded = preprocessors["query"](RAGGED)
    assert [name for name in encoded if name in names] == names
    beside = {name.removeprefix("context.").split(".")[0] for name in encoded if name not in names}
    assert beside == {"watched", "lately", "fading"}


def test_rectangles_say_the_same_as_ragged_lists(preprocessors):
    assert_equal(preprocessors["query"](PADDED), preprocessors["query"](RAGGED))


def test_a_row_does_not_depend_on_its_neighbours(preprocessors):
    encode = preprocessors["query"]
    whole = encode(RAGGED)
    for place in range(3):
        alone = encode({name: values[place : place + 1] for name, values in RAGGED.items()})
        for name, values in alone.items():
            row = whole[name][place].numpy()
            kept = tuple(slice(size) for size in values.shape[1:])
            np.testing.assert_array_equal(values.numpy()[0], row[kept], err_msg=name)
            assert np.count_nonzero(row) == np.count_nonzero(values), name


@pytest.mark.parametrize("side", ["query", "candidate"])
@pytest.mark.parametrize("lists", ["ragged", "padded"])
def test_a_batch_may_be_empty(preprocessors, side, lists):
    encode = preprocessors[side]
    signature = encode.input_signature(lists=lists)
    nothing = {name: missing(raw, tf.constant(0)) for name, raw in encode.inputs.items()}
    if lists == "padded":
        nothing = {name: x.to_tensor() if isinstance(x, tf.RaggedTensor) else x for name, x in nothing.items()}
    encoded = tf.function(encode, input_signature=[signature])(nothing)
    assert {len(values) for values in encoded.values()} == {0}


def test_what_is_left_out_is_missing_in_every_row(preprocessors):
    encode = preprocessors["query"]
    beside_history = {
        "history_weights": RAGGED["history_weights"] * np.nan,
        "history_times": RAGGED["history_times"] * 0 + MISSING_MOMENT,
    }
    for name in RAGGED.keys() - {"history"}:
        absent = beside_history.get(name, missing(encode.inputs[name], tf.constant(3)))
        rest = {other: values for other, values in RAGGED.items() if other != name}
        assert_equal(encode(rest), encode(RAGGED | {name: absent}))


def text_or_missing(values):
    return tf.constant([MISSING_TEXT if value is None else value for value in values])


AS_INPUT = {
    "text": text_or_missing,
    "texts": tf.ragged.constant,
    "numbers": lambda values: tf.ragged.constant(values, dtype=tf.float64),
    "vector": lambda values: tf.constant([[np.nan] * 3 if vector is None else vector for vector in values], tf.float32),
    "number": lambda values: tf.constant([getattr(x, "timestamp", lambda x=x: x)() for x in values], tf.float64),
}


def test_a_catalogue_goes_through_the_graph_as_through_numpy(fitted, preprocessors):
    """What the towers are trained on, raw: the columns of the table, moments as seconds."""
    _, candidates, expected = fitted
    inputs = preprocessors["candidate"].inputs
    raw = {name: AS_INPUT[form.form](candidates.table[name].to_pylist()) for name, form in inputs.items()}
    encoded = preprocessors["candidate"](raw)
    assert list(encoded) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(encoded[name].numpy(), values, rtol=2e-7, atol=1e-12, err_msg=name)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, preprocessors):
    """A model of preprocessing alone, with flat signatures that take rectangles by name."""
    module, folder = tf.Module(), tmp_path_factory.mktemp("model")
    signatures = {}
    for side, encode in preprocessors.items():
        setattr(module, side, encode)
        function = tf.function(lambda encode=encode, **raw: encode(raw), autograph=False)
        signatures[side] = function.get_concrete_function(**encode.input_signature(lists="padded"))
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def test_an_exported_model_takes_inputs_by_name(exported, preprocessors):
    loaded = tf.saved_model.load(str(exported))
    signature = loaded.signatures["query"]
    assert sorted(signature.structured_input_signature[1]) == sorted(QUERY_INPUTS)
    encoded, expected = signature(**PADDED), preprocessors["query"](PADDED)
    assert_equal({name: encoded[name] for name in expected}, expected)


def test_an_exported_model_has_ops_of_stock_tensorflow_alone(exported):
    model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    ops = {node.op for node in nodes}
    assert {"LookupTableFindV2", "StringToHashBucketStrong", "StringNGrams", "FloorDiv"} <= ops
    functions = {function.signature.name for function in graph.library.function}
    strange = {op for op in ops - functions if not hasattr(tf.raw_ops, op)}
    assert not strange
    assert not {op for op in ops if "PyFunc" in op}


def test_an_unknown_input_is_refused(preprocessors):
    with pytest.raises(UserError, match=r"no input 'contry'.*did you mean 'country'"):
        preprocessors["query"]({"contry": tf.constant(["de"])})
