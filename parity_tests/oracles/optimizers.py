"""One optimiser step by hand, dense and row-sparse, in float64.

Source: Adagrad: Duchi et al. 2011; Adam: Kingma and Ba 2015, algorithm 1 (epsilon outside the corrected root); AdamW:
Loshchilov and Hutter 2019, algorithm 2 with the decay first and scaled by the learning rate; SGD with heavy-ball
momentum: Sutskever et al. 2013 in the form v = mu v + g; p -= lr v. Clipping: Pascanu et al. 2013, algorithm 1.
Row-sparse: of a table only the rows that the step's batches looked up move, value and slots alike; t counts all steps.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from parity_tests.oracles import model
from parity_tests.oracles.towers import Array, Arrays, NamedArrays
from retrieval_contract.arrays import Batch
from retrieval_contract.config import Optimizer, RunConfig
from retrieval_contract.weights.names import Parameter

SLOTS = {
    "adam": ("first_moment", "second_moment"),
    "adamw": ("first_moment", "second_moment"),
    "adagrad": ("accumulator",),
}


def initial_state(settings: Optimizer, weights: NamedArrays) -> Arrays:
    """State before the first step: weights, slots at their start, step 0."""
    state = {f"weights/{name}": np.asarray(array, np.float64) for name, array in weights.items()}
    start = settings.initial_accumulator if settings.kind == "adagrad" else 0.0
    for slot in slots_of(settings):
        state |= {f"slots/{slot}/{name}": np.full(np.shape(array), start) for name, array in weights.items()}
    return state | {"step": np.asarray(0.0)}


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
) -> tuple[Arrays, float, float]:
    """Take one step on the mean gradient of the batches.

    Args:
        config: the run.
        table: canonical parameters.
        state: as in `TrainerState`; not written.
        batches: the step's batches.
        learning_rate: of this step.

    Returns:
        State after the step, mean loss at the weights before it, and the gradient's norm before clipping. A loss that
        is not finite moves nothing.
    """
    settings, weights = config.optimizer, weights_of(state)
    results = [model.loss_and_gradients(config, weights, batch) for batch in batches]
    loss = float(np.mean([loss for loss, _ in results]))
    gradients = {name: np.mean([parts[name] for _, parts in results], axis=0) for name in weights}
    norm = float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))
    after = {name: np.array(array, np.float64) for name, array in state.items()}
    if not np.isfinite(loss):
        return after, loss, norm
    after["step"] = after["step"] + 1
    rows = moving_rows(config, table, batches)
    for name, gradient in clipped(gradients, norm, settings.clip_norm).items():
        slots = [after[f"slots/{slot}/{name}"] for slot in slots_of(settings)]
        decays = table[name].decays and settings.weight_decay > 0
        _move(
            settings, after[f"weights/{name}"], slots, gradient, rows[name], learning_rate, float(after["step"]), decays
        )
    return after, loss, norm


def weights_of(state: NamedArrays) -> dict[str, Array]:
    """The weights in a state, by canonical name."""
    return {name.removeprefix("weights/"): array for name, array in state.items() if name.startswith("weights/")}


def moving_rows(
    config: RunConfig, table: Mapping[str, Parameter], batches: Sequence[Batch]
) -> dict[str, NDArray[np.int64]]:
    """Rows of each parameter that a step moves: all of a dense one, the looked-up ones of a table."""
    looked_up = model.looked_up_rows(config, batches)
    return {name: looked_up[name] if entry.sparse else np.arange(entry.shape[0]) for name, entry in table.items()}


def clipped(gradients: Arrays, norm: float, clip_norm: float | None) -> Arrays:
    """Scale by clip_norm / max(norm, clip_norm)."""
    scale = 1.0 if clip_norm is None else clip_norm / max(norm, clip_norm)
    return {name: gradient * scale for name, gradient in gradients.items()}


def adaptive_quotient(numerator: Array, square: Array, epsilon: float) -> Array:
    """`numerator / (sqrt(square) + epsilon)`: epsilon outside the root."""
    return numerator / (np.sqrt(square) + epsilon)


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
