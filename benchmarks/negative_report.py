"""Raw lines -> `negatives.md`, which says what helps, and `negatives.svg`; never measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import negative_costs, negative_costs_report, record
from benchmarks.negative_comparing import Comparison, Difference, Outcome, compare
from benchmarks.negative_plot import plot
from benchmarks.negative_quality import CHOSEN_BY, NAME
from benchmarks.negative_strategies import REFERENCE, STRATEGIES
from benchmarks.negative_training import Row
from benchmarks.report_text import Line, table
from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text

SHOWN = ("recall@10", "recall@100")
"""Metrics that a verdict is given for."""
STACK = "torch_reference"
"""Whose runs the project's report shows."""
SIGNS = {"helps": "▲", "no difference": "=", "hurts": "▼"}


def write_report(results: Path, stack: str) -> dict[str, Any]:
    """Write both files beside the lines.

    Returns:
        What was written, and the verdicts by metric, strategy and data set.

    Raises:
        UserError: there are no lines, or a file cannot be written.
    """
    path = results / f"{NAME}.jsonl"
    comparisons = [found for found in compare(record.read(path), stack) if found.outcomes]
    if not comparisons:
        todo = "run `python -m benchmarks.negatives` first"
        raise UserError(f"no finished strategy of {stack}", where=str(path), todo=todo)
    costs = results / f"{negative_costs.NAME}.jsonl"
    page, picture = path.with_suffix(".md"), path.with_suffix(".svg")
    write_text(page, text(comparisons, stack, record.read(costs) if costs.exists() else []))
    plot(comparisons, picture)
    return {
        "written": [str(page), str(picture)],
        "verdicts": {metric: verdicts(comparisons, metric) for metric in SHOWN},
    }


def section(lines: Sequence[Line], plots: Path) -> str:
    """The report's section: what helps, and where the page with everything lies.

    Args:
        lines: all of the benchmark.
        plots: folder that the picture is written to.
    """
    comparisons = [found for found in compare(lines, STACK) if found.outcomes]
    if not comparisons:
        return f"## Negatives: which strategy helps\n\nNo finished strategy of `{STACK}`."
    plot(comparisons, plots / f"{NAME}.svg")
    parts = [
        "## Negatives: which strategy helps",
        f"{_method(comparisons)} Tables of every data set, with MRR, coverage, popularity percentile and seconds: "
        f"[{NAME}.md](results/{NAME}.md).",
        *(_in_short(comparisons, metric, level=3) for metric in reversed(SHOWN)),
        f"![Difference of every strategy to exact logQ, in percent](results/plots/{NAME}.svg)",
    ]
    return "\n\n".join(parts)


def verdicts(comparisons: Sequence[Comparison], metric: str) -> dict[str, dict[str, str]]:
    """Verdict by strategy and data set."""
    return {
        name: {
            found.dataset.name: outcome.differences[metric].verdict
            for found in comparisons
            for outcome in found.outcomes
            if outcome.name == name and metric in outcome.differences
        }
        for name in STRATEGIES
        if name != REFERENCE
    }


def text(comparisons: Sequence[Comparison], stack: str, costs: Sequence[Mapping[str, Any]]) -> str:
    """The whole page."""
    parts = [
        f"# Negatives: which strategy helps ({stack})",
        _method(comparisons),
        *(_in_short(comparisons, metric) for metric in reversed(SHOWN)),
        *(_section(found) for found in comparisons),
    ]
    if costs:
        parts.append(negative_costs_report.costs(costs))
    return "\n\n".join(parts) + "\n"


def _method(comparisons: Sequence[Comparison]) -> str:
    machines = sorted({f"{line['cpu']}, {line['cores']} cores" for found in comparisons for line in found.lines})
    num_seeds = {outcome.num_seeds for found in comparisons for outcome in found.outcomes}
    num_compared = len(SHOWN) * sum(bool(outcome.differences) for found in comparisons for outcome in found.outcomes)
    seeds = f"{min(num_seeds)} to {max(num_seeds)} seeds" if len(num_seeds) > 1 else f"{max(num_seeds)} seed(s)"
    return (
        "Written by `python -m benchmarks.negatives --report` from the raw lines; measured on "
        f"{'; '.join(machines)}. On a data set every strategy has the same towers, optimiser and number of steps; its "
        f"temperature (or margin) was chosen for it alone by {CHOSEN_BY} on validation, then {seeds} measured on test, "
        "over the whole catalogue. Intervals are 95 % over queries. A difference is to exact logQ on the same queries, "
        "in percent of its value; ▲ helps and ▼ hurts stand only where the interval leaves 0 out and all seeds agree. "
        f"With one seed training's own randomness is not in the interval. Of {num_compared} comparisons of equals "
        f"about {max(1, round(num_compared / 20))} would be marked by chance. † marks a value at the end of its grid."
    )


