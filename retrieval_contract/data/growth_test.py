from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import AffinityFeature, CategoricalFeature, HistoryFeature, IdFeature, Tower
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.features import fit_features
from retrieval_contract.data.growth import extended
from retrieval_contract.data.planted_kinds import kinds_config, kinds_raw
from retrieval_contract.data.split import split_interactions
from retrieval_contract.errors import UserError

CONFIG = kinds_config()


def parts(raw, config):
    interactions, queries, candidates = build_entities(raw, config.positives)
    return interactions, queries, candidates, split_interactions(interactions, config.split)


def fit(raw, config=CONFIG):
    return fit_features(config, *parts(raw, config))


def grow(old, raw, config=CONFIG):
    return extended(old, config, *parts(raw, config))


OLD, NEW = kinds_raw(), kinds_raw(num_queries=40, num_candidates=26, num_rows=900, seed=3)


@pytest.fixture(scope="module")
def grown():
    old = fit(OLD)
    return old, grow(old, NEW)


def test_old_values_keep_their_rows_and_new_ones_stand_behind(grown):
    old, new = grown
    for side in ("query", "context", "candidate"):
        for before, after in zip(old.of(side), new.of(side), strict=True):
            if before.values is None:
                assert after == before, "hashes, scales, edges and reference times are the old fit's"
            else:
                assert after.values[: len(before.values)] == before.values
                assert after.spec == before.spec
    assert len(new.feature("query", "query_id").values) == 40
    assert new.sizes["candidate"]["candidate_id"] == 28


def test_new_values_go_by_falling_count_then_by_value(grown):
    _, new = grown
    interactions, _, candidates, split = parts(NEW, CONFIG)
    counts = np.bincount(interactions.candidate_rows[split.train], minlength=26)
    fresh = sorted(range(20, 26), key=lambda row: (-counts[row], candidates.ids[row]))
    assert new.feature("candidate", "candidate_id").values[20:] == tuple(candidates.ids[row] for row in fresh)


def test_what_shares_a_table_grows_with_it(grown):
    _, new = grown
    ids = new.feature("candidate", "candidate_id").values
    assert new.feature("query", "watched").values == ids
    assert new.feature("query", "likes").values == new.feature("candidate", "genres").values
    assert set(new.feature("query", "lately").values) == set(ids), "a history's own table grows by itself"


def test_growing_by_the_same_data_changes_nothing(grown):
    old, _ = grown
    assert grow(old, OLD) == old


def test_the_result_does_not_depend_on_the_order_of_rows(grown):
    old, new = grown
    order = np.random.default_rng(1).permutation(NEW.interactions.num_rows)
    assert grow(old, replace(NEW, interactions=NEW.interactions.take(order))).to_json() == new.to_json()


def test_rare_values_stay_unknown():
    config = kinds_config(
        query=Tower(features=(IdFeature(name="query_id"),)),
        candidate=Tower(features=(IdFeature(name="candidate_id", min_count=35),)),
        context=None,
        evaluation={"part": "test"},
    )
    interactions, _, candidates, split = parts(NEW, config)
    counts = np.bincount(interactions.candidate_rows[split.train], minlength=26)
    old = fit(OLD, config.model_copy(update={"candidate": config.candidate}))
    fresh = set(grow(old, NEW, config).candidate[0].values) - set(old.candidate[0].values)
    known = set(old.candidate[0].values)
    assert fresh == {candidates.ids[row] for row in range(26) if counts[row] >= 35} - known
    assert 0 < len(fresh) < 26 - len(known)


@pytest.mark.parametrize(
    ("settings", "num"), [({"top": 3}, 3), ({"encoding": "one_hot", "width": 4}, 4), ({"top": 9}, 6)]
)
def test_no_vocabulary_grows_beyond_its_places(settings, num):
    config = kinds_config(
        query=Tower(features=(CategoricalFeature(name="zone", **settings),)), candidate=CONFIG.candidate, context=None
    )

    def zoned(raw, zones):
        values = [zones[row % len(zones)] for row in range(raw.queries.num_rows)]
        return replace(raw, queries=raw.queries.append_column("zone", pa.array(values)))

    old = fit(zoned(OLD, ("a", "b")), config)
    new = grow(old, zoned(NEW, ("f", "e", "b", "d", "a", "c")), config)
    assert new.query[0].values[:2] == old.query[0].values
    assert len(new.query[0].values) == num


def test_a_vocabulary_under_an_affinity_grows_to_its_places():
    tower = Tower(features=(AffinityFeature(name="taste", of="genres", width=5), IdFeature(name="query_id")))
    config = kinds_config(query=tower, context=None)
    more = NEW.candidates.column("genres").to_pylist()
    more = [[*values, f"New {row % 3}"] for row, values in enumerate(more)]
    weights = [[1.0] * len(values) for values in more]
    table = NEW.candidates.drop_columns(["genres", "genre_weights"])
    table = table.append_column("genres", pa.array(more)).append_column("genre_weights", pa.array(weights))
    new = grow(fit(OLD, config), replace(NEW, candidates=table), config)
    assert len(new.feature("candidate", "genres").values) == 5
    assert new.feature("query", "taste").values == new.feature("candidate", "genres").values


def test_features_of_another_config_are_refused(grown):
    history = HistoryFeature(name="lately", width=4, max_length=4)
    query = Tower(features=(*CONFIG.query.features[:-1], history), hidden_dims=(6,))
    with pytest.raises(UserError, match="query feature 'lately' has max_length 3 where the config has max_length 4"):
        grow(grown[0], NEW, kinds_config(query=query))
