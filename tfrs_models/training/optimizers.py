"""Update rules: the same arithmetic for a whole dense parameter and for the rows of a table that a step touched.

A rule is arithmetic on tensors and knows no variable. `Optimizer` reads what a gradient touches, applies the rule, and
writes it back. A row that is not in the gradient does not move, neither its value nor its slots: its moments do not
fade, no weight decay acts. Keras's Adam moves the whole table, and costs what it holds.
"""

import abc
from collections.abc import Callable, Mapping

import tensorflow as tf

from retrieval_contract.config import Optimizer as OptimizerSettings
from retrieval_contract.weights.parameter import Parameter
from tfrs_models.training.clipping import Gradient, Gradients, sum_duplicates

_Slots = dict[str, tf.Tensor]


class UpdateRule(abc.ABC):
    """One update rule; all tensors of a call have one shape."""

    slot_starts: Mapping[str, float]
    """Slot name -> the value that it starts from."""

    @abc.abstractmethod
    def update(
        self,
        values: tf.Tensor,
        gradient: tf.Tensor,
        slots: _Slots,
        *,
        step: tf.Tensor,
        learning_rate: tf.Tensor,
        decays: bool,
    ) -> tuple[tf.Tensor, _Slots]:
        """New values and new slots.

        Args:
            values: parameter, or the rows of it that move.
            gradient: its gradient.
            slots: its slots by name.
            step: number of this step, from 1, float64 scalar.
            learning_rate: float64 scalar.
            decays: whether weight decay acts on it.
        """


class Sgd(UpdateRule):
    """`v = momentum v + g; p -= lr v`; without momentum there is no slot, and `p -= lr g`."""

    def __init__(self, settings: OptimizerSettings) -> None:
        """Take the momentum."""
        self.momentum = settings.momentum
        self.slot_starts = {"velocity": 0.0} if settings.momentum else {}

    def update(
        self,
        values: tf.Tensor,
        gradient: tf.Tensor,
        slots: _Slots,
        *,
        step: tf.Tensor,
        learning_rate: tf.Tensor,
        decays: bool,
    ) -> tuple[tf.Tensor, _Slots]:
        """See `UpdateRule.update`."""
        if not self.momentum:
            return values - tf.cast(learning_rate, values.dtype) * gradient, {}
        velocity = self.momentum * slots["velocity"] + gradient
        return values - tf.cast(learning_rate, values.dtype) * velocity, {"velocity": velocity}


class Adagrad(UpdateRule):
    """`a += g^2; p -= lr g / (sqrt(a) + eps)`; Keras puts eps under the root."""

    def __init__(self, settings: OptimizerSettings) -> None:
        """Take epsilon and the start of the sum of squares."""
        self.epsilon = settings.epsilon
        self.slot_starts = {"accumulator": settings.initial_accumulator}

    def update(
        self,
        values: tf.Tensor,
        gradient: tf.Tensor,
        slots: _Slots,
        *,
        step: tf.Tensor,
        learning_rate: tf.Tensor,
        decays: bool,
    ) -> tuple[tf.Tensor, _Slots]:
        """See `UpdateRule.update`."""
        accumulator = slots["accumulator"] + tf.square(gradient)
        direction = gradient / (tf.sqrt(accumulator) + self.epsilon)
        return values - tf.cast(learning_rate, values.dtype) * direction, {"accumulator": accumulator}


class Adam(UpdateRule):
    """`p -= lr m^ / (sqrt(v^) + eps)` with `m^ = m / (1 - b1^t)`, `v^ = v / (1 - b2^t)`, t the step of the whole run.

    AdamW takes `lr weight_decay p` off first. Keras adds eps before the correction of the second moment, so its eps is
    another one.
    """

    def __init__(self, settings: OptimizerSettings) -> None:
        """Take the decays of the moments, epsilon, and the weight decay."""
        self.beta_1, self.beta_2, self.epsilon = settings.beta_1, settings.beta_2, settings.epsilon
        self.weight_decay = settings.weight_decay
        self.slot_starts = {"first_moment": 0.0, "second_moment": 0.0}

    def update(
        self,
        values: tf.Tensor,
        gradient: tf.Tensor,
        slots: _Slots,
        *,
        step: tf.Tensor,
        learning_rate: tf.Tensor,
        decays: bool,
    ) -> tuple[tf.Tensor, _Slots]:
        """See `UpdateRule.update`."""
        if decays and self.weight_decay:
            values -= tf.cast(learning_rate * self.weight_decay, values.dtype) * values
        first = self.beta_1 * slots["first_moment"] + (1 - self.beta_1) * gradient
        second = self.beta_2 * slots["second_moment"] + (1 - self.beta_2) * tf.square(gradient)
        first_hat = first / _share_seen(self.beta_1, step, values.dtype)
        second_hat = second / _share_seen(self.beta_2, step, values.dtype)
        direction = first_hat / (tf.sqrt(second_hat) + self.epsilon)
        return values - tf.cast(learning_rate, values.dtype) * direction, {
            "first_moment": first,
            "second_moment": second,
        }


