"""Numeric features: how train rows scale a number or cut its range into buckets, and what comes out.

Letters: R rows, T train values.
"""

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import AnyArray, BoolArray, Int32Array, Int64Array
from retrieval_contract.config import NumericFeature
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW
from retrieval_contract.errors import UserError

Float64Array = NDArray[np.float64]
LARGEST_SCALED = 10_000.0
"""What is scaled is cut off here."""
LARGEST_RAW = float(np.finfo(np.float32).max)
TODO_UNITS = "give them in a larger unit"


def fit_numeric(
    spec: NumericFeature, values_R: Float64Array, present_R: BoolArray, counts_R: Int64Array, *, where: str
) -> FittedFeature:
    """Learn a scale, or the edges of buckets, from the values that train rows hold.

    Args:
        spec: the feature.
        values_R: finite numbers.
        present_R: True where there is one.
        counts_R: train rows behind each.
        where: table and column, for errors.

    Raises:
        UserError: the numbers are too large for a mean, a deviation or a range in float64.
    """
    trained_R = present_R & (counts_R > 0)
    values_T, counts_T = distinct(values_R[trained_R], counts_R[trained_R])
    if spec.scaling == "buckets":
        return FittedFeature(spec=spec, edges=spec.edges)
    if spec.scaling == "quantiles":
        return FittedFeature(spec=spec, edges=_quantiles(values_T, counts_T, spec.num_quantiles))
    if spec.scaling == "log_z_score":
        values_T = _signed_log(values_T)
    mean, std = moments(values_T, counts_T, where=where, needs_std=spec.scaling in ("z_score", "log_z_score"))
    if spec.scaling != "min_max":
        missing = float(np.clip(mean, -LARGEST_RAW, LARGEST_RAW)) if spec.scaling == "raw" else 0.0
        missing = missing if spec.missing == "mean" else 0.0
        return FittedFeature(spec=spec, mean=mean, std=std, missing_value=missing)
    low, high = (float(values_T[0]), float(values_T[-1])) if values_T.size else (0.0, 0.0)
    if not np.isfinite(high - low):
        raise UserError("numbers too large to scale", where=where, todo=TODO_UNITS)
    missing = (mean - low) / (high - low) if high > low and spec.missing == "mean" else 0.0
    return FittedFeature(spec=spec, mean=mean, low=low, high=high, missing_value=missing)


def encode_numeric(feature: FittedFeature, values_R: Float64Array, present_R: BoolArray) -> AnyArray:
    """Scale numbers, or find their buckets.

    Args:
        feature: a fitted numeric feature.
        values_R: finite numbers.
        present_R: True where there is one.

    Returns:
        Buckets and quantiles: rows int32 [R], 2 + the number of edges at or below the value, 1 where missing. Others:
        float32 [R], or with a missing flag [R, 2]; computed in float64 and rounded once.
    """
    spec = feature.spec
    assert isinstance(spec, NumericFeature)
    if spec.is_bucketised:
        return _bucket_rows(feature.edges, values_R, present_R)
    scaled_R = np.where(present_R, _scaled(feature, spec, values_R), feature.missing_value).astype(np.float32)
    return np.stack([scaled_R, (~present_R).astype(np.float32)], axis=1) if spec.missing_flag else scaled_R


def distinct(values: Float64Array, counts: Int64Array) -> tuple[Float64Array, Int64Array]:
    """Rising values, each once, with its count summed: what follows depends on no order of rows."""
    if not values.size:
        return values, counts
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return values[starts], np.add.reduceat(counts, starts)


def moments(values_T: Float64Array, counts_T: Int64Array, *, where: str, needs_std: bool = True) -> tuple[float, float]:
    """Mean and population standard deviation over train rows; (value, 0) for a constant, (0, 0) for nothing.

    Args:
        values_T: rising values.
        counts_T: train rows behind each, 1 or more.
        where: table and column, for errors.
        needs_std: without it, 0 stands for the deviation.

    Raises:
        UserError: one of them is no finite number.
    """
    if not values_T.size:
        return 0.0, 0.0
    # A rounded mean of equal values may differ from them, and a tiny std would then blow the difference up.
    if values_T[0] == values_T[-1]:
        return float(values_T[0]), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(values_T, weights=counts_T)
        std = np.sqrt(np.average((values_T - mean) ** 2, weights=counts_T)) if needs_std else np.float64(0)
    if not (np.isfinite(mean) and np.isfinite(std)):
        raise UserError("numbers too large to scale", where=where, todo=TODO_UNITS)
    return float(mean), float(std)


def z_scores(values: Float64Array, mean: float, std: float) -> Float64Array:
    """`(x - mean) / std`, cut off at 10,000 to both sides; zeros where std is 0."""
    if std == 0:
        return np.zeros_like(values)
    with np.errstate(over="ignore"):
        return np.clip((values - mean) / std, -LARGEST_SCALED, LARGEST_SCALED)


def _scaled(feature: FittedFeature, spec: NumericFeature, values_R: Float64Array) -> Float64Array:
    if spec.scaling == "raw":
        return np.clip(values_R, -LARGEST_RAW, LARGEST_RAW)
    if spec.scaling == "min_max":
        if feature.low == feature.high:
            return np.zeros_like(values_R)
        return (np.clip(values_R, feature.low, feature.high) - feature.low) / (feature.high - feature.low)
    values_R = _signed_log(values_R) if spec.scaling == "log_z_score" else values_R
    return z_scores(values_R, feature.mean, feature.std)


def _signed_log(values: Float64Array) -> Float64Array:
    return np.sign(values) * np.log1p(np.abs(values))


def _bucket_rows(edges: tuple[float, ...], values_R: Float64Array, present_R: BoolArray) -> Int32Array:
    buckets_R = np.searchsorted(np.array(edges, np.float64), values_R, side="right")
    return np.where(present_R, FIRST_ROW + buckets_R, UNKNOWN_ROW).astype(np.int32)


def _quantiles(values_T: Float64Array, counts_T: Int64Array, num_quantiles: int) -> tuple[float, ...]:
    """Edges between buckets of equally many rows: edge i is the value of sorted row floor(i R / n), from 0.

    Equal edges count once, and none lies at the least value, whose bucket would be empty before it.
    """
    if not values_T.size:
        return ()
    ends_T = np.cumsum(counts_T)
    rows = np.arange(1, num_quantiles) * int(ends_T[-1]) // num_quantiles
    places = np.unique(np.searchsorted(ends_T, rows, side="right"))
    return tuple(values_T[places[places > 0]].tolist())
