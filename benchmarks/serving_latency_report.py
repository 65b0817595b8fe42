"""Raw lines of `benchmarks.serving_latency` -> its section of the report, and what README.md quotes; never measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_neighbours import interval
from benchmarks.report_text import Line, joined, machines, table
from benchmarks.spread import Ratio, paired_ratio
from benchmarks.svg_figure import saved_figure

PERCENTILES = (50, 95, 99)
NAMES = {
    "scann": "ScaNN",
    "faiss": "FAISS",
    "partitioned": "`partitioned`",
    "tfrs_layer": "TFRS's ScaNN layer",
    "raw_scann": "ScaNN alone",
}
OURS = ("scann", "faiss", "partitioned")
AGAINST = ("tfrs_layer", "raw_scann")
MEGABYTE = 1e6


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case and settings.
        plots: folder that the picture is written to.
    """
    plot(lines, plots / "serving_latency.svg")
    parts = ["## Latency of one query", _method(lines)]
    for size, found in by_size(lines).items():
        parts += [f"### {size:,} candidates", _table(found), _answer(found)]
    parts.append("![Recall against latency of one query](results/plots/serving_latency.svg)")
    return "\n\n".join(parts)


def by_size(lines: Sequence[Line]) -> dict[int, dict[str, Line]]:
    """The newest line by number of candidates and contestant, from the smallest."""
    found: dict[int, dict[str, Line]] = {}
    for line in sorted(lines, key=lambda line: line["settings"]["candidates"]):
        found.setdefault(line["settings"]["candidates"], {})[contestant(line)] = line
    return found


def contestant(line: Line) -> str:
    """Whose line it is."""
    return str(line["case"].partition(",")[0])


def _method(lines: Sequence[Line]) -> str:
    settings = lines[-1]["settings"]
    return (
        f"How long does one query take, one thread, with {settings['excluded']} seen candidates left out, and how much "
        f"of the true best {settings['k']} does it find? Vectors of width {settings['dim']} that lie near "
        f"{settings['latent']} dimensions; measured on {machines(lines)}. They take turns; ratios are of the same "
        "query. Verified before any time was printed: recall against exact search, and of our indexes that no "
        "excluded candidate comes, none comes twice and none is missing. `recommend` is the query tower of the index's "
        "stack (64 to 512 to 256 to 128, drawn weights), then this search."
    )


def _table(found: Mapping[str, Line]) -> str:
    head = ["", "recall@100 [95 %]", *(f"p{percent}, ms" for percent in PERCENTILES), "median ms (quartiles)"]
    head += ["`recommend`: p50, p99"]
    head += [*(f"time against {NAMES[name]}" for name in AGAINST if name in found), "built in s", "MB"]
    return table(head, [_row(name, line, found) for name, line in found.items()])


def _row(name: str, line: Line, found: Mapping[str, Line]) -> list[str]:
    low, middle, high = (f"{1e3 * value:.2f}" for value in np.quantile(line["wall_seconds"], [0.25, 0.5, 0.75]))
    ratios = ["" if other == name else against(line, found[other]).says() for other in AGAINST if other in found]
    megabytes = f"{line['num_bytes'] / MEGABYTE:.0f}" if line["num_bytes"] else ""
    return [
        NAMES.get(name, name),
        _recall(line),
        *(f"{figure:.2f}" for figure in milliseconds(line)),
        f"{middle} ({low} to {high})",
        _recommend(line),
        *ratios,
        f"{line['build_seconds']:.1f}",
        megabytes,
    ]


def milliseconds(line: Line) -> list[float]:
    """p50, p95 and p99."""
    return [1e3 * float(value) for value in np.percentile(line["wall_seconds"], PERCENTILES)]


def _recommend(line: Line) -> str:
    """p50 and p99 behind a tower; others have none, and lines of old do not tell."""
    if not line.get("recommend_seconds"):
        return ""
    p50, p99 = np.percentile(line["recommend_seconds"], [50, 99])
    return f"{1e3 * p50:.2f} ms, {1e3 * p99:.2f} ms"


