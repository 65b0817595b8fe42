"""Tables, verdicts and paired differences follow from the lines, newest first."""

import pytest

from benchmarks import presets_report, readme_blocks
from benchmarks.presets_test import entry, made
from benchmarks.report_text import bounded, joined

STACKS = presets_report.STACKS


def seeds(shift, num_seeds):
    """Lines of both stacks, the first `shift` better with every seed, up to noise that both share."""
    return [
        made(stack, seed=seed, value=0.2 + 0.01 * seed + (shift + 0.0001 * (seed % 2) if stack == STACKS[0] else 0))
        for seed in range(num_seeds)
        for stack in STACKS
    ]


def test_section_says_what_the_lines_say(tmp_path):
    text = presets_report.section([made(stack) for stack in STACKS], tmp_path)
    assert "| `tfrs_models` | 0.2000 [0.1900, 0.2100] |" in text and "| popularity | 0.1000 [0.0900, 0.1100] |" in text
    assert "`tfrs_models` is above popularity by recall@10 and above popularity by recall@100." in text
    assert "against each other" not in text and (tmp_path / "presets.svg").stat().st_size > 1_000
    before = (tmp_path / "presets.svg").read_bytes()
    assert presets_report.section([made(stack) for stack in STACKS], tmp_path) == text
    assert (tmp_path / "presets.svg").read_bytes() == before


def test_the_newest_line_of_the_lowest_seed_counts():
    lines = [made(STACKS[0], value=0.3), made(STACKS[0], value=0.4, seed=1), made(STACKS[0], value=0.2, config="new")]
    found = presets_report.first_seeds(lines)["simulated"][STACKS[0]]
    assert found["metrics"]["recall@10"]["value"] == 0.2


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "no difference by any"), (0.01, "a difference")])
def test_stacks_differ_only_where_the_interval_leaves_0_out(shift, verdict):
    lines = seeds(shift, 3)
    assert verdict in presets_report.stacks_text(lines)
    mean, low, high = presets_report.stack_differences(lines)["mrr"]
    assert mean == pytest.approx(shift + 0.0001 / 3) and low < mean < high


def test_few_seeds_say_nothing_of_the_stacks():
    assert presets_report.stack_differences(seeds(0.0, 2)) == {}
    assert readme_blocks.two_stacks({"presets": seeds(0.0, 2)}) == ""


def test_overlap_is_not_told_from():
    assert presets_report.place(entry(0.2), entry(0.1)) == "above"
    assert presets_report.place(entry(0.1), entry(0.2)) == "below"
    assert presets_report.place(entry(0.1), entry(0.11)) == "not told from"


def test_words():
    assert joined(["a"]) == "a" and joined(["a", "b", "c"]) == "a, b and c"
    assert bounded(entry(0.5)) == "0.500 [0.490, 0.510]" and bounded({"value": 0.25, "low": None}) == "0.250"
