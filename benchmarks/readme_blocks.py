"""What README.md says of results: each block a table or a paragraph, made from the raw lines and nothing else.

A block stands in README.md between `<!-- report: NAME -->` and `<!-- /report -->`, and in the report under its title.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import negative_report, presets_report, quality_report, readme_speed
from benchmarks.negative_comparing import Comparison, compare
from benchmarks.preset_cases import CASES, SIMULATED
from benchmarks.quality_report import Outcome
from benchmarks.report_text import Line, bounded, joined, paragraph, table

Lines = Mapping[str, Sequence[Line]]
"""By benchmark."""


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of the README."""

    title: str
    """Its heading in the report."""
    make: Callable[[Lines], str]
    """The text; empty where its lines are missing."""


def blocks(lines: Lines) -> dict[str, str]:
    """Every block's text by name."""
    return {name: block.make(lines) for name, block in BLOCKS.items()}


# ---------------------------------------------------------------- presets


def _presets(lines: Lines) -> dict[str, dict[str, Line]]:
    return presets_report.first_seeds(lines.get("presets", ()))


def _preset_table(lines: Lines, names: Sequence[str], metrics: Sequence[str], baselines: Sequence[str]) -> str:
    """Both stacks with intervals and the baselines without, below a line that says which preset."""
    rows = []
    for name in names:
        by_stack = _presets(lines).get(name)
        if not by_stack:
            continue
        rows.append([f"*{CASES[name].title}:* `train --preset={name}`", *[""] * len(metrics)])
        for stack, line in by_stack.items():
            rows.append([f"`{stack}`", *(bounded(line["metrics"][metric]) for metric in metrics)])
        found = next(iter(by_stack.values()))["baselines"]
        for baseline in (baseline for baseline in baselines if baseline in found):
            values = [f"{found[baseline][metric]['value']:.3f}" for metric in metrics]
            rows.append([presets_report.named(baseline), *values])
    return table(["", *metrics], rows) if rows else ""


def movielens_100k(lines: Lines) -> str:
    """Accuracies on the tutorial's split."""
    names = ("movielens_100k", "movielens_100k_nothing_removed")
    return _preset_table(lines, names, presets_report.ACCURACIES, ("ease", "popularity"))


def other_data(lines: Lines) -> str:
    """Recall on other data."""
    names = ("movielens_latest_small", "movietweetings_100k", "video")
    return _preset_table(lines, names, ("recall@10", "recall@100"), ("ease", "popularity", "oracle"))


def simulated(lines: Lines) -> str:
    """The demo's table in a sentence."""
    by_stack = _presets(lines).get(SIMULATED)
    if not by_stack:
        return ""
    said = [f"`{stack}` {line['metrics']['recall@10']['value']:.3f}" for stack, line in by_stack.items()]
    found = next(iter(by_stack.values()))["baselines"]
    said += [f"{presets_report.named(name)} {found[name]['recall@10']['value']:.3f}" for name in ("ease", "popularity")]
    oracle = f"{found['oracle']['recall@10']['value']:.3f} for the oracle, which knows the true probabilities"
    return paragraph(f"Simulated data (`make demo`), recall@10: {joined([*said, oracle])}.")


COLD = "movietweetings_100k_cold"


def cold_candidates(lines: Lines) -> str:
    """What is found of candidates that training never saw."""
    slices = presets_report.slices_by_seed(lines.get("presets", ()), COLD)
    if not slices:
        return ""
    said = []
    for metric in ("recall@10", "recall@100"):
        stacks = [f"`{stack}` {presets_report.by_seed(parts, metric)}" for stack, parts in slices.items()]
        said.append(f"{metric} {joined(stacks)}")
    seeds = max(len(parts) for parts in slices.values())
    said[0] += f" (a figure a seed, {seeds} seeds)" if seeds > 1 else ""
    one = next(iter(slices.values()))[0]
    chance = [f"{one['chance'][metric]:.3f}" for metric in ("recall@10", "recall@100")]
    popularity = [f"{one['baselines']['popularity'][metric]['value']:.3f}" for metric in ("recall@10", "recall@100")]
    return paragraph(
        f"**Candidates that training never saw** (`train --preset={COLD}`, slice `cold_candidates`): "
        f"{'; '.join(said)}; chance {joined(chance)}, popularity {joined(popularity)}."
    )


def two_stacks(lines: Lines) -> str:
    """Paired differences over seeds."""
    own = lines.get("presets", ())
    if not presets_report.stack_differences(own):
        return ""
    return paragraph(presets_report.stacks_text(own))


# ---------------------------------------------------------------- histories


def histories(lines: Lines) -> str:
    """The recipes beside what was published, by the metrics that was published by."""
    found = quality_report.outcomes(lines.get("quality", ()))
    rows = [_recipe_row(outcome, quality_report.baselines_beside(outcome, found)) for outcome in found]
    return table(["recipe", "", "here", "seeds", "published", "EASE", "popularity"], rows) if rows else ""


