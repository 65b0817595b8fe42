"""One optimiser step by hand, dense and row-sparse, in float64.

Source: Adagrad: Duchi et al. 2011; Adam: Kingma and Ba 2015, algorithm 1 (epsilon outside the corrected root); AdamW:
Loshchilov and Hutter 2019, algorithm 2 with the decay first and scaled by the learning rate; SGD with heavy-ball
momentum: Sutskever et al. 2013 in the form v = mu v + g; p -= lr v. Clipping: Pascanu et al. 2013, algorithm 1.
Row-sparse: of a table only the rows that the step's batches looked up move, value and slots alike; t counts all steps.
A step: loss of all its batches, with the bank as it stands; the move; parameters put back inside their bounds; then the
average, the bank and batch norm's moving statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import bank, logits, model
from parity_tests.oracles.differentiation import Array
from parity_tests.oracles.inputs import NamedArrays
from parity_tests.oracles.layers import moved_statistics
from parity_tests.oracles.towers import Arrays
from retrieval_contract.arrays import Batch
from retrieval_contract.config import Optimizer, RunConfig
from retrieval_contract.weights.parameter import Parameter

SLOTS = {
    "adam": ("first_moment", "second_moment"),
    "adamw": ("first_moment", "second_moment"),
    "adagrad": ("accumulator",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step's state and report."""

    state: Arrays
    """After the step."""
    loss: float
    """Mean over the batches, at the weights before the step."""
    norm: float
    """Of the mean gradient, before clipping."""
    temperature: float
    """That the step's logits were divided by."""


def initial_state(config: RunConfig, weights: NamedArrays) -> Arrays:
    """State before the first step: weights, slots at their start, step 0, an empty bank."""
    settings = config.optimizer
    state = {f"weights/{name}": np.asarray(array, np.float64) for name, array in weights.items()}
    start = settings.initial_accumulator if settings.kind == "adagrad" else 0.0
    for slot in slots_of(settings):
        trained = {name: array for name, array in weights.items() if model.is_trained(name)}
        state |= {f"slots/{slot}/{name}": np.full(np.shape(array), start) for name, array in trained.items()}
    return state | {"step": np.asarray(0.0)} | bank.initial_state(config, weights)


def slots_of(settings: Optimizer) -> tuple[str, ...]:
    """Names of the slots each parameter has."""
    if settings.kind == "sgd":
        return ("velocity",) if settings.momentum else ()
    return SLOTS[settings.kind]


def take_step(
    config: RunConfig,
    table: Mapping[str, Parameter],
    state: NamedArrays,
    batches: Sequence[Batch],
    *,
    learning_rate: float,
    catalogue: NamedArrays | None = None,
) -> Step:
    """Take one step on the mean gradient of the batches.

    Args:
        config: the run.
        table: canonical parameters.
        state: as in `TrainerState`; not written.
        batches: the step's batches.
        learning_rate: of this step.
        catalogue: encoded features of all candidates; full softmax and gBCE need them.

    Returns:
        The step; a loss or a norm that is not finite moves nothing.
    """
    weights, stored = weights_of(state), bank.columns_of(config, state)
    results = [model.loss_and_gradients(config, weights, batch, catalogue=catalogue, bank=stored) for batch in batches]
    loss = float(np.mean([loss for loss, _ in results]))
    gradients = {name: np.mean([parts[name] for _, parts in results], axis=0) for name in results[0][1]}
    norm = float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))
    after = {name: np.array(array, np.float64) for name, array in state.items()}
    if np.isfinite(loss) and np.isfinite(norm):
        after["step"] = after["step"] + 1
        rows = moving_rows(config, table, batches, catalogue)
        _move_all(
            config.optimizer, table, after, clipped(gradients, norm, config.optimizer.clip_norm), rows, learning_rate
        )
        after |= statistics_after(config, weights, batches, catalogue) | bank.moved_on(config, state, after, batches)
    return Step(state=after, loss=loss, norm=norm, temperature=logits.temperature(config, weights))


