"""Training batches: equal to the byte in every process, and resumable at any step.

Letters: B examples in a batch, T train positives, N candidates, Q queries, M mined candidates of a query.
"""

from collections.abc import Iterator, Mapping

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
from retrieval_contract.config import CategoricalFeature, IdFeature, RunConfig, Side
from retrieval_contract.data.negatives import Moment, Negatives
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.data.vocabulary import UNKNOWN_ROW
from retrieval_contract.errors import UserError
from retrieval_contract.sampling.streaming import StreamingFrequency
from retrieval_contract.sampling.streams import stream, uniforms

ORDER, UNKNOWN = 0, 1
"""Streams of random numbers; each is keyed by (seed, stream, ...), so that no draw depends on another's number. More
stand in `negatives`."""


class TrainingBatches:
    """The train positives, in another order every epoch, cut into batches; the last, short batch is left out.

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
        self._history_ends = prepared.histories.own_ends if prepared.features.histories else None
        self._unknown_rates = _unknown_rates(config)
        self._accumulation_steps = config.optimizer.accumulation_steps
        self.batch_size = min(config.training.batch_size, len(train))
        """Examples B in every batch."""
        self.notes: tuple[str, ...] = tuple(_notes(prepared, config, self.batch_size))
        """Lines for the report's reader."""
        if not self.steps_per_epoch:
            step = f"{self._accumulation_steps} batches of {self.batch_size:,}"
            raise UserError(
                f"{len(train):,} train positives are less than one step of {step}",
                where="training.batch_size, optimizer.accumulation_steps",
                todo="lower one of them",
            )
        self._negatives = Negatives(prepared, config, batch_size=self.batch_size)
        self._streaming = StreamingFrequency(config.loss.streaming) if config.loss.log_q == "streaming" else None

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
            draws = stream(self._seed, UNKNOWN, epoch, step)
            first = step * self._accumulation_steps
            cuts = [(first + i) * self.batch_size for i in range(self._accumulation_steps)]
            yield tuple(
                self._batch(order[cut : cut + self.batch_size], draws, (epoch, step, place))
                for place, cut in enumerate(cuts)
            )

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
        """Permutation of the examples [T]."""
        # Raw Philox output is fixed by the algorithm; NumPy's own shuffles may change from version to version.
        return np.argsort(stream(self._seed, ORDER, epoch).random_raw(self.num_examples), kind="stable")

    def _batch(self, examples_B: Int64Array, draws: np.random.Philox, moment: Moment) -> Batch:
        query_rows_B, candidate_rows_B = self._query_rows[examples_B], self._candidate_rows[examples_B]
        ends_B = None if self._history_ends is None else self._history_ends[examples_B]
        query_features = dict(self._prepared.query_features_at(query_rows_B, ends_B))
        candidate_features = self._features_of(candidate_rows_B)
        sides: dict[Side, dict[str, AnyArray]] = {"query": query_features, "candidate": candidate_features}
        for (side, name), rate in self._unknown_rates.items():
            sides[side][name][uniforms(draws, len(examples_B)) < rate] = UNKNOWN_ROW
        column_rows_E = self._negatives.column_rows(query_rows_B, moment)
        return Batch(
            query_features=query_features,
            candidate_features=candidate_features,
            query_rows=query_rows_B,
            candidate_rows=candidate_rows_B,
            log_q=self._positives_log_q(candidate_rows_B),
            weights=self._weights[examples_B],
            sampled=self._sampled(column_rows_E) if len(column_rows_E) else None,
            impressions=self._impressions(query_rows_B, candidate_rows_B, moment),
            known_positives=self._negatives.known_positives(query_rows_B),
            allowed=self._negatives.allowed(self._times[examples_B], candidate_rows_B, column_rows_E),
        )

    def _positives_log_q(self, candidate_rows_B: Int32Array) -> Float32Array:
        if self._streaming is None:
            return self._negatives.log_q_N[candidate_rows_B]
        self._streaming.update(candidate_rows_B)
        return self._streaming.log_q(candidate_rows_B)

    def _sampled(self, rows_E: Int32Array) -> SampledColumns:
        return SampledColumns(features=self._features_of(rows_E), rows=rows_E, log_q=self._negatives.log_q_N[rows_E])

    def _impressions(
        self, query_rows_B: Int32Array, candidate_rows_B: Int32Array, moment: Moment
    ) -> Impressions | None:
        drawn = self._negatives.impression_rows(query_rows_B, candidate_rows_B, moment)
        if drawn is None:
            return None
        rows_BX, allowed_BX = drawn
        return Impressions(
            features=self._features_of(rows_BX.reshape(-1)),
            rows=rows_BX,
            log_q=self._negatives.log_q_N[rows_BX],
            allowed=allowed_BX,
        )

    def _features_of(self, candidate_rows: Int32Array) -> dict[str, AnyArray]:
        """Encoded features of some candidates, copied, so that they may be written."""
        catalogue: FeatureArrays = self._prepared.candidate_features()
        return {name: np.take(values, candidate_rows, axis=0) for name, values in catalogue.items()}


def _notes(prepared: PreparedData, config: RunConfig, batch_size: int) -> Iterator[str]:
    if batch_size < config.training.batch_size:
        lowered = f"batch size {config.training.batch_size:,} lowered to {batch_size:,}"
        yield f"{lowered}, the train positives there are"
    if config.negatives.mask_not_yet_seen and not prepared.has_timestamps:
        yield "negatives.mask_not_yet_seen compares the source's order of rows, across queries, instead of times"


def _unknown_rates(config: RunConfig) -> dict[tuple[Side, str], float]:
    """Share to replace by unknown, by feature."""
    return {
        (side, feature.name): feature.unknown_rate
        for side, tower in config.towers.items()
        for feature in tower.features
        if isinstance(feature, IdFeature | CategoricalFeature) and feature.unknown_rate
    }
