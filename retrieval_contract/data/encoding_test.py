"""Every kind through the whole way: planted columns, a fit on train positives, arrays as `arrays` says."""

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.arrays import Entities
from retrieval_contract.config import (
    CategoricalFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TimeFeature,
    Tower,
)
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.features import FittedFeatures, fit_features
from retrieval_contract.data.hashing import buckets_of
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.split import split_interactions
from retrieval_contract.errors import UserError

CONFIG = kinds_config()


def fitted(raw=None, config=CONFIG):
    interactions, queries, candidates = build_entities(raw or kinds_raw(), config.positives)
    split = split_interactions(interactions, config.split)
    return fit_features(config, interactions, queries, candidates, split), interactions, queries, candidates, split


@pytest.fixture(scope="module")
def planted():
    return fitted()


def shapes(arrays):
    return {name: (values.dtype.name, values.shape[1:]) for name, values in arrays.items()}


def test_entities_are_encoded_in_the_configs_order(planted):
    features, _, queries, candidates, _ = planted
    query = features.encode_entities("query", queries)
    assert shapes(query) == {
        "query_id": ("int32", ()),
        "country": ("int32", ()),
        "age_bucket": ("int32", ()),
        "age": ("float32", (2,)),
        "likes": ("int32", (2,)),
        "joined": ("int32", ()),
        "joined_year": ("float32", (2,)),
        "country_age": ("int32", ()),
    }
    candidate = features.encode_entities("candidate", candidates)
    assert shapes(candidate) == {
        "candidate_id": ("int32", ()),
        "creator": ("int32", ()),
        "genres": ("int32", (3,)),
        "genres.weights": ("float32", (3,)),
        "year_bucket": ("int32", ()),
        "views": ("float32", ()),
        "uploaded": ("float32", ()),
        "text": ("int32", (9,)),
        "letters": ("int32", (6,)),
        "vector": ("float32", (3,)),
        "creator_year": ("int32", ()),
    }
    assert list(query) == [feature.name for feature in features.query if feature.name in query]
    assert {len(values) for values in query.values()} == {30}
    assert {len(values) for values in candidate.values()} == {20}
    assert features.encode_entities("context", queries) == {}


def test_no_entity_and_no_request_give_arrays_of_no_row(planted):
    features, interactions, queries, candidates, _ = planted
    for side, entities in (("query", queries), ("candidate", candidates)):
        none = features.encode_entities(side, Entities(ids=(), table=entities.table.slice(0, 0)))
        whole = features.encode_entities(side, entities)
        assert {name: values.dtype for name, values in none.items()} == {n: values.dtype for n, values in whole.items()}
        assert {len(values) for values in none.values()} == {0}
    nothing = features.encode_unknown_requests("context", 0)
    assert shapes(nothing) == shapes(features.encode_requests("context", interactions))
    assert {len(values) for values in nothing.values()} == {0}


def test_requests_are_encoded_for_both_towers_that_have_some(planted):
    features, interactions, *_ = planted
    query, context = (features.encode_requests(side, interactions) for side in ("query", "context"))
    assert shapes(query) == {"device": ("int32", ()), "hour": ("int32", ()), "device_hour": ("int32", ())}
    assert shapes(context) == {
        "device": ("int32", ()),
        "load": ("float32", (2,)),
        "hour": ("float32", (2,)),
        "day": ("int32", ()),
        "device_day": ("int32", ()),
    }
    assert {len(values) for values in (*query.values(), *context.values())} == {600}
    hours = [2 + dt.datetime.fromtimestamp(second, dt.UTC).hour for second in interactions.times.tolist()]
    assert query["hour"].tolist() == hours
    names = [None, None, *features.feature("query", "device").values]
    assert [names[row] for row in query["device"]] == interactions.table["device"].to_pylist()
    assert (context["device"] == 1).tolist() == [name is None for name in interactions.table["device"].to_pylist()]
    loads = interactions.table["load"].to_numpy()
    assert context["load"][:, 1].tolist() == np.isnan(loads).tolist()
    assert (context["load"][np.isnan(loads), 0] == 0).all()


def test_request_features_are_fitted_on_train_rows_alone(planted):
    features, interactions, _, _, split = planted
    loads = interactions.table["load"].to_numpy()[split.train]
    logs = np.log1p(loads[~np.isnan(loads)])
    load = features.feature("context", "load")
    assert load.mean == pytest.approx(logs.mean(), rel=1e-12)
    assert load.std == pytest.approx(logs.std(), rel=1e-12)
    values = np.array([None] * 600, object)
    values[split.train] = "phone"
    values[split.train[0]] = "tv"
    values[split.test] = "watch"
    raw = kinds_raw()
    place = raw.interactions.column_names.index("device")
    raw = replace(raw, interactions=raw.interactions.set_column(place, "device", pa.array(values.tolist())))
    assert fitted(raw)[0].feature("query", "device").values == ("phone", "tv")


