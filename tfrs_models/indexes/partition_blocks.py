"""The candidates' vectors in the order of their partitions, in few bytes: what a search reads.

float32   4 D bytes a candidate
bfloat16  rounded to 8 bits, 2 D bytes
int8      rounded to 255 steps between -1 and 1 times the largest number of each dimension, D bytes; the steps' widths
          are multiplied into the query, so that a search only converts

Letters: N candidates, D width, E blocks, R rows of a block.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from retrieval_contract.arrays import Float32Array
from tfrs_models.indexes.partitions import Partitions

Storage = Literal["float32", "bfloat16", "int8"]
LEVELS = 127
"""Largest code of int8; -128 is not used, so that codes are symmetric."""
CHUNK_BYTES = 16_000_000
"""Bound on each temporary array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Vectors of every place."""

    codes: NDArray[Any]
    """[E, R D], one row a block; what stands in filled-up places is any vector, and is not to be read."""
    scales: Float32Array
    """What a code of 1 means in each dimension [D]."""

    @classmethod
    def of(cls, values_ND: Float32Array, partitions: Partitions, storage: Storage) -> Self:
        """Lay vectors out as partitions say, rounded to the storage."""
        num_blocks, rows_in_block = partitions.rows.shape
        dim = values_ND.shape[1]
        scales_D = np.ones(dim, np.float32)
        if storage == "int8":
            largest_D = np.abs(values_ND).max(axis=0)
            scales_D = np.where(largest_D > 0, largest_D / LEVELS, 1).astype(np.float32)
        codes = np.empty((num_blocks, rows_in_block * dim), tf.as_dtype(storage).as_numpy_dtype)
        chunk = max(1, CHUNK_BYTES // (4 * codes.shape[1]))
        for start in range(0, num_blocks, chunk):
            here = slice(start, start + chunk)
            scaled_ERD = values_ND[partitions.rows[here]] / scales_D
            if storage == "int8":
                scaled_ERD = np.rint(scaled_ERD).clip(-LEVELS, LEVELS)
            codes[here] = scaled_ERD.reshape(len(scaled_ERD), -1).astype(codes.dtype)
        return cls(codes=codes, scales=scales_D)
