"""The training loop of both stacks: batches in order, one rate per step, scalars, checkpoints, a clean stop."""

import math
import time
from collections.abc import Callable

import tensorboardX

from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.errors import RunError
from retrieval_contract.runs.checkpoints import write_checkpoint
from retrieval_contract.runs.interrupts import stop_requests
from retrieval_contract.runs.progress import Progress
from retrieval_contract.runs.schedule import learning_rate
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import StepResult, Trainer

STEPS_BETWEEN_SCALARS = 10


class InterruptedRunError(RunError):
    """The user stopped the run; a checkpoint of its last whole step is on disk."""


def fit(trainer: Trainer, batches: TrainingBatches, config: RunConfig, workdir: Workdir, *, done: int) -> None:
    """Train from step `done` to the end.

    A checkpoint is written every `checkpoint_every_steps`, at the end of every epoch and on Ctrl-C. What follows a
    checkpoint depends on its content, the configuration and the data only, so a resumed run repeats the same bytes.

    Args:
        trainer: at step `done`.
        batches: the run's training batches.
        config: the run.
        workdir: where checkpoints and scalars go.
        done: optimiser steps taken already.

    Raises:
        RunError: the loss is not finite; no weight has moved in that step, and the last checkpoint stands.
        InterruptedRunError: Ctrl-C.
    """
    num_steps = config.training.epochs * batches.steps_per_epoch
    examples = batches.batch_size * config.optimizer.accumulation_steps
    with (
        stop_requests() as stop_asked,
        tensorboardX.SummaryWriter(str(workdir.scalars), purge_step=done or None) as scalars,
        Progress(f"train {config.name}", total=num_steps, done=done) as progress,
    ):
        save = _Saver(trainer, config, workdir, done)
        began, first = time.monotonic(), done
        while done < num_steps:
            epoch, start = divmod(done, batches.steps_per_epoch)
            for step_batches in batches.epoch(epoch, start_step=start):
                rate = learning_rate(config.optimizer, step=done, num_steps=num_steps)
                result = trainer.step(step_batches, learning_rate=rate)
                _check_finite(result, done, workdir)
                done += 1
                progress.advance(1, f"epoch {epoch + 1}, loss {result.loss:.4f}")
                if done % STEPS_BETWEEN_SCALARS == 0 or done == num_steps:
                    speed = (done - first) * examples / (time.monotonic() - began)
                    _write_scalars(scalars, result, rate, speed, done)
                if stop_asked():
                    save(done)
                    raise InterruptedRunError(f"stopped at step {done:,} of {num_steps:,}; go on with --resume")
                if done % config.training.checkpoint_every_steps == 0:
                    save(done)
            save(done)


class _Saver:
    """Writes a checkpoint once per step at most."""

    def __init__(self, trainer: Trainer, config: RunConfig, workdir: Workdir, done: int) -> None:
        self._trainer, self._workdir, self._saved = trainer, workdir, done
        self._digest = config.digest()

    def __call__(self, done: int) -> None:
        if done != self._saved:
            write_checkpoint(self._workdir.checkpoints, self._trainer.state(), config_digest=self._digest)
            self._saved = done


def _check_finite(result: StepResult, done: int, workdir: Workdir) -> None:
    if math.isfinite(result.loss) and math.isfinite(result.gradient_norm):
        return
    raise RunError(
        f"the loss of step {done + 1:,} is {result.loss} (gradient norm {result.gradient_norm}); weights did not move "
        f"and the last checkpoint in {workdir.checkpoints} stands: lower the learning rate or set optimizer.clip_norm"
    )


def _write_scalars(
    scalars: tensorboardX.SummaryWriter, result: StepResult, rate: float, speed: float, done: int
) -> None:
    values = {
        "train/loss": result.loss,
        "train/gradient_norm": result.gradient_norm,
        "train/learning_rate": rate,
        "train/examples_per_second": speed,
    }
    add: Callable[[str, float, int], None] = scalars.add_scalar
    for name, value in values.items():
        add(name, value, done)
