"""The section of a benchmark that has no summary of its own: a table of its lines, and a plot of every raw time."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report_text import Line, machines
from benchmarks.report_text import table as text_table
from benchmarks.svg_figure import saved_figure

LONGEST = 40
"""Settings of more letters, digests, stay in the lines."""
COLUMNS = ("case", "median s", "least s", "most s", "median CPU s", "runs", "rate", "settings", "taken", "load")


def section(name: str, lines: Sequence[Line], plots: Path) -> str:
    """One benchmark's lines as they are.

    Args:
        name: of the benchmark.
        lines: the latest of each case.
        plots: folder that the picture is written to.
    """
    plot(lines, plots / f"{name}.svg")
    return "\n\n".join(
        [
            f"## {name}",
            f"Raw times; measured on {machines(lines)}.",
            table(lines),
            f"![Every raw time of {name}](results/plots/{name}.svg)",
        ]
    )


def table(lines: Sequence[Line]) -> str:
    """One row a line."""
    return text_table(COLUMNS, [_cells(line) for line in lines])


def _cells(line: Line) -> tuple[str, ...]:
    wall, rate = line["wall_seconds"], line.get("examples_per_second")
    load = line["load_average"]
    timed = [f"{figure:.4f}" for figure in (statistics.median(wall), min(wall), max(wall))] if wall else [""] * 3
    return (
        line["case"],
        *timed,
        f"{statistics.median(line['cpu_seconds']):.4f}" if line["cpu_seconds"] else "",
        str(len(wall)),
        f"{rate:,.0f}/s" if rate else "",
        ", ".join(f"{key} {value}" for key, value in line["settings"].items() if len(str(value)) < LONGEST),
        line["taken"],
        f"{load[0]:.1f}" if load else "",
    )


def plot(lines: Sequence[Line], path: Path) -> None:
    """Draw every raw time of every case, on a logarithmic axis, the median as a stroke.

    Raises:
        UserError: the file cannot be written.
    """
    timed = [line for line in lines if line["wall_seconds"]]
    with saved_figure(path, figsize=(8, 1 + 0.4 * len(timed))) as (_, axes):
        for place, line in enumerate(timed):
            wall = line["wall_seconds"]
            axes.plot(wall, [place] * len(wall), "o", alpha=0.4, color="tab:blue")
            axes.plot([statistics.median(wall)], [place], "|", markersize=18, color="black")
        axes.set_yticks(range(len(timed)), [line["case"] for line in timed])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel("seconds (each run, and the median)")