def statistics_after(
    config: RunConfig, weights: NamedArrays, batches: Sequence[Batch], catalogue: NamedArrays | None
) -> Arrays:
    """Moving statistics of batch norm behind a step; one batch makes a step there."""
    if all(tower.norm != "batch" for tower in config.towers.values()):
        return {}
    [batch] = batches
    found = model.forward(config, weights, batch, catalogue=catalogue).statistics
    return {f"weights/{name}": moved_statistics(weights[name], statistic) for name, statistic in found.items()}


def weights_of(state: NamedArrays) -> dict[str, Array]:
    """The weights in a state, by canonical name."""
    return {name.removeprefix("weights/"): array for name, array in state.items() if name.startswith("weights/")}


def moving_rows(
    config: RunConfig, table: Mapping[str, Parameter], batches: Sequence[Batch], catalogue: NamedArrays | None = None
) -> dict[str, NDArray[np.int64]]:
    """Rows of each parameter that a step moves: all of a dense one, the looked-up ones of a table."""
    looked_up = model.looked_up_rows(config, batches, catalogue)
    return {name: looked_up[name] if entry.sparse else np.arange(entry.shape[0]) for name, entry in table.items()}


def clipped(gradients: Arrays, norm: float, clip_norm: float | None) -> Arrays:
    """Scale by clip_norm / max(norm, clip_norm)."""
    scale = 1.0 if clip_norm is None else clip_norm / max(norm, clip_norm)
    return {name: gradient * scale for name, gradient in gradients.items()}


def adaptive_quotient(numerator: Array, square: Array, epsilon: float) -> Array:
    """`numerator / (sqrt(square) + epsilon)`: epsilon outside the root."""
    return numerator / (np.sqrt(square) + epsilon)


def within_bounds(value: Array, parameter: Parameter) -> Array:
    """A parameter put back between its least and its largest value, where it has any."""
    return value if parameter.bounds is None else np.clip(value, *parameter.bounds)


def _move_all(
    settings: Optimizer,
    table: Mapping[str, Parameter],
    state: Arrays,
    gradients: Arrays,
    rows: Mapping[str, NDArray[np.int64]],
    learning_rate: float,
) -> None:
    """Update every parameter of a state, whose step is counted already, and its slots, in place."""
    for name, gradient in gradients.items():
        slots = [state[f"slots/{slot}/{name}"] for slot in slots_of(settings)]
        decays = table[name].decays and settings.weight_decay > 0
        value = state[f"weights/{name}"]
        _move(settings, value, slots, gradient, rows[name], learning_rate, float(state["step"]), decays)
        state[f"weights/{name}"] = within_bounds(value, table[name])


def _move(
    settings: Optimizer,
    value: Array,
    slots: Sequence[Array],
    gradient: Array,
    rows: NDArray[np.int64],
    learning_rate: float,
    t: float,
    decays: bool,
) -> None:
    """Update rows of one parameter and its slots in place."""
    g = gradient[rows]
    if decays:
        value[rows] -= learning_rate * settings.weight_decay * value[rows]
    if settings.kind == "sgd":
        direction = g
        if settings.momentum:
            slots[0][rows] = direction = settings.momentum * slots[0][rows] + g
    elif settings.kind == "adagrad":
        slots[0][rows] += g**2
        direction = adaptive_quotient(g, slots[0][rows], settings.epsilon)
    else:
        slots[0][rows] = settings.beta_1 * slots[0][rows] + (1 - settings.beta_1) * g
        slots[1][rows] = settings.beta_2 * slots[1][rows] + (1 - settings.beta_2) * g**2
        first, second = slots[0][rows] / (1 - settings.beta_1**t), slots[1][rows] / (1 - settings.beta_2**t)
        direction = adaptive_quotient(first, second, settings.epsilon)
    value[rows] -= learning_rate * direction
