"""The candidates' vectors in the order of their partitions, in few bytes: what a search reads.

float32   4 C bytes a candidate
bfloat16  rounded to 8 bits, 2 C bytes
int8      rounded to 255 steps between -1 and 1 times the largest number of each dimension, C bytes; the steps' widths
          are multiplied into the query, so that a search only converts

Letters: N candidates, D width, C dimensions kept (all D, or principal axes), E blocks, R rows of a block.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array
from tfrs_models.indexes.partitions import Partitions
from tfrs_models.indexes.principal_axes import Axes

Storage = Literal["float32", "bfloat16", "int8"]
LEVELS = 127
"""Largest code of int8; -128 is not used, so that codes are symmetric."""
CHUNK_BYTES = 16_000_000
"""Bound on each temporary array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Vectors of every place."""

    codes: NDArray[Any]
    """[E, R C], one row a block; what stands in filled-up places is any vector, and is not to be read."""
    scales: Float32Array
    """What a code of 1 means in each dimension [C]."""
    axes: Axes
    """What the dimensions are."""

    @classmethod
    def of(cls, values_ND: Float32Array, partitions: Partitions, storage: Storage, axes: Axes | None = None) -> Self:
        """Lay vectors out as partitions say, along the axes (by default as they are), rounded to the storage."""
        axes = axes or Axes.all(values_ND.shape[1])
        num_blocks, rows_in_block = partitions.rows.shape
        num_kept = axes.directions.shape[1]
        scales_C = np.ones(num_kept, np.float32)
        if storage == "int8":
            largest_C = _largest(values_ND, axes)
            scales_C = np.where(largest_C > 0, largest_C / LEVELS, 1).astype(np.float32)
        codes = np.empty((num_blocks, rows_in_block * num_kept), tf.as_dtype(storage).as_numpy_dtype)
        chunk = max(1, CHUNK_BYTES // (4 * rows_in_block * values_ND.shape[1]))
        for start in range(0, num_blocks, chunk):
            here = slice(start, start + chunk)
            scaled_SC = axes.turned(values_ND[partitions.rows[here].reshape(-1)]) / scales_C
            if storage == "int8":
                scaled_SC = np.rint(scaled_SC).clip(-LEVELS, LEVELS)
            codes[here] = scaled_SC.reshape(-1, codes.shape[1]).astype(codes.dtype)
        return cls(codes=codes, scales=scales_C, axes=axes)


def _largest(values_ND: Float32Array, axes: Axes) -> Float32Array:
    """Largest size of any candidate's number in each dimension [C]."""
    chunk = max(1, CHUNK_BYTES // (4 * values_ND.shape[1]))
    starts = range(0, len(values_ND), chunk)
    parts = [np.abs(axes.turned(values_ND[start : start + chunk])).max(axis=0) for start in starts]
    largest: Float32Array = np.max(parts, axis=0)
    return largest
