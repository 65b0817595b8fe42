"""From questions to answers: those of one batch are encoded together and searched for together.

Whatever was asked together, an answer is what it would be alone: the encoders treat each row by itself, and a search
that goes deeper for another question only finds more. A question at fault never spoils the others: where a batch
cannot be answered, each of its questions is answered alone, and the fault stays with its own.

Letters: B queries, D width, I interests, K results.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from retrieval_contract.arrays import Float32Array
from retrieval_contract.serving.model import ServedModel
from retrieval_contract.serving.question import Answer, Question


def answer_all(questions: Sequence[Question]) -> list[Answer | Exception]:
    """Answer questions, in their order; an exception stands where one could not be answered.

    Questions to several versions are answered by theirs.
    """
    answers: list[Answer | Exception | None] = [None] * len(questions)
    for places in _grouped(questions, key=lambda question: id(question.version)):
        for place, answer in zip(places, _answer_together([questions[p] for p in places]), strict=True):
            answers[place] = answer
    return [answer for answer in answers if answer is not None]


def _answer_together(questions: list[Question]) -> list[Answer | Exception]:
    """Answer questions to one version."""
    try:
        return list(_answered(questions))
    except Exception as error:  # a fault of one question, or of ours: those who asked are told, the server lives
        if len(questions) == 1:
            return [error]
    return [answer for question in questions for answer in _answer_together([question])]


def _answered(questions: list[Question]) -> list[Answer]:
    model = questions[0].version.model
    answers = [Answer(vectors=question.vectors) for question in questions]
    for encode, places in (
        (_encode_queries, _places(questions, lambda q: q.operation != "embed_candidate" and q.columns is not None)),
        (_encode_known, _places(questions, lambda q: q.query_rows is not None)),
        (_encode_candidates, _places(questions, lambda q: q.operation == "embed_candidate")),
    ):
        if places:
            began = time.perf_counter()
            encode(model, [questions[place] for place in places], [answers[place] for place in places])
            for place in places:
                answers[place].encode_ms = 1e3 * (time.perf_counter() - began)
    _search(model, questions, answers)
    return answers


def _encode_queries(model: ServedModel, questions: list[Question], answers: list[Answer]) -> None:
    """Encode queries given by features."""
    vectors, known_B = model.encode_queries(_joined_columns(questions), sum(q.num_rows for q in questions))
    for answer, part in zip(answers, _parts(questions), strict=True):
        answer.vectors = vectors[part]
        answer.sources = ["query" if known else "content" for known in known_B[part]]


def _encode_known(model: ServedModel, questions: list[Question], answers: list[Answer]) -> None:
    """Encode queries that the version knows."""
    vectors = model.encode_known([row for question in questions for row in question.query_rows or ()])
    for question, answer, part in zip(questions, answers, _parts(questions), strict=True):
        answer.vectors = vectors[part]
        answer.sources = ["query"] * question.num_rows


def _encode_candidates(model: ServedModel, questions: list[Question], answers: list[Answer]) -> None:
    """Encode candidates given by features."""
    vectors = model.encode_candidates(_joined_columns(questions), sum(q.num_rows for q in questions))
    for answer, part in zip(answers, _parts(questions), strict=True):
        answer.vectors = vectors[part]


def _search(model: ServedModel, questions: list[Question], answers: list[Answer]) -> None:
    """Search for all vectors of one shape in one call, as deep as the largest K needs, and cut."""
    wanted = _places(questions, lambda question: question.operation in ("retrieve", "search"))
    for group in _grouped([answers[place] for place in wanted], key=lambda answer: _vectors(answer).shape[1:]):
        places = [wanted[at] for at in group]
        _search_together(model, [questions[place] for place in places], [answers[place] for place in places])


def _search_together(model: ServedModel, questions: list[Question], answers: list[Answer]) -> None:
    began = time.perf_counter()
    excluded = [ids for question in questions for ids in (question.excluded or [()] * question.num_rows)]
    filters = [wanted for question in questions for wanted in (question.filters or [None] * question.num_rows)]
    found = model.searcher.search(
        np.concatenate([_vectors(answer) for answer in answers]) if len(answers) > 1 else _vectors(answers[0]),
        max(question.k for question in questions),
        excluded_ids=excluded if any(excluded) else None,
        filters=filters if any(filters) else None,
    )
    for question, answer, part in zip(questions, answers, _parts(questions), strict=True):
        answer.ids = [ids[: question.k] for ids in found.ids[part]]
        answer.scores = found.scores[part, : question.k]
        if question.falls_back:
            _fall_back(model, question, answer)
        answer.search_ms = 1e3 * (time.perf_counter() - began)


def _fall_back(model: ServedModel, question: Question, answer: Answer) -> None:
    """Answer by popularity where a vector says nothing."""
    assert answer.ids is not None
    assert answer.scores is not None
    assert answer.sources is not None
    vectors = _vectors(answer)
    silent_B = ~vectors.any(axis=tuple(range(1, vectors.ndim)))
    if not silent_B.any():
        return
    answer.scores = answer.scores.copy()
    for row in np.flatnonzero(silent_B).tolist():
        excluded = question.excluded[row] if question.excluded else ()
        found = model.popular(question.k, excluded, question.filters[row] if question.filters else None)
        answer.ids[row], answer.scores[row], answer.sources[row] = found.ids[0], found.scores[0], "popularity"


def _joined_columns(questions: list[Question]) -> dict[str, list[Any]]:
    """The columns of several questions end to end; one that a question lacks is missing in its rows."""
    if len(questions) == 1:
        return {name: list(values) for name, values in (questions[0].columns or {}).items()}
    names = dict.fromkeys(name for question in questions for name in question.columns or {})
    joined: dict[str, list[Any]] = {name: [] for name in names}
    for question in questions:
        given = question.columns or {}
        for name, values in joined.items():
            values.extend(given.get(name) or [None] * question.num_rows)
    return joined


def _parts(questions: list[Question]) -> list[slice]:
    """Where the rows of each question lie among those of all."""
    parts, start = [], 0
    for question in questions:
        parts.append(slice(start, start + question.num_rows))
        start += question.num_rows
    return parts


def _places(questions: list[Question], holds: Callable[[Question], bool]) -> list[int]:
    return [place for place, question in enumerate(questions) if holds(question)]


def _grouped(items: Iterable[Any], *, key: Callable[[Any], Any]) -> list[list[int]]:
    """Places of items with equal keys."""
    groups: dict[Any, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(key(item), []).append(place)
    return list(groups.values())


def _vectors(answer: Answer) -> Float32Array:
    assert answer.vectors is not None
    return answer.vectors
