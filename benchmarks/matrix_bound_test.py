"""Evaluation and search answer what is asked, and a wrong answer stops the measurement."""

import dataclasses

import numpy as np
import pytest

from benchmarks import matrix_bound
from retrieval_contract.indexes.stored import StoredVectors


@pytest.fixture(scope="module")
def case():
    return matrix_bound.draw(70, 17_000, 8, seed=0)


@pytest.fixture(scope="module")
def answers(case):
    stored = StoredVectors.keep(case.candidates, "float32")
    return matrix_bound.Answers(*matrix_bound.evaluate(case), matrix_bound.search(case, stored))


def test_right_answers_pass(case, answers):
    assert matrix_bound.verify(case, answers, sample=7) == 7


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("ranks", lambda ranks: ranks + 1, "by sorting"),
        ("searched", lambda rows: rows[:, ::-1], "differ"),
    ],
)
def test_a_wrong_answer_is_noticed(case, answers, field, change, message):
    wrong = dataclasses.replace(answers, **{field: change(getattr(answers, field))})
    with pytest.raises(AssertionError, match=message):
        matrix_bound.verify(case, wrong, sample=3)


def test_wrong_best_of_both_are_noticed(case, answers):
    wrong = np.roll(answers.best, 1, axis=1)
    with pytest.raises(AssertionError, match="are others"):
        matrix_bound.verify(case, matrix_bound.Answers(answers.ranks, wrong, wrong), sample=3)


def test_every_case_has_the_same_turns(case, monkeypatch):
    monkeypatch.setattr(matrix_bound, "PLAIN_QUERIES", 32)
    times, verified = matrix_bound.measure(case, turns=2, seconds=0)
    assert verified == matrix_bound.SAMPLE and {len(taken.wall) for taken in times.values()} == {2}
    assert set(times) == {matrix_bound.BOUND, matrix_bound.PLAIN, matrix_bound.EVALUATION, matrix_bound.SEARCH}