RULES: Mapping[str, Callable[[OptimizerSettings], UpdateRule]] = {
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": Adam,
    "sgd": Sgd,
}
"""Rule by its name in the config."""


class Optimizer:
    """A rule over named variables, and their slots."""

    def __init__(self, rule: UpdateRule, variables: Mapping[str, tf.Variable], table: Mapping[str, Parameter]) -> None:
        """Create the slots at their start.

        Args:
            rule: how values move.
            variables: by canonical name.
            table: how each parameter is treated, by canonical name.
        """
        self.rule = rule
        self.variables = dict(variables)
        self.decays = {name: table[name].decays for name in variables}
        self.bounds = {name: table[name].bounds for name in variables}
        self.slots = {
            slot: {name: _filled(variable, start) for name, variable in variables.items()}
            for slot, start in rule.slot_starts.items()
        }

    def apply(self, gradients: Gradients, *, step: tf.Tensor | int, learning_rate: tf.Tensor | float) -> None:
        """Move what the gradients touch; a parameter with bounds that would leave them stops on them.

        Args:
            gradients: of every variable by canonical name; dense, or IndexedSlices, whose repeated rows are summed.
            step: number of this step, from 1.
            learning_rate: of this step, a float or a float64 scalar.
        """
        assert gradients.keys() == self.variables.keys(), "a gradient for every variable, and no other"
        count = tf.cast(step, tf.float64)
        # Not a cast: that would round a Python float to float32 on its way.
        rate = tf.convert_to_tensor(learning_rate, tf.float64)
        for name, repeated in gradients.items():
            gradient = sum_duplicates(repeated)
            held = {slot: variables[name] for slot, variables in self.slots.items()}
            values, slots = self.rule.update(
                _touched(self.variables[name], gradient),
                gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient,
                {slot: _touched(variable, gradient) for slot, variable in held.items()},
                step=count,
                learning_rate=rate,
                decays=self.decays[name],
            )
            bounds = self.bounds[name]
            _put_back(self.variables[name], gradient, values if bounds is None else tf.clip_by_value(values, *bounds))
            for slot, variable in held.items():
                _put_back(variable, gradient, slots[slot])


def make_optimizer(
    settings: OptimizerSettings, variables: Mapping[str, tf.Variable], table: Mapping[str, Parameter]
) -> Optimizer:
    """Build the optimiser of a run.

    Args:
        settings: the rule and its numbers; clipping and accumulation are the trainer's.
        variables: by canonical name.
        table: how each parameter is treated, by canonical name.
    """
    return Optimizer(RULES[settings.kind](settings), variables, table)


def _share_seen(beta: float, step: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`1 - beta^t`, in float64 until the end: in float32 `1 - 0.999` is off by 5e-5 of itself."""
    return tf.cast(1 - tf.pow(tf.constant(beta, tf.float64), step), dtype)


def _filled(variable: tf.Variable, start: float) -> tf.Variable:
    return tf.Variable(tf.fill(variable.shape, tf.constant(start, variable.dtype)), trainable=False)


def _touched(variable: tf.Variable, gradient: Gradient) -> tf.Tensor:
    """What the gradient moves: rows of a table, gathered without reading the table, or the whole parameter."""
    return tf.gather(variable, gradient.indices) if isinstance(gradient, tf.IndexedSlices) else variable.read_value()


def _put_back(variable: tf.Variable, gradient: Gradient, values: tf.Tensor) -> None:
    if isinstance(gradient, tf.IndexedSlices):
        variable.scatter_update(tf.IndexedSlices(values, gradient.indices))
    else:
        variable.assign(values)
