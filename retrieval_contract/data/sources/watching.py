"""What a request knows of its viewer's past: running numbers over earlier rows only.

Letters: R rows.
"""

import numpy as np

from retrieval_contract.arrays import Int64Array
from retrieval_contract.data.sources.population import Float64Array

WEEK = 7 * 86_400


def running_numbers(
    query_rows: Int64Array, times: Int64Array, watched_seconds: Float64Array
) -> tuple[Float64Array, Int64Array]:
    """Average watch time, and videos watched in 7 days, as of each row's time.

    A row counts for others of its query from the next second on: neither the row itself nor any of the same second is
    in its numbers.

    Args:
        query_rows: who [R].
        times: Unix seconds [R], in any order.
        watched_seconds: what each row adds [R].

    Returns:
        The mean of `watched_seconds` over all earlier rows, NaN where there is none, and the number of rows in the
        7 days before [R] each.
    """
    order = np.lexsort((times, query_rows))
    span = int(times.max() - times.min()) + WEEK + 1
    # One number for (query, time) whose windows never reach into another query's rows.
    keys = query_rows[order] * span + (times[order] - times.min() + WEEK)
    end = np.searchsorted(keys, keys, side="left")
    week = np.searchsorted(keys, keys - WEEK, side="left")
    first = np.searchsorted(keys, query_rows[order] * span, side="left")
    total = np.concatenate([[0.0], np.cumsum(watched_seconds[order])])
    count = end - first
    mean, recent = np.full(len(times), np.nan), np.empty(len(times), np.int64)
    mean[order] = np.where(count > 0, (total[end] - total[first]) / np.maximum(count, 1), np.nan)
    recent[order] = end - week
    return mean, recent
