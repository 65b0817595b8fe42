"""The OpenAPI description: made from the version that answers, with its features, attributes and limits."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import ServedModel
from retrieval_contract.serving.raw_inputs import Form, RawInput
from retrieval_contract.serving.signatures import DEFAULT, EXCLUSIONS, FILTER, VECTORS, K, Signature

if TYPE_CHECKING:
    from retrieval_contract.serving.service import Service

Schema = dict[str, Any]
_TEXT: Schema = {"type": ["string", "integer", "boolean", "null"]}
_NUMBER: Schema = {"type": ["number", "boolean", "null"]}
_MOMENT: Schema = {"type": ["integer", "null"], "description": "Unix seconds."}
_VALUES: Mapping[Form, Schema] = {
    "text": _TEXT,
    "number": _NUMBER,
    "moment": _MOMENT,
    "texts": {"type": ["array", "string", "null"], "items": _TEXT},
    "numbers": {"type": ["array", "null"], "items": {"type": ["number", "null"], "minimum": 0}},
    "moments": {"type": ["array", "null"], "items": _MOMENT},
    "tokens": {"type": ["array", "null"], "items": {"type": "integer"}},
}
_ERROR = {
    "description": "Refused; the message names the field.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def openapi_of(service: "Service", *, changes: bool) -> Schema:
    """Describe every address of a server.

    Args:
        service: what answers.
        changes: True where a token lets candidates be changed.
    """
    base = f"/v1/models/{service.name}"
    paths: Schema = {
        "/healthz": {"get": _page("The process lives.")},
        "/readyz": {"get": _page("A version answers.")},
        "/metrics": {"get": _page("Counters for Prometheus.", kind="text/plain")},
        base: {"get": _page("Which version answers, as TensorFlow Serving says it.")},
        f"{base}/metadata": {"get": _page("Signatures: inputs and outputs by name.")},
        f"{base}/versions/{{version}}": {"get": _of_version(_page("Whether this version answers."))},
        f"{base}/versions/{{version}}/metadata": {"get": _of_version(_page("Signatures of this version."))},
    }
    version = service.serving.version
    if version is not None:
        model, limits = version.model, service.limits
        signatures = service.signatures(version)
        predict = {"anyOf": [form(s, limits) for s in signatures.values() for form in (_row_form, _column_form)]}
        summary = "Row form (`instances`) or column form (`inputs`), as TensorFlow Serving has them."
        paths[f"{base}:predict"] = {"post": _posted(summary, predict)}
        paths[f"{base}/versions/{{version}}:predict"] = {"post": _of_version(_posted(summary, predict))}
        summary = "The best candidates of one query, with fields to show and the time of each stage."
        paths[f"{base}:recommend"] = {"post": _posted(summary, _recommend(model, limits))}
        for verb, schema in (("update", _update(model, limits)), ("remove", _remove(limits))):
            summary = f"{verb.capitalize()} candidates" + ("." if changes else "; off: it needs --token_file.")
            paths[f"{base}:{verb}"] = {"post": {**_posted(summary, schema), "security": [{"token": []}]}}
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Retrieval: {service.name}", "version": str(version.number) if version else "none"},
        "paths": paths,
        "components": {
            "schemas": {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def value_schema(raw: RawInput) -> Schema:
    """One row of a raw feature."""
    if raw.form == "vector":
        size = {} if raw.width is None else {"minItems": raw.width, "maxItems": raw.width}
        return {"type": ["array", "null"], "items": {"type": "number"}, **size}
    return _VALUES[raw.form]


def _row_form(signature: Signature, limits: Limits) -> Schema:
    values, k = _values(signature, limits)
    required = [name for name in values if name not in signature.optional]
    instances = {"type": "array", "items": _object(values, required), "minItems": 1, "maxItems": limits.rows}
    return _object({**_name_of(signature), "instances": instances, **k}, ["instances", *k, *_named(signature)])


def _column_form(signature: Signature, limits: Limits) -> Schema:
    values, k = _values(signature, limits)
    columns = {
        name: {"type": "array", "items": schema, "minItems": 1, "maxItems": limits.rows}
        for name, schema in values.items()
    }
    required = [name for name in [*columns, *k] if name not in signature.optional]
    return _object(
        {**_name_of(signature), "inputs": _object({**columns, **k}, required)}, ["inputs", *_named(signature)]
    )


def _values(signature: Signature, limits: Limits) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Schemas of one row by input, and that of k."""
    values = {name: value_schema(raw) for name, raw in signature.features.items()}
    for name, spec in signature.others.items():
        if name == VECTORS:
            size = spec.shape[-1]
            row: Schema = {"type": "array", "items": {"type": "number"}, "minItems": size, "maxItems": size}
            values[name] = row if len(spec.shape) == 2 else {"type": "array", "items": row, "minItems": 1}
        elif name == EXCLUSIONS:
            values[name] = _texts(limits.exclusions)
        elif name.startswith(FILTER):
            values[name] = _texts(limits.filter_values)
    return values, {K: _k(limits)} if K in signature.others else {}


def _name_of(signature: Signature) -> Schema:
    return {"signature_name": {"type": "string", "const": signature.name}}


def _named(signature: Signature) -> list[str]:
    return [] if signature.name == DEFAULT else ["signature_name"]


def _recommend(model: ServedModel, limits: Limits) -> Schema:
    features = _object({name: value_schema(raw) for name, raw in model.query_inputs.items()}, [])
    filters = _object({name: _texts(limits.filter_values) for name in model.attributes}, [])
    fields = {
        "query_id": {"type": ["string", "integer"], "minLength": 1},
        "features": features,
        "k": _k(limits) | {"default": 10},
        "exclude_seen": {"type": "boolean", "default": False},
        "exclude": _texts(limits.exclusions),
        "filters": filters,
    }
    return {**_object(fields, []), "anyOf": [{"required": ["query_id"]}, {"required": ["features"]}]}


def _update(model: ServedModel, limits: Limits) -> Schema:
    width = {"minItems": model.dim, "maxItems": model.dim}
    candidate = _object(
        {
            "id": {"type": ["string", "integer"], "minLength": 1},
            "features": _object({name: value_schema(raw) for name, raw in model.candidate_inputs.items()}, []),
            "vector": {"type": "array", "items": {"type": "number"}, **width},
            "attributes": _object(
                {name: {"anyOf": [_TEXT, _texts(limits.filter_values)]} for name in model.attributes}, []
            ),
        },
        ["id"],
    )
    either = {"oneOf": [{"required": ["features"]}, {"required": ["vector"]}]}
    several = {"type": "array", "items": candidate | either, "minItems": 1, "maxItems": limits.changes}
    return _object({"candidates": several}, ["candidates"])


def _remove(limits: Limits) -> Schema:
    ids = {"type": "array", "items": {"type": ["string", "integer"], "minLength": 1}}
    return _object({"ids": {**ids, "minItems": 1, "maxItems": limits.changes}}, ["ids"])


def _k(limits: Limits) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": limits.k}


def _texts(most: int) -> Schema:
    return {"type": "array", "items": {"type": ["string", "integer"]}, "maxItems": most}


def _object(fields: Mapping[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": dict(fields), "required": required, "additionalProperties": False}


def _page(summary: str, *, kind: str = "application/json") -> Schema:
    answer = {"description": "An answer.", "content": {kind: {"schema": {}}}}
    return {"summary": summary, "responses": {"200": answer, "default": _ERROR}}


def _posted(summary: str, schema: Schema) -> Schema:
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {**_page(summary), "requestBody": body}


def _of_version(operation: Schema) -> Schema:
    number = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    return {**operation, "parameters": [number]}
