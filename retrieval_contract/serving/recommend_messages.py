"""`:recommend`: one query by its id or its features, and an answer for people: fields to show, times, what it rests on.

A known query is answered by what the version knows of it; features that are given beside its id are for the case that
the version does not know it, and count only then.
"""

from collections.abc import Mapping
from typing import Any

from retrieval_contract.serving import checks
from retrieval_contract.serving.limits import Limits
from retrieval_contract.serving.model import Version
from retrieval_contract.serving.question import Answer, Question
from retrieval_contract.serving.refusal import bad

DEFAULT_K = 10
_FIELDS = ("query_id", "features", "k", "exclude_seen", "exclude", "filters")


def parse_recommend(body: Any, version: Version, limits: Limits) -> Question:
    """Understand the body of `:recommend`.

    Raises:
        Refusal: 400, naming the field.
    """
    tree = checks.as_object(body, "body")
    checks.refuse_unknown(tree, _FIELDS, "")
    model = version.model
    query_id = _query_id(tree)
    features = None
    if "features" in tree:
        features = checks.as_object(tree["features"], "features")
        checks.refuse_unknown(features, model.query_inputs, "features", what="no feature")
    if query_id is None and features is None:
        raise bad("missing, and so are features", field="query_id", todo="give one of them")
    row = None if query_id is None else model.query_row(query_id)
    excluded = checks.as_texts(tree.get("exclude", []), "exclude", most=limits.exclusions)
    if checks.as_flag(tree.get("exclude_seen", False), "exclude_seen") and row is not None:
        excluded += model.seen(row)
    wanted = checks.as_filter(tree.get("filters", {}), "filters", attributes=model.attributes, limits=limits)
    return Question(
        version=version,
        operation="retrieve",
        num_rows=1,
        columns={name: [value] for name, value in (features or {}).items()} if row is None else None,
        query_rows=None if row is None else [row],
        k=checks.as_k(tree.get("k", min(DEFAULT_K, model.searcher.size)), size=model.searcher.size, limits=limits),
        excluded=[excluded] if excluded else None,
        filters=None if wanted is None else [wanted],
        falls_back=True,
    )


def recommend_answer(answer: Answer, version: Version, timings_ms: Mapping[str, float]) -> dict[str, Any]:
    """The body of an answer, best first, as many results as there are."""
    assert answer.ids is not None
    assert answer.scores is not None
    assert answer.sources is not None
    found = [(id_, score) for id_, score in zip(answer.ids[0], answer.scores[0].tolist(), strict=True) if id_]
    shown = version.model.fields([id_ for id_, _ in found])
    return {
        "model_version": str(version.number),
        "results": [
            {"id": id_, "score": score, "fields": fields} for (id_, score), fields in zip(found, shown, strict=True)
        ],
        "source": answer.sources[0],
        "timings_ms": dict(timings_ms),
    }


def _query_id(tree: Mapping[str, Any]) -> str | None:
    if "query_id" not in tree:
        return None
    query_id = checks.as_text(tree["query_id"], "query_id")
    if not query_id:
        raise bad("an empty text", field="query_id", todo="give an id, or features instead")
    return query_id
