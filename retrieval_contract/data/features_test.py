import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import (
    CategoricalFeature,
    GruPooling,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    Tower,
    TransformerPooling,
)
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.features import FittedFeatures, fit_features
from retrieval_contract.data.planted import planted_config, planted_raw
from retrieval_contract.data.split import split_interactions
from retrieval_contract.errors import UserError


def tower(*features):
    return Tower(features=features, hidden_dims=(4,))


def config_with(*query, candidate=None, **rooms):
    ids = IdFeature(name="candidate_id")
    return planted_config(query=tower(*query), candidate=candidate or tower(ids), **rooms)


def fit(config, raw=None):
    interactions, queries, candidates = build_entities(raw or planted_raw(), config.positives)
    split = split_interactions(interactions, config.split)
    return fit_features(config, interactions, queries, candidates, split), interactions, queries, candidates, split


def with_column(name, values, table="queries"):
    raw = planted_raw()
    return replace(raw, **{table: getattr(raw, table).append_column(name, pa.array(values))})


def tiny(ages=(10.0, 20.0, 99.0), rows=("q0", "q0", "q0", "q1", "q2")):
    """Three queries, of which the last occurs in the test part only."""
    raw = planted_raw(num_queries=3, num_candidates=5, num_rows=5)
    split = ["train"] * 4 + ["test"]
    interactions = pa.table(
        {"query_id": rows, "candidate_id": ["c0", "c1", "c1", "c0", "c2"], "time": range(5), "split": split}
    )
    queries = pa.table({"query_id": ["q0", "q1", "q2"], "age": ages, "country": ["de", "fr", "xx"]})
    return replace(raw, interactions=interactions, queries=queries)


BY_COLUMN = {"split": {"kind": "column"}}


def test_values_of_test_rows_only_are_unknown():
    id_feature, country = IdFeature(name="query_id"), CategoricalFeature(name="country")
    features, _, queries, candidates, _ = fit(config_with(id_feature, country, **BY_COLUMN), tiny())
    assert features.query[0].values == ("q0", "q1")
    assert features.query[1].values == ("de", "fr")
    encoded = features.encode_entities("query", queries)
    assert encoded["query_id"].tolist() == [2, 3, 1]
    assert encoded["country"].tolist() == [2, 3, 1]
    assert features.encode_entities("candidate", candidates)["candidate_id"].tolist() == [2, 3, 1, 1, 1]


def test_rows_that_are_no_positives_teach_nothing():
    raw = tiny()
    raw = replace(raw, interactions=raw.interactions.append_column("rating", pa.array([5.0, 5.0, 1.0, 5.0, 5.0])))
    rule = {"rule": "rating_at_least", "rating_at_least": 4.0}
    features = fit(config_with(NumericFeature(name="age"), positives=rule, **BY_COLUMN), raw)[0]
    assert features.query[0].mean == pytest.approx((10 + 10 + 20) / 3)


def test_numeric_is_scaled_by_train_rows_and_missing_becomes_the_mean():
    features, _, queries, _, _ = fit(config_with(NumericFeature(name="age"), **BY_COLUMN), tiny((10.0, 20.0, None)))
    assert features.query[0].mean == 12.5
    assert features.query[0].std == pytest.approx(math.sqrt(18.75), rel=1e-15)
    scaled = features.encode_entities("query", queries)["age"]
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-0.57735027, 1.7320508, 0], rtol=1e-7)


