"""Raw features of requests, as JSON has them -> the arrays that the towers read (`retrieval_contract.arrays`).

The twin, in NumPy, of the preprocessing in an exported TensorFlow graph: inputs of the same names and meanings, and the
same arrays out. It goes through the encoders of training (`data.encoding`), and needs the fitted features alone, and
the catalogue where histories or affinities look candidates up: no source and no file. Letters: B rows, N candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import AnyArray, FeatureArrays, Int64Array
from retrieval_contract.config import DenseFeature, IdFeature, Side, TextFeature
from retrieval_contract.data.encoding import encode, encode_crosses
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.requests import CONTEXT
from retrieval_contract.data.texts import rows_of_token_ids
from retrieval_contract.serving.raw_inputs import REQUEST_TIME, RawInput, inputs_of, raw_inputs
from retrieval_contract.serving.raw_pasts import RawPasts
from retrieval_contract.serving.raw_rows import MISSING_MOMENT, WHERE, Lists, RawRows

Rows = Mapping[str, Sequence[Any]]
"""Fields by name, one value a row: text, numbers, booleans, lists; None where one is missing (`serving.raw_rows`)."""


@final
class RawQueryEncoder:
    """Encodes raw queries, with what belongs to the request and to the query's past."""

    def __init__(
        self,
        fitted: FittedFeatures,
        *,
        candidate_ids: Sequence[str] | None = None,
        candidate_features: FeatureArrays | None = None,
    ) -> None:
        """Build the tables.

        Args:
            fitted: the run's fitted features.
            candidate_ids: ids of the catalogue [N], which affinities and the fields of histories are looked up by;
                others need none.
            candidate_features: what `fitted.encode_entities("candidate", ...)` gave for them, leading dimension N.

        Raises:
            UserError: a history or an affinity needs the catalogue and it is not given; columns cannot be told apart.
        """
        self._fitted = fitted
        self.inputs: Mapping[str, RawInput] = raw_inputs(fitted, "query")
        """What may be given, by name, in the features' order."""
        self._names = {raw: name for name, raw in self.inputs.items()}
        self._towers = {side: _TowerColumns(fitted, side, self._names) for side in ("query", "context")}
        self._pasts = None
        if fitted.histories or fitted.affinities:
            unknown = RawCandidateEncoder(fitted).encode({}, num_rows=1)
            self._pasts = RawPasts(fitted, candidate_ids, candidate_features, unknown)

    def encode(self, rows: Rows, *, num_rows: int | None = None, lists: Lists = "padded") -> dict[str, AnyArray]:
        """Encode rows; what is left out, or None, is missing.

        Args:
            rows: fields by name, each with B values.
            num_rows: B; None takes it from the fields, of which there must be one then.
            lists: `padded` leaves empty texts out of lists, since clients of an exported model fill rectangles with
                them; `exact` takes them for values.

        Returns:
            Encoded features by name, in the config's order, those of the context tower as `context.<name>`.

        Raises:
            UserError: an unknown field, fields of several lengths, or a value that its field cannot have: of another
                type, a vector of another width, NaN or infinity. The field and the row are named.
        """
        given = RawRows(self.inputs, rows, num_rows=num_rows, lists=lists)
        moments_B = _request_times(given, self._names)
        encoded = self._towers["query"].encode(given, moments_B)
        if self._pasts is not None:
            encoded |= self._pasts.encode(given, self._names, moments_B)
        context = self._towers["context"].encode(given, moments_B)
        return _in_order(self._fitted.query, encoded) | {CONTEXT + name: values for name, values in context.items()}


@final
class RawCandidateEncoder:
    """Encodes raw candidates."""

    def __init__(self, fitted: FittedFeatures) -> None:
        """Find the columns.

        Args:
            fitted: the run's fitted features.

        Raises:
            UserError: columns cannot be told apart.
        """
        self.inputs: Mapping[str, RawInput] = raw_inputs(fitted, "candidate")
        """What may be given, by name, in the features' order."""
        self._names = {raw: name for name, raw in self.inputs.items()}
        self._tower = _TowerColumns(fitted, "candidate", self._names)

    def encode(self, rows: Rows, *, num_rows: int | None = None, lists: Lists = "padded") -> dict[str, AnyArray]:
        """Encode rows; arguments and faults as of `RawQueryEncoder.encode`."""
        given = RawRows(self.inputs, rows, num_rows=num_rows, lists=lists)
        return self._tower.encode(given, _request_times(given, self._names))


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows, one mapping of fields each, as columns; a field that a row does not have is missing there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


