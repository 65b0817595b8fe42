"""Where negatives come from in the data, and settings of them that this data cannot serve.

Letters: N candidates, Q queries.
"""

import numpy as np
import scipy.sparse

from retrieval_contract.arrays import BoolArray, Int32Array, Int64Array
from retrieval_contract.config import RunConfig
from retrieval_contract.data.grouped import GroupedCandidates
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.errors import UserError


def known_positives(prepared: PreparedData) -> GroupedCandidates:
    """Distinct candidates that each query met as a train positive, ascending."""
    known = prepared.known_positives()
    query_rows = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
    return GroupedCandidates(query_rows, known.indices, num_queries=known.shape[0])


def earlier_positives(prepared: PreparedData) -> tuple[GroupedCandidates, Int64Array]:
    """Distinct candidates that each query met as a train positive, by the first time.

    Returns:
        The lists, and how many of its query's were met before the moment of each train positive [T].
    """
    histories = prepared.histories
    num_rows = len(histories.order)
    query_rows = np.repeat(np.arange(len(histories.starts) - 1), np.diff(histories.starts))
    candidate_rows = histories.candidate_rows[:num_rows]
    is_new = np.zeros(num_rows, np.bool_)
    is_new[np.unique(query_rows * len(prepared.candidates.ids) + candidate_rows, return_index=True)[1]] = True
    num_new = np.concatenate([[0], np.cumsum(is_new)])
    counts_T = np.empty(num_rows, np.int64)
    counts_T[histories.order] = num_new[histories.firsts] - num_new[histories.starts[query_rows]]
    lists = GroupedCandidates(query_rows[is_new], candidate_rows[is_new], num_queries=len(prepared.queries.ids))
    return lists, counts_T


def impressions(prepared: PreparedData) -> GroupedCandidates:
    """Candidates of each query's train rows that are no positives, less its known positives, in the source's order.

    A candidate shown several times stands there as often.

    Raises:
        UserError: there is none.
    """
    rows, train = prepared.interactions, prepared.split.train
    query_rows, candidate_rows = rows.query_rows[train], rows.candidate_rows[train]
    # Positive rows go too: each is of a pair that was taken.
    taken = _contains(prepared.known_positives(), query_rows, candidate_rows)
    if taken.all():
        raise UserError(
            f"no impression among {len(train):,} train rows: each is a positive, or of a candidate that its query also "
            "met as a positive",
            where="negatives.impressions",
            todo="set positives.rule so that some rows are no positives, or turn impressions off",
        )
    return GroupedCandidates(query_rows[~taken], candidate_rows[~taken], num_queries=len(prepared.queries.ids))


def _contains(matrix: scipy.sparse.csr_matrix, rows: Int32Array, columns: Int32Array) -> BoolArray:
    """True for pairs that a sorted matrix holds; one search, far faster than indexing the matrix."""
    num_columns = matrix.shape[1]
    held = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * num_columns + matrix.indices
    wanted = rows.astype(np.int64) * num_columns + columns
    # Closed with a number that is no pair, so that the search always points at something.
    held = np.append(held, -1)
    return held[np.searchsorted(held[:-1], wanted)] == wanted


def first_train_times(prepared: PreparedData) -> Int64Array:
    """Time of each candidate's first train row, positive or not [N]; the largest int64 where it has none."""
    rows, train = prepared.interactions, prepared.split.train
    first_N = np.full(len(prepared.candidates.ids), np.iinfo(np.int64).max)
    np.minimum.at(first_N, rows.candidate_rows[train], rows.times[train])
    return first_N


def num_hard_columns(config: RunConfig, *, batch_size: int) -> int:
    """Mined columns of a batch once there is something mined: `hard_fraction` of all, rounded (half to even)."""
    mined = config.negatives.mined
    return round(mined.hard_fraction * mined.per_example * batch_size)


def check_negatives(prepared: PreparedData, config: RunConfig, *, batch_size: int) -> None:
    """Refuse what this data cannot serve, before anything is trained.

    Args:
        prepared: the run's data.
        config: the run.
        batch_size: examples in every batch, which may be fewer than configured.

    Raises:
        UserError: a bank larger than the data; hard negatives from ranks that the catalogue does not have, or so few
            that they round to none; the mask by time where all train rows have the same time.
    """
    _check_bank(prepared, config)
    _check_mined(prepared, config, batch_size)
    if config.negatives.mask_not_yet_seen and np.ptp(prepared.interactions.times[prepared.split.train]) == 0:
        raise UserError(
            f"all {len(prepared.split.train):,} train rows have the same time, so that nothing comes before anything",
            where="negatives.mask_not_yet_seen",
            todo="give the source a timestamp or an order, or turn the mask off",
        )


def _check_bank(prepared: PreparedData, config: RunConfig) -> None:
    num_batches, batch_size = config.negatives.bank.num_batches, config.training.batch_size
    num_examples = len(prepared.train_positives)
    if num_batches * batch_size > num_examples:
        raise UserError(
            f"a bank of {num_batches:,} batches of {batch_size:,} is larger than the data: {num_examples:,} train "
            "positives, so that it would hold a candidate vector of the same example twice",
            where="negatives.bank.num_batches, training.batch_size",
            todo="lower one of them",
        )


def _check_mined(prepared: PreparedData, config: RunConfig, batch_size: int) -> None:
    mined, num_candidates = config.negatives.mined, len(prepared.candidates.ids)
    if not mined.per_example:
        return
    if mined.last_rank >= num_candidates:
        raise UserError(
            f"ranks {mined.first_rank:,} to {mined.last_rank:,} of a catalogue of {num_candidates:,} candidates leave "
            "none to be wrong",
            where="negatives.mined.last_rank",
            todo=f"set it below {num_candidates:,}",
        )
    if not num_hard_columns(config, batch_size=batch_size):
        raise UserError(
            f"a share of {mined.hard_fraction} of {mined.per_example * batch_size:,} columns rounds to no mined one",
            where="negatives.mined.hard_fraction",
            todo="raise it or negatives.mined.per_example, or set per_example to 0",
        )