def _recipe_row(outcome: Outcome, beside: Line) -> list[str]:
    line, metrics = outcome.lines[-1], list(outcome.recipe.targets)
    here = [
        bounded({"value": outcome.mean(metric), **dict(zip(("low", "high"), outcome.bounds(metric), strict=True))})
        for metric in metrics
    ]
    epochs = line["settings"]["epochs"]
    seen = "" if line["exclude_seen"] else ", seen candidates stay"
    named = f"`{outcome.recipe.name}`, {outcome.stack if outcome.stack != quality_report.MAIN_STACK else ''}"
    baselines = [
        " / ".join(f"{beside[name][metric]['value']:.3f}" for metric in metrics) if name in beside else ""
        for name in ("ease", "popularity")
    ]
    return [
        f"{named.removesuffix(', ')}, {epochs} epochs{seen}",
        " / ".join(quality_report.TITLES[metric] for metric in metrics),
        " / ".join(here),
        str(len(outcome.lines)),
        " / ".join(f"{target:.3f}" for target in outcome.recipe.targets.values()),
        *baselines,
    ]


def epoch_seconds(lines: Lines) -> str:
    """How long an epoch of SASRec takes."""
    found = [o for o in quality_report.outcomes(lines.get("quality", ())) if o.recipe.name == "movielens_1m_sasrec"]
    if not found:
        return ""
    seconds = statistics.median(line["wall_seconds"][0] / line["settings"]["epochs"] for line in found[0].lines)
    cpu = statistics.median(line["cpu_seconds"][0] / line["settings"]["epochs"] for line in found[0].lines)
    return paragraph(
        f"An epoch of `movielens_1m_sasrec` takes {cpu:.0f} seconds of one core ({seconds:.0f} s on the clock, others "
        "on the machine)."
    )


# ---------------------------------------------------------------- negatives

NEGATIVES = (
    ("no correction", ("none",)),
    ("streaming log q", ("streaming",)),
    ("refined log q", ("refined",)),
    ("temperature learned", ("learned_temperature",)),
    ("known positives masked", ("known_positives",)),
    ("uniform samples mixed in", ("mixed",)),
    ("mined hard negatives, 20 : 80", ("mined",)),
    ("hardest 64 of the batch", ("hardest",)),
    ("bank of 4 batches / its moving average", ("bank", "bank_momentum")),
    ("full softmax", ("full_softmax",)),
    ("BPR / triplet / contrastive / sigmoid", ("bpr", "triplet", "contrastive", "sigmoid")),
    ("gBCE with uniform samples", ("gbce",)),
)
"""Rows of the README's table: strategies in one row share a cell."""
NEGATIVES_METRIC = "recall@100"


def negatives(lines: Lines) -> str:
    """Every strategy's difference to exact log q, '=' where its interval holds 0."""
    own = lines.get("negatives", ())
    found = [one for one in compare(own, negative_report.STACK) if one.reference is not None and one.baselines]
    if not found:
        return ""
    head = ["strategy", *(one.dataset.title.replace(" 100K", "") for one in found)]
    rows = [
        ["exact log q", *(_of_reference(one) for one in found)],
        ["popularity / EASE or item cosine", *(_of_baselines(one) for one in found)],
        *([title, *(" / ".join(_shift(one, name) for name in names) for one in found)] for title, names in NEGATIVES),
    ]
    return table(head, rows)


def _of_reference(comparison: Comparison) -> str:
    assert comparison.reference is not None
    return f"{comparison.reference.metrics[NEGATIVES_METRIC]['value']:.3f}"


def _of_baselines(comparison: Comparison) -> str:
    names = sorted(comparison.baselines, key=lambda name: name != "popularity")
    return " / ".join(f"{comparison.baselines[name][NEGATIVES_METRIC]['value']:.3f}" for name in names)


def _shift(comparison: Comparison, name: str) -> str:
    outcome = next((one for one in comparison.outcomes if one.name == name), None)
    difference = outcome.differences.get(NEGATIVES_METRIC) if outcome else None
    if difference is None:
        return "–"
    if difference.verdict == "no difference":
        return "="
    percent = difference.percent[0]
    return f"{percent:+.{0 if abs(percent) >= 5 else 1}f} %"


# ---------------------------------------------------------------- speed


def speed(lines: Lines) -> str:
    """Question, command, figure."""
    rows = readme_speed.rows(lines)
    return table(["question", "command", "figure"], rows) if rows else ""


BLOCKS: dict[str, Block] = {
    "movielens_100k": Block("MovieLens 100K", movielens_100k),
    "other_data": Block("Other data", other_data),
    "simulated": Block("Simulated data", simulated),
    "two_stacks": Block("The two stacks against each other", two_stacks),
    "histories": Block("Histories, leave one out", histories),
    "epoch_seconds": Block("An epoch of SASRec", epoch_seconds),
    "cold_candidates": Block("Candidates that training never saw", cold_candidates),
    "negatives": Block("Which negatives help?", negatives),
    "speed": Block("Speed", speed),
}
"""By the name that the README's comment has."""
