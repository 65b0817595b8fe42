"""`:predict` as TF Serving speaks it: row form (`instances`) and column form (`inputs`), and the answer to either.

Two things are freer than in TF Serving, which knows nothing of what tensors mean: in row form `k` may stand in every
instance, or beside them once; and exclusions and filters may be left out. One thing JSON forces: a score of -inf, where
fewer than K candidates exist, is null.

Letters: B queries or candidates.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_contract.data.columns import nearest
from retrieval_contract.serving import checks
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.question import Answer, Question
from retrieval_contract.serving.refusal import bad
from retrieval_contract.serving.signatures import DEFAULT, EXCLUSIONS, FILTER, VECTORS, K, Signature

_FIELDS = ("signature_name", "instances", "inputs", K)
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predict:
    """A message that has been understood."""

    signature: Signature
    question: Question
    row_form: bool


def parse_predict(body: Any, version: Version, signatures: Mapping[str, Signature], limits: Limits) -> Predict:
    """Understand the body of `:predict`.

    Args:
        body: parsed JSON.
        version: what will answer.
        signatures: of its model.
        limits: of the server.

    Raises:
        Refusal: 400, naming the field.
    """
    tree = checks.as_object(body, "body")
    checks.refuse_unknown(tree, _FIELDS, "")
    name = checks.as_text(tree.get("signature_name") or DEFAULT, "signature_name")
    if name not in signatures:
        raise bad(f"no signature {checks.shorter(name)!r}", field="signature_name", todo=nearest(name, signatures))
    signature, row_form = signatures[name], "instances" in tree
    if row_form == ("inputs" in tree):
        raise bad("one of instances (row form) and inputs (column form) is needed", field="body")
    if not row_form and K in tree:
        raise bad("stands inside of inputs in column form", field=K)
    columns = _of_rows(tree, signature, limits) if row_form else _of_columns(tree["inputs"], signature)
    question = question_of(columns, version, signature, limits)
    return Predict(signature=signature, question=question, row_form=row_form)


def question_of(columns: Values, version: Version, signature: Signature, limits: Limits) -> Question:
    """Understand the inputs of a signature, each a column of B values (`k` one number).

    Raises:
        Refusal: 400, naming the field.
    """
    _check_names(columns, signature)
    model = version.model
    rowed = {name: values for name, values in columns.items() if name != K}
    lists = {name: checks.as_list(values, name, most=limits.rows) for name, values in rowed.items()}
    num_rows = _num_rows(lists)
    k = checks.as_k(columns[K], size=model.searcher.size, limits=limits) if K in signature.others else 0
    vectors = checks.as_vectors(lists[VECTORS], VECTORS, dim=model.dim) if signature.operation == "search" else None
    excluded = None
    if EXCLUSIONS in lists:
        excluded = [
            checks.as_texts(row, f"{EXCLUSIONS}[{place}]", most=limits.exclusions)
            for place, row in enumerate(lists[EXCLUSIONS])
        ]
    return Question(
        version=version,
        operation=signature.operation,
        num_rows=num_rows,
        columns={name: _decoded(lists[name], name) for name in signature.features} if vectors is None else None,
        vectors=vectors,
        k=k,
        excluded=excluded,
        filters=_filters(lists, num_rows, limits),
    )


def predict_answer(answer: Answer, asked: Predict) -> dict[str, Any]:
    """The body of an answer: a list of rows, or columns; of a signature with one output, without its name."""
    outputs = outputs_of(answer)
    if not asked.row_form:
        return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}


def outputs_of(answer: Answer) -> dict[str, Any]:
    """Outputs by name, as lists or arrays [B, …]."""
    if answer.ids is None:
        return {VECTORS: np.ascontiguousarray(answer.vectors)}
    return {"ids": answer.ids, "scores": np.ascontiguousarray(answer.scores)}


def _of_rows(tree: Values, signature: Signature, limits: Limits) -> Values:
    """Turn instances into columns; each has the same names."""
    instances = checks.as_list(tree["instances"], "instances", most=limits.rows)
    if not instances:
        raise bad("not one instance", field="instances")
    single = [name for name in signature.inputs if name != K]
    if len(single) == 1 and not isinstance(instances[0], dict):
        instances = [{single[0]: instance} for instance in instances]
    rows = [checks.as_object(row, f"instances[{place}]") for place, row in enumerate(instances)]
    names = rows[0].keys()
    for place, row in enumerate(rows):
        if row.keys() != names:
            odd = sorted(row.keys() ^ names)[0]
            what = f"instance {place} and instance 0 differ in whether they have {checks.shorter(odd)!r}"
            raise bad(what, field=f"instances[{place}].{checks.shorter(odd)}", todo="give all of them the same inputs")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    if K in columns:
        if K in tree:
            raise bad("stands both in the instances and beside them", field=K)
        if any(k != columns[K][0] or isinstance(k, bool) for k in columns[K]):
            raise bad("differs between instances, and one call has one k", field=K)
        columns[K] = columns[K][0]
    elif K in tree:
        columns[K] = tree[K]
    return columns


def _of_columns(inputs: Any, signature: Signature) -> Values:
    """Inputs by name; of a signature with one input, it may stand without its name."""
    if isinstance(inputs, list) and len(signature.inputs) == 1:
        return {next(iter(signature.inputs)): inputs}
    return checks.as_object(inputs, "inputs")


def _check_names(columns: Values, signature: Signature) -> None:
    inputs = signature.inputs
    checks.refuse_unknown(columns, inputs, "", what=f"signature {signature.name} has no input")
    for name in inputs:
        if name not in columns and name not in signature.optional:
            todo = "give a number" if name == K else "give it for every row, null where it is missing"
            raise bad(f"missing, and signature {signature.name} needs it", field=name, todo=todo)


def _decoded(values: list[Any], field: str) -> list[Any]:
    """Put bytes in place of TF Serving's `{"b64": "…"}`, here and in lists."""
    if not any(isinstance(value, dict | list) for value in values):
        return values
    return [
        _decoded(value, field)
        if isinstance(value, list)
        else _bytes(value, field)
        if isinstance(value, dict)
        else value
        for value in values
    ]


def _bytes(value: dict[str, Any], field: str) -> bytes:
    try:
        if value.keys() != {"b64"}:
            raise ValueError
        return base64.b64decode(value["b64"], validate=True)
    except (ValueError, TypeError):
        raise bad('an object that is not bytes as {"b64": text in base 64}', field=field) from None


def _num_rows(lists: Mapping[str, list[Any]]) -> int:
    """How many rows all inputs have."""
    sizes = {name: len(values) for name, values in lists.items()}
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            raise bad(f"{size} rows where {first} has {sizes[first]}", field=name)
    if not sizes[first]:
        raise bad("no rows", field=first, todo="give one or more")
    return sizes[first]


def _filters(lists: Mapping[str, list[Any]], num_rows: int, limits: Limits) -> list[dict[str, list[str]] | None] | None:
    """For each row its accepted values by attribute; an empty row of an attribute asks nothing of it."""
    columns = {name.removeprefix(FILTER): rows for name, rows in lists.items() if name.startswith(FILTER)}
    if not columns:
        return None
    filters: list[dict[str, list[str]] | None] = []
    for place in range(num_rows):
        wanted = {
            name: checks.as_texts(rows[place], f"{FILTER}{name}[{place}]", most=limits.filter_values)
            for name, rows in columns.items()
        }
        filters.append({name: values for name, values in wanted.items() if values} or None)
    return filters
