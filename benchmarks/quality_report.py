"""Raw lines -> `quality.md`, `quality.svg` and the figures that the project is held to; never measures."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.quality_plot import plot
from benchmarks.quality_recipes import DATASETS, RECIPES, Recipe
from benchmarks.quality_runs import NAME
from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text

MAIN_STACK = "torch_reference"
"""Trained most of the runs; tables name the other alone."""
HEADLINES = ("hit_rate@10", "ndcg@10")
"""What the report's JSON says of each data set."""
SEEDS = 3
"""Seeds that a figure should have; the page says where it has fewer."""
SHOWN = ("hit_rate@10", "ndcg@10", "hit_rate@50")
TITLES = {"hit_rate@10": "HR@10", "ndcg@10": "NDCG@10", "hit_rate@50": "HR@50"}
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The seeds of one recipe in one stack."""

    recipe: Recipe
    stack: str
    lines: tuple[Line, ...]
    """The newest line of each seed, all of the newest configuration, by seed."""
    baselines: Mapping[str, Any]
    """The newest of any line, also of a configuration since replaced: they learn from the rows, not from the recipe."""

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return statistics.fmean(line["metrics"][metric]["value"] for line in self.lines)

    def bounds(self, metric: str) -> tuple[float, float]:
        """Mean over the seeds of each bound; all seeds resample the same queries."""
        low, high = (statistics.fmean(line["metrics"][metric][end] for line in self.lines) for end in ("low", "high"))
        return low, high

    def seeds(self, metric: str) -> list[float]:
        """Value of each seed."""
        return [line["metrics"][metric]["value"] for line in self.lines]


def write_report(results: Path) -> tuple[str, dict[str, dict[str, float | None]]]:
    """Write both files beside the lines.

    Returns:
        The page, and for each data set the means over seeds of its headline recipe, None where no line is.

    Raises:
        UserError: there are no lines, or a file cannot be written.
    """
    path = results / f"{NAME}.jsonl"
    lines = record.read(path)
    found = outcomes(lines)
    if not found:
        raise UserError("no test line", where=str(path), todo="run `python -m benchmarks.quality --recipe=...` first")
    watched = _watched(lines)
    page = text(found, plotted=bool(watched))
    write_text(path.with_suffix(".md"), page)
    if watched:
        plot(watched, path.with_suffix(".svg"))
    return page, headlines(found)


def section(lines: Sequence[Line], plots: Path) -> str:
    """The report's section: the tables of the page of its own, and its picture.

    Args:
        lines: all of the benchmark.
        plots: folder that the picture is written to.
    """
    found, watched = outcomes(lines), _watched(lines)
    parts = ["## Quality on real data, leave one out"]
    if not found:
        return f"{parts[0]}\n\nNo test line."
    parts.append(f"{_method(found)} The page of its own: [{NAME}.md](results/{NAME}.md).")
    for name in dict.fromkeys(outcome.recipe.dataset for outcome in found):
        head, *rest = _section(name, [outcome for outcome in found if outcome.recipe.dataset == name])
        parts += [f"#{head}", *rest]
    if watched:
        plot(watched, plots / f"{NAME}.svg")
        parts.append(f"![Validation while training](results/plots/{NAME}.svg)")
    return "\n\n".join(parts)


def _watched(lines: Sequence[Line]) -> list[Line]:
    """Lines of runs that were measured while they trained; of each recipe and stack the newest configuration so run."""
    found = [line for line in lines if line["settings"]["recipe"] in RECIPES and any(_measured(line))]
    newest = {(line["settings"]["recipe"], line["settings"]["stack"]): line["digest"] for line in found}
    return [line for line in found if newest[line["settings"]["recipe"], line["settings"]["stack"]] == line["digest"]]


def _measured(line: Line) -> list[Mapping[str, float]]:
    """Validation metrics on the way; empty where nothing was held out for them."""
    return [point["metrics"] for point in line["curve"]]


def outcomes(lines: Sequence[Line]) -> list[Outcome]:
    """Group test lines by recipe and stack, in the order of `RECIPES`; of each the newest configuration counts."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        settings = line["settings"]
        if settings["part"] == "test" and settings["recipe"] in RECIPES:
            groups.setdefault((settings["recipe"], settings["stack"]), []).append(line)
    places = list(RECIPES)
    return [
        Outcome(
            recipe=RECIPES[name],
            stack=stack,
            lines=_newest(group),
            baselines=next((line["baselines"] for line in reversed(group) if line["baselines"]), {}),
        )
        for (name, stack), group in sorted(groups.items(), key=lambda item: (places.index(item[0][0]), item[0][1]))
    ]


def baselines_beside(outcome: Outcome, found: Sequence[Outcome]) -> Mapping[str, Any]:
    """Baselines of the same data set and treatment of what was seen: its own, or those another recipe's line has."""
    place = outcome.recipe.dataset, outcome.lines[-1]["exclude_seen"]
    alike = [one for one in found if (one.recipe.dataset, one.lines[-1]["exclude_seen"]) == place]
    return next((one.baselines for one in (outcome, *alike) if one.baselines), {})


