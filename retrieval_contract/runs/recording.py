"""What a run leaves while it trains: scalars, checkpoints, progress. Only the writing replica leaves any."""

import contextlib
import time
from types import TracebackType
from typing import Final, Self, final

import tensorboardX

from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.runs.checkpoints import write_checkpoint
from retrieval_contract.runs.progress import Progress
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import StepResult, Trainer

STEPS_BETWEEN_SCALARS: Final = 10


@final
class Recording:
    """Scalars, checkpoints and progress of one process; use as a context manager.

    Loss, norm, rate and speed are written every `STEPS_BETWEEN_SCALARS` steps, a learned temperature at every step.
    """

    def __init__(
        self,
        config: RunConfig,
        workdir: Workdir,
        trainer: Trainer,
        batches: TrainingBatches,
        *,
        done: int,
        writes: bool,
    ) -> None:
        """Begin at a step.

        Args:
            config: the run.
            workdir: where everything goes.
            trainer: whose state a checkpoint holds.
            batches: whose state it holds too.
            done: optimiser steps taken already.
            writes: False leaves and shows nothing.
        """
        self._config, self._workdir, self._trainer, self._batches = config, workdir, trainer, batches
        self._digest, self._writes = config.digest(), writes
        self._num_steps = config.training.epochs * batches.steps_per_epoch
        self._examples = batches.batch_size * config.optimizer.accumulation_steps
        self._done = self._first = self._saved = done
        self._open = contextlib.ExitStack()
        self._scalars: tensorboardX.SummaryWriter | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self._writes:
            scalars = tensorboardX.SummaryWriter(str(self._workdir.scalars), purge_step=self._done or None)
            self._scalars = self._open.enter_context(scalars)
            progress = Progress(f"train {self._config.name}", total=self._num_steps, done=self._done)
            self._progress = self._open.enter_context(progress)
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def mining(self, epoch: int) -> None:
        """Say that hard negatives are being looked for before an epoch, from 0."""
        if self._progress is not None:
            self._progress.note(f"epoch {epoch + 1}, mining hard negatives")

    def step(self, result: StepResult, *, epoch: int, rate: float) -> None:
        """Record one finished step of an epoch, from 0.

        Args:
            result: what the step reports.
            epoch: that it belongs to.
            rate: learning rate that it was taken with.
        """
        self._done += 1
        if self._progress is None or self._scalars is None:
            return
        learned = {"train/temperature": result.temperature} if self._config.loss.learn_temperature else {}
        note = f"epoch {epoch + 1}, loss {result.loss:.4f}"
        self._progress.advance(1, ", ".join([note, *(f"temperature {value:.4f}" for value in learned.values())]))
        values = dict(learned)
        if self._done % STEPS_BETWEEN_SCALARS == 0 or self._done == self._num_steps:
            values |= {
                "train/loss": result.loss,
                "train/gradient_norm": result.gradient_norm,
                "train/learning_rate": rate,
                "train/examples_per_second": self._speed(),
            }
        for name, value in values.items():
            self._scalars.add_scalar(name, value, self._done)

    def checkpoint(self) -> None:
        """Save the state of the last finished step, once for each step at most."""
        if self._writes and self._done != self._saved:
            state = {**self._trainer.state(), **self._batches.state()}
            write_checkpoint(self._workdir.checkpoints, state, config_digest=self._digest)
            self._saved = self._done

    def _speed(self) -> float:
        """Examples a second since the start of this process's training, mining included."""
        return (self._done - self._first) * self._examples / max(time.monotonic() - self._began, 1e-9)
