"""Raw lines of `benchmarks.train_repeats` -> their part of the report on training; never measures."""

from collections.abc import Sequence

from benchmarks.report_text import Line, joined, paragraph, table
from benchmarks.spread import Ratio, paired_ratio, spread

DATA = "batches_of"
"""Setting that these lines have, and those on rows drawn evenly have not."""
GOAL = 1.3
"""Times the rate of stock TFRS that is asked for."""
Run = tuple[str, str]
"""Family and optimiser."""


def parts(lines: Sequence[Line]) -> list[str]:
    """Headline, method, table and answer; nothing where nothing was measured."""
    repeats = measured_last(lines)
    runs = by_run(repeats)
    if not runs:
        return []
    said = ["### Rows that repeat, each encoded once", _method(repeats), _table(runs), _answer(runs)]
    return said + ([verdict] if (verdict := _verdict(runs)) else [])


def measured_last(lines: Sequence[Line]) -> list[Line]:
    """Lines on rows that repeat, of the data that was taken last: others' figures are of other batches."""
    repeats = [line for line in lines if DATA in line["settings"]]
    last = max(repeats, key=lambda line: line["taken"], default=None)
    return [line for line in repeats if last is not None and line["settings"][DATA] == last["settings"][DATA]]


def by_run(repeats: Sequence[Line]) -> dict[Run, dict[str, Line]]:
    """Lines by contender of each run: ours with the option, ours without, and the stock loop."""
    found: dict[Run, dict[str, Line]] = {}
    for line in repeats:
        settings = line["settings"]
        found.setdefault((settings["family"], settings["optimizer"]), {})[settings["contender"]] = line
    return dict(sorted(found.items()))


def faster(ours: Line, theirs: Line) -> Ratio:
    """How many times as fast ours steps, turn by turn."""
    slow, fast = ([seconds / line["steps_a_turn"] for seconds in line["wall_seconds"]] for line in (theirs, ours))
    return paired_ratio(slow, fast)


def who_is_faster(own: str, other: str, times: Ratio) -> str:
    """A sentence on two contenders."""
    if not times.differs:
        return f"`{own}` and {other}: {times.says()}."
    return f"`{own}` is {'faster' if times.value > 1 else 'slower'} than {other}: {times.says()} times its rate."


def _method(repeats: Sequence[Line]) -> str:
    said = []
    for data in sorted({line["settings"][DATA] for line in repeats}):
        line = next(line for line in repeats if line["settings"][DATA] == data)
        shares = ", ".join(f"{100 * share:.0f} % of the {side} rows" for side, share in line["distinct"].items())
        said.append(f"{data} (distinct in a batch: {shares})")
    rows = repeats[0]["settings"]["rows"]
    return paragraph(
        f"Batches as training draws them from {joined(said)}, tables of {rows:,} rows, everything else as above. "
        "`training.encode_once` gives a tower each distinct row of a batch once; loss and gradient are the same but "
        "for the order of additions, which was verified before any time was taken: ours with it and ours without "
        "agree within 1e-5 at each of the first steps, and with the stock loop as above."
    )


def _table(runs: dict[Run, dict[str, Line]]) -> str:
    rows = []
    for (_, optimizer), found in runs.items():
        once = next(iter(found.values()))
        for name, line in found.items():
            beside = "" if line is once else faster(once, line).says()
            rate = f"{line['examples_per_second']:,.0f}"
            rows.append([optimizer, name, rate, spread(line["wall_seconds"]), beside])
    head = ["optimiser", "who", "examples a second", "turn, median (quartiles)"]
    return table([*head, "distinct rows once is faster by"], rows)


def _answer(runs: dict[Run, dict[str, Line]]) -> str:
    said = []
    for (_, optimizer), found in runs.items():
        (own, once), *others = found.items()
        said += [f"- {optimizer}: {who_is_faster(own, name, faster(once, line))}" for name, line in others]
    return "\n".join(said)


def _verdict(runs: dict[Run, dict[str, Line]]) -> str:
    """Whether the goal is held, by the lower end of the interval; empty without stock TFRS."""
    said = []
    for (_, optimizer), found in runs.items():
        once = next(iter(found.values()))
        for name, line in found.items():
            if name.startswith("stock"):
                times = faster(once, line)
                judged = "held" if times.low >= GOAL else "not held" if times.value < GOAL else "held at the median"
                said.append(f"{judged} with {optimizer} ({times.says()})")
    return paragraph(f"Asked for: {GOAL} times stock TFRS. {_capital(joined(said))}." if said else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
