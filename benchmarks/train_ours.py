"""Our two stacks as contenders."""

import importlib
from typing import final

import numpy as np

from benchmarks.train_problem import LEARNING_RATES, WIDTHS, Array, Turn, timed
from retrieval_contract import config as c
from retrieval_contract.arrays import Batch
from retrieval_contract.stack import Stack, Trainer


def run_config(optimizer: str, *, encode_once: bool = False) -> c.RunConfig:
    """The problem in this project's words."""
    towers = {
        side: c.Tower(features=(c.IdFeature(name=f"{side}_id", width=WIDTHS[0]),), hidden_dims=WIDTHS[1:-1])
        for side in ("query", "candidate")
    }
    return c.RunConfig(
        name="train_throughput",
        query=towers["query"],
        candidate=towers["candidate"],
        model=c.Model(dim=WIDTHS[-1], normalize=False),
        loss=c.Loss(temperature=1.0, log_q="none", remove_accidental_hits=False),
        optimizer=c.Optimizer.model_validate({"kind": optimizer, "learning_rate": LEARNING_RATES[optimizer]}),
        training=c.Training(encode_once=("query", "candidate") if encode_once else ()),
    )


@final
class Ours:
    """A stack's trainer, fed as `train` feeds it."""

    def __init__(
        self, stack_name: str, optimizer: str, weights: dict[str, Array], rows: Array, *, encode_once: bool = False
    ) -> None:
        """Build at step 0.

        Args:
            stack_name: package.
            optimizer: by name.
            weights: from `draw_weights`.
            rows: from `draw_rows`.
            encode_once: encode each distinct row of a batch once.
        """
        stack: Stack = importlib.import_module(f"{stack_name}.stack").STACK
        num_rows = len(weights["query.embedding.query_id"])
        sizes = {side: {f"{side}_id": num_rows} for side in ("query", "candidate")}
        state = {f"weights/{name}": array for name, array in weights.items()}
        catalogue = {"candidate_id": np.arange(2, num_rows, dtype=np.int32)}
        self._trainer: Trainer = stack.trainer(
            run_config(optimizer, encode_once=encode_once), sizes, {**state, "step": np.array(0, np.int64)}, catalogue
        )
        self._batches = [_batch(*pair) for pair in rows]
        self._rate, self._done = LEARNING_RATES[optimizer], 0

    def turn(self, num_steps: int) -> Turn:
        """Take steps."""
        return timed(lambda: [self._step() for _ in range(num_steps)])

    def _step(self) -> float:
        batch = self._batches[self._done % len(self._batches)]
        self._done += 1
        return self._trainer.step([batch], learning_rate=self._rate).loss


def _batch(query_rows: Array, candidate_rows: Array) -> Batch:
    size = len(query_rows)
    return Batch(
        query_features={"query_id": query_rows},
        candidate_features={"candidate_id": candidate_rows},
        query_rows=query_rows,
        candidate_rows=candidate_rows,
        log_q=np.zeros(size, np.float32),
        weights=np.ones(size, np.float32),
    )
