"""The picture of `benchmarks.negatives`: every strategy's difference to exact logQ, a panel a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.negative_comparing import Comparison, Outcome
from benchmarks.negative_strategies import REFERENCE, STRATEGIES
from retrieval_contract.files import replacing_file

MARKERS = {"recall@10": ("o", "white", -0.17), "recall@100": ("o", None, 0.17)}
"""Shape, filling (None: the colour itself) and shift of each metric's points."""
COLOURS = {"helps": "#1b7f3b", "no difference": "#6b6b6b", "hurts": "#b3261e"}
LEFT, RIGHT = -60.0, 40.0
"""Limits in percent; what lies beyond stands at the edge as a number."""


def plot(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw points and 95 % intervals in percent of exact logQ's value; format by the ending of the name.

    Raises:
        UserError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in STRATEGIES if name != REFERENCE]
    # The same lines give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "negatives"}):
        figure, panels = pyplot.subplots(
            1, len(comparisons), figsize=(2.6 + 2.9 * len(comparisons), 7.2), sharey=True, squeeze=False
        )
        for axes, found in zip(panels[0], comparisons, strict=True):
            _panel(axes, found, names)
        panels[0][0].set_yticks(range(len(names)), [STRATEGIES[name].title for name in names])
        panels[0][0].invert_yaxis()
        _legend(figure)
        figure.tight_layout(rect=(0, 0, 1, 0.94))
        with replacing_file(path) as beside:
            ending = path.suffix.removeprefix(".") or "svg"
            figure.savefig(beside, format=ending, metadata={"Date": None} if ending == "svg" else None)
        pyplot.close(figure)


def _panel(axes: Any, found: Comparison, names: Sequence[str]) -> None:
    outcomes = {outcome.name: outcome for outcome in found.outcomes}
    for place, name in enumerate(names):
        axes.axhline(place, color="#eeeeee", linewidth=0.8, zorder=0)
        if name in outcomes:
            _points(axes, outcomes[name], place)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_xlim(LEFT, RIGHT)
    axes.set_title(found.dataset.title.replace(", ", ",\n"), fontsize=10)
    axes.set_xlabel("difference to exact logQ, %", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _points(axes: Any, outcome: Outcome, place: int) -> None:
    for metric, (marker, filling, shift) in MARKERS.items():
        if metric not in outcome.differences:
            continue
        difference = outcome.differences[metric]
        value, low, high = difference.percent
        colour = COLOURS[difference.verdict]
        if not LEFT < value < RIGHT:
            edge, side = (LEFT, "left") if value <= LEFT else (RIGHT, "right")
            point = "●" if filling is None else "○"
            arrow = f"◂ {point} {value:+.0f}" if value <= LEFT else f"{value:+.0f} {point} ▸"
            axes.text(edge, place + shift, arrow, ha=side, va="center", fontsize=7, color=colour)
            continue
        axes.plot([max(low, LEFT), min(high, RIGHT)], [place + shift] * 2, color=colour, linewidth=1.2, zorder=2)
        face = filling or colour
        axes.plot([value], [place + shift], marker, color=colour, markerfacecolor=face, markersize=5, zorder=3)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], marker=marker, linestyle="", color="#6b6b6b", markerfacecolor=filling or "#6b6b6b", label=metric)
        for metric, (marker, filling, _) in MARKERS.items()
    ]
    entries += [Line2D([], [], color=colour, linewidth=2, label=verdict) for verdict, colour in COLOURS.items()]
    figure.legend(handles=entries, loc="upper center", ncols=len(entries), frameon=False, fontsize=9)
