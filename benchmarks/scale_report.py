"""Raw lines of `benchmarks.scale` -> its part of the report: growth, a prediction put to the test, an estimate."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.index_found import Found, by_dataset
from benchmarks.report_text import Line, machines, paragraph, table
from benchmarks.scale import FULL_SIZE, LEAST, LIMIT
from benchmarks.scale_estimate import Fit, Terms, fit, fit_terms, num_shards
from retrieval_contract.files import replacing_file

NAME, TITLE = "scale", "What the catalogue's size costs: measured growth, and an estimate for a billion"
FARTHER = (100_000_000, 1_000_000_000)
MACHINES = (("this one, 20 GiB", LIMIT), ("256 GiB", 256 * 2**30))
"""Memory of a machine that would hold shards."""
FILLED = 0.7
"""Share of it that vectors may fill; the rest is the process's. An index and its successor side by side need twice."""
FACTORY = "one FAISS index of sqrt(N) lists, 4-bit codes of two dimensions, and 8 bits a number to score the best again"
COSTS: Mapping[str, tuple[Callable[[Found], float], str]] = {
    "building, CPU s": (lambda each: float(each.line["build_cpu_seconds"]), ",.1f"),
    "a query, ms": (lambda each: each.milliseconds(0.5), ",.3f"),
    "bytes on disk, MB": (lambda each: each.line["disk_bytes"] / 1e6, ",.1f"),
}
"""What is fitted: how it is read from a line, and how it is printed."""
POWERS: Mapping[str, tuple[float, ...]] = {
    "building, CPU s": (0, 1, 1.5),
    "a query, ms": (0, 0.5, 1),
    "bytes on disk, MB": (0, 0.5, 1),
}
"""Powers of N in the operations of each. Building: codebooks; coding, and k-means of sqrt(N) centres over 64 times as
many; each candidate to the nearest of sqrt(N) centres. A query: sqrt(N) centres, and lists of sqrt(N), of which more
are searched the more there are. Bytes: codebooks, centres, codes."""
FEWEST = 3
"""Sizes without which nothing is fitted."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The question, the answer in words, tables and a plot.

    Args:
        lines: latest of each case, of this benchmark.
        plots: folder of the plot.
    """
    scans = {line["settings"]["candidates"]: line for line in lines if line["settings"].get("factory") == "Flat"}
    searches = [line for line in lines if line["settings"].get("factory") != "Flat"]
    found = {settings[0].line["settings"]["candidates"]: settings[0] for settings in by_dataset(searches).values()}
    found = dict(sorted(found.items()))
    parts = [f"## {TITLE}", paragraph(_method(lines)), _measured(found, scans)]
    if len(found) >= FEWEST:
        plot(found, plots / f"{NAME}.svg")
        parts += [f"![Costs over candidates, with their fits](results/plots/{NAME}.svg)", _growth(found)]
    if len(found) > FEWEST:
        parts.append(_tested(found))
    if len(found) >= FEWEST:
        parts.append(_estimate(found))
    return "\n\n".join(parts)


def fits(found: Mapping[int, Found]) -> dict[str, Fit]:
    """A power law of each cost."""
    return {name: fit(list(found), [cost(each) for each in found.values()]) for name, (cost, _) in COSTS.items()}


def _method(lines: Sequence[Line]) -> str:
    return (
        f"How do building and searching grow? Measured on {machines(lines)}: {FACTORY}, over clustered vectors of "
        "width 128, a process a size, candidates added by chunks and never held twice. So many lists are searched that "
        f"recall@100 is {LEAST} or more: sizes are compared at the same answer. Queries come one at a time on one "
        "thread, each after an untimed one; the median of 200. Truth is float64 over all candidates, and was checked "
        "against FAISS's exact search; recall is computed here again from the neighbours in the raw lines."
    )


def _measured(found: Mapping[int, Found], scans: Mapping[int, Line]) -> str:
    rows = []
    for size, each in found.items():
        line, peak = each.line, each.line["peak_bytes"]
        scan = scans.get(size)
        rows.append(
            [
                f"{size:,}",
                each.says(),
                f"{line['settings']['nprobe']:,} of {line['settings']['lists']:,}",
                *(f"{cost(each):{shown}}" for cost, shown in COSTS.values()),
                "" if peak is None else f"{peak / 2**30:.2f}",
                f"{line['train_seconds']:.1f} + {line['add_seconds']:.1f}",
                "" if scan is None else f"{1e3 * sorted(scan['wall_seconds'])[len(scan['wall_seconds']) // 2]:.2f}",
            ]
        )
    head = ["candidates", "recall@100", "lists searched", *COSTS, "peak GiB", "train + add, s", "looking at all, ms"]
    missing = "" if FULL_SIZE in found else f"\n\n{FULL_SIZE:,} candidates were not measured (`--full` does)."
    return table(head, rows) + missing


