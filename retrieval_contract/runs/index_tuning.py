"""A run's index, tuned on its own held-out queries."""

from collections.abc import Mapping, Sequence

from retrieval_contract.errors import UserError
from retrieval_contract.indexes import tuning_report
from retrieval_contract.indexes.protocol import Index
from retrieval_contract.indexes.tuning import Failure, Trial, fits
from retrieval_contract.indexes.tuning_grid import candidates_of
from retrieval_contract.indexes.tuning_trials import Asked, Goal, Tried, try_all
from retrieval_contract.runs.choice import write_choice
from retrieval_contract.runs.held_out import held_out_queries
from retrieval_contract.runs.opened import OpenedRun
from retrieval_contract.runs.progress import Progress

MOST_QUERIES = 4_000
"""Held-out queries that settings are measured by, half of them to choose and half to check."""
DEFAULT_K = 100


def tune_index(
    opened: OpenedRun, classes: Mapping[str, type[Index]], *, target: float, k: int, max_bytes: int | None
) -> tuple[Trial, Tried]:
    """Find the fastest index that holds a recall, save it with what was measured, and make it the run's.

    What was tried is written beside the indexes (`tuning.jsonl`, `tuning.md`, `tuning.svg`), also where nothing holds.

    Args:
        opened: the run.
        classes: index classes of the backends to try.
        target: least recall, in (0, 1].
        k: of the best K.
        max_bytes: memory that the index may take; None allows any.

    Returns:
        The setting that was kept, checked, and everything that was tried.

    Raises:
        UserError: a target or K that cannot be, too few queries, or nothing holds the target; the indexes that were
            there stay, and so does the choice.
    """
    _check(opened, target=target, k=k, max_bytes=max_bytes)
    vectors = opened.candidate_vectors()
    queries, what = held_out_queries(opened, MOST_QUERIES)
    grid = [
        settings
        for backend in classes
        for settings in candidates_of(
            opened.config.index, backend, size=len(vectors.ids), dim=vectors.values.shape[1], max_bytes=max_bytes
        )
    ]
    evaluation = opened.config.evaluation
    goal = Goal(
        target=target,
        k=k,
        max_bytes=max_bytes,
        num_samples=evaluation.bootstrap_samples,
        # The seed of the report's intervals.
        seed=opened.config.split.seed % 2**63,
    )
    asked = Asked(vectors, queries, k)
    with Progress("tuning", total=len(grid), unit="setting") as progress:
        tried = try_all(
            grid,
            classes,
            vectors,
            opened.attributes(),
            asked,
            goal,
            seen=lambda each: progress.advance(1, _note(each)),
        )
    tuning_report.write_report(opened.workdir.indexes, tried, goal, queries=what)
    if tried.kept is None or tried.index is None:
        where = str(opened.workdir.indexes / tuning_report.NAMES[1])
        raise UserError(_why_none(tried, goal), where=where, todo="lower --target_recall or raise --max_bytes")
    backend = tried.kept.settings.backend
    measured = tuning_report.measured(tried.kept, goal, queries=what)
    tried.index.save(opened.workdir.index(backend), measured=measured)
    write_choice(opened.workdir, backend)
    return tried.kept, tried


def _check(opened: OpenedRun, *, target: float, k: int, max_bytes: int | None) -> None:
    size = len(opened.prepared.candidates.ids)
    if not 0 < target <= 1:
        raise UserError(
            f"a recall of {target:g} cannot be", where="--target_recall", todo="give more than 0, at most 1"
        )
    if k > size:
        todo = f"ask for 1 to {size:,}"
        raise UserError(f"k is {k:,}, the catalogue holds {size:,} candidates", where="--k", todo=todo)
    if max_bytes is not None and max_bytes < 1:
        raise UserError(f"max_bytes is {max_bytes:,}", where="--max_bytes", todo="give 1 or more, or leave it out")


def _note(each: Trial | Failure) -> str:
    if isinstance(each, Failure):
        return f"{each.settings.backend} not built"
    return f"{each.settings.backend} recall {each.recall.value:.3f}, {each.p50_ms:.2f} ms"


def _why_none(tried: Tried, goal: Goal) -> str:
    """What came nearest, and what it costs."""
    what = f"no setting reaches recall@{goal.k} {goal.target:g}"
    fitting = [trial for trial in tried.trials if fits(trial, goal.max_bytes)]
    if goal.max_bytes is not None:
        what += f" within {goal.max_bytes:,} bytes"
    if best := _nearest(fitting):
        what += f"; nearest: {_cost(best)}"
    if (larger := _nearest(tried.trials)) and larger not in fitting:
        what += f"; with more memory: {_cost(larger)}"
    if not tried.trials:
        what += f"; none of {len(tried.failures):,} settings could be built"
    return what


def _nearest(trials: Sequence[Trial]) -> Trial | None:
    return max(trials, key=lambda trial: (trial.recall.low, -trial.p50_ms), default=None)


def _cost(trial: Trial) -> str:
    recall = tuning_report.as_text(trial.checked or trial.recall)
    settings = tuning_report.changes(trial.settings)
    named = f"{trial.settings.backend} ({settings})" if settings else trial.settings.backend
    return f"{named} {recall} at {trial.p50_ms:.2f} ms and {trial.num_bytes:,} bytes"
