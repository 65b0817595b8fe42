import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from retrieval_contract.config import (
    AffinityFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    TextFeature,
    Tower,
    WeightedMeanPooling,
)
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.prepare import prepare_raw
from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_features import RawCandidateEncoder, RawQueryEncoder, columns_of


@pytest.fixture(scope="module")
def prepared():
    base = kinds_config()
    more = (
        HistoryFeature(name="fading", max_length=2, pooling=WeightedMeanPooling(half_life_days=2.0)),
        AffinityFeature(name="spread", of="genres", width=4),
    )
    config = kinds_config(query=Tower(features=(*base.query.features, *more), hidden_dims=(3,)))
    return prepare_raw(kinds_raw(), config)


@pytest.fixture(scope="module")
def encoder(prepared):
    return query_encoder(prepared)


def query_encoder(prepared):
    catalogue = prepared.candidate_features()
    return RawQueryEncoder(prepared.features, candidate_ids=prepared.candidates.ids, candidate_features=catalogue)


ROWS = {
    "query_id": ["q1", "new", None],
    "country": ["de", "", "Straße"],
    "age": [30, None, 41.5],
    "likes": [["Crime", "Drama", "日本"], [], ["?", None]],
    "joined": [1e9, None, -5],
    "device": ["tv", None, "watch"],
    "time": [1_000_000_500, 0, -(10**10)],
    "load": [0.5, None, True],
    "history": [["c1", "gone", "c3"], [], ["c5"]],
    "history_weights": [[1, 2.0, 0.5], [], None],
    "history_times": [[1_000_000_000, 1_000_000_400, None], [], [0]],
}


def assert_equal(first, second):
    assert list(first) == list(second)
    for name, values in first.items():
        assert values.dtype == second[name].dtype, name
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_every_query_of_training_is_encoded_as_in_training(prepared, encoder):
    """Their last requests, with all their history, sent as a client would."""
    known, rows = prepared.interactions, np.arange(len(prepared.queries.ids), dtype=np.int32)
    last = np.array([np.flatnonzero(known.query_rows == row)[-1] for row in rows])
    times = known.times[last]
    past, places = prepared.past(None).rows, prepared.train_positives
    raw = {
        **{
            name: prepared.queries.table[name].to_pylist() for name in ("query_id", "country", "age", "likes", "joined")
        },
        **{name: known.table[name].take(last).to_pylist() for name in ("device", "load")},
        "time": times.tolist(),
    }
    raw["load"] = [None if load != load else load for load in raw["load"]]
    ends = past.ends_before(rows, times)
    given = [places[past.order[begin:end]] for begin, end in zip(past.starts[rows], ends, strict=True)]
    raw["history"] = [[prepared.candidates.ids[row] for row in known.candidate_rows[at]] for at in given]
    raw["history_weights"] = [known.weights[at].tolist() for at in given]
    raw["history_times"] = [known.times[at].tolist() for at in given]
    assert_equal(encoder.encode(raw), prepared.query_features(rows, times, last))
    # The order of a past is noticed.
    turned = encoder.encode(raw | {"history": [row[::-1] for row in raw["history"]]})
    assert (turned["watched"] != encoder.encode(raw)["watched"]).any()


def test_the_catalogue_is_encoded_as_in_training(prepared):
    encoder = RawCandidateEncoder(prepared.features)
    table = prepared.candidates.table
    raw = {name: table[name].to_pylist() for name in encoder.inputs}
    raw["uploaded"] = [moment.timestamp() for moment in raw["uploaded"]]
    assert_equal(encoder.encode(raw), dict(prepared.candidate_features()))


def test_a_row_does_not_depend_on_its_neighbours(encoder):
    whole = encoder.encode(ROWS)
    for place in range(3):
        alone = encoder.encode({name: values[place : place + 1] for name, values in ROWS.items()})
        for name, values in alone.items():
            kept = tuple(slice(size) for size in values.shape[1:])
            np.testing.assert_array_equal(whole[name][place][kept], values[0], err_msg=name)


def test_what_is_left_out_is_missing(encoder):
    for name in ROWS:
        if name == "history":
            continue
        rest = {other: values for other, values in ROWS.items() if other != name}
        assert_equal(encoder.encode(rest), encoder.encode(ROWS | {name: [None] * 3}))
    empty = encoder.encode({"history": [None, []]})
    assert not empty["watched"].any()
    assert_equal(empty, encoder.encode({}, num_rows=2))


def test_rectangles_say_the_same_as_lists(encoder):
    padded = ROWS | {
        "likes": [["Crime", "Drama", "日本"], ["", "", ""], ["?", None, ""]],
        "history": [["c1", "", "gone", "c3"], [""] * 4, ["c5", "", "", ""]],
        "history_weights": [[1, 9, 2.0, 0.5], [9.0] * 4, None],
        "history_times": [[1_000_000_000, 0, 1_000_000_400, None], [0] * 4, [0] * 4],
    }
    assert_equal(encoder.encode(padded), encoder.encode(ROWS))
    assert encoder.encode({"likes": [["", "Crime"]]}, lists="exact")["likes"].tolist() == [[1, 4]]


