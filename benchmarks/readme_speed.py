"""Rows of the README's table of speeds: question, command, figure; each benchmark's report says its own."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence

from benchmarks.report_text import Line, joined
from benchmarks.spread import paired_ratio, ratio

Row = tuple[str, str, str]
ORDER = (
    "evaluation_speed",
    "train_throughput",
    "negative_costs",
    "input_pipeline",
    "index_frontier",
    "compression",
    "scale",
    "serving_latency",
    "serving_load",
)
"""Benchmarks in the order of their rows."""
MILLION, FEW = 1_000_000, 10_000
"""Rows of the embedding tables that are compared."""


def rows(lines: Mapping[str, Sequence[Line]]) -> list[Row]:
    """Every benchmark's rows; none of one that has no lines, or nothing to say."""
    found: list[Row] = []
    for name in ORDER:
        own = list({(line["case"], line["digest"], line["seed"]): line for line in lines.get(name, ())}.values())
        if own:
            found += _says(name)(own)
    return found


def _says(name: str) -> Callable[[Sequence[Line]], list[Row]]:
    """`readme_rows` of the benchmark's report, where it has any."""
    own: Callable[[Sequence[Line]], list[Row]] = OF_RAW_LINES.get(name, lambda _: [])
    if importlib.util.find_spec(f"benchmarks.{name}_report") is None:
        return own
    # Not every report has something for the README.
    return getattr(importlib.import_module(f"benchmarks.{name}_report"), "readme_rows", own)


def evaluation_speed(lines: Sequence[Line]) -> list[Row]:
    """Against TFRS's metric, and against the matrix product that neither can do without."""
    return [*_against_tfrs(lines), *_against_the_product(lines)]


def _against_tfrs(lines: Sequence[Line]) -> list[Row]:
    found = {line["case"].rpartition(", ")[0]: line for line in lines if line["settings"].get("dim") == TUTORIAL_DIM}
    theirs = found.get("FactorizedTopK")
    if theirs is None:
        return []
    kinds = {
        "accuracies": "for the same accuracies",
        "full report": "with every metric",
        "with intervals": "with bootstrap intervals too",
    }
    said = [
        f"{ratio(theirs['wall_seconds'], found[case]['wall_seconds']).says()} {what}"
        for case, what in kinds.items()
        if case in found
    ]
    sizes = f"{theirs['settings']['queries']:,} queries x {theirs['settings']['candidates']:,} candidates"
    question = f"how many times as fast exact evaluation is as `tfrs.metrics.FactorizedTopK`, {sizes}"
    return [(question, "`python -m benchmarks.evaluation_speed --quick`", joined(said))]


def _against_the_product(lines: Sequence[Line]) -> list[Row]:
    found = {line["case"].removeprefix(LARGE): line for line in lines if line["case"].startswith(LARGE)}
    bound = found.get("matrix product")
    if bound is None:
        return []
    said = [
        f"{case} {paired_ratio(bound['wall_seconds'], found[case]['wall_seconds']).says()}"
        for case in ("ranks and top 100", "exact search, top 100")
        if case in found
    ]
    settings = bound["settings"]
    sizes = f"{settings['queries']:,} queries x {settings['candidates']:,} candidates x {settings['dim']}"
    question = f"rate over that of the matrix product alone, {sizes}"
    return [(question, "`python -m benchmarks.evaluation_speed`", joined(said))]


LARGE = "large: "
"""How cases of the large catalogue begin."""
TUTORIAL_DIM = 32
"""Width of the vectors in TFRS's tutorial."""


def train_throughput(lines: Sequence[Line]) -> list[Row]:
    """What a million rows cost against ten thousand, and examples a second of both stacks."""
    found = {
        (line["settings"]["stack"], line["settings"]["rows"]): line
        for line in lines
        if {"stack", "rows"} <= line["settings"].keys()
    }
    said = []
    for stack in ("tfrs_models", "torch_reference"):
        few, many = found.get((stack, FEW)), found.get((stack, MILLION))
        if few is None or many is None:
            continue
        compared = paired_ratio if len(few["wall_seconds"]) == len(many["wall_seconds"]) else ratio
        against = compared(few["wall_seconds"], many["wall_seconds"]).says()
        rate = round(many["examples_per_second"], -2)
        said.append(f"`{stack}` {against} at {rate:,.0f} examples a second")
    question = f"the rate of steps with embedding tables of {MILLION:,} rows over that with {FEW:,}"
    return [(question, "`python -m benchmarks.train_throughput --quick`", "; ".join(said))] if said else []


OF_RAW_LINES: Mapping[str, Callable[[Sequence[Line]], list[Row]]] = {
    "evaluation_speed": evaluation_speed,
    "train_throughput": train_throughput,
}
"""Of benchmarks whose reports leave it to this file."""