def _in_short(comparisons: Sequence[Comparison], metric: str, *, level: int = 2) -> str:
    """Differences of every strategy on every data set, and the strategies sorted by what can be said of them."""
    head = ["strategy", *(found.dataset.title for found in comparisons)]
    rows = [
        [STRATEGIES[name].title, *(_short(_of(found, name), metric) for found in comparisons)]
        for name in STRATEGIES
        if name != REFERENCE
    ]
    said = "\n".join(f"* {kind}: {'; '.join(names)}" for kind, names in groups(verdicts(comparisons, metric)).items())
    return f"{'#' * level} What helps, by {metric}\n\n{said}\n\n{table(head, rows)}"


def groups(found: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Titles of strategies by what their verdicts say together."""
    sorted_in: dict[str, list[str]] = {}
    for name, by_set in found.items():
        if by_set:
            sorted_in.setdefault(_kind(list(by_set.values())), []).append(STRATEGIES[name].title)
    return sorted_in


def _kind(said: Sequence[str]) -> str:
    helps, hurts = said.count("helps"), said.count("hurts")
    if not helps and not hurts:
        return "No difference to exact logQ shown on any data set"
    if helps and hurts:
        return "Helps on some data sets and hurts on others"
    word, times = ("Helps", helps) if helps else ("Hurts", hurts)
    return f"{word} on every data set" if times == len(said) else f"{word} on some data sets, no difference on the rest"


def _of(found: Comparison, name: str) -> Outcome | None:
    return next((outcome for outcome in found.outcomes if outcome.name == name), None)


def _short(outcome: Outcome | None, metric: str) -> str:
    if outcome is None or metric not in outcome.differences:
        return ""
    difference = outcome.differences[metric]
    return f"{SIGNS[difference.verdict]} {difference.percent[0]:+.1f} %"


def _section(found: Comparison) -> str:
    """One data set: sizes, table, what the baselines say, and what failed."""
    settings = found.lines[-1]["settings"]
    sizes = f"{settings['steps']} steps of {settings['batch_size']} examples"
    if found.facts:
        sizes += (
            f", {found.facts['num_train_positives']:,} train positives, {found.facts['num_candidates']:,} candidates, "
            f"{found.facts['num_queries']:,} test queries"
        )
    lines = [f"## {found.dataset.title}", f"{sizes}.", _outcomes(found)]
    if found.reference is not None and found.baselines:
        lines.append(_against_baselines(found.reference, found.baselines))
    if found.failed:
        lines.append(f"Failed: {', '.join(found.failed)}.")
    return "\n\n".join(lines)


def _against_baselines(reference: Outcome, baselines: Mapping[str, Row]) -> str:
    """Say where the reference stands, metric by metric, by whether intervals overlap."""
    said = [
        f"{_place(reference.metrics[metric], row[metric])} {name} by {metric}"
        for name, row in baselines.items()
        for metric in SHOWN
    ]
    return f"Exact logQ is {', '.join(said)}."


def _place(own: Mapping[str, float | None], other: Mapping[str, float | None]) -> str:
    low, high = own["low"], own["high"]
    other_low, other_high = other["low"], other["high"]
    assert low is not None and high is not None and other_low is not None and other_high is not None
    if low > other_high:
        return "above"
    return "below" if high < other_low else "not told from"


def _outcomes(found: Comparison) -> str:
    head = [
        "strategy",
        "tuned",
        "recall@10",
        "recall@100",
        "MRR",
        "coverage@100",
        "popularity percentile@100",
        "s/epoch",
        "CPU s/epoch",
    ]
    head += [f"{metric} against exact" for metric in SHOWN]
    rows = [_row(outcome) for outcome in found.outcomes]
    rows += [[f"*{name}*", "", *_metrics(metrics), "", "", "", ""] for name, metrics in found.baselines.items()]
    return table(head, rows)


def _row(outcome: Outcome) -> list[str]:
    tuned = f"{outcome.strategy.knob} {outcome.value:g}{'†' if outcome.at_edge else ''}"
    differences = [_long(outcome.differences.get(metric)) for metric in SHOWN]
    seconds = [f"{figure:.1f}" for figure in (outcome.seconds_per_epoch, outcome.cpu_seconds_per_epoch)]
    return [outcome.strategy.title, tuned, *_metrics(outcome.metrics), *seconds, *differences]


def _metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    bounded = [_bounded(metrics[name]) for name in ("recall@10", "recall@100", "mrr")]
    return [*bounded, f"{metrics['coverage@100']['value']:.3f}", f"{metrics['popularity_percentile@100']['value']:.3f}"]


def _bounded(entry: Mapping[str, float | None]) -> str:
    return f"{entry['value']:.4f} ({entry['low']:.4f} to {entry['high']:.4f})"


def _long(difference: Difference | None) -> str:
    if difference is None:
        return ""
    value, low, high = difference.percent
    return f"{SIGNS[difference.verdict]} {value:+.1f} % ({low:+.1f} to {high:+.1f})"
