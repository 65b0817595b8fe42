"""What queries are known by: rows of the past, and the features that are read from them.

Letters: B targets, L history length.
"""

from collections.abc import Sequence
from typing import final

from retrieval_contract.arrays import AnyArray, FeatureArrays, Int32Array, Int64Array, Interactions
from retrieval_contract.data.affinity import Affinity
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.histories import Histories, Windows
from retrieval_contract.data.items import HistoryItems


@final
class Past:
    """Histories and affinities over some rows of the interactions."""

    def __init__(
        self,
        features: FittedFeatures,
        interactions: Interactions,
        places: Int64Array,
        *,
        num_queries: int,
        candidate_ids: Sequence[str],
        catalogue: FeatureArrays,
    ) -> None:
        """Sort the rows; does it only once, for all histories.

        Args:
            features: of the run.
            interactions: all rows.
            places: those that are known, ascending.
            num_queries: queries that may be asked for.
            candidate_ids: raw ids of the catalogue [N].
            catalogue: encoded features of the candidates, leading dimension N.
        """
        lengths = [feature.max_length for feature in (*features.histories, *features.affinities)]
        self.rows = Histories(
            interactions.query_rows[places],
            interactions.candidate_rows[places],
            interactions.times[places],
            num_queries=num_queries,
            weights=interactions.weights[places],
            room=max(lengths, default=1),
        )
        """The rows, sorted."""
        self._histories = [HistoryItems(feature, self.rows, candidate_ids, catalogue) for feature in features.histories]
        self._affinities = [Affinity(feature, self.rows, catalogue) for feature in features.affinities]

    def encode(
        self, query_rows: Int32Array, ends: Int64Array, times: Int64Array, *, longest: int | None = None
    ) -> dict[str, AnyArray]:
        """Arrays of every history and affinity.

        Args:
            query_rows: entity rows [B].
            ends: where each past ends (`Histories.ends_before`) [B].
            times: moments of the targets, which ages count to [B].
            longest: length L of the histories instead of the configured one.

        Returns:
            By name, as `arrays` says, leading dimension B.
        """
        cut: dict[int, Windows] = {}

        def windows(length: int) -> Windows:
            if length not in cut:
                cut[length] = self.rows.windows(query_rows, ends, length)
            return cut[length]

        arrays: dict[str, AnyArray] = {}
        for history in self._histories:
            arrays |= history.encode(windows(longest or history.max_length), times)
        for affinity in self._affinities:
            arrays[affinity.name] = affinity.encode(windows(affinity.max_length))
        return arrays
