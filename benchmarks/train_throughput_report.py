"""Raw lines of `benchmarks.train_throughput` -> its section of the report; never measures."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import train_repeats_report
from benchmarks.report_text import Line, joined, machines, paragraph, table
from benchmarks.spread import Ratio, paired_ratio, spread
from benchmarks.svg_figure import saved_figure
from benchmarks.train_problem import BATCH_SIZE, FLOPS_A_STEP
from benchmarks.train_repeats_report import faster, who_is_faster

TOGETHER = 5
"""Seconds within which the lines of one run are written."""
PEAK = "matrix product"
GFLOP_AN_EXAMPLE = FLOPS_A_STEP / BATCH_SIZE / 1e9
Run = tuple[str, int, str]
"""Family, rows, optimiser."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case and settings.
        plots: folder that the picture is written to.
    """
    parts = ["## Training throughput", _method(lines)]
    alone, runs = by_stack(lines), by_run(lines)
    if alone:
        parts += ["### Rows of the tables", _alone_table(alone), _alone_answer(alone)]
    if runs:
        plot(runs, plots / "train_throughput.svg")
        parts += ["### Beside others", _table(runs), _answer(runs)]
        parts.append("![Examples a second by rows of the tables](results/plots/train_throughput.svg)")
    return "\n\n".join([*parts, *train_repeats_report.parts(lines)])


def by_stack(lines: Sequence[Line]) -> dict[str, dict[int, Line]]:
    """Lines of our stacks alone, by rows of the tables, from the fewest."""
    found: dict[str, dict[int, Line]] = {}
    for line in sorted(_with(lines, "stack"), key=lambda line: line["settings"]["rows"]):
        found.setdefault(line["settings"]["stack"], {})[line["settings"]["rows"]] = line
    return found


def by_run(lines: Sequence[Line]) -> dict[Run, dict[str, Line]]:
    """Lines of those who took turns on rows drawn evenly, ours first."""
    found: dict[Run, dict[str, Line]] = {}
    for line in _with(lines, "contender"):
        settings = line["settings"]
        if train_repeats_report.DATA in settings:
            continue
        found.setdefault((settings["family"], settings["rows"], settings["optimizer"]), {})[settings["contender"]] = (
            line
        )
    return {run: _together(found[run]) for run in sorted(found)}


def _together(found: Mapping[str, Line]) -> dict[str, Line]:
    """Those of the newest run alone: who was left out of it (keras-rs, when quick) took no turns with the others."""
    taken = {name: datetime.datetime.fromisoformat(line["taken"]) for name, line in found.items()}
    newest = max(taken.values())
    return {name: line for name, line in found.items() if (newest - taken[name]).total_seconds() <= TOGETHER}


def machine_peak(runs: Mapping[Run, Mapping[str, Line]]) -> float:
    """GFLOP a second of the fastest matrix product that either framework was seen to do; 0 where none was measured."""
    products = [found[PEAK]["flops_per_second"] / 1e9 for found in runs.values() if PEAK in found]
    return float(max(products, default=0.0))


def _with(lines: Sequence[Line], setting: str) -> list[Line]:
    return [line for line in lines if setting in line["settings"]]


def _method(lines: Sequence[Line]) -> str:
    return paragraph(
        "How many examples a second does a step of batch 1,024 train, towers 64 -> 512 -> 256 -> 128, and what do "
        f"large tables cost? Measured on {machines(lines)}. Those compared take turns in one process (keras-rs in its "
        "own, waiting between its turns), and ratios are of neighbouring turns, above 1 where ours is faster. Verified "
        "before any time was taken: on the same weights and batch the first losses agree within 1e-5 of themselves, "
        "those of the next three steps within 0.02 (bfloat16: 0.05). The share of the peak counts the matrix products "
        f"of a step, {FLOPS_A_STEP / 1e9:.2f} GFLOP, forward and backward, against the fastest float32 product of "
        f"2,048 x 2,048 that either framework did between the turns, {machine_peak(by_run(lines)):.0f} GFLOP a second."
    )


def _alone_table(alone: dict[str, dict[int, Line]]) -> str:
    rows = []
    for stack, by_rows in alone.items():
        first = next(iter(by_rows.values()))
        for size, line in by_rows.items():
            beside = "" if line is first else _rate_ratio(first, line).says()
            rows.append([f"`{stack}`", f"{size:,}", f"{line['examples_per_second']:,.0f}", _spread(line), beside])
    return table(
        ["stack, Adam", "rows a table", "examples a second", "turn, median (quartiles)", "rate of fewest"], rows
    )


def _rate_ratio(few: Line, many: Line) -> Ratio:
    """Rate with many rows over that with few."""
    turns = min(len(few["wall_seconds"]), len(many["wall_seconds"]))
    return paired_ratio(few["wall_seconds"][-turns:], many["wall_seconds"][-turns:])


def _alone_answer(alone: dict[str, dict[int, Line]]) -> str:
    said = []
    for stack, by_rows in alone.items():
        few, *larger = by_rows
        for rows in larger:
            kept = _rate_ratio(by_rows[few], by_rows[rows])
            what = f"keeps {kept.says()} of its rate" if kept.differs else f"shows {kept.says()}"
            said.append(f"`{stack}` {what} at {rows:,} rows against {few:,}")
    return paragraph(f"{joined(said)}." if said else "One size only was measured.")


def _table(runs: dict[Run, dict[str, Line]]) -> str:
    rows, peak = [], machine_peak(runs)
    for (_, size, optimizer), found in runs.items():
        ours = next(iter(found.values()))
        for name, line in found.items():
            if name == PEAK:
                continue
            beside = "" if line is ours else faster(ours, line).says()
            share = line["examples_per_second"] * GFLOP_AN_EXAMPLE / peak if peak else 0.0
            rate = f"{line['examples_per_second']:,.0f}"
            rows.append([optimizer, f"{size:,}", name, rate, _spread(line), f"{share:.2f}" if share else "", beside])
    head = ["optimiser", "rows a table", "who", "examples a second", "turn, median (quartiles)", "share of peak"]
    return table([*head, "ours is faster by"], rows)


def _answer(runs: dict[Run, dict[str, Line]]) -> str:
    said = []
    for (_, size, optimizer), found in runs.items():
        (own, ours), *others = [(name, line) for name, line in found.items() if name != PEAK]
        for name, line in others:
            said.append(f"- {optimizer}, {size:,} rows: {who_is_faster(own, name, faster(ours, line))}")
    return "\n".join(said)


def _spread(line: Line) -> str:
    return spread(line["wall_seconds"])


def plot(runs: dict[Run, dict[str, Line]], path: Path) -> None:
    """Draw every contender's rate by optimiser and rows.

    Raises:
        UserError: the file cannot be written.
    """
    bars = [
        (f"{optimizer}, {size:,}: {name}", line["examples_per_second"])
        for (_, size, optimizer), found in runs.items()
        for name, line in found.items()
        if name != PEAK
    ]
    with saved_figure(path, figsize=(8, 1 + 0.22 * len(bars))) as (_, axes):
        axes.barh(range(len(bars)), [rate for _, rate in bars], color="#1b6ca8")
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel("examples a second, median of the turns")
        axes.grid(axis="x", color="#eeeeee")
