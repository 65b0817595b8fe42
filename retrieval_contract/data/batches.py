"""Training batches: equal to the byte in every process, and resumable at any step.

Letters: B rows of a batch (one for each example; with training.positions=all P, one for each place predicted), S its
examples, T train positives, N candidates, Q queries, M mined candidates of a query.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from retrieval_contract.arrays import (
    AnyArray,
    Batch,
    FeatureArrays,
    Float32Array,
    Impressions,
    Int32Array,
    Int64Array,
    SampledColumns,
)
from retrieval_contract.config import RunConfig
from retrieval_contract.data.ahead import made_ahead
from retrieval_contract.data.negatives import Moment, Negatives
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.data.sequences import Sequences, epoch_order, order_by_length
from retrieval_contract.data.unknowns import Unknowns
from retrieval_contract.errors import UserError
from retrieval_contract.sampling.streaming import StreamingFrequency
from retrieval_contract.sampling.streams import stream

ORDER, UNKNOWN = 0, 1
"""Streams of random numbers; each is keyed by (seed, stream, ...), so that no draw depends on another's number. More
stand in `negatives`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What the examples of a batch stand for."""

    train_rows: Int64Array
    """Train positive, 0 to T - 1, of each row [B]."""
    example_queries: Int32Array
    """Entity row of each example's query [S]."""
    query_features: dict[str, AnyArray]
    """Leading dimension S."""
    places: Int32Array | None
    """As in `Batch` [B]."""


