"""One fitted feature and the rows of a table -> the arrays that its tower reads (`arrays.FeatureArrays`).

Letters: R rows of the table.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import AnyArray, FeatureArrays
from retrieval_contract.config import (
    CategoricalFeature,
    CrossFeature,
    DenseFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    TextFeature,
    TimeFeature,
)
from retrieval_contract.data.crosses import cross_rows
from retrieval_contract.data.dense import encode_dense
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.multivalent import Lists, lists_of
from retrieval_contract.data.numbers import encode_numeric
from retrieval_contract.data.texts import encode_text
from retrieval_contract.data.times import encode_time, moments_of


def encode(feature: FittedFeature, table: FeatureTable) -> dict[str, AnyArray]:
    """Encode one feature that is read from a column; its array by name, and its weights' where it has some.

    Raises:
        UserError: the column is absent or holds something else.
    """
    spec = feature.spec
    if isinstance(spec, IdFeature):
        assert table.ids is not None, "an id is an entity's"
        return {spec.name: feature.rows_of(pa.array(table.ids, pa.string()))}
    if isinstance(spec, CategoricalFeature):
        return {spec.name: feature.rows_of(table.text(spec))}
    if isinstance(spec, MultivalentFeature):
        return encode_lists(feature, read_lists(spec, table))
    if isinstance(spec, NumericFeature):
        return {spec.name: encode_numeric(feature, *table.numbers(spec))}
    if isinstance(spec, TimeFeature):
        return {spec.name: encode_time(feature, *moments_of(spec, table))}
    if isinstance(spec, TextFeature):
        return {spec.name: encode_text(feature, table)}
    assert isinstance(spec, DenseFeature), f"{spec.kind} is read from no column"
    return {spec.name: encode_dense(spec, table)}


def encode_crosses(features: Sequence[FittedFeature], encoded: FeatureArrays) -> dict[str, AnyArray]:
    """Rows of each cross whose parts are all among `encoded`."""
    return {
        feature.name: _cross(feature.spec, encoded)
        for feature in features
        if isinstance(feature.spec, CrossFeature) and set(feature.spec.of) <= set(encoded)
    }


def in_order(features: Sequence[FittedFeature], encoded: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """The arrays in the order of the features, weights behind what they weigh."""
    names = [name for feature in features for name in (feature.name, weights_name(feature.name))]
    return {name: encoded[name] for name in names if name in encoded}


def read_lists(spec: MultivalentFeature, table: FeatureTable) -> Lists:
    """Values of a multivalent feature, end to end, and their weights.

    Raises:
        UserError: a column is absent, holds no lists, or the weights do not fit the values.
    """
    weights = None
    if spec.weights_column is not None:
        weights = table.column(spec.model_copy(update={"column": spec.weights_column}))
    return lists_of(table.column(spec), max_length=spec.max_length, where=table.where(spec), weights=weights)


def weights_name(feature: str) -> str:
    """Name of the array that weighs a feature's values."""
    return f"{feature}.weights"


def encode_lists(feature: FittedFeature, lists: Lists) -> dict[str, AnyArray]:
    """Rows of each list's values, padded, and their weights where they have some."""
    arrays: dict[str, AnyArray] = {feature.name: lists.padded(feature.rows_of(lists.values))}
    if lists.weights is not None:
        arrays[weights_name(feature.name)] = lists.padded(lists.weights)
    return arrays


def _cross(spec: CrossFeature, encoded: FeatureArrays) -> AnyArray:
    return cross_rows([encoded[name].astype(np.int64) for name in spec.of], spec.num_buckets)
