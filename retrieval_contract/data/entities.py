"""Raw tables to entity rows: who is there, who met whom when, and which rows count as positives."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import BoolArray, Entities, Float32Array, Int32Array, Interactions
from retrieval_contract.config import Positives
from retrieval_contract.data.columns import as_numbers, as_text, column_of, refuse_rows
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME, RawData
from retrieval_contract.errors import UserError

INTERACTIONS = "interactions"
SIGNS = ("watched_fraction", "liked", "shared")
"""Columns of the rule `engaged`; one of them is enough."""


def build_entities(raw: RawData, positives: Positives) -> tuple[Interactions, Entities, Entities]:
    """Give every query and candidate its entity row, and judge every interaction.

    Entities stand in the order of their table where there is one (the whole table: a catalogue entry that nobody met
    keeps its row), else in sorted order of the ids that interactions name.

    Args:
        raw: what the source read.
        positives: which row counts, and how much.

    Returns:
        Interactions in source order, queries, candidates.

    Raises:
        UserError: no rows, an id missing or not in its table, ids twice in a table, a column that the rule needs is
            absent or holds something else, no positive at all.
    """
    table = raw.interactions
    if table.num_rows == 0:
        raise UserError("no rows", where=INTERACTIONS, todo="give a source that has some")
    times = table.column(TIME)
    assert pa.types.is_int64(times.type), "a source hands over int64 times"
    assert times.null_count == 0
    queries = _entities(raw.queries, table, QUERY_ID, "queries")
    candidates = _entities(raw.candidates, table, CANDIDATE_ID, "candidates")
    interactions = Interactions(
        query_rows=_rows(table, QUERY_ID, queries),
        candidate_rows=_rows(table, CANDIDATE_ID, candidates),
        times=times.to_numpy(),
        positive=_positive(table, positives),
        weights=_weights(table, positives.weight_column),
        table=table.drop_columns([QUERY_ID, CANDIDATE_ID, TIME]),
        has_timestamps=raw.has_timestamps,
    )
    if not interactions.positive.any():
        raise UserError(
            f"not one of {table.num_rows:,} rows is a positive under the rule {positives.rule!r}",
            where="positives",
            todo="lower the threshold, or use rule all",
        )
    return interactions, queries, candidates


def _entities(table: pa.Table | None, interactions: pa.Table, id_name: str, where: str) -> Entities:
    if table is None:
        ids = pc.drop_null(pc.unique(as_text(interactions.column(id_name), where=f"{INTERACTIONS}, column {id_name}")))
        ids = ids.take(pc.sort_indices(ids))
        return Entities(ids=tuple(ids.to_pylist()), table=pa.table({id_name: ids}))
    place, todo = f"{where}, column {id_name}", f"give every row of the {where} table an id of its own"
    ids = as_text(column_of(table, id_name, where=where, wanted_by=f"the {where} table"), where=place)
    refuse_rows(pc.is_null(ids).to_numpy(), "missing ids", where=place, todo=todo)
    values = ids.to_pylist()
    twice = pc.index_in(ids, value_set=ids.combine_chunks()).to_numpy() != np.arange(len(values))
    what = f"duplicate ids, {values[int(twice.argmax())]!r} among them" if twice.any() else ""
    refuse_rows(twice, what, where=place, todo=todo)
    return Entities(ids=tuple(values), table=table)


def _rows(table: pa.Table, id_name: str, entities: Entities) -> Int32Array:
    """Entity row of each interaction's id [R]."""
    where = f"{INTERACTIONS}, column {id_name}"
    ids = as_text(column_of(table, id_name, where=INTERACTIONS, wanted_by="every interaction"), where=where)
    refuse_rows(pc.is_null(ids).to_numpy(), "missing ids", where=where, todo="give every row an id, or drop it")
    rows = pc.index_in(ids, value_set=pa.array(entities.ids, pa.string()))
    absent = pc.is_null(rows).to_numpy()
    what = f"ids that are in no table, {ids[int(absent.argmax())].as_py()!r} among them" if absent.any() else ""
    refuse_rows(absent, what, where=where, todo="add them to the table, or drop the rows (--on_bad_rows=drop)")
    return rows.to_numpy().astype(np.int32, copy=False)


def _positive(table: pa.Table, positives: Positives) -> BoolArray:
    """True where a row counts [R]; a missing rating or sign does not count."""
    if positives.rule == "all":
        return np.ones(table.num_rows, np.bool_)
    if positives.rule == "rating_at_least":
        ratings, present = _numbers(table, "rating", "positives.rule rating_at_least")
        return present & (ratings >= positives.rating_at_least)
    names = [name for name in SIGNS if name in table.column_names]
    if not names:
        raise UserError(
            f"none of the columns {', '.join(SIGNS)} that positives.rule engaged needs",
            where=INTERACTIONS,
            todo="map one of them, or use another rule",
        )
    engaged = np.zeros(table.num_rows, np.bool_)
    for name in names:
        values, present = _numbers(table, name, "positives.rule engaged")
        engaged |= present & (values > (positives.watched_above if name == "watched_fraction" else 0))
    return engaged


def _weights(table: pa.Table, name: str | None) -> Float32Array:
    """Sample weights [R], 1 without a column."""
    if name is None:
        return np.ones(table.num_rows, np.float32)
    where = f"{INTERACTIONS}, column {name}"
    values, present = _numbers(table, name, "positives.weight_column")
    todo = "give a finite number, 0 or more, in every row"
    refuse_rows(~present, "missing weights", where=where, todo=todo)
    refuse_rows(values < 0, "negative weights", where=where, todo=todo)
    with np.errstate(over="ignore"):
        weights = values.astype(np.float32)
    refuse_rows(~np.isfinite(weights), "weights too large for float32", where=where, todo=todo)
    return weights


def _numbers(table: pa.Table, name: str, wanted_by: str) -> tuple[np.ndarray, BoolArray]:
    column = column_of(table, name, where=INTERACTIONS, wanted_by=wanted_by)
    return as_numbers(column, where=f"{INTERACTIONS}, column {name}")
