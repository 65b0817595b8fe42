"""Raw lines of `benchmarks.compression` -> its part of the report; never measures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compression import RESCORED
from benchmarks.index_found import Found, by_dataset
from benchmarks.report_text import Line, machines, paragraph, table
from retrieval_contract.files import replacing_file

NAME, TITLE = "compression", "What bytes buy: codes of a vector, alone and with the best scored again"
CLAIMED_BYTES, CLAIMED_TIMES = 8, 16
"""The claim that is answered: 128 floats to 8 bytes, 16 times smaller with minimal loss."""
MINIMAL = 0.95
"""Recall@100 from which a loss is called minimal."""
FLOAT_BYTES = 4
GIGABYTES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Budgets for a million vectors."""
COLOURS = {None: "#1b6ca8", "int8": "#1b7f3b", "float32": "#b3261e"}
LABELS = {None: "code alone", "int8": "the best scored again by int8", "float32": "by float32"}


def section(lines: Sequence[Line], plots: Path) -> str:
    """The question, the answer in words, tables and a plot.

    Args:
        lines: latest of each case, of this benchmark.
        plots: folder of the plot.
    """
    found = by_dataset(lines)
    parts = [f"## {TITLE}", paragraph(_method(lines))]
    for name, settings in found.items():
        coded = [each for each in settings if "code" in each.line]
        if coded:
            picture = f"{NAME}_{coded[0].line['settings']['candidates']}.svg"
            plot(coded, plots / picture)
            parts += [paragraph(_claim(coded)), f"![Recall@100 over bytes a vector, {name}](results/plots/{picture})"]
            parts += [f"### {name}: every code\n\n{_codes(coded)}", _budgets(name, coded)]
        parts += [_served(name, [each for each in settings if "resident_bytes" in each.line])]
    return "\n\n".join(part for part in parts if part)


def _method(lines: Sequence[Line]) -> str:
    return (
        f"How many bytes does a vector need? Measured on {machines(lines)}, over clustered vectors of width 128. Every "
        "code is looked through, without lists or a tree, so that what is lost is lost by the code. Scored again are "
        f"the best {RESCORED:,}, by vectors kept beside the code, whose bytes are counted. Before a line was written "
        "float32 had to find the truth, and no row came twice; recall is computed here again from the neighbours in "
        "the raw lines, intervals are 95 % over queries. Bytes are of the codes, codebooks left out."
    )


