"""Rows of the README's table of speeds: question, command, figure; each benchmark's report says its own."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence

from benchmarks import train_repeats_report
from benchmarks.index_found import by_dataset, quickest
from benchmarks.report_text import Line, joined
from benchmarks.spread import paired_ratio, ratio
from benchmarks.train_repeats_report import faster
from benchmarks.train_throughput_report import PEAK, by_run

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


def _compared(slow: Line, fast: Line) -> str:
    """The ratio of two lines' times, turn by turn where they have as many."""
    times = slow["wall_seconds"], fast["wall_seconds"]
    return (paired_ratio if len(times[0]) == len(times[1]) else ratio)(*times).says()


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
        f"{case} {_compared(bound, found[case])}"
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
    """What a million rows cost against ten thousand, and how both stacks train beside others."""
    return [*_million_rows(lines), *_beside_others(lines), *_distinct_rows_once(lines)]


def _distinct_rows_once(lines: Sequence[Line]) -> list[Row]:
    """Times as fast as the stock loops where each distinct row of a batch is encoded once, and of a batch of what."""
    repeats = train_repeats_report.measured_last(lines)
    said = []
    for (_, optimizer), found in train_repeats_report.by_run(repeats).items():
        (own, once), *_, (stock, line) = found.items()
        said += [f"`{own.partition(',')[0]}` {faster(once, line).says()} of {stock}"] if optimizer == "adam" else []
    if not said:
        return []
    data = joined(sorted({line["settings"][train_repeats_report.DATA] for line in repeats}))
    question = f"the same with batches of {data} and `training.encode_once`, tables of {FEW:,} rows"
    return [(question, "`python -m benchmarks.train_throughput`", "; ".join(said))]


def _beside_others(lines: Sequence[Line]) -> list[Row]:
    """Times as fast as others with dense Adam, by rows of the tables."""
    said: dict[int, list[str]] = {}
    for (_, num_rows, optimizer), found in by_run(lines).items():
        ours = next((name for name in OURS if name in found), None)
        if optimizer == "adam" and ours is not None:
            said.setdefault(num_rows, []).extend(
                f"`{ours}` {faster(found[ours], line).says()} of {name}"
                for name, line in found.items()
                if name != PEAK and not name.startswith(ours)
            )
    return [
        (
            f"times as fast a step with Adam and tables of {num_rows:,} rows",
            "`python -m benchmarks.train_throughput`",
            "; ".join(figures),
        )
        for num_rows, figures in sorted(said.items())
        if figures and num_rows in (FEW, MILLION)
    ]


OURS = ("tfrs_models", "torch_reference")


def _million_rows(lines: Sequence[Line]) -> list[Row]:
    found = {
        (line["settings"]["stack"], line["settings"]["rows"]): line
        for line in lines
        if {"stack", "rows"} <= line["settings"].keys()
    }
    said = []
    for stack in OURS:
        few, many = found.get((stack, FEW)), found.get((stack, MILLION))
        if few is None or many is None:
            continue
        rate = round(many["examples_per_second"], -2)
        said.append(f"`{stack}` {_compared(few, many)} at {rate:,.0f} examples a second")
    question = f"the rate of steps with embedding tables of {MILLION:,} rows over that with {FEW:,}"
    return [(question, "`python -m benchmarks.train_throughput --quick`", "; ".join(said))] if said else []


def index_frontier(lines: Sequence[Line]) -> list[Row]:
    """Who is quickest at a recall in each library, over the largest catalogue that was measured."""
    found = [each for each in by_dataset(lines).values() if each]
    if not found:
        return []
    largest = max(found, key=lambda each: each[0].line["settings"]["candidates"])
    libraries = dict.fromkeys(each.line["library"] for each in largest)
    chosen = [quickest([each for each in largest if each.line["library"] == name], ENOUGH) for name in libraries]
    ranked = sorted((each for each in chosen if each is not None), key=lambda each: each.milliseconds(0.5))
    if not ranked:
        return []
    first, settings = ranked[0], largest[0].line["settings"]
    said = [f"{first.name}: {first.milliseconds(0.5):.2f} ms at {first.mean():.3f}"]
    for each in ranked[1:]:
        said.append(f"{each.name}: {_compared(each.line, first.line)} times that at {each.mean():.3f}")
    question = (
        f"one query of {settings['candidates']:,} x {settings['dim']}, one thread: quickest setting of each library "
        f"with recall@100 of {ENOUGH} or more, p50"
    )
    return [(question, "`python -m benchmarks.index_frontier`", "; ".join(said))]


ENOUGH = 0.95
"""Recall@100 at which libraries are compared."""
OF_RAW_LINES: Mapping[str, Callable[[Sequence[Line]], list[Row]]] = {
    "evaluation_speed": evaluation_speed,
    "train_throughput": train_throughput,
    "index_frontier": index_frontier,
}
"""Of benchmarks whose reports leave it to this file."""
