"""Training batches: equal to the byte in every process, and resumable at any step.

Letters: B examples in a batch, T train positives, N candidates.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from retrieval_contract.arrays import AnyArray, Batch, Float32Array, Int32Array, Int64Array
from retrieval_contract.config import RunConfig
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.data.vocabulary import UNKNOWN_ROW
from retrieval_contract.errors import UserError
from retrieval_contract.sampling.frequency import exact_log_q
from retrieval_contract.weights.names import Side

ORDER, UNKNOWN = 0, 1
"""Streams of random numbers; each is keyed by (seed, stream, ...), so that no draw depends on another's number."""


class TrainingBatches:
    """The train positives, in another order every epoch, cut into batches; the last, short batch is left out.

    Everything drawn is a function of (seed, epoch, step), so an epoch can be entered at any step. Fewer examples than
    a batch make one batch of all of them, and `notes` says so.
    """

    def __init__(self, prepared: PreparedData, config: RunConfig) -> None:
        """Gather what every epoch reads.

        Args:
            prepared: the run's data.
            config: the run; read are seed, training.batch_size, optimizer.accumulation_steps, loss.log_q and the
                features' unknown_rate.

        Raises:
            UserError: fewer batches in an epoch than one optimiser step takes, or unknown_rate where it has no meaning.
        """
        self._prepared, self._seed = prepared, config.seed
        train = prepared.train_positives
        self._query_rows: Int32Array = prepared.interactions.query_rows[train]
        self._candidate_rows: Int32Array = prepared.interactions.candidate_rows[train]
        self._weights: Float32Array = prepared.interactions.weights[train]
        self._history_ends = prepared.histories.own_ends if prepared.features.histories else None
        self._log_q_N = _log_q(prepared, config)
        self._unknown_rates = _unknown_rates(config)
        self._accumulation_steps = config.optimizer.accumulation_steps
        self.batch_size = min(config.training.batch_size, len(train))
        """Examples B in every batch."""
        self.notes: tuple[str, ...] = ()
        """Lines for the report's reader."""
        if self.batch_size < config.training.batch_size:
            lowered = f"batch size {config.training.batch_size:,} lowered to {self.batch_size:,}"
            self.notes = (f"{lowered}, the train positives there are",)
        if not self.steps_per_epoch:
            step = f"{self._accumulation_steps} batches of {self.batch_size:,}"
            raise UserError(
                f"{len(train):,} train positives are less than one step of {step}",
                where="training.batch_size, optimizer.accumulation_steps",
                todo="lower one of them",
            )

    @property
    def num_examples(self) -> int:
        """Train positives T."""
        return len(self._query_rows)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.num_examples // self.batch_size // self._accumulation_steps

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[tuple[Batch, ...]]:
        """Go through one epoch.

        Args:
            epoch: which, from 0; each has an order of its own.
            start_step: optimiser steps of this epoch to leave out, 0 to steps_per_epoch.

        Yields:
            The batches of one optimiser step.
        """
        assert 0 <= start_step <= self.steps_per_epoch
        order = self._order(epoch)
        for step in range(start_step, self.steps_per_epoch):
            draws = _stream(self._seed, UNKNOWN, epoch, step)
            first = step * self._accumulation_steps
            cuts = [(first + i) * self.batch_size for i in range(self._accumulation_steps)]
            yield tuple(self._batch(order[cut : cut + self.batch_size], draws) for cut in cuts)

    def _order(self, epoch: int) -> Int64Array:
        """Permutation of the examples [T]."""
        # Raw Philox output is fixed by the algorithm; NumPy's own shuffles may change from version to version.
        return np.argsort(_stream(self._seed, ORDER, epoch).random_raw(self.num_examples), kind="stable")

    def _batch(self, examples_B: Int64Array, draws: np.random.Philox) -> Batch:
        query_rows_B, candidate_rows_B = self._query_rows[examples_B], self._candidate_rows[examples_B]
        ends_B = None if self._history_ends is None else self._history_ends[examples_B]
        query_features = dict(self._prepared.query_features_at(query_rows_B, ends_B))
        catalogue = self._prepared.candidate_features()
        candidate_features = {name: np.take(values, candidate_rows_B, axis=0) for name, values in catalogue.items()}
        sides: dict[Side, dict[str, AnyArray]] = {"query": query_features, "candidate": candidate_features}
        for (side, name), rate in self._unknown_rates.items():
            sides[side][name][_uniform(draws, len(examples_B)) < rate] = UNKNOWN_ROW
        return Batch(
            query_features=query_features,
            candidate_features=candidate_features,
            query_rows=query_rows_B,
            candidate_rows=candidate_rows_B,
            log_q=self._log_q_N[candidate_rows_B],
            weights=self._weights[examples_B],
        )


def _stream(*keys: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence(keys))


def _uniform(draws: np.random.Philox, num: int) -> np.ndarray:
    """Numbers in [0, 1), by the usual 53 bits of the raw output."""
    return (draws.random_raw(num) >> np.uint64(11)) * 2.0**-53


def _log_q(prepared: PreparedData, config: RunConfig) -> Float32Array:
    """Correction of every candidate [N]; zeros where the loss asks for none."""
    counts_N = prepared.candidate_counts()
    assert (counts_N[prepared.interactions.candidate_rows[prepared.train_positives]] > 0).all()
    return exact_log_q(counts_N) if config.loss.log_q == "exact" else np.zeros(len(counts_N), np.float32)


def _unknown_rates(config: RunConfig) -> dict[tuple[Side, str], float]:
    """Share to replace by feature; only where one value stands for the whole feature is there something to replace."""
    query: Side = "query"
    candidate: Side = "candidate"
    features = chain(
        ((query, feature) for feature in config.query.features),
        ((candidate, feature) for feature in config.candidate.features),
    )
    rates: dict[tuple[Side, str], float] = {}
    for side, feature in features:
        if feature.unknown_rate and feature.kind not in ("id", "categorical"):
            raise UserError(
                f"unknown_rate of feature {feature.name!r} of kind {feature.kind}",
                where=f"{side}.features",
                todo="set it on features of kind id or categorical only",
            )
        if feature.unknown_rate:
            rates[side, feature.name] = feature.unknown_rate
    return rates
