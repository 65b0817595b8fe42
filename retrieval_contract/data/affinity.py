"""How a query's past spreads over the values of a candidate feature: shares that sum to 1.

Letters: B targets, L candidates of the past that count, N candidates, M values of a candidate, W places of the
distribution, S most known values that a candidate has.
"""

from typing import final

import numpy as np

from retrieval_contract.arrays import FeatureArrays, Float32Array, Int32Array, Int64Array
from retrieval_contract.config import AffinityFeature
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.histories import PastRows, Windows
from retrieval_contract.data.vocabulary import FIRST_ROW


@final
class Affinity:
    """One affinity feature over the rows of one `Histories`.

    A candidate's weight is split evenly over its known values, a value as often as the list holds it; one without a
    known value does not count.
    """

    def __init__(self, feature: FittedFeature, histories: PastRows, catalogue: FeatureArrays) -> None:
        """Gather what each candidate counts for.

        Args:
            feature: a fitted affinity.
            histories: the rows that count.
            catalogue: encoded features of the candidates, leading dimension N.
        """
        assert isinstance(feature.spec, AffinityFeature)
        self._spec, self._histories = feature.spec, histories
        rows = np.asarray(catalogue[self._spec.of], np.int32)
        num_known_N, self._places_SN = _known_places(rows.reshape(len(rows), -1), self._spec.width)
        candidates = histories.candidate_rows
        # Of every sorted row: its weight for each of its values, and its first value, most often the only one.
        self._weights = histories.weights / np.maximum(num_known_N, 1)[candidates]
        self._first_places = self._places_SN[0][candidates]

    @property
    def name(self) -> str:
        """The config's name of the feature."""
        return self._spec.name

    @property
    def max_length(self) -> int:
        """Candidates of the past that count."""
        return self._spec.max_length

    def encode(self, windows: Windows) -> Float32Array:
        """Shares of some targets.

        Args:
            windows: where the pasts lie.

        Returns:
            [B, W], float64 rounded once; zeros where nothing counts.
        """
        num_rows, width = len(windows.begins), self._spec.width + 1
        # Padded places weigh nothing, whoever stands there.
        weights_BL = windows.of(self._weights)
        first_of_row = (np.arange(num_rows) * width)[:, None]
        sums = np.zeros(num_rows * width)
        for slot, places_N in enumerate(self._places_SN):
            if slot == 0:
                places_BL = windows.of(self._first_places, zeros=False)
            else:
                places_BL = places_N[windows.of(self._histories.candidate_rows, zeros=False)]
            places_BL += first_of_row
            sums += np.bincount(places_BL.reshape(-1), weights_BL.reshape(-1), minlength=len(sums))
        sums_BW = sums.reshape(-1, width)[:, :-1]
        totals_B1 = sums_BW.sum(axis=1, keepdims=True)
        return (sums_BW / np.where(totals_B1 > 0, totals_B1, 1.0)).astype(np.float32)


def _known_places(rows_NM: Int32Array, width: int) -> tuple[Int64Array, Int64Array]:
    """Number of known values of each candidate [N], and their places, one slot after the other [S, N].

    A slot that a candidate does not fill holds W, a place behind the last one, whose sum nobody reads.
    """
    known_NM = rows_NM >= FIRST_ROW
    assert rows_NM.max(initial=0) < width + FIRST_ROW, "an affinity has a place for each value"
    places_NM = np.where(known_NM, rows_NM.astype(np.int64) - FIRST_ROW, width)
    # Known ones first, in the order of the list.
    order_NM = np.argsort(~known_NM, axis=1, kind="stable")
    num_known_N = known_NM.sum(axis=1)
    num_slots = max(1, num_known_N.max(initial=0))
    return num_known_N, np.ascontiguousarray(np.take_along_axis(places_NM, order_NM, axis=1)[:, :num_slots].T)
