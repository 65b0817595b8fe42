"""Raw lines of `benchmarks.input_pipeline` -> its section of the report, and what README.md quotes; never measures."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report_text import Line, machines, table
from benchmarks.spread import ratio, spread
from benchmarks.svg_figure import saved_figure

GIBIBYTE = 2**30
SIMPLEST, HARDEST = "ids", "everything"
BATCH_SIZE = 1_024
"""Of the cases that README.md quotes."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case and settings.
        plots: folder that the picture is written to.
    """
    timed = epochs(lines)
    parts = ["## Input pipeline", _method(lines)]
    if timed:
        plot(timed, plots / "input_pipeline.svg")
        parts += [_table(timed), _answer(timed)]
    parts += [memory_text(line) for line in lines if "peak_bytes" in line]
    if timed:
        parts.append("![Examples a second by what the query tower reads](results/plots/input_pipeline.svg)")
    return "\n\n".join(parts)


def epochs(lines: Sequence[Line]) -> list[Line]:
    """Lines of whole epochs that were timed."""
    return [line for line in lines if "batch_size" in line["settings"]]


def rate(line: Line) -> float:
    """Examples a second, at the median."""
    return float(line["examples"] / statistics.median(line["wall_seconds"]))


def find(lines: Sequence[Line], variant: str, *, threads: int) -> Line | None:
    """The newest line of a variant in batches of `BATCH_SIZE`."""
    wanted = {"variant": variant, "threads": threads, "batch_size": BATCH_SIZE}
    return next((line for line in reversed(lines) if wanted.items() <= line["settings"].items()), None)


def _method(lines: Sequence[Line]) -> str:
    settings = lines[0]["settings"]
    return (
        "How fast are training batches made, and how much memory does a large data set take until they come? "
        f"{settings['interactions']:,} interactions, {settings['candidates']:,} candidates, a history of "
        f"{settings.get('history', 0)}; an epoch is timed whole. Measured on {machines(lines)}. Verified "
        "elsewhere: the batches' bytes, by rung 1 of the parity tests."
    )


def _table(timed: Sequence[Line]) -> str:
    head = ["case", "examples a second", "epoch, median (quartiles)", "epochs", "time against one thread"]
    return table(head, [_row(line, timed) for line in timed])


def _row(line: Line, timed: Sequence[Line]) -> list[str]:
    alone = {**line["settings"], "threads": 0}
    other = next((one for one in timed if one["settings"] == alone), None)
    beside = "" if other is None or other is line else ratio(line["wall_seconds"], other["wall_seconds"]).says()
    wall = line["wall_seconds"]
    return [line["case"], f"{rate(line):,.0f}", spread(wall), str(len(wall)), beside]


def _answer(timed: Sequence[Line]) -> str:
    simple, hard = (find(timed, name, threads=0) for name in (SIMPLEST, HARDEST))
    if simple is None or hard is None:
        return ""
    dearer = ratio(hard["wall_seconds"], simple["wall_seconds"]).says()
    return f"An epoch of `{HARDEST}` takes {dearer} times as long as one of `{SIMPLEST}`, in batches of {BATCH_SIZE:,}."


def memory_text(line: Line) -> str:
    """What a large data set takes."""
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in line["seconds"].items())
    return (
        f"{line['settings']['interactions']:,} interactions of `{line['settings']['variant']}` take "
        f"{line['peak_bytes'] / GIBIBYTE:.2f} GiB at their peak, in a process of its own ({phases})."
    )


def readme_rows(lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    """Question, command, figure."""
    simple, hard = (find(lines, name, threads=0) for name in (SIMPLEST, HARDEST))
    ahead, memory = find(lines, HARDEST, threads=2), [line for line in lines if "peak_bytes" in line]
    if simple is None or hard is None or ahead is None or not memory:
        return []
    rates = [f"{rate(line) / 1e6:.2f}" for line in (simple, hard, ahead)]
    figure = (
        f"{rates[0]} million examples a second; with fields, ages, weights, affinity and context {rates[1]} million "
        f"({rates[2]} with two threads ahead); {memory[-1]['settings']['interactions']:,} interactions take "
        f"{memory[-1]['peak_bytes'] / GIBIBYTE:.2f} GiB"
    )
    question = f"training batches with a history of {simple['settings']['history']}, one thread"
    return [(question, "`python -m benchmarks.input_pipeline`", figure)]


def plot(timed: Sequence[Line], path: Path) -> None:
    """Draw the rate of every epoch, the median as a stroke.

    Raises:
        UserError: the file cannot be written.
    """
    with saved_figure(path, figsize=(8, 0.8 + 0.3 * len(timed))) as (_, axes):
        for place, line in enumerate(timed):
            rates = [line["examples"] / seconds / 1e6 for seconds in line["wall_seconds"]]
            axes.plot(rates, [place] * len(rates), "o", alpha=0.4, color="#1b6ca8")
            axes.plot([rate(line) / 1e6], [place], "|", markersize=16, color="black")
        axes.set_yticks(range(len(timed)), [line["case"] for line in timed])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("million examples a second (each epoch, and the median)")
        axes.grid(axis="x", color="#eeeeee")
