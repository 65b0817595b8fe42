"""Raw lines of `benchmarks.negatives --quick` -> what corrections and banks cost; never measures."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import negative_costs
from benchmarks.report_text import Line, machines, table
from benchmarks.spread import Ratio, paired_ratio

COMMAND = "`python -m benchmarks.negatives --quick`"
Times = tuple[Sequence[float], Sequence[float]]
"""Seconds of a turn without and along, pair by pair."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section; nothing is drawn."""
    assert plots.is_dir(), "the same for every section"
    method = (
        "What do the correction and a bank of negatives cost a training step? Each is timed in turns with the step "
        f"without it, in one process; measured on {machines(lines)}. Ratios are of neighbouring turns, with 95 % "
        "intervals of their medians. What the steps compute is verified by rungs 4 and 5 of the parity tests, not here."
    )
    head, _, rest = costs(lines).partition("\n\n")
    return f"{head}\n\n{method}\n\n{rest}"


def costs(lines: Sequence[Line]) -> str:
    """A table of every pair, and the streaming estimator's rate."""
    head = ["figure", "stack", "towers", "time against without", "quartiles of the overhead", "pairs"]
    head += ["step ms, without", "step ms, with"]
    pairs = times(lines)
    rows = []
    for figure, stack, found in negative_costs.from_lines(lines):
        low, high = found["quartiles"]
        steps = [f"{milliseconds:.1f}" for milliseconds in found["step_milliseconds"].values()]
        spread = f"{low:+.1%} to {high:+.1%}"
        said = _ratio(pairs[figure, stack]).says()
        rows.append([figure, stack, found["towers"], said, spread, str(found["pairs"]), *steps])
    streaming = negative_costs.streaming_rate(lines)
    rate = f"\n\nStreaming estimator: {streaming:,.0f} updates a second on one core." if streaming else ""
    return f"## Costs of a step\n\n{table(head, rows)}{rate}"


def times(lines: Sequence[Line]) -> dict[tuple[str, str], Times]:
    """Newest raw times of every pair that is whole, by figure and stack."""
    last = {tuple(line["settings"].get(key) for key in ("figure", "stack", "kind")): line for line in lines}
    return {
        (figure, stack): (last[figure, stack, pair.without]["wall_seconds"], last[figure, stack, kind]["wall_seconds"])
        for figure, pair in negative_costs.PAIRS.items()
        for (named, stack, kind) in last
        if named == figure and kind == pair.along and (figure, stack, pair.without) in last
    }


def _ratio(pair: Times) -> Ratio:
    without, along = pair
    return paired_ratio(along, without)


def readme_rows(lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    """Question, command, figure."""
    pairs, rows = times(lines), []
    questions = {
        "log_q_overhead": "a step of batch 1,024 with exact log q and accidental hits against one without",
        "bank_overhead": "the same with a bank of 16 batches against one without",
        "bank_overhead_heavy_towers": "the same bank behind towers of 256 -> 2,048 -> 1,024 -> 128",
    }
    for figure, question in questions.items():
        said = [
            f"`{stack}` {_ratio(pairs[figure, stack]).says()}"
            for stack in negative_costs.STACKS
            if (figure, stack) in pairs
        ]
        if said:
            rows.append((question, COMMAND, f"{', '.join(said)} times the time"))
    streaming = negative_costs.streaming_rate(lines)
    if streaming:
        figure = f"{streaming / 1e6:.0f} million updates a second"
        rows.append(("streaming estimator, one core", COMMAND, figure))
    return rows
