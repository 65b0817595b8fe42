"""One optimiser step as one compiled function, and the state that a run goes on from."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from retrieval_contract.arrays import AnyArray, Batch, FeatureArrays
from retrieval_contract.config import RunConfig
from retrieval_contract.data.shards import shard
from retrieval_contract.errors import UserError
from retrieval_contract.stack import StepResult, TrainerState
from retrieval_contract.weights.names import VocabularySizes, parameter_table
from tfrs_models.inputs import any_length, batch_tensors, choose_device
from tfrs_models.layers.dropout import fold_in
from tfrs_models.layers.norm import Moments
from tfrs_models.negatives.bank import NegativeBank
from tfrs_models.negatives.columns import Columns
from tfrs_models.negatives.replicas import gathered, num_replicas, replica, run, strategy
from tfrs_models.training.clipping import Gradients, add_up, clip_by_global_norm, scaled
from tfrs_models.training.model import RetrievalModel, Step
from tfrs_models.training.momentum import MovingAverage
from tfrs_models.training.optimizers import make_optimizer
from tfrs_models.weights import parameters_by_name, read, write

_WEIGHTS, _SLOTS, _BANK, _AVERAGE = "weights/", "slots/", "bank/", "average/"


class TwoTowerTrainer:
    """A model with its optimiser (`retrieval_contract.stack.Trainer`).

    What a step does depends on the state, the batches, the rate and `config.seed` alone, to the last bit on one
    machine: dropout is seeded by (seed, step, batch of the step, side, layer), and TensorFlow's op determinism is
    switched on for the whole process, from the first trainer on (unseeded TensorFlow draws then raise).

    Of several processes each is given the whole batch and takes its own rows; all take the same step.
    """

    def __init__(
        self, config: RunConfig, sizes: VocabularySizes, state: TrainerState, catalogue: FeatureArrays
    ) -> None:
        """Build the model at a state; several processes meet here.

        Args:
            config: the run.
            sizes: rows of each vocabulary by side and feature.
            state: weights, slots, bank, average and step; at step 0 all but weights and step may be absent, and then
                stand at their start.
            catalogue: encoded features of all candidates, leading dimension V.

        Raises:
            UserError: arrays that are missing, left over or of another shape; a device that is not there; batch norm
                with several processes.
        """
        _refuse_batch_norm_of_several(config)
        strategy()
        tf.config.experimental.enable_op_determinism()
        self._seed = config.seed
        self._clip_norm = config.optimizer.clip_norm
        self._device = choose_device(config.training.device)
        negatives = config.negatives.bank
        self._warmup_steps = negatives.warmup_steps
        with tf.device(self._device):
            self._model = RetrievalModel(config, sizes, catalogue=catalogue)
            self._weights = parameters_by_name(self._model.towers)
            table = parameter_table(config, sizes)
            self._trained = {name: variable for name, variable in self._weights.items() if table[name].trained}
            self._optimizer = make_optimizer(config.optimizer, self._trained, table)
            self._done = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._bank = self._average = None
            if negatives.num_batches:
                num_places = negatives.num_batches * config.training.batch_size
                self._bank = NegativeBank(num_places, config.model.dim, config.model.candidate_bias)
            if negatives.momentum is not None:
                self._average = MovingAverage(self._model.towers, negatives.momentum)
            self._load(state)
        self._compiled: Any = None

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        """Take one optimiser step on the mean gradient of the batches.

        Args:
            batches: the step's batches, `accumulation_steps` of them; each has negatives of its own only, and the
                bank's.
            learning_rate: of this step.

        Returns:
            Mean loss and temperature before the step, and gradient norm before clipping. Where loss or norm is not
            finite nothing has moved: no weight, no slot, not the bank, not the number of steps.
        """
        with tf.device(self._device):
            alone = num_replicas() == 1
            own = batches if alone else [shard(batch, replica(), num_replicas()) for batch in batches]
            tensors = tuple(batch_tensors(batch) for batch in own)
            if self._compiled is None:
                signature = [any_length(tensors), tf.TensorSpec([], tf.float64)]
                self._compiled = tf.function(self._step, input_signature=signature, autograph=False)
            found = run(self._compiled, tensors, tf.constant(learning_rate, tf.float64))
        loss, norm, temperature = (float(value) for value in found)
        return StepResult(loss=loss, gradient_norm=norm, temperature=temperature)

    def state(self) -> dict[str, AnyArray]:
        """Copy out weights, slots, bank, average and step (`TrainerState`)."""
        named = {name: variable for group in self._groups().values() for name, variable in group.items()}
        return read({**named, "step": self._done})

    def _groups(self) -> dict[str, dict[str, tf.Variable]]:
        """Variables by the name that they have in a state, grouped by what a name begins with."""
        groups = {_WEIGHTS: {_WEIGHTS + name: variable for name, variable in self._weights.items()}}
        groups[_SLOTS] = {
            f"{_SLOTS}{slot}/{name}": variable
            for slot, variables in self._optimizer.slots.items()
            for name, variable in variables.items()
        }
        if self._bank is not None:
            names = ("vectors", "rows", "log_q", "bias", "enqueued")
            named = {_BANK + name: getattr(self._bank, name) for name in names}
            groups[_BANK] = {name: variable for name, variable in named.items() if variable is not None}
        if self._average is not None:
            groups[_AVERAGE] = {_AVERAGE + name: variable for name, variable in self._average.variables_by_name.items()}
        return groups

    def _load(self, state: TrainerState) -> None:
        begins = int(state.get("step", 0)) == 0
        wanted = {"step": self._done}
        groups = self._groups()
        for prefix, group in groups.items():
            absent = not any(name.startswith(prefix) for name in state)
            if prefix == _WEIGHTS or not (begins and absent):
                wanted |= group
        write(wanted, state)
        if self._average is not None and not groups[_AVERAGE].keys() <= wanted.keys():
            # Made before the weights were there.
            self._average = MovingAverage(self._model.towers, self._average.momentum)

    def _step(self, batches: Sequence[Mapping[str, Any]], learning_rate: tf.Tensor) -> tuple[tf.Tensor, ...]:
        done = self._done.read_value()
        seed_2 = tf.stack([tf.constant(self._seed, tf.int64), done])
        bank = self._bank_columns(done)
        results = [
            self._model.loss_and_gradients(
                self._trained, batch, training=True, dropout_seed=fold_in(seed_2, number), bank=bank
            )
            for number, batch in enumerate(batches)
        ]
        temperature = _float64(self._model.towers.temperature())
        loss = tf.add_n([result.loss for result in results]) / len(results)
        clipped, norm = clip_by_global_norm(_mean([result.gradients for result in results]), self._clip_norm)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        moments = [moment for result in results for moment in result.moments]
        tf.cond(finite, lambda: self._move(clipped, learning_rate, moments), lambda: None)
        if self._bank is not None:
            self._enqueue(self._bank, batches, results, finite)
        return loss, norm, temperature

    def _move(self, gradients: Gradients, learning_rate: tf.Tensor, moments: Moments) -> None:
        self._optimizer.apply(gradients, step=self._done.assign_add(1), learning_rate=learning_rate)
        for norm, mean_F, variance_F in moments:
            norm.follow(mean_F, variance_F)
        if self._average is not None:
            self._average.update()

    def _bank_columns(self, done: tf.Tensor) -> Columns | None:
        """What the bank holds; in its warm-up nothing."""
        if self._bank is None:
            return None
        columns = self._bank.columns()
        counting = tf.where(done >= self._warmup_steps, tf.shape(columns.rows_N)[0], 0)
        return Columns(*(None if x is None else x[:counting] for x in columns))

    def _enqueue(
        self, bank: NegativeBank, batches: Sequence[Mapping[str, Any]], results: Sequence[Step], finite: tf.Tensor
    ) -> None:
        """Put the positives of the step's batches into the bank, after the weights have moved."""
        for batch, result in zip(batches, results, strict=True):
            columns = result.positives
            if self._average is not None:
                vectors_BD, bias_B = self._average.encode_candidate(batch["candidate_features"])
                # Outside the condition: processes must not gather inside one.
                columns = columns._replace(
                    vectors_ND=gathered(vectors_BD), bias_N=None if bias_B is None else gathered(bias_B)
                )
            tf.cond(finite, functools.partial(bank.enqueue, columns), lambda: None)


def _refuse_batch_norm_of_several(config: RunConfig) -> None:
    normed = [side for side, tower in config.towers.items() if tower.norm == "batch"]
    if normed and num_replicas() > 1:
        what = f"{normed[0]}.norm=batch takes its statistics over the rows of one process, and {num_replicas()} train"
        raise UserError(what, where=f"{normed[0]}.norm", todo="use layer, or train in one process")


def _mean(gradients: Sequence[Gradients]) -> Gradients:
    """Mean of each parameter's gradients over the batches of a step."""
    if len(gradients) == 1:
        return gradients[0]
    return {name: scaled(add_up([part[name] for part in gradients]), 1 / len(gradients)) for name in gradients[0]}


def _float64(value: float | tf.Tensor) -> tf.Tensor:
    # A Python float must not pass through float32 on its way.
    return tf.constant(value, tf.float64) if isinstance(value, float) else tf.cast(value, tf.float64)
