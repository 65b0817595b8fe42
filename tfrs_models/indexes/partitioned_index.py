"""Partitions searched in plain TensorFlow operations: what an export without a custom op answers by.

Letters: B queries, N candidates, D width, P partitions, C proposals, M rows forgotten.
"""

import dataclasses
import functools
import importlib.metadata
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import tensorflow as tf

from retrieval_contract import config
from retrieval_contract.arrays import BoolArray, Float32Array, Int32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.indexes.stored import StoredVectors
from tfrs_models.indexes.partition_blocks import Blocks
from tfrs_models.indexes.partition_scan import PartitionScan, Scored, best, proposals
from tfrs_models.indexes.partitions import Partitions, partition
from tfrs_models.indexes.principal_axes import Axes

FILE = "partitioned.npz"
LEAST_PER_ROOT, MOST_PER_ROOT, ROWS_EACH = 4, 8, 64
"""Partitions for each square root of N, and candidates that each should have between these bounds: small ones reach a
recall through fewer candidates (measured at 1 million: 0.95 through 12 thousand with 8, 31 thousand with 4), but each
costs a place in the search for the best ones, and its last block is half empty."""


def num_partitions(settings: config.Index, size: int) -> int:
    """Partitions to make of N candidates."""
    root = math.sqrt(size)
    usual = min(max(LEAST_PER_ROOT * root, size / ROWS_EACH), MOST_PER_ROOT * root)
    return min(settings.partitioned_partitions or round(usual), size)


def num_searched(settings: config.Index, partitions: int) -> int:
    """Partitions to search, at least."""
    return min(settings.partitioned_searched or round(math.sqrt(partitions)), partitions)


def structure(values_ND: Float32Array, settings: config.Index) -> tuple[Partitions, Blocks]:
    """Partition candidates and lay them out.

    Raises:
        UserError: only a part of the variance is to be kept, and no vectors to score by.
    """
    if settings.partitioned_variance < 1 and settings.store == "none":
        what = f"scores along a part of the axes are no inner products: share {settings.partitioned_variance}"
        raise UserError(what, where="index.partitioned_variance", todo="keep vectors (index.store), or set it to 1")
    partitions = partition(values_ND, num_partitions(settings, len(values_ND)))
    axes = Axes.principal(values_ND, settings.partitioned_variance)
    return partitions, Blocks.of(values_ND, partitions, settings.partitioned_storage, axes)


@final
class PartitionedIndex(Index):
    """k-means partitions, each a run of blocks; the ones that promise most to a query are copied out and scored.

    Two builds from the same vectors are the same. Rows can be forgotten, but none can be added.
    """

    backend: ClassVar[str] = "partitioned"
    masks: ClassVar[bool] = True
    _partitions: Partitions
    _scan: PartitionScan
    _proposals: Callable[..., Scored]
    _alone: Callable[..., Scored]

    def exported(self) -> tuple[PartitionScan, StoredVectors]:
        """Partitions and vectors, for a search that is exported; they are shared, and must not change then."""
        return self._scan, self._stored

    def _build(self, values_ND: Float32Array) -> None:
        self._take(*structure(values_ND, self.settings))

    def _propose(self, queries_BD: Float32Array, depth: int, allowed_N: BoolArray | None) -> TopK:
        searched = num_searched(self.settings, self._scan.num_partitions)
        depth = max(depth, min(self.settings.partitioned_rescore, self.size))
        number = self._scan.planned(searched, depth)
        with tf.device("/CPU:0"):
            if len(queries_BD) == 1 and allowed_N is None and not self._scan.is_deep(number):
                rows_C, scores_C = self._alone(tf.constant(queries_BD[0]), _scalar(number), _scalar(depth))
                return TopK(rows=rows_C.numpy()[None], scores=scores_C.numpy()[None])
            allowed = None if allowed_N is None else tf.constant(allowed_N)
            rows_BC, scores_BC = self._proposals(tf.constant(queries_BD), _scalar(depth), _scalar(searched), allowed)
        return TopK(rows=rows_BC.numpy(), scores=scores_BC.numpy())

    def _append(self, values_MD: Float32Array) -> bool:
        return False

    def _forget(self, rows_M: Int32Array) -> bool:
        left_ER = np.where(np.isin(self._partitions.rows, rows_M), np.int32(-1), self._partitions.rows)
        self._partitions = dataclasses.replace(self._partitions, rows=left_ER)
        self._scan.follow(self._partitions)
        return True

    def _structure_bytes(self) -> int:
        variables = sum(variable.shape.num_elements() * variable.dtype.size for variable in self._scan.variables)
        return variables + sum(array.nbytes for array in _fields(self._partitions).values())

    def _save(self, folder: Path) -> None:
        blocks = self._scan.blocks()
        codes = blocks.codes
        # NumPy's format knows no bfloat16.
        raw = codes.view(np.uint16) if codes.dtype.itemsize == 2 else codes
        laid_out = {"codes": raw, "scales": blocks.scales, **_fields(blocks.axes)}
        np.savez(folder / FILE, **_fields(self._partitions), **laid_out)

    def _load(self, folder: Path) -> None:
        with np.load(folder / FILE, allow_pickle=False) as file:
            arrays = dict(file)
        codes = arrays.pop("codes").view(tf.as_dtype(self.settings.partitioned_storage).as_numpy_dtype)
        axes = Axes(mean=arrays.pop("mean"), directions=arrays.pop("directions"))
        blocks = Blocks(codes=codes, scales=arrays.pop("scales"), axes=axes)
        self._take(Partitions(**arrays), blocks)

    def _take(self, partitions: Partitions, blocks: Blocks) -> None:
        self._partitions = partitions
        with tf.device("/CPU:0"):
            self._scan = PartitionScan(partitions, blocks)
        self._proposals = tf.function(functools.partial(proposals, self._scan), reduce_retracing=True)
        number = tf.TensorSpec([], tf.int32)
        query = tf.TensorSpec(blocks.axes.mean.shape, tf.float32)
        # Called as it is, without asking each time which trace fits: a third of a millisecond.
        self._alone = tf.function(self._some).get_concrete_function(query, number, number)

    def _some(self, query_D: tf.Tensor, number: tf.Tensor, depth: tf.Tensor) -> Scored:
        """Proposals for one query that few partitions are searched for; what `proposals` comes to there."""
        return best(self._scan.some(query_D, number, depth), depth, None)

    @classmethod
    def _versions(cls) -> Mapping[str, str]:
        return {"tensorflow": importlib.metadata.version("tensorflow")}


@functools.lru_cache(maxsize=64)
def _scalar(number: int) -> tf.Tensor:
    """A number as a tensor; the same few are asked for again and again."""
    return tf.constant(number)


def _fields(arrays: Partitions | Axes) -> dict[str, Any]:
    """Arrays by name; `dataclasses.asdict` would copy them."""
    return {field.name: getattr(arrays, field.name) for field in dataclasses.fields(arrays)}
