"""Raw lines -> markdown tables, and a plot where one is asked for; never measures.

python -m benchmarks.report [--results FOLDER] [--plot FILE.svg]
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from retrieval_contract.errors import UserError
from retrieval_contract.files import replacing_file

Line = Mapping[str, Any]
OWN_PAGES = ("negatives", "quality")
"""Benchmarks of hundreds of lines, which write a page of their own."""
LONGEST = 40
"""Settings of more letters, digests, stay in the lines."""
COLUMNS = ("case", "median s", "least s", "most s", "median CPU s", "runs", "rate", "settings", "taken", "load")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of every file of lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--plot", type=Path, help="also write a plot, SVG or PNG by its ending")
    flags = parser.parse_args(arguments)
    try:
        paths = [path for path in sorted(flags.results.glob("*.jsonl")) if path.stem not in OWN_PAGES]
        lines = [line for path in paths for line in record.read(path)]
        if not lines:
            raise UserError("no measurements", where=str(flags.results), todo="run `make bench` first")
        print(tables(lines))
        if flags.plot is not None:
            plot(latest(lines), flags.plot)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def latest(lines: Sequence[Line]) -> list[Line]:
    """Keep the last line of each benchmark, case and settings, in the order in which they first came."""
    kept = {(line["benchmark"], line["case"], line["digest"]): line for line in lines}
    return list(kept.values())


def tables(lines: Sequence[Line]) -> str:
    """One markdown table a benchmark."""
    kept = latest(lines)
    names = list(dict.fromkeys(line["benchmark"] for line in kept))
    return "\n\n".join(table(name, [line for line in kept if line["benchmark"] == name]) for name in names)


def table(name: str, lines: Sequence[Line]) -> str:
    """One benchmark's lines as a markdown table, under its name and machine."""
    machines = sorted({f"{line['cpu']}, {line['cores']} cores" for line in lines})
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(_cells(line) for line in lines)]
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"### {name}\n\n{'; '.join(machines)}\n\n{body}"


def _cells(line: Line) -> tuple[str, ...]:
    wall, rate = line["wall_seconds"], line.get("examples_per_second")
    load = line["load_average"]
    return (
        line["case"],
        f"{statistics.median(wall):.4f}",
        f"{min(wall):.4f}",
        f"{max(wall):.4f}",
        f"{statistics.median(line['cpu_seconds']):.4f}",
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.4 * len(lines)), layout="constrained")
    for place, line in enumerate(lines):
        wall = line["wall_seconds"]
        axes.plot(wall, [place] * len(wall), "o", alpha=0.4, color="tab:blue")
        axes.plot([statistics.median(wall)], [place], "|", markersize=18, color="black")
    axes.set_yticks(range(len(lines)), [f"{line['benchmark']}: {line['case']}" for line in lines])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds (each run, and the median)")
    with replacing_file(path) as beside:
        figure.savefig(beside, format=path.suffix.removeprefix(".") or "svg")
    pyplot.close(figure)


if __name__ == "__main__":
    main()
