from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_contract.config import Positives
from retrieval_contract.data.entities import build_entities
from retrieval_contract.data.sources.raw import RawData
from retrieval_contract.errors import UserError


def raw(queries=None, candidates=None, **columns):
    base = {"query_id": ["b", "a", "b", "c"], "candidate_id": ["y", "x", "x", "z"], "time": [4, 3, 2, 1]}
    return RawData(
        interactions=pa.table({**base, **columns}),
        queries=None if queries is None else pa.table(queries),
        candidates=None if candidates is None else pa.table(candidates),
        truth=None,
        has_timestamps=True,
        notes=(),
    )


def positive(rule, **columns):
    return build_entities(raw(**columns), rule)[0].positive.tolist()


def test_without_tables_entities_are_the_sorted_ids():
    interactions, queries, candidates = build_entities(raw(), Positives())
    assert queries.ids == ("a", "b", "c")
    assert candidates.ids == ("x", "y", "z")
    assert interactions.query_rows.tolist() == [1, 0, 1, 2]
    assert interactions.candidate_rows.tolist() == [1, 0, 0, 2]
    assert interactions.query_rows.dtype == interactions.candidate_rows.dtype == np.int32
    assert interactions.times.tolist() == [4, 3, 2, 1]
    assert interactions.weights.tolist() == [1, 1, 1, 1]
    assert candidates.table.column_names == ["candidate_id"]


def test_a_table_is_the_whole_catalogue_in_its_order():
    interactions, _, candidates = build_entities(
        raw(candidates={"candidate_id": ["z", "never", "y", "x"]}), Positives()
    )
    assert candidates.ids == ("z", "never", "y", "x")
    assert interactions.candidate_rows.tolist() == [2, 3, 3, 0]


def test_other_columns_stay():
    interactions, _, _ = build_entities(raw(rating=[1, 2, 3, 4]), Positives())
    assert interactions.table.column_names == ["rating"]
    assert interactions.table.num_rows == 4


def test_ids_stay_strings():
    data = replace(
        raw(), interactions=pa.table({"query_id": ["007", "7"], "candidate_id": ["1.0", "1"], "time": [1, 2]})
    )
    _, queries, candidates = build_entities(data, Positives())
    assert queries.ids == ("007", "7")
    assert candidates.ids == ("1", "1.0")


def test_rating_rule_counts_the_threshold_itself_and_no_missing_rating():
    rule = Positives(rule="rating_at_least", rating_at_least=4)
    assert positive(rule, rating=[3.9, 4.0, None, 5.0]) == [False, True, False, True]


def test_engaged_rule_is_watched_above_or_liked_or_shared():
    rule = Positives(rule="engaged", watched_above=0.5)
    watched, liked, shared = [0.5, 0.6, None, 0.1], [False, False, True, None], [0, 0, 0, 0]
    assert positive(rule, watched_fraction=watched, liked=liked, shared=shared) == [False, True, True, False]
    assert positive(rule, shared=[1, 0, 0, 0]) == [True, False, False, False]


def test_missing_columns_of_a_rule_are_named():
    with pytest.raises(UserError, match=r"no column 'rating', which positives.rule rating_at_least needs"):
        positive(Positives(rule="rating_at_least"))
    with pytest.raises(UserError, match="watched_fraction, liked, shared"):
        positive(Positives(rule="engaged"))
    with pytest.raises(UserError, match=r"no column 'wieght'.*did you mean 'weight'"):
        build_entities(raw(weight=[1, 1, 1, 1]), Positives(weight_column="wieght"))


@pytest.mark.parametrize("rating", [["1", "x", "3", "4"], [1.0, float("nan"), 2.0, 5.0]])
def test_a_rating_that_is_no_number_is_refused(rating):
    with pytest.raises(UserError, match="interactions, column rating"):
        positive(Positives(rule="rating_at_least"), rating=rating)


def test_no_positive_at_all_is_refused():
    with pytest.raises(UserError, match="not one of 4 rows is a positive"):
        positive(Positives(rule="rating_at_least"), rating=[1, 1, 1, 1])


def test_weights_are_read():
    interactions, _, _ = build_entities(raw(w=[0.0, 1.5, 2.0, 1.0]), Positives(weight_column="w"))
    assert interactions.weights.tolist() == [0, 1.5, 2, 1]
    assert interactions.weights.dtype == np.float32


@pytest.mark.parametrize("bad", [None, -1.0, float("nan"), float("inf"), 1e39])
def test_a_weight_that_is_none_is_refused_with_its_row(bad):
    with pytest.raises(UserError, match=r"column w, rows 2\]"):
        build_entities(raw(w=[1.0, 1.0, bad, 1.0]), Positives(weight_column="w"))


@pytest.mark.parametrize("side", ["query", "candidate"])
def test_an_id_in_no_table_is_refused_and_shown(side):
    tables = {"queries": {"query_id": ["a", "b"]}} if side == "query" else {"candidates": {"candidate_id": ["x", "y"]}}
    with pytest.raises(UserError, match=rf"in no table, '[cz]' among them \[interactions, column {side}_id, rows 3\]"):
        build_entities(raw(**tables), Positives())


def test_duplicate_and_missing_ids_are_refused():
    with pytest.raises(
        UserError, match=r"duplicate ids, 'x' among them \[candidates, column candidate_id, rows 2, 4\]"
    ):
        build_entities(raw(candidates={"candidate_id": ["x", "y", "x", "z", "y"]}), Positives())
    with pytest.raises(UserError, match=r"missing ids \[candidates"):
        build_entities(raw(candidates={"candidate_id": ["x", None, "y", "z"]}), Positives())
    with pytest.raises(UserError, match=r"missing ids \[interactions, column query_id, rows 1\]"):
        build_entities(raw(query_id=["b", None, "b", "c"]), Positives())


def test_no_rows_are_refused():
    empty = replace(raw(), interactions=raw().interactions.slice(0, 0))
    with pytest.raises(UserError, match="no rows"):
        build_entities(empty, Positives())