@pytest.mark.parametrize("ages", [(0.1, 0.1, 7.0), (None, None, 7.0), (None, 3.0, -1.0)])
def test_a_constant_becomes_zero(ages):
    features, _, queries, _, _ = fit(config_with(NumericFeature(name="age"), **BY_COLUMN), tiny(ages))
    assert features.query[0].std == 0
    assert features.encode_entities("query", queries)["age"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("ages", "message"),
    [
        ((1.0, 2.0, math.inf), r"infinity \[queries, column age, rows 2\]"),
        (("1", "2", "3"), "string where numbers are needed"),
        ((1e200, -1e200, 0.0), "too large to scale"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(ages, message):
    with pytest.raises(UserError, match=message):
        fit(config_with(NumericFeature(name="age"), **BY_COLUMN), tiny(ages))


def test_a_value_out_of_reach_in_a_row_that_does_not_train_is_cut_off():
    features, _, queries, _, _ = fit(config_with(NumericFeature(name="age"), **BY_COLUMN), tiny((1.0, 2.0, -1e300)))
    assert features.encode_entities("query", queries)["age"][2] == -10_000


@pytest.mark.parametrize(
    "feature",
    [
        CategoricalFeature(name="one"),
        CategoricalFeature(name="none"),
        IdFeature(name="query_id", min_count=10_000),
        MultivalentFeature(name="lists"),
        HistoryFeature(name="history", min_count=10_000),
    ],
)
def test_a_vocabulary_of_one_tells_nothing(feature):
    raw = with_column("one", ["same"] * 30)
    queries = raw.queries.append_column("none", pa.array([None] * 30, pa.string()))
    raw = replace(raw, queries=queries.append_column("lists", pa.array([["same"]] * 30)))
    with pytest.raises(UserError, match=rf"{feature.name}.*has a vocabulary of [01], so it tells nothing"):
        fit(config_with(feature), raw)


def test_missing_categories_are_unknown_and_whole_numbers_are_categories():
    raw = with_column("zone", [None if row % 3 == 0 else row % 3 for row in range(30)])
    features, _, queries, _, _ = fit(config_with(CategoricalFeature(name="zone")), raw)
    assert sorted(features.query[0].values) == ["1", "2"]
    rows = features.encode_entities("query", queries)["zone"]
    assert (rows[::3] == 1).all()
    assert (np.delete(rows, np.s_[::3]) > 1).all()


def test_multivalent_is_padded_behind_and_as_wide_as_needed():
    genres = MultivalentFeature(name="genres", max_length=20)
    features, _, _, candidates, _ = fit(config_with(IdFeature(name="query_id"), candidate=tower(genres)))
    rows = features.encode_entities("candidate", candidates)["genres"]
    assert rows.dtype == np.int32
    assert rows.shape == (20, 3)
    names = ["", "?", *features.candidate[0].values]
    assert [[names[row] for row in line if row] for line in rows] == candidates.table["genres"].to_pylist()
    assert (np.diff((rows == 0).astype(int), axis=1) >= 0).all()


def test_a_history_has_a_vocabulary_of_candidates():
    features, interactions, _, _, split = fit(planted_config())
    history, candidate_id = features.query[1], features.candidate[0]
    assert features.histories == (history,)
    assert history.values == candidate_id.values
    counts = np.bincount(interactions.candidate_rows[split.train])
    assert [int(value[1:]) for value in history.values] == sorted(range(20), key=lambda row: (-counts[row], f"c{row}"))


def test_histories_are_not_among_the_encoded_entities():
    features, _, queries, _, _ = fit(planted_config())
    assert list(features.encode_entities("query", queries)) == ["query_id", "country", "age"]


def test_sizes_count_padding_and_unknown():
    assert fit(planted_config())[0].sizes == {
        "query": {"query_id": 32, "history": 22, "country": 4},
        "candidate": {"candidate_id": 22, "genres": 6},
    }


def test_a_missing_column_is_named_with_its_tower():
    with pytest.raises(
        UserError, match=r"no column 'contry', which feature 'contry' of the query tower needs .*did you mean 'country'"
    ):
        fit(config_with(CategoricalFeature(name="contry")))


def test_the_state_comes_back_whole_and_encodes_the_same():
    features, _, queries, candidates, _ = fit(planted_config())
    again = FittedFeatures.from_json(features.to_json())
    assert again == features
    assert again.to_json() == features.to_json()
    for side, entities in (("query", queries), ("candidate", candidates)):
        encoded = again.encode_entities(side, entities)
        for name, values in features.encode_entities(side, entities).items():
            assert values.tobytes() == encoded[name].tobytes()


def test_the_state_does_not_depend_on_the_order_of_rows():
    raw = planted_raw()
    turned = replace(raw, interactions=raw.interactions.take(np.arange(raw.interactions.num_rows)[::-1]))
    assert fit(planted_config(), turned)[0].to_json() == fit(planted_config(), raw)[0].to_json()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"format":2', '"format":3'),
        lambda text: text.replace('"missing_value":0.0', '"missing_value":null'),
        lambda text: text.replace('"c1"', '"c2"'),
        lambda text: text.replace('"de"', "7"),
        lambda text: text.replace('"std"', '"stdd"'),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
        lambda text: text.replace('"kind":"id"', '"kind":"numeric"'),
        lambda text: text.replace('"num_buckets":null', '"num_buckets":7'),
    ],
)
def test_a_spoilt_state_is_refused(spoil):
    text = fit(planted_config())[0].to_json()
    with pytest.raises(UserError, match=r"features\.json"):
        FittedFeatures.from_json(spoil(text))


def test_a_vocabulary_that_is_shared_is_the_same_on_both_sides():
    shared = CategoricalFeature(name="fond_of", column="country", shares="candidate_id")
    tree = json.loads(fit(config_with(shared))[0].to_json())
    assert tree["query"][0]["values"] == tree["candidate"][0]["values"]
    tree["query"][0]["values"].reverse()
    with pytest.raises(UserError, match="feature 'fond_of': its vocabulary is not that of 'candidate_id'"):
        FittedFeatures.from_json(json.dumps(tree))


def test_a_state_of_an_older_format_is_refused_by_number():
    old = {"format": 1, "query": [{"name": "query_id", "kind": "id", "min_count": 1, "values": ["q0", "q1"]}]}
    with pytest.raises(UserError, match=r"of format 1, and this version reads format 2 \[features\.json\]: train"):
        FittedFeatures.from_json(json.dumps(old))


def test_features_of_another_run_are_refused():
    config = planted_config()
    features = fit(config)[0]
    features.check_fits(config)
    features.check_fits(planted_config(model={"dim": 32}))
    first, history, *others = config.query.features
    rarer = first.model_copy(update={"min_count": 2})
    gru = history.model_copy(update={"pooling": GruPooling()})
    for query, message in [
        ((rarer, history, *others), "query feature 'query_id' has min_count 1 where the config has min_count 2"),
        ((first, *others, history), r"'history' \(history\) where the config has 'country' \(categorical\)"),
        ((first, history, *others[:-1]), "4 query features where the config has 3"),
        (
            (first, gru, *others),
            r"'history' has pooling\.kind 'mean' where the config has pooling\.kind 'gru'",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            features.check_fits(planted_config(query=tower(*query)))
    context = tower(CategoricalFeature(name="device", at="request"))
    with pytest.raises(UserError, match="0 context features where the config has 1"):
        features.check_fits(planted_config(context=context))


def test_poolings_of_one_kind_differ_by_their_own_fields():
    features = fit(with_blocks(2))[0]
    with pytest.raises(
        UserError, match=r"'history' has pooling\.num_blocks 2 where the config has pooling\.num_blocks 3"
    ):
        features.check_fits(with_blocks(3))


def with_blocks(number):
    pooling = TransformerPooling(num_blocks=number)
    return config_with(HistoryFeature(name="history", width=8, pooling=pooling))


def test_a_change_of_the_candidate_tower_is_said_with_its_side():
    wider = tower(IdFeature(name="candidate_id", width=7))
    with pytest.raises(UserError, match="candidate feature 'candidate_id' has width 32 where the config has width 7"):
        fit(config_with(IdFeature(name="query_id")))[0].check_fits(
            config_with(IdFeature(name="query_id"), candidate=wider)
        )


def test_a_history_without_ids_or_with_the_candidates_has_no_table_of_its_own():
    ids = IdFeature(name="candidate_id", width=8, min_count=2)
    genres = MultivalentFeature(name="genres", width=8, max_length=2)
    for settings, sizes in (
        ({"ids": False}, {"history.genres": 6}),
        ({"shares": True}, {}),
        ({"ids": False, "shares": True}, {}),
        ({}, {"history": 22, "history.genres": 6}),
    ):
        history = HistoryFeature(name="history", width=8, fields=("genres",), **settings)
        features, _, _, candidates, _ = fit(config_with(history, candidate=tower(ids, genres)))
        assert features.sizes["query"] == sizes
        rows = features.query[0].rows_of(pa.array(candidates.ids))
        if settings.get("ids", True):
            assert features.query[0].values == features.candidate[0].values
            assert (rows == features.encode_entities("candidate", candidates)["candidate_id"]).all()
        else:
            assert rows.tolist() == [1] * 20


def test_vocabularies_hold_text_beyond_ascii_and_empty_text():
    raw = with_column("zone", [("", "é", "日本", "🎬", None)[row % 5] for row in range(30)])
    features, _, queries, _, _ = fit(config_with(CategoricalFeature(name="zone")), raw)
    again = FittedFeatures.from_json(features.to_json())
    rows = again.encode_entities("query", queries)["zone"].reshape(6, 5)
    assert (rows == rows[0]).all()
    assert rows[0, 4] == 1
    assert sorted(rows[0, :4]) == [2, 3, 4, 5]
