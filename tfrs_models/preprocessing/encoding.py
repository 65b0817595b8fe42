"""One fitted feature and the raw rows -> the tensors that its tower reads, as `retrieval_contract.arrays` says.

The twin of `retrieval_contract.data.encoding`, in the graph. Letters: B examples, M values of a list, D width.
"""

import tensorflow as tf

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
from retrieval_contract.data.encoding import weights_name
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.numbers import LARGEST_RAW
from retrieval_contract.serving.raw_inputs import RawInput, inputs_of
from retrieval_contract.serving.raw_rows import MISSING_MOMENT
from tfrs_models.preprocessing.inputs import RawRows
from tfrs_models.preprocessing.lists import padded
from tfrs_models.preprocessing.numbers import encode_numeric, encode_time
from tfrs_models.preprocessing.rows import HashedRows, VocabularyTable
from tfrs_models.preprocessing.texts import encode_text, encode_token_ids

Lookup = VocabularyTable | HashedRows


def lookup_of(feature: FittedFeature) -> Lookup | None:
    """The feature's vocabulary or hash, where it looks text up by itself."""
    if not isinstance(feature.spec, IdFeature | CategoricalFeature | MultivalentFeature):
        return None
    if feature.num_buckets is not None:
        return HashedRows(feature.num_buckets)
    return VocabularyTable(feature.vocabulary.values)


def encode(feature: FittedFeature, side: Side, lookup: Lookup | None, rows: RawRows) -> dict[str, tf.Tensor]:
    """Encode one feature that is read from columns; its tensor by name, and its weights' where it has some."""
    spec, inputs = feature.spec, inputs_of(feature, side)
    if isinstance(spec, MultivalentFeature):
        assert lookup is not None
        return _encode_lists(feature, spec, lookup, rows, inputs)
    if isinstance(spec, TextFeature) and spec.tokens == "tokenizer":
        return {spec.name: encode_token_ids(feature, rows.lists(*inputs)[0])}
    values = rows.column(*inputs)
    if isinstance(spec, NumericFeature):
        return {spec.name: encode_numeric(feature, values)}
    if isinstance(spec, TimeFeature):
        return {spec.name: encode_time(feature, seconds_of(values))}
    if isinstance(spec, TextFeature):
        return {spec.name: encode_text(feature, values)}
    if isinstance(spec, DenseFeature):
        return {spec.name: _vectors(values)}
    assert lookup is not None, f"{spec.kind} is read from no column"
    return {spec.name: lookup(values)}


def seconds_of(moments: tf.Tensor) -> tf.Tensor:
    """Unix seconds in float64, NaN where missing; numbers of an entity's column are already so."""
    if moments.dtype == tf.float64:
        return moments
    nan = tf.constant(float("nan"), tf.float64)
    return tf.where(moments == MISSING_MOMENT, nan, tf.cast(moments, tf.float64))


def list_weights(values: tf.RaggedTensor, weights: tf.RaggedTensor | None) -> tf.RaggedTensor:
    """Weights float32 of a list's values: 1 where none is given, or NaN; 0 for negative ones."""
    if weights is None:
        return values.with_flat_values(tf.ones_like(values.flat_values, tf.float32))
    flat = weights.flat_values
    flat = tf.where(tf.math.is_nan(flat), tf.ones_like(flat), tf.clip_by_value(flat, 0.0, LARGEST_RAW))
    return values.with_flat_values(tf.cast(flat, tf.float32))


def _encode_lists(
    feature: FittedFeature, spec: MultivalentFeature, lookup: Lookup, rows: RawRows, inputs: tuple[RawInput, ...]
) -> dict[str, tf.Tensor]:
    values, *weights = rows.lists(*inputs)
    encoded = {spec.name: padded(lookup(values), spec.max_length)}
    if weights:
        encoded[weights_name(spec.name)] = padded(list_weights(values, weights[0]), spec.max_length)
    return encoded


def _vectors(vectors_BD: tf.Tensor) -> tf.Tensor:
    """Vectors without infinities; zeros where one is missing."""
    missing_B = tf.reduce_any(tf.math.is_nan(vectors_BD), axis=1, keepdims=True)
    vectors_BD = tf.where(missing_B, tf.zeros_like(vectors_BD), vectors_BD)
    return tf.clip_by_value(vectors_BD, -LARGEST_RAW, LARGEST_RAW)
