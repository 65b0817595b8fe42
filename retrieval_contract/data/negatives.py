"""What stands in a batch beside its positives, and what may not count: candidates as entity rows, and their log_q.

Letters: B examples in a batch, E sampled and mined columns, X impressions of a row, N candidates, Q queries, M mined
candidates of a query, T train positives.
"""

import numpy as np

from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, Int64Array, KnownPositives
from retrieval_contract.config import RunConfig
from retrieval_contract.data.grouped import GroupedCandidates
from retrieval_contract.data.histories import NOBODY
from retrieval_contract.data.negative_sources import (
    check_negatives,
    earlier_positives,
    first_train_times,
    impressions,
    known_positives,
    num_hard_columns,
)
from retrieval_contract.data.prepare import PreparedData
from retrieval_contract.data.sequences import Sequences
from retrieval_contract.sampling.proposals import (
    Proposal,
    mixture_log_q,
    popularity_probability,
    popularity_rows,
    uniform_probability,
    uniform_rows,
)
from retrieval_contract.sampling.streams import stream, uniforms

SAMPLED, MINED, IMPRESSIONS = 2, 3, 4
"""Streams of random numbers beside those of `batches`, each keyed by (seed, stream, *moment)."""
Moment = tuple[int, int, int]
"""Epoch, step of the epoch, batch of the step: which batch of the run."""


