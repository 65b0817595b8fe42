"""`:update` and `:remove`: candidates that come and go while others are searched.

A candidate is given by its raw features, which the version's candidate tower encodes, or by its vector; beside either,
`attributes` are what it may be filtered by: those that its features name alike are taken from there.

Letters: B candidates, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.serving import checks
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Columns, ServedModel
from retrieval_contract.serving.refusal import bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Candidates to add or replace: all by features, or all by vectors."""

    ids: list[str]
    """[B]."""
    columns: Columns | None
    """Raw features."""
    vectors: Float32Array | None
    """[B, D]."""
    attributes: dict[str, list[Any]] | None
    """By name, a text or a list of texts for each candidate, or None; None where no candidate says anything of them."""


def parse_update(body: Any, model: ServedModel, limits: Limits) -> Update:
    """Understand the body of `:update`.

    Raises:
        Refusal: 400, naming the field.
    """
    tree = checks.as_object(body, "body")
    checks.refuse_unknown(tree, ("candidates",), "")
    given = checks.as_list(tree.get("candidates"), "candidates", most=limits.changes)
    if not given:
        raise bad("not one candidate", field="candidates")
    rows = [_candidate(row, f"candidates[{place}]", model) for place, row in enumerate(given)]
    ids = [_id(row.get("id"), f"candidates[{place}].id") for place, row in enumerate(rows)]
    _refuse_twice(ids, "candidates")
    by_vector = ["vector" in row for row in rows]
    if any(by_vector) != all(by_vector):
        place = by_vector.index(not by_vector[0])
        raise bad("some are given by vectors, others by features", field=f"candidates[{place}]", todo="give all alike")
    attributes = _attributes(rows, model, limits)
    vectors = columns = None
    if by_vector[0]:
        vectors = checks.as_vectors([row["vector"] for row in rows], "vector", dim=model.dim)
        if vectors.ndim != 2:
            raise bad("several vectors, and a candidate has one", field="vector")
    else:
        names = dict.fromkeys(name for row in rows for name in row["features"])
        columns = {name: [row["features"].get(name) for row in rows] for name in names}
    return Update(ids=ids, columns=columns, vectors=vectors, attributes=attributes)


def parse_remove(body: Any, limits: Limits) -> list[str]:
    """Understand the body of `:remove`.

    Raises:
        Refusal: 400, naming the field.
    """
    tree = checks.as_object(body, "body")
    checks.refuse_unknown(tree, ("ids",), "")
    given = checks.as_list(tree.get("ids"), "ids", most=limits.changes)
    ids = [_id(id_, f"ids[{place}]") for place, id_ in enumerate(given)]
    if not ids:
        raise bad("not one id", field="ids")
    _refuse_twice(ids, "ids")
    return ids


def vectors_of(update: Update, model: ServedModel) -> Float32Array:
    """The candidates' vectors [B, D].

    Raises:
        UserError: a feature that the tower does not take.
    """
    if update.vectors is not None:
        return update.vectors
    assert update.columns is not None
    return np.ascontiguousarray(model.encode_candidates(update.columns, len(update.ids)))


def _candidate(value: Any, field: str, model: ServedModel) -> dict[str, Any]:
    row = checks.as_object(value, field)
    checks.refuse_unknown(row, ("id", "features", "vector", "attributes"), field)
    if ("features" in row) == ("vector" in row):
        raise bad("one of features and vector is needed", field=field)
    if "features" in row:
        features = checks.as_object(row["features"], f"{field}.features")
        checks.refuse_unknown(features, model.candidate_inputs, f"{field}.features", what="no feature")
    attributes = checks.as_object(row.get("attributes", {}), f"{field}.attributes")
    checks.refuse_unknown(attributes, model.attributes, f"{field}.attributes", what="candidates have no attribute")
    return row


def _id(value: Any, field: str) -> str:
    text = checks.as_text(value, field)
    if not text:
        raise bad("an empty text", field=field, todo="give an id")
    return text


def _refuse_twice(ids: list[str], field: str) -> None:
    first: dict[str, int] = {}
    for place, id_ in enumerate(ids):
        if first.setdefault(id_, place) != place:
            raise bad(f"the id of {field}[{first[id_]}] again", field=f"{field}[{place}]", todo="give each once")


def _attributes(
    rows: list[dict[str, Any]], model: ServedModel, limits: Limits
) -> dict[str, list[str | list[str] | None]] | None:
    """Attributes of all candidates, or of none: one that says nothing beside others that do would lose what it has."""
    columns = {
        name: [_attribute(row, name, f"candidates[{place}]", limits) for place, row in enumerate(rows)]
        for name in model.attributes
    }
    told = [any(values[place] is not None for values in columns.values()) for place in range(len(rows))]
    if any(told) and not all(told):
        what = "nothing is said of its attributes, and of others' it is"
        raise bad(what, field=f"candidates[{told.index(False)}]", todo="say it of all candidates of a call, or of none")
    return columns if any(told) else None


def _attribute(row: Mapping[str, Any], name: str, field: str, limits: Limits) -> str | list[str] | None:
    """Value or values of one attribute; None where nothing says."""
    for source in ("attributes", "features"):
        value = row.get(source, {}).get(name)
        if value is not None:
            place = f"{field}.{source}.{name}"
            if isinstance(value, list):
                return checks.as_texts(value, place, most=limits.filter_values)
            return checks.as_text(value, place)
    return None
