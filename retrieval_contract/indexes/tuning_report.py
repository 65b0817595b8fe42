"""What tuning tried, for people and for other programs: raw lines, a table, a picture of the frontier."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval_contract import config
from retrieval_contract.files import replacing_file, write_text
from retrieval_contract.indexes.tuning import Failure, Recall, Trial, fits, frontier, holds
from retrieval_contract.indexes.tuning_trials import Goal, Tried

NAMES = ("tuning.jsonl", "tuning.md", "tuning.svg")
COLOURS: Mapping[str, str] = {
    "exact": "#444444",
    "scann": "#1b6ca8",
    "partitioned": "#1b7f3b",
    "faiss": "#b3261e",
}
HEAD = ("backend", "settings", "recall", "checked", "p50 ms", "p99 ms", "MB", "build s", "")


def write_report(folder: Path, tried: Tried, goal: Goal, *, queries: str) -> None:
    """Write raw lines, table and picture.

    Args:
        folder: where to.
        tried: what was tried.
        goal: what was to be reached.
        queries: what the queries were, in a few words.

    Raises:
        UserError: the folder cannot be written.
    """
    everything: list[Trial | Failure] = [*tried.trials, *tried.failures]
    lines = [raw(each, goal, queries) for each in everything]
    write_text(folder / NAMES[0], "".join(json.dumps(line) + "\n" for line in lines))
    write_text(folder / NAMES[1], f"# Settings tried\n\n{told(goal)}, on {queries}.\n\n{table(tried, goal)}\n")
    plot(tried, goal, folder / NAMES[2])


def told(goal: Goal) -> str:
    """The goal in words."""
    memory = "" if goal.max_bytes is None else f" within {goal.max_bytes:,} bytes"
    return f"Fastest with recall@{goal.k} of at least {goal.target:g}{memory}"


def raw(tried: Trial | Failure, goal: Goal, queries: str) -> dict[str, Any]:
    """Everything about one setting, every raw time included, as JSON values."""
    fields = asdict(tried) | {"settings": tried.settings.model_dump(mode="json")}
    return {"target": goal.target, "max_bytes": goal.max_bytes, "queries": queries, **fields}


def measured(trial: Trial, goal: Goal, *, queries: str) -> dict[str, Any]:
    """What travels with the index that is kept: recall over the queries that nothing was chosen by."""
    assert trial.checked is not None, "what is kept was checked"
    recall = {name: getattr(trial.checked, name) for name in ("value", "low", "high")}
    times = {"p50_ms": trial.p50_ms, "p99_ms": trial.p99_ms, "num_bytes": trial.num_bytes}
    return {
        "recall": recall,
        "k": trial.k,
        "num_queries": trial.checked.num_queries,
        "queries": queries,
        "target": goal.target,
        **times,
    }


def table(tried: Tried, goal: Goal) -> str:
    """A markdown table, the quickest first, and below it what could not be built."""
    best = {id(trial) for trial in frontier(tried.trials)}
    rows = [HEAD, tuple("---" for _ in HEAD)]
    for trial in sorted(tried.trials, key=lambda trial: trial.p50_ms):
        checked = "" if trial.checked is None else as_text(trial.checked)
        times = (f"{trial.p50_ms:.3f}", f"{trial.p99_ms:.3f}")
        size = (f"{trial.num_bytes / 1e6:,.1f}", f"{trial.build_seconds:.1f}")
        verdict = _verdict(trial, tried, goal, on_frontier=id(trial) in best)
        said = (trial.settings.backend, changes(trial.settings), as_text(trial.recall), checked)
        rows.append((*said, *times, *size, verdict))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    failed = [f"* {each.settings.backend} {changes(each.settings)}: {each.reason}" for each in tried.failures]
    return "\n".join([*lines, *(["", "Not built:", "", *failed] if failed else [])])


def as_text(recall: Recall) -> str:
    """Value and interval."""
    return f"{recall.value:.4f} ({recall.low:.4f} to {recall.high:.4f})"


def changes(settings: config.Index) -> str:
    """What a setting states that is its backend's and not the default, and how the vectors are kept."""
    default = config.Index()
    own = [
        f"{name} {value}"
        for name, value in settings.model_dump().items()
        if value != getattr(default, name) and name.startswith(f"{settings.backend}_")
    ]
    return ", ".join([*own, *([f"store {settings.store}"] if settings.store != default.store else [])])


def _verdict(trial: Trial, tried: Tried, goal: Goal, *, on_frontier: bool) -> str:
    if trial is tried.kept:
        return "kept"
    if not fits(trial, goal.max_bytes):
        return "too large"
    if not holds(trial, goal.target):
        return "below the target" + (" (on the frontier)" if on_frontier else "")
    return "holds, on the frontier" if on_frontier else "holds"


def plot(tried: Tried, goal: Goal, path: Path) -> None:
    """Draw recall over time, what nothing beats joined by a line, the kept one ringed.

    Raises:
        UserError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # The same trials give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "tuning"}):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
        for backend in dict.fromkeys(trial.settings.backend for trial in tried.trials):
            own = [trial for trial in tried.trials if trial.settings.backend == backend]
            axes.plot(*_places(own), "o", markersize=4, alpha=0.6, color=COLOURS[backend], label=backend)
        axes.plot(*_places(frontier(tried.trials)), "-", linewidth=1, color="#999999", zorder=0)
        axes.axhline(goal.target, linestyle="--", linewidth=1, color="#bbbbbb")
        if tried.kept is not None:
            axes.plot(*_places([tried.kept]), "o", markersize=11, fillstyle="none", color="black", label="kept")
        axes.set(xlabel="median milliseconds of one query", ylabel=f"recall@{goal.k}", title=told(goal))
        axes.grid(color="#eeeeee")
        if tried.trials:
            axes.set_xscale("log")
            axes.legend(fontsize=8, frameon=False)
        with replacing_file(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _places(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
    return [trial.p50_ms for trial in trials], [trial.recall.value for trial in trials]
