"""Rows to train, validation and test: all rows are divided, though only positives become targets."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_contract.arrays import Int64Array, Interactions, Split
from retrieval_contract.config import SplitRule
from retrieval_contract.data.columns import as_text, column_of, refuse_rows
from retrieval_contract.errors import UserError

PARTS = ("train", "validation", "test")
"""Names of the parts; a part is stored as its place here."""
TRAIN, VALIDATION, TEST = np.int8(0), np.int8(1), np.int8(2)
Parts = NDArray[np.int8]


def split_interactions(interactions: Interactions, rule: SplitRule) -> Split:
    """Divide all rows.

    * temporal: two cuts in time for everybody; rows of one moment stay together, so that every train row is earlier
      than every validation row, and those earlier than every test row. Each cut is the change of time nearest to the
      configured share of rows.
    * leave_one_out: per query, in order of time and then of the source, the last positive is test and the last but one
      validation; a row that is no positive goes with the positive before it. A query of fewer than 3 positives trains.
      With a validation_fraction of 0 the last but one trains too.
    * random: a draw keyed by `rule.seed`, exact in number.
    * column: as the column says.

    Args:
        interactions: all rows.
        rule: the rule.

    Returns:
        Places in the interactions.

    Raises:
        UserError: an empty train or test part, a temporal split of rows without timestamps, a column that is absent
            or holds other words.
    """
    divide = {"temporal": _temporal, "leave_one_out": _leave_one_out, "random": _random, "column": _column}[rule.kind]
    parts = divide(interactions, rule)
    places = {name: np.flatnonzero(parts == part) for part, name in enumerate(PARTS)}
    for name in ("train", "test"):
        if not places[name].size:
            raise UserError(
                f"the {rule.kind} split leaves no row for {name}",
                where=f"split of {len(parts):,} rows",
                todo=_HOW_TO_FILL[rule.kind],
            )
    return Split(**places)


_HOW_TO_FILL = {
    "temporal": "change the fractions; rows of one moment are never divided, so there must be several moments",
    "leave_one_out": "some query needs 3 positives or more; use random or temporal",
    "random": "change the fractions, or give more rows",
    "column": "the column must say train and test for some rows each",
}


def _temporal(interactions: Interactions, rule: SplitRule) -> Parts:
    if not interactions.has_timestamps:
        raise UserError(
            "a temporal split needs timestamps, and the source has only an order",
            where="split.kind",
            todo="use leave_one_out or random",
        )
    times = np.sort(interactions.times)
    test_at, validation_at = _wanted_places(len(times), rule)
    parts = np.full(len(times), TRAIN)
    for wanted, part in ((validation_at, VALIDATION), (test_at, TEST)):
        place = _nearest_change(times, wanted)
        if place < len(times):
            parts[interactions.times >= times[place]] = part
    return parts


def _wanted_places(num_rows: int, rule: SplitRule) -> tuple[int, int]:
    """Where test and validation begin when rows stand in order."""
    test_at = num_rows - max(1, round(num_rows * rule.test_fraction))
    return test_at, max(0, test_at - round(num_rows * rule.validation_fraction))


def _nearest_change(times: Int64Array, wanted: int) -> int:
    """Place nearest to `wanted` where sorted times change, an end of the rows only if they never do."""
    below = int(np.searchsorted(times, times[wanted], "left"))
    above = int(np.searchsorted(times, times[wanted], "right"))
    if below == 0 or above == len(times):
        return below or above
    return below if wanted - below <= above - wanted else above


def _leave_one_out(interactions: Interactions, rule: SplitRule) -> Parts:
    query_rows = interactions.query_rows
    # A stable sort: rows of one query and one moment keep the source's order.
    order = np.lexsort((interactions.times, query_rows))
    ordered_rows, positive = query_rows[order], interactions.positive[order]
    num_positives = np.bincount(query_rows[interactions.positive], minlength=int(query_rows.max()) + 1)
    before_query = np.concatenate([[0], np.cumsum(num_positives)])[ordered_rows]
    nth = np.cumsum(positive) - before_query
    from_end = num_positives[ordered_rows] - nth
    last_but_one = VALIDATION if rule.validation_fraction else TRAIN
    ordered_parts = np.select([from_end == 0, from_end == 1], [TEST, last_but_one], TRAIN)
    ordered_parts[num_positives[ordered_rows] < 3] = TRAIN
    parts = np.empty(len(order), np.int8)
    parts[order] = ordered_parts
    return parts


def _random(interactions: Interactions, rule: SplitRule) -> Parts:
    num_rows = len(interactions.times)
    # Raw Philox output is fixed by the algorithm; NumPy's own shuffles may change from version to version.
    draws = np.random.Philox(np.random.SeedSequence(rule.seed)).random_raw(num_rows)
    order = np.argsort(draws, kind="stable")
    test_at, validation_at = _wanted_places(num_rows, rule)
    parts = np.full(num_rows, TRAIN)
    parts[order[validation_at:]] = VALIDATION
    parts[order[test_at:]] = TEST
    return parts


def _column(interactions: Interactions, rule: SplitRule) -> Parts:
    where = f"interactions, column {rule.column}"
    column = column_of(interactions.table, rule.column, where="interactions", wanted_by="split.kind column")
    words = as_text(column, where=where)
    parts = pc.index_in(words, value_set=pa.array(PARTS))
    wrong = pc.is_null(parts).to_numpy()
    what = f"{words[int(wrong.argmax())].as_py()!r} is no part of a split" if wrong.any() else ""
    refuse_rows(wrong, what, where=where, todo=f"write one of {', '.join(PARTS)}")
    return parts.to_numpy().astype(np.int8)
