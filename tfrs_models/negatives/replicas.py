"""Several processes that train one model: what each must know of the others' rows.

Every process holds all weights and takes its own rows of a batch. Candidates are gathered, so that the negatives are
those of the whole batch, and gradients are summed, so that all take the same step.
"""

import functools
import json
import os
from typing import Any

import tensorflow as tf

from retrieval_contract.errors import UserError

_TASKS = ("chief", "worker")
"""Kinds of task that train, in the order in which TensorFlow numbers them."""


def num_replicas() -> int:
    """Processes that train together; 1 where `TF_CONFIG` names no other."""
    return _place()[1]


def replica() -> int:
    """Number of this process among them, from 0."""
    return _place()[0]


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """The one strategy of this process; where there are several processes, this is where they meet.

    It must be asked for before TensorFlow computes anything: TensorFlow refuses to open its channels later.

    Raises:
        UserError: a process sees several GPUs.
    """
    if num_replicas() == 1:
        return tf.distribute.get_strategy()
    found = tf.distribute.MultiWorkerMirroredStrategy()
    if found.num_replicas_in_sync != num_replicas():
        todo = "let each process see one, by CUDA_VISIBLE_DEVICES"
        raise UserError("a process sees several GPUs, and each process is one replica", todo=todo)
    return found


def run(function: Any, *arguments: Any) -> Any:
    """Call a `tf.function` that may gather and sum; with one process it is an ordinary call."""
    return strategy().run(function, arguments)


def gathered(x: tf.Tensor) -> tf.Tensor:
    """All processes' tensors, one after the other along the first axis; inside `run`.

    The gradient of a process's own part is the sum over what all processes made of it.
    """
    return x if num_replicas() == 1 else _context().all_gather(_placed(x), axis=0)


def summed(x: Any) -> Any:
    """Sum over all processes of a tensor, or of every tensor of a nest; inside `run`."""
    if num_replicas() == 1 or not tf.nest.flatten(x):
        return x
    return _context().all_reduce(tf.distribute.ReduceOp.SUM, _placed(x))


def any_replica(flag: bool) -> bool:
    """True in every process where `flag` is true in one of them; all must call it, between the same steps."""
    return bool(run(_count, tf.constant(int(flag))) > 0)


@tf.function(input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
def _count(flag: tf.Tensor) -> tf.Tensor:
    # Not the argument itself: it lies on no device, and a sum must know where to go.
    return summed(tf.identity(flag))


def _placed(x: Any) -> Any:
    """The same tensors, on this process's device: an argument of a compiled function stands on none, and is refused."""
    return tf.nest.map_structure(tf.identity, x)


def _context() -> tf.distribute.ReplicaContext:
    context = tf.distribute.get_replica_context()
    assert context is not None and context.num_replicas_in_sync == num_replicas(), "called outside `run`"
    return context


@functools.cache
def _place() -> tuple[int, int]:
    """Number of this process and how many there are, as `TF_CONFIG` says.

    Raises:
        UserError: it says something that cannot be.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 0, 1
    todo = 'take {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        told = json.loads(text)
        cluster, task = told.get("cluster", {}), told.get("task", {})
        sizes = {kind: len(addresses) for kind, addresses in cluster.items()}
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG cannot be read: {error}", where="environment", todo=todo) from error
    if not sizes:
        return 0, 1
    if not set(sizes) <= set(_TASKS) or not 0 <= index < sizes.get(kind, 0):
        what = f"TF_CONFIG names task {kind} {index} of a cluster of {sizes}"
        raise UserError(what, where="environment", todo=todo)
    return index + (sizes.get("chief", 0) if kind == "worker" else 0), sum(sizes.values())