def _growth(found: Mapping[int, Found]) -> str:
    said = [f"{name.partition(',')[0]} as N^{each.exponent:.2f}" for name, each in fits(found).items()]
    return f"From {min(found):,} to {max(found):,} candidates grow {', '.join(said[:-1])} and {said[-1]}."


def by_operations(found: Mapping[int, Found]) -> dict[str, Terms]:
    """The sum of known powers of each cost."""
    return {
        name: fit_terms(list(found), [cost(each) for each in found.values()], POWERS[name])
        for name, (cost, _) in COSTS.items()
    }


def _tested(found: Mapping[int, Found]) -> str:
    """The largest size predicted from the others, by both methods, beside what was measured."""
    largest = max(found)
    others = {size: each for size, each in found.items() if size != largest}
    counted, rows, missed = by_operations(others), [], []
    for name, law in fits(others).items():
        cost, shown = COSTS[name]
        truth, between = cost(found[largest]), law.interval(largest)
        missed += [] if between is not None and between[0] <= truth <= between[1] else [name.partition(",")[0]]
        span = "" if between is None else f" [{between[0]:{shown}}, {between[1]:{shown}}]"
        guesses = law.at(largest), counted[name].at(largest)
        rows.append([name, f"{guesses[0]:{shown}}{span}", f"{guesses[1]:{shown}}", f"{truth:{shown}}"])
        rows[-1] += [f"{guess / truth:.2f}" for guess in guesses]
    verdict = f"Outside the interval of the power law lies: {', '.join(missed)}."
    if not missed:
        verdict = "Every measurement lies in the interval of the power law."
    nearer = [row[0].partition(",")[0] for row in rows if abs(math.log(float(row[5]))) < abs(math.log(float(row[4])))]
    verdict += f" The operations come nearer for {', '.join(nearer)}." if nearer else " The power law comes nearer."
    text = (
        f"Both methods are tested by predicting {largest:,} from the {len(others)} smaller sizes: a power law, whose "
        f"exponent is fitted, and the operations counted, of which only the shares are fitted. {verdict}"
    )
    head = [f"at {largest:,}", "power law, 95 %", "operations", "measured", "power law / measured"]
    return f"### The method, tested\n\n{paragraph(text)}\n\n{table([*head, 'operations / measured'], rows)}"


def _estimate(found: Mapping[int, Found]) -> str:
    """What the operations counted say of sizes beyond, and how many machines those need."""
    laws, counted, rows = fits(found), by_operations(found), []
    for size in FARTHER:
        figures = [
            f"{counted[name].at(size):{shown}} ({laws[name].at(size):{shown}})" for name, (_, shown) in COSTS.items()
        ]
        total = 1e6 * counted["bytes on disk, MB"].at(size)
        shards = [num_shards(total, memory, FILLED) for _, memory in MACHINES]
        rows.append([f"{size:,}", *figures, *(f"{num}: {_shard(counted, size / num)}" for num in shards)])
    head = ["candidates", *COSTS, *(f"shards on machines of {name}" for name, _ in MACHINES)]
    said = (
        "Worked from the operations counted over all measured sizes, the power law in brackets. A number of machines "
        f"is the bytes over {FILLED:.0%} of a machine's memory, rounded up; beside it the time of a query in one of so "
        "many shards, and the CPU hours to build one. Shards are searched side by side, so a query takes the slowest "
        "shard and the merge of 100 results from each, which is not in the figure, and every query costs the CPU of "
        "all shards. An estimate: caches, memory bandwidth and the network of such machines were not measured."
    )
    return f"### An estimate for 100 million and a billion\n\n{paragraph(said)}\n\n{table(head, rows)}"


def _shard(counted: Mapping[str, Terms], size: float) -> str:
    hours = counted["building, CPU s"].at(size) / 3600
    return f"{counted['a query, ms'].at(size):,.2f} ms, {hours:.2f} h"


def plot(found: Mapping[int, Found], path: Path) -> None:
    """Each cost over candidates, and its fit through to a billion; the same bytes for the same lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    laws = fits(found)
    with matplotlib.rc_context({"svg.hashsalt": NAME}):
        figure, panels = pyplot.subplots(1, len(COSTS), figsize=(15, 4.2))
        for axes, (name, (cost, _)) in zip(panels, COSTS.items(), strict=True):
            ends = [min(found), max(FARTHER)]
            axes.plot(ends, [laws[name].at(size) for size in ends], "--", color="#6b6b6b", linewidth=1)
            axes.plot(list(found), [cost(each) for each in found.values()], "o", color="#1b6ca8")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(f"{name}: N^{laws[name].exponent:.2f}", fontsize=10)
            axes.set_xlabel("candidates")
            axes.grid(color="#eeeeee")
        figure.tight_layout()
        with replacing_file(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})
        pyplot.close(figure)
