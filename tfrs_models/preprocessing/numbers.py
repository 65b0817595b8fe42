"""Numbers scaled, moments cut into parts, in the graph: float64 throughout, rounded to float32 once.

A missing number is NaN. Letters: B examples.
"""

import math

import tensorflow as tf

from retrieval_contract.config import NumericFeature, TimeFeature
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.numbers import LARGEST_RAW, LARGEST_SCALED
from retrieval_contract.data.times import CYCLES, DAY, HOUR, MONDAY
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW
from tfrs_models.preprocessing.rows import bucket_rows

LARGEST = tf.float64.max


def encode_numeric(feature: FittedFeature, values_B: tf.Tensor) -> tf.Tensor:
    """Scale numbers, or find their buckets.

    Args:
        feature: a fitted numeric feature.
        values_B: float64 [B]; NaN is missing, an infinity counts as a number beyond all others.

    Returns:
        Buckets and quantiles: rows int32 [B]. Others: float32 [B], or with a missing flag behind [B, 2].
    """
    spec = feature.spec
    assert isinstance(spec, NumericFeature)
    present_B = tf.logical_not(tf.math.is_nan(values_B))
    if spec.is_bucketised:
        return bucket_rows(values_B, present_B, feature.edges)
    values_B = _finite(values_B)
    missing = tf.constant(feature.missing_value, tf.float64)
    scaled_B = tf.cast(tf.where(present_B, _scaled(feature, spec, values_B), missing), tf.float32)
    if not spec.missing_flag:
        return scaled_B
    return tf.stack([scaled_B, tf.cast(tf.logical_not(present_B), tf.float32)], axis=1)


def encode_time(feature: FittedFeature, moments_B: tf.Tensor) -> tf.Tensor:
    """Cut moments into parts, or count an age.

    Args:
        feature: a fitted time feature.
        moments_B: Unix seconds, float64 [B]; NaN is missing.

    Returns:
        Hour and weekday: rows int32 [B], 1 where missing. Cycles: sine and cosine float32 [B, 2]; age float32 [B];
        zeros where missing.
    """
    spec = feature.spec
    assert isinstance(spec, TimeFeature)
    present_B = tf.logical_not(tf.math.is_nan(moments_B))
    moments_B = _finite(moments_B)
    if spec.num_values:
        # FloorDiv, and never floor(x / c): a graph's division by a constant is rewritten as multiplication by its
        # reciprocal, which stays below the whole number at some multiples of c.
        part_B = tf.math.floordiv(moments_B, HOUR if spec.part == "hour" else DAY)
        part_B = part_B + (0.0 if spec.part == "hour" else MONDAY / DAY)
        rows_B = tf.cast(tf.math.floormod(part_B, float(spec.num_values)), tf.int32) + FIRST_ROW
        return tf.where(present_B, rows_B, UNKNOWN_ROW)
    if spec.part == "age":
        days_B = tf.maximum(feature.reference_time - moments_B, 0.0) / DAY
        scores_B = _z_scores(tf.math.log1p(days_B), feature.mean, feature.std)
        return tf.cast(tf.where(present_B, scores_B, tf.zeros_like(scores_B)), tf.float32)
    offset, period = CYCLES[spec.part]
    angles_B = 2 * math.pi * (tf.math.floormod(moments_B + offset, period) / period)
    pairs_B2 = tf.stack([tf.sin(angles_B), tf.cos(angles_B)], axis=1)
    return tf.cast(tf.where(present_B[:, None], pairs_B2, tf.zeros_like(pairs_B2)), tf.float32)


def _finite(values_B: tf.Tensor) -> tf.Tensor:
    """NaN becomes 0, so that nothing computed from a missing value is NaN; an infinity the largest number."""
    values_B = tf.where(tf.math.is_nan(values_B), tf.zeros_like(values_B), values_B)
    return tf.clip_by_value(values_B, -LARGEST, LARGEST)


def _scaled(feature: FittedFeature, spec: NumericFeature, values_B: tf.Tensor) -> tf.Tensor:
    if spec.scaling == "raw":
        return tf.clip_by_value(values_B, -LARGEST_RAW, LARGEST_RAW)
    if spec.scaling == "min_max":
        if feature.low == feature.high:
            return tf.zeros_like(values_B)
        return (tf.clip_by_value(values_B, feature.low, feature.high) - feature.low) / (feature.high - feature.low)
    if spec.scaling == "log_z_score":
        values_B = tf.sign(values_B) * tf.math.log1p(tf.abs(values_B))
    return _z_scores(values_B, feature.mean, feature.std)


def _z_scores(values_B: tf.Tensor, mean: float, std: float) -> tf.Tensor:
    """`(x - mean) / std`, cut off; zeros where std is 0."""
    if std == 0:
        return tf.zeros_like(values_B)
    return tf.clip_by_value((values_B - mean) / std, -LARGEST_SCALED, LARGEST_SCALED)