def test_requests_of_which_nothing_is_known(planted):
    features, interactions, *_ = planted
    unknown = features.encode_unknown_requests("context", 3)
    known = features.encode_requests("context", interactions)
    assert shapes(unknown) == shapes(known)
    assert unknown["device"].tolist() == unknown["day"].tolist() == [1, 1, 1]
    assert unknown["load"].tolist() == [[0, 1]] * 3
    assert unknown["hour"].tolist() == [[0, 0]] * 3
    assert unknown["device_day"].tolist() == (2 + buckets_of(["1x1"] * 3, 30)).tolist()
    timed = features.encode_unknown_requests("query", 2, interactions.times[:2])
    assert timed["device"].tolist() == [1, 1]
    assert timed["hour"].tolist() == features.encode_requests("query", interactions)["hour"][:2].tolist()


def test_crosses_need_all_their_parts(planted):
    features, interactions, queries, *_ = planted
    entities, requests = features.encode_entities("query", queries), features.encode_requests("query", interactions)
    assert "country_device" not in {*entities, *requests}
    together = {**{name: values[interactions.query_rows] for name, values in entities.items()}, **requests}
    crosses = features.encode_crosses("query", together)
    assert set(crosses) == {"country_age", "device_hour", "country_device"}
    texts = [f"{country}x{device}" for country, device in zip(together["country"], together["device"], strict=True)]
    assert crosses["country_device"].tolist() == (2 + buckets_of(texts, 30)).tolist()
    assert crosses["country_age"].tolist() == together["country_age"].tolist()


def test_a_feature_that_shares_encodes_with_the_shared_vocabulary(planted):
    features, _, queries, *_ = planted
    likes, genres = features.feature("query", "likes"), features.feature("candidate", "genres")
    assert likes.values == genres.values == features.feature("query", "genre_affinity").values
    names = ["", "?", *genres.values]
    encoded = features.encode_entities("query", queries)["likes"]
    wanted = [(lists or [])[:2] for lists in queries.table["likes"].to_pylist()]
    assert [[names[row] for row in line if row] for line in encoded] == wanted


def test_a_feature_that_shares_hash_buckets_has_as_many():
    candidate = tower(CategoricalFeature(name="creator", num_buckets=7, width=4))
    query = tower(CategoricalFeature(name="favourite", column="country", shares="creator", width=4))
    features, _, queries, *_ = fitted(config=only(query, candidate))
    assert features.feature("query", "favourite").num_buckets == 7
    rows = features.encode_entities("query", queries)["favourite"]
    assert rows[:3].tolist() == [*(2 + buckets_of(["de", "fr"], 7)), 1]
    assert features.sizes == {"query": {}, "candidate": {"creator": 9}}


def test_weights_of_values_stand_where_their_values_do(planted):
    features, _, _, candidates, _ = planted
    encoded = features.encode_entities("candidate", candidates)
    wanted = [[np.float32(w) for w in weights] for weights in candidates.table["genre_weights"].to_pylist()]
    assert [line[: len(row)].tolist() for line, row in zip(encoded["genres.weights"], wanted, strict=True)] == wanted
    assert (encoded["genres.weights"][encoded["genres"] == 0] == 0).all()


def test_top_keeps_the_most_frequent_and_the_others_are_unknown():
    query = tower(CategoricalFeature(name="age", top=2))
    features, interactions, queries, _, split = fitted(config=only(query))
    counts = np.bincount(interactions.query_rows[split.train], minlength=30)
    ages = [20 + row for row in range(30) if row % 7 != 6]
    best = sorted(ages, key=lambda age: (-counts[age - 20], str(age)))[:2]
    assert features.query[0].values == tuple(str(age) for age in best)
    assert (features.encode_entities("query", queries)["age"] > 1).sum() == 2


def test_columns_may_have_another_name_and_nan_is_missing():
    raw = kinds_raw()
    ages = [math.nan if row % 2 else float(row % 3) for row in range(30)]
    raw = replace(raw, queries=raw.queries.append_column("a b", pa.array(ages)))
    query = tower(NumericFeature(name="x", column="a b"), CategoricalFeature(name="y", column="a b"))
    features, _, queries, *_ = fitted(raw, only(query))
    encoded = features.encode_entities("query", queries)
    assert (encoded["x"][1::2] == 0).all()
    assert (encoded["y"][1::2] == 1).all()
    assert (encoded["y"][::2] > 1).all()


def test_rows_that_training_never_saw_change_no_state(planted):
    raw = kinds_raw()
    more = raw.candidates.slice(0, 1).drop_columns(["candidate_id"]).append_column("candidate_id", pa.array(["new"]))
    more = more.set_column(more.column_names.index("year"), "year", pa.array([9_999]))
    raw = replace(raw, candidates=pa.concat_tables([raw.candidates, more.select(raw.candidates.column_names)]))
    features, _, _, candidates, _ = fitted(raw)
    assert features == planted[0]
    last = {name: values[-1] for name, values in features.encode_entities("candidate", candidates).items()}
    assert last["candidate_id"] == 1
    assert last["year_bucket"] == features.feature("candidate", "year_bucket").num_rows - 1


