"""The towers as functions of arrays, and loss and gradients as the parity tests compare them.

Letters: B queries or candidates encoded, I interests, D vector width, bias dimension included.
"""

from collections.abc import Callable, Mapping
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from retrieval_contract.arrays import AnyArray, BankColumns, Batch, FeatureArrays, Float32Array
from retrieval_contract.config import MeanPooling, RunConfig
from retrieval_contract.data.lengths import check_history_lengths
from retrieval_contract.errors import RunError
from retrieval_contract.weights.names import VocabularySizes
from torch_reference.inputs import FeatureTensors, batch_tensors, choose_device, feature_tensors
from torch_reference.negatives.columns import Columns
from torch_reference.negatives.replicas import summed
from torch_reference.towers.two_tower import TwoTower
from torch_reference.training.cached_gradient import backward, no_draws
from torch_reference.training.model import RetrievalModel
from torch_reference.training.trainer import own_rows
from torch_reference.weights import assign, extract_gradients

CHUNK_ROWS = 4_096
"""Entities encoded at once at most: bounds the memory of a large catalogue's hidden layers."""
CHUNK_NUMBERS = 1 << 22
"""Numbers in the items of all histories that are encoded at once, 32 MB in float64; a transformer holds ten such."""


@final
class TwoTowerEncoders:
    """The two towers, float64 inside and float32 outside, so that what is served does not depend on the stack."""

    def __init__(
        self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array], device: str = "auto"
    ) -> None:
        """Build from canonical weights.

        Args:
            config: the run.
            sizes: rows V of each vocabulary by side and feature name.
            weights: canonical name -> array.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            UserError: names or shapes are not the model's; or no GPU where one is asked for.
        """
        self._config = config
        self._device = choose_device(device)
        self._towers = TwoTower(config, sizes, "float64").eval()
        assign(self._towers, weights)
        self._towers.to(self._device)
        self._dim = config.vector_dim
        self._num_interests = config.num_interests
        items = sum(h.max_length * h.width for h in config.query.histories if not isinstance(h.pooling, MeanPooling))
        self._query_chunk = min(CHUNK_ROWS, max(1, CHUNK_NUMBERS // max(1, items)))

    def encode_queries(self, features: FeatureArrays) -> Float32Array:
        """Encoded features, leading dimension B -> vectors [B, D], the constant 1 of a candidate bias appended.

        With several interests [B, I, D], the 1 behind each.

        Raises:
            UserError: a history longer than its `max_length`.
        """
        check_history_lengths(self._config, features)
        shape = (self._dim,) if self._num_interests == 1 else (self._num_interests, self._dim)
        return self._encode(self._towers.query_vectors, features, shape, self._query_chunk)

    def encode_candidates(self, features: FeatureArrays) -> Float32Array:
        """Encoded features, leading dimension B -> vectors [B, D], temperature times candidate bias appended."""
        return self._encode(self._towers.candidate_vectors, features, (self._dim,), CHUNK_ROWS)

    @torch.inference_mode()
    def _encode(
        self, encode: Callable[[FeatureTensors], Tensor], features: FeatureArrays, shape: tuple[int, ...], size: int
    ) -> Float32Array:
        num_rows = {len(array) for array in features.values()}
        assert len(num_rows) == 1, f"features differ in their leading dimension: {sorted(num_rows)}"
        vectors = np.empty((num_rows.pop(), *shape), np.float32)
        for start in range(0, len(vectors), size):
            chunk = {name: array[start : start + size] for name, array in features.items()}
            tensors = feature_tensors(chunk, dtype="float64", device=self._device)
            vectors[start : start + size] = encode(tensors).to("cpu", torch.float32).numpy()
        if not np.isfinite(vectors).all():
            raise RunError("a tower returned vectors that are not finite; weights or a numeric feature are too large")
        return vectors


def loss_and_gradients(
    config: RunConfig,
    sizes: VocabularySizes,
    weights: Mapping[str, AnyArray],
    batch: Batch,
    *,
    dtype: Literal["float32", "float64"],
    catalogue: FeatureArrays | None = None,
    bank: BankColumns | None = None,
) -> tuple[float, dict[str, AnyArray]]:
    """Compute the loss of one batch and its gradient by every trained weight, on the CPU and without dropout.

    Batch norm takes the batch's statistics, as in training; MIND's routing starts from the fixed weights, as in
    serving.

    With `training.chunk_size` the gradient is taken in chunks. Where several processes train together, each is given
    the whole batch, takes its own rows, and all return the loss and the gradients of the whole.

    Args:
        config: the run.
        sizes: rows V of each vocabulary by side and feature name.
        weights: canonical name -> array, float32 or float64.
        batch: B examples.
        dtype: of everything, tables included.
        catalogue: encoded features of all candidates; the losses full_softmax and gbce need it.
        bank: columns of earlier batches; none means there are none.

    Returns:
        Loss, and canonical name -> dense gradient in the canonical layout; before clipping, without weight decay.
    """
    features = None if catalogue is None else feature_tensors(catalogue, dtype=dtype)
    model = RetrievalModel(config, sizes, dtype, features).to(getattr(torch, dtype)).eval()
    assign(model.towers, weights)
    for norm in model.towers.batch_norms():
        norm.train()
    loss, _ = backward(
        model,
        batch_tensors(own_rows(batch), dtype),
        bank=None if bank is None else _bank_columns(bank, dtype),
        draws=no_draws,
        chunk_size=config.training.chunk_size,
    )
    for parameter in model.parameters():
        parameter.grad = None if parameter.grad is None else summed(parameter.grad)
    return summed(loss).item(), extract_gradients(model.towers)


def _bank_columns(bank: BankColumns, dtype: str) -> Columns:
    arrays: dict[str, AnyArray] = {"vectors": bank.vectors, "rows": bank.rows, "log_q": bank.log_q}
    if bank.bias is not None:
        arrays["bias"] = bank.bias
    tensors = feature_tensors(arrays, dtype=dtype)
    return Columns(tensors["vectors"], tensors["rows"], tensors["log_q"], tensors.get("bias"))
