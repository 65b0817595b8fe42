"""A run from configuration to report: new, resumed or replaced."""

import shutil

import numpy as np

from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import PreparedData, prepare
from retrieval_contract.errors import UserError
from retrieval_contract.evaluation.question import checked_cutoffs
from retrieval_contract.evaluation.report import Report
from retrieval_contract.files import write_text
from retrieval_contract.runs.checkpoints import check_same_run, checkpoint_paths, read_checkpoint, write_checkpoint
from retrieval_contract.runs.loop import fit
from retrieval_contract.runs.opened import evaluate_encoders
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack, TrainerState
from retrieval_contract.weights.archive import write_weights
from retrieval_contract.weights.names import CANDIDATE_BIAS, initial_weights, log_popularity_bias, parameter_table

WEIGHTS = "weights/"


def train_run(stack: Stack, config: RunConfig, workdir: Workdir, *, resume: bool, overwrite: bool) -> Report:
    """Train, write the weights, evaluate, write the metrics.

    Args:
        stack: the implementation.
        config: the run.
        workdir: where everything goes.
        resume: go on from the newest checkpoint; where a run was stopped before its first one, begin anew.
        overwrite: remove the run that the workdir holds.

    Raises:
        UserError: the workdir holds another run, the data or the configuration is refused.
        RunError: the loss is not finite, or Ctrl-C.
    """
    _claim(workdir, config, resume=resume, overwrite=overwrite)
    going_on = resume and bool(checkpoint_paths(workdir.checkpoints))
    prepared = prepare(config, features_json=workdir.features.read_text(encoding="utf-8") if going_on else None)
    # Before training, not after it: the report would refuse them.
    checked_cutoffs(config.evaluation.cutoffs, len(prepared.candidates.ids))
    batches = TrainingBatches(prepared, config)
    for note in (*prepared.notes, *batches.notes):
        print(note)
    write_text(workdir.config, config.to_yaml())
    if not going_on:
        write_text(workdir.features, prepared.features.to_json())
    state = read_checkpoint(workdir.checkpoints) if going_on else first_state(config, prepared)
    trainer = stack.trainer(config, prepared.features.sizes, state)
    if not going_on:
        # With optimiser slots in it, so that even a run stopped at its first step resumes.
        write_checkpoint(workdir.checkpoints, trainer.state(), config_digest=config.digest())
    fit(trainer, batches, config, workdir, done=int(state["step"]))
    return _finish(stack, config, prepared, workdir, trainer.state())


def first_state(config: RunConfig, prepared: PreparedData) -> TrainerState:
    """Trainer state before the first step: initial weights, no slots (the trainer makes them), step 0."""
    table = parameter_table(config, prepared.features.sizes)
    weights = initial_weights(table, seed=config.seed, embedding_stddev=config.training.embedding_stddev)
    id_feature = config.candidate_id_feature
    if CANDIDATE_BIAS in table and config.model.candidate_bias_start == "log_popularity" and id_feature is not None:
        rows_N = np.asarray(prepared.candidate_features()[id_feature.name], np.int32)
        num_rows = len(weights[CANDIDATE_BIAS])
        weights[CANDIDATE_BIAS] = log_popularity_bias(prepared.candidate_counts(), rows_N, num_rows=num_rows)
    return {**{WEIGHTS + name: array for name, array in weights.items()}, "step": np.asarray(0, np.int64)}


def _finish(stack: Stack, config: RunConfig, prepared: PreparedData, workdir: Workdir, state: TrainerState) -> Report:
    """Write the weights and the report of a trained state."""
    weights = {
        name.removeprefix(WEIGHTS): np.asarray(array, np.float32)
        for name, array in state.items()
        if name.startswith(WEIGHTS)
    }
    write_weights(workdir.weights, weights, config_digest=config.digest())
    report = evaluate_encoders(config, prepared, stack.encoders(config, prepared.features.sizes, weights))
    write_text(workdir.metrics, report.to_json())
    return report


def _claim(workdir: Workdir, config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Make sure that nothing of value is lost in the workdir."""
    if resume and overwrite:
        raise UserError("--resume and --overwrite are both given", where="command line", todo="give one")
    if not workdir.config.exists():
        if resume:
            raise UserError(
                "nothing to resume: config.yaml is missing", where=str(workdir.path), todo="train without --resume"
            )
        return
    if resume:
        check_same_run(workdir.config, config)
    elif overwrite:
        for path in (workdir.checkpoints, workdir.scalars, workdir.vectors, workdir.path / "index"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (workdir.weights, workdir.metrics, workdir.features, workdir.config):
            path.unlink(missing_ok=True)
    else:
        todo = "use --resume to go on, --overwrite to replace it, or another --workdir"
        raise UserError("the workdir already holds a run", where=str(workdir.path), todo=todo)
