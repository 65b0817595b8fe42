"""Values replaced by unknown in training, so that the unknown row learns to live from the other features.

Letters: B rows of a batch.
"""

from typing import final

import numpy as np

from retrieval_contract.arrays import AnyArray
from retrieval_contract.config import CategoricalFeature, CrossFeature, IdFeature, RunConfig, Side
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.requests import CONTEXT
from retrieval_contract.data.vocabulary import UNKNOWN_ROW
from retrieval_contract.sampling.streams import uniforms


@final
class Unknowns:
    """Replaces the configured shares; a cross that names a replaced value becomes the unknown value's."""

    def __init__(self, config: RunConfig, features: FittedFeatures) -> None:
        """Read the rates.

        Args:
            config: the run.
            features: encode the crosses anew.
        """
        self._features = features
        self._rates = [
            (side, feature.name, feature.unknown_rate)
            for side, tower in config.towers.items()
            for feature in tower.features
            if isinstance(feature, IdFeature | CategoricalFeature) and feature.unknown_rate
        ]
        self._crosses = [
            (side, feature)
            for side, tower in config.towers.items()
            for feature in tower.features
            if isinstance(feature, CrossFeature)
            and any(side == where and name in feature.of for where, name, _ in self._rates)
        ]

    def replace(
        self,
        query_features: dict[str, AnyArray],
        candidate_features: dict[str, AnyArray],
        draws: np.random.Philox,
    ) -> None:
        """Write row 1 over the drawn values.

        Args:
            query_features: of a batch, the context tower's with their prefix; written to.
            candidate_features: of its positives; written to.
            draws: one number is read for each value that may be replaced.
        """
        for side, name, rate in self._rates:
            arrays, prefix = _arrays(side, query_features, candidate_features)
            values = arrays[prefix + name]
            values[uniforms(draws, len(values)) < rate] = UNKNOWN_ROW
        for side, cross in self._crosses:
            arrays, prefix = _arrays(side, query_features, candidate_features)
            parts = {name: arrays[prefix + name] for name in cross.of}
            arrays[prefix + cross.name] = self._features.encode_crosses(side, parts)[cross.name]


def _arrays(
    side: Side, query_features: dict[str, AnyArray], candidate_features: dict[str, AnyArray]
) -> tuple[dict[str, AnyArray], str]:
    """Where a tower's arrays stand, and what their names begin with."""
    if side == "candidate":
        return candidate_features, ""
    return query_features, CONTEXT if side == "context" else ""
