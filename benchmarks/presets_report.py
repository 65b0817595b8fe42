"""Raw lines of `benchmarks.presets` -> its section of the report, and what README.md quotes of it; never measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.preset_cases import CASES
from benchmarks.report_text import Line, bounded, joined, machines, table
from benchmarks.svg_figure import saved_figure

STACKS = ("tfrs_models", "torch_reference")
SHOWN = ("recall@10", "recall@100", "ndcg@10", "mrr")
ACCURACIES = ("accuracy@10", "accuracy@50", "accuracy@100")
COMPARED = ("accuracy@10", "accuracy@100", "recall@10", "mrr")
"""Metrics that the stacks are compared by, as `make parity` does."""
CONFIDENCE = 0.95
LEAST_SEEDS = 3
LEAST_ROWS = 100
"""Held-out rows below which a slice says nothing."""
NAMES = {"ease": "EASE", "item_item_cosine": "item-item cosine"}
"""What reports call a baseline, where it is not its name."""
Runs = Mapping[str, Mapping[str, Line]]
"""By preset and stack."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case, settings and seed.
        plots: folder that the picture is written to.
    """
    runs = first_seeds(lines)
    plot(runs, plots / "presets.svg")
    parts = ["## Presets: quality of both stacks", _method(lines)]
    for preset, by_stack in runs.items():
        parts += [f"### {CASES[preset].title}", _table(preset, by_stack), _seed_slices(lines, preset)]
        parts.append(_verdicts(by_stack))
    differences = stack_differences(lines)
    if differences:
        parts += ["### The two stacks against each other", stacks_text(lines), _seed_table(lines)]
    parts.append("![Recall@10 of both stacks beside baselines](results/plots/presets.svg)")
    return "\n\n".join(part for part in parts if part)


def first_seeds(lines: Sequence[Line]) -> dict[str, dict[str, Line]]:
    """The newest line of the lowest seed, by preset and stack, in the order of `CASES`."""
    newest = {(line["settings"]["preset"], line["settings"]["stack"], line["seed"]): line for line in lines}
    runs: dict[str, dict[str, Line]] = {}
    for (preset, stack, _), line in sorted(newest.items(), key=lambda item: item[0]):
        runs.setdefault(preset, {}).setdefault(stack, line)
    return {name: runs[name] for name in CASES if name in runs}


def _method(lines: Sequence[Line]) -> str:
    return (
        "How good is each preset, in both stacks, beside what knows less and what knows all? Trained by "
        f"`python -m STACK.train --preset=NAME` on {machines(lines)}; the whole catalogue is ranked. In brackets 95 % "
        "bootstrap intervals over queries. Verified before a line was written: both stacks were configured alike and "
        "ranked the same rows, as their baselines agree to the last digit."
    )


def _table(preset: str, by_stack: Mapping[str, Line]) -> str:
    metrics = (*SHOWN, *ACCURACIES)
    rows = [
        [
            f"`{stack}`",
            *(bounded(line["metrics"][name], 4) for name in metrics),
            f"{line['wall_seconds'][0]:.0f}",
            f"{line['cpu_seconds'][0]:.0f}",
        ]
        for stack, line in by_stack.items()
    ]
    line = next(iter(by_stack.values()))
    rows += [
        [named(name), *(bounded(row[metric], 4) for metric in metrics), "", ""]
        for name, row in line["baselines"].items()
    ]
    seen = "left out of the ranking" if line["exclude_seen"] else "kept in the ranking"
    sizes = (
        f"`--preset={preset}`, {line['num_queries']:,} queries, {line['num_candidates']:,} candidates, "
        f"{line['num_held_out_rows']:,} held-out rows, training items {seen}."
    )
    slices = _slice_table(by_stack)
    whole = table(["", *metrics, "seconds", "CPU seconds"], rows)
    return f"{sizes}\n\n{whole}" + (f"\n\n{slices}" if slices else "")


def _slice_table(by_stack: Mapping[str, Line]) -> str:
    """Candidates that training never saw, where a run has enough of them to say something."""
    found = {stack: line["slice"] for stack, line in by_stack.items() if line.get("slice")}
    one = next(iter(found.values()), None)
    if one is None or one["num_relevant"] < LEAST_ROWS:
        return ""
    metrics = ("recall@10", "recall@100")
    rows = [[f"`{stack}`", *(bounded(part["metrics"][name], 4) for name in metrics)] for stack, part in found.items()]
    rows += [[named(name), *(bounded(row[m], 4) for m in metrics)] for name, row in one["baselines"].items()]
    rows.append(["chance", *(f"{one['chance'][name]:.4f}" for name in metrics)])
    said = (
        f"Candidates that training never saw, {one['num_relevant']:,} held-out rows of {one['num_queries']:,} queries:"
    )
    return f"{said}\n\n{table(['', *metrics], rows)}"


def slices_by_seed(lines: Sequence[Line], preset: str) -> dict[str, list[Line]]:
    """What a preset's runs found of candidates that training never saw: slices by stack, from the lowest seed."""
    newest = {(line["settings"]["stack"], line["seed"]): line for line in lines if is_of(line, preset)}
    found: dict[str, list[Line]] = {}
    for (stack, _), line in sorted(newest.items()):
        if line.get("slice"):
            found.setdefault(stack, []).append(line["slice"])
    return found


