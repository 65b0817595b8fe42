"""Tables that grow: old bytes stay, new candidate ids stand where their neighbours are."""

import numpy as np
import pytest

from retrieval_contract.runs import new_rows
from retrieval_contract.runs.new_rows import start_from_content, with_new_rows

RANDOM = np.random.default_rng(1)


def test_old_rows_keep_their_bytes_and_new_ones_are_the_unknown_row():
    weights = {"a": RANDOM.random((4, 3), np.float32), "b": RANDOM.random((2, 2), np.float32)}
    before = {name: array.copy() for name, array in weights.items()}
    grown = with_new_rows(weights, {"a": 6})
    assert grown["a"].shape == (6, 3) and grown["a"][:4].tobytes() == before["a"].tobytes()
    assert (grown["a"][4:] == before["a"][1]).all() and grown["b"] is weights["b"]
    grown["a"][5] = 0
    assert weights["a"].tobytes() == before["a"].tobytes()


def by_hand(table, content, id_rows, num_old_rows, count=10):
    expected = table.copy()
    old = [place for place, row in enumerate(id_rows) if 2 <= row < num_old_rows]
    for place, row in enumerate(id_rows):
        if row < num_old_rows:
            continue
        cosine = {
            other: np.float32(
                content[place].astype(float)
                @ content[other]
                / max(
                    np.linalg.norm(content[place].astype(float)) * np.linalg.norm(content[other].astype(float)), 1e-30
                )
            )
            for other in old
        }
        nearest = sorted(old, key=lambda other: (-cosine[other], other))[:count]
        expected[row] = np.mean([table[id_rows[other]].astype(float) for other in nearest], axis=0)
    return expected


@pytest.mark.parametrize("cells", [2**22, 30])
@pytest.mark.parametrize("num_old", [25, 6])
def test_new_ids_take_the_mean_of_the_ten_nearest_old_ones(num_old, cells, monkeypatch):
    monkeypatch.setattr(new_rows, "CELLS", cells)
    # Candidates in an order of their own; three are unknown, whose row is 1. Few values, so that cosines tie.
    id_rows = RANDOM.permutation(np.concatenate([np.arange(2, 2 + num_old + 8), [1, 1, 1]])).astype(np.int32)
    content = RANDOM.integers(-1, 2, (len(id_rows), 3)).astype(np.float32)
    content[:, 0] += np.float32(0.5)
    table = RANDOM.standard_normal((2 + num_old + 8, 4)).astype(np.float32)
    before = table.copy()
    count = start_from_content(table, content, id_rows, num_old_rows=2 + num_old)
    assert count == 8
    assert table[: 2 + num_old].tobytes() == before[: 2 + num_old].tobytes()
    np.testing.assert_allclose(table, by_hand(before, content, id_rows, 2 + num_old), rtol=1e-6, atol=1e-7)
    wrong = by_hand(before, content, id_rows, 2 + num_old, count=3)
    assert np.abs(table - wrong).max() > 0.1, "the check must notice another number of neighbours"


def test_no_content_and_no_old_neighbour_keep_the_unknown_row():
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    before = table.copy()
    content = np.array([[1, 0], [0, 0]], np.float32)
    assert start_from_content(table, content, np.array([2, 5], np.int32), num_old_rows=5) == 0
    assert start_from_content(table, content, np.array([5, 1], np.int32), num_old_rows=5) == 0
    assert (table == before).all()
