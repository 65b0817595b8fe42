"""Gradients of all parameters together: added up, summed over processes, duplicates summed, norm, clipping.

Letters: U distinct rows of a table that a step touched, W width of the table.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import tensorflow as tf

from tfrs_models.negatives.replicas import gathered, num_replicas, summed

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices
Gradients = Mapping[str, Gradient]


def add_up(gradients: Sequence[Gradient]) -> Gradient:
    """Sum of several gradients of one parameter; rows of IndexedSlices follow one another.

    Args:
        gradients: one or more, all dense or all IndexedSlices.
    """
    if len(gradients) == 1:
        return gradients[0]
    if isinstance(gradients[0], tf.IndexedSlices):
        values = tf.concat([gradient.values for gradient in gradients], axis=0)
        rows = tf.concat([gradient.indices for gradient in gradients], axis=0)
        return tf.IndexedSlices(values, rows, gradients[0].dense_shape)
    return tf.add_n(gradients)


def sum_duplicates(gradient: Gradient) -> Gradient:
    """Sum the values of equal rows, so that each touched row of a table stands once.

    Args:
        gradient: dense, which is returned as it is, or IndexedSlices with rows repeated in any order.

    Returns:
        IndexedSlices with rows [U] in order of first appearance and values [U, W]; it costs what the batch touched, not
        what the table holds.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows_U, position = tf.unique(gradient.indices)
    values_UW = tf.math.unsorted_segment_sum(gradient.values, position, tf.shape(rows_U)[0])
    return tf.IndexedSlices(values_UW, rows_U, gradient.dense_shape)


def over_replicas(gradients: Gradients) -> Gradients:
    """Sum of all processes' gradients: dense ones summed, rows of tables one process's after the other's.

    Args:
        gradients: this process's part, by canonical name; inside `replicas.run` where there are several processes.
    """
    if num_replicas() == 1:
        return gradients
    dense: dict[str, Gradient] = {
        name: gradient for name, gradient in gradients.items() if not isinstance(gradient, tf.IndexedSlices)
    }
    tables = {
        name: tf.IndexedSlices(gathered(gradient.values), gathered(gradient.indices), gradient.dense_shape)
        for name, gradient in gradients.items()
        if isinstance(gradient, tf.IndexedSlices)
    }
    total = summed(dense) | tables
    return {name: total[name] for name in gradients}


def clip_by_global_norm(gradients: Gradients, clip_norm: float | None) -> tuple[dict[str, Gradient], tf.Tensor]:
    """Scale all gradients by `clip_norm / max(norm, clip_norm)`, the norm taken after duplicates are summed.

    TensorFlow's own takes the norm of IndexedSlices before duplicates are summed, which is another number.

    Args:
        gradients: by canonical name; IndexedSlices may repeat rows.
        clip_norm: largest L2 norm over all of them together; none means no clipping.

    Returns:
        The gradients, duplicates summed and scaled, and the norm before scaling.
    """
    distinct = {name: sum_duplicates(gradient) for name, gradient in gradients.items()}
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(_values(gradient))) for gradient in distinct.values()]))
    if clip_norm is None:
        return distinct, norm
    scale = clip_norm / tf.maximum(norm, clip_norm)
    return {name: scaled(gradient, scale) for name, gradient in distinct.items()}, norm


def scaled(gradient: Gradient, scale: tf.Tensor | float) -> Gradient:
    """Gradient times a scalar, IndexedSlices staying what they are."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return gradient * scale


def _values(gradient: Gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
