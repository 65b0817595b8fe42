import numpy as np
import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.serving.pipeline import answer_all
from retrieval_contract.serving.planted import planted_version
from retrieval_contract.serving.question import Question


def by_rows(version, rows, k=3, **more):
    return Question(version=version, operation="retrieve", num_rows=len(rows), query_rows=rows, k=k, **more)


def by_features(version, k=3, operation="retrieve", **columns):
    num_rows = len(next(iter(columns.values())))
    return Question(version=version, operation=operation, num_rows=num_rows, columns=columns, k=k)


def test_what_is_asked_together_is_answered_as_alone():
    version = planted_version()
    questions = [
        by_rows(version, [1, 2], k=2),
        by_features(version, k=7, query_id=["u3", None, "nobody"], age=[None, 2, 5.0]),
        by_rows(version, [3], k=4, excluded=[["c39", "c35", "no candidate"]]),
        by_rows(version, [3], k=5, filters=[{"colour": ["red"]}]),
        Question(version=version, operation="search", num_rows=1, vectors=np.eye(5, dtype=np.float32)[:1], k=3),
        by_features(version, operation="embed_query", k=0, age=[3]),
        by_features(version, operation="embed_candidate", k=0, taste=[1, 2]),
    ]
    together = answer_all(questions)
    for question, answer in zip(questions, together, strict=True):
        (alone,) = answer_all([question])
        assert answer.ids == alone.ids and answer.sources == alone.sources
        np.testing.assert_array_equal(answer.vectors, alone.vectors)
        if alone.scores is not None:
            np.testing.assert_array_equal(answer.scores, alone.scores)
            assert answer.scores.shape == (question.num_rows, question.k)
    assert together[0].ids == [["c37", "c33"], ["c38", "c34"]]
    assert together[1].sources == ["query", "content", "content"]
    assert together[2].ids == [["c31", "c38", "c37", "c36"]]
    assert together[3].ids == [["c38", "c36", "c34", "c32", "c30"]]
    assert together[5].ids is None and together[5].vectors.tolist() == [[0, 0, 0, 0, 3]]


def test_the_fault_of_one_is_its_own():
    version = planted_version()
    good, wrong = by_rows(version, [1]), by_features(version, age=["old"])
    first, fault, last = answer_all([good, wrong, by_features(version, age=[4])])
    assert isinstance(fault, UserError) and "age" in str(fault) and "row 0" in str(fault)
    assert first.ids == [["c37", "c33", "c39"]] and last.ids == [["c39", "c38", "c37"]]


def test_a_batch_may_hold_questions_to_two_versions():
    old, new = planted_version(1), planted_version(2, first=1_000)
    answers = answer_all([by_rows(old, [1]), by_rows(new, [1]), by_rows(old, [2])])
    assert [answer.ids[0][0] for answer in answers] == ["c37", "c1037", "c38"]


def test_what_is_silent_falls_back_to_popularity_and_says_so():
    version = planted_version()
    question = by_rows(version, [0, 1], k=2, excluded=[["c0"], []], filters=[{"colour": ["red"]}, None])
    (plain,) = answer_all([question])
    assert plain.sources == ["query", "query"]
    spoken = Question(**{name: getattr(question, name) for name in question.__slots__} | {"falls_back": True})
    (answer,) = answer_all([spoken])
    assert answer.sources == ["popularity", "query"]
    assert answer.ids == [["c2", "c4"], ["c37", "c33"]] and answer.scores[0].tolist() == [1000, 999]


def test_more_than_there_are_is_padded():
    version = planted_version(num_candidates=4)
    (answer,) = answer_all([by_rows(version, [1], k=4, excluded=[["c3"]], filters=[{"colour": ["blue", "green"]}])])
    assert answer.ids == [["c1", "", "", ""]]
    assert np.isneginf(answer.scores[0, 1:]).all()


@pytest.mark.parametrize("k", [1, 5])
def test_a_fault_of_the_search_is_told(k):
    (answer,) = answer_all([by_rows(planted_version(num_candidates=4), [1], k=k)])
    assert isinstance(answer, UserError) == (k == 5)
