"""Features of requests: what was known when a query came, by row of the interactions, or not known at all.

Letters: R interactions, B rows asked for.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Final, final

import numpy as np

from retrieval_contract.arrays import AnyArray, FeatureArrays, Int32Array, Int64Array, Interactions
from retrieval_contract.config import CrossFeature, Side
from retrieval_contract.data.features import FittedFeatures

CONTEXT: Final = "context."
"""Before the names of the context tower's features, which stand among the query's."""


@final
class Requests:
    """Encodes the requests of a data set: the query tower's and the context tower's."""

    def __init__(self, features: FittedFeatures, interactions: Interactions, queries: FeatureArrays) -> None:
        """Nothing is encoded before it is asked for.

        Args:
            features: of the run.
            interactions: all rows R.
            queries: encoded features of the query entities, which crosses may name beside the request's.
        """
        self._features, self._interactions, self._queries = features, interactions, queries

    def known(self, places: Int64Array) -> dict[str, AnyArray]:
        """Features of the requests of some interactions.

        Args:
            places: in `interactions` [B].

        Returns:
            By name, those of the context tower with its prefix; leading dimension B.
        """
        return {name: np.take(values, places, axis=0) for name, values in self._of_all.items()}

    def unknown(self, query_rows: Int32Array, times: Int64Array | None) -> dict[str, AnyArray]:
        """Features of requests of which nothing is known, or the time alone.

        Args:
            query_rows: entity rows of the queries [B].
            times: Unix seconds [B], or None.
        """
        encoded = {side: self._features.encode_unknown_requests(side, len(query_rows), times) for side in self._sides}
        return self._named(encoded, query_rows)

    @property
    def _sides(self) -> tuple[Side, ...]:
        return ("query", "context")

    @cached_property
    def _of_all(self) -> dict[str, AnyArray]:
        """Features of every interaction's request, leading dimension R."""
        encoded = {side: self._features.encode_requests(side, self._interactions) for side in self._sides}
        return self._named(encoded, self._interactions.query_rows)

    def _named(self, encoded: Mapping[Side, FeatureArrays], query_rows: Int32Array) -> dict[str, AnyArray]:
        """Put the towers' features together, with crosses of request and entity."""
        mixed = self._mixed_crosses(encoded["query"], query_rows)
        context = {CONTEXT + name: values for name, values in encoded["context"].items()}
        return {**encoded["query"], **mixed, **context}

    def _mixed_crosses(self, encoded: FeatureArrays, query_rows: Int32Array) -> dict[str, AnyArray]:
        crosses = [feature.spec for feature in self._features.query if isinstance(feature.spec, CrossFeature)]
        mixed = [cross for cross in crosses if cross.name not in encoded and cross.name not in self._queries]
        parts = {name for cross in mixed for name in cross.of}
        ours = {name: encoded[name] for name in parts if name in encoded}
        theirs = {name: np.take(self._queries[name], query_rows) for name in parts if name in self._queries}
        found = self._features.encode_crosses("query", {**ours, **theirs})
        return {cross.name: found[cross.name] for cross in mixed}