def _newest(lines: Sequence[Line]) -> tuple[Line, ...]:
    digest = lines[-1]["digest"]
    by_seed = {line["seed"]: line for line in lines if line["digest"] == digest}
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def headlines(found: Sequence[Outcome]) -> dict[str, dict[str, float | None]]:
    """Means over seeds of each data set's headline recipe, of the stack with the most seeds."""
    said: dict[str, dict[str, float | None]] = {name: dict.fromkeys(HEADLINES) for name in DATASETS}
    for outcome in sorted(found, key=lambda outcome: len(outcome.lines)):
        if outcome.recipe.headline:
            said[outcome.recipe.dataset] = {metric: round(outcome.mean(metric), 6) for metric in HEADLINES}
    return said


def text(found: Sequence[Outcome], *, plotted: bool) -> str:
    """The whole page."""
    datasets = [name for name in DATASETS if any(outcome.recipe.dataset == name for outcome in found)]
    parts = ["# Quality on real data, leave one out", _method(found)]
    for name in datasets:
        parts += _section(name, [outcome for outcome in found if outcome.recipe.dataset == name])
    if plotted:
        parts.append(
            "![Validation while training](quality.svg)\n\nValidation while training, of each recipe the newest "
            "configuration that held validation rows out; test rows are measured by runs that train on those too."
        )
    return "\n\n".join(parts) + "\n"


def _method(found: Sequence[Outcome]) -> str:
    machines = sorted({f"{line['cpu']}, {line['cores']} cores" for outcome in found for line in outcome.lines})
    return (
        f"Written by `python -m benchmarks.quality --report` from the raw lines; trained on {'; '.join(machines)}. "
        "Each query's last row is test; the whole catalogue is ranked, exactly. Hyperparameters were chosen with the "
        "last row but one held out too (validation); test was measured with the recipe as it stands, trained on all "
        "but the last row, as published figures are. Recall equals the hit rate: one candidate is held out. In "
        "brackets 95 % intervals over queries (the seeds' mean bounds), behind them every seed's own value. EASE and "
        "popularity are learned from the same rows."
    )


def _section(name: str, found: Sequence[Outcome]) -> list[str]:
    """One data set: what it is, and a table for each treatment of what was seen."""
    line = found[0].lines[-1]
    sizes = (
        f"{line['num_train_positives']:,} train positives, {line['num_candidates']:,} candidates, "
        f"{line['num_queries']:,} test queries."
    )
    parts = [f"## {DATASETS[name].title}", f"{DATASETS[name].note} {sizes}"]
    for excluded in (True, False):
        group = [outcome for outcome in found if outcome.lines[-1]["exclude_seen"] is excluded]
        if group:
            seen = "Seen candidates left out of the ranking" if excluded else "Unfiltered: seen candidates stay"
            parts.append(f"{seen}:\n\n{_table(group)}")
    return parts


def _table(found: Sequence[Outcome]) -> str:
    head = ["tower", "stack", *(TITLES[metric] for metric in SHOWN), "seeds", "against published", "minutes", "epochs"]
    rows = [_row(outcome) for outcome in found]
    rows += [
        [f"*{name}*", "", *(_bounded(row[metric]) for metric in SHOWN), "", "", "", ""]
        for name, row in baselines_beside(found[0], found).items()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _row(outcome: Outcome) -> list[str]:
    cells = [_cell(outcome, metric) for metric in SHOWN]
    minutes = statistics.median(line["wall_seconds"][0] / 60 for line in outcome.lines)
    seeds = ", ".join(str(line["seed"]) for line in outcome.lines)
    seeds += f" (fewer than {SEEDS})" if len(outcome.lines) < SEEDS else ""
    epochs = str(outcome.lines[-1]["settings"]["epochs"])
    return [outcome.recipe.title, outcome.stack, *cells, seeds, _against(outcome), f"{minutes:.0f}", epochs]


def _cell(outcome: Outcome, metric: str) -> str:
    """Mean, interval, and the seeds' own values where there are several."""
    low, high = outcome.bounds(metric)
    values = outcome.seeds(metric)
    own = f"; {' / '.join(f'{value:.4f}' for value in values)}" if len(values) > 1 else ""
    return f"**{outcome.mean(metric):.4f}** ({low:.4f} to {high:.4f}{own})"


def _against(outcome: Outcome) -> str:
    """How far above or below what was published, metric by metric."""
    said = [
        f"{TITLES[metric]} {target:g}: {outcome.mean(metric) - target:+.4f}"
        for metric, target in outcome.recipe.targets.items()
    ]
    return f"{', '.join(said)} ({outcome.recipe.target_source})" if said else ""


def _bounded(entry: Mapping[str, float]) -> str:
    return f"{entry['value']:.4f} ({entry['low']:.4f} to {entry['high']:.4f})"