def test_the_last_items_of_a_long_past_are_kept(encoder):
    ids = [f"c{row % 20}" for row in range(50)]
    long = {"history": [ids, ids[:1]], "history_times": [list(range(50)), [7]], "time": [100, 100]}
    cut = {"history": [ids[-20:], ids[:1]], "history_times": [list(range(30, 50)), [7]], "time": [100, 100]}
    assert_equal(
        {name: values for name, values in encoder.encode(long).items() if "affinity" not in name and name != "spread"},
        {name: values for name, values in encoder.encode(cut).items() if "affinity" not in name and name != "spread"},
    )


def test_ages_count_to_the_newest_item_where_the_request_has_no_time(encoder):
    past = {"history": [["c1", "c2"]], "history_times": [[0, 10_000]]}
    assert_equal_ages = encoder.encode(past | {"time": [10_000]})["lately.ages"]
    np.testing.assert_array_equal(encoder.encode(past)["lately.ages"], assert_equal_ages)
    assert assert_equal_ages.tolist() == [[2, 1, 0]]


def test_rows_become_columns():
    assert columns_of([{"a": 1}, {"b": [2]}]) == {"a": [1, None], "b": [None, [2]]}


def test_tokens_come_as_ids(prepared):
    spec = TextFeature(name="title", tokens="tokenizer", tokenizer="t.json", num_buckets=10, max_length=2)
    feature = FittedFeature(spec=spec, num_buckets=10, tokenizer_sha256="0")
    fitted = FittedFeatures(query=prepared.features.query[:1], candidate=(prepared.features.candidate[0], feature))
    encoder = RawCandidateEncoder(fitted)
    assert encoder.inputs["title"].form == "tokens"
    raw = {"title": [[0, 9, 5], None, [10, -1], [-1, 3]]}
    assert encoder.encode(raw)["title"].tolist() == [[2, 11], [0, 0], [1, 0], [5, 0]]
    assert encoder.encode(raw, lists="exact")["title"].tolist() == [[2, 11], [0, 0], [1, 1], [1, 5]]


def test_vectors_come_with_the_request_and_no_file_is_read(prepared):
    spec = DenseFeature(name="vector", width=2, file="absent.parquet")
    fitted = FittedFeatures(query=prepared.features.query[:1], candidate=(FittedFeature(spec=spec),))
    assert RawCandidateEncoder(fitted).encode({"vector": [[1, 2.5], None]})["vector"].tolist() == [[1, 2.5], [0, 0]]


def test_a_past_without_the_catalogue_it_needs_is_refused(prepared):
    with pytest.raises(UserError, match="no catalogue is given"):
        RawQueryEncoder(prepared.features)
    with pytest.raises(UserError, match="lacks 'genres'"):
        RawQueryEncoder(prepared.features, candidate_ids=prepared.candidates.ids, candidate_features={})
    few = {name: values[:3] for name, values in prepared.candidate_features().items()}
    with pytest.raises(UserError, match="has 3 rows of 'genres' for 20 candidate_ids"):
        RawQueryEncoder(prepared.features, candidate_ids=prepared.candidates.ids, candidate_features=few)


