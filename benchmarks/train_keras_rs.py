"""keras-rs as a contender, in an environment and a process of its own, since it needs Keras 3.

    python -m benchmarks.train_keras_rs OPTIMIZER ROWS SEED

Reads numbers of steps from stdin, a line each, and answers each with one JSON line: seconds of wall and CPU, losses.
Every answer begins with the first batch.
The model is keras-rs's retrieval tutorial with in-batch negatives: `keras.layers.Embedding`, dense towers,
`keras_rs.layers.BruteForceRetrieval` for serving, `compute_loss` over the batch's scores, `compile` and `fit`.
"""

import itertools
import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.pop("TF_USE_LEGACY_KERAS", None)

from benchmarks.train_problem import BATCH_SIZE, LEARNING_RATES, WIDTHS, Array, draw_rows, draw_weights


def build(keras: Any, keras_rs: Any, optimizer: str, weights: dict[str, Array]) -> Any:
    """Build and compile the model, the weights put in."""

    class Model(keras.Model):  # type: ignore[misc]
        """Two towers whose loss is the softmax over the batch."""

        def __init__(self) -> None:
            super().__init__()
            self.query, self.candidate = (_tower(keras, weights, side) for side in ("query", "candidate"))
            self.retrieval = keras_rs.layers.BruteForceRetrieval(k=100, return_scores=False)
            self.loss_fn = keras.losses.CategoricalCrossentropy(from_logits=True)

        def call(self, inputs: Any) -> Any:
            return self.query(inputs["query_id"]), self.candidate(inputs["candidate_id"])

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool = True) -> Any:
            queries, candidates = y_pred
            scores = keras.ops.matmul(queries, keras.ops.transpose(candidates))
            return self.loss_fn(keras.ops.eye(keras.ops.shape(scores)[0]), scores)

    kinds = {"sgd": keras.optimizers.SGD, "adagrad": keras.optimizers.Adagrad, "adam": keras.optimizers.Adam}
    model = Model()
    model.compile(optimizer=kinds[optimizer](LEARNING_RATES[optimizer]))
    return model


def _tower(keras: Any, weights: dict[str, Array], side: str) -> Any:
    named = [array for name, array in weights.items() if name.startswith(f"{side}.")]
    activations = ["relu"] * (len(WIDTHS) - 2) + [None]
    tower = keras.Sequential(
        [
            keras.layers.Embedding(len(named[0]), WIDTHS[0]),
            *(
                keras.layers.Dense(size, activation=activation)
                for (_, size), activation in zip(itertools.pairwise(WIDTHS), activations, strict=True)
            ),
        ]
    )
    tower.build((None,))
    for variable, array in zip(tower.weights, named, strict=True):
        variable.assign(array)
    return tower


def serve(optimizer: str, num_rows: int, seed: int) -> None:
    """Answer numbers of steps with what they took."""
    import keras
    import keras_rs
    import tensorflow as tf

    model = build(keras, keras_rs, optimizer, draw_weights(num_rows, seed=seed))
    rows = draw_rows(num_rows, BATCH_SIZE, seed=seed)
    columns = {"query_id": rows[:, 0].reshape(-1), "candidate_id": rows[:, 1].reshape(-1)}
    batches = tf.data.Dataset.from_tensor_slices(columns).batch(BATCH_SIZE).repeat().prefetch(tf.data.AUTOTUNE)
    for line in sys.stdin:
        clock = _clock(keras)
        model.fit(batches, steps_per_epoch=int(line), epochs=1, verbose=0, callbacks=[clock])
        print(json.dumps({"wall": clock.wall, "cpu": clock.cpu, "losses": clock.losses()}), flush=True)


def _clock(keras: Any) -> Any:
    """A callback that times an epoch's steps, from the first batch to the last, and keeps their losses."""

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        """See above."""

        def __init__(self) -> None:
            super().__init__()
            self.means: list[float] = []
            self.wall = self.cpu = 0.0
            self.began = 0.0, 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if not self.means:
                self.began = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.means.append(float(logs["loss"]))
            self.wall, self.cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]

        def losses(self) -> list[float]:
            # Keras reports the mean of the epoch so far.
            sums = [mean * (place + 1) for place, mean in enumerate(self.means)]
            return [after - before for before, after in itertools.pairwise([0.0, *sums])]

    return Clock()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