@final
class _TowerColumns:
    """Encodes the features of one tower that are read from columns, and their crosses."""

    def __init__(self, fitted: FittedFeatures, side: Side, names: Mapping[RawInput, str]) -> None:
        self._side, self._features = side, fitted.of(side)
        self._read = [
            (_without_file(feature), {raw.column: (raw, names[raw]) for raw in inputs})
            for feature in self._features
            if (inputs := inputs_of(feature, side))
        ]

    def encode(self, rows: RawRows, moments_B: Int64Array) -> dict[str, AnyArray]:
        """Encode, in the features' order."""
        encoded: dict[str, AnyArray] = {}
        for feature, columns in self._read:
            if isinstance(feature.spec, TextFeature) and feature.spec.tokens == "tokenizer":
                ((_, name),) = columns.values()
                tokens = rows.tokens(name)
                encoded[feature.name] = rows_of_token_ids(feature, np.array(tokens.values, np.int64), tokens.lengths)
            else:
                encoded |= encode(feature, self._table(feature, columns, rows, moments_B))
        return _in_order(self._features, encoded | encode_crosses(self._features, encoded))

    def _table(
        self, feature: FittedFeature, columns: Mapping[str, tuple[RawInput, str]], rows: RawRows, moments_B: Int64Array
    ) -> FeatureTable:
        """What one feature is read from, as a table of training."""
        arrays: dict[str, pa.Array] = {}
        ids: list[str | None] | None = None
        (column, (raw, name)), *beside = columns.items()
        if isinstance(feature.spec, IdFeature):
            ids = rows.texts(name)
        elif raw != REQUEST_TIME:
            arrays = _arrow_columns(raw.form, column, name, [(other, pair[1]) for other, pair in beside], rows)
        return FeatureTable(
            table=pa.table(arrays),
            name=WHERE,
            side=self._side,
            num_rows=rows.num_rows,
            ids=ids,
            times=moments_B,
            has_time=moments_B != MISSING_MOMENT,
        )


def _arrow_columns(
    form: str, column: str, name: str, beside: Sequence[tuple[str, str]], rows: RawRows
) -> dict[str, pa.Array]:
    if form == "text":
        return {column: pa.array(rows.texts(name), pa.string())}
    if form == "number":
        return {column: pa.array(rows.numbers(name))}
    if form == "vector":
        vectors_BD, present_B = rows.vectors(name)
        offsets = np.arange(len(vectors_BD) + 1, dtype=np.int32) * vectors_BD.shape[1]
        absent = pa.array(~present_B)
        return {column: pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors_BD.reshape(-1)), mask=absent)}
    given = rows.lists(name, *(other for _, other in beside))
    offsets = pa.array(np.append(0, np.cumsum(given.lengths)).astype(np.int32))
    arrays = {column: pa.ListArray.from_arrays(offsets, pa.array(given.values, pa.string()))}
    for (other, _), weights_T in zip(beside, given.beside, strict=True):
        # A weight that is not known counts as 1.
        filled_T = np.ones(len(given.values)) if weights_T is None else np.where(np.isnan(weights_T), 1, weights_T)
        arrays[other] = pa.ListArray.from_arrays(offsets, pa.array(filled_T, pa.float64()))
    return arrays


def _request_times(rows: RawRows, names: Mapping[RawInput, str]) -> Int64Array:
    """Moments of the requests [B]; all missing where nothing looks at them."""
    if REQUEST_TIME not in names:
        return np.full(rows.num_rows, MISSING_MOMENT)
    return rows.moments(names[REQUEST_TIME])


def _without_file(feature: FittedFeature) -> FittedFeature:
    """A dense feature's vectors come with the request, and zeros stand for one that does not."""
    if not isinstance(feature.spec, DenseFeature):
        return feature
    return feature.model_copy(update={"spec": feature.spec.model_copy(update={"file": None, "missing": "zeros"})})


def _in_order(features: Iterable[FittedFeature], encoded: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """The arrays in the order of the features, what belongs to one behind it."""
    places = {feature.name: place for place, feature in enumerate(features)}
    return {name: encoded[name] for name in sorted(encoded, key=lambda name: places[name.partition(".")[0]])}
