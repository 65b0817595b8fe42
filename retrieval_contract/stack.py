"""What a stack offers to the verbs: a trainer, two encoders and its indexes, with arrays in and arrays out.

The verbs live once, in `retrieval_contract.verbs`, and are handed a `Stack`; nothing here knows a framework.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from retrieval_contract.arrays import AnyArray, Batch, FeatureArrays, Float32Array
from retrieval_contract.config import RunConfig
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.weights.names import VocabularySizes

if TYPE_CHECKING:
    from retrieval_contract.runs.opened import OpenedRun

TrainerState = Mapping[str, AnyArray]
"""Everything a trainer needs to go on, canonical, so that either stack can resume the other's run:
`weights/<parameter>` and `slots/<slot>/<parameter>` float32, `step` int64 scalar (optimiser steps taken). Slots, of the
trained parameters, by optimiser: adam and adamw `first_moment`, `second_moment`; adagrad `accumulator`; sgd with
momentum `velocity`.

With `negatives.bank`, a ring of S = num_batches x batch_size places: `bank/vectors` float32 [S, D], `bank/rows` int32
[S], `bank/log_q` float32 [S], with a candidate bias `bank/bias` float32 [S], and `bank/enqueued` int64 scalar: entries
ever enqueued; entry number n lies in place n mod S, places never filled hold zeros. With `negatives.bank.momentum` also
`average/<parameter>` float32 of every parameter whose name begins with `candidate.`.

At step 0 everything but weights and step may be absent, and the trainer makes it: the bank empty, the average equal to
the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimiser step reports."""

    loss: float
    """Mean loss of the step's batches, nats per query, at the weights before the step."""
    gradient_norm: float
    """L2 norm over all parameters before clipping."""
    temperature: float
    """Temperature that the step's logits were divided by."""


class Trainer(Protocol):
    """A model with its optimiser."""

    def step(self, batches: Sequence[Batch], *, learning_rate: float) -> StepResult:
        """Take one optimiser step on the batches' mean gradient; nothing moves if loss or norm is not finite."""
        ...

    def state(self) -> dict[str, AnyArray]:
        """Copy out weights, slots and step (`TrainerState`)."""
        ...


class Encoders(Protocol):
    """The two towers as functions of arrays; computed in float64 and returned as float32, so that stacks agree."""

    def encode_queries(self, features: FeatureArrays) -> Float32Array:
        """Encoded features, leading dimension B -> vectors [B, D], the constant 1 of a candidate bias appended.

        A query tower of several interests gives [B, I, D]; a candidate's score is its largest over them.
        """
        ...

    def encode_candidates(self, features: FeatureArrays) -> Float32Array:
        """Encoded features, leading dimension B -> vectors [B, D], temperature times candidate bias appended."""
        ...


class Stack(Protocol):
    """One of the two implementations."""

    name: str
    """Package name, shown to users: `tfrs_models` or `torch_reference`."""
    indexes: Mapping[str, type[Index]]
    """Backend name -> index class, `exact` included; a backend that this machine cannot load is absent."""

    def replica(self) -> tuple[int, int]:
        """Number of this process, from 0, and how many processes train together; (0, 1) where none are configured.

        Read from the environment that the framework itself reads: `RANK` and `WORLD_SIZE` of torchrun, `TF_CONFIG` of
        TensorFlow. It is asked before anything else, so it imports no framework where one process is all there is.

        Raises:
            UserError: the environment says something that cannot be.
        """
        ...

    def any_replica(self, flag: bool) -> bool:
        """Say on every replica whether `flag` is true on at least one of them; with one process it is `flag`.

        All replicas call it, in the same order with respect to the trainer's steps, and none returns before all have
        called. It may be called once `trainer` has been.
        """
        ...

    def trainer(
        self, config: RunConfig, sizes: VocabularySizes, state: TrainerState, catalogue: FeatureArrays
    ) -> Trainer:
        """Build a trainer at the given state; dropout and everything random derive from config.seed and the step.

        `catalogue` holds the encoded features of all candidates, leading dimension V: full softmax encodes them, gBCE
        needs their number. Where several processes train together, this is where they meet; the trainer is given whole
        batches and takes its own rows.
        """
        ...

    def encoders(self, config: RunConfig, sizes: VocabularySizes, weights: Mapping[str, Float32Array]) -> Encoders:
        """Build the towers from canonical weights; leftovers on either side raise."""
        ...

    def export(self, opened: "OpenedRun", kind: str, folder: Path) -> Mapping[str, Any]:
        """Write a model that serves without this project into an empty folder, sub-folders as it likes.

        Args:
            opened: the run.
            kind: how the model searches: one of `indexes`.
            folder: empty; the manifest is written into it afterwards, over all that lies there.

        Returns:
            JSON values for the manifest beside `verbs.export.common_fields`; `versions`, of the libraries that the
            model depends on, and `needs`, a sentence on what a server needs, among them.

        Raises:
            UserError: this run cannot be exported so, or the disk is full.
        """
        ...
