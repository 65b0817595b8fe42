"""Batches and features as tensors: where NumPy arrays enter the stack."""

import dataclasses
from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

import numpy as np
import torch
from torch import Tensor

from retrieval_contract.arrays import (
    AnyArray,
    Batch,
    FeatureArrays,
    Impressions,
    KnownPositives,
    SampledColumns,
)
from retrieval_contract.errors import UserError

FeatureTensors = dict[str, Tensor]
"""Features by name, as `retrieval_contract.arrays` says: rows as int64, numbers floating."""


class SampledTensors(TypedDict):
    """`SampledColumns` as tensors."""

    features: FeatureTensors
    rows: Tensor
    log_q: Tensor


class ImpressionTensors(TypedDict):
    """`Impressions` as tensors."""

    features: FeatureTensors
    rows: Tensor
    log_q: Tensor
    allowed: Tensor


class KnownPositiveTensors(TypedDict):
    """`KnownPositives` as tensors."""

    places: Tensor
    rows: Tensor


class BatchTensors(TypedDict):
    """A `Batch` as tensors of one device; the fields have its names and shapes, and one that is None is absent."""

    query_features: FeatureTensors
    candidate_features: FeatureTensors
    query_rows: Tensor
    candidate_rows: Tensor
    log_q: Tensor
    weights: Tensor
    places: NotRequired[Tensor]
    sampled: NotRequired[SampledTensors]
    impressions: NotRequired[ImpressionTensors]
    known_positives: NotRequired[KnownPositiveTensors]
    allowed: NotRequired[Tensor]


def choose_device(device: str) -> torch.device:
    """Turn the configured device into torch's.

    Args:
        device: `auto` (a GPU where torch sees one), `cpu` or `cuda`.

    Raises:
        UserError: `cuda` where torch sees no GPU.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise UserError("device is cuda, but torch sees no GPU", where="training.device", todo="use auto or cpu")
    return torch.device("cuda" if has_gpu and device != "cpu" else "cpu")


def feature_tensors(
    features: FeatureArrays, *, dtype: str = "float32", device: torch.device | str = "cpu"
) -> FeatureTensors:
    """Copy encoded features into tensors.

    Args:
        features: arrays by name, integer (vocabulary rows) or floating.
        dtype: `float32` or `float64`, for the floating ones.
        device: where the tensors lie.

    Returns:
        The same names; integers as int64, which is what a sparse gradient's indices are made of.
    """
    return {name: _tensor(array, dtype, device) for name, array in features.items()}


def batch_tensors(batch: Batch, dtype: str = "float32", *, device: torch.device | str = "cpu") -> BatchTensors:
    """Copy a training batch into tensors; the arrays are not kept, so they may be read-only or written later.

    Args:
        batch: a batch of B examples.
        dtype: `float32` or `float64`, for everything that is not a row.
        device: where the tensors lie.
    """
    tensors = BatchTensors(
        query_features=feature_tensors(batch.query_features, dtype=dtype, device=device),
        candidate_features=feature_tensors(batch.candidate_features, dtype=dtype, device=device),
        query_rows=_tensor(batch.query_rows, dtype, device),
        candidate_rows=_tensor(batch.candidate_rows, dtype, device),
        log_q=_tensor(batch.log_q, dtype, device),
        weights=_tensor(batch.weights, dtype, device),
    )
    if batch.places is not None:
        tensors["places"] = _tensor(batch.places, dtype, device)
    if batch.sampled is not None:
        tensors["sampled"] = cast(SampledTensors, _bundle(batch.sampled, dtype, device))
    if batch.impressions is not None:
        tensors["impressions"] = cast(ImpressionTensors, _bundle(batch.impressions, dtype, device))
    if batch.known_positives is not None:
        tensors["known_positives"] = cast(KnownPositiveTensors, _bundle(batch.known_positives, dtype, device))
    if batch.allowed is not None:
        tensors["allowed"] = _tensor(batch.allowed, dtype, device)
    return tensors


def _bundle(
    arrays: SampledColumns | Impressions | KnownPositives, dtype: str, device: torch.device | str
) -> dict[str, Tensor | FeatureTensors]:
    """Tensors of a bundle by the names of its fields; features are a bundle in it."""
    values = {field.name: getattr(arrays, field.name) for field in dataclasses.fields(arrays)}
    return {
        name: feature_tensors(value, dtype=dtype, device=device)
        if isinstance(value, Mapping)
        else _tensor(value, dtype, device)
        for name, value in values.items()
    }


def _tensor(array: AnyArray, dtype: str, device: torch.device | str) -> Tensor:
    # astype copies, so that torch never shares (and warns about) a read-only array.
    return torch.from_numpy(np.ascontiguousarray(array.astype(_wanted(array.dtype, dtype), order="C"))).to(device)


def _wanted(dtype: np.dtype[np.generic], floating: str) -> np.dtype[np.generic]:
    """int64 for row numbers, booleans as they are, and the asked dtype for all else."""
    if np.issubdtype(dtype, np.integer):
        return np.dtype(np.int64)
    return dtype if dtype == np.bool_ else np.dtype(floating)
