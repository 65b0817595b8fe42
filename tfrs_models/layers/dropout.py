"""Dropout that is a function of a seed, so that a run killed and resumed draws what it would have drawn."""

import tensorflow as tf

_ALGORITHM = "philox"
"""Random bits are the same on every device only when the algorithm is named."""


def fold_in(seed_2: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """Derive an independent seed from a seed and a number.

    Args:
        seed_2: seed [2], int64.
        number: what distinguishes this stream: a layer, a side, a batch of the step.

    Returns:
        Seed [2], int64.
    """
    return tf.random.fold_in(seed_2, tf.cast(number, seed_2.dtype), alg=_ALGORITHM)


def dropout(x: tf.Tensor, rate: float, seed_2: tf.Tensor | None, layer: int) -> tf.Tensor:
    """Zero each element with probability `rate` and divide the others by `1 - rate`.

    Args:
        x: activations, any shape.
        rate: in [0, 1).
        seed_2: seed [2] of this tower at this step, int64; none means serving, where nothing is dropped.
        layer: number of the layer in its tower, so that two layers do not share a draw.

    Returns:
        A tensor like `x`; `x` itself where rate is 0 or there is no seed.
    """
    if seed_2 is None or rate == 0:
        return x
    return tf.nn.experimental.stateless_dropout(x, rate, fold_in(seed_2, layer), rng_alg=_ALGORITHM)
