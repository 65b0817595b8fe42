"""Batches and features as tensors: where NumPy arrays enter the stack."""

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from retrieval_contract.arrays import AnyArray, Batch, FeatureArrays
from retrieval_contract.errors import UserError

FeatureTensors = dict[str, Tensor]
"""Features by name: int64 [B] (categorical), int64 [B, M] or [B, L] padded with 0 behind, floating [B]."""


class BatchTensors(TypedDict):
    """A `Batch` as tensors of one device; the fields have its names and shapes."""

    query_features: FeatureTensors
    candidate_features: FeatureTensors
    candidate_rows: Tensor
    log_q: Tensor
    weights: Tensor


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
    return BatchTensors(
        query_features=feature_tensors(batch.query_features, dtype=dtype, device=device),
        candidate_features=feature_tensors(batch.candidate_features, dtype=dtype, device=device),
        candidate_rows=_tensor(batch.candidate_rows, dtype, device),
        log_q=_tensor(batch.log_q, dtype, device),
        weights=_tensor(batch.weights, dtype, device),
    )


def _tensor(array: AnyArray, dtype: str, device: torch.device | str) -> Tensor:
    wanted = np.dtype(np.int64) if np.issubdtype(array.dtype, np.integer) else np.dtype(dtype)
    # astype copies, so that torch never shares (and warns about) a read-only array.
    return torch.from_numpy(np.ascontiguousarray(array.astype(wanted, order="C"))).to(device)
