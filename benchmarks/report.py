"""Raw lines -> REPORT.md and REPORT.html, beside the folder of the lines; never measures.

    python -m benchmarks.report [--results FOLDER]            # writes both, and the plots
    python -m benchmarks.report --write README.md             # both, and renews the README's blocks
    python -m benchmarks.report --check README.md             # writes nothing; exit code 1 where a figure differs

A benchmark's section is made by `benchmarks/NAME_report.py`; one without lines is 'not measured'. What README.md says
is made from the same lines, and stands in front of the report. `--check` compares the README's blocks letter by letter,
and looks up in REPORT.md every other number of its sections on results and on what does not work. The last line printed
is one JSON object.
"""

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import raw_times, readme_blocks, readme_check, record
from benchmarks.report_page import page
from benchmarks.report_text import Line, table
from retrieval_contract.errors import UserError
from retrieval_contract.files import write_text

REPORT, PAGE, PLOTS = "REPORT.md", "REPORT.html", "plots"
LINKED = "results/"
"""How sections link to what lies beside the lines."""


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark."""

    name: str
    """Its file of lines."""
    module: str = ""
    """Where its section is made, if not in `benchmarks/NAME_report.py`."""
    every_line: bool = False
    """Its section picks the newest by itself."""

    @property
    def path(self) -> str:
        """Full name of the module."""
        return f"benchmarks.{self.module or self.name + '_report'}"


PARTS = (
    Part("index_frontier"),
    Part("index_difficulty"),
    Part("compression"),
    Part("scale"),
    Part("serving_latency"),
    Part("serving_load"),
    Part("train_throughput"),
    Part("evaluation_speed"),
    Part("input_pipeline"),
    Part("presets"),
    Part("quality", every_line=True),
    Part("sweeps"),
    Part("negatives", module="negative_report", every_line=True),
    Part("negative_costs"),
)
Lines = Mapping[str, Sequence[Line]]
"""By benchmark."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report, or check the README against it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--check", type=Path, metavar="README", help="compare, and write nothing")
    parser.add_argument("--write", type=Path, metavar="README", help="renew its blocks too")
    flags = parser.parse_args(arguments)
    try:
        differences = check(flags.check, flags.results) if flags.check else []
        said = {"differences": len(differences)} if flags.check else written(flags.results, flags.write)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for difference in differences:
        print(difference, file=sys.stderr)
    print(json.dumps(said))
    if differences:
        sys.exit(1)


def written(results: Path, readme: Path | None) -> dict[str, list[str]]:
    """Write both files, and the README's blocks if asked.

    Returns:
        What was written, and which benchmarks have no lines.

    Raises:
        UserError: there are no lines at all, or a file cannot be read or written.
    """
    lines = read_all(results)
    if not lines:
        raise UserError("no measurements", where=str(results), todo="run `make bench` first")
    plots = results / PLOTS
    plots.mkdir(parents=True, exist_ok=True)
    markdown = text(lines, plots).replace(f"({LINKED}", f"({results.name}/")
    paths = [results.parent / REPORT, results.parent / PAGE]
    write_text(paths[0], markdown)
    write_text(paths[1], page(markdown, results.parent))
    if readme is not None:
        write_text(readme, readme_check.renewed(readme_check.read(readme), readme_blocks.blocks(lines)))
        paths.append(readme)
    return {"written": [str(path) for path in paths], "not_measured": missing(lines)}


def check(readme: Path, results: Path) -> list[str]:
    """What the README says otherwise than the lines and the report do.

    Raises:
        UserError: README, report or lines cannot be read.
    """
    report = readme_check.read(results.parent / REPORT)
    return readme_check.differences(readme_check.read(readme), readme_blocks.blocks(read_all(results)), report)


def read_all(results: Path) -> dict[str, list[Line]]:
    """Every file of lines, by benchmark.

    Raises:
        UserError: one is not JSON lines.
    """
    return {path.stem: list(record.read(path)) for path in sorted(results.glob("*.jsonl"))}


