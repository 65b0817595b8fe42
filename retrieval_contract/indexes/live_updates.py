"""What is asked to be added, updated or removed, checked at the door and brought into one form.

Letters: M candidates of a call, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import Float32Array
from retrieval_contract.data.columns import nearest
from retrieval_contract.errors import UserError, first_rows
from retrieval_contract.indexes.attributes import Attributes
from retrieval_contract.indexes.journal import Op, Update
from retrieval_contract.indexes.live_state import State
from retrieval_contract.indexes.protocol import FORGOTTEN
from retrieval_contract.indexes.stored import norms


def checked_update(
    state: State,
    op: Op,
    ids: Sequence[str],
    vectors: Any,
    attributes: Mapping[str, Sequence[Any]] | None,
) -> Update:
    """Bring a call into the form in which it is written and replayed.

    Args:
        state: to which it will happen.
        op: what.
        ids: [M].
        vectors: [M, D]; of a removal [0, D].
        attributes: by name a text, a number, a list of those, or None for each candidate.

    Raises:
        UserError: an id that is empty, twice, here already or not here; vectors of another shape or not finite; another
            number of any; or attributes that the index does not have, or of another form.
    """
    _check_ids(ids)
    for place, id_ in enumerate(ids):
        if op != "put" and (id_ in state) == (op == "add"):
            what = f"candidate {id_!r} is {'already' if op == 'add' else 'not'} in the index"
            todo = "update it instead" if op == "add" else "add it first" if op == "update" else "leave it out"
            raise UserError(what, where=f"ids, place {place:,}", todo=todo)
    num_vectors = 0 if op == "remove" else len(ids)
    values = _checked_values(vectors, num_vectors, state.base.dim)
    given = None if attributes is None else _checked_attributes(state, ids, attributes)
    return Update(op=op, ids=tuple(ids), values=values, attributes=given)


def _check_ids(ids: Sequence[str]) -> None:
    if isinstance(ids, str):
        raise UserError(f"ids are one text, {ids!r}", where="ids", todo="give a list")
    seen: set[str] = set()
    for place, id_ in enumerate(ids):
        where = f"ids, place {place:,}"
        if not isinstance(id_, str) or not id_:
            raise UserError(
                f"candidate id {id_!r} is {'empty' if id_ == '' else 'no text'}", where=where, todo="name it"
            )
        if id_.startswith(FORGOTTEN):
            raise UserError(f"candidate id {id_!r} is not free", where=where, todo="give another id")
        if id_ in seen:
            raise UserError(f"candidate id {id_!r} stands twice in one call", where=where, todo="give it once")
        seen.add(id_)


def _checked_values(vectors: Any, num_vectors: int, dim: int) -> Float32Array:
    try:
        with np.errstate(over="ignore"):  # what does not fit float32 is infinite, and refused as that
            values = np.array(vectors, np.float32, order="C")
    except (TypeError, ValueError):
        raise UserError("vectors are not numbers", where="vectors", todo=f"give [M, {dim}]") from None
    if values.shape != (num_vectors, dim):
        what = f"vectors have shape {values.shape}, there are {num_vectors:,} ids, and the index has width {dim}"
        raise UserError(what, where="vectors", todo="give one vector of that width for each id")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        where = f"vectors, {first_rows(bad.tolist(), bad.size)}"
        raise UserError("vectors hold NaN or infinity", where=where, todo="embed them again")
    if norms(values).max(initial=0.0) > np.sqrt(np.finfo(np.float32).max) / 2:
        raise UserError("vectors are so long that a score would overflow float32", where="vectors", todo="scale them")
    return values


def _checked_attributes(
    state: State, ids: Sequence[str], attributes: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Every attribute of the index, in its form; of what is not given a candidate that is here keeps its own."""
    schema = state.base.attributes.table.schema
    for name, values in attributes.items():
        if name not in schema.names:
            todo = nearest(name, schema.names)
            raise UserError(f"candidates have no attribute {name!r}", where="attributes", todo=todo)
        if isinstance(values, str) or len(values) != len(ids):
            what = f"attribute {name!r} has {len(values):,} entries for {len(ids):,} ids"
            raise UserError(
                what, where=f"attributes, {name}", todo="give one entry for each id, None where it has none"
            )
    kept = [state.attributes_of(id_) for id_ in ids]
    return {
        field.name: _as_stored(attributes[field.name], field)
        if field.name in attributes
        else [entry[column] for entry in kept]
        for column, field in enumerate(schema)
    }


def _as_stored(values: Sequence[Any], field: pa.Field) -> list[Any]:
    wanted = "a list of texts" if pa.types.is_list(field.type) else "one text"
    try:
        column = pa.array(list(values))
        given = Attributes.from_table(pa.table({field.name: column}), [field.name]).table.column(0)
        if pa.types.is_null(column.type):
            return [None] * len(values)
        if given.type != field.type:
            raise pa.ArrowInvalid("a list and not one text, or the other way round")
    except (pa.ArrowException, UserError) as error:
        what = f"attribute {field.name!r} is not {wanted} for each id ({error})"
        raise UserError(what, where=f"attributes, {field.name}", todo=f"give {wanted} or None for each") from None
    return given.to_pylist()