def _seed_slices(lines: Sequence[Line], preset: str) -> str:
    """How far seeds lie apart in what training never saw, where the slice is large and several were trained."""
    found = slices_by_seed(lines, preset)
    if not any(len(parts) > 1 and parts[0]["num_relevant"] >= LEAST_ROWS for parts in found.values()):
        return ""
    said = [
        f"{metric} `{stack}` {by_seed(parts, metric)}"
        for metric in ("recall@10", "recall@100")
        for stack, parts in found.items()
    ]
    return f"Of those, seed by seed: {'; '.join(said)}."


def is_of(line: Line, preset: str) -> bool:
    """Whether a line is one of that preset."""
    return bool(line["settings"]["preset"] == preset)


def by_seed(slices: Sequence[Line], metric: str) -> str:
    """One seed's value with its interval, or the values of several."""
    if len(slices) == 1:
        return bounded(slices[0]["metrics"][metric])
    return " / ".join(f"{part['metrics'][metric]['value']:.3f}" for part in slices)


def _verdicts(by_stack: Mapping[str, Line]) -> str:
    """Where each stack stands beside each baseline, by whether intervals overlap."""
    said = []
    for stack, line in by_stack.items():
        places = [
            f"{place(line['metrics'][metric], row[metric])} {named(name)} by {metric}"
            for name, row in line["baselines"].items()
            for metric in ("recall@10", "recall@100")
        ]
        said.append(f"`{stack}` is {joined(places)}.")
    return "\n".join(said)


def place(own: Mapping[str, float], other: Mapping[str, float]) -> str:
    """'above', 'below', or 'not told from' where the intervals overlap."""
    if own["low"] > other["high"]:
        return "above"
    return "below" if own["high"] < other["low"] else "not told from"


def named(baseline: str) -> str:
    """What reports call it."""
    return NAMES.get(baseline, baseline)


# ---------------------------------------------------------------- the stacks against each other


def paired_seeds(lines: Sequence[Line]) -> tuple[str, list[tuple[Line, Line]]]:
    """The preset with the most seeds that both stacks trained, and its pairs of lines by seed."""
    newest = {(line["settings"]["preset"], line["seed"], line["settings"]["stack"]): line for line in lines}
    pairs: dict[str, list[tuple[Line, Line]]] = {}
    for preset, seed, stack in sorted(newest):
        other = newest.get((preset, seed, STACKS[1]))
        if stack == STACKS[0] and other is not None:
            pairs.setdefault(preset, []).append((newest[preset, seed, stack], other))
    return max(pairs.items(), key=lambda item: len(item[1]), default=("", []))


def stack_differences(lines: Sequence[Line]) -> dict[str, tuple[float, float, float]]:
    """Mean of the paired differences, first stack less the second, with Student's interval; empty with few seeds."""
    _, pairs = paired_seeds(lines)
    return {metric: _interval(pairs, metric) for metric in COMPARED} if len(pairs) >= LEAST_SEEDS else {}


def _interval(pairs: Sequence[tuple[Line, Line]], metric: str) -> tuple[float, float, float]:
    differences = [one["metrics"][metric]["value"] - other["metrics"][metric]["value"] for one, other in pairs]
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)
    mean, half = float(np.mean(differences)), float(reach * np.std(differences, ddof=1) / np.sqrt(len(pairs)))
    return mean, mean - half, mean + half


def stacks_text(lines: Sequence[Line]) -> str:
    """The differences in a sentence."""
    preset, pairs = paired_seeds(lines)
    found = stack_differences(lines)
    said = [f"{metric} {mean:.4f} [{low:.4f}, {high:.4f}]" for metric, (mean, low, high) in found.items()]
    differing = [metric for metric, (_, low, high) in found.items() if not low <= 0 <= high]
    verdict = f"a difference by {joined(differing)}" if differing else "no difference by any of them"
    head = f"{len(pairs)} seeds of `{preset}`, `{STACKS[0]}` minus `{STACKS[1]}`, 95 % paired interval"
    return f"{head}: {joined(said)}: {verdict}."


def _seed_table(lines: Sequence[Line]) -> str:
    _, pairs = paired_seeds(lines)
    rows = [
        [str(one["seed"]), *(f"{line['metrics'][metric]['value']:.4f}" for metric in COMPARED for line in (one, other))]
        for one, other in pairs
    ]
    return table(["seed", *(f"{metric}, `{stack}`" for metric in COMPARED for stack in STACKS)], rows)


# ---------------------------------------------------------------- the picture


def plot(runs: Runs, path: Path) -> None:
    """Draw recall@10 of both stacks and the baselines with their intervals, a panel a preset.

    Raises:
        UserError: the file cannot be written.
    """
    with saved_figure(path, figsize=(9, 0.4 + 1.1 * len(runs))) as (figure, whole):
        whole.remove()
        panels = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
        for axes, (preset, by_stack) in zip(panels, runs.items(), strict=True):
            _panel(axes, CASES[preset].title, by_stack)
        panels[-1].set_xlabel("recall@10, 95 % interval over queries")


def _panel(axes: Any, title: str, by_stack: Mapping[str, Line]) -> None:
    entries = {stack: line["metrics"]["recall@10"] for stack, line in by_stack.items()}
    line = next(iter(by_stack.values()))
    entries |= {named(name): row["recall@10"] for name, row in line["baselines"].items()}
    for row, (name, entry) in enumerate(entries.items()):
        colour = "#1b6ca8" if name in STACKS else "#6b6b6b"
        axes.plot([entry["low"], entry["high"]], [row, row], color=colour, linewidth=1.5)
        axes.plot([entry["value"]], [row], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(entries)), list(entries), fontsize=7)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(title, fontsize=8, loc="left")
