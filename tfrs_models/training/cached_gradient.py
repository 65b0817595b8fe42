"""Cached gradients: a batch's loss with all its negatives, in memory that follows a chunk of it.

Everything is encoded in chunks without a graph; the loss gives its gradient on the embeddings, a block of rows at a
time, so that no array of all rows and all columns exists; then each chunk is encoded again, with a graph, and its part
of that gradient is pulled back to the parameters. What comes out is the one-shot gradient.

Source: Gao et al., RepL4NLP 2021 (GradCache); the blocks of rows are ours.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfrs_models.training.clipping import Gradient

Encode = Callable[[Any, tf.Tensor], Sequence[tf.Tensor]]
"""Features of a chunk, and its number, from 0 -> embeddings, leading dimension the chunk's; the same at every call."""


def encode_in_chunks(
    encode: Encode, features: Any, chunk_size: int, shapes: Sequence[Sequence[int]], dtype: str
) -> list[tf.Tensor]:
    """Encode examples, so many at a time, without a graph of them.

    Args:
        encode: the encoder.
        features: nest of tensors, all of one leading dimension n, which may be 0.
        chunk_size: examples at a time.
        shapes: shape of each of the encoder's results, without the leading dimension.
        dtype: of the results.

    Returns:
        What `encode` gives, of all n examples.
    """
    num_rows = _num_rows(features)

    def body(number: tf.Tensor, arrays: Sequence[tf.TensorArray]) -> tuple[tf.Tensor, Sequence[tf.TensorArray]]:
        results = encode(_chunk(features, number, chunk_size), number)
        return number + 1, [array.write(number, result) for array, result in zip(arrays, results, strict=True)]

    arrays = [_pieces(num_rows, chunk_size, dtype, shape) for shape in shapes]
    _, arrays = _loop(num_rows, chunk_size, body, (arrays,))
    return [array.concat() for array in arrays]


def pull_back(
    encode: Encode,
    features: Any,
    gradients: Sequence[tf.Tensor],
    variables: Mapping[str, tf.Variable],
    sparse: Mapping[str, bool],
    chunk_size: int,
) -> dict[str, Gradient]:
    """Gradient on the embeddings -> gradient of the parameters, encoding anew so many examples at a time.

    Args:
        encode: the encoder, as in `encode_in_chunks`.
        features: as there.
        gradients: the loss's gradient on each of the encoder's results, of all examples.
        variables: what the encoder reads, by canonical name.
        sparse: True for those whose gradient is IndexedSlices.
        chunk_size: examples at a time.

    Returns:
        Gradient of each variable; IndexedSlices with the rows of one chunk after the other.
    """
    num_rows = _num_rows(features)

    def start(name: str, variable: tf.Variable) -> Any:
        if not sparse[name]:
            return tf.zeros(variable.shape, variable.dtype)
        pieces = _pieces(num_rows, chunk_size, variable.dtype, variable.shape[1:])
        return pieces, _pieces(num_rows, chunk_size, tf.int32, [])

    def body(number: tf.Tensor, found: dict[str, Any]) -> tuple[tf.Tensor, dict[str, Any]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(variables.values()))
            results = encode(_chunk(features, number, chunk_size), number)
        parts = tape.gradient(results, dict(variables), output_gradients=_chunk(list(gradients), number, chunk_size))
        return number + 1, {name: _gathered_up(found[name], part, number) for name, part in parts.items()}

    _, found = _loop(
        num_rows, chunk_size, body, ({name: start(name, variable) for name, variable in variables.items()},)
    )
    return {
        name: tf.IndexedSlices(part[0].concat(), part[1].concat(), tf.constant(variables[name].shape.as_list()))
        if sparse[name]
        else part
        for name, part in found.items()
    }


def gradient_in_blocks(
    loss_of_block: Callable[[Any, Any, tf.Tensor, tf.Tensor], tf.Tensor],
    own: Any,
    shared: Any,
    variables: Mapping[str, tf.Variable],
    block_size: int,
) -> tuple[tf.Tensor, Any, Any, dict[str, tf.Tensor]]:
    """A loss that is a sum over rows, and its gradients, a block of rows at a time.

    Args:
        loss_of_block: (own tensors of the block, shared tensors, first row, row behind the last) -> its part of the
            loss, scalar.
        own: nest of tensors that belong to the rows, leading dimension B; differentiated.
        shared: nest of tensors that all rows look at; differentiated.
        variables: what else is differentiated, dense, by canonical name.
        block_size: rows at a time.

    Returns:
        Loss; gradients on `own`, on `shared`, and of the variables.
    """
    num_rows, dtype = _num_rows(own), tf.nest.flatten(own)[0].dtype

    def body(number: tf.Tensor, loss: tf.Tensor, own_found: Any, found: Any) -> tuple[Any, ...]:
        first = number * block_size
        end = tf.minimum(first + block_size, num_rows)
        block = _chunk(own, number, block_size)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([block, shared, list(variables.values())])
            part = loss_of_block(block, shared, first, end)
        zero = tf.UnconnectedGradients.ZERO
        on_block, *rest = tape.gradient(part, [block, shared, dict(variables)], unconnected_gradients=zero)
        own_found = tf.nest.map_structure(lambda array, piece: array.write(number, piece), own_found, on_block)
        return number + 1, loss + part, own_found, tf.nest.map_structure(tf.add, found, rest)

    own_start = tf.nest.map_structure(lambda x: _pieces(num_rows, block_size, x.dtype, x.shape[1:]), own)
    start = [
        tf.nest.map_structure(tf.zeros_like, shared),
        {name: tf.zeros(v.shape, v.dtype) for name, v in variables.items()},
    ]
    _, loss, own_found, (on_shared, on_variables) = _loop(
        num_rows, block_size, body, (tf.zeros([], dtype), own_start, start)
    )
    return loss, tf.nest.map_structure(lambda array: array.concat(), own_found), on_shared, on_variables


def _loop(num_rows: tf.Tensor, chunk_size: int, body: Callable[..., Any], start: tuple[Any, ...]) -> Any:
    """Call the body for every chunk, one at a time: chunks that ran side by side would all be in memory."""
    num_chunks = _num_chunks(num_rows, chunk_size)
    return tf.while_loop(lambda number, *_: number < num_chunks, body, (0, *start), parallel_iterations=1)


def _num_chunks(num_rows: tf.Tensor, chunk_size: int) -> tf.Tensor:
    """At least one: of no pieces at all TensorFlow cannot say what type they have together."""
    return tf.maximum(-(-num_rows // chunk_size), 1)


def _pieces(num_rows: tf.Tensor, chunk_size: int, dtype: Any, shape: Sequence[int]) -> tf.TensorArray:
    size = _num_chunks(num_rows, chunk_size)
    return tf.TensorArray(dtype, size=size, element_shape=[None, *shape], infer_shape=False)


def _num_rows(nest: Any) -> tf.Tensor:
    return tf.shape(tf.nest.flatten(nest)[0])[0]


def _chunk(nest: Any, number: tf.Tensor, chunk_size: int) -> Any:
    return tf.nest.map_structure(lambda x: x[number * chunk_size : (number + 1) * chunk_size], nest)


def _gathered_up(found: Any, part: Gradient, number: tf.Tensor) -> Any:
    if not isinstance(found, tuple):
        return found + part
    values, rows = found
    return values.write(number, part.values), rows.write(number, tf.cast(part.indices, tf.int32))
