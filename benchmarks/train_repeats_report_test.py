"""The part says what the lines say, and holds the goal against the lower end of the interval."""

import pytest

from benchmarks import readme_speed, record, train_repeats_report, train_throughput_report
from benchmarks.train_repeats import ONCE


def _lines(stock=(1.5,) * 8, **settings):
    seconds = {f"tfrs_models, {ONCE}": [1.0] * 8, "tfrs_models": [1.25] * 8, "stock TFRS": list(stock)}
    shared = {"family": "tensorflow", "optimizer": "adam", "rows": 10_000, "batches_of": "MovieLens 100K", **settings}
    figures = {"steps_a_turn": 4, "distinct": {"query": 0.494, "candidate": 0.551}}
    return [
        record.line(
            "train_throughput",
            name,
            record.Times(wall=wall, cpu=wall),
            settings=shared | {"contender": name},
            seed=0,
            examples_per_second=4_096 / wall[0],
            **figures,
        )
        for name, wall in seconds.items()
    ]


def test_shares_ratios_and_the_verdict_are_said(tmp_path):
    text = train_throughput_report.section(_lines(), tmp_path)
    flat = " ".join(text.split())
    assert "MovieLens 100K (distinct in a batch: 49 % of the query rows, 55 % of the candidate rows)" in flat
    assert "| adam | stock TFRS | 2,731 | 1.50 s (1.50 to 1.50) | 1.50 [1.50, 1.50] |" in text
    assert f"`tfrs_models, {ONCE}` is faster than tfrs_models: 1.25 [1.25, 1.25] times its rate." in text
    assert "Asked for: 1.3 times stock TFRS. Held with adam (1.50 [1.50, 1.50])." in flat


@pytest.mark.parametrize(
    ("stock", "judged"), [((1.2,) * 8, "Not held with"), ((1.2, 1.4, 1.5, 1.4) * 2, "Held at the median with")]
)
def test_a_goal_that_is_missed_is_said_to_be(stock, judged):
    assert judged in train_repeats_report.parts(_lines(stock))[-1]


def test_lines_on_even_rows_are_kept_apart(tmp_path):
    assert train_throughput_report.by_run(_lines()) == {}
    even = [line | {"settings": {k: v for k, v in line["settings"].items() if k != "batches_of"}} for line in _lines()]
    assert train_repeats_report.parts(even) == []
    assert "Rows that repeat" not in train_throughput_report.section(even, tmp_path)


def test_the_readme_has_a_row_of_the_stock_loops_with_adam():
    ((question, _, figure),) = readme_speed.train_throughput(_lines() + _lines(optimizer="sgd"))
    assert figure == "`tfrs_models` 1.50 [1.50, 1.50] of stock TFRS" and "batches of MovieLens 100K" in question


def test_only_the_data_that_was_taken_last_is_told():
    old = [line | {"taken": "2026-01-01T00:00:00+00:00"} for line in _lines((9.0,) * 8)]
    new = _lines(batches_of="simulated")
    for lines in (old + new, new + old):
        ((question, _, figure),) = readme_speed.train_throughput(lines)
        assert "simulated" in question and "MovieLens" not in question and "1.50 [1.50, 1.50]" in figure
        assert "MovieLens" not in "".join(train_repeats_report.parts(lines))


def test_without_stock_tfrs_there_is_no_verdict():
    lines = [line for line in _lines() if line["settings"]["contender"] != "stock TFRS"]
    assert "Asked for" not in "".join(train_repeats_report.parts(lines))
