"""What the items of a history carry: ids, fields of the candidates, ages, weights (`arrays.FeatureArrays`).

Letters: B targets, L history length, N candidates, M values of a field, n numbers of a field.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import AnyArray, FeatureArrays, Float32Array, Int32Array, Int64Array
from retrieval_contract.config import HistoryFeature, WeightedMeanPooling
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.histories import PastRows, Windows

HOUR, DAY = 3_600, 86_400
"""Seconds."""


@final
class HistoryItems:
    """One history feature over the rows of one `Histories`."""

    def __init__(
        self, feature: FittedFeature, histories: PastRows, candidate_ids: Sequence[str | None], catalogue: FeatureArrays
    ) -> None:
        """Look every row's id up once.

        Args:
            feature: a fitted history.
            histories: the rows it may hold.
            candidate_ids: raw ids of the catalogue [N].
            catalogue: encoded features of the candidates, leading dimension N.
        """
        assert isinstance(feature.spec, HistoryFeature)
        self._spec = feature.spec
        self._histories = histories
        rows_N = feature.rows_of(pa.array(candidate_ids, pa.string()))
        self._rows = rows_N[histories.candidate_rows]
        self._fields = {
            f"{self._spec.name}.{name}": _after_nothing(np.asarray(catalogue[name]))
            for field in self._spec.fields
            for name in (field, f"{field}.weights")
            if name in catalogue
        }

    @property
    def max_length(self) -> int:
        """The configured length L."""
        return self._spec.max_length

    def encode(self, windows: Windows, times: Int64Array) -> dict[str, AnyArray]:
        """Arrays of the histories of some targets.

        Args:
            windows: where the histories lie, of any length up to the room.
            times: moments of the targets, which ages count to [B].

        Returns:
            By name: the history itself, its fields, ages and weights as configured.
        """
        spec, histories = self._spec, self._histories
        arrays: dict[str, AnyArray] = {spec.name: windows.of(self._rows)}
        if self._fields:
            places_BL = windows.places(histories.candidate_rows)
            arrays |= {name: np.take(values, places_BL, axis=0) for name, values in self._fields.items()}
        half_life = getattr(spec.pooling, "half_life_days", None)
        if spec.age_buckets or half_life is not None:
            seconds_BL = times[:, None] - windows.of(histories.times, zeros=False)
        if spec.age_buckets:
            arrays[f"{spec.name}.ages"] = age_rows(seconds_BL, spec.age_buckets) * windows.real
        if isinstance(spec.pooling, WeightedMeanPooling):
            weights_BL = windows.of(histories.weights)
            arrays[f"{spec.name}.weights"] = (
                weights_BL if half_life is None else decayed(weights_BL, seconds_BL, half_life)
            )
        return arrays


def age_rows(seconds: Int64Array, num_buckets: int) -> Int32Array:
    """Rows of ages, `1 + min(floor(log2(1 + hours)), num_buckets - 1)`, of the same shape; anything for an age below 0.

    Args:
        seconds: ages.
        num_buckets: buckets, 1 or more.
    """
    # The exponent of a float64 is the floor of its log2. (s + 3600) / 3600 is no nearer than 1 / 3600 to a power of
    # two that it has not reached, far more than it is rounded by.
    exponents = np.divide(seconds + HOUR, float(HOUR)).view(np.int64)
    exponents >>= 52
    exponents -= 1_022
    return np.minimum(exponents, num_buckets, out=exponents).astype(np.int32)


def decayed(weights: Float32Array, seconds: Int64Array, half_life_days: float) -> Float32Array:
    """Weights times 0.5^(age / half-life), in float64, rounded once.

    Args:
        weights: of the items, 0 at padded places.
        seconds: their ages, of the same shape; one below 0, as padded places may have, counts as 0.
        half_life_days: days.
    """
    halvings = np.divide(seconds, -DAY * half_life_days)
    # 0 times infinity would be NaN.
    factors = np.exp2(np.minimum(halvings, 0.0, out=halvings), out=halvings)
    factors *= weights
    return factors.astype(np.float32)


def _after_nothing(values: AnyArray) -> AnyArray:
    """Put zeros before the candidates' values [N + 1]: what a padded place looks up (`Windows.places`)."""
    return np.concatenate([np.zeros((1, *values.shape[1:]), values.dtype), values])
