"""A digit that differs is found, in a block and outside of one; what is no figure is let be."""

import re

import pytest

from benchmarks import readme_check, record, report
from benchmarks.readme_check import anchor, differences, figures, renewed
from retrieval_contract.errors import UserError

README = record.RESULTS.parents[1] / "README.md"
SMALL = """# Title

Ten of 12,345 in 9.9 s: not looked at here.

## Results

It takes 1.25 ms, `--rows=999,999` of [12,000](there/55555.md), on MovieLens 100K in 2019 with Torch 2.13.0 at @50.

<!-- report: speed -->
| a | 3.14 |
<!-- /report -->

## Use it

12,345 more.
"""
BLOCKS = {"speed": "| a | 3.14 |", "unmade": ""}
REPORT = "# Report\n\n| a | 3.14 |\n\nThe median is 1.25 ms of 12,000 runs.\n"


def test_what_agrees_has_no_differences():
    assert differences(SMALL, BLOCKS, REPORT) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("3.14", "3.15", "block 'speed': README says: | a | 3.15 |"),
        ("1.25", "1.26", "section 'Results': 1.26 ms is no figure of the report"),
        ("1.25 ms", "1.25 s", "section 'Results': 1.25 s is no figure of the report"),
        ("[12,000]", "[12,001]", "section 'Results': 12,001 is no figure of the report"),
        ("report: speed", "report: sped", "block 'speed': not in the README"),
    ],
)
def test_one_digit_is_noticed(before, after, said):
    found = differences(SMALL.replace(before, after), BLOCKS, REPORT)
    assert said in found, found


def test_a_report_of_other_lines_is_noticed():
    found = differences(SMALL, BLOCKS, REPORT.replace("3.14", "3.13"))
    assert found == ["block 'speed': REPORT.md is of other lines: run `python -m benchmarks.report`"]


def test_numbers_with_their_units():
    text = "1,000,000 x 128, 57 times, 12.5 %; p99 0.3 ms; 100K, @10, v2.13.0, `3 s`, 500 requests and 4s."
    assert figures(text) == [
        ("1,000,000", ""),
        ("128", ""),
        ("57", "times"),
        ("12.5", "%"),
        ("0.3", "ms"),
        ("500", "requests"),
        ("4", "s"),
    ]


def test_renewed_blocks_are_what_is_made_and_nothing_else_changes():
    made = renewed(SMALL, {"speed": "new\n\ntext"})
    assert made == SMALL.replace("| a | 3.14 |", "new\n\ntext")
    assert renewed(made, BLOCKS) == SMALL
    with pytest.raises(UserError, match="no block is called 'speed'"):
        renewed(SMALL, {})


def test_anchors_are_those_of_github():
    assert anchor("Presets: quality of both stacks") == "presets-quality-of-both-stacks"
    assert anchor("What helps, by recall@100") == "what-helps-by-recall100"


def test_the_readme_says_what_the_committed_lines_say():
    assert report.check(README, record.RESULTS) == []


def test_a_digit_of_the_readme_is_noticed(tmp_path):
    text = readme_check.read(README)
    block = next(match for match in readme_check.BLOCK.finditer(text) if match["name"] == "histories")
    place = block.start() + re.search(r"0\.\d\d(\d) \[", block[0]).start(1)
    changed = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
    (tmp_path / "README.md").write_text(changed)
    assert any("histories" in said for said in report.check(tmp_path / "README.md", record.RESULTS))
    outside = text.replace("\n## Results\n", "\n## Results\n\nIt takes 0.98765 ms.\n", 1)
    (tmp_path / "README.md").write_text(outside)
    assert report.check(tmp_path / "README.md", record.RESULTS) == [
        "section 'Results': 0.98765 ms is no figure of the report"
    ]