class Negatives:
    """Draws of the configured sources, masks, and the mixture's log_q; a function of (seed, moment) and `set_mined`."""

    def __init__(
        self,
        prepared: PreparedData,
        config: RunConfig,
        *,
        batch_size: int,
        sequences: Sequences | None = None,
    ) -> None:
        """Gather what every batch reads; only what is configured is computed.

        Args:
            prepared: the run's data.
            config: the run.
            batch_size: examples in every batch, which may be fewer than configured.
            sequences: the examples of training.positions=all. Counts are then of what sequences predict, because
                nothing else becomes a column; and a batch has other numbers of rows than of examples.

        Raises:
            UserError: whatever `check_negatives` refuses; impressions where nothing was shown and not taken.
        """
        check_negatives(prepared, config, batch_size=batch_size)
        self._settings, self._seed = config.negatives, config.seed
        self._corrected = config.loss.log_q in ("exact", "refined")
        self._batch_size = batch_size
        rows, train = prepared.interactions, prepared.train_positives
        if sequences is not None:
            train = train[sequences.targets]
        num_queries = len(prepared.queries.ids)
        self._positives_T = rows.candidate_rows[train]
        self._counts_N = np.bincount(self._positives_T, minlength=len(prepared.candidates.ids))
        self._num_rows_Q = np.bincount(rows.query_rows[train], minlength=num_queries)
        self._num_examples_Q = (
            self._num_rows_Q if sequences is None else np.bincount(sequences.query_rows, minlength=num_queries)
        )
        self._impressions = impressions(prepared) if self._settings.impressions else None
        self._known, self._num_earlier_T = self._known_lists(prepared)
        self._first_times_N = first_train_times(prepared) if self._settings.mask_not_yet_seen else None
        self._num_hard = num_hard_columns(config, batch_size=batch_size)
        self._mined: GroupedCandidates | None = None
        self._proposed = self._proposals()
        self._log_q: tuple[int, Float32Array] = (0, np.zeros(len(self._counts_N), np.float32))

    @property
    def num_columns(self) -> int:
        """Sampled and mined columns E of a batch."""
        return self._settings.sampled + self._settings.mined.per_example * self._batch_size

    def log_q_N(self, num_rows: int) -> Float32Array:
        """What to subtract for each candidate [N] in a batch of so many positives B.

        Zeros where the loss corrects nothing, or learns it from batches.
        """
        known_rows, log_q_N = self._log_q
        if not self._corrected or known_rows == num_rows:
            return log_q_N
        log_q_N = mixture_log_q(self._counts_N, num_positives=num_rows, proposals=self._proposed)
        # Both at once: batches of several sizes may be in the making.
        self._log_q = num_rows, log_q_N
        return log_q_N

    def set_mined(self, mined_QM: Int32Array | None) -> None:
        """Take hard negatives for the batches that follow; None goes back to columns drawn from the catalogue only.

        Args:
            mined_QM: entity rows of each query's mined candidates, -1 where there is none.
        """
        self._mined = None
        if mined_QM is not None and self._num_hard:
            assert mined_QM.ndim == 2 and len(mined_QM) == len(self._num_examples_Q)
            assert mined_QM.min(initial=0) >= NOBODY and mined_QM.max(initial=0) < len(self._counts_N)
            query_rows, places = np.nonzero(mined_QM != NOBODY)
            rows = mined_QM[query_rows, places]
            self._mined = GroupedCandidates(query_rows, rows, num_queries=len(mined_QM))
        self._proposed = self._proposals()
        self._log_q = (0, self._log_q[1])

    def column_rows(self, query_rows_B: Int32Array, moment: Moment) -> Int32Array:
        """Draw the sampled and mined columns of a batch.

        Args:
            query_rows_B: entity rows of the examples' queries.
            moment: which batch.

        Returns:
            Entity rows [E]: `negatives.sampled` from the catalogue; then `mined.per_example` x B, of which the first
            `hard_fraction` are mined once there is something mined, column k of them for example k mod B. A column
            whose query has nothing mined is drawn from the catalogue.
        """
        if not self.num_columns:
            return np.empty(0, np.int32)
        rows_E = self._catalogue_rows(stream(self._seed, SAMPLED, *moment))
        if self._mined is not None:
            # Empty lists fall back on the catalogue's draw, which is there already.
            queries = np.resize(query_rows_B, self._num_hard)
            draws = uniforms(stream(self._seed, MINED, *moment), self._num_hard)
            hard = self._mined.drawn(queries, draws)
            columns = rows_E[self._settings.sampled :][: self._num_hard]
            columns[hard != NOBODY] = hard[hard != NOBODY]
        return rows_E

    def impression_rows(
        self, query_rows_B: Int32Array, candidate_rows_B: Int32Array, moment: Moment
    ) -> tuple[Int32Array, BoolArray] | None:
        """Draw each row's impressions.

        Returns:
            Entity rows and allowed, both [B, X]; where a query has no impression, its positive stands in the place, not
            allowed, so that no other embedding counts as touched. None where impressions are off.
        """
        if self._impressions is None:
            return None
        num = self._settings.impressions
        draws = uniforms(stream(self._seed, IMPRESSIONS, *moment), num * len(query_rows_B))
        rows_BX = self._impressions.drawn(np.repeat(query_rows_B, num), draws).reshape(-1, num)
        allowed_BX = rows_BX != NOBODY
        return np.where(allowed_BX, rows_BX, candidate_rows_B[:, None]), allowed_BX

    def known_positives(self, query_rows_B: Int32Array, train_rows_B: Int64Array) -> KnownPositives | None:
        """Pairs of a batch to mask, or None where `mask_known_positives` is off.

        Args:
            query_rows_B: entity rows of the queries.
            train_rows_B: the train positive, 0 to T - 1, of each row.
        """
        if self._known is None:
            return None
        counts_B = None if self._num_earlier_T is None else self._num_earlier_T[train_rows_B]
        places, rows = self._known.pairs(query_rows_B, counts_B)
        return KnownPositives(places=places, rows=rows)

    def allowed(self, times_B: Int64Array, candidate_rows_B: Int32Array, column_rows_E: Int32Array) -> BoolArray | None:
        """True where a column's candidate had a train row by the example's time, or None where the mask is off.

        Args:
            times_B: moments of the examples.
            candidate_rows_B: entity rows of the positives.
            column_rows_E: entity rows of the sampled and mined columns.

        Returns:
            [B, B + E]; the own positive always counts, a candidate without any train row never.
        """
        if self._first_times_N is None:
            return None
        return self._first_times_N[np.concatenate([candidate_rows_B, column_rows_E])] <= times_B[:, None]

    def _known_lists(self, prepared: PreparedData) -> tuple[GroupedCandidates | None, Int64Array | None]:
        """Candidates to mask by query; and how many of its query's each train positive masks, where not all [T]."""
        if not self._settings.mask_known_positives:
            return None, None
        if self._settings.known_positives == "all":
            return known_positives(prepared), None
        return earlier_positives(prepared)

    def _catalogue_rows(self, draws: np.random.Philox) -> Int32Array:
        if self._settings.sampled_from == "uniform":
            return uniform_rows(draws, self.num_columns, num_candidates=len(self._counts_N))
        return popularity_rows(draws, self.num_columns, positives_T=self._positives_T)

    def _proposals(self) -> list[Proposal]:
        num_hard = 0 if self._mined is None else self._num_hard
        random_N = (
            uniform_probability(len(self._counts_N))
            if self._settings.sampled_from == "uniform"
            else popularity_probability(self._counts_N)
        )
        proposals = [Proposal(num_columns=self.num_columns - num_hard, probability=random_N)]
        if self._mined is not None:
            mined_N = self._mined.probability(self._num_examples_Q, num_candidates=len(self._counts_N))
            nothing_mined = self._share_of_examples(self._mined.empty)
            proposals.append(Proposal(num_columns=num_hard, probability=mined_N + nothing_mined * random_N))
        if self._impressions is not None:
            shown_N = self._impressions.probability(self._num_rows_Q, num_candidates=len(self._counts_N))
            proposals.append(Proposal(num_columns=self._settings.impressions, probability=shown_N))
        return proposals

    def _share_of_examples(self, chosen_Q: BoolArray) -> float:
        return float(self._num_examples_Q[chosen_Q].sum() / self._num_examples_Q.sum())