def _claim(found: Sequence[Found]) -> str:
    """Answer the claim with the numbers found."""
    full = FLOAT_BYTES * found[0].line["settings"]["dim"]
    eight = _best(found, lambda line: line["code_bytes"] == CLAIMED_BYTES and line["kept"] is None)
    again = _best(found, lambda line: line["code_bytes"] == CLAIMED_BYTES and line["kept"] == "float32")
    sixteenth = _best(found, lambda line: line["code_bytes"] == full // CLAIMED_TIMES and line["kept"] is None)
    if eight is None or again is None or sixteenth is None:
        return ""
    verdict = "holds" if eight.mean() >= MINIMAL else "does not hold"
    return (
        f"*128 floats to {CLAIMED_BYTES} bytes, {CLAIMED_TIMES} times smaller with minimal loss?* The arithmetic is "
        f"wrong: {full} bytes to {CLAIMED_BYTES} are {full // CLAIMED_BYTES} times smaller; {CLAIMED_TIMES} times are "
        f"{full // CLAIMED_TIMES} bytes. And the loss: the best code of {CLAIMED_BYTES} bytes ({eight.line['code']}) "
        f"finds {eight.says()} of the best 100 by itself and {eight.says(10)} of the best 10, so the claim {verdict} "
        f"(minimal: {MINIMAL} or more). With the best {RESCORED:,} scored again by float32 it finds {again.says()}, "
        f"but then the {full} bytes are kept beside the {CLAIMED_BYTES}. {CLAIMED_TIMES} times smaller for real, "
        f"{sixteenth.line['code']} finds {sixteenth.says()} by itself."
    )


def _best(found: Sequence[Found], fits: Callable[[Line], bool]) -> Found | None:
    return max((each for each in found if fits(each.line)), key=Found.mean, default=None)


def _codes(found: Sequence[Found]) -> str:
    """A row a code: alone, and with the best scored again."""
    rows = []
    for each in [each for each in found if each.line["kept"] is None]:
        full = FLOAT_BYTES * each.line["settings"]["dim"]
        again = {other.line["kept"]: other for other in found if other.line["code"] == each.line["code"]}
        rows.append(
            [
                each.line["code"],
                f"{each.line['code_bytes']:g}",
                f"{full / each.line['code_bytes']:.3g}",
                each.says(10),
                each.says(100),
                *(again[kept].says(100) if kept in again else "" for kept in ("int8", "float32")),
                f"{each.milliseconds(0.5):,.0f}",
                f"{each.line['build_seconds']:.1f}",
            ]
        )
    head = ["code", "bytes", "times smaller", "recall@10", "recall@100", "again by int8", "again by float32"]
    return table([*head, "ms for 200 queries", "built in s"], rows)


def _budgets(name: str, found: Sequence[Found]) -> str:
    """The most recall that so many bytes for a million vectors buy."""
    rows: list[list[str]] = []
    for gigabytes in GIGABYTES:
        affordable = [each for each in found if each.line["bytes"] <= 1e3 * gigabytes]
        # Of what finds as much, the one of fewest bytes.
        best = max(affordable, key=lambda each: (round(each.mean(), 4), -each.line["bytes"]), default=None)
        if best is not None and (not rows or best.name != rows[-1][3]):
            rows.append([f"{gigabytes:g}", f"{best.line['bytes']:g}", best.says(), best.name])
    head = ["GB for a million vectors", "bytes a vector", "most recall@100", "by"]
    return f"### {name}: what recall each GB buys\n\n{table(head, rows)}"


def _served(name: str, found: Sequence[Found]) -> str:
    """Processes that serve a million each, and whether they stay under a gigabyte."""
    if not found:
        return ""
    rows = [_process(each) for each in found]
    told = [each for each in found if each.line["resident_bytes"]]
    under = [each for each in told if each.line["resident_bytes"] < 1e9]
    best = max(under, key=Found.mean, default=None)
    said = "No process stays under 1 GB." if best is None else _under(best, len(under), len(told))
    head = ["index", "recall@100", "file MB", "process MB", "before loading MB", "p50 ms"]
    return f"### {name}: served by a process of its own\n\n{paragraph(said)}\n\n{table(head, rows)}"


def _under(best: Found, num_under: int, num_told: int) -> str:
    return (
        f"One million candidates under 1 GB: {num_under} of {num_told} processes, Python included; the best of them, "
        f"{best.name.removeprefix('served, ')}, holds {best.line['resident_bytes'] / 1e6:,.0f} MB and finds "
        f"{best.says()} of the best 100."
    )


def _process(each: Found) -> list[str]:
    sizes = [each.line[field] for field in ("disk_bytes", "resident_bytes", "process_bytes")]
    megabytes = ["" if size is None else f"{size / 1e6:,.0f}" for size in sizes]
    return [each.name.removeprefix("served, "), each.says(), *megabytes, f"{each.milliseconds(0.5):.2f}"]


def plot(found: Sequence[Found], path: Path) -> None:
    """Recall@100 over bytes a vector, all that is kept counted; the same bytes for the same lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": NAME}):
        figure, axes = pyplot.subplots(figsize=(9, 5.5))
        for kept, colour in COLOURS.items():
            points = [each for each in found if each.line["kept"] == kept]
            places = [each.line["bytes"] for each in points], [each.mean() for each in points]
            axes.plot(*places, "o", color=colour, label=LABELS[kept], markersize=5)
            if kept is None:
                _names(axes, points)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("bytes a vector, all that is kept counted")
        axes.set_ylabel("recall@100")
        axes.grid(color="#eeeeee")
        axes.legend(frameon=False, loc="lower right")
        figure.tight_layout()
        with replacing_file(path) as beside:
            figure.savefig(beside, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _names(axes: Any, points: Sequence[Found]) -> None:
    """The name of a code beside its point."""
    for each in points:
        name = each.line["code"].removeprefix("FAISS ").replace(", reorder none", "")
        axes.annotate(name, (each.line["bytes"], each.mean()), (4, -3), textcoords="offset points", fontsize=7)
