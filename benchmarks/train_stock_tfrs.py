"""Stock TensorFlow Recommenders as a contender: the retrieval tutorial's model, `compile` and `fit`."""

import itertools
import time
from functools import lru_cache
from typing import Any, final

import tfrs_models  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip
import tf_keras  # isort: skip

from benchmarks.train_problem import LEARNING_RATES, WIDTHS, Array, Turn

OPTIMIZERS = {
    "sgd": tf_keras.optimizers.SGD,
    "adagrad": tf_keras.optimizers.Adagrad,
    "adam": tf_keras.optimizers.Adam,
}


class _Model(tfrs.Model):
    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.query, self.candidate = _tower(num_rows), _tower(num_rows)
        # The default sums over the batch; a mean costs the same, and keeps the learning rates comparable.
        self.task = tfrs.tasks.Retrieval(loss=tf_keras.losses.CategoricalCrossentropy(from_logits=True))

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.task(self.query(features["query_id"]), self.candidate(features["candidate_id"]))


@final
class StockTfrs:
    """`tfrs.Model.fit` over a `tf.data` pipeline of ids."""

    def __init__(self, optimizer: str, weights: dict[str, Array], rows: Array) -> None:
        """Build and compile; arguments as of `train_ours.Ours`."""
        self._model = _Model(len(weights["query.embedding.query_id"]))
        self._batch_size = rows.shape[2]
        columns = {"query_id": rows[:, 0].reshape(-1), "candidate_id": rows[:, 1].reshape(-1)}
        self._model.query(columns["query_id"][:2]), self._model.candidate(columns["candidate_id"][:2])
        for side, tower in (("query", self._model.query), ("candidate", self._model.candidate)):
            named = [array for name, array in weights.items() if name.startswith(f"{side}.")]
            for variable, array in zip(tower.variables, named, strict=True):
                variable.assign(array)
        self._model.compile(optimizer=OPTIMIZERS[optimizer](LEARNING_RATES[optimizer]))
        data = tf.data.Dataset.from_tensor_slices(columns).batch(self._batch_size).repeat()
        self._batches = iter(data.prefetch(tf.data.AUTOTUNE))

    def turn(self, num_steps: int) -> Turn:
        """Fit so many steps, timed from the first batch to the last, so that what `fit` does around them is not."""
        clock = _Clock()
        self._model.fit(self._batches, steps_per_epoch=num_steps, epochs=1, verbose=0, callbacks=[clock])
        return Turn(clock.wall, clock.cpu, clock.losses)


class _Clock(tf_keras.callbacks.Callback):
    """Times of an epoch's steps, and their losses."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.wall = self.cpu = 0.0
        self._began = 0.0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Start the clock before the first."""
        if not self.losses:
            self._began = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Read it."""
        self.losses.append(float(logs["loss"]))
        self.wall, self.cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]


def _tower(num_rows: int) -> Any:
    sizes = list(itertools.pairwise(WIDTHS))
    layers = [tf_keras.layers.Dense(size, activation="relu") for _, size in sizes[:-1]]
    return tf_keras.Sequential(
        [tf_keras.layers.Embedding(num_rows, WIDTHS[0]), *layers, tf_keras.layers.Dense(WIDTHS[-1])]
    )


def product(size: int) -> float:
    """Multiply two square matrices in float32; the operations that it took."""
    float(tf.matmul(_ones(size), _ones(size))[0, 0])
    return 2.0 * size**3


@lru_cache(maxsize=1)
def _ones(size: int) -> tf.Tensor:
    return tf.ones([size, size])
