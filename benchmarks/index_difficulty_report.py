"""Raw lines of `benchmarks.index_difficulty` -> its part of the report; never measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.index_found import Found, by_dataset
from benchmarks.index_frontier_report import SEEN
from benchmarks.index_neighbours import interval
from benchmarks.report_text import Line, joined, machines, paragraph, table
from benchmarks.serving_vectors import LATENT, NOISE
from benchmarks.svg_figure import saved_figure

NAME, TITLE = "index_difficulty", "Are the vectors here harder to search than those that the issue saw?"
COLOURS = {"ScaNN": "#1b6ca8", "FAISS": "#b3261e"}
Laws = Sequence[Sequence[Found]]
"""The settings of each law, by measured dimension."""


def section(lines: Sequence[Line], plots: Path) -> str:
    """The question, the answer in words, a table and a plot.

    Args:
        lines: latest of each case, of this benchmark.
        plots: folder of the plot.
    """
    found = by_dataset(lines)
    size = max(settings[0].line["settings"]["candidates"] for settings in found.values())
    laws = [settings for settings in found.values() if settings[0].line["settings"]["candidates"] == size]
    laws.sort(key=lambda settings: float(settings[0].line["dimension"]))
    seen = {name: told for name, told in SEEN if any(each.name == name for each in laws[0])}
    _plot(laws, seen, plots / f"{NAME}.svg")
    parts = [
        f"## {TITLE}",
        paragraph(_method(lines, size)),
        "\n".join(_answer(laws, seen)),
        f"![Recall@100 over latent dimensions, of both structures](results/plots/{NAME}.svg)",
        _table(laws, seen),
    ]
    return "\n\n".join(parts)


def _method(lines: Sequence[Line], size: int) -> str:
    return (
        "Do the same structures at the same widths find more where vectors live in fewer dimensions? Measured on"
        f" {machines(lines)}; {size:,} vectors of the law of 'What recall costs', with fewer latent dimensions, and"
        " with less of the noise outside them; what a vector's 20 nearest neighbours see of both is the measured"
        " dimension (Levina and Bickel). Latency and recall are taken and verified as there, both structures in turns"
        " within a law; laws are measured one after the other. Intervals are 95 % over 200 queries."
    )


def _answer(laws: Laws, seen: Mapping[str, str]) -> list[str]:
    """Whether each recall that was seen is reached by an easier law and not by the usual, and by which setting."""
    if not seen:
        return ["* What was seen elsewhere was seen at a million candidates, which were not measured: no answer."]
    usual = _usual(laws)
    reached = {
        name: any(each.mean() < _recall(told) and _reaching(laws, each.name, told) for each in _alike(usual, name))
        for name, told in seen.items()
    }
    if all(reached.values()):
        verdict = "the difference: each recall that was seen is found of easier vectors"
    elif any(reached.values()):
        verdict = f"the difference of {joined([name for name in seen if reached[name]])} only"
    else:
        verdict = "nothing that was measured here: neither recall needs easier vectors and is found of them"
    again = joined([name for name in seen if reached[name] and not _reaching(laws, name, told=seen[name])])
    verdict += ", by the same leaves or lists searched"
    verdict += f"; but {again} finds it only when more is scored again, in the time below" if again else ""
    said = f"* That the vectors here are harder explains {verdict}."
    said += " How much was scored again elsewhere is not told. Nor is the law of the vectors there: that an easier one"
    said += " suffices does not say that it was theirs."
    settings = [_of_one(laws, each.name, told) for name, told in seen.items() for each in _alike(usual, name)]
    return [said, *settings, *(_rescored(usual, name) for name in seen)]


def _of_one(laws: Laws, name: str, told: str) -> str:
    """Where a setting finds what was seen."""
    best, usual = max((_named(law, name) for law in laws), key=Found.mean), _named(_usual(laws), name)
    reached = joined([_law(each) for each in _reaching(laws, name, told)])
    finds = f"finds that or more at {reached}" if reached else "finds less at every law"
    most = f"most, {best.mean():.3f} in {best.milliseconds(0.5):.2f} ms, at {_law(best)}"
    return f"* {name} (seen: {told}) {finds}; {most}; {usual.mean():.3f} at {_law(usual)}."


def _reaching(laws: Laws, name: str, told: str) -> list[Found]:
    settings = [_named(law, name) for law in laws]
    return [each for each in settings if each.mean() >= _recall(told)]


def _alike(law: Sequence[Found], name: str) -> list[Found]:
    """What differs from a setting only in how much is scored again, and itself."""
    return [each for each in law if each.line["structure"] == _named(law, name).line["structure"]]


def _rescored(law: Sequence[Found], name: str) -> str:
    """What the same structure finds when it scores more again, the rival explanation."""
    usual, more = _alike(law, name)
    difference = more.recall[100] - usual.recall[100]
    low, high = interval(difference)
    told = f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    changes = f"no difference ({told})" if low <= 0 <= high else told
    return f"* More scored again alone, at {_law(more)}: {more.name} changes recall@100 by {changes}."


def _table(laws: Laws, seen: Mapping[str, str]) -> str:
    names = [each.name for each in laws[0]]
    head = ["latent dimensions", "noise", "measured dimension", *names]
    rows = [["seen elsewhere", "", "", *(seen.get(name, "") for name in names)]] if seen else []
    for law in laws:
        facts, measured = law[0].line["settings"], float(law[0].line["dimension"])
        cells = (f"{each.says()} at {each.milliseconds(0.5):.2f} ms" for each in law)
        rows.append([str(facts["latent"]), f"{facts['noise']:g}", f"{measured:.1f}", *cells])
    return table(head, rows)


def _plot(laws: Laws, seen: Mapping[str, str], path: Path) -> None:
    with saved_figure(path, figsize=(7, 4)) as (_, axes):
        for noise, style in zip(sorted({_noise(law[0]) for law in laws}), ("o-", "s--", "^:"), strict=False):
            own = sorted((law for law in laws if _noise(law[0]) == noise), key=_latent)
            for library, colour in COLOURS.items():
                recalls = [max(each.mean() for each in law if each.line["library"] == library) for law in own]
                axes.plot(
                    [_latent(law) for law in own], recalls, style, color=colour, label=f"{library}, noise {noise:g}"
                )
        for each in laws[0]:
            if each.name in seen:
                axes.axhline(_recall(seen[each.name]), color=COLOURS[each.line["library"]], linewidth=0.8, alpha=0.6)
        axes.set(xlabel="latent dimensions (thin lines: recall seen elsewhere)", ylabel="recall@100, more scored again")
        axes.grid(color="#eeeeee")
        axes.legend(frameon=False)


def _usual(laws: Laws) -> Sequence[Found]:
    """The law of the other comparisons, or the hardest."""
    own = [law for law in laws if (_latent(law), _noise(law[0])) == (LATENT, NOISE)]
    return own[0] if own else laws[-1]


def _named(law: Sequence[Found], name: str) -> Found:
    return next(each for each in law if each.name == name)


def _law(each: Found) -> str:
    facts = each.line["settings"]
    return f"latent {facts['latent']} with noise {facts['noise']:g} ({each.line['dimension']:.1f} measured)"


def _latent(law: Sequence[Found]) -> int:
    return int(law[0].line["settings"]["latent"])


def _noise(each: Found) -> float:
    return float(each.line["settings"]["noise"])


def _recall(told: str) -> float:
    """Of '0.979 at 0.20 ms'."""
    return float(told.partition(" at ")[0])