def test_a_past_of_ids_alone_needs_no_catalogue(prepared):
    history = FittedFeature(spec=HistoryFeature(name="past", max_length=2), values=("c1", "c2"))
    fitted = FittedFeatures(query=(history,), candidate=(FittedFeature(spec=IdFeature(name="id"), values=("c1",)),))
    encoder = RawQueryEncoder(fitted)
    assert list(encoder.inputs) == ["history"]
    assert encoder.encode({"history": [["c2", "c1", "x"], ["c1"]]})["past"].tolist() == [[2, 1], [2, 0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"contry": ["de"]}, r"no field 'contry' .*did you mean 'country'"),
        ({"age": [31], "country": ["de", "fr"]}, "field 'country' has 2 rows where there are 1"),
        ({}, "not one field"),
        ({"age": 31}, "field 'age' is a whole number .*one value a row"),
        ({"age": "31"}, "field 'age' is text"),
        ({"age": [31, "x"]}, "field 'age', row 1: text where a number is needed"),
        ({"age": [31, [1]]}, "field 'age', row 1: a list where a number is needed"),
        ({"age": [float("nan")]}, "field 'age', row 0: NaN or infinity"),
        ({"age": [None, float("inf")]}, "field 'age', row 1: NaN or infinity"),
        ({"age": [1, 10**400]}, "field 'age', row 1: a number too large"),
        ({"country": ["de", ["fr"]]}, "field 'country', row 1: a list where text is needed"),
        ({"country": [{"a": 1}]}, "field 'country', row 0: an object where text is needed"),
        ({"country": [1.5]}, "field 'country', row 0: a number with a fraction where text is needed"),
        ({"country": [2**70]}, "field 'country', row 0: a whole number beyond 64 bits"),
        ({"country": ["de", "\ud800"]}, "field 'country', row 1: text with half a character"),
        ({"country": [b"de", b"\xfe"]}, "field 'country', row 1: bytes that are not UTF-8"),
        ({"likes": [["Crime"], 7]}, "field 'likes', row 1: a whole number where a list is needed"),
        ({"likes": [[], ["Crime", ["Drama"]]]}, "field 'likes', row 1: a list where text is needed"),
        ({"time": [1.5]}, "field 'time', row 0: a number with a fraction where a moment is needed"),
        ({"time": [True]}, "field 'time', row 0: a boolean where a moment is needed"),
        ({"time": [0, 2**63]}, r"field 'time', row 1: a moment further than 2\^61"),
        (
            {"history": [["c1"]], "history_weights": [[1, 2]]},
            "field 'history_weights', row 0: 2 values where 'history'",
        ),
        ({"history_weights": [[1]]}, "field 'history_weights', row 0: 1 values where 'history' has 0"),
        ({"history": [[], ["c1"]], "history_weights": [[], [-1]]}, "'history_weights', row 1: a weight below 0"),
        ({"history": [["c1"]], "history_weights": [[1e39]]}, "'history_weights', row 0: a weight too large"),
        ({"history": [["c1"]], "history_times": [["x"]]}, "'history_times', row 0: text where a moment is needed"),
    ],
)
def test_what_json_cannot_mean_is_refused_by_field_and_row(encoder, rows, message):
    with pytest.raises(UserError, match=message):
        encoder.encode(rows)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0, 2.0], "field 'vector', row 1: a vector of width 2 where the feature has width 3"),
        ([1.0, None, 2.0], "field 'vector', row 1: a vector with a number that is null"),
        ([1.0, 1e39, 2.0], "field 'vector', row 1: a vector with a number that is null or too large"),
        ([1.0, "x", 2.0], "field 'vector', row 1: text where a number is needed"),
        ([1.0, float("nan"), 2.0], "field 'vector', row 1: NaN or infinity"),
        (3, "field 'vector', row 1: a whole number where a list is needed"),
    ],
)
def test_a_vector_that_is_none_is_refused(prepared, vector, message):
    with pytest.raises(UserError, match=message):
        RawCandidateEncoder(prepared.features).encode({"vector": [None, vector]})


def test_numbers_and_bytes_are_read_as_training_read_them(encoder):
    numbers = encoder.encode({"country": [7, True, b"de", b"\xff"], "age": np.array([1, 2, 3, 4])})
    texts = encoder.encode({"country": ["7", "true", "de", None], "age": [1.0, 2.0, 3.0, 4.0]})
    assert_equal(numbers, texts)


def test_a_list_may_come_as_text(encoder):
    """As in tables of formats that have no lists; what stands beside it is as long as what is left."""
    assert_equal(
        encoder.encode({"likes": ["Crime||Drama", None, ""], "history": ["c1|c3", "", None]}),
        encoder.encode({"likes": [["Crime", "Drama"], [], []], "history": [["c1", "c3"], [], []]}),
    )
    weighed = encoder.encode({"history": ["|c1||c3"], "history_weights": [[1, 3]]})
    assert_equal(weighed, encoder.encode({"history": [["c1", "c3"]], "history_weights": [[1, 3]]}))


def test_no_rows_give_no_rows(encoder):
    empty = encoder.encode({"age": []})
    assert_equal(empty, encoder.encode({}, num_rows=0))
    assert {len(values) for values in empty.values()} == {0}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=4)
    | st.binary(max_size=2)
    | st.sampled_from(["c1", "de", "Crime", 1_000_000_000])
)
VALUES = st.recursive(
    SCALARS, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=2), some, max_size=2)
)
COLUMNS = st.integers(0, 3).flatmap(
    lambda num: st.dictionaries(st.sampled_from(list(ROWS)), st.lists(VALUES, min_size=num, max_size=num) | VALUES)
)


@settings(max_examples=100, deadline=None)
@given(COLUMNS, st.sampled_from(["padded", "exact"]))
def test_whatever_comes_is_encoded_or_refused(encoder, rows, lists):
    """No other error, and no number that is not finite."""
    try:
        encoded = encoder.encode(rows, lists=lists)
    except UserError:
        return
    assert all(np.isfinite(values).all() for values in encoded.values())
    assert len({len(values) for values in encoded.values()}) == 1