def against(line: Line, other: Line) -> Ratio:
    """How many times as long one takes as the other, query by query."""
    return paired_ratio(line["wall_seconds"], other["wall_seconds"])


def _recall(line: Line) -> str:
    """Mean over queries, with its interval."""
    recall = np.asarray(line["recall"])
    low, high = interval(recall)
    return f"{recall.mean():.4f} [{low:.4f}, {high:.4f}]"


def _answer(found: Mapping[str, Line]) -> str:
    """What the ratios say of our indexes."""
    said = []
    for name in (name for name in OURS if name in found):
        others = [
            f"{against(found[name], found[other]).says()} of {NAMES[other]}'s time at "
            f"{np.mean(found[name]['recall']) - np.mean(found[other]['recall']):+.3f} recall"
            for other in AGAINST
            if other in found
        ]
        if others:
            said.append(f"{NAMES[name]} takes {joined(others)}.")
    return "\n".join(said)


def readme_rows(lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    """The largest size's figures: question, command, figure."""
    sizes = by_size(lines)
    if not sizes:
        return []
    size, found = list(sizes.items())[-1]
    settings = lines[-1]["settings"]
    figures = []
    for name, line in found.items():
        p50, _, p99 = milliseconds(line)
        figures.append(f"{NAMES.get(name, name)} {np.mean(line['recall']):.3f}, {p50:.2f} ms, {p99:.2f} ms")
    question = (
        f"one query of {size:,} x {settings['dim']} with {settings['excluded']} excluded, k {settings['k']}, one "
        "thread: recall@100, p50, p99"
    )
    command = f"`python -m benchmarks.serving_latency{' --quick' if size == QUICK_SIZE else ''}`"
    rows = [(question, command, "; ".join(figures))]
    whole = [f"{NAMES.get(name, name)} {said}" for name, line in found.items() if (said := _recommend(line))]
    if whole:
        rows.append(("the same with the query tower before it: p50, p99", command, "; ".join(whole)))
    return rows


QUICK_SIZE = 200_000
"""Candidates that the script measures with `--quick`."""


COLOURS: Mapping[str, str] = {
    "scann": "#1b6ca8",
    "faiss": "#2a9d5c",
    "partitioned": "#8a4fbf",
    "tfrs_layer": "#b3261e",
    "raw_scann": "#e08a1e",
}
"""Of each contestant."""


def plot(lines: Sequence[Line], path: Path) -> None:
    """Draw recall against p50, with p99 as a thin line to the right, a panel a size.

    Raises:
        UserError: the file cannot be written.
    """
    sizes = by_size(lines)
    with saved_figure(path, figsize=(4.6 * len(sizes), 3.4), num_panels=len(sizes)) as (_, panels):
        for axes, (size, found) in zip(np.atleast_1d(panels), sizes.items(), strict=True):
            _panel(axes, size, found)


def _panel(axes: Any, size: int, found: Mapping[str, Line]) -> None:
    for name, line in sorted(found.items(), key=lambda item: milliseconds(item[1])[0]):
        p50, _, p99 = milliseconds(line)
        recall = float(np.mean(line["recall"]))
        # In a legend: neighbours in time are neighbours in recall, and names beside the points would run together.
        marker, label = "o" if name in OURS else "s", NAMES.get(name, name).strip("`")
        axes.plot([p50], [recall], marker, label=label, color=COLOURS[name])
        axes.plot([p50, p99], [recall, recall], color=COLOURS[name], linewidth=1)
    axes.set_xlim(left=0)
    axes.legend(loc="center left", fontsize="small")
    axes.set_xlabel("ms a query, p50 to p99")
    axes.set_ylabel("recall@100")
    axes.margins(0.25)
    axes.grid(color="#eeeeee")
    axes.set_title(f"{size:,} candidates")