# ---------------------------------------------------------------- order of rows


def test_state_and_arrays_do_not_depend_on_the_order_of_rows(planted):
    features, _, queries, candidates, _ = planted
    raw = kinds_raw()
    draw = np.random.default_rng(5)
    orders = {name: draw.permutation(getattr(raw, name).num_rows) for name in ("interactions", "queries", "candidates")}
    turned = replace(raw, **{name: getattr(raw, name).take(order) for name, order in orders.items()})
    again, _, turned_queries, turned_candidates, _ = fitted(turned)
    assert again.to_json() == features.to_json()
    for side, name, entities, others in (
        ("query", "queries", queries, turned_queries),
        ("candidate", "candidates", candidates, turned_candidates),
    ):
        encoded, other = (each.encode_entities(side, table) for each, table in ((features, entities), (again, others)))
        for feature, values in encoded.items():
            assert values[orders[name]].tobytes() == other[feature].tobytes(), feature


def test_the_state_comes_back_whole_and_encodes_the_same(planted):
    features, interactions, queries, candidates, _ = planted
    again = FittedFeatures.from_json(features.to_json())
    assert again == features
    assert again.to_json() == features.to_json()
    again.check_fits(CONFIG)
    for first, second in (
        (features.encode_entities("query", queries), again.encode_entities("query", queries)),
        (features.encode_entities("candidate", candidates), again.encode_entities("candidate", candidates)),
        (features.encode_requests("context", interactions), again.encode_requests("context", interactions)),
    ):
        assert {name: values.tobytes() for name, values in first.items()} == {
            name: values.tobytes() for name, values in second.items()
        }


# ---------------------------------------------------------------- bad input


def tower(*features):
    return Tower(features=features, hidden_dims=(4,))


def only(query, candidate=None, **rooms):
    """A config of few features, without a context tower."""
    candidate = candidate or tower(CategoricalFeature(name="creator", num_buckets=7))
    return kinds_config(query=query, candidate=candidate, context=None, **rooms)


IDS = tower(IdFeature(name="query_id"))


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (
            CategoricalFeature(name="cuntry"),
            r"no column 'cuntry', which feature 'cuntry' of the query tower needs \[queries\]: did you mean 'country'"
            r"\?; there are: query_id, country, age, likes, joined",
        ),
        (CategoricalFeature(name="device"), "feature 'device' of the query tower .*the interactions have one; there"),
        (CategoricalFeature(name="c", column="creator"), "no column 'creator', which feature 'c'.*candidates have one"),
        (CategoricalFeature(name="country", at="request"), r"\[interactions\]: the queries have one; there are: r"),
        (CategoricalFeature(name="likes"), r"list.* cannot be read as text \[queries, column likes\]: .*multivalent"),
        (
            NumericFeature(name="n", column="likes"),
            r"list.* where numbers are needed \[queries, column likes, feature n",
        ),
        (MultivalentFeature(name="age"), r"double where a multivalent feature needs lists \[queries, column age\]"),
        (TimeFeature(name="country", part="hour"), "string where feature 'country' needs moments"),
        (
            MultivalentFeature(name="likes", weights_column="weight"),
            "no column 'weight', which feature 'likes' .*interactions have one",
        ),
        (
            CategoricalFeature(name="age", encoding="one_hot", width=3),
            r"categorical 'age' has one_hot width 3, and queries, column age has 2\d values .*set width to 2\d or more",
        ),
    ],
)
def test_a_column_that_does_not_serve_is_refused_by_feature(feature, message):
    with pytest.raises(UserError, match=message):
        fitted(config=only(tower(feature)))


def test_an_affinity_of_fewer_places_than_values_is_refused():
    features = [feature for feature in CONFIG.query.features if feature.name == "genre_affinity"]
    narrow = features[0].model_copy(update={"width": 3})
    with pytest.raises(UserError, match=r"affinity 'genre_affinity' has width 3, and 'genres' .* has 4 values"):
        fitted(config=only(tower(narrow), CONFIG.candidate))


def test_times_that_are_only_an_order_serve_no_feature_of_time():
    raw, split = replace(kinds_raw(), has_timestamps=False), {"kind": "random"}
    for config, name in (
        (kinds_config(split=split), "hour"),
        (kinds_config(split=split, query=IDS), "hour"),
        (only(IDS, CONFIG.candidate, split=split), "uploaded"),
    ):
        with pytest.raises(UserError, match=f"'{name}' needs the time of the interactions, and they have only an ord"):
            fitted(raw, config)
    weekday = tower(TimeFeature(name="joined", part="weekday"))
    assert fitted(raw, only(weekday, split=split))[0].query[0].num_rows == 9
