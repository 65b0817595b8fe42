"""Old weights for a larger vocabulary: old rows as they are, new ones from what is known of them.

A new row takes the unknown row's numbers, which training made for values that it did not know. A new candidate id is
better off: it takes the mean of the rows of the `NEIGHBOURS` old ids whose content is nearest to its own.

Letters: N candidates, C numbers of the content, W width of a row, V vocabulary rows, E new candidates, O old ones.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW

NEIGHBOURS: Final = 10
"""Old ids whose rows a new id starts from."""
CELLS: Final = 2**22
"""Cosines computed at once."""


def with_new_rows(weights: Mapping[str, Float32Array], num_rows: Mapping[str, int]) -> dict[str, Float32Array]:
    """Lengthen tables.

    Args:
        weights: canonical name -> array.
        num_rows: of the tables that grow, rows V of then.

    Returns:
        All arrays, copied where they grow: old rows keep their bytes, new ones are copies of the unknown row.
    """
    grown = dict(weights)
    for name, rows in num_rows.items():
        old = weights[name]
        assert rows >= len(old), f"{name} never shrinks"
        grown[name] = np.concatenate([old, np.repeat(old[UNKNOWN_ROW : UNKNOWN_ROW + 1], rows - len(old), axis=0)])
    return grown


def start_from_content(
    table_VW: Float32Array, content_NC: Float32Array, id_rows_N: Int32Array, *, num_old_rows: int
) -> int:
    """Give new candidate ids their start, in place.

    Distance is the cosine between contents, rounded to float32; ties go to the candidate that comes first. A candidate
    without content (all zeros) keeps its row, and so do all where the catalogue holds no old id.

    Args:
        table_VW: the candidate ids' table, grown; written.
        content_NC: content vectors of the catalogue.
        id_rows_N: each candidate's row in the table.
        num_old_rows: rows that the table had.

    Returns:
        How many new ids took the mean of their neighbours' rows.
    """
    length_N = np.linalg.norm(content_NC.astype(np.float64), axis=1)
    old_O = np.flatnonzero((id_rows_N >= FIRST_ROW) & (id_rows_N < num_old_rows))
    new_E = np.flatnonzero((id_rows_N >= num_old_rows) & (length_N > 0))
    if not old_O.size or not new_E.size:
        return 0
    directions_NC = content_NC / np.where(length_N > 0, length_N, 1.0)[:, None]
    old_OC = directions_NC[old_O]
    step = max(1, CELLS // len(old_O))
    for start in range(0, len(new_E), step):
        some = new_E[start : start + step]
        nearest = _best((directions_NC[some] @ old_OC.T).astype(np.float32), min(NEIGHBOURS, len(old_O)))
        rows = table_VW[id_rows_N[old_O[nearest]]].astype(np.float64)
        table_VW[id_rows_N[some]] = rows.mean(axis=1).astype(np.float32)
    return len(new_E)


def _best(cosines_EO: Float32Array, count: int) -> Int64Array:
    """Places of the `count` largest of each row [E, count], ascending by place; ties go to the smaller place."""
    last_E1 = -np.partition(-cosines_EO, count - 1, axis=1)[:, count - 1 : count]
    above_EO: BoolArray = cosines_EO > last_E1
    equal_EO: BoolArray = cosines_EO == last_E1
    room_E1 = count - above_EO.sum(axis=1, keepdims=True)
    chosen_EO = above_EO | (equal_EO & (np.cumsum(equal_EO, axis=1) <= room_E1))
    return np.nonzero(chosen_EO)[1].reshape(len(cosines_EO), count)
