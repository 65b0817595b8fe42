"""README.md against the report: blocks letter by letter, and every other figure of the sections on results.

A block is what stands between `<!-- report: NAME -->` and `<!-- /report -->`. Outside of blocks, in `SECTIONS`, every
number must stand in the report, with the unit that follows it if one does. Not looked at: what stands in code spans,
addresses of links and table rules; numbers grown into a word (100K, p99, @10); versions (2.13.0), years and whole
numbers up to 100 without a unit, which are counts and cut-offs.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from retrieval_contract.errors import UserError

SECTIONS = ("Results", "What does not work yet")
BLOCK = re.compile(r"<!-- report: (?P<name>[\w-]+) -->\n(?P<text>.*?)\n?<!-- /report -->", re.DOTALL)
MADE = "<!-- report: {name} -->\n{text}\n<!-- /report -->"
UNITS = r"%|µs|ms|seconds|second|minutes|minute|hours|hour|times|GiB|MiB|GB|MB|bytes|million|thousand|requests|s"
FIGURE = re.compile(rf"(?<![\w.@,])(?P<number>\d[\d,]*(?:\.\d+)?)(?: ?(?P<unit>{UNITS})(?!\w)|(?![\w@]|[.,]\d))")
SKIPPED = re.compile(r"`[^`]*`|\]\([^)]*\)|\d+(?:\.\d+){2,}|<!--.*?-->", re.DOTALL)
SMALL = 100
YEARS = range(1990, 2100)


def read(path: Path) -> str:
    """Text of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        todo = "run `python -m benchmarks.report` first, from the project's folder"
        raise UserError(f"cannot read: {error.strerror}", where=str(path), todo=todo) from None


def anchor(title: str) -> str:
    """The name that a heading is linked by, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def renewed(readme: str, blocks: Mapping[str, str]) -> str:
    """The README with every block made anew.

    Raises:
        UserError: it has a block that nobody makes.
    """
    strange = [name for name in _names(readme) if name not in blocks]
    if strange:
        todo = f"blocks are {', '.join(blocks)}"
        raise UserError(f"no block is called {strange[0]!r}", where="README", todo=todo)
    return BLOCK.sub(
        lambda found: f"<!-- report: {found['name']} -->\n{blocks[found['name']]}\n<!-- /report -->", readme
    )


def differences(readme: str, blocks: Mapping[str, str], report: str) -> list[str]:
    """Everything that the README says otherwise than lines and report do.

    Args:
        readme: its text.
        blocks: texts made from the lines, by name.
        report: text of REPORT.md.
    """
    found = [f"block {name!r}: not in the README" for name in blocks if blocks[name] and name not in _names(readme)]
    for match in BLOCK.finditer(readme):
        found += _block_differences(match["name"], match["text"], blocks, report)
    return [*found, *_unknown_figures(readme, report)]


def _names(readme: str) -> list[str]:
    return [match["name"] for match in BLOCK.finditer(readme)]


def _block_differences(name: str, said: str, blocks: Mapping[str, str], report: str) -> list[str]:
    if name not in blocks:
        return [f"block {name!r}: nobody makes it"]
    made = blocks[name]
    lines = [
        f"block {name!r}: README {'says' if line[0] == '-' else 'lacks'}: {line[2:]}"
        for line in difflib.ndiff(said.splitlines(), made.splitlines())
        if line[0] in "-+"
    ]
    if made not in report:
        lines.append(f"block {name!r}: REPORT.md is of other lines: run `python -m benchmarks.report`")
    return lines


def _unknown_figures(readme: str, report: str) -> Iterator[str]:
    known = set(figures(report))
    bare = {number for number, _ in known}
    for title, text in _sections(readme):
        for number, unit in figures(BLOCK.sub("", text)):
            if _is_small(number, unit):
                continue
            if ((number, unit) not in known) if unit else (number not in bare):
                yield f"section {title!r}: {f'{number} {unit}'.strip()} is no figure of the report"


def _sections(readme: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^## ", readme, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        if title in SECTIONS:
            yield title, text


def figures(text: str) -> list[tuple[str, str]]:
    """Numbers with their units, empty where none follows, in the order of the text."""
    plain = SKIPPED.sub(" ", text)
    return [(match["number"].rstrip(","), match["unit"] or "") for match in FIGURE.finditer(plain)]


def _is_small(number: str, unit: str) -> bool:
    """Counts, cut-offs and years."""
    if unit or "." in number:
        return False
    return int(number.replace(",", "")) <= SMALL or ("," not in number and int(number) in YEARS)
