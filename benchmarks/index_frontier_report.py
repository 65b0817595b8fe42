"""Raw lines of `benchmarks.index_frontier` -> its part of the report; never measures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.index_found import Found, by_dataset, by_structure, quickest
from benchmarks.index_lineup import lineup
from benchmarks.index_measuring import REPEATS
from benchmarks.index_neighbours import interval
from benchmarks.index_plot import plot
from benchmarks.report_text import Line, machines, paragraph, table
from benchmarks.spread import paired_ratio, ratio

NAME, TITLE = "index_frontier", "What recall costs: ScaNN, FAISS, hnswlib and the indexes here"
LEAST = 0.95
"""Recall@100 at which structures are compared."""
SEEN = (
    ("ScaNN tree 1000, AH, SOAR, reorder bfloat16, leaves 20, rescored 300", "0.979 at 0.20 ms"),
    ("FAISS IVF1000,PQ64x4fs,RFlat, nprobe 40, k_factor 4", "0.969 at 0.32 ms"),
    ("FAISS Flat", "1 at 21 ms"),
)
"""Settings at a million, and what was seen of them elsewhere, on other vectors."""
MILLION = "clustered, 1,000,000"
UNLIKE = (", SOAR", ", not anisotropic")
"""What the name of a structure of ScaNN says of its options."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The question, the answer in words, tables and plots.

    Args:
        lines: latest of each case, of this benchmark.
        plots: folder of the plots.
    """
    found = by_dataset(lines)
    latency, rate = f"{NAME}_latency.svg", f"{NAME}_throughput.svg"
    plot(found, plots / latency, cost=lambda each: each.milliseconds(0.5), label="ms a query, median", salt=NAME)
    plot(found, plots / rate, cost=lambda each: 1e3 / each.rate, label="ms a query in a batch", salt=NAME)
    parts = [
        f"## {TITLE}",
        paragraph(_method(lines)),
        "\n".join(_answer(name, settings) for name, settings in found.items()),
        f"![Recall@100 over median latency, a panel a data set](results/plots/{latency})",
        f"![Recall@100 over time in a batch, a panel a data set](results/plots/{rate})",
        *(f"### {_title(name, settings)}\n\n{_table(settings)}" for name, settings in found.items()),
        _seen(found.get(MILLION, [])),
        _options(found),
        _missing(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _method(lines: Sequence[Line]) -> str:
    threads = sorted({line["threads"] for line in lines if "threads" in line})
    return (
        f"What does recall cost in time, memory and disk? Measured on {machines(lines)}. Latency is of 200 queries, one"
        " at a time on one thread; all settings take turns query by query in one process, each after an untimed query"
        f" of its own. Throughput is of batches of up to 500 on {' or '.join(map(str, threads))} threads, median of"
        f" {REPEATS}. Before a time was written an exact search had to find the truth (float64, another code), no row"
        " came twice, and batches answered as single queries did; recall is computed here again from the neighbours in"
        " the raw lines. Intervals are 95 % over queries. Peak memory is the rise of the resident size while building."
    )


def _title(name: str, found: Sequence[Found]) -> str:
    settings = found[0].line["settings"]
    words = f"{name}: {settings['candidates']:,} x {settings['dim']}"
    if "latent" in settings:
        words += f", intrinsic dimension {settings['latent']}, noise {settings['noise']:g}"
    if "epochs" in settings:
        words += f", a model trained here for {settings['epochs']} epochs on simulated data"
    return words


def _answer(name: str, found: Sequence[Found]) -> str:
    """Who is quickest at the recall, and by how much before the other libraries."""
    libraries = dict.fromkeys(each.line["library"] for each in found)
    best = {
        library: chosen
        for library in libraries
        if (chosen := quickest([each for each in found if each.line["library"] == library], LEAST)) is not None
    }
    if not best:
        return f"* {name}: nothing measured finds {LEAST} of the best 100."
    first, *others = sorted(best.values(), key=lambda each: each.milliseconds(0.5))
    said = (
        f"* {name}: of what finds {LEAST} of the best 100, {first.name} is quickest, {first.milliseconds(0.5):.3f} ms"
    )
    behind = [f"{each.name}: {_ratio(each, first)} times that" for each in others]
    return "; ".join([said, *behind]) + "."


def _table(found: Sequence[Found]) -> str:
    """Each structure's quickest setting that finds enough, or the one that finds most."""
    chosen = [_chosen(settings) for settings in by_structure(found)]
    first = quickest(chosen, LEAST) or max(chosen, key=Found.mean)
    head = ["setting", "recall@10", "recall@100", "p50 ms", "p95", "p99", f"p50 / {first.line['structure']}"]
    head += ["queries/s", "built in s", "peak MB", "disk MB"]
    return table(head, [_row(each, first) for each in sorted(chosen, key=lambda each: each.milliseconds(0.5))])


