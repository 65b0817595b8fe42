"""One feature with what training rows taught about it: all that encoding it needs.

Letters: V vocabulary rows, T values.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pydantic
from pydantic import Field

from retrieval_contract.arrays import Int32Array
from retrieval_contract.config import (
    AffinityFeature,
    CrossFeature,
    Feature,
    HistoryFeature,
    LookupFeature,
    NumericFeature,
    Settings,
    TextFeature,
    TimeFeature,
)
from retrieval_contract.data.hashing import hashed_rows
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW, Vocabulary

Finite = Annotated[float, Field(allow_inf_nan=False)]


class FittedFeature(Settings):
    """One input, whole: its configuration and its fitted state."""

    spec: Feature
    """The configuration that it was fitted with."""
    values: tuple[str, ...] | None = None
    """The vocabulary in row order from row 2, of kinds that have one and do not hash: of a feature that shares a table
    that table's, of an affinity its `of` feature's, of a history the candidate ids'."""
    num_buckets: Annotated[int, Field(ge=1)] | None = None
    """Rows behind the first two where nothing is fitted: hash buckets (of a sharing feature its table's), token ids."""
    mean: Finite = 0.0
    """Numeric (of the number; with log_z_score of its logarithm) and age (of the logarithm): mean over train rows."""
    std: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """z-scores and age: standard deviation over train rows (population form); 0 makes every value 0."""
    low: Finite = 0.0
    """min_max: the least train value."""
    high: Finite = 0.0
    """min_max: the largest train value; equal to `low` it makes every value 0."""
    edges: tuple[Finite, ...] = ()
    """Buckets and quantiles: where each next bucket begins, rising; the row is 2 + searchsorted(edges, x, right)."""
    missing_value: Finite = 0.0
    """Numeric: what a missing value is after scaling."""
    reference_time: Finite = 0.0
    """Age: the Unix second that it is counted to, the last train row's."""
    tokenizer_sha256: str | None = None
    """Text with a tokenizer: digest of the file, which must be the same when rows are encoded."""

    @pydantic.model_validator(mode="after")
    def _state_is_whole(self) -> Self:
        name, kind = self.spec.name, self.spec.kind
        if _looks_up(self.spec) != ((self.values is None) != (self.num_buckets is None)):
            found = f"{'no' if self.values is None else 'a'} vocabulary and num_buckets {self.num_buckets}"
            raise ValueError(f"feature {name!r}: kind {kind} has {found}")
        if self.values is not None and len(set(self.values)) != len(self.values):
            raise ValueError(f"feature {name!r}: a value stands twice in the vocabulary")
        return self

    @property
    def name(self) -> str:
        """The config's name of the feature."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """The config's kind."""
        return self.spec.kind

    @property
    def max_length(self) -> int:
        """The config's number of values kept: multivalent, text, affinity, history."""
        length: int = getattr(self.spec, "max_length", 0)
        assert length
        return length

    @property
    def vocabulary(self) -> Vocabulary:
        """The values with their rows; only of features that have a vocabulary."""
        # A copy with other values carries along what its original had kept.
        if self._kept_vocabulary.values is not self.values:
            self.__dict__.pop("_kept_vocabulary", None)
        return self._kept_vocabulary

    @cached_property
    def _kept_vocabulary(self) -> Vocabulary:
        assert self.values is not None
        return Vocabulary(self.values)

    @property
    def num_rows(self) -> int:
        """Embedding rows V that it can be encoded to, padding and unknown included; 0 of one that gives numbers."""
        spec = self.spec
        if self.values is not None:
            return len(self.values) + FIRST_ROW
        if self.num_buckets is not None:
            return self.num_buckets + FIRST_ROW
        if isinstance(spec, NumericFeature) and spec.is_bucketised:
            return len(self.edges) + 1 + FIRST_ROW
        if isinstance(spec, TimeFeature) and spec.num_values:
            return spec.num_values + FIRST_ROW
        return 0

    def rows_of(self, values: pa.Array | pa.ChunkedArray) -> Int32Array:
        """Embedding row of each value, by vocabulary or by hash.

        Args:
            values: text [T]: values of the feature, or of a history the candidates' ids.

        Returns:
            Rows [T], 1 for unknown and missing ones; all 1 of a history without ids.
        """
        if self.num_buckets is not None:
            return hashed_rows(values, self.num_buckets)
        if self.values is None:
            return np.full(len(values), UNKNOWN_ROW, np.int32)
        return self.vocabulary.encode(values)


def _looks_up(spec: Feature) -> bool:
    """True where the state holds a vocabulary or a number of buckets."""
    if isinstance(spec, HistoryFeature):
        return spec.ids
    return isinstance(spec, LookupFeature | TextFeature | CrossFeature | AffinityFeature)


def difference(have: Feature, want: Feature) -> str:
    """The first field in which two features differ, with both values."""
    if (have.name, have.kind) != (want.name, want.kind):
        return f"{have.name!r} ({have.kind}) where the config has {want.name!r} ({want.kind})"
    path, first, second = _first_difference(have.model_dump(), want.model_dump())
    return f"{have.name!r} has {path} {first!r} where the config has {path} {second!r}"


def _first_difference(have: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[str, Any, Any]:
    field = next(name for name in [*have, *want] if have.get(name) != want.get(name))
    first, second = have.get(field), want.get(field)
    if isinstance(first, dict) and isinstance(second, dict):
        path, first, second = _first_difference(first, second)
        field = f"{field}.{path}"
    return field, first, second
