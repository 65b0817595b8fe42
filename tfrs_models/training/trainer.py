"""One optimiser step as one compiled function, and the state that a run goes on from."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from retrieval_contract.arrays import AnyArray, Batch
from retrieval_contract.config import RunConfig
from retrieval_contract.stack import StepResult, TrainerState
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from tfrs_models.inputs import any_length, batch_tensors, choose_device
from tfrs_models.layers.dropout import fold_in
from tfrs_models.training.clipping import Gradient, Gradients, clip_by_global_norm
from tfrs_models.training.model import RetrievalModel
from tfrs_models.training.optimizers import make_optimizer
from tfrs_models.weights import parameters_by_name, read, write

_SLOTS = "slots/"
_WEIGHTS = "weights/"


class TwoTowerTrainer:
    """A model with its optimiser (`retrieval_contract.stack.Trainer`).

    What a step does depends on the state, the batches, the rate and `config.seed` alone, to the last bit on one
    machine: dropout is seeded by (seed, step, batch of the step, side, layer), and TensorFlow's op determinism is
    switched on for the whole process, from the first trainer on (unseeded TensorFlow draws then raise).
    """

    def __init__(self, config: RunConfig, sizes: VocabularySizes, state: TrainerState) -> None:
        """Build the model at a state.

        Args:
            config: the run.
            sizes: rows of each vocabulary by side and feature.
            state: weights, slots and step; at step 0 the slots may be absent, and then stand at their start.

        Raises:
            UserError: arrays that are missing, left over or of another shape; a device that is not there.
        """
        tf.config.experimental.enable_op_determinism()
        self._seed = config.seed
        self._clip_norm = config.optimizer.clip_norm
        self._device = choose_device(config.training.device)
        with tf.device(self._device):
            self._model = RetrievalModel(config, sizes)
            self._weights = parameters_by_name(self._model.towers)
            self._optimizer = make_optimizer(config.optimizer, self._weights, parameter_table(config, sizes))
            self._done = tf.Variable(0, dtype=tf.int64, trainable=False)
            write(self._variables(with_slots=_has_slots(state)), state)
        self._compiled: Any = None

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        """Take one optimiser step on the mean gradient of the batches.

        Args:
            batches: the step's batches, `accumulation_steps` of them; each has negatives of its own only.
            learning_rate: of this step.

        Returns:
            Mean loss before the step, and gradient norm before clipping. Where either is not finite nothing has moved:
            no weight, no slot, not the number of steps.
        """
        with tf.device(self._device):
            tensors = tuple(batch_tensors(batch) for batch in batches)
            if self._compiled is None:
                signature = [any_length(tensors), tf.TensorSpec([], tf.float64)]
                self._compiled = tf.function(self._step, input_signature=signature, autograph=False)
            loss, norm = self._compiled(tensors, tf.constant(learning_rate, tf.float64))
        return StepResult(loss=float(loss), gradient_norm=float(norm))

    def state(self) -> dict[str, AnyArray]:
        """Copy out weights, slots and step (`TrainerState`)."""
        return read(self._variables(with_slots=True))

    def _variables(self, *, with_slots: bool) -> dict[str, tf.Variable]:
        named = {_WEIGHTS + name: variable for name, variable in self._weights.items()}
        for slot, variables in self._optimizer.slots.items() if with_slots else ():
            named |= {f"{_SLOTS}{slot}/{name}": variable for name, variable in variables.items()}
        return {**named, "step": self._done}

    def _step(self, batches: Sequence[Mapping[str, Any]], learning_rate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed_2 = tf.stack([tf.constant(self._seed, tf.int64), self._done.read_value()])
        results = [self._loss_and_gradients(batch, fold_in(seed_2, number)) for number, batch in enumerate(batches)]
        loss = tf.add_n([loss for loss, _ in results]) / len(results)
        gradients = {name: _mean([gradients[name] for _, gradients in results]) for name in self._weights}
        clipped, norm = clip_by_global_norm(gradients, self._clip_norm)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        tf.cond(finite, lambda: self._move(clipped, learning_rate), lambda: None)
        return loss, norm

    def _move(self, gradients: Gradients, learning_rate: tf.Tensor) -> None:
        self._optimizer.apply(gradients, step=self._done.assign_add(1), learning_rate=learning_rate)

    def _loss_and_gradients(self, batch: Mapping[str, Any], dropout_seed: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        with tf.GradientTape() as tape:
            loss = self._model.compute_loss(batch, training=True, dropout_seed=dropout_seed)
        return loss, tape.gradient(loss, self._weights)


def _has_slots(state: TrainerState) -> bool:
    return int(state.get("step", 0)) > 0 or any(name.startswith(_SLOTS) for name in state)


def _mean(gradients: Sequence[Gradient]) -> Gradient:
    """Mean of one parameter's gradients over the batches of a step; rows of IndexedSlices follow one another."""
    if len(gradients) == 1:
        return gradients[0]
    if isinstance(gradients[0], tf.IndexedSlices):
        values = tf.concat([gradient.values for gradient in gradients], axis=0)
        rows = tf.concat([gradient.indices for gradient in gradients], axis=0)
        return tf.IndexedSlices(values / len(gradients), rows, gradients[0].dense_shape)
    return functools.reduce(operator.add, gradients) / len(gradients)
