"""Raw lines of `benchmarks.negatives` -> what became of each strategy, and its difference to the reference."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.negative_datasets import DATASETS, Dataset
from benchmarks.negative_quality import BASELINES, NAME, chosen
from benchmarks.negative_strategies import REFERENCE, STRATEGIES, Strategy
from benchmarks.negative_training import COMPARED, REPORTED, Row

Line = Mapping[str, Any]
Verdict = Literal["helps", "no difference", "hurts"]
NORMAL_95 = 1.96
"""Standard errors on each side of a 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric less the reference's, on the same queries."""

    value: float
    """Mean over seeds."""
    low: float
    """Lower end of the 95 % interval over queries."""
    high: float
    """Upper end."""
    reference: float
    """The reference's value."""
    seeds_agree: bool
    """True where the difference has one sign for every seed."""

    @property
    def verdict(self) -> Verdict:
        """What can be said: only an interval without 0, and one sign in all seeds, says something."""
        if not self.seeds_agree or self.low <= 0 <= self.high:
            return "no difference"
        return "helps" if self.low > 0 else "hurts"

    @property
    def percent(self) -> tuple[float, float, float]:
        """Value, low and high in percent of the reference."""
        scale = 100 / self.reference if self.reference else math.nan
        return self.value * scale, self.low * scale, self.high * scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One strategy on one data set."""

    name: str
    strategy: Strategy
    value: float
    """Chosen value of the knob."""
    at_edge: bool
    """True where the chosen value is the first or last tried, so that a wider grid might find a better one."""
    num_seeds: int
    metrics: Row
    """Means over seeds, of values and of their intervals."""
    seconds_per_epoch: float
    """On the clock, median over seeds; more than the strategy's own where others had the machine."""
    cpu_seconds_per_epoch: float
    """Of all cores together, over the whole of a training; median over seeds."""
    differences: Mapping[str, Difference]
    """By metric of `COMPARED`; empty for the reference, or where there is none to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One data set."""

    dataset: Dataset
    outcomes: Sequence[Outcome]
    """In the order of `STRATEGIES`; those without a test line are left out."""
    failed: Sequence[str]
    """Cases that gave nothing to measure."""
    baselines: Mapping[str, Row]
    facts: Line
    """The baselines' line: sizes and notes; empty where there is none."""
    lines: Sequence[Line]
    """All lines it comes from."""

    @property
    def reference(self) -> Outcome | None:
        """The outcome of `REFERENCE`."""
        return next((outcome for outcome in self.outcomes if outcome.name == REFERENCE), None)


def compare(lines: Sequence[Line], stack: str) -> list[Comparison]:
    """Put a stack's lines together, data set by data set; of several lines of one run the last counts.

    A data set's lines with another number of steps than its last line are left out: they cannot be compared.
    """
    own = [line for line in lines if line["benchmark"] == NAME and line["settings"]["stack"] == stack]
    found = []
    for dataset in DATASETS.values():
        of_set = [line for line in own if line["settings"]["dataset"] == dataset.name]
        if of_set:
            steps = of_set[-1]["settings"]["steps"]
            found.append(_comparison(dataset, [line for line in of_set if line["settings"]["steps"] == steps]))
    return found


def _comparison(dataset: Dataset, lines: Sequence[Line]) -> Comparison:
    latest = list({_run_of(line): line for line in lines}.values())
    facts = next((line for line in reversed(latest) if line["settings"]["strategy"] == BASELINES), {})
    tests = {name: _tests(latest, name) for name in STRATEGIES}
    outcomes = [_outcome(name, tests[name], tests[REFERENCE]) for name in STRATEGIES if tests[name]]
    return Comparison(
        dataset=dataset,
        outcomes=outcomes,
        failed=[line["case"] for line in latest if line["failed"]],
        baselines=facts.get("baselines", {}),
        facts=facts,
        lines=latest,
    )


def _run_of(line: Line) -> tuple[Any, ...]:
    """What makes two lines the same run, whatever became of the code between them."""
    settings = line["settings"]
    return settings["strategy"], settings["part"], settings.get("value"), line["seed"]


def _tests(lines: Sequence[Line], name: str) -> list[Line]:
    """Test lines of a strategy at the value that its validation lines choose, by seed."""
    own = [
        line
        for line in lines
        # Values of a grid that is no longer tried do not choose.
        if line["settings"]["strategy"] == name and line["settings"]["value"] in STRATEGIES[name].values
    ]
    best = chosen(line for line in own if line["settings"]["part"] == "validation")
    if best is None:
        return []
    value = best["settings"]["value"]
    tests = [line for line in own if line["settings"]["part"] == "test" and line["settings"]["value"] == value]
    return sorted((line for line in tests if line["metrics"] is not None), key=lambda line: line["seed"])


def _outcome(name: str, tests: Sequence[Line], reference: Sequence[Line]) -> Outcome:
    strategy, value = STRATEGIES[name], tests[0]["settings"]["value"]
    differences = {} if name == REFERENCE else {metric: difference(tests, reference, metric) for metric in COMPARED}
    return Outcome(
        name=name,
        strategy=strategy,
        value=value,
        at_edge=value in (min(strategy.values), max(strategy.values)),
        num_seeds=len(tests),
        metrics={metric: _mean([line["metrics"][metric] for line in tests]) for metric in REPORTED},
        seconds_per_epoch=statistics.median(line["seconds_per_epoch"] for line in tests),
        cpu_seconds_per_epoch=statistics.median(map(_cpu_seconds_per_epoch, tests)),
        differences={metric: found for metric, found in differences.items() if found is not None},
    )


def _cpu_seconds_per_epoch(line: Line) -> float:
    seconds: float = line["cpu_seconds"][0]
    return seconds / line["settings"]["steps"] * line["steps_per_epoch"]


def difference(tests: Sequence[Line], reference: Sequence[Line], metric: str) -> Difference | None:
    """Compare two strategies query by query: their resampled values come from the same draws of the same queries.

    The interval is the normal one, with the spread of the resampled differences averaged over the seeds that both have.
    It covers which queries there are; what training's randomness adds shows in the seeds.

    Returns:
        None where they have no seed in common.
    """
    others = {line["seed"]: line for line in reference}
    pairs = [(line, others[line["seed"]]) for line in tests if line["seed"] in others]
    if not pairs:
        return None
    assert all(line["num_queries"] == other["num_queries"] for line, other in pairs), "one part, one set of queries"
    values = [line["metrics"][metric]["value"] - other["metrics"][metric]["value"] for line, other in pairs]
    resampled_RS = np.array(
        [np.subtract(line["resampled"][metric], other["resampled"][metric]) for line, other in pairs]
    )
    value, reach = statistics.fmean(values), NORMAL_95 * float(resampled_RS.mean(axis=0).std(ddof=1))
    return Difference(
        value=value,
        low=value - reach,
        high=value + reach,
        reference=statistics.fmean(other["metrics"][metric]["value"] for _, other in pairs),
        seeds_agree=len({math.copysign(1, each) for each in values}) == 1,
    )


def _mean(entries: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    ends = {end: [entry[end] for entry in entries] for end in entries[0]}
    return {end: None if None in values else statistics.fmean(values) for end, values in ends.items()}  # type: ignore[arg-type]
