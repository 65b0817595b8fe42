"""A gated recurrent unit over the items.

Letters: B histories, L items of a history, W width of an item and of the state.
"""

import tensorflow as tf


class GruPooling(tf.keras.layers.Layer):
    """The state behind the last real item (GRU4Rec), from 0; padded places leave the state as it is.

    `r = sigmoid(x W_r + b_r + h U_r + c_r)`, `z` likewise, `n = tanh(x W_n + b_n + r * (h U_n + c_n))`,
    `h' = (1 - z) * n + z * h`. The kernels hold reset, update and new, in this order.
    """

    def __init__(self, width: int, dtype: str = "float32") -> None:
        """Create the weights, zero until they are assigned.

        Args:
            width: W.
            dtype: of weights and results.
        """
        super().__init__(dtype=dtype)
        shapes = {
            "input_kernel": (width, 3 * width),
            "input_bias": (3 * width,),
            "recurrent_kernel": (width, 3 * width),
            "recurrent_bias": (3 * width,),
        }
        self.parts = {name: self.add_weight(name, shape, initializer="zeros") for name, shape in shapes.items()}

    def call(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> state behind the last one [B, W]; an empty history gives zeros.

        Args:
            items_BLW: items, zero at padded places.
            real_BL: True where an item is.
            dropout_seed: nothing here is drawn.
        """
        return self._run(items_BLW, real_BL)[0]

    def places(self, items_BLW: tf.Tensor, real_BL: tf.Tensor, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Items -> state behind each of them [B, L, W]; arguments as in `call`."""
        return tf.transpose(self._run(items_BLW, real_BL)[1].stack(), [1, 0, 2])

    def _run(self, items_BLW: tf.Tensor, real_BL: tf.Tensor) -> tuple[tf.Tensor, tf.TensorArray]:
        """Last state, and the states by place."""
        width = items_BLW.shape[-1]
        # What the items give does not wait for the state: one product for all places.
        given_BLG = tf.tensordot(items_BLW, self.parts["input_kernel"], 1) + self.parts["input_bias"]
        given_LBG, real_LB = tf.transpose(given_BLG, [1, 0, 2]), tf.transpose(real_BL)
        recurrent_WG, recurrent_G = tf.convert_to_tensor(self.parts["recurrent_kernel"]), self.parts["recurrent_bias"]

        def step(place: tf.Tensor, state_BW: tf.Tensor, states: tf.TensorArray) -> tuple[object, ...]:
            held_BG = tf.matmul(state_BW, recurrent_WG) + recurrent_G
            given_BG = given_LBG[place]
            gates_BG = tf.sigmoid(given_BG[:, : 2 * width] + held_BG[:, : 2 * width])
            reset_BW, update_BW = gates_BG[:, :width], gates_BG[:, width:]
            new_BW = tf.tanh(given_BG[:, 2 * width :] + reset_BW * held_BG[:, 2 * width :])
            next_BW = (1 - update_BW) * new_BW + update_BW * state_BW
            next_BW = tf.where(real_LB[place][:, None], next_BW, state_BW)
            return place + 1, next_BW, states.write(place, next_BW)

        num_places = tf.shape(items_BLW)[1]
        states = tf.TensorArray(items_BLW.dtype, size=num_places, element_shape=[None, width])
        start_BW = tf.zeros([tf.shape(items_BLW)[0], width], items_BLW.dtype)
        _, last_BW, states = tf.while_loop(
            lambda place, *_: place < num_places,
            step,
            (0, start_BW, states),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, width]), tf.TensorShape(None)),
        )
        return last_BW, states
