"""One replica's part of a batch: every replica is given the whole batch and takes its own rows.

Letters: B examples of the whole batch, b of one replica, E sampled and mined columns, X impressions of a row.
"""

from collections.abc import Mapping
from dataclasses import replace

from retrieval_contract.arrays import AnyArray, Batch, Impressions, KnownPositives
from retrieval_contract.errors import UserError


def shard(batch: Batch, replica: int, num_replicas: int) -> Batch:
    """Take the rows of one replica, in order: the shards put one behind the other are the batch.

    Sampled columns stay whole, because all replicas share them. So do the columns of `allowed` [b, B + E]: replicas
    gather each other's positives. Places of known positives count from the replica's first row.

    Args:
        batch: the whole batch.
        replica: whose rows, 0 to num_replicas - 1.
        num_replicas: replicas, 1 or more.

    Returns:
        Views of the batch's arrays wherever no place had to be moved.

    Raises:
        UserError: the batch cannot be divided evenly, or holds sequences (training.positions=all), whose rows are not
            equally many for all replicas.
    """
    assert 0 <= replica < num_replicas
    if batch.places is not None:
        raise UserError(
            f"a batch of sequences with {len(batch.places):,} places cannot be divided among {num_replicas} replicas",
            where="training.positions=all",
            todo="train in one process, or set training.positions=last",
        )
    size = len(batch.candidate_rows)
    if size % num_replicas:
        raise UserError(
            f"a batch of {size:,} cannot be divided evenly among {num_replicas} replicas",
            where="training.batch_size",
            todo=f"set a multiple of {num_replicas}; fewer train positives than a batch lower it",
        )
    rows = slice(replica * size // num_replicas, (replica + 1) * size // num_replicas)
    return replace(
        batch,
        query_features=_cut(batch.query_features, rows),
        candidate_features=_cut(batch.candidate_features, rows),
        query_rows=batch.query_rows[rows],
        candidate_rows=batch.candidate_rows[rows],
        log_q=batch.log_q[rows],
        weights=batch.weights[rows],
        impressions=None if batch.impressions is None else _impressions(batch.impressions, rows),
        known_positives=None if batch.known_positives is None else _known(batch.known_positives, rows),
        allowed=None if batch.allowed is None else batch.allowed[rows],
    )


def _cut(features: Mapping[str, AnyArray], rows: slice) -> dict[str, AnyArray]:
    return {name: values[rows] for name, values in features.items()}


def _impressions(impressions: Impressions, rows: slice) -> Impressions:
    num = impressions.rows.shape[1]
    return Impressions(
        features=_cut(impressions.features, slice(rows.start * num, rows.stop * num)),
        rows=impressions.rows[rows],
        log_q=impressions.log_q[rows],
        allowed=impressions.allowed[rows],
    )


def _known(known: KnownPositives, rows: slice) -> KnownPositives:
    begin, end = known.places.searchsorted([rows.start, rows.stop])
    return KnownPositives(
        places=known.places[begin:end] - known.places.dtype.type(rows.start), rows=known.rows[begin:end]
    )
