"""How a query's vector and its request's become one.

Letters: B queries, I interests, D vector width.
"""

from typing import Literal

import tensorflow as tf


class ContextMerge(tf.keras.layers.Layer):
    """`q + c`, or `g * q + (1 - g) * c` with `g = sigmoid([q, c] W + b)`, number by number."""

    def __init__(self, dim: int, kind: Literal["sum", "gate"], dtype: str = "float32") -> None:
        """Create the gate's weights, zero until they are assigned; a sum has none.

        Args:
            dim: width D of both vectors.
            kind: which of the two.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        shapes: dict[str, tuple[int, ...]] = {"kernel": (2 * dim, dim), "bias": (dim,)} if kind == "gate" else {}
        self.parts = {name: self.add_weight(name, shape, initializer="zeros") for name, shape in shapes.items()}

    def call(self, query_BD: tf.Tensor, context_BD: tf.Tensor) -> tf.Tensor:
        """Vectors -> vectors like the query's.

        Args:
            query_BD: the query's [B, D], or [B, I, D], each of which is merged with the context's.
            context_BD: the request's [B, D].
        """
        if query_BD.shape.rank == 3:
            context_BD = tf.repeat(context_BD[:, None, :], query_BD.shape[1], axis=1)
        if not self.parts:
            return query_BD + context_BD
        both = tf.concat([query_BD, context_BD], axis=-1)
        gate = tf.sigmoid(tf.tensordot(both, self.parts["kernel"], 1) + self.parts["bias"])
        return gate * query_BD + (1 - gate) * context_BD
