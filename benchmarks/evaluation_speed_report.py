"""Raw lines of `benchmarks.evaluation_speed` -> its section of the report; never measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.raw_times import plot
from benchmarks.report_text import Line, joined, machines, paragraph, table
from benchmarks.spread import Ratio, paired_ratio, ratio, spread

THEIRS, LARGE = "FactorizedTopK", "large: "
BOUNDS = ("matrix product", "matrix product, whole rows")
"""The fastest blocks that were found, and the product as one would first write it."""
WANTED_TIMES, WANTED_SHARE = 50, 0.7
"""What was asked of the tutorial's size against TFRS, and of a million candidates against the bound."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The whole section.

    Args:
        lines: the latest of each case and settings.
        plots: folder that the picture is written to.
    """
    plot(lines, plots / "evaluation_speed.svg")
    method = paragraph(
        "How fast is exact evaluation over the whole catalogue, against `tfrs.metrics.FactorizedTopK`, and against the "
        f"matrix product that neither can do without? Measured on {machines(lines)}, all taking turns in one process. "
        "Verified before any time was taken: the same accuracies as TFRS's metric to 1e-6; over the large catalogue, "
        "ranks and best 100 of a sample of queries by sorting all their float64 scores, and evaluation and search the "
        "same rows for every query."
    )
    parts = ["## Evaluation speed", method]
    for (dim, queries, candidates), found in against_tfrs(lines).items():
        parts += [
            f"### {queries:,} queries x {candidates:,} candidates x {dim}",
            _tfrs_table(found),
            _tfrs_answer(found),
        ]
    large = against_the_product(lines)
    if BOUNDS[0] in large:
        settings = large[BOUNDS[0]]["settings"]
        title = f"### {settings['queries']:,} queries x {settings['candidates']:,} candidates x {settings['dim']}"
        parts += [title, _large_table(large), _large_answer(large)]
    parts.append("![Seconds of each case](results/plots/evaluation_speed.svg)")
    return "\n\n".join(parts)


def against_tfrs(lines: Sequence[Line]) -> dict[tuple[int, int, int], dict[str, Line]]:
    """Lines beside TFRS's metric by width, queries and candidates, then by case."""
    found: dict[tuple[int, int, int], dict[str, Line]] = {}
    for line in lines:
        if not line["case"].startswith(LARGE):
            settings = line["settings"]
            sizes = settings["dim"], settings["queries"], settings["candidates"]
            found.setdefault(sizes, {})[line["case"].rpartition(", ")[0]] = line
    return {sizes: by_case for sizes, by_case in sorted(found.items()) if THEIRS in by_case}


def against_the_product(lines: Sequence[Line]) -> dict[str, Line]:
    """Lines over the large catalogue by case; of several sizes the largest's."""
    large = [line for line in lines if line["case"].startswith(LARGE)]
    most = max((_work(line) for line in large), default=0)
    return {line["case"].removeprefix(LARGE): line for line in large if _work(line) == most}


def _work(line: Line) -> int:
    return int(line["settings"]["queries"] * line["settings"]["candidates"])


def _tfrs_table(found: Mapping[str, Line]) -> str:
    rows = [
        [
            name,
            spread(line["wall_seconds"]),
            str(len(line["wall_seconds"])),
            "" if name == THEIRS else ratio(found[THEIRS]["wall_seconds"], line["wall_seconds"]).says(),
        ]
        for name, line in found.items()
    ]
    return table(["", "median (quartiles)", "runs", "times as fast as TFRS"], rows)


def _tfrs_answer(found: Mapping[str, Line]) -> str:
    times = ratio(found[THEIRS]["wall_seconds"], found["accuracies"]["wall_seconds"])
    reached = "reached" if times.value >= WANTED_TIMES else "not reached"
    return f"The same accuracies in {times.says()} times the speed; {WANTED_TIMES} were asked for: {reached}."


def share(bound: Line, ours: Line) -> Ratio:
    """Rate of ours over that of the product, turn by turn."""
    return paired_ratio(bound["wall_seconds"], ours["wall_seconds"])


def _large_table(large: Mapping[str, Line]) -> str:
    bounds = [name for name in BOUNDS if name in large]
    rows = [
        [
            name,
            spread(line["wall_seconds"]),
            str(len(line["wall_seconds"])),
            *("" if name == bound else share(large[bound], line).says() for bound in bounds),
        ]
        for name, line in large.items()
    ]
    return table(["", "median (quartiles)", "runs", *(f"rate over that of the {bound}" for bound in bounds)], rows)


def _large_answer(large: Mapping[str, Line]) -> str:
    said = []
    for bound in (name for name in BOUNDS if name in large):
        shares = {name: share(large[bound], line) for name, line in large.items() if name not in BOUNDS}
        reached = ["reached" if each.value >= WANTED_SHARE else "not reached" for each in shares.values()]
        each = [f"{name} {value.says()}, {word}" for (name, value), word in zip(shares.items(), reached, strict=True)]
        said.append(f"against the {bound} {joined(each, last='and')}")
    verified = max(line.get("queries_verified", 0) for line in large.values())
    return paragraph(
        f"Top 100 included, {WANTED_SHARE} of the matrix product's rate was asked for: {'; '.join(said)}. "
        f"`{BOUNDS[0]}` is NumPy's BLAS in the blocks that were fastest, `whole rows` the same product as one would "
        f"first write it, blocks of queries times all candidates. {verified} queries were verified by sorting."
    )
