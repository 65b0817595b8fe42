"""Blocks are made from lines alone; what has no lines makes none."""

import copy

import pytest

from benchmarks import readme_blocks, readme_speed, record, report
from benchmarks.presets_test import entry, made

STACKS = ("tfrs_models", "torch_reference")


@pytest.fixture(scope="module")
def committed():
    """The project's own lines."""
    return report.read_all(record.RESULTS)


def test_no_lines_make_no_blocks():
    assert set(readme_blocks.blocks({}).values()) == {""}


def test_every_block_has_lines_and_none_holds_what_would_end_it(committed):
    for name, text in readme_blocks.blocks(committed).items():
        assert text and "<!--" not in text, name


def test_preset_table_has_both_stacks_and_baselines_without_intervals():
    lines = {"presets": [made(stack, preset="movielens_100k") for stack in STACKS]}
    rows = readme_blocks.movielens_100k(lines).splitlines()
    assert "train --preset=movielens_100k`" in rows[2] and "training items removed" in rows[2]
    assert rows[3] == "| `tfrs_models` |" + " 0.200 [0.190, 0.210] |" * 3
    assert rows[5] == "| popularity |" + " 0.100 |" * 3 and len(rows) == 6


def test_cold_candidates_stand_beside_chance():
    row = {metric: entry(0.3) for metric in ("recall@10", "recall@100")}
    chance = {"recall@10": 0.001, "recall@100": 0.01}
    part = {"num_queries": 5, "num_relevant": 6, "metrics": row, "baselines": {"popularity": row}, "chance": chance}
    line, low = made("tfrs_models", preset="movietweetings_100k_cold", slice=part), {"recall@10": entry(0.1)}
    text = readme_blocks.cold_candidates({"presets": [line]})
    assert "recall@10 `tfrs_models` 0.300 [0.290, 0.310]" in " ".join(text.split()) and "chance 0.001 and 0.010" in text
    other = made("tfrs_models", preset="movietweetings_100k_cold", seed=1, slice={**part, "metrics": {**row, **low}})
    text = " ".join(readme_blocks.cold_candidates({"presets": [other, line]}).split())
    assert (
        "recall@10 `tfrs_models` 0.300 / 0.100 (a figure a seed, 2 seeds); recall@100 `tfrs_models` 0.300 / 0.300"
        in text
    )


def test_a_figure_follows_its_line(committed):
    """Negative control: another value in one line is another text."""
    changed = copy.deepcopy({"quality": committed["quality"]})
    for entry_of in changed["quality"][-1]["metrics"].values():
        entry_of["value"] += 0.1
    assert readme_blocks.histories(changed) != readme_blocks.histories(committed)
    changed = copy.deepcopy({"negatives": committed["negatives"]})
    changed["negatives"] = [
        line for line in changed["negatives"] if not ("gbce" in line["case"] and "ml-1m" in line["case"])
    ]
    table = readme_blocks.negatives(changed)
    assert table.splitlines()[-1].endswith("| – |") and "–" not in readme_blocks.negatives(committed)


def test_raw_lines_say_their_speed():
    def line(case, wall, **settings):
        times = record.Times(wall=wall, cpu=wall)
        return record.line("x", case, times, settings=settings, seed=0, examples_per_second=12_345.6)

    lines = [
        line("FactorizedTopK, width 32", [6.0] * 6, dim=32, queries=10, candidates=20),
        line("accuracies, width 32", [2.0] * 6, dim=32, queries=10, candidates=20),
        line("accuracies, width 64", [1.0] * 6, dim=64, queries=10, candidates=20),
    ]
    ((question, _, figure),) = readme_speed.evaluation_speed(lines)
    assert figure == "3.00 [3.00, 3.00] for the same accuracies" and question.endswith("10 queries x 20 candidates")
    lines = [
        line(f"large: {case}", [seconds] * 6, dim=64, queries=10, candidates=2_000)
        for case, seconds in {"matrix product": 3.0, "ranks and top 100": 4.0}.items()
    ]
    ((question, _, figure),) = readme_speed.evaluation_speed(lines)
    assert figure == "ranks and top 100 0.75 [0.75, 0.75]" and question.endswith("10 queries x 2,000 candidates x 64")
    lines = [line(f"{rows} rows", [1.0] * 6, stack="tfrs_models", rows=rows) for rows in (10_000, 1_000_000)]
    ((_, _, figure),) = readme_speed.train_throughput(lines)
    assert figure == "`tfrs_models` no difference (1.00 [1.00, 1.00]) at 12,300 examples a second"
    family = {"family": "tensorflow", "rows": 10_000, "optimizer": "adam", "batch": 1_024}
    lines = [
        {**line(name, [seconds] * 6, contender=name, **family), "steps_a_turn": 4}
        for name, seconds in {"tfrs_models": 1.0, "stock TFRS": 1.5, "matrix product": 0.1}.items()
    ]
    ((question, _, figure),) = readme_speed.train_throughput(lines)
    assert figure == "`tfrs_models` 1.50 [1.50, 1.50] of stock TFRS" and "10,000 rows" in question
    assert readme_speed.train_throughput(lines[:1]) == [] and readme_speed.evaluation_speed(lines) == []
