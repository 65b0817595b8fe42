"""Raw lines of searches -> what a report tells of each: recall computed again from the neighbours, and times.

Letters: Q queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.index_neighbours import interval, recalls, unpacked, unpacked_truth
from benchmarks.report_text import Line

AT = (10, 100)
TRUTH = "truth, "
"""How the case of a line of true rows begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One setting on one data set."""

    line: Line
    recall: Mapping[int, NDArray[np.float64]]
    """Of each query [Q], at 10 and at 100."""

    @property
    def name(self) -> str:
        """Structure and width."""
        return str(self.line["setting"])

    def mean(self, at: int = 100) -> float:
        """Mean recall."""
        return float(self.recall[at].mean())

    def says(self, at: int = 100) -> str:
        """Mean recall with its interval over queries."""
        low, high = interval(self.recall[at])
        return f"{self.mean(at):.3f} [{low:.3f}, {high:.3f}]"

    def milliseconds(self, share: float) -> float:
        """A quantile of the latencies."""
        return 1e3 * float(np.quantile(self.line["wall_seconds"], share))

    @property
    def rate(self) -> float:
        """Queries a second, of the median batch."""
        return float(self.line["batch"] / np.median(self.line["throughput_seconds"]))


def by_dataset(lines: Sequence[Line]) -> dict[str, list[Found]]:
    """Every setting, by data set, in the order of the lines.

    Raises:
        AssertionError: neighbours that say another recall than the line does, or a data set without its truth.
    """
    truths = {line["settings"]["dataset"]: line for line in lines if line["case"].startswith(TRUTH)}
    found: dict[str, list[Found]] = {name: [] for name in truths}
    for line in lines:
        if not line["case"].startswith(TRUTH):
            name = line["settings"]["dataset"]
            assert name in truths, f"{line['case']} has no line of its truth"
            found[name].append(_found(line, truths[name]))
    return found


def quickest(found: Sequence[Found], least: float) -> Found | None:
    """The setting of least median latency with such a recall@100, if there is one."""
    enough = [each for each in found if each.mean() >= least]
    return min(enough, key=lambda each: each.milliseconds(0.5)) if enough else None


def by_structure(found: Sequence[Found]) -> Iterator[list[Found]]:
    """The settings of each structure together."""
    for name in dict.fromkeys(each.line["structure"] for each in found):
        yield [each for each in found if each.line["structure"] == name]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, recall) that nothing beats in both, by cost."""
    kept: list[tuple[float, float]] = []
    for cost, recall in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or recall > kept[-1][1]:
            kept.append((cost, recall))
    return kept


def _found(line: Line, truth: Line) -> Found:
    truth_QT = unpacked_truth(truth["neighbours"], truth["num_queries"])
    rows_QK = unpacked(line["neighbours"], truth_QT)
    recall = {at: recalls(rows_QK, truth_QT, at) for at in AT}
    for at, values in recall.items():
        told = line["recall"][f"recall@{at}"]
        assert abs(values.mean() - told) < 1e-9, (
            f"{line['case']}: recall@{at} {told}, by its neighbours {values.mean()}"
        )
    return Found(line=line, recall=recall)
