"""Optimisers: one update rule each, for dense parameters and for the touched rows of tables alike.

A row outside the batch does not move, neither its value nor its slots, and a step costs what the batch touched: rows
are gathered, updated by the same code as dense parameters, and put back. The rules are written here and not taken from
`torch.optim`, whose `SparseAdam` keeps other slots than `Adam` and which has no sparse AdamW.

Letters: U distinct rows of a table that the batch looked up, W width.
"""

import abc
import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from retrieval_contract.config import Optimizer as OptimizerSettings
from retrieval_contract.weights.parameter import Parameter
from torch_reference.training.clipping import Gradients


class UpdateRule(abc.ABC):
    """How values and slots move, given a gradient of the same shape."""

    slot_starts: Mapping[str, float]
    """Slot name -> the number that fills it before the first step."""

    @abc.abstractmethod
    def update(
        self,
        values: Tensor,
        gradient: Tensor,
        slots: Mapping[str, Tensor],
        *,
        step: int,
        learning_rate: float,
        decays: bool,
    ) -> None:
        """Move values and slots in place.

        Args:
            values: a dense parameter, or touched rows [U, W].
            gradient: same shape; duplicates summed.
            slots: by name, same shape.
            step: global step, counted from 1.
            learning_rate: of this step.
            decays: whether weight decay acts on this parameter.
        """


@final
class Sgd(UpdateRule):
    """`v = mu v + g; p -= lr v`; without momentum `p -= lr g`, and no slot."""

    def __init__(self, settings: OptimizerSettings) -> None:
        self._momentum = settings.momentum
        self.slot_starts = {"velocity": 0.0} if settings.momentum else {}

    def update(
        self,
        values: Tensor,
        gradient: Tensor,
        slots: Mapping[str, Tensor],
        *,
        step: int,
        learning_rate: float,
        decays: bool,
    ) -> None:
        """Move values and velocity."""
        move = slots["velocity"].mul_(self._momentum).add_(gradient) if self._momentum else gradient
        values.add_(move, alpha=-learning_rate)


@final
class Adagrad(UpdateRule):
    """`a += g^2; p -= lr g / (sqrt(a) + eps)`, a from `initial_accumulator`. Source: Duchi et al., 2011."""

    def __init__(self, settings: OptimizerSettings) -> None:
        self._epsilon = settings.epsilon
        self.slot_starts = {"accumulator": settings.initial_accumulator}

    def update(
        self,
        values: Tensor,
        gradient: Tensor,
        slots: Mapping[str, Tensor],
        *,
        step: int,
        learning_rate: float,
        decays: bool,
    ) -> None:
        """Move values and accumulator."""
        accumulator = slots["accumulator"].addcmul_(gradient, gradient)
        values.addcdiv_(gradient, accumulator.sqrt().add_(self._epsilon), value=-learning_rate)


@final
class Adam(UpdateRule):
    """Adam, and AdamW where weight decay is set; epsilon outside the root, after bias correction.

    `m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`, and
    before it, AdamW, `p -= lr wd p`. The step t of the bias corrections is the global one, on table rows too, however
    seldom they were touched.

    Source: Kingma and Ba, 2015, algorithm 1; Loshchilov and Hutter, 2019, algorithm 2 with the decay scaled by lr.
    """

    def __init__(self, settings: OptimizerSettings) -> None:
        self._beta_1, self._beta_2 = settings.beta_1, settings.beta_2
        self._epsilon, self._weight_decay = settings.epsilon, settings.weight_decay
        self.slot_starts = {"first_moment": 0.0, "second_moment": 0.0}

    def update(
        self,
        values: Tensor,
        gradient: Tensor,
        slots: Mapping[str, Tensor],
        *,
        step: int,
        learning_rate: float,
        decays: bool,
    ) -> None:
        """Move values and both moments."""
        if self._weight_decay and decays:
            values.mul_(1 - learning_rate * self._weight_decay)
        first = slots["first_moment"].mul_(self._beta_1).add_(gradient, alpha=1 - self._beta_1)
        second = slots["second_moment"].mul_(self._beta_2).addcmul_(gradient, gradient, value=1 - self._beta_2)
        root = second.sqrt().div_(math.sqrt(1 - self._beta_2**step)).add_(self._epsilon)
        values.addcdiv_(first, root, value=-learning_rate / (1 - self._beta_1**step))


RULES: dict[str, type[Sgd] | type[Adagrad] | type[Adam]] = {"sgd": Sgd, "adagrad": Adagrad, "adam": Adam, "adamw": Adam}


@final
class Optimizer:
    """An update rule with the variables it moves and their slots by canonical name."""

    def __init__(self, rule: UpdateRule, variables: Mapping[str, Tensor], table: Mapping[str, Parameter]) -> None:
        """Start the slots.

        Args:
            rule: how variables move.
            variables: by canonical name, in the model's layout.
            table: from `parameter_table`.
        """
        self._rule, self._variables, self._table = rule, variables, table
        self.slots = {
            slot: {name: torch.full_like(variable, start, requires_grad=False) for name, variable in variables.items()}
            for slot, start in rule.slot_starts.items()
        }

    @torch.no_grad()
    def apply(self, gradients: Gradients, *, step: int, learning_rate: float) -> None:
        """Take one step, and put what has bounds back inside them.

        Args:
            gradients: by canonical name; of a table sparse and coalesced, or dense (then every row moves).
            step: global step, counted from 1.
            learning_rate: of this step.
        """
        for name, gradient in gradients.items():
            slots = {slot: tensors[name] for slot, tensors in self.slots.items()}
            move = self._move_rows if gradient.is_sparse else self._rule.update
            move(
                self._variables[name],
                gradient,
                slots,
                step=step,
                learning_rate=learning_rate,
                decays=self._table[name].decays,
            )
            bounds = self._table[name].bounds
            if bounds is not None:
                self._variables[name].clamp_(*bounds)

    def _move_rows(
        self,
        table_VW: Tensor,
        gradient: Tensor,
        slots: Mapping[str, Tensor],
        *,
        step: int,
        learning_rate: float,
        decays: bool,
    ) -> None:
        """Move the rows that the gradient names; nothing here may touch a whole table."""
        rows_U = gradient.indices()[0]
        values_UW = table_VW.index_select(0, rows_U)
        slots_UW = {slot: tensor.index_select(0, rows_U) for slot, tensor in slots.items()}
        self._rule.update(values_UW, gradient.values(), slots_UW, step=step, learning_rate=learning_rate, decays=decays)
        table_VW.index_copy_(0, rows_U, values_UW)
        for slot, tensor in slots.items():
            tensor.index_copy_(0, rows_U, slots_UW[slot])


def make_optimizer(
    settings: OptimizerSettings, variables: Mapping[str, Tensor], table: Mapping[str, Parameter]
) -> Optimizer:
    """Build the configured optimiser, its slots at their starts.

    Args:
        settings: kind and constants; the learning rate, warm-up and clipping are not read here.
        variables: by canonical name, in the model's layout.
        table: from `parameter_table`.
    """
    return Optimizer(RULES[settings.kind](settings), variables, table)
