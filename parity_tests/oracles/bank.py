"""Cross-batch negatives by hand: a first-in, first-out store of candidate vectors, and the average that may fill it.

Entry number n lies in place n mod S, S = num_batches x batch_size. Columns exist only when as many optimiser steps as
the warm-up are done, and only for entries that were ever filled. Entries keep the vector, the bias and the log_q of
their time.

Source: Wang et al., SIGIR 2021, section 3.3, algorithm 1 (warm-up, first in first out, log_q of its time); the moving
average: He et al., CVPR 2020, eq. 2.
"""

from collections.abc import Sequence

import numpy as np

from parity_tests.oracles import columns
from parity_tests.oracles.differentiation import Array
from parity_tests.oracles.inputs import NamedArrays
from parity_tests.oracles.towers import Arrays
from retrieval_contract.arrays import BankColumns, Batch
from retrieval_contract.config import RunConfig

AVERAGE = "average/"


def initial_state(config: RunConfig, weights: NamedArrays) -> Arrays:
    """An empty ring and an average equal to the weights; nothing without a bank."""
    if not config.negatives.bank.num_batches:
        return {}
    size = num_places(config)
    state = {
        "bank/vectors": np.zeros((size, config.model.dim)),
        "bank/rows": np.zeros(size),
        "bank/log_q": np.zeros(size),
        "bank/enqueued": np.asarray(0.0),
    }
    if config.model.candidate_bias:
        state["bank/bias"] = np.zeros(size)
    if config.negatives.bank.momentum is not None:
        averaged = {name: array for name, array in weights.items() if name.startswith("candidate.")}
        state |= {AVERAGE + name: np.asarray(array, np.float64) for name, array in averaged.items()}
    return state


def num_places(config: RunConfig) -> int:
    """S."""
    return config.negatives.bank.num_batches * config.training.batch_size


def columns_of(config: RunConfig, state: NamedArrays) -> BankColumns | None:
    """What a step sees of the bank: None without one, during the warm-up, and before the first entry."""
    bank = config.negatives.bank
    if not bank.num_batches or state["step"] < bank.warmup_steps or not state["bank/enqueued"]:
        return None
    filled = slice(0, min(int(state["bank/enqueued"]), num_places(config)))
    return BankColumns(
        vectors=state["bank/vectors"][filled],
        rows=state["bank/rows"][filled].astype(np.int32),
        log_q=state["bank/log_q"][filled],
        bias=state["bank/bias"][filled] if "bank/bias" in state else None,
    )


def averaged(config: RunConfig, state: NamedArrays) -> Arrays:
    """`average <- m average + (1 - m) weights`, with the weights of the state."""
    momentum = config.negatives.bank.momentum
    names = [name.removeprefix(AVERAGE) for name in state if name.startswith(AVERAGE)]
    assert momentum is not None
    return {
        AVERAGE + name: momentum * state[AVERAGE + name] + (1 - momentum) * state[f"weights/{name}"] for name in names
    }


def moved_on(config: RunConfig, before: NamedArrays, after: NamedArrays, batches: Sequence[Batch]) -> Arrays:
    """Average and bank at the end of a step.

    Args:
        config: the run.
        before: state before the step; its weights gave this step's vectors.
        after: state whose weights have moved.
        batches: the step's batches; the positives of each are enqueued in their order.

    Returns:
        The entries of the state that change.
    """
    if not config.negatives.bank.num_batches:
        return {}
    average = {} if config.negatives.bank.momentum is None else averaged(config, after)
    weights = _tower(before, "weights/") if not average else _tower(average, AVERAGE)
    ring = {name: np.array(array) for name, array in before.items() if name.startswith("bank/")}
    for batch in batches:
        enqueue(config, ring, weights, batch)
    return ring | average


def enqueue(config: RunConfig, ring: Arrays, weights: NamedArrays, batch: Batch) -> None:
    """Write a batch's positives over the oldest entries, one after the other."""
    positives = columns.columns_of(config, weights, batch).kinds[0]
    vectors_BD, bias_B = positives.vectors.value[0], positives.bias.value[0]
    for row in range(len(vectors_BD)):
        place = int(ring["bank/enqueued"]) % num_places(config)
        ring["bank/vectors"][place] = vectors_BD[row]
        ring["bank/rows"][place] = batch.candidate_rows[row]
        ring["bank/log_q"][place] = batch.log_q[row]
        if "bank/bias" in ring:
            ring["bank/bias"][place] = bias_B[row]
        ring["bank/enqueued"] += 1


def _tower(state: NamedArrays, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
