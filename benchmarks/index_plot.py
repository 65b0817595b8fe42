"""The picture of searches: recall@100 over what it costs, a panel a data set, what nothing beats joined by a line."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.index_found import Found, pareto
from retrieval_contract.files import replacing_file

COLOURS = {"ScaNN": "#1b6ca8", "FAISS": "#b3261e", "here": "#1b7f3b", "hnswlib": "#a86b00"}
LEAST_MISSED = 3e-4
"""Share missed where everything is found: the axis is logarithmic."""
TICKS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1 - LEAST_MISSED)
COLUMNS = 3


def plot(
    found: Mapping[str, Sequence[Found]], path: Path, *, cost: Callable[[Found], float], label: str, salt: str
) -> None:
    """Draw an SVG, the same bytes for the same lines.

    Args:
        found: settings by data set.
        path: where to.
        cost: what stands on the other axis, less is better.
        label: its name and unit.
        salt: makes the ids in the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": salt}):
        rows = -(-len(found) // COLUMNS)
        figure, panels = pyplot.subplots(rows, COLUMNS, figsize=(15, 0.8 + 4 * rows), squeeze=False)
        for axes in panels.flat[len(found) :]:
            axes.axis("off")
        for axes, (name, settings) in zip(panels.flat, found.items(), strict=False):
            _panel(axes, name, settings, cost, label)
        figure.tight_layout()
        with replacing_file(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _panel(axes: Any, name: str, found: Sequence[Found], cost: Callable[[Found], float], label: str) -> None:
    for library, colour in COLOURS.items():
        points = [(cost(each), _missed(each.mean())) for each in found if each.line["library"] == library]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.35, markersize=4)
            best = pareto([(at, -missed) for at, missed in points])
            axes.plot([at for at, _ in best], [-y for _, y in best], "o-", color=colour, markersize=5, label=library)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_yaxis()
    axes.set_yticks([1 - tick for tick in TICKS], [f"{tick:g}" if tick < 0.9995 else "all" for tick in TICKS])
    axes.minorticks_off()
    axes.set_title(name, fontsize=10)
    axes.set_xlabel(label, fontsize=9)
    axes.set_ylabel("recall@100", fontsize=9)
    axes.grid(color="#eeeeee")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _missed(recall: float) -> float:
    return max(1 - recall, LEAST_MISSED)