class TrainingBatches:
    """The examples, in another order every epoch, cut into batches; the last, short batch is left out.

    An example is a train positive, or with training.positions=all a query's sequence (`Sequences`).

    Everything drawn is a function of (seed, epoch, step) and of what `set_mined` gave, so an epoch can be entered at
    any step. Two things go on from batch to batch, and a resumed run gives them back: the mined negatives, and the
    streaming estimator (`state`, `restore`), which counts a batch when it is made. Fewer examples than a batch make
    one batch of all of them, and `notes` says so.
    """

    def __init__(self, prepared: PreparedData, config: RunConfig) -> None:
        """Gather what every epoch reads.

        Args:
            prepared: the run's data.
            config: the run; read are seed, training.batch_size, optimizer.accumulation_steps, loss.log_q, negatives
                and the features' unknown_rate.

        Raises:
            UserError: fewer batches in an epoch than one optimiser step takes, unknown_rate where it has no meaning,
                or negatives that this data cannot serve (`Negatives`).
        """
        self._prepared, self._seed = prepared, config.seed
        train = prepared.train_positives
        self._query_rows: Int32Array = prepared.interactions.query_rows[train]
        self._candidate_rows: Int32Array = prepared.interactions.candidate_rows[train]
        self._weights: Float32Array = prepared.interactions.weights[train]
        self._times: Int64Array = prepared.interactions.times[train]
        self._sequences = _sequences(prepared, config) if config.training.positions == "all" else None
        self._ends = prepared.histories.own_ends if prepared.reads_past else None
        self._unknowns = Unknowns(config, prepared.features)
        self._accumulation_steps = config.optimizer.accumulation_steps
        self._sort_by_length = config.training.sort_by_length
        self.batch_size = min(config.training.batch_size, self.num_examples)
        """Examples S in every batch."""
        self.notes: tuple[str, ...] = tuple(_notes(prepared, config, self))
        """Lines for the report's reader."""
        if not self.steps_per_epoch:
            step = f"{self._accumulation_steps} batches of {self.batch_size:,}"
            raise UserError(
                f"{self.num_examples:,} {self._examples_are} are less than one step of {step}",
                where="training.batch_size, optimizer.accumulation_steps",
                todo="lower one of them",
            )
        self._negatives = Negatives(prepared, config, batch_size=self.batch_size, sequences=self._sequences)
        self._streaming = StreamingFrequency(config.loss.streaming) if config.loss.log_q == "streaming" else None

    @property
    def num_examples(self) -> int:
        """Train positives T, or sequences."""
        return len(self._query_rows) if self._sequences is None else self._sequences.num_examples

    @property
    def _examples_are(self) -> str:
        return "train positives" if self._sequences is None else "sequences"

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.num_examples // self.batch_size // self._accumulation_steps

    def epoch(self, epoch: int, *, start_step: int = 0, num_threads: int = 0) -> Iterator[tuple[Batch, ...]]:
        """Go through one epoch.

        Args:
            epoch: which, from 0; each has an order of its own.
            start_step: optimiser steps of this epoch to leave out, 0 to steps_per_epoch.
            num_threads: threads that make batches ahead of their turn, with the same bytes; 0 makes each when it is
                asked for, and so does the streaming estimator, which counts batches in order, whatever is said.

        Yields:
            The batches of one optimiser step.
        """
        assert 0 <= start_step <= self.steps_per_epoch
        order = self._order(epoch)

        def step_batches(step: int) -> tuple[Batch, ...]:
            draws = stream(self._seed, UNKNOWN, epoch, step)
            first = step * self._accumulation_steps
            cuts = [(first + i) * self.batch_size for i in range(self._accumulation_steps)]
            return tuple(
                self._batch(order[cut : cut + self.batch_size], draws, (epoch, step, place))
                for place, cut in enumerate(cuts)
            )

        steps = range(start_step, self.steps_per_epoch)
        if num_threads and self._streaming is None and steps:
            # What is gathered at the first batch and kept is gathered once, here.
            step_batches(steps[0])
        yield from made_ahead(step_batches, steps, num_threads=num_threads if self._streaming is None else 0)

    def set_mined(self, mined_QM: Int32Array | None) -> None:
        """Take hard negatives for the batches made from now on; None turns them off again.

        Args:
            mined_QM: entity rows of each query's mined candidates, known positives not among them, -1 where there is
                none. Without `negatives.mined` it changes nothing.
        """
        self._negatives.set_mined(mined_QM)

    def state(self) -> dict[str, AnyArray]:
        """Copy out what the batches made so far left behind: `sampling/...` of the streaming estimator, if it is on."""
        return {} if self._streaming is None else self._streaming.state()

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go on from a `state`.

        Raises:
            UserError: it is one of other settings.
        """
        if self._streaming is not None:
            self._streaming.restore(state)

    def _order(self, epoch: int) -> Int64Array:
        """Examples of the epoch in order; those of the short batch at the end are left out."""
        order, draws = epoch_order(self.num_examples, self._seed, ORDER, epoch)
        order = order[: self.steps_per_epoch * self._accumulation_steps * self.batch_size]
        if self._sequences is None or self._sort_by_length is None:
            return order
        lengths = self._sequences.lengths
        return order_by_length(
            order, lengths, batch_size=self.batch_size, num_batches=self._sort_by_length, draws=draws
        )

    def _batch(self, examples_S: Int64Array, draws: np.random.Philox, moment: Moment) -> Batch:
        chosen = self._chosen(examples_S)
        rows_B = chosen.train_rows
        query_rows_B, candidate_rows_B = self._query_rows[rows_B], self._candidate_rows[rows_B]
        candidate_features = self._features_of(candidate_rows_B)
        self._unknowns.replace(chosen.query_features, candidate_features, draws)
        column_rows_E = self._negatives.column_rows(chosen.example_queries, moment)
        log_q_N = self._negatives.log_q_N(len(rows_B))
        return Batch(
            query_features=chosen.query_features,
            candidate_features=candidate_features,
            query_rows=query_rows_B,
            candidate_rows=candidate_rows_B,
            log_q=self._positives_log_q(candidate_rows_B, log_q_N),
            weights=self._weights[rows_B],
            places=chosen.places,
            sampled=self._sampled(column_rows_E, log_q_N) if len(column_rows_E) else None,
            impressions=self._impressions(query_rows_B, candidate_rows_B, moment, log_q_N),
            known_positives=self._negatives.known_positives(query_rows_B, rows_B),
            allowed=self._negatives.allowed(self._times[rows_B], candidate_rows_B, column_rows_E),
        )

    def _chosen(self, examples_S: Int64Array) -> _Chosen:
        if self._sequences is None:
            query_rows = self._query_rows[examples_S]
            features = self._prepared.query_features_at(
                query_rows,
                None if self._ends is None else self._ends[examples_S],
                self._times[examples_S],
                self._prepared.train_positives[examples_S],
            )
            return _Chosen(train_rows=examples_S, example_queries=query_rows, query_features=features, places=None)
        cut = self._sequences.cut(examples_S)
        # Neither time nor request of a whole sequence means anything, and no feature of it asks for them.
        features = self._prepared.query_features_at(
            cut.query_rows, cut.history_ends, None, None, longest=cut.max_length
        )
        return _Chosen(
            train_rows=cut.targets, example_queries=cut.query_rows, query_features=features, places=cut.places
        )

    def _positives_log_q(self, candidate_rows_B: Int32Array, log_q_N: Float32Array) -> Float32Array:
        if self._streaming is None:
            return log_q_N[candidate_rows_B]
        self._streaming.update(candidate_rows_B)
        return self._streaming.log_q(candidate_rows_B)

    def _sampled(self, rows_E: Int32Array, log_q_N: Float32Array) -> SampledColumns:
        return SampledColumns(features=self._features_of(rows_E), rows=rows_E, log_q=log_q_N[rows_E])

    def _impressions(
        self, query_rows_B: Int32Array, candidate_rows_B: Int32Array, moment: Moment, log_q_N: Float32Array
    ) -> Impressions | None:
        drawn = self._negatives.impression_rows(query_rows_B, candidate_rows_B, moment)
        if drawn is None:
            return None
        rows_BX, allowed_BX = drawn
        return Impressions(
            features=self._features_of(rows_BX.reshape(-1)),
            rows=rows_BX,
            log_q=log_q_N[rows_BX],
            allowed=allowed_BX,
        )

    def _features_of(self, candidate_rows: Int32Array) -> dict[str, AnyArray]:
        """Encoded features of some candidates, copied, so that they may be written."""
        catalogue: FeatureArrays = self._prepared.candidate_features()
        return {name: np.take(values, candidate_rows, axis=0) for name, values in catalogue.items()}


def _notes(prepared: PreparedData, config: RunConfig, batches: TrainingBatches) -> Iterator[str]:
    if batches.batch_size < config.training.batch_size:
        lowered = f"batch size {config.training.batch_size:,} lowered to {batches.batch_size:,}"
        are = "train positives" if config.training.positions == "last" else "sequences"
        yield f"{lowered}, the {are} there are"
    if config.negatives.mask_not_yet_seen and not prepared.has_timestamps:
        yield "negatives.mask_not_yet_seen compares the source's order of rows, across queries, instead of times"


def _sequences(prepared: PreparedData, config: RunConfig) -> Sequences:
    """Sequences of the one history that training.positions=all goes with.

    Raises:
        UserError: no query has two train positives of different moments, or a setting that means one row a query.
    """
    (history,) = config.query.histories
    if history.age_buckets:
        raise UserError(
            f"history {history.name!r} has age_buckets={history.age_buckets}, and the age of an item differs for each "
            "place that is predicted",
            where="training.positions=all",
            todo="set age_buckets=0, or training.positions=last",
        )
    if config.negatives.bank.num_batches:
        raise UserError(
            f"negatives.bank.num_batches={config.negatives.bank.num_batches} keeps batches of equally many rows, and "
            "sequences differ in length",
            where="training.positions=all",
            todo="turn the bank off, or set training.positions=last",
        )
    sequences = Sequences(prepared.histories, history.max_length)
    if not sequences.num_examples:
        raise UserError(
            f"none of {len(prepared.queries.ids):,} queries has two train positives of different moments, so that "
            "nothing can be predicted from what came before",
            where="training.positions=all",
            todo="set training.positions=last, or give more rows",
        )
    return sequences
