"""Raw lines of `benchmarks.sweeps` -> its section of the report; never measures."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report_text import Line, bounded, joined, machines, paragraph, table
from benchmarks.svg_figure import saved_figure

FIELDS = {"temperature": "temperature", "batch_size": "batch size", "width": "embedding width"}
REFERENCE = {"temperature": 0.1, "batch_size": 512, "width": 64}
"""Of the other two while one is changed."""
METRICS = ("recall@10", "recall@100", "mrr")


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case and settings.
        plots: folder that the pictures are written to, one for each of what is changed.
    """
    examples = joined(sorted({f"{line['settings']['examples']:,}" for line in lines}))
    method = paragraph(
        "What do temperature, batch size and embedding width each buy? Summed embeddings, cosines, exact log q, "
        f"{examples} training examples whatever is changed, so a larger batch takes fewer steps (its rate follows the "
        f"root of the batch size); where one is changed, the others are {_reference()}. Test part, whole catalogue, "
        f"one seed; brackets are 95 % intervals over queries and do not hold what another seed would change. Trained "
        f"in `torch_reference` alone, since without dropout the stacks end on the same digits. "
        f"Measured on {machines(lines)}; every metric lies inside its interval, or the line was not written."
    )
    parts = ["## Temperature, batch size, width", method]
    for field, name in FIELDS.items():
        for dataset, found in changed(lines, field).items():
            parts += [f"### {name.capitalize()}, {dataset}", _table(found, field, name), _answer(found, field, name)]
        plot(lines, field, plots / f"sweeps_{field}.svg")
        parts.append(f"![Recall@10 by {name}](results/plots/sweeps_{field}.svg)")
    return "\n\n".join(parts)


def changed(lines: Sequence[Line], field: str) -> dict[str, list[Line]]:
    """By data set, the lines in which nothing but one setting differs from the reference, ascending."""
    others = {name: value for name, value in REFERENCE.items() if name != field}
    found: dict[str, list[Line]] = {}
    for line in sorted(lines, key=lambda line: line["settings"][field]):
        if others.items() <= line["settings"].items():
            found.setdefault(line["settings"]["dataset"], []).append(line)
    return found


def _reference() -> str:
    return joined([f"{name} {REFERENCE[field]}" for field, name in FIELDS.items()])


def _table(found: Sequence[Line], field: str, name: str) -> str:
    rows = [
        [
            f"{line['settings'][field]:,}",
            *(bounded(line["metrics"][metric]) for metric in METRICS),
            f"{line['steps']:,}",
            f"{line['wall_seconds'][0]:.1f}",
        ]
        for line in found
    ]
    return table([name, *METRICS, "steps", "seconds"], rows)


def _answer(found: Sequence[Line], field: str, name: str) -> str:
    best = max(found, key=lambda line: line["metrics"]["recall@10"]["value"])
    low = best["metrics"]["recall@10"]["low"]
    equal = [line for line in found if line is not best and line["metrics"]["recall@10"]["high"] >= low]
    worst = min(found, key=lambda line: line["metrics"]["recall@10"]["value"])
    text = (
        f"Best recall@10 at {name} {best['settings'][field]:,}: {bounded(best['metrics']['recall@10'])} in "
        f"{best['wall_seconds'][0]:.1f} s; least at {worst['settings'][field]:,}: "
        f"{bounded(worst['metrics']['recall@10'])}."
    )
    if equal:
        values = joined([f"{line['settings'][field]:,}" for line in equal])
        text += f" No difference (the intervals overlap) from {values}."
    return paragraph(text)


def plot(lines: Sequence[Line], field: str, path: Path) -> None:
    """Draw recall at 10 with its interval against one setting, a curve for each data set.

    Raises:
        UserError: the file cannot be written.
    """
    with saved_figure(path, figsize=(7, 3.5)) as (_, axes):
        for dataset, found in changed(lines, field).items():
            values = [line["settings"][field] for line in found]
            entries = [line["metrics"]["recall@10"] for line in found]
            below = [entry["value"] - entry["low"] for entry in entries]
            above = [entry["high"] - entry["value"] for entry in entries]
            axes.errorbar(values, [entry["value"] for entry in entries], yerr=[below, above], marker="o", label=dataset)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(FIELDS[field])
        axes.set_ylabel("recall@10, 95 % interval")
        axes.legend()
        axes.grid(color="#eeeeee")
