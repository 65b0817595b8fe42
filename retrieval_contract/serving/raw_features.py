"""Raw features of requests, as JSON has them -> the arrays that the towers read (`retrieval_contract.arrays`).

The twin, in NumPy, of the preprocessing in an exported TensorFlow graph: inputs of the same names and meanings, and the
same arrays out. It goes through the encoders of training (`data.encoding`), and needs the fitted features alone, and
the catalogue where histories or affinities look candidates up: no source and no file. Letters: B rows, N candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import AnyArray, BoolArray, FeatureArrays, Int64Array
from retrieval_contract.config import (
    CategoricalFeature,
    DenseFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    Side,
    TextFeature,
    TimeFeature,
)
from retrieval_contract.data.encoding import encode_crosses, encode_lists
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.multivalent import Lists
from retrieval_contract.data.numbers import Float64Array, encode_numeric
from retrieval_contract.data.requests import CONTEXT
from retrieval_contract.data.texts import encode_text, rows_of_token_ids
from retrieval_contract.data.times import encode_time
from retrieval_contract.serving.raw_inputs import REQUEST_TIME, RawInput, inputs_of, raw_inputs
from retrieval_contract.serving.raw_pasts import RawPasts
from retrieval_contract.serving.raw_rows import MISSING_MOMENT, WHERE, ListForm, RawRows

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

    def encode(self, rows: Rows, *, num_rows: int | None = None, lists: ListForm = "padded") -> dict[str, AnyArray]:
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

    def encode(self, rows: Rows, *, num_rows: int | None = None, lists: ListForm = "padded") -> dict[str, AnyArray]:
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
        read = [(feature, inputs_of(feature, side)) for feature in self._features]
        self._read = [(feature, [names[raw] for raw in inputs]) for feature, inputs in read if inputs]

    def encode(self, rows: RawRows, moments_B: Int64Array) -> dict[str, AnyArray]:
        """Encode, in the features' order."""
        encoded: dict[str, AnyArray] = {}
        for feature, names in self._read:
            encoded |= _encode(feature, names, rows, self._side, moments_B)
        return _in_order(self._features, encoded | encode_crosses(self._features, encoded))


def _encode(
    feature: FittedFeature, names: Sequence[str], rows: RawRows, side: Side, moments_B: Int64Array
) -> dict[str, AnyArray]:
    """Encode one feature that is read from columns: as `data.encoding.encode`, where a table has been read already."""
    spec, name = feature.spec, names[0]
    if isinstance(spec, MultivalentFeature):
        return encode_lists(feature, _lists(spec, names, rows))
    return {spec.name: _encode_one(feature, name, rows, side, moments_B)}


def _encode_one(feature: FittedFeature, name: str, rows: RawRows, side: Side, moments_B: Int64Array) -> AnyArray:
    """The one array of a feature that is no list of values."""
    spec = feature.spec
    if isinstance(spec, IdFeature | CategoricalFeature):
        return feature.rows_of(pa.array(rows.texts(name), pa.string()))
    if isinstance(spec, DenseFeature):
        return rows.vectors(name)
    if isinstance(spec, TextFeature):
        return _encode_text(feature, spec, name, rows, side)
    if isinstance(spec, TimeFeature) and spec.at == "request":
        return encode_time(feature, *_known(moments_B.astype(np.float64), moments_B != MISSING_MOMENT))
    numbers_B = rows.numbers(name)
    known_B = _known(numbers_B, ~np.isnan(numbers_B))
    return encode_numeric(feature, *known_B) if isinstance(spec, NumericFeature) else encode_time(feature, *known_B)


def _encode_text(feature: FittedFeature, spec: TextFeature, name: str, rows: RawRows, side: Side) -> AnyArray:
    if spec.tokens == "tokenizer":
        tokens = rows.tokens(name)
        return rows_of_token_ids(feature, np.array(tokens.values, np.int64), tokens.lengths)
    table = pa.table({spec.column_name: pa.array(rows.texts(name), pa.string())})
    return encode_text(feature, FeatureTable(table=table, name=WHERE, side=side, num_rows=rows.num_rows))


def _lists(spec: MultivalentFeature, names: Sequence[str], rows: RawRows) -> Lists:
    """The first values of each list; a weight that is not known counts as 1."""
    given = rows.lists(*names)
    weights_T = None
    if given.beside:
        (found,) = given.beside
        known = np.ones(len(given.values)) if found is None else np.where(np.isnan(found), 1, found)
        weights_T = known.astype(np.float32)
    return Lists.first(pa.array(given.values, pa.string()), given.lengths, spec.max_length, weights_T)


def _known(values_B: Float64Array, present_B: BoolArray) -> tuple[Float64Array, BoolArray]:
    """Values, 0 where one is missing, and True where one is there."""
    return np.where(present_B, values_B, 0.0), present_B


def _request_times(rows: RawRows, names: Mapping[RawInput, str]) -> Int64Array:
    """Moments of the requests [B]; all missing where nothing looks at them."""
    if REQUEST_TIME not in names:
        return np.full(rows.num_rows, MISSING_MOMENT)
    return rows.moments(names[REQUEST_TIME])


def _in_order(features: Iterable[FittedFeature], encoded: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """The arrays in the order of the features, what belongs to one behind it."""
    places = {feature.name: place for place, feature in enumerate(features)}
    return {name: encoded[name] for name in sorted(encoded, key=lambda name: places[name.partition(".")[0]])}
