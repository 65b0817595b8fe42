"""Raw lines of `benchmarks.serving_load` -> its section of the report, and what README.md quotes; never measures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report_text import Line, machines, table
from benchmarks.svg_figure import saved_figure

PERCENTILES = ("p50", "p95", "p99", "p99.9")
WAYS = {"closed": "as many as the connections carry", "paced": "at a rate"}
NAMES = {"scann": "ScaNN", "faiss": "FAISS"}
ENOUGH = 60
"""Seconds of load from which on memory is drawn."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case and settings.
        plots: folder that the picture is written to.
    """
    parts = ["## Requests over HTTP", _method(lines), _table(lines)]
    if watched := [line for line in lines if line["seconds"] >= ENOUGH]:
        plot(watched, plots / "serving_load.svg")
        parts += [memory(line) for line in watched]
        parts.append("![Memory of the server under load](results/plots/serving_load.svg)")
    return "\n\n".join(parts)


def _method(lines: Sequence[Line]) -> str:
    return (
        "How many requests a second does the server answer, how late, and does its memory grow? `wrk`, on the same "
        f"cores, asks `:recommend` over loopback; measured on {machines(lines)}. The server holds vectors and an "
        "index, no towers. Verified before any time was printed: recall of answers over HTTP against exact search, and "
        "that no excluded candidate comes and none is missing."
    )


def _table(lines: Sequence[Line]) -> str:
    head = [
        "candidates",
        "index",
        "k",
        "excluded",
        "load",
        "connections",
        "may wait, ms",
        "recall",
        "requests a second",
        "refused",
    ]
    head += [*(f"{name}, ms" for name in PERCENTILES), "server's CPU ms a request", "MB, first and last quarter"]
    return table(head, [_row(line) for line in lines])


def _row(line: Line) -> list[str]:
    settings = line["settings"]
    return [
        f"{settings['candidates']:,}",
        NAMES[settings["backend"]],
        str(settings["k"]),
        str(settings["excluded"]),
        f"{WAYS[settings['way']]}, {settings['seconds']:,} s",
        str(settings["connections"]),
        f"{wait(line):g}",
        f"{line['recall']:.4f}",
        f"{rate(line):,.0f}",
        f"{line['errors']:,}",
        *(f"{line['ms'][name]:.2f}" for name in PERCENTILES),
        f"{1e3 * line['cpu_seconds'][0] / line['requests']:.2f}",
        f"{quarters(line)[0]:,.0f}, {quarters(line)[1]:,.0f}",
    ]


def wait(line: Line) -> float:
    """Milliseconds that a request may wait for others to share a batch with; the first lines were of the default."""
    return float(line["settings"].get("wait_ms", 1.0))


def rate(line: Line) -> float:
    """Requests a second."""
    return float(line["requests"] / line["seconds"])


def quarters(line: Line) -> tuple[float, float]:
    """Median resident megabytes in the first and in the last quarter of a load."""
    samples = np.asarray(line["resident_bytes"]) / 1e6
    quarter = max(1, len(samples) // 4)
    return float(np.median(samples[:quarter])), float(np.median(samples[-quarter:]))


def memory(line: Line) -> str:
    """What a long load did to the server's memory, in words."""
    first, last = quarters(line)
    return (
        f"{line['requests']:,} requests in {line['seconds'] / 60:.0f} minutes: {first:,.0f} MB in the first quarter, "
        f"{last:,.0f} MB in the last, {1e6 * (last - first) / line['requests']:+.1f} bytes a request."
    )


def plot(lines: Sequence[Line], path: Path) -> None:
    """Draw resident memory over time."""
    with saved_figure(path, figsize=(7, 3)) as (_, axes):
        for line in lines:
            samples = np.asarray(line["resident_bytes"]) / 1e6
            axes.plot(np.linspace(0, line["seconds"] / 60, len(samples)), samples, label=line["case"])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes of load")
        axes.set_ylabel("resident MB")
        axes.legend(fontsize=8)


def readme_rows(lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    """The largest catalogue under the paced load: question, command, figure."""
    paced = [line for line in lines if line["settings"]["way"] == "paced"]
    if not paced:
        return []
    size = max(line["settings"]["candidates"] for line in paced)
    said = []
    for line in (line for line in paced if line["settings"]["candidates"] == size):
        settings = line["settings"]
        p50, p99 = line["ms"]["p50"], line["ms"]["p99"]
        said.append(
            f"k {settings['k']} with {settings['excluded']} excluded at recall {line['recall']:.3f}, {wait(line):g} ms "
            f"to share a batch: {rate(line):,.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
    index = NAMES[paced[-1]["settings"]["backend"]]
    question = f"requests over HTTP, {size:,} candidates behind {index}, `wrk` on the same cores"
    return [(question, "`python -m benchmarks.serving_load`", "; ".join(said))]