def _chosen(settings: Sequence[Found]) -> Found:
    return quickest(settings, LEAST) or max(settings, key=Found.mean)


def _row(each: Found, first: Found) -> list[str]:
    peak = each.line["peak_bytes"]
    return [
        each.name + ("" if each.mean() >= LEAST else " (finds less)"),
        each.says(10),
        each.says(100),
        *(f"{each.milliseconds(share):.3f}" for share in (0.5, 0.95, 0.99)),
        "1" if each is first else _ratio(each, first),
        f"{each.rate:,.0f}",
        f"{each.line['build_seconds']:.1f}",
        "" if peak is None else f"{peak / 1e6:,.0f}",
        f"{each.line['disk_bytes'] / 1e6:,.1f}",
    ]


def _ratio(slow: Found, fast: Found) -> str:
    """Paired where the two answered the same queries in the same turns."""
    times = slow.line["wall_seconds"], fast.line["wall_seconds"]
    return (paired_ratio if len(times[0]) == len(times[1]) else ratio)(*times).says()


def _seen(found: Sequence[Found]) -> str:
    """The settings that the question names, beside what was seen of them."""
    by_name = {each.name: each for each in found}
    rows = [
        [name, seen, f"{by_name[name].says()} at {by_name[name].milliseconds(0.5):.2f} ms"]
        for name, seen in SEEN
        if name in by_name
    ]
    if not rows:
        return ""
    said = (
        "The same settings were seen elsewhere with more recall: on other vectors. These are of 24 dimensions in "
        "overlapping clusters, where the best hundred of a query lie in more leaves; recall is of the vectors, time is "
        "of the setting, so times compare and recalls do not. What it takes here is in the table above."
    )
    return (
        f"### At a million, what was seen elsewhere\n\n{paragraph(said)}\n\n{table(['setting', 'seen', 'here'], rows)}"
    )


def _options(found: Mapping[str, Sequence[Found]]) -> str:
    """What one option of ScaNN changes, all else equal: at the second of the widths."""
    rows = []
    for dataset, settings in found.items():
        named = {group[0].line["structure"]: group for group in by_structure(settings)}
        for what, old, new in _pairs(name for name in named if name.startswith("ScaNN")):
            if old in named and new in named:
                rows.append([dataset, what, *_change(named[old], named[new])])
    if not rows:
        return ""
    head = ["data set", "what", "from", "recall@100 changes by", "latency", "disk"]
    return f"### What an option of ScaNN buys, all else equal\n\n{table(head, rows)}"


def _pairs(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """What differs, and the names of two structures, perhaps not measured, that differ in nothing else."""
    for name in names:
        soar, not_anisotropic = UNLIKE
        kind = name.rpartition("reorder ")[2]
        if soar in name:
            yield "SOAR", name.replace(soar, ""), name
        if not_anisotropic in name:
            yield "the anisotropic loss", name, name.replace(not_anisotropic, "")
        if kind in ("bfloat16", "int8", "none"):
            yield f"rescoring in {kind} for float32", name.removesuffix(kind) + "float32", name


def _change(old: Sequence[Found], new: Sequence[Found]) -> list[str]:
    before, after = (group[min(1, len(group) - 1)] for group in (old, new))
    difference = after.recall[100] - before.recall[100]
    low, high = interval(difference)
    verdict = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    return [
        before.name,
        f"no difference ({verdict})" if low <= 0 <= high else verdict,
        f"{_ratio(after, before)} times",
        f"{after.line['disk_bytes'] / before.line['disk_bytes']:.2f} times",
    ]


def _missing(found: Mapping[str, Sequence[Found]]) -> str:
    """Who would be compared by `--full`, and was not."""
    said = []
    for dataset, settings in found.items():
        sizes = settings[0].line["settings"]
        names = {each.line["structure"] for each in settings}
        left = [each.name for each in lineup(sizes["candidates"], sizes["dim"], full=True) if each.name not in names]
        if left:
            said.append(f"Not measured on {dataset} (`--full` builds those that take minutes): {'; '.join(left)}.")
    return "\n\n".join(said)
