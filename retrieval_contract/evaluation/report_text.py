"""Print metrics.json as tables of four digits."""

from collections.abc import Mapping, Sequence
from typing import Any


def tables(tree: Mapping[str, Any]) -> str:
    """Compose the printed report.

    Args:
        tree: what metrics.json holds.
    """
    return "\n".join([*_head(tree), "", *_metrics(tree), "", *_slices(tree)])


def _head(tree: Mapping[str, Any]) -> list[str]:
    total, interval = tree["num_queries"] + tree["num_excluded"], tree["interval"]
    treatment = "left out of" if tree["exclude_seen"] else "kept in"
    return [
        f"{tree['name']}, {tree['part']} part: {tree['num_held_out_rows']:,} held-out rows, {tree['num_queries']:,} of "
        f"{total:,} queries ({tree['num_excluded']:,} with nothing relevant), {tree['num_candidates']:,} candidates.",
        f"Candidates seen in training are {treatment} the ranking (exclude_seen={str(tree['exclude_seen']).lower()}). "
        f"In brackets: {interval['level']:.0%} intervals over queries, {interval['samples']:,} resamples.",
        *tree["notes"],
    ]


def _metrics(tree: Mapping[str, Any]) -> list[str]:
    """Metrics down, scorers across."""
    attained = tree.get("attained", {})
    titles = ["metric", "model", "", *tree["baselines"], *(["attained"] if attained else [])]
    lines = [titles]
    for name, entry in tree["metrics"].items():
        line = [name, _value(entry), _interval(entry), *(_value(table[name]) for table in tree["baselines"].values())]
        lines.append([*line, *([f"{attained[name]:.1%}" if name in attained else ""] if attained else [])])
    note = "attained: the model's share of what the oracle, who knows the true probabilities, reaches."
    return [*_align(lines), *([note] if attained else [])]


def _slices(tree: Mapping[str, Any]) -> list[str]:
    """Slices down, their metrics across; below a slice what stands beside it."""
    names = [name for name in tree["metrics"] if name == "mrr" or name.startswith("recall@")]
    lines = [["slice", "queries", "relevant", *names]]
    for title, part in tree["slices"].items():
        counts = [f"{part['num_queries']:,}", f"{part['num_relevant']:,}"]
        lines.append([title, *counts, *_cells(part["metrics"], names)])
        beside = {**part.get("baselines", {}), **({"chance": part["chance"]} if "chance" in part else {})}
        lines += [[f"  {name}", "", "", *_cells(row, names)] for name, row in beside.items()]
    return _align(lines)


def _cells(row: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> list[str]:
    return [_value(row[name]) if name in row else "-" for name in names]


def _value(entry: Mapping[str, float]) -> str:
    return f"{entry['value']:.4f}"


def _interval(entry: Mapping[str, float | None]) -> str:
    return "" if entry["low"] is None else f"[{entry['low']:.4f}, {entry['high']:.4f}]"


def _align(lines: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lefts = [[line[0].ljust(widths[0])] for line in lines]
    rights = [[cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)] for line in lines]
    return ["  ".join(left + right).rstrip() for left, right in zip(lefts, rights, strict=True)]
