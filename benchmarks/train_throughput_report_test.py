"""The section says what the lines say, and 'no difference' where it cannot tell."""

import filecmp

from benchmarks import record, train_throughput_report
from benchmarks.train_problem import FLOPS_A_STEP


def _alone(stack, rows, seconds):
    times = record.Times(wall=seconds, cpu=seconds)
    settings = {"stack": stack, "rows": rows}
    rate = 4_096 / seconds[0]
    return record.line("t", f"{stack}, {rows}", times, settings=settings, seed=0, examples_per_second=rate)


def _contender(name, seconds, steps, optimizer="adam"):
    times = record.Times(wall=seconds, cpu=seconds)
    settings = {"family": "torch", "optimizer": optimizer, "rows": 1_000_000, "contender": name}
    figures = {"steps_a_turn": steps, "examples_per_second": 1_024 * steps / seconds[0], "flops_per_second": 4e9}
    return record.line("t", name, times, settings=settings, seed=0, **figures)


def _lines(theirs=(1.0,) * 8):
    return [
        _alone("torch_reference", 1_000_000, [0.25] * 8),
        _alone("torch_reference", 10_000, [0.2] * 8),
        _contender("torch_reference", [0.1] * 8, 2),
        _contender("plain PyTorch", list(theirs), 1),
        _contender(train_throughput_report.PEAK, [1.0], 1),
    ]


def test_ratios_are_of_steps_and_the_answer_names_who_is_faster(tmp_path):
    text = train_throughput_report.section(_lines(), tmp_path)
    assert text.startswith("## ") and "0.80 [0.80, 0.80]" in text
    assert "| adam | 1,000,000 | plain PyTorch | 1,024 | 1.00 s (1.00 to 1.00) | 0.81 | 20.0 [20.0, 20.0] |" in text
    assert "`torch_reference` is faster than plain PyTorch: 20.0 [20.0, 20.0] times its rate." in text
    assert "4 GFLOP a second" in " ".join(text.split()) and round(FLOPS_A_STEP / 4e9, 2) == 0.81


def test_who_took_no_turns_in_the_newest_run_is_left_out():
    old = _contender("keras-rs", [1.0] * 3, 1) | {"taken": "2026-01-01T00:00:00+00:00"}
    (run,) = train_throughput_report.by_run([old, *_lines()]).values()
    assert list(run) == ["torch_reference", "plain PyTorch", train_throughput_report.PEAK]


def test_no_difference_is_said(tmp_path):
    noisy = [0.04, 0.06] * 4
    text = train_throughput_report.section(_lines(noisy), tmp_path)
    assert "no difference" in text and "faster than" not in text


def test_same_lines_draw_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        train_throughput_report.section(_lines(), tmp_path / name)
    picture = "train_throughput.svg"
    assert filecmp.cmp(tmp_path / "one" / picture, tmp_path / "two" / picture, shallow=False)


def test_lines_of_one_kind_alone_are_enough(tmp_path):
    assert "Beside others" not in train_throughput_report.section(_lines()[:2], tmp_path)
    assert "Rows of the tables" not in train_throughput_report.section(_lines()[2:], tmp_path)
