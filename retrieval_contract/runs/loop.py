"""The training loop of both stacks: batches in order, one rate per step, scalars, checkpoints, a clean stop."""

import math

from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.errors import RunError
from retrieval_contract.runs.interrupts import stop_requests
from retrieval_contract.runs.mined_sets import MinedSets
from retrieval_contract.runs.recording import Recording
from retrieval_contract.runs.replicas import Replicas
from retrieval_contract.runs.schedule import learning_rate
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import StepResult, Trainer


class InterruptedRunError(RunError):
    """The user stopped the run; a checkpoint of its last whole step is on disk."""


def fit(
    trainer: Trainer,
    batches: TrainingBatches,
    config: RunConfig,
    workdir: Workdir,
    *,
    done: int,
    replicas: Replicas,
    mined_sets: MinedSets,
) -> None:
    """Train from step `done` to the end.

    A checkpoint is written every `checkpoint_every_steps`, at the end of every epoch and on Ctrl-C. What follows a
    checkpoint depends on its content, the configuration, the data and the saved hard negatives only, so a resumed run
    repeats the same bytes. Replicas stop at the same step, whichever of them was asked to.

    Args:
        trainer: at step `done`.
        batches: the run's training batches, at step `done`.
        config: the run.
        workdir: where checkpoints and scalars go.
        done: optimiser steps taken already.
        replicas: who trains along.
        mined_sets: gives the batches their hard negatives.

    Raises:
        RunError: the loss is not finite; no weight has moved in that step, and the last checkpoint stands.
        InterruptedRunError: Ctrl-C.
        UserError: the hard negatives of a resumed epoch are gone.
    """
    num_steps = config.training.epochs * batches.steps_per_epoch
    recording = Recording(config, workdir, trainer, batches, done=done, writes=replicas.writes)
    with stop_requests() as stop_asked, recording:
        while done < num_steps:
            epoch, start = divmod(done, batches.steps_per_epoch)
            if mined_sets.mines_at(epoch, start):
                recording.mining(epoch)
            mined_sets.enter(epoch, start, trainer)
            for step_batches in batches.epoch(epoch, start_step=start):
                rate = learning_rate(config.optimizer, step=done, num_steps=num_steps)
                result = trainer.step(step_batches, learning_rate=rate)
                _check_finite(result, done, workdir)
                done += 1
                recording.step(result, epoch=epoch, rate=rate)
                if replicas.any(stop_asked()):
                    recording.checkpoint()
                    raise InterruptedRunError(f"stopped at step {done:,} of {num_steps:,}; go on with --resume")
                if done % config.training.checkpoint_every_steps == 0:
                    recording.checkpoint()
            recording.checkpoint()


def _check_finite(result: StepResult, done: int, workdir: Workdir) -> None:
    if math.isfinite(result.loss) and math.isfinite(result.gradient_norm):
        return
    raise RunError(
        f"the loss of step {done + 1:,} is {result.loss} (gradient norm {result.gradient_norm}); weights did not move "
        f"and the last checkpoint in {workdir.checkpoints} stands: lower the learning rate or set optimizer.clip_norm"
    )
