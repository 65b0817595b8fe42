import numpy as np

from parity_tests.oracles import negatives
from retrieval_contract.arrays import KnownPositives

ROWS = np.array([[7, 2, 7, 5], [7, 2, 7, 7], [7, 2, 7, 7]])
POSITIVES = np.array([0, 1, 2])


def columns_out(out):
    return [np.flatnonzero(row).tolist() for row in out]


def test_accidental_hits_are_the_other_columns_of_the_same_candidate():
    assert columns_out(negatives.accidental_hits(ROWS, POSITIVES)) == [[2], [], [0, 3]]


def test_known_positives_are_out_of_their_own_row_but_for_the_positive():
    pairs = KnownPositives(places=np.array([0, 0, 2, 2]), rows=np.array([5, 7, 2, 9]))
    assert columns_out(negatives.known(ROWS, POSITIVES, pairs)) == [[2, 3], [], [1]]


def test_the_hardest_stay_and_the_positive_always_does():
    logits = np.array([[-9.0, 3.0, 1.0, 2.0], [0.0, -np.inf, 0.0, 0.0]])
    assert columns_out(negatives.all_but_hardest(logits, POSITIVES[:2], 2)) == [[2], [3]]
    assert columns_out(negatives.all_but_hardest(logits, POSITIVES[:2], 9)) == [[], []]


def test_of_masked_columns_none_is_hardest():
    logits = np.array([[0.0, -np.inf, 1.0, -np.inf]])
    out = negatives.all_but_hardest(logits, POSITIVES[:1], 1)
    assert np.isneginf(negatives.select(logits, out)).tolist() == [[False, True, False, True]]


def test_selecting_writes_minus_infinity_and_nothing_else():
    logits = np.array([[np.nan, 1.0, np.inf]])
    assert negatives.select(logits, np.array([[True, False, True]])).tolist() == [[-np.inf, 1.0, -np.inf]]
