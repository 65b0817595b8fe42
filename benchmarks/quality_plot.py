"""The picture of `benchmarks.quality`: the validation hit rate of every run while it trained, a panel a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality_recipes import DATASETS, RECIPES
from retrieval_contract.files import replacing_file

Line = Mapping[str, Any]
COLOURS = ("#1b6ca8", "#b3261e", "#1b7f3b", "#7a4fa3", "#a86b00", "#444444")
"""By recipe, in the order in which a panel first draws it."""


def plot(lines: Sequence[Line], path: Path) -> None:
    """Draw each run's curve over its minutes of training; format by the ending of the name.

    Raises:
        UserError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    datasets = [name for name in DATASETS if any(line["settings"]["dataset"] == name for line in lines)]
    # The same lines give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "quality"}):
        figure, panels = pyplot.subplots(1, len(datasets), figsize=(5.2 * len(datasets), 3.8), squeeze=False)
        for axes, name in zip(panels[0], datasets, strict=True):
            _panel(axes, name, [line for line in lines if line["settings"]["dataset"] == name])
        figure.tight_layout()
        with replacing_file(path) as beside:
            ending = path.suffix.removeprefix(".") or "svg"
            figure.savefig(beside, format=ending, metadata={"Date": None} if ending == "svg" else None)
        pyplot.close(figure)


def _panel(axes: Any, dataset: str, lines: Sequence[Line]) -> None:
    drawn: dict[str, str] = {}
    for line in lines:
        name = line["settings"]["recipe"]
        colour = drawn.get(name, COLOURS[len(drawn) % len(COLOURS)])
        # Hit rates at 50 where that is what the recipe is held to: the two kinds never stand in one ranking.
        metric = "hit_rate@10" if line["exclude_seen"] else "hit_rate@50"
        told = f"{RECIPES[name].title}, {line['settings']['epochs']} epochs ({metric})"
        label = None if name in drawn else told
        minutes = [point["seconds"] / 60 for point in line["curve"]]
        values = [point["metrics"][metric] for point in line["curve"]]
        axes.plot(minutes, values, marker="o", markersize=3, linewidth=1, color=colour, label=label)
        drawn[name] = colour
    axes.set_title(DATASETS[dataset].title, fontsize=10)
    axes.set_xlabel("minutes of training", fontsize=9)
    axes.set_ylabel("validation", fontsize=9)
    axes.grid(color="#eeeeee")
    axes.legend(fontsize=8, frameon=False)