def missing(lines: Lines) -> list[str]:
    """Benchmarks without lines."""
    return [part.name for part in PARTS if not lines.get(part.name)]


def latest(lines: Sequence[Line]) -> list[Line]:
    """Keep the last line of each benchmark, case, settings and seed, in the order in which they first came."""
    kept = {(line["benchmark"], line["case"], line["digest"], line["seed"]): line for line in lines}
    return list(kept.values())


# ---------------------------------------------------------------- the text


def text(lines: Lines, plots: Path) -> str:
    """The whole of REPORT.md.

    Args:
        lines: of every benchmark.
        plots: folder that pictures are written to.
    """
    known = {part.name for part in PARTS}
    parts = [*PARTS, *(Part(name) for name in lines if name not in known)]
    sections = [
        "## How to read this\n\n" + HOW_TO_READ,
        _in_short(lines),
        *(section(part, lines.get(part.name, ()), plots) for part in parts),
        _machines(lines),
    ]
    titles = [part.partition("\n")[0].removeprefix("## ") for part in sections]
    contents = "\n".join(f"* [{title}](#{readme_check.anchor(title)})" for title in titles)
    return "\n\n".join(["# Report", INTRODUCTION, contents, *sections]) + "\n"


INTRODUCTION = """\
Written by `python -m benchmarks.report` from the raw lines under `benchmarks/results`, which `make bench` appends; a
script measures and never summarises, this report summarises and never measures."""
HOW_TO_READ = """\
* Times are medians with quartiles. Two things are compared by the ratio of their times, taken in turns wherever one
  process can hold both, with a 95 % interval of the median; **no difference** stands where that interval holds 1.
* Quality has 95 % bootstrap intervals over queries in brackets. *Not told from* stands where two of them overlap.
* Recall of an index is the share of the true best that it finds, against exact search over the same vectors.
* Every line names its machine and how busy that was; other machines give other times, and ratios that differ less.
* Each script verifies its results before it prints a time; the section says what was verified."""


def section(part: Part, lines: Sequence[Line], plots: Path) -> str:
    """One benchmark's section: of its own module, else raw times, else that it was not measured."""
    if not lines:
        return f"## {part.name}\n\nNot measured: run `python -m benchmarks.{part.name}`."
    own = lines if part.every_line else latest(lines)
    if importlib.util.find_spec(part.path) is None:
        return raw_times.section(part.name, own, plots)
    made: str = importlib.import_module(part.path).section(own, plots)
    return made.rstrip()


def _in_short(lines: Lines) -> str:
    """What README.md says, block by block."""
    made = readme_blocks.blocks(lines)
    shown = [f"### {readme_blocks.BLOCKS[name].title}\n\n{block}" for name, block in made.items() if block]
    return "\n\n".join(["## In short", "These are the figures of README.md, each made from the lines below.", *shown])


def _machines(lines: Lines) -> str:
    """Where and with what versions each benchmark's latest lines were measured."""
    rows: list[list[str]] = []
    versions: dict[str, set[str]] = {}
    for name, own in lines.items():
        kept = latest(own)
        taken = sorted(line["taken"][:10] for line in kept)
        days = taken[0] if taken[0] == taken[-1] else f"{taken[0]} to {taken[-1]}"
        where = "; ".join(sorted({f"{line['cpu']}, {line['cores']}" for line in kept}))
        seeds = ", ".join(str(seed) for seed in sorted({line["seed"] for line in kept}))
        rows.append([name, str(len(kept)), str(len(own)), days, where, seeds])
        for line in kept:
            for package, version in {"Python": line["python"], **line["versions"]}.items():
                versions.setdefault(package, set()).add(version)
    used = table(["package", "version"], [[name, ", ".join(sorted(found))] for name, found in sorted(versions.items())])
    head = ["benchmark", "lines used", "lines in all", "measured", "processor, cores", "seeds"]
    return f"## Machines and versions\n\n{table(head, rows)}\n\n{used}"


if __name__ == "__main__":
    main()
