"""A run from configuration to report: new, resumed or replaced."""

import shutil
from pathlib import Path

import numpy as np

from retrieval_contract.config import RunConfig
from retrieval_contract.data.batches import TrainingBatches
from retrieval_contract.data.prepare import PreparedData, prepare
from retrieval_contract.errors import UserError
from retrieval_contract.evaluation.question import checked_cutoffs
from retrieval_contract.evaluation.report import Report
from retrieval_contract.files import write_text
from retrieval_contract.runs.checkpoints import (
    WEIGHTS,
    check_same_run,
    checkpoint_paths,
    parted,
    read_checkpoint,
    weights_of,
    write_checkpoint,
)
from retrieval_contract.runs.loop import fit
from retrieval_contract.runs.mined_sets import MinedSets
from retrieval_contract.runs.mining import check_mining
from retrieval_contract.runs.opened import evaluate_encoders, learned_notes
from retrieval_contract.runs.replicas import Replicas
from retrieval_contract.runs.warm_start import WarmStart
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.stack import Stack, TrainerState
from retrieval_contract.weights.archive import write_weights
from retrieval_contract.weights.names import CANDIDATE_BIAS, initial_weights, log_popularity_bias, parameter_table


def train_run(
    stack: Stack,
    config: RunConfig,
    workdir: Workdir,
    *,
    resume: bool,
    overwrite: bool,
    warm_start: Path | None = None,
) -> Report | None:
    """Train, write the weights, evaluate, write the metrics.

    Where several processes train together (`Stack.replica`), each calls this with the same arguments and the same
    workdir; all train, the first one alone writes and evaluates, and the others return when training ends.

    Args:
        stack: the implementation.
        config: the run.
        workdir: where everything goes.
        resume: go on from the newest checkpoint; where a run was stopped before its first one, begin anew.
        overwrite: remove the run that the workdir holds.
        warm_start: workdir of a finished run whose vocabularies and weights this one begins with; None begins anew.

    Returns:
        The report; None in the processes that only train along.

    Raises:
        UserError: the workdir holds another run, the data or the configuration is refused, or the run to start from is
            none, or has other features or towers.
        RunError: the loss is not finite, or Ctrl-C.
    """
    replicas = Replicas.of(stack)
    replicas.check_config(config)
    check_mining(stack, config)
    _check_claim(workdir, config, replicas, resume=resume, overwrite=overwrite)
    old_run = None if warm_start is None else _run_to_start_from(warm_start, config, workdir, resume=resume)
    going_on = resume and bool(checkpoint_paths(workdir.checkpoints))
    prepared = _prepared(config, workdir, old_run, going_on=going_on)
    batches = _checked_batches(config, prepared, replicas)
    if going_on:
        saved, sampling = parted(read_checkpoint(workdir.checkpoints))
        batches.restore(sampling)
        state: TrainerState = saved
    else:
        state = first_state(config, prepared) if old_run is None else old_run.first_state(config, prepared)
    trainer = stack.trainer(config, prepared.features.sizes, state, prepared.candidate_features())
    mined_sets = MinedSets(replicas, config, prepared, batches, workdir)
    if not going_on:
        mined_sets.rehearse(state)

    def begin() -> None:
        if overwrite and workdir.config.exists():
            _clear(workdir)
        warm = () if old_run is None else (old_run.note(prepared),)
        for note in (*prepared.notes, *batches.notes, *warm):
            print(note)
        if not going_on:
            write_text(workdir.features, prepared.features.to_json())
            # With optimiser slots in it, so that even a run stopped at its first step resumes.
            first = {**trainer.state(), **batches.state()}
            write_checkpoint(workdir.checkpoints, first, config_digest=config.digest())
        # Last, for it makes the folder a run: one that began from another's weights must not be resumed without them.
        write_text(workdir.config, config.to_yaml())

    # Only here, where all that can be refused has been, is anything removed or written.
    replicas.alone(begin)
    fit(trainer, batches, config, workdir, done=int(state["step"]), replicas=replicas, mined_sets=mined_sets)
    return _finish(stack, config, prepared, workdir, trainer.state()) if replicas.writes else None


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
    weights = weights_of(state)
    write_weights(workdir.weights, weights, config_digest=config.digest())
    encoders = stack.encoders(config, prepared.features.sizes, weights)
    report = evaluate_encoders(config, prepared, encoders, learned=learned_notes(weights))
    write_text(workdir.metrics, report.to_json())
    return report


def _prepared(config: RunConfig, workdir: Workdir, old_run: WarmStart | None, *, going_on: bool) -> PreparedData:
    """The run's data, with features fitted anew, extended, or read back."""
    if old_run is not None:
        return old_run.prepare(config)
    return prepare(config, features_json=workdir.features.read_text(encoding="utf-8") if going_on else None)


def _checked_batches(config: RunConfig, prepared: PreparedData, replicas: Replicas) -> TrainingBatches:
    """The run's batches, after all that the data can be found not to fit."""
    # Before training, not after it: the report would refuse them.
    checked_cutoffs(config.evaluation.cutoffs, len(prepared.candidates.ids))
    batches = TrainingBatches(prepared, config)
    replicas.check_batch_size(batches.batch_size)
    return batches


def _check_claim(workdir: Workdir, config: RunConfig, replicas: Replicas, *, resume: bool, overwrite: bool) -> None:
    """Make sure that nothing of value is lost in the workdir, and that what is to be resumed is there."""
    if resume and overwrite:
        raise UserError("--resume and --overwrite are both given", where="command line", todo="give one")
    if resume:
        if not workdir.config.exists():
            todo = "train without --resume; all replicas need the same workdir"
            todo = todo if replicas.num_replicas > 1 else todo.partition(";")[0]
            raise UserError("nothing to resume: config.yaml is missing", where=str(workdir.path), todo=todo)
        check_same_run(workdir.config, config)
    elif replicas.writes and workdir.config.exists() and not overwrite:
        # Only where the process writes: the others may come when the first one has begun the very run.
        todo = "use --resume to go on, --overwrite to replace it, or another --workdir"
        raise UserError("the workdir already holds a run", where=str(workdir.path), todo=todo)


def _run_to_start_from(folder: Path, config: RunConfig, workdir: Workdir, *, resume: bool) -> WarmStart:
    """Read the run of `--warm_start`, where the command may have one at all."""
    where = f"--warm_start={folder}"
    if resume:
        todo = "a resumed run has its weights; give --warm_start when it is begun"
        raise UserError("--resume and --warm_start are both given", where=where, todo=todo)
    if folder.resolve() == workdir.path.resolve():
        raise UserError("a run cannot start from itself", where=where, todo="train into another workdir")
    return WarmStart.of(folder, config)


def _clear(workdir: Workdir) -> None:
    """Remove the run that the workdir holds."""
    for folder in (workdir.checkpoints, workdir.negatives, workdir.scalars, workdir.vectors, workdir.indexes):
        shutil.rmtree(folder, ignore_errors=True)
    for path in (workdir.weights, workdir.metrics, workdir.features, workdir.config):
        path.unlink(missing_ok=True)
