"""Time features: parts of a moment in UTC, its place in a cycle, and an entity's age.

With t in Unix seconds (float64): hour `floor(t / 3600) mod 24`; weekday `(floor(t / 86400) + 3) mod 7`, 0 is Monday;
the part of a cycle that is over `((t + offset) mod period) / period`, whose sine and cosine of 2 pi times it are given:
the day (86,400 s), the week from Monday on (604,800 s, offset 259,200 s), the year of 365.2425 days (31,556,952 s)
counted from 1970 on. Letters: R rows.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_contract.arrays import AnyArray, BoolArray, Int64Array
from retrieval_contract.config import TimeFeature
from retrieval_contract.data.columns import as_numbers
from retrieval_contract.data.feature_table import FeatureTable
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.numbers import Float64Array, distinct, moments, z_scores
from retrieval_contract.data.vocabulary import FIRST_ROW, UNKNOWN_ROW
from retrieval_contract.errors import UserError

HOUR, DAY = 3_600.0, 86_400.0
MONDAY = 3 * DAY
"""Added to a moment so that weeks begin on Monday: the first of January 1970 was a Thursday."""
CYCLES = {"hour_cycle": (0.0, DAY), "weekday_cycle": (MONDAY, 7 * DAY), "year_cycle": (0.0, 365.2425 * DAY)}
"""Offset and period of each cycle, in seconds."""


def moments_of(spec: TimeFeature, table: FeatureTable) -> tuple[Float64Array, BoolArray]:
    """Moments of a feature in Unix seconds [R], 0 where missing, and True where there is one [R].

    A column holds timestamps (without a zone they are UTC), dates, or Unix seconds as numbers; a request has the
    interaction's own time.

    Raises:
        UserError: a column of something else, or infinity in it.
    """
    if spec.at == "request":
        if table.times is None:
            return np.zeros(table.num_rows), np.zeros(table.num_rows, np.bool_)
        return table.times.astype(np.float64), np.ones(table.num_rows, np.bool_)
    column, where = table.column(spec), table.where(spec)
    if pa.types.is_temporal(column.type) and not (pa.types.is_time(column.type) or pa.types.is_duration(column.type)):
        micros = pc.cast(pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False), pa.int64())
        return pc.fill_null(micros, 0).to_numpy() / 1e6, pc.is_valid(micros).to_numpy()
    try:
        return as_numbers(column, where=where, nan_is_missing=True)
    except UserError as error:
        if "where numbers are needed" not in error.what:
            raise
        todo = "give timestamps, dates, or Unix seconds as numbers"
        raise UserError(f"{column.type} where feature {spec.name!r} needs moments", where=where, todo=todo) from None


def fit_time(
    spec: TimeFeature,
    moments_R: Float64Array,
    present_R: BoolArray,
    counts_R: Int64Array,
    *,
    reference_time: float,
    where: str,
) -> FittedFeature:
    """Learn an age's scale; of other parts nothing is learnt.

    Args:
        spec: the feature.
        moments_R: Unix seconds.
        present_R: True where there is one.
        counts_R: train rows behind each.
        reference_time: Unix second of the last train row.
        where: table and column, for errors.
    """
    if spec.part != "age":
        return FittedFeature(spec=spec)
    trained_R = present_R & (counts_R > 0)
    values_T, counts_T = distinct(_log_days(moments_R[trained_R], reference_time), counts_R[trained_R])
    mean, std = moments(values_T, counts_T, where=where)
    return FittedFeature(spec=spec, mean=mean, std=std, reference_time=reference_time)


def encode_time(feature: FittedFeature, moments_R: Float64Array, present_R: BoolArray) -> AnyArray:
    """Encode moments.

    Args:
        feature: a fitted time feature.
        moments_R: Unix seconds, finite.
        present_R: True where there is one.

    Returns:
        Hour and weekday: rows int32 [R], 2 + the part, 1 where missing. Cycles: sine and cosine, float32 [R, 2]. Age:
        float32 [R]. Zeros where missing.
    """
    spec = feature.spec
    assert isinstance(spec, TimeFeature)
    if spec.num_values:
        part_R = np.floor(moments_R / HOUR) if spec.part == "hour" else np.floor(moments_R / DAY) + MONDAY / DAY
        rows_R = FIRST_ROW + np.mod(part_R, spec.num_values)
        return np.where(present_R, rows_R, UNKNOWN_ROW).astype(np.int32)
    if spec.part == "age":
        scores_R = z_scores(_log_days(moments_R, feature.reference_time), feature.mean, feature.std)
        return np.where(present_R, scores_R, 0).astype(np.float32)
    offset, period = CYCLES[spec.part]
    angles_R = 2 * np.pi * (np.mod(moments_R + offset, period) / period)
    pairs_R2 = np.stack([np.sin(angles_R), np.cos(angles_R)], axis=1)
    return np.where(present_R[:, None], pairs_R2, 0).astype(np.float32)


def _log_days(moments_R: Float64Array, reference_time: float) -> Float64Array:
    """`log(1 + days before the reference time)`; what lies behind it is 0 days old."""
    return np.log1p(np.maximum(reference_time - moments_R, 0.0) / DAY)
