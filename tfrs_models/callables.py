"""Crossing 2: the towers as functions of arrays, for serving and for the referee."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from retrieval_contract.arrays import AnyArray, BankColumns, Batch, FeatureArrays, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.data.lengths import check_history_lengths
from retrieval_contract.data.shards import shard
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from tfrs_models.inputs import any_length, batch_tensors, choose_device, feature_tensors
from tfrs_models.negatives.columns import Columns
from tfrs_models.negatives.replicas import num_replicas, replica, run, strategy
from tfrs_models.towers.two_tower import TwoTower
from tfrs_models.training.model import RetrievalModel
from tfrs_models.weights import assign, parameters_by_name

CHUNK_ROWS = 4_096
"""Examples encoded at a time: bounds the memory of the hidden layers whatever the catalogue's size."""
_CHUNK_PLACES = 65_536
"""Places of lists and histories encoded at a time; of long ones fewer, since attention holds a number for each pair."""


class TwoTowerEncoders:
    """Both towers at given weights (`retrieval_contract.stack.Encoders`).

    Computed in float64 and returned as float32, so that two stacks round the same number.
    """

    def __init__(
        self,
        config: RunConfig,
        sizes: VocabularySizes,
        weights: Mapping[str, Float32Array],
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        """Build the towers.

        Args:
            config: the run.
            sizes: rows of each vocabulary by side and feature.
            weights: by canonical name.
            device: where to compute.

        Raises:
            UserError: weights that are missing, left over or of another shape; a device that is not there.
        """
        self._config = config
        self._device = choose_device(device)
        several = [config.num_interests] if config.num_interests > 1 else []
        self._query_shape, self._candidate_shape = [*several, config.vector_dim], [config.vector_dim]
        with tf.device(self._device):
            self._towers = TwoTower(config, sizes, dtype="float64")
            assign(self._towers, weights)
        self._compiled: dict[str, Any] = {}

    def encode_queries(self, features: FeatureArrays) -> Float32Array:
        """Encoded query features, leading dimension B -> vectors [B, D], 1 appended where there is a candidate bias.

        A query tower of several interests gives [B, I, D].

        Raises:
            UserError: a history longer than its `max_length`.
        """
        check_history_lengths(self._config, features)
        return self._encode(self._towers.query_vectors, features, self._query_shape)

    def encode_candidates(self, features: FeatureArrays) -> Float32Array:
        """Encoded candidate features, leading dimension B -> vectors [B, D], temperature times bias appended."""
        return self._encode(self._towers.candidate_vectors, features, self._candidate_shape)

    def _encode(self, encode: Callable[..., tf.Tensor], features: FeatureArrays, shape: list[int]) -> Float32Array:
        num_examples = len(next(iter(features.values())))
        lists = [values for values in features.values() if values.ndim > 1 and values.dtype.kind == "i"]
        longest = max((values.shape[1] for values in lists), default=0)
        num_rows = min(CHUNK_ROWS, max(_CHUNK_PLACES // max(longest, longest**2 // 128, 1), 1))
        vectors = np.empty((num_examples, *shape), np.float32)
        for start in range(0, num_examples, num_rows):
            chunk = slice(start, start + num_rows)
            with tf.device(self._device):
                tensors = feature_tensors({name: values[chunk] for name, values in features.items()})
                vectors[chunk] = self._function(encode, tensors)(tensors).numpy()
        return vectors

    def _function(self, encode: Callable[..., tf.Tensor], tensors: Mapping[str, tf.Tensor]) -> Any:
        if encode.__name__ not in self._compiled:
            compiled = tf.function(encode, input_signature=[any_length(tensors)], autograph=False)
            # One trace: choosing it anew at each call would take a third of the time that one query does.
            self._compiled[encode.__name__] = compiled.get_concrete_function()
        return self._compiled[encode.__name__]


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
    """Loss of a batch and its gradient, for comparison with another implementation.

    Of several processes each is given the whole batch, takes its own rows, and returns what the whole batch gives.

    Args:
        config: the run; dropout does not act and routing logits are the fixed ones, batch norm takes the batch's
            statistics and moves none, `training.chunk_size` acts.
        sizes: rows of each vocabulary by side and feature.
        weights: by canonical name.
        batch: the batch.
        dtype: of everything that is computed.
        catalogue: encoded features of all candidates; full softmax and gbce cannot do without.
        bank: columns of earlier batches; none means none, whatever the config says.

    Returns:
        Loss in nats per query, and the gradient of every trained parameter by canonical name, dense, of type `dtype`.
    """
    strategy()
    model = RetrievalModel(config, sizes, dtype, catalogue)
    assign(model.towers, weights)
    table = parameter_table(config, sizes)
    variables = {name: variable for name, variable in parameters_by_name(model.towers).items() if table[name].trained}
    own = batch if num_replicas() == 1 else shard(batch, replica(), num_replicas())
    columns = None if bank is None else _bank_tensors(bank, dtype)

    def find(inputs: Any) -> Any:
        step = model.loss_and_gradients(variables, inputs, bank=columns)
        return step.loss, {name: tf.convert_to_tensor(gradient) for name, gradient in step.gradients.items()}

    # One process computes it operation by operation: compiling takes longer than one batch of a test.
    compiled = find if num_replicas() == 1 else tf.function(find, autograph=False)
    loss, gradients = run(compiled, batch_tensors(own, dtype))
    return float(loss), {name: gradients[name].numpy() for name in variables}


def _bank_tensors(bank: BankColumns, dtype: str) -> Columns:
    floats = (bank.vectors, bank.log_q, bank.bias)
    vectors, log_q, bias = (None if x is None else tf.convert_to_tensor(x.astype(dtype)) for x in floats)
    return Columns(vectors, tf.convert_to_tensor(bank.rows), log_q, bias)
