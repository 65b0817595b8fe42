"""Warm-up requests, which TensorFlow Serving answers before it lets a version go live: a TFRecord of `PredictionLog`.

The messages are written by their wire format (every field here is a length and its bytes), since the package that has
their classes brings a whole RPC framework. Source: tensorflow_serving/apis/prediction_log.proto, predict.proto and
model.proto; tensorflow_serving/servables/tensorflow/saved_model_warmup_util.h for the file's name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

FILE = "assets.extra/tf_serving_warmup_requests"
"""Where in a version's folder TensorFlow Serving looks."""
_LENGTH_DELIMITED = 2


def write_warmup(folder: Path, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Write one request for each signature.

    Args:
        folder: of the SavedModel.
        requests: signature name -> tensors by the signature's input names.
    """
    path = folder / FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, inputs in requests.items():
            file.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A `PredictionLog` whose `predict_log` holds a request."""
    model_spec = _field(3, signature.encode())
    pairs = [_field(1, name.encode()) + _field(2, _tensor_proto(value)) for name, value in inputs.items()]
    request = _field(1, model_spec) + b"".join(_field(2, pair) for pair in pairs)
    return _field(6, _field(1, request))


def _tensor_proto(value: Any) -> bytes:
    tensor = tf.convert_to_tensor(value)
    return bytes(tf.make_tensor_proto(tensor.numpy(), tensor.dtype, tensor.shape).SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, the high bit set on all but the last."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
