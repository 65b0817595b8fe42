"""Crossing 1: arrays -> tensors, and the device they live on."""

from typing import Any, Literal

import tensorflow as tf

from retrieval_contract.arrays import Batch, FeatureArrays, Impressions, SampledColumns
from retrieval_contract.errors import UserError


def batch_tensors(batch: Batch, dtype: str = "float32") -> dict[str, Any]:
    """Training batch -> what `RetrievalModel.compute_loss` takes.

    Args:
        batch: the batch.
        dtype: of log_q and weights.

    Returns:
        The batch's fields by name, those that are None left out; bundles as dictionaries.
    """
    tensors: dict[str, Any] = {
        "query_features": feature_tensors(batch.query_features),
        "candidate_features": feature_tensors(batch.candidate_features),
        "query_rows": tf.convert_to_tensor(batch.query_rows),
        "candidate_rows": tf.convert_to_tensor(batch.candidate_rows),
        "log_q": tf.convert_to_tensor(batch.log_q.astype(dtype)),
        "weights": tf.convert_to_tensor(batch.weights.astype(dtype)),
    }
    if batch.places is not None:
        tensors["places"] = tf.convert_to_tensor(batch.places)
    if batch.sampled is not None:
        tensors["sampled"] = _drawn_tensors(batch.sampled, dtype)
    if batch.impressions is not None:
        allowed_BX = tf.convert_to_tensor(batch.impressions.allowed)
        tensors["impressions"] = {**_drawn_tensors(batch.impressions, dtype), "allowed": allowed_BX}
    if batch.known_positives is not None:
        known = batch.known_positives
        tensors["known_positives"] = {
            "places": tf.convert_to_tensor(known.places),
            "rows": tf.convert_to_tensor(known.rows),
        }
    if batch.allowed is not None:
        tensors["allowed"] = tf.convert_to_tensor(batch.allowed)
    return tensors


def _drawn_tensors(drawn: SampledColumns | Impressions, dtype: str) -> dict[str, Any]:
    return {
        "features": feature_tensors(drawn.features),
        "rows": tf.convert_to_tensor(drawn.rows),
        "log_q": tf.convert_to_tensor(drawn.log_q.astype(dtype)),
    }


def feature_tensors(features: FeatureArrays) -> dict[str, tf.Tensor]:
    """Encoded features by name, as tensors of the same types."""
    return {name: tf.convert_to_tensor(values) for name, values in features.items()}


def any_length(tensors: Any) -> Any:
    """Signature of a nest of tensors with every length left open.

    A function traced for it is traced once. Traced shape by shape it would depend on what came before, and its results
    with it, down to the last bit; a resumed run could then not repeat them.
    """
    return tf.nest.map_structure(lambda tensor: tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype), tensors)


def choose_device(device: Literal["auto", "cpu", "cuda"]) -> str:
    """TensorFlow's name of the device that a config asks for.

    Raises:
        UserError: `cuda` where TensorFlow sees no GPU.
    """
    num_gpus = 0 if device == "cpu" else len(tf.config.list_physical_devices("GPU"))
    if device == "cuda" and not num_gpus:
        todo = "use --device=auto or --device=cpu, or install a TensorFlow with CUDA on a machine with a GPU"
        raise UserError("device cuda was asked for, and TensorFlow sees no GPU", todo=todo)
    return "/GPU:0" if num_gpus else "/CPU:0"
